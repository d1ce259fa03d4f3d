"""Figures of the protocol: curves against a diagonal. Drawn wide or narrow."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lazaretto.report.drawing import key_above, key_height, put, ticks
from lazaretto.report.figures import Curve
from lazaretto.report.svg import COLOURS, NARROW, WIDE, axes, sheet

__all__ = ["benefit", "diagonal"]

_EVEN = (0, 0.25, 0.5, 0.75, 1)


def diagonal(panels: Sequence[tuple[str, Sequence[Curve]]], below: str, wide: bool) -> Figure:
    """Squares from 0 to 1 with their diagonal, side by side or stacked; panels: (title, curves).

    below: title of the axis below.
    """
    size, left, head, foot = (340 if wide else 280), 42, 24, 46
    room = 400.0 if wide else 0.0
    keys = [key_height([curve.name for curve in curves], room) for _, curves in panels]
    if wide:
        keys = [max(keys, default=0.0)] * len(panels)
    down = size + head + foot
    high = down + max(keys, default=0.0) if wide else len(panels) * down + sum(keys)
    figure = sheet(WIDE if wide else NARROW, high)
    for place, (title, curves) in enumerate(panels):
        x = left + (place * 420 if wide else 0)
        y = head + (keys[place] if wide else place * down + sum(keys[: place + 1]))
        plot = axes(figure, x, y, size, size)
        _square(plot, curves)
        plot.set_xlabel(below)
        put(figure, x, y - keys[place] - 14, title, fontweight="bold")
        key_above(figure, [(c.name, c.look) for c in curves], x, y - keys[place] - 5, room)
    return figure


def _square(plot: Axes, curves: Sequence[Curve]) -> None:
    plot.set_xlim(0, 1)
    plot.set_ylim(0, 1.01)
    plot.grid(True)
    plot.plot([0, 1], [0, 1], color=COLOURS["soft"], linewidth=0.9, linestyle=(0, (2, 2)))
    for curve in reversed(curves):  # the first in the key is drawn last, on top
        look = curve.look
        plot.plot(
            curve.x,
            curve.y,
            color=look.colour,
            linestyle=look.dash,
            linewidth=look.width,
            marker=look.marker,
            markersize=3.5,
            clip_on=False,
        )
    ticks(plot, "x", _EVEN)
    ticks(plot, "y", _EVEN)


def benefit(curves: Sequence[Curve], lowest: float, wide: bool) -> Figure:
    """Net benefit over the threshold; 0 is to act on nobody. lowest: end of the axis, under 0."""
    width, height, left, foot = (WIDE if wide else NARROW), 320, 52, 46
    room = width - left - 12.0 if wide else 0.0
    head = 16 + key_height([curve.name for curve in curves], room)
    figure = sheet(width, head + height + foot)
    plot = axes(figure, left, head, width - left - 12, height)
    most = max(max(curve.y) for curve in curves)
    farthest = max(curve.x[-1] for curve in curves)
    plot.set_xlim(0, farthest)
    plot.set_ylim(lowest, 1.08 * most)
    plot.grid(True)
    plot.axhline(0, color=COLOURS["soft"], linewidth=0.9)
    for curve in reversed(curves):
        look = curve.look
        plot.plot(curve.x, curve.y, color=look.colour, linestyle=look.dash, linewidth=look.width)
    plot.set_xlabel("least probability that is acted on")
    plot.set_ylabel("net benefit")
    entries = [(curve.name, curve.look) for curve in curves]
    key_above(figure, entries, left, 6, room)
    return figure
