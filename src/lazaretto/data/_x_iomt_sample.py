"""X-IoMT's packets made up, for `lazaretto` where no files are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto import keys
from lazaretto.data._gateway_streams import Packets
from lazaretto.data._x_iomt_files import BACKGROUND, BASE, FAMILIES
from lazaretto.data._x_iomt_telemetry import FAULTS, FIELDS
from lazaretto.types import Float, Int

__all__ = ["synthetic_packets"]

# Columns of FIELDS that devices send by MQTT and by HTTP, and the column that each fault puts its value into.
_BY_MQTT: tuple[tuple[str, float, float], ...] = (
    ("Temperature", 35.0, 37.2),
    ("Memory", 94.7, 94.9),
    ("In_Temperature", 50.6, 52.2),
    ("CPU", 160.0, 160.0),
    ("RSSI", -75.0, -45.0),
)
_BY_HTTP: tuple[tuple[str, float, float], ...] = (
    ("HR", 70.0, 100.0),
    ("PULSE", 70.0, 100.0),
    ("RESP", 12.0, 20.0),
    ("SpO2", 93.0, 100.0),
)
_PUT_IN: tuple[tuple[str, float], ...] = (
    ("In_Temperature", 90.0),
    ("CPU", 220.0),
    ("RSSI", -95.0),
    ("Temperature", 40.0),
)


def synthetic_packets(seed: int, telemetry: bool) -> Packets:
    """Packets made up in the likeness of the testbed's, so that the whole path runs where no data are.

    telemetry: with values inside the MQTT packets, and the device faults after all other kinds.
    """
    rng = keys.generator(seed, "x_iomt", "synthetic")
    syn, ack, fin, rst, psh = (1 << bit for bit in range(5))
    # (length, payload, flags, towards the server) of one publication, one request, one attempt at each attack
    mqtt = [(58, 0, syn, 1), (58, 0, syn | ack, 0), (54, 0, ack, 1), (83, 29, psh | ack, 1), (54, 0, ack, 0)]
    mqtt += [(58, 4, psh | ack, 0), (239, 185, psh | ack, 1), (54, 0, ack, 0), (54, 0, fin | ack, 1)]
    http = [
        (58, 0, syn, 1),
        (58, 0, syn | ack, 0),
        (54, 0, ack, 1),
        (350, 296, psh | ack, 1),
        (167, 113, ack, 0),
    ]
    attempts = (
        [(54, 0, syn, 1), (54, 0, rst, 1)],
        [(54, 0, fin, 1)],
        [(74, 0, syn, 1), (222, 156, psh | ack, 1)],
    )
    parts = [_repeat(mqtt, BASE, 3000, 3.0, 0.01, rng), _repeat(http, BACKGROUND, 300, 20.0, 0.01, rng)]
    parts += [_repeat(a, k, 1200, 0.002, 0.0005, rng) for k, a in enumerate(attempts, start=1)]
    if telemetry:
        parts += [_repeat(mqtt, len(FAMILIES) + k, 300, 3.0, 0.01, rng) for k in range(1, len(FAULTS) + 1)]
    for part in parts:
        part["telemetry"] = _telemetry(part["kind"], part["towards_server"], telemetry, seed)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["time"], kind="stable")
    number = np.arange(len(order))
    return Packets(
        **{name: values[order] for name, values in columns.items()}, identity=number.astype(np.uint64)
    )


def _repeat(
    pattern: list[tuple[int, int, int, int]],
    kind: int,
    times: int,
    pause_seconds: float,
    gap_seconds: float,
    rng: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    """`times` exchanges like `pattern` by one of two devices, with gaps and pauses of those mean lengths."""
    shape = (times, len(pattern))
    gaps = rng.exponential(gap_seconds, shape)
    gaps[:, 0] = rng.exponential(pause_seconds, times)
    if kind > BASE:
        gaps[::150, 0] += 30.0  # attacks come in attempts
    length, payload, flags, towards = (
        np.tile(np.array(column), times) for column in zip(*pattern, strict=True)
    )
    more = np.where(payload > 0, rng.integers(0, 40, len(length)), 0)
    # Kinds have numbers of their own, so that no two connections are the same.
    connection = np.repeat(np.arange(times), len(pattern)) + 10_000 * (kind + 1)
    return {
        "time": 1e9 + 1e7 * (kind + 1) + np.cumsum(gaps),
        "length": (length + more).astype(np.float32),
        "payload": (payload + more).astype(np.float32),
        "flags": flags.astype(np.uint8),
        "towards_server": towards.astype(bool),
        "device": np.repeat(rng.integers(0, 2, times), len(pattern)),
        "connection": connection,
        "kind": np.full(len(length), kind, dtype=np.int64),
        "application": np.where(payload > 0, 3 if kind == BASE or kind > len(FAMILIES) else 0, 0).astype(
            np.uint8
        ),
    }


def _telemetry(kind: Int, towards: NDArray[np.bool_], telemetry: bool, seed: int) -> Float:
    """[packets, V] values of packets of one kind: in those to the server, and none in network attacks."""
    names = list(FIELDS)
    code = int(kind[0])
    made = np.full((len(kind), len(names) if telemetry else 0), np.nan, np.float32)
    if not telemetry or 0 < code <= len(FAMILIES):
        return made
    rng = keys.generator(seed, "x_iomt", "synthetic telemetry", code)
    for name, low, high in _BY_HTTP if code == BACKGROUND else _BY_MQTT:
        made[towards, names.index(name)] = rng.uniform(low, high, int(towards.sum()))
    if code > len(FAMILIES):
        name, value = _PUT_IN[code - len(FAMILIES) - 1]
        made[:, names.index(name)] = value
    return made
