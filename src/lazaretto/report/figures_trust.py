"""A figure of trust: one thin line for each site over the rounds, dots where it is in quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from lazaretto.report.drawing import put, ticks
from lazaretto.report.svg import COLOURS, NARROW, WIDE, axes, sheet

__all__ = ["TrustLine", "trust_over_rounds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustLine:
    """One site: trust in each of `rounds`, whether it is hostile, the rounds it spent in quarantine."""

    rounds: tuple[float, ...]
    trust: tuple[float, ...]
    hostile: bool
    out: tuple[float, ...]


def trust_over_rounds(lines: Sequence[TrustLine], wide: bool) -> Figure:
    """Hostile sites in front, in the colour of alarms and dashed; honest ones behind."""
    width, height, left = (WIDE if wide else NARROW), 220 if wide else 180, 42
    figure = sheet(width, height + 84)
    plot = axes(figure, left, 40, width - left - 14, height)
    rounds = [r for line in lines for r in line.rounds] or [1.0]
    plot.set_xlim(min(rounds) - 0.3, max(max(rounds), min(rounds) + 1) + 0.3)
    plot.set_ylim(-0.02, 1.03)
    plot.grid(True, axis="y")
    for line in sorted(lines, key=lambda one: one.hostile):
        colour = COLOURS["alarm"] if line.hostile else COLOURS["other"]
        dash = (0, (5, 1.6)) if line.hostile else "-"
        plot.plot(line.rounds, line.trust, color=colour, linestyle=dash, linewidth=1.1)
        there = dict(zip(line.rounds, line.trust, strict=True))
        out = [r for r in line.out if r in there]
        plot.plot(out, [there[r] for r in out], "o", color=colour, markersize=3.5, clip_on=False)
    ticks(plot, "x", most=8 if wide else 5, whole=True)
    ticks(plot, "y", (0.0, 0.25, 0.5, 0.75, 1.0))
    plot.set_xlabel("round")
    put(figure, left, 10, "Trust after each round", fontweight="bold")
    put(figure, left, 27, "hostile (dashed)", color=COLOURS["alarm"])
    put(figure, left + 110, 27, "honest", color=COLOURS["other"])
    put(figure, left + 162, 27, "dots: in quarantine", color=COLOURS["soft"])
    return figure
