"""From a plan to what sites hold: loaded, split, deduplicated, partitioned, scaled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lazaretto import catalog
from lazaretto.data.duplicates import remove_duplicates
from lazaretto.data.leaks import table_findings
from lazaretto.data.scaling import Scaling, apply_scaling, bucket_counts, scaling_from_counts, sum_counts
from lazaretto.data.sites import Partition, partition, shift_features, withhold
from lazaretto.data.splits import assign_splits
from lazaretto.data.streams import Streams, carries, family_of, select, streams
from lazaretto.errors import DataError
from lazaretto.keys import generator
from lazaretto.plan import Plan
from lazaretto.run.post import Post
from lazaretto.types import TEST, TRAIN, VALIDATION, Schema, Source, Table

__all__ = ["Prepared", "load_table", "members", "prepare", "schema_words"]

_SPLITS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One seed's data, ready to train and judge on.

    data: scaled streams of all splits, `site` as partitioned. withheld: [S, K + 1] bool.
    sheet: body of the run log's record `data`. rate_column: index of the schema's rate feature, or None.
    """

    seed: int
    schema: Schema
    modality: str
    data: Streams
    site_names: tuple[str, ...]
    parts: Partition
    scaling: Scaling
    rate_column: int | None
    sheet: dict[str, Any]

    @property
    def kinds(self) -> int:
        """K, number of attack families."""
        return len(self.schema.classes) - 1


def load_table(plan: Plan, seed: int) -> tuple[Source, Table]:
    """The source's table. Raises DataError where a path is needed and none was given."""
    source: Source = catalog.build("sources", plan.data.source, plan.data.options)
    if source.needs_path and plan.data.path is None:
        raise DataError(
            f"source '{source.name}' reads files, and no path was given",
            found="data.path is not set",
            way_out="give --data PATH, or set data.path in the plan",
        )
    return source, source.load(None if plan.data.path is None else Path(plan.data.path), seed)


def prepare(plan: Plan, seed: int, post: Post) -> Prepared:
    """Load and lay out the data of one seed. Scaling is agreed over `post`, from training units only."""
    source, table = load_table(plan, seed)
    table = assign_splits(table, plan.split.by, plan.split.validation, plan.split.test, seed)
    table, removed = remove_duplicates(table)
    leaks = _leak_notes(table)
    data = streams(table, plan.data.modality)
    sites = plan.sites
    parts = partition(
        data,
        table.site_names,
        table.schema.classes,
        generator(seed, "sites"),
        sites.by,
        sites.count,
        sites.quantity_alpha if sites.by == "quantity" else sites.alpha,
    )
    data = replace(data, site=parts.site)
    data, parts = withhold(data, parts, sites.withhold_families)
    data = shift_features(data, parts, sites.feature_shift, generator(seed, "feature shift"))
    scaling = _agree_scaling(data, parts, post)
    scaled = np.where(data.valid[..., None], apply_scaling(scaling, data.x), 0).astype(np.float32)
    features = table.schema.features[plan.data.modality]
    rate = table.schema.rate_feature
    return Prepared(
        seed=seed,
        schema=table.schema,
        modality=plan.data.modality,
        data=replace(data, x=scaled),
        site_names=parts.site_names,
        parts=parts,
        scaling=scaling,
        rate_column=features.index(rate) if rate in features else None,
        sheet=_sheet(plan, source, table, data, parts, removed, leaks),
    )


def members(prepared: Prepared, without: int | None = None) -> list[np.ndarray[Any, Any]]:
    """Per site, the indices of its training streams; those with any step of `without` are left out."""
    data = prepared.data
    use = data.split == TRAIN
    if without is not None:
        use &= ~carries(data, without)
    return [np.flatnonzero(use & (data.site == site)) for site in range(len(prepared.site_names))]


def _leak_notes(table: Table) -> list[str]:
    """Findings on the features that are kept; they go into the data sheet as notes.

    The check is advice: where the table is too small for it, a note says so, and the run goes on.
    """
    try:
        findings = table_findings(table)
    except DataError as error:
        reason = error.problem if error.found is None else f"{error.problem} (found: {error.found})"
        return [f"Features were not checked for leaks: {reason}."]
    return [
        f"Suspected leak, {' and '.join(finding.columns)}: {finding.why}. To do: {finding.advice}."
        for finding in findings
        if finding.dropped is None
    ]


def schema_words(schema: Schema) -> dict[str, Any]:
    """What a data sheet says of steps: their length (None without a clock) and what they are called."""
    return {
        "step_seconds": float(schema.step_seconds) if schema.timed else None,
        "timed": schema.timed,
        "positive": schema.positive,
        "negative": schema.negative,
    }


def _agree_scaling(data: Streams, parts: Partition, post: Post) -> Scaling:
    counts = []
    for site, name in enumerate(parts.site_names):
        rows = (data.site == site) & (data.split == TRAIN)
        sent = post.send(
            "scaling counts",
            name,
            "coordinator",
            0,
            {"counts": bucket_counts(data.x[rows], data.valid[rows]).astype(np.uint32)},
        )
        counts.append(np.asarray(sent["counts"], np.int64))
    scaling = scaling_from_counts(sum_counts(counts))
    for name in parts.site_names:
        post.send("scaling", "coordinator", name, 0, {"center": scaling.center, "scale": scaling.scale})
    return scaling


def _sheet(
    plan: Plan,
    source: Source,
    table: Table,
    data: Streams,
    parts: Partition,
    removed: int,
    leaks: list[str],
) -> dict[str, Any]:
    family, classes = family_of(data), table.schema.classes
    splits = {}
    for name, split in _SPLITS.items():
        part = select(data, data.split == split)
        attacked = int((part.y[part.valid] > 0).sum())
        splits[name] = {
            "units": len(np.unique(part.unit)),
            "steps": int(part.valid.sum()),
            "attacked_steps": attacked,
        }
    rows = []
    for site, name in enumerate(parts.site_names):
        own = data.site == site
        trained = own & (data.split != TEST)
        rows.append(
            {
                "name": name,
                "train_units": int((own & (data.split == TRAIN)).sum()),
                "validation_units": int((own & (data.split == VALIDATION)).sum()),
                "test_units": int((own & (data.split == TEST)).sum()),
                "steps": int(data.valid[own].sum()),
                "families": {
                    classes[k]: int((trained & (family == k)).sum()) for k in range(1, len(classes))
                },
                "withheld": [classes[k] for k in np.flatnonzero(parts.withheld[site])],
            }
        )
    counts = {"units": len(np.unique(data.unit)), "windows": len(table.y)} | dict(table.counts)
    counts["duplicates_removed"] = int(table.counts.get("duplicates_removed", 0)) + removed
    return {
        "source": plan.data.source,
        "step": table.schema.step,
        **schema_words(table.schema),
        "modality": plan.data.modality,
        "classes": list(classes),
        "features": list(table.schema.features[plan.data.modality]),
        "rate_feature": table.schema.rate_feature,
        "counts": {key: int(value) for key, value in counts.items()},
        "leaks_dropped": dict(source.leaks),
        "splits": splits,
        "sites": rows,
        "notes": [*table.notes, *leaks],
    }
