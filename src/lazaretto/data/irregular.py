"""What a model reads of series measured at odd times: last value, whether measured, time since.

The three inputs of GRU-D (Che et al. 2018, https://doi.org/10.1038/s41598-018-24271-9), laid out after
scaling, so that 0 stands for the middle of training wherever nothing was measured yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.types import Float

__all__ = ["MOST_DAYS", "Carried", "laid_out_names", "lay_out"]

MOST_DAYS = 2.0  # a gap counts as at most this
_MEASURED, _SINCE = "_measured", "_days_since"


class Carried(NamedTuple):
    """What goes from one window of a stream to the next: last value [u, V], and its age in steps [u, V]."""

    last: Float
    age: Float


def laid_out_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of the 3V channels: the V values, then whether each was measured, then the days since."""
    return (*names, *(name + _MEASURED for name in names), *(name + _SINCE for name in names))


def lay_out(
    x: Float, valid: NDArray[np.bool_], step_days: float, carried: Carried | None = None
) -> tuple[Float, Carried]:
    """Scaled series to what a model reads.

    x: [u, L, V] float32, NaN where not measured; valid: [u, L]; step_days: length of a step, > 0.
    carried: what an earlier call on the same streams returned, None at their begin.
    Returns [u, L, 3V] float32: the last value (0 before the first), 1 where measured and else 0, and days
    since the measurement before this step (since the begin where there was none; as in GRU-D it does not
    fall to 0 at a measurement), at most MOST_DAYS. 0 where not valid; such steps take time, measure nothing.
    Law: two windows in turn give what the whole stream gives.
    """
    units, length, series = x.shape
    if carried is None:
        carried = Carried(np.zeros((units, series), np.float32), np.zeros((units, series), np.float32))
    measured = valid[..., None] & ~np.isnan(x)
    step = np.arange(length)[None, :, None]
    newest = np.maximum.accumulate(np.where(measured, step, -1), axis=1)  # up to this step, this included
    filled = np.take_along_axis(np.where(measured, x, 0), np.maximum(newest, 0), axis=1)
    value = np.where(newest >= 0, filled, carried.last[:, None]).astype(np.float32)
    before = np.concatenate([np.full((units, 1, series), -1), newest[:, :-1]], axis=1)
    age = np.where(before >= 0, step - before, step + carried.age[:, None])
    since = np.minimum(age * step_days, MOST_DAYS)
    out = np.concatenate([value, measured, since], axis=2, dtype=np.float32)
    if not length:
        return out, carried
    age_after = np.where(newest[:, -1] >= 0, length - newest[:, -1], length + carried.age)
    return np.where(valid[..., None], out, 0).astype(np.float32), Carried(
        value[:, -1], age_after.astype(np.float32)
    )
