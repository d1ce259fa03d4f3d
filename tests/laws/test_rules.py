"""The exam of every rule, found through the catalog: nothing here names one."""

from __future__ import annotations

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.keys import generator
from lazaretto.types import Rule


@pytest.fixture(params=catalog.names("rules"), scope="module")
def rule(request: pytest.FixtureRequest) -> Rule:
    made: Rule = catalog.build("rules", request.param)
    return made


def sizes(count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return generator(0, "sizes", count).integers(1, 500, count).astype(np.float64)


def test_its_claims(rule: Rule) -> None:
    assert rule.name in catalog.names("rules")
    assert rule.sees in ("sum", "gram", "rows")
    assert all(0 <= rule.tolerates(n) < max(n, 1) for n in range(1, 40))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_weights_of_a_sum_add_up_and_follow_the_sites(rule: Rule, count: int) -> None:
    if rule.sees != "sum":  # this law is of sums alone; the exam meets every rule that the catalog finds
        pytest.skip(f"'{rule.name}' weighs by more than sizes")
    given = sizes(count)
    before = given.copy()
    weights = np.asarray(rule.weigh(given))
    np.testing.assert_array_equal(given, before)
    assert weights.shape == (count,)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(np.asarray(rule.weigh(given[::-1])), weights[::-1], rtol=1e-6)
