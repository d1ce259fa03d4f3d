"""A table's windows joined to whole streams, the form in which everything trains and judges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.types import Float, Int, Part, Schema, Table

__all__ = [
    "COMBINED",
    "Streams",
    "carries",
    "family_of",
    "hide",
    "rate_column",
    "select",
    "streams",
    "windows_of",
]

COMBINED = "combined"  # all modalities of a table, side by side


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """u units, each one stream of L steps (L a multiple of the window, short ones padded at the end).

    x: [u, L, F] float32, 0 where not valid; NaN where an irregular modality has no measurement.
    y: [u, L] class of each step.  valid: [u, L] bool.
    unit, site, split: [u] as in `Table`.  start_time: [u] seconds.
    features: F names.  window: T, steps of one window.
    judged: [u, L] bool, the valid steps that are trained and judged on; the others are read only.
    intensity: [u, L] float32 as in `Table`, 0 where not valid, or None where the source does not know it.
    step_days: length of a step where x may hold NaN (`Schema.irregular`), else None.
    layout, names: columns and name of each modality where there are several, else (). there: [u, L, M] bool,
    which of them a step has; one that is not there is NaN, until the streams are read. irregular: which of
    them hold NaN where nothing was measured, too. origins: [F] what scaling counts from, or () for 0 in all.
    marks: [u, L / T] uint64, a number of each window's own (`named.marks_of`), 0 for padding; None where
    nothing goes by names.
    """

    x: Float
    y: Int
    valid: NDArray[np.bool_]
    judged: NDArray[np.bool_]
    unit: Int
    site: Int
    split: Int
    start_time: NDArray[np.float64]
    features: tuple[str, ...]
    window: int
    intensity: Float | None = None
    step_days: float | None = None
    layout: tuple[Part, ...] = ()
    names: tuple[str, ...] = ()
    there: NDArray[np.bool_] | None = None
    irregular: tuple[bool, ...] = ()
    origins: tuple[float, ...] = ()
    marks: NDArray[np.uint64] | None = None


def streams(table: Table, modality: str, marks: NDArray[np.uint64] | None = None) -> Streams:
    """Join consecutive windows of each unit.

    Units whose windows are all without the modality are left out. A window without it inside a stream
    is marked invalid. Units come in order of their index. A unit that has windows of two splits
    (`split.by = "time"`) becomes one stream per split. `COMBINED` lays all modalities side by side; a window
    counts that has any of them. marks: [n], of the table's windows, which the streams then carry. Raises
    DataError for an unknown modality.
    """
    several = modality == COMBINED and len(table.x) > 1
    if modality not in table.x and not several:
        more = f", or '{COMBINED}' for all of them" if len(table.x) > 1 else ""
        if modality == COMBINED:
            raise DataError(
                f"'{COMBINED}' lays several modalities side by side, and this source has one",
                found=", ".join(table.x),
                way_out=f"a source with several, or a model of one of: {', '.join(table.x)}",
            )
        raise DataError(
            "the table has no such modality", found=modality, way_out=f"one of: {', '.join(table.x)}{more}"
        )
    names = tuple(table.schema.features)
    if several:
        x, present = _side_by_side(table), table.present
    else:
        x, present = table.x[modality], table.present[:, [names.index(modality)]]
    there: NDArray[np.bool_] = table.valid[..., None] & present[:, None, :]
    valid: NDArray[np.bool_] = np.logical_or.reduce(there, axis=2)
    kept = np.flatnonzero(valid.any(axis=1))
    if not kept.size:
        raise DataError(
            "no window holds any valid step", found=f"modality '{modality}'", way_out="check the data"
        )
    order = kept[np.lexsort((table.time[kept], table.split[kept], table.unit[kept]))]
    pair = np.stack([table.unit[order], table.split[order]], axis=1)
    first = np.flatnonzero(np.r_[True, (pair[1:] != pair[:-1]).any(axis=1)])
    lengths = np.diff(np.r_[first, len(order)])
    window, count = x.shape[1], int(lengths.max())
    row = np.repeat(np.arange(len(first)), lengths)
    position = np.arange(len(order)) - np.repeat(first, lengths)

    def lay(values: NDArray[np.generic], fill: object = 0) -> NDArray[np.generic]:
        out = np.full((len(first), count, *values.shape[1:]), fill, values.dtype)
        out[row, position] = values[order]
        return out.reshape(len(first), count * window, *values.shape[2:])

    laid = lay(valid).astype(np.bool_)
    numbers = None
    if marks is not None:
        numbers = np.zeros((len(first), count), np.uint64)
        numbers[row, position] = marks[order]
    judged = valid if table.judged is None else valid & table.judged
    return Streams(
        x=np.where(laid[..., None], lay(x), 0).astype(np.float32),
        y=lay(table.y_step).astype(np.int64),
        valid=laid,
        judged=lay(judged).astype(np.bool_),
        unit=table.unit[order][first],
        site=table.site[order][first],
        split=table.split[order][first],
        start_time=table.time[order][first],
        features=_feature_names(table) if several else table.schema.features[modality],
        window=window,
        intensity=(
            None if table.intensity is None else np.where(laid, lay(table.intensity), 0).astype(np.float32)
        ),
        step_days=(
            table.schema.step_seconds / 86400
            if set(names if several else [modality]) & table.schema.irregular
            else None
        ),
        layout=_layout(table) if several else (),
        names=names if several else (),
        there=lay(there).astype(np.bool_) if several else None,
        irregular=tuple(name in table.schema.irregular for name in names) if several else (),
        origins=tuple(
            table.schema.origins.get(feature, 0.0)
            for name in (names if several else [modality])
            for feature in table.schema.features[name]
        ),
        marks=numbers,
    )


def _side_by_side(table: Table) -> Float:
    """[n, T, F of all modalities], NaN where a window lacks the modality."""
    x = [
        np.where(table.present[:, at, None, None], table.x[name], np.nan)
        for at, name in enumerate(table.schema.features)
    ]
    return np.concatenate(x, axis=-1, dtype=np.float32)


def _layout(table: Table) -> tuple[Part, ...]:
    ends = np.cumsum([len(names) for names in table.schema.features.values()]).tolist()
    return tuple(Part(begin, end, end) for begin, end in zip([0, *ends], ends, strict=False))


def _feature_names(table: Table) -> tuple[str, ...]:
    """All features by name, with the modality before it where two modalities have the same."""
    every = [name for names in table.schema.features.values() for name in names]
    return tuple(
        f"{modality}_{name}" if every.count(name) > 1 else name
        for modality, names in table.schema.features.items()
        for name in names
    )


def rate_column(schema: Schema, data: Streams, modality: str) -> int | None:
    """Column of x of `schema.rate_feature`; None where there is none, or what is read lacks its modality.

    data: streams of `modality`, also as a model reads them (`run.prepare.read`). Another modality may have a
    feature of the same name, which is not the rate.
    """
    rate = schema.rate_feature
    home = next((name for name, names in schema.features.items() if rate in names), None)
    if rate is None or home is None or modality not in (home, COMBINED):
        return None
    begin = data.layout[data.names.index(home)].begin if data.names else 0
    return begin + schema.features[home].index(rate)


def hide(data: Streams, modality: str) -> Streams:
    """Streams as a model reads them (`run.prepare.read`), as if a modality had never been there.

    Steps that had no other stay, and show nothing. Raises DataError where there are not several, or not this.
    """
    if modality not in data.names or data.x.shape[-1] != data.layout[-1].end + len(data.names):
        raise DataError(
            "the streams have no such modality to hide",
            found=modality,
            way_out=f"one of: {', '.join(data.names) or 'none'}",
        )
    at = data.names.index(modality)
    x = data.x.copy()
    x[..., data.layout[at].begin : data.layout[at].end] = 0
    x[..., data.layout[-1].end + at] = 0
    return replace(data, x=x)


def select(data: Streams, rows: NDArray[np.bool_] | Int) -> Streams:
    """The streams in `rows` (mask or indices), in that order."""
    return Streams(
        x=data.x[rows],
        y=data.y[rows],
        valid=data.valid[rows],
        judged=data.judged[rows],
        unit=data.unit[rows],
        site=data.site[rows],
        split=data.split[rows],
        start_time=data.start_time[rows],
        features=data.features,
        window=data.window,
        intensity=None if data.intensity is None else data.intensity[rows],
        step_days=data.step_days,
        layout=data.layout,
        names=data.names,
        there=None if data.there is None else data.there[rows],
        irregular=data.irregular,
        origins=data.origins,
        marks=None if data.marks is None else data.marks[rows],
    )


def windows_of(data: Streams) -> Streams:
    """Every window that has a valid step as a stream of its own, in order: records as they stand alone.

    start_time is that of the whole stream.
    """
    count = data.x.shape[1] // data.window

    def cut(values: Any) -> Any:
        return None if values is None else values.reshape(-1, data.window, *values.shape[2:])

    single = replace(
        select(data, np.repeat(np.arange(len(data.y)), count)),
        x=cut(data.x),
        y=cut(data.y),
        valid=cut(data.valid),
        judged=cut(data.judged),
        intensity=cut(data.intensity),
        there=cut(data.there),
        marks=None if data.marks is None else data.marks.reshape(-1, 1),
    )
    return select(single, np.flatnonzero(single.valid.any(axis=1)))


def carries(data: Streams, family: int) -> NDArray[np.bool_]:
    """[u] whether a stream has any judged step of the class `family`; a stream may carry several."""
    found: NDArray[np.bool_] = ((data.y == family) & data.judged).any(axis=1)
    return found


def family_of(data: Streams) -> Int:
    """[u] class of the attack that a stream carries (the largest index if several), 0 for none."""
    carried: Int = np.where(data.judged, data.y, 0).max(axis=1)
    return carried
