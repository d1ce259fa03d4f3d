"""When each part of federation helps, on the simulator: the table of docs/federation.md.

    python benchmarks/federation.py --out FOLDER           # trains what FOLDER lacks, then prints the table
    python benchmarks/federation.py --out FOLDER --only 4  # stops after four settings; the next call goes on

Every setting trains on the training units of a reduced `consortium` (twelve hospitals of forty beds) and is
judged on its validation units, never on test units; each is compared with the first of its group by paired
differences with 95 % intervals over seeds and units. Options are the defaults or those named; nothing was
tuned for this table. One half of the units sets the thresholds that judge the other, and the other way round.
"Seen": families that the unit's site had in training. "Unseen": withheld families are taken from a site's
validation units, too, so an attacked unit is judged away from home, at a site that lacked its family.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.data.streams import Streams, select
from lazaretto.evaluate.bootstrap import UnitStats, interval, unit_metrics
from lazaretto.evaluate.metrics import recall_columns
from lazaretto.evaluate.robust import Judgement, alarms_by_halves, halves, judge_cell, judge_seed
from lazaretto.evaluate.scored import OURS, Scored
from lazaretto.plan import Plan, load_plan
from lazaretto.run import systems
from lazaretto.run.backend import use_all_cores
from lazaretto.run.bench import Job, make_bench
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared, prepare
from lazaretto.run.protocol import protocol_of
from lazaretto.run.provenance import machine
from lazaretto.run.saved import load_arrays, save_arrays
from lazaretto.run.simulate import score_by_site
from lazaretto.types import VALIDATION

__all__ = ["GROUPS", "Setting", "main"]

BASE = (
    "run.seeds=[0,1,2]",
    "data.options.units_per_site=40",
    "train.rounds=30",
    "split.validation=0.35",
    "split.test=0.05",
)


@dataclass(frozen=True, slots=True)
class Setting:
    """A name for the table, and what it lays over the plan."""

    name: str
    sets: tuple[str, ...] = ()


def _algorithm(name: str, **options: float) -> tuple[str, ...]:
    return (f"federate.algorithm={name}", *(f"federate.options.{key}={v}" for key, v in options.items()))


def _server(name: str, **options: float) -> tuple[str, ...]:
    return (f"federate.server={name}", *(f"federate.server_options.{key}={v}" for key, v in options.items()))


_FEW = ("federate.participation=0.3",)
_UNIFORM = (*_FEW, "federate.selection=uniform")
_LONG = ("train.rounds=8", "train.local_epochs=4")
_LATE = ("federate.stragglers=0.5", "federate.straggler_work=0.2")
_LOST = ("federate.drop_outs=0.3",)
_TCN = ("model.name=tcn", "model.options={}")

GROUPS: Mapping[str, tuple[Setting, ...]] = {
    "everyone, 30 rounds of 1 local epoch": (
        Setting("fedavg"),
        Setting("fedprox, mu = 0.01", _algorithm("fedprox", mu=0.01)),
        Setting("fedprox, mu = 0.3", _algorithm("fedprox", mu=0.3)),
        Setting("scaffold", _algorithm("scaffold")),
        Setting("momentum", _server("momentum")),
        Setting("fedadam", _server("fedadam")),
        Setting("fedyogi", _server("fedyogi")),
        Setting("fedper", _algorithm("fedper")),
    ),
    "everyone, 8 rounds of 4 local epochs": (
        Setting("fedavg", _LONG),
        Setting("fedprox, mu = 0.01", (*_LONG, *_algorithm("fedprox", mu=0.01))),
        Setting("fedprox, mu = 0.3", (*_LONG, *_algorithm("fedprox", mu=0.3))),
        Setting("scaffold", (*_LONG, *_algorithm("scaffold"))),
        Setting("momentum", (*_LONG, *_server("momentum"))),
    ),
    "4 of 12 sites a round": (
        Setting("fedavg, uniform", _UNIFORM),
        Setting("fedavg, by_size", (*_FEW, "federate.selection=by_size")),
        Setting("fedavg, by_loss", (*_FEW, "federate.selection=by_loss")),
        Setting("scaffold, uniform", (*_UNIFORM, *_algorithm("scaffold"))),
        Setting("momentum, uniform", (*_UNIFORM, *_server("momentum"))),
    ),
    "updates late or lost": (
        Setting("fedavg, all in time"),
        Setting("fedavg, 30 % lost", _LOST),
        Setting("fedavg, half do a fifth", _LATE),
        Setting("fedprox, mu = 0.01, half do a fifth", (*_LATE, *_algorithm("fedprox", mu=0.01))),
    ),
    "tcn": (
        Setting("fedavg", _TCN),
        Setting("fedbn", (*_TCN, *_algorithm("fedbn"))),
        Setting("fedper", (*_TCN, *_algorithm("fedper"))),
    ),
}


def _file(out: Path, setting: Setting, seed: int) -> Path:
    """Where a training's scores are; settings that lay the same over the plan share them."""
    name = hashlib.sha256("\n".join((*BASE, *setting.sets)).encode()).hexdigest()[:16]
    return out / f"{name}-seed{seed}.safetensors"


def _train(
    plan: Plan, prepared: Sequence[Prepared], files: Sequence[Path], programs: dict[str, dict[Any, Any]]
) -> None:
    """Train those seeds whose file is missing; programs: compiled so far, by what the sites compute."""
    asked = plan.federate
    sites_compute = repr((plan.model, plan.train, asked.algorithm, asked.options))
    with tempfile.TemporaryDirectory() as folder:
        journal = open_journal(Path(folder) / "run", plan, resume=False, show=quiet)
        bench = make_bench(plan, prepared, [Post() for _ in prepared], journal)
        bench = replace(bench, programs=programs.setdefault(sites_compute, {}))
        for place, file in enumerate(files):
            if file.exists():
                continue
            scores, vector, rows, *_ = systems.federated(bench, OURS, Job(place=place))
            assert scores.validation is not None  # noqa: S101
            sent = sum(row["bytes"] for row in rows if row["link"] == "site-coordinator")
            meta = {
                "by_site": scores.validation.threshold_group is not None,
                "bytes": sent,
            }
            away = scores.validation.score  # one model for all: it is the same anywhere
            if vector.ndim == 2:
                ((program, _),) = bench.programs.values()
                away = score_by_site(program, vector, _away(prepared[place]))
            save_arrays(file, {"home": scores.validation.score, "away": away}, meta)


def _away(prepared: Prepared) -> Streams:
    """Validation units, each that is attacked at a site which lacked its family; quiet ones at home."""
    part = select(prepared.data, prepared.data.split == VALIDATION)
    site = part.site.copy()
    for row in np.flatnonzero(((part.y > 0) & part.valid).any(axis=1)):
        family = int(part.y[row][part.valid[row]].max())
        lacking = np.flatnonzero(prepared.parts.withheld[:, family])
        site[row] = lacking[row % len(lacking)]
    return replace(part, site=site)


def _judged(plan: Plan, prepared: Sequence[Prepared], files: Sequence[Path]) -> tuple[Judgement, list[int]]:
    """AUROC, recall of families that a site had in training and of others; and bytes that passed."""
    protocol, seeds, costs = protocol_of(plan, prepared[0]), [], []
    for one, file in zip(prepared, files, strict=True):
        arrays, meta = load_arrays(file)
        home, away = (
            Scored(
                score=arrays[name],
                y=part.y,
                valid=part.valid,
                site=part.site,
                threshold_group=part.site if meta["by_site"] else None,
            )
            for name, part in (
                ("home", select(one.data, one.data.split == VALIDATION)),
                ("away", _away(one)),
            )
        )
        values, stats = judge_seed(home, protocol, one.seed)
        alarm, abroad = alarms_by_halves(home, away, protocol, halves(home, one.seed))
        assert abroad is not None  # noqa: S101  as `away` was given
        recalls = {
            **recall_columns("seen", _attacked(one, home, lacked=False), alarm),
            **recall_columns("unseen", _attacked(one, away, lacked=True), abroad),
        }
        once = np.ones((1, len(home.site)), np.float32)
        found = unit_metrics(UnitStats(recalls), once, protocol.step_seconds)
        values |= {metric: float(value[0]) for metric, value in found.items()}
        seeds.append((values, replace(stats, columns={**stats.columns, **recalls})))
        costs.append(meta["bytes"])
    return judge_cell(seeds, protocol), costs


def _attacked(prepared: Prepared, scored: Scored, *, lacked: bool) -> NDArray[np.bool_]:
    """[u, L] steps of a family that the unit's site lacked in training, or had."""
    without = prepared.parts.withheld[scored.site[:, None], scored.y]
    return (scored.y > 0) & scored.valid & (without == lacked)


_COLUMNS = ("auroc", "seen|recall", "unseen|recall")


def _cells(mine: Judgement, first: Judgement) -> list[str]:
    cells = []
    for metric in _COLUMNS:
        value = mine.values[metric]
        if mine is first:
            cells.append(f"{value:.3f}")
            continue
        found = interval(value - first.values[metric], mine.samples[metric] - first.samples[metric])
        low, high, gap = found["low"], found["high"], found["value"]
        assert low is not None  # noqa: S101
        assert high is not None  # noqa: S101
        assert gap is not None  # noqa: S101
        text = f"{gap:+.3f} [{low:+.3f}, {high:+.3f}]"
        cells.append(f"**{text}**" if low > 0 or high < 0 else text)
    return cells


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="scores by setting and seed"
    )
    parser.add_argument("--only", type=int, default=10**9, metavar="N", help="at most so many settings now")
    given = parser.parse_args()
    use_all_cores()
    given.out.mkdir(parents=True, exist_ok=True)
    example = Path(__file__).resolve().parents[1] / "examples" / "consortium.toml"
    settings = [(group, setting) for group, several in GROUPS.items() for setting in several]
    base = load_plan(example, sets=BASE)
    prepared = [prepare(base, seed, Post()) for seed in base.run.seeds]
    files = {setting: [_file(given.out, setting, seed) for seed in base.run.seeds] for _, setting in settings}
    missing = [one for _, one in settings if not all(file.exists() for file in files[one])]
    programs: dict[str, dict[Any, Any]] = {}
    for setting in missing[: given.only]:
        _train(load_plan(example, sets=(*BASE, *setting.sets)), prepared, files[setting], programs)
        print(f"trained: {setting.name} {' '.join(setting.sets)}", flush=True)
    if len(missing) > given.only:
        print(f"{len(missing) - given.only} settings are left; call again")
        return
    print(json.dumps(machine()), f"seeds {list(base.run.seeds)}")
    for group, several in GROUPS.items():
        print(
            f"\n| {group} | AUROC | recall, seen at site | recall, unseen at site | MB |\n" + "|---" * 5 + "|"
        )
        first: Judgement | None = None
        for setting in several:
            mine, costs = _judged(base, prepared, files[setting])
            first = first or mine
            cells = [setting.name, *_cells(mine, first), f"{np.mean(costs) / 1e6:.1f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
