"""What a plan reaches on validation units, which is what plans are tuned on: test units are not looked at.

    python benchmarks/validation.py examples/x_iomt.toml --set data.path=X_IOMT --set 'run.seeds=[0,1]'
    python benchmarks/validation.py examples/consortium_full.toml --system gru --set train.rounds=20

Printed: AUROC over steps, recall and latency in steps at the threshold that lets the plan's share of normal
validation steps through (mean over seeds), and with --left-out the same for families left out of training
(first seed; their steps against all normal ones). The threshold is set on the very steps it is judged on, so
recall is a little flattering; it serves to choose between settings, not to be quoted.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lazaretto.evaluate.metrics import auroc, campaigns, latencies
from lazaretto.evaluate.scored import OURS, Scored, SeedScores
from lazaretto.plan import load_plan
from lazaretto.run import systems
from lazaretto.run.backend import use_all_cores
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare

__all__ = ["figures", "main"]


def figures(scored: Scored, family: int | None, rate: float) -> tuple[float, float, float]:
    """AUROC, recall and mean latency in steps; of one family's steps against all normal ones if given."""
    positive = scored.valid & (scored.y > 0 if family is None else scored.y == family)
    normal = scored.valid & (scored.y == 0)
    if not positive.any() or not normal.any():
        return float("nan"), float("nan"), float("nan")
    threshold = np.quantile(scored.score[normal], 1 - rate)
    both = positive | normal
    alarm = (scored.score > threshold) & scored.valid
    steps, _ = latencies(campaigns(np.where(positive, scored.y, 0), scored.valid), alarm)
    return auroc(scored.score[both], positive[both]), float(alarm[positive].mean()), float(steps.mean())


def _train(bench: systems.Bench, system: str, jobs: Sequence[systems.Job]) -> list[SeedScores]:
    if system in (OURS, "unsplit"):
        return [systems.federated(bench, system, job)[0] for job in jobs]
    if system in systems.WINDOWED:
        return [systems.windowed(bench, job, [system])[system] for job in jobs]
    if system == "local":
        return [systems.local_only(bench, job) for job in jobs]
    return systems.centralised(bench, system, jobs)


def main() -> None:
    """Train one system as a plan says and print its figures on validation units."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    parser.add_argument("--system", default=OURS)
    parser.add_argument("--left-out", type=int, nargs="*", default=[], metavar="CLASS", help="class numbers")
    given = parser.parse_args()
    use_all_cores()
    plan = load_plan(given.plan, sets=given.sets)
    posts = [Post() for _ in plan.run.seeds]
    prepared = [prepare(plan, seed, post) for seed, post in zip(plan.run.seeds, posts, strict=True)]
    jobs = [systems.Job(place=place) for place in range(len(prepared))]
    jobs += [systems.Job(place=0, without=family) for family in given.left_out]
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        journal = open_journal(Path(folder) / "run", plan, resume=False, show=quiet)
        bench = systems.make_bench(plan, prepared, posts, journal)
        found = _train(bench, given.system, jobs)
    print(f"{given.plan} {' '.join(given.sets)}: {given.system}, seeds {list(plan.run.seeds)}")
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for job, scores in zip(jobs, found, strict=True):
        assert scores.validation is not None  # noqa: S101  every trained system has validation scores
        name = "all" if job.without is None else prepared[0].schema.classes[job.without]
        rows.setdefault(name, []).append(
            figures(scores.validation, job.without, plan.evaluate.false_positive_rate)
        )
    left = [row for name, values in rows.items() if name != "all" for row in values]
    if left:
        rows["mean of those left out"] = left
    print(f"{'':24} AUROC  recall latency")
    for name, values in rows.items():
        area, recall, steps = np.nanmean(np.asarray(values), axis=0)
        print(f"{name:24} {area:.4f} {recall:.3f}  {steps:.2f}")
    print(f"{time.perf_counter() - begun:.0f} s of training and scoring")


if __name__ == "__main__":
    main()
