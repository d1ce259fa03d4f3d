"""Rules against values that ByzFL 0.0.11 gave, on NumPy arrays, by `benchmarks/byzfl_oracle.py --golden`.

They do not come from our code. The command compares more, in ByzFL's own environment; docs/rules.md ("Against
ByzFL") says where it counts or ends otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lazaretto.aggregate._coordinates import nearest_to_median
from lazaretto.chain import rule_of
from lazaretto.gram import inner_products
from lazaretto.keys import generator
from lazaretto.round import aggregate_once
from lazaretto.types import Gram

X = np.array([[4, -1], [0.5, 2], [1, 1.5], [0, 2.5], [-6, 3], [1.5, 0.25], [0.75, 1]], np.float32)
F = 2
SHARE = 0.3  # ⌊0.3 · 7⌋ = 2
RADIUS = 2.0615527629852295  # the median length, in float32


def near(found: Any, theirs: Any) -> None:
    np.testing.assert_allclose(found, theirs, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("mean", {}, [0.25, 1.321429]),
        ("coordinate_median", {}, [0.75, 1.5]),
        ("trimmed_mean", {"hostile": SHARE}, [0.75, 1.5]),
        ("krum", {"hostile": SHARE}, [0.5, 2.0]),  # Krum(f=3): its f counts the row itself
        ("multi_krum", {"hostile": SHARE, "keep": 4}, [0.5625, 1.75]),  # MultiKrum(f=3)
        ("geometric_median", {}, [0.812266, 1.387577]),  # GeometricMedian(nu=1e-6, T=3000)
    ],
)
def test_rules(name: str, options: dict[str, Any], theirs: list[float]) -> None:
    near(aggregate_once(rule_of(name, options), X), theirs)


def test_centred_clipping() -> None:
    rule = rule_of("centered_clip", {"radius": RADIUS, "iterations": 3})
    near(aggregate_once(rule, X, previous=[2.0, -0.5]), [0.752244, 1.268042])


def test_nearest_to_the_median() -> None:
    near(nearest_to_median(X, len(X) - F), [0.75, 1.45])  # Meamed(f=2)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("nnm", {"hostile": SHARE}, [[1.55, 0.75], *[[0.75, 1.45]] * 3, [-0.75, 2.0], *[[0.75, 1.45]] * 2]),
        (
            "clip",
            {"bound": RADIUS},
            [[2, -0.5], [0.5, 2], [1, 1.5], [0, 2.061553], [-1.843909, 0.921954], [1.5, 0.25], [0.75, 1]],
        ),
    ],
)
def test_pre_aggregators(name: str, options: dict[str, Any], theirs: list[list[float]]) -> None:
    rule, n = rule_of(name, options), len(X)
    assert rule.gram is not None
    seen = Gram(inner_products(X), np.ones(n), np.arange(n))
    near(rule.gram(seen, {}, generator(0, "mixed")).weights @ X, theirs)
