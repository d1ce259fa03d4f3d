"""From a plan to what a run promises: the mechanism, how much noise, and what it all costs one unit."""

from __future__ import annotations

import hashlib
import json
from math import ceil, sqrt
from typing import Any

from dp_accounting import ComposedDpEvent, DpEvent, SelfComposedDpEvent
from scipy.optimize import brentq

from lazaretto import catalog
from lazaretto.errors import PlanError, many
from lazaretto.plan_keys import Plan
from lazaretto.privacy.accounting import calibrated, epsilon_of, rounds_that_fit
from lazaretto.privacy.counts import CountNoise, Normals, count_event
from lazaretto.privacy.draws import chance_of
from lazaretto.privacy.mechanism import Mechanism

__all__ = [
    "appearances_of",
    "count_noise_of",
    "dealing_of",
    "deals_anew",
    "mechanism_of",
    "repetitions_of",
    "rounds_of",
    "split_key",
]


def rounds_of(plan: Plan) -> int:
    """The most rounds in which a unit can take part: those of a probation count, too."""
    return plan.train.rounds + plan.reputation.probation_rounds


def repetitions_of(plan: Plan) -> int:
    """How many repetitions `privacy.epsilon` limits together."""
    return len(plan.run.seeds) if plan.privacy.epsilon_of == "run" else 1


def appearances_of(plan: Plan) -> int:
    """In how many examples of a site one unit stands at most: what the plan says, else what its source does.

    Public: nothing is counted in the data. 1 without a mechanism, and where a whole site is the unit. Raises
    PlanError where the plan says less than its source.
    """
    asked = plan.privacy
    if asked.mechanism == "none" or asked.unit == "site":
        return 1
    least = int(catalog.build("sources", plan.data.source, plan.data.options).appearances)
    if asked.appearances is not None and asked.appearances < least:
        raise PlanError(
            f"privacy.appearances: source '{plan.data.source}' shows one unit more often, with these options",
            found=asked.appearances,
            way_out=f"{least}, or leave it out",
        )
    return asked.appearances or least


def split_key(plan: Plan) -> str | None:
    """The word under which units are dealt by their names alone; None where they are dealt by counting."""
    named = plan.split.dealt == "name" or (plan.split.dealt == "auto" and plan.privacy.mechanism != "none")
    return plan.split.key if named and plan.split.by == "unit" else None


def deals_anew(plan: Plan) -> bool:
    """Whether one unit may stand in other parts with another seed: the source deals, or counting does."""
    source = catalog.build("sources", plan.data.source, plan.data.options)
    return bool(source.deals) or (plan.split.by == "unit" and split_key(plan) is None)


def dealing_of(plan: Plan, seed: int) -> str:
    """SHA-256, in hexadecimal, of all that decides in which part a unit of one repetition stands.

    Runs on the same data that have the same deal every unit to the same part.
    """
    asked, anew = plan.split.model_dump(mode="json"), seed if deals_anew(plan) else None
    said = [plan.data.source, plan.data.options, asked, split_key(plan), anew]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def count_noise_of(plan: Plan, seed: int) -> CountNoise | None:
    """The noise on what sites count in one repetition of the plan; None where counts are exact.

    They are without a mechanism, and with one for whole sites, of whose counts it says nothing.
    """
    asked = plan.privacy
    if asked.mechanism == "none" or asked.unit == "site":
        return None

    def normals(what: str, site: int) -> Normals:
        return chance_of(asked.noise, seed, "noisy counts", what, site).normal

    return CountNoise(unit=asked.unit, noise_multiplier=asked.counts_noise, normals=normals)


def mechanism_of(plan: Plan, appearances: int | None = None) -> Mechanism | None:
    """The plan's mechanism, its noise found where only a budget is given; None where there is none.

    appearances: the most examples in which one unit stands, or None for `appearances_of` the plan. Raises
    PlanError where the rounds would pass `privacy.epsilon`, with how many would fit, and where the thresholds
    would cost a validation unit more.
    """
    asked = plan.privacy
    if asked.mechanism == "none":
        return None
    appearances = appearances_of(plan) if appearances is None else appearances
    known = catalog.options("mechanisms", asked.mechanism)
    given: dict[str, Any] = {
        "unit": asked.unit,
        "clip": asked.clip,
        "rate": asked.sample_rate,
        "steps": max(1, round(plan.train.local_epochs / asked.sample_rate)),
        "appearances": appearances,
        "total_steps": rounds_of(plan) * max(1, round(plan.train.local_epochs / asked.sample_rate)),
    }
    usual = {name: value for name, value in given.items() if name in known}

    if (asked.unit == "site") != (asked.mechanism == "site_noise"):
        raise PlanError(
            f"privacy.mechanism: '{asked.mechanism}' does not protect the unit '{asked.unit}'",
            found=asked.mechanism,
            way_out="site_noise for a site, dp_sgd or dp_ftrl for a record or a patient",
        )

    def make(noise_multiplier: float) -> Mechanism:
        options = dict(asked.options) | usual | {"noise_multiplier": noise_multiplier}
        made: Mechanism = catalog.build("mechanisms", asked.mechanism, options)
        return made

    times, others = repetitions_of(plan), list[DpEvent]()
    if asked.unit != "site":
        _check_counts(plan, appearances)
        counted = [asked.counts_noise]
        if times > 1 and deals_anew(plan):  # then one unit may pay as a training and as a validation unit
            counted.append(asked.threshold_noise)
        others = [SelfComposedDpEvent(count_event(noise / appearances), times) for noise in counted]
    if asked.noise_multiplier is None:
        assert asked.epsilon is not None  # noqa: S101  checked with the plan
        return calibrated(make, rounds_of(plan), others, asked.epsilon, asked.delta, times)
    made = make(asked.noise_multiplier)
    if asked.epsilon is None:
        return made
    whole = SelfComposedDpEvent(made.event(rounds_of(plan) * made.steps), times)
    spent = epsilon_of(ComposedDpEvent([whole, *others]), asked.delta)
    if spent > asked.epsilon:
        fit = rounds_that_fit(made, others, asked.epsilon, asked.delta, times)
        would, rounds = many(fit, "round") if fit else "not one of the rounds", many(rounds_of(plan), "round")
        enough = calibrated(make, rounds_of(plan), others, asked.epsilon, asked.delta, times).noise_multiplier
        raise PlanError(
            f"train.rounds: {rounds}{_times(times)} would cost one {asked.unit} more than privacy.epsilon",
            found=f"epsilon {spent:.4g} at delta {asked.delta:g}, and {asked.epsilon:g} is the most",
            way_out=f"{would} would fit; or privacy.noise_multiplier = "
            f"{ceil(1000 * enough) / 1000:g}, or a lower privacy.sample_rate",
        )
    return made


def _times(repetitions: int) -> str:
    return f", {repetitions} times over (run.seeds)," if repetitions > 1 else ""


def _check_counts(plan: Plan, appearances: int) -> None:
    """Raise PlanError where what units pay for counts alone passes `privacy.epsilon`, with what would not.

    Validation units pay for thresholds and nothing else, training units for scaling and then for training.
    """
    asked, times = plan.privacy, repetitions_of(plan)
    if asked.epsilon is None:
        return

    def spent(noise_multiplier: float) -> float:
        event = count_event(noise_multiplier / appearances)
        return epsilon_of(SelfComposedDpEvent(event, times), asked.delta)

    scale = appearances * sqrt(times)  # Gaussians: what costs the same, whatever these are

    def least(epsilon: float) -> float:
        found = brentq(lambda noise: spent(noise * scale) - epsilon, 0.01, 1e5, xtol=1e-4)
        return ceil(10 * scale * float(found)) / 10

    problems, ways = list[str](), list[str]()
    thresholds, scaling = spent(asked.threshold_noise), spent(asked.counts_noise)
    if thresholds > asked.epsilon:
        problems.append(
            f"privacy.threshold_noise: thresholds{_times(times)} cost one validation {asked.unit}"
        )
        ways.append(f"privacy.threshold_noise = {least(asked.epsilon):g}")
    if scaling >= asked.epsilon:  # and leaves nothing for training
        problems.append(f"privacy.counts_noise: the scaling{_times(times)} costs one training {asked.unit}")
        ways.append(f"privacy.counts_noise = {least(asked.epsilon / 2):g}")
    if problems:
        found = thresholds if thresholds > asked.epsilon else scaling
        fewer = "fewer of run.seeds, " if times > 1 else ""
        raise PlanError(
            f"{problems[0]} more than privacy.epsilon",
            found=f"epsilon {found:.4g} at delta {asked.delta:g}, and {asked.epsilon:g} is the most",
            way_out=f"{' and '.join(ways)} (so noisy they tell little), {fewer}or a larger privacy.epsilon",
        )
