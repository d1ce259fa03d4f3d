"""Several modalities: what ours is worth with one of them alone, or without one, and whether they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lazaretto import catalog
from lazaretto.data.streams import hide, select
from lazaretto.keys import generator
from lazaretto.plan import Plan
from lazaretto.run.prepare import Prepared
from lazaretto.run.simulate import Program, views_of_streams
from lazaretto.types import TEST, TRAIN, Float, Part

__all__ = ["found_again", "model_options", "only", "without"]

_AMONG = (1, 5, 10)  # k of recall@k
_REPEATS = 20


def model_options(plan: Plan, name: str, layout: Sequence[Part]) -> dict[str, Any]:
    """What the plan says of a model, and where the data's columns are if the model asks for that."""
    given = dict(plan.model.options) if name == plan.model.name else {}
    if "layout" in catalog.options("models", name):
        given["layout"] = [list(part) for part in layout]
    return given


def without(prepared: Prepared, modality: str) -> Prepared:
    """The same steps, as if the modality had never been there."""
    return replace(prepared, data=hide(prepared.data, modality))


def only(prepared: Prepared, modality: str) -> Prepared:
    """The same steps, as if there had never been another modality.

    Training steps that lack it are not trained on, as they would not be where it is the only one; steps to be
    judged stay.
    """
    for other in prepared.data.names:
        if other != modality:
            prepared = without(prepared, other)
    data = prepared.data
    there = data.x[..., data.layout[-1].end + data.names.index(modality)] > 0
    kept = data.judged & (there | (data.split != TRAIN)[:, None])
    return replace(prepared, data=replace(data, judged=kept))


def found_again(program: Program, vector: Float, prepared: Prepared) -> dict[str, Any] | None:
    """How often a test unit's own record is among the k that its traffic is nearest to.

    Among all test units at one step, the same for all, so that the time of day tells nothing; `_REPEATS`
    steps are drawn (seeded by the data's seed). Nearest by the cosine of the views that alignment trains,
    "cut" and "fusion". "units": of a draw, on average; "chance": what guessing would give. None for a model
    without views, and where no step has two units with both modalities.
    """
    if program.views is None:
        return None
    part = select(prepared.data, prepared.data.split == TEST)
    pairs, both = views_of_streams(program, vector, part.x)
    both &= part.valid
    steps = np.flatnonzero(both.sum(axis=0) >= 2)
    if not len(steps):
        return None
    drawn = generator(prepared.seed, "found again").choice(steps, _REPEATS)
    counts = [int(both[:, step].sum()) for step in drawn]

    def recall(a: Float, b: Float, k: int) -> float:
        ranks = [_ranks(a[both[:, step], step], b[both[:, step], step]) for step in drawn]
        return float(np.mean([(rank < k).mean() for rank in ranks]))

    return {
        "units": float(np.mean(counts)),
        "repeats": _REPEATS,
        "chance": {str(k): float(np.mean([min(1.0, k / count) for count in counts])) for k in _AMONG},
        **{place: {str(k): recall(a, b, k) for k in _AMONG} for place, (a, b) in pairs.items()},
    }


def _ranks(a: Float, b: Float) -> Any:
    """[n] how many others' b are nearer to each a than its own is; ties count against it by half."""
    a, b = (view / np.maximum(np.linalg.norm(view, axis=1, keepdims=True), 1e-9) for view in (a, b))
    cosine = a @ b.T
    own = np.diagonal(cosine)[:, None]
    return (cosine > own).sum(axis=1) + 0.5 * ((cosine == own).sum(axis=1) - 1)
