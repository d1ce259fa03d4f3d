"""A trained model judged on data and classes that it never saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lazaretto.cli import main

PLAN = """
[run]
seeds = [0]
[data.options]
sites = 3
units_per_site = 16
windows = 2
[model.options]
channels = 8
hidden = 8
[train]
rounds = 6
learning_rate = 0.01
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""
TOY = '''
"""A source with the simulator's features, its own class names and one family more."""
from dataclasses import replace
from lazaretto.data.consortium import consortium
from lazaretto.types import Source

def elsewhere(drop: int = 0, turn: bool = True) -> Source:
    """Another hospital group."""
    def load(path, seed):
        table = consortium(sites=2, units_per_site=12, windows=2).load(None, 99)
        classes = ("normal", *(f"new_{name}" for name in table.schema.classes[1:]))
        x, features = dict(table.x), dict(table.schema.features)
        step = -1 if turn else 1
        x["traffic"] = x["traffic"][:, :, ::step][:, :, drop:]
        features["traffic"] = features["traffic"][::step][drop:]
        return replace(table, x=x, schema=replace(table.schema, classes=classes, features=features))
    return Source(name="elsewhere", load=load, sample=lambda: load(None, 0), needs_path=False)
'''


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "plan.toml").write_text(PLAN)
    assert main(["run", str(folder / "plan.toml"), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts" / "data").mkdir(parents=True)
    (tmp_path / "parts" / "data" / "elsewhere.py").write_text(TOY)
    monkeypatch.setenv("LAZARETTO_PATH", str(tmp_path / "parts"))


def test_judged_on_the_simulator_again(trained: Path, tmp_path: Path) -> None:
    """On its own data, all splits: the AUROC of the test split lies near that of everything."""
    out = tmp_path / "again"
    sets = ["--set", "sites=3", "--set", "units_per_site=16", "--set", "windows=2"]
    assert (
        main(["evaluate", str(trained), "--source", "consortium", "--out", str(out), "--quiet", *sets]) == 0
    )
    here = json.loads((out / "metrics.json").read_text())["test"]["traffic"]["auroc"]["value"]
    there = json.loads((trained / "metrics.json").read_text())["test"]["traffic"]["auroc"]["value"]
    assert abs(here - there) < 0.15
    assert (out / "report.html").read_text().startswith("<!")


@pytest.mark.usefixtures("elsewhere")
def test_other_data_other_classes_features_in_another_order(trained: Path, tmp_path: Path) -> None:
    """Features are matched by name: turning their order round changes no figure."""
    tests = []
    for turn in ("true", "false"):
        out = tmp_path / turn
        arguments = ["--source", "elsewhere", "--out", str(out), "--quiet", "--set", f"turn={turn}"]
        assert main(["evaluate", str(trained), *arguments]) == 0
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["baselines"] == {}
        tests.append(metrics["test"])
    assert tests[0] == tests[1]
    found = tests[0]["traffic"]
    assert all(name.startswith("new_") for name in found["recall_by_class"])
    assert found["auroc"]["low"] < found["auroc"]["value"] < found["auroc"]["high"]
    assert "never" in (out / "report.html").read_text()


@pytest.mark.usefixtures("elsewhere")
def test_missing_features_and_missing_models_are_said(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--source", "elsewhere", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["evaluate", str(trained), *arguments, "--set", "drop=3"]) == 2
    assert "lacks features" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["evaluate", str(tmp_path), *arguments]) == 2
    assert "model.safetensors" in capsys.readouterr().err
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00rubbish")
    (tmp_path / "plan.toml").write_text(PLAN)
    assert main(["evaluate", str(tmp_path), *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err
