"""Leakage is planted in every way that we know of, and each is refused or reported.

A column that bears the label; a stream that stands in two splits; a threshold set on what is judged; a model
judged on its own training data, brought in by another door. That tuning sees no test unit is
`test_sweep.test_nothing_of_the_test_units_reaches_a_sweep`.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import catalog, runlog
from lazaretto.cli import main
from lazaretto.errors import DataError
from lazaretto.evaluate.compare import judge
from lazaretto.evaluate.scored import OURS, Protocol, Scored, SeedScores
from lazaretto.plan import load_plan
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare
from lazaretto.run.saved import save_arrays
from lazaretto.run.seen import SEEN_FILE, seen_windows

SOURCE = '''
"""The simulator, with a leak."""
from dataclasses import replace
import numpy as np
from lazaretto.data.consortium import consortium
from lazaretto.data.splits import assign_splits
from lazaretto.data.streams import streams
from lazaretto.types import TEST, TRAIN, Source

def planted(leak: str = "none") -> Source:
    """The simulator with a leak of the kind asked for."""
    def load(path, seed):
        table = consortium(sites=2, units_per_site=16, windows=2).load(None, seed)
        if leak == "column":
            noise = np.random.default_rng(seed).normal(0, 0.1, table.y_step.shape)
            verdict = np.where(table.valid, (table.y_step > 0) + noise, 0).astype(np.float32)
            features = dict(table.schema.features)
            features["traffic"] = (*features["traffic"], "verdict")
            x = {**table.x, "traffic": np.concatenate([table.x["traffic"], verdict[..., None]], axis=2)}
            return replace(table, x=x, schema=replace(table.schema, features=features))
        if leak in ("copy", "both splits"):
            table = assign_splits(table, seed=seed)
            train = table.unit[(table.split == TRAIN) & (table.y > 0)][0]
            judged = table.unit[table.split == TEST][0]
            a, b = np.flatnonzero(table.unit == train), np.flatnonzero(table.unit == judged)
            if leak == "both splits":
                split = table.split.copy()
                split[a[-1]] = TEST
                return replace(table, split=split)
            y_step, valid, present = table.y_step.copy(), table.valid.copy(), table.present.copy()
            x = {name: values.copy() for name, values in table.x.items()}
            for values in (y_step, valid, present, *x.values()):
                values[b] = values[a]
            return replace(table, x=x, y_step=y_step, y=y_step.max(axis=1), valid=valid, present=present)
        return table
    return Source(name="planted", load=load, sample=lambda: load(None, 0), needs_path=False)
'''
SMALL = """[model.options]
channels = 4
hidden = 4
[train]
rounds = 1
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""
PLAN = (
    """
[run]
seeds = [3]
[data]
source = "planted"
options = {{ leak = "{leak}" }}
"""
    + SMALL
)


@pytest.fixture(autouse=True)
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts" / "data").mkdir(parents=True)
    (tmp_path / "parts" / "data" / "planted.py").write_text(SOURCE)
    monkeypatch.setenv("LAZARETTO_PATH", str(tmp_path / "parts"))


def run(folder: Path, leak: str, *more: str) -> int:
    (folder / "plan.toml").write_text(PLAN.format(leak=leak))
    return main(["run", str(folder / "plan.toml"), "--out", str(folder / "out"), "--quiet", *more])


def sheet_of(folder: Path) -> Any:
    return next(runlog.read(folder / "run.sqlite", "data")).body


def test_a_column_that_bears_the_label_fails_the_strict_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "planted", "--strict", "--set", "leak=column"]) == 1
    out, err = capsys.readouterr()
    assert "verdict" in err
    assert "verdict" in out
    main(["data", "check", "planted", "--set", "leak=none"])
    assert "verdict" not in capsys.readouterr().out


def test_a_column_that_bears_the_label_stands_in_the_report(tmp_path: Path) -> None:
    assert run(tmp_path, "column") == 0
    (note,) = (note for note in sheet_of(tmp_path / "out")["notes"] if "verdict" in note)
    assert note.startswith("Suspected leak")
    assert "alone it tells attack from normal" in note
    assert "Suspected leak, traffic: verdict" in (tmp_path / "out" / "report.html").read_text()
    words = ["--source", "planted", "--set", "leak=column", "--out", str(tmp_path / "again"), "--quiet"]
    assert main(["evaluate", str(tmp_path / "out"), *words]) == 0
    page = (tmp_path / "again" / "report.html").read_text()
    assert "<strong>Before you read on:</strong> One leak of labels is suspected" in page
    (note,) = (note for note in sheet_of(tmp_path / "again")["notes"] if "verdict" in note)
    assert "To do: drop it" not in note, "nobody can drop what a trained model reads"


def test_a_column_that_bears_the_label_is_refused_where_the_plan_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "column", "--set", "data.leaks=refuse") == 2
    error = capsys.readouterr().err
    assert "verdict" in error
    assert "way out" in error
    assert not (tmp_path / "out").exists()
    honest = load_plan(tmp_path / "plan.toml", sets=["data.leaks=refuse", "data.options.leak=none"])
    prepare(honest, 3, Post())


def test_a_copied_stream_is_taken_out_of_the_test_units_and_counted(tmp_path: Path) -> None:
    for leak in ("none", "copy"):
        (tmp_path / leak).mkdir()
        assert run(tmp_path / leak, leak) == 0
    honest, copied = (sheet_of(tmp_path / leak / "out") for leak in ("none", "copy"))
    assert honest["counts"]["duplicates_removed"] == 0
    assert copied["counts"]["duplicates_removed"] == 2, "the stream has two windows"
    assert copied["splits"]["test"]["units"] == honest["splits"]["test"]["units"] - 1
    assert copied["splits"]["train"] == honest["splits"]["train"]
    metrics = json.loads((tmp_path / "copy" / "out" / "metrics.json").read_text())
    assert metrics["data"]["duplicates_removed"] == 2


def test_a_unit_in_two_splits_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "both splits") == 2
    assert "two splits" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def scored(seed: int, units: Any = None) -> Scored:
    rng = np.random.default_rng(seed)
    y = (rng.random((8, 12)) < 0.3).astype(np.int64)
    return Scored(
        score=rng.normal(size=y.shape) + y,
        y=y,
        valid=np.ones(y.shape, bool),
        site=np.zeros(8, np.int64),
        unit=units,
    )


@pytest.mark.parametrize(
    ("validation", "test", "says"),
    [
        (scored(1), scored(1), "the same scores"),
        (scored(1, np.arange(8)), scored(1, np.arange(8)), "8 units in validation and test"),
        (scored(1, np.arange(8)), scored(2, np.arange(7, 15)), "1 units in validation and test: 7"),
        # the units say that they differ, and the scores that they do not
        (scored(1, np.arange(8)), scored(1, np.arange(8, 16)), "the same scores"),
    ],
)
def test_a_threshold_set_on_what_is_judged_is_refused(validation: Scored, test: Scored, says: str) -> None:
    protocol = Protocol(classes=("normal", "attack"), step_seconds=1.0, replicates=20)
    with pytest.raises(DataError, match=says):
        judge({OURS: [SeedScores(validation=validation, test=test)]}, protocol)
    fine = dataclasses.replace(scored(5), unit=np.arange(90, 98))
    judge({OURS: [SeedScores(validation=validation, test=fine)]}, protocol)


def flows(path: Path, hosts: range) -> None:
    lines = ["start_time,src,dst,dport,bytes_total,packets_total,duration_seconds,label"]
    for host in hosts:
        rng = np.random.default_rng(host)
        for step in range(40):
            bad = host % 2 == 1 and step >= 20
            size, count = rng.integers(100, 900) + 300 * bad, rng.integers(1, 20) + 5 * bad
            label = "flood" if bad else "normal"
            lines.append(f"{1000 + step},10.0.0.{host},10.0.1.1,80,{size},{count},1.5,{label}")
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


FLOWS = (
    """
[run]
seeds = [3]
[data]
source = "flows_csv"
[data.options]
unit = "source_address"
steps = { flows = 5, per_window = 4 }
[data.options.columns]
start_time = "start_time"
source_address = "src"
destination_address = "dst"
destination_port = "dport"
bytes_total = "bytes_total"
packets_total = "packets_total"
duration_seconds = "duration_seconds"
label = "label"
[data.options.label]
normal = ["normal"]
[sites]
by = "unit"
count = 2
"""
    + SMALL
)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("once")
    flows(folder / "flows" / "a.csv", range(1, 41))
    (folder / "flows.toml").write_text(FLOWS)
    words = ["--data", str(folder / "flows"), "--out", str(folder / "trained"), "--quiet"]
    assert main(["run", str(folder / "flows.toml"), *words]) == 0
    return folder


@pytest.fixture
def trained(once: Path, tmp_path: Path) -> Path:
    """A trained model that a test may change, with its plan and its data beside it."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "trained"


def evaluate(trained: Path, data: Path, out: Path) -> int:
    plan = str(trained.parent / "flows.toml")
    words = ["--source", "flows_csv", "--plan", plan, "--data", str(data), "--out", str(out), "--quiet"]
    return main(["evaluate", str(trained), *words])


def test_a_copy_of_the_training_data_elsewhere_is_found_out(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same files at another path: only what was kept for testing is judged, as at the first path."""
    before = sheet_of(trained)["splits"]
    shutil.copytree(tmp_path / "flows", tmp_path / "copied")
    assert evaluate(trained, tmp_path / "copied", tmp_path / "judged") == 0
    sheet = sheet_of(tmp_path / "judged")
    assert sheet["splits"]["test"] == before["test"]
    (note,) = (note for note in sheet["notes"] if "very values" in note)
    known = 2 * (before["train"]["units"] + before["validation"]["units"])
    assert note.startswith(f"{known} of 80 windows")
    # new hosts beside the old ones: old ones go, new ones are judged
    flows(tmp_path / "copied" / "b.csv", range(41, 51))
    assert evaluate(trained, tmp_path / "copied", tmp_path / "more") == 0
    assert sheet_of(tmp_path / "more")["splits"]["test"]["units"] == before["test"]["units"] + 10
    # nothing but what it was trained on
    lines = (tmp_path / "flows" / "a.csv").read_text().splitlines(keepends=True)
    options = load_plan(trained / "plan.toml").data.options
    table = catalog.build("sources", "flows_csv", options).load(tmp_path / "flows", 3)
    seen = seen_windows(trained, table, "traffic")
    assert seen is not None
    hosts = {table.unit_names[unit].split()[-1] for unit in table.unit[seen]}
    (tmp_path / "old").mkdir()
    kept = [line for line in lines[1:] if line.split(",")[1] in hosts]
    assert len(kept) == 20 * known
    (tmp_path / "old" / "a.csv").write_text("".join([lines[0], *kept]))
    assert evaluate(trained, tmp_path / "old", tmp_path / "none") == 2
    assert "trained, or its thresholds set, on all of this data" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_without_the_digests_nobody_can_tell_and_it_says_so(trained: Path, tmp_path: Path) -> None:
    (trained / SEEN_FILE).unlink()
    shutil.copytree(tmp_path / "flows", tmp_path / "copied")
    assert evaluate(trained, tmp_path / "copied", tmp_path / "judged") == 0
    assert any(
        "some may hold what it was trained on" in note for note in sheet_of(tmp_path / "judged")["notes"]
    )


def test_digests_from_outside_are_not_trusted(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tmp_path / "flows", tmp_path / "copied")
    (trained / "run.sqlite").unlink()  # it names them: this folder was handed on without it
    for bad in (np.zeros((3, 8), np.uint8), np.zeros((3, 16)), np.zeros(16, np.uint8)):
        save_arrays(trained / SEEN_FILE, {"seen": bad}, {})
        assert evaluate(trained, tmp_path / "copied", tmp_path / "judged") == 2
        assert SEEN_FILE in capsys.readouterr().err
    (trained / SEEN_FILE).write_bytes(b"rubbish")
    assert evaluate(trained, tmp_path / "copied", tmp_path / "judged") == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "judged").exists()
