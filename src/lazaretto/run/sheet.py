"""Parts of a data sheet that runs and evaluations share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lazaretto.data.streams import Streams, carries, select
from lazaretto.types import Schema

__all__ = ["judged_sites", "schema_words", "split_counts"]


def schema_words(schema: Schema) -> dict[str, Any]:
    """What a data sheet says of steps: their length (None without a clock) and what they are called."""
    return {
        "step_seconds": float(schema.step_seconds) if schema.timed else None,
        "timed": schema.timed,
        "positive": schema.positive,
        "negative": schema.negative,
    }


def split_counts(part: Streams, classes: Sequence[str]) -> dict[str, Any]:
    """What a split holds: units, judged steps, those of both that are attacked, and units of each family.

    part: the streams of the split, or none. A unit counts with every family that it carries.
    """
    attacked = (part.y > 0) & part.judged
    return {
        "units": len(np.unique(part.unit)),
        "steps": int(part.judged.sum()),
        "attacked_units": len(np.unique(part.unit[attacked.any(axis=1)])),
        "attacked_steps": int(attacked.sum()),
        "families": {
            classes[kind]: len(np.unique(part.unit[carries(part, kind)])) for kind in range(1, len(classes))
        },
    }


def judged_sites(data: Streams, names: Sequence[str], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a data sheet for sites of which every unit is judged: those that the source names.

    names: by the index in `data.site`. Units of no site are one row, "all" where there are no others.
    """
    rows = []
    for site in np.unique(data.site):
        held = split_counts(select(data, data.site == site), classes)
        alone = "all" if (data.site == site).all() else "without a site"
        rows.append(
            {
                "name": names[site] if site >= 0 else alone,
                "train_units": 0,
                "validation_units": 0,
                "test_units": held["units"],
                "steps": held["steps"],
                "families": held["families"],
                "withheld": [],
            }
        )
    return rows
