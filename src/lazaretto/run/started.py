"""Training that begins from a model of an earlier run (`train.start`), and what that model must not know."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lazaretto import catalog, runlog
from lazaretto.errors import DataError, InputError, PlanError
from lazaretto.parameters import parameter_count
from lazaretto.plan import Plan
from lazaretto.run.checked import check_model
from lazaretto.run.journal import Journal
from lazaretto.run.saved import ModelMeta, load_model
from lazaretto.run.seen import Seen, data_named, load_seen, window_states
from lazaretto.run.simulate import initial_vectors
from lazaretto.types import TEST, Float, Model, Table

__all__ = ["enter_start", "first_vectors", "seen_with_start", "start_notes"]

_WAY_OUT = "a start that was trained on other data, or leave train.start out"


def first_vectors(
    plan: Plan, model: Model, shape: tuple[int, int], seeds: Sequence[int], *, ours: bool
) -> Float:
    """[len(seeds), d] float32: parameters before the first round, one row per seed.

    Those of the model in `train.start` where the plan has one and the system is `ours`, of the plan's model;
    else drawn from the seeds. shape: features and attack families. Raises InputError where that model is
    another one.
    """
    if plan.train.start is None or not ours:
        return initial_vectors(model, *shape, seeds)
    vector, _, _ = _start(plan)
    wanted = parameter_count(model, *shape)
    if len(vector) != wanted:
        raise InputError(
            "train.start: the model there has another number of parameters",
            found=f"{len(vector)}, and this plan's has {wanted}",
            way_out="the [model] of that run's plan.toml",
        )
    return np.repeat(vector[None], len(seeds), axis=0)


def enter_start(plan: Plan, journal: Journal) -> None:
    """Check the model in `train.start` before anything is counted or charged, and log which it is.

    Raises InputError where there is none, where it is another kind of model, or where a run goes on and it
    has changed; PlanError where the plan promises privacy and the start may know whom it is promised to.
    """
    if plan.train.start is None:
        return
    _, meta, digest = _start(plan)
    _same_kind(plan, meta)
    if plan.privacy.mechanism != "none":
        _check_promise(plan)
    body = {"folder": Path(plan.train.start).name, "sha256": digest, "seed": meta.seed}
    before = [record.body for record in runlog.read(journal.log, "start")]
    if before and before[0]["sha256"] != digest:
        raise InputError(
            "train.start: the model there is not the one that this run began with",
            found=f"SHA-256 {digest[:12]}, and {str(before[0]['sha256'])[:12]} before",
            way_out="put the old one back, or begin anew without --resume",
        )
    journal.record("start", body)


def start_notes(plan: Plan, table: Table, features: Sequence[str], seed: int) -> list[str]:
    """What readers must know of the model that training begins from; nothing where there is none.

    table: all windows of this run, with their splits; features: as the data has them. Raises InputError where
    the model reads or names other things than this plan's, DataError where it was trained, or its thresholds
    set, on units that this run judges, or on the same data dealt otherwise, PlanError where the plan promises
    privacy to units that it has seen.
    """
    if plan.train.start is None:
        return []
    _, meta, digest = _start(plan)
    _same_kind(plan, meta)
    _same("the features", list(meta.features), list(features))
    _same("the classes", list(meta.classes), list(table.schema.classes))
    seen = load_seen(Path(plan.train.start))
    if plan.privacy.mechanism != "none":
        _check_promise(plan)
    told = f"Training begins from the model in {Path(plan.train.start).name} (SHA-256 {digest[:12]}). "
    if seen is None:
        return [told + "Its folder does not say which windows it has seen: they may be among those here."]
    met, idle = window_states(seen, table, plan.data.modality)
    judged, others = met & (table.split == TEST), met & (table.split != TEST)
    if others.any() and plan.privacy.mechanism != "none":
        raise PlanError(
            "train.start: the model there saw units, without noise, to which this plan promises privacy",
            found=f"{int(others.sum())} windows of the very values",
            way_out=_WAY_OUT,
        )
    if judged.any():
        raise DataError(
            "train.start: the model there was trained, or its thresholds set, on units that are judged",
            found=f"{int(judged.sum())} test windows of the very values",
            way_out=_WAY_OUT,
        )
    if data_named(plan.data, seed) in seen.data and not (met | idle)[table.split != TEST].all():
        raise DataError(
            "train.start: the model there was trained on the same data, cut or dealt otherwise, and nobody "
            "can tell which of the units that are judged it knows",
            way_out="the seed, split and options of that run, or other data",
        )
    known = f"{int(others.sum())} training or validation windows here are among those that it has seen."
    return [told + (known if others.any() else "None of the windows here is among those that it has seen.")]


def seen_with_start(plan: Plan, seen: Any, seed: int) -> Seen | None:
    """What the model of this run has seen: its own windows' digests [m, 16] and all that its start had.

    None where the start does not say.
    """
    own = Seen(seen, (data_named(plan.data, seed),))
    if plan.train.start is None:
        return own
    before = load_seen(Path(plan.train.start))
    if before is None or not before.data:
        return None
    digests = np.unique(np.concatenate([own.digests, before.digests]), axis=0)
    return Seen(digests, tuple(dict.fromkeys((*own.data, *before.data))))


def _start(plan: Plan) -> tuple[Float, ModelMeta, str]:
    """The vector [d], what stands beside it, and the file's digest."""
    file = Path(str(plan.train.start)) / "model.safetensors"
    if not file.exists():
        raise InputError(
            "train.start: there is no model",
            found=file,
            way_out="the folder of a finished run, or leave it out",
        )
    check_model(file.parent)
    arrays, meta = load_model(file)
    with file.open("rb") as content:
        return arrays["vector"], meta, hashlib.file_digest(content, "sha256").hexdigest()


def _check_promise(plan: Plan) -> None:
    """Refuse a start that does not say what it knows, or that knows this data."""
    seen = load_seen(Path(str(plan.train.start)))
    if seen is None or not seen.data:
        raise PlanError(
            "train.start: its folder does not say what the model has seen, and this plan promises privacy",
            found=f"no seen.safetensors of this version in {plan.train.start}",
            way_out="a start trained without a mechanism, on data that need no protection; its folder whole",
        )
    if known := {data_named(plan.data, seed) for seed in plan.run.seeds} & set(seen.data):
        raise PlanError(
            "train.start: the model there was trained, without noise, on the data that this plan protects",
            found=", ".join(sorted(known)),
            way_out=_WAY_OUT,
        )


def _same_kind(plan: Plan, meta: ModelMeta) -> None:
    """Raises InputError where the start is a model of another kind."""
    _same("model.name", meta.model, plan.model.name)
    usual = {name: option.default for name, option in catalog.options("models", meta.model).items()}
    _same("model.options", _built(usual, meta.options), _built(usual, plan.model.options))
    _same("data.modality", meta.modality, plan.data.modality)


def _built(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the model is built with; where columns lie is a matter of the features."""
    return {key: value for key, value in {**usual, **given}.items() if key != "layout"}


def _same(what: str, there: Any, here: Any) -> None:
    if there != here:
        raise InputError(
            f"train.start: {what} there and here are not the same",
            found=f"{_first(there, here)}, and here {_first(here, there)}",
            way_out="a model of the same plan, trained on data of the same kind",
        )


def _first(one: Any, other: Any) -> str:
    """Where two lists differ: enough to see why."""
    if isinstance(one, dict):
        return ", ".join(f"{key} = {value}" for key, value in one.items() if other.get(key) != value) or "{}"
    if not isinstance(one, list):
        return str(one)
    own = [value for value in one if value not in other]
    return (
        f"{len(one)}, {own[0]!r} among them" if own else f"{len(one)} in this order: {', '.join(one[:3])} …"
    )
