"""Pre-aggregation: copies count once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge, Lt
from scipy.sparse.csgraph import connected_components

from lazaretto.aggregate._choice import own
from lazaretto.gram import squared_distances
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["distinct"]


def distinct(near: Annotated[float, Ge(0), Lt(1)] = 0.1) -> Rule:
    """Updates that are nearly equal count once: the mean of such a group in place of its first.

    Nearly equal: squared distance at most `near` times the lower quartile over all pairs, or linked so.
    The others of a group become the mean over all groups, so nobody is out for being copied. Sees inner
    products; a pre-aggregator: `distinct | nnm | multi_krum`, against `mimic`. It withstands what the next
    rule does, as a hostile site spoils one row at most. In few dimensions honest updates come that near by
    chance; copies with more noise than that are not seen. Suspicion: none of its own, as who copied whom
    cannot be told. Ours.

    >>> from lazaretto.chain import chain
    >>> from lazaretto.aggregate.mean import mean
    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(chain(distinct(), mean()), [[0.0], [3.0], [6.0], [6.0], [6.0]]).tolist()
    [3.0]
    """

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        n = len(seen.sizes)
        apart = squared_distances(own(seen))  # not cosines, as in `camps`: those change where all rows move
        # of all pairs more than a quarter are of honest sites, so no minority can make these seem near
        pairs = np.sort(apart[np.triu_indices(n, 1)])
        alike = apart <= near * (pairs[(len(pairs) - 1) // 4] if n > 1 else 0.0)
        _, group = connected_components(alike, directed=False)
        by_site = np.argsort(seen.sites, kind="stable")
        groups, first = np.unique(group[by_site], return_index=True)
        members = (group == groups[:, None]).astype(np.float64)
        means = members / members.sum(axis=1, keepdims=True)
        weights = np.zeros((n, len(seen.inner)))
        weights[:, :n] = means.mean(axis=0)
        weights[by_site[first], :n] = means
        return Weighed(weights, np.zeros(n), {})

    return Rule(
        name="distinct",
        sees="gram",
        gram=gram,
        tolerates=lambda n: max(n - 1, 0),
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
        mixes=True,
        most_on_one=lambda n: float(max(n, 1)),
    )
