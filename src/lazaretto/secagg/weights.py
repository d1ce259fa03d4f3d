"""A rule's weights in fixed point, what they may be, and what the sum must come to if nobody cheated."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import RoundRefused
from lazaretto.secagg.settings import WEIGHT_BITS, Sharing, row_length, stretch
from lazaretto.types import Array

__all__ = ["Promise", "dither_length", "noise_length", "noise_steps", "promised", "too_long"]


class Promise(NamedTuple):
    """What is known of the sum before it is opened.

    weights [rows] int64 in steps of 2⁻¹⁶; square: its squared length in the ring (of its sketch, where
    there is one), over the integers; most: no entry is larger.
    """

    weights: NDArray[np.int64]
    square: int
    most: float


def noise_steps(settings: Sharing) -> int:
    """σ of one aggregator's noise in ring steps: σ/√2, rounded up; 0 without noise."""
    return math.ceil(settings.noise * 2.0**settings.fraction_bits / math.sqrt(2)) if settings.noise else 0


def noise_length(settings: Sharing, parameters: int) -> float:
    """A length in ring steps that the three noises together pass with probability below 2⁻¹⁰⁰."""
    return math.sqrt(3) * noise_steps(settings) * (math.sqrt(parameters) + 16)


def dither_length(settings: Sharing, parameters: int) -> float:
    """The largest length in the sum's steps that the dither can have; of its sketch, where there is one."""
    return 3 * (2.0**WEIGHT_BITS - 1) * math.sqrt(parameters * stretch(settings, parameters))


def too_long(settings: Sharing, squares: NDArray[np.int64], parameters: int) -> NDArray[np.bool_]:
    """[n]: rows whose opened squared length [n], in the ring, a clipped one cannot have.

    The length check has ruled out that it wrapped.
    """
    found = squares.view(np.uint64).astype(np.float64)
    return np.asarray(found > row_length(settings, parameters) ** 2 * (1 + 1e-12))


def promised(
    settings: Sharing, inner: Array, squares: Array, weights: Array, sites: int, parameters: int
) -> Promise:
    """The promise of weights for rows: n sites, public rows, and the noise if there is any.

    inner: [rows, rows] int64 in the ring; squares [rows]: exact squared lengths. weights: [n + p] floats from
    the rule. Raises RoundRefused for weights that are not finite, too large, or give one site more than it
    may get.
    """
    p = len(inner) - sites - (1 if settings.noise else 0)
    weights = np.asarray(weights, np.float64)
    if weights.shape != (sites + p,) or not np.isfinite(weights).all():
        raise RoundRefused(
            "the rule's weights are not finite numbers, one for each row", found=f"shape {weights.shape}"
        )
    share = np.abs(weights[:sites])
    used = np.rint(share * 2.0**WEIGHT_BITS)  # tiny weights may round to a single one
    alone = share.max() > settings.most_on_one * share.sum() * (1 + 1e-9)
    if alone or used.max() > settings.most_on_one * used.sum() * (1 + 1e-3):
        raise RoundRefused(
            "the rule puts so much weight on one site that the aggregate would show its update",
            found=f"{share.max() / share.sum():.3f} of the sites' weight",
            way_out=f"more sites, or a rule that puts at most {settings.most_on_one:.3f} on one",
        )
    # of sites what everyone knows, as `most` goes to the coordinator
    lengths = np.sqrt(squares.astype(np.float64))
    lengths[:sites] = row_length(settings, parameters)
    if settings.noise:
        weights = np.append(weights, 1.0)
    most = float(np.abs(weights) @ lengths) * 2.0**WEIGHT_BITS + float(lengths.sum())
    if not most * math.sqrt(stretch(settings, parameters)) < 2.0**62 or np.abs(weights).max() >= 2.0**38:
        raise RoundRefused(
            "the weighted sum could wrap around the ring",
            found=f"2^{math.log2(most):.1f}, largest weight {np.abs(weights).max():.3g}",
            way_out="a smaller secure.clip or fewer secure.fraction_bits",
        )
    whole = np.rint(weights * 2.0**WEIGHT_BITS).astype(np.int64)
    w, G = [int(v) for v in whole], [[int(v) for v in row] for row in inner]
    square = sum(w[i] * w[j] * G[i][j] for i in range(len(w)) for j in range(len(w)) if w[i] and w[j])
    return Promise(whole, square, most)
