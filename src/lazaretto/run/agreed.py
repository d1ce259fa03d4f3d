"""What sites agree on by a sum of counts, or of votes, none of them showing a step: the alarm threshold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lazaretto.data.streams import Streams, select
from lazaretto.errors import InputError
from lazaretto.evaluate.noisy import Counted, noisy_operating, noisy_score_counts, operating_from_noisy
from lazaretto.evaluate.operating import (
    COUNTED,
    EVERYONE,
    Operating,
    operating_to_json,
    score_counts,
    threshold_from_counts,
)
from lazaretto.evaluate.scored import Agreement, Protocol, Scored, SeedScores
from lazaretto.evaluate.threshold_votes import (
    CHOICES,
    FEWEST_VOTERS,
    choice_of,
    own_threshold,
    threshold_ballot,
    threshold_from_ballots,
)
from lazaretto.evaluate.thresholds import MAIN_POINT, operating_points, with_own
from lazaretto.run.noisy import sum_noisy
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared
from lazaretto.run.saved import write_whole
from lazaretto.run.secret import secret_ballots, secret_sum
from lazaretto.types import VALIDATION, Array, Float, Int

__all__ = [
    "agree_common",
    "agree_once",
    "agree_operating",
    "agree_threshold",
    "as_told",
    "normal_counts",
    "sum_normal_counts",
    "told_threshold",
    "within_cap",
]


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
            counts = within_cap(sent["counts"], name, kind, counts.shape)
        rows.append(counts)
    return np.stack(rows)


def within_cap(counts: Array, name: str, kind: str, shape: tuple[int, ...]) -> Int:
    """The counts [n, bins] that arrived; those that no honest site sends end the run."""
    given = np.asarray(counts)
    fine = given.shape == shape and given.dtype.kind in "ui"
    if (
        not fine
        or given.min() < 0
        or given.max() > COUNTED
        or given.sum(axis=1, dtype=np.int64).max() > COUNTED
    ):
        raise InputError(
            f"{kind} of {name} are none",
            found=f"shape {given.shape}, {given.dtype}"
            if not fine
            else f"from {given.min()} to {given.max()}",
            way_out=f"{shape} whole numbers from 0, which add up to {COUNTED} at most",
        )
    return given.astype(np.int64)


def sum_normal_counts(
    part: Streams, scores: Sequence[Float], prepared: Prepared, kind: str, post: Post | None
) -> Int:
    """[n, bins]: `normal_counts` over all sites, sent to the coordinator or summed as shares."""
    if post is None or prepared.door is None:
        return np.asarray(normal_counts(part, scores, prepared.site_names, kind, post).sum(axis=0))
    counts = normal_counts(part, scores, prepared.site_names, kind, None)
    given = dict(zip(prepared.site_names, counts, strict=True))
    return secret_sum(given, prepared.door, kind, post)


def agree_threshold(
    prepared: Prepared, score: Float, rate: float, post: Post, how: Agreement = "sum"
) -> dict[str, str]:
    """The sites send counts of the normal validation steps' scores; the coordinator tells them the threshold.

    score: [u, L] of the validation units. rate: share of normal steps that it lets through. how: "median" or
    "own" for a vote of each site on it instead, in secret where updates are. Hostile sites may say false
    scores. Returns site -> why its vote does not count: the threshold that was told is that of the others.
    Raises RoundRefused where fewer than three have a vote in secret.
    """
    part, named = select(prepared.data, prepared.data.split == VALIDATION), dict[str, str]()
    if prepared.said is not None:
        score = prepared.said(Scored(score=score, y=part.y, valid=part.judged, site=part.site))
    if how != "sum":
        total, named = _votes(prepared, part, score, rate, post)
        threshold = threshold_from_ballots(total, 1 if prepared.door is None else FEWEST_VOTERS)
    else:
        total = sum_normal_counts(part, [score], prepared, "score counts", post)
        threshold = threshold_from_counts(total.sum(axis=0), rate)
    for name in prepared.site_names:
        post.send("threshold", "coordinator", name, 0, told_threshold(threshold))
    return named


def told_threshold(threshold: float) -> dict[str, Float]:
    """How a threshold is told: "value" [1] float32, or [0] where no score is high enough for an alarm.

    Infinity is none of the numbers that a message may hold (`wire`).
    """
    return {"value": np.array([threshold] if np.isfinite(threshold) else [], np.float32)}


def _votes(
    prepared: Prepared, part: Streams, score: Float, rate: float, post: Post
) -> tuple[Int, dict[str, str]]:
    """Summed ballots on the threshold, and site -> why its own is not among them."""
    normal = part.judged & (part.y == 0)
    ballots = {
        name: threshold_ballot(own_threshold(score[normal & (part.site == site)[:, None]], rate))
        for site, name in enumerate(prepared.site_names)
    }
    if prepared.door is not None:
        return secret_ballots(ballots, prepared.door, "the alarm threshold", post)
    total, named = np.zeros((1, CHOICES), np.int64), dict[str, str]()
    for name, own in ballots.items():
        given = {"choice": own.argmax(axis=1).astype(np.uint32)}
        choice = choice_of(post.send("threshold vote", name, "coordinator", 0, given)["choice"])
        if choice is None:
            named[name] = "it named no threshold"
        else:
            total[0, choice] += 1
    return total, named


def agree_common(
    prepared: Prepared, scores: SeedScores, protocol: Protocol, post: Post
) -> tuple[Operating | None, list[dict[str, str]]]:
    """`agree_threshold` on the scores of a common model, as the protocol asks.

    Returns {"site", "reason"} of those whose vote does not count, and then, or where a site may lie, also
    operating points from what the others said, so that what is judged and kept is what was told; else None.
    Where each site goes by its own threshold, a vote that does not count takes nobody's away.
    """
    whole = scores.validation
    assert whole is not None  # noqa: S101  of scores that were just made
    named = agree_threshold(prepared, whole.score, protocol.false_positive_rate, post, protocol.thresholds)
    if not named and prepared.said is None:
        return None, []
    kept = ~np.isin(whole.site, [prepared.site_names.index(name) for name in named])
    left = Scored(score=whole.score[kept], y=whole.y[kept], valid=whole.valid[kept], site=whole.site[kept])
    rows = [{"site": name, "reason": why} for name, why in sorted(named.items())]
    told = operating_points(left, protocol, prepared.said)
    return (with_own(told, whole, protocol) if named and told.by_site else told), rows


def as_told(prepared: Prepared, scores: SeedScores, protocol: Protocol) -> SeedScores:
    """The scores of a common model with operating points from what sites say of them, where one may lie."""
    if prepared.said is None or scores.validation is None or scores.validation.threshold_group is not None:
        return scores
    return replace(scores, operating=operating_points(scores.validation, protocol, prepared.said))


def agree_operating(
    prepared: Prepared, examples: Streams, score: Float, protocol: Protocol, post: Post | None
) -> Operating:
    """Operating points from counts with the noise of `prepared`; the coordinator tells the threshold.

    examples: validation units, each row an example of the unit that the noise protects. score: [u, L] of
    them, of which hostile sites may say false ones. post: carries counts and thresholds; None where each site
    has a model and so a threshold of its own, which does not leave it. Every call draws noise anew, and costs
    each example once more.
    """
    noise = prepared.count_noise
    assert noise is not None  # noqa: S101  the exact way is `agree_threshold`
    if prepared.said is not None and post is not None:
        told = Scored(score=score, y=examples.y, valid=examples.judged, site=examples.site)
        score = prepared.said(told)

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
        post.send("threshold", "coordinator", name, 0, told_threshold(threshold))
    return operating


def agree_once(
    unfinished: Path,
    prepared: Prepared,
    examples: Streams,
    score: Float,
    protocol: Protocol,
    post: Post | None,
) -> dict[str, Any]:
    """`agree_operating` as JSON, {"operating": ...}; kept beside `unfinished`, so that it is drawn once."""
    kept = unfinished.with_name(f"{unfinished.name}.agreed")
    if kept.exists():
        held: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if post is not None:
            post.restore(held["messages"])
    else:
        operating = operating_to_json(agree_operating(prepared, examples, score, protocol, post))
        held = {"operating": operating, "messages": [] if post is None else post.rows()}
        write_whole(kept, json.dumps(held, allow_nan=False).encode())
    return {"operating": held["operating"]}
