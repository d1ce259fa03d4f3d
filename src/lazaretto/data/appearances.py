"""In how many windows one record stands: what is protected once must be counted as often as it is shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazaretto.types import TRAIN, Table

__all__ = ["most_appearances"]


def most_appearances(table: Table) -> int:
    """The largest number of training windows of one unit in which one step stands; 1 where none overlap.

    Windows overlap where the last k steps of one are the first k of a later one, k >= 2, value by value, and
    do not all look alike (an idle device repeats itself). By what they hold and not by the clock: steps of so
    many packets last as long as they last. What a source shows in several *units* is not seen.
    """
    rows = np.flatnonzero((table.split == TRAIN) & table.valid.any(axis=1))
    rows = rows[np.lexsort((table.time[rows], table.unit[rows]))]
    names, unit, most = _names(table, rows), table.unit[rows], 1
    steps = names.shape[1]
    for later in range(1, min(steps, len(rows))):
        first, second = names[:-later], names[later:]
        met = np.zeros(len(first), np.bool_)
        for shared in range(2, steps):
            end, begin = first[:, steps - shared :], second[:, :shared]
            met |= (end == begin).all(axis=1) & (end != end[:, :1]).any(axis=1)
        if not (met & (unit[:-later] == unit[later:])).any():
            break
        most = later + 1
    return most


def _names(table: Table, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """[n, T] a number for what each step of the windows in `rows` holds, over all modalities; few collide."""
    rng = np.random.default_rng(0)
    found = np.zeros((len(rows), table.valid.shape[1]), np.uint64)
    for values in table.x.values():
        bits = np.ascontiguousarray(values[rows], np.float32).view(np.uint32).astype(np.uint64)
        odd = rng.integers(0, 2**63, values.shape[-1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        found += (bits * odd).sum(axis=-1, dtype=np.uint64)
    return found
