"""How many attacks there are and alarm, how long was watched: what intervals, delays and rates rest on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lazaretto.report.formats import (
    Triple,
    count,
    counted,
    duration,
    interval_text,
    items,
    mapping,
    number,
    places,
    words,
)
from lazaretto.report.reading import (
    OURS,
    Log,
    Metric,
    called,
    group_word,
    is_timed,
    measured,
    step_seconds,
    system_key,
)

__all__ = [
    "FEWEST_DAYS",
    "false_alarms_text",
    "few_families_text",
    "few_units_text",
    "knowing_nothing",
    "none_found",
    "raised",
    "raised_text",
    "smoothing_text",
    "told",
    "untold_text",
    "watched_days",
]

_DAY_SECONDS = 86_400.0
FEWEST_DAYS = 1.0  # of watching, below which a rate by the day is mostly made up
_FEWEST_UNITS = 20  # with attacks, below which resampling them tells too little of how they differ


def raised(log: Log, system: str = OURS) -> tuple[int, int]:
    """How many attacks have a step above its threshold, of how many, in all seeds; (0, 0) if unknown."""
    for body in log.all("latency"):
        if system_key(body.get("system", OURS)) == system:
            found = len(items(body.get("steps")))
            return found, int(number(body.get("campaigns")) or found + (number(body.get("missed")) or 0))
    return 0, 0


def none_found(log: Log, body: dict[str, Any], system: str = "") -> bool:
    """Whether no attack has a step above the threshold: then there is no delay, only the attacks' length.

    body: metrics at one threshold. system: whose latency record belongs to that threshold, "" for none.
    """
    missed, recall = measured(body, "missed"), measured(body, "recall")
    found, of = raised(log, system) if system else (0, 0)
    if missed is not None or of:
        return not found if of else missed is not None and missed.value >= 1
    return recall is not None and recall.value <= 0  # an older log, or means over sites


def told(log: Log, body: dict[str, Any], metric: Metric, system: str = "") -> Triple | None:
    """`measured`, without a delay where nothing was found and a rate by the day where little was watched.

    body, system: as in `none_found`.
    """
    if metric.keys[0] == "latency_steps" and none_found(log, body, system):
        return None
    if metric.keys[0] == "false_alarms_per_device_day" and _hardly_watched(log):
        return None
    return measured(body, metric)


def untold_text(log: Log, rows: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """What `told` left out of a table, as sentences that begin with a space; "" for none.

    rows: (system, body) as there.
    """
    rows, days, said = list(rows), watched_days(log), ""
    late = [none_found(log, body, system) for system, body in rows if measured(body, "latency_steps")]
    if any(late) and is_timed(log):
        said += " Latency is n/a where no attack has a step above the threshold."
    rated = any(measured(body, "false_alarms_per_device_day") for _, body in rows)
    if rated and days is not None and _hardly_watched(log):
        time = duration(days * _DAY_SECONDS)
        said += f" No rate of false alarms: {time} of normal steps are too few to tell."
    return said


def _hardly_watched(log: Log) -> bool:
    days = watched_days(log)
    return days is not None and days < FEWEST_DAYS


def false_alarms_text(log: Log, false: Triple | None) -> str:
    """A rate of false alarms as a phrase, or that too little was watched for one; "" without a rate."""
    if not false:
        return ""
    days = watched_days(log)
    if days is None or not _hardly_watched(log):
        return f"{interval_text(false, places([false], ratio=False))} false alarms per device and day"
    return f"a rate of false alarms that {duration(days * _DAY_SECONDS)} of normal steps are too few to tell"


def raised_text(log: Log) -> str:
    """When an alarm is raised, as the beginning of a sentence that goes on with a rate of false ones."""
    many = smoothing_text(log)
    if many.startswith("1 of"):
        return "Each step above the threshold raises an alarm, which gives"
    return f"An alarm is raised once {many or 'several steps'} are above it, which gives"


def smoothing_text(log: Log) -> str:
    """How many of how many steps raise an alarm, as "3 of the last 5 steps"; "" where the plan is silent."""
    asked = mapping(mapping(log.last("run").get("plan")).get("evaluate"))
    k, m = number(asked.get("alarm_k")), number(asked.get("alarm_m"))
    return f"{count(k)} of the last {count(m)} steps" if k and m else ""


def few_units_text(log: Log) -> str:
    """That few test units hold an attack, as a sentence; "" where they are enough, or not counted.

    Of the seed with fewest.
    """
    held = [number(test.get("attacked_units")) for test in _tests(log)]
    found = min((one for one in held if one is not None), default=None)
    if not found or found >= _FEWEST_UNITS:
        return ""
    each = " with each seed" if len(held) > 1 else ""
    return (
        f"All these figures rest on {counted(found, 'test unit')} with {called(log)[0]}{each}: from fewer "
        f"than {_FEWEST_UNITS}, intervals tend to be too narrow."
    )


def few_families_text(log: Log) -> str:
    """Which families few test units hold, as sentences; "" where there is none, or they are not counted."""
    found: dict[str, float] = {}
    for test in _tests(log):
        for name, held in mapping(test.get("families")).items():
            units = number(held)
            if units:  # a family that nothing holds has no figure
                found[name] = min(units, found.get(name, units))
    few = [f"{words(name)} {count(units)}" for name, units in found.items() if units < _FEWEST_UNITS]
    if not few:
        return ""
    least = " (with the seed that has fewest)" if len(_tests(log)) > 1 else ""
    return (
        f"Test units that hold a {group_word(log)}, where they are fewer than {_FEWEST_UNITS}{least}: "
        f"{', '.join(few)}. Their intervals tend to be too narrow."
    )


def _tests(log: Log) -> list[dict[str, Any]]:
    """What the test split holds with each seed."""
    return [mapping(mapping(data.get("splits")).get("test")) for data in log.all("data")]


def knowing_nothing(log: Log) -> tuple[float, float] | None:
    """AUPRC of guessing, and accuracy of one answer to all; means over seeds, as the figures beside them are.

    None where a seed's test steps are not counted, or are all alike.
    """
    counts = [(number(test.get("steps")), number(test.get("attacked_steps"))) for test in _tests(log)]
    shares = [positive / steps for steps, positive in counts if steps and positive is not None]
    if not shares or len(shares) < len(counts) or not all(0 < share < 1 for share in shares):
        return None
    seeds = len(shares)
    return sum(shares) / seeds, sum(max(share, 1 - share) for share in shares) / seeds


def watched_days(log: Log) -> float | None:
    """Device-days of normal test steps, None where steps have no clock or no count.

    Of the seed with fewest: seeds may judge the very same steps, which are watched once however often.
    """
    seconds, found = step_seconds(log), []
    for test in _tests(log):
        whole, attacked = number(test.get("steps")), number(test.get("attacked_steps"))
        if whole is None or attacked is None:
            return None
        found.append(whole - attacked)
    steps = min(found, default=0.0)
    return steps * seconds / _DAY_SECONDS if seconds and steps else None
