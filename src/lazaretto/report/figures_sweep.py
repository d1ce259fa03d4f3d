"""Figures of a sweep: every draw of every system in a row of dots, and lines over a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from lazaretto.report.drawing import bare, key_above, key_height, looks, put, span, text_width, ticks
from lazaretto.report.formats import Triple, fixed, short
from lazaretto.report.svg import COLOURS, NARROW, WIDE, axes, sheet

__all__ = ["GridLine", "SystemDraws", "draw_dots", "grid_lines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemDraws:
    """One row: values of all draws that did not fail, of the plan as it was (or None) and of the best."""

    name: str
    values: tuple[float, ...]
    start: float | None
    best: float | None
    ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GridLine:
    """One line: a value with its interval (or None) for each place on the axis."""

    name: str
    values: tuple[Triple | None, ...]


def draw_dots(rows: Sequence[SystemDraws], axis: str, wide: bool) -> Figure:
    """A row for each system: a thin mark for each draw, a ring for the plan as it was, a dot for the best."""
    height = 28 if wide else 44
    names = [short(row.name, 26) for row in rows]
    texts = ["" if row.best is None else fixed(row.best, 3) for row in rows]
    left = 1.08 * text_width(names) + 14 if wide else 8
    right = 1.12 * text_width(texts) + 10 if wide else 8
    width = WIDE if wide else NARROW
    figure = sheet(width, height * len(rows) + 48)
    plot = axes(figure, left, 4, width - left - right, height * len(rows))
    plot.set_xlim(*span([value for row in rows for value in row.values], ceiling=1.0, floor=0.0))
    plot.set_ylim(len(rows), 0)
    bare(plot)
    ticks(plot, "x", most=6 if wide else 4)
    plot.set_xlabel(axis)
    for place, row in enumerate(rows):
        y, colour = place + (0.5 if wide else 0.7), COLOURS["ours"] if row.ours else COLOURS["other"]
        plot.plot(
            row.values,
            [y] * len(row.values),
            "|",
            color=colour,
            markersize=9,
            markeredgewidth=1,
            clip_on=False,
        )
        if row.start is not None:
            plot.plot(
                [row.start],
                [y],
                "o",
                markersize=8,
                markerfacecolor="none",
                color=COLOURS["ink"],
                clip_on=False,  # whole also at the edge
            )
        if row.best is not None:
            plot.plot([row.best], [y], "o", markersize=5, color=colour, clip_on=False)
        line = 4 + height * (place + (0.5 if wide else 0.3))
        ink = colour if row.ours else COLOURS["ink"]
        weight = "bold" if row.ours else "normal"
        put(
            figure,
            left - 10 if wide else 8,
            line,
            names[place],
            ha="right" if wide else "left",
            fontweight=weight,
            color=ink,
        )
        at = width - right + 10 if wide else width - 8
        put(figure, at, line, texts[place], ha="left" if wide else "right", fontweight=weight, color=ink)
    return figure


def grid_lines(
    places: Sequence[str], lines: Sequence[GridLine], titles: tuple[str, str], wide: bool
) -> Figure:
    """A line for each of `lines` over `places`, evenly spaced, with 95 % intervals. titles: of x and y.

    Lines stand a little beside each other, so that their intervals can be told apart.
    """
    width, size, left = WIDE if wide else NARROW, 240 if wide else 200, 48
    room = width - left - 24.0
    names = [line.name for line in lines] if len(lines) > 1 else []
    head = 24 + key_height(names, room)
    figure = sheet(width, head + size + 52)
    plot = axes(figure, left, head, room, size)
    put(figure, left, 10, titles[1], fontweight="bold")
    known = [value for line in lines for value in line.values if value is not None]
    ends = [end for value in known for end in (value.value, value.low, value.high) if end is not None]
    plot.set_xlim(-0.4, len(places) - 0.6)
    plot.set_ylim(*span(ends, ceiling=1.0, floor=0.0))
    plot.grid(True, axis="y")
    look = looks([line.name for line in lines], lines[0].name if lines else "")
    for number, line in enumerate(lines):
        shift = 0.03 * (number - (len(lines) - 1) / 2)
        there = [(x + shift, value) for x, value in enumerate(line.values) if value is not None]
        xs, ys = [x for x, _ in there], [value.value for _, value in there]
        style = look[line.name]
        plot.plot(xs, ys, color=style.colour, linestyle=style.dash, linewidth=style.width)
        plot.plot(xs, ys, style.marker, color=style.colour, markersize=5, clip_on=False)
        for x, value in there:
            if value.low is not None and value.high is not None:
                plot.plot([x, x], [value.low, value.high], color=style.colour, linewidth=1)
    plot.set_xticks(range(len(places)), [short(place, 12 if wide else 7) for place in places])
    plot.tick_params(axis="x", length=0, pad=6)
    ticks(plot, "y", most=5)
    plot.set_xlabel(titles[0])
    key_above(figure, [(name, look[name]) for name in names], left, 19, room)
    return figure
