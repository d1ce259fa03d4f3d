"""Traffic and records together from a plan to a report, resumed, and judged again."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lazaretto import runlog
from lazaretto.cli import main
from lazaretto.errors import LazarettoError

PLAN = """
[run]
seeds = [0]
setting = "combined"
[data]
source = "consortium"
modality = "combined"
[data.options]
sites = 3
units_per_site = 12
windows = 2
[sites]
devices = 2
[model]
name = "fusion"
[model.options]
channels = 6
cut_channels = 4
hidden = 6
sent_channels = 4
bins = 1
repeat_steps = 2
[train]
rounds = 3
batch_units = 2
alignment_cut = 0.1
alignment_fusion = 0.1
modality_dropout = 0.2
[evaluate]
baselines = ["record_only"]
leave_one_family_out = false
bootstrap = 100
"""


def figures(folder: Path) -> dict[str, object]:
    """What a run found: all but times and memory."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if key not in ("time", "memory")}


def lazaretto(*words: str) -> subprocess.Popen[bytes]:
    """In a process of its own, as users run it: the number of devices tells in the last bits."""
    return subprocess.Popen([sys.executable, "-m", "lazaretto", *words, "--quiet"])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("combined")
    (folder / "plan.toml").write_text(PLAN)
    assert lazaretto("run", str(folder / "plan.toml"), "--out", str(folder / "out")).wait() == 0
    return folder / "out"


def test_every_system_is_judged_and_the_report_has_its_sections(ran: Path) -> None:
    metrics = json.loads((ran / "metrics.json").read_text())
    judged = set(metrics["baselines"])
    assert {"record_only", "without_traffic", "without_record"} <= judged
    page = (ran / "report.html").read_text()
    for words in ("Traffic and records", "What each modality finds", "Whose record is this"):
        assert words.lower() in page.lower(), words


def test_a_stopped_run_goes_on_to_the_same_figures(ran: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "out" / "run.sqlite"
    words = ["run", str(ran.parent / "plan.toml"), "--out", str(out)]
    process = lazaretto(*words)
    for _ in range(3000):
        with contextlib.suppress(LazarettoError):  # not there yet, or locked while a record is written
            if process.poll() is not None or (log.exists() and any(True for _ in runlog.read(log, "round"))):
                break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 3, "stopped, and says so"
    assert not (out / "report.html").exists()
    assert lazaretto(*words, "--resume").wait() == 0
    assert figures(out) == figures(ran)


def test_it_judges_data_again(ran: Path, tmp_path: Path) -> None:
    options = ["--set", "sites=3", "--set", "units_per_site=12", "--set", "windows=2"]
    words = ["evaluate", str(ran), "--source", "consortium", "--quiet", *options]
    assert main([*words, "--out", str(tmp_path / "same")]) == 0
    first, same = (
        json.loads((folder / "metrics.json").read_text())["test"] for folder in (ran, tmp_path / "same")
    )
    assert first["combined"]["auroc"]["value"] == pytest.approx(same["combined"]["auroc"]["value"], abs=1e-6)
