"""TON_IoT: steps against a slow loop, stretches that splits do not share, and the real seven devices."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lazaretto.data import ton_iot as module
from lazaretto.data._ton_iot_files import CLASSES, DEVICES, Readings, read_devices
from lazaretto.data.duplicates import remove_duplicates
from lazaretto.data.leaks import suspected_leaks
from lazaretto.data.splits import assign_splits
from lazaretto.data.ton_iot import ton_iot
from lazaretto.errors import PlanError
from lazaretto.evaluate.metrics import auroc
from lazaretto.types import TEST, TRAIN, VALIDATION, Table

HEADER = "ts,date,time,door_state,sphone_signal,label,type"


def test_however_a_state_is_written_it_is_the_same(tmp_path: Path) -> None:
    """Blanks, case and 0 for false went with the label; a reading of the same second counts once."""
    rows = [
        "1,31-Mar-19, 12:36:00 ,open,true  ,0,normal",
        "2,31-Mar-19, 12:36:05 ,closed,false  ,0,normal",
        "3,25-Apr-19,9:04:07,open,1,1,ddos",
        "4,25-Apr-19,9:04:12,closed,0,1,ddos",
        "4,25-Apr-19,9:04:12, closed ,false,1,ddos",
    ]
    (tmp_path / "Train_Test_IoT_Garage_Door.csv").write_text("\ufeff" + "\n".join([HEADER, *rows]) + "\n")
    (readings,), counts = read_devices(tmp_path)
    assert counts == {"rows_read": 5, "duplicates_removed": 1}
    assert readings.values.tolist() == [[1, 1], [0, 0], [1, 1], [0, 0]]
    assert readings.label.tolist() == [0, 0, CLASSES.index("ddos"), CLASSES.index("ddos")]
    assert readings.time.tolist() == [1554035760.0, 1554035765.0, 1556183047.0, 1556183052.0]


def test_steps_agree_with_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(5, 2, 40), rng.integers(0, 2, 40)], axis=1)
    readings = Readings(
        device=DEVICES["Fridge"], values=values, label=np.zeros(40, np.int64), time=np.arange(40.0)
    )
    first = np.array([0, 7, 30])
    made = module._step_features(readings, first, 10)
    names = module._features()
    for row, begin in zip(made, first, strict=True):
        own, state = values[begin : begin + 10].T
        slow = {
            "device_fridge": 1.0,
            "fridge_temperature_mean": sum(own) / 10,
            "fridge_temperature_sd": (sum((v - sum(own) / 10) ** 2 for v in own) / 10) ** 0.5,
            "fridge_temperature_least": min(own),
            "fridge_temperature_largest": max(own),
            "fridge_temperature_mean_change": sum(abs(b - a) for a, b in itertools.pairwise(own)) / 9,
            "fridge_temp_condition_share": sum(state) / 10,
            "fridge_temp_condition_switches": sum(a != b for a, b in itertools.pairwise(state)),
        }
        found = dict(zip(names, row.tolist(), strict=True))
        assert {name: value for name, value in found.items() if value} == pytest.approx(
            {name: value for name, value in slow.items() if value}, rel=1e-5
        ), "what another device has is 0"


def test_splits_share_no_reading_and_keep_apart() -> None:
    count = 3000
    readings = Readings(
        device=DEVICES["Fridge"],
        values=np.zeros((count, 2)),
        label=np.repeat(np.arange(3), count // 3),
        time=np.arange(count, dtype=np.float64),
    )
    owner = np.full(count, -1)
    for code, kind, first in module._units(readings, 0, 10, 16):
        for begin in first:
            assert (owner[begin : begin + 10] == -1).all(), "a reading in two steps"
            assert (readings.label[begin : begin + 10] == kind).all()
            owner[begin : begin + 10] = code
    used = np.flatnonzero(owner >= 0)
    same_class = readings.label[used[1:]] == readings.label[used[:-1]]
    other_split = owner[used[1:]] != owner[used[:-1]]
    assert (np.diff(used)[same_class & other_split] > 10).all(), "no neighbours on both sides of a border"
    assert {int(code) for code in owner[used]} == {TRAIN, VALIDATION, TEST}


@pytest.mark.parametrize("options", [{"step_readings": 1}, {"unit_steps": 0}, {"unit_steps": 1001}])
def test_options_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(PlanError, match="out of range"):
        ton_iot(**options)


def _best_alone(table: Table, site: int) -> float:
    """Largest AUROC, in either sense, of one feature over the steps of a device."""
    rows, steps = np.nonzero(table.valid & (table.site == site)[:, None])
    values, attacked = table.x["traffic"][rows, steps].astype(np.float64), table.y_step[rows, steps] > 0
    areas = [auroc(column, attacked) for column in values.T if column.std() > 0]
    return max(max(area, 1 - area) for area in areas)


def test_seven_devices(data_folder: Callable[[str], Path]) -> None:
    folder = data_folder("ton-iot-telemetry")
    made = ton_iot()
    table = made.load(folder, 0)
    assert table.counts["rows_read"] == 381_119
    assert set(table.site_names) == {device.name for device in DEVICES.values()}
    table, _ = remove_duplicates(assign_splits(table))
    for name in ("garage_door", "modbus"):
        seen = set(table.y[table.site == table.site_names.index(name)].tolist())
        assert (CLASSES.index("ddos") in seen) is (name == "garage_door"), "Modbus has no ddos"
    alone = {name: _best_alone(table, place) for place, name in enumerate(table.site_names)}
    assert max(alone.values()) < 0.95
    assert alone["gps"] > 0.9
    assert max(alone[name] for name in ("fridge", "modbus", "motion_light", "thermostat")) < 0.65
    assert made.raw is not None
    found = suspected_leaks(made.raw(folder), dropped=made.leaks)
    assert {f.columns[0] for f in found if f.kind in ("time", "address")} >= {"date", "ts"}
    assert [f.columns for f in found if f.dropped is None and f.kind != "order"] == []
