"""What is said of a run's folder when it is stopped, and when it goes on."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto.errors import InputError, Interrupted
from lazaretto.plan import Plan
from lazaretto.run import lock
from lazaretto.run.journal import close_journal, kept_for_resuming, open_journal, quiet
from lazaretto.run.lock import Held, hold, refuse_at_work
from lazaretto.run.saved import save_arrays
from lazaretto.run.train import stopped

_HOLD = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_who_goes_on_hears_what_was_finished_and_what_begun(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "run", Plan(), False, quiet)
    body = {"name": "pooled", "seed": 0, "seconds": 1.0, "compile_seconds": None}
    journal.record("stage", body)
    (journal.parts / "federated_split-seed1.unfinished").write_bytes(b"some state")
    journal.held.release()
    heard: list[tuple[str, Any]] = []
    open_journal(tmp_path / "run", Plan(), True, lambda kind, said: heard.append((kind, said)))
    assert heard[0][1]["done"] == "1 part finished, federated split (seed 1) begun"


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        (8, "the last recorded round is 8 of 25 (federated split, seed 1)"),
        (5, "(federated split, seed 1); round 5 was kept last, and training goes on after it"),
        (None, "(federated split, seed 1); none was kept, and training begins anew"),
        ("finished", "the last recorded round is 8 of 25 (federated split, seed 1)"),
    ],
)
def test_who_goes_on_after_a_kill_hears_which_round_was_kept(
    saved: int | str | None, told: str, tmp_path: Path
) -> None:
    """Rounds are recorded at once, and what is needed to go on from them is saved now and then."""
    journal = open_journal(tmp_path / "run", Plan(), False, quiet)
    for number in range(1, 9):
        body = {"seed": 1, "system": "federated split", "round": number, "rounds": 25}
        journal.record("round", body)
    stem = journal.parts / "federated_split-seed1"
    if saved == "finished":
        save_arrays(stem.with_suffix(".safetensors"), {"vector": np.zeros(2)}, {})
    elif saved is not None:
        save_arrays(stem.with_suffix(".unfinished"), {"leaf000": np.zeros(2)}, {"round": saved})
    journal.held.release()
    heard: list[tuple[str, Any]] = []
    open_journal(tmp_path / "run", Plan(), True, lambda kind, said: heard.append((kind, said)))
    assert heard[0][1]["done"].endswith(told)


@pytest.mark.parametrize("finished", [True, False])
def test_who_stops_hears_whether_anything_is_finished(finished: bool, tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "run", Plan(), False, quiet)
    body = {"name": "pooled" if finished else "prepare data", "seed": 0, "seconds": 1.0}
    journal.record("stage", {**body, "compile_seconds": None})
    (journal.parts / "local-seed0.unfinished").write_bytes(b"some state")
    with pytest.raises(Interrupted) as error, kept_for_resuming(journal, "what was finished is"):
        raise KeyboardInterrupt
    said = f"{'what was finished is in' if finished else 'nothing was finished;'} {tmp_path / 'run'}"
    assert str(error.value).startswith(f"stopped: {said}")
    assert "--resume" in str(error.value.way_out)


def test_who_stops_hears_what_and_how_far() -> None:
    for file, name in (("federated_split-seed1", "federated split (seed 1)"), ("pooled", "pooled")):
        error = stopped(18, 400, Path("run") / "parts" / f"{file}.unfinished")
        assert error.problem == f"stopped after round 18 of 400 of {name}"
    assert stopped(18, 400, None).problem == "stopped after round 18 of 400"
    assert "found" not in str(stopped(18, 400, None))


def test_what_was_begun_is_no_loss(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "run", Plan(), False, quiet)
    for begun in (False, True):
        if begun:
            (journal.parts / "local-seed0.unfinished").write_bytes(b"some state")
        with pytest.raises(Interrupted) as error, kept_for_resuming(journal, "what was finished is"):
            raise KeyboardInterrupt
        assert error.value.problem.endswith("and what was begun") == begun


def test_nobody_else_works_in_a_folder_meanwhile(tmp_path: Path) -> None:
    """Neither from this process nor from another; when work is over, or its process gone, the next may."""
    folder = tmp_path / "run"
    journal = open_journal(folder, Plan(), False, quiet)
    (journal.parts / "local-seed0.unfinished").write_bytes(b"some state")
    said: list[str] = []
    with pytest.raises(InputError, match="another process is at work"):  # before the work is begun, too
        open_journal(folder, Plan(), True, quiet)
    with kept_for_resuming(journal, "what was finished is"):
        with pytest.raises(InputError, match="another process is at work") as error:
            open_journal(folder, Plan(), True, lambda event, body: said.append(event))
        assert str(error.value.found) in (f"{folder}: process {os.getpid()}, which is this one", str(folder))
        assert said == [], "nobody is told that something goes on"
        assert journal.log.exists(), "nothing of the first is taken away"
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(journal.parts)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match="another process is at work") as error:
        open_journal(folder, Plan(), True, quiet)
    assert str(error.value.found) in (f"{folder}: process {other.pid}", str(folder)), "who, where it is known"
    looks = hold(tmp_path, tmp_path)  # a lock of no concern here
    with pytest.raises(InputError, match="another process is at work"):
        refuse_at_work(folder)
    looks.release()
    other.kill()
    other.communicate()
    mine = open_journal(folder, Plan(), True, quiet)
    with pytest.raises(InputError, match="another process is at work"):
        open_journal(folder, Plan(), True, quiet)
    mine.held.release()
    with pytest.raises(InputError, match="another plan"):
        open_journal(folder, Plan.model_validate({"run": {"seeds": [7]}}), True, quiet)
    open_journal(folder, Plan(), True, quiet)  # which was refused holds nothing, nor what nobody knows of
    refuse_at_work(folder)


def test_who_only_looks_refuses_nobody(tmp_path: Path) -> None:
    """A look holds the lock for a moment: who takes it waits that out, and two that look see nobody."""
    folder = tmp_path / "run"
    journal = open_journal(folder, Plan(), False, quiet)
    journal.held.release()
    handle = os.open(journal.parts, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        refuse_at_work(folder)
        gone = threading.Timer(0.03, fcntl.flock, (handle, fcntl.LOCK_UN))
        gone.start()
        hold(journal.parts, folder).release()
        gone.join()
    finally:
        os.close(handle)


def test_a_folder_that_was_deleted_meanwhile_is_not_the_one_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    before = lock.taken

    def anew(file: int) -> bool:
        folder.rmdir()
        folder.mkdir()
        return before(file)

    monkeypatch.setattr(lock, "taken", anew)
    with pytest.raises(InputError, match="another process is at work"):
        hold(folder, tmp_path)


def test_a_log_is_not_read_while_another_process_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock comes first: what was read before would be old by the time it is had."""
    folder = tmp_path / "run"
    journal = open_journal(folder, Plan(), False, quiet)
    (journal.parts / "local-seed0.unfinished").write_bytes(b"some state")
    read: list[Path] = []
    monkeypatch.setattr(
        "lazaretto.run.journal.runlog.read", lambda path, kind=None: iter(read.append(path) or ())
    )
    with pytest.raises(InputError, match="another process is at work"):
        open_journal(folder, Plan(), True, quiet)
    assert read == []
    journal.held.release()
    open_journal(folder, Plan(), True, quiet)
    assert read == [journal.log]


def test_what_was_finished_while_one_waited_for_the_lock_is_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    first = open_journal(folder, Plan(), False, quiet)
    first.held.release()

    def late(parts: Path, about: Path) -> Held:
        held = hold(parts, about)
        close_journal(first)
        return held

    monkeypatch.setattr("lazaretto.run.journal.hold", late)
    with pytest.raises(InputError, match="finished run"):
        open_journal(folder, Plan(), True, quiet)
    with pytest.raises(InputError, match="another process is at work"):
        hold(first.parts, folder)


@pytest.mark.parametrize("kind", ["draw", "case", None])
def test_an_error_takes_a_folder_away_only_where_nothing_is_finished(
    kind: str | None, tmp_path: Path
) -> None:
    """A sweep keeps what it has tried in its log alone."""
    journal = open_journal(tmp_path / "run", Plan(), False, quiet)
    if kind is not None:
        journal.record(kind, dict.fromkeys(("system", "number", "rule", "attack", "share", "seed"), 0))
    with pytest.raises(ZeroDivisionError), kept_for_resuming(journal, "finished trainings are"):
        raise ZeroDivisionError
    assert (tmp_path / "run").exists() == (kind is not None)


@pytest.mark.parametrize("rounds", [0, 1])
def test_whose_output_nobody_reads_keeps_the_rounds_that_were_made(rounds: int, tmp_path: Path) -> None:
    """As with `lazaretto run PLAN | head`: without any round there is nothing to keep."""
    journal = open_journal(tmp_path / "run", Plan(), False, quiet)
    for number in range(rounds):
        journal.record("round", {"seed": 0, "system": "ours", "round": number + 1})
    with pytest.raises(BrokenPipeError), kept_for_resuming(journal, "what was finished is"):
        raise BrokenPipeError
    assert (tmp_path / "run" / "run.sqlite").exists() == bool(rounds)
