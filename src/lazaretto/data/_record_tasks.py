"""What is asked of records: which hours are forged, or who died. From clean stays to a table with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lazaretto import keys
from lazaretto.data.duplicates import take
from lazaretto.data.tampering import INTENSITY, INTENSITY_EDGES, Tampered, tamper
from lazaretto.errors import PlanError
from lazaretto.types import NORMAL, TEST, TRAIN, VALIDATION, Int, Table

__all__ = ["check_copies", "mixing", "with_outcome", "with_tampering"]

_MOST_COPIES = 16
_FEW = 3  # stays of a site that are dealt for themselves
_FORGED = (
    (
        "A construction: forgeries are laid over real series by a seed. Who forges records in earnest may "
        "do it otherwise; how often it happens is not known."
    ),
    (
        "Only measured values are altered, never when something was measured. After a forgery ends, its last "
        "values are carried on until the next measurement, in steps that count as normal."
    ),
)
_COPIES = (
    "Each of the {} training stays is there {} times, with forgeries drawn anew each time: counts of "
    "training units and steps, and bytes of pooling, are of these. Stays of validation and test are there "
    "once."
)
_NONE = ("None of these series could be forged: vital signs or laboratory values are needed.",)
_DEATH = (
    "A clinical task: what is to be found is death in hospital. The whole stay is read, and only its "
    "last step is trained and judged."
)


def check_copies(source: str, copies: object, task: str) -> None:
    """Raises PlanError, naming the source, unless `copies` of each training stay can be made: 1 to 16.

    Only where records are forged: copies of what is as it was would be the same again.
    """
    if isinstance(copies, bool) or not isinstance(copies, int) or not 1 <= copies <= _MOST_COPIES:
        raise PlanError(
            f"{source}: training_copies is out of range", found=copies, way_out=f"1 to {_MOST_COPIES}"
        )
    if copies > 1 and task != "tampering":
        raise PlanError(
            f"{source}: training_copies are forged anew, and task '{task}' forges nothing",
            found=copies,
            way_out='leave it out, or set task = "tampering"',
        )


def mixing(task: str, kinds: Sequence[str]) -> str:
    """How forgeries of these kinds make one stay depend on others (`Source.mixes`); "" where they do not."""
    if task != "tampering" or "swap" not in kinds:
        return ""
    return "forgeries of kind 'swap' put values of one stay into another"


def with_tampering(
    source: str, table: Table, seed: int, share: float, kinds: Sequence[str], copies: int = 1
) -> Table:
    """Clean stays (one window each, all of L steps) with campaigns laid over `share` of them, and splits.

    The splits (55, 15 and 30 % of each site; sites of under three stays together) are made first, so that
    a swap takes its values from a stay of the same site and split. copies, >= 1: each training stay is there
    so often, as a unit of its own each time, with forgeries drawn anew; the first are those of copies = 1.
    """
    group = _groups(table.site)
    split = _dealt(group, keys.generator(seed, source, "splits"))
    rng = keys.generator(seed, source, "tampering")
    (modality,) = table.schema.features
    names = table.schema.features[modality]
    clean = table.x[modality]
    made = tamper(clean, 4 * group + split, names, rng, share, tuple(kinds))
    stays = len(split)
    table = replace(table, x={modality: made.x}, y_step=made.label, split=split, intensity=made.intensity)
    if copies > 1:
        rows = np.flatnonzero(split == TRAIN)
        others = []
        for copy in range(2, copies + 1):
            rng = keys.generator(seed, source, "tampering", copy)
            others.append(tamper(clean[rows], group[rows], names, rng, share, tuple(kinds)))
        table = _with_copies(table, rows, others)
    label = table.y_step.max(axis=1)
    return replace(
        table,
        y=label,
        notes=(
            *_FORGED,
            *(() if label.any() else _NONE),
            *([_COPIES.format(int((split == TRAIN).sum()), copies)] if copies > 1 else ()),
            *table.notes,
        ),
        counts={**table.counts, "stays_tampered": int((label[:stays] > 0).sum())},
        schema=replace(
            table.schema,
            classes=(NORMAL, *kinds),
            intensity=INTENSITY,
            intensity_edges=INTENSITY_EDGES,
            positive="tampered steps",
            negative="untouched steps",
        ),
    )


def with_outcome(table: Table, died: NDArray[np.bool_], notes: tuple[str, ...]) -> Table:
    """Clean stays (one window each) with death [n] as the class of every step; the last is judged."""
    y = died.astype(np.int64)
    return replace(
        table,
        y=y,
        y_step=np.where(table.valid, y[:, None], 0),
        judged=table.valid & (np.arange(table.valid.shape[1]) == table.valid.sum(axis=1)[:, None] - 1),
        notes=(_DEATH, *notes, *table.notes),
        schema=replace(
            table.schema,
            classes=(NORMAL, "died"),
            timed=False,
            positive="patients who died",
            negative="patients who lived",
        ),
    )


def _with_copies(table: Table, rows: Int, made: Sequence[Tampered]) -> Table:
    """The table with its windows `rows` once more for each of `made` [m, L, ...], as units of their own."""
    (modality,) = table.x
    every = np.concatenate([np.arange(len(table.y)), np.tile(rows, len(made))])
    names = tuple(
        f"{table.unit_names[table.unit[row]]} (copy {copy})"
        for copy in range(2, len(made) + 2)
        for row in rows
    )
    whole = take(table, every)
    return replace(
        whole,
        x={modality: np.concatenate([table.x[modality], *(one.x for one in made)])},
        y_step=np.concatenate([table.y_step, *(one.label for one in made)]),
        intensity=np.concatenate([np.asarray(table.intensity), *(one.intensity for one in made)]),
        unit=np.concatenate([table.unit, len(table.unit_names) + np.arange(len(names))]),
        unit_names=(*table.unit_names, *names),
    )


def _groups(site: Int) -> Int:
    """[n] number of the site, those of few stays (and of none) being one group, 0."""
    _, position, count = np.unique(site, return_inverse=True, return_counts=True)
    few = (count < _FEW)[position] | (site < 0)
    group: Int = np.where(few, 0, position + 1).astype(np.int64)
    return group


def _dealt(group: Int, rng: np.random.Generator) -> Int:
    """[n] 55 % training, 15 % validation, 30 % test of each group, one each at least where it has three."""
    split = np.full(len(group), TRAIN, np.int64)
    for one in np.unique(group):
        rows = rng.permutation(np.flatnonzero(group == one))
        if len(rows) >= _FEW:
            test, validation = (max(1, round(share * len(rows))) for share in (0.3, 0.15))
            split[rows[:test]] = TEST
            split[rows[test : test + validation]] = VALIDATION
    return split
