"""Numbers as a reader wants them: digits that the interval allows, units, a real minus sign."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "NOT_AVAILABLE",
    "Triple",
    "bytes_exact",
    "bytes_human",
    "clean",
    "count",
    "counted",
    "duration",
    "fixed",
    "interval_text",
    "items",
    "mapping",
    "number",
    "operations_human",
    "percent",
    "places",
    "plain",
    "seeds_text",
    "short",
    "triple",
    "words",
]

NOT_AVAILABLE = "n/a"
_NARROW_SPACE = "\u202f"
_MINUS = "\u2212"
_LARGEST = 1e18
_NOTHING = 1e-12  # what rounding leaves of 0, or takes from 1


@dataclass(frozen=True, slots=True)
class Triple:
    """A value with its 95\u202f% interval; `low` and `high` are None where there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def width(self) -> float:
        """Length of the interval, 0 where there is none."""
        return 0.0 if self.low is None or self.high is None else self.high - self.low


def number(value: Any) -> float | None:
    """A finite float, or None for anything else (bool, text, NaN, None, a size that nothing measured has)."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if abs(result) <= _LARGEST else None  # NaN compares false


def triple(value: Any) -> Triple | None:
    """A Triple from a record's {"value", "low", "high"} or a bare number; None if there is no value."""
    if not isinstance(value, Mapping):
        bare = number(value)
        return None if bare is None else Triple(bare)
    middle, low, high = (number(value.get(key)) for key in ("value", "low", "high"))
    if middle is None:
        return None
    if low is None or high is None or low > high:
        return Triple(middle)
    return Triple(middle, low, high)


def clean(value: Any) -> Any:
    """The same JSON-like value with control characters and lone surrogates in its text replaced.

    Such characters can stand neither in HTML nor in SVG nor in a UTF-8 file. Arrays become lists.
    """
    if isinstance(value, str):
        return "".join("\ufffd" if _forbidden(letter) else letter for letter in value)
    if isinstance(value, Mapping):
        return {clean(str(key)): clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [clean(entry) for entry in value]
    if hasattr(value, "tolist"):
        return clean(value.tolist())
    return value


def _forbidden(letter: str) -> bool:
    code = ord(letter)
    return (
        (code < 0x20 and letter not in "\t\n\r")
        or 0x7F <= code < 0xA0
        or 0xD800 <= code < 0xE000
        or 0x202A <= code <= 0x202E  # overrides of writing direction make text read as what it is not
        or 0x2066 <= code <= 0x2069
        or code & 0xFFFE == 0xFFFE
    )


def items(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a map, else an empty one."""
    return value if isinstance(value, dict) else {}


def places(values: Iterable[Triple | None], *, ratio: bool) -> int:
    """Decimals for a column: 3 of ratios (`fixed` tells those below 1 from it), else by the intervals."""
    if ratio:
        return 3
    widths = sorted(value.width for value in values if value is not None and value.width > 0)
    if not widths:
        return 1
    return min(max(math.ceil(-math.log10(widths[len(widths) // 2])) + 1, 0), 4)


def fixed(value: float, decimals: int, *, sign: bool = False) -> str:
    """`plain`, but what is not 0 does not read as 0, nor what is below 1 as 1: `<0.001`, `>0.999`.

    With sign, for differences, it is `plain`: there 0.000 says that hardly any is seen. One decimal or none
    are not of a share, for which alone a number just below 1 is another than 1.
    """
    if sign or value <= _NOTHING:
        return plain(value, decimals, sign=sign)
    least = 10.0**-decimals
    if round(value, decimals) == 0:
        return f"<{plain(least, decimals)}"
    if decimals >= 2 and value < 1 - _NOTHING and round(value, decimals) == 1:
        return f">{plain(1 - least, decimals)}"
    return plain(value, decimals)


def plain(value: float, decimals: int, *, sign: bool = False) -> str:
    """`value` with `decimals` decimals, thousands apart; `sign` shows a plus too."""
    text = f"{abs(value):,.{decimals}f}".replace(",", _NARROW_SPACE)
    negative = value < 0 and any(digit in "123456789" for digit in text)
    return (_MINUS if negative else "+" if sign and value > 0 else "") + text


def interval_text(value: Triple | None, decimals: int = 3, *, sign: bool = False) -> str:
    """`0.957 [0.948, 0.966]`, or n/a."""
    if value is None:
        return NOT_AVAILABLE
    text = fixed(value.value, decimals, sign=sign)
    if value.low is None or value.high is None:
        return text
    return f"{text} [{fixed(value.low, decimals, sign=sign)}, {fixed(value.high, decimals, sign=sign)}]"


def percent(share: float, decimals: int | None = None) -> str:
    """`12 %`, `8.3 %`, `0.41 %`: two significant digits unless told."""
    size = abs(100 * share)
    if decimals is None:
        decimals = 0 if size >= 9.95 else 1 if size >= 0.995 else 2
        decimals = next((n for n in range(decimals) if abs(size - round(size, n)) < 1e-9), decimals)
    text = fixed(100 * share, decimals)
    if share < 1 and round(100 * share, decimals) >= 100:
        text = f">{plain(100 - 10**-decimals, decimals)}"
    return f"{text}{_NARROW_SPACE}%"


def count(value: Any) -> str:
    """A whole number with thousands apart, or n/a."""
    found = number(value)
    return NOT_AVAILABLE if found is None else plain(found, 0)


def counted(value: Any, one: str) -> str:
    """So many of something, such as "1 site" and "2 sites"; n/a sites."""
    return f"{count(value)} {one}" if number(value) == 1 else f"{count(value)} {one}s"


def seeds_text(seeds: Sequence[Any]) -> str:
    """Such as "seed 0" and "seeds 0, 1"."""
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(str(seed) for seed in seeds)}"


def bytes_exact(value: Any) -> str:
    """`61 284 352 B`, or n/a."""
    return NOT_AVAILABLE if number(value) is None else f"{count(value)}{_NARROW_SPACE}B"


def bytes_human(value: Any) -> str:
    """`61.3 MB` (powers of 1000), or n/a."""
    found = number(value)
    if found is None:
        return NOT_AVAILABLE
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(found) < 999.5 or unit == "TB":
            break
        found /= 1000
    decimals = 0 if unit == "B" or abs(found) >= 100 else 1 if abs(found) >= 10 else 2
    return f"{plain(found, decimals)}{_NARROW_SPACE}{unit}"


def operations_human(value: Any) -> str:
    """`61.3 GFLOP` (powers of 1000), or n/a."""
    found = number(value)
    if found is None:
        return NOT_AVAILABLE
    for unit in ("", "k", "M", "G", "T", "P"):
        if abs(found) < 999.5 or unit == "P":
            break
        found /= 1000
    decimals = 0 if not unit or abs(found) >= 100 else 1 if abs(found) >= 10 else 2
    return f"{plain(found, decimals)}{_NARROW_SPACE}{unit}FLOP"


def duration(seconds: Any) -> str:
    """`850 ms`, `5 s`, `12.3 s`, `2 min 5 s`, `1 h 12 min`, or n/a."""
    found = number(seconds)
    if found is None:
        return NOT_AVAILABLE
    size, minus, space = abs(found), _MINUS if found < 0 else "", _NARROW_SPACE
    if size < 99.95 and size == round(size):
        return f"{minus}{size:.0f}{space}s"
    if size < 0.9995:
        return f"{minus}{size * 1000:.{0 if size >= 0.0095 else 1}f}{space}ms"
    if size < 99.95:
        return f"{minus}{size:.{1 if size >= 9.95 else 2}f}{space}s"
    whole = round(size)
    if whole < 3600:
        return f"{minus}{whole // 60}{space}min" + (f" {whole % 60}{space}s" if whole % 60 else "")
    minutes = round(size / 60)
    return f"{minus}{minutes // 60}{space}h" + (f" {minutes % 60}{space}min" if minutes % 60 else "")


def short(text: Any, limit: int) -> str:
    """At most `limit` characters, the last one an ellipsis where something was cut."""
    flat = " ".join(str(text).split())
    return flat if len(flat) <= limit else flat[: max(limit - 1, 1)].rstrip() + "…"


def words(name: Any) -> str:
    """A name from code as prose: underscores become spaces."""
    return str(name).replace("_", " ")
