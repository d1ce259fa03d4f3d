"""How the sites of a run agree on the scaling of their features, and what their counts tell of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from lazaretto.data.scaling import (
    Scaling,
    bucket_counts,
    far_from,
    median_scaling,
    scaling_from_counts,
    sum_counts,
)
from lazaretto.data.sites import Partition
from lazaretto.data.streams import Streams
from lazaretto.run.post import Post
from lazaretto.run.secret import Door, secret_sum
from lazaretto.types import TRAIN, Int

__all__ = ["Agreement", "agree_scaling"]

Agreement = Literal["sum", "median"]
_NAMED = 3  # features named in a note, of however many


def agree_scaling(
    data: Streams,
    parts: Partition,
    post: Post,
    how: Agreement = "sum",
    said: Callable[[Int, int], Int] = lambda counts, site: counts,
    door: Door | None = None,
) -> tuple[Scaling, list[str]]:
    """Scaling that the sites of `parts` agree on over `post`, from training units; notes for the data sheet.

    said: (true counts, site) -> what the site says they are. secret_seed: where given (a run's seed) the
    counts are summed as shares, and nobody sees a site's own. Where the coordinator reads the sum alone it
    knows of no site how its counts lie, so there are no notes.
    """
    counts = []
    for site, name in enumerate(parts.site_names):
        rows = (data.site == site) & (data.split == TRAIN)
        own = said(bucket_counts(data.x[rows], data.valid[rows], data.origins), site)
        if door is not None:
            counts.append(own)
            continue
        sent = post.send("scaling counts", name, "coordinator", 0, {"counts": own.astype(np.uint32)})
        counts.append(np.asarray(sent["counts"], np.int64))
    if door is not None:
        given = dict(zip(parts.site_names, counts, strict=True))
        total = secret_sum(given, door, "scaling counts", post)
        scaling, notes = scaling_from_counts(total, data.origins), list[str]()
    elif how == "sum":
        scaling, notes = scaling_from_counts(sum_counts(counts), data.origins), list[str]()
    else:
        scaling = median_scaling(counts, data.origins)
        notes = _notes(scaling, counts, data, parts.site_names)
    for name in parts.site_names:
        post.send("scaling", "coordinator", name, 0, {"center": scaling.center, "scale": scaling.scale})
    return scaling, notes


def _notes(scaling: Scaling, counts: Sequence[Int], data: Streams, names: Sequence[str]) -> list[str]:
    """Sites whose counts lie far from what was agreed on, in words."""
    far, features = far_from(scaling, counts, data.origins), np.array(data.features)
    return [
        f"{name}'s counts lie far from what the sites agree on in {own.sum()} of {len(own)} features "
        f"({_listed(features[own])}): most of its values are more than ten scales from the centre. It has "
        "other units of measurement, other devices, or its counts are false."
        for name, own in zip(names, far, strict=True)
        if own.any()
    ]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join([*names[:_NAMED], *([f"{more} more"] if more > 0 else [])])
