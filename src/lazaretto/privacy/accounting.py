"""What events cost together, how many rounds fit a budget, and which noise keeps to it; by one accountant."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from dp_accounting.dp_event import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    MixtureOfGaussiansDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import privacy_loss_distribution
from scipy.optimize import brentq

from lazaretto.errors import PlanError
from lazaretto.privacy.mechanism import Mechanism

__all__ = ["calibrated", "epsilon_of", "flattened", "rounds_that_fit"]

Counts: TypeAlias = tuple[tuple[DpEvent, int], ...]

_MOST_ROUNDS = 1 << 20
_LEAST_NOISE, _MOST_NOISE = 1e-2, 1e4
_LEAST_PRICED = 1e-3
_TOLERANCE = 1e-3  # of a calibrated noise, relative
_COARSE = 4.0  # how much wider the losses of mixtures lie apart while a search is far from its end


def epsilon_of(event: DpEvent, delta: float) -> float:
    """The ε of an event at a δ, neighbours differing by one unit more or less; infinite without protection.

    From privacy loss distributions (`dp_accounting`): an upper bound. Losses are rounded to a grid which the
    kind of the steps sets, not their number, so that more steps or less noise never come out cheaper. What
    the grid adds is about .001 at the reference points of the tests, and a few parts in a thousand of ε
    elsewhere. Answers are kept: the same question costs nothing again. Koskela et al. 2020, https://arxiv.org/abs/1906.03049;
    Doroshenko et al. 2022 (how losses are rounded), https://arxiv.org/abs/2207.04380.

    event: of Gaussians, Poisson-sampled Gaussians, mixtures of Gaussians, and what composes them.
    delta: in (0, 1). Raises PlanError for another delta, an event of another kind, or numbers out of range.

    >>> from dp_accounting import GaussianDpEvent
    >>> round(epsilon_of(GaussianDpEvent(4.0), 1e-5), 2)
    0.93
    """
    return _priced(event, delta, 1.0)


def rounds_that_fit(
    mechanism: Mechanism,
    other_events: Sequence[DpEvent],
    epsilon: float,
    delta: float,
    repetitions: int = 1,
) -> int:
    """Most rounds of `mechanism.steps` steps that cost at most epsilon together with `other_events`.

    repetitions: of the rounds, all of them composed; `other_events` stand for all of them. 0 where not one
    fits, or the others alone cost more; 1,048,576 where even so many fit.
    """

    def fit(rounds: int) -> bool:
        event = SelfComposedDpEvent(mechanism.event(rounds * mechanism.steps), repetitions)
        return epsilon_of(ComposedDpEvent([event, *other_events]), delta) <= epsilon

    if not fit(1):
        return 0
    fits, fails = 1, 2
    while fit(fails):
        fits, fails = fails, 2 * fails
        if fits >= _MOST_ROUNDS:
            return fits
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if fit(middle) else (fits, middle)
    return fits


def calibrated(
    make: Callable[[float], Mechanism],
    rounds: int,
    other_events: Sequence[DpEvent],
    epsilon: float,
    delta: float,
    repetitions: int = 1,
) -> Mechanism:
    """The mechanism with the least noise whose `rounds` rounds, with `other_events`, cost at most epsilon.

    repetitions: of the rounds, all of them composed; `other_events` stand for all of them.

    make: noise multiplier -> mechanism; more noise must not cost more. The multiplier is the least one to
    .1 %, never below it. Raises PlanError where none up to 10,000 does: the other events cost too much
    by themselves, or something that no noise of this mechanism hides does. Of a mechanism for which .01 is
    enough, that is returned.
    """
    if not epsilon > 0 or rounds < 1 or repetitions < 1:
        raise PlanError(
            "noise is found for some epsilon above 0 and at least 1 round",
            found=(epsilon, rounds, repetitions),
        )

    def over(log_noise: float, coarse: float = 1.0) -> float:
        """How far the cost lies above epsilon, in logarithms; what is infinite or 0 is far away."""
        mechanism = make(math.exp(log_noise))
        event = SelfComposedDpEvent(mechanism.event(rounds * mechanism.steps), repetitions)
        cost = _priced(ComposedDpEvent([event, *other_events]), delta, coarse)
        return math.log(min(max(cost, 1e-12), 1e12) / epsilon)

    low, high = _bracket(lambda x: over(x, _COARSE), epsilon, other_events, delta)
    if low == high:
        return make(math.exp(low))
    # coarse prices find where the root is and how steep the cost falls there; a few exact ones finish
    found = float(brentq(over, low, high, args=(_COARSE,), xtol=_TOLERANCE / 4, rtol=1e-9))
    ahead = 8 * _TOLERANCE
    slope = max((over(found, _COARSE) - over(found + ahead, _COARSE)) / ahead, 1e-3)
    for _ in range(50):
        left = over(found)
        if -_TOLERANCE * slope / 2 <= left <= 0:
            return make(math.exp(found))
        found += left / slope + _TOLERANCE / 8
    raise PlanError(
        "no least noise was found: what this mechanism costs does not fall evenly with its noise",
        found=f"noise multiplier {math.exp(found):.4g}",
        way_out="state the noise instead",
    )


def _bracket(
    over: Callable[[float], float], epsilon: float, other_events: Sequence[DpEvent], delta: float
) -> tuple[float, float]:
    """Logarithms of two noises, one too small and one enough; twice the same where the least is enough."""
    others = epsilon_of(ComposedDpEvent(list(other_events)), delta)
    least, most, log_noise = math.log(_LEAST_NOISE), math.log(_MOST_NOISE), 0.0
    too_small = over(log_noise) > 0
    while (over(log_noise) > 0) == too_small:
        reached = most if too_small else least
        if log_noise == reached and too_small:
            raise PlanError(
                f"no noise multiplier up to {_MOST_NOISE:g} keeps to epsilon {epsilon:g} at delta {delta:g}",
                found=f"what is charged besides costs {others:.4g}",
                way_out="a larger epsilon, fewer rounds, or less that is charged besides training",
            )
        if log_noise == reached:
            return least, least
        log_noise = min(log_noise + math.log(4), most) if too_small else max(log_noise - math.log(4), least)
    return (log_noise - math.log(4), log_noise) if too_small else (log_noise, log_noise + math.log(4))


def flattened(event: DpEvent) -> Mapping[DpEvent, int]:
    """Kinds of steps, each with its number, which together are the event; all Gaussians, say, stand apart.

    What costs nothing is left out. Raises PlanError for a kind that has no price here, and for numbers
    out of range: noise outside [.001, 1e9], shares outside (0, 1], counts below 0.
    """
    found: dict[DpEvent, int] = {}
    _flatten(event, 1, found)
    return MappingProxyType(found)


def _priced(event: DpEvent, delta: float, coarse: float) -> float:
    if not 0 < delta < 1:
        raise PlanError("delta lies between 0 and 1", found=delta, way_out="for example 1e-5")
    return _epsilon(_canonical(flattened(event)), float(delta), coarse)


def _flatten(event: DpEvent, count: int, found: dict[DpEvent, int]) -> None:
    match event:
        case ComposedDpEvent():
            for one in event.events:
                _flatten(one, count, found)
        case SelfComposedDpEvent():
            if (
                isinstance(event.count, bool)
                or not isinstance(event.count, int | np.integer)
                or event.count < 0
            ):
                raise PlanError("an event is repeated a whole number of times", found=event.count)
            if event.count:
                _flatten(event.event, count * int(event.count), found)
        case NoOpDpEvent():
            return
        case _:
            step = _checked(event)
            found[step] = found.get(step, 0) + count


def _checked(event: DpEvent) -> DpEvent:
    """One kind of step, its numbers in range, in a form that can be a key."""
    match event:
        case NonPrivateDpEvent():
            return event
        case GaussianDpEvent():
            return GaussianDpEvent(_noise(event.noise_multiplier))
        case PoissonSampledDpEvent(event=GaussianDpEvent()):
            rate, inner = event.sampling_probability, GaussianDpEvent(_noise(event.event.noise_multiplier))
            if not 0 < rate <= 1:
                raise PlanError("an example is sampled with a probability in (0, 1]", found=rate)
            return inner if rate == 1 else PoissonSampledDpEvent(float(rate), inner)
        case MixtureOfGaussiansDpEvent():
            lengths = tuple(float(length) for length in event.sensitivities)
            shares = tuple(float(share) for share in event.sampling_probs)
            right = len(lengths) == len(shares) > 0 and all(0 <= share <= 1 for share in shares)
            right = right and all(0 <= length < math.inf for length in lengths)
            if not (right and math.isclose(sum(shares), 1) and _mean_length(lengths, shares) > 0):
                raise PlanError(
                    "a mixture needs lengths from 0 on, with shares that add up to 1", found=event
                )
            return MixtureOfGaussiansDpEvent(_noise(event.standard_deviation), lengths, shares)
    raise PlanError(
        "this event has no price here",
        found=type(event).__name__,
        way_out="Gaussians, sampled by Poisson or not, mixtures of Gaussians, and what composes them",
    )


def _noise(noise_multiplier: float) -> float:
    if not _LEAST_PRICED <= noise_multiplier <= 1 / _LEAST_PRICED**3:
        raise PlanError(
            "a noise multiplier is priced from .001 to 1e9",
            found=noise_multiplier,
            way_out="no noise, or next to none, is NonPrivateDpEvent",
        )
    return float(noise_multiplier)


def _canonical(counts: Mapping[DpEvent, int]) -> Counts:
    """All Gaussians as one, which is exact: precisions add up. The rest sorted: their order is no matter."""
    precision = sum(
        count / event.noise_multiplier**2
        for event, count in counts.items()
        if isinstance(event, GaussianDpEvent)
    )
    rest = [(event, count) for event, count in counts.items() if not isinstance(event, GaussianDpEvent)]
    together = [(GaussianDpEvent(precision**-0.5), 1)] if precision > 0 else []
    return (*together, *sorted(rest, key=repr))


@lru_cache(maxsize=4096)
def _epsilon(counts: Counts, delta: float, coarse: float) -> float:
    if any(isinstance(event, NonPrivateDpEvent) for event, _ in counts):
        return math.inf
    if not counts:
        return 0.0
    grid = _grid(counts, coarse)
    total = privacy_loss_distribution.identity(value_discretization_interval=grid)
    for event, count in counts:
        losses = _losses(event, grid)
        total = total.compose(losses.self_compose(count) if count > 1 else losses)
    return float(total.get_epsilon_for_delta(delta))


@lru_cache(maxsize=128)
def _losses(event: DpEvent, grid: float) -> Any:
    """Distribution of one step's privacy loss, for one unit more and for one less."""
    if isinstance(event, MixtureOfGaussiansDpEvent):
        return privacy_loss_distribution.from_mixture_gaussian_mechanism(
            event.standard_deviation,
            event.sensitivities,
            event.sampling_probs,
            value_discretization_interval=grid,
        )
    share = event.sampling_probability if isinstance(event, PoissonSampledDpEvent) else 1.0
    inner = event.event if isinstance(event, PoissonSampledDpEvent) else event
    return privacy_loss_distribution.from_gaussian_mechanism(
        inner.noise_multiplier, sampling_prob=share, value_discretization_interval=grid
    )


def _grid(counts: Counts, coarse: float) -> float:
    """Width between the losses that are told apart: the finest that any kind of step asks for.

    What rounding adds to ε is about half a squared width a step. A width in proportion to the spread of
    one step's loss thus adds the same share of ε however many steps there are; the one Gaussian is a
    single step, and asks for nothing where there are others. The second term only keeps sums that are
    beyond any use (an ε of hundreds) from filling the memory.
    """
    spread = sum(count * _spread(event) ** 2 for event, count in counts)
    others = [event for event, _ in counts if not isinstance(event, GaussianDpEvent)]
    finest = min(_width(event, coarse) for event in others or [event for event, _ in counts])
    return max(finest, (spread / 2 + 10 * math.sqrt(spread)) / 1e6)


def _width(event: DpEvent, coarse: float) -> float:
    """The width one kind of step asks for, but for at most so many losses (mixtures are slow to invert)."""
    if isinstance(event, MixtureOfGaussiansDpEvent):
        share, least, most = 0.1 * coarse, 5e-4 * coarse, 5_000 / coarse
        noise, length = float(event.standard_deviation), max(event.sensitivities)
    elif isinstance(event, PoissonSampledDpEvent):
        share, least, most = 0.05, 1e-4, 50_000.0
        noise, length = float(event.event.noise_multiplier), 1.0
    else:
        share, least, most = 0.02, 1e-4, 50_000.0
        noise, length = float(event.noise_multiplier), 1.0
    largest = (length**2 + 18 * noise * length) / (2 * noise**2)  # at nine standard deviations
    return float(max(share * _spread(event), least, largest / most))


def _spread(event: DpEvent) -> float:
    """Standard deviation of one step's loss where the noise is large; below it where it is small."""
    if isinstance(event, MixtureOfGaussiansDpEvent):
        return _mean_length(event.sensitivities, event.sampling_probs) / float(event.standard_deviation)
    if isinstance(event, PoissonSampledDpEvent):
        return float(event.sampling_probability / event.event.noise_multiplier)
    return float(1 / event.noise_multiplier)


def _mean_length(lengths: Sequence[float], shares: Sequence[float]) -> float:
    return sum(length * share for length, share in zip(lengths, shares, strict=True))
