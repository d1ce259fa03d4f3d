"""Features of new data for a model of other data: order of precedence, equal quantities, what is absent."""

from __future__ import annotations

import numpy as np
import pytest

from lazaretto.errors import DataError, PlanError
from lazaretto.run.feature_map import SAME_QUANTITY, match_features, parse_map, take_features


def test_by_word_before_name_before_meaning() -> None:
    wanted = ("length_mean_bytes", "packets_per_second", "bytes_per_second", "peers")
    held = ("bytes_per_second", "packet_size_mean_bytes", "packets_per_second", "kilobytes")
    found = match_features(wanted, held, {"bytes_per_second": ("kilobytes", 1024.0)}, "s")
    assert found.place == (1, 2, 3, -1)
    assert found.factor == (1.0, 1.0, 1024.0, 1.0)
    assert found.mapped == (
        ("length_mean_bytes", "packet_size_mean_bytes", 1.0),
        ("bytes_per_second", "kilobytes", 1024.0),
    )
    assert found.absent == ("peers",)
    said = " ".join(found.sentences("s"))
    assert "length_mean_bytes from packet_size_mean_bytes" in said
    assert "bytes_per_second from kilobytes times 1024" in said
    assert "Not in 's', and kept at the median of training: peers (1 of the model's 4 features)." in said


def test_all_by_name_says_nothing() -> None:
    assert match_features(("b", "a"), ("a", "b"), {}, "s").sentences("s") == []


def test_two_of_one_meaning_are_left_to_the_user() -> None:
    held = ("packet_size_mean_bytes", "bytes_per_packet", "x")
    assert match_features(("length_mean_bytes", "x"), held, {}, "s").absent == ("length_mean_bytes",)


def test_half_is_enough_and_less_is_not() -> None:
    match_features(("a", "b"), ("a",), {}, "s")
    with pytest.raises(DataError, match=r"2 of 3: b, c.*\n.*--map"):
        match_features(("a", "b", "c"), ("a",), {}, "s")


def test_no_name_stands_for_two_quantities() -> None:
    names = [name for group in SAME_QUANTITY for name in group]
    assert len(names) == len(set(names))


def test_what_is_absent_stands_at_the_centre() -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    found = match_features(("p", "q", "r"), ("r", "p"), {"p": ("p", 10.0)}, "s")
    made = take_features(x, found, np.array([0.0, 7.0, 0.0], np.float32))
    np.testing.assert_array_equal(made[..., 0], 10 * x[..., 1])
    np.testing.assert_array_equal(made[..., 1], np.full((2, 3), 7.0))
    np.testing.assert_array_equal(made[..., 2], x[..., 0])


def test_a_feature_twice() -> None:
    with pytest.raises(PlanError, match="twice"):
        parse_map(["a=b", "a=c"])
