"""One error tree. Every message names the offending thing, the value found, and the way out.

LazarettoError
├── InputError        exit 2: a file, a table or a message is wrong
│   ├── DataError     a source's files cannot be used
│   └── WireError     bytes from outside are not one of our messages
├── PlanError         exit 2: the plan or a command-line value is wrong
│   └── OptionError   an option of a part is unknown, or not what the part takes
├── CheckFailed       exit 1: what was checked does not hold
│   └── RoundRefused  a protected round ended without an aggregate
└── Interrupted       exit 3: stopped by the user; the state is saved
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = [
    "CheckFailed",
    "DataError",
    "InputError",
    "Interrupted",
    "LazarettoError",
    "OptionError",
    "PlanError",
    "RoundRefused",
    "WireError",
    "did_you_mean",
    "many",
    "printable",
    "should_be",
]

_WORD = 0.75  # how alike a name is to one word of a longer one of which it is taken for that
_MOST_NEAR = 3  # names that have such a word

# kinds of Pydantic's errors -> what a value should be, in words of TOML
_WORDS = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "string_type": "a string",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
}


class LazarettoError(Exception):
    """Root of the tree. `str()` is shown to the user as it is, without a traceback.

    `found` is what was met, `way_out` what to do about it; both are part of the text.
    """

    exit_code = 2

    def __init__(self, problem: str, *, found: object = None, way_out: str | None = None) -> None:
        self.problem, self.found, self.way_out = problem, found, way_out
        text = problem if found is None else f"{problem} (found: {found})"
        super().__init__(text if way_out is None else f"{text}\n  way out: {way_out}")


class InputError(LazarettoError):
    """Something given to us from outside cannot be used."""


class DataError(InputError):
    """A file or table of a data source is missing, malformed or too small."""


class WireError(InputError):
    """Bytes that claim to be a message are not canonical, too large or of the wrong type."""


class PlanError(LazarettoError):
    """A plan, or a `--set` value laid over it, is not valid."""


class OptionError(PlanError):
    """An option of a part is unknown, or not what the part takes.

    part, option: their names. said: what is wrong, for who names the option's key before it. known: the
    options there are, where this is none of them.
    """

    def __init__(
        self,
        problem: str,
        *,
        part: str,
        option: str,
        said: str,
        found: object = None,
        way_out: str | None = None,
        known: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(problem, found=found, way_out=way_out)
        self.part, self.option, self.said, self.known = part, option, said, known


class CheckFailed(LazarettoError):
    """A check ran to its end and its answer is no."""

    exit_code = 1


class RoundRefused(CheckFailed):
    """A round under secure aggregation was refused: nothing was aggregated, and the cause is said."""


class Interrupted(LazarettoError):
    """The user stopped the run; everything finished so far is on disk."""

    exit_code = 3


def did_you_mean(given: object, known: Iterable[str], before: str = "", cutoff: float = 0.5) -> str:
    """How a way out begins: "did you mean 'mean'? " with the nearest known name, "" where none is near.

    A word of a longer name counts, too: of "median" the nearest are 'coordinate_median' and
    'geometric_median', and both are said.
    before: what is written before the name, as that of its section. cutoff: in [0, 1], how near it has to be.
    """
    said, names = str(given), list(known)
    near = [name for name in names if name.lower() == said.lower()] or _nearest(said, names, cutoff)
    told = " or ".join(f"'{before}{name}'" for name in near)
    return f"did you mean {told}? " if near else ""


def _nearest(said: str, names: list[str], cutoff: float) -> list[str]:
    """The name that is most alike as a whole, or those of which one word is more so; [] below the cutoff."""
    whole = difflib.get_close_matches(said, names, n=1, cutoff=cutoff)
    least = max(cutoff, _WORD, *(_alike(said, name) for name in whole))
    words = {name: max(_alike(said, word) for word in name.split("_")) for name in names if _has_words(name)}
    best = max(words.values(), default=0.0)
    return [name for name in names if words.get(name) == best][:_MOST_NEAR] if best > least else whole


def _has_words(name: str) -> bool:
    return "_" in name and "." not in name  # a section's name is no word of its key


def _alike(said: str, name: str) -> float:
    return difflib.SequenceMatcher(None, name, said).ratio()


def many(count: int, one: str) -> str:
    """So many of something, such as "1 round" and "2 rounds"."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def printable(text: str) -> str:
    """The text without control characters that a file may have smuggled into it; lines are kept."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def should_be(kind: str, message: str) -> str:
    """An error of Pydantic, its kind and its message, in words for who writes a plan."""
    if kind in _WORDS:
        return f"should be {_WORDS[kind]}"
    limit = re.search(r"at (?:least|most) \d+", message)
    if kind in ("too_short", "too_long") and limit is not None:
        return f"should have {limit.group()} " + ("entry" if limit.group().endswith(" 1") else "entries")
    return message.removeprefix("Input ").removeprefix("Value error, ")
