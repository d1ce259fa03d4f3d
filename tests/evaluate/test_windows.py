"""Windowed features against a loop, and that no later step is seen."""

from __future__ import annotations

import numpy as np
import pytest

from lazaretto.errors import DataError
from lazaretto.evaluate import windows
from lazaretto.evaluate.baselines import gradient_boosting, logistic_regression, rate_threshold
from lazaretto.evaluate.windows import feature_count, row_chunks, training_rows, window_features
from lazaretto.keys import generator


def by_hand(x: np.ndarray, valid: np.ndarray, unit: int, step: int, width: int) -> np.ndarray:
    flat, there = [], []
    for at in range(step - width + 1, step + 1):
        real = at >= 0 and valid[unit, at]
        flat.append(x[unit, at] if real else np.zeros(x.shape[2]))
        if real:
            there.append(x[unit, at])
    rows = np.asarray(there, dtype=np.float64)
    stats = [rows.mean(0), rows.std(0), rows.min(0), rows.max(0), rows[-1] - rows[0]]
    return np.concatenate([np.concatenate(flat), *stats, [len(rows) / width]])


@pytest.mark.parametrize("width", [1, 3, 8])
def test_features_equal_those_of_a_loop(width: int) -> None:
    rng = generator(0, "windows")
    x = rng.normal(size=(4, 12, 3)).astype(np.float32)
    valid = np.ones((4, 12), dtype=bool)
    valid[0, 9:] = False
    valid[1, 4] = False
    seen = 0
    for unit, step, rows in row_chunks(x, valid, width):
        assert rows.dtype == np.float32
        assert rows.shape[1] == feature_count(3, width)
        for u, s, row in zip(unit, step, rows, strict=True):
            np.testing.assert_allclose(row, by_hand(x, valid, u, s, width), rtol=1e-5, atol=1e-6)
            seen += 1
    assert seen == valid.sum()


def test_chunks_join_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = generator(1, "windows")
    x, valid = rng.normal(size=(5, 30, 2)).astype(np.float32), rng.random((5, 30)) < 0.9
    whole = window_features(x, valid, *np.nonzero(valid), 4)
    monkeypatch.setattr(windows, "_CHUNK_BYTES", 4 * feature_count(2, 4) * 7)
    chunks = list(row_chunks(x, valid, 4))
    assert max(len(rows) for _, _, rows in chunks) == 7
    assert np.array_equal(np.concatenate([rows for _, _, rows in chunks]), whole)


def test_later_steps_are_not_seen() -> None:
    rng = generator(2, "windows")
    x, valid = rng.normal(size=(3, 20, 2)).astype(np.float32), np.ones((3, 20), dtype=bool)
    changed = x.copy()
    changed[:, 11:] += 5
    at = (np.arange(3), np.full(3, 10))
    assert np.array_equal(window_features(x, valid, *at, 6), window_features(changed, valid, *at, 6))


def test_training_rows_are_capped_repeatable_and_half_attacked() -> None:
    y, valid = np.zeros((10, 200), dtype=np.int64), np.ones((10, 200), dtype=bool)
    y[:4, 50:150] = 2
    valid[9] = False
    unit, step = training_rows(y, valid, 0, 500)
    assert len(unit) == 500
    assert (y[unit, step] > 0).sum() == 250
    assert valid[unit, step].all()
    assert len(set(zip(unit.tolist(), step.tolist(), strict=True))) == 500
    assert all(
        np.array_equal(a, b) for a, b in zip((unit, step), training_rows(y, valid, 0, 500), strict=True)
    )
    assert not np.array_equal(step, training_rows(y, valid, 1, 500)[1])
    assert len(training_rows(y, valid, 0, 5000)[0]) == valid.sum()


@pytest.mark.parametrize(("attacked", "expected"), [(3, 3), (197, 97)])
def test_the_rarer_kind_of_step_is_kept_whole(attacked: int, expected: int) -> None:
    y = np.zeros((1, 200), dtype=np.int64)
    y[0, :attacked] = 1
    unit, step = training_rows(y, np.ones((1, 200), dtype=bool), 0, 100)
    assert len(unit) == 100
    assert (y[unit, step] > 0).sum() == expected


def test_steps_that_are_only_seen_are_not_learned() -> None:
    """-1 marks them: no row of theirs, though their features stand in the windows of the others."""
    y = np.full((3, 10), -1, dtype=np.int64)
    y[:, -1] = [0, 1, 0]
    unit, step = training_rows(y, np.ones((3, 10), dtype=bool), 0, 100)
    assert unit.tolist() == [0, 1, 2]
    assert step.tolist() == [9, 9, 9]
    x = np.zeros((3, 10, 1), dtype=np.float32)
    x[1, 8] = 5  # what tells the label stands in a step that is not learned
    there = np.ones((3, 10), dtype=bool)
    found = rate_threshold(np.roll(x, 1, axis=1), y, there, {"t": (x, there)}, 0)["t"]
    assert found[1, 8] > found[0, 8]


Streams = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def streams() -> tuple[Streams, Streams]:
    """Train and test; attacks raise feature 1 for a while. Feature 0 is noise, 3 is constant, 4 repeats 2."""

    def make(name: str, units: int) -> Streams:
        rng = generator(0, "baselines", name)
        x = np.exp(rng.normal(size=(units, 60, 5))).astype(np.float32)
        x[..., 3], x[..., 4] = 2.0, x[..., 2]
        y, valid = np.zeros((units, 60), dtype=np.int64), np.ones((units, 60), dtype=bool)
        y[::2, 20:45] = 1
        x[..., 1] *= np.where(y > 0, 6.0, 1.0)
        valid[:, 57:] = False
        return x, y, valid

    return make("train", 24), make("test", 16)


def area(score: np.ndarray, y: np.ndarray, valid: np.ndarray) -> float:
    attacked, normal = score[valid & (y > 0)], score[valid & (y == 0)]
    return float((attacked[:, None] > normal).mean() + (attacked[:, None] == normal).mean() / 2)


@pytest.mark.parametrize("fit", [gradient_boosting, logistic_regression])
def test_windowed_baselines_learn_repeat_and_leave_padding_alone(fit: object, streams: object) -> None:
    (x, y, valid), (tx, ty, tv) = streams  # type: ignore[misc]
    first = fit(x, y, valid, {"test": (tx, tv)}, 4, 0, 600)["test"]  # type: ignore[operator]
    assert area(first, ty, tv) > 0.93
    assert (first[~tv] == 0).all()
    assert np.array_equal(first, fit(x, y, valid, {"test": (tx, tv)}, 4, 0, 600)["test"])  # type: ignore[operator]


def test_rate_threshold_sees_its_feature_alone(streams: object) -> None:
    (x, y, valid), (tx, ty, tv) = streams  # type: ignore[misc]
    score = rate_threshold(x, y, valid, {"test": (tx, tv)}, column=1)["test"]
    assert area(score, ty, tv) > 0.8
    changed = tx.copy()
    changed[..., [0, 2, 3, 4]] = 9
    assert np.array_equal(score, rate_threshold(x, y, valid, {"test": (changed, tv)}, column=1)["test"])
    assert area(rate_threshold(x, y, valid, {"test": (tx, tv)}, column=0)["test"], ty, tv) < 0.6


def test_rate_threshold_finds_attacks_that_silence_a_device(streams: object) -> None:
    (x, y, valid), (tx, ty, tv) = streams  # type: ignore[misc]
    silent, tested = x.copy(), tx.copy()
    silent[..., 1], tested[..., 1] = 1 / x[..., 1], 1 / tx[..., 1]
    assert area(rate_threshold(silent, y, valid, {"test": (tested, tv)}, column=1)["test"], ty, tv) > 0.8


@pytest.mark.parametrize("kind", ["normal steps only", "attacked steps only"])
def test_one_class_only_is_refused(kind: str, streams: object) -> None:
    (x, y, valid), (tx, _, tv) = streams  # type: ignore[misc]
    with pytest.raises(DataError, match=kind):
        gradient_boosting(x, np.full_like(y, kind == "attacked steps only"), valid, {"test": (tx, tv)}, 4)


def test_streams_of_other_features_are_refused(streams: object) -> None:
    (x, y, valid), (tx, _, tv) = streams  # type: ignore[misc]
    with pytest.raises(DataError, match="'test'"):
        logistic_regression(x, y, valid, {"test": (tx[..., :2], tv)}, 4)
    with pytest.raises(DataError, match="no such feature"):
        rate_threshold(x, y, valid, {}, column=5)
