"""Figures of the protocol: curves against a diagonal. Drawn wide or narrow."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lazaretto.report.drawing import key, put, ticks
from lazaretto.report.figures import Curve
from lazaretto.report.svg import COLOURS, NARROW, WIDE, axes, sheet

__all__ = ["diagonal"]

_EVEN = (0, 0.25, 0.5, 0.75, 1)


def diagonal(panels: Sequence[tuple[str, Sequence[Curve]]], below: str, wide: bool) -> Figure:
    """Squares from 0 to 1 with their diagonal, side by side or stacked; panels: (title, curves).

    below: title of the axis below.
    """
    size, left, head, foot = (340 if wide else 280), 42, 24, 46
    step = 420 if wide else size + head + foot
    figure = sheet(
        WIDE if wide else NARROW, head + size + foot if wide else len(panels) * (size + head + foot)
    )
    for place, (title, curves) in enumerate(panels):
        x, y = (left + place * step, head) if wide else (left, head + place * step)
        plot = axes(figure, x, y, size, size)
        _square(plot, curves)
        plot.set_xlabel(below)
        put(figure, x, y - 14, title, fontweight="bold")
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
        )
    ticks(plot, "x", _EVEN)
    ticks(plot, "y", _EVEN)
    lines = [([0.0, 1.0], [0.0, 1.0]), *((list(c.x), list(c.y)) for c in curves)]
    key(plot, [(curve.name, curve.look) for curve in curves], lines)
