"""What sites agree on by a sum of counts, none of them showing a step: the alarm threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lazaretto.data.streams import Streams, select
from lazaretto.evaluate.noisy import Counted, noisy_operating, noisy_score_counts, operating_from_noisy
from lazaretto.evaluate.operating import EVERYONE, Operating, score_counts, threshold_from_counts
from lazaretto.evaluate.scored import Protocol, Scored
from lazaretto.evaluate.thresholds import MAIN_POINT
from lazaretto.run.noisy import sum_noisy
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared
from lazaretto.run.secret import secret_sum
from lazaretto.types import VALIDATION, Array, Float, Int

__all__ = ["agree_operating", "agree_threshold", "normal_counts", "sum_normal_counts"]


def normal_counts(
    part: Streams, scores: Sequence[Float], site_names: Sequence[str], kind: str, post: Post | None
) -> Int:
    """[S, n, bins]: how many normal steps of each site fall in each bin of each of n scores [u, L].

    post: carries each site's counts to the coordinator as a message of that kind; None sends nothing.
    """
    rows = []
    for site, name in enumerate(site_names):
        normal = part.judged & (part.y == 0) & (part.site == site)[:, None]
        counts = np.stack([score_counts(score[normal]) for score in scores])
        if post is not None:
            sent = post.send(kind, name, "coordinator", 0, {"counts": counts.astype(np.uint32)})
            counts = np.asarray(sent["counts"], np.int64)
        rows.append(counts)
    return np.stack(rows)


def sum_normal_counts(
    part: Streams, scores: Sequence[Float], prepared: Prepared, kind: str, post: Post | None
) -> Int:
    """[n, bins]: `normal_counts` over all sites, sent to the coordinator or summed as shares."""
    if post is None or prepared.door is None:
        return np.asarray(normal_counts(part, scores, prepared.site_names, kind, post).sum(axis=0))
    counts = normal_counts(part, scores, prepared.site_names, kind, None)
    given = dict(zip(prepared.site_names, counts, strict=True))
    return secret_sum(given, prepared.door, kind, post)


def agree_threshold(prepared: Prepared, score: Float, rate: float, post: Post) -> None:
    """The sites send counts of the normal validation steps' scores; the coordinator tells them the threshold.

    score: [u, L] of the validation units. rate: share of normal steps that it lets through.
    """
    part = select(prepared.data, prepared.data.split == VALIDATION)
    total = sum_normal_counts(part, [score], prepared, "score counts", post)
    threshold = threshold_from_counts(total.sum(axis=0), rate)
    for name in prepared.site_names:
        post.send("threshold", "coordinator", name, 0, {"value": np.array([threshold], np.float32)})


def agree_operating(
    prepared: Prepared, examples: Streams, score: Float, protocol: Protocol, post: Post | None
) -> Operating:
    """Operating points from counts with the noise of `prepared`; the coordinator tells the threshold.

    examples: validation units, each row an example of the unit that the noise protects. score: [u, L] of
    them. post: carries counts and thresholds; None where each site has a model and so a threshold of its own,
    which does not leave it. Every call draws noise anew, and costs each example once more.
    """
    noise = prepared.count_noise
    assert noise is not None  # noqa: S101  the exact way is `agree_threshold`

    def part(own: Array) -> Scored:
        return Scored(
            score=score[own],
            y=examples.y[own],
            valid=examples.judged[own],
            site=examples.site[own],
            threshold_group=examples.site[own] if post is None else None,
        )

    if post is None:
        return noisy_operating(part(np.ones(len(score), bool)), protocol, noise)
    counts = {
        name: noisy_score_counts(part(examples.site == site), protocol, noise, site)
        for site, name in enumerate(prepared.site_names)
    }
    total = sum_noisy(counts, "score counts", post, prepared.door)
    operating = operating_from_noisy({EVERYONE: Counted(total, len(counts))}, protocol, noise)
    threshold = operating.thresholds[MAIN_POINT][EVERYONE]
    for name in prepared.site_names:
        post.send("threshold", "coordinator", name, 0, {"value": np.array([threshold], np.float32)})
    return operating
