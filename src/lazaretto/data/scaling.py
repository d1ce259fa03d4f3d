"""Numeric scaling from log-bucket counts that need only a *sum* over sites.

Each site counts its training values in fixed signed logarithmic buckets (as DDSketch, Masson et al.
2019, arXiv:1908.10693: mergeable by addition) and normalises each feature's counts to a fixed total.
So no minimum, mean or single value is sent, every site weighs the same, and one that lies can move a
quantile by at most its share: of n sites, h hostile ones shift a rank by at most h / n. A coordinator
that sees a site's own counts, and not their sum alone, reads the site's distribution from them, to a
bucket's width: secure summation is what keeps it from that.

Scale is half the 5-95 % range, so a twentieth of false counts at one end decides it. `median_scaling`
withstands any minority of false counts where a feature varies at most sites: it is the median over sites of
their own centres and scales. It can be had of a sum, too, if that is a sum of *ballots*, in which each site
marks the buckets of its own two, and if nobody's ballot can weigh more than one mark in each place
(`lazaretto.secagg.ballots` sees to that unseen). Who is alone with a mark shows by it where its median
lies, or how far it spreads. Reading ranks further inside the summed counts is no way: with 30 % of the
counts at one end ranks 35 and 65 % are the outermost that stay among honest values, and half of that range,
stretched as for a normal distribution, is between 0 and 1.7 times what it should be on the simulated
hospitals (median .4), as traffic is not normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError
from lazaretto.types import Float, Int

__all__ = [
    "BUCKETS",
    "TOTAL",
    "Scaling",
    "apply_scaling",
    "ballot",
    "bucket_counts",
    "bucket_of",
    "far_from",
    "median_scaling",
    "scaling_from_ballots",
    "scaling_from_counts",
    "sum_counts",
]

TOTAL = 1 << 16  # what each site's counts of one feature add up to, at most
_GAMMA = 1.1  # ratio of neighbouring buckets: quantiles to about 5 %
_SMALLEST, _LARGEST = 1e-6, 1e12
_SIDE = int(np.ceil(np.log(_LARGEST / _SMALLEST) / np.log(_GAMMA)))
BUCKETS = 2 * _SIDE + 1
_FAR = 10.0  # scales from the centre; among simulated hospitals no site's median is two away
_LIMIT = 6.0  # of the compressed value: about 400 scales from the centre
_TAILS = (0.05, 0.01, 1e-5)  # scale is half of the range between them, of the first that is not empty


@dataclass(frozen=True, slots=True)
class Scaling:
    """center [F] (median) and scale [F] > 0 (half the 5-95 % range), float32."""

    center: Float
    scale: Float


def bucket_of(values: Float) -> Int:
    """Bucket of each value: 0 most negative, _SIDE zero, BUCKETS - 1 largest."""
    size = np.abs(values).astype(np.float64)
    side = np.floor(np.log(np.maximum(size, _SMALLEST) / _SMALLEST) / np.log(_GAMMA)).astype(np.int64) + 1
    side = np.where(size < _SMALLEST, 0, np.minimum(side, _SIDE))
    return _SIDE + np.where(values < 0, -side, side)


def _bucket_value() -> NDArray[np.float64]:
    """[BUCKETS] middle of each bucket (geometric)."""
    side = _SMALLEST * _GAMMA ** (np.arange(_SIDE) + 0.5)
    return np.concatenate([-side[::-1], [0.0], side])


def bucket_counts(x: Float, valid: NDArray[np.bool_], origins: Sequence[float] = ()) -> Int:
    """A site's counts [F, BUCKETS], each feature normalised to at most TOTAL (rounded down).

    x: [u, L, F]; valid: [u, L]. NaN, "not measured", is not counted. A site without a valid step sends zeros.
    origins: [F] what values are counted from, the same at all sites; () for 0.
    """
    read = x[valid] - np.asarray(origins or 0.0, np.float32)
    columns = (column[~np.isnan(column)] for column in read.T)
    counts = np.stack([np.bincount(bucket_of(column), minlength=BUCKETS) for column in columns]).astype(
        np.int64
    )
    normalised: Int = counts * TOTAL // np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return normalised


def sum_counts(counts: Sequence[Int]) -> Int:
    """Sum over sites, each capped: counts below zero or above TOTAL per feature are refused.

    Raises InputError naming the site's position.
    """
    _refuse(counts)
    total: Int = np.sum(np.stack(counts), axis=0)
    return total


def _refuse(counts: Sequence[Int]) -> None:
    for position, site in enumerate(counts):
        if site.shape != counts[0].shape or site.min() < 0 or int(site.sum(axis=1).max()) > TOTAL:
            raise InputError(
                f"scaling counts of site {position} are outside their cap",
                found=f"shape {site.shape}, least {site.min()}, largest total {site.sum(axis=1).max()}",
                way_out=f"counts are >= 0 and add up to at most {TOTAL} per feature",
            )


def scaling_from_counts(counts: Int, origins: Sequence[float] = ()) -> Scaling:
    """Centre and scale from summed counts [F, BUCKETS], made with the same origins.

    A feature whose 5-95 % range is empty falls back to 1-99 %, then to the whole range, then to 1. One that
    nobody measured has its origin as centre and scale 1.
    """
    shares = _cumulative(counts)
    center = _bucket_value()[_bucket(shares, 0.5)]
    return _scaling(center, _half_range(shares), counts.sum(axis=1) > 0, origins)


def ballot(counts: Int) -> Int:
    """What a site says of its own counts [F, BUCKETS] for a median: [F, 2, BUCKETS + 1], one 1 in each last
    axis.

    It marks the bucket of its own median, then that of its own scale, half the 5-95 % range. The last entry
    is for who has nothing to mark: a feature that was not measured. A scale of 0, of a feature that does not
    vary, stands at the bucket of 0.
    """
    shares = _cumulative(counts)
    scale = _half_range(shares)
    spread = np.where(scale > 0, np.maximum(bucket_of(scale.astype(np.float32)), _SIDE + 1), _SIDE)
    chosen = np.stack([_bucket(shares, 0.5), spread], axis=1)
    chosen = np.where(counts.sum(axis=1)[:, None] > 0, chosen, BUCKETS)
    marked: Int = (chosen[:, :, None] == np.arange(BUCKETS + 1)).astype(np.int64)
    return marked


def scaling_from_ballots(total: Int, origins: Sequence[float] = ()) -> Scaling:
    """Centre and scale from summed ballots [F, 2, BUCKETS + 1], of counts made with the same origins.

    Each is the median over sites that measured the feature, the lower of two: a site has one vote, however
    little it counts. With fewer hostile voters than honest ones the centre lies between the least and the
    largest of the honest sites' own. So does the scale, where sites at which the feature does not vary vote
    for 0 (and what is below 0 counts as 0), as long as it is not 0: a minority cannot hide the feature.

    Where it is 0, as of a feature that is constant at half of the sites, the scale is the lower quartile of
    those that vary at single sites: one too large would hide the feature, one too small leaves at least its
    sign. There a quarter of false votes is enough to make it too small, of those who say that it varies, and
    three quarters to hide the feature: one site, where it is constant at all others.
    """
    votes = total[:, :, :BUCKETS].copy()
    votes[:, 1, _SIDE] = votes[:, 1, : _SIDE + 1].sum(axis=1)
    votes[:, 1, :_SIDE] = 0
    voters = votes.sum(axis=2)
    middle = _placed(votes, (voters - 1) // 2)
    vary = votes[:, 1:].copy()
    vary[:, :, _SIDE] = 0
    some = vary.sum(axis=2)
    value = _bucket_value()
    scale = np.where(middle[:, 1] > _SIDE, value[middle[:, 1]], value[_placed(vary, (some - 1) // 4)[:, 0]])
    scale = np.where(some[:, 0] > 0, scale, 0.0)
    return _scaling(value[middle[:, 0]], scale, voters[:, 0] > 0, origins)


def _placed(votes: Int, place: Int) -> Int:
    """[...]: bucket of the vote at this place, from 0, among votes [..., BUCKETS] in order."""
    found: Int = (np.cumsum(votes, axis=-1) <= np.maximum(place, 0)[..., None]).sum(axis=-1)
    return np.minimum(found, BUCKETS - 1)


def median_scaling(counts: Sequence[Int], origins: Sequence[float] = ()) -> Scaling:
    """`scaling_from_ballots` of what sites with these counts, [F, BUCKETS] each, would say.

    Raises InputError as `sum_counts`.
    """
    _refuse(counts)
    return scaling_from_ballots(np.sum([ballot(own) for own in counts], axis=0), origins)


def far_from(scaling: Scaling, counts: Sequence[Int], origins: Sequence[float] = ()) -> NDArray[np.bool_]:
    """[S, F] where most of what a site counted lies more than ten scales from the centre agreed on.

    False where a site measured nothing, and in features that fewer than three sites measured.
    """
    each = np.stack(counts).astype(np.float64)
    center = scaling.center.astype(np.float64) - np.asarray(origins or 0.0)
    out = np.abs(_bucket_value() - center[:, None]) > _FAR * scaling.scale[:, None]
    total = each.sum(axis=2)
    far = (each * out).sum(axis=2) > 0.5 * total
    found: NDArray[np.bool_] = far & (total > 0) & ((total > 0).sum(axis=0) >= 3)
    return found


def _cumulative(counts: Int) -> NDArray[np.float64]:
    """[F, BUCKETS] share of the counts up to each bucket; 0 where nothing was counted."""
    shares: NDArray[np.float64] = np.cumsum(counts, axis=1) / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _bucket(cumulative: NDArray[np.float64], q: float) -> Int:
    """[F]: the bucket of each row's quantile."""
    found: Int = np.minimum((cumulative < q - 1e-9).sum(axis=1), BUCKETS - 1)
    return found


def _half_range(cumulative: NDArray[np.float64]) -> NDArray[np.float64]:
    """[F] half of the 5-95 % range, or the next wider one that is not empty; 0 where all of them are."""
    scale, value = np.zeros(len(cumulative)), _bucket_value()
    for tail in _TAILS:
        low, high = value[_bucket(cumulative, tail)], value[_bucket(cumulative, 1 - tail)]
        scale = np.where(scale > 0, scale, (high - low) / 2)
    return scale


def _scaling(
    center: NDArray[np.float64],
    scale: NDArray[np.float64],
    measured: NDArray[np.bool_],
    origins: Sequence[float],
) -> Scaling:
    center = np.where(measured, center, 0.0) + np.asarray(origins or 0.0)  # it was from the origin
    return Scaling(center.astype(np.float32), np.where(scale > 0, scale, 1.0).astype(np.float32))


def apply_scaling(scaling: Scaling, x: Float) -> Float:
    """x [..., F] to sign(z)·log(1 + |z|), z = (x - center) / scale, bounded by ±6; same shape. NaN stays."""
    z = (x - scaling.center) / scaling.scale
    scaled: Float = np.clip(np.sign(z) * np.log1p(np.abs(z)), -_LIMIT, _LIMIT).astype(np.float32)
    return scaled
