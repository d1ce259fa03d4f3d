"""One-run canary audit: does one training run show more about who was in than its epsilon allows?

m canaries are put in or left out by independent fair coins; an attacker who sees what the run gave away
guesses for some of them. A mechanism that keeps (ε, δ) bounds how many guesses can be right (Steinke, Nasr,
Jagielski 2023, arXiv:2305.08846), so too many right ones refute it. The statistics are those of
`jax_privacy.auditing`; which canaries are guessed follows from their scores alone and from counts set
beforehand, never from who was in, so that the bound needs no correction but for the number of counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jax_privacy.auditing import CanaryScoreAuditor, Explicit
from numpy.typing import NDArray

from lazaretto.errors import DataError

__all__ = [
    "CanaryAudit",
    "canary_audit",
    "canary_directions",
    "gradient_scores",
    "included_by_coins",
    "loss_scores",
]

_Floats = NDArray[np.float64]
_SIGNIFICANCE = 0.05
_LEAST_CANARIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryAudit:
    """What the canaries of one run show. `caught` refutes the claim at 95 %; not caught proves nothing.

    canaries: m.  guesses, correct: of the count of guesses that gave the bound.
    epsilon_lower: at least so much ε the run has, at 95 % and at `delta`.
    epsilon_most: the bound had every guess been right. Where it does not pass `epsilon` the audit had no
        chance (`able` is False) and needs more canaries.
    epsilon, delta: what the run claims.  gaussian: whether the bound is that for mechanisms no worse than a
        Gaussian one (see `canary_audit`).
    """

    canaries: int
    guesses: int
    correct: int
    epsilon_lower: float
    epsilon_most: float
    epsilon: float
    delta: float
    gaussian: bool

    @property
    def caught(self) -> bool:
        """Whether the run gave away more than it claims."""
        return self.epsilon_lower > self.epsilon

    @property
    def able(self) -> bool:
        """Whether this audit could have caught a run that hides nothing."""
        return self.epsilon_most > self.epsilon


def included_by_coins(canaries: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which of the canaries are put into training, [m] bool: a fair coin for each, as the audit needs it."""
    _enough(canaries)
    return np.asarray(rng.random(canaries) < 0.5)


def canary_directions(canaries: int, dimensions: int, clip: float, rng: np.random.Generator) -> _Floats:
    """Gradients [m, d] of made-up examples: random directions of length `clip`, > 0, the most that one may
    send.

    They stand in for examples whose gradients point nowhere that the others' do. Well told apart where d is
    at least ten times m. Raises DataError on a wrong number.
    """
    _enough(canaries)
    if dimensions < 1 or not (clip > 0 and math.isfinite(clip)):
        raise DataError(
            "canaries need a length and a space",
            found=f"clip {clip}, dimensions {dimensions}",
            way_out="both positive",
        )
    drawn = rng.standard_normal((canaries, dimensions))
    return np.asarray(drawn * (clip / np.linalg.norm(drawn, axis=1, keepdims=True)))


def gradient_scores(steps: Iterable[tuple[Any, Any]], ridge: float = math.inf) -> _Floats:
    """White box: scores [m] of an observer who sees each step's noisy sum and knows each canary's gradient.

    steps: of each step the noisy sum [d], and the canaries' clipped gradients [m, d] at that step's model.
    What the observer knows besides (the sum of the other examples) is best subtracted before. The score is
    the sum over steps of their inner products, which is the best where gradients point apart.
    ridge: above 0 and finite, each step is solved for who was in it instead, by least squares with that
    penalty (in mean squared lengths of gradients). A small one, .01, tells canaries apart whose gradients
    point alike, where little noise or none lies on them. To be set before the scores are seen.
    Raises DataError where shapes do not fit, a number is not finite, or ridge is not above 0.
    """
    if not ridge > 0:
        raise DataError("gradient_scores: ridge", found=ridge, way_out="above 0; infinity for inner products")
    total: _Floats | None = None
    for at, (noisy, clipped) in enumerate(steps):
        given, gradients = np.asarray(noisy, np.float64), np.asarray(clipped, np.float64)
        fits = given.ndim == 1 and gradients.ndim == 2 and gradients.shape[1] == given.shape[0]
        if not fits or (total is not None and len(total) != len(gradients)):
            raise DataError(
                f"gradient_scores: step {at} does not fit",
                found=f"sum {given.shape}, gradients {gradients.shape}",
                way_out="[d] and [m, d], of the same m at every step",
            )
        now = gradients @ given
        if math.isfinite(ridge):
            inner = gradients @ gradients.T
            penalty = ridge * max(float(np.trace(inner)) / len(inner), 1e-300)
            now = np.asarray(np.linalg.solve(inner + penalty * np.eye(len(inner)), now), np.float64)
        total = now if total is None else total + now
    if total is None:
        raise DataError("gradient_scores: no step was seen", way_out="give at least one step")
    return _finite("scores", total)


def loss_scores(before: Any, after: Any) -> _Floats:
    """Black box: how far each canary's loss fell, [m], by the losses [m] before and after training.

    Raises DataError where they do not fit or are not finite.
    """
    first, last = _finite("losses before", before), _finite("losses after", after)
    if first.shape != last.shape:
        raise DataError(
            "loss_scores: two losses of each canary are needed",
            found=f"{first.shape} and {last.shape}",
            way_out="one length",
        )
    return first - last


def canary_audit(
    included: Any,
    scores: Any,
    rng: np.random.Generator,
    *,
    epsilon: float,
    delta: float,
    gaussian: bool,
    shares: Sequence[float] = (1.0, 0.3, 0.1),
) -> CanaryAudit:
    """What ε at least the run has, by how well its scores tell the canaries that were in.

    included [m] bool: fair coins, m >= 20 (`included_by_coins`). scores [m]: larger means "was in". rng:
    orders equal scores. epsilon >= 0 and delta in (0, 1): the claim that one example more or less is told no
    better by.
    shares: of the canaries, in (0, 1], how many are guessed: half of that many with the largest scores are
    said to have been in, half with the smallest to have been out. All of `shares` are tried, each at 5 %
    divided by their number; they must be set before the scores are seen.
    gaussian: False gives the bound that holds for any mechanism (Steinke et al. 2023, theorem 5.2): never
    above about ln(m / 3), and loose where m · delta is not far below .01. True gives the one for mechanisms
    whose trade-off curve is no worse than that of the Gaussian mechanism with the same (ε, δ) (Mahloujifar,
    Melis, Chaudhuri 2024, arXiv:2410.22235): hundreds of canaries then refute an ε of 8. Many steps of DP-SGD
    are such a mechanism, in all but the tail below δ (a test compares the curves); few steps at a small rate
    may not be. Raises DataError where arrays do not fit or a number is out of range.
    """
    inside, values = np.asarray(included), _finite("scores", scores)
    if inside.dtype != np.bool_ or inside.shape != values.shape:
        raise DataError(
            "canary_audit: `included` has to say of each score whether that canary was in",
            found=f"{inside.dtype} {inside.shape}, scores {values.shape}",
            way_out="two arrays [m], the first of bool",
        )
    m = len(values)
    _enough(m)
    if not (epsilon >= 0 and 0 < delta < 1):
        raise DataError(
            "canary_audit: no such claim",
            found=f"epsilon {epsilon}, delta {delta}",
            way_out="epsilon >= 0, delta above 0 and below 1",
        )
    if not shares or not all(0 < share <= 1 for share in shares):
        raise DataError(
            "canary_audit: shares of canaries to guess", found=tuple(shares), way_out="some, in (0, 1]"
        )
    rank = np.empty(m, np.int64)
    rank[np.lexsort((rng.random(m), values))] = np.arange(m)
    right = (rank >= m - m // 2) == inside
    sure = np.maximum(rank, m - 1 - rank)  # the further from the middle, the surer
    # Two canaries are never guessed: the library asks for one on either side.
    counts = sorted({max(2, min(m - m % 2 - 2, 2 * round(share * m / 2))) for share in shares})
    significance = _SIGNIFICANCE / len(counts)

    def bound(count: int, correct: int) -> float:
        return _lower(m, count, correct, significance, delta, gaussian)

    found = [(count, int(right[sure >= m - count // 2].sum())) for count in counts]
    bounds = [bound(*pair) for pair in found]
    best = int(np.argmax(bounds))
    return CanaryAudit(
        canaries=m,
        guesses=found[best][0],
        correct=found[best][1],
        epsilon_lower=bounds[best],
        epsilon_most=bound(counts[-1], counts[-1]),
        epsilon=float(epsilon),
        delta=float(delta),
        gaussian=gaussian,
    )


@lru_cache(maxsize=256)  # seconds each, and one run after the other asks for the best of all cases
def _lower(m: int, guesses: int, correct: int, significance: float, delta: float, gaussian: bool) -> float:
    """The library's bound for so many right guesses of so many, of m canaries.

    The library guesses on one side only, "was in". It counts the scores above a threshold among those in and
    among those out; given the right guesses for the first and the wrong ones for the second, it counts just
    what theorem 5.2 does for guesses on both sides.
    """
    wrong, left = guesses - correct, m - guesses
    right_scores = np.repeat([1.0, 0.0], [correct, left - 1])
    wrong_scores = np.repeat([1.0, 0.0], [wrong, 1])
    auditor = CanaryScoreAuditor(right_scores, wrong_scores)
    method = auditor.epsilon_one_run_fdp if gaussian else auditor.epsilon_one_run
    return float(method(significance, delta, threshold_strategy=Explicit(0.5)))


def _enough(canaries: int) -> None:
    if canaries < _LEAST_CANARIES:
        raise DataError(
            "too few canaries for an audit", found=canaries, way_out=f"at least {_LEAST_CANARIES}; hundreds"
        )


def _finite(name: str, values: Any) -> _Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise DataError(f"{name} must be finite numbers", found=array.shape, way_out="an array [m]")
    return array
