"""What masked sums stand on: shares, masks, fixed point, thresholds, the graph."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.errors import InputError, PlanError, WireError
from lazaretto.secagg.masked_keys import (
    add_mask,
    agreed_key,
    derive,
    public_identity,
    public_key,
    seal,
    sign,
    stream,
    unseal,
    verifies,
)
from lazaretto.secagg.masked_settings import (
    Masked,
    Setup,
    _risks,
    check_masked,
    default_masked,
    fraction_bits,
    from_fixed,
    holders,
    smallest_graph,
    to_fixed,
    weight_bits,
)
from lazaretto.secagg.masked_shamir import PRIME, combine_shares, split_secret

# --- shares ---


def test_shares_of_the_worked_example() -> None:
    """1234 + 166x + 94x², https://en.wikipedia.org/wiki/Shamir%27s_secret_sharing"""
    shares = [1494, 1942, 2578, 3402, 4414, 5614]
    assert split_secret(1234, range(1, 7), [166, 94]) == shares
    for three in itertools.combinations(range(1, 7), 3):
        assert combine_shares({place: shares[place - 1] for place in three}, 3) == 1234


@given(st.data())
def test_enough_shares_give_the_secret_and_fewer_any_other(data: st.DataObject) -> None:
    number = st.integers(0, PRIME - 1)
    secret, other = data.draw(number), data.draw(number)
    threshold = data.draw(st.integers(2, 6))
    coefficients = [data.draw(number) for _ in range(threshold - 1)]
    places = data.draw(st.lists(st.integers(1, 500), min_size=threshold, max_size=10, unique=True))
    shares = dict(zip(places, split_secret(secret, places, coefficients), strict=True))
    assert combine_shares(shares, threshold) == secret
    few = dict(list(shares.items())[: threshold - 1])
    with pytest.raises(InputError, match="too few shares"):
        combine_shares(few, threshold)
    # one share less fits every secret: some polynomial through these shares has `other` at 0
    rest = max(places) + 1
    through = {**few, rest: _through({0: other, **few}, rest)}
    assert combine_shares(through, threshold) == other


def _through(points: dict[int, int], x: int) -> int:
    """Lagrange's polynomial through points, at x, term by term."""
    total = 0
    for i, y in points.items():
        term = y
        for j in points:
            if j != i:
                term = term * (x - j) * pow(i - j, -1, PRIME) % PRIME
        total += term
    return total % PRIME


@pytest.mark.parametrize("places", [[0, 1], [1, 1], [-1, 2], [PRIME, 1]])
def test_places_are_checked(places: list[int]) -> None:
    with pytest.raises(InputError, match="places of shares"):
        split_secret(1, places, [2])


def test_numbers_outside_of_the_field_are_refused() -> None:
    with pytest.raises(InputError, match="outside of the field"):
        split_secret(PRIME, [1, 2], [1])
    with pytest.raises(InputError, match="outside of the field"):
        combine_shares({1: PRIME, 2: 3}, 2)


# --- masks, keys, signatures ---


def test_masks_are_aes_in_counter_mode() -> None:
    """Blocks 0 and 1 under the zero key, from the test cases of GCM (McGrew & Viega 2005)."""
    golden = bytes.fromhex("66e94bd4ef8a2c3b884cfa59ca342b2e58e2fccefa7e3061367f1d57a4e7455a")
    for dtype in ("<u4", "<u8"):
        total = np.zeros(32 // np.dtype(dtype).itemsize, dtype)
        add_mask(total, bytes(32))
        assert total.tobytes() == golden


@pytest.mark.parametrize("dtype", ["<u4", "<u8"])
@pytest.mark.parametrize("length", [1, 5, 2**16 - 1, 2**16 + 1, 200_001])
def test_a_mask_in_blocks_is_the_mask(dtype: str, length: int) -> None:
    rng = np.random.default_rng(length)
    start = rng.integers(0, 2**32, length).astype(dtype)
    key = hashlib.sha256(dtype.encode()).digest()
    mask = np.zeros(length, dtype)
    add_mask(mask, key)
    total = start.copy()
    add_mask(total, key)
    np.testing.assert_array_equal(total, start + mask)
    add_mask(total, key, subtract=True)
    np.testing.assert_array_equal(total, start)
    assert len(np.unique(mask)) > 0.99 * length


def test_keys_of_the_standards() -> None:
    """RFC 7748, 6.1, and RFC 8032, 7.1, test 1."""
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    assert public_key(alice).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = public_identity(secret)
    assert public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    signature = sign(secret, b"")
    assert signature.hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f"
        "0595bbe24655141438e7a100b"
    )
    assert verifies(public, signature, b"")
    assert not verifies(public, signature, b"x")
    assert not verifies(bytes(31) + b"\xff", signature, b"")


def test_two_sites_agree_and_labels_do_not_run_together() -> None:
    one, two = hashlib.sha256(b"1").digest(), hashlib.sha256(b"2").digest()
    assert agreed_key(one, public_key(two), "x") == agreed_key(two, public_key(one), "x")
    assert agreed_key(one, public_key(two), "x") != agreed_key(one, public_key(two), "y")
    different = [
        derive(one),
        derive(one, "ab", "c"),
        derive(one, "a", "bc"),
        derive(one, 1),
        derive(one, "1"),
    ]
    assert len(set(different)) == len(different)
    with pytest.raises(WireError, match="public key cannot be used"):
        agreed_key(one, bytes(32), "x")
    with pytest.raises(InputError, match="another length"):
        derive(b"short", "x")


def test_what_is_sealed_is_read_by_its_key_and_context_alone() -> None:
    key = stream(bytes(32), 32)
    sealed = seal(key, b"share", b"round 1")
    assert unseal(key, sealed, b"round 1") == b"share"
    assert unseal(key, sealed, b"round 2") is None
    assert unseal(bytes(32), sealed, b"round 1") is None
    assert unseal(key, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"round 1") is None


# --- fixed point ---


@given(
    n=st.integers(3, 300),
    ring=st.sampled_from([32, 64]),
    bound=st.sampled_from([0.01, 1.0, 8.0, 1000.0]),
    sign=st.sampled_from([-1, 1]),
    shares=st.lists(st.floats(1e-6, 1), min_size=1, max_size=300),
)
def test_honest_sums_never_wrap_and_are_right(
    n: int, ring: Any, bound: float, sign: int, shares: list[float]
) -> None:
    chosen = Masked(threshold=n, ring_bits=ring, bound=bound)
    shares = [1.0, *shares][:n]
    rows = np.array([[sign * bound, sign * bound * 0.3, -sign * bound / (i + 1)] for i in range(len(shares))])
    total = sum(to_fixed(row, share, chosen, n) for row, share in zip(rows, shares, strict=True))
    mean, weight = from_fixed(total, chosen, n)
    whole = np.maximum(1, np.rint(np.array(shares) * 2 ** weight_bits(chosen, n))) / 2 ** weight_bits(
        chosen, n
    )
    expected = whole @ rows / whole.sum()
    error = len(shares) / 2 / 2.0 ** fraction_bits(chosen, n) / whole.sum()
    np.testing.assert_allclose(mean, expected, atol=error * (1 + 1e-9) + 1e-15)
    assert weight == pytest.approx(whole.sum())


def test_all_sites_at_the_bound_fill_the_ring_but_for_a_bit() -> None:
    for n, ring in itertools.product((3, 100, 1000), (32, 64)):
        chosen = Masked(threshold=n, ring_bits=ring)
        values = [to_fixed(np.array([s * 8.0] * 2), 1.0, chosen, n) for s in (1, -1)]
        for value in values:
            total = int(value[0].astype(f"<i{ring // 8}")) * n
            assert -(2 ** (ring - 1)) <= total < 2 ** (ring - 1)


@pytest.mark.parametrize(
    ("update", "share", "problem"),
    [
        ([np.inf], 1.0, "not a finite vector"),
        ([np.nan], 1.0, "not a finite vector"),
        ([[1.0]], 1.0, "not a finite vector"),
        ([1.0], 0.0, "not within"),
        ([1.0], 1.5, "not within"),
        ([1.0], np.nan, "not within"),
    ],
)
def test_what_cannot_be_masked_is_refused(update: Any, share: float, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        to_fixed(np.array(update), share, default_masked(5), 5)


@pytest.mark.parametrize("total", [[0, 0], [0, 6 * 2**24], [2**31 - 1, 1], [0, 2**32 - 1]])
def test_sums_that_honest_sites_cannot_reach_are_refused(total: list[int]) -> None:
    with pytest.raises(InputError, match="honest sites"):
        from_fixed(np.array(total, "<u4"), default_masked(5), 5)


# --- thresholds and the graph ---


@pytest.mark.parametrize("sites", range(3, 10))
def test_thresholds_that_let_two_lists_through_are_refused(sites: int) -> None:
    """Each honest site signs one list, a hostile one both: counted out."""
    for threshold, hostile in itertools.product(range(1, sites + 1), range(sites)):
        honest = sites - hostile
        two = any(
            a + hostile >= threshold and b + hostile >= threshold
            for a, b in itertools.product(range(1, honest + 1), repeat=2)
            if a + b <= honest
        )
        alone = threshold - hostile < 2  # a sum with one honest update in it
        chosen = Masked(threshold=threshold, hostile=hostile)
        if two or alone or threshold < 3:
            with pytest.raises(PlanError, match="lets the server learn one update"):
                check_masked(chosen, sites)
        elif 2 * threshold > sites + hostile:
            check_masked(chosen, sites)


@pytest.mark.parametrize(
    ("change", "sites", "problem"),
    [
        ({}, 2, "fewer than three sites"),
        ({"threshold": 9}, 8, "above its sites"),
        ({"threshold": True}, 8, "not a whole number"),
        ({"hostile": -1}, 8, "not a whole number"),
        ({"ring_bits": 16}, 8, "no such ring"),
        ({"bound": np.nan}, 8, "not above 0"),
        ({"bound": 0.0}, 8, "not above 0"),
        ({"bound": 1e7}, 8, "ring of 32 bits is too small"),
        ({"bound": 1e30, "ring_bits": 64}, 8, "ring of 64 bits is too small"),
        ({"degree": 4}, 8, "'degree' and 'shares' together"),
        ({"degree": 5, "shares": 3}, 8, "do not go together"),
        ({"degree": 8, "shares": 3}, 8, "do not go together"),
        ({"degree": 4, "shares": 5}, 8, "do not go together"),
        ({"degree": 4, "shares": 3}, 8, "too few neighbours"),
    ],
)
def test_settings_are_refused_by_name(change: dict[str, Any], sites: int, problem: str) -> None:
    with pytest.raises(PlanError, match=problem):
        check_masked(replace(Masked(threshold=6), **change), sites)


def setup_of(sites: int, chosen: Masked, coin: bytes) -> Setup:
    return Setup(
        settings=chosen,
        round=0,
        coin=coin,
        sites=tuple(f"{i:03d}" for i in range(sites)),
        identities=(),
        coordinator=b"",
        length=1,
    )


def test_the_smallest_graph_is_accepted_and_a_smaller_one_is_not() -> None:
    found = smallest_graph(300, 270, 15)
    assert found is not None
    degree, shares = found
    assert degree < 120
    check_masked(Masked(threshold=270, hostile=15, degree=degree, shares=shares), 300)
    for fewer in range(2, degree + 1):
        if fewer <= degree - 2:
            with pytest.raises(PlanError, match="too few neighbours"):
                check_masked(Masked(threshold=270, hostile=15, degree=degree - 2, shares=fewer), 300)
    assert smallest_graph(6, 4, 1) is None


@given(sites=st.integers(7, 60), half=st.integers(1, 3), coin=st.binary(min_size=32, max_size=32))
@settings(max_examples=30)
def test_the_graph_is_regular_symmetric_and_known_to_all(sites: int, half: int, coin: bytes) -> None:
    chosen = Masked(threshold=5, degree=2 * half, shares=2)
    near = holders(setup_of(sites, chosen, coin))
    for site, those in enumerate(near):
        assert list(those) == sorted(set(those))
        assert len(those) == 2 * half + 1
        assert site in those
        assert all(site in near[other] for other in those)


def test_the_risks_of_a_graph_are_not_below_what_happens() -> None:
    """Drawn 4,000 times: hostile and lost sites at random, then the three things that go wrong."""
    sites, threshold, hostile, degree, shares = 24, 18, 2, 6, 3
    rng, told, stuck = np.random.default_rng(0), 0, 0
    near = holders(setup_of(sites, Masked(threshold=18, degree=degree, shares=shares), bytes(32)))
    for _ in range(4000):
        order = rng.permutation(sites)
        bad, lost = set(order[:hostile]), set(order[hostile : hostile + sites - threshold])
        good = set(range(sites)) - bad - lost
        open_both = any(len(bad & set(near[i])) >= shares for i in good)
        told += open_both or not _connected(good, near)
        stuck += any(len(set(near[i]) - lost - ({i} if i in lost else set())) < shares for i in range(sites))
    most_told, most_stuck = _risks(sites, threshold, hostile, degree, shares)
    assert told / 4000 <= most_told * 1.1
    assert stuck / 4000 <= most_stuck * 1.1
    assert stuck > 0


def _connected(some: set[int], near: tuple[tuple[int, ...], ...]) -> bool:
    start = next(iter(some))
    seen, todo = {start}, [start]
    while todo:
        for other in set(near[todo.pop()]) & some - seen:
            seen.add(other)
            todo.append(other)
    return seen == some
