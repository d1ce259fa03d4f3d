"""Tables on a terminal that read well at 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table as Grid

__all__ = ["printable", "say", "show", "show_parts"]


def printable(text: str) -> str:
    """The text without control characters that a file may have smuggled into it; lines are kept."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def show_parts(family: str, parts: Mapping[str, str]) -> None:
    """Print the parts of a family, name -> one line about it."""
    show(family, ("name", "about"), list(parts.items()), whole=1)


def show(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, whole: int = 1) -> None:
    """A table; its first `whole` columns are not broken into lines, those with numbers stand to the right."""
    grid = Grid(title=printable(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for place, head in enumerate(heads):
        numbers = bool(rows) and all(row[place][-1:].isdigit() or row[place] == "n/a" for row in rows)
        grid.add_column(
            head,
            header_style="dim",
            no_wrap=place < whole,
            overflow="fold",
            justify="right" if numbers else "left",
        )
    for row in rows:
        grid.add_row(*map(printable, row))
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(grid)
    console.print()


def say(text: str) -> None:
    """Print a paragraph."""
    Console(markup=False, highlight=False, emoji=False).print(printable(text))
