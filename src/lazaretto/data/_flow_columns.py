"""From the columns of a flow table, whatever their names, to flows with common names and units."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import polars as pl

from lazaretto.data._flow_read import LINE, TextTable, and_more
from lazaretto.errors import DataError, did_you_mean
from lazaretto.types import NORMAL

__all__ = ["FORMATS", "TARGETS", "Labels", "check_keys", "class_of", "clean_label", "mapping_of", "normalise"]

# What a column may be mapped to. Totals stand in where a direction is missing.
TARGETS = (
    "start_time",
    "duration_seconds",
    "duration_milliseconds",
    "duration_microseconds",
    "protocol",
    "source_address",
    "destination_address",
    "source_port",
    "destination_port",
    "bytes_out",
    "bytes_in",
    "bytes_total",
    "packets_out",
    "packets_in",
    "packets_total",
    "state",
    "label",
    "site",
)

# format -> target -> names it is known by. Names are compared without case and outer blanks.
FORMATS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "argus": {
            "start_time": ("StartTime",),
            "duration_seconds": ("Dur",),
            "protocol": ("Proto",),
            "source_address": ("SrcAddr",),
            "destination_address": ("DstAddr",),
            "source_port": ("Sport",),
            "destination_port": ("Dport",),
            "bytes_out": ("SrcBytes",),
            "bytes_total": ("TotBytes",),
            "packets_out": ("SrcPkts",),
            "packets_total": ("TotPkts",),
            "state": ("State",),
            "label": ("Label",),
        },
        "netflow": {  # nProbe's field names, as in the NF-*-v2 and -v3 sets: IN is client to server
            "start_time": ("FLOW_START_MILLISECONDS",),
            "duration_milliseconds": ("FLOW_DURATION_MILLISECONDS",),
            "protocol": ("PROTOCOL",),
            "source_address": ("IPV4_SRC_ADDR",),
            "destination_address": ("IPV4_DST_ADDR",),
            "source_port": ("L4_SRC_PORT",),
            "destination_port": ("L4_DST_PORT",),
            "bytes_out": ("IN_BYTES",),
            "bytes_in": ("OUT_BYTES",),
            "packets_out": ("IN_PKTS",),
            "packets_in": ("OUT_PKTS",),
            "state": ("TCP_FLAGS",),
            "label": ("Attack", "Label"),
        },
        "cicflowmeter": {
            "start_time": ("Timestamp",),
            "duration_microseconds": ("Flow Duration", "flow_duration"),
            "protocol": ("Protocol",),
            "source_address": ("Source IP", "Src IP", "src_ip"),
            "destination_address": ("Destination IP", "Dst IP", "dst_ip"),
            "source_port": ("Source Port", "Src Port", "src_port"),
            "destination_port": ("Destination Port", "Dst Port", "dst_port"),
            "bytes_out": (
                "Total Length of Fwd Packets",
                "Total Length of Fwd Packet",
                "TotLen Fwd Pkts",
                "totlen_fwd_pkts",
            ),
            "bytes_in": (
                "Total Length of Bwd Packets",
                "Total Length of Bwd Packet",
                "TotLen Bwd Pkts",
                "totlen_bwd_pkts",
            ),
            "packets_out": ("Total Fwd Packets", "Total Fwd Packet", "Tot Fwd Pkts", "tot_fwd_pkts"),
            "packets_in": ("Total Backward Packets", "Total Bwd packets", "Tot Bwd Pkts", "tot_bwd_pkts"),
            "label": ("Label",),
        },
    }
)
_SIGNS = {
    "argus": ("start_time", "duration_seconds", "source_address", "bytes_total"),
    "netflow": ("source_address", "bytes_out", "packets_out"),
    "cicflowmeter": ("duration_microseconds", "packets_out", "packets_in"),
}
_TIME_FORMATS = (
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.fZ",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%d/%m/%Y %I:%M:%S %p",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
)
_MISSING = (
    "",
    "-",
    "na",
    "n/a",
    "nan",
    "null",
    "none",
    "inf",
    "+inf",
    "-inf",
    "infinity",
    "-infinity",
    "+infinity",
)
_FAILED = r"^(S0|REJ|RSTOS0|RSTRH|SH|SHR|REQ|INT|RST|TIM|URP|URH\w*|URN\w*|URFIL|S_|S_A?RA?|SR_|SR_RA?)$"
_UNITS = {"duration_seconds": 1.0, "duration_milliseconds": 1e-3, "duration_microseconds": 1e-6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """How a label text becomes a class. Shell patterns, without case; the first that fits counts."""

    normal: tuple[str, ...]
    families: Mapping[str, str]
    files: Mapping[str, str]
    unlabelled: str


def mapping_of(table: TextTable, format: str, given: Mapping[str, str]) -> dict[str, str]:
    """target -> column of this file, from the known format and what the user mapped (which comes first).

    Raises DataError for a mapped column that is not there, or where no format fits and nothing is mapped.
    """
    columns = {name.casefold(): name for name in reversed(table.columns)}
    chosen: dict[str, str] = {}
    if format == "auto":
        fits = [
            name
            for name, signs in _SIGNS.items()
            if all(any(c.casefold() in columns for c in FORMATS[name][sign]) for sign in signs)
        ]
        if not fits and not given:
            raise DataError(
                f"{table.name} is in no known format ({', '.join(FORMATS)})",
                found=f"columns {', '.join(table.columns)[:200]}",
                way_out='name its columns in a plan, [data.options.columns] start_time = "...", bytes_out = '
                '"..." and so on, and give it by --plan PLAN (docs/your_data.md)',
            )
        format = fits[0] if fits else "none"
    for target, names in FORMATS.get(format, {}).items():
        held = [columns[name.casefold()] for name in names if name.casefold() in columns]
        if held:
            chosen[target] = held[0]
    for target, column in given.items():
        if target == "start_time_format":
            continue
        if column.strip().casefold() not in columns:
            raise DataError(
                f"{table.name} has no column '{column}', which is mapped to {target}",
                found=f"columns {', '.join(table.columns)[:200]}",
                way_out=f"{did_you_mean(column, table.columns)}mend data.options.columns.{target}",
            )
        chosen[target] = columns[column.strip().casefold()]
    return chosen


def _refuse(table: TextTable, column: str, frame: pl.DataFrame, bad: pl.Series, expected: str) -> DataError:
    row = int(np.flatnonzero(bad.to_numpy())[0])
    return DataError(
        f"{table.name}, line {frame[LINE][row]}, column '{column}': not {expected}",
        found=f"{frame[column][row]!r}{and_more(int(bad.sum()))}",
        way_out="mend the rows, or map another column to this",
    )


def _number(table: TextTable, frame: pl.DataFrame, column: str) -> pl.Series:
    """The column as float64, null where the cell is empty, NaN or infinite. Other text is refused."""
    text = frame[column].str.strip_chars()
    missing = text.is_null() | text.str.to_lowercase().is_in(_MISSING)
    values = text.cast(pl.Float64, strict=False)
    bad = values.is_null() & ~missing
    if bad.any():
        raise _refuse(table, column, frame, bad, "a number")
    empty = pl.Series(missing | ~values.fill_null(0.0).is_finite())
    return pl.DataFrame({"v": values, "m": empty}).select(pl.when(~pl.col("m")).then(pl.col("v")))["v"]


def _moment(table: TextTable, frame: pl.DataFrame, column: str, format: str | None) -> pl.Series:
    """The column as seconds since 1970, null where empty. Numbers may be s, ms, us or ns."""
    text = frame[column].str.strip_chars()
    missing = text.is_null() | text.str.to_lowercase().is_in(_MISSING)
    best = pl.Series([True] * len(text))
    if format is None:
        values = text.cast(pl.Float64, strict=False).fill_nan(None)
        best = values.is_null() & ~missing
        if not best.any():
            held = np.abs(values.drop_nulls().to_numpy())
            size = float(np.median(held[np.isfinite(held)])) if np.isfinite(held).any() else 0.0
            scale = 1e-9 if size > 1e17 else 1e-6 if size > 1e14 else 1e-3 if size > 1e11 else 1.0
            kept = pl.DataFrame({"v": values * scale}).select(
                pl.when(pl.col("v").is_finite()).then(pl.col("v"))
            )
            return kept["v"]
    for candidate in (format,) if format else _TIME_FORMATS:
        try:
            parsed = text.str.to_datetime(candidate, strict=False, time_unit="us")
        except pl.exceptions.PolarsError as error:
            raise DataError(
                "start_time_format is not a time format",
                found=candidate,
                way_out='for instance "%d/%m/%Y %H:%M"',
            ) from error
        bad = parsed.is_null() & ~missing
        if not bad.any():
            return parsed.cast(pl.Int64).cast(pl.Float64) * 1e-6
        best = bad if int(bad.sum()) < int(best.sum()) else best
    raise _refuse(
        table, column, frame, best, f"a time like {format}" if format else "a time that is known here"
    )


def _text(table: TextTable, frame: pl.DataFrame, column: str) -> pl.Series:
    """The column without blanks at either end of a cell, "" where empty. A control character is refused.

    With one in its midst a name that reads like another would be another label, host or site. (Other signs
    that no screen shows pass.)
    """
    text = frame[column].str.strip_chars().fill_null("")
    bad = text.str.contains(r"\p{Cc}")
    if bad.any():
        raise _refuse(table, column, frame, bad, "plain text, as it holds a control character")
    return text


def normalise(
    table: TextTable, frame: pl.DataFrame, mapping: Mapping[str, str], time_format: str | None
) -> tuple[pl.DataFrame, list[str]]:
    """Flows in common names and units, and the numeric columns whose cells must be there.

    Columns, each only where mapped: line, start, duration (s), protocol (tcp, udp, icmp, other),
    source, destination, source_port, destination_port (text), bytes, bytes_out, bytes_in, packets,
    packets_out, packets_in, failed (0/1), label, site (text). Negative sizes and lengths are null. Raises
    DataError for a cell that is no number, no time, or text with a control character.
    """
    columns: dict[str, pl.Series] = {"line": frame[LINE]}
    numbers: dict[str, pl.Series] = {}
    if "start_time" in mapping:
        columns["start"] = _moment(table, frame, mapping["start_time"], time_format)
    for target, scale in _UNITS.items():
        if target in mapping:
            numbers["duration"] = _number(table, frame, mapping[target]) * scale
    for kind in ("bytes", "packets"):
        held = {
            side: _number(table, frame, mapping[f"{kind}_{side}"])
            for side in ("out", "in", "total")
            if f"{kind}_{side}" in mapping
        }
        if "total" in held and "out" in held and "in" not in held:
            held["in"] = held["total"] - held["out"]
        if "out" in held and "in" in held:
            held.setdefault("total", held["out"] + held["in"])
            numbers[f"{kind}_out"], numbers[f"{kind}_in"] = held["out"], held["in"]
        if "total" in held or held:
            numbers[kind] = held.get("total", next(iter(held.values())))
    for name, values in numbers.items():
        kept = pl.DataFrame({"v": values}).select(pl.when(pl.col("v") >= 0).then(pl.col("v")))["v"]
        columns[name] = kept
    if "protocol" in mapping:
        columns["protocol"] = _protocol(frame[mapping["protocol"]])
    if "state" in mapping:
        columns["failed"] = _failed(frame[mapping["state"]])
    for target, name in (
        ("source_address", "source"),
        ("destination_address", "destination"),
        ("source_port", "source_port"),
        ("destination_port", "destination_port"),
        ("label", "label"),
        ("site", "site"),
    ):
        if target in mapping:
            columns[name] = _text(table, frame, mapping[target])
    needed = [name for name in ("start", *numbers) if name in columns]
    return pl.DataFrame(columns), needed


def _protocol(text: pl.Series) -> pl.Series:
    plain = text.str.strip_chars().str.to_lowercase().fill_null("").str.replace(r"\.0$", "")
    names = {"6": "tcp", "17": "udp", "1": "icmp", "58": "icmp", "ipv6-icmp": "icmp", "icmp6": "icmp"}
    known = {"tcp": "tcp", "udp": "udp", "icmp": "icmp", "man": "man", **names}
    return plain.replace_strict(known, default="other", return_dtype=pl.String)


def _failed(text: pl.Series) -> pl.Series:
    """1 where a flow got no proper answer: by state name (Argus, Zeek) or by TCP flags as a number."""
    plain = text.str.strip_chars().fill_null("")
    flags = plain.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    if flags.null_count() == 0:
        values = flags.to_numpy()
        return pl.Series((((values & 2) > 0) & ((values & 16) == 0)) | ((values & 4) > 0)).cast(pl.Float64)
    return plain.str.to_uppercase().str.contains(_FAILED).cast(pl.Float64)


def clean_label(text: str) -> str:
    """A label's text as a class name: "flow=Malware-UDP DNS" -> "malware_udp_dns"; "1" -> "attack"."""
    plain = re.sub(r"^\s*flow=", "", text, flags=re.IGNORECASE)
    name = re.sub(r"[^0-9a-z]+", "_", plain.lower()).strip("_")
    return "attack" if name in ("1", "1_0", "true", "anomaly", "malicious", "") else name


def class_of(text: str, labels: Labels) -> str | None:
    """Class name of a label text, None where the cell is empty."""
    plain = text.strip()
    if plain.lower() in ("", "nan", "null", "none", "-"):
        return None
    forms = (plain.lower(), re.sub(r"^flow=", "", plain.lower()))
    for pattern, family in labels.families.items():
        if any(fnmatch.fnmatchcase(form, pattern.lower()) for form in forms):
            return family
    if any(fnmatch.fnmatchcase(form, pattern.lower()) for form in forms for pattern in labels.normal):
        return NORMAL
    return clean_label(plain)


def check_keys(place: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Refuse an unknown key with the nearest known one. Raises DataError."""
    for key in given:
        if key not in known:
            way_out = f"{did_you_mean(key, known)}known: {', '.join(known)}"
            raise DataError(f"unknown key in {place}", found=key, way_out=way_out)
