"""Telemetry inside X-IoMT's packets, and the device faults that are published beside the network attacks.

A fault is no capture of its own: normal packets are published a second time, with other stamps, and their
telemetry is overwritten. So their headers tell nothing, and where a fault's packet has a normal original,
both have to stand in the same split.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import polars as pl

from lazaretto.types import Float, Int

__all__ = [
    "FAULTS",
    "FAULT_PARTS",
    "FIELDS",
    "NOTES",
    "ORIGINS",
    "RECORD",
    "extremes",
    "read_telemetry",
]

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "Overheating": "overheating",
        "CPUSpike": "cpu_spike",
        "Weak_Signal": "weak_signal",
        "Clinical": "clinical",
    }
)
FAULT_PARTS = ("PhysicalAnomalies", "ApplicationAnomalies")  # how the names of their files begin

# Published column -> feature. Units only where the quantity has one by definition; the files name none.
FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "Temperature": "temperature",
        "Memory": "memory",
        "In_Temperature": "in_temperature",
        "CPU": "cpu",
        "RSSI": "rssi_dbm",
        "HR": "hr_per_minute",
        "PULSE": "pulse_per_minute",
        "RESP": "resp_per_minute",
        "SpO2": "spo2_percent",
    }
)
# Features of the record, as `extremes` gives them.
RECORD = tuple(f"{name}_{which}" for which in ("least", "largest") for name in FIELDS.values())
# Usual at a bedside; what the devices say of themselves is counted from 0.
_USUAL: Mapping[str, float] = MappingProxyType(
    {
        "temperature": 37.0,
        "hr_per_minute": 80.0,
        "pulse_per_minute": 80.0,
        "resp_per_minute": 16.0,
        "spo2_percent": 97.0,
    }
)
ORIGINS: Mapping[str, float] = MappingProxyType(
    {f"{name}_{which}": value for name, value in _USUAL.items() for which in ("least", "largest")}
)
NOTES = (
    "Telemetry and device faults are reported without claims: as published, telemetry alone has AUROC 1.0.",
    "Telemetry is forward-filled and empty in network attacks; faults are constants or narrow ranges put in.",
    "A fault's packets are normal ones published again with other telemetry, in the split of the original.",
    "All network attacks came from one host to one gateway.",
    "Some packets published as Overheating have an altered Memory and a normal In_Temperature.",
    "A step's record holds the least and the largest value in its packets.",
)


def read_telemetry(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Columns of `FIELDS` as float32 features, null where empty, and how many cells hold no finite number.

    Those cells are null as well. Nothing else is refused: a value that no patient or device can have is
    what a fault is made of.
    """
    texts = frame.select(
        pl.when(pl.col(name).str.strip_chars() == "").then(None).otherwise(pl.col(name)).alias(feature)
        for name, feature in FIELDS.items()
    )
    numbers = texts.select(pl.all().cast(pl.Float64, strict=False).cast(pl.Float32))
    numbers = numbers.select(pl.when(pl.all().is_finite()).then(pl.all()))
    wrong = sum(numbers[name].null_count() - texts[name].null_count() for name in texts.columns)
    return numbers, wrong


def extremes(telemetry: Float, index: Int, step_packets: int) -> Float:
    """[steps, 2V] least and largest value in each step of packets index [steps · step_packets].

    The V least come first. NaN where no packet of a step has a value. telemetry: [P, V], NaN where a packet
    has none. The last value would nearly always be a normal packet's, however many a fault had laid in.
    """
    place = index.reshape(-1, step_packets)
    made = np.empty((len(place), 2 * telemetry.shape[1]), np.float32)
    for column, values in enumerate(telemetry.T):  # one at a time: all at once would be V times the packets
        made[:, column] = np.fmin.reduce(values[place], axis=1)
        made[:, telemetry.shape[1] + column] = np.fmax.reduce(values[place], axis=1)
    return made
