"""In how many windows one record stands: what is protected once must be counted as often as it is shown."""

from __future__ import annotations

import numpy as np

from lazaretto.types import TRAIN, Table

__all__ = ["most_appearances"]


def most_appearances(table: Table) -> int:
    """The largest number of training windows that share a moment of one unit; 1 where none overlap.

    Windows are laid on the clock by their start, the number of their valid steps and `schema.step_seconds`;
    an overlap of less than half a step is taken for rounding. What a source shows in several *units* is not
    seen. Tables without a clock (`schema.timed` False) count as 1: their windows follow each other.
    """
    rows = np.flatnonzero((table.split == TRAIN) & table.valid.any(axis=1))
    if not table.schema.timed or not rows.size:
        return 1
    step = table.schema.step_seconds
    begin = table.time[rows]
    lasting = (table.valid.shape[1] - np.argmax(table.valid[rows, ::-1], axis=1)) * step
    order = np.lexsort((begin, table.unit[rows]))
    unit, begin, end = table.unit[rows][order], begin[order], (begin + lasting - step / 2)[order]
    # of all windows of a unit that began by now, those that have not ended
    moments = np.concatenate([begin, end])
    change = np.concatenate([np.ones(len(begin), np.int64), -np.ones(len(end), np.int64)])
    units = np.concatenate([unit, unit])
    in_time = np.lexsort((change, moments, units))  # at one moment ends come first
    return int(max(1, np.cumsum(change[in_time]).max()))
