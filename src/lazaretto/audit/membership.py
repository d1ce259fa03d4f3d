"""Membership inference: by a record's losses, was it in training?

The floor is the loss threshold (Yeom, Giacomelli, Fredrikson, Jha 2018, arXiv:1709.01604); the attack is LiRA
(Carlini et al. 2022, arXiv:2112.03570), online, with few shadow models. What counts is how many members are
named while hardly anybody else is: the true positive rate at .1 % and 1 % false positives.

Shapes: n records, r = shadows + 1 trainings with the target's in row 0, T steps of a record's sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from lazaretto.errors import DataError

__all__ = [
    "FALSE_POSITIVE_RATES",
    "LEAST_RECORDS",
    "Interval",
    "MembershipAudit",
    "Shadows",
    "attack",
    "confidences",
    "lira_scores",
    "loss_threshold_scores",
    "membership_audit",
]

FALSE_POSITIVE_RATES = (0.001, 0.01)
LEAST_RECORDS = 1000  # members, and non-members: below, .1 % of them is less than one
_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]
_SMALLEST_LOSS = 2.0**-24  # what float32 can tell a probability from 1 by
_SMALLEST_SPREAD = 1e-6
_OWN_SPREAD_FROM = 64  # models on either side from which a record's own spread is known well enough
_REPLICATES = 1000


class Interval(NamedTuple):
    """A value with its interval of 95 %."""

    value: float
    low: float
    high: float


class Shadows(NamedTuple):
    """What was trained: losses [r, n] or [r, n, T], member [r, n] bool. Row 0 is the target's."""

    losses: _Floats
    member: _Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipAudit:
    """What an attack reached on the target. No better than chance: AUROC .5, and each rate equal to its key.

    true_positives: false positive rate -> share of members named at it.  members, non_members: how many.
    """

    true_positives: dict[float, Interval]
    auroc: Interval
    members: int
    non_members: int

    @property
    def enough(self) -> bool:
        """Whether there are enough records to tell the smallest false positive rate."""
        return min(self.members, self.non_members) >= LEAST_RECORDS


def confidences(losses: Any) -> _Floats:
    """How sure a model is of a record's labels: logits log(p / (1 - p)) of p = exp(-loss), [...] or, of steps
    [..., T], their mean over T.

    losses >= 0 are cross-entropies. Logits, as they are closer to normal than probabilities or losses
    (Carlini et al. 2022, section IV-C). Of a sequence the mean of the steps' logits, not the logit of the
    mean loss: that would hang on the one step that the model gets most wrong, while a mean of many is closer
    still to normal. NaN is a step that is not judged; a record needs one that is. Raises DataError on other
    losses.
    """
    values = np.asarray(losses, np.float64)
    known = np.isfinite(values)
    if values.ndim < 2 or (values[known] < 0).any() or not (known | np.isnan(values)).all():
        raise DataError(
            "losses must be cross-entropies",
            found=f"shape {values.shape}, least {np.nanmin(values) if known.any() else 'none'}",
            way_out="[r, n] or [r, n, T], at least 0, finite; NaN for a step that is not judged",
        )
    if not (known if values.ndim == 2 else known.any(axis=-1)).all():
        raise DataError("a record has no judged step", way_out="leave it out of the audit")
    # expm1 overflows beyond 700, where the logit is the loss with a minus
    floored = np.clip(np.where(known, values, 1.0), _SMALLEST_LOSS, None)
    logits = np.where(floored < 30, -np.log(np.expm1(np.minimum(floored, 30))), -floored)
    if values.ndim == 2:
        return np.asarray(logits)
    return np.asarray(np.where(known, logits, 0).sum(axis=-1) / known.sum(axis=-1))


def loss_threshold_scores(losses: Any) -> _Floats:
    """The floor: [n], larger means "was in", from the target's losses alone (row 0)."""
    confidences(losses)  # refuses what are no losses
    target = np.asarray(losses, np.float64)[0]
    return np.asarray(-target if target.ndim == 1 else -np.nanmean(target, axis=-1))


def lira_scores(losses: Any, member: Any) -> _Floats:
    """LiRA online: [n], the log of how much likelier the target's confidence is had the record been in.

    losses [r, n] or [r, n, T], member [r, n] bool as of `Shadows`; each record needs two shadow models that
    had it and two that had not. On either side, in and out, a record's confidence is normal around its own
    mean; the spread is that within records, pooled over all, until a record has 64 models on either side. The
    mean of few models is itself uncertain: it is drawn towards the mean of all records as far as they do not
    differ by more than that (empirical Bayes), and what is left of the doubt widens the spread. Raises
    DataError where that does not fit.
    """
    values, inside = confidences(losses), np.asarray(member)
    if inside.dtype != np.bool_ or inside.shape != values.shape:
        raise DataError(
            "lira_scores: `member` has to say of each training who was in",
            found=f"{inside.dtype} {inside.shape}, losses {values.shape}",
            way_out="two arrays [r, n], the second of bool",
        )
    target, shadows, had = values[0], values[1:], inside[1:]
    fewest = int(min(had.sum(axis=0).min(), (~had).sum(axis=0).min())) if len(had) else 0
    if fewest < 2:
        raise DataError(
            "lira_scores: too few shadow models",
            found=f"a record was in, or out of, {fewest}",
            way_out="at least four, each record in half of them",
        )
    sides = [_log_density(target, shadows, who) for who in (had, ~had)]
    return np.asarray(sides[0] - sides[1])


def _log_density(target: _Floats, shadows: _Floats, who: _Bools) -> _Floats:
    """Of the target's confidences [n], had each record been on this side, `who` [shadows, n], of training."""
    count = who.sum(axis=0)
    mean = np.where(who, shadows, 0).sum(axis=0) / count
    squares = np.where(who, np.square(shadows - mean), 0).sum(axis=0)
    if count.min() >= _OWN_SPREAD_FROM:
        variance = squares / (count - 1)
    else:
        variance = np.full(len(mean), squares.sum() / (count - 1).sum())
    error = variance / count  # of a record's mean
    apart = max(float(mean.var() - error.mean()), 0.0)  # what records truly differ by
    own = apart / np.maximum(apart + error, _SMALLEST_SPREAD**2)
    expected = mean.mean() + own * (mean - mean.mean())
    spread = np.sqrt(np.maximum(variance + own * error, _SMALLEST_SPREAD**2))
    return np.asarray(scipy.stats.norm.logpdf(target, expected, spread))


def membership_audit(scores: Any, member: Any, rng: np.random.Generator) -> MembershipAudit:
    """What scores [n] tell of who was in, member [n] bool, with intervals of 95 %.

    A rate is the largest share of members above a threshold that at most so many non-members pass; the
    attacker is given the best threshold, which a real one would have to guess. Its interval is the wider, at
    either end, of a bootstrap of members and of non-members (the threshold moves too) and of Clopper and
    Pearson's (a bootstrap of none is certain of none). rng draws the bootstrap. Raises DataError where scores
    are not finite, or nobody was in, or out.
    """
    values, inside = np.asarray(scores, np.float64), np.asarray(member)
    if values.ndim != 1 or inside.shape != values.shape or inside.dtype != np.bool_:
        raise DataError(
            "membership_audit: scores [n] and member [n] of bool",
            found=f"{values.shape}, {inside.dtype} {inside.shape}",
            way_out="one of each per record",
        )
    if not np.isfinite(values).all() or inside.all() or not inside.any():
        raise DataError(
            "membership_audit needs finite scores of members and of non-members",
            found=f"{inside.sum()} members of {len(inside)}, {(~np.isfinite(values)).sum()} not finite",
            way_out="train the target on half of the records",
        )
    within, without = np.sort(values[inside]), np.sort(values[~inside])
    drawn = [
        (
            np.sort(within[rng.integers(len(within), size=len(within))]),
            np.sort(without[rng.integers(len(without), size=len(without))]),
        )
        for _ in range(_REPLICATES)
    ]
    found = {}
    for rate in FALSE_POSITIVE_RATES:
        named = _named_at(rate, within, without)
        exact = scipy.stats.binomtest(named, len(within)).proportion_ci(0.95, method="exact")
        drawn_rates = np.array([_named_at(rate, *pair) for pair in drawn]) / len(within)
        low, high = np.quantile(drawn_rates, [0.025, 0.975])
        found[rate] = Interval(named / len(within), float(min(low, exact.low)), float(max(high, exact.high)))
    low, high = np.quantile([_area(*pair) for pair in drawn], [0.025, 0.975])
    return MembershipAudit(
        true_positives=found,
        auroc=Interval(_area(within, without), float(low), float(high)),
        members=len(within),
        non_members=len(without),
    )


def _named_at(rate: float, within: _Floats, without: _Floats) -> int:
    """Members above the lowest threshold that at most `rate` of the non-members pass. Both are sorted."""
    allowed = int(rate * len(without) + 1e-9)
    if allowed >= len(without):
        return len(within)
    return int(len(within) - np.searchsorted(within, without[len(without) - 1 - allowed], side="right"))


def _area(within: _Floats, without: _Floats) -> float:
    """AUROC: the share of pairs in which the member scores higher, ties counting half. Both are sorted."""
    below, up_to = (np.searchsorted(without, within, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(without)))


def attack(train: Callable[[_Bools, int], Any], n: int, shadows: int, rng: np.random.Generator) -> Shadows:
    """Train the target and its shadows: what the scores above are made of.

    train: (member [n] bool, seed) -> losses [n] or [n, T] of all records under a model trained on the members
    alone. The target is trained on a random half of the records; every record is in one half of the shadows,
    by chance which. n >= 4; shadows: an even number, at least 4. Raises DataError on other numbers, or where
    `train` gives no loss for each record.
    """
    if n < 4 or shadows < 4 or shadows % 2:
        raise DataError(
            "attack: too few records or shadow models",
            found=f"{n} records, {shadows} shadow models",
            way_out="at least 4 records, an even number of at least 4 shadow models",
        )
    target = rng.permutation(n) < n // 2
    order = rng.random((shadows, n)).argsort(axis=0)
    member = np.concatenate([target[None], order < shadows // 2])
    losses = []
    for row in member:
        found = np.asarray(train(row, int(rng.integers(2**31))), np.float64)
        if found.shape[:1] != (n,):
            raise DataError(
                "attack: training has to give a loss of every record",
                found=found.shape,
                way_out=f"[{n}, ...]",
            )
        losses.append(found)
    return Shadows(np.stack(losses), member)
