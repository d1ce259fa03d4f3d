"""Figures of a run: learning curves, one attack in time, bars of bytes and seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from lazaretto.report.drawing import KEY_LINE, Line, bare, key_above, looks, put, span, text_width, ticks
from lazaretto.report.formats import counted, fixed, short
from lazaretto.report.svg import COLOURS, NARROW, WIDE, axes, sheet

__all__ = ["Bar", "Story", "bars", "learning", "learning_by_site", "timeline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: its value split into a plain and a pale part, and the text at its end."""

    name: str
    value: float
    pale: float = 0.0
    text: str
    outside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One attack: scores of every step by system (ours first), truth, and what the first alarm was."""

    steps: tuple[float, ...]
    truth: tuple[bool, ...]
    scores: tuple[tuple[str, tuple[float, ...]], ...]
    thresholds: tuple[float | None, ...]
    alarms: tuple[float | None, ...]
    said: tuple[str, ...]


def learning(panels: Sequence[tuple[str, Sequence[Line], Line]], wide: bool) -> Figure:
    """Panels (title, a thin line for each seed, their mean) side by side or stacked, over rounds."""
    width, size, gap, left = (WIDE if wide else NARROW), 200, 70, 42
    across = (width - left - 20 - gap) / 2 if wide else width - left - 48
    figure = sheet(width, size + 68 if wide or len(panels) == 1 else 2 * size + gap + 68)
    for place, (title, lines, mean) in enumerate(panels):
        x = left + (across + gap) * place if wide else left
        y = 24 if wide else 24 + (size + gap) * place
        plot = axes(figure, x, y, across - (28 if wide else 0), size)
        values = [value for line in lines for value in line[1]]
        auroc = "AUROC" in title
        plot.set_xlim(*_rounds([mean]))
        low, high = span(values, ceiling=1.0 if auroc else None, floor=0.0)
        plot.set_ylim(min(low, 0.5) if auroc else 0.0, high)
        plot.grid(True)
        for xs, ys in lines:
            plot.plot(xs, ys, color=COLOURS["other"], linewidth=0.8)
        plot.plot(*mean, color=COLOURS["ours"], linewidth=2)
        end = fixed(mean[1][-1], 3)
        plot.annotate(
            end,
            (mean[0][-1], mean[1][-1]),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=COLOURS["ours"],
            fontweight="bold",
            annotation_clip=False,
        )
        ticks(plot, "x", most=6 if wide else 5, whole=True)
        ticks(plot, "y", most=5)
        plot.set_xlabel("round")
        put(figure, x, y - 14, title, fontweight="bold")
    return figure


def learning_by_site(sites: Sequence[tuple[str, Line]], mean: Line, what: str, wide: bool) -> Figure:
    """A small panel for each site, the mean over sites in each; above 24 sites thin lines in one panel."""
    values = [value for _, line in sites for value in line[1]] + list(mean[1])
    auroc = what == "AUROC"
    low, high = span(values, ceiling=1.0 if auroc else None, floor=0.0)
    limits = (min(low, 0.5) if auroc else 0.0, high)
    if len(sites) > 24:
        return _many(sites, mean, what, limits, wide)
    columns = 4 if wide else 2
    width, left, top, height = (WIDE if wide else NARROW), 36, 46, 84
    rows = -(-len(sites) // columns)
    across = (width - left - 6) / columns
    down = height + 34
    figure = sheet(width, top + rows * down - 8)
    for place, (name, line) in enumerate(sites):
        row, column = divmod(place, columns)
        plot = axes(figure, left + across * column, top + row * down, across - 42, height)
        plot.set_xlim(*_rounds([mean]))
        plot.set_ylim(*limits)
        plot.grid(True, axis="y")
        plot.plot(*mean, color=COLOURS["other"], linewidth=0.9, linestyle=(0, (3, 2)))
        plot.plot(*line, color=COLOURS["ours"], linewidth=1.6)
        ticks(plot, "y", (0.5, 0.75, 1.0) if auroc and limits[0] >= 0.25 else None, most=3)
        ticks(plot, "x", (1, mean[0][-1]) if mean[0][-1] > 1 else (1,))
        if column:
            plot.tick_params(axis="y", labelleft=False)
        if place + columns < len(sites):
            plot.tick_params(axis="x", labelbottom=False)
        put(figure, left + across * column, top + row * down - 11, short(name, int((across - 38) / 7)))
        if line[1]:
            plot.annotate(
                fixed(line[1][-1], 2),
                (line[0][-1], line[1][-1]),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=COLOURS["ours"],
                annotation_clip=False,
            )
    put(figure, left, 10, f"Validation {what} by round", fontweight="bold")
    note = "dashed: mean over sites" if wide else "dashed: mean"
    put(figure, width - 10, 10, note, ha="right", color=COLOURS["soft"])
    return figure


def timeline(story: Story, unit: str, wide: bool) -> Figure:
    """The score of every step, one panel a system; attack shaded, threshold dashed, first alarm marked."""
    width, left, height, head = (WIDE if wide else NARROW), 36, 130, (34 if wide else 50)
    figure = sheet(width, len(story.scores) * (height + head) + 44)
    look = looks([name for name, _ in story.scores], story.scores[0][0])
    attacks = _stretches(story.steps, story.truth)
    last_attack = attacks[-1][1] if attacks else None
    for place, (name, scores) in enumerate(story.scores):
        top = head + place * (height + head)
        plot = axes(figure, left, top, width - left - 10, height)
        plot.set_xlim(story.steps[0], max(story.steps[-1], story.steps[0] + 1))
        plot.set_ylim(0, max(1.02, 1.05 * max(scores)))
        for begin, end in attacks:
            plot.axvspan(begin, end, color=COLOURS["band"], linewidth=0)
            if place == 0 and end == last_attack:
                alarmed = story.alarms[0]
                left_side = alarmed is not None and alarmed > (begin + end) / 2
                plot.annotate(
                    "attack",
                    (begin if left_side else end, 0.02),
                    xycoords=plot.get_xaxis_transform(),
                    xytext=(5 if left_side else -5, 0),
                    textcoords="offset points",
                    ha="left" if left_side else "right",
                    va="bottom",
                )
        plot.step(
            story.steps, scores, where="post", color=look[name].colour, linewidth=1.5 if place == 0 else 1.2
        )
        threshold, alarm = story.thresholds[place], story.alarms[place]
        if threshold is not None:
            plot.axhline(threshold, color=COLOURS["soft"], linewidth=0.9, linestyle=(0, (4, 2)))
            plot.annotate(
                f"threshold {fixed(threshold, 2)}",
                (story.steps[0], threshold),
                xytext=(4, 3),
                textcoords="offset points",
                va="bottom",
                color=COLOURS["soft"],
            )
        if alarm is not None:
            plot.axvline(alarm, color=COLOURS["alarm"], linewidth=1.2)
            plot.plot(
                [alarm],
                [1.0],
                transform=plot.get_xaxis_transform(),
                marker="v",
                markersize=7,
                color=COLOURS["alarm"],
                clip_on=False,
            )
        ticks(plot, "y", (0, 0.5, 1))
        ticks(plot, "x", most=8 if wide else 5, whole=True)
        said = COLOURS["soft" if alarm is None else "alarm"]
        above = 36 if story.said[place] and not wide else 14
        put(figure, left, top - above, name, color=look[name].colour, fontweight="bold")
        put(
            figure,
            width - 10 if wide else left,
            top - (14 if wide else 19),
            story.said[place],
            ha="right" if wide else "left",
            color=said,
        )
        if place == len(story.scores) - 1:
            plot.set_xlabel(unit)
        else:
            plot.tick_params(axis="x", labelbottom=False)
    return figure


def bars(rows: Sequence[Bar], names: tuple[str, str], wide: bool) -> Figure:
    """Horizontal bars with their text at the end. names: what the plain and the other colour stand for."""
    labels = [short(bar.name, 34) for bar in rows]
    left = text_width(labels) + 14 if wide else 8
    right = text_width([bar.text for bar in rows]) + 8
    height = 24 if wide else 36
    width = WIDE if wide else NARROW
    head = 26 if names[1] else 2
    figure = sheet(width, head + height * len(rows) + 6)
    plot = axes(figure, left, head, width - left - right - 4, height * len(rows))
    longest = max((bar.value for bar in rows), default=0.0) or 1.0
    plot.set_xlim(0, longest)
    plot.set_ylim(len(rows), 0)
    bare(plot)
    plot.set_xticks([])
    plot.spines["bottom"].set_visible(False)
    split = any(bar.pale > 0 for bar in rows)
    for place, bar in enumerate(rows):
        middle = place + (0.5 if wide else 0.7)
        thick = 0.6 if wide else 0.38
        colour = COLOURS["second"] if bar.outside else COLOURS["ours"]
        plot.barh(middle, bar.value - bar.pale, thick, color=colour)
        if bar.pale > 0:
            plot.barh(middle, bar.pale, thick, left=bar.value - bar.pale, color=COLOURS["ours"], alpha=0.4)
        line = head + height * (place + (0.5 if wide else 0.25))
        put(figure, left - 10 if wide else 8, line, labels[place], ha="right" if wide else "left")
        end = left + (width - left - right - 4) * bar.value / longest
        put(figure, end + 6, head + height * middle, bar.text)
    if names[1]:
        x = left
        for place, name in enumerate(names):
            colour = COLOURS["ours"] if place == 0 or split else COLOURS["second"]
            alpha = 0.4 if place and split else 1.0
            put(figure, x, 10, "■", color=colour, alpha=alpha)
            put(figure, x + 14, 10, name, color=COLOURS["ink"])
            x += text_width([name]) + 34
    return figure


def _rounds(lines: Sequence[Line]) -> tuple[float, float]:
    last = max((line[0][-1] for line in lines if line[0]), default=1)
    first = min((line[0][0] for line in lines if line[0]), default=0)
    return (first, last) if last > first else (first - 0.5, first + 0.5)


def _many(
    sites: Sequence[tuple[str, Line]], mean: Line, what: str, limits: tuple[float, float], wide: bool
) -> Figure:
    width, left, height = (WIDE if wide else NARROW), 42, 260
    figure = sheet(width, height + 68 + KEY_LINE)
    plot = axes(figure, left, 24 + KEY_LINE, width - left - 12, height)
    plot.set_xlim(*_rounds([mean]))
    plot.set_ylim(*limits)
    plot.grid(True)
    for _, line in sites:
        plot.plot(*line, color=COLOURS["other"], linewidth=0.5, alpha=0.5)
    plot.plot(*mean, color=COLOURS["ours"], linewidth=2.2)
    ticks(plot, "x", most=7 if wide else 5, whole=True)
    ticks(plot, "y")
    plot.set_xlabel("round")
    look = looks(["mean"], "mean")["mean"]
    key_above(figure, [(f"mean of {counted(len(sites), 'site')}", look)], left, 19)
    put(figure, left, 10, f"Validation {what} by site", fontweight="bold")
    return figure


def _stretches(steps: Sequence[float], truth: Sequence[bool]) -> list[tuple[float, float]]:
    """Begin and end of each run of attacked steps; a step lasts until the next one begins."""
    length = steps[1] - steps[0] if len(steps) > 1 else 1.0
    found: list[tuple[float, float]] = []
    for step, attacked in zip(steps, truth, strict=True):
        if not attacked:
            continue
        if found and abs(found[-1][1] - step) < 1e-9 * max(abs(step), 1):
            found[-1] = (found[-1][0], step + length)
        else:
            found.append((step, step + length))
    return found
