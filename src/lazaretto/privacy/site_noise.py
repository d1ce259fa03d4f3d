"""Noise on the sum of what the sites send: protects a site as a whole, from whoever sees the sum alone."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Le
from dp_accounting.dp_event import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from pydantic import FiniteFloat

from lazaretto.privacy.mechanism import Mechanism

__all__ = ["site_noise"]


def site_noise(
    clip: Annotated[FiniteFloat, Gt(0)] = 1.0,
    noise_multiplier: Annotated[FiniteFloat, Gt(0)] = 1.0,
    rate: Annotated[float, Gt(0), Le(1)] = 1.0,
) -> Mechanism:
    """Gaussian noise on the sum of clipped updates, for whole sites; where a weight depends on its row alone.

    Each update is cut to length `clip`, weighed by at most 1 by itself, and the sum gets noise of standard
    deviation noise_multiplier · clip. Its mean is over rate · n for n sites in all, whoever came, so one
    site more or less moves it by at most clip / (rate · n), and the noise on it is noise_multiplier times
    that. A round is one step. Not for rules whose weights depend on other rows, nor against parties that
    see single updates or their inner products. McMahan et al. 2018, https://arxiv.org/abs/1710.06963.

    rate: the chance of each site to take part in a round, drawn by itself and kept from the parties
    protected against; 1: everyone takes part.

    >>> from lazaretto.privacy.accounting import epsilon_of
    >>> round(epsilon_of(site_noise(noise_multiplier=4.0).event(1), 1e-5), 2)
    0.93
    """
    once = GaussianDpEvent(noise_multiplier)
    step = once if rate == 1 else PoissonSampledDpEvent(rate, once)
    return Mechanism(
        name="site_noise",
        unit="site",
        clip=clip,
        noise_multiplier=noise_multiplier,
        sampling="everyone" if rate == 1 else "poisson",
        rate=rate,
        steps=1,
        event=lambda number: SelfComposedDpEvent(step, number),
    )
