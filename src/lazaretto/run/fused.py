"""Scores of a trained model on validation and test, the self-supervised one fused in where it has one."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazaretto.data.streams import select
from lazaretto.evaluate.fusion import Tail, fuse, tail_from_counts, tails_to_array
from lazaretto.run.agreed import normal_counts, sum_normal_counts
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared
from lazaretto.run.simulate import Program, score_by_site
from lazaretto.types import TEST, VALIDATION, Float, Int

__all__ = ["scores_of"]

_SPLITS = {"validation": VALIDATION, "test": TEST}


def scores_of(
    program: Program, vector: Float, prepared: Prepared, weight: float, post: Post | None = None
) -> dict[str, Any]:
    """What a model says of the validation and the test units: "validation" and "test", [u, L] each.

    vector: [d], or each site's own [S, d]. Where the model has a self-supervised score and `weight` > 0,
    those two are fused scores in nats; "supervised.validation" and "supervised.test" are the supervised
    scores alone, and "tails" (of one common vector) is what fused them. post: carries each site's counts to
    the coordinator and the tails back; without it they are summed in place. Sites with a vector of their own
    measure against their own normal steps, or against those of all where they have none.
    """
    parts = {name: select(prepared.data, prepared.data.split == split) for name, split in _SPLITS.items()}
    plain = {name: score_by_site(program, vector, part) for name, part in parts.items()}
    if program.novelty is None or weight == 0:
        return dict(plain)
    unlike = {name: score_by_site(program, vector, part, "novelty") for name, part in parts.items()}
    both = (plain["validation"], unlike["validation"])
    found = {f"supervised.{name}": score for name, score in plain.items()}
    if vector.ndim == 1:
        tails = _tails(sum_normal_counts(parts["validation"], both, prepared, "part counts", post))
        if post is not None:
            for name in prepared.site_names:
                post.send("score tails", "coordinator", name, 0, {"tails": tails_to_array(tails)})
        found |= {name: fuse(tails, (plain[name], unlike[name]), weight) for name in parts}
        return found | {"tails": tails_to_array(tails)}
    counts = normal_counts(parts["validation"], both, prepared.site_names, "part counts", post)
    for name, part in parts.items():
        score = np.zeros_like(plain[name])
        for site in range(len(vector)):
            own = part.site == site
            enough = counts[site].sum(axis=1).all()
            tails = _tails(counts[site] if enough else counts.sum(axis=0))
            score[own] = fuse(tails, (plain[name][own], unlike[name][own]), weight)
        found[name] = score
    return found


def _tails(counts: Int) -> tuple[Tail, ...]:
    return tuple(tail_from_counts(one) for one in counts)
