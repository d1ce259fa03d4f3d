"""DP-FTRL at a site: a fixed order instead of sampling, and noise that later steps take back in part."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from dp_accounting.dp_event import DpEvent, GaussianDpEvent, NoOpDpEvent
from jax_privacy.matrix_factorization import toeplitz
from numpy.typing import NDArray
from pydantic import FiniteFloat

from lazaretto.errors import InputError, PlanError
from lazaretto.privacy.mechanism import Mechanism

__all__ = ["correlated", "dp_ftrl"]


def dp_ftrl(
    unit: Literal["record", "patient"] = "record",
    clip: Annotated[FiniteFloat, Gt(0)] = 1.0,
    noise_multiplier: Annotated[FiniteFloat, Gt(0)] = 1.0,
    rate: Annotated[float, Gt(0), Le(1)] = 0.1,
    steps: Annotated[int, Ge(1)] = 1,
    bands: Annotated[int, Ge(1), Le(1000)] = 4,
    total_steps: Annotated[int, Ge(1), Le(100_000)] = 100,
    appearances: Annotated[int, Ge(1), Le(1000)] = 1,
) -> Mechanism:
    """DP-FTRL: examples in a fixed order, with noise correlated over steps; needs no sampling.

    The noise of the steps y solves C y = z, z independent of standard deviation noise_multiplier · clip, C a
    banded lower triangular Toeplitz matrix of norm-1 columns, the best such one for the mean error of the
    sums of gradients over `total_steps` steps. n steps are one Gaussian of noise multiplier
    noise_multiplier / s, where s is the largest length of C u over sets u of steps with at least b = 1 / rate
    between any two; so the price depends on n as a whole, and two halves of a run do not add up to it.
    Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153; McKenna 2024 (Toeplitz),
    https://arxiv.org/abs/2405.15913.

    An example must keep its steps whether others are there or not: its turn in a pass comes of its own name
    (`draws.turn_rows`), not of how many stand before it.

    rate: 1 / b for a whole number of steps b, a pass. bands: b̂ of C, at most b. total_steps: of the whole
    run, for which C is best; more or fewer are priced rightly. appearances: the most examples of a site in
    which one unit stands; lengths add up, so the cost is that of noise so many times smaller.

    Raises PlanError for a rate that is not 1 / b, and for more bands than b.

    >>> made = dp_ftrl(noise_multiplier=4.0, rate=0.1, bands=1, total_steps=100)
    >>> made.kernel
    (1.0,)
    >>> made.event(90).noise_multiplier  # nine participations: 4 / 3
    1.3333333333333333
    """
    apart = round(1 / rate)
    if abs(rate * apart - 1) > 1e-6:
        raise PlanError(
            "in a fixed order a pass is a whole number of steps",
            found=f"rate = {rate}",
            way_out=f"1 / {apart} = {1 / apart:.8g}",
        )
    if bands > apart:
        raise PlanError(
            "noise may be correlated over at most one pass",
            found=f"bands = {bands}, {apart} steps to a pass",
            way_out=f"bands of at most {apart}, or a smaller rate",
        )
    kernel = _kernel(total_steps, min(bands, total_steps))

    def event(number: int) -> DpEvent:
        if number == 0:
            return NoOpDpEvent()
        return GaussianDpEvent(noise_multiplier / (appearances * _sensitivity(kernel, number, apart)))

    return Mechanism(
        name="dp_ftrl",
        unit=unit,
        clip=clip,
        noise_multiplier=noise_multiplier,
        sampling="fixed_order",
        rate=1 / apart,
        steps=steps,
        event=event,
        kernel=kernel,
    )


@lru_cache(maxsize=64)
def _kernel(total_steps: int, bands: int) -> tuple[float, ...]:
    """The best kernel, of length 1 in float64; computed once, as it takes seconds."""
    if bands == 1:
        return (1.0,)
    found = np.asarray(toeplitz.optimize_banded_toeplitz(total_steps, bands), np.float64)
    return tuple((found / np.linalg.norm(found)).tolist())


def _sensitivity(kernel: tuple[float, ...], steps: int, apart: int) -> float:
    """Largest length of C u over sets u of steps at least `apart` from each other.

    With no more bands than steps apart, the columns of a set are orthogonal, so squared lengths add up; the
    worst set starts at once and waits no longer than it must. All its columns are whole but the last.
    """
    whole = -(-steps // apart) - 1
    squares = np.square(np.asarray(kernel, np.float64))
    return math.sqrt(whole * squares.sum() + squares[: steps - whole * apart].sum())


def correlated(
    z: NDArray[np.float64], kernel: tuple[float, ...], before: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The noise y [n, d] of n steps from independent z [n, d], and what the next steps need; float64.

    before [b - 1, d]: the last b - 1 noises, newest last, zeros before the first step; b = len(kernel).
    However a run is cut into rounds, all y together solve C y = z for the whole z.
    Raises InputError for other sizes and for what is not finite.
    """
    bands = len(kernel)
    if z.ndim != 2 or before.shape != (bands - 1, z.shape[1]):
        raise InputError(
            "noise is [n, d], and what came before it [bands - 1, d]",
            found=f"{z.shape}, {before.shape} and {bands} bands",
        )
    if not (np.isfinite(z).all() and np.isfinite(before).all() and kernel[0] > 0):
        raise InputError("noise is finite, and the first coefficient of its kernel above 0", found=kernel)
    coefficients = np.asarray(kernel[:0:-1], np.float64)  # of the oldest noise first
    y = np.concatenate([before, np.zeros_like(z, np.float64)])
    for step, fresh in enumerate(z):
        y[step + bands - 1] = (fresh - coefficients @ y[step : step + bands - 1]) / kernel[0]
    return y[bands - 1 :], y[len(y) - (bands - 1) :].copy()
