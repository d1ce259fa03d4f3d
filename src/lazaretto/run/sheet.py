"""Parts of a data sheet that runs and evaluations share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lazaretto.data.streams import Streams, carries
from lazaretto.types import Schema

__all__ = ["schema_words", "split_counts"]


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
