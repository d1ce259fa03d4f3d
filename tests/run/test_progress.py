"""What a run says while it works."""

from __future__ import annotations

import io

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


def test_lines_are_not_broken_where_they_go_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "it named " + "none of the scores " * 12
    with display() as show:
        show("vote refused", {"seed": 0, "system": "ours", "site": "ward 3", "reason": reason})
    assert f"ward 3 has no vote on the threshold: {reason}\n" in capsys.readouterr().err
