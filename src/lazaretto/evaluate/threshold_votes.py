"""An alarm threshold that a minority of sites cannot move: the median of the sites' own.

A threshold read from summed counts is at the mercy of each site: who says that all its normal steps score
highest, and is more than `false_positive_rate` of what is counted, silences everyone's alarms. Of sites' own
thresholds the median lies between the least and the largest of honest sites' as long as these are the
majority of who votes. It can be had of a sum, too, if that is a sum of ballots with one mark each
(`lazaretto.secagg.ballots` sees to that unseen). The price: a site has one vote, however many steps it
counts, so what the threshold lets through is `false_positive_rate` at the site in the middle, not of all
steps; and a site with fewer normal steps than 1 / `false_positive_rate` votes for its largest score, which
is too low.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.evaluate.operating import EDGES, score_counts, threshold_from_counts
from lazaretto.types import Int

__all__ = ["CHOICES", "median_threshold", "own_threshold", "threshold_ballot", "threshold_from_ballots"]

_INFINITE = len(EDGES)
_NO_VOTE = _INFINITE + 1
CHOICES = _NO_VOTE + 1  # the edges, "none is high enough", and "no normal step here"


def own_threshold(score: NDArray[np.floating], rate: float) -> float | None:
    """A site's own threshold from its normal scores [n], as `threshold_from_counts`; None where n is 0."""
    return threshold_from_counts(score_counts(score), rate) if score.size else None


def threshold_ballot(threshold: float | None) -> Int:
    """[1, CHOICES] one mark: at an edge (`own_threshold` gives edges), for infinity, or for no vote."""
    if threshold is None:
        place = _NO_VOTE
    else:
        place = _INFINITE if np.isinf(threshold) else int(np.searchsorted(EDGES, threshold))
    marked: Int = (np.arange(CHOICES) == place).astype(np.int64)[None]
    return marked


def threshold_from_ballots(total: Int) -> float:
    """The median of summed ballots [1, CHOICES], of an even number the larger of the two in the middle.

    So at least half of the voters let no more normal steps through than was asked. With fewer hostile voters
    than honest ones it lies between the least and the largest of the honest ones' own. Raises DataError where
    nobody voted.
    """
    votes = total[0, :_NO_VOTE]
    voters = int(votes.sum())
    if voters == 0:
        raise DataError(
            "no normal validation step to set a threshold from",
            way_out="raise split.validation, or add normal data",
        )
    place = int((np.cumsum(votes) <= voters // 2).sum())
    return float(EDGES[place]) if place < _INFINITE else float("inf")


def median_threshold(own: Sequence[float | None]) -> float:
    """`threshold_from_ballots` of what sites with these thresholds would say. Raises DataError as it does."""
    total = np.zeros((1, CHOICES), np.int64)
    return threshold_from_ballots(sum((threshold_ballot(one) for one in own), total))
