"""What a page is made of: sections that hold figures, tables and prose. Values without behaviour.

Every text here is plain text; only `Picture` holds markup, made by `svg.py` from our own drawing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from markupsafe import Markup

__all__ = [
    "PUBLISHABLE",
    "STAYS",
    "Block",
    "Card",
    "Cell",
    "Code",
    "Column",
    "Facts",
    "Grid",
    "Mark",
    "Picture",
    "Row",
    "Section",
    "Text",
    "Tone",
]

Mark: TypeAlias = Literal["publishable", "stays"]
Tone: TypeAlias = Literal["", "best", "yes", "partly", "no", "withheld", "faint"]
PUBLISHABLE: Mark = "publishable"
STAYS: Mark = "stays"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """text: the main line. under: a smaller second line (an interval). tone: a class of the style sheet."""

    text: str
    under: str = ""
    tone: Tone = ""
    spoken: str = ""  # what a screen reader adds ("best in this column")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Heading of a column; `hint` is a second line; numeric columns are set flush right."""

    title: str
    hint: str = ""
    numeric: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """head: the row's heading. group: starts a group of rows under this title. ours: highlighted."""

    head: str
    cells: tuple[Cell, ...]
    note: str = ""
    group: str = ""
    ours: bool = False
    total: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table. `first` heads the first column; `wide` tables get smaller type.

    stacked: of four columns, which on a phone stand under the name of the row and what is said below it.
    """

    caption: str
    first: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    mark: Mark = PUBLISHABLE
    note: str = ""
    wide: bool = False
    stacked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure drawn twice, for a desktop and for a phone. `finding` says in a sentence what it shows."""

    title: str
    caption: str
    finding: str
    wide: Markup
    narrow: Markup
    mark: Mark = PUBLISHABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph; `tone` sets it apart."""

    text: str
    tone: Literal["", "note", "missing", "warning"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Pairs of name and value, set as a description list."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Literal text; `summary` folds it away on screen (never on paper)."""

    text: str
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One headline number."""

    name: str
    value: str
    interval: str
    about: str


Block: TypeAlias = Text | Grid | Picture | Facts | Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """name: anchor and id. nav: short title in the navigation."""

    name: str
    title: str
    nav: str
    blocks: tuple[Block, ...] = ()
    cards: tuple[Card, ...] = field(default=())
