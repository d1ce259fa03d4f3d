"""Many trainings, judged on validation units: a search for each system's settings, or a grid over keys.

The test units are dropped before anything is prepared (`lay(..., keep=...)`), so no system is trained
with them in sight, none scores them, and nothing can be chosen by them.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lazaretto import __version__, runlog
from lazaretto.errors import DataError, InputError, WireError
from lazaretto.evaluate.scored import ONLY, OURS, Scored
from lazaretto.evaluate.selection import CRITERION, validation_auroc
from lazaretto.plan import Plan, dump
from lazaretto.plan_sweep import TUNABLE
from lazaretto.run import systems
from lazaretto.run.backend import use_cores_of
from lazaretto.run.bench import Job, make_bench
from lazaretto.run.journal import (
    Journal,
    Show,
    close_journal,
    kept_for_resuming,
    let_go_on_error,
    open_journal,
    quiet,
)
from lazaretto.run.post import Post
from lazaretto.run.prepare import Laid, Prepared, lay, ready
from lazaretto.run.protocol import protocol_of
from lazaretto.run.provenance import other_code, run_record
from lazaretto.run.saved import write_whole
from lazaretto.run.search_space import draw_settings
from lazaretto.run.settled import key_of, tuned_of
from lazaretto.types import TEST, Table

__all__ = [
    "SWEEP_SCHEMA",
    "Trial",
    "asked_systems",
    "begin_sweep",
    "blind",
    "grid",
    "quick_look",
    "run_sweep",
    "same_sweep",
    "tuned_plan",
    "tuning",
    "warn",
]

SWEEP_SCHEMA = "lazaretto-sweep/1"
QUICK_DRAWS, QUICK_ROUNDS = 4, 4  # a quick look: so many draws, and the plan's rounds divided by so much
_MOST_PROGRAMS = 8
# what decides what `lay` makes
_LAID_BY: Any = {"data": True, "sites": True, "split": True, "aggregate": {"root_units"}}

Mode = Literal["tuning", "grid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training to be judged. number: of the draw or of the grid's point. settings: what sets it apart.

    system: as plans write it (`federated_split`). plan: the whole plan that it is trained by.
    """

    system: str
    number: int
    settings: Mapping[str, Any]
    plan: Plan


def blind(table: Table) -> NDArray[np.bool_]:
    """[n] every window but those of test units: what a sweep keeps."""
    kept: NDArray[np.bool_] = table.split != TEST
    return kept


def asked_systems(plan: Plan, mode: Mode) -> tuple[str, ...]:
    """`sweep.systems` of the plan; else in a grid ours, in a search ours and every baseline of the plan."""
    if plan.sweep.systems is not None:
        return tuple(plan.sweep.systems)
    if mode == "grid":
        return (key_of(OURS),)
    return tuple(name for name in TUNABLE if name == key_of(OURS) or name in plan.evaluate.baselines)


def quick_look(plan: Plan) -> Plan:
    """The plan with a quarter of its rounds (at least one), its first seed and at most four draws."""
    train = plan.train
    pooled = train.pooled_rounds
    fewer = {
        "rounds": ceil(train.rounds / QUICK_ROUNDS),
        "pooled_rounds": None if pooled is None else ceil(pooled / QUICK_ROUNDS),
    }
    sweep = {"draws": min(plan.sweep.draws, QUICK_DRAWS), "seeds": 1}
    return plan.model_copy(
        update={"train": train.model_copy(update=fewer), "sweep": plan.sweep.model_copy(update=sweep)}
    )


def tuning(plan: Plan) -> list[Trial]:
    """Equally many draws for every system, in turn, so that a search that is stopped has favoured none."""
    return [
        Trial(system=system, number=number, settings=settings, plan=_laid(plan, system, settings))
        for number in range(plan.sweep.draws)
        for system in asked_systems(plan, "tuning")
        for settings in [draw_settings(system, number, plan.run.seeds[0])]
    ]


def grid(points: Sequence[tuple[Mapping[str, Any], Plan]]) -> list[Trial]:
    """One training for each point (its settings by key, its plan) and each system that the plan asks for."""
    return [
        Trial(system=system, number=number, settings=settings, plan=plan)
        for number, (settings, plan) in enumerate(points)
        for system in asked_systems(plan, "grid")
    ]


def _laid(plan: Plan, system: str, settings: Mapping[str, Any]) -> Plan:
    """The plan with a system's settings laid over those that it has in [tuned]; checked again."""
    if not settings:
        return plan
    tree = plan.model_dump(mode="python", exclude_none=True)
    own = tuned_of(plan, system)
    options = {**own.get("options", {}), **settings.get("options", {})}
    tree["tuned"][system] = {**own, **settings} | ({"options": options} if options else {})
    return Plan.model_validate(tree)


def tuned_plan(plan: Plan, draws: Sequence[Mapping[str, Any]]) -> Plan:
    """The plan with each system's best draw laid into [tuned]. Of equally good draws the first counts.

    draws: bodies of the records `draw`.
    """
    for system in dict.fromkeys(str(draw["system"]) for draw in draws):
        best = _best([draw for draw in draws if draw["system"] == system])
        plan = plan if best is None else _laid(plan, system, best["settings"])
    return plan


def _best(draws: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    known = [draw for draw in draws if draw["auroc"]["value"] is not None]
    return max(known, key=lambda draw: (draw["auroc"]["value"], -draw["number"]), default=None)


def run_sweep(
    plan: Plan,
    trials: Sequence[Trial],
    out: Path,
    about: Mapping[str, Any],
    resume: bool = False,
    show: Show = quiet,
) -> dict[str, Any]:
    """Train and judge every trial; write sweep.sqlite, sweep.json and, after a search, tuned.toml into `out`.

    plan: what tuned.toml starts from. about: "mode" ("tuning" or "grid"), "keys" (of the grid, in order) and
    "quick". A finished trial is on the disk and is not run again with `resume`, nor is a training lost
    beyond its last rounds. A trial whose training diverges counts as one that failed; it uses up its draw.
    Returns what sweep.json holds. Raises Interrupted (exit 3) when the user stops it, DataError where
    the plan as it stands cannot be trained, InputError if the folder holds something else.
    """
    journal = open_journal(out, plan, resume, show, log_name="sweep.sqlite")
    with let_go_on_error(journal):
        use_cores_of(journal.log)
        header = _header(plan, trials, about)
        same_sweep(journal, header)
    with kept_for_resuming(journal, f"finished {_one(header)}s are"):
        return _run(plan, trials, journal, header)


def _header(plan: Plan, trials: Sequence[Trial], about: Mapping[str, Any]) -> dict[str, Any]:
    """What a sweep is: equal for the sweep that is stopped and the one that goes on."""
    return {
        "schema": SWEEP_SCHEMA,
        "version": __version__,
        "name": plan.run.name,
        "criterion": CRITERION,
        "seeds": list(plan.run.seeds[: trials[0].plan.sweep.seeds]),
        "systems": list(dict.fromkeys(trial.system for trial in trials)),
        "draws": 1 + max(trial.number for trial in trials),
        "rounds": trials[0].plan.train.rounds,
        **about,
    }


def _run(plan: Plan, trials: Sequence[Trial], journal: Journal, header: Mapping[str, Any]) -> dict[str, Any]:
    record = {**run_record(plan), **header}
    begin_sweep(journal, record)
    done = {(r.body["system"], r.body["number"]): dict(r.body) for r in runlog.read(journal.log, "draw")}
    shared = _Shared(seeds=header["seeds"])
    began, fresh = time.perf_counter(), 0
    for trial in trials:
        place = (trial.system, trial.number)
        if place in done:
            continue
        warn(journal, _data_of(trial.plan, shared))
        folder = journal.parts / f"{trial.system}-{trial.number}"
        done[place] = _try(trial, folder, shared, _within(journal.show, trial, _one(header)))
        journal.record("draw", done[place])
        shutil.rmtree(folder, ignore_errors=True)
        fresh += 1
        left = (time.perf_counter() - began) / fresh * (len(trials) - len(done))
        best = _best([draw for draw in done.values() if draw["system"] == trial.system])
        told = {"one": _one(header), "draws": header["draws"], "best": best, "left_seconds": left}
        journal.show("drawn", {**done[place], **told})
    draws = [done[trial.system, trial.number] for trial in trials]
    if all(draw["failed"] for draw in draws):
        raise DataError("every training failed", found=draws[0]["failed"], way_out="lower the learning rate")
    result = {**header, "machine": record["machine"], "commit": record["commit"], "results": draws}
    if header["mode"] == "tuning":
        result["best"] = {
            system: best["number"]
            for system in header["systems"]
            if (best := _best([draw for draw in draws if draw["system"] == system])) is not None
        }
        write_whole(journal.folder / "tuned.toml", _tuned_text(plan, header, draws).encode())
    write_whole(journal.folder / "sweep.json", json.dumps(result, indent=1, allow_nan=False).encode() + b"\n")
    journal.record("finished", {"seconds": time.perf_counter() - began, "interrupted": False})
    close_journal(journal)
    return result


def _tuned_text(plan: Plan, header: Mapping[str, Any], draws: Sequence[Mapping[str, Any]]) -> str:
    how = (
        f"# Written by lazaretto sweep {__version__}: the best of {header['draws']} draws a system, by\n"
        f"# {header['criterion']} ({', '.join(map(str, header['seeds']))}).\n"
        "# A system without a table in [tuned] did best with the plan as it was.\n"
    )
    quick = (
        "# A quick look: fewer rounds, draws and seeds than the plan asks for.\n" if header["quick"] else ""
    )
    return how + quick + dump(tuned_plan(plan, draws))


def same_sweep(journal: Journal, header: Mapping[str, Any]) -> None:
    """Raises InputError where the log was begun by a sweep with another header."""
    for record in runlog.read(journal.log, "sweep"):
        other = [key for key, value in header.items() if record.body.get(key) != value]
        if other:
            raise InputError(
                "the folder holds another sweep",
                found=", ".join(f"{key} = {record.body.get(key)}" for key in other),
                way_out="give the same plan and options, or another --out",
            )


def begin_sweep(journal: Journal, record: Mapping[str, Any]) -> None:
    """Log what a sweep is; where it goes on with other code than that which wrote last, that code, too."""
    journal.record("sweep", record)
    if journal.resumed and (code := other_code(runlog.read(journal.log))) is not None:
        journal.record("code", code)


def warn(journal: Journal, laid: Sequence[Laid]) -> None:
    """Log and show what makes every figure of these data doubtful; each sentence stands in the log once."""
    for said in dict.fromkeys(said for one in laid for said in one.warnings):
        journal.record("warning", {"said": said})


def _one(header: Mapping[str, Any]) -> str:
    """What a training of the sweep is called: nothing is drawn for a grid."""
    return "draw" if header["mode"] == "tuning" else "point"


def _within(show: Show, trial: Trial, one: str) -> Show:
    """A display for the trial: its rounds under the name of its draw or point, and nothing else."""

    def shown(event: str, body: Mapping[str, Any]) -> None:
        if event == "round":
            show("round", {**body, "system": f"{trial.system}, {one} {trial.number + 1}"})

    return shown


@dataclass(slots=True, kw_only=True)
class _Shared:
    """What trials take from those before them: the data of `key`, and programs compiled for it."""

    seeds: Sequence[int]
    key: str = ""
    laid: list[Laid] = field(default_factory=list)
    programs: dict[Any, Any] = field(default_factory=dict)


def _try(trial: Trial, folder: Path, shared: _Shared, show: Show) -> dict[str, Any]:
    """Train and judge one trial; the body of its record."""
    prepared = _prepared(trial.plan, shared)
    began = time.perf_counter()
    body = {"system": trial.system, "number": trial.number, "settings": dict(trial.settings)}
    try:
        journal = open_journal(folder, trial.plan, (folder / "parts").is_dir(), show)
        try:
            scored = _train(trial, journal, prepared, shared)
        finally:
            journal.held.release()
        values, triple = validation_auroc(scored, protocol_of(trial.plan, prepared[0][0]))
        body |= {"failed": None, **_costs(journal)}
    except (DataError, WireError) as error:  # it diverged: its scores, or its updates, are not finite
        if not trial.settings:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        values, triple = [], {"value": None, "low": None, "high": None}
        body |= {"failed": str(error).partition("\n")[0], "seconds_per_round": None, "bytes_per_round": None}
    by_seed = [value if np.isfinite(value) else None for value in values]
    return {**body, "auroc": triple, "by_seed": by_seed, "seconds": time.perf_counter() - began}


def _prepared(plan: Plan, shared: _Shared) -> list[tuple[Prepared, Post]]:
    """What the plan's seeds hold without their test units, each with a post that carried its scaling."""
    laid, posts = _data_of(plan, shared), [Post() for _ in shared.seeds]
    return [(ready(plan, one, post), post) for one, post in zip(laid, posts, strict=True)]


def _data_of(plan: Plan, shared: _Shared) -> list[Laid]:
    """Each seed's data as it lies at the sites, laid anew where it is not that of the trial before."""
    key = plan.model_dump_json(include=_LAID_BY)
    if key != shared.key:
        shared.laid = [lay(plan, seed, keep=blind) for seed in shared.seeds]
        shared.key = key
        shared.programs.clear()
    return shared.laid


def _train(
    trial: Trial, journal: Journal, prepared: Sequence[tuple[Prepared, Post]], shared: _Shared
) -> list[Scored]:
    """Validation scores of the trial's system, one entry per seed."""
    if len(shared.programs) > _MOST_PROGRAMS:  # each holds on to tens of megabytes
        shared.programs.clear()
    ones, posts = zip(*prepared, strict=True)
    bench = replace(make_bench(trial.plan, ones, posts, journal), programs=shared.programs)
    jobs = [Job(place=place) for place in range(len(prepared))]
    name = trial.system
    if name == key_of(OURS):
        found = [systems.federated(bench, OURS, job)[0] for job in jobs]
    elif name == "unsplit" or name in ONLY:
        found = [systems.federated(bench, name, job)[0] for job in jobs]
    elif name == "local":
        found = [systems.local_only(bench, job) for job in jobs]
    elif name in systems.WINDOWED:
        found = [systems.windowed(bench, job, [name])[name] for job in jobs]
    else:
        found = systems.centralised(bench, name, jobs)
    return [scores.validation for scores in found if scores.validation is not None]


def _costs(journal: Journal) -> dict[str, float | None]:
    """What a federation's round took: seconds (median, the first left out) and bytes over both links."""
    rounds = [record.body for record in runlog.read(journal.log, "round")]
    seconds = [float(body["seconds"]) for body in rounds if body["round"] > 1]
    rows = [row for record in runlog.read(journal.log, "messages") for row in record.body["rows"]]
    total = sum(int(row["bytes"]) for row in rows)
    return {
        "seconds_per_round": float(np.median(seconds)) if seconds else None,
        "bytes_per_round": total / len(rounds) if rounds and total else None,
    }
