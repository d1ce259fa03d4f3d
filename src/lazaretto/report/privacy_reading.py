"""What a log says of privacy: what was promised, what attackers reached, and how much may be said of it.

Every doubt goes one way: what is missing, unreadable or contradicted weakens what may be said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lazaretto.report.formats import items, mapping, number
from lazaretto.report.reading import Log

__all__ = [
    "Attacker",
    "Level",
    "Promise",
    "Reached",
    "attacker_of",
    "attackers_of",
    "delta_is_large",
    "level_of",
    "promise_of",
]

Level: TypeAlias = Literal["unbounded", "refuted", "doubted", "simulated", "weak", "middling", "strict"]
Reached: TypeAlias = Literal["yes", "unsure", "no", "unknown"]

# Ponomareva et al. 2023, arXiv:2303.00654, section 5.2: up to 1 strong, up to 10 reasonable, above weak
_STRICT, _MIDDLING = 1.0, 10.0
_DELTA = 1e-3
_SHOWN = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """The record `privacy`, as far as it can be read.

    unit: "record", "patient", "site", or "" where it is none of these. epsilon: the most that the record
    knows for one unit, training or validation, of all repetitions and of all runs of its budget file; None
    where nothing bounds it. once: of one repetition; training: of its training alone; every: of all runs of
    the budget file, None where there is none. window: steps of a window. units: how many of the protected
    kind there are, as far as is known. noise: "system", "seed" or "". distributed: whether only a sum over
    sites has all of it.
    """

    unit: str
    epsilon: float | None
    once: float | None
    training: float | None
    delta: float | None
    noise: str
    repetitions: int
    other_runs: bool
    every: float | None
    window: float | None
    units: float | None
    distributed: bool
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacker:
    """A record `audit`. reached: more than its floor. claim: "" where there is no verdict on it.

    in_epsilon: whether its values are lower bounds on epsilon, which compare with the claim. in_time: whether
    they count how long an attacker goes on unnoticed; without a value nobody notices.
    """

    name: str
    measured: str
    value: float | None
    low: float | None
    high: float | None
    floor: float | None
    claimed: float | None
    reached: Reached
    claim: Literal["broken", "doubted", "kept", ""]
    in_epsilon: bool
    in_time: bool
    body: dict[str, Any]


def promise_of(log: Log) -> Promise | None:
    """What was promised; None where the log holds no record of it."""
    if not log.all("privacy"):
        return None
    body = log.last("privacy")
    unit = str(body.get("unit") or "")
    unit = unit if unit in ("record", "patient", "site") else ""
    repetitions = max(int(number(body.get("repetitions")) or 1), len(items(log.last("run").get("seeds"))), 1)
    once, whole = (_bound(body.get(k)) for k in ("epsilon", "repeated_epsilon"))
    repeated = once if repetitions == 1 else whole
    known = [once, repeated]
    if "run_epsilon" in body:  # validation units too, as of newer logs
        run = _bound(body.get("run_epsilon"))
        known.append(run)
        repeated = None if repeated is None or run is None else max(repeated, run)
    totals = [one.get("all_runs_epsilon") for one in (body, *log.all("budget"))]  # a run may be charged again
    found_totals = [_bound(total) for total in totals if total is not None]
    every = max((-1.0 if total is None else total for total in found_totals), default=None)
    every = None if every is None or None in found_totals else every
    known += found_totals
    delta = number(body.get("delta"))
    if delta is None or not 0 <= delta < 1:
        delta = None
    found = [value for value in known if value is not None]
    bounded = len(found) == len(known) and unit and delta is not None
    data = log.first("data")
    train = mapping(mapping(data.get("splits")).get("train"))
    window, steps = number(data.get("window_steps")), number(train.get("steps"))
    many = {
        "patient": number(train.get("units")),
        "site": float(len(items(data.get("sites")))) or None,
        "record": steps / window if steps and window and window >= 1 else None,
    }
    noise = str(body.get("noise") or "")
    return Promise(
        unit=unit,
        epsilon=max(found) if bounded else None,
        once=once,
        training=_bound(body.get("training_epsilon")),
        delta=delta,
        noise=noise if noise in ("seed", "system") else "",
        repetitions=repetitions,
        other_runs=every is not None and (repeated is None or every > repeated),
        every=every,
        window=window,
        units=many.get(unit),
        distributed=body.get("distributed") is not False and "distributed" in body,
        body=body,
    )


def _bound(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and found >= 0 else None


def attackers_of(log: Log) -> list[Attacker]:
    """All audits of the log, in order; none is left out for a later one that found less."""
    promise = promise_of(log)
    return [attacker_of(body, promise) for body in log.all("audit")]


def attacker_of(body: Mapping[str, Any], promise: Promise | None) -> Attacker:
    """One audit, read beside what was promised (None: nothing, or it is not known)."""
    value, low, high, floor = (number(body.get(key)) for key in ("value", "low", "high", "floor"))
    if low is not None and high is not None and low > high:
        low = high = None
    measured = str(body.get("measured") or "")
    in_epsilon = "epsilon" in measured.lower() or "\u03b5" in measured
    up = body.get("larger_is_worse")
    if not isinstance(up, bool):  # an error is the smaller the more was reached
        up = "error" not in measured.lower()
    claimed = _bound(body.get("claimed_epsilon"))
    if claimed is None and promise is not None:
        claimed = promise.epsilon
    in_time = "until" in measured.lower()
    most = _allowed(body, promise, measured, floor)
    if in_epsilon:
        most = claimed
    claim: Literal["broken", "doubted", "kept", ""] = ""
    if most is not None and value is not None:
        least = value if low is None else low
        claim = "broken" if least > most else "doubted" if value > most else "kept"
    if body.get("contradicts") is True:
        claim = "broken"
    return Attacker(
        name=str(body.get("name") or ""),
        measured=measured,
        value=value,
        low=low,
        high=high,
        floor=floor,
        claimed=claimed,
        reached="yes" if in_time and value is None else _reached(value, low if up else high, floor, up),
        claim=claim,
        in_epsilon=in_epsilon,
        in_time=in_time,
        body=dict(body),
    )


def _allowed(
    body: Mapping[str, Any], promise: Promise | None, measured: str, floor: float | None
) -> float | None:
    """The most that membership inference may name by the claim: e^epsilon · false positives + delta."""
    told = "false positive" in measured.lower() and str(body.get("floor_words")) == "guessing"
    if not told or promise is None or promise.unit != "record" or floor is None:
        return None
    if promise.training is None or promise.delta is None or not 0 < floor < 1:
        return None
    return math.exp(min(promise.training, 50.0)) * floor + promise.delta


def _reached(value: float | None, end: float | None, floor: float | None, up: bool) -> Reached:
    """Whether an attacker did better than its floor, with its whole interval or by the estimate alone.

    By more than a thousandth of the floor: less than that is hardly to be seen in the figures that are shown.
    """
    if value is None or floor is None:
        return "unknown"
    sign, least = 1 if up else -1, _SHOWN * abs(floor)
    if end is not None and sign * (end - floor) > least:
        return "yes"
    return "unsure" if sign * (value - floor) > least else "no"


def level_of(promise: Promise, attackers: list[Attacker]) -> Level:
    """The most that may be said of a promise."""
    if promise.epsilon is None or promise.delta is None or not math.isfinite(promise.epsilon):
        return "unbounded"
    claims = {one.claim for one in attackers}
    if "broken" in claims:
        return "refuted"
    if "doubted" in claims:
        return "doubted"
    if promise.noise != "system":
        return "simulated"
    if promise.epsilon > _MIDDLING or delta_is_large(promise):
        return "weak"
    return "strict" if promise.epsilon <= _STRICT else "middling"


def delta_is_large(promise: Promise) -> bool:
    """Whether delta alone may give somebody away: it should be far below one over all units."""
    delta, units = promise.delta or 0.0, promise.units or 0.0
    return delta > _DELTA or delta * units >= 1
