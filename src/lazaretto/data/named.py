"""Numbers that a unit's own name decides: where it stands must not tell who else is there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lazaretto.types import Table

__all__ = ["marks_of", "places_of"]

_BYTES = 8


def places_of(names: Sequence[str], what: str, key: str = "") -> NDArray[np.float64]:
    """[n] a number in [0, 1) for each name: BLAKE2b under a fixed label, `what` it is for, and a plan's word.

    No seed is in it and no other name: the same unit has the same number in every repetition and run, and
    keeps it whoever comes or goes. Numbers for different ends are independent, as are those of two keys.
    Aumasson et al. 2013, https://eprint.iacr.org/2013/322.
    """
    whole = np.array([_hashed(what, key, name) for name in names], np.uint64)
    return np.asarray((whole >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def marks_of(table: Table, key: str = "") -> NDArray[np.uint64]:
    """[n] a number for each window, of the name of its unit and the moment at which it starts alone."""
    starts = np.asarray(table.time, "<f8")
    names = [table.unit_names[unit] for unit in table.unit.tolist()]
    return np.array(
        [_hashed("window", key, name, start.tobytes()) for name, start in zip(names, starts, strict=True)],
        np.uint64,
    )


def _hashed(what: str, key: str, name: str, more: bytes = b"") -> int:
    """Of all three, each behind its length, so that no two triples are one text."""
    text = hashlib.blake2b(digest_size=_BYTES, person=b"lazaretto named")
    for part in (what.encode(), key.encode(), name.encode(), more):
        text.update(len(part).to_bytes(4, "little") + part)
    return int.from_bytes(text.digest(), "little")
