"""What sections share: a drawn figure, a cell with its interval, the sentence for what is missing."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from lazaretto.report.blocks import PUBLISHABLE, Cell, Mark, Picture, Section, Text
from lazaretto.report.formats import NOT_AVAILABLE, Triple, interval_text
from lazaretto.report.reading import Log, is_timed, is_unfinished
from lazaretto.report.svg import drawn

__all__ = ["cell", "lacking", "nothing", "picture", "unjudged", "untimed"]


def picture(
    name: str,
    texts: tuple[str, str, str],
    draw: Callable[[bool], Figure],
    mark: Mark = PUBLISHABLE,
) -> Picture:
    """A figure with its (title, caption, finding), drawn wide and narrow."""
    title, caption, finding = texts
    wide, narrow = drawn(name, finding, draw)
    return Picture(title=title, caption=caption, finding=finding, wide=wide, narrow=narrow, mark=mark)


def cell(value: Triple | None, decimals: int, *, best: str = "") -> Cell:
    """A value above its interval, or n/a. best: what it is best in, if it is."""
    if value is None:
        return Cell(text=NOT_AVAILABLE, tone="faint")
    text, _, under = interval_text(value, decimals).partition(" ")
    return Cell(text=text, under=under, tone="best" if best else "", spoken=f"best {best}" if best else "")


def nothing(log: Log, text: str) -> Text:
    """A sentence in place of a figure or table; says so if the run had not come that far."""
    late = " The run had not finished when this page was written." if is_unfinished(log) else ""
    return Text(text=f"{text}{late}", tone="missing")


def unjudged(log: Log, text: str) -> Text:
    """`nothing`, or that judging had not begun: then the log cannot tell what there would have been."""
    early = is_unfinished(log) and not log.all("metrics")
    return nothing(log, "Nothing has been judged yet." if early else text)


def untimed(log: Log, text: str) -> Text:
    """`nothing`, or that there is no clock where the data has none."""
    without = "Steps of this data have no clock, so there is no latency, no course in time, no alarm per day."
    return unjudged(log, text) if is_timed(log) else nothing(log, without)


def lacking(name: str, title: str, nav: str, text: Text) -> Section:
    """A section that holds only the sentence why it is empty."""
    return Section(name=name, title=title, nav=nav, blocks=(text,))
