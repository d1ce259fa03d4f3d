"""DP-SGD at a site: Poisson sampling, gradients clipped one by one, independent noise."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from dp_accounting.dp_event import (
    DpEvent,
    GaussianDpEvent,
    MixtureOfGaussiansDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from pydantic import FiniteFloat
from scipy.stats import binom

from lazaretto.errors import PlanError
from lazaretto.privacy.mechanism import Mechanism

__all__ = ["dp_sgd"]


def dp_sgd(
    unit: Literal["record", "patient"] = "record",
    clip: Annotated[FiniteFloat, Gt(0)] = 1.0,
    noise_multiplier: Annotated[FiniteFloat, Gt(0)] = 1.0,
    rate: Annotated[float, Gt(0), Le(1)] = 0.1,
    steps: Annotated[int, Ge(1)] = 1,
    appearances: Annotated[int, Ge(1), Le(1000)] = 1,
    quantile: Annotated[float, Gt(0), Lt(1)] | None = None,
    count_noise: Annotated[FiniteFloat, Ge(0)] = 0.0,
) -> Mechanism:
    """DP-SGD: examples sampled by Poisson at a rate, each gradient clipped, Gaussian noise on their sum.

    A step takes each example by itself with probability `rate`, clips its gradient to length `clip` and
    adds noise of standard deviation noise_multiplier · clip to the sum; what it is divided by must not
    depend on how many were taken. Abadi et al. 2016, https://arxiv.org/abs/1607.00133.

    appearances: k, the most examples of a site in which one unit stands (a record in windows that overlap).
        Of these, Binomial(k, rate) are in a step, and the sum moves by that many clips: a mixture of
        Gaussians. Ganesh 2024, https://arxiv.org/abs/2401.10294.
    quantile, count_noise: adaptive clipping; both or neither. A step also gives away how many of its
        gradients are shorter than the clip, as the sum of (1 if short else 0) − 1/2 over its examples, with
        noise of standard deviation count_noise. Sum and count are one Gaussian of noise multiplier
        (noise_multiplier⁻² + (2 · count_noise)⁻²)^(−1/2). Andrew et al. 2021, https://arxiv.org/abs/1905.03871.

    Raises PlanError for one of `quantile` and `count_noise` without the other.

    >>> from lazaretto.privacy.accounting import epsilon_of
    >>> made = dp_sgd(noise_multiplier=1.1, rate=0.01)
    >>> round(epsilon_of(made.event(1000), 1e-5), 2)
    1.52
    """
    if (quantile is None) != (count_noise == 0):
        raise PlanError(
            "adaptive clipping takes a quantile and noise on its count",
            found=f"quantile = {quantile}, count_noise = {count_noise}",
            way_out="give both, or neither",
        )
    precision = noise_multiplier**-2 + (0.0 if quantile is None else (2 * count_noise) ** -2)
    step = _step(precision**-0.5, rate, appearances)
    return Mechanism(
        name="dp_sgd",
        unit=unit,
        clip=clip,
        noise_multiplier=noise_multiplier,
        sampling="poisson",
        rate=rate,
        steps=steps,
        event=lambda number: SelfComposedDpEvent(step, number),
        quantile=quantile,
        count_noise=count_noise,
    )


def _step(noise_multiplier: float, rate: float, appearances: int) -> DpEvent:
    if appearances == 1:
        return PoissonSampledDpEvent(rate, GaussianDpEvent(noise_multiplier))
    taken = range(appearances + 1)
    shares = [float(share) for share in binom.pmf(taken, appearances, rate)]
    total = math.fsum(shares)
    return MixtureOfGaussiansDpEvent(
        noise_multiplier, tuple(float(number) for number in taken), tuple(share / total for share in shares)
    )
