"""TON_IoT telemetry of seven devices as streams of readings (Alsaedi 2020, DOI 10.1109/ACCESS.2020.3022862).

Each device has columns of its own, so a step has the channels of all of them, 0 where the device has none.
Every stretch of time is of one class only: normal readings were taken three weeks before the attacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto import keys
from lazaretto.data._ton_iot_files import CLASSES, DEVICES, LEAKS, Readings, raw_columns, read_devices
from lazaretto.errors import DataError, PlanError
from lazaretto.types import TEST, TRAIN, VALIDATION, Float, Int, RawRows, Schema, Source, Table

__all__ = ["ton_iot"]

_OF_NUMBERS = ("mean", "sd", "least", "largest", "mean_change")
_OF_SWITCHES = ("share", "switches")

_MOST_STRETCHES = 20  # per device and class: few long ones, so that few neighbours are parted
_RAW_ROWS = 60_000
_RAW_BLOCK = 250
_NOTES = (
    (
        "No stream passes from normal to attack: each published stretch is of one class, and the "
        "normal ones were "
        "recorded three weeks before the attacks. What is learned may be the recording, not the attack."
    ),
    (
        "A unit is a stretch of successive readings of one device. Stretches of time are dealt to "
        "the splits as "
        "wholes, and the readings at their borders are left out."
    ),
    (
        "Date, time and gaps between readings are not used: they give every label away. Readings that are "
        "equal to another of the same second are left out, so there is no clock to count alarms per day by."
    ),
    "The weather station's normal readings are a reduced copy: 15,000 of them in four minutes.",
)


def ton_iot(step_readings: int = 10, unit_steps: int = 16) -> Source:
    """TON_IoT telemetry of seven devices, each a site of its own, with up to seven kinds of attack.

    A unit is a stretch of at most unit_steps steps of step_readings successive readings of one device.
    Stretches of time (55, 15 and 30 % of each device's class, by seed) stand in one split each. Features are
    mean, spread, range and change of each number, share and changes of each switch, and which device it is.

    `load` and `raw` read a folder of `Train_Test_IoT_*.csv` (also .gz), or one of them, and raise DataError
    where it cannot be used. Raises PlanError for options out of range.
    """
    for name, value, least in (("step_readings", step_readings, 2), ("unit_steps", unit_steps, 2)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 1000:
            raise PlanError(
                f"ton_iot: {name} is out of range", found=value, way_out=f"an integer from {least} to 1000"
            )

    def load(path: Any, seed: int) -> Table:
        devices, counts = read_devices(path)
        return _table(devices, counts, seed, step_readings, unit_steps)

    def sample() -> Table:
        return _table(_made_up(), {}, 0, 10, 8)

    return Source(
        name="ton_iot", load=load, sample=sample, raw=_raw, leaks=LEAKS, needs_path=True, deals=True
    )


def _features() -> tuple[str, ...]:
    names = [f"device_{device.name}" for device in DEVICES.values()]
    for device in DEVICES.values():
        for column in (*device.numbers, *device.switches):
            own = (
                column.lower()
                if column.lower().startswith(device.name)
                else f"{device.name}_{column.lower()}"
            )
            names += [f"{own}_{kind}" for kind in (_OF_NUMBERS if column in device.numbers else _OF_SWITCHES)]
    return tuple(names)


def _step_features(readings: Readings, first: Int, length: int) -> Float:
    """[steps, F] of the steps that begin at readings `first` and hold `length` of them."""
    values = readings.values[first[:, None] + np.arange(length)]  # [steps, length, channels]
    changes = np.abs(np.diff(values, axis=1))
    columns = [np.full(len(first), float(device.name == readings.device.name)) for device in DEVICES.values()]
    for device in DEVICES.values():
        for place in range(len(device.numbers) + len(device.switches)):
            number = place < len(device.numbers)
            if device.name != readings.device.name:
                columns += [np.zeros(len(first))] * len(_OF_NUMBERS if number else _OF_SWITCHES)
                continue
            own, change = values[:, :, place], changes[:, :, place]
            columns += (
                [own.mean(1), own.std(1), own.min(1), own.max(1), change.mean(1)]
                if number
                else [own.mean(1), change.sum(1)]
            )
    return np.stack(columns, axis=1).astype(np.float32)


def _stretches(count: int, least: int, rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
    """(split, begin, end) of stretches of `count` readings in order; too few for three are all training."""
    number = min(_MOST_STRETCHES, count // least)
    if number < 3:
        yield TRAIN, 0, count
        return
    codes = [TRAIN] * number
    test = max(1, round(0.30 * number))
    validation = max(1, round(0.15 * number))
    codes[: test + validation] = [TEST] * test + [VALIDATION] * validation
    edges = np.linspace(0, count, number + 1).astype(int)
    for code, begin, end in zip(rng.permutation(codes), edges[:-1], edges[1:], strict=True):
        yield int(code), int(begin), int(end)


def _units(readings: Readings, seed: int, length: int, steps: int) -> Iterator[tuple[int, int, Int]]:
    """(split, class, first reading of each step) of every unit of a device."""
    for label in np.unique(readings.label):
        where = np.flatnonzero(readings.label == label)  # successive: readings are sorted by class, then time
        rng = keys.generator(seed, "ton_iot", "stretches", readings.device.name, CLASSES[label])
        held = list(_stretches(len(where), 3 * length, rng))
        for place, (code, begin, end) in enumerate(held):
            # half a step is left out on either side where the neighbour is in another split
            begin += length // 2 if place and held[place - 1][0] != code else 0
            end -= length // 2 if place + 1 < len(held) and held[place + 1][0] != code else 0
            first = where[begin] + np.arange(begin, end - length + 1, length) - begin
            for at in range(0, len(first), steps):
                yield code, int(label), first[at : at + steps]


def _table(devices: list[Readings], counts: dict[str, int], seed: int, length: int, steps: int) -> Table:
    x, label, valid, split, site, time, names = [], [], [], [], [], [], []
    for place, readings in enumerate(devices):
        for number, (code, kind, first) in enumerate(_units(readings, seed, length, steps)):
            row = np.zeros((steps, len(_features())), dtype=np.float32)
            row[: len(first)] = _step_features(readings, first, length)
            x.append(row)
            label.append(kind)
            valid.append(np.arange(steps) < len(first))
            split.append(code)
            site.append(place)
            time.append(float(readings.time[first[0]]))
            names.append(f"{readings.device.name}, stretch {number + 1}")
    if not x:
        raise DataError("ton_iot: too few readings for a step", found=f"step_readings = {length}")
    there: NDArray[np.bool_] = np.stack(valid)
    kinds = np.array(label, dtype=np.int64)
    used = {"readings_used": int(there.sum()) * length}
    return Table(
        x={"traffic": np.stack(x)},
        present=np.ones((len(x), 1), dtype=np.bool_),
        y=kinds,
        y_step=np.where(there, kinds[:, None], 0),
        valid=there,
        unit=np.arange(len(x), dtype=np.int64),
        unit_names=tuple(names),
        time=np.array(time),
        site=np.array(site, dtype=np.int64),
        site_names=tuple(readings.device.name for readings in devices),
        split=np.array(split, dtype=np.int64),
        schema=Schema(
            features={"traffic": _features()},
            classes=CLASSES,
            step=f"{length} readings of one device",
            step_seconds=1.0,
            timed=False,
        ),
        notes=_NOTES,
        counts={**counts, **used},
    )


def _raw(path: Any) -> RawRows:
    columns, label, device = raw_columns(path, _RAW_ROWS)
    number = np.unique(np.array(device), return_inverse=True)[1].astype(np.int64)
    # rows in their order in the file, in blocks that neighbours do not leave
    block = number * (1 << 32) + np.arange(len(label)) // _RAW_BLOCK
    return RawRows(columns=columns, label=label, group=block, classes=CLASSES)


def _made_up() -> list[Readings]:
    """Two devices, made up: a refrigerator that attacks warm, and a door that they keep opening."""
    rng = keys.generator(0, "ton_iot", "sample")
    found = []
    for key, level in (("Fridge", 3.0), ("Garage_Door", 0.15)):
        device = DEVICES[key]
        label = np.repeat([0, 1, 2, 3], [1200, 400, 400, 400]).astype(np.int64)
        shift = (label > 0) * 0.4
        values = (
            np.stack([level + 3 * shift + rng.standard_normal(2400), rng.random(2400) < 0.5], axis=1)
            if device.numbers
            else (rng.random((2400, 2)) < (level + shift)[:, None])
        )
        time = 1.55e9 + 1e6 * label + 5.0 * np.arange(2400)
        found.append(Readings(device=device, values=values.astype(np.float64), label=label, time=time))
    return found
