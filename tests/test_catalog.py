"""Options are held against a factory's signature, without refusing what a plan can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge

from lazaretto import catalog
from lazaretto.errors import PlanError


class Own:
    """A type that pydantic does not know."""


def part(
    size: Annotated[int, Ge(1)] = 1,
    share: float = 0.5,
    place: Path = Path(),
    widths: tuple[int, ...] | None = None,
    own: Own | None = None,
    free: Any = None,
) -> None:
    """A factory as somebody may write it."""


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"size": 3, "share": 1}, {"size": 3, "share": 1.0}),
        ({"place": "flows"}, {"place": Path("flows")}),
        ({"widths": [3, 5]}, {"widths": (3, 5)}),
        ({"own": {"a": 1}, "free": [1, "x"]}, {"own": {"a": 1}, "free": [1, "x"]}),
    ],
)
def test_what_fits_is_taken(given: dict[str, Any], taken: dict[str, Any]) -> None:
    assert catalog._checked(part, "model", "part", given) == taken


@pytest.mark.parametrize(
    "given", [{"size": "3"}, {"size": True}, {"size": 0}, {"size": 2.5}, {"share": "much"}, {"widths": ["a"]}]
)
def test_what_does_not_fit_is_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=f"model 'part', option '{next(iter(given))}'"):
        catalog._checked(part, "model", "part", given)
