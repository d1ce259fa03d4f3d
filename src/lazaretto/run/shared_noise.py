"""Noise that sites share: each adds a part, and only the sum, which nobody can take apart, has all of it.

Distributed differential privacy: Dwork et al. 2006, https://doi.org/10.1007/11761679_29; Kairouz et al. 2021,
https://arxiv.org/abs/2102.06387. It holds where sums alone are opened, by whoever sees them and up to
`Masked.hostile` sites that tell their noise, as long as the others add what they should.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import PlanError
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.secagg.masked_settings import default_masked, fraction_bits

__all__ = ["Among", "Parts", "among_of", "noise_parts", "parts_of"]

Numbers: TypeAlias = NDArray[np.float64]
Parts: TypeAlias = Callable[[Numbers], Numbers]  # expected examples of a step [S] -> parts [S]

_STEPS = 16.0  # of the fixed point in a part's deviation: rounding then adds 1 in 3,000 to its variance
_SIGMAS = 8.0  # of the noise, that an entry has to have room for: beyond them lies 1 in 10^15


class Among(NamedTuple):
    """fewest: updates without which no sum is opened; honest: of them, whose noise nobody else knows."""

    fewest: int
    honest: int


def among_of(sites: int) -> Among:
    """Of so many sites that have data. Raises PlanError for fewer than three."""
    settings = default_masked(sites)
    return Among(settings.threshold, settings.threshold - settings.hostile)


def noise_parts(weights: Numbers, expected: Numbers, honest: int) -> Numbers:
    """[S] what each site's noise is, of the noise that would protect its examples alone.

    weights [S] >= 0: of the sites in the sum. expected [S] > 0: what each divides its clipped sum by. honest:
    at least 1, sites whose noise counts. One example moves the sum by a = weight / expected times a clip at
    most; the parts are max(a) / (a · sqrt(honest)), so any `honest` of the sites together add noise of
    max(a), enough for every example of every site. 1 for a site without weight, which is not in the sum.
    """
    reach = weights / expected
    most = reach.max(initial=0.0)
    parts = np.divide(most / np.sqrt(honest), reach, out=np.ones_like(reach), where=reach > 0)
    return np.asarray(parts, np.float64)


def parts_of(
    made: Mechanism, weights: Numbers, honest: int, bound: float, rates: tuple[float, float]
) -> Parts:
    """`noise_parts` for sites of these weights [S], whose updates are a rate times their noisy mean.

    bound: the largest entry that the sum takes as it is. rates: the largest and the least learning rate. The
    function raises PlanError where an entry may pass the bound, as the update would be shortened, and its
    noise with it; and where the noise of a part is less than a few steps of the sum's fixed point.
    """
    sites = int((weights > 0).sum())
    grid = 2.0 ** -fraction_bits(replace(default_masked(sites), bound=bound, ring_bits=64), sites)

    def parts(expected: Numbers) -> Numbers:
        found = noise_parts(weights, expected, honest)
        noise = np.where(weights > 0, made.noise_multiplier * made.clip * found / expected, 0.0)
        entry = rates[0] * (made.clip / made.rate + _SIGMAS * float(noise.max(initial=0.0)))
        if entry > bound:
            raise PlanError(
                "secure.clip: an update with its part of the noise may be larger, and would be cut",
                found=f"{bound:g}, and an entry may reach {entry:.3g}",
                way_out=f"secure.clip = {np.ceil(entry):g}, or a lower train.learning_rate",
            )
        least = rates[1] * float((noise * weights / weights.max())[weights > 0].min())
        if least < _STEPS * grid:
            raise PlanError(
                "train.learning_rate: a site's part of the noise would be lost in the rounding of the sum",
                found=f"a deviation of {least:.2g} where the learning rate is least, and steps of {grid:.2g}",
                way_out=f"{_STEPS:g} steps at least: a larger learning rate, schedule = 'constant', or a "
                "lower secure.clip",
            )
        return found

    return parts
