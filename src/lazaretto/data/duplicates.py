"""Windows that stand in two splits are removed from the later one."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.types import TEST, TRAIN, UNASSIGNED, VALIDATION, Table

__all__ = ["remove_duplicates", "take", "window_digests"]

_SPLITS = {TRAIN: "training", VALIDATION: "validation", TEST: "test"}


def take(table: Table, keep: NDArray[np.bool_]) -> Table:
    """The windows where `keep [n]` is true. Unit and site numbers stay as they are."""
    return replace(
        table,
        x={modality: values[keep] for modality, values in table.x.items()},
        present=table.present[keep],
        y=table.y[keep],
        y_step=table.y_step[keep],
        valid=table.valid[keep],
        unit=table.unit[keep],
        time=table.time[keep],
        site=table.site[keep],
        split=table.split[keep],
        intensity=None if table.intensity is None else table.intensity[keep],
        judged=None if table.judged is None else table.judged[keep],
    )


def remove_duplicates(table: Table, modality: str | None = None) -> tuple[Table, int]:
    """Drop windows whose values are those of a window in an earlier split (train < validation < test).

    Two windows are the same when the feature values of their valid steps are equal, bit for bit, in
    the modality that a model reads, or in all (128-bit BLAKE2b of the values; 0.0 and -0.0 count as one, and
    "not measured" equals itself). Labels are not looked at.
    Copies inside one split stay. Windows that are idle, that is of two or more valid steps which
    are all the same, stay too: a silent device is silent on both sides of a split, and to drop those
    windows would bias the false-alarm rate. They are counted as `duplicates_idle_kept`. Where nothing of a
    window is read, all of the modality being missing, it is no copy.

    Returns the table, with `duplicates_removed` and `duplicates_idle_kept` in `counts`, and the number
    removed. A unit may lose windows or vanish; unit numbers do not change. Needs split != UNASSIGNED.
    Raises DataError where a split is not assigned, or where nothing of a split is left.
    """
    if bool(np.any(table.split == UNASSIGNED)):
        raise DataError(
            "duplicates are looked for across splits, but some windows have no split",
            found=f"{int(np.sum(table.split == UNASSIGNED))} windows without a split",
            way_out="call assign_splits first",
        )
    digests, idle = window_digests(table, modality)
    code = np.unique(digests, axis=0, return_inverse=True)[1] if len(digests) else np.zeros(0, np.int64)
    earliest = np.full(int(code.max(initial=-1)) + 1, TEST, np.int64)
    np.minimum.at(earliest, code, table.split)
    copied = (earliest[code] < table.split) & table.present[:, _places(table, modality)].any(axis=1)
    drop = copied & ~idle
    for split, name in _SPLITS.items():
        before = table.split == split
        if before.any() and not (before & ~drop).any():
            raise DataError(
                f"every {name} window is a copy of one in an earlier split, so nothing is left to judge by",
                found=f"{int(before.sum())} copies",
                way_out="look for repeated rows or files in the data, or split by time",
            )
    removed = int(drop.sum())
    counts = {
        **table.counts,
        "duplicates_removed": int(table.counts.get("duplicates_removed", 0)) + removed,
        "duplicates_idle_kept": int((copied & idle).sum()),
    }
    kept = table if removed == 0 else take(table, ~drop)
    return replace(kept, counts=counts), removed


def window_digests(table: Table, modality: str | None = None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Digest of each window's valid values [n, 16], and whether it is idle [n]: says nothing of its own.

    It is where two or more valid steps are all the same, or where nothing of it is read: windows that lack a
    modality are alike whatever their others hold.
    modality: the one that is looked at, as what is not read makes no other window; all of them where
    it is None or none of the table's, such as "combined".
    """
    n, places = len(table.y), _places(table, modality)
    read = [list(table.schema.features)[place] for place in places]
    digests = np.zeros((n, 16), np.uint8)
    idle = np.zeros(n, bool)
    for start in range(0, n, 4096):  # blocks, so that the copies stay small
        part = slice(start, min(start + 4096, n))
        valid = table.valid[part]
        steps = np.concatenate([np.asarray(table.x[name][part], np.float32) for name in read], axis=2)
        steps = np.where(valid[:, :, None], steps, np.float32(0)) + np.float32(0)
        steps[np.isnan(steps)] = np.float32(np.nan)  # NaN has many bit patterns, and none equals another
        bits = np.ascontiguousarray(steps).view(np.uint32)
        first = bits[np.arange(len(steps)), valid.argmax(axis=1)]
        same = (bits == first[:, None, :]).all(axis=2) | ~valid
        absent = ~table.present[part][:, places].any(axis=1)
        idle[part] = (same.all(axis=1) & (valid.sum(axis=1) >= 2)) | absent
        flat = np.concatenate(
            [
                np.ascontiguousarray(steps).reshape(len(steps), -1).view(np.uint8),
                valid.astype(np.uint8),
                table.present[part][:, places].astype(np.uint8),
            ],
            axis=1,
        )
        joined = b"".join(hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in flat)
        digests[part] = np.frombuffer(joined, np.uint8).reshape(-1, 16)
    return digests, idle


def _places(table: Table, modality: str | None) -> list[int]:
    """Columns of `present` of the modality that is looked at, or of all."""
    every = list(table.schema.features)
    return [place for place, name in enumerate(every) if name == modality] or list(range(len(every)))
