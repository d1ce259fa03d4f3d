"""Compressors against slow loops, and bytes worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.compress._indices import largest, places_of, written
from lazaretto.compress.count_sketch import count_sketch
from lazaretto.compress.quantise import quantise
from lazaretto.compress.top_k import top_k
from lazaretto.compress.top_k_previous import top_k_previous
from lazaretto.compress_types import Public
from lazaretto.errors import InputError
from lazaretto.keys import generator

RNG = generator(0, "unused")


def slow_gaps(places: list[int]) -> list[int]:
    """One coordinate at a time."""
    out, run, at = [], 0, 0
    for place in places:
        while at < place:
            run, at = run + 1, at + 1
            if run == 255:
                out.append(255)
                run = 0
        out.append(run)
        run, at = 0, at + 1
    return out


@settings(max_examples=100, deadline=None)
@given(data=st.data(), m=st.integers(1, 3000))
def test_places_come_back_and_gaps_are_those_of_a_loop(data: st.DataObject, m: int) -> None:
    chosen = sorted(data.draw(st.sets(st.integers(0, m - 1), min_size=1, max_size=40)))
    places = np.array(chosen, np.int64)
    sent = written(places, m)
    [(name, array)] = sent.items()
    assert array.size <= -(-m // 8)
    if name == "gaps":
        assert array.tolist() == slow_gaps(chosen)
    else:
        assert len(slow_gaps(chosen)) > -(-m // 8)
        assert np.unpackbits(array)[:m].nonzero()[0].tolist() == chosen
    np.testing.assert_array_equal(places_of(sent, name, len(chosen), m), places)


@pytest.mark.parametrize(
    ("gaps", "k", "m"),
    [
        ([0, 0, 0], 2, 10),  # a place too many
        ([0], 2, 10),  # one too few
        ([0, 9], 2, 10),  # the second is place 10
        ([255, 0], 1, 255),  # place 255
        ([0, 255], 1, 600),  # ends in a skip
        ([255] * 50 + [0], 1, 600),  # longer than any list of one place
        ([], 1, 10),
    ],
)
def test_gaps_out_of_range_are_refused(gaps: list[int], k: int, m: int) -> None:
    with pytest.raises(InputError):
        places_of({"gaps": np.array(gaps, np.uint8)}, "gaps", k, m)


@pytest.mark.parametrize("bits", [[0b1100_0000, 0], [0b1000_0000, 0b0010_0000], [0, 0]])
def test_bits_that_are_not_as_many_or_behind_the_end_are_refused(bits: list[int]) -> None:
    """One of ten coordinates: two bits; a bit more for an eleventh; none."""
    with pytest.raises(InputError):
        places_of({"bits": np.array(bits, np.uint8)}, "bits", 1, 10)


def test_the_largest_are_those_of_a_sort_and_of_equal_ones_the_first() -> None:
    x = np.float32([1, -3, 3, 0, -3, 2])
    assert largest(x, 3).tolist() == [1, 2, 4]
    assert largest(x, 2).tolist() == [1, 2]
    assert largest(np.zeros(5, np.float32), 2).tolist() == [0, 1]


def test_the_bytes_of_top_k_by_hand() -> None:
    """Of 300 coordinates one, number 280: 255 are skipped, then 25; its value is 1.5 (0x3fc00000)."""
    x = np.zeros(300, np.float32)
    x[280] = 1.5
    sent = top_k(share=1 / 300).encode(x, Public(0), RNG)
    assert sent["gaps"].tobytes() == bytes([255, 25])
    assert sent["values"].tobytes() == bytes([0, 0, 0xC0, 0x3F])


def test_the_bytes_of_four_bits_by_hand() -> None:
    """Scale 1 (0x3f800000) as the largest is 7; codes raised by 7: 14, 0, 10, 7, 8, then 0 to fill up."""
    sent = quantise(bits=4).encode(np.float32([7, -7, 3, 0, 1]), Public(0), RNG)
    assert sent["codes"].tobytes() == bytes([0xE0, 0xA7, 0x80])
    assert sent["scales"].tobytes() == bytes([0, 0, 0x80, 0x3F])


def test_codes_out_of_range_and_negative_scales_are_refused() -> None:
    scales = np.ones(1, np.float32)
    with pytest.raises(InputError, match="out of range"):
        quantise(bits=4).decode({"codes": np.uint8([0xF0]), "scales": scales}, Public(0), 2)
    with pytest.raises(InputError, match="out of range"):
        quantise().decode({"codes": np.int8([-128]), "scales": scales}, Public(0), 1)
    with pytest.raises(InputError, match="negative"):
        quantise().decode({"codes": np.int8([1]), "scales": -scales}, Public(0), 1)
    with pytest.raises(InputError, match="too large"):
        quantise().decode({"codes": np.int8([100]), "scales": scales * np.float32(3e38)}, Public(0), 1)


class Last:
    """A generator whose draws are the largest below 1."""

    def random(self, shape: Any) -> Any:
        return np.full(shape, np.nextafter(1.0, 0.0))


def test_the_largest_number_is_not_rounded_beyond_the_range() -> None:
    x = np.float32([1.0, 0.1, -1.0])
    sent = quantise().encode(x, Public(0), Last())  # type: ignore[arg-type]
    assert np.abs(sent["codes"].astype(int)).max() <= 127
    quantise().decode(sent, Public(0), 3)


def test_a_sketch_is_that_of_a_matrix() -> None:
    """[k, m] of one sign in each column, found by sketching one coordinate at a time."""
    made, m, public = count_sketch(share=0.2), 53, Public(5)
    eye = np.eye(m, dtype=np.float32)
    matrix = np.array([made.encode(row, public, RNG)["values"] for row in eye]).T
    assert (np.abs(matrix).sum(axis=0) == 1).all()
    load = np.abs(matrix).sum(axis=1)
    assert load.min() >= m // 11
    assert load.max() <= -(-m // 11)
    x = generator(1, "x").standard_normal(m).astype(np.float32)
    np.testing.assert_allclose(made.encode(x, public, RNG)["values"], matrix @ x, rtol=1e-5, atol=1e-5)
    back = matrix.T @ ((matrix @ x) / load)
    np.testing.assert_allclose(
        made.decode(made.encode(x, public, RNG), public, m), back, rtol=1e-5, atol=1e-5
    )


def test_what_moved_most_is_sent_and_a_few_drawn_ones() -> None:
    m, moved = 1000, np.zeros(1000, np.float32)
    moved[100:200] = np.arange(1, 101)
    made, x = top_k_previous(share=0.1, explore=0.3), np.ones(m, np.float32)
    known = [Public(seed, moved) for seed in (1, 2)]
    seen = [np.flatnonzero(made.decode(made.encode(x, one, RNG), one, m)) for one in known]
    for places in seen:
        assert len(places) == 100
        assert set(range(130, 200)) <= set(places.tolist())
    drawn = [set(places.tolist()) - set(range(130, 200)) for places in seen]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("moved", [None, np.zeros(20, np.float32)])
def test_all_is_sent_where_the_model_has_not_moved(moved: Any) -> None:
    made, x = top_k_previous(), np.arange(1, 21, dtype=np.float32)
    public = Public(3, moved)
    np.testing.assert_array_equal(made.decode(made.encode(x, public, RNG), public, 20), x)
