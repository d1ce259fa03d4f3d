"""Which windows a model has seen: digests in the run's folder, so that it is not judged on them elsewhere.

A digest tells whoever holds the same window that it was trained on. The file is therefore no part of the
model: it stays in the run's folder, and may be deleted before the folder is handed on. Where a plan has a
privacy mechanism it is not written at all: no noise covers it, and with a salt that nobody keeps it would say
nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lazaretto.data.duplicates import window_digests
from lazaretto.errors import InputError
from lazaretto.run.saved import load_arrays, save_arrays
from lazaretto.types import Table

__all__ = ["SEEN_FILE", "save_seen", "seen_windows"]

SEEN_FILE = "seen.safetensors"


def save_seen(folder: Path, seen: NDArray[np.uint8]) -> None:
    """Write the digests [m, 16] of training and validation windows beside the model."""
    save_arrays(folder / SEEN_FILE, {"seen": seen}, {"digest": "BLAKE2b, 128 bits, of a window's values"})


def seen_windows(folder: Path, table: Table) -> NDArray[np.bool_] | None:
    """[n] whether the model in `folder` was trained, or its thresholds set, on a window of these very values.

    Values are compared as the source gives them, bit for bit: other options of a source, or noise, make other
    windows. Idle windows are never counted as seen, as a silent device is silent everywhere. None where
    the folder does not say. Raises InputError for a file that is not ours.
    """
    path = folder / SEEN_FILE
    if not path.exists():
        return None
    seen = load_arrays(path)[0].get("seen")
    if seen is None or seen.dtype != np.uint8 or seen.ndim != 2 or seen.shape[1] != 16:
        raise InputError(
            f"{path} does not hold digests of windows", found=path, way_out="delete it, or train again"
        )
    digests, idle = window_digests(table)
    known = {row.tobytes() for row in seen}
    met = np.fromiter((row.tobytes() in known for row in digests), bool, len(digests))
    return met & ~idle
