"""What was trained, on what and how far: the sentence with which a report begins."""

from __future__ import annotations

from lazaretto.report.formats import count, items, mapping, number
from lazaretto.report.reading import OURS, Log, is_outcome, is_unfinished, sites_of, system_key

__all__ = ["never_seen", "spelled", "trained_text", "what_is_trained"]


def trained_text(log: Log) -> str:
    """Who trained a detector on what, or how far they came; or that one was brought along."""
    sites, seeds = sites_of(log), items(log.last("run").get("seeds"))
    source = str(log.first("data").get("source") or "the data")
    if _judged_only(log):
        kept = log.last("run").get("relation") == "same"
        new = ", on units that its training kept for testing" if kept else ", data that it never saw"
        known = new if never_seen(log) else ""
        return f"A trained {what_is_trained(log)} is judged here on {source}{known}."
    who = (
        f"{spelled(len(sites)).capitalize()} sites"
        if len(sites) > 1
        else "One site"
        if sites
        else "The sites"
    )
    runs = f" ({count(len(seeds))} seeds)" if len(seeds) > 1 else " (one seed)" if seeds else ""
    did, far = _done(log, many=len(sites) != 1)
    return f"{who} {did} one {what_is_trained(log)} on {source} without pooling their data{runs}{far}."


def what_is_trained(log: Log) -> str:
    """A detector; of what becomes of patients, where nothing is detected, a model."""
    return "model" if is_outcome(log) else "detector"


def _done(log: Log, *, many: bool) -> tuple[str, str]:
    """What the sites did, and in an unfinished run how far they came when the page was written."""
    if not is_unfinished(log) or log.all("metrics"):
        return "trained", ""
    wanted = [str(seed) for seed in items(log.last("run").get("seeds"))]
    rounds = [body for body in log.all("round") if system_key(body.get("system", OURS)) == OURS]
    ended = {str(body.get("seed")) for body in rounds if _is_last(body.get("round"), body.get("rounds"))}
    if not rounds:
        return f"{'are' if many else 'is'} to train", ": no round had ended when this page was written"
    if not wanted or set(wanted) - ended:
        return "began to train", ": the training had not ended when this page was written"
    return "trained", ""


def _is_last(place: object, whole: object) -> bool:
    at, of = number(place), number(whole)
    return at is not None and of is not None and at >= of


def _judged_only(log: Log) -> bool:
    """Whether a model that was trained elsewhere is judged here on data it never saw."""
    train = mapping(mapping(log.first("data").get("splits")).get("train"))
    return not log.all("round") and number(train.get("units")) == 0


def never_seen(log: Log) -> bool:
    """False where a trained model is judged on data that may hold what it was trained on."""
    return log.last("run").get("unseen") is not False


def spelled(number_of: int) -> str:
    """A small number as a word."""
    names = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return names[number_of] if number_of < len(names) else str(number_of)
