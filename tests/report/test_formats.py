"""Numbers as text: expected values worked out by hand."""

from __future__ import annotations

import math

import pytest

from lazaretto.report.formats import (
    Triple,
    bytes_exact,
    bytes_human,
    clean,
    count,
    counted,
    duration,
    fixed,
    interval_text,
    number,
    operations_human,
    percent,
    places,
    plain,
    short,
    triple,
)

SPACE = "\u202f"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), ("1", None), (True, None), (None, None), (math.nan, None), (math.inf, None), (10**400, None)],
)
def test_number_takes_finite_numbers_only(value: object, expected: float | None) -> None:
    assert number(value) == expected


def test_triple_keeps_the_value_where_the_interval_is_unusable() -> None:
    assert triple({"value": 0.5, "low": 0.4, "high": 0.6}) == Triple(0.5, 0.4, 0.6)
    assert triple({"value": 0.5, "low": 0.6, "high": 0.4}) == Triple(0.5)
    assert triple({"value": 0.5, "low": None}) == Triple(0.5)
    assert triple({"value": None, "low": 0.1, "high": 0.2}) is None
    assert triple("0.5") is None


def test_interval_text() -> None:
    assert interval_text(Triple(0.9571, 0.9484, 0.9659)) == "0.957 [0.948, 0.966]"
    assert interval_text(Triple(0.0161, -0.0004, 0.0231), sign=True) == "+0.016 [0.000, +0.023]"
    assert interval_text(Triple(-0.0161, -0.02, -0.01), sign=True) == "\u22120.016 [\u22120.020, \u22120.010]"
    assert interval_text(None) == "n/a"


def test_a_share_below_one_never_reads_as_one() -> None:
    assert interval_text(Triple(0.99994, 0.9991, 1.0)) == ">0.999 [0.999, 1.000]"
    assert interval_text(Triple(0.996, 0.99, 0.9999), 2) == ">0.99 [0.99, >0.99]"
    assert fixed(0.9994, 3) == "0.999"
    assert percent(0.9997, 0) == f">99{SPACE}%"
    assert percent(0.99996) == f">99{SPACE}%"
    assert percent(1.0) == f"100{SPACE}%"
    assert fixed(9.99996, 3) == "10.000", "no share"
    assert fixed(0.97, 1) == "1.0", "steps or alarms, of which 1 is none of a kind"


def test_what_is_not_nothing_never_reads_as_nothing() -> None:
    assert interval_text(Triple(0.0004, 0.0, 0.0009)) == "<0.001 [0.000, 0.001]"
    assert interval_text(Triple(0.03, 0.0, 0.2), 1) == "<0.1 [0.0, 0.2]"
    assert interval_text(Triple(0.0004, -0.0004, 0.0009), sign=True) == "+0.000 [0.000, +0.001]"
    assert percent(0.00001) == f"<0.01{SPACE}%"
    assert plain(0.0004, 3) == "0.000"
    assert count(0.2) == "0"


def test_decimals_of_a_column() -> None:
    assert places([Triple(0.9996)], ratio=True) == 3
    assert places([Triple(6.7, 5.9, 7.3)], ratio=False) == 1
    assert places([Triple(670, 590, 730)], ratio=False) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.00042, "0.4 ms"),
        (0.85, "850 ms"),
        (5, "5 s"),
        (12.34, "12.3 s"),
        (125, "2 min 5 s"),
        (3599.7, "1 h"),
        (300, "5 min"),
        (4320, "1 h 12 min"),
        (None, "n/a"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text.replace(" s", f"{SPACE}s").replace(" m", f"{SPACE}m").replace(
        " h", f"{SPACE}h"
    )


def test_bytes_and_counts() -> None:
    assert bytes_human(61_284_352) == f"61.3{SPACE}MB"
    assert bytes_human(999) == f"999{SPACE}B"
    assert bytes_human(999_600) == f"1.00{SPACE}MB"
    assert bytes_exact(61_284_352) == f"61{SPACE}284{SPACE}352{SPACE}B"
    assert operations_human(13_226_182_056) == f"13.2{SPACE}GFLOP"
    assert operations_human(999_600) == f"1.00{SPACE}MFLOP"
    assert operations_human(12) == f"12{SPACE}FLOP"
    assert operations_human(None) == "n/a"
    assert count(None) == "n/a"
    assert percent(0.01) == f"1{SPACE}%"
    assert percent(0.001) == f"0.1{SPACE}%"
    assert percent(0.0834) == f"8.3{SPACE}%"
    assert fixed(-0.0001, 2) == "0.00"


def test_one_of_something_is_not_many() -> None:
    assert [counted(value, "site") for value in (0, 1, 2, None)] == [
        "0 sites",
        "1 site",
        "2 sites",
        "n/a sites",
    ]


def test_clean_takes_out_what_no_page_can_hold() -> None:
    dirty = {"a\x00b": ["\ud800", "x\u202ey", b"z".decode(), float("nan")], "c": ("\u2066",)}
    found = clean(dirty)
    assert set(found) == {"a\ufffdb", "c"}
    assert found["a\ufffdb"][:3] == ["\ufffd", "x\ufffdy", "z"]
    assert found["c"] == ["\ufffd"]


def test_short_cuts_at_the_limit() -> None:
    assert short("  a\n b ", 10) == "a b"
    assert short("abcdefgh", 5) == "abcd…"
