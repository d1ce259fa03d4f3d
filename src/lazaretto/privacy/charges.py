"""What leaves a site besides updates, and what is published, as entries of the bill."""

from __future__ import annotations

from collections.abc import Sequence

from dp_accounting import NonPrivateDpEvent

from lazaretto.errors import InputError
from lazaretto.privacy.budget import Charge
from lazaretto.privacy.counts import CountNoise, count_event
from lazaretto.privacy.mechanism import Unit

__all__ = ["baseline_charges", "count_charges", "metrics_charge"]


def count_charges(noise: CountNoise, appearances: int = 1) -> tuple[Charge, Charge]:
    """Of one scaling and one setting of thresholds: training units pay the one, validation units the other.

    appearances: the most examples in which one record stands; it then moves the counts so many times as far.
    Raises InputError below 1.
    """
    if appearances < 1:
        raise InputError("a record stands in one example at least", found=appearances, way_out="1 or more")
    event = count_event(noise.noise_multiplier / appearances)
    said = f"noise of {noise.noise_multiplier:g} times the clip"
    return (
        Charge(
            what="scaling",
            part="training units",
            unit=noise.unit,
            event=event,
            words=f"counts of feature values that set the scaling, with {said}",
        ),
        Charge(
            what="thresholds",
            part="validation units",
            unit=noise.unit,
            event=event,
            words=f"counts of scores that set thresholds, alarms and calibration, with {said}",
        ),
    )


def metrics_charge(unit: Unit) -> Charge:
    """Of metrics as they are published today: exact, so nobody in the test units is protected."""
    return Charge(
        what="metrics",
        part="test units",
        unit=unit,
        event=NonPrivateDpEvent(),
        words="not private: exact metrics of test units are published, and a worked case shows one unit step "
        "by step",
    )


def baseline_charges(systems: Sequence[str], unit: Unit) -> tuple[Charge, ...]:
    """Of systems that are compared with ours and train without noise: () where there are none.

    What is published of them is made of exact training and validation units, whatever protects ours.
    """
    if not systems:
        return ()
    words = f"not private: published metrics of {', '.join(systems)}, which learn and set thresholds exactly"
    return (
        Charge(what="metrics", part="training units", unit=unit, event=NonPrivateDpEvent(), words=words),
        Charge(what="metrics", part="validation units", unit=unit, event=NonPrivateDpEvent(), words=words),
    )
