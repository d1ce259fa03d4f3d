"""Rules against slow loops over the updates themselves, written from the papers' formulas."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from lazaretto import catalog
from lazaretto.aggregate._coordinates import middle
from lazaretto.keys import generator
from lazaretto.round import Arrived, aggregate_once, aggregate_round
from lazaretto.types import Gram, Rule

SHAPES = [(5, 3), (8, 11), (13, 4), (20, 30)]


def built(name: str, **options: Any) -> Rule:
    made: Rule = catalog.build("rules", name, options)
    return made


def updates(n: int, d: int, seed: int = 0) -> Any:
    """[n, d], a fifth of them far off."""
    rng = generator(seed, "oracle", n)
    X = rng.standard_normal((n, d)) + 1.0
    X[: n // 5] += 6.0 * rng.standard_normal(d)
    return X[rng.permutation(n)].astype(np.float32)


def distance(a: Any, b: Any) -> float:
    return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))


def krum_score(X: Any, k: int, f: int) -> float:
    """Blanchard et al. 2017, section 4: squared distances to the n - f - 2 closest others."""
    n = len(X)
    others = sorted(distance(X[k], X[j]) ** 2 for j in range(n) if j != k)
    return sum(others[: n - f - 2])


@pytest.mark.parametrize("shape", SHAPES)
def test_krum_and_multi_krum(shape: tuple[int, int]) -> None:
    X = updates(*shape)
    f = math.floor(0.2 * len(X))
    order = sorted(range(len(X)), key=lambda k: krum_score(X, k, f))
    np.testing.assert_allclose(aggregate_once(built("krum", hostile=0.2), X), X[order[0]], rtol=1e-6)
    best = X[order[: len(X) - f]].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(aggregate_once(built("multi_krum", hostile=0.2), X), best, rtol=1e-9)
    two = X[order[:2]].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(aggregate_once(built("multi_krum", hostile=0.2, keep=2), X), two, rtol=1e-9)
    for slack in (0.05, 0.5, 4.0):
        reach = [math.sqrt(krum_score(X, k, f)) for k in order]
        near = [k for k, far in zip(order, reach, strict=True) if far <= (1 + slack) * reach[len(X) - f - 1]]
        some = X[near].astype(np.float64).mean(axis=0)
        rule = built("multi_krum", hostile=0.2, slack=slack)
        np.testing.assert_allclose(aggregate_once(rule, X), some, rtol=1e-9)
        assert len(near) < len(X) or slack == 4.0, "nobody was left out, so nothing was shown"
    late, state = built("multi_krum", hostile=0.2, slack=0.5, slack_after=2), None
    for number in range(1, 5):
        arrived = Arrived(X, np.ones(len(X)), np.arange(len(X)))
        found = aggregate_round(
            late, arrived, {}, late.start(len(X)) if state is None else state, generator(0)
        )
        lenient = aggregate_once(built("multi_krum", hostile=0.2, slack=0.5 * (number > 2)), X)
        np.testing.assert_allclose(found.update, lenient, rtol=1e-9)
        state = found.state


@pytest.mark.parametrize("shape", SHAPES)
def test_median_and_trimmed_mean(shape: tuple[int, int]) -> None:
    X = updates(*shape)
    n, f = len(X), math.floor(0.2 * len(X))
    median, trimmed = [], []
    for column in X.T.tolist():
        column = sorted(column)
        median.append(column[n // 2] if n % 2 else (column[n // 2 - 1] + column[n // 2]) / 2)
        trimmed.append(math.fsum(column[f : n - f]) / (n - 2 * f))
    np.testing.assert_allclose(aggregate_once(built("coordinate_median"), X), median, rtol=1e-12)
    found = aggregate_once(built("trimmed_mean", hostile=0.2), X)
    np.testing.assert_allclose(found, trimmed, rtol=1e-12)


@pytest.mark.parametrize("n", [*range(1, 18), 31, 32, 33, 100])
def test_a_sorting_network_finds_the_middle(n: int) -> None:
    """On zeros and ones, each number of ones in many orders: a network that sorts those sorts all (Knuth)."""
    rng = generator(6, "network", n)
    bits = np.array([rng.permutation(n) < ones for ones in range(n + 1) for _ in range(40)], np.float32).T
    for cut in sorted({0, n // 10, n // 3, (n - 1) // 2}):
        ordered = np.sort(bits, axis=0)[cut : n - cut].mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(middle(bits, cut), ordered, atol=1e-12)


def test_coordinates_in_several_blocks_are_those_of_one() -> None:
    X = generator(4, "blocks").standard_normal((3, 200_000)).astype(np.float32)
    np.testing.assert_array_equal(aggregate_once(built("coordinate_median"), X), np.median(X, axis=0))


def sum_of_distances(X: Any, y: Any) -> float:
    return float(np.sqrt(((X - y) ** 2).sum(axis=1)).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_geometric_median(shape: tuple[int, int]) -> None:
    X = updates(*shape).astype(np.float64)

    def slope(y: Any) -> Any:
        away = y - X
        return (away / np.maximum(np.sqrt((away**2).sum(axis=1)), 1e-12)[:, None]).sum(axis=0)

    best = minimize(lambda y: sum_of_distances(X, y), X.mean(axis=0), jac=slope, tol=1e-12).x
    found = aggregate_once(built("geometric_median"), X)
    np.testing.assert_allclose(found, best, atol=1e-4)
    assert sum_of_distances(X, found) <= sum_of_distances(X, best) + 1e-9
    at_a_point = np.linalg.norm(X - found, axis=1).min() < 1e-9  # there the others may pull by up to 1
    assert np.linalg.norm(slope(found)) < (1.0 if at_a_point else 1e-5)


@pytest.mark.parametrize(
    ("points", "median"),
    [
        ([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [4, 5, 6]),  # by symmetry; three Weiszfeld steps from 0 miss it
        ([[0, 0], [0, 3], [4, 0]], None),  # Fermat's point: all angles are 120 degrees
        ([[0, 0], [1, 0], [0, 1], [1, 1]], [0.5, 0.5]),  # where the diagonals cross
        ([[0, 0], [10, 0], [0, 10], [1, 1]], [1, 1]),  # a point inside the triangle of the others
        ([[5, 5], [5, 5], [5, 5], [9, 1], [2, 2]], [5, 5]),  # a majority in one place
        ([[0, 0], [2, 2]], [1, 1]),
        ([[0.0], [1.0], [3.0], [100.0]], [2.0]),  # the middle of the middle two
    ],
)
def test_geometric_median_of_known_points(points: Any, median: Any) -> None:
    found = aggregate_once(built("geometric_median"), points)
    if median is None:
        unit = [(np.array(p) - found) / np.linalg.norm(np.array(p) - found) for p in points]
        for a, b in itertools.combinations(unit, 2):
            assert float(a @ b) == pytest.approx(-0.5, abs=1e-6)
    else:
        np.testing.assert_allclose(found, median, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [None, 0.7])
def test_centered_clip(shape: tuple[int, int], radius: float | None) -> None:
    """Karimireddy et al. 2021, equation 4, three times."""
    X = updates(*shape)
    start = 0.3 * np.ones(shape[1])
    v = start.copy()
    for _ in range(3):
        away = [distance(x, v) for x in X]
        bound = float(np.median(away)) if radius is None else radius
        v = v + sum((x - v) * min(1.0, bound / a) for x, a in zip(X, away, strict=True)) / len(X)
    found = aggregate_once(built("centered_clip", radius=radius), X, previous=start)
    np.testing.assert_allclose(found, v, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_norm_clipping(shape: tuple[int, int]) -> None:
    X = updates(*shape).astype(np.float64)
    for bound in (None, 2.5):
        limit = np.median([np.linalg.norm(x) for x in X]) if bound is None else bound
        clipped = [x * min(1.0, limit / np.linalg.norm(x)) for x in X]
        found = aggregate_once(built("norm_clipping", bound=bound), X)
        np.testing.assert_allclose(found, np.mean(clipped, axis=0), rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_nnm(shape: tuple[int, int]) -> None:
    """Allouah et al. 2023, Algorithm 2; what it mixes, read off the weights."""
    X = updates(*shape)
    n, f = len(X), math.floor(0.2 * len(X))
    expected = []
    for x in X:
        nearest = sorted(range(n), key=lambda j, x=x: distance(x, X[j]))[: n - f]
        expected.append(X[nearest].astype(np.float64).mean(axis=0))
    rule = built("nnm", hostile=0.2)
    assert rule.gram is not None
    seen = rows_as_gram(X)
    found = rule.gram(seen, {}, generator(0)).weights @ X
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def rows_as_gram(X: Any) -> Gram:
    from_rows = [[math.fsum(float(a) * float(b) for a, b in zip(x, y, strict=True)) for y in X] for x in X]
    return Gram(np.array(from_rows), np.ones(len(X)), np.arange(len(X)))


@pytest.mark.parametrize("confidence", [1.0, 2.0])
def test_foolsgold(confidence: float) -> None:
    """Fung et al. 2020, Algorithm 1, on sums of past updates unlike this round's."""
    rng = generator(8, "foolsgold")
    history = rng.standard_normal((7, 5)) + 0.4
    history[5] = 3 * history[4] + 0.05 * rng.standard_normal(5)  # two that are steered by one
    history[3] = history[2] + 0.9 * rng.standard_normal(5)  # two that are somewhat alike
    X = rng.standard_normal((7, 5)).astype(np.float32)
    n = len(X)
    cs = [[0.0] * n for _ in range(n)]
    for i, j in itertools.permutations(range(n), 2):
        cs[i][j] = float(history[i] @ history[j] / np.linalg.norm(history[i]) / np.linalg.norm(history[j]))
    v = [max(row) for row in cs]
    for i, j in itertools.permutations(range(n), 2):
        if v[j] > v[i]:
            cs[i][j] *= v[i] / v[j]
    alpha = [1 - max(row) for row in cs]
    alpha = [min(max(a, 0.0), 1.0) for a in alpha]
    alpha = [a / max(alpha) for a in alpha]
    alpha = [0.99 if a == 1 else a for a in alpha]
    rate = [min(max(confidence * (math.log(a / (1 - a)) + 0.5), 0.0), 1.0) for a in alpha]
    assert 0 in rate
    assert 1 in rate
    assert any(0 < r < 1 for r in rate)
    expected = sum(r * x.astype(np.float64) for r, x in zip(rate, X, strict=True)) / sum(rate)
    arrived = Arrived(X, np.ones(n), np.arange(n), history)
    found = aggregate_round(built("foolsgold", confidence=confidence), arrived, {}, {}, generator(0))
    np.testing.assert_allclose(found.update, expected, rtol=1e-9)
    np.testing.assert_allclose(found.suspicion, 1 - np.array(rate), atol=1e-9)


def test_fltrust() -> None:
    """Cao et al. 2021, Algorithm 2."""
    X, root = updates(9, 6), np.ones(6)
    trust = [max(0.0, float(x @ root) / np.linalg.norm(x) / np.linalg.norm(root)) for x in X]
    scaled = [x.astype(np.float64) * np.linalg.norm(root) / np.linalg.norm(x) for x in X]
    expected = sum(t * x for t, x in zip(trust, scaled, strict=True)) / sum(trust)
    np.testing.assert_allclose(aggregate_once(built("fltrust"), X, root=root), expected, rtol=1e-6)


def suspicion_of_fltrust(X: Any, root: Any) -> Any:
    n = len(X)
    arrived = Arrived(X.astype(np.float32), np.ones(n), np.arange(n), None)
    return aggregate_round(built("fltrust"), arrived, {"root": root}, {}, generator(0)).suspicion


def test_suspicion_of_fltrust_is_how_far_trust_lies_below_the_usual() -> None:
    """By hand: cosines .8, .6, .3, 0 and below with the root; the median of the positive ones is .6."""
    X = np.array([[8.0, 6.0], [6.0, -8.0], [3.0, math.sqrt(91.0)], [0.0, 5.0], [-1.0, 1.0]])
    found = suspicion_of_fltrust(X, np.array([2.0, 0.0]))
    np.testing.assert_allclose(found, [0.0, 0.0, 0.5, 1.0, 1.0], atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 3.0, 30.0])
def test_a_noisy_root_makes_nobody_more_suspect(noise: float) -> None:
    """Noise across all updates shrinks every cosine by one factor, and 1 - cosine would tell of it."""
    X, root = np.zeros((9, 7)), np.zeros(7)
    X[:, :6] = 1 + 0.3 * generator(4, "fltrust").standard_normal((9, 6))
    X[7:, :6] *= -1
    root[:6], root[6] = 1.0, noise
    found = suspicion_of_fltrust(X, root)
    np.testing.assert_allclose(found, suspicion_of_fltrust(X, np.append(np.ones(6), 0.0)), atol=1e-6)
    assert found[:7].max() < 0.3
    np.testing.assert_array_equal(found[7:], 1.0)


@pytest.mark.parametrize("shape", [(7, 5), (11, 6), (20, 4)])
def test_bulyan(shape: tuple[int, int]) -> None:
    """El Mhamdi et al. 2018, section 4: Krum chooses again and again, then each coordinate is trimmed."""
    X = updates(*shape)
    n, f = len(X), min(math.floor(0.2 * len(X)), (len(X) - 3) // 4)
    assert f >= 1
    left, chosen = list(range(n)), []
    while len(chosen) < n - 2 * f:
        scores = []
        for i in left:
            others = sorted(distance(X[i], X[j]) ** 2 for j in left if j != i)
            tie = sum(others)
            scores.append((sum(others[: max(len(left) - f - 2, 1)]), tie, i))
        chosen.append(min(scores)[2])
        left.remove(chosen[-1])
    expected = []
    for column in X[chosen].astype(np.float64).T:
        median = float(np.median(column))
        nearest = sorted(column.tolist(), key=lambda value, m=median: abs(value - m))
        expected.append(sum(nearest[: n - 4 * f]) / (n - 4 * f))
    np.testing.assert_allclose(aggregate_once(built("bulyan", hostile=0.2), X), expected, rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_spectral_and_dnc(shape: tuple[int, int]) -> None:
    """By singular vectors of the centred updates: one at a time, or all f at once (Algorithm 2 of DnC)."""
    X = updates(*shape).astype(np.float64)
    f = math.floor(0.2 * len(X))

    def outlying(rows: Any) -> Any:
        centred = rows - rows.mean(axis=0)
        return (centred @ np.linalg.svd(centred)[2][0]) ** 2

    left = list(range(len(X)))
    for _ in range(f):
        left.pop(int(outlying(X[left]).argmax()))
    found = aggregate_once(built("spectral", hostile=0.2), X)
    np.testing.assert_allclose(found, X[left].mean(axis=0), rtol=1e-6)
    good = np.argsort(outlying(X))[: len(X) - f]
    found = aggregate_once(built("dnc", hostile=0.2), X)
    np.testing.assert_allclose(found, X[good].mean(axis=0), rtol=1e-6)


def test_clipped_clustering_over_two_rounds() -> None:
    """Clusters laid out by hand: five along one axis, two along another; lengths of both rounds count."""
    directions = np.array([[1, 0.05], [1, -0.05], [1, 0], [1, 0.1], [1, -0.1], [-0.1, 1], [0.1, 1]])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    first, second = (directions * np.array(size)[:, None] for size in ([1, 2, 3, 4, 5, 6, 7], [10.0] * 7))
    rule, state = built("clipped_clustering"), built("clipped_clustering").start(7)
    for X, bound in ((first, 4.0), (second, 8.5)):  # medians of 1..7, and of those with seven times 10
        rows = X.astype(np.float32)
        found = aggregate_round(rule, Arrived(rows, np.ones(7), np.arange(7)), {}, state, generator(0))
        state = found.state
        clipped = [x * min(1.0, bound / np.linalg.norm(x)) for x in X[:5]]
        np.testing.assert_allclose(
            found.update, np.mean(clipped, axis=0), rtol=1e-6, atol=1e-9
        )  # components cancel
        assert (found.suspicion[5:] > 0.5).all()
        assert (found.suspicion[:5] == 0).all()


def test_flame_and_signguard_leave_out_who_points_elsewhere() -> None:
    rng = generator(3, "elsewhere")
    X = (1.0 + 0.1 * rng.standard_normal((10, 40))).astype(np.float32)
    X[[2, 7, 8]] *= -1
    honest = np.setdiff1d(np.arange(10), [2, 7, 8])
    for rule in (built("flame"), built("signguard")):
        found = aggregate_round(rule, Arrived(X, np.ones(10), np.arange(10)), {}, {}, generator(0))
        assert found.suspicion[[2, 7, 8]].min() > found.suspicion[honest].max()
        assert found.suspicion[honest].mean() < 0.2
        np.testing.assert_allclose(found.update, X[honest].mean(axis=0), atol=0.12)
