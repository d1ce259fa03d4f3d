"""Training that begins from a model of an earlier run (`train.start`), and what that model must not know."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lazaretto.errors import DataError, InputError, PlanError
from lazaretto.parameters import parameter_count
from lazaretto.plan import Plan
from lazaretto.run.saved import ModelMeta, load_model
from lazaretto.run.seen import seen_windows
from lazaretto.run.simulate import initial_vectors
from lazaretto.types import TEST, Float, Model, Table

__all__ = ["first_vectors", "start_notes"]

_WAY_OUT = "a start that was trained on other data, or leave train.start out"


def first_vectors(plan: Plan, name: str, model: Model, shape: tuple[int, int], seeds: Sequence[int]) -> Float:
    """[len(seeds), d] float32: parameters before the first round, one row per seed.

    Those of the model in `train.start` where the plan has one and `name` is the plan's model; else drawn from
    the seeds. shape: features and attack families. Raises InputError where that model is another one.
    """
    if plan.train.start is None or name != plan.model.name:
        return initial_vectors(model, *shape, seeds)
    vector, _, _ = _start(Path(plan.train.start))
    wanted = parameter_count(model, *shape)
    if len(vector) != wanted:
        raise InputError(
            "train.start: the model there has another number of parameters",
            found=f"{len(vector)}, and this plan's has {wanted}",
            way_out="the [model] of that run's plan.toml",
        )
    return np.repeat(vector[None], len(seeds), axis=0)


def start_notes(plan: Plan, table: Table, features: Sequence[str]) -> list[str]:
    """What readers must know of the model that training begins from; nothing where there is none.

    table: this run's windows, with their splits; features: as the data has them. Raises InputError where the
    model reads or names other things than this plan's, DataError where it was trained, or its thresholds set,
    on units that this run judges, PlanError where the plan promises privacy to units that it has seen.
    """
    if plan.train.start is None:
        return []
    folder = Path(plan.train.start)
    _, meta, digest = _start(folder)
    _same(plan, meta, table, features)
    met = seen_windows(folder, table)
    private = plan.privacy.mechanism != "none"
    if met is not None:
        judged, trained = int((met & (table.split == TEST)).sum()), int((met & (table.split != TEST)).sum())
        if trained and private:
            raise PlanError(
                "train.start: the model there saw units, without noise, to which this plan promises privacy",
                found=f"{trained} windows of the very values",
                way_out=_WAY_OUT,
            )
        if judged:
            raise DataError(
                "train.start: the model there was trained, or its thresholds set, on units that are judged",
                found=f"{judged} test windows of the very values",
                way_out=_WAY_OUT,
            )
    known = "None of the windows here is among those that it has seen."
    if met is None:
        known = "Its folder does not say which windows it has seen: they may be among those here."
    elif met.any():
        known = f"{int(met.sum())} training or validation windows here are among those that it has seen."
    charge = " What it tells of the data that it was trained on is not charged here." if private else ""
    told = f"Training begins from the model in {folder.name} (SHA-256 {digest[:12]}, seed {meta.seed}). "
    return [told + known + charge]


@functools.lru_cache(maxsize=2)
def _start(folder: Path) -> tuple[Float, ModelMeta, str]:
    """The vector [d], what stands beside it, and the file's digest."""
    file = folder / "model.safetensors"
    arrays, meta = load_model(file)
    with file.open("rb") as content:
        return arrays["vector"], meta, hashlib.file_digest(content, "sha256").hexdigest()


def _same(plan: Plan, meta: ModelMeta, table: Table, features: Sequence[str]) -> None:
    options = {key: value for key, value in meta.options.items() if key != "layout"}
    both: dict[str, tuple[Any, Any]] = {
        "model.name": (meta.model, plan.model.name),
        "model.options": (options, dict(plan.model.options)),
        "data.modality": (meta.modality, plan.data.modality),
        "the features": (list(meta.features), list(features)),
        "the classes": (list(meta.classes), list(table.schema.classes)),
    }
    for what, (there, here) in both.items():
        if there != here:
            raise InputError(
                f"train.start: {what} there and here are not the same",
                found=f"{_first(there, here)}, and here {_first(here, there)}",
                way_out="a model of the same plan, trained on data of the same kind",
            )


def _first(one: Any, other: Any) -> str:
    """Where two lists differ: enough to see why."""
    if not isinstance(one, list):
        return str(one)
    own = [value for value in one if value not in other]
    return (
        f"{len(one)}, {own[0]!r} among them" if own else f"{len(one)} in this order: {', '.join(one[:3])} …"
    )
