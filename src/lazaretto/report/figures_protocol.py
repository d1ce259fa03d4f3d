"""Figures of the protocol: curves against a diagonal. Drawn wide or narrow."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lazaretto.report.drawing import KEY_LINE, key, key_above, put, ticks
from lazaretto.report.figures import Curve
from lazaretto.report.svg import COLOURS, NARROW, WIDE, axes, sheet

__all__ = ["benefit", "diagonal"]

_EVEN = (0, 0.25, 0.5, 0.75, 1)


def diagonal(panels: Sequence[tuple[str, Sequence[Curve]]], below: str, wide: bool) -> Figure:
    """Squares from 0 to 1 with their diagonal, side by side or stacked; panels: (title, curves).

    below: title of the axis below.
    """
    size, left, head, foot = (340 if wide else 280), 42, 24, 46
    keys = [0.0 if wide else KEY_LINE * len(curves) for _, curves in panels]
    down = size + head + foot
    figure = sheet(WIDE if wide else NARROW, down if wide else len(panels) * down + sum(keys))
    for place, (title, curves) in enumerate(panels):
        x, y = (left + place * 420, head) if wide else (left, head + place * down + sum(keys[: place + 1]))
        plot = axes(figure, x, y, size, size)
        _square(plot, curves, keyed=wide)
        plot.set_xlabel(below)
        put(figure, x, y - keys[place] - 14, title, fontweight="bold")
        if not wide:
            key_above(figure, [(c.name, c.look) for c in curves], x, y - keys[place] - 5)
    return figure


def _square(plot: Axes, curves: Sequence[Curve], *, keyed: bool) -> None:
    """keyed: whether the names stand inside."""
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
        )
    ticks(plot, "x", _EVEN)
    ticks(plot, "y", _EVEN)
    if keyed:
        lines = [([0.0, 1.0], [0.0, 1.0]), *((list(c.x), list(c.y)) for c in curves)]
        key(plot, [(curve.name, curve.look) for curve in curves], lines)


def benefit(curves: Sequence[Curve], lowest: float, wide: bool) -> Figure:
    """Net benefit over the threshold; 0 is to act on nobody. lowest: end of the axis, under 0."""
    left, head, foot = 52, 16 + (0 if wide else KEY_LINE * len(curves)), 46
    width, height = (WIDE if wide else NARROW), 320
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
    if wide:
        key(plot, entries, [(list(curve.x), list(curve.y)) for curve in curves])
    else:
        key_above(figure, entries, left, 6)
    return figure
