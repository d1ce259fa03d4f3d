"""Figures of results: intervals, ROC and precision-recall, latency. Each draws wide or narrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lazaretto.report.drawing import Look, bare, key_above, key_height, put, span, text_width, ticks
from lazaretto.report.formats import Triple, duration, interval_text, short
from lazaretto.report.svg import COLOURS, NARROW, WIDE, axes, sheet

__all__ = ["Curve", "Dots", "Steps", "characteristic", "dot_rows", "forest", "latency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """One system in `dot_rows`: a value for every row."""

    name: str
    look: Look
    values: tuple[Triple | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of `characteristic`: `name` carries the area under it."""

    name: str
    look: Look
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """One line of `latency`: sorted steps of detected campaigns, of `campaigns` in all."""

    name: str
    look: Look
    steps: tuple[float, ...]
    campaigns: int


def forest(rows: Sequence[tuple[str, Triple, bool]], axis: str, wide: bool) -> Figure:
    """One interval a row; rows are (name, value, is it ours?). axis: title below."""
    decimals = 3
    height = 26 if wide else 40
    names = [short(name, 26) for name, _, _ in rows]
    texts = [interval_text(value, decimals) for _, value, _ in rows]
    left = 1.08 * text_width(names) + 14 if wide else 8
    right = 1.12 * text_width(texts) + 10 if wide else 8
    width = WIDE if wide else NARROW
    figure = sheet(width, height * len(rows) + 48)
    plot = axes(figure, left, 4, width - left - right, height * len(rows))
    ends = [end for _, value, _ in rows for end in (value.value, value.low, value.high) if end is not None]
    plot.set_xlim(*span(ends, ceiling=1.0, floor=0.0))
    plot.set_ylim(len(rows), 0)
    bare(plot)
    ticks(plot, "x", most=6 if wide else 4)
    plot.set_xlabel(axis)
    for place, (_, value, ours) in enumerate(rows):
        look = COLOURS["ours"] if ours else COLOURS["other"]
        y = place + (0.5 if wide else 0.7)
        if ours and wide:  # where it is narrow, the line would run through the numbers
            plot.axvline(value.value, color=COLOURS["ours"], linewidth=0.8, linestyle=(0, (2, 2)), alpha=0.7)
        _interval(plot, value, y, Look(look, "-", 2.4 if ours else 1.6, "o"), 7 if ours else 5)
        weight = "bold" if ours else "normal"
        colour = look if ours else COLOURS["ink"]
        line = 4 + height * (place + (0.5 if wide else 0.3))
        if wide:
            put(figure, left - 10, line, names[place], ha="right", fontweight=weight, color=colour)
            put(figure, width - right + 10, line, texts[place], fontweight=weight, color=colour)
        else:
            put(figure, 8, line, names[place], fontweight=weight, color=colour)
            put(figure, width - 8, line, texts[place], ha="right", fontweight=weight, color=colour)
    return figure


def dot_rows(labels: Sequence[str], dots: Sequence[Dots], axis: str, wide: bool) -> Figure:
    """Several systems a row, the first with its numbers written out. labels: names of the rows."""
    names = [short(label, 30) for label in labels]
    texts = [interval_text(value, 2) for value in dots[0].values]
    head = 26 + (0 if wide else 18 * ((len(dots) - 1) // 2))
    height = 12 + 11 * len(dots) if wide else 24 + 10 * len(dots)
    left = 1.08 * text_width(names) + 14 if wide else 8
    right = 1.12 * text_width(texts) + 10 if wide else 8
    width = WIDE if wide else NARROW
    figure = sheet(width, head + height * len(names) + 44)
    plot = axes(figure, left, head, width - left - right, height * len(names))
    ends = [e for d in dots for v in d.values if v for e in (v.value, v.low, v.high) if e is not None]
    plot.set_xlim(*span(ends, ceiling=1.0, floor=0.0))
    plot.set_ylim(height * len(names), 0)
    bare(plot)
    ticks(plot, "x", most=6 if wide else 4)
    plot.set_xlabel(axis)
    for row, name in enumerate(names):
        top = height * row
        if row:
            plot.axhline(top, color=COLOURS["grid"], linewidth=0.7)
        for place, one in enumerate(dots):
            value = one.values[row]
            if value is not None:
                first = (height - 11 * (len(dots) - 1)) / 2 if wide else 26
                _interval(
                    plot, value, top + first + (11 if wide else 10) * place, one.look, 6 - 1.5 * (place > 0)
                )
        line = head + top + (height / 2 if wide else 12)
        put(figure, left - 10 if wide else 8, line, name, ha="right" if wide else "left")
        place_right = width - right + 10 if wide else width - 8
        put(
            figure,
            place_right,
            line,
            texts[row],
            ha="left" if wide else "right",
            color=dots[0].look.colour,
            fontweight="bold",
        )
    _marker_key(figure, dots, left, wide)
    return figure


def characteristic(roc: Sequence[Curve], pr: Sequence[Curve], rate: float, wide: bool) -> Figure:
    """ROC beside (wide) or above (narrow) precision and recall. rate: marked share of false positives."""
    size, gap, left = (360, 92, 42) if wide else (280, 74, 42)
    width, beside = (WIDE if wide else NARROW), wide and bool(roc) and bool(pr)
    room = size + gap - 24.0 if wide else 0.0
    heads = [24 + key_height([c.name for c in curves], room) for curves in (roc, pr)]
    if beside:
        heads = [max(heads)] * 2
    second = 0 if beside or not roc else heads[0] + size + gap - 24
    figure = sheet(width, second + (heads[1] if pr else heads[0]) + size + 46)
    if roc:
        plot = axes(figure, left, heads[0], size, size)
        small = [x for curve in roc for x in curve.x if 0 < x <= 2 * rate]
        logarithmic = len(small) >= 4 * len(roc)
        _roc(plot, roc, rate, min(small) if logarithmic else None)
        put(figure, left, 10, "Recall at a share of false positives (ROC)", fontweight="bold")
        key_above(figure, [(c.name, c.look) for c in roc], left, 19, room)
    if pr:
        x = left + size + gap if beside else left
        plot = axes(figure, x, second + heads[1], size, size)
        plot.set_xlim(0, 1)
        plot.set_ylim(0, 1.01)
        _lines(plot, pr, reverse=True)
        key_above(figure, [(c.name, c.look) for c in pr], x, second + 19, room)
        plot.set_xlabel("recall")
        put(figure, x, second + 10, "Precision at a recall", fontweight="bold")
    return figure


def latency(lines: Sequence[Steps], seconds: float | None, wide: bool) -> Figure:
    """Share of campaigns that raised an alarm within so many steps of onset. seconds: length of a step."""
    width, height, left = (WIDE if wide else NARROW), (250 if wide else 240), 42
    room = width - left - 12.0 if wide else 0.0
    head = 24 + key_height([line.name for line in lines], room)
    figure = sheet(width, head + height + 52)
    plot = axes(figure, left, head, width - left - 12, height)
    longest = sorted(step for line in lines for step in line.steps)
    limit = max(longest[int(0.98 * (len(longest) - 1))] * 1.15, 4.0) if longest else 10.0
    plot.set_xlim(0, limit)
    plot.set_ylim(0, 1.01)
    for line in sorted(lines, key=lambda line: line.look.width):
        xs, ys = [0.0], [0.0]
        for place, step in enumerate(line.steps, 1):
            xs.append(step)
            ys.append(place / line.campaigns)
        xs.append(limit)
        ys.append(ys[-1])
        plot.step(
            xs, ys, where="post", color=line.look.colour, linestyle=line.look.dash, linewidth=line.look.width
        )
    plot.grid(True)
    ticks(plot, "x", most=8 if wide else 5)
    ticks(plot, "y", (0, 0.25, 0.5, 0.75, 1))
    key_above(figure, [(line.name, line.look) for line in lines], left, 19, room)
    unit = "" if seconds is None else f"; one step is {duration(seconds)}"
    above = " to the first above the threshold" if wide else ""
    plot.set_xlabel(f"steps from onset{above}{unit}")
    put(figure, left, 10, "Share of attacks detected", fontweight="bold")
    return figure


def _roc(plot: Axes, curves: Sequence[Curve], rate: float, smallest: float | None) -> None:
    plot.set_ylim(0, 1.01)
    if smallest is None:
        plot.set_xlim(0, 1)
    else:
        plot.set_xscale("log")
        plot.set_xlim(max(smallest, rate / 10), 1)
    _lines(plot, curves)
    if smallest is not None:
        ticks(plot, "x", [10.0**power for power in range(-5, 1)], shares=True)
    plot.axvline(rate, color=COLOURS["soft"], linewidth=0.9, linestyle=(0, (2, 2)))
    scale = "" if smallest is None else " (logarithmic)"
    plot.set_xlabel(f"share of false positives{scale}")


def _lines(plot: Axes, curves: Sequence[Curve], reverse: bool = False) -> None:
    plot.grid(True)
    for curve in reversed(curves):  # ours comes first in the key and is drawn last, on top
        plot.plot(
            curve.x, curve.y, color=curve.look.colour, linestyle=curve.look.dash, linewidth=curve.look.width
        )
    ticks(plot, "x", (0, 0.25, 0.5, 0.75, 1))
    ticks(plot, "y", (0, 0.25, 0.5, 0.75, 1))


def _interval(plot: Axes, value: Triple, y: float, look: Look, size: float) -> None:
    if value.low is not None and value.high is not None:
        plot.plot(
            [value.low, value.high],
            [y, y],
            color=look.colour,
            linewidth=min(look.width, 2.4),
            solid_capstyle="butt",
        )
    plot.plot(
        [value.value],
        [y],
        marker=look.marker,
        markersize=size * 0.9,
        color=look.colour,
        linestyle="none",
        clip_on=False,
    )


def _marker_key(figure: Figure, dots: Sequence[Dots], left: float, wide: bool) -> None:
    """Names of the systems in one line above the rows (two to a line where it is narrow)."""
    across, down = figure.get_size_inches() * 96
    x, y = left, 10.0
    for place, one in enumerate(dots):
        if not wide and place and place % 2 == 0:
            x, y = left, y + 18
        mark = Line2D(
            [(x + 5) / across],
            [1 - y / down],
            marker=one.look.marker,
            markersize=5,
            color=one.look.colour,
            linestyle="none",
            transform=figure.transFigure,
        )
        figure.add_artist(mark)
        put(figure, x + 14, y, one.name, color=one.look.colour, fontweight="bold" if place == 0 else "normal")
        x += text_width([one.name]) + 38
