"""What is said of a training while it goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto.run.journal import Journal
from lazaretto.run.watch import show_rounds


@pytest.mark.parametrize(
    ("losses", "round_number"),
    [
        ([0.9, 0.7, 0.6], None),
        ([80601997312.0, 80601997312.0], 1),
        ([1.0, 50.0, 4000.0, 5000.0], 3),
        ([0.9, math.inf, math.nan], 2),
        ([0.9, math.nan], 2),
        ([300.0, 250.0, 200.0], None),
    ],
)
def test_a_training_that_diverges_is_said_once(losses: list[float], round_number: int | None) -> None:
    shown: list[Mapping[str, Any]] = []

    def show(event: str, body: Mapping[str, Any]) -> None:
        if event == "diverges":
            shown.append(body)

    journal = Journal(folder=Path(), log=Path(), parts=Path(), show=show)
    done = show_rounds(journal, "local", 3, len(losses))
    for number, loss in enumerate(losses, 1):
        done(number, np.full(4, loss), np.zeros(2), 0.1)
    assert [body["round"] for body in shown] == ([] if round_number is None else [round_number])
    for body in shown:
        assert body["said"].startswith("local (seed 3) diverges: loss ")
        assert body["said"].endswith("lower train.learning_rate")


def test_what_fills_up_a_core_is_in_no_loss() -> None:
    shown: list[Mapping[str, Any]] = []
    journal = Journal(folder=Path(), log=Path(), parts=Path(), show=lambda event, body: shown.append(body))
    show_rounds(journal, "pooled", None, 1, models=3)(1, np.array([0.3, 0.6, 0.9, 0.0]), np.zeros(2), 0.1)
    assert shown[0]["loss"] == pytest.approx(0.6)
