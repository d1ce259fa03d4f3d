"""Figures of the protocol: curves against a diagonal. Drawn wide or narrow."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from lazaretto.report.drawing import key, put, ticks
from lazaretto.report.figures import Curve
from lazaretto.report.svg import COLOURS, NARROW, WIDE, axes, sheet

__all__ = ["diagonal"]

_EVEN = (0, 0.25, 0.5, 0.75, 1)


def diagonal(curves: Sequence[Curve], names: tuple[str, str], wide: bool) -> Figure:
    """Curves in a square from 0 to 1 with its diagonal; names: of the axis below, and of the other."""
    size, left = (340, 42) if wide else (280, 42)
    figure = sheet(WIDE if wide else NARROW, size + 70)
    plot = axes(figure, left, 24, size, size)
    plot.set_xlim(0, 1)
    plot.set_ylim(0, 1.01)
    plot.grid(True)
    plot.plot([0, 1], [0, 1], color=COLOURS["soft"], linewidth=0.9, linestyle=(0, (2, 2)))
    for curve in reversed(curves):  # ours comes first in the key and is drawn last, on top
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
    plot.set_xlabel(names[0])
    put(figure, left, 10, names[1], fontweight="bold")
    return figure
