"""Sentences made from numbers. None says more than an interval allows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lazaretto.report.alarms import false_alarms_text, few_units_text, none_found, raised, raised_text
from lazaretto.report.formats import (
    Triple,
    count,
    duration,
    interval_text,
    items,
    mapping,
    number,
    percent,
    places,
    triple,
    words,
)
from lazaretto.report.privacy_reading import Level, attackers_of, level_of, promise_of
from lazaretto.report.reading import (
    OURS,
    REFERENCES,
    Log,
    Metric,
    called,
    false_positive_rate,
    measured,
    metric_named,
    paired_auroc,
    step_seconds,
    system_key,
    system_name,
    systems,
)
from lazaretto.report.training_words import never_seen, spelled, trained_text, what_is_trained

__all__ = [
    "Comparison",
    "State",
    "against",
    "bound_of",
    "comparisons",
    "headline_seeds",
    "state_of",
    "verdict",
]

State: TypeAlias = Literal["certain", "likely", "unlikely", "missed", "unknown"]

_TARGET = re.compile(
    r"(>=|≥|<=|≤|>|<|at least|at most|no more than|no less than|above|below|within|±)"
    r"\s*([+\-\u2212]?\s*(?:\d+\.?\d*|\.\d+))"
)
_DOUBTS: dict[Level, str] = {  # what weakens a price, and has to stand beside it
    "simulated": ", in a simulation that protects nobody",
    "refuted": ", which an audit refutes",
    "doubted": ", which an audit casts doubt on",
}
_SILENCED = (
    "A summed threshold goes where sites that lie about scores put it, and neither AUROC nor accuracy tells; "
    'evaluate.thresholds = "own" is out of their reach.'
)
_CHANCE = 0.5  # AUROC of guessing
_UPWARD = (">=", "≥", ">", "at least", "no less than", "above")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A claim, what was aimed at, and how it came out.

    With `against`, `difference` is paired, ours minus that system; without, it is a value by itself.
    """

    name: str
    metric: Metric
    against: str
    difference: Triple | None
    target: str
    state: State


def comparisons(log: Log) -> list[Comparison]:
    """The run's paired comparisons, in the order of the log."""
    found, judged = [], systems(log)
    for row in items(log.last("metrics").get("comparison")):
        body = mapping(row)
        difference, target = triple(body), str(body.get("target") or "")
        pair = (OURS, system_key(body.get("against") or ""))
        if body.get("metric") == "latency_steps" and all(none_found(log, judged.get(s, {}), s) for s in pair):
            difference = None  # both have the length of the attacks for a delay
        found.append(
            Comparison(
                name=words(body.get("name") or body.get("metric") or "comparison"),
                metric=metric_named(str(body.get("metric") or "")),
                against=system_key(body.get("against") or ""),
                difference=difference,
                target=target,
                state=state_of(difference, target, body.get("holds"), body.get("certain")),
            )
        )
    return found


def bound_of(target: str) -> float | None:
    """The number in a target's text, None where it is not understood."""
    match = _TARGET.search(target.lower())
    return None if match is None else float(match[2].replace("\u2212", "-").replace(" ", ""))


def state_of(difference: Triple | None, target: str, holds: Any, certain: Any = None) -> State:
    """How a difference stands to its target (">= -0.005", "at most 0", "within 0.01").

    certain: the whole interval meets it. likely: the estimate does. unlikely: only an end of the
    interval does. missed: nothing does. unknown: no estimate. Where the target's text is not
    understood, or contradicts a recorded `holds: false`, the weaker reading is taken.
    """
    if difference is None:
        return "unknown"
    match, bound = _TARGET.search(target.lower()), bound_of(target)
    if match is None or bound is None:
        if holds is None:
            return "unknown"
        return ("certain" if certain is True else "likely") if holds else "missed"
    low, high = (
        (difference.value, difference.value)
        if difference.low is None or difference.high is None
        else (difference.low, difference.high)
    )
    if match[1] in _UPWARD:
        ends, middle = (low >= bound, high >= bound), difference.value >= bound
    elif match[1] in ("within", "±"):
        ends = (max(abs(low), abs(high)) <= abs(bound), low <= abs(bound) and high >= -abs(bound))
        middle = abs(difference.value) <= abs(bound)
    else:
        ends, middle = (high <= bound, low <= bound), difference.value <= bound
    whole, some = ends
    if whole and holds is not False and certain is not False and difference.low is not None:
        return "certain"
    if middle and holds is not False:
        return "likely"
    return "unlikely" if some or middle else "missed"


def against(difference: Triple, metric: Metric) -> str:
    """Whether ours is better, worse or neither, from a paired difference ours minus other."""
    if difference.low is None or difference.high is None:
        return "no interval, so no claim"
    better, worse = (difference.low > 0, difference.high < 0)
    if not metric.up:
        better, worse = worse, better
    return "better" if better else "worse" if worse else "no difference can be shown"


def headline_seeds(log: Log) -> int:
    """Seeds that a headline needs."""
    plan = mapping(mapping(log.last("run").get("plan")).get("run"))
    return int(number(plan.get("headline_seeds")) or 5)


def verdict(log: Log) -> tuple[str, ...]:
    """Paragraphs: what was trained, how well it ranks, when it alarms, against whom; which targets hold."""
    found = systems(log)
    ours = found.get(OURS)
    start = trained_text(log)
    if ours is None:
        return (f"{start} It has not been judged: the run log holds no metrics.",)
    paragraphs = (
        (start, _protected(log)),
        (_quality(log, ours),),
        (_alarms(log, ours),),
        (few_units_text(log),),
        (_pooled(log), _best_other(log, found), _targets(log)),
    )
    said = (" ".join(part for part in parts if part) for parts in paragraphs)
    return tuple(paragraph for paragraph in said if paragraph)


def _protected(log: Log) -> str:
    """Who was hostile on purpose, by what rule, and whose training was private: what explains the figures."""
    plan, attack = mapping(log.last("run").get("plan")), mapping(log.first("data").get("attack"))
    hostile, parts = items(attack.get("sites")), []
    if hostile:
        verb, against = (
            "was" if len(hostile) == 1 else "were",
            f"the rule {mapping(plan.get('aggregate')).get('rule')}",
        )
        if attack.get("kind") == "scores":  # no rule sees what sites say of scores
            how = {
                "median": "the median of votes",
                "own": "each site's own, or the median of votes where a site has too few normal steps",
            }
            agreed = str(mapping(plan.get("evaluate")).get("thresholds"))
            against = f"alarm thresholds that are {how.get(agreed, 'taken from a sum')}"
        parts.append(
            f"{spelled(len(hostile)).capitalize()} of these sites {verb} hostile on purpose "
            f"({words(attack.get('name'))}), against {against}."
        )
    promise = promise_of(log)
    if promise is not None:
        unit = f" by {promise.unit}" if promise.unit else ""
        price = "without a bound" if promise.epsilon is None else f"at ε = {promise.epsilon:.3g}{unit}"
        level = level_of(promise, attackers_of(log))
        parts.append(f"A privacy mechanism was on, priced {price}{_DOUBTS.get(level, '')}; see Privacy.")
    return " ".join(parts)


def _quality(log: Log, ours: dict[str, Any]) -> str:
    units = number(mapping(mapping(log.first("data").get("splits")).get("test")).get("units"))
    each = " per seed" if len(log.all("data")) > 1 else ""
    where = (
        f"On {count(units)} test units{each}{' that took no part in training' if never_seen(log) else ''}"
        if units
        else "On the test data"
    )
    auroc, recall, unseen = (measured(ours, name) for name in ("auroc", "recall", "unseen_at_site.recall"))
    parts = []
    if auroc:
        plain = called(log) == ("attacked steps", "normal steps")
        ranked = "attacked above normal steps" if plain else " above ".join(called(log))
        chance = auroc.low is not None and auroc.high is not None and auroc.low <= _CHANCE <= auroc.high
        guess = ", no better than guessing as far as is shown" if chance else ""
        parts.append(f"it ranks {ranked} with AUROC {_plain(auroc, ratio=True)}{guess}")
    if recall:
        rate = percent(false_positive_rate(log))
        within = f"with {rate} false positives asked for it finds"
        parts.append(f"{within} {_share(recall)} of the {called(log)[0]}")
    if unseen:
        parts.append(f"of families that the site never had in training it finds {_share(unseen)}")
    return f"{where}, {'; '.join(parts)}." if parts else ""


def _alarms(log: Log, ours: dict[str, Any]) -> str:
    delay, false = (measured(ours, name) for name in ("latency_steps", "false_alarms_per_device_day"))
    alarms, length = false_alarms_text(log, false), step_seconds(log)
    found, of = raised(log)
    attacks = f"{count(of)} attacks{' of all seeds' if len(log.all('data')) > 1 else ''}"
    if of and not found:
        none = f"None of the {attacks} has a step above the threshold{f', at {alarms}' if alarms else ''}."
        attack = mapping(log.first("data").get("attack"))
        plan = mapping(mapping(log.last("run").get("plan")).get("evaluate"))
        lied = attack.get("kind") == "scores" and plan.get("thresholds", "sum") == "sum"
        return f"{none} {_SILENCED}" if lied else none
    if not delay:
        return f"It gives {alarms}." if alarms else ""
    time = f" ({duration(delay.value * length)})" if length else ""
    some = f"{count(found)} of {attacks} have a step above the threshold. " if of else ""
    missed = ", missed attacks counted to their end" if found < of else ""
    steps = f"{_plain(delay, ratio=False)} steps{time}"
    late = f"{some}The first step above the threshold comes {steps} after onset on average{missed}."
    return f"{late} {raised_text(log)} {alarms}." if alarms else late


def _pooled(log: Log) -> str:
    for row in comparisons(log):
        if row.against == "pooled" and row.metric.keys[0] == "auroc" and row.difference:
            other = "the same model trained on pooled data"
            return f"The {what_is_trained(log)}'s AUROC, compared with {other}, {_outcome(row.difference)}."
    return ""


def _best_other(log: Log, found: dict[str, dict[str, Any]]) -> str:
    scores = {
        name: score
        for name, body in found.items()
        if name not in (OURS, *REFERENCES) and (score := measured(body, "auroc"))
    }
    ours = measured(found[OURS], "auroc")
    if not scores or ours is None:
        return ""
    best = max(scores, key=lambda name: scores[name].value)
    who = f"the best of the {spelled(len(scores))} other models, {system_name(best)}"
    if len(scores) == 1:
        who = f"the other model, {system_name(best)}"
    paired = _paired_auroc(log, best)
    if paired is not None:
        return f"The {what_is_trained(log)}'s AUROC, compared with {who}, {_outcome(paired)}."
    other = scores[best]
    text = f"{who[:1].upper()}{who[1:]}, has AUROC {_plain(other, ratio=True)}"
    if None in (ours.low, ours.high, other.low, other.high):
        return f"{text}; without intervals no more can be said."
    apart = max(ours.low or 0, other.low or 0) > min(ours.high or 0, other.high or 0)
    if not apart:
        return f"{text}; the intervals overlap, and without a paired difference neither is said to be better."
    outcome = "higher" if ours.value > other.value else "lower"
    return f"{text}; ours is {outcome}, and the intervals do not overlap."


def _outcome(difference: Triple) -> str:
    """What a paired difference in AUROC shows, ours minus other."""
    text = f"(paired difference {interval_text(difference, 3, sign=True)})"
    judged = against(difference, metric_named("auroc"))
    said = {
        "better": "is higher",
        "worse": "is lower",
        "no difference can be shown": "is not shown to differ",
    }
    return f"{said.get(judged, 'has no interval, so that no claim is made')} {text}"


def _paired_auroc(log: Log, name: str) -> Triple | None:
    if name in (paired := paired_auroc(log)):
        return paired[name]
    margin = mapping(mapping(log.last("metrics").get("margin_over_best_deep")).get("auroc"))  # older logs
    if system_key(margin.get("baseline", "")) == name and (found := triple(margin)):
        return found
    for row in comparisons(log):
        if row.against == name and row.metric.keys[0] == "auroc":
            return row.difference
    return None


def _targets(log: Log) -> str:
    rows = [row for row in comparisons(log) if row.against]
    if not rows:
        return ""
    phrases: dict[State, str] = {
        "certain": "met with the whole interval",
        "likely": "met by the estimate but not by the whole interval",
        "unlikely": "not met by the estimate, though the interval reaches it",
        "missed": "missed",
        "unknown": "not measured",
    }
    if len(rows) == 1:
        return f"The one target ({rows[0].name}) is {phrases[rows[0].state]}."
    states = {row.state for row in rows}
    if len(states) == 1:
        every = "Both" if len(rows) == 2 else f"All {spelled(len(rows))}"
        return f"{every} targets are {phrases[states.pop()]}."
    parts = []
    for state, phrase in phrases.items():
        found = [_titled(row, rows) for row in rows if row.state == state]
        if found:
            listed = "" if state == "certain" else f" ({'; '.join(found)})"
            parts.append(f"{spelled(len(found))} {'is' if len(found) == 1 else 'are'} {phrase}{listed}")
    return f"Of {spelled(len(rows))} targets, {_listed(parts)}."


def _titled(row: Comparison, rows: list[Comparison]) -> str:
    """The name of a target, and against whom where several bear the same name."""
    shared = sum(other.name == row.name for other in rows) > 1
    return f"{row.name}, {system_name(row.against)}" if shared else row.name


def _share(value: Triple) -> str:
    if value.low is None or value.high is None:
        return percent(value.value)
    low, high = (percent(end, 0).partition("\u202f")[0] for end in (value.low, value.high))
    return f"{percent(value.value, 0)} [{low}, {high}]"


def _plain(value: Triple, *, ratio: bool) -> str:
    return interval_text(value, places([value], ratio=ratio))


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, and {parts[-1]}"
