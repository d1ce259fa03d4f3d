"""Which windows a model has seen: digests in the run's folder, so that it is not judged on them elsewhere.

A digest tells whoever holds the same window that it was trained on. The file is therefore no part of the
model: it stays in the run's folder, and may be deleted before the folder is handed on. Where a plan has a
privacy mechanism it is not written at all: no noise covers it, and with a salt that nobody keeps it would say
nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.data.duplicates import window_digests
from lazaretto.data_files import files_under
from lazaretto.errors import InputError
from lazaretto.plan_keys import DataPlan
from lazaretto.run.saved import load_arrays, save_arrays
from lazaretto.types import Table

__all__ = ["SEEN_FILE", "Seen", "data_named", "load_seen", "save_seen", "seen_windows", "window_states"]

SEEN_FILE = "seen.safetensors"


class Seen(NamedTuple):
    """Digests [m, 16] uint8 of windows that a model has seen, and names of the data they are of.

    data: () where the folder does not say, as those of earlier versions do not.
    """

    digests: NDArray[np.uint8]
    data: tuple[str, ...] = ()


def data_named(data: DataPlan, seed: int) -> str:
    """What tells data sets apart, however windows are cut: source and sizes of its files, or its seed.

    The same number of files of the same sizes counts as the same data: nothing large is read for it. Whether
    there are files is for the source to say.
    """
    if data.path is None:
        return f"{data.source}, seed {seed}"
    place = Path(data.path)
    files = [file for file in files_under(place) if file.is_file()]
    sizes = sorted(file.stat().st_size for file in files)
    return f"{data.source}, {len(files)} files, " + hashlib.sha256(repr(sizes).encode()).hexdigest()[:16]


def save_seen(folder: Path, seen: Seen) -> None:
    """Write the digests of training and validation windows beside the model."""
    meta = {"digest": "BLAKE2b, 128 bits, of a window's values", "data": list(seen.data)}
    save_arrays(folder / SEEN_FILE, {"seen": seen.digests}, meta)


def load_seen(folder: Path) -> Seen | None:
    """What `save_seen` wrote; None where the folder does not say. Raises InputError for another file."""
    path = folder / SEEN_FILE
    if not path.exists():
        return None
    arrays, meta = load_arrays(path)
    seen, data = arrays.get("seen"), meta.get("data", [])
    named = isinstance(data, list) and all(isinstance(one, str) for one in data)
    if seen is None or seen.dtype != np.uint8 or seen.ndim != 2 or seen.shape[1] != 16 or not named:
        raise InputError(
            f"{path} does not hold digests of windows", found=path, way_out="delete it, or train again"
        )
    return Seen(seen, tuple(data))


def window_states(seen: Seen, table: Table, modality: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[n] whether a window of these very values was seen, and whether it is idle; an idle one never was.

    modality: what the model reads; values of others are not compared. Values are compared as the source gives
    them, bit for bit: other options of a source, or noise, make other windows. A silent device is silent
    everywhere.
    """
    known = {row.tobytes() for row in seen.digests}

    def met(digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return np.fromiter((row.tobytes() in known for row in digests), bool, len(digests))

    digests, idle = window_digests(table, modality)
    found = met(digests)
    if modality in table.x and len(table.x) > 1:  # folders of earlier versions: digests of all modalities
        found |= met(window_digests(table)[0])
    return found & ~idle, idle


def seen_windows(folder: Path, table: Table, modality: str) -> NDArray[np.bool_] | None:
    """[n] whether the model in `folder`, or the one it began from, was trained, or its thresholds set, on a
    window of these very values, as `window_states` says; None where the folder does not say.

    Raises InputError for a file that is not ours.
    """
    seen = load_seen(folder)
    return None if seen is None else window_states(seen, table, modality)[0]
