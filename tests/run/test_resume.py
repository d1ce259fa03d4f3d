"""Interrupt and resume: bit-identical to an uninterrupted run, on fewer cores too; same seed, same result."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from lazaretto import runlog
from lazaretto.errors import InputError, LazarettoError
from lazaretto.plan import load_plan
from lazaretto.run.backend import use_cores_of
from lazaretto.run.journal import open_journal, quiet

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
    # with the machine code that users get, where scripts/test has the others compiled without optimisation
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


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
    for _ in range(6000):
        if process.poll() is not None:
            return
        if log.exists():
            with contextlib.suppress(LazarettoError):  # it may be locked while a record is written
                if sum(1 for _ in runlog.read(log, "round")) >= rounds:
                    return
        time.sleep(0.02)  # rounds may take ten milliseconds
    raise AssertionError("the run did not start its rounds")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("whole")
    plan = folder / "plan.toml"
    plan.write_text(PLAN.format(rounds=25))
    _finish(_run(plan, folder / "out"), 0)
    return plan, folder / "out"


def test_same_seed_same_result(whole: tuple[Path, Path], tmp_path: Path) -> None:
    plan, expected = whole
    _finish(_run(plan, tmp_path / "again"), 0)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        expected / "model.safetensors"
    ).read_bytes()
    assert _figures(tmp_path / "again") == _figures(expected)


@contextlib.contextmanager
def _on_one_core() -> Iterator[None]:
    """What starts meanwhile has one core of the machine, as under a scheduler that gives less than before."""
    if not hasattr(os, "sched_setaffinity"):  # Linux has it; macOS and Windows do not bind processes to cores
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# three sites, stopped while they train: on another number of devices the arrays would not even fit
STOPS = [(signal.SIGTERM, 3), (signal.SIGINT, 8), (signal.SIGKILL, 15), (signal.SIGTERM, 30)]


def test_a_run_stopped_again_and_again_goes_on_to_the_same_bits(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    """Asked twice in the first seed and once in the second, killed in between, on one core after a stop."""
    plan, expected = whole
    out = tmp_path / "out"
    process = _run(plan, out)
    for number, rounds in STOPS:
        _wait_for(process, out / "run.sqlite", rounds)
        os.kill(process.pid, number)
        text = "".join(process.communicate(timeout=120))
        killed = number == signal.SIGKILL
        assert process.returncode == (-number if killed else 3), (number, rounds, text)
        assert "Traceback" not in text, (number, rounds)
        assert killed or "--resume" in text, (number, rounds)
        done = sum(1 for _ in runlog.read(out / "run.sqlite", "round"))
        assert rounds <= done < 50, "stopped while the federation trained"
        assert not (out / "metrics.json").exists()
        with _on_one_core() if (number, rounds) == STOPS[0] else contextlib.nullcontext():
            process = _run(plan, out, "--resume")
    assert "the last recorded round is" in _finish(process, 0)
    assert (out / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    assert _figures(out) == _figures(expected)
    logged = [(r.body["seed"], r.body["round"]) for r in runlog.read(out / "run.sqlite", "round")]
    assert logged == [
        (r.body["seed"], r.body["round"]) for r in runlog.read(expected / "run.sqlite", "round")
    ]
    runlog.verify(out / "run.sqlite")


def test_resume_refuses_what_is_done_and_an_empty_folder(whole: tuple[Path, Path], tmp_path: Path) -> None:
    plan, out = whole
    assert "holds a finished run" in _finish(_run(plan, out, "--resume"), 2)
    assert "holds a finished run" in _finish(_run(plan, out), 2)
    assert "no interrupted run" in _finish(_run(plan, tmp_path / "nothing", "--resume"), 2)


def test_resume_refuses_another_plan_and_says_what_differs(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.format(rounds=25))
    plan, other = (load_plan(tmp_path / "plan.toml", sets=sets) for sets in ([], ["train.rounds=26"]))
    open_journal(tmp_path / "out", plan, False, quiet)
    open_journal(tmp_path / "out", plan, True, quiet)
    with pytest.raises(InputError, match=r"train\.rounds is 26 and was 25"):
        open_journal(tmp_path / "out", other, True, quiet)
    older = (tmp_path / "out" / "plan.toml").read_text().replace("drop = []\n", "")
    (tmp_path / "out" / "plan.toml").write_text(older)
    open_journal(tmp_path / "out", plan, True, quiet)  # begun before that key was there: its default holds
    (tmp_path / "out" / "plan.toml").write_bytes(b"\xff[")
    with pytest.raises(InputError, match="another plan"):
        open_journal(tmp_path / "out", plan, True, quiet)


@pytest.mark.parametrize("more", [1, 2])
def test_resume_refuses_a_number_of_devices_that_cannot_be_had(tmp_path: Path, more: int) -> None:
    begun = jax.local_device_count()  # JAX has started here
    log = runlog.create(tmp_path / "run.sqlite")
    assert use_cores_of(log) == begun, "nothing has begun"
    runlog.append(log, "run", {"machine": {"cores": begun + more}})
    with pytest.raises(InputError, match=f"began on {begun + more} devices") as refused:
        use_cores_of(log)
    assert refused.value.exit_code == 2
    other = runlog.create(tmp_path / "other.sqlite")
    runlog.append(other, "sweep", {"machine": {"cores": begun}})
    assert use_cores_of(other) == begun
    for machine in ({"cores": "x"}, {"cores": 10**6}, {"cores": 0}):
        strange = runlog.create(tmp_path / f"{machine['cores']}.sqlite", [("run", {"machine": machine})])
        with pytest.raises(InputError, match="no number of devices"):
            use_cores_of(strange)
