"""Figure of privacy: how well it detects over epsilon, beside the same training without noise."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lazaretto.report.drawing import put, span, ticks
from lazaretto.report.formats import Triple
from lazaretto.report.svg import COLOURS, NARROW, WIDE, axes, sheet

__all__ = ["utility_over_epsilon"]


def utility_over_epsilon(
    points: Sequence[tuple[float, Triple]], reference: Triple | None, names: Sequence[str], wide: bool
) -> Figure:
    """AUROC with its interval at each epsilon (ascending, > 0, log scale); dashed: without privacy.

    names: what to write at each epsilon.
    """
    width, size, left = WIDE if wide else NARROW, 220 if wide else 180, 48
    figure = sheet(width, size + 76)
    right = 130 if wide else 24
    plot = axes(figure, left, 24, width - left - right, size)
    put(figure, left, 10, "AUROC", fontweight="bold")
    shown = [value for _, value in points] + ([] if reference is None else [reference])
    ends = [end for one in shown for end in (one.value, one.low, one.high) if end is not None]
    plot.set_xscale("log")
    xs = [epsilon for epsilon, _ in points]
    plot.set_xlim(xs[0] / 1.4, xs[-1] * 1.4)
    plot.set_ylim(*span(ends, ceiling=1.0, floor=0.0))
    plot.grid(True, axis="y")
    if reference is not None:
        plot.axhline(reference.value, color=COLOURS["soft"], linewidth=1.1, linestyle=(0, (4, 2)))
        if not wide:
            put(figure, width - 24, 10, "dashed: without privacy", ha="right", color=COLOURS["soft"])
        else:
            plot.annotate(
                "without privacy",
                (xs[-1] * 1.4, reference.value),
                xytext=(6, 0),
                textcoords="offset points",
                ha="left",
                va="center",
                color=COLOURS["soft"],
                annotation_clip=False,
            )
        if reference.low is not None and reference.high is not None:
            plot.axhspan(reference.low, reference.high, color=COLOURS["grid"], linewidth=0)
    plot.plot(
        xs, [value.value for _, value in points], "-o", color=COLOURS["ours"], markersize=5, clip_on=False
    )
    for epsilon, value in points:
        if value.low is not None and value.high is not None:
            plot.plot([epsilon, epsilon], [value.low, value.high], color=COLOURS["ours"], linewidth=1.2)
    plot.xaxis.set_major_locator(FixedLocator(xs))
    plot.xaxis.set_minor_locator(NullLocator())
    said = dict(zip(xs, names, strict=True))
    plot.xaxis.set_major_formatter(FuncFormatter(lambda x, _: said.get(x, "")))
    plot.tick_params(axis="x", length=0, pad=6)
    ticks(plot, "y", most=5)
    plot.set_xlabel("ε that one unit is charged (more privacy to the left)")
    return figure
