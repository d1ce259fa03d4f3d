"""The exam of every compressor, found through the catalog, alone and in chains: nothing here names one.

Laws that hold on average are tested over many draws; each such test refuses a right compressor with a chance
of less than one in a million (six standard errors), and its seeds are fixed.
"""

from __future__ import annotations

import doctest
import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto import catalog, wire
from lazaretto.compress_types import Compressor, Public
from lazaretto.compression import chain, composes_with_sharing, received, send
from lazaretto.errors import InputError, PlanError
from lazaretto.keys import generator

NAMES = catalog.names("compressors")
FOUND: dict[str, Compressor] = {name: catalog.build("compressors", name) for name in NAMES}
UNFED = {
    f"{name} without feedback": catalog.build("compressors", name, {"feedback": False})
    for name in NAMES
    if "feedback" in catalog.options("compressors", name)
}
HALF = {
    f"{name} of a half": catalog.build("compressors", name, {"share": 0.5})
    for name in NAMES
    if "share" in catalog.options("compressors", name)
}
FOUR = {
    f"{name} of four bits": catalog.build("compressors", name, {"bits": 4, "block": 16})
    for name in NAMES
    if "bits" in catalog.options("compressors", name)
}
ALONE = FOUND | UNFED | HALF | FOUR
CHAINS = {
    made.name: made
    for made in (
        chain(first, second)
        for first in FOUND.values()
        for second in FOUND.values()
        if first.left is not None and second.left is None
    )
}
ALL = ALONE | CHAINS
DRAWS = 800


@pytest.fixture(params=ALL, scope="module")
def scheme(request: pytest.FixtureRequest) -> Compressor:
    """Alone, with other options, or as a chain."""
    return ALL[request.param]


def update(m: int, seed: int = 0) -> Any:
    """[m] float32, a few entries much larger than the rest."""
    rng = generator(seed, "update", m)
    return (rng.standard_normal(m) * np.where(rng.random(m) < 0.1, 20, 1)).astype(np.float32)


def public_of(m: int, seed: int = 0) -> Public:
    return Public(seed + 1000, update(m, seed + 500))


def rng_of(seed: int = 0) -> Any:
    return generator(seed, "site")


def through(scheme: Compressor, x: Any, public: Public, seed: int = 0) -> Any:
    return scheme.decode(scheme.encode(x, public, rng_of(seed)), public, x.size)


@pytest.mark.parametrize("name", NAMES)
def test_its_name_its_example_and_its_claims(name: str) -> None:
    made = FOUND[name]
    package, _ = catalog.FAMILIES["compressors"]
    found = doctest.testmod(importlib.import_module(f"{package}.{name}"))
    assert made.name == name
    assert found.attempted >= 2
    assert found.failed == 0
    assert all(0 <= made.contraction(m) <= 1 for m in (1, 2, 7, 1000))
    assert made.noise >= 0
    assert not (made.unbiased and made.feedback), "what is right on average needs no feedback"
    assert made.shared_indices or not made.linear, "values of other coordinates cannot be summed"


@pytest.mark.parametrize("m", [1, 2, 3, 17, 300])
def test_shapes_types_seeds_and_inputs_left_alone(scheme: Compressor, m: int) -> None:
    x, public = update(m), public_of(m)
    held = x.copy(), np.copy(public.moved)  # type: ignore[arg-type]
    payload = scheme.encode(x, public, rng_of())
    kept = {name: array.copy() for name, array in payload.items()}
    found = scheme.decode(payload, public, m)
    assert found.shape == (m,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(x, held[0])
    np.testing.assert_array_equal(public.moved, held[1])
    again = scheme.encode(x, public, rng_of())
    assert payload.keys() == kept.keys() == again.keys()
    for name, array in payload.items():
        assert array.ndim == 1
        np.testing.assert_array_equal(array, kept[name])
        np.testing.assert_array_equal(array, again[name])
        assert not np.shares_memory(array, x)
    if scheme.left is not None:
        assert payload["values"].shape == (scheme.left(m, public),)
        assert payload["values"].dtype == np.float32


def test_it_passes_through_the_wire(scheme: Compressor) -> None:
    x, public = update(300), public_of(300)
    payload = scheme.encode(x, public, rng_of())
    arrived = wire.decode(wire.encode(payload))
    np.testing.assert_array_equal(scheme.decode(arrived, public, 300), scheme.decode(payload, public, 300))


@pytest.mark.parametrize("m", [17, 300])
def test_nothing_and_extremes_come_back_finite(scheme: Compressor, m: int) -> None:
    public = public_of(m)
    np.testing.assert_array_equal(through(scheme, np.zeros(m, np.float32), public), np.zeros(m))
    for size in (1e-45, 1e-38, 1e30):
        found = through(scheme, np.full(m, size, np.float32), public)
        assert np.isfinite(found).all()


def test_it_is_right_on_average_where_it_says_so(scheme: Compressor) -> None:
    """Also that it is not where it does not: a claim left out would let feedback add up."""
    m = 24
    x, moved = update(m, 3), update(m, 4)
    found = np.array([through(scheme, x, Public(seed, moved), seed) for seed in range(DRAWS)], np.float64)
    spread = found.std(axis=0) / np.sqrt(DRAWS)
    off = np.abs(found.mean(axis=0) - x) > 6 * spread + 1e-5 * np.abs(x).max()
    assert off.any() != scheme.unbiased


@pytest.mark.parametrize("m", [24, 100])
@pytest.mark.parametrize("kind", ["spread", "one", "flat"])
def test_what_is_lost_is_no_more_than_it_promises(scheme: Compressor, m: int, kind: str) -> None:
    x = {"spread": update(m), "one": np.eye(m)[m // 3] * 5, "flat": np.ones(m)}[kind].astype(np.float32)
    moved, draws = update(m, 4), 200
    lost = [
        np.square(through(scheme, x, Public(seed, moved), seed) - x, dtype=np.float64).sum()
        for seed in range(draws)
    ]
    length = float(np.square(x, dtype=np.float64).sum())
    error = 6 * np.std(lost) / np.sqrt(draws) + 1e-6 * length
    promised = scheme.contraction(m)
    if promised > 0:
        assert np.mean(lost) <= (1 - promised) * length + error
    if np.isfinite(scheme.noise):
        assert np.mean(lost) <= scheme.noise * length + error


def test_what_was_sent_and_what_is_kept_are_all_there_was(scheme: Compressor) -> None:
    m, total = 200, np.zeros(200, np.float64)
    residual, sent = np.zeros(m, np.float32), np.zeros(m, np.float64)
    for number in range(30):
        x, public = update(m, number), Public(number, update(m, number + 50) if number else None)
        payload, residual = send(scheme, x, residual, public, rng_of(number))
        sent += received(scheme, payload, public, m)
        total += x
    assert residual.dtype == np.float32
    if scheme.feedback:
        np.testing.assert_allclose(sent + residual, total, atol=1e-3)
    else:
        np.testing.assert_array_equal(residual, np.zeros(m))


def test_what_is_kept_stays_bounded_where_less_is_lost_than_there_is(scheme: Compressor) -> None:
    """Below 2/δ updates, with feedback and a contraction δ (Karimireddy et al. 2019)."""
    m, delta = 100, scheme.contraction(100)
    if not scheme.feedback or delta == 0:
        return
    residual, longest, moved = np.zeros(m, np.float32), 0.0, update(m)
    for number in range(200):
        x = update(m, number % 7)
        longest = max(longest, float(np.linalg.norm(x)))
        _, residual = send(scheme, x, residual, Public(number, moved), rng_of(number))
    assert np.linalg.norm(residual) <= 2 * longest / delta


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), factor=st.sampled_from([-4.0, 0.5, 3.0]))
@pytest.mark.parametrize("name", ALL)
def test_sums_of_values_are_values_of_sums_where_it_says_so(name: str, seed: int, factor: float) -> None:
    made, m = ALL[name], 90
    assert composes_with_sharing(made) == (made.lengths is not None)
    if not made.linear:
        return
    a, b, public = update(m, seed), update(m, seed + 1), public_of(m, seed)
    summed = (a + np.float32(factor) * b).astype(np.float32)
    parts = [made.encode(x, public, rng_of(n)) for n, x in enumerate((a, b, summed))]
    assert [set(part) for part in parts] == [{"values"}] * 3
    found = parts[0]["values"] + np.float32(factor) * parts[1]["values"]
    np.testing.assert_allclose(found, parts[2]["values"], rtol=1e-4, atol=1e-3)
    decoded = [made.decode(part, public, m) for part in parts]
    np.testing.assert_allclose(decoded[0] + factor * decoded[1], decoded[2], rtol=1e-4, atol=1e-3)


LINEAR = {name: made for name, made in ALONE.items() if made.linear}
PAIRS = {
    f"{one}, then {two}": chain(LINEAR[one], LINEAR[two])
    for one in LINEAR
    for two in LINEAR
    if not LINEAR[two].needs_moved
}


@pytest.mark.parametrize("name", LINEAR | PAIRS)
def test_lengths_are_those_of_its_matrices(name: str) -> None:
    """One coordinate at a time: rows at right angles, decoded along them, as long as said."""
    made, m, public = (LINEAR | PAIRS)[name], 40, public_of(40)
    assert (made.lengths is None) == (name in PAIRS and name.startswith("count_sketch"))
    if made.lengths is None:
        assert not composes_with_sharing(made)
        return
    decoded, encoded = made.lengths(m, public)
    eye = np.eye(m, dtype=np.float32)
    into = np.array([made.encode(row, public, rng_of(0))["values"] for row in eye], np.float64).T
    assert decoded.shape == encoded.shape == (len(into),)
    one = np.eye(len(into), dtype=np.float32)
    back = np.array([made.decode({"values": row}, public, m) for row in one], np.float64)
    np.testing.assert_allclose(into @ into.T, np.diag(encoded**2), atol=1e-5)
    np.testing.assert_allclose(back @ back.T, np.diag(decoded**2), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(back / decoded[:, None], into / encoded[:, None], rtol=1e-5, atol=1e-6)
    if made.even:
        assert len(set(decoded)) == len(set(encoded)) == 1


@pytest.mark.parametrize("name", LINEAR | PAIRS)
def test_what_is_sent_is_the_same_matrix_for_every_update(name: str) -> None:
    """So which coordinates a value is made of tells nothing of the update."""
    assert matrix_error((LINEAR | PAIRS)[name]) < 1e-5


def test_coordinates_that_go_by_the_update_are_caught() -> None:
    """A planted leak: values as many as they should be, of the largest coordinates of the site's own."""

    def largest(x: Any, public: Public, rng: Any) -> dict[str, Any]:
        return {"values": x[np.sort(np.argsort(-np.abs(x))[: FOUND["random_k"].left(x.size, public)])]}  # type: ignore[misc]

    assert matrix_error(replace(FOUND["random_k"], encode=largest)) > 0.1


def matrix_error(made: Compressor, m: int = 40) -> float:
    """How far values of updates are from those of single coordinates, added up."""
    public, eye = public_of(m), np.eye(m, dtype=np.float32)
    into = np.array([made.encode(row, public, rng_of(0))["values"] for row in eye], np.float64).T
    rows = [update(m, seed) for seed in range(5)]
    return max(float(np.abs(made.encode(x, public, rng_of(1))["values"] - into @ x).max()) for x in rows)


@pytest.mark.parametrize("name", ALL)
def test_a_claim_of_linearity_left_out_is_no_oversight(name: str) -> None:
    made, m = ALL[name], 90
    if made.linear:
        return
    public = public_of(m)
    whole = through(made, update(m, 1) + update(m, 2), public)
    parts = through(made, update(m, 1), public) + through(made, update(m, 2), public)
    assert not np.allclose(whole, parts, rtol=1e-4, atol=1e-3)


def test_which_coordinates_are_sent_tells_nothing_where_it_says_so(scheme: Compressor) -> None:
    public = public_of(90)
    shapes = [
        {name: array.shape for name, array in scheme.encode(update(90, seed), public, rng_of(seed)).items()}
        for seed in range(10)
    ]
    if scheme.shared_indices:
        assert all(shape == shapes[0] for shape in shapes)


BAD: dict[str, Any] = {
    "text": lambda a: "x",
    "a list": lambda a: a.tolist(),
    "another type": lambda a: a.astype(np.float64),
    "two axes": lambda a: a.reshape(1, -1),
    "one too many": lambda a: np.append(a, a[-1:]),
    "one too few": lambda a: a[:-1],
    "none": lambda a: a[:0],
    "a million": lambda a: np.ones(10**6, a.dtype),
    "not a number": lambda a: np.full_like(a, np.nan) if a.dtype.kind == "f" else a[:-1],
    "infinity": lambda a: np.full_like(a, np.inf) if a.dtype.kind == "f" else a[:-1],
}


@pytest.mark.parametrize("how", BAD)
def test_what_no_site_would_send_is_refused(scheme: Compressor, how: str) -> None:
    m = 300
    public = public_of(m)
    payload = scheme.encode(update(m), public, rng_of())
    for name, array in payload.items():
        spoiled = {**payload, name: BAD[how](array)}
        with pytest.raises(InputError):
            scheme.decode(spoiled, public, m)
        assert np.isnan(received(scheme, spoiled, public, m)).all()
        missing = {key: value for key, value in payload.items() if key != name}
        with pytest.raises(InputError):
            scheme.decode(missing, public, m)
    with pytest.raises(InputError):
        scheme.decode({**payload, "further": np.ones(3, np.float32)}, public, m)
    for odd in (None, [], {1: 2}):
        with pytest.raises(InputError):
            scheme.decode(odd, public, m)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", ALL)
def test_random_bytes_are_decoded_or_refused(name: str, data: st.DataObject) -> None:
    """Never another error, another shape, or a number that is not finite."""
    made, m = ALL[name], 70
    public = public_of(m)
    payload = dict(made.encode(update(m), public, rng_of()))
    for key, array in payload.items():
        raw = data.draw(st.binary(min_size=array.nbytes, max_size=array.nbytes), label=key)
        payload[key] = np.frombuffer(raw, array.dtype)
    try:
        found = made.decode(payload, public, m)
    except InputError:
        return
    assert found.shape == (m,)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_goes_as_it_is(scheme: Compressor, bad: float) -> None:
    x, public, residual = update(50), public_of(50), update(50, 9)
    x[7] = bad
    payload, kept = send(scheme, x, residual, public, rng_of())
    np.testing.assert_array_equal(kept, residual)
    assert np.isnan(received(scheme, payload, public, 50)).all()


def test_an_update_too_large_for_sums_is_refused_and_leaves_no_trace(scheme: Compressor) -> None:
    x = np.full(50, 3e38, np.float32)
    payload, kept = send(scheme, x, np.zeros(50, np.float32), public_of(50), rng_of())
    arrived = received(scheme, payload, public_of(50), 50)
    assert np.isfinite(arrived).all() or np.isnan(arrived).all()
    assert np.isfinite(kept).all()


def test_parts_that_do_not_go_together_are_refused() -> None:
    last = next(made for made in FOUND.values() if made.left is None)
    moved = next(made for made in FOUND.values() if made.needs_moved)
    any_other = next(made for made in FOUND.values() if made.left is not None)
    with pytest.raises(PlanError, match="leaves no values"):
        chain(last, any_other)
    with pytest.raises(PlanError, match="coordinates of the model"):
        chain(any_other, moved)
    assert chain(any_other) is any_other
