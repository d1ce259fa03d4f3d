"""What one column, or two together, tell of the label on groups that were not learned from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

from lazaretto.errors import DataError
from lazaretto.keys import generator
from lazaretto.types import Int

__all__ = [
    "BINS",
    "Column",
    "areas",
    "cell_scores",
    "halves",
    "indicator_auroc",
    "pair_scores",
    "prepare",
    "tree_scores",
]

BINS = 16  # cells per column in a pair
_MOST_CATEGORIES = 20_000
_MISSING = ("", "nan", "null", "none", "na", "n/a")
_TIMES = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%d-%b-%y %H:%M:%S",
    "%d/%m/%Y %H:%M",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column in the forms in which it is scored.

    number:  [rows] float64, NaN where missing; None for text that has no order.
    code:    [rows] int64 category, or None where nearly every row has its own.
    ranks:   [rows] int64, place of the value among all distinct values; 0 where missing.
    cells:   [rows] int64 below BINS, for pairs.
    missing: [rows] bool.
    distinct: number of values; whole: integers or text, that is, nothing measured.
    text:    whether the values were text that is no number.
    """

    name: str
    number: NDArray[np.float64] | None
    code: Int | None
    ranks: Int
    cells: Int
    missing: NDArray[np.bool_]
    distinct: int
    whole: bool
    text: bool


def prepare(name: str, values: NDArray[np.generic]) -> Column:
    """Numbers stay numbers; text is read as a number, then as a time, else taken as categories."""
    text = False
    if values.dtype.kind in "biuf":
        number = values.astype(np.float64)
        plain = pl.Series(number).fill_nan(None)
    else:
        plain = pl.Series(
            [None if v is None else str(v) for v in values.tolist()], dtype=pl.String
        ).str.strip_chars()
        gone = plain.is_null() | plain.str.to_lowercase().is_in(_MISSING)
        plain = pl.DataFrame({"v": plain, "g": gone}).select(pl.when(~pl.col("g")).then(pl.col("v")))["v"]
        number, text = _ordered(plain)
    missing = ~np.isfinite(number) if not text else plain.is_null().to_numpy()
    ranks = plain.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    distinct = int(ranks.max(initial=0))
    held = int((~missing).sum())
    code = ranks if distinct <= min(_MOST_CATEGORIES, max(held // 2, 64)) else None
    if text and distinct > held // 2:  # no category repeats: their order is all there is (times, counters)
        number, ordered = ranks.astype(np.float64), True
        number[missing] = np.nan
    else:
        ordered = not text
    finite = number[~missing] if ordered else np.zeros(0)
    whole = text or bool(len(finite) and np.all(finite == np.round(finite)))
    cells = _quantile_cells(number, missing) if ordered else _frequent_cells(ranks)
    return Column(
        name=name,
        number=number if ordered else None,
        code=code,
        ranks=ranks,
        cells=cells,
        missing=missing,
        distinct=distinct,
        whole=whole,
        text=text,
    )


def _ordered(plain: pl.Series) -> tuple[NDArray[np.float64], bool]:
    """The text as numbers or times, and whether it is neither."""
    number = plain.cast(pl.Float64, strict=False)
    held = len(plain) - plain.null_count()
    if held and len(number) - number.null_count() >= 0.95 * held:
        return number.fill_null(np.nan).to_numpy().astype(np.float64), False
    if held:
        for form in _TIMES:
            moment = plain.str.to_datetime(form, strict=False, time_unit="us")
            if len(moment) - moment.null_count() >= 0.95 * held:
                return moment.cast(pl.Int64).cast(pl.Float64).fill_null(np.nan).to_numpy().astype(
                    np.float64
                ), False
    return np.full(len(plain), np.nan), True


def _quantile_cells(number: NDArray[np.float64], missing: NDArray[np.bool_]) -> Int:
    held = number[~missing]
    if not len(held):
        return np.zeros(len(number), np.int64)
    edges = np.unique(np.quantile(held, np.linspace(0, 1, BINS)[1:-1]))
    cells = 1 + np.searchsorted(edges, np.where(missing, 0.0, number), side="right")
    return np.where(missing, 0, np.minimum(cells, BINS - 1)).astype(np.int64)


def _frequent_cells(ranks: Int) -> Int:
    counts = np.bincount(ranks)
    order = np.argsort(-counts, kind="stable")[: BINS - 1]
    place = np.full(len(counts), BINS - 1, np.int64)
    place[order] = np.arange(len(order))
    return place[ranks]


def halves(label: Int, group: Int, seed: int) -> NDArray[np.bool_]:
    """Which rows [rows] are learned from, the others being judged: whole groups, dealt by what they carry.

    A group belongs with the commonest attack among its rows if that is at least 1 % of them, else with
    normal; the groups of each kind are halved. A kind with a single group is on one side only.
    Raises DataError where a side would be without normal or without attacked rows.
    """
    groups, position = np.unique(group, return_inverse=True)
    table = np.zeros((len(groups), int(label.max()) + 1), np.int64)
    np.add.at(table, (position, label), 1)
    attacks = table[:, 1:]
    kind = np.where(attacks.max(axis=1, initial=0) >= 0.01 * table.sum(axis=1), 1 + attacks.argmax(axis=1), 0)
    draw = generator(seed, "leaks", "halves")
    learn = np.zeros(len(groups), bool)
    odd = 0  # single groups go to the two sides in turn
    for k in np.unique(kind):
        members = np.flatnonzero(kind == k)
        members = members[draw.permutation(len(members))]
        learn[members[: (len(members) + odd) // 2]] = True
        odd = 1 - odd if len(members) % 2 else odd
    side = learn[position]
    for rows in (side, ~side):
        if not (label[rows] == 0).any() or not (label[rows] > 0).any():
            raise DataError(
                "leaks are judged on groups of rows that were not learned from, and there are too few groups",
                found=f"{len(groups)} groups, {int((kind == 0).sum())} of them without attacks",
                way_out="give at least two groups with attacks and two without (smaller blocks, more files)",
            )
    return side


def areas(label: Int, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area under the ROC curve against class 0: of all attacks [0] and of each class [1:]; NaN where absent.

    Scores of a small tree or of categories take few values, so counts per value say all (ties count half).
    """
    value, place = np.unique(score, return_inverse=True)
    size, kinds = len(value), int(label.max(initial=0)) + 1
    counts = np.bincount(label * size + place, minlength=kinds * size).reshape(kinds, size).astype(np.float64)
    normal = counts[0]
    below = np.cumsum(normal) - normal / 2
    hits = np.vstack([counts[1:].sum(axis=0), counts[1:]])
    pairs = hits.sum(axis=1) * normal.sum()
    return np.where(pairs > 0, (hits @ below) / np.maximum(pairs, 1.0), np.nan)


def tree_scores(
    number: NDArray[np.float64], attacked: NDArray[np.bool_], learn: NDArray[np.bool_], leaves: int = 32
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float64]]]:
    """(judged rows, their scores) of a small tree on one number, learned on one side, then on the other."""
    held = np.where(np.isfinite(number), number, np.nan).astype(np.float32)
    spread = np.abs(number[np.isfinite(number)])
    if len(spread) and spread.max() > 2**24:  # float32 would merge times: their order serves as well
        ranks = pl.Series(np.where(np.isfinite(number), number, np.nan)).fill_nan(None).rank("dense")
        held = ranks.fill_null(np.nan).to_numpy().astype(np.float32)
    for side in (learn, ~learn):
        least = max(5, int(side.sum()) // 2000)
        tree = DecisionTreeClassifier(max_leaf_nodes=leaves, min_samples_leaf=least, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all values missing on one side
            tree.fit(held[side, None], attacked[side])
            yield ~side, tree.predict_proba(held[~side, None])[:, -1]


def cell_scores(
    code: Int, attacked: NDArray[np.bool_], learn: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float64]]]:
    """The same, by the share of attacks in each category, shrunk towards the overall share."""
    size = int(code.max(initial=0)) + 1
    for side in (learn, ~learn):
        count = np.bincount(code[side], minlength=size)
        hits = np.bincount(code[side], weights=attacked[side], minlength=size)
        overall = float(attacked[side].mean())
        yield ~side, ((hits + 2 * overall) / (count + 2))[code[~side]]


def indicator_auroc(flag: NDArray[np.bool_], attacked: NDArray[np.bool_]) -> float:
    """AUROC of a yes-or-no, in whichever sense."""
    if attacked.all() or not attacked.any():
        return 0.5
    gain = (float(flag[attacked].mean()) - float(flag[~attacked].mean())) / 2
    return 0.5 + abs(gain)


def pair_scores(first: Int, second: Int, attacked: NDArray[np.bool_], learn: NDArray[np.bool_]) -> float:
    """AUROC of two columns together on their grid of BINS x BINS cells, both directions averaged.

    Counts per cell are all that is needed, so that no row is sorted.
    """
    code = first * BINS + second
    size = BINS * BINS
    key = code + size * (attacked + 2 * learn)
    counts = np.bincount(key, minlength=4 * size).reshape(2, 2, size).astype(np.float64)
    areas = []
    for side in (0, 1):
        normal, hit = counts[side]
        rate = (hit + 2 * hit.sum() / max(hit.sum() + normal.sum(), 1)) / (hit + normal + 2)
        order = np.argsort(rate, kind="stable")
        judged_normal, judged_hit = counts[1 - side][:, order]
        # cells of one rate are a tie: half of their pairs count
        _, tie = np.unique(rate[order], return_inverse=True)
        n, h = np.bincount(tie, weights=judged_normal), np.bincount(tie, weights=judged_hit)
        below = np.cumsum(n) - n
        areas.append(float((h * (below + n / 2)).sum() / max(h.sum() * n.sum(), 1.0)))
    return float(np.mean(areas))
