"""Figures of rules against attacks: a heat map of losses, and panels over the share of hostile sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lazaretto.report.drawing import put, span, text_width, ticks
from lazaretto.report.formats import Triple, plain, short
from lazaretto.report.svg import COLOURS, NARROW, WIDE, axes, sheet

__all__ = ["HeatRow", "SharePanel", "heat_map", "share_panels"]

_DARKEST = 0.62  # of the colour, so that ink stays readable on it
_FULL = 0.4  # a loss of so much has the darkest cell


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatRow:
    """One rule: what it loses under each attack (None: not tried), and which of them is its worst."""

    name: str
    values: tuple[float | None, ...]
    worst: int | None
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SharePanel:
    """One rule, or one family: a value at each share, and what stands under its name.

    beside: what is drawn dashed in this panel, or None for what is in all of them.
    """

    name: str
    about: str
    values: tuple[Triple | None, ...]
    ours: bool = False
    beside: tuple[Triple | None, ...] | None = None


def heat_map(rows: Sequence[HeatRow], columns: Sequence[str], wide: bool) -> Figure:
    """A cell for each rule and attack, in hundredths; the darker, the more is lost. Framed: a rule's worst.

    What is gained, or lost by less than half a hundredth, has no colour.
    """
    width, down = (WIDE, 24) if wide else (NARROW, 22)
    names = [short(row.name, 28 if wide else 17) for row in rows]
    heads = [short(column, 20) for column in columns]
    ours = [name for name, row in zip(names, rows, strict=True) if row.ours]
    left = max(1.02 * text_width(names), text_width(ours, bold=True)) + 12
    across = min((width - left - 8) / max(len(columns), 1), 52)
    top = text_width(heads) + 14
    figure = sheet(width, top + down * len(rows) + 12)
    plot = axes(figure, left, top, across * len(columns), down * len(rows))
    plot.set_xlim(0, len(columns))
    plot.set_ylim(len(rows), 0)
    plot.set_axis_off()
    for place, head in enumerate(heads):
        put(
            figure,
            left + across * (place + 0.5),
            top - 6,
            head,
            rotation=90,
            ha="center",
            va="bottom",
        )
    size = 9.0 if across >= 24 else 6.5
    for line, row in enumerate(rows):
        colour = COLOURS["ours"] if row.ours else COLOURS["ink"]
        weight = "bold" if row.ours else "normal"
        middle = top + down * (line + 0.5)
        put(figure, left - 8, middle, names[line], ha="right", color=colour, fontweight=weight)
        for place, value in enumerate(row.values):
            _cell(plot, (place, line), value, framed=place == row.worst)
            text = "–" if value is None else plain(100 * value, 0)
            ink = COLOURS["soft"] if value is None else COLOURS["ink"]
            put(figure, left + across * (place + 0.5), middle, text, ha="center", color=ink, fontsize=size)
    return figure


def _cell(plot: Axes, place: tuple[int, int], value: float | None, *, framed: bool) -> None:
    x, y = place[0] + 0.04, place[1] + 0.05
    loss = min(max(value or 0.0, 0.0) / _FULL, 1.0)
    if value is not None and round(100 * value) > 0:
        plot.add_patch(
            Rectangle(
                (x, y),
                0.92,
                0.9,
                facecolor=COLOURS["alarm"],
                alpha=0.06 + (_DARKEST - 0.06) * loss,
                linewidth=0,
            )
        )
    edge = COLOURS["ink"] if framed else COLOURS["grid"]
    plot.add_patch(
        Rectangle((x, y), 0.92, 0.9, facecolor="none", edgecolor=edge, linewidth=1.2 if framed else 0.6)
    )


def share_panels(
    panels: Sequence[SharePanel],
    places: Sequence[float],
    reference: tuple[str, Sequence[Triple | None]],
    title: str,
    wide: bool,
) -> Figure:
    """A small panel for each rule or family: its value over how many are hostile, with 95 % intervals.

    places: where each value stands on the axis (so many sites, or percent of them), in order.
    reference: name and values of what is drawn dashed, in all panels but those with their own.
    title: of the values.
    """
    columns = 4 if wide else 2
    width, left, top, height = (WIDE if wide else NARROW), 34, (54 if wide else 70), 84
    across, down = (width - left - 4) / columns, height + 64
    figure = sheet(width, top + -(-len(panels) // columns) * down - 14)
    dashed = [reference[1] if panel.beside is None else panel.beside for panel in panels]
    every = [value for line in (*dashed, *(panel.values for panel in panels)) for value in line]
    ends = [e for v in every if v is not None for e in (v.value, v.low, v.high) if e is not None]
    limits = span(ends, ceiling=1.0, floor=0.0)
    air = 0.05 * (max(places) - min(places)) or 1.0
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        x, y = left + across * column, top + row * down
        plot = axes(figure, x, y, across - 40, height)
        plot.set_xlim(min(places) - air, max(places) + air)
        plot.set_ylim(*limits)
        plot.grid(True, axis="y")
        _line(plot, places, dashed[number], COLOURS["other"], (0, (3, 2)))
        _line(plot, places, panel.values, COLOURS["ours"], "-")
        ticks(plot, "y", most=3)
        ticks(plot, "x", places)
        if column:
            plot.tick_params(axis="y", labelleft=False)
        weight = "bold" if panel.ours else "normal"
        room = int((across - 14) / 6.4)
        put(figure, x, y - 22, short(panel.name, room), fontweight=weight)
        put(figure, x, y - 8, short(panel.about, room), color=COLOURS["soft"], fontsize=8.0)
    put(figure, left, 10, title, fontweight="bold")
    if any(value is not None for line in dashed for value in line):
        note = f"dashed: {reference[0]}"
        put(figure, width - 6 if wide else left, 10 if wide else 24, note, ha="right" if wide else "left")
    return figure


def _line(
    plot: Axes, xs: Sequence[float], values: Sequence[Triple | None], colour: str, dash: object
) -> None:
    there = [(x, value) for x, value in zip(xs, values, strict=True) if value is not None]
    solid = dash == "-"
    plot.plot(
        [x for x, _ in there],
        [value.value for _, value in there],
        color=colour,
        linestyle=dash,
        linewidth=1.6 if solid else 0.9,
        marker="o" if solid else None,
        markersize=3.5,
        clip_on=not solid,
    )
    for x, value in there:
        if solid and value.low is not None and value.high is not None:
            plot.plot([x, x], [value.low, value.high], color=colour, linewidth=1)
