"""What a reader must know of a model that is judged on data it was not made for, in sentences."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lazaretto.data.leaks import leak_notes
from lazaretto.plan import Plan
from lazaretto.run.saved import ModelMeta
from lazaretto.types import Table

__all__ = ["ALL_TEST", "absent", "hostile_note", "leaks_read", "other_step", "own_note", "relation_notes"]

ALL_TEST = "Everything here is test data: thresholds and calibration come from the training run."


def relation_notes(trained: Plan, relation: str, met: NDArray[np.bool_] | None) -> list[str]:
    """What a reader must know of how this data relates to that of training."""
    if met is not None and met.any():
        known = (
            f"{int(met.sum())} of {len(met)} windows hold the very values that the model was trained, or its "
            "thresholds set, on. They are left out; the rest is judged. Thresholds and calibration come from "
            "the training run."
        )
        return [known]
    silent = (
        "The training run promises privacy, so it keeps no digests of the windows it has seen: they would "
        "tell who was in. Nobody can say whether windows that are judged here are among them."
    )
    unsaid = [silent] if trained.privacy.mechanism != "none" and relation != "same" else []
    if relation == "other":
        return [*unsaid, ALL_TEST]
    if relation == "akin":
        mixed = (
            "The model was trained on data of this source, at another place or with other options. All units "
            "are judged here; some may hold what it was trained on. Thresholds and calibration come from the "
            "training run."
        )
        return [*unsaid, mixed]
    kept = (
        "The model was trained on this very data. Only the units that its training run kept for testing "
        "are judged here; thresholds and calibration come from that run."
    )
    shift = (
        "That run shifted each site's features (sites.feature_shift); here they are as the source gives them."
    )
    return [kept, shift] if trained.sites.feature_shift else [kept]


def hostile_note(trained: Plan) -> list[str]:
    """That a model and its thresholds come from a simulation of an attack."""
    name = trained.attack.name
    said = f"The training run was attacked on purpose ({name}): model and thresholds are what that left."
    return [said] if name else []


def own_note(trained: Plan) -> list[str]:
    """That nobody is at a site of training here."""
    said = "In training each site went by a threshold of its own; here all go by the median of their votes."
    return [said] if trained.evaluate.thresholds == "own" else []


def leaks_read(table: Table, modality: str, used: Collection[str]) -> list[str]:
    """`leak_notes` on the features of new data that the model reads; nobody can drop one for it any more.

    used: their names in `modality`; of both modalities together all are read.
    """
    if modality in table.schema.features:
        names = table.schema.features[modality]
        read = [place for place, name in enumerate(names) if name in used]
        schema = replace(table.schema, features={modality: tuple(names[place] for place in read)})
        table = replace(table, x={modality: table.x[modality][..., read]}, schema=schema)
    parts = (note.partition(" To do:") for note in leak_notes(table))
    return [
        f"{said}{' Only a model trained without (data.drop) is free of it.' * bool(more)}"
        for said, more, _ in parts
    ]


def absent(meta: ModelMeta) -> str:
    """What is made of a feature that the new data lacks."""
    return "never measured" if meta.irregular else "kept at the median of training"


def other_step(meta: ModelMeta, table: Table) -> list[str]:
    """That a step is not what it was in training."""
    if table.schema.step == meta.step:
        return []
    return [f"A step was {meta.step} in training, and is {table.schema.step} here."]
