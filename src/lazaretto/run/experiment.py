"""A whole run: prepare, train every system, judge, and write what readers need."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lazaretto import __version__, runlog
from lazaretto.data.streams import select
from lazaretto.evaluate.compare import judge
from lazaretto.evaluate.left_out import LeaveOut
from lazaretto.evaluate.operating import for_elsewhere, operating_to_json
from lazaretto.evaluate.scored import (
    DEEP,
    ONLY,
    OURS,
    SUPERVISED,
    TRIGGERED,
    Protocol,
    SeedScores,
)
from lazaretto.evaluate.thresholds import operating_of, own_thresholds
from lazaretto.plan import Plan
from lazaretto.promise import appearances_of, mechanism_of
from lazaretto.run.away import sites_to_leave_out
from lazaretto.run.backend import use_cores_of
from lazaretto.run.bench import Bench, Job, make_bench
from lazaretto.run.budgeted import conclude_run, keep_apart, promise_run
from lazaretto.run.charges import promised
from lazaretto.run.checked import MODEL_FILE, file_record
from lazaretto.run.cost import cost_table, pooled_bytes, seconds_table
from lazaretto.run.journal import (
    Journal,
    Show,
    close_journal,
    kept_for_resuming,
    let_go_on_error,
    open_journal,
    quiet,
)
from lazaretto.run.modalities import found_again, model_options
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared, prepare
from lazaretto.run.protocol import protocol_of
from lazaretto.run.provenance import other_code, run_record
from lazaretto.run.saved import save_arrays, write_whole
from lazaretto.run.seen import SEEN_FILE, save_seen
from lazaretto.run.started import enter_start, seen_with_start
from lazaretto.run.systems import (
    WINDOWED,
    Trained,
    centralised,
    federated,
    local_only,
    ours_again,
    windowed,
    with_trigger,
    withheld,
)
from lazaretto.run.timeline import disagreement, timeline
from lazaretto.run.told import sheet_told
from lazaretto.types import TEST

__all__ = ["METRICS_SCHEMA", "run_plan", "write_metrics"]

METRICS_SCHEMA = "lazaretto/1"
_CENTRAL = ("pooled", *DEEP)

_LeftOut = dict[str, dict[int, list[SeedScores]]]


def run_plan(plan: Plan, out: Path, resume: bool = False, show: Show = quiet) -> None:
    """Train and judge everything a plan names; write the run's folder except the report page.

    Writes plan.toml, run.sqlite, metrics.json, model.safetensors. With `resume`, goes on where an
    interrupted run stopped, on as many devices of JAX as it began with and so with the same result to the
    bit; InputError where they cannot be had. Raises Interrupted (exit 3) after saving when the user stops
    it; any other error leaves finished stages in place, and no folder if not even a round was made.
    """
    keep_apart(plan, out)
    journal = open_journal(out, plan, resume, show)
    with let_go_on_error(journal):
        use_cores_of(journal.log)
    began = time.perf_counter()
    with kept_for_resuming(journal, "what was finished is"):
        _run(plan, journal, began)


def _run(plan: Plan, journal: Journal, began: float) -> None:
    journal.record("run", run_record(plan))
    if journal.resumed and (code := other_code(runlog.read(journal.log))) is not None:
        journal.record("code", code)
    enter_start(plan, journal)
    made, appearances = mechanism_of(plan), appearances_of(plan)
    if made is not None:  # before anything is counted: noisy counts cost, too
        promise_run(plan, made, appearances, journal)
    prepared, posts = [], []
    for seed in plan.run.seeds:
        journal.show("begin", {"name": "prepare data", "seed": seed})
        start, post = time.perf_counter(), Post()
        prepared.append(prepare(plan, seed, post, kept=journal.parts / f"scaling-{seed}.safetensors"))
        posts.append(post)
        journal.record("data", {"seed": seed, **sheet_told(plan, prepared[-1].sheet)})
        body = {"name": "prepare data", "seed": seed, "seconds": time.perf_counter() - start}
        journal.record("stage", {**body, "compile_seconds": None})
    bench = make_bench(plan, prepared, posts, journal)
    systems, left, away, first, messages = _train(bench)
    journal.show("begin", {"name": "judge", "seed": None})
    start = time.perf_counter()
    protocol = replace(protocol_of(plan, prepared[0]), same_units=_same_units(prepared))
    verdict = judge(
        systems,
        protocol,
        withheld=[_withheld(one) for one in prepared],
        leave_out=left,
        leave_out_sites=away,
        site_names=prepared[0].site_names,
    )
    if own := own_thresholds(systems[OURS], protocol, OURS):
        verdict["own_thresholds"] = {"sites": len(prepared[0].site_names), **own}
    body = {"name": "judge", "seed": None, "seconds": time.perf_counter() - start, "compile_seconds": None}
    journal.record("stage", body)
    if bench.mechanism is not None:
        conclude_run(plan, (bench.mechanism, appearances), journal)
    _save_model(plan, prepared[0], first, protocol, journal)
    if prepared[0].data.names and first.vector.ndim == 1:
        met = found_again(ours_again(bench), first.vector, prepared[0])
        if met is not None:
            journal.record("found again", met)
    for case in (found(prepared[0], systems, protocol) for found in (timeline, disagreement)):
        if case is not None:
            journal.record("timeline", case)
    sheet = sheet_told(plan, prepared[0].sheet)
    write_metrics(plan, journal, verdict, sheet, messages, began, pooled_bytes(prepared[0]))
    close_journal(journal)


def _train(
    bench: Bench,
) -> tuple[dict[str, list[SeedScores]], LeaveOut, LeaveOut, Trained, list[list[dict[str, Any]]]]:
    """Every system on every seed; on the first few also without each family, and without single sites."""
    plan = bench.plan
    seeds = range(len(bench.prepared))
    asked = plan.evaluate.baselines
    rated = bench.prepared[0].rate_column is not None
    names = [name for name in WINDOWED if name in asked and (rated or name != "rate_threshold")]
    families = _left_out_families(bench)
    out_jobs = [
        Job(place=place, without=family)
        for family in families
        for place in seeds[: plan.evaluate.leave_one_out_seeds]
    ]
    judged = bench.prepared[: plan.evaluate.leave_one_out_seeds]
    site_jobs = [
        Job(place=place, without_site=site)
        for site in sites_to_leave_out(plan, judged)
        for place in range(len(judged))
    ]
    jobs = [*(Job(place=place) for place in seeds), *out_jobs, *site_jobs]
    each = 1 + sum(name in asked for name in (*ONLY, "local", "unprotected", "unsplit")) + len(names)
    elsewhere = (len(jobs) - len(seeds)) * (1 + sum(name != "rate_threshold" for name in names))
    once = sum(name in asked for name in _CENTRAL)
    bench.journal.show("ahead", {"parts": each * len(seeds) + elsewhere + once})
    ours = [federated(bench, OURS, Job(place=place)) for place in seeds]
    systems: dict[str, list[SeedScores]] = {OURS: [one.scores for one in ours]}
    alone = [one.supervised for one in ours if one.supervised is not None]
    if alone:
        systems[SUPERVISED] = alone
    for place in seeds if bench.prepared[0].data.names else ():
        for name, scores in withheld(bench, Job(place=place), ours[place]).items():
            systems.setdefault(name, []).append(scores)
    shown = [with_trigger(bench, Job(place=place), ours[place]) for place in seeds]
    if triggered := [scores for scores in shown if scores is not None]:
        systems[TRIGGERED] = triggered
    for name in ONLY:
        if name in asked:
            systems[name] = [federated(bench, name, Job(place=place)).scores for place in seeds]
    left: _LeftOut = {}
    away: _LeftOut = {}

    def leave(name: str, job: Job, scores: SeedScores) -> None:
        if job.without_site is not None:
            away.setdefault(name, {}).setdefault(job.without_site, []).append(scores)
        else:
            left.setdefault(name, {}).setdefault(int(job.without or 0), []).append(scores)

    for job in [*out_jobs, *site_jobs]:
        found = federated(bench, OURS, job)
        leave(OURS, job, found.scores)
        if found.supervised is not None:
            leave(SUPERVISED, job, found.supervised)
    if "local" in asked:
        systems["local"] = [local_only(bench, Job(place=place)) for place in seeds]
    for name in ("unprotected", "unsplit"):
        if name in asked:
            systems[name] = [federated(bench, name, Job(place=place)).scores for place in seeds]
    for name in _CENTRAL:
        if name in asked:
            scored = centralised(bench, name, jobs)
            systems[name] = scored[: len(seeds)]
            for job, scores in zip(jobs[len(seeds) :], scored[len(seeds) :], strict=True):
                leave(name, job, scores)
    for place in seeds:
        for name, scores in windowed(bench, Job(place=place), names).items():
            systems.setdefault(name, []).append(scores)
    for job in [*out_jobs, *site_jobs]:
        for name, scores in windowed(
            bench, job, [name for name in names if name != "rate_threshold"]
        ).items():
            leave(name, job, scores)
    return systems, left, away, ours[0], [one.messages for one in ours]


def _left_out_families(bench: Bench) -> list[int]:
    """Families that every judged seed tests, where others are left to learn from."""
    plan = bench.plan
    if not plan.evaluate.leave_one_family_out:
        return []
    judged = bench.prepared[: plan.evaluate.leave_one_out_seeds]
    present = set(range(1, judged[0].kinds + 1))
    for one in judged:
        part = select(one.data, one.data.split == TEST)
        present &= {int(k) for k in np.unique(part.y[part.judged])}
    return sorted(present) if len(present) > 1 else []


def _withheld(prepared: Prepared) -> dict[int, list[int]]:
    return {
        site: [int(k) for k in np.flatnonzero(row)]
        for site, row in enumerate(prepared.parts.withheld)
        if row.any()
    }


def _same_units(prepared: Sequence[Prepared]) -> bool:
    """Whether all seeds judge the very same steps, as where a file is split by time."""
    tests = [select(one.data, one.data.split == TEST) for one in prepared]
    first = tests[0]
    return all(
        np.array_equal(one.unit, first.unit)
        and np.array_equal(one.start_time, first.start_time)
        and np.array_equal(one.y, first.y)
        and np.array_equal(one.judged, first.judged)
        for one in tests[1:]
    )


def _save_model(
    plan: Plan, prepared: Prepared, trained: Trained, protocol: Protocol, journal: Journal
) -> None:
    # thresholds that sites keep to themselves stay there: the file may be handed on
    operating = for_elsewhere(operating_of(trained.scores, protocol, "the model that is kept"))
    vector = trained.vector
    arrays = {"center": prepared.scaling.center, "scale": prepared.scaling.scale}
    # a row for each site where a part of the model stayed there: this folder stands for all of them
    arrays |= {"vector" if vector.ndim == 1 else "vectors": vector}
    meta: dict[str, Any] = {
        "version": __version__,
        "model": plan.model.name,
        "options": model_options(plan, plan.model.name, prepared.data.layout),
        "cut": plan.cut.model_dump(mode="json"),
        "modality": prepared.modality,
        "features": list(prepared.measured),
        "irregular": prepared.modality in prepared.schema.irregular,
        "width": prepared.data.x.shape[2],
        "classes": list(prepared.schema.classes),
        "window": prepared.data.window,
        "step": prepared.schema.step,
        "seed": prepared.seed,
        "operating": operating_to_json(operating),
    }
    if trained.tails is not None:
        arrays["tails"] = trained.tails
        meta |= {"novelty_weight": plan.evaluate.novelty_weight}
    if vector.ndim == 2:
        meta |= {"personal": {"algorithm": plan.federate.algorithm, "sites": list(prepared.site_names)}}
    save_arrays(journal.folder / MODEL_FILE, arrays, meta)
    journal.record("model", file_record(journal.folder, MODEL_FILE))
    if plan.privacy.mechanism == "none":  # else the digests would tell who was in
        seen = seen_with_start(plan, prepared.seen, prepared.seed)
        if seen is not None:
            save_seen(journal.folder, seen)
            journal.record("seen", file_record(journal.folder, SEEN_FILE))


def write_metrics(
    plan: Plan,
    journal: Journal,
    verdict: dict[str, Any],
    sheet: Mapping[str, Any],
    messages: Sequence[list[dict[str, Any]]],
    began: float,
    pooling: int | None = None,
) -> None:
    """Close the books: records for readers, and metrics.json."""
    for curve in verdict.pop("curves"):
        journal.record("curves", curve)
    for latency in verdict.pop("latency"):
        journal.record("latency", latency)
    for curve in verdict.pop("reliability"):
        journal.record("reliability", curve)
    rounds = [record.body for record in runlog.read(journal.log, "round") if record.body["system"] == OURS]
    stages = [record.body for record in runlog.read(journal.log, "stage")]
    per_round = [float(body["seconds"]) for body in rounds if body["round"] > 1]
    compile_seconds = [s["compile_seconds"] for s in stages if s["name"] == OURS and s["compile_seconds"]]
    outside = [row for rows in messages[:1] for row in rows if row["link"].startswith("site-")]
    between = [row for rows in messages[:1] for row in rows if row["link"].startswith("aggregator-")]
    inside = [row for rows in messages[:1] for row in rows if row["link"] == "device-site"]
    total = sum(float(body["seconds"]) for body in stages)
    names = [OURS, *verdict["baselines"]]
    sent = [record.body for record in runlog.read(journal.log, "messages")]
    counts = sheet["counts"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    metrics = {
        "schema": METRICS_SCHEMA,
        "version": __version__,
        "seeds": list(plan.run.seeds),
        "quick": len(plan.run.seeds) < plan.run.headline_seeds,
        **verdict,
        "privacy": promised(journal),
        "communication": {
            "bytes_up": sum(row["bytes"] for row in outside if row["direction"] == "up"),
            "bytes_down": sum(row["bytes"] for row in outside if row["direction"] == "down"),
            "device_site_bytes_up": sum(row["bytes"] for row in inside if row["direction"] == "up"),
            "device_site_bytes_down": sum(row["bytes"] for row in inside if row["direction"] == "down"),
            "aggregator_bytes": sum(row["bytes"] for row in between),
        },
        "time": {
            "seconds_per_round": float(np.median(per_round)) if per_round else None,
            "compile_seconds": max(compile_seconds) if compile_seconds else None,
            "total_seconds": total,
            "training_seconds": seconds_table(names, stages),
        },
        "cost": cost_table(names, stages, sent, pooling, len(sheet["sites"])),
        "memory": {"peak_bytes": int(peak)},
        "data": {
            "rows": int(counts.get("rows_read", counts["windows"])),
            "units": int(counts["units"]),
            "duplicates_removed": counts.get("duplicates_removed"),
            "leaks_dropped": len(sheet["leaks_dropped"]),
        },
    }
    journal.record("metrics", metrics)
    finished = {"seconds": time.perf_counter() - began, "peak_bytes": int(peak), "interrupted": False}
    finished["resumed"] = journal.resumed
    journal.record("finished", finished)
    # as the log has them: a run that was stopped just here has recorded them before, with other seconds
    *_, logged = runlog.read(journal.log, "metrics")
    text = json.dumps(logged.body, indent=1, allow_nan=False)
    write_whole(journal.folder / "metrics.json", text.encode() + b"\n")
