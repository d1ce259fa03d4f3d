"""What the windowed baselines see: the last W steps, flattened, with simple statistics.

Rows are made in chunks, so memory is bounded by the rows asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.keys import generator
from lazaretto.types import Float

__all__ = ["feature_count", "row_chunks", "training_rows", "window_features"]

_CHUNK_BYTES = 64 << 20


def feature_count(features: int, window_steps: int) -> int:
    """Columns of `window_features`: (W + 5) F + 1."""
    return (window_steps + 5) * features + 1


def window_features(
    x: NDArray[Any], valid: NDArray[np.bool_], unit: NDArray[Any], step: NDArray[Any], window_steps: int
) -> Float:
    """Features of n steps, [n, (W + 5) F + 1] float32; only the step itself and earlier ones are used.

    x: [u, L, F], valid: [u, L], unit and step: [n] which steps. In order: the last W steps, oldest first
    (0 before the start of the unit), then mean, standard deviation, min, max and last - first of each
    feature over the steps that are there, then the share of the window that is there.
    """
    unit, step = np.asarray(unit), np.asarray(step)
    place = step[:, None] + np.arange(1 - window_steps, 1)
    there = (place >= 0) & valid[unit[:, None], np.maximum(place, 0)]
    window = np.where(there[:, :, None], x[unit[:, None], np.maximum(place, 0)], 0).astype(np.float32)
    number = np.maximum(there.sum(axis=1), 1).astype(np.float32)[:, None]
    mean = window.sum(axis=1) / number
    spread = np.sqrt((np.square(window - mean[:, None]) * there[:, :, None]).sum(axis=1) / number)
    some = there.any(axis=1)[:, None]
    low = np.where(some, np.where(there[:, :, None], window, np.inf).min(axis=1), 0)
    high = np.where(some, np.where(there[:, :, None], window, -np.inf).max(axis=1), 0)
    first = window[np.arange(len(window)), there.argmax(axis=1)]
    parts = [
        window.reshape(len(window), -1),
        mean,
        spread,
        low,
        high,
        window[:, -1] - first,
        number / window_steps,
    ]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def row_chunks(
    x: NDArray[Any], valid: NDArray[np.bool_], window_steps: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Float]]:
    """Every valid step as (unit [c], step [c], features), in order, about 64 MB of features at a time."""
    unit, step = np.nonzero(valid)
    size = max(1, _CHUNK_BYTES // (4 * feature_count(x.shape[2], window_steps)))
    for start in range(0, len(unit), size):
        units, steps = unit[start : start + size], step[start : start + size]
        yield units, steps, window_features(x, valid, units, steps, window_steps)


def training_rows(
    y: NDArray[Any], valid: NDArray[np.bool_], seed: int, max_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which steps (unit [n], step [n]) to train on, n <= max_rows; the same for the same seed.

    y: [u, L] class, -1 where a step is seen but not to be learned. All other valid steps where there are
    few enough. Else steps are drawn without replacement: half of the rows attacked ones, or all attacked
    ones where they are fewer; the baselines weigh the two classes alike.
    """
    unit, step = np.nonzero(valid & (y >= 0))
    if len(unit) > max_rows:
        rng = generator(seed, "windows", "training rows")
        attacked = y[unit, step] > 0
        some, rest = np.flatnonzero(attacked), np.flatnonzero(~attacked)
        take = min(len(some), max(max_rows // 2, max_rows - len(rest)))
        kept = np.sort(
            np.concatenate(
                [rng.choice(some, take, replace=False), rng.choice(rest, max_rows - take, replace=False)]
            )
        )
        unit, step = unit[kept], step[kept]
    return unit, step
