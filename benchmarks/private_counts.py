"""What noise on the sites' counts costs: AUROC of ours on validation units, and what thresholds come to.

    python benchmarks/private_counts.py examples/consortium.toml --noise 5 10 20 --seeds 0 1
    python benchmarks/private_counts.py examples/x_iomt.toml --set data.path=X_IOMT --set train.rounds=20

Training itself is not private here, so that nothing but the counts differs. Columns: noise multiplier (- for
exact counts), the epsilon that it costs a training unit and a validation unit each, AUROC over validation
steps, and of test steps the share of normal ones above the threshold that asks for the plan's share, recall
there, and the logarithmic loss of the calibrated scores. AUROC does not depend on thresholds, so it shows
the scaling alone; the test units choose nothing here.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import commit, described

from lazaretto.evaluate.metrics import auroc
from lazaretto.evaluate.operating import EVERYONE, log_loss
from lazaretto.evaluate.scored import OURS
from lazaretto.evaluate.thresholds import MAIN_POINT, operating_of
from lazaretto.keys import generator
from lazaretto.plan import Plan, load_plan
from lazaretto.privacy.accounting import epsilon_of
from lazaretto.privacy.counts import CountNoise, Normals, count_event
from lazaretto.run import systems
from lazaretto.run.backend import use_all_cores
from lazaretto.run.bench import Bench, Job, make_bench
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare
from lazaretto.run.protocol import protocol_of
from lazaretto.types import Array

__all__ = ["figures", "main"]


def _normals(seed: int, what: str, site: int) -> Normals:
    return generator(seed, "count noise", what, site).standard_normal


def figures(plan: Plan, seed: int, noise: CountNoise | None, programs: dict[Any, Any]) -> Array:
    """[4] AUROC on validation, share of false alarms, recall and logarithmic loss on test. programs: kept."""
    post = Post()
    prepared = prepare(plan, seed, post, count_noise=noise)
    with tempfile.TemporaryDirectory() as folder:
        journal = open_journal(Path(folder) / "run", plan, resume=False, show=quiet)
        bench: Bench = make_bench(plan, [prepared], [post], journal)
        bench.programs.update(programs)
        scores = systems.federated(bench, OURS, Job(place=0)).scores
        programs.update(bench.programs)
    held, test = scores.validation, scores.test
    assert held is not None  # noqa: S101  every trained system has validation scores
    found = operating_of(scores, protocol_of(plan, prepared), "ours")
    score, truth = test.score[test.valid], test.y[test.valid] > 0
    alarm = score > found.thresholds[MAIN_POINT][EVERYONE]
    return np.array(
        [
            auroc(held.score[held.valid], held.y[held.valid] > 0),
            alarm[~truth].mean(),
            alarm[truth].mean(),
            log_loss(found.platt[EVERYONE], score, truth),
        ]
    )


def main() -> None:
    """Train ours with every noise on every seed and print a row for each noise."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    parser.add_argument("--noise", type=float, nargs="*", default=[2, 5, 10, 20])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--unit", default="record", choices=["record", "patient"])
    parser.add_argument("--delta", type=float, default=1e-5)
    given = parser.parse_args()
    use_all_cores()
    plan = load_plan(given.plan, sets=given.sets)
    started, programs = time.perf_counter(), dict[Any, Any]()
    print(
        f"{given.plan} {' '.join(given.sets)}, unit {given.unit}, seeds {given.seeds}, delta {given.delta:g}"
    )
    print("| noise | epsilon | AUROC | false alarms | recall | log loss |\n|---|---|---|---|---|---|")
    for multiplier in (None, *given.noise):
        rows = []
        for seed in given.seeds:
            noise = None
            if multiplier is not None:
                noise = CountNoise(
                    unit=given.unit, noise_multiplier=multiplier, normals=partial(_normals, seed)
                )
            rows.append(figures(plan, seed, noise, programs))
        cost = "-" if multiplier is None else f"{epsilon_of(count_event(multiplier), given.delta):.2f}"
        mean = np.mean(rows, axis=0)
        name = "-" if multiplier is None else f"{multiplier:g}"
        print(
            f"| {name} | {cost} | {mean[0]:.4f} | {mean[1]:.4f} | {mean[2]:.3f} | {mean[3]:.4f} |", flush=True
        )
    print(f"{time.perf_counter() - started:.0f} s on {described()}, commit {commit()}")


if __name__ == "__main__":
    main()
