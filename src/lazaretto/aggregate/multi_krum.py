"""Multi-Krum: the mean of the updates in the midst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from lazaretto.aggregate._choice import Hostile, assumed, beyond, own, smallest
from lazaretto.aggregate._krum import krum_scores
from lazaretto.gram import squared_distances
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["multi_krum"]


def multi_krum(
    hostile: Hostile = 0.3,
    keep: Annotated[int, Ge(1)] | None = None,
    slack: Annotated[float, Ge(0), Le(4)] = 0.0,
    slack_after: Annotated[int, Ge(0)] = 0,
) -> Rule:
    """The mean of the updates with the best Krum scores, by default of n - f.

    f = ⌊hostile · n⌋, at most (n - 3) / 2, which it withstands; keep: how many updates, at most n - f. Sees
    inner products. Scores, suspicion and ties as in `krum`: what is tied for the last place shares it.
    Blanchard et al. 2017, https://papers.nips.cc/paper/6617.

    slack, ours: who is left out counts all the same if the root of its score is at most 1 + slack times that
    of the last who is kept. Where nobody is hostile hardly anybody is left out then; a hostile update that
    hides so near moves the mean by about 1 + slack times as much as the farthest that would be kept anyway.
    slack_after: rounds without it first, since training began or, after a probation, began anew: what hostile
    sites want is then not yet in the model, so they go on asking for it, and are seen. State: the rounds.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(multi_krum(), [[0.0], [1.0], [1.5], [2.5], [900.0]]).tolist()
    [1.25]
    """

    def fear(n: int) -> int:
        return assumed(hostile, n, (n - 3) // 2)

    def kept(n: int) -> int:
        return n - fear(n) if keep is None else min(keep, n - fear(n))

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        n = len(seen.sizes)
        scores = krum_scores(squared_distances(own(seen)), fear(n))
        weights, reach = np.zeros((1, len(seen.inner))), np.sqrt(scores)
        near = np.sort(reach)[kept(n) - 1] * (1 + slack)
        told = {"rounds": np.asarray(state["rounds"]) + 1} if slack else {}
        lenient = slack and int(told["rounds"][0]) > slack_after
        count = max(kept(n), int((reach <= near).sum())) if lenient else kept(n)
        weights[0, :n] = smallest(scores, count)
        return Weighed(weights, beyond(reach, np.sort(reach)[n - fear(n) - 1]), told)

    return Rule(
        name="multi_krum",
        sees="gram",
        gram=gram,
        start=lambda sites: {"rounds": np.zeros(1, np.int64)} if slack else {},
        tolerates=fear,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
        most_on_one=lambda n: 1.0 / kept(n),
    )
