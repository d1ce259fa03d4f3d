"""Section on who was flagged and quarantined, and when, in a sweep of rules against attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from lazaretto.report.blocks import Block, Cell, Column, Grid, Row, Section
from lazaretto.report.formats import NOT_AVAILABLE, count, fixed, items, mapping, number, words
from lazaretto.report.parts import nothing
from lazaretto.report.reading import Log
from lazaretto.report.robustness_reading import Found

__all__ = ["who_was_noticed"]

_COLUMNS = (
    Column(title="Hostile flagged", hint="of all; median round"),
    Column(title="Hostile quarantined", hint="of all; median round, last"),
    Column(title="Honest flagged", hint="ever"),
    Column(title="False quarantines", hint="honest sites, ever"),
    Column(title="Longest", hint="rounds, an honest site"),
)


@dataclass(slots=True)
class _Side:
    """Sites of several trainings: how many, first rounds flagged and quarantined, rounds in quarantine."""

    sites: int = 0
    flagged: list[float] = field(default_factory=list)
    quarantined: list[float] = field(default_factory=list)
    out: list[float] = field(default_factory=list)


def who_was_noticed(log: Log, found: Found) -> Section:
    """Each rule under its worst attack and without one; the plan's rule under every attack."""
    own, share, who = found.own, found.share, found.who()
    worst = {rule: found.worst[rule] for rule in found.rules if rule in found.worst}
    cells: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for body in log.all("case"):
        place = (str(body.get("rule")), str(body.get("attack")), number(body.get("share")) or 0.0)
        if seen := mapping(body.get("watched")):
            cells.setdefault(place, []).append(seen)
    blocks: list[Block] = []
    for caption, first, rows in (
        (
            f"Each rule under its worst attack, {who} hostile, all seeds",
            "Rule",
            [
                (f"{rule}, {words(attack)}", cells.get((rule, str(attack), share), []), rule == own)
                for rule, attack in worst.items()
            ],
        ),
        (
            "Each rule where nobody is hostile, all seeds",
            "Rule",
            [(rule, cells.get((rule, "none", 0.0), []), rule == own) for rule in worst],
        ),
        (
            f"The plan's rule, {own}, under every attack, {who} hostile",
            "Attack",
            [
                (words(attack), seen, False)
                for (rule, attack, at), seen in cells.items()
                if rule == own and at == share
            ],
        ),
    ):
        lines = tuple(_row(head, seen, ours) for head, seen, ours in rows if seen)
        if lines:
            blocks.append(
                Grid(caption=caption, first=first, columns=_COLUMNS, rows=lines, wide=True, note=_NOTE)
            )
    return Section(
        name="noticed",
        title="Who was noticed, and when",
        nav="Noticed",
        blocks=tuple(blocks) or (nothing(log, "No training was watched."),),
    )


_NOTE = (
    "A flag says that something is odd, in words; a quarantine follows from trust over many rounds, where "
    "the rule can suspect anybody. Rounds count from 1. A site that is never quarantined counts in no median."
)


def _row(head: str, trainings: Sequence[dict[str, Any]], ours: bool) -> Row:
    hostile, honest = _Side(), _Side()
    kept = any(one.get("reputation") is True for one in trainings)
    for one in trainings:
        for site in map(mapping, items(one.get("sites"))):
            side = hostile if site.get("hostile") is True else honest
            side.sites += 1
            for into, key in ((side.flagged, "flagged"), (side.quarantined, "quarantined")):
                if (found := number(site.get(key))) is not None:
                    into.append(found)
            side.out.append(number(site.get("rounds_out")) or 0.0)
    none = Cell(text=NOT_AVAILABLE, tone="faint")
    longest = max(honest.out, default=0.0)
    return Row(
        head=head,
        cells=(
            _counted(hostile.flagged, hostile.sites),
            _counted(hostile.quarantined, hostile.sites, last=True) if kept else none,
            _counted(honest.flagged, honest.sites),
            _counted(honest.quarantined, honest.sites) if kept else none,
            Cell(text=fixed(longest, 0)) if kept else none,
        ),
        ours=ours,
    )


def _counted(rounds: Sequence[float], sites: int, *, last: bool = False) -> Cell:
    """So many of so many; below, in which round half of those were."""
    if not sites:
        return Cell(text=NOT_AVAILABLE, tone="faint")
    under = f"round {fixed(median(rounds), 0)}" if rounds else "never"
    if last and rounds:
        under += f", last {fixed(max(rounds), 0)}"
    return Cell(text=f"{count(len(rounds))} of {count(sites)}", under=under)
