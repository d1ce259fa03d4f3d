"""How figures are set: intervals in one form, digits that agree, names that lie over no line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.figure import Figure

from lazaretto.report.blocks import Grid
from lazaretto.report.drawing import Line, looks, text_width
from lazaretto.report.figures import Curve, Steps, characteristic, latency
from lazaretto.report.figures_protocol import benefit, diagonal
from lazaretto.report.figures_sweep import GridLine, SystemDraws, draw_dots, grid_lines
from lazaretto.report.formats import Triple, seeds_text
from lazaretto.report.parts import cell
from lazaretto.report.reading import read_log
from lazaretto.report.sections_privacy import privacy
from lazaretto.types import Record

Entries = list[tuple[str, dict[str, Any]]]
Chain = Callable[[Entries], list[Record]]
NAMES = ("federated split 0.957", "pooled 0.960", "gradient boosting 0.938", "local only 0.894")


def test_one_seed_is_one() -> None:
    assert seeds_text([0]) == "seed 0"
    assert seeds_text([0, 2]) == "seeds 0, 2"


def test_intervals_have_one_form(whole: str) -> None:
    assert cell(Triple(0.95, 0.9, 0.97), 2).under == "[0.90, 0.97]"
    assert cell(Triple(0.05, -0.1, 0.07), 2).under == "[\u22120.10, 0.07]"
    assert not re.search("\\d\u2013\\d", whole)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": 0.98, "low": 0.94, "high": 1.02, "floor": 1.0}, ("0.980", "1.000")),
        ({"value": 0.012, "low": None, "high": None, "floor": 0.01}, ("0.012", "0.010")),
        ({"value": 0.5, "low": None, "high": None, "floor": 0}, ("0.500", "0.000")),
        ({"value": 0.012, "low": None, "high": None, "floor": 0.0004}, ("0.0120", "0.0004")),
        ({"value": 31.25, "low": None, "high": None, "floor": 12}, ("31.2", "12.0")),
        ({"measured": "rounds until noticed", "value": 3.0, "floor": 20.0}, ("3", "20")),
    ],
)
def test_a_floor_has_the_digits_of_the_value_beside_it(
    entries: Entries, chain: Chain, change: dict[str, Any], said: tuple[str, str]
) -> None:
    audit = {"name": "membership", "measured": "share named", "floor_words": "guessing", "words": ""}
    section = privacy(read_log(chain([*entries, ("audit", audit | change)])))
    (grid,) = (block for block in section.blocks if isinstance(block, Grid))
    assert tuple(one.text for one in grid.rows[0].cells[:2]) == said


def lines() -> list[Line]:
    """Curves that leave no corner free."""
    whole = [place / 20 for place in range(21)]
    return [(whole, whole), (whole, whole[::-1]), (whole, [0.1] * 21), (whole, [0.9] * 21)]


def curves() -> list[Curve]:
    look = looks(NAMES, NAMES[0])
    return [
        Curve(name=name, look=look[name], x=tuple(x), y=tuple(y))
        for name, (x, y) in zip(NAMES, lines(), strict=True)
    ]


def drawings() -> dict[str, Callable[[bool], Figure]]:
    look = looks(NAMES, NAMES[0])
    steps = [Steps(name=name, look=look[name], steps=(1.0, 4.0, 9.0), campaigns=4) for name in NAMES]
    grid = [GridLine(name=name, values=(Triple(0.5, 0.4, 0.6), Triple(0.9))) for name in NAMES]
    return {
        "both": lambda wide: characteristic(curves(), curves(), 0.01, wide),
        "recall": lambda wide: characteristic([], curves(), 0.01, wide),
        "latency": lambda wide: latency(steps, 5.0, wide),
        "diagonal": lambda wide: diagonal([("ours", curves()), ("others", curves()[:2])], "p", wide),
        "benefit": lambda wide: benefit(curves(), -0.3, wide),
        "grid": lambda wide: grid_lines(("1", "2"), grid, ("rounds", "AUROC"), wide),
    }


@pytest.mark.parametrize("name", list(drawings()))
def test_on_a_phone_names_stand_above_their_lines(name: str) -> None:
    figure = drawings()[name](False)
    boxes = [plot.get_position() for plot in figure.axes]
    height = figure.get_size_inches()[1] * 96
    named = [text for text in figure.texts if text.get_text() in NAMES]
    assert len(named) >= len(NAMES)
    assert not any(plot.texts for plot in figure.axes), "no name inside of a plot"
    for text in figure.texts:
        y = text.get_position()[1]
        assert all(not box.y0 <= y <= box.y1 for box in boxes), text.get_text()
    places = sorted(round(text.get_position()[1] * height) for text in figure.texts)
    assert all(above - below >= 14 for below, above in itertools.pairwise(places))
    assert all(0 < text.get_position()[1] < 1 for text in figure.texts)


def test_marks_at_the_edge_of_a_plot_are_whole() -> None:
    row = SystemDraws(name="ours", values=(0.9, 1.0), start=1.0, best=1.0, ours=True)
    plot = draw_dots([row], "AUROC", True).axes[0]
    assert plot.get_xlim()[1] == 1.0
    assert not any(line.get_clip_on() for line in plot.get_lines())
    grid = [GridLine(name="ours", values=(Triple(1.0), None))]
    marks = grid_lines(("1", "2"), grid, ("rounds", "AUROC"), True).axes[0].get_lines()
    assert [line.get_clip_on() for line in marks if line.get_marker() not in ("None", None)] == [False]


@pytest.mark.parametrize("name", list(drawings()))
def test_on_a_desktop_they_do_too_and_not_over_each_other(name: str) -> None:
    figure = drawings()[name](True)
    boxes = [plot.get_position() for plot in figure.axes]
    named = [text for text in figure.texts if text.get_text() in NAMES]
    assert len(named) >= len(NAMES)
    assert not any(plot.texts for plot in figure.axes), "no name inside of a plot"
    across, down = figure.get_size_inches() * 96
    at = [(text.get_position(), text_width([text.get_text()])) for text in named]
    places = [(x * across, y * down, wide) for (x, y), wide in at]
    assert all(y > box.y1 * down for box in boxes for _, y, _ in places), "above every plot"
    assert all(x + wide < across for x, _, wide in places)
    for (x, y, wide), (other, high, _) in itertools.combinations(sorted(places), 2):
        assert abs(y - high) >= 14 or x + wide < other
