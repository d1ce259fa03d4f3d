"""Tables that read well at 80 columns on a terminal, and stay whole in a file or a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table as Grid

from lazaretto.errors import printable

__all__ = ["say", "show", "show_parts"]

_WHOLE = 10**6  # columns of what is no terminal: each row is one line, for grep


def show_parts(family: str, parts: Mapping[str, str]) -> None:
    """Print the parts of a family, name -> one line about it."""
    show(family, ("name", "about"), list(parts.items()), whole=1)


def show(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, whole: int = 1) -> None:
    """A table; its first `whole` columns are not broken into lines, those with numbers stand to the right."""
    grid = Grid(box=None, pad_edge=False)
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
    console = _console()
    console.print(printable(title), style="bold", soft_wrap=True)  # a path in it is never broken
    if console.is_terminal:
        console.print(grid)
    else:  # without the blanks that fill the last column
        with console.capture() as drawn:
            console.print(grid)
        console.file.write("\n".join(line.rstrip() for line in drawn.get().split("\n")))
    console.print()


def say(text: str) -> None:
    """Print a paragraph."""
    _console().print(printable(text))


def _console() -> Console:
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WHOLE
    return console
