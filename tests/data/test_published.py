"""Sources of published files: files that cannot be used, and that no leak is a feature."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.errors import DataError
from lazaretto.types import Source

PATIENT = "63,1,4,145,233,1,2,150,0,2.3,3,0,6,{}"
READING = "31-Mar-19, 12:36:0{} ,{},{},{},{}"
CONNECTION = "0,tcp,{},SF,{}," + "0," * 17 + "5,5," + "0.00," * 7 + "9,9," + "0.10," * 8 + "{},21"


def _patients(*more: str) -> str:
    return "\n".join([*(PATIENT.format(i % 2) for i in range(6)), *more]) + "\n"


def _fridge(*more: str) -> str:
    rows = [READING.format(i, i, "low", 0, "normal") for i in range(6)]
    return "\n".join(["date,time,fridge_temperature,temp_condition,label,type", *rows, *more]) + "\n"


def _connections(*more: str) -> str:
    return "\n".join([*(CONNECTION.format("http", 7 + i, "normal") for i in range(6)), *more]) + "\n"


FILES: dict[str, tuple[str, Callable[..., str]]] = {
    "heart": ("processed.cleveland.data", _patients),
    "ton_iot": ("Train_Test_IoT_Fridge.csv", _fridge),
    "nsl_kdd": ("KDDTrain+.txt", _connections),
}


def _refuse(source: str, path: Path | None, *words: str) -> None:
    made: Source = catalog.build("sources", source)
    assert made.raw is not None
    with pytest.raises(DataError) as caught:
        made.load(path, 0)
    for word in (*words, "way out:"):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


@pytest.mark.parametrize("source", FILES)
def test_no_path_nothing_there_other_files(source: str, tmp_path: Path) -> None:
    _refuse(source, None, source, "no path")
    _refuse(source, tmp_path / "none", "no such file or folder")
    (tmp_path / "notes.md").write_text("x")
    _refuse(source, tmp_path, "notes.md", "files named")


@pytest.mark.parametrize("source", FILES)
@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b"a\0b,c\n", "not text"), (b"\xff\xfe1,2\n", "UTF-16"), (b"\xe9,1\n", "not UTF-8")],
)
def test_what_is_no_text(source: str, content: bytes, said: str, tmp_path: Path) -> None:
    name, _ = FILES[source]
    (tmp_path / name).write_bytes(content)
    _refuse(source, tmp_path, name, said)


def test_the_leak_check_takes_no_unknown_kind_for_normal(tmp_path: Path) -> None:
    name, made = FILES["ton_iot"]
    (tmp_path / name).write_text(made(READING.format(7, 7, "low", 1, "worm")))
    raw = catalog.build("sources", "ton_iot").raw
    assert raw is not None
    with pytest.raises(DataError, match=r"'type' must hold one of (.|\n)*'worm'"):
        raw(tmp_path)


@pytest.mark.parametrize(
    ("source", "row", "words"),
    [
        ("heart", "63,1,4", ("line 7", "'num'", "empty cell")),
        ("heart", PATIENT.format("1,2"), ("line 7", "15 cells")),
        ("heart", PATIENT.format(5), ("line 7", "'num'", "from 0 to 4", "'5'")),
        (
            "heart",
            PATIENT.format(1).replace(",4,145", ",2.5,145"),
            ("line 7", "'cp'", "whole number", "'2.5'"),
        ),
        ("heart", PATIENT.format(1).replace("145", "high"), ("line 7", "'trestbps'", "'high'")),
        ("heart", PATIENT.format(1).replace("2.3", "inf"), ("line 7", "'oldpeak'", "'inf'")),
        (
            "ton_iot",
            READING.format(7, "warm", "low", 0, "normal"),
            ("line 8", "'fridge_temperature'", "'warm'"),
        ),
        (
            "ton_iot",
            READING.format(7, "", "low", 0, "normal"),
            ("line 8", "'fridge_temperature'", "empty cell"),
        ),
        ("ton_iot", READING.format(7, 1, "cold", 0, "normal"), ("line 8", "'temp_condition'", "'cold'")),
        ("ton_iot", READING.format(7, 1, "low", 1, "mirai"), ("line 8", "'type'", "'mirai'", "backdoor")),
        ("ton_iot", READING.format(7, 1, "low", 1, "normal"), ("line 8", "contradict")),
        ("ton_iot", READING.format(99, 1, "low", 0, "normal"), ("line 8", "date and time")),
        ("nsl_kdd", CONNECTION.format("http", 1, "mirai"), ("line 7", "'attack'", "'mirai'")),
        ("nsl_kdd", CONNECTION.format("quic", 1, "back"), ("line 7", "'service'", "'quic'")),
        ("nsl_kdd", CONNECTION.format("http", "much", "back"), ("line 7", "'src_bytes'", "'much'")),
        ("nsl_kdd", CONNECTION.format("http", "-3", "back"), ("line 7", "'src_bytes'", "'-3'")),
        ("nsl_kdd", CONNECTION.format("http", "", "back"), ("line 7", "'src_bytes'", "empty cell")),
        ("nsl_kdd", CONNECTION.format("http", "1e999", "back"), ("line 7", "'src_bytes'", "'1e999'")),
    ],
)
def test_a_bad_row_is_named(source: str, row: str, words: tuple[str, ...], tmp_path: Path) -> None:
    name, text = FILES[source]
    (tmp_path / name).write_text(text(row))
    _refuse(source, tmp_path, name, *words)


@pytest.mark.parametrize("source", ["heart", "nsl_kdd"])
def test_another_number_of_columns(source: str, tmp_path: Path) -> None:
    name, _ = FILES[source]
    (tmp_path / name).write_text("1,2,3\n4,5,6\n")
    _refuse(source, tmp_path, name, "line 1", "cells")


def test_a_device_that_nobody_knows_or_twice(tmp_path: Path) -> None:
    (tmp_path / "Train_Test_IoT_Kettle.csv").write_text(_fridge())
    _refuse("ton_iot", tmp_path, "Kettle", "Fridge")
    (tmp_path / "Train_Test_IoT_Kettle.csv").unlink()
    (tmp_path / "Train_Test_IoT_Fridge.csv").write_text(_fridge())
    (tmp_path / "Train_Test_IoT_Fridge.csv.gz").write_bytes(gzip.compress(_fridge().encode()))
    _refuse("ton_iot", tmp_path, "twice")
    (tmp_path / "Train_Test_IoT_Fridge.csv.gz").unlink()
    (tmp_path / "Train_Test_IoT_Fridge.csv").write_text(_fridge().replace("temp_condition", "state"))
    _refuse("ton_iot", tmp_path, "columns are missing: temp_condition")


@pytest.mark.parametrize("source", FILES)
def test_no_leak_is_a_feature(source: str) -> None:
    made: Source = catalog.build("sources", source)
    table = made.sample()
    (names,) = table.schema.features.values()
    assert not set(made.leaks) & set(names)
    assert table.schema.timed is False
    assert np.isfinite(next(iter(table.x.values()))).all()
