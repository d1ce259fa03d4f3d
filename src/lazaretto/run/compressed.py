"""A site's update on its way to the coordinator, as it is or compressed, in the open or unseen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.compress_types import Compressor, Public
from lazaretto.compression import received, send
from lazaretto.errors import PlanError
from lazaretto.keys import generator, seed_of
from lazaretto.run.coordinator import Round
from lazaretto.run.group import Group
from lazaretto.run.post import Post
from lazaretto.types import Array, Float

__all__ = ["Short", "public_rows", "send_update", "short_row", "shortened", "whole_update"]

_FEWEST_VALUES = 32  # what inner products leave open is a rotation of so many dimensions


class Short(NamedTuple):
    """How rows [k] of a secret round stand for updates [s], the same way for every site.

    A row is the site's compressed values, each times its length once decoded: inner products and lengths of
    rows are those of decoded updates. public: what the scheme goes by, from the round's seed and the model's
    movement alone. decoded, encoded [k]: of `Compressor.lengths`.
    """

    scheme: Compressor
    public: Public
    size: int
    decoded: NDArray[np.float64]
    encoded: NDArray[np.float64]


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
    public = _public(group, this)
    payload = _made(scheme, public, group, site, row, this)
    return received(scheme, post.send("update", name, "coordinator", this.number, payload), public, row.size)


def _public(group: Group, this: Round) -> Public:
    return Public(seed_of(this.seed, "compress", this.number), group.moved)


def _made(
    scheme: Compressor, public: Public, group: Group, site: int, row: Float, this: Round
) -> dict[str, Array]:
    """What the site sends; what it does not is kept."""
    rng = generator(this.seed, "compress", this.number, site)
    # who trains ahead has what it kept in its update
    kept = np.zeros_like(row) if group.residual is None or group.ahead else group.residual[site]
    payload, kept = send(scheme, row, kept, public, rng)
    if group.residual is not None:
        group.residual[site] = kept
    return payload


def shortened(scheme: Compressor, group: Group, this: Round) -> Short:
    """How this round's rows stand for updates, for a scheme that composes with sharing.

    Raises PlanError where it leaves fewer than 32 values.
    """
    assert scheme.lengths is not None  # noqa: S101  refused in plans otherwise
    public, size = _public(group, this), group.vector[group.shared].size
    short = Short(scheme, public, size, *scheme.lengths(size, public))
    if (k := len(short.decoded)) < _FEWEST_VALUES:
        raise PlanError(
            f"compress.share: inner products of rows of so few values all but tell them ('{scheme.name}')",
            found=f"{k} of {size} parameters",
            way_out=f"a share that leaves {_FEWEST_VALUES} or more",
        )
    return short


def short_row(short: Short, group: Group, site: int, row: Float, this: Round) -> NDArray[np.float64]:
    """[k] what a site has summed of its update [s]; NaN where that cannot be encoded."""
    values = _made(short.scheme, short.public, group, site, row, this)["values"]
    if values.shape != short.decoded.shape or not np.isfinite(values).all():  # it went as it is
        return np.full(len(short.decoded), np.nan)
    return np.asarray(values * short.decoded, np.float64)


def public_rows(short: Short, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """[p, k]: the part of public rows [p, s] that decoded updates can have a product with."""
    rng = np.random.default_rng(0)  # a linear scheme draws nothing
    found = [short.scheme.encode(row.astype(np.float32), short.public, rng)["values"] for row in rows]
    return np.stack(found) / short.encoded


def whole_update(
    short: Short, total: Array, weights: Array, public: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[s] from the opened sum [k] of rows: decoded once.

    weights [p]: of public rows [p, s], whose part in the sum is taken out and put back in full, as all of it
    is known.
    """
    used = np.flatnonzero(weights)
    parts = public_rows(short, public[used]) if used.size else np.zeros((0, len(short.decoded)))
    values = (total - weights[used] @ parts) / short.decoded
    sites = short.scheme.decode({"values": values.astype(np.float32)}, short.public, short.size)
    return np.asarray(sites + weights[used] @ public[used], np.float64)
