"""What is asked of records: which hours are forged, or who died. From clean stays to a table with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lazaretto import keys
from lazaretto.data.tampering import INTENSITY, INTENSITY_EDGES, tamper
from lazaretto.types import NORMAL, TEST, TRAIN, VALIDATION, Int, Table

__all__ = ["with_outcome", "with_tampering"]

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
_NONE = ("None of these series could be forged: vital signs or laboratory values are needed.",)
_DEATH = (
    "A clinical task: what this report calls an attack is death in hospital. The whole stay is read, and "
    "only its last step is trained and judged."
)


def with_tampering(source: str, table: Table, seed: int, share: float, kinds: Sequence[str]) -> Table:
    """Clean stays (one window each, all of L steps) with campaigns laid over `share` of them, and splits.

    The splits (55, 15 and 30 % of each site; sites of under three stays together) are made first, so that
    a swap takes its values from a stay of the same site and split.
    """
    group = _groups(table.site)
    split = _dealt(group, keys.generator(seed, source, "splits"))
    rng = keys.generator(seed, source, "tampering")
    (modality,) = table.schema.features
    names = table.schema.features[modality]
    made = tamper(table.x[modality], 4 * group + split, names, rng, share, tuple(kinds))
    label = made.label.max(axis=1)
    return replace(
        table,
        x={modality: made.x},
        y=label,
        y_step=made.label,
        split=split,
        intensity=made.intensity,
        notes=(*_FORGED, *(() if label.any() else _NONE), *table.notes),
        counts={**table.counts, "stays_tampered": int((label > 0).sum())},
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
