"""Strokes that all figures share: text at a pixel, tidy axes, keys beside lines, one look per system."""

from __future__ import annotations

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
    "key_above",
    "key_height",
    "looks",
    "put",
    "span",
    "text_width",
    "ticks",
    "write",
]

Line: TypeAlias = tuple[Sequence[float], Sequence[float]]  # xs, ys
KEY_LINE = 18.0  # CSS pixels from one name of a key to the next


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


def key_height(names: Sequence[str], width: float) -> float:
    """CSS pixels that `key_above` takes. width: what there is; 0 puts every name in a line of its own."""
    return KEY_LINE * -(-len(names) // _columns(names, width)) if names else 0.0


def key_above(
    figure: Figure, entries: Sequence[tuple[str, Look]], left: float, top: float, width: float = 0.0
) -> None:
    """Names beside a piece of their line, in the order given, above a plot: inside, lines may run anywhere.

    left, top: CSS pixels of the upper left corner. width: as in `key_height`.
    """
    across, down = figure.get_size_inches() * 96
    names = [name for name, _ in entries]
    columns = _columns(names, width)
    apart = width / columns if columns > 1 else 0.0
    apart = min(apart, _key_width(names))
    for place, (name, look) in enumerate(entries):
        line, column = divmod(place, columns)
        x, y = left + column * apart, top + (line + 0.5) * KEY_LINE
        figure.add_artist(
            Line2D(
                [x / across, (x + 22) / across],
                [1 - y / down, 1 - y / down],
                color=look.colour,
                linestyle=look.dash,
                linewidth=look.width,
                transform=figure.transFigure,
            )
        )
        put(figure, x + 28, y, name, color=look.colour, fontweight="bold" if look is _OURS else "normal")


def _columns(names: Sequence[str], width: float) -> int:
    """How many names stand in a line, as wide as the longest."""
    return max(1, min(len(names), int(width // _key_width(names))))


def _key_width(names: Sequence[str]) -> float:
    return max(text_width(names), text_width(names[:1], bold=True)) + 28 + 12  # ours comes first
