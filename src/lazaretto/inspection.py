"""Watching a round: statistics of the updates, and what in them is odd, in words.

All is computed from the inner products of the updates, so it works as well where nobody sees an update. A
flag is a reason to look, not a verdict. Whoever keeps a reputation decides which kinds count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError
from lazaretto.types import Array, Int

__all__ = ["RoundStatistics", "flags", "round_statistics", "statistics_rows"]

_OUTLYING = 3.5  # modified z-score, as Iglewicz & Hoaglin 1993, How to Detect and Handle Outliers, advise
_LONG = 3.0  # times the median: sites with a few times the data do not differ by that much after clipping
_NOTHING = 0.01  # of the median: what a site sends that did not train
_AGAINST = -0.2  # cosine: chance gives about 1/√d to either side
_SAME = 0.01  # of the usual 1 - cosine between two sites
_ALONE = 0.3  # of all squared lengths lies in one direction with a site, and not without it
_ROUNDING = 1e-9  # where even the usual 1 - cosine is below, all updates are alike
_CANCELLED = 1e-14  # of what was added up: no more than this is left by rounding
_LEADING = 5  # directions that are told of
_TINY = 1e-100  # of the longest: too short for a direction


class RoundStatistics(NamedTuple):
    """Of n updates; NaN where something is not defined (a zero update has no direction).

    norm:         [n] >= 0, Euclidean length.
    to_aggregate: [n] in [-1, 1], cosine to the aggregate; NaN without one, or where it is 0.
    to_others:    [n] in [-1, 1], cosine to the mean direction of the others: the mean of their updates, each
                  made as long as 1, so that a long one does not decide for all.
    nearest:      [n] who of the others points most nearly the same way, the first of equals; -1 if nobody.
    alike:        [n] in [-1, 1], cosine to that one.
    usual_alike:  median cosine over all pairs with a direction; NaN without a pair.
    share:        in (0, 1], of all squared lengths (the sum of the eigenvalues) what the direction holds that
                  holds most (the largest of them); NaN if all are 0.
    without:      [n] the same with this site left out.
    spectrum:     [min(n, 5)] in [0, 1], of all squared lengths what each of the leading directions holds, the
                  first of them `share`; empty if all are 0.
    """

    norm: NDArray[np.float64]
    to_aggregate: NDArray[np.float64]
    to_others: NDArray[np.float64]
    nearest: Int
    alike: NDArray[np.float64]
    usual_alike: float
    share: float
    without: NDArray[np.float64]
    spectrum: NDArray[np.float64]


def round_statistics(inner: Array, weights: Array | None = None) -> RoundStatistics:
    """From inner products [n, n], n >= 0, and weights [n] with aggregate = weights · updates.

    weights: None where the aggregate is no such sum; `to_aggregate` is then NaN.
    Raises InputError where the inner products are not square, symmetric and finite, or the weights are not
    finite and [n].
    """
    given = np.asarray(inner, np.float64)
    n = len(given)
    _refuse(given, weights)
    square = np.maximum(np.diagonal(given), 0.0)
    scale = float(square.max(initial=0.0))
    norm = np.sqrt(square)
    if scale == 0:
        nan = np.full(n, np.nan)
        nobody = np.full(n, -1, np.int64)
        none = np.zeros(0)
        return RoundStatistics(norm, nan, nan.copy(), nobody, nan.copy(), np.nan, np.nan, nan.copy(), none)
    length = norm / np.sqrt(scale)
    relative = given / scale
    there = length > _TINY
    unit = np.divide(1.0, length, out=np.zeros(n), where=there)
    cosine = np.clip(relative * unit[:, None] * unit[None], -1.0, 1.0)
    np.fill_diagonal(cosine, there)
    nearest, alike, usual = _nearest(cosine, there)
    spectrum, without = _spectrum(relative)
    share = float(spectrum[0])
    to_aggregate = np.full(n, np.nan)
    if weights is not None:
        said = np.asarray(weights, np.float64)
        reach = relative @ said
        most = float(np.abs(said) @ np.abs(relative) @ np.abs(said))
        to_aggregate = _cosine(reach, length, np.full(n, said @ reach), most)
    rest = cosine.sum(axis=1)
    others = cosine.sum() - 2 * rest + there
    to_others = _cosine(rest - there, there * 1.0, others, float(np.abs(cosine).sum()))
    return RoundStatistics(norm, to_aggregate, to_others, nearest, alike, usual, share, without, spectrum)


def _refuse(inner: Array, weights: Array | None) -> None:
    n = len(inner)
    fine = inner.shape == (n, n) and bool(np.isfinite(inner).all())
    if not fine or np.abs(inner - inner.T).max(initial=0.0) > 1e-6 * np.abs(inner).max(initial=0.0):
        raise InputError(
            "inner products of n updates are n × n, symmetric and finite",
            found=f"shape {inner.shape}",
            way_out="leave out updates that are not finite",
        )
    if weights is not None and (np.shape(weights) != (n,) or not np.isfinite(weights).all()):
        raise InputError(
            "weights are one finite number for each update",
            found=f"shape {np.shape(weights)}, and {n} updates",
            way_out="leave out those of public rows, and of updates that were dropped",
        )


def _cosine(inner: Array, length: Array, square: Array, most: float) -> NDArray[np.float64]:
    """[n] inner / (length · √square), NaN where either is 0 up to rounding; most: that may have cancelled."""
    below = length * np.sqrt(np.maximum(square, 0.0))
    fine = (length > _TINY) & (square > _CANCELLED * most)
    found: NDArray[np.float64] = np.divide(inner, below, out=np.full(len(inner), np.nan), where=fine)
    return np.clip(found, -1.0, 1.0)


def _nearest(cosine: Array, there: Array) -> tuple[Int, NDArray[np.float64], float]:
    """Nearest other of each [n], its cosine [n], and the median cosine of all pairs."""
    n = len(cosine)
    between = np.where(there[:, None] & there[None] & ~np.eye(n, dtype=np.bool_), cosine, -np.inf)
    nearest = between.argmax(axis=1)
    alike = between[np.arange(n), nearest]
    some = np.isfinite(alike)
    pairs = between[np.triu_indices(n, 1)]
    pairs = pairs[np.isfinite(pairs)]
    usual = float(np.median(pairs)) if pairs.size else np.nan
    return np.where(some, nearest, -1), np.where(some, alike, np.nan), usual


def _spectrum(inner: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of the largest eigenvalues in the trace, and that of the largest without each row and column.

    With eigenvalues λ and eigenvectors v those without row i are the roots of Σₖ vᵢₖ² / (λₖ - x), and the
    largest lies between the two largest λ (Golub 1973, Some Modified Matrix Eigenvalue Problems,
    https://doi.org/10.1137/1015032): n roots by bisection at once, in place of n decompositions.
    """
    n = len(inner)
    values, vectors = np.linalg.eigh(inner)
    trace, found = float(np.trace(inner)), np.full(n, np.nan)
    shares = np.clip(values[::-1][:_LEADING] / trace, 0.0, 1.0)
    if n == 1:
        return shares, found
    low, high = np.full(n, values[-2]), np.full(n, values[-1])
    parts = vectors**2
    for _ in range(60):
        middle = (low + high) / 2
        below = values[None] - middle[:, None]
        right = np.divide(parts, below, out=np.zeros_like(parts), where=below != 0).sum(axis=1) < 0
        low, high = np.where(right, middle, low), np.where(right, high, middle)
    rest = trace - np.diagonal(inner)
    np.divide(high, rest, out=found, where=rest > _CANCELLED * trace)
    return shares, np.clip(found, 0.0, 1.0)


def statistics_rows(statistics: RoundStatistics, names: Sequence[str]) -> dict[str, Any]:
    """For the run log: {"share", "spectrum", "usual_alike", "sites": [{"site", "norm", ...}]}; None for NaN.

    spectrum: to four decimals, as log and eye need no more. names: of the n sites. Raises InputError for
    another number of names.
    """
    _named(statistics, names)
    columns = ("norm", "to_aggregate", "to_others", "alike", "without")
    return {
        "share": _plain(statistics.share),
        "spectrum": [round(float(share), 4) for share in statistics.spectrum],
        "usual_alike": _plain(statistics.usual_alike),
        "sites": [
            {"site": name}
            | {column: _plain(getattr(statistics, column)[place]) for column in columns}
            | {"nearest": None if statistics.nearest[place] < 0 else names[statistics.nearest[place]]}
            for place, name in enumerate(names)
        ],
    }


def flags(statistics: RoundStatistics, names: Sequence[str]) -> list[dict[str, str]]:
    """What is odd in a round: {"site", "kind", "reason"} in order of the sites, several of a site where so.

    kind: "long", "nothing", "against", "copy" or "alone"; in the order below.

    Outlying is what lies 3.5 robust standard deviations (1.4826 · MAD, the median absolute deviation) from
    the median over the sites, *and* far enough to matter: where sites hardly differ, a small deviation is
    many MADs, and where they differ much, a large one is usual. The MAD is that of the sites on the other
    side of the median, so that those who are odd in one way do not widen what is usual for each other.
    Median and MAD hold while fewer than half are odd.

    - too long: logarithm of the length outlying, and over 3 times the median of the others that are not 0;
    - nothing, where others sent something; next to nothing: under 1 % of that median;
    - against the others: cosine to their mean direction outlying and below -.2;
    - nearly equal to another: 1 - cosine under 1 % of the usual between two sites, for updates of hundreds of
      parameters or more (few dimensions bring honest updates that near by chance). Who copied whom cannot be
      seen: both are flagged, and of many that are equal each names the first other;
    - alone in a direction: share of the largest eigenvalue .3 lower without it.
    Of fewer than three that sent something none is compared: nobody could say which of two is odd.
    False flags among 20 honest Gaussian updates of 1,000 parameters, with or without a common mean: at most
    one in 1,000 sites and rounds, as tested, where lengths differ by a factor e^(±.3) or less; about one in
    70 where by e^(±1). Not seen: copies with noise, small steady poison.
    Raises InputError for another number of names.
    """
    _named(statistics, names)
    return [
        {"site": name, "kind": kind, "reason": reason}
        for place, name in enumerate(names)
        for kind, reason in _reasons(statistics, names, place)
    ]


def _reasons(found: RoundStatistics, names: Sequence[str], place: int) -> Iterator[tuple[str, str]]:
    there = found.norm > 0
    if not there[place]:
        if there.any():
            yield "nothing", "has sent nothing"
        return
    others = found.norm[there & (np.arange(len(there)) != place)]
    if len(others) < 2:
        return
    times = float(found.norm[place]) / float(np.median(others))
    if times > _LONG and _outlying(np.log(found.norm[there]), float(np.log(found.norm[place]))) > _OUTLYING:
        yield "long", f"its update is {_count(times)} times as long as the median of the others"
    if times < _NOTHING:
        yield "nothing", "has sent next to nothing"
    cosine = float(found.to_others[place])
    known = found.to_others[~np.isnan(found.to_others)]
    if cosine < _AGAINST and _outlying(known, cosine) < -_OUTLYING:
        yield "against", f"points against what the others agree on (cosine {_decimal(cosine, 2)})"
    alike = float(found.alike[place])
    apart = 1 - found.usual_alike
    if apart > _ROUNDING and 1 - alike < _SAME * apart:
        yield "copy", f"nearly equal to that of {names[found.nearest[place]]} (cosine {_decimal(alike, 4)})"
    if found.share - found.without[place] > _ALONE:
        with_it, without = round(100 * found.share), round(100 * float(found.without[place]))
        said = f"one direction holds {with_it} % of all updates with it, {without} % without it"
        yield "alone", f"stands alone: {said}"


def _outlying(values: Array, value: float) -> float:
    """How many robust standard deviations from the median; ±infinity where the other side does not differ."""
    median = float(np.median(values))
    away = value - median
    below = median - values if away > 0 else values - median  # not empty: half lie on each side
    spread = 1.4826 * float(np.median(below[below >= 0]))
    if spread > abs(away) * 1e-12:
        return away / spread
    return float(np.copysign(np.inf, away)) if away else 0.0


def _named(statistics: RoundStatistics, names: Sequence[str]) -> None:
    if len(names) != len(statistics.norm):
        raise InputError(
            "names are one for each update",
            found=f"{len(names)}, and {len(statistics.norm)} updates",
            way_out="the names of those whose updates arrived, in their order",
        )


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _count(times: float) -> str:
    return f"{times:.1f}" if times < 10 else f"{times:,.0f}" if times < 1e6 else f"{times:.0e}"


def _decimal(value: float, places: int) -> str:
    """-0.83 as −.83."""
    return f"{value:.{places}f}".replace("0.", ".", 1).replace("-", "−")
