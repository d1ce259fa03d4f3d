"""Two widths of buckets side by side, for counts with noise: wide ones where values spread, narrow ones too.

The fewer cells hold a feature's values, the more stand out of the noise: where values spread, that is so of
wide buckets; where they pile up, of narrow ones as well, which say more exactly where. Narrow buckets are
those of `lazaretto.data.scaling`; seven make a wide one, each about twice as far from the origin as the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lazaretto.data.scaling import BUCKETS, bucket_of
from lazaretto.errors import InputError
from lazaretto.types import Float, Int

__all__ = ["CELLS", "WIDE", "two_widths", "wide_and_narrow"]

_SIDE = BUCKETS // 2
_MERGED = 7
_HALF = -(-_SIDE // _MERGED)
WIDE = 2 * _HALF + 1
CELLS = WIDE + BUCKETS  # of one feature: the wide buckets, then the narrow ones


def _wide_of(narrow: Int) -> Int:
    """The wide bucket that each narrow one lies in."""
    side = narrow - _SIDE
    found: Int = _HALF + np.sign(side) * -(-np.abs(side) // _MERGED)
    return found


def wide_and_narrow(x: Float, valid: NDArray[np.bool_], origins: Sequence[float] = ()) -> tuple[Int, Int]:
    """Wide bucket 0..WIDE - 1 and narrow bucket 0..BUCKETS - 1 of each value x [..., F]; [..., F] each.

    -1 where not valid [...] or not measured (NaN). origins: [F] what values are counted from, or () for 0.
    """
    known = valid[..., None] & ~np.isnan(x)
    narrow = bucket_of(np.where(known, x - np.asarray(origins or 0.0, np.float32), 0))
    return np.where(known, _wide_of(narrow), -1), np.where(known, narrow, -1)


def two_widths(wide: Int, narrow: Int) -> Int:
    """[F, BUCKETS] one count of both: wide [F, WIDE] and narrow [F, BUCKETS], at least 0.

    A wide bucket's count goes to those narrow ones in it that counted something, as far as they say; the rest
    is spread evenly over it. Where no noise is and nothing was left out, these are the narrow counts. Raises
    InputError for counts below 0 or of other shapes.
    """
    if (
        wide.shape != (len(wide), WIDE)
        or narrow.shape != (len(wide), BUCKETS)
        or min(wide.min(), narrow.min()) < 0
    ):
        raise InputError(
            "counts for scaling are not counts",
            found=f"shapes {wide.shape} and {narrow.shape}",
            way_out=f"[features, {WIDE}] and [features, {BUCKETS}], 0 or more",
        )
    place = _wide_of(np.arange(BUCKETS))
    inside = np.add.reduceat(narrow, np.flatnonzero(np.diff(place, prepend=-1)), axis=1)
    share = np.minimum(1.0, wide / np.maximum(inside, 1))
    rest = np.maximum(wide - inside, 0) / np.bincount(place, minlength=WIDE)
    found: Int = np.rint(narrow * share[:, place] + rest[:, place]).astype(np.int64)
    return found
