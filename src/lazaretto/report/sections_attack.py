"""Section on single attacks, step by step: a detected one, and one where traffic and record disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazaretto.report.blocks import STAYS, Block, Picture, Section
from lazaretto.report.figures_run import Story, timeline
from lazaretto.report.formats import duration, fixed, items, mapping, number, words
from lazaretto.report.parts import picture, untimed
from lazaretto.report.reading import OURS, Log, is_outcome, step_seconds, system_key, system_name

__all__ = ["attack"]

_DISAGREE = (
    "Traffic and record disagree: one alone raises the alarm, the other never does, and both together do. "
    "That was so in {} of the first seed's {} attacks; this is the one of median delay."
)


def attack(log: Log) -> Section | None:
    """One attack with the score of every step; None for an outcome."""
    if is_outcome(log):
        return None
    title = "One attack, step by step"
    blocks: list[Block] = []
    for place, body in enumerate(log.all("timeline")[:3]):
        if figure := _timeline(body, place, step_seconds(log)):
            blocks.append(figure)
    blocks = blocks or [untimed(log, "No attack was recorded step by step.")]
    return Section(name="timeline", title=title, nav="Timeline", blocks=tuple(blocks))


def _timeline(body: dict[str, Any], place: int, fallback: float | None) -> Picture | None:
    score = [number(s) for s in items(body.get("score"))]
    steps = [number(s) for s in items(body.get("steps"))] or [float(i) for i in range(len(score))]
    truth = [bool(number(t)) for t in items(body.get("truth"))]
    length = min(len(score), len(steps), len(truth))
    others = mapping(body.get("others"))
    scores = {system_name(OURS): score}
    scores |= {
        system_name(system_key(name)): [number(s) for s in items(line)] for name, line in others.items()
    }
    scores = {name: line[:length] for name, line in list(scores.items())[:3] if len(line) >= length}
    if length < 2 or None in steps[:length] or any(None in line for line in scores.values()):
        return None
    seconds = number(body.get("step_seconds")) or fallback
    given = mapping(body.get("other_thresholds"))
    limits = [number(body.get("threshold"))]
    limits += [number(given.get(name)) for name in others][: len(scores) - 1]
    onset = number(body.get("onset_step"))
    read = [
        _first_above(steps[:length], line, limit, (onset, truth[:length]), seconds)
        for line, limit in zip(scores.values(), limits, strict=True)
    ]
    story = Story(
        steps=tuple(steps[:length]),  # type: ignore[arg-type]
        truth=tuple(truth[:length]),
        scores=tuple((name, tuple(line)) for name, line in scores.items()),  # type: ignore[arg-type]
        thresholds=tuple(limits),
        alarms=tuple(alarm for alarm, _ in read),
        said=tuple(said for _, said in read),
    )
    unit = "step" + (f" (one step is {duration(seconds)})" if seconds else "")
    family, site = words(body.get("family") or "an attack"), body.get("site")
    name = f"{family[:1].upper()}{family[1:]}: {body.get('unit', 'one unit')}" + (f", {site}" if site else "")
    finding = f"Federated split: {read[0][1] or 'no threshold was recorded'}."
    caption = (
        "Score of every step. Shaded: under attack. Dashed: the threshold, set on validation units. Triangle:"
        " first step above it while under attack. One case shows how it works; it proves nothing by itself."
    )
    if found := number(body.get("of")):
        attacks = round(number(body.get("campaigns")) or 0)
        caption = f"{_DISAGREE.format(round(found), attacks)} {caption}"
    return picture(
        f"timeline{place}", (name, caption, finding), lambda wide: timeline(story, unit, wide), STAYS
    )


def _first_above(
    steps: Sequence[float | None],
    scores: Sequence[float | None],
    threshold: float | None,
    attack: tuple[float | None, Sequence[bool]],
    seconds: float | None,
) -> tuple[float | None, str]:
    """The first step above the threshold under attack, and what is to be said of it.

    attack: its onset, and whether each step is attacked.
    """
    onset, truth = attack
    if threshold is None or onset is None:
        return None, ""
    over = [
        (x, under_attack)
        for x, y, under_attack in zip(steps, scores, truth, strict=True)
        if x is not None and y is not None and y >= threshold
    ]
    early = [x for x, _ in over if x < onset]
    false = f"; {len(early)} false before" if early else ""
    late = [x for x, under_attack in over if under_attack and x >= onset]
    if not late:
        return None, f"not detected{false}"
    delay = late[0] - onset
    time = f" = {duration(delay * seconds)}" if seconds else ""
    after = (
        "above the threshold at onset"
        if delay == 0
        else f"above the threshold {fixed(delay, 0)} {'step' if delay == 1 else 'steps'}{time} after onset"
    )
    return late[0], after + false
