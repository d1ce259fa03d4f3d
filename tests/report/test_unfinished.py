"""What the page of a run says that was stopped, or is still at work: only what is so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lazaretto.report.page import render
from lazaretto.report.reading import read_log
from lazaretto.report.sections_left_out import by_intensity
from lazaretto.report.wording import verdict
from lazaretto.types import Record

Entries = list[tuple[str, dict[str, Any]]]
Chain = Callable[[Entries], list[Record]]


def until(entries: Entries, kind: str, place: int) -> Entries:
    """The entries up to the one of that kind at `place`, with it."""
    found = [number for number, (name, _) in enumerate(entries) if name == kind]
    return entries[: found[place] + 1]


@pytest.mark.parametrize(
    ("kind", "place", "said"),
    [
        ("data", 0, "are to train one detector"),
        ("round", 3, "began to train one detector"),
        ("round", 39, "began to train one detector"),  # the first of two seeds
        ("round", 79, "trained one detector"),
        ("metrics", 0, "trained one detector"),
        ("finished", 0, "trained one detector"),
    ],
)
def test_a_detector_is_trained_when_its_last_round_is(
    entries: Entries, chain: Chain, kind: str, place: int, said: str
) -> None:
    first = verdict(read_log(chain(until(entries, kind, place))))[0]
    assert f" {said} on consortium" in first
    late = "had ended when this page was written" in first or "had not ended when" in first
    assert late == (said != "trained one detector")


@pytest.mark.parametrize("place", [0, 5])
def test_what_was_not_judged_yet_is_not_said_of_the_source(
    entries: Entries, chain: Chain, place: int
) -> None:
    page = render(chain(until(entries, "round", place)))
    assert page.count("Nothing has been judged yet. The run had not finished") == 9
    for wrong in ("does not say how strong", "lazaretto run --full", "with one class in test", "No baseline"):
        assert wrong not in page
    assert "Nothing has been judged yet" not in render(chain(entries))


def test_a_source_that_tells_strengths_is_not_said_to_be_silent(entries: Entries, chain: Chain) -> None:
    ours = next(body for kind, body in entries if kind == "metrics")["test"]["traffic"]
    ours.pop("recall_by_intensity")
    (text,) = by_intensity(read_log(chain(entries))).blocks  # type: ignore[union-attr]
    assert text.text == "No attack whose strength is known was judged."  # type: ignore[union-attr]
