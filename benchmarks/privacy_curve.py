"""What privacy costs: AUROC of a private plan over epsilon, beside the same plan without privacy.

    python benchmarks/privacy_curve.py examples/private.toml --epsilons 1 2 4 8 --seeds 0 1
    python benchmarks/privacy_curve.py examples/private_x_iomt.toml --data X_IOMT --seeds 0 1 2 --test

Every row is the plan with that epsilon for each seed by itself, and the noise that spends it (scaling counts
included); nothing shown depends on thresholds, which get much noise. The row "none" is the same model on the
same units without mechanism and secret sums, by the settings in --plain (keys laid over the plan, as it needs
no large steps). Judged on validation units, or with --test on test units; the interval is over seeds
(Student's t) and n/a for one. Baselines are not trained.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import machine
import numpy as np
from scipy.stats import t as student

from lazaretto.evaluate.metrics import auroc
from lazaretto.evaluate.scored import OURS
from lazaretto.plan import load_plan
from lazaretto.plan_keys import known_keys
from lazaretto.run import systems
from lazaretto.run.backend import use_all_cores
from lazaretto.run.bench import Job, make_bench
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare

__all__ = ["main"]

_EACH = ("privacy.epsilon_of=repetition", "privacy.threshold_noise=50")
# every key of both sections as if it were not in the plan
_OPEN = {key.name: key.default for key in known_keys() if key.name.startswith(("privacy.", "secure."))}


def _areas(asked: argparse.Namespace, sets: list[str], private: bool) -> tuple[list[float], float | None]:
    """AUROC of each seed, and the noise multiplier."""
    overrides = {} if asked.data is None else {"data.path": str(asked.data)}
    usual = [*asked.set, *_EACH, f"run.seeds={asked.seeds}", "evaluate.baselines=[]"]
    plan = load_plan(asked.plan, sets=[*usual, *(sets if private else [])], overrides=overrides)
    posts = [Post() for _ in plan.run.seeds]
    # without a mechanism on the same units in the same parts, scaled alike: what differs is the training
    prepared = [prepare(plan, seed, post) for seed, post in zip(plan.run.seeds, posts, strict=True)]
    if not private:
        plan = load_plan(asked.plan, sets=[*usual, *sets], overrides=overrides | _OPEN)
        prepared = [replace(one, door=None, count_noise=None) for one in prepared]
    with tempfile.TemporaryDirectory() as folder:
        bench = make_bench(plan, prepared, posts, open_journal(Path(folder) / "run", plan, False, quiet))
        bench = replace(bench, programs={})
        found = []
        for place in range(len(prepared)):
            scores = systems.federated(bench, OURS, Job(place=place)).scores
            part = scores.test if asked.test or scores.validation is None else scores.validation
            found.append(auroc(part.score[part.valid], part.y[part.valid] > 0))
    return found, None if bench.mechanism is None else bench.mechanism.noise_multiplier


def _row(name: str, found: list[float], noise: float | None, seconds: float) -> str:
    mean, n = float(np.mean(found)), len(found)
    half = float(student.ppf(0.975, n - 1) * np.std(found, ddof=1) / n**0.5) if n > 1 else None
    between = "n/a" if half is None else f"{mean - half:.3f} to {mean + half:.3f}"
    sigma = "n/a" if noise is None else f"{noise:.2f}"
    each = ", ".join(f"{area:.3f}" for area in found)
    return f"| {name} | {sigma} | {mean:.3f} | {between} | {each} | {seconds:.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="AUROC of a private plan over epsilon.")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--epsilons", type=float, nargs="*", default=[1.0, 2.0, 4.0, 8.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], help="laid over the plan in every row")
    parser.add_argument("--plain", action="append", default=[], help="laid over the plan in the row without")
    parser.add_argument("--test", action="store_true")
    asked = parser.parse_args()
    use_all_cores()
    print(
        f"{'test' if asked.test else 'validation'} units; seeds {asked.seeds}; {machine.described()}; ",
        end="",
    )
    print(f"commit {machine.commit()}\n\n| ε | noise multiplier | AUROC | 95 % over seeds | each | seconds |")
    print("|---|---|---|---|---|---|")
    for epsilon in asked.epsilons:
        began = time.perf_counter()
        found, noise = _areas(asked, [f"privacy.epsilon={epsilon}", *_EACH], True)
        print(_row(f"{epsilon:g}", found, noise, time.perf_counter() - began), flush=True)
    began = time.perf_counter()
    found, _ = _areas(asked, asked.plain, False)
    print(_row("none", found, None, time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
