"""PhysioNet 2012: records by hand, archives that lie, and the real set where it is."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lazaretto.data import _physionet2012_files as files
from lazaretto.data.leaks import suspected_leaks
from lazaretto.data.physionet2012 import physionet2012
from lazaretto.data.splits import assign_splits
from lazaretto.errors import DataError, PlanError
from lazaretto.types import TEST, TRAIN, VALIDATION

HEAD = "Time,Parameter,Value\n"
WHO = (
    "00:00,RecordID,{number}\n00:00,Age,54\n00:00,Gender,0\n00:00,Height,-1\n00:00,ICUType,{icu}\n"
    "00:00,Weight,-1\n"
)
OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"


def record(number: int, rows: str = "00:07,HR,73\n00:50,HR,80\n", icu: int = 3) -> str:
    return HEAD + WHO.format(number=number, icu=icu) + rows


def folder(place: Path, *texts: str, outcomes: str | None = None) -> Path:
    for at, text in enumerate(texts):
        (place / f"{132539 + at}.txt").write_text(text)
    if outcomes is not None:
        (place / "Outcomes-a.txt").write_text(OUTCOMES + outcomes)
    return place


def archive(place: Path, members: dict[str, bytes], name: str = "set-a.tar.gz") -> Path:
    with tarfile.open(place / name, "w:gz") as made:
        for title, data in members.items():
            member = tarfile.TarInfo(title)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return place / name


def refuse(path: Path | None, *words: str, task: str = "tampering") -> None:
    with pytest.raises(DataError) as caught:
        physionet2012(task=task).load(path, 0)  # type: ignore[arg-type]
    for word in (*words, "way out:"):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def channel(table: object, name: str) -> np.ndarray:
    return table.x["record"][..., table.schema.features["record"].index(name)]  # type: ignore[attr-defined]


def test_rows_to_steps_by_hand(tmp_path: Path) -> None:
    """The last heart rate of an hour, urine in sum, -1 missing at admission, weight told and measured."""
    rows = "00:00,Weight,81\n00:07,HR,73\n00:50,HR,80\n00:10,Urine,900\n00:59,Urine,60\n47:59,pH,7.4\n"
    rows += "48:00,HR,70\n"
    weighed = record(132540, rows, icu=1).replace("00:00,Weight,-1", "00:00,Weight,80")
    path = folder(tmp_path, record(132539), weighed + "02:00,Temp,370\n", outcomes="")
    (path / "Outcomes-a.txt").write_text(OUTCOMES + "132539,6,1,5,-1,0\n132540,16,8,8,7,1\n")
    table = physionet2012(task="mortality").load(path, 0)
    assert table.y.tolist() == [0, 1]
    assert table.y_step.shape == (2, 48)
    assert table.site_names[table.site[0]] == "medical ICU"
    assert table.site_names[table.site[1]] == "coronary care"
    assert table.unit_names == ("stay 132539", "stay 132540")
    heart = channel(table, "heart_rate_per_minute")
    np.testing.assert_array_equal(heart[:, 0], [80, 80])
    assert np.isnan(heart[:, 1:]).all()
    assert channel(table, "urine_millilitres")[1, 0] == 960
    assert channel(table, "arterial_ph")[1, 47] == pytest.approx(7.4)
    assert channel(table, "age_years")[0, 0] == 54
    assert np.isnan(channel(table, "height_centimetres")).all()
    np.testing.assert_array_equal(channel(table, "admission_weight_kilograms")[:, 0], [np.nan, 80])
    np.testing.assert_array_equal(channel(table, "weight_kilograms")[:, 0], [np.nan, 81])
    assert table.counts["values_implausible_temperature_celsius"] == 1
    assert table.counts["values_after_48_hours"] == 1
    assert any("temperature_celsius (outside 26 to 45)" in note for note in table.notes)
    assert table.judged is not None
    np.testing.assert_array_equal(np.flatnonzero(table.judged[0]), [47])
    assert table.schema.timed is False


def test_longer_steps(tmp_path: Path) -> None:
    table = physionet2012(task="mortality", step_hours=6).load(
        folder(tmp_path, record(132539), outcomes="132539,6,1,5,-1,0\n"), 0
    )
    assert table.y_step.shape == (1, 8)
    assert table.schema.step == "6 hours"
    assert table.schema.step_seconds == 6 * 3600


def test_an_archive_is_the_folder(tmp_path: Path) -> None:
    texts = [record(132539), record(132540, "05:00,Temp,36.6\n")]
    plain = tmp_path / "plain"
    plain.mkdir()
    members = {f"set-a/{132539 + at}.txt": text.encode() for at, text in enumerate(texts)}
    packed = archive(tmp_path, members)
    one = physionet2012().load(folder(plain, *texts), 0)
    for path in (packed, tmp_path):
        other = physionet2012().load(path, 0)
        np.testing.assert_array_equal(other.x["record"], one.x["record"])
        assert other.unit_names == one.unit_names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("132539.txt", "line 1", "empty")),
        ("Time;Parameter;Value\n", ("line 1", "Time,Parameter,Value")),
        (record(132539, "00:07,HR\n"), ("line 8", "time, parameter, value")),
        (record(132539, "00:07,HR,73,1\n"), ("line 8", "time, parameter, value")),
        (record(132539, "00:07,HR,fast\n"), ("line 8", "not a number", "fast")),
        (record(132539, "00:07,HR,nan\n"), ("line 8", "not a number")),
        (record(132539, "00:07,HR,1e999\n"), ("line 8", "not a number")),
        (record(132539, "00:07,HR,\n"), ("line 8", "not a number")),
        (record(132539, "0.5,HR,73\n"), ("line 8", "hours:minutes")),
        (record(132539, "00:61,HR,73\n"), ("line 8", "hours:minutes")),
        (record(132539, "-1:07,HR,73\n"), ("line 8", "hours:minutes")),
        (record(132539, "00:07,Pulse,73\n"), ("line 8", "a parameter", "Pulse")),
        (record(132539, "00:07,,73\n"), ("line 8", "a parameter")),
        (record(132539, "01:00,Age,73\n"), ("line 8", "descriptor")),
        (record(132539, "00:00,Age,73\n"), ("line 8", "descriptor", "twice")),
        (record(132539, icu=5), ("ICUType", "5")),
        (record(132539, icu=-1), ("ICUType", "-1")),
        (record(1), ("RecordID", "132539.txt")),
        (record(132539).replace("00:00,Age,54\n", ""), ("no Age",)),
    ],
)
def test_a_bad_record_is_named(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    refuse(folder(tmp_path, text), "132539", *words)


@pytest.mark.parametrize("data", [b"\xff\xfeT\0", b"Time,Parameter,Value\n\xe9", b"Time,Parameter,Value\n\0"])
def test_what_is_no_text(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "132539.txt").write_bytes(data)
    refuse(tmp_path, "132539.txt", "text")


def test_no_path_nothing_there_other_files(tmp_path: Path) -> None:
    refuse(None, "no path")
    refuse(tmp_path / "none", "no such file or folder")
    (tmp_path / "notes.md").write_text("x")
    refuse(tmp_path, "notes.md")
    refuse(tmp_path / "notes.md", "not an archive")


def test_an_archive_that_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = record(132539).encode()
    refuse(archive(tmp_path, {"set-a/readme.md": b"x"}), "readme.md", "no record")
    refuse(archive(tmp_path, {"a/132539.txt": good, "b/132539.txt": good}), "stands twice", "b/132539.txt")
    refuse(archive(tmp_path, {}), "no record inside")
    whole = archive(tmp_path, {"../../132539.txt": good})  # nothing is written, so the path is only a name
    assert physionet2012().load(whole, 0).unit_names == ("stay 132539",)
    assert not list(tmp_path.parent.glob("132539.txt"))
    whole.write_bytes(whole.read_bytes()[:60])
    refuse(whole, "no sound archive")
    whole.write_bytes(gzip.compress(b"not a tar" * 100))
    refuse(whole, "no sound archive")
    whole.write_bytes(b"not gzip")
    refuse(whole, "no sound archive")
    monkeypatch.setattr(files, "MOST_RECORD_BYTES", 100)
    refuse(archive(tmp_path, {"set-a/132539.txt": good}), "too large")
    monkeypatch.setattr(files, "MOST_RECORD_BYTES", 1 << 20)
    monkeypatch.setattr(files, "MOST_BYTES", 5_000)
    refuse(archive(tmp_path, {"set-a/132539.txt": good + b"\n" * 9_000}), "unpacks to more")
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 29)
    monkeypatch.setattr(files, "MOST_RECORDS", 1)
    refuse(archive(tmp_path, {"132539.txt": good, "132540.txt": record(132540).encode()}), "too many records")


def test_links_in_an_archive_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set-a.tar.gz", "w:gz") as made:
        link = tarfile.TarInfo("set-a/132539.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        made.addfile(link)
    refuse(tmp_path, "132539.txt", "link")


def test_outcomes_that_do_not_fit(tmp_path: Path) -> None:
    folder(tmp_path, record(132539), record(132540))
    refuse(tmp_path, "no outcomes", task="mortality")
    assert physionet2012().load(tmp_path, 0).unit_names
    for text, words in (
        ("132539,6,1,5,-1,0\n", ("without an outcome", "132540")),
        ("132539,6,1,5,-1,0\n132539,6,1,5,-1,0\n", ("two outcomes", "132539")),
        ("132539,6,1,5,-1,2\n", ("Outcomes-a.txt", "line 2", "In-hospital_death", "'2'")),
        ("132539,6,1,5,-1,\n", ("line 2", "In-hospital_death", "empty")),
        ("132539,6,1,five,-1,0\n", ("line 2", "Length_of_stay", "'five'")),
    ):
        folder(tmp_path, outcomes=text)
        refuse(tmp_path, *words, task="mortality")
    (tmp_path / "Outcomes-a.txt").write_text("RecordID,SOFA\n132539,1\n")
    refuse(tmp_path, "columns are missing", "In-hospital_death", task="mortality")


@pytest.mark.parametrize(
    "options",
    [
        {"task": "weather"},
        {"step_hours": 5},
        {"step_hours": True},
        {"step_hours": 0},
        {"tampered": 0},
        {"tampered": 1.0},
        {"kinds": ["forgery"]},
        {"kinds": []},
        {"kinds": ["swap", "swap"]},
    ],
)
def test_options_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(PlanError, match="physionet2012"):
        physionet2012(**options)  # type: ignore[arg-type]


def test_the_made_up_stays_of_both_tasks() -> None:
    forged, died = physionet2012().sample(), physionet2012(task="mortality").sample()
    assert forged.schema.timed
    assert forged.intensity is not None
    assert set(np.unique(forged.split)) == {TRAIN, VALIDATION, TEST}
    assert died.schema.classes == ("normal", "died")
    assert died.judged is not None
    assert (died.judged.sum(axis=1) == 1).all()
    assign_splits(died)
    raw = physionet2012().raw
    assert raw is not None
    with pytest.raises(DataError, match="laid over"):
        raw(None)


def test_the_real_stays(data_folder: Callable[[str], Path]) -> None:
    """4,000 stays and who died, 13.85 %, as published; 577, 874, 1,481 and 1,068 of the four types."""
    path = data_folder("physionet2012")
    made = physionet2012(task="mortality")
    table = made.load(path, 0)
    assert len(table.y) == 4000
    assert table.y.sum() == 554
    assert np.bincount(table.site).tolist() == [577, 874, 1481, 1068]
    heart = channel(table, "heart_rate_per_minute")
    assert 80 < np.nanmedian(heart) < 90
    assert np.isfinite(heart[:, 1:]).mean() > 0.8
    # record 132539 by eye: heart rate 73 at 00:07 and 77 at 00:37, urine 900 and 60
    first = table.unit_names.index("stay 132539")
    assert heart[first, 0] == 77
    assert channel(table, "urine_millilitres")[first, 0] == 960
    assert made.raw is not None
    found = suspected_leaks(made.raw(path), dropped=made.leaks)
    assert [f.columns for f in found if f.dropped is None] == []
    named = {name for f in found for name in f.columns}
    assert {"In-hospital_death", "Survival"} <= named
