"""Recall of each attack family over how many sites are hostile: of the plan's rule, and most lost by each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from lazaretto.report.blocks import Block, Cell, Column, Grid, Picture, Row
from lazaretto.report.figures_robustness import SharePanel, share_panels
from lazaretto.report.formats import (
    NOT_AVAILABLE,
    Triple,
    fixed,
    items,
    mapping,
    plain,
    seeds_text,
    triple,
    words,
)
from lazaretto.report.parts import picture
from lazaretto.report.robustness_reading import MEAN, Found, axis_of, bodies_over_shares, most_lost

__all__ = ["classes_over_shares"]

_Line: TypeAlias = tuple[Triple | None, ...]  # a value at each share


def classes_over_shares(found: Found) -> list[Block]:
    """A panel for each family under the plan's rule; for each rule which family lost most at each share."""
    own, lost = _own(found), _lost(found)
    return [block for block in (own, lost) if block is not None]


def _own(found: Found) -> Picture | None:
    """None where the plan's rule was not tried, or has no recall by family."""
    shares, places, axis = axis_of(found)
    lines = _lines(found, found.own, shares)
    if found.own not in found.rules or not lines:
        return None
    beside = _lines(found, MEAN, shares)
    most, finding = _falls(found, lines, shares[-1])
    panels = [
        SharePanel(
            name=words(name),
            about=_ends(line),
            values=line,
            ours=name == most,
            beside=beside.get(name, (None,) * len(shares)),
        )
        for name, line in lines.items()
    ]
    caption = (
        f"{found.own} under its own worst attack, {words(found.worst.get(found.own, NOT_AVAILABLE))}; "
        f"{_means(found)}, with 95 % intervals. Below each name recall with nobody hostile and with most. "
        "Bold: what falls most, picked after the fact, so that some of its fall may be chance."
    )
    if beside:
        caption += " Dashed: plain mean under its own worst attack."
    title = f"Recall by family over {axis}"
    return picture(
        "shares-classes",
        (title, caption, finding),
        lambda wide: share_panels(panels, places, ("plain mean", ()), f"Recall by {axis}", wide),
    )


def _lines(found: Found, rule: str, shares: Sequence[float]) -> dict[str, _Line]:
    """Family -> its recall at each share, in the order in which the log has families."""
    bodies = [mapping(body.get("recall_by_class")) for body in bodies_over_shares(found, rule, shares)]
    names = dict.fromkeys(name for body in bodies for name in body)
    lines = {name: tuple(triple(body.get(name)) for body in bodies) for name in names}
    return {name: line for name, line in lines.items() if any(value is not None for value in line)}


def _falls(found: Found, lines: dict[str, _Line], share: float) -> tuple[str | None, str]:
    """The family whose recall falls most from nobody hostile to most, and the sentence that says so."""
    ends = {
        name: (line[0].value, line[-1].value)
        for name, line in lines.items()
        if line[0] is not None and line[-1] is not None
    }
    who = found.who(share)
    if not ends:
        return None, f"With {who} hostile recall by family was not measured."
    most = max(ends, key=lambda name: ends[name][0] - ends[name][1])
    before, after = ends[most]
    if round(before - after, 2) <= 0:
        return None, f"With {who} hostile recall falls by .005 or more in no family."
    fall = f"recall of {words(most)} falls most, from {fixed(before, 2)} to {fixed(after, 2)}"
    return most, f"With {who} hostile {fall}."


def _ends(line: _Line) -> str:
    first, last = line[0], line[-1]
    return " to ".join(NOT_AVAILABLE if end is None else fixed(end.value, 2) for end in (first, last))


def _means(found: Found) -> str:
    seeds = items(found.honest(found.own).get("seeds"))
    return f"{'mean over ' if len(seeds) > 1 else ''}{seeds_text(seeds)}" if seeds else "mean over seeds"


def _lost(found: Found) -> Grid | None:
    """A row for each rule, a column for each number of hostile sites; None where nothing was measured."""
    shares = [share for share in axis_of(found)[0] if share]
    rows = [
        Row(
            head=rule,
            note=words(found.worst.get(rule, "")),
            cells=tuple(_most(body) for body in bodies_over_shares(found, rule, shares)),
            ours=rule == found.own,
        )
        for rule in found.rules
    ]
    if not any(cell.under for row in rows for cell in row.cells):
        return None
    return Grid(
        caption="The family that lost most recall, the more are hostile",
        first="Rule",
        columns=tuple(Column(title=found.who(share), hint="hostile") for share in shares),
        rows=tuple(rows),
        wide=True,
        note="Each rule under its own worst attack, which stands below its name. Recall lost against the "
        f"same rule with nobody hostile, paired on the same units and seeds ({_means(found)}). Red: the 95 % "
        "interval of the loss is above 0. The largest loss of several families is larger by chance than a "
        "loss named beforehand.",
    )


def _most(body: dict[str, Any]) -> Cell:
    family, most = most_lost(mapping(mapping(body.get("lost")).get("recall_by_class")))
    if most is None:
        return Cell(text=NOT_AVAILABLE, tone="faint")
    sure = most.low is not None and most.low > 0
    return Cell(text=plain(most.value, 2), under=words(family), tone="no" if sure else "")
