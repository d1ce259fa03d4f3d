"""How a federation scales with its devices, 8 to 1,000, each with a stream of its own; one process a size.

    python benchmarks/devices.py --rounds 60 --out devices.json

Simulated hospitals (eight, 400 beds each on average). Validation and test units are the same for every
size; training units are nested: a larger federation holds those of a smaller one and more. A device is one
bed: it trains the bottom of the model on its one stream and shares nothing but activations and gradients
with its hospital, so a hospital's batch is one stream of each of its devices. Rounds and steps are the same
for all sizes. Scaling, too, is agreed from the devices that take part alone; the validation units that set
the threshold are always the same.

Printed, in Markdown: AUROC on the fixed test units (mean over seeds, 95 % bootstrap over seeds and units),
its paired difference to the size before, seconds a round (median, the first left out, with the sites'
validation), bytes a round over each link, and peak memory of the process, loading included. Nothing is
chosen by these figures.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto import runlog
from lazaretto.evaluate.bootstrap import interval
from lazaretto.evaluate.judge import draws_for, judge_system
from lazaretto.evaluate.scored import OURS, Scored, SeedScores
from lazaretto.keys import generator
from lazaretto.plan import Plan
from lazaretto.run import systems
from lazaretto.run.backend import use_all_cores
from lazaretto.run.bench import Job, make_bench
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import Keep, prepare
from lazaretto.run.protocol import protocol_of
from lazaretto.run.provenance import run_record
from lazaretto.run.saved import load_arrays, save_arrays
from lazaretto.types import TRAIN, Table

__all__ = ["SIZES", "keep_devices", "main", "measure", "plan_of"]

SITES, BEDS = 8, 400  # beds on average; the smallest hospital must hold an eighth of the devices in training
SIZES = (8, 16, 32, 64, 128, 256, 512, 1000)


def plan_of(devices: int, rounds: int, seeds: list[int]) -> Plan:
    """The plan of one size: every device of a hospital is a device of the plan."""
    return Plan.model_validate(
        {
            "run": {"name": f"devices-{devices}", "seeds": seeds},
            "data": {"options": {"sites": SITES, "units_per_site": BEDS}},
            "sites": {"devices": -(-devices // SITES)},
            "model": {"options": {"past_steps": 32, "peak_steps": 0}},
            "train": {"rounds": rounds, "batch_units": 1, "learning_rate": 0.008, "weight_decay": 0.1},
            "evaluate": {"baselines": [], "leave_one_family_out": False},
        }
    )


def keep_devices(devices: int, seed: int) -> Keep:
    """Validation and test as they are, and `devices` training units: as many at each site, nested."""

    def keep(table: Table) -> NDArray[np.bool_]:
        train = table.split == TRAIN
        chosen: list[int] = []
        for site in range(SITES):
            units = np.unique(table.unit[train & (table.site == site)])
            order = generator(seed, "devices", site).permutation(units)
            wanted = devices // SITES + (site < devices % SITES)
            if len(order) < wanted:
                raise SystemExit(f"hospital {site} has {len(order)} training units, {wanted} are asked for")
            chosen += [int(unit) for unit in order[:wanted]]
        return ~train | np.isin(table.unit, chosen)

    return keep


def measure(devices: int, rounds: int, seeds: list[int], out: Path) -> None:
    """Train one size, in this process; scores go to `out`.safetensors and figures to `out`.json."""
    use_all_cores()
    plan = plan_of(devices, rounds, seeds)
    posts = [Post() for _ in seeds]
    prepared = [
        prepare(plan, seed, post, keep_devices(devices, seed))
        for seed, post in zip(seeds, posts, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        journal = open_journal(Path(folder) / "run", plan, resume=False, show=quiet)
        bench = make_bench(plan, prepared, posts, journal)
        found = [systems.federated(bench, OURS, Job(place=place)) for place in range(len(seeds))]
        seconds = [r.body["seconds"] for r in runlog.read(journal.log, "round") if r.body["round"] > 1]
        record = run_record(plan)
    arrays: dict[str, Any] = {}
    for number, one in enumerate(found):
        scores = one.scores
        assert scores.validation is not None  # noqa: S101  every trained system has validation scores
        for split, scored in (("validation", scores.validation), ("test", scores.test)):
            for name in ("score", "y", "valid", "site"):
                arrays[f"{number}.{split}.{name}"] = getattr(scored, name)
    save_arrays(out.with_suffix(".safetensors"), arrays, {})
    rows = found[0].messages
    figures = {
        "devices": devices,
        "training_units": [int((one.data.split == TRAIN).sum()) for one in prepared],
        "test_units": [len(one.scores.test.site) for one in found],
        "seconds_per_round": float(np.median(seconds)),
        "seconds_low_high": [float(q) for q in np.quantile(seconds, [0.1, 0.9])],
        "inside_bytes_per_round": sum(r["bytes"] for r in rows if r["link"] == "device-site") / rounds,
        "outside_bytes_per_round": sum(r["bytes"] for r in rows if r["link"] == "site-coordinator") / rounds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "commit": record["commit"],
        "machine": record["machine"],
    }
    out.with_suffix(".json").write_text(json.dumps(figures), encoding="utf-8")


def _scores(place: Path, seeds: int) -> list[SeedScores]:
    arrays, _ = load_arrays(place.with_suffix(".safetensors"))

    def scored(number: int, split: str) -> Scored:
        return Scored(
            **{name: arrays[f"{number}.{split}.{name}"] for name in ("score", "y", "valid", "site")}
        )

    return [
        SeedScores(validation=scored(number, "validation"), test=scored(number, "test"))
        for number in range(seeds)
    ]


def _table(sizes: list[int], rounds: int, seeds: list[int], folder: Path) -> list[dict[str, Any]]:
    """Judge every size with the same draws; rows with intervals."""
    protocol = protocol_of(plan_of(8, rounds, seeds), prepare(plan_of(8, rounds, seeds), seeds[0], Post()))
    rows, before = [], None
    for devices in sizes:
        place = folder / str(devices)
        scores = _scores(place, len(seeds))
        judged = judge_system(scores, protocol, f"{devices} devices", draws_for(scores, protocol))
        row = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
        for metric in ("auroc", "recall", "false_positive_rate", "latency_steps"):
            row[metric] = interval(judged.values[metric], judged.samples[metric])
        if before is not None:
            gain = judged.samples["auroc"] - before.samples["auroc"]
            row["auroc_gain"] = interval(judged.values["auroc"] - before.values["auroc"], gain)
        rows.append(row)
        before = judged
    return rows


def _said(triple: dict[str, float] | None, decimals: int, sign: str = "") -> str:
    if triple is None:
        return ""
    value, low, high = (f"{triple[key]:{sign}.{decimals}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def main() -> None:
    """Measure every size in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--out", type=Path, help="the table with its intervals, as JSON")
    parser.add_argument("--keep", type=Path, help="folder for finished sizes: they are not measured again")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure is not None:
        measure(given.sizes[0], given.rounds, given.seeds, given.measure)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for devices in sorted(given.sizes, reverse=True):  # what cannot be had is said first
            place = folder / str(devices)
            if not place.with_suffix(".json").exists():
                words = ["--sizes", devices, "--rounds", given.rounds, "--seeds", *given.seeds]
                command = [sys.executable, __file__, *map(str, words), "--measure", str(place)]
                subprocess.run(command, check=True)  # noqa: S603  our own file, in a process of its own
        rows = _table(given.sizes, given.rounds, given.seeds, folder)
    machine = rows[0]["machine"]
    print(f"{SITES} hospitals, {given.rounds} rounds, seeds {given.seeds}, commit {rows[0]['commit']},")
    print(
        f"{machine['cores']} {machine['processor']} cores, JAX {machine['jax']}; "
        f"test units {rows[0]['test_units']}"
    )
    print(
        "\n| devices | AUROC | gain over the row above | recall at 1 % | s/round | MB inside | MB outside "
        "| peak MB |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        cells = (
            f"{row['devices']:,}",
            _said(row["auroc"], 3),
            _said(row.get("auroc_gain"), 3, "+"),
            _said(row["recall"], 3),
            f"{row['seconds_per_round']:.2f}",
            f"{row['inside_bytes_per_round'] / 1e6:.2f}",
            f"{row['outside_bytes_per_round'] / 1e6:.2f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
        )
        print(f"| {' | '.join(cells)} |")
    if given.out is not None:
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
