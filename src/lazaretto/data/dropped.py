"""Features that a plan keeps out of the model (`data.drop`), right after the source has loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lazaretto.errors import PlanError, did_you_mean
from lazaretto.types import Schema, Source, Table

__all__ = ["BY_PLAN", "drop_features", "load_without"]

BY_PLAN = "dropped by the plan"


def load_without(
    source: Source, path: object, seed: int, drop: Sequence[str] = (), *, strict: bool = True
) -> tuple[Source, Table]:
    """The source's table without the features in `drop`, and the source with all that is dropped as `leaks`.

    strict: False where the data is not that of the plan: names that it lacks are passed over.
    Raises what `Source.load` and `drop_features` raise.
    """
    table = source.load(path, seed)
    held = [name for name in drop if strict or name in _names(table.schema)]
    leaks = source.leaks if table.leaks is None else table.leaks
    return replace(source, leaks={**leaks, **dict.fromkeys(held, BY_PLAN)}), drop_features(table, held)


def drop_features(table: Table, names: Sequence[str]) -> Table:
    """The table without the features of these names, each "name" (in all modalities) or "modality: name".

    Raises PlanError for a name that is not there, and where nothing of a modality would be left.
    """
    if not names:
        return table
    schema, known = table.schema, _names(table.schema)
    for name in names:
        if name not in known:
            listed = ", ".join(_plain(schema))  # each once, though some may be called in two ways
            way_out = f"{did_you_mean(name, known)}features: {listed}"
            raise PlanError("data.drop: the source gives no such feature", found=name, way_out=way_out)
    x, features = {}, {}
    for modality, held in schema.features.items():
        kept = [at for at, name in enumerate(held) if not {name, f"{modality}: {name}"} & set(names)]
        if not kept:
            raise PlanError(
                f"data.drop leaves no feature of '{modality}'",
                found=", ".join(names),
                way_out="keep at least one",
            )
        x[modality] = np.ascontiguousarray(table.x[modality][..., kept])
        features[modality] = tuple(held[at] for at in kept)
    left = {name for held in features.values() for name in held}
    rate = schema.rate_feature
    home = next((modality for modality, held in schema.features.items() if rate in held), None)
    less = replace(
        schema,
        features=features,
        rate_feature=rate if home is not None and rate in features[home] else None,
        origins={name: value for name, value in schema.origins.items() if name in left},
    )
    return replace(table, x=x, schema=less)


def _names(schema: Schema) -> list[str]:
    """How each feature may be called: by its name, also with its modality before it."""
    long = (f"{modality}: {name}" for modality, names in schema.features.items() for name in names)
    return [*_plain(schema), *long]


def _plain(schema: Schema) -> list[str]:
    return list(dict.fromkeys(name for names in schema.features.values() for name in names))
