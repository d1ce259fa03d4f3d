"""CSV tables of a hospital database: found by name, small ones checked whole, large ones streamed."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from lazaretto.data._flow_read import LINE, LONGEST_LINE, check_end, open_table, read_bytes, read_columns
from lazaretto.errors import DataError

__all__ = [
    "bad_cell",
    "collected",
    "find_tables",
    "not_as_published",
    "number_or_refuse",
    "one_per_key",
    "scan_table",
    "small_table",
    "whole_table",
]

_TAIL_BYTES = 1 << 16  # of a table, in which its last two lines are looked for


def find_tables(
    path: Any, source: str, names: Sequence[str], folders: Sequence[str] = (), needed: Sequence[str] = ()
) -> dict[str, Path]:
    """name -> its file (NAME.csv or NAME.csv.gz in any case) in `path` or in one of its `folders`.

    Raises DataError where there is no path, no folder, a table twice, or one of `needed` missing.
    """
    if path is None:
        raise DataError(f"{source} reads published files, and no path is given", way_out="give --data FOLDER")
    place = Path(str(path))
    if not place.is_dir():
        raise DataError(f"{place}: no such folder", way_out=f"give the folder of {source}'s published files")
    inside = [place / name for name in folders if (place / name).is_dir()]
    found: dict[str, Path] = {}
    for file in sorted(entry for folder in (place, *inside) for entry in folder.iterdir() if entry.is_file()):
        plain = file.name.lower()
        for name in names:
            if plain in (f"{name}.csv", f"{name}.csv.gz"):
                if name in found:
                    raise DataError(
                        f"{source}: the table {name} is there twice",
                        found=f"{found[name].name} and {file.name}",
                        way_out="leave one of them in the folder",
                    )
                found[name] = file
    missing = [name for name in needed if name not in found]
    if missing:
        here = ", ".join(sorted(entry.name for entry in place.iterdir())[:8]) or "an empty folder"
        raise DataError(
            f"{place}: {source} needs the table {missing[0]}",
            found=here,
            way_out=f"a file named {missing[0]}.csv or {missing[0]}.csv.gz",
        )
    return found


def small_table(file: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pl.DataFrame:
    """LINE and the named columns as text, blanks around cut off, null where empty; names in lower case.

    Columns of `optional` that the file lacks are all null. Raises DataError as `open_table`, and for a
    missing column.
    """
    table = open_table(file)
    held = {name.lower(): name for name in reversed(table.columns)}
    _check_columns(file, held, columns)
    there = [name for name in (*columns, *optional) if name in held]
    frame = read_columns(table, [held[name] for name in there])
    frame = frame.rename({held[name]: name for name in there})
    frame = frame.with_columns(pl.exclude(LINE).str.strip_chars().replace("", None))
    lacking = [pl.lit(None, pl.String).alias(name) for name in optional if name not in held]
    return frame.with_columns(lacking)


def whole_table(file: Path) -> pl.DataFrame:
    """All columns as text, LINE before them; for the leak check."""
    table = open_table(file)
    names = [name.lower() for name in table.columns]
    return small_table(file, list(dict.fromkeys(names)))


def scan_table(file: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pl.LazyFrame:
    """The same for a table that need not fit into memory: nothing is read but the header and the last lines.

    Raises DataError as `small_table`, and where the file seems to be cut off; of a .gz, where its stream is.
    """
    names = [name.strip().strip('"') for name in _header(file).split(",")]
    held = {name.lower(): name for name in names}
    _check_columns(file, held, columns)
    if len(held) < len(names):
        raise DataError(
            f"{file.name}, line 1: a column stands twice",
            found=",".join(names)[:120],
            way_out="give the table as published",
        )
    if file.suffix != ".gz":  # gzip tells if it was cut off itself
        check_end(file.name, _tail(file), ",", len(names))
    frame = pl.scan_csv(file, infer_schema=False, row_index_name=LINE, row_index_offset=2)
    cells = {name: pl.col(held[name]).str.strip_chars() for name in (*columns, *optional) if name in held}
    return frame.select(
        pl.col(LINE).cast(pl.Int64),
        # when, not replace: the latter holds the whole file in memory
        *[pl.when(cell != "").then(cell).alias(name) for name, cell in cells.items()],
        *[pl.lit(None, pl.String).alias(name) for name in optional if name not in held],
    )


def _check_columns(file: Path, held: Mapping[str, str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in held]
    if missing:
        raise DataError(
            f"{file.name}: columns are missing: {', '.join(missing)}",
            found=", ".join(list(held)[:12]),
            way_out="give the table as published",
        )


def _header(file: Path) -> str:
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            line: bytes = stream.readline(LONGEST_LINE + 1)
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{file} cannot be read", found=str(error), way_out="copy it again") from error
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}, line 1 is not UTF-8", found=f"{line[:20]!r}", way_out="give the table as published"
        ) from error
    if not text or len(line) > LONGEST_LINE or "\0" in text:
        raise DataError(
            f"{file} has no header line", found=f"{line[:40]!r}", way_out="give the table as published"
        )
    return text


def _tail(file: Path) -> bytes:
    """The last lines of a file from the start of one; b"" where the last alone is longer."""
    with file.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - _TAIL_BYTES))
        tail = stream.read(_TAIL_BYTES)
    return tail if size <= _TAIL_BYTES else tail.partition(b"\n")[2]


def collected(file: Path, frame: pl.LazyFrame) -> pl.DataFrame:
    """The rows of a scan. Raises DataError naming the file for what cannot be read as its table."""
    try:
        # every column is read: with a choice of columns, rows that are too long would pass unseen
        return frame.collect(engine="streaming", optimizations=pl.QueryOptFlags(projection_pushdown=False))
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{file.name} cannot be read as a table",
            found=str(error).partition("\n")[0][:200],
            way_out="was the file cut off, or edited? copy it again",
        ) from error


def bad_cell(file: Path, line: int, column: str, value: object, takes: str) -> DataError:
    """What to raise for one cell."""
    return DataError(
        f"{file.name}, line {line}, column '{column}' must hold {takes}",
        found=repr(value),
        way_out="give the table as published, or mend that row",
    )


def number_or_refuse(
    file: Path,
    frame: pl.DataFrame,
    columns: Mapping[str, tuple[float, float]],
    *,
    complete: Sequence[str] = (),
) -> pl.DataFrame:
    """Text columns as float64, null where empty.

    columns: name -> least and largest. complete: those that may not be empty. Raises DataError naming file,
    line, column and value for text, NaN, infinite, out of range or empty.
    """
    for name, (least, largest) in columns.items():
        number = frame[name].cast(pl.Float64, strict=False).fill_nan(None)
        fine = number.is_between(least, largest).fill_null(False)
        if name not in complete:
            fine = fine | frame[name].is_null()
        if not fine.all():
            row = int((~fine).arg_max() or 0)
            raise bad_cell(
                file, frame[LINE][row], name, frame[name][row], f"a number from {least:g} to {largest:g}"
            )
        frame = frame.with_columns(number.alias(name))
    return frame


def one_per_key(file: Path, frame: pl.DataFrame, key: str) -> tuple[pl.DataFrame, int]:
    """Copies of rows left out, and how many. Raises DataError where a key stands in two rows that differ."""
    kept = frame.unique([name for name in frame.columns if name != LINE], keep="first", maintain_order=True)
    twice = kept.filter(pl.col(key).is_duplicated())
    if twice.height:
        raise DataError(
            f"{file.name}, line {twice[LINE][1]}: {key} stands twice with different content",
            found=f"{twice[key][0]}, first in line {twice[LINE][0]}",
            way_out="give the table as published",
        )
    return kept, frame.height - kept.height


def not_as_published(place: Path, files: Sequence[Path]) -> list[str]:
    """Names of `files` whose bytes (or unpacked bytes) have another SHA-256 than SHA256SUMS.txt says.

    Files that it does not list count as different; without that file nothing is known, and nothing said.
    """
    sums = place / "SHA256SUMS.txt"
    if not sums.is_file() or sums.stat().st_size > LONGEST_LINE:
        return []
    lines = [line.split() for line in sums.read_text("utf-8", "replace").splitlines()]
    known = {Path(line[1]).name.lower(): line[0].lower() for line in lines if len(line) == 2}
    wrong = []
    for file in files:
        sums_here = (
            hashlib.sha256(file.read_bytes()).hexdigest(),
            hashlib.sha256(read_bytes(file)).hexdigest(),
        )
        wanted = known.get(file.name.lower()), known.get(file.name.lower().removesuffix(".gz"))
        if all(here != want for here, want in zip(sums_here, wanted, strict=True)):
            wrong.append(file.name)
    return wrong
