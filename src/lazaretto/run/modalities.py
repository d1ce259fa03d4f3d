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
from lazaretto.types import TEST, Float, Part

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
    """The same steps, as if there had never been another modality."""
    for other in prepared.data.names:
        if other != modality:
            prepared = without(prepared, other)
    return prepared


def found_again(program: Program, vector: Float, prepared: Prepared) -> dict[str, Any] | None:
    """How often a test unit's own record is among the k that its traffic is nearest to.

    At one random step of each unit, `_REPEATS` times over (seeded by the data's seed); nearest by the cosine
    of the views that alignment trains, "cut" and "fusion". "units" n; "chance": what k of n would give. None
    for a model without views, and where fewer than two units ever have both modalities.
    """
    if program.views is None:
        return None
    part = select(prepared.data, prepared.data.split == TEST)
    pairs, both = views_of_streams(program, vector, part.x)
    both &= part.valid
    units = np.flatnonzero(both.any(axis=1))
    if len(units) < 2:
        return None
    rng = generator(prepared.seed, "found again")
    ranks: dict[str, list[Any]] = {place: [] for place in pairs}
    for _ in range(_REPEATS):
        step = [int(rng.choice(np.flatnonzero(both[unit]))) for unit in units]
        for place, (a, b) in pairs.items():
            ranks[place].append(_ranks(a[units, step], b[units, step]))
    return {
        "units": len(units),
        "repeats": _REPEATS,
        "chance": {str(k): min(1.0, k / len(units)) for k in _AMONG},
        **{
            place: {str(k): float((np.stack(found) < k).mean()) for k in _AMONG}
            for place, found in ranks.items()
        },
    }


def _ranks(a: Float, b: Float) -> Any:
    """[n] how many others' b are nearer to each a than its own is; ties count against it by half."""
    a, b = (view / np.maximum(np.linalg.norm(view, axis=1, keepdims=True), 1e-9) for view in (a, b))
    cosine = a @ b.T
    own = np.diagonal(cosine)[:, None]
    return (cosine > own).sum(axis=1) + 0.5 * ((cosine == own).sum(axis=1) - 1)
