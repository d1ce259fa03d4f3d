"""The pieces under the protocol, each against a slow oracle, a law, or a value from a standard."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lazaretto.errors import InputError, PlanError
from lazaretto.secagg.channel import authentic, letter, sealed
from lazaretto.secagg.drawn import commitment, derive, expand, opens
from lazaretto.secagg.length_check import STAGES, after, and_share, operands, started
from lazaretto.secagg.noise import discrete_gaussian
from lazaretto.secagg.ring import Shares, clipped, combined, products, signed, square_sum, squares, to_ring
from lazaretto.secagg.settings import Sharing, allowed_bits, check_fits, row_length, stretch
from lazaretto.secagg.sketch import projections, sketch_of, sketched

SEEDS = st.integers(0, 2**32 - 1)


def words(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, shape, np.uint64)


def whole(array: np.ndarray) -> np.ndarray:
    return array.astype(object)


def test_expansion_is_aes_256_in_counter_mode() -> None:
    # the block for key 0 and counter 0 is H of test case 13, McGrew and Viega, GCM specification (2005)
    first = expand(bytes(32), 2).astype("<u8").tobytes()
    assert first.hex() == "dc95c078a2408989ad48a21492842087"


def test_labels_do_not_run_together() -> None:
    found = {
        derive(bytes(32), *label)
        for label in [("a", "bc"), ("ab", "c"), ("abc",), ("1",), (1,), ("a", "b", "c")]
    }
    assert len(found) == 6


def test_a_commitment_binds_and_needs_its_nonce() -> None:
    made = commitment(b"share", b"n" * 32)
    assert opens(made, b"share", b"n" * 32)
    assert not opens(made, b"shard", b"n" * 32)
    assert not opens(made, b"share", b"m" * 32)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 5), d=st.integers(1, 40))
def test_addends_of_three_holders_add_up_to_the_products(seed: int, n: int, d: int) -> None:
    shares = words(seed, 3, n, d)
    total = sum(products(Shares(shares[j], shares[(j + 1) % 3])) for j in range(3))
    rows = whole(shares).sum(axis=0)
    assert (whole(np.asarray(total)) == (rows @ rows.T) % 2**64).all()


def test_products_of_more_columns_than_a_block() -> None:
    a, b = words(1, 2, 40000), words(2, 2, 40000)
    assert (squares(Shares(a, b)) == np.diagonal(products(Shares(a, b)))).all()
    x, y = whole(a), whole(b)
    expected = (x @ x.T + x @ y.T + y @ x.T) % 2**64
    assert (whole(products(Shares(a, b))) == expected).all()


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 4))
def test_weighted_sums_are_exact(seed: int, n: int) -> None:
    rows, weights = words(seed, n, 30), words(seed + 1, n)
    assert (whole(combined(weights, rows)) == (whole(weights) @ whole(rows)) % 2**64).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), max_size=9))
def test_squares_are_added_over_the_integers(values: list[int]) -> None:
    assert square_sum(np.array(values, np.int64)) == sum(v * v for v in values)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, clip=st.floats(1e-3, 1e3), scale=st.sampled_from([0.0, 1e-200, 1.0, 1e200]))
def test_clipping_shortens_and_nothing_else(seed: int, clip: float, scale: float) -> None:
    row = np.random.default_rng(seed).standard_normal(7) * scale
    short = clipped(row, clip)
    length = math.sqrt(sum(v * v for v in short))
    assert length <= clip * (1 + 1e-12)
    if scale in (0.0, 1e-200):
        assert (short == row).all()
    if scale == 1e200:
        assert length == pytest.approx(clip)


def test_fixed_point_rounds_to_the_nearest() -> None:
    assert signed(to_ring(np.array([1.0, -1.0, 2**-17, -(2**-16) * 0.75]), 16)).tolist() == [
        65536,
        -65536,
        0,
        -1,
    ]


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, k=st.integers(2, 60))
def test_a_sketch_of_shares_is_a_share_of_the_sketch(seed: int, k: int) -> None:
    a, b = words(seed, 2, 61), words(seed + 1, 2, 61)
    sketch = sketch_of(seed.to_bytes(32, "big"), 61, k)
    assert (sketched(sketch, a + b) == sketched(sketch, a) + sketched(sketch, b)).all()
    row = np.zeros((1, 61), np.uint64)
    row[0, :] = 1
    assert square_sum(signed(sketched(sketch, row)[0])) <= 61 * math.ceil(61 / k)


def test_sketched_products_are_right_on_average() -> None:
    rng = np.random.default_rng(5)
    rows = to_ring(rng.standard_normal((2, 200)), 10)
    exact = float(signed(rows[0]).astype(float) @ signed(rows[1]).astype(float))
    squares = [square_sum(signed(row)) for row in rows]
    k, found = 50, []
    for i in range(400):
        s = signed(sketched(sketch_of(i.to_bytes(32, "big"), 200, k), rows)).astype(float)
        found.append(float(s[0] @ s[1]))
    error = math.sqrt(squares[0] * squares[1])
    assert abs(np.mean(found) - exact) < 5 * error * math.sqrt(2 / k / 400)
    assert np.std(found) < error * math.sqrt(2 / k)


def test_a_sketch_as_wide_as_the_row_is_the_row() -> None:
    assert sketch_of(bytes(32), 10, 10) is None
    assert sketch_of(bytes(32), 10, 0) is None


def test_projections_are_linear_and_of_the_right_coefficients() -> None:
    rows = words(3, 2, 20000)
    a, b = projections(bytes(32), rows[:1], 40), projections(bytes(32), rows[1:], 40)
    assert (projections(bytes(32), rows[:1] + rows[1:], 40) == a + b).all()
    unit = signed(
        np.concatenate([projections(bytes(32), row[None], 40) for row in np.eye(300, dtype=np.uint64)])
    )
    values, counts = np.unique(unit, return_counts=True)
    assert values.tolist() == [-1, 0, 1]
    assert stats.chisquare(counts, np.array([0.25, 0.5, 0.25]) * unit.size).pvalue > 1e-6


def bits_of_check(values: list[int], bits: int, seed: int = 0) -> list[int]:
    """The length check among three holders, by hand: one row for each value, in its only projection."""
    total = np.array([[v % 2**64] for v in values], np.uint64)
    s0, s1 = words(seed, *total.shape), words(seed + 1, *total.shape)
    shares = [s0, s1, total - s0 - s1]
    held = [started(Shares(shares[j], shares[(j + 1) % 3]), j, bits) for j in range(3)]
    for stage in range(STAGES):
        pairs = [operands(stage, m) for m in held]
        zero = words(seed + 2 + stage, 2, *pairs[0][0].first.shape)
        zeros = [zero[0], zero[1], zero[0] ^ zero[1]]
        parts = [and_share(*pair, z) for pair, z in zip(pairs, zeros, strict=True)]
        held = [after(stage, held[j], Shares(parts[j], parts[(j + 1) % 3])) for j in range(3)]
    opened = held[0].a.first ^ held[1].a.first ^ held[2].a.first
    return [int(v) for v in opened[:, 0]]


@settings(max_examples=25, deadline=None)
@given(value=st.integers(-(2**63), 2**63 - 1), bits=st.integers(1, 62), seed=SEEDS)
def test_the_length_check_computes_what_it_says(value: int, bits: int, seed: int) -> None:
    edge = 2**bits
    values = [value, 0, edge - 1, edge, -edge, -edge - 1, -1]
    assert bits_of_check(values, bits, seed) == [int(-edge <= v < edge) for v in values]


@pytest.mark.parametrize("sigma", [1, 3])
def test_noise_is_discrete_gaussian(sigma: int) -> None:
    drawn = discrete_gaussian(b"\x07" * 32, sigma, 20000)
    edge = 4 * sigma
    support = np.arange(-edge, edge + 1)
    expected = np.exp(-(support**2) / (2 * sigma**2))
    counts = np.array([(drawn == v).sum() for v in support])
    assert counts.sum() > 19990
    assert stats.chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 1e-6
    for wrong in (2 / 3, 3 / 2):
        other = np.exp(-(support**2) / (2 * (wrong * sigma) ** 2))
        assert stats.chisquare(counts, other / other.sum() * counts.sum()).pvalue < 1e-6


def test_noise_of_a_large_scale_has_its_scale() -> None:
    sigma = 2**22 + 12345
    drawn = discrete_gaussian(b"\x08" * 32, sigma, 40000) / sigma
    assert stats.kstest(drawn, "norm").pvalue > 1e-6
    for wrong in (2 / 3, 3 / 2):
        assert stats.kstest(drawn * wrong, "norm").pvalue < 1e-6
    assert len(set(np.abs((drawn * sigma).astype(np.int64)) % 2)) == 2


@pytest.mark.parametrize("sigma", [0, 2**27])
def test_noise_out_of_range_is_refused(sigma: int) -> None:
    with pytest.raises(InputError, match="whole σ"):
        discrete_gaussian(bytes(32), sigma, 3)


@pytest.mark.parametrize(
    ("given", "sites", "parameters", "rounds", "says"),
    [
        ({"clip": 1000.0}, 10, 1000, 1, "secure.clip or secure.fraction_bits is too large"),
        ({"clip": 100.0, "fraction_bits": 20}, 10, 1000, 1, "inner products of updates"),
        ({"clip": 100.0, "history": True}, 10, 1000, 400, "over 400 rounds"),
        ({"clip": 100.0}, 10**9, 1000, 1, "the sum over 1000000000 sites"),
        ({"clip": 10.0, "noise": 1e-9}, 10, 1000, 1, "secure.noise does not fit"),
        ({"clip": 10.0, "noise": 1900.0}, 10, 10**7, 1, "secure.noise"),
        ({"clip": -1.0}, 10, 1000, 1, "secure.clip is out of range"),
        ({"clip": math.inf}, 10, 1000, 1, "secure.clip is out of range"),
        ({"clip": 1.0, "fraction_bits": 21}, 10, 1000, 1, "secure.fraction_bits is out of range"),
        ({"clip": 1.0, "fraction_bits": 0}, 10, 1000, 1, "secure.fraction_bits is out of range"),
        ({"clip": 1.0, "sketch_columns": -1}, 10, 1000, 1, "secure.sketch_columns is out of range"),
        ({"clip": 120.0, "sketch_columns": 10}, 10, 10**5, 1, "more secure.sketch_columns"),
    ],
)
def test_fields_that_are_too_small_are_refused(
    given: dict[str, float], sites: int, parameters: int, rounds: int, says: str
) -> None:
    with pytest.raises(PlanError, match=says):
        check_fits(Sharing(**given), sites, parameters, rounds)  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(clip=st.floats(1e-3, 1e3), d=st.integers(1, 10**7), k=st.sampled_from([0, 100, 8192]))
def test_what_fits_cannot_wrap(clip: float, d: int, k: int) -> None:
    agreed = Sharing(clip=clip, sketch_columns=k)
    try:
        check_fits(agreed, 100, d)
    except PlanError:
        return
    assert (9 * 2 ** allowed_bits(agreed, d)) ** 2 * stretch(agreed, d) < 2**63
    assert 9 * row_length(agreed, d) <= 2 ** allowed_bits(agreed, d)
    assert 100 * row_length(agreed, d) * 2**16 < 2**62


def test_a_tag_holds_every_part_of_a_message() -> None:
    key = b"k" * 32
    message = letter("coin", "a", "b", 3, {"x": np.arange(3)}, "aggregator-aggregator")
    made = sealed(message, key)
    assert authentic(made, key)
    assert not authentic(made, b"l" * 32)
    assert not authentic(message, key)
    tag = made.payload["tag"]
    for changed in (
        letter("gram", "a", "b", 3, made.payload, "aggregator-aggregator"),
        letter("coin", "c", "b", 3, made.payload, "aggregator-aggregator"),
        letter("coin", "a", "c", 3, made.payload, "aggregator-aggregator"),
        letter("coin", "a", "b", 4, made.payload, "aggregator-aggregator"),
        letter("coin", "a", "b", 3, made.payload, "site-aggregator"),
        letter("coin", "a", "b", 3, {"x": np.arange(1, 4), "tag": tag}, "aggregator-aggregator"),
        letter("coin", "a", "b", 3, {"x": np.array([np.nan]), "tag": tag}, "aggregator-aggregator"),
    ):
        assert not authentic(changed, key)
