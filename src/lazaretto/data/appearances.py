"""In how many windows one record stands: promised before anybody looks at the data, and checked in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.types import TEST, Table

__all__ = ["check_appearances", "most_appearances"]

_LEAST_MET = 2  # borders at which one step stands twice, before that is taken for the layout


def check_appearances(table: Table, promised: int) -> None:
    """Raise DataError where one record stands in more windows than is promised, and priced.

    The number itself never comes of the data: that would tell of the units in them. That a run is refused
    does, once; no run follows then that could tell more. It is a check of the layout, not a proof.
    """
    found = most_appearances(table)
    if found > promised:
        raise DataError(
            "one record stands in more windows than privacy.appearances promises",
            found=f"{found} windows share a step, and {promised} is the most",
            way_out=f"privacy.appearances = {found}, which is priced, or windows that do not overlap",
        )


def most_appearances(table: Table) -> int:
    """The largest number of windows of one unit in which one step stands; 1 where none overlap.

    Of training and validation windows. They overlap where the last k steps of one are the first k of a later
    one, k >= 2, value by value, and do not all look alike (an idle device repeats itself). By what they hold
    and not by the clock: steps of so many packets last as long as they last. What a source shows in several
    *units* is not seen.

    A single step in common (k = 1) says little: many devices hold a value for two steps. So it counts only as
    a layout, over all units together. Among borders that could tell (values change before the last step and
    after the first one) the two steps are alike in half at least, in two or more, and twice as often as steps
    inside windows stand twice. A device that holds every value for two steps does so inside, too, and is no
    alarm; one unit alone with such windows is not seen.
    """
    rows = np.flatnonzero((table.split != TEST) & table.valid.any(axis=1))
    rows = rows[np.lexsort((table.time[rows], table.unit[rows]))]
    names, unit, most = _names(table, rows), table.unit[rows], 1
    inside = _twice_inside(names)
    whole = np.asarray(table.valid[rows].all(axis=1), np.bool_)
    steps = names.shape[1]
    for later in range(1, min(steps, len(rows))):
        first, second = names[:-later], names[later:]
        same_unit = unit[:-later] == unit[later:]
        met = np.zeros(len(first), np.bool_)
        for shared in range(2, steps):
            end, begin = first[:, steps - shared :], second[:, :shared]
            met |= (end == begin).all(axis=1) & (end != end[:, :1]).any(axis=1)
        pairs = same_unit & whole[:-later]
        if not (met & same_unit).any() and not _single_step(first[pairs], second[pairs], inside):
            break
        most = later + 1
    return most


def _single_step(first: NDArray[np.uint64], second: NDArray[np.uint64], inside: float) -> bool:
    """Whether windows [n, T] and later ones have a step in common by layout; see `most_appearances`."""
    if first.shape[1] < 2:
        return False
    telling = (first[:, -1] != first[:, -2]) & (second[:, 0] != second[:, 1])
    met = int((first[telling, -1] == second[telling, 0]).sum())
    least = max(0.5, 2 * inside) * int(telling.sum())
    return met >= max(_LEAST_MET, least)


def _twice_inside(names: NDArray[np.uint64]) -> float:
    """Share of neighbouring steps inside windows that are alike, where values change on either side."""
    if names.shape[1] < 4:
        return 0.0
    changes = names[:, 1:] != names[:, :-1]
    telling = changes[:, :-2] & changes[:, 2:]
    return float((~changes[:, 1:-1] & telling).sum() / max(1, telling.sum()))


def _names(table: Table, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """[n, T] a number for what each step of the windows in `rows` holds, over all modalities; few collide."""
    rng = np.random.default_rng(0)
    found = np.zeros((len(rows), table.valid.shape[1]), np.uint64)
    for values in table.x.values():
        bits = np.ascontiguousarray(values[rows], np.float32).view(np.uint32).astype(np.uint64)
        odd = rng.integers(0, 2**63, values.shape[-1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        found += (bits * odd).sum(axis=-1, dtype=np.uint64)
    return found
