"""What a run says while it works."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from lazaretto.run.progress import display


@pytest.mark.parametrize("terminal", [True, False])
def test_a_vote_that_does_not_count_is_said_on_any_screen(terminal: bool) -> None:
    out = io.StringIO()
    screen = Console(file=out, force_terminal=terminal, color_system=None, highlight=False, width=120)
    with display(console=screen) as show:
        show("vote refused", {"seed": 0, "system": "ours", "site": "[b]ward 3", "reason": "it named none"})
    assert "[b]ward 3 has no vote on the threshold: it named none" in out.getvalue()


def _screen(terminal: bool) -> tuple[io.StringIO, Console]:
    out = io.StringIO()
    return out, Console(file=out, force_terminal=terminal, color_system=None, highlight=False, width=200)


@pytest.mark.parametrize("terminal", [True, False])
def test_warnings_of_the_data_are_said_once(terminal: bool) -> None:
    out, screen = _screen(terminal)
    with display(console=screen) as show:
        for seed in (0, 1):
            show("data", {"seed": seed, "warnings": ["Too little data."]})
        show("data", {"seed": 2})
        show("warning", {"said": "Too little data."})
        show("warning", {"said": "Suspected leak [here]."})
    assert out.getvalue().count("warning: Too little data.") == 1
    assert "warning: Suspected leak [here]." in out.getvalue()


def _round(number: int, seconds: float) -> dict[str, Any]:
    figures = {"loss": 0.5, "validation_auroc": None, "bytes": {}}
    return {"system": "ours", "seed": 0, "round": number, "rounds": 400, "seconds": seconds, **figures}


def test_the_round_that_compiles_tells_nothing_of_what_is_left() -> None:
    out, screen = _screen(terminal=False)
    with display(console=screen) as show:
        for number in range(1, 101):
            show("round", _round(number, 20.0 if number == 1 else 0.5))
    (line,) = out.getvalue().splitlines()
    assert line.endswith("2 min left")


def test_nothing_is_said_of_what_is_left_after_one_round() -> None:
    out, screen = _screen(terminal=False)
    with display(console=screen) as show:
        show("round", {**_round(1, 20.0), "rounds": 4})
    assert "left" not in out.getvalue()


def test_lines_are_not_broken_where_they_go_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "it named " + "none of the scores " * 12
    with display() as show:
        show("vote refused", {"seed": 0, "system": "ours", "site": "ward 3", "reason": reason})
    assert f"ward 3 has no vote on the threshold: {reason}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("left", "said"), [(150.0, " · about 2 min left"), (40.0, " · about 40 s left"), (0.0, "")]
)
def test_what_is_left_of_a_sweep(left: float, said: str) -> None:
    out, screen = _screen(terminal=False)
    body = {"system": "gru", "number": 1, "draws": 2, "failed": "", "auroc": {"value": 0.9}, "one": "point"}
    with display(console=screen) as show:
        show("drawn", {**body, "best": None, "left_seconds": left})
        show("drawn", {**body, "best": {"auroc": {"value": 0.8}, "number": 0}, "left_seconds": left})
    first = "gru: 2/2 · AUROC 0.9000"
    assert out.getvalue().splitlines() == [f"{first}{said}", f"{first} (best 0.8000, point 1){said}"]


@pytest.mark.parametrize("terminal", [True, False])
def test_each_part_says_which_of_how_many_it_is(terminal: bool) -> None:
    out, screen = _screen(terminal)
    with display(console=screen) as show:
        for name, seed in (("prepare data", 0), ("ours", 0), ("gru", None), ("judge", None)):
            if name == "ours":
                show("ahead", {"parts": 3})
                show("kept", {"name": "ours", "seed": 1})  # finished before the run was stopped
            show("begin", {"name": name, "seed": seed})
            show("stage", {"name": name, "seed": seed, "seconds": 1.0})
    lines = out.getvalue()
    bars, plain = ("2/3 ours (seed 0)", "3/3 gru"), ("ours (seed 0): 1.0 s · 2 of 3", "gru: 1.0 s · 3 of 3")
    for line in bars if terminal else plain:
        assert line in lines
    for wrong in ("1 of 3", "4 of 3", "1/3", "4/3"):
        assert wrong not in lines


def test_a_fit_without_rounds_says_that_it_has_begun() -> None:
    out, screen = _screen(terminal=False)
    with display(console=screen) as show:
        show("begin", {"name": "gradient_boosting", "seed": 0})
        show("begin", {"name": "gradient_boosting without site ward 3", "seed": 0})
        show("begin", {"name": "gru", "seed": None})
    first, second = out.getvalue().splitlines()
    assert first == "gradient_boosting (seed 0): being trained, in one go"
    assert second == "gradient_boosting without site ward 3 (seed 0): being trained, in one go"


def test_on_a_terminal_it_says_so_while_it_is_trained() -> None:
    out, screen = _screen(terminal=True)
    with display(console=screen) as show:
        show("begin", {"name": "gradient_boosting", "seed": 0})
    assert "being trained, in one go" in out.getvalue()
    with display(console=screen) as show:
        show("begin", {"name": "gradient_boosting", "seed": 0})
        show("stage", {"name": "gradient_boosting", "seed": 0, "seconds": 1.0})
    assert "being trained" not in [line for line in out.getvalue().splitlines() if "gradient" in line][-1]


@pytest.mark.parametrize("set_before", [None, "ACTIVE"])
def test_threads_of_openmp_wait_asleep_unless_the_user_says_otherwise(set_before: str | None) -> None:
    given = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    given |= {"OMP_WAIT_POLICY": set_before} if set_before else {}
    words = "import os, sys, lazaretto; print(os.environ['OMP_WAIT_POLICY'], 'sklearn' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", words], env=given, capture_output=True, check=True, text=True
    )
    assert said.stdout.split() == [set_before or "PASSIVE", "False"]


@pytest.mark.parametrize("terminal", [True, False])
def test_names_from_a_file_do_not_steer_the_terminal(terminal: bool) -> None:
    out, screen = _screen(terminal)
    with display(console=screen) as show:
        show("goes on", {"folder": "runs/x", "done": "1 part, \x1b]0;owned\x07"})
        show("stage", {"name": "ours\x1b[2J", "seed": None, "seconds": 1.0})
    assert "]0;owned" in out.getvalue()
    assert "\x1b]0" not in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
