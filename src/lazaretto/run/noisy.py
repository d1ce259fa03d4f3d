"""Sums of counts with noise: what sites send of them, and what the coordinator takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lazaretto.errors import InputError
from lazaretto.run.post import Post
from lazaretto.run.secret import Door, secret_sum
from lazaretto.types import Int

__all__ = ["sum_noisy"]

_MOST = 2**22  # of one number, as of the length in a secret sum


def sum_noisy(counts: Mapping[str, Int], kind: str, post: Post, door: Door | None) -> Int:
    """The sum of noisy counts [...] by site, sent as messages of that kind, or summed in secret.

    Raises InputError where a site's shape is another, or a number beyond four million; as `secret_sum`.
    """
    if door is not None:
        return secret_sum(counts, door, kind, post)
    shape, total = np.shape(next(iter(counts.values()))), None
    for name, own in counts.items():
        sent = post.send(kind, name, "coordinator", 0, {"counts": own.astype(np.int32)})["counts"]
        if np.shape(sent) != shape or np.abs(sent, dtype=np.int64).max() > _MOST:
            raise InputError(
                f"{kind} of {name} cannot be used",
                found=f"shape {np.shape(sent)}, largest {np.abs(sent, dtype=np.int64).max()}",
                way_out=f"shape {shape}, {_MOST} at most",
            )
        total = np.asarray(sent, np.int64) + (0 if total is None else total)
    return np.asarray(total, np.int64)
