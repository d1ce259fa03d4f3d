"""Places of kept coordinates in few bytes: gaps of one byte each, or one bit for every coordinate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazaretto.compress._payload import array_of
from lazaretto.compress_types import Payload
from lazaretto.errors import InputError
from lazaretto.types import Float, Int

__all__ = ["largest", "places_of", "written"]

_SKIP = 255  # this many coordinates are passed over, and the gap goes on


def largest(x: Float, k: int) -> Int:
    """[k] places of the largest |x|, in order; of equal ones the first, so that everybody finds the same."""
    return np.sort(np.argsort(-np.abs(x), kind="stable")[:k])


def written(places: Int, m: int) -> dict[str, NDArray[np.uint8]]:
    """Places [k] of m coordinates, rising, in the shorter of both forms."""
    passed = np.diff(places, prepend=-1) - 1
    gaps = np.full(len(places) + int((passed // _SKIP).sum()), _SKIP, np.uint8)
    gaps[np.cumsum(passed // _SKIP + 1) - 1] = passed % _SKIP
    if gaps.size <= -(-m // 8):
        return {"gaps": gaps}
    chosen = np.zeros(m, np.bool_)
    chosen[places] = True
    return {"bits": np.packbits(chosen)}


def places_of(payload: Payload, name: str, k: int, m: int) -> Int:
    """[k] rising places below m. Raises InputError where what was sent names others, or another number."""
    if name == "bits":
        bits = np.unpackbits(array_of(payload, "bits", "|u1", -(-m // 8)))
        places = np.flatnonzero(bits)
    else:
        sent = array_of(payload, "gaps", "|u1")
        if sent.size > k + m // _SKIP + 1:  # no list of k places below m takes more
            raise InputError("a compressed update has too many gaps", found=sent.size)
        steps = np.where(sent == _SKIP, _SKIP, sent.astype(np.int64) + 1)
        places = (np.cumsum(steps) - 1)[sent != _SKIP]
        if sent.size and sent[-1] == _SKIP:
            raise InputError("the gaps of a compressed update end in the middle")
    if len(places) != k or (k and places[-1] >= m):
        raise InputError(
            "a compressed update names places that are not there, or not as many as its scheme keeps",
            found=f"{len(places)} places up to {places[-1] if len(places) else 'none'}",
            way_out=f"{k} places below {m}",
        )
    return places
