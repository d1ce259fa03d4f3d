"""Interrupt and resume: bit-identical to an uninterrupted run; same seed, same result."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lazaretto import runlog
from lazaretto.errors import LazarettoError

PLAN = """
[run]
seeds = [1, 2]
[data.options]
sites = 3
units_per_site = 12
windows = 2
[model.options]
channels = 8
hidden = 8
[train]
rounds = {rounds}
batch_units = 2
[evaluate]
baselines = ["local", "pooled", "logistic_regression"]
leave_one_family_out = false
bootstrap = 100
"""


def _run(plan: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lazaretto", "run", str(plan), "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str], code: int) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out + err


def _figures(folder: Path) -> dict:
    """What must be equal: everything but times and memory."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if key not in ("time", "memory")}


def _wait_for(process: subprocess.Popen[str], log: Path, rounds: int) -> None:
    """Until the run has logged so many rounds (or has ended)."""
    for _ in range(1200):
        if process.poll() is not None:
            return
        if log.exists():
            with contextlib.suppress(LazarettoError):  # it may be locked while a record is written
                if sum(1 for _ in runlog.read(log, "round")) >= rounds:
                    return
        time.sleep(0.1)
    raise AssertionError("the run did not start its rounds")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("whole")
    plan = folder / "plan.toml"
    plan.write_text(PLAN.format(rounds=25))
    _finish(_run(plan, folder / "out"), 0)
    return plan, folder / "out"


@pytest.mark.parametrize(
    ("number", "rounds"), [(signal.SIGINT, 5), (signal.SIGTERM, 30), (signal.SIGKILL, 12)]
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    whole: tuple[Path, Path], tmp_path: Path, number: signal.Signals, rounds: int
) -> None:
    plan, expected = whole
    out = tmp_path / "out"
    process = _run(plan, out)
    _wait_for(process, out / "run.sqlite", rounds)
    os.kill(process.pid, number)
    text = "".join(process.communicate(timeout=120))
    killed = number == signal.SIGKILL
    assert process.returncode == (-number if killed else 3), text
    assert "Traceback" not in text
    assert killed or "--resume" in text
    assert not (out / "metrics.json").exists()
    _finish(_run(plan, out, "--resume"), 0)
    assert (out / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    assert _figures(out) == _figures(expected)
    logged = [(r.body["seed"], r.body["round"]) for r in runlog.read(out / "run.sqlite", "round")]
    assert logged == [
        (r.body["seed"], r.body["round"]) for r in runlog.read(expected / "run.sqlite", "round")
    ]
    runlog.verify(out / "run.sqlite")


def test_same_seed_same_result(whole: tuple[Path, Path], tmp_path: Path) -> None:
    plan, expected = whole
    _finish(_run(plan, tmp_path / "again"), 0)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        expected / "model.safetensors"
    ).read_bytes()
    assert _figures(tmp_path / "again") == _figures(expected)


def test_resume_refuses_another_plan_and_an_empty_folder(whole: tuple[Path, Path], tmp_path: Path) -> None:
    plan, out = whole
    other = tmp_path / "other.toml"
    other.write_text(PLAN.format(rounds=26))
    text = _finish(_run(other, out, "--resume"), 2)
    assert "way out" in text
    _finish(_run(plan, tmp_path / "nothing", "--resume"), 2)
    assert "not empty" in _finish(_run(plan, out), 2)
