"""Files of published sets: which ones to read, and their numbers, checked cell by cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto.data._flow_read import LINE, TextTable, and_more
from lazaretto.errors import DataError

__all__ = ["as_published", "checked_numbers", "checked_words", "published_files"]


def published_files(path: Any, source: str, patterns: Sequence[str]) -> list[Path]:
    """`path` itself, or the files of that folder that match a pattern, sorted by name.

    Raises DataError where there is no path, nothing at it, or no match.
    """
    if path is None:
        raise DataError(f"{source} reads published files, and no path is given", way_out="give --data PATH")
    place = Path(str(path))
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(
            f"{place}: no such file or folder", way_out=f"give the folder of {source}'s published files"
        )
    found = sorted({file for pattern in patterns for file in place.glob(pattern) if file.is_file()})
    if not found:
        here = ", ".join(sorted(entry.name for entry in place.iterdir())[:5]) or "an empty folder"
        raise DataError(
            f"{place}: no file of {source} here", found=here, way_out=f"files named {' or '.join(patterns)}"
        )
    return found


def checked_numbers(
    table: TextTable,
    frame: pl.DataFrame,
    ranges: Mapping[str, tuple[float, float]],
    *,
    codes: Collection[str] = (),
    complete: bool = True,
) -> pl.DataFrame:
    """The columns of `ranges` as float64; null where the cell is null, which `complete` refuses.

    frame: text columns, with LINE. ranges: column -> least and largest value that it may hold. codes: which
    of them hold whole numbers only.
    Raises DataError naming file, line, column and value for text, NaN, infinite or out of range.
    """
    cast = frame.select(
        pl.col(name).str.strip_chars().cast(pl.Float64, strict=False) for name in ranges
    ).with_columns(pl.all().fill_nan(None))
    for name, (least, largest) in ranges.items():
        empty = frame[name].is_null()
        if complete and empty.any():
            line = frame[LINE][int(empty.arg_max() or 0)]
            raise DataError(
                f"{table.name}, line {line}, column '{name}': an empty cell",
                found=f"{int(empty.sum())} such rows",
                way_out="give the file as published, or leave those rows out",
            )
        fine = cast[name].is_between(least, largest).fill_null(False) | empty
        kind = "a number"
        if name in codes:
            kind, fine = (
                "a whole number",
                fine & ((cast[name] == cast[name].floor()).fill_null(False) | empty),
            )
        if not fine.all():
            raise _bad_cell(table, frame, name, fine, f"{kind} from {least:g} to {largest:g}")
    return cast


def checked_words(
    table: TextTable, frame: pl.DataFrame, known: Mapping[str, Mapping[str, Any]]
) -> pl.DataFrame:
    """Columns of words as what they mean. known: column -> word (in lower case) -> its meaning.

    Blanks around a word and its case do not count. Raises DataError as `checked_numbers`.
    """
    plain = frame.select(pl.col(name).fill_null("").str.strip_chars().str.to_lowercase() for name in known)
    for name, words in known.items():
        fine = plain[name].is_in(list(words))
        if not fine.all():
            some = ", ".join(list(words)[:8]) + (", ..." if len(words) > 8 else "")
            raise _bad_cell(table, frame, name, fine, f"one of {some}")
    return plain.select(
        pl.col(name).replace_strict(list(words), list(words.values())) for name, words in known.items()
    )


def _bad_cell(table: TextTable, frame: pl.DataFrame, name: str, fine: pl.Series, takes: str) -> DataError:
    row = int((~fine).arg_max() or 0)
    return DataError(
        f"{table.name}, line {frame[LINE][row]}, column '{name}' must hold {takes}",
        found=f"{frame[name][row]!r}{and_more(int((~fine).sum()))}",
        way_out="give the file as published, or mend those rows",
    )


def as_published(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Columns for the leak check: numbers where every cell is one (NaN where empty), else text."""
    columns: dict[str, NDArray[Any]] = {}
    for name in names:
        number = frame[name].str.strip_chars().cast(pl.Float64, strict=False)
        if number.null_count() == frame[name].null_count():
            columns[name] = number.fill_null(float("nan")).to_numpy().astype(np.float64)
        else:
            columns[name] = frame[name].fill_null("").to_numpy()
    return columns
