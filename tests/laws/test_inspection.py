"""Watching a round: statistics against slow ways to get them, attacks flagged, honest sites left alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto.errors import InputError
from lazaretto.inspection import RoundStatistics, flags, round_statistics, statistics_rows
from lazaretto.keys import generator

N, D, F = 20, 1000, 6
NAMES = [f"hospital_{site}" for site in range(N)]


def watched(rows: np.ndarray) -> RoundStatistics:
    return round_statistics(rows @ rows.T, np.full(len(rows), 1 / max(len(rows), 1)))


def flagged(rows: np.ndarray, word: str = "") -> list[int]:
    """Positions of the sites with a reason that has the word in it."""
    names = [str(place) for place in range(len(rows))]
    return sorted({int(row["site"]) for row in flags(watched(rows), names) if word in row["reason"]})


def honest(seed: int, common: float = 1.0, spread: float = 0.0) -> np.ndarray:
    """[N, D]: a common direction, noise of the same length, and lengths that differ by e^(± spread)."""
    rng = generator(seed, "honest")
    rows = common * rng.standard_normal(D) + rng.standard_normal((N, D))
    return np.asarray(rows * np.exp(spread * rng.standard_normal((N, 1))))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@given(st.integers(2, 12), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_statistics_are_what_they_say(n: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, weights = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-3, 4), rng.uniform(0.1, 1, n)
    found = round_statistics(rows @ rows.T, weights)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(rows @ rows.T)
    assert found.share == pytest.approx(values[-1] / values.sum())
    assert found.spectrum == pytest.approx(values[::-1][:5] / values.sum(), abs=1e-12)
    for place in range(n):
        others = [other for other in range(n) if other != place]
        assert found.norm[place] == pytest.approx(np.linalg.norm(rows[place]))
        if np.linalg.norm(weights @ rows) > 1e-6 * np.linalg.norm(rows):
            assert found.to_aggregate[place] == pytest.approx(cosine(rows[place], weights @ rows), abs=1e-6)
        mean = unit[others].sum(axis=0)
        if np.linalg.norm(mean) > 1e-6:
            assert found.to_others[place] == pytest.approx(cosine(rows[place], mean), abs=1e-6)
        near = [cosine(rows[place], rows[other]) for other in others]
        assert found.alike[place] == pytest.approx(max(near))
        assert near[others.index(found.nearest[place])] == pytest.approx(max(near))
        left = np.linalg.eigvalsh(rows[others] @ rows[others].T)
        assert found.without[place] == pytest.approx(left[-1] / left.sum(), abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-6, 1.0, 1e12]))
def test_size_and_order_mean_nothing(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((9, 200)) * rng.choice([1, 1, 1, 10, -1, 0], (9, 1))
    order = rng.permutation(9)
    plain, moved = watched(rows), watched(rows[order] * scale)
    for name in ("to_aggregate", "to_others", "alike", "without"):
        np.testing.assert_allclose(getattr(plain, name)[order], getattr(moved, name), atol=1e-9)
    there = flagged(rows)
    assert sorted(order[flagged(rows[order] * scale)].tolist()) == there


@pytest.mark.parametrize("common", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_honest_updates_are_seldom_flagged(common: float, spread: float) -> None:
    """200 rounds of 20 sites: at most one false flag in 1,000 sites and rounds."""
    found = sum(len(flagged(honest(seed, common, spread))) for seed in range(200))
    assert found <= 4, f"{found} of 4,000"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hostile", [1, F])
def test_attacks_are_flagged_and_nobody_else(seed: int, hostile: int) -> None:
    who = list(range(hostile))
    flipped, long, nothing, little = (honest(seed, spread=0.2) for _ in range(4))
    flipped[who] *= -1
    assert flagged(flipped, "points against what the others agree on") == flagged(flipped) == who
    long[who] *= 10
    assert flagged(long, "times as long as the median of the others") == flagged(long) == who
    nothing[who] = 0
    assert flagged(nothing, "has sent nothing") == flagged(nothing) == who
    little[who] *= 1e-4
    assert flagged(little, "has sent next to nothing") == flagged(little) == who


@pytest.mark.parametrize("seed", range(3))
def test_copies_are_flagged_with_their_original(seed: int) -> None:
    rows = honest(seed)
    rows[:F] = rows[10] * np.linspace(1, 2, F)[:, None] + 1e-3 * rows[:F]  # longer, and hidden a little
    assert flagged(rows, "nearly equal to that of") == flagged(rows) == [*range(F), 10]


def test_one_that_fills_a_direction_of_its_own() -> None:
    rows = honest(0, common=0.0)
    rows[3] *= 10
    reasons = [row["reason"] for row in flags(watched(rows), NAMES) if row["site"] == "hospital_3"]
    # 100 of 119 squared lengths; without it the largest eigenvalue of noise, (1 + √(19 / 1000))² / 19 at most
    assert "stands alone: one direction holds 84 % of all updates with it, 7 % without it" in reasons


def test_the_words() -> None:
    """Six sites by hand in a plane of agreement and one axis each."""
    rows = np.hstack([np.ones((6, 1)), np.eye(6)])
    rows[4] *= 14
    rows[5] = [-1.0, 0, 0, 0, 0, 0, 1.0]
    found = flags(watched(rows), NAMES[:6])
    assert {
        "site": "hospital_4",
        "kind": "long",
        "reason": f"its update is {14} times as long as the median of the others",
    } in found
    # others: five times 1/√2 along the axis, 1/√2 on five others: cosine -½·5 / (√½ · √(½·25 + ½·5))
    assert {
        "site": "hospital_5",
        "kind": "against",
        "reason": "points against what the others agree on (cosine −.91)",
    } not in found
    against = [row["reason"] for row in found if row["site"] == "hospital_5"]
    assert against == ["points against what the others agree on (cosine −.65)"]
    rows = honest(0)
    rows[7] = rows[3] + 0.02 * (rows[8] - rows[3])
    said = [row for row in flags(watched(rows), NAMES) if row["site"] == "hospital_7"]
    expected = f"{cosine(rows[7], rows[3]):.4f}".removeprefix("0")
    assert said == [
        {
            "site": "hospital_7",
            "kind": "copy",
            "reason": f"nearly equal to that of hospital_3 (cosine {expected})",
        }
    ]


def test_what_is_not_defined_is_none() -> None:
    for rows in (np.zeros((0, 3)), np.ones((1, 3)), np.zeros((3, 3)), np.array([[1.0, 0], [0, 0], [-1, 0]])):
        statistics = watched(rows)
        names = NAMES[: len(rows)]
        text = json.dumps([statistics_rows(statistics, names), flags(statistics, names)], allow_nan=False)
        assert json.loads(text)[0]["sites"] == statistics_rows(statistics, names)["sites"]
    alone = statistics_rows(watched(np.ones((1, 3))), ["a"])
    assert alone["share"] == 1
    assert alone["sites"][0]["to_aggregate"] == pytest.approx(1)
    assert [alone["sites"][0][key] for key in ("to_others", "alike", "without", "nearest")] == [None] * 4
    zero = statistics_rows(watched(np.zeros((3, 3))), NAMES[:3])
    assert zero["share"] is None
    assert zero["spectrum"] == []
    assert alone["spectrum"] == [1.0]
    assert zero["usual_alike"] is None
    assert zero["sites"][1]["norm"] == 0
    opposite = watched(np.array([[1.0, 0], [-1, 0]]))
    assert np.isnan(opposite.to_aggregate).all(), "they cancel"
    assert np.isnan(round_statistics(np.eye(2)).to_aggregate).all(), "no weights were given"


def test_the_leading_directions_are_told_and_no_more() -> None:
    """By hand: squared lengths 1, 2, 3, ... along axes of their own."""
    told = statistics_rows(round_statistics(np.diag([1.0, 2, 3, 4, 5, 6])), NAMES[:6])
    assert told["spectrum"] == [0.2857, 0.2381, 0.1905, 0.1429, 0.0952]  # 6, 5, 4, 3, 2 of 21
    assert told["share"] == pytest.approx(6 / 21)
    two = statistics_rows(round_statistics(np.array([[2.0, 1], [1, 2]])), NAMES[:2])
    assert two["spectrum"] == [0.75, 0.25]
    same = statistics_rows(round_statistics(np.ones((3, 3))), NAMES[:3])
    assert same["spectrum"] == [1.0, 0.0, 0.0], "no less than nothing by rounding"


def test_a_few_sites() -> None:
    assert flagged(np.zeros((3, 4))) == []
    assert flagged(np.array([[1.0, 2], [0, 0]])) == [1]
    assert flagged(np.array([[1.0, 2], [-1000, -2000]])) == [], "nobody knows which of two is odd"
    assert flagged(np.ones((5, 4))) == [], "all alike"
    alike = generator(0, "alike").standard_normal(50) * generator(1, "alike").uniform(1, 2, (12, 1))
    assert flagged(alike) == [], "and so they are up to rounding"
    [row] = flags(round_statistics(np.diag([1.0, 4, 900])), NAMES[:3])[:1]
    assert row["reason"] == "its update is 20 times as long as the median of the others"
    assert flagged(np.vstack([np.eye(3), 100 * np.eye(3)[:1]]), "as long as") == [3]


def test_what_is_usual_is_not_flagged() -> None:
    doubling = np.diag(4.0 ** np.arange(9))  # lengths 1, 2, 4 to 256
    assert not [row for row in flags(round_statistics(doubling), NAMES[:9]) if "as long" in row["reason"]]
    camps = honest(0, common=5.0) * np.repeat([1, -1], N // 2)[:, None]
    assert (watched(camps).to_others < -0.5).all()
    assert flagged(camps) == [], "two camps of one size: nobody can say who is odd"
    related = honest(0)
    related[7] = (related[3] + related[8]) / 2
    assert flagged(related) == [], "half a copy is none"


def test_rounding_is_not_taken_for_a_direction() -> None:
    row = generator(0, "cancel").standard_normal(50)
    inner = np.outer([1, -1 / 3], [1, -1 / 3]) * (row @ row)
    assert np.isnan(round_statistics(inner, np.array([0.1, 0.3])).to_aggregate).all()
    rows = honest(0)
    rows[0] *= 1e8
    assert np.isnan(watched(rows).without[0])
    no_lengths = np.array([[1.0, 0, 0], [0, 1e-320, 0.5], [0, 0.5, 1e-320]])  # of no updates at all
    assert round_statistics(no_lengths).nearest.tolist() == [-1, -1, -1]


def test_tiny_beside_huge() -> None:
    rows = honest(0)
    rows[0] *= 1e30
    found = round_statistics(rows @ rows.T, np.r_[0, np.full(N - 1, 1 / (N - 1))])
    assert (found.to_aggregate[1:] > 0.5).all()
    [row] = flags(found, NAMES)
    assert row["site"] == "hospital_0"
    assert "1e+30 times as long" in row["reason"]
    assert np.isnan(found.without[0]), "what is left without it is less than rounding"
    assert len(flags(round_statistics(np.diag([1e308, 1e-308, 1e308])), NAMES[:3])) == 1


@pytest.mark.parametrize(
    "inner",
    [np.ones((2, 3)), np.array([[1, np.nan], [np.nan, 1]]), np.array([[1.0, 0.5], [0.2, 1]]), np.ones(3)],
)
def test_what_are_no_inner_products_is_refused(inner: np.ndarray) -> None:
    with pytest.raises(InputError, match="symmetric and finite"):
        round_statistics(inner)


def test_weights_and_names_have_to_fit() -> None:
    for weights in (np.ones(3), np.array([np.inf, 0])):
        with pytest.raises(InputError, match="weights"):
            round_statistics(np.eye(2), weights)
    for ask in (flags, statistics_rows):
        with pytest.raises(InputError, match="names"):
            ask(round_statistics(np.eye(2)), ["one"])
