"""A small trusted data set at the coordinator, which trains on it as the sites do.

The update that comes of it is the public row "root" of rules such as FLTrust (Cao et al. 2021,
arXiv:2012.13995). In a simulation the data is drawn from the sites' training units before anything is
falsified, and no site trains on it. In a deployment it has to be public or donated, since it leaves the
site: whoever chooses it decides which updates are trusted.
"""

from __future__ import annotations

import numpy as np

from lazaretto.data.streams import carries
from lazaretto.errors import DataError
from lazaretto.run.coordinator import with_momentum
from lazaretto.run.group import Group
from lazaretto.run.prepare import Prepared
from lazaretto.types import TRAIN, Float, Int

__all__ = ["root_streams", "take_root"]


def root_streams(prepared: Prepared, without: int | None = None) -> Int:
    """Indices of the root data's streams; those with any step of the family `without` are left out.

    Raises DataError where none is left.
    """
    data = prepared.data
    use = (data.split == TRAIN) & (data.site == len(prepared.site_names))
    if without is not None:
        use &= ~carries(data, without)
    if not use.any():
        raise DataError(
            "the root data is empty once this is left out",
            found="a site" if without is None else f"family '{prepared.schema.classes[without]}'",
            way_out="more aggregate.root_units",
        )
    return np.flatnonzero(use)


def take_root(group: Group, keep: float, vector: Float) -> None:
    """The round's row "root", from where training on the root data led, [d].

    It has its own momentum (`keep`) and personal layers. Where it is not finite the row is 0, to which no
    update is near: in that round nobody is trusted.
    """
    row = with_momentum(group, keep, group.sites, (vector - group.vector)[group.shared])
    group.root = row if np.isfinite(row).all() else np.zeros_like(row)
    if group.personal is not None and np.isfinite(vector[group.mask]).all():
        group.personal[group.sites] = vector[group.mask]
