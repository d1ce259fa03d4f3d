"""The additive model: its summaries are those of what was read, and each variable's share is its own."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from numpy.typing import NDArray

from lazaretto.models import _summaries as module
from lazaretto.models.additive import additive
from lazaretto.types import Array

UNITS, STEPS, VARIABLES = 3, 12, 4
LAYOUT = ((0, VARIABLES, 3 * VARIABLES),)


def records(seed: int = 0) -> NDArray[np.float32]:
    """Irregular series [B, T, 3V], as `data.irregular` has them; one variable of one unit is never read."""
    rng = np.random.default_rng(seed)
    read = (rng.random((UNITS, STEPS, VARIABLES)) < 0.4).astype(np.float32)
    read[1, :, 2] = 0
    made = rng.normal(size=read.shape).astype(np.float32)
    values = np.zeros_like(made)
    for step in range(STEPS):
        before = values[:, step - 1] if step else np.zeros_like(values[:, 0])
        values[:, step] = np.where(read[:, step] > 0, made[:, step], before)
    return np.concatenate([values, read, rng.random(read.shape).astype(np.float32)], axis=2)


def expected(x: NDArray[np.float32], unit: int, step: int, variable: int) -> list[float]:
    """The eight summaries, one reading after the other."""
    values = 2.5 * x[unit, : step + 1, variable].astype(float)
    readings = values[x[unit, : step + 1, VARIABLES + variable] > 0]
    if not len(readings):
        return [0.0, 0.0, 0.0, 0.0, -1.5, 0.0, 0.0, -1.0]
    spread = float(np.sqrt(readings.var() + 1e-3))
    many = float(np.log1p(len(readings))) - 1.5
    ends = [readings.min(), readings.max(), many, values[-1], values[-1] - readings[0], 1.0]
    return [readings.mean(), spread, *ends]


def test_summaries_are_those_of_what_was_read() -> None:
    x = records()
    state = jax.numpy.zeros((UNITS, 6, VARIABLES))
    found, _ = module.summaries(2.5 * x[..., :VARIABLES], x[..., VARIABLES : 2 * VARIABLES], state)
    for unit in range(UNITS):
        for step in range(STEPS):
            for variable in range(VARIABLES):
                wanted = expected(x, unit, step, variable)
                np.testing.assert_allclose(found[unit, step, :, variable], wanted, atol=2e-5)


def shares(x: NDArray[np.float32], layout: tuple[tuple[int, int, int], ...] = LAYOUT) -> tuple[Array, Array]:
    """What each variable adds [B, T, V], and the score [B, T]."""
    model = additive(layout)
    params = model.init(jax.random.key(1), x.shape[2], 2)
    start = model.start(x.shape[2], len(x))
    h, _ = model.bottom(params["bottom"], x, start[0])
    middle, _ = model.top(params["top"], h, start[1])
    assert model.head is not None
    return h, model.head(params["bottom"], middle.sent).anomaly


def test_the_score_is_the_sum_of_what_each_variable_adds() -> None:
    each, score = shares(records())
    np.testing.assert_allclose(score, np.asarray(each).sum(axis=-1), atol=1e-6)


@pytest.mark.parametrize("variable", range(VARIABLES))
def test_a_variable_moves_its_own_share_alone(variable: int) -> None:
    x = records()
    other = x.copy()
    other[..., variable] += 1.0
    before, after = (np.asarray(shares(one)[0]) for one in (x, other))
    moved = np.abs(after - before).max(axis=(0, 1)) > 1e-6
    assert moved.tolist() == [one == variable for one in range(VARIABLES)]


def test_times_between_readings_are_not_looked_at() -> None:
    x = records()
    other = x.copy()
    other[..., 2 * VARIABLES :] += 1.0
    np.testing.assert_array_equal(shares(x)[1], shares(other)[1])


def test_a_modality_that_is_not_there_adds_what_nothing_read_adds() -> None:
    x = records()
    plain = np.random.default_rng(1).normal(size=(UNITS, STEPS, 2)).astype(np.float32)
    here, away = np.ones((UNITS, STEPS, 1), np.float32), np.zeros((UNITS, STEPS, 1), np.float32)
    layout = ((0, 2, 2), (2, 2 + VARIABLES, 2 + 3 * VARIABLES))
    unread = x.copy()
    unread[..., : 2 * VARIABLES] = 0
    gone = shares(np.concatenate([plain, x, here, away], axis=2), layout)[1]
    never = shares(np.concatenate([plain, unread, here, here], axis=2), layout)[1]
    np.testing.assert_allclose(gone, never, atol=1e-6)


@pytest.mark.parametrize("step", [0, 3, 11])
def test_nothing_is_known_of_later_readings(step: int) -> None:
    x = records()
    other = x.copy()
    other[:, step:] = records(5)[:, step:]
    np.testing.assert_allclose(shares(x)[0][:, :step], shares(other)[0][:, :step], atol=1e-6)
