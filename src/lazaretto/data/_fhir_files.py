"""FHIR resources from files: bundles as JSON, Bulk Data as NDJSON; bounded, one resource at a time."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from lazaretto.data._flow_read import read_bytes
from lazaretto.errors import DataError

__all__ = ["MOST_LINE_BYTES", "Found", "fhir_files", "read_resources"]

MOST_LINE_BYTES = 1 << 24  # of one resource in NDJSON: notes may hold a scanned page
MOST_BUNDLE_BYTES = 1 << 28  # a bundle is parsed as a whole, and takes some ten times its size in memory
MOST_RESOURCES = 20_000_000
MOST_FILE_BYTES = 1 << 36  # of one NDJSON file, unpacked
_PATTERNS = ("*.json", "*.json.gz", "*.ndjson", "*.ndjson.gz")
_BUNDLES = ("transaction", "batch", "collection", "searchset")


class Found(NamedTuple):
    """One resource as parsed JSON, where it stood ("x.ndjson, line 3"), its full URL in a bundle or ""."""

    resource: dict[str, Any]
    place: str
    url: str


def fhir_files(path: Any) -> list[Path]:
    """`path` itself, or what ends in .json or .ndjson (also .gz) in that folder and those below, sorted.

    Raises DataError where there is no path, nothing at it, or no such file.
    """
    if path is None:
        raise DataError("fhir reads files, and no path is given", way_out="give --data PATH")
    place = Path(str(path))
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(
            f"{place}: no such file or folder", way_out="give a folder of FHIR bundles or of Bulk Data"
        )
    found = sorted({file for pattern in _PATTERNS for file in place.rglob(pattern) if file.is_file()})
    if not found:
        here = ", ".join(sorted(entry.name for entry in place.iterdir())[:5]) or "an empty folder"
        raise DataError(f"{place}: no FHIR here", found=here, way_out=f"files named {' or '.join(_PATTERNS)}")
    return found


def read_resources(path: Any) -> Iterator[Found]:
    """Every resource of `path`, in the order of files and of entries; nothing is validated but the envelope.

    Raises DataError naming file and line (of a bundle: entry) for what is not JSON, not text, cut off, too
    large, nested too deeply, a bundle of another type, or more than 20 million resources.
    """
    count = 0
    for file in fhir_files(path):
        lines = file.name.removesuffix(".gz").endswith(".ndjson")
        for found in _lines(file) if lines else _bundle(file):
            count += 1
            if count > MOST_RESOURCES:
                raise DataError(
                    f"{file}: more than {MOST_RESOURCES:,} resources", way_out="split the export by patients"
                )
            yield found


def _lines(file: Path) -> Iterator[Found]:
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            number = 0
            # mypy: gzip's stream is binary here
            size = 0
            while line := cast(BinaryIO, stream).readline(MOST_LINE_BYTES + 1):
                number, size = number + 1, size + len(line)
                if size > MOST_FILE_BYTES:
                    raise DataError(
                        f"{file.name} is too large, unpacked",
                        found=f"more than {MOST_FILE_BYTES:,} bytes by line {number}",
                        way_out="split the export by patients",
                    )
                place = f"{file.name}, line {number}"
                if len(line) > MOST_LINE_BYTES:
                    raise DataError(
                        f"{place} is too long for a resource",
                        found=f"more than {MOST_LINE_BYTES:,} bytes",
                        way_out="NDJSON has one resource per line; a bundle must end in .json",
                    )
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield Found(_object(line, place), place, "")
    except (EOFError, zlib.error, OSError) as error:
        raise _unreadable(file, error) from error


def _bundle(file: Path) -> Iterator[Found]:
    try:
        data = read_bytes(file, MOST_BUNDLE_BYTES)
    except (EOFError, zlib.error, OSError) as error:
        raise _unreadable(file, error) from error
    top = _object(data.removeprefix(codecs.BOM_UTF8), file.name)
    if top.get("resourceType") != "Bundle":
        yield Found(top, file.name, "")
        return
    if top.get("type") not in _BUNDLES:
        raise DataError(
            f"{file.name}: a bundle of this type is not read",
            found=repr(top.get("type")),
            way_out=f"one of type {', '.join(_BUNDLES)}",
        )
    entries = top.get("entry", [])
    if not isinstance(entries, list):
        raise DataError(
            f"{file.name}: 'entry' of a bundle is a list",
            found=type(entries).__name__,
            way_out="export it again",
        )
    for number, entry in enumerate(entries):
        place = f"{file.name}, entry {number + 1}"
        if not isinstance(entry, dict) or not isinstance(entry.get("resource", {}), dict):
            raise DataError(
                f"{place} is no entry of a bundle", found=repr(entry)[:80], way_out="export it again"
            )
        if "resource" in entry:  # one that deletes has none
            yield Found(entry["resource"], place, str(entry.get("fullUrl", "")))


def _object(data: bytes, place: str) -> dict[str, Any]:
    try:
        # a name that is no number (NaN, Infinity) is no JSON, though Python would read it
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place} is not UTF-8",
            found=f"byte 0x{data[error.start]:02x} at {error.start}",
            way_out="FHIR is always UTF-8: export it again",
        ) from error
    except RecursionError as error:
        raise DataError(f"{place}: JSON nested too deeply", way_out="this is no FHIR resource") from error
    except ValueError as error:
        raise DataError(
            f"{place} is not JSON",
            found=f"{str(error)[:120]}: {data[:40]!r}",
            way_out="was the file cut off? export it again",
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            f"{place} is no resource", found=type(value).__name__, way_out="a JSON object is wanted"
        )
    return value


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number in JSON")


def _unreadable(file: Path, error: Exception) -> DataError:
    if isinstance(error, EOFError):
        return DataError(f"{file} ends before its gzip stream does: it was cut off", way_out="copy it again")
    if isinstance(error, zlib.error | gzip.BadGzipFile):
        return DataError(
            f"{file} is not a sound gzip file",
            found=str(error),
            way_out="copy it again, or drop the ending .gz",
        )
    return DataError(f"{file} cannot be read", found=str(error), way_out="check its permissions")
