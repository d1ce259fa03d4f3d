"""Strokes that all figures share: text at a pixel, tidy axes, keys beside lines, one look per system."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lazaretto.report.formats import percent, plain
from lazaretto.report.svg import COLOURS

__all__ = [
    "KEY_LINE",
    "Line",
    "Look",
    "bare",
    "key",
    "key_above",
    "looks",
    "put",
    "span",
    "text_width",
    "ticks",
    "write",
]

Line: TypeAlias = tuple[Sequence[float], Sequence[float]]  # xs, ys
KEY_LINE = 18.0  # CSS pixels from one name of a key to the next
_PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Look:
    """How a system is drawn: told apart by colour, by dash and by marker, never by colour alone."""

    colour: str
    dash: Any
    width: float
    marker: str


_OURS = Look(COLOURS["ours"], "-", 2.0, "o")
_OTHERS = (
    Look(COLOURS["second"], (0, (5, 1.6)), 1.3, "s"),
    Look(COLOURS["third"], (0, (5, 1.6, 1, 1.6)), 1.3, "D"),
    Look(COLOURS["fourth"], (0, (1.4, 1.2)), 1.4, "^"),
    Look(COLOURS["other"], (0, (8, 2)), 1.1, "v"),
)


def looks(systems: Sequence[str], ours: str) -> dict[str, Look]:
    """A look for each system: ours always the same, the rest in order; what is left shares the last look."""
    rest = [system for system in systems if system != ours]
    found = {system: _OTHERS[min(place, len(_OTHERS) - 1)] for place, system in enumerate(rest)}
    return {ours: _OURS, **found}


def put(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Text at (x, y) CSS pixels from the upper left corner; y is the middle of the line."""
    across, down = figure.get_size_inches() * 96
    style = {"va": "center", **style}
    figure.text(x / across, 1 - y / down, text, **style)


def write(plot: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text at axes coordinates (0 to 1)."""
    plot.text(x, y, text, transform=plot.transAxes, **{"va": "center", **style})


def text_width(texts: Sequence[str], *, bold: bool = False) -> float:
    """Room in CSS pixels for the longest of the texts, whatever common system font draws it."""
    return (8.2 if bold else 6.7) * max((len(text) for text in texts), default=0)


def bare(plot: Axes) -> None:
    """Only a vertical grid and the labels below: for rows of dots or bars."""
    plot.set_yticks([])
    plot.spines["left"].set_visible(False)
    plot.tick_params(axis="x", length=0)
    plot.grid(True, axis="x")


def ticks(
    plot: Axes,
    axis: Literal["x", "y"],
    at: Sequence[float] | None = None,
    most: int = 5,
    *,
    shares: bool = False,
    whole: bool = False,
) -> None:
    """Few ticks, at `at` or chosen; all with as many decimals as the finest needs; no tick marks.

    shares: write 0.01 as 1 %. whole: ticks at whole numbers only.
    """
    side = plot.xaxis if axis == "x" else plot.yaxis
    low, high = plot.get_xlim() if axis == "x" else plot.get_ylim()
    places = (
        list(at)
        if at is not None
        else list(
            MaxNLocator(
                most, steps=[1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10], integer=whole
            ).tick_values(low, high)
        )
    )
    slack = 1e-9 * max(abs(low), abs(high), 1e-30)
    places = [place for place in places if low - slack <= place <= high + slack]
    decimals = max((_decimals(place) for place in places), default=0)
    side.set_major_locator(FixedLocator(places))
    side.set_minor_locator(NullLocator())
    side.set_major_formatter(
        FuncFormatter(lambda value, _: percent(value) if shares else plain(value, decimals))
    )
    plot.tick_params(axis=axis, length=0, pad=6)


def _decimals(value: float) -> int:
    for decimals in range(5):
        if abs(value - round(value, decimals)) < 1e-9:
            return decimals
    return 5


def span(
    values: Sequence[float], *, ceiling: float | None = None, floor: float | None = None
) -> tuple[float, float]:
    """Limits of an axis that shows `values` with some air, cut at `floor` and `ceiling`."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    air = 0.06 * (high - low) or 0.05 * (abs(high) or 1)
    low, high = low - air, high + air
    if ceiling is not None and max(values) <= ceiling:
        high = min(high, ceiling)
    if floor is not None and min(values) >= floor:
        low = max(low, floor)
    return low, high


def key(plot: Axes, entries: Sequence[tuple[str, Look]], lines: Sequence[Line]) -> tuple[bool, bool]:
    """Names beside a piece of their line, in the order given, in the corner that the lines leave free.

    lines: (xs, ys) in data coordinates, limits and scales of the axes being settled.
    Returns whether the names stand at the right, and whether they stand low.
    """
    box = plot.get_position()
    size = plot.get_figure(root=True).get_size_inches() * 96  # type: ignore[union-attr]
    across, down = float(box.width * size[0]), float(box.height * size[1])
    stroke, gap, step = 22 / across, 6 / across, KEY_LINE / down
    width = (text_width([name for name, _ in entries]) + 42) / across
    right, low = _free_corner(plot, lines, width, step * len(entries) + 8 / down)
    first = step * (len(entries) - 0.5) + 4 / down if low else 1 - step / 2 - 4 / down
    for place, (name, look) in enumerate(entries):
        y = first - place * step
        x = 1 - stroke - gap if right else gap
        plot.plot(
            [x, x + stroke],
            [y, y],
            transform=plot.transAxes,
            color=look.colour,
            linestyle=look.dash,
            linewidth=look.width,
            clip_on=False,
        )
        beside = x - gap if right else x + stroke + gap
        weight = "bold" if look is _OURS else "normal"
        write(plot, beside, y, name, ha="right" if right else "left", color=look.colour, fontweight=weight)
    return right, low


def key_above(figure: Figure, entries: Sequence[tuple[str, Look]], left: float, top: float) -> None:
    """The same in lines of their own, for a drawing too narrow to have a free corner.

    left, top: CSS pixels of the upper left corner; there it takes `KEY_LINE` for each entry.
    """
    across, down = figure.get_size_inches() * 96
    for place, (name, look) in enumerate(entries):
        y = top + (place + 0.5) * KEY_LINE
        figure.add_artist(
            Line2D(
                [left / across, (left + 22) / across],
                [1 - y / down, 1 - y / down],
                color=look.colour,
                linestyle=look.dash,
                linewidth=look.width,
                transform=figure.transFigure,
            )
        )
        put(figure, left + 28, y, name, color=look.colour, fontweight="bold" if look is _OURS else "normal")


def _free_corner(plot: Axes, lines: Sequence[Line], width: float, height: float) -> tuple[bool, bool]:
    """(right, low) of the corner box of that size (axes units) through which the lines pass least."""
    to_axes = plot.transData + plot.transAxes.inverted()
    points: list[tuple[float, float]] = []
    for xs, ys in lines:
        placed = to_axes.transform([(x, y) for x, y in zip(xs, ys, strict=True)]).tolist() if len(xs) else []
        for (x, y), (next_x, next_y) in itertools.pairwise(placed):
            points += [(x + part * (next_x - x), y + part * (next_y - y)) for part in _PARTS]
    corners = ((True, True), (False, True), (False, False), (True, False))

    def crossed(corner: tuple[bool, bool]) -> int:
        right, low = corner
        return sum(
            (x >= 1 - width if right else x <= width) and (y <= height if low else y >= 1 - height)
            for x, y in points
        )

    return min(corners, key=crossed)
