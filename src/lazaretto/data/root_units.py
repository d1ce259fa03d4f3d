"""Training units that the coordinator holds itself, in a simulation: drawn, and taken from the sites."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lazaretto.data.sites import Partition
from lazaretto.data.streams import Streams, family_of
from lazaretto.errors import DataError
from lazaretto.types import TRAIN

__all__ = ["draw_root"]


def draw_root(data: Streams, parts: Partition, units: int, rng: np.random.Generator) -> Streams:
    """The streams, so many of those of training moved to a site S behind the S that have names; 0 moves none.

    A systematic sample: streams in order of site, then of family, at random within, and every k-th of them
    from a random start. So each site gives its share to within one, and families come as often as there are.
    A site never gives its last stream. `parts.site` goes on to say where each came from. Raises DataError for
    more than half of the streams of sites that have two or more.
    """
    if units == 0:
        return data
    held = np.bincount(data.site[data.split == TRAIN], minlength=len(parts.site_names))
    rows = np.flatnonzero((data.split == TRAIN) & (held[data.site] > 1))
    if 2 * units > len(rows):
        raise DataError(
            "the coordinator's root data would leave sites with too little",
            found=f"aggregate.root_units = {units}, and {len(rows)} training units at sites with two or more",
            way_out=f"at most {len(rows) // 2}",
        )
    rows = rng.permutation(rows)
    rows = rows[np.lexsort((family_of(data)[rows], data.site[rows]))]  # stable, so ties stay at random
    place = np.floor((np.arange(units) + rng.random()) * (len(rows) / units)).astype(np.int64)
    site = data.site.copy()
    site[rows[np.minimum(place, len(rows) - 1)]] = len(parts.site_names)
    return replace(data, site=site)
