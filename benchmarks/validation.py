"""What a plan reaches on validation units, which is what plans are tuned on: test units are not looked at.

    python benchmarks/validation.py examples/x_iomt.toml --set data.path=X_IOMT --set 'run.seeds=[0,1]'
    python benchmarks/validation.py examples/consortium_full.toml --system gru --set train.rounds=20

Printed: AUROC over steps, recall and latency in steps at the threshold that lets the plan's share of normal
validation steps through (mean over seeds), and with --left-out the same for families left out of training
(first seeds, --left-out-seeds of them; their steps against all normal ones), with recall as the mean over
bins of intensity beside it. A system is one of a plan's baselines, traffic_only and record_only included.
Where the model has a self-supervised score, the supervised one alone is judged as well; where there are
several modalities, ours with one of them withheld. The threshold is set on the very steps it is judged on,
so recall is a little flattering; it serves to choose between settings, not to be quoted.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lazaretto.evaluate.metrics import auroc, campaigns, latencies
from lazaretto.evaluate.scored import ONLY, OURS, SUPERVISED, Scored, SeedScores
from lazaretto.plan import load_plan
from lazaretto.run import systems
from lazaretto.run.backend import use_all_cores
from lazaretto.run.bench import Bench, Job, make_bench
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare

__all__ = ["figures", "main"]


def figures(
    scored: Scored, family: int | None, rate: float, edges: Sequence[float]
) -> tuple[float, float, float, float]:
    """AUROC, recall, its mean over bins of intensity, and mean latency in steps.

    Of one family's steps against all normal ones if `family` is given. edges: between the bins.
    """
    positive = scored.valid & (scored.y > 0 if family is None else scored.y == family)
    normal = scored.valid & (scored.y == 0)
    if not positive.any() or not normal.any():
        return float("nan"), float("nan"), float("nan"), float("nan")
    threshold = np.quantile(scored.score[normal], 1 - rate)
    both = positive | normal
    alarm = (scored.score > threshold) & scored.valid
    steps, _ = latencies(campaigns(np.where(positive, scored.y, 0), scored.valid), alarm)
    recall = even = float(alarm[positive].mean())
    if scored.intensity is not None:
        bins = np.digitize(scored.intensity[positive], edges)
        even = float(np.mean([alarm[positive][bins == one].mean() for one in np.unique(bins)]))
    return auroc(scored.score[both], positive[both]), recall, even, float(steps.mean())


def _train(bench: Bench, system: str, jobs: Sequence[Job]) -> dict[str, list[SeedScores]]:
    if system in (OURS, "unsplit", *ONLY):
        trained = [systems.federated(bench, system, job) for job in jobs]
        alone = [one.supervised for one in trained if one.supervised is not None]
        found = {system: [one.scores for one in trained]}
        for job, one in (
            zip(jobs, trained, strict=True) if system == OURS and bench.prepared[0].data.names else ()
        ):
            for name, scores in systems.withheld(bench, job, one).items():
                found.setdefault(name, []).append(scores)
        return found | {SUPERVISED: alone} if alone else found
    if system in systems.WINDOWED:
        return {system: [systems.windowed(bench, job, [system])[system] for job in jobs]}
    if system == "local":
        return {system: [systems.local_only(bench, job) for job in jobs]}
    return {system: systems.centralised(bench, system, jobs)}


def _show(
    name: str, jobs: Sequence[Job], found: Sequence[SeedScores], classes: Sequence[str], given: Any
) -> None:
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    for job, scores in zip(jobs, found, strict=True):
        assert scores.validation is not None  # noqa: S101  every trained system has validation scores
        row = "all" if job.without is None else classes[job.without]
        rows.setdefault(row, []).append(figures(scores.validation, job.without, *given))
    left = [row for label, values in rows.items() if label != "all" for row in values]
    if left:
        rows["mean of those left out"] = left
    print(f"{name:24} AUROC  recall over intensities latency")
    for label, values in rows.items():
        area, recall, even, steps = np.nanmean(np.asarray(values), axis=0)
        print(f"{label:24} {area:.4f} {recall:.3f}  {even:.3f}            {steps:.2f}")


def main() -> None:
    """Train one system as a plan says and print its figures on validation units."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    parser.add_argument("--system", default=OURS)
    parser.add_argument("--left-out", type=int, nargs="*", default=[], metavar="CLASS", help="class numbers")
    parser.add_argument("--left-out-seeds", type=int, default=1)
    given = parser.parse_args()
    use_all_cores()
    plan = load_plan(given.plan, sets=given.sets)
    posts = [Post() for _ in plan.run.seeds]
    prepared = [prepare(plan, seed, post) for seed, post in zip(plan.run.seeds, posts, strict=True)]
    jobs = [Job(place=place) for place in range(len(prepared))]
    first = range(min(given.left_out_seeds, len(prepared)))
    jobs += [Job(place=place, without=family) for family in given.left_out for place in first]
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        journal = open_journal(Path(folder) / "run", plan, resume=False, show=quiet)
        bench = make_bench(plan, prepared, posts, journal)
        found = _train(bench, given.system, jobs)
    print(f"{given.plan} {' '.join(given.sets)}: {given.system}, seeds {list(plan.run.seeds)}")
    rate, schema = plan.evaluate.false_positive_rate, prepared[0].schema
    for name, scores in found.items():
        _show(name, jobs, scores, schema.classes, (rate, schema.intensity_edges))
    print(f"{time.perf_counter() - begun:.0f} s of training and scoring")


if __name__ == "__main__":
    main()
