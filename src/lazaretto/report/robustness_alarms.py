"""What attacks cost the plan's rule at its alarm threshold, which a ranking does not show."""

from __future__ import annotations

from typing import Any

from lazaretto.report.blocks import Cell, Column, Grid, Row
from lazaretto.report.formats import NOT_AVAILABLE, mapping, triple, words
from lazaretto.report.parts import cell
from lazaretto.report.robustness_reading import Found

__all__ = ["alarms_under_attack"]


def alarms_under_attack(found: Found) -> Grid | None:
    """A row without an attack and one for each attack that was tried; None where none was."""
    tried = [(name, found.at(found.own, name, found.share)) for name in found.attacks]
    rows = [_row(words(name), body) for name, body in tried if body]
    if not rows:
        return None
    honest = found.honest(found.own)
    return Grid(
        caption=f"At the alarm threshold: {found.own} under every attack, {found.who()} hostile",
        first="Attack",
        columns=(
            Column(title="AUROC lost"),
            Column(title="F1 lost"),
            Column(title="F1"),
            Column(title="Recall"),
            Column(title="Normal steps that alarm"),
        ),
        rows=(_row("no attack", honest), *rows),
        note="Below each value its 95 % interval. Losses are paired on the seeds of their attack; a row with "
        "more seeds, as that without an attack, may differ from another by more than what was lost. "
        "Lies about scores move agreed thresholds and no ranking: they show here and not in AUROC.",
    )


def _row(head: str, body: dict[str, Any]) -> Row:
    lost = mapping(body.get("lost"))
    losses = [triple(lost.get(name)) for name in ("auroc", "f1")]
    return Row(
        head=head,
        cells=(
            *(Cell(text=NOT_AVAILABLE) if one is None else cell(one, 3) for one in losses),
            *(cell(triple(body.get(name)), 3) for name in ("f1", "recall", "false_positive_rate")),
        ),
    )
