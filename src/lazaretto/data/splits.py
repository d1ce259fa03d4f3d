"""Training, validation and test: by unit or by time, never by row."""

from __future__ import annotations

import glob
import json
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lazaretto.data.named import places_of
from lazaretto.errors import DataError
from lazaretto.keys import generator
from lazaretto.types import TEST, TRAIN, UNASSIGNED, VALIDATION, Int, Table

__all__ = ["assign_splits"]

_NAMES = {TRAIN: "training", VALIDATION: "validation", TEST: "test"}


def assign_splits(
    table: Table,
    by: Literal["unit", "time"] = "unit",
    validation: float = 0.15,
    test: float = 0.3,
    seed: int = 0,
    key: str | None = None,
    moments: tuple[float, float] | None = None,
) -> Table:
    """Give every window a split. A table whose source has decided is only checked.

    by="unit": units are dealt out, stratified by the rarest class that a unit carries (units of only
    normal steps are a stratum of their own) and spread over the natural sites. A stratum of three or
    more units has one in each split, one of two has train and test, one of one has train.
    by="time": each natural site (or the whole table, where there are none) has two moments; windows that
    start before the first are training, between them validation, after them test. Windows stay
    whole. A unit that is cut becomes one unit per split, named "unit (test)".

    key: then, by unit, each unit's part comes of its own name and this word (`named.places_of`), whatever the
    seed and whoever else is there: nothing is stratified, counted or moved, so shares are met by chance.
    moments: then, by time, these two of the source's clock are the moments of all sites, in seconds.

    Guaranteed, for both: no unit stands in two splits; every split has normal steps and attacked steps.
    By unit without a key also: every class in validation or test is in training, and every natural site has
    a training unit. By time a later split may hold a class that training has not: a note says which.

    `validation` and `test` are shares of units (by time: of windows), each in (0, 1), together under .9.
    Raises DataError for shares out of range, an empty table, one class only, fewer units than
    splits, a unit in two splits, or a split that would be without normal or attacked steps.
    """
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 0.9):
        raise DataError(
            "shares of validation and test must each lie in (0, 1) and leave a tenth for training",
            found=f"validation = {validation}, test = {test}",
            way_out="for instance validation = 0.15, test = 0.3",
        )
    if by not in ("unit", "time"):
        raise DataError("splits are by unit or by time", found=by, way_out='[split] by = "unit" or "time"')
    _check_classes(table)
    undecided = table.split == UNASSIGNED
    if not undecided.any():
        _check_result(table, by="the source")
        return table
    if by == "time":
        result = _by_time(table, undecided, validation, test, moments)
    elif key is not None:
        result = _by_name(table, undecided, validation, test, key)
    else:
        result = _by_unit(table, undecided, validation, test, seed)
    _check_result(result, "name" if by == "unit" and key is not None else by)
    return _with_notes(result)


def _check_classes(table: Table) -> None:
    if not len(table.y):
        raise DataError("the table has no windows", way_out="check the source's path and its filters")
    held = np.unique(table.y_step[table.valid])
    if len(held) < 2 or 0 not in held:
        raise _one_kind(table, held)
    units = len(np.unique(table.unit))
    if len(table.y) < 3 or units < 1:
        raise DataError(
            "too few windows for training, validation and test",
            found=f"{len(table.y)} windows of {units} units",
            way_out="add data, or make windows shorter (window steps) so that there are at least three",
        )


def _one_kind(table: Table, held: Int) -> DataError:
    """Why nothing can be learned. What the words of labels were taken for is asked where files have any."""
    only = ", ".join(table.schema.classes[c] for c in held) or "nothing"
    if not len(held) or 0 in held:
        more = (
            "look whether the words taken as normal (data.options.label.normal) take in those of the attacks"
            if table.labels
            else 'an option of the source that makes some (of records: data.options.task = "tampering")'
        )
        return DataError(
            "no step is attacked: a detector needs normal steps and attacked steps",
            found=f"only {only}",
            way_out=f"add attacks, or {more}",
        )
    if not table.labels:
        return DataError(
            "no step is normal: a detector needs normal steps and attacked steps",
            found=f"only {only}",
            way_out="add normal data, or attack a smaller share where an option of the source says how much",
        )
    steps = table.y_step[table.valid]
    most = table.schema.classes[max(held, key=lambda c: int((steps == c).sum()))]
    texts = {text: rows for (text, name), rows in table.labels.items() if name == most and text.strip()}
    text = max(texts, key=lambda each: texts[each], default=most).strip()
    pattern = json.dumps(glob.escape(text), ensure_ascii=False)  # labels are matched as they stand in files
    return DataError(
        f"no step is normal: is '{text}' your normal label? A detector needs normal steps and attacked steps",
        found=f"only {only}",
        way_out=f"say which labels are normal (normal = [{pattern}] in [data.options.label] of a plan), or "
        "add normal data",
    )


def _carried(table: Table, chosen: NDArray[np.bool_]) -> tuple[Int, NDArray[np.bool_]]:
    """Numbers of the units [u] in chosen windows, and which classes each has [u, classes]."""
    units, position = np.unique(table.unit[chosen], return_inverse=True)
    carried = np.zeros((len(units), len(table.schema.classes)), bool)
    rows, steps = np.nonzero(table.valid[chosen])
    carried[position[rows], table.y_step[chosen][rows, steps]] = True
    return units, carried


def _strata(carried: NDArray[np.bool_]) -> Int:
    """The rarest attack class that a unit carries, 0 where it carries none. [u]"""
    frequency = carried.sum(axis=0).astype(float)
    cost = np.where(carried, frequency[None, :], np.inf)
    cost[:, 0] = np.inf
    rarest = cost.argmin(axis=1)
    return np.asarray(np.where(carried[:, 1:].any(axis=1), rarest, 0), np.int64)


def _deal(count: int, validation: float, test: float) -> Int:
    """How many of `count` units go to training, validation and test. [3]"""
    if count < 3:
        return np.array([[0, 0, 0], [1, 0, 0], [1, 0, 1]][count], np.int64)
    shares = np.array([1 - validation - test, validation, test]) * count
    dealt: Int = np.maximum(np.floor(shares), 1).astype(np.int64)
    while dealt.sum() > count:
        dealt[dealt.argmax()] -= 1
    while dealt.sum() < count:
        dealt[(shares - dealt).argmax()] += 1
    return dealt


def _spread(dealt: Int) -> Int:
    """Split of each place in a row of units, so that every split is spread evenly over the row."""
    count = int(dealt.sum())
    places = np.empty(count, np.int64)
    owed = np.zeros(3)
    left = dealt.copy()
    for place in range(count):
        owed += dealt / count
        pick = int(np.where(left > 0, owed, -np.inf).argmax())
        owed[pick] -= 1
        left[pick] -= 1
        places[place] = pick
    return places


def _by_unit(table: Table, undecided: NDArray[np.bool_], validation: float, test: float, seed: int) -> Table:
    units, carried = _carried(table, undecided)
    if len(units) < 3:
        raise DataError(
            "training, validation and test need at least three units",
            found=f"{len(units)} unit(s): {', '.join(table.unit_names[u] for u in units)}",
            way_out='add units, cut long ones (flows_csv: steps.per_unit), or [split] by = "time"',
        )
    first = np.unique(table.unit[undecided], return_index=True)[1]
    home = table.site[undecided][first]
    strata = _strata(carried)
    draw = generator(seed, "splits", "unit")
    split = np.zeros(len(units), np.int64)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        members = members[draw.permutation(len(members))]
        members = members[np.argsort(home[members], kind="stable")]
        split[members] = _spread(_deal(len(members), validation, test))
    split = _mend(_kinds(split, carried), carried, home)
    result = table.split.copy()
    result[undecided] = split[np.searchsorted(units, table.unit[undecided])]
    return replace(table, split=result)


def _by_name(table: Table, undecided: NDArray[np.bool_], validation: float, test: float, key: str) -> Table:
    place = places_of(table.unit_names, "part", key)
    part = np.where(place < test, TEST, np.where(place < test + validation, VALIDATION, TRAIN))
    return replace(table, split=np.where(undecided, part[table.unit], table.split))


def _kinds(split: Int, carried: NDArray[np.bool_]) -> Int:
    """Where validation or test has no normal or no attacked unit, move one there from where there are most.

    So that ten families of two units each, all dealt to training and test, leave some for validation.
    """
    split = split.copy()
    for members in (carried[:, 0], carried[:, 1:].any(axis=1)):
        for part in (VALIDATION, TEST):
            held = np.bincount(split[members], minlength=3)
            richest = int(held.argmax())
            if held[part] == 0 and held[richest] >= 2:
                split[np.flatnonzero(members & (split == richest))[0]] = part
    return split


def _mend(split: Int, carried: NDArray[np.bool_], home: Int) -> Int:
    """Move single units until training has every class, and every natural site a training unit.

    Only towards training, so it ends; what it took from the others is checked afterwards.
    """
    split = split.copy()
    wanted = [carried[:, c] for c in range(carried.shape[1])]
    wanted += [home == site for site in np.unique(home[home != UNASSIGNED])]
    for members in wanted:
        if members.any() and not (members & (split == TRAIN)).any():
            for other in (TEST, VALIDATION):  # the larger of the two gives first
                candidates = np.flatnonzero(members & (split == other))
                if len(candidates):
                    split[candidates[0]] = TRAIN
                    break
    return split


def _by_time(
    table: Table,
    undecided: NDArray[np.bool_],
    validation: float,
    test: float,
    moments: tuple[float, float] | None,
) -> Table:
    split = table.split.copy()
    for site in np.unique(table.site[undecided]):
        rows = np.flatnonzero(undecided & (table.site == site))
        # Windows that start at the same moment must fall on the same side: cut at times, not at ranks.
        times = np.sort(table.time[rows])
        count = len(rows)
        first = times[min(int(np.ceil((1 - validation - test) * count)), count - 1)]
        second = times[min(int(np.ceil((1 - test) * count)), count - 1)]
        if moments is not None:  # agreed on before anybody looked at the data
            first, second = moments
        split[rows] = np.where(
            table.time[rows] < first, TRAIN, np.where(table.time[rows] < second, VALIDATION, TEST)
        )
    # one unit per split: a stream must not run on from training into test
    pairs, unit = np.unique(np.stack([table.unit, split], axis=1), axis=0, return_inverse=True)
    whole = np.bincount(pairs[:, 0], minlength=len(table.unit_names)) == 1
    names = tuple(
        table.unit_names[old] if whole[old] else f"{table.unit_names[old]} ({_NAMES[part]})"
        for old, part in pairs.tolist()
    )
    return replace(table, split=split, unit=unit.reshape(-1).astype(np.int64), unit_names=names)


def _check_result(table: Table, by: str) -> None:
    units = np.unique(np.stack([table.unit, table.split], axis=1), axis=0)[:, 0]
    twice = np.flatnonzero(np.bincount(units) > 1)
    if len(twice):
        raise DataError(
            "a unit stands in two splits, so that what is learned from it would be judged on it",
            found=f"{table.unit_names[twice[0]]}{f' and {len(twice) - 1} more' if len(twice) > 1 else ''}",
            way_out="give the parts of a unit in different splits different unit numbers",
        )
    for part, name in _NAMES.items():
        held = table.y_step[table.split == part][table.valid[table.split == part]]
        if not (held == 0).any() or not (held > 0).any():
            units_here = len(np.unique(table.unit[table.split == part]))
            lacks = "no normal steps" if (held > 0).any() else "no attacked steps" if len(held) else "nothing"
            other = "time" if by == "unit" else "unit"
            more = f'[split] by = "{other}"'
            if by == "name":  # by chance: another word deals anew, and alike in all runs that have it
                more = 'larger shares, or another word: [split] key = "second"'
            raise DataError(
                f"the {name} split, made by {by}, would have {lacks}",
                found=f"{units_here} units, {len(held)} steps in it",
                way_out="add units of that kind (three with attacks and three without are the least), "
                f"cut units into shorter blocks, or {more}",
            )


def _with_notes(table: Table) -> Table:
    held = {part: set(table.y_step[table.split == part][table.valid[table.split == part]]) for part in _NAMES}
    classes = table.schema.classes
    notes = []
    missing = [classes[c] for c in sorted((held[VALIDATION] | held[TEST]) - held[TRAIN])]
    if missing:
        notes.append(f"Not in training, but in a later split: {', '.join(missing)}.")
    untested = [classes[c] for c in sorted(held[TRAIN] - held[TEST])]
    if untested:
        notes.append(f"In training, but never tested, for want of units: {', '.join(untested)}.")
    return replace(table, notes=(*table.notes, *notes))
