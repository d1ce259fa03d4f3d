"""A site's update on its way to the coordinator, as it is or compressed."""

from __future__ import annotations

import numpy as np

from lazaretto.compress_types import Compressor, Public
from lazaretto.compression import received, send
from lazaretto.keys import generator, seed_of
from lazaretto.run.coordinator import Round
from lazaretto.run.group import Group
from lazaretto.run.post import Post
from lazaretto.types import Float

__all__ = ["send_update"]


def send_update(
    post: Post, scheme: Compressor | None, group: Group, sender: tuple[int, str], row: Float, this: Round
) -> Float:
    """What the coordinator has of a site's update [s] once it has come: NaN where it cannot be decoded.

    sender: the site's number and name. What the site did not send is kept in the group for its next round,
    also where hostile ones forged the update.
    """
    site, name = sender
    if scheme is None:
        sent = post.send("update", name, "coordinator", this.number, {"update": row})
        return np.asarray(sent["update"])
    public = Public(seed_of(this.seed, "compress", this.number), group.moved)
    rng = generator(this.seed, "compress", this.number, site)
    kept = np.zeros_like(row) if group.residual is None else group.residual[site]
    payload, kept = send(scheme, row, kept, public, rng)
    if group.residual is not None:
        group.residual[site] = kept
    return received(scheme, post.send("update", name, "coordinator", this.number, payload), public, row.size)
