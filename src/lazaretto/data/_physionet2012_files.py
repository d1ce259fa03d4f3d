"""Files of PhysioNet/CinC 2012, read from the archive or unpacked, and checked row by row.

Nothing of an archive is written to disk; sizes are bounded as they are read, whatever its headers say.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto.data._flow_read import open_table, read_columns
from lazaretto.data._published import checked_numbers
from lazaretto.errors import DataError
from lazaretto.types import Int

__all__ = ["OUTCOMES", "PARAMETERS", "Records", "read_outcomes", "read_records", "set_files"]

# as published -> name of `_clinical_names`. Magnesium is published as mmol/L, but its values are mg/dL.
PARAMETERS = {
    "Albumin": "albumin_g_per_dl",
    "ALP": "alkaline_phosphatase_u_per_l",
    "ALT": "alanine_aminotransferase_u_per_l",
    "AST": "aspartate_aminotransferase_u_per_l",
    "Bilirubin": "bilirubin_mg_per_dl",
    "BUN": "urea_nitrogen_mg_per_dl",
    "Cholesterol": "cholesterol_mg_per_dl",
    "Creatinine": "creatinine_mg_per_dl",
    "DiasABP": "diastolic_pressure_mmhg",
    "FiO2": "inspired_oxygen_fraction",
    "GCS": "glasgow_coma_scale",
    "Glucose": "glucose_mg_per_dl",
    "HCO3": "bicarbonate_mmol_per_l",
    "HCT": "haematocrit_percent",
    "HR": "heart_rate_per_minute",
    "K": "potassium_mmol_per_l",
    "Lactate": "lactate_mmol_per_l",
    "Mg": "magnesium_mg_per_dl",
    "MAP": "mean_pressure_mmhg",
    "MechVent": "ventilated",
    "Na": "sodium_mmol_per_l",
    "NIDiasABP": "cuff_diastolic_pressure_mmhg",
    "NIMAP": "cuff_mean_pressure_mmhg",
    "NISysABP": "cuff_systolic_pressure_mmhg",
    "PaCO2": "arterial_carbon_dioxide_mmhg",
    "PaO2": "arterial_oxygen_mmhg",
    "pH": "arterial_ph",
    "Platelets": "platelets_10_9_per_l",
    "RespRate": "respiratory_rate_per_minute",
    "SaO2": "arterial_oxygen_saturation_percent",
    "SysABP": "systolic_pressure_mmhg",
    "Temp": "temperature_celsius",
    "TroponinI": "troponin_i_ug_per_l",
    "TroponinT": "troponin_t_ug_per_l",
    "Urine": "urine_millilitres",
    "WBC": "white_cells_10_9_per_l",
    "Weight": "weight_kilograms",
}
_DESCRIPTORS = ("RecordID", "Age", "Gender", "Height", "ICUType", "Weight")
OUTCOMES = ("RecordID", "SAPS-I", "SOFA", "Length_of_stay", "Survival", "In-hospital_death")
_HEADER = "Time,Parameter,Value"
_NAME = re.compile(r"(\d{1,9})\.txt")
_TIME = re.compile(r"(\d{1,3}):([0-5]\d)")
MOST_BYTES = 1 << 29  # of an archive, unpacked; the three published sets together take a third
MOST_RECORD_BYTES = 1 << 20  # the longest published one takes 24,000
MOST_RECORDS = 50_000
_BATCH = 500
_WAY_OUT = (
    "give the set as published: set-a.tar.gz or the folder of its text files, with Outcomes-a.txt beside"
)


class Records(NamedTuple):
    """s stays by record number, e events.

    number [s]; descriptors [s, 6] in the order of the file, NaN where -1 (missing).
    stay [e] index into number; hours [e] since admission; parameter [e] index into PARAMETERS; value [e].
    """

    number: Int
    descriptors: NDArray[np.float64]
    stay: Int
    hours: NDArray[np.float64]
    parameter: Int
    value: NDArray[np.float64]


def set_files(path: Any) -> tuple[list[Path], list[Path]]:
    """What holds the records (text files, or archives), and the files of outcomes beside them, if any.

    Raises DataError where there is no path, nothing at it, or no record.
    """
    if path is None:
        raise DataError(
            "physionet2012 reads published files, and no path is given", way_out="give --data PATH"
        )
    place = Path(str(path))
    if place.is_file():
        if not place.name.endswith((".tar.gz", ".tgz")):
            raise DataError(f"{place}: not an archive of records", found=place.name, way_out=_WAY_OUT)
        return [place], sorted(place.parent.glob("Outcomes-*.txt"))
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder", way_out=_WAY_OUT)
    texts = [file for pattern in ("*.txt", "set-*/*.txt") for file in place.glob(pattern)]
    texts = sorted(file for file in texts if _NAME.fullmatch(file.name) and file.is_file())
    found = texts or sorted(place.glob("set-*.tar.gz"))
    if not found:
        here = ", ".join(sorted(entry.name for entry in place.iterdir())[:5]) or "an empty folder"
        raise DataError(f"{place}: no file of physionet2012 here", found=here, way_out=_WAY_OUT)
    outcomes = sorted(place.glob("Outcomes-*.txt"))
    if not outcomes and place.name.startswith("set-"):
        outcomes = sorted(place.parent.glob("Outcomes-*.txt"))
    return found, outcomes


def read_records(files: Sequence[Path]) -> Records:
    """All records of the files. Raises DataError naming record and line of what cannot be used."""
    batch: list[tuple[str, int, str]] = []
    parts: list[tuple[NDArray[Any], ...]] = []
    seen: dict[int, str] = {}
    for where, number, data in _contents(files):
        if number in seen:
            raise DataError(
                f"{where}: record {number} stands twice", found=f"also {seen[number]}", way_out=_WAY_OUT
            )
        if len(seen) >= MOST_RECORDS:
            raise DataError("too many records", found=f"more than {MOST_RECORDS}", way_out=_WAY_OUT)
        seen[number] = where
        batch.append((where, number, _text(where, data)))
        if len(batch) == _BATCH:
            parts.append(_rows(batch))
            batch = []
    if batch:
        parts.append(_rows(batch))
    if not parts:
        raise DataError(f"{files[0]}: no record inside", way_out=_WAY_OUT)
    numbers = np.array(sorted(seen), np.int64)
    descriptors = np.concatenate([part[0] for part in parts])
    descriptors = descriptors[np.argsort(descriptors[:, 0], kind="stable")]
    who, hours, parameter, value = (np.concatenate([part[k] for part in parts]) for k in (1, 2, 3, 4))
    return Records(numbers, descriptors, np.searchsorted(numbers, who), hours, parameter, value)


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than a number of bytes."""

    def __init__(self, inner: gzip.GzipFile, name: str) -> None:
        super().__init__()
        self._inner, self._name, self._left = inner, name, MOST_BYTES

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes. Raises DataError once too many were asked for."""
        data = self._inner.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(
                f"{self._name} unpacks to more than {MOST_BYTES >> 20} MiB",
                way_out=_WAY_OUT,
            )
        return data


def _contents(files: Sequence[Path]) -> Iterator[tuple[str, int, bytes]]:
    """(where, record number, bytes) of every record."""
    for file in files:
        if file.suffix == ".txt":
            try:
                size = file.stat().st_size
                _check_size(file.name, size)
                yield str(file), int(file.stem), file.read_bytes()
            except OSError as error:
                raise DataError(
                    f"{file} cannot be read", found=error.strerror, way_out="check its rights"
                ) from error
        else:
            yield from _members(file)


def _members(file: Path) -> Iterator[tuple[str, int, bytes]]:
    """The same of an archive. Members are taken in turn; only the last part of a name is looked at."""
    try:
        with gzip.open(file) as plain:
            stream: Any = _Bounded(plain, file.name)
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    if member.isdir():
                        continue
                    where = f"{file.name}, member {member.name!r:.80}"
                    name = _NAME.fullmatch(member.name.rpartition("/")[2])
                    if not member.isreg() or name is None:
                        kind = "not a record's name" if member.isreg() else "a link or a device"
                        raise DataError(f"{where} is no record", found=kind, way_out=_WAY_OUT)
                    _check_size(where, member.size)
                    held = archive.extractfile(member)
                    yield where, int(name[1]), b"" if held is None else held.read()
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise DataError(f"{file} is no sound archive", found=error, way_out=_WAY_OUT) from error


def _check_size(where: str, size: int) -> None:
    if size > MOST_RECORD_BYTES:
        raise DataError(
            f"{where} is too large for a record",
            found=f"{size} bytes",
            way_out=f"at most {MOST_RECORD_BYTES}",
        )


def _text(where: str, data: bytes) -> str:
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not ASCII text", found=error.reason, way_out=_WAY_OUT) from error
    if "\0" in text:
        raise DataError(f"{where} is not text", found="a zero byte", way_out=_WAY_OUT)
    return text


def _rows(batch: Sequence[tuple[str, int, str]]) -> tuple[NDArray[Any], ...]:
    """Descriptors [s, 6] of a batch, and stay's number, hours, parameter and value of its other rows."""
    lines: list[str] = []
    place: list[int] = []
    row: list[int] = []
    for at, (where, _, text) in enumerate(batch):
        own = text.splitlines()
        if not own or own[0].strip() != _HEADER:
            raise DataError(
                f"{where}, line 1 is not '{_HEADER}'",
                found=own[0][:80] if own else "empty",
                way_out=_WAY_OUT,
            )
        held = [(number, line) for number, line in enumerate(own[1:], 2) if line.strip()]
        lines += [line for _, line in held]
        row += [number for number, _ in held]
        place += [at] * len(held)
    whole, at_row = pl.Series("line", lines, pl.String), np.array(row)
    owner = np.array(place, np.int64)

    def refuse(bad: NDArray[np.bool_], what: str) -> None:
        if bad.any():
            first = int(bad.argmax())
            raise DataError(
                f"{batch[owner[first]][0]}, line {at_row[first]}: {what}",
                found=repr(lines[first][:80]),
                way_out=_WAY_OUT,
            )

    refuse((whole.str.count_matches(",", literal=True) != 2).to_numpy(), "not time, parameter, value")
    cells = whole.str.split_exact(",", 2).struct.unnest()
    time, name = cells["field_0"].str.strip_chars(), cells["field_1"].str.strip_chars()
    value = cells["field_2"].str.strip_chars().cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    refuse(~np.isfinite(value), "the value is not a number")
    moments = {text: _hours(text) for text in time.unique().to_list()}
    hours = time.replace_strict(list(moments), list(moments.values()), return_dtype=pl.Float64).to_numpy()
    refuse(np.isnan(hours), "the time is not hours:minutes")
    codes = {text: number for number, text in enumerate((*PARAMETERS, *_DESCRIPTORS[:5]))}
    code = name.replace_strict(
        list(codes), list(codes.values()), default=-1, return_dtype=pl.Int64
    ).to_numpy()
    refuse(code < 0, "a parameter that the set does not have")
    described, head = _described(batch, owner, hours, code, value, codes)
    refuse((code >= len(PARAMETERS)) & ~head, "a descriptor that stands twice, or after admission")
    numbers = np.array([number for _, number, _ in batch], np.int64)
    events = ~head
    return described, numbers[owner[events]], hours[events], code[events], value[events]


def _hours(text: str) -> float:
    found = _TIME.fullmatch(text)
    return int(found[1]) + int(found[2]) / 60 if found else np.nan


def _described(
    batch: Sequence[tuple[str, int, str]],
    owner: Int,
    hours: NDArray[np.float64],
    code: Int,
    value: NDArray[np.float64],
    codes: dict[str, int],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Descriptors [s, 6], NaN where -1, and which rows they are: the first of each name at time 00:00.

    Weight is a descriptor there and a series after. Raises DataError for one that is missing or impossible.
    """
    head = np.zeros(len(owner), np.bool_)
    found = np.full((len(batch), len(_DESCRIPTORS)), np.nan)
    known = np.zeros(found.shape, np.bool_)
    for column, name in enumerate(_DESCRIPTORS):
        rows = np.flatnonzero((code == codes[name]) & (hours == 0))
        stays, first = np.unique(owner[rows], return_index=True)
        head[rows[first]] = True
        known[stays, column] = True
        found[stays, column] = value[rows[first]]
    for stay, (where, number, _) in enumerate(batch):
        if not known[stay].all():
            lacks = _DESCRIPTORS[int((~known[stay]).argmax())]
            raise DataError(f"{where}: no {lacks} at 00:00", way_out=_WAY_OUT)
        if found[stay, 0] != number:
            raise DataError(
                f"{where}: RecordID is not that of the file's name", found=found[stay, 0], way_out=_WAY_OUT
            )
        if found[stay, 4] not in (1, 2, 3, 4):
            raise DataError(f"{where}: ICUType must be 1, 2, 3 or 4", found=found[stay, 4], way_out=_WAY_OUT)
    return np.where(found == -1, np.nan, found), head


def read_outcomes(files: Sequence[Path]) -> NDArray[np.float64]:
    """[r, 6] rows of the outcome files, columns as OUTCOMES. Raises DataError naming file, line, column."""
    parts = []
    for file in files:
        table = open_table(file)
        missing = [name for name in OUTCOMES if name not in table.columns]
        if missing:
            raise DataError(
                f"{file}: columns are missing", found=", ".join(missing), way_out=", ".join(OUTCOMES)
            )
        frame = read_columns(table, OUTCOMES)
        ranges = dict.fromkeys(OUTCOMES, (-1.0, 1e5)) | {
            "RecordID": (0.0, 1e9),
            "In-hospital_death": (0.0, 1.0),
        }
        parts.append(checked_numbers(table, frame, ranges, codes=OUTCOMES).select(OUTCOMES).to_numpy())
    rows: NDArray[np.float64] = np.concatenate(parts).astype(np.float64)
    number, count = np.unique(rows[:, 0], return_counts=True)
    if (count > 1).any():
        raise DataError(
            "a record has two outcomes", found=int(number[count.argmax()]), way_out="give each set once"
        )
    return rows
