"""An alarm threshold that a minority of sites moves no further than honest sites differ.

A threshold read from summed counts is at the mercy of each site: who says that all its normal steps score
highest, and is more than `false_positive_rate` of what is counted, silences everyone's alarms. Of sites' own
thresholds the median lies between the least and the largest of honest sites' as long as these are the
majority of who votes. It can be had of a sum, too, if that is a sum of ballots with one mark each
(`lazaretto.secagg.ballots` sees to that unseen).

The price: a site has one vote, however many steps it counts, so what the threshold lets through is the rate
at the site in the middle, not of all steps: where large sites score higher than small ones, several times as
much. And of n normal steps a site's own threshold lets k = floor(rate * n) pass, of later ones
(k + 1) / (n + 1) on average: twice what was asked where n is 100 and the rate .01. A site that saw less than
a few device-days says little of one alarm a day. Votes stand on a grid of 3 %, rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError, RoundRefused
from lazaretto.evaluate.operating import EDGES, score_counts, threshold_from_counts
from lazaretto.types import Array, Int

__all__ = [
    "CHOICES",
    "FEWEST_VOTERS",
    "choice_of",
    "median_threshold",
    "own_threshold",
    "threshold_ballot",
    "threshold_from_ballots",
]

_GRID = EDGES[::16]  # fewer places: fewer lone marks, and fewer bytes
_INFINITE = len(_GRID)
_NO_VOTE = _INFINITE + 1
CHOICES = _NO_VOTE + 1  # the grid, "none is high enough", and "no normal step here"
FEWEST_VOTERS = 3  # below which a vote that nobody sees would show one


def own_threshold(score: NDArray[np.floating], rate: float) -> float | None:
    """A site's own threshold from its normal scores [n], as `threshold_from_counts`; None where n is 0."""
    return threshold_from_counts(score_counts(score), rate) if score.size else None


def threshold_ballot(threshold: float | None) -> Int:
    """[1, CHOICES] one mark: the next place of the grid that is as high, infinity, or no vote (None).

    Raises DataError for NaN.
    """
    if threshold is not None and np.isnan(threshold):
        raise DataError("a threshold is a number", found=threshold)
    place = _NO_VOTE if threshold is None else int(np.searchsorted(_GRID, threshold))
    marked: Int = (np.arange(CHOICES) == place).astype(np.int64)[None]
    return marked


def choice_of(value: Array) -> int | None:
    """The place that a message of a site names, or None where it names none: one whole number in range."""
    given = np.asarray(value)
    if given.shape != (1,) or given.dtype.kind not in "ui" or not 0 <= int(given[0]) < CHOICES:
        return None
    return int(given[0])


def threshold_from_ballots(total: Int, fewest: int = 1) -> float:
    """The median of summed ballots [1, CHOICES], of an even number the larger of the two in the middle.

    So at least half of the voters let no more normal steps through than was asked. With fewer hostile voters
    than honest ones it lies between the least and the largest of the honest ones' own, rounded up to the
    grid. fewest: voters, below which there is no threshold. Raises DataError where nobody voted, RoundRefused
    where too few did.
    """
    votes = total[0, :_NO_VOTE]
    voters = int(votes.sum())
    if voters == 0:
        raise DataError(
            "no normal validation step to set a threshold from",
            way_out="raise split.validation, or add normal data",
        )
    if voters < fewest:
        raise RoundRefused(
            "too few sites have normal validation steps for a vote that shows none of them",
            found=f"{voters} voters, {fewest} are needed",
            way_out="raise split.validation, or add normal data",
        )
    place = int((np.cumsum(votes) <= voters // 2).sum())
    return float(_GRID[place]) if place < _INFINITE else float("inf")


def median_threshold(own: Sequence[float | None]) -> float:
    """`threshold_from_ballots` of what sites with these thresholds would say. Raises DataError as it does."""
    total = np.zeros((1, CHOICES), np.int64)
    return threshold_from_ballots(sum((threshold_ballot(one) for one in own), total))
