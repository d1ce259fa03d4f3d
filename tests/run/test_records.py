"""Patients instead of traffic, from the command line: trained, judged anew, reported in words that fit."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pytest

from lazaretto.cli import main

PLAN = """
[run]
seeds = [0]
setting = "record"
[data]
source = "heart"
modality = "record"
[cut]
enabled = false
[model.options]
channels = 8
hidden = 8
[train]
rounds = 3
temporal_consistency = 0.0
[evaluate]
baselines = ["local", "logistic_regression"]
window_steps = 1
leave_one_family_out = false
bootstrap = 100
"""


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hospitals of the published form, made up: the ill are older and have a slower heart."""
    folder, rng = tmp_path_factory.mktemp("hospitals"), np.random.default_rng(5)
    for name in ("cleveland", "va"):
        rows = []
        for _ in range(60):
            ill = int(rng.random() < 0.5)
            age, heart = 50 + 8 * ill + rng.integers(-9, 9), 160 - 25 * ill + rng.integers(-20, 20)
            rows.append(
                f"{age},1,{rng.integers(1, 5)},{rng.integers(100, 170)},?,?,0,{heart},{ill},1.5,?,?,?,{ill}"
            )
        (folder / f"processed.{name}.data").write_text("\n".join(rows) + "\n")
    return folder


def test_trained_and_judged_without_a_clock(hospitals: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    out, again = tmp_path / "out", tmp_path / "again"
    words = ["run", str(tmp_path / "plan.toml"), "--data", str(hospitals), "--out", str(out), "--quiet"]
    assert main(words) == 0
    judged = ["evaluate", str(out), "--source", "heart", "--data", str(hospitals), "--out", str(again)]
    assert main([*judged, "--quiet"]) == 0
    for folder in (out, again):
        test = json.loads((folder / "metrics.json").read_text())["test"]["record"]
        assert test["auroc"]["value"] is not None
        assert test["latency_steps"]["value"] is None
        page = html.unescape((folder / "report.html").read_text())
        assert "patients with heart disease above patients without" in page
        assert "of the patients with heart disease" in page
        assert "Detection latency" not in page, "an outcome has none"
        for silly in (
            "attacked above normal",
            "after onset on average",
            "per device and day",
            "1 s on average",
        ):
            assert silly not in page
        assert "nan" not in page.lower().replace("financ", "").split()
    same = [
        json.loads((folder / "metrics.json").read_text())["test"]["record"]["auroc"]
        for folder in (out, again)
    ]
    assert same[0]["value"] == pytest.approx(same[1]["value"]), "the same units, the same scores"


def test_setting_and_modality_go_together(
    hospitals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    words = ["run", str(tmp_path / "plan.toml"), "--data", str(hospitals), "--out", str(tmp_path / "out")]
    assert main([*words, "--set", "run.setting=traffic"]) == 2
    assert "run.setting: must be the modality" in capsys.readouterr().err
    both = ["--set", "run.setting=traffic", "--set", "data.modality=traffic"]
    assert main([*words, *both, "--quiet"]) == 2
    assert "no such modality" in capsys.readouterr().err
