"""TON_IoT's published telemetry tables to readings: which device, what it read, when, under which attack."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto.data._flow_read import LINE, TextTable, and_more, open_table, read_columns
from lazaretto.data._published import as_published, checked_numbers, checked_words, published_files
from lazaretto.errors import DataError
from lazaretto.types import NORMAL, Int

__all__ = ["CLASSES", "DEVICES", "LEAKS", "Device", "Readings", "raw_columns", "read_devices"]

CLASSES = (NORMAL, "backdoor", "ddos", "injection", "password", "ransomware", "scanning", "xss")
_PATTERNS = ("Train_Test_IoT_*.csv", "Train_Test_IoT_*.csv.gz")
_TYPES = MappingProxyType({name: number for number, name in enumerate(CLASSES)})
_YES_NO = MappingProxyType({"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0, "off": 0.0, "on": 1.0})
_WIDE = (-1e9, 1e9)


class Device(NamedTuple):
    """One of the seven tables: numbers are measured, switches have two states."""

    name: str
    numbers: tuple[str, ...]
    switches: Mapping[str, Mapping[str, float]]


DEVICES: Mapping[str, Device] = MappingProxyType(
    {
        "Fridge": Device("fridge", ("fridge_temperature",), {"temp_condition": {"low": 0.0, "high": 1.0}}),
        "GPS_Tracker": Device("gps", ("latitude", "longitude"), {}),
        "Garage_Door": Device(
            "garage_door", (), {"door_state": {"closed": 0.0, "open": 1.0}, "sphone_signal": _YES_NO}
        ),
        "Modbus": Device(
            "modbus",
            (
                *("FC1_Read_Input_Register", "FC2_Read_Discrete_Value"),
                *("FC3_Read_Holding_Register", "FC4_Read_Coil"),
            ),
            {},
        ),
        "Motion_Light": Device("motion_light", (), {"motion_status": _YES_NO, "light_status": _YES_NO}),
        "Thermostat": Device("thermostat", ("current_temperature",), {"thermostat_status": _YES_NO}),
        "Weather": Device("weather", ("temperature", "pressure", "humidity"), {}),
    }
)
LEAKS: Mapping[str, str] = MappingProxyType(
    {
        "ts": "normal readings are three weeks older than the attacks (AUROC 1.0 alone)",
        "date": "normal readings are three weeks older than the attacks (AUROC 1.0 alone)",
        "time": "each attack was run in a few hours; neither the hour nor gaps between readings are used",
        "label": "the label itself; the kind stands in `type`",
        "temp_condition": "normal rows have blanks after the word, attacks have none; they are taken off",
        "sphone_signal": "false and true in normal rows, 0 and 1 in attacks; read as one and the same",
    }
)


class Readings(NamedTuple):
    """One device's readings, each once, by class and then by time.

    values: [R, channels], numbers first. label: [R] index into CLASSES. time: [R] seconds since 1970.
    """

    device: Device
    values: NDArray[np.float64]
    label: Int
    time: NDArray[np.float64]


def read_devices(path: Any) -> tuple[list[Readings], dict[str, int]]:
    """The devices of a folder (or the one of a file), and what was read and left out. Raises DataError."""
    counts = {"rows_read": 0, "duplicates_removed": 0}
    found: list[Readings] = []
    for table, device in _tables(path):
        frame = read_columns(table, ("date", "time", *device.numbers, *device.switches, "label", "type"))
        numbers = (
            [checked_numbers(table, frame, dict.fromkeys(device.numbers, _WIDE))] if device.numbers else []
        )
        words = checked_words(table, frame, {**device.switches, "label": {"0": 0, "1": 1}, "type": _TYPES})
        rows = pl.concat([*numbers, words], how="horizontal").with_columns(_moments(table, frame))
        _check_labels(table, frame, rows)
        once = rows.unique(maintain_order=True).sort("type", "time", maintain_order=True)
        counts["rows_read"] += rows.height
        counts["duplicates_removed"] += rows.height - once.height
        found.append(
            Readings(
                device=device,
                values=np.ascontiguousarray(
                    once.select(*device.numbers, *device.switches).to_numpy(), dtype=np.float64
                ),
                label=once["type"].to_numpy().astype(np.int64),
                time=once["time"].to_numpy(),
            )
        )
    return found, counts


def _tables(path: Any) -> list[tuple[TextTable, Device]]:
    found: dict[str, tuple[TextTable, Device]] = {}
    for file in published_files(path, "ton_iot", _PATTERNS):
        key = file.name.removeprefix("Train_Test_IoT_").partition(".")[0]
        if key not in DEVICES:
            raise DataError(
                f"{file}: no device of TON_IoT is named so",
                found=key,
                way_out=f"files named Train_Test_IoT_NAME.csv, NAME one of {', '.join(DEVICES)}",
            )
        table, device = open_table(file), DEVICES[key]
        wanted = ("date", "time", *device.numbers, *device.switches, "label", "type")
        missing = [name for name in wanted if name not in table.columns]
        if missing:
            raise DataError(
                f"{file}: columns are missing: {', '.join(missing)}",
                found=", ".join(table.columns)[:120],
                way_out="give the file as published, with its header line",
            )
        if device.name in found:
            raise DataError(
                f"{file}: this device is there twice", found=found[device.name][0].name, way_out="remove one"
            )
        found[device.name] = (table, device)
    return list(found.values())


def _moments(table: TextTable, frame: pl.DataFrame) -> pl.Series:
    """[rows] seconds since 1970 by the device's clock; "time" is its name."""
    text = frame["date"].fill_null("").str.strip_chars() + " " + frame["time"].fill_null("").str.strip_chars()
    moment = text.str.to_datetime("%d-%b-%y %H:%M:%S", strict=False, time_unit="us")
    if moment.null_count():
        row = int(moment.is_null().arg_max() or 0)
        raise DataError(
            f"{table.name}, line {frame[LINE][row]}: date and time cannot be read",
            found=f"{text[row]!r}{and_more(moment.null_count())}",
            way_out="they are written as in 25-Apr-19 and 19:19:40",
        )
    return (moment.dt.epoch("us").cast(pl.Float64) / 1e6).alias("time")


def _check_labels(table: TextTable, frame: pl.DataFrame, rows: pl.DataFrame) -> None:
    odd = (rows["label"] == 1) != (rows["type"] > 0)
    if odd.any():
        row = int(odd.arg_max() or 0)
        raise DataError(
            f"{table.name}, line {frame[LINE][row]}: label and type contradict each other",
            found=f"label {frame['label'][row]}, type {frame['type'][row]}",
            way_out="give the file as published, or mend those rows",
        )


def raw_columns(path: Any, most: int) -> tuple[dict[str, NDArray[Any]], Int, list[str]]:
    """Columns as published (each device's own, empty elsewhere), [rows] class, and [rows] device by name.

    At most `most` rows, spread evenly over each device's class and time. Raises DataError.
    """
    tables = _tables(path)
    parts, labels = [], []
    for table, device in tables:
        shown = tuple(name for name in table.columns if name != "type")
        frame = read_columns(table, (*shown, "type"))
        rows = np.unique(np.linspace(0, frame.height - 1, min(most // len(tables), frame.height)).astype(int))
        labels.append(checked_words(table, frame[rows], {"type": _TYPES})["type"].to_numpy())
        parts.append(frame[rows].drop(LINE).with_columns(device=pl.lit(device.name)))
    both = pl.concat(parts, how="diagonal")
    names = [name for name in both.columns if name not in ("type", "label", "device")]
    return as_published(both, names), np.concatenate(labels).astype(np.int64), both["device"].to_list()
