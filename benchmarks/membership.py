"""Who was in training? LiRA and the loss threshold against trained models: python benchmarks/membership.py

Records are windows of the simulated consortium's traffic, recurrent state reset before each; the target is
trained on 1,000 of 2,000, each shadow model on about as many others. Rows: a model that is overfitted on
purpose (a large network, each step's label by the toss of a coin); the same with DP-SGD; the default detector
as it is; the same with DP-SGD. Every row is attacked alike. About a quarter of an hour on two busy cores.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from typing import Any

import dp_accounting
import machine
import numpy as np
from dp_accounting.pld import PLDAccountant

from lazaretto import catalog
from lazaretto.audit.membership import attack, lira_scores, loss_threshold_scores, membership_audit
from lazaretto.audit.shadow_training import private_shadow_round, shadow_trainer
from lazaretto.data.scaling import apply_scaling, bucket_counts, scaling_from_counts
from lazaretto.data.streams import streams
from lazaretto.dp_local import private_training
from lazaretto.keys import generator
from lazaretto.local import LocalTraining
from lazaretto.privacy.mechanism import Mechanism

__all__ = ["main"]

WINDOW, DELTA = 8, 1e-5
CLIP, RATE, STEPS_A_ROUND = 1.0, 0.1, 20


@dataclass(frozen=True)
class Row:
    """One kind of training. rounds: passes over the members, or rounds of private steps."""

    name: str
    model: str
    options: dict[str, Any]
    coins: bool
    rounds: int
    learning_rate: float
    epsilon: float | None = None


LARGE: dict[str, Any] = {"history_steps": WINDOW, "hidden": 256}
USUAL: dict[str, Any] = {}
ROWS = (
    Row("overfitted on purpose", "mlp", LARGE, True, 40, 2e-3),
    Row("the same, DP-SGD", "mlp", LARGE, True, 10, 2e-3, 8.0),
    Row("the default detector", "conv_gru", USUAL, False, 10, 2e-3),
    Row("the same, DP-SGD", "conv_gru", USUAL, False, 10, 2e-3, 8.0),
)


def _event(noise: float, steps: int) -> dp_accounting.DpEvent:
    step = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(noise))
    return dp_accounting.SelfComposedDpEvent(step, steps)


def _mechanism(epsilon: float, rounds: int) -> tuple[Mechanism, float]:
    """DP-SGD of that ε after so many rounds, and what it costs by the accountant."""
    steps = rounds * STEPS_A_ROUND

    def accountant() -> PLDAccountant:
        return PLDAccountant(value_discretization_interval=1e-3)

    noise = dp_accounting.calibrate_dp_mechanism(
        accountant,
        lambda noise: _event(noise, steps),
        epsilon,
        DELTA,
        dp_accounting.LowerEndpointAndGuess(0.3, 1.0),
        tol=1e-3,
    )
    made = Mechanism(
        name="dp_sgd",
        unit="record",
        clip=CLIP,
        noise_multiplier=noise,
        sampling="poisson",
        rate=RATE,
        steps=STEPS_A_ROUND,
        event=lambda number: _event(noise, number),
    )
    return made, float(accountant().compose(made.event(steps)).get_epsilon(DELTA))


def _windows(n: int, seed: int) -> tuple[Any, Any, Any, int]:
    """n whole windows x [n, T, F], y, weight [n, T], and how many families there are."""
    options = {"sites": 4, "units_per_site": max(10, n // 12), "windows": 6, "window_steps": WINDOW}
    table = catalog.build("sources", "consortium", options).load(None, seed)
    data = streams(table, "traffic")
    counts = bucket_counts(data.x, data.valid, data.origins)
    x = apply_scaling(scaling_from_counts(counts, data.origins), data.x)
    x = x.reshape(-1, WINDOW, x.shape[-1])
    whole = np.flatnonzero(data.judged.reshape(-1, WINDOW).all(axis=1))
    kept = generator(seed, "windows").permutation(whole)[:n]
    y = data.y.reshape(-1, WINDOW)[kept]
    return x[kept].astype(np.float32), y, np.ones(y.shape, np.float32), len(table.schema.classes) - 1


def _attacked(row: Row, n: int, shadows: int, seed: int) -> None:
    """Train, attack, print the row."""
    begin = time.perf_counter()
    x, y, weight, kinds = _windows(n, seed)
    if row.coins:
        y = generator(seed, "coins").integers(0, 2, y.shape)
    model = catalog.build("models", row.model, row.options)
    plain = LocalTraining(
        window=WINDOW, batch_units=50, class_balance=0.0, temporal_consistency=0.0, kind_weight=0.0
    )
    training = private_training(plain)  # no clip on the whole: private or not, rows differ in the noise alone
    one_round, said, epsilon = None, "", "—"
    if row.epsilon is not None:
        made, cost = _mechanism(row.epsilon, row.rounds)
        one_round = private_shadow_round(
            model, training, made, features=x.shape[2], kinds=kinds, learning_rate=row.learning_rate
        )
        epsilon, said = f"{cost:.2f}", f", noise {made.noise_multiplier:.2f}"
    train = shadow_trainer(
        model,
        training,
        (x, y, weight),
        kinds=kinds,
        rounds=row.rounds,
        learning_rate=row.learning_rate,
        one_round=one_round,
    )
    found = attack(train, n, shadows, generator(seed, "attack"))
    member = found.member[0]
    losses = [float(np.nanmean(found.losses[0][who])) for who in (member, ~member)]
    for name, scores in (("LiRA", lira_scores(*found)), ("loss", loss_threshold_scores(found.losses))):
        audit = membership_audit(scores, member, generator(seed, "intervals"))
        rates = " | ".join(
            f"{100 * v.value:.1f} % ({100 * v.low:.1f}–{100 * v.high:.1f})"
            for v in audit.true_positives.values()
        )
        area = f"{audit.auroc.value:.3f} ({audit.auroc.low:.3f}–{audit.auroc.high:.3f})"
        told = f"{losses[0]:.2f}, {losses[1]:.2f}"
        print(f"| {row.name} | {epsilon} | {told} | {name} | {rates} | {area} |", flush=True)
    taken = time.perf_counter() - begin
    few = "" if audit.enough else "; too few records to tell .1 %"
    print(f"  ({row.model} {row.options}{said}, {taken:.0f} s{few})", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--shadows", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, nargs="*", default=list(range(len(ROWS))))
    args = parser.parse_args()
    commit = machine.commit()  # of what runs, whatever is checked out by the end
    print(
        "| trained | ε | loss of members, others | attack | TPR at .1 % FPR | at 1 % FPR | AUROC |\n"
        "|---|---|---|---|---|---|---|"
    )
    for number in args.rows:
        _attacked(ROWS[number], args.records, args.shadows, args.seed)
    print(
        f"{args.records} records, half of them members; {args.shadows} shadow models; seed {args.seed}; "
        f"{machine.described()}; commit {commit}; load average {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
