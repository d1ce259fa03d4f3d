"""How many attacks alarm, and how long was watched: what a delay and a rate by the day rest on."""

from __future__ import annotations

from lazaretto.report.formats import Triple, duration, interval_text, items, mapping, number, places
from lazaretto.report.reading import OURS, Log, step_seconds, system_key

__all__ = ["FEWEST_DAYS", "false_alarms_text", "raised", "watched_days"]

_DAY_SECONDS = 86_400.0
FEWEST_DAYS = 1.0  # of watching, below which a rate by the day is mostly made up


def raised(log: Log) -> tuple[int, int]:
    """How many attacks have a step above our threshold, of how many, in all seeds; (0, 0) if unknown."""
    for body in log.all("latency"):
        if system_key(body.get("system", OURS)) == OURS:
            found = len(items(body.get("steps")))
            return found, int(number(body.get("campaigns")) or found + (number(body.get("missed")) or 0))
    return 0, 0


def false_alarms_text(log: Log, false: Triple | None) -> str:
    """A rate of false alarms as a phrase, or that too little was watched for one; "" without a rate."""
    if not false:
        return ""
    days = watched_days(log)
    if days is None or days >= FEWEST_DAYS:
        return f"{interval_text(false, places([false], ratio=False))} false alarms per device and day"
    return f"a rate of false alarms that {duration(days * _DAY_SECONDS)} of normal steps are too few to tell"


def watched_days(log: Log) -> float | None:
    """Device-days of normal test steps, None where steps have no clock or no count.

    Of the seed with fewest: seeds may judge the very same steps, which are watched once however often.
    """
    seconds, found = step_seconds(log), []
    for data in log.all("data"):
        test = mapping(mapping(data.get("splits")).get("test"))
        whole, attacked = number(test.get("steps")), number(test.get("attacked_steps"))
        if whole is None or attacked is None:
            return None
        found.append(whole - attacked)
    steps = min(found, default=0.0)
    return steps * seconds / _DAY_SECONDS if seconds and steps else None
