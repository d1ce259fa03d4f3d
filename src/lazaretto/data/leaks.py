"""Columns that give the label away: each alone, and two by two, on groups of rows never learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto.data._leak_scores import (
    Column,
    areas,
    cell_scores,
    halves,
    indicator_auroc,
    pair_scores,
    prepare,
    tree_scores,
)
from lazaretto.errors import DataError
from lazaretto.keys import generator
from lazaretto.types import Int, RawRows, Table

__all__ = ["Finding", "leak_notes", "leak_warnings", "suspected_leaks", "table_findings"]

MOST_ROWS = 60_000
MOST_PAIR_COLUMNS = 80
MOST_PAIRS_SHOWN = 12
MOST_FILES = 4  # that lack a column, by name
PAIR_GAIN = 0.05  # by how much two columns must beat the better one alone
FAMILY_THRESHOLD = 0.99  # for one family against normal: many honest features tell one family well
_SENTINELS = (-1.0, 0.0, 999.0, 9999.0, 65535.0, -999.0, -9999.0)

_SUSPECTED = "Suspected leak"
_ADVICE = {  # {drop}: how a column, or a feature, is kept out
    "value": "{drop}, unless a detector outside would see it and an attacker could not choose it",
    "family": "look whether this is the attack or the way it was staged; in the second case {drop}",
    "address": "{drop}: addresses and names of fixed machines do not carry over to another network",
    "time": "{drop}, and split by blocks of time or by unit, never by row",
    "order": "labels come in blocks of rows: split by unit or by blocks of time, never by row",
    "missing": "{drop}, or fill it in the same way for all classes before use",
    "sentinel": "treat the pile-up as missing, or {drop}",
    "constant": "look whether the tool that made this class wrote it; if so {drop}",
    "direction": "who talks to whom tells the class: use both directions of a flow, or {drop}",
    "identifier": "{drop}: nearly every row has its own value, so it can only be learned by heart",
    "duplicates": "split by whole units or groups; windows that stand in two splits a run removes itself",
    "pair": "together they give the label away; {drop}, or show that it is the attack itself",
}
_DROP_RAW = "keep features made of this out of the model (data.drop; out already where none is made of it)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One suspicion.

    columns: what it is about ("(row order)" and "(rows)" stand for the file itself).
    kind:    value, family, address, time, order, missing, sentinel, constant, direction, identifier,
             duplicates or pair.
    auroc:   on groups that were not learned from; None where the suspicion is not a score.
    why:     one sentence; dropped: the source's reason if it drops all (of a pair: one) of them already.
    advice:  what to do.
    """

    columns: tuple[str, ...]
    kind: str
    auroc: float | None
    why: str
    dropped: str | None
    advice: str


def suspected_leaks(
    raw: RawRows, threshold: float = 0.95, dropped: Mapping[str, str] | None = None, seed: int = 0
) -> list[Finding]:
    """Columns, pairs and orders of rows that tell attack from normal with AUROC >= threshold.

    Groups are halved (by what they carry); a column's scores are learned on one half and judged on the
    other, both ways, and averaged: a tree of 32 leaves on numbers, attack shares of categories, and whether
    the cell is missing. The best of the three counts. One family against normal counts from .99.
    Pairs (of up to 80 columns that are not suspected alone) are scored on a grid of 16 x 16 cells.
    Above 60,000 rows, a drawn 60,000 are looked at, in their order. `dropped` is the source's `leaks`.

    Returns findings, the worst first, those without a score last. A suspicion is no proof: a flood does
    show in packet rates. Raises DataError for no rows, one class only, ragged columns or too few groups.
    """
    _check(raw)
    known = dict(dropped or {})
    rows = _thin(raw, seed)
    attacked = rows.label > 0
    learn = halves(rows.label, rows.group, seed)
    columns = [prepare(name, values) for name, values in rows.columns.items()]
    found, alone = [], {}
    for column in columns:
        alone[column.name], finding = _single(column, rows, learn, threshold, known)
        found += [finding] if finding else []
    flagged = {f.columns[0] for f in found if f.kind != "family"}
    free = [c for c in columns if c.name not in flagged and c.distinct + bool(c.missing.any()) > 1]
    free = sorted(free, key=lambda c: -alone[c.name])[:MOST_PAIR_COLUMNS]
    found += _pairs(free, alone, attacked, learn, threshold, known)
    found += _rows(raw, rows, learn, threshold, [c.name for c in columns if _is_identifier(c) or _is_time(c)])
    return sorted(found, key=lambda f: (f.auroc is None, -(f.auroc or 0.0), f.columns))


def table_findings(table: Table, threshold: float = 0.95, seed: int = 0) -> list[Finding]:
    """The same for the features that a source keeps, step by step; groups are units.

    Raises as `suspected_leaks`; a table of one unit per class is too small for it.
    """
    rows, steps = np.nonzero(table.valid)
    several = len(table.schema.features) > 1
    columns = {
        f"{modality}: {name}" if several else name: table.x[modality][rows, steps, place]
        for modality, names in table.schema.features.items()
        for place, name in enumerate(names)
    }
    label, group = table.y_step[rows, steps], table.unit[rows]
    raw = RawRows(columns=columns, label=label, group=group, classes=table.schema.classes)
    found = suspected_leaks(raw, threshold, {}, seed)
    # order and copies of steps are the splits' business; here only features are asked about
    return [
        replace(f, advice=_ADVICE[f.kind].format(drop=_drop_words(f.columns)))
        for f in found
        if f.kind not in ("order", "duplicates", "identifier")
    ]


def _drop_words(columns: Sequence[str]) -> str:
    """How a plan keeps a feature, or one of a pair, out of the model."""
    return f"drop {'it' if len(columns) == 1 else 'one'} (data.drop = {json.dumps(list(columns[:1]))})"


def _check(raw: RawRows) -> None:
    n = len(raw.label)
    if n == 0 or not raw.columns:
        raise DataError("there is nothing to check for leaks", found=f"{n} rows, {len(raw.columns)} columns")
    for name, values in {**raw.columns, "(group)": raw.group}.items():
        if len(values) != n:
            raise DataError(
                f"column '{name}' is not as long as the labels", found=f"{len(values)} values for {n} labels"
            )
    if not (raw.label > 0).any() or not (raw.label == 0).any():
        raise DataError(
            "leaks cannot be judged with one class only",
            found="all normal" if (raw.label == 0).any() else "all attacked",
            way_out="give rows of both kinds",
        )


def _thin(raw: RawRows, seed: int) -> RawRows:
    """At most MOST_ROWS rows, in their order, drawn over all groups."""
    n = len(raw.label)
    if n <= MOST_ROWS:
        return raw
    keep = np.sort(generator(seed, "leaks", "thin").choice(n, MOST_ROWS, replace=False))
    return RawRows(
        columns={name: values[keep] for name, values in raw.columns.items()},
        label=raw.label[keep],
        group=raw.group[keep],
        classes=raw.classes,
        lacking=raw.lacking,
    )


def _single(
    column: Column, rows: RawRows, learn: NDArray[np.bool_], threshold: float, dropped: Mapping[str, str]
) -> tuple[float, Finding | None]:
    label, attacked = rows.label, rows.label > 0
    if column.distinct + bool(column.missing.any()) < 2:
        return 0.5, None
    forms = []
    if column.number is not None:
        forms.append(tree_scores(column.number, attacked, learn))
    if column.code is not None:
        forms.append(cell_scores(column.code, attacked, learn))
    forms.append(cell_scores(column.missing.astype(np.int64), attacked, learn))
    best, told = 0.5, np.full(int(label.max()), 0.5)
    for form in forms:
        sides = [_areas(label[judged], score, len(told)) for judged, score in form]
        mean = (sides[0] + sides[1]) / 2
        best = max(best, float(mean[0]))
        told = np.fmax(told, mean[1:])
    family_best = float(told.max())
    if best >= threshold:
        kind, why = _explain(column, attacked, best)
        why += _lacking(rows, column) if kind == "missing" else ""
        return best, _finding((column.name,), kind, best, why, dropped)
    constant = _constant_class(column, label)
    if constant is not None:
        gap = bool(column.missing[label == constant].mean() > 0.5)
        kind, same = ("missing", "missing") if gap else ("constant", "the same value")
        why = f"{same} in every row of {_class_name(rows, constant)}, and hardly ever elsewhere"
        why += _lacking(rows, column) if gap else ""
        return best, _finding((column.name,), kind, max(best, family_best), why, dropped)
    if _is_time(column):
        why = "it grows with the rows, so it is a clock or a counter"
        return best, _finding((column.name,), "time", best, why, dropped)
    if _is_identifier(column):
        why = f"{column.distinct} values in {int((~column.missing).sum())} rows: it names the row"
        return best, _finding((column.name,), "identifier", best, why, dropped)
    telling = np.flatnonzero(told >= max(FAMILY_THRESHOLD, threshold))
    if telling.size:
        which = ", ".join(_class_name(rows, int(k) + 1) for k in telling)
        why = f"by itself it tells {which} from normal (all attacks: {best:.3f})"
        return best, _finding((column.name,), "family", family_best, why, dropped)
    return best, None


def _lacking(rows: RawRows, column: Column) -> str:
    """In which files there is no such column, as the end of a sentence; "" where all have it."""
    files = rows.lacking.get(column.name, ())
    more = f" and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
    return f": there is no such column in {', '.join(files[:MOST_FILES])}{more}" if files else ""


def _class_name(rows: RawRows, k: int) -> str:
    return rows.classes[k] if k < len(rows.classes) else f"class {k}"


def _areas(label: Int, score: NDArray[np.float64], kinds: int) -> NDArray[np.float64]:
    """AUROC of all attacks and of each class [1 + kinds]; NaN for a class under 20 rows, or alone."""
    found = np.full(1 + kinds, np.nan)
    area = areas(label, score)
    found[: len(area)] = area
    rows = np.bincount(label, minlength=1 + kinds)[1:]
    found[1:][(rows < 20) | ((rows > 0).sum() < 2)] = np.nan
    return found


def _explain(column: Column, attacked: NDArray[np.bool_], area: float) -> tuple[str, str]:
    """Kind and reason of a column that gives the label away."""
    if indicator_auroc(column.missing, attacked) >= area - 0.02:
        return "missing", "whether the cell is empty tells the label"
    if _is_time(column):
        return "time", "it grows with the rows, and attacks were run in blocks of time"
    if column.number is not None:
        for value in _SENTINELS:
            here = column.number == value
            if here.mean() >= 0.05 and column.distinct > 8 and indicator_auroc(here, attacked) >= area - 0.02:
                return (
                    "sentinel",
                    f"the value {value:g} piles up ({here.mean():.0%} of rows) and tells the label",
                )
    if column.text and any(word in column.name.lower() for word in ("dir",)):
        return "direction", "the direction of a row tells the label"
    if column.text and column.distinct > 2:
        return "address", f"one of {column.distinct} names or addresses, each nearly always of one label"
    return "value", f"alone it tells attack from normal ({column.distinct} values)"


def _is_time(column: Column) -> bool:
    """Hardly ever falls where it changes from row to row, with many values."""
    if column.number is None or column.distinct < 50:
        return False
    held = column.number[~column.missing]
    changes = np.diff(held)[np.diff(held) != 0]
    return bool(len(changes) > 50 and (changes > 0).mean() >= 0.97)


def _is_identifier(column: Column) -> bool:
    held = int((~column.missing).sum())
    return column.whole and held >= 100 and column.distinct >= 0.95 * held


def _constant_class(column: Column, label: Int) -> int | None:
    """A class of at least 50 rows whose single value (or gap) is in under 1 % of all other rows."""
    for k in np.unique(label):
        mine = column.ranks[label == k]
        if len(mine) < 50:
            continue
        values, counts = np.unique(mine, return_counts=True)
        common = values[counts.argmax()]
        if counts.max() >= 0.999 * len(mine) and float((column.ranks[label != k] == common).mean()) < 0.01:
            return int(k)
    return None


def _pairs(
    free: Sequence[Column],
    alone: Mapping[str, float],
    attacked: NDArray[np.bool_],
    learn: NDArray[np.bool_],
    threshold: float,
    dropped: Mapping[str, str],
) -> list[Finding]:
    found = []
    for place, first in enumerate(free):
        for second in free[place + 1 :]:
            area = pair_scores(first.cells, second.cells, attacked, learn)
            if area < threshold or area < max(alone[first.name], alone[second.name]) + PAIR_GAIN:
                continue
            ends = first.text and second.text and _overlap(first, second)
            why = (
                "the two ends of a row: who talks to whom tells the label"
                if ends
                else f"together {area:.3f}, alone {alone[first.name]:.3f} and {alone[second.name]:.3f}"
            )
            kind = "direction" if ends else "pair"
            found.append(_finding((first.name, second.name), kind, area, why, dropped))
    shown: list[Finding] = []
    for finding in sorted(found, key=lambda f: -(f.auroc or 0.0)):
        # a strong column makes a pair with every other: two of them are enough to see it
        if all(sum(name in f.columns for f in shown) < 2 for name in finding.columns):
            shown.append(finding)
    return shown[:MOST_PAIRS_SHOWN]


def _overlap(first: Column, second: Column) -> bool:
    words = ("src", "dst", "source", "dest")
    return sum(any(word in column.name.lower() for word in words) for column in (first, second)) == 2


def _rows(
    raw: RawRows, rows: RawRows, learn: NDArray[np.bool_], threshold: float, leave_out: Sequence[str]
) -> list[Finding]:
    """What the order of rows, and copies of rows, give away."""
    found = []
    attacked = rows.label > 0
    order = np.arange(len(rows.label), dtype=np.float64)
    area = float(
        np.mean([areas(rows.label[j], s)[0] for j, s in tree_scores(order, attacked, learn, leaves=64)])
    )
    if area >= threshold - 0.05:  # at the edges of blocks some rows are always misjudged
        why = "rows of one label lie together in the file, so a row's neighbours tell its label"
        found.append(_finding(("(row order)",), "order", area, why, {}))
    kept = [name for name in raw.columns if name not in leave_out]
    if len(kept) >= 3:
        frame = pl.DataFrame(
            {f"c{i}": pl.Series(rows.columns[n].tolist(), strict=False) for i, n in enumerate(kept)}
        )
        code = frame.hash_rows(seed=0).to_numpy()
        groups = pl.DataFrame({"code": code, "group": rows.group}).select(
            (pl.col("group").n_unique().over("code") > 1).mean()
        )
        share = float(groups.item())
        if share >= 0.05:
            why = f"{share:.0%} of rows stand, but for clocks and identifiers, in another group too"
            found.append(_finding(("(rows)",), "duplicates", None, why, {}))
    return found


def _finding(
    columns: tuple[str, ...], kind: str, area: float | None, why: str, dropped: Mapping[str, str]
) -> Finding:
    reason = next((dropped[name] for name in columns if name in dropped), None)
    advice = _ADVICE[kind].format(drop=_DROP_RAW)
    return Finding(columns=columns, kind=kind, auroc=area, why=why, dropped=reason, advice=advice)


def leak_notes(table: Table, refuse: bool = False) -> list[str]:
    """Findings on the features that are kept; they go into the data sheet as notes.

    The check is advice: a flood does show in packet rates, and no score tells that from a label that leaks.
    So a run goes on, and says it; also where the table is too small for the check. With `refuse` it does
    not: raises DataError that names the features, or that they could not be checked.
    """
    try:
        findings = [finding for finding in table_findings(table) if finding.dropped is None]
    except DataError as error:
        if refuse:
            raise
        reason = error.problem if error.found is None else f"{error.problem} (found: {error.found})"
        return [f"Features were not checked for leaks: {reason}."]
    if findings and refuse:
        raise DataError(
            "features may give the label away, and the plan refuses those (data.leaks)",
            found="; ".join(f"{' and '.join(finding.columns)}: {finding.why}" for finding in findings),
            way_out="name them in data.drop, or show that a detector would see them and set "
            'data.leaks = "report"',
        )
    return [
        f"{_SUSPECTED}, {' and '.join(finding.columns)}: {finding.why}. To do: {finding.advice}."
        for finding in findings
    ]


def leak_warnings(notes: Sequence[str]) -> list[str]:
    """One sentence for the head of a report, where there are notes of suspected leaks; else none."""
    count = sum(note.startswith(_SUSPECTED) for note in notes)
    if not count:
        return []
    who = "One leak of labels is suspected" if count == 1 else f"{count} leaks of labels are suspected"
    said = "in the features. If they come of how the data was gathered, all figures here are too good to be"
    return [f"{who} {said} true: `lazaretto data check` lists them, and the notes of a run's data sheet."]
