"""What alarm thresholds let through and find where some sites lie about their counts: summed, voted on, own.

    python benchmarks/thresholds.py examples/recommended_rule.toml
    python benchmarks/thresholds.py PLAN --data PLACE --set KEY=VALUE

A plan's model is trained once for each seed, without its attack. Of the validation units one half sets the
threshold and the other is judged, then the other way round. Hostile sites, drawn by the seed, say of all
their normal steps that they score highest, or lowest (`threshold_poisoning`). Printed: what share of normal
steps alarms, and of attacked ones, mean over seeds with the smallest and the largest. Test units are not
looked at.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import tempfile
import typing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import machine
import numpy as np

from lazaretto.attack.threshold_poisoning import threshold_poisoning
from lazaretto.attack_types import Attack
from lazaretto.evaluate.robust import halves
from lazaretto.evaluate.scored import OURS, Agreement, Protocol, Scored
from lazaretto.evaluate.thresholds import operating_points, thresholds_of
from lazaretto.plan import load_plan
from lazaretto.plan_robustness_checks import NO_ATTACK, under
from lazaretto.run import systems
from lazaretto.run.backend import use_all_cores
from lazaretto.run.bench import Job, make_bench
from lazaretto.run.hostile import draw_hostile, false_scores
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare
from lazaretto.run.protocol import protocol_of

__all__ = ["alarms", "main"]

_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
_ENDS: tuple[typing.Literal["highest", "lowest"], ...] = ("highest", "lowest")
_WAYS = typing.get_args(Agreement)


def _rows(scored: Scored, own: np.ndarray) -> Scored:
    return Scored(score=scored.score[own], y=scored.y[own], valid=scored.valid[own], site=scored.site[own])


def alarms(
    scored: Scored, protocol: Protocol, hostile: np.ndarray, attack: Attack, seed: int
) -> tuple[float, float]:
    """Shares of normal and of attacked validation steps that alarm, where the sites `hostile` [S] lie so."""
    alarm, first = np.zeros(scored.valid.shape, np.bool_), halves(scored, seed)
    for own in (first, ~first):
        points = operating_points(
            _rows(scored, ~own),
            replace(protocol, calibration="none"),
            lambda part: false_scores(attack, part, hostile, seed),
        )
        alarm[own] = scored.score[own] > thresholds_of(_rows(scored, own), points)[:, None]
    normal, attacked = (float(alarm[scored.valid & kind].mean()) for kind in (scored.y == 0, scored.y > 0))
    return normal, attacked


def _cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def main() -> None:
    """Train, lie, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    given = parser.parse_args()
    use_all_cores()
    overrides = {} if given.data is None else {"data.path": given.data}
    plan = load_plan(given.plan, sets=given.sets, overrides=overrides)
    plan = under(plan, plan.aggregate.rule, NO_ATTACK, 0.0)
    posts = [Post() for _ in plan.run.seeds]
    prepared = [prepare(plan, seed, post) for seed, post in zip(plan.run.seeds, posts, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        journal = open_journal(Path(folder) / "run", plan, resume=False, show=quiet)
        bench = make_bench(plan, prepared, posts, journal)
        trained = [systems.federated(bench, OURS, Job(place=place)).scores for place in range(len(prepared))]
    rate = plan.evaluate.false_positive_rate
    print(
        f"{given.plan} {' '.join(given.sets)}: seeds {list(plan.run.seeds)}, {rate:.0%} of normal steps asked"
    )
    columns = [f"{what}, {how}" for how in _WAYS for what in ("normal", "attacked")]
    print(f"| sites that lie | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for end in _ENDS:
        attack = threshold_poisoning(end)
        for share in _SHARES:
            row = []
            for how in _WAYS:
                found = []
                for one, scores in zip(prepared, trained, strict=True):
                    assert scores.validation is not None  # noqa: S101  every trained system has them
                    if scores.validation.threshold_group is not None:
                        raise SystemExit(
                            "error: each site has a model and a threshold of its own in this plan"
                        )
                    sites = len(one.site_names)
                    hostile = np.isin(np.arange(sites), draw_hostile(share, sites, one.seed))
                    protocol = replace(protocol_of(plan, one), thresholds=how)
                    found.append(alarms(scores.validation, protocol, hostile, attack, one.seed))
                row += [_cell(column) for column in zip(*found, strict=True)]
            if share or end == _ENDS[0]:
                print(f"| {f'{share:.0%}, {end}' if share else 'none'} | " + " | ".join(row) + " |")
    print(f"{machine.described()}; commit {machine.commit()}")


if __name__ == "__main__":
    main()
