"""From a plan to what sites hold: loaded, split, deduplicated, partitioned, scaled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto import catalog
from lazaretto.data.appearances import check_appearances
from lazaretto.data.duplicates import remove_duplicates, take, window_digests
from lazaretto.data.irregular import laid_out_names, lay_out
from lazaretto.data.leaks import leak_notes, leak_warnings
from lazaretto.data.named import marks_of, places_of
from lazaretto.data.root_units import draw_root
from lazaretto.data.scaling import Scaling, apply_scaling
from lazaretto.data.sites import Partition, partition, shift_features, unused_sites, withhold
from lazaretto.data.splits import assign_splits
from lazaretto.data.streams import Streams, carries, family_of, rate_column, select, streams
from lazaretto.evaluate.scored import Said
from lazaretto.keys import generator
from lazaretto.plan import Plan
from lazaretto.privacy.counts import CountNoise
from lazaretto.promise import appearances_of, count_noise_of, split_key
from lazaretto.run.from_source import load_table
from lazaretto.run.hostile import hostile_sites, poison_counts, poison_site, said_scores
from lazaretto.run.post import Post
from lazaretto.run.scaled import Agreement, agree_scaling, first_scaling
from lazaretto.run.secret import Door
from lazaretto.run.sheet import schema_words, split_counts
from lazaretto.run.started import start_notes
from lazaretto.types import TEST, TRAIN, VALIDATION, Float, Int, Part, Schema, Source, Table

__all__ = [
    "Keep",
    "Laid",
    "Prepared",
    "deal",
    "lay",
    "load_table",
    "members",
    "prepare",
    "read",
    "reading_notes",
    "ready",
    "rescaled",
    "split_table",
]

Keep = Callable[[Table], NDArray[np.bool_]]
_SPLITS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One seed's data, ready to train and judge on.

    data: scaled streams of all splits, `site` as partitioned, or behind all sites where the coordinator holds
    them itself (`aggregate.root_units`). withheld: [S, K + 1] bool.
    seen: [m, 16] uint8, digests of the windows of training and validation, idle ones left out.
    sheet: body of the run log's record `data`. rate_column: index of the schema's rate feature, or None.
    measured: names of the features as the source gives them, in the order of `scaling`.
    raw: the streams before scaling; kept only where the plan leaves sites out, else None.
    hostile: [S] bool, sites that the plan makes hostile; None where it names no attack. agreement: how the
    sites agree on scaling. appearances: the most examples in which one unit stands, as promised. said: what
    sites say of their scores when thresholds are agreed on; None where none lies.
    """

    seed: int
    schema: Schema
    modality: str
    data: Streams
    site_names: tuple[str, ...]
    parts: Partition
    scaling: Scaling
    rate_column: int | None
    seen: NDArray[np.uint8]
    sheet: dict[str, Any]
    measured: tuple[str, ...]
    raw: Streams | None = None
    hostile: NDArray[np.bool_] | None = None
    agreement: Agreement = "sum"
    door: Door | None = None
    appearances: int = 1
    count_noise: CountNoise | None = None
    said: Said | None = None

    @property
    def kinds(self) -> int:
        """K, number of attack families."""
        return len(self.schema.classes) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """One seed's data as it lies at the sites, before scaling is agreed on and before anybody is hostile.

    Equal for all plans that differ in [attack] alone. data: unscaled streams, `site` as partitioned.
    """

    seed: int
    source: Source
    table: Table
    data: Streams
    parts: Partition
    leaks: list[str]
    seen: NDArray[np.uint8]
    start: list[str]

    @property
    def schema(self) -> Schema:
        """Of the source's table."""
        return self.table.schema

    @property
    def warnings(self) -> list[str]:
        """What makes every figure doubtful: what the source says of itself, and suspected leaks."""
        return [*self.table.warnings, *leak_warnings(self.leaks)]


def prepare(
    plan: Plan,
    seed: int,
    post: Post,
    keep: Keep | None = None,
    count_noise: CountNoise | None = None,
    kept: Path | None = None,
) -> Prepared:
    """Load and lay out the data of one seed. Scaling is agreed over `post`, from training units only.

    count_noise: on what sites count, or None for what the plan says. kept: file that keeps what noisy counts
    came to, for a run that is stopped and goes on.

    keep: (table with splits, free of copies) -> [n] bool, which of its windows there shall be. Nothing that
    comes after, the leak check included, ever sees the others.
    """
    return ready(plan, lay(plan, seed, keep), post, count_noise, kept)


def lay(plan: Plan, seed: int, keep: Keep | None = None) -> Laid:
    """The first part of `prepare`: load, split, deal to sites."""
    source, table = load_table(plan, seed)
    whole = split_table(plan, table, seed)
    table = whole if keep is None else take(whole, keep(whole))
    leaks = leak_notes(table, refuse=plan.data.leaks == "refuse")
    data, parts = deal(plan, table, seed)
    start = start_notes(plan, whole, data.features, seed)
    seen = _seen(table, plan.data.modality)
    return Laid(
        seed=seed, source=source, table=table, data=data, parts=parts, leaks=leaks, seen=seen, start=start
    )


def deal(plan: Plan, table: Table, seed: int) -> tuple[Streams, Partition]:
    """Streams of a table with splits, at the plan's sites. Raises DataError where they cannot be dealt so."""
    sites, key = plan.sites, split_key(plan)
    private = plan.privacy.mechanism != "none"
    data = streams(table, plan.data.modality, marks_of(table, plan.split.key) if private else None)
    places = None if key is None else places_of(table.unit_names, "site", key)
    parts = partition(
        data,
        table.site_names,
        table.schema.classes,
        generator(seed, "sites"),
        sites.by,
        sites.count,
        sites.quantity_alpha if sites.by == "quantity" else sites.alpha,
        places,
    )
    data = replace(data, site=parts.site)
    data, parts = withhold(data, parts, sites.withhold_families, places)
    data = shift_features(data, parts, sites.feature_shift, generator(seed, "feature shift"))
    return draw_root(data, parts, plan.aggregate.root_units, generator(seed, "root data")), parts


def split_table(plan: Plan, table: Table, seed: int) -> Table:
    """The table with its splits, as the plan says.

    Windows whose values stand in an earlier split are removed; not under a mechanism, where whether one is
    there would tell of the other: there a model can hardly know single windows by heart. Raises DataError
    for splits that cannot be had, and where a unit stands in more windows than is promised.
    """
    asked, key = plan.split, split_key(plan)
    table = assign_splits(table, asked.by, asked.validation, asked.test, seed, key, asked.moments)
    if plan.privacy.mechanism == "none":
        return remove_duplicates(table, plan.data.modality)[0]
    if plan.privacy.unit != "site":
        check_appearances(table, appearances_of(plan))
    return replace(table, counts={"duplicates_removed": 0, **table.counts})


def ready(
    plan: Plan, laid: Laid, post: Post, count_noise: CountNoise | None = None, kept: Path | None = None
) -> Prepared:
    """The second part of `prepare`: who is hostile, scaling agreed over `post`, false data."""
    seed, table, data, parts = laid.seed, laid.table, laid.data, laid.parts
    count_noise = count_noise_of(plan, seed) if count_noise is None else count_noise
    if count_noise is not None and plan.privacy.distributed:  # one of those who add it may tell its part
        count_noise = replace(count_noise, among=max(1, len(parts.site_names) - 1))
    hostile = hostile_sites(plan, parts.site_names, seed)
    names = [name for name, bad in zip(parts.site_names, hostile, strict=True) if bad]
    attack = catalog.build("attacks", plan.attack.name, plan.attack.options) if hostile.any() else None

    def said(counts: Int, site: int) -> Int:
        if attack is None or not hostile[site]:
            return counts
        return poison_counts(attack, counts, generator(seed, "scale poisoning", site))

    door = None if plan.secure.protocol == "none" else _door(plan, seed)
    known = None if count_noise is None or kept is None else first_scaling(None, kept)
    if known is not None:  # counted before: noise drawn and told again would cost again
        scaling, notes = known, list[str]()
    else:
        scaling, notes = agree_scaling(data, parts, post, plan.data.scaling, said, door, count_noise)
        if count_noise is not None and kept is not None:
            first_scaling(scaling, kept)
    scaled = read(data, scaling)
    for site in np.flatnonzero(hostile):
        assert attack is not None  # noqa: S101  there are hostile sites
        kinds, rng = len(table.schema.classes) - 1, generator(seed, "poison", int(site))
        scaled = poison_site(attack, scaled, int(site), kinds, rng)
    return Prepared(
        seed=seed,
        schema=table.schema,
        modality=plan.data.modality,
        data=scaled,
        site_names=parts.site_names,
        parts=parts,
        scaling=scaling,
        seen=laid.seen,
        rate_column=rate_column(table.schema, scaled, plan.data.modality),
        sheet=_with_attack(_sheet(plan, laid, laid.start + notes), plan, names),
        measured=data.features,
        raw=data if plan.evaluate.leave_one_site_out else None,
        hostile=hostile if hostile.any() else None,
        agreement=plan.data.scaling,
        door=door,
        appearances=appearances_of(plan),
        count_noise=count_noise,
        said=said_scores(plan, parts.site_names, seed),
    )


def _door(plan: Plan, seed: int) -> Door:
    return Door(plan.secure.protocol, seed, system=plan.privacy.noise == "system")


def rescaled(
    data: Streams,
    parts: Partition,
    post: Post,
    agreement: Agreement = "sum",
    door: Door | None = None,
) -> tuple[Scaling, Streams]:
    """Scaling that the sites of `parts` agree on over `post`, from training units; streams `read` by it."""
    scaling, _ = agree_scaling(data, parts, post, agreement, door=door)
    return scaling, read(data, scaling)


def read(data: Streams, scaling: Scaling) -> Streams:
    """The streams as a model reads them: scaled, 0 where not valid, irregular series laid out. Never NaN."""
    scaled = apply_scaling(scaling, data.x)
    if data.there is not None:
        return _read_all(data, scaled, data.there)
    if data.step_days is None:
        return replace(data, x=np.where(data.valid[..., None], scaled, 0).astype(np.float32))
    x, _ = lay_out(scaled, data.valid, data.step_days)
    series = len(data.features)
    layout = (Part(0, series, 3 * series),)
    return replace(data, x=x, features=laid_out_names(data.features), step_days=None, layout=layout)


def _read_all(data: Streams, scaled: Float, there: NDArray[np.bool_]) -> Streams:
    """Modalities one behind another, then one column each that says whether it is there."""
    columns, names, layout, begin = list[Float](), list[str](), list[Part](), 0
    for at, part in enumerate(data.layout):
        x, own = scaled[..., part.begin : part.end], data.features[part.begin : part.end]
        here = data.valid & there[..., at]
        values = begin + x.shape[-1]
        if data.irregular[at]:
            x, own = lay_out(x, here, data.step_days or 1.0)[0], laid_out_names(own)
        columns.append(np.where(here[..., None], x, 0).astype(np.float32))
        names += own
        layout.append(Part(begin, values, begin + x.shape[-1]))
        begin = layout[-1].end
    columns.append((data.valid[..., None] & there).astype(np.float32))
    names += [f"{name}_is_there" for name in data.names]
    return replace(
        data,
        x=np.concatenate(columns, axis=-1),
        features=tuple(names),
        step_days=None,
        layout=tuple(layout),
    )


def reading_notes(data: Streams) -> list[str]:
    """What must be said of how a model reads the streams, before scaling."""
    notes = []
    if data.step_days is not None:
        notes.append(
            f"Each of the {len(data.features)} series reaches a model as three numbers: its last value, "
            "whether it was measured in this step, and the days since the measurement before."
        )
    if not np.array_equal(data.judged, data.valid):
        notes.append(
            f"All {int(data.valid.sum())} steps are read; trained and judged are {int(data.judged.sum())}."
        )
    return notes


def members(prepared: Prepared, without: int | None = None) -> list[np.ndarray[Any, Any]]:
    """Per site, the indices of its training streams; those with any step of `without` are left out."""
    data = prepared.data
    use = data.split == TRAIN
    if without is not None:
        use &= ~carries(data, without)
    return [np.flatnonzero(use & (data.site == site)) for site in range(len(prepared.site_names))]


def _seen(table: Table, modality: str) -> NDArray[np.uint8]:
    digests, idle = window_digests(table, modality)
    seen: NDArray[np.uint8] = np.unique(digests[(table.split != TEST) & ~idle], axis=0)
    return seen


def _with_attack(sheet: dict[str, Any], plan: Plan, names: Sequence[str]) -> dict[str, Any]:
    """The sheet, and who is hostile in this simulation; as it was where nobody is."""
    if not names:
        return sheet
    kind = catalog.build("attacks", plan.attack.name, plan.attack.options).kind
    attack = {
        "name": plan.attack.name,
        "kind": kind,
        "options": plan.attack.options,
        "sites": list(names),
    }
    said = f"Attacked on purpose: {', '.join(names)} are hostile in this simulation ({plan.attack.name})."
    return sheet | {"attack": attack, "notes": [said, *sheet["notes"]]}


def _root_notes(plan: Plan) -> list[str]:
    units = plan.aggregate.root_units
    return [f"The coordinator holds {units} training units itself (root data); no site trains on them."] * (
        units > 0
    )


def _sheet(plan: Plan, laid: Laid, found: Sequence[str]) -> dict[str, Any]:
    source, table, data, parts = laid.source, laid.table, laid.data, laid.parts
    family, classes = family_of(data), table.schema.classes
    splits = {
        name: split_counts(select(data, data.split == split), classes) for name, split in _SPLITS.items()
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
                "steps": int(data.judged[own].sum()),
                "families": {
                    classes[k]: int((trained & (family == k)).sum()) for k in range(1, len(classes))
                },
                "withheld": [classes[k] for k in np.flatnonzero(parts.withheld[site])],
            }
        )
    counts = {"units": len(np.unique(data.unit)), "windows": len(table.y)} | dict(table.counts)
    return {
        "source": plan.data.source,
        "step": table.schema.step,
        "window_steps": int(data.window),
        **schema_words(table.schema),
        "modality": plan.data.modality,
        "classes": list(classes),
        "features": list(data.features),
        "rate_feature": table.schema.rate_feature,
        "intensity": table.schema.intensity,
        "counts": {key: int(value) for key, value in counts.items()},
        "leaks_dropped": dict(source.leaks),
        "splits": splits,
        "sites": rows,
        "notes": [*table.notes, *reading_notes(data), *_root_notes(plan), *found, *laid.leaks],
        "warnings": [*laid.warnings, *unused_sites(table.site_names, plan.sites.by)],
    }
