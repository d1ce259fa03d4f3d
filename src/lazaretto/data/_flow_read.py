"""Bytes of flow tables, checked before anything is made of them."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from lazaretto.errors import DataError, many

__all__ = [
    "LINE",
    "LONGEST_LINE",
    "TextTable",
    "and_more",
    "check_end",
    "find_files",
    "open_bare_table",
    "open_table",
    "read_bytes",
    "read_columns",
]

_QUOTED = re.compile(r'"[^"]*"')
ENDINGS = ("*.csv", "*.tsv", "*.binetflow", "*.csv.gz", "*.tsv.gz", "*.binetflow.gz")
LINE = "\0line"  # no header can hold this name: zero bytes are refused
LONGEST_LINE = 1 << 20  # bytes; a flow takes a few hundred
MOST_BYTES = 1 << 31  # of one file, unpacked: about ten million flows; a small .gz can hold any number
_BLOCK = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A delimited text file in memory: column names (stripped), and rows, the first in `first_line`."""

    name: str
    columns: tuple[str, ...]
    delimiter: str
    body: bytes
    first_line: int = 2


def find_files(path: object, patterns: Sequence[str]) -> list[Path]:
    """The files to read, sorted by name: `path` itself, or what matches a pattern in that folder.

    Raises DataError where there is no path, nothing at it, or no match.
    """
    if path is None:
        raise DataError(
            "flows_csv reads files, and no path is given", way_out="lazaretto run PLAN --data FILE_OR_FOLDER"
        )
    place = Path(str(path))
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError("no such file or folder", found=str(place), way_out="check the path")
    found = sorted({file for pattern in patterns for file in place.glob(pattern) if file.is_file()})
    if not found:
        here = ", ".join(sorted(entry.name for entry in place.iterdir())[:8]) or "nothing"
        raise DataError(
            f"no flow table in {place}",
            found=here,
            way_out=f'set data.options.files, now {", ".join(patterns)} ("**/*.csv" looks into folders too)',
        )
    return found


def open_table(file: Path) -> TextTable:
    """Read a file (gunzipped where it ends in .gz), check that it is a delimited text, split off its header.

    Raises DataError for an unreadable, empty, cut-off, binary or wrongly encoded file, one of more than
    2 GiB (unpacked), a line of more than 1 MiB, no delimiter, or no row after the header; the message
    names file and line.
    """
    data = _sound(file)
    first, _, body = data.partition(b"\n")
    header = first.decode().rstrip("\r")
    delimiter = max(",\t;|", key=header.count)
    if not header.count(delimiter):
        raise DataError(
            f"{file} has one column: no comma, tab, semicolon or bar in its first line",
            found=header[:80],
            way_out="give a table with a header line",
        )
    try:
        columns = tuple(name.strip() for name in next(csv.reader([header], delimiter=delimiter)))
    except csv.Error as error:  # a line end of old Macs in its midst
        raise _odd_line(f"{file}, line 1 cannot be read as a header", str(error)) from error
    if not body.strip():
        raise DataError(
            f"{file} has a header and no rows", found=header[:80], way_out="remove it, or export it again"
        )
    return TextTable(name=file.name, columns=columns, delimiter=delimiter, body=body)


def open_bare_table(file: Path, columns: Sequence[str]) -> TextTable:
    """The same for a comma-separated file without a header line, whose columns are known.

    Raises DataError as `open_table`, and where the first row has another number of cells.
    """
    body = _sound(file)
    first = body.partition(b"\n")[0].decode().rstrip("\r")
    if (cells := first.count(",") + 1) != len(columns):
        raise DataError(
            f"{file}, line 1 does not have {len(columns)} cells",
            found=f"{cells}: {first[:80]}",
            way_out="give the file as published: comma-separated, without a header line",
        )
    return TextTable(name=file.name, columns=tuple(columns), delimiter=",", body=body, first_line=1)


def _sound(file: Path) -> bytes:
    """The whole text of a file, checked, without a byte order mark."""
    data = _bytes(file)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{file} is UTF-16", way_out="save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data.strip():
        raise DataError(
            f"{file} is empty", found=f"{len(data)} bytes", way_out="remove it, or export it again"
        )
    _check_text(file, data)
    return data


def read_bytes(file: Path, most: int | None = None) -> bytes:
    """A whole file, gunzipped where it ends in .gz: never more than one byte above `most` is held.

    most: bytes, unpacked; MOST_BYTES where it is not given.
    Raises DataError for a larger file, and what the system and gzip raise: OSError, EOFError, zlib.error.
    """
    most = MOST_BYTES if most is None else most
    packed = file.suffix == ".gz"
    size = file.stat().st_size
    if not packed and size > most:
        raise _too_large(file, f"{size:,} bytes", most)
    held = io.BytesIO()
    with gzip.open(file, "rb") if packed else file.open("rb") as stream:
        while block := stream.read(min(_BLOCK, most + 1 - held.tell())):
            held.write(block)
            if held.tell() > most:
                raise _too_large(file, f"{size:,} bytes that unpack to more" if packed else "more", most)
    return held.getvalue()


def _too_large(file: Path, found: str, most: int) -> DataError:
    return DataError(
        f"{file} is too large: at most {most:,} bytes per file, unpacked, are read",
        found=found,
        way_out="split the file into smaller ones, each with the header line, in one folder",
    )


def _bytes(file: Path) -> bytes:
    try:
        return read_bytes(file)
    except EOFError as error:
        raise DataError(
            f"{file} ends before its gzip stream does: it was cut off", way_out="copy or download it again"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{file} is not a sound gzip file",
            found=str(error),
            way_out="copy it again, or drop the ending .gz",
        ) from error
    except OSError as error:
        raise DataError(
            f"{file} cannot be read", found=error.strerror, way_out="check its permissions"
        ) from error


def _check_text(file: Path, data: bytes) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines, last = 0, -1  # line ends so far, place of the last one
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        zero = block.find(b"\0")
        if zero >= 0:
            raise DataError(
                f"{file} is not text",
                found=f"a zero byte in line {lines + block.count(10, 0, zero) + 1}",
                way_out="give a table as .csv, .tsv or .binetflow (no captures, no .xlsx)",
            )
        try:
            decoder.decode(block, final=start + _BLOCK >= len(data))
        except UnicodeDecodeError as error:
            line = lines + block.count(10, 0, max(error.start, 0)) + 1
            raise DataError(
                f"{file} is not UTF-8",
                found=f"byte 0x{error.object[error.start]:02x} in line {line}",
                way_out="convert it (iconv -f WINDOWS-1252 -t UTF-8); or is it no text at all?",
            ) from error
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10) + start
        edges = np.concatenate([[last], ends, [len(data)] if start + _BLOCK >= len(data) else []]).astype(
            np.int64
        )
        too_long = np.flatnonzero(np.diff(edges) > LONGEST_LINE)
        if len(too_long):
            raise DataError(
                f"{file}, line {lines + int(too_long[0]) + 1} is too long for a flow",
                found=f"{int(np.diff(edges)[too_long[0]]):,} bytes",
                way_out="is it a table with one flow per line?",
            )
        lines += len(ends)
        last = int(ends[-1]) if len(ends) else last


def read_columns(table: TextTable, chosen: Sequence[str]) -> pl.DataFrame:
    """Columns `chosen` as text, LINE [rows] (line in the file) before them. Empty lines are left out.

    Where a column name stands twice, the first is meant. Raises DataError naming the first bad line, and
    where the file seems to be cut off.
    """
    last = f"line {table.body.count(10) + table.first_line}, the last"
    check_end(table.name, table.body, table.delimiter, len(table.columns), last)
    position = {name: place for place, name in reversed(list(enumerate(table.columns)))}
    wanted = [position[name] for name in chosen]
    width = len(table.columns)
    header = table.delimiter.join(f"c{place}" for place in range(width)) + "\n"
    try:
        # every column is read: with a choice of columns, polars would pass over rows that are too long
        frame = pl.read_csv(
            io.BytesIO(header.encode() + table.body),
            separator=table.delimiter,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError as error:
        raise _bad_line(table, error) from error
    frame = frame.select(
        [pl.col(f"c{place}").alias(name) for place, name in zip(wanted, chosen, strict=True)]
    )
    lines = pl.int_range(table.first_line, pl.len() + table.first_line, dtype=pl.Int64).alias(LINE)
    return frame.select(lines, pl.all()).filter(~pl.all_horizontal(pl.exclude(LINE).is_null()))


def check_end(name: str, tail: bytes, delimiter: str, width: int, where: str = "the last line") -> None:
    """Raises DataError where the last line has no end, and fewer cells than the header and the line before.

    tail: the end of the file from the start of a line, with the last two lines of it. width: cells of the
    header. What stands in quotation marks counts as one character; lines with an odd number of marks are not
    looked at, since their cell may go on from line to line.
    """
    end = tail.rfind(b"\n")
    last = tail[end + 1 :].decode(errors="replace").rstrip("\r")
    before = tail[tail.rfind(b"\n", 0, max(end, 0)) + 1 : max(end, 0)].decode(errors="replace")
    plain, plain_before = (_QUOTED.sub("_", line) for line in (last, before))
    cells = plain.count(delimiter) + 1
    usual = plain_before.count(delimiter) + 1 if before.strip() else width
    if last.strip() and '"' not in plain + plain_before and cells < min(width, usual):
        raise DataError(
            f"{name}, {where}, has too few cells and no line end",
            found=f"{cells} of {width}: {last[:80]}",
            way_out="was the file cut off? copy it again; if it is whole, end the line",
        )


def _bad_line(table: TextTable, error: Exception) -> DataError:
    width = len(table.columns)
    rows = csv.reader(io.StringIO(table.body.decode()), delimiter=table.delimiter, strict=True)
    begin = table.first_line  # line in which the row begins that is read
    try:
        for row in rows:
            begin = rows.line_num + table.first_line
            if len(row) > width:
                return DataError(
                    f"{table.name}, line {rows.line_num + table.first_line - 1} has more cells than the "
                    "header has columns",
                    found=f"{len(row)} cells for {width} columns: {table.delimiter.join(row)[:80]}",
                    way_out="quote cells that hold the delimiter, or mend the line",
                )
    except csv.Error as problem:
        return _odd_line(f"{table.name}, line {begin} cannot be read", str(problem))
    first = str(error).partition("\n")[0]
    return DataError(
        f"{table.name} cannot be read as a table", found=first, way_out="look for stray quotation marks"
    )


def _odd_line(place: str, problem: str) -> DataError:
    """What Python's reader of tables says of a line, in our words."""
    if problem.startswith("new-line character"):
        return DataError(
            place,
            found="a carriage return in the midst of the line",
            way_out="remove it, or save the file with line ends of Unix or Windows throughout",
        )
    said = {
        "unexpected end of data": "a quotation mark that is opened there, and not closed in all the file",
        "field larger": "a cell that is too long; is a quotation mark opened and not closed?",
    }
    found = next((words for sign, words in said.items() if problem.startswith(sign)), None)
    return DataError(
        place,
        found=found or "a quotation mark that ends a cell, and more text in the cell after it",
        way_out="close the quotation mark; one within a cell is written twice",
    )


def and_more(rows: int) -> str:
    """What follows the first bad row of several: ", and 3 more such rows" of four in all, "" of one."""
    return f", and {many(rows - 1, 'more such row')}" if rows > 1 else ""
