"""The exam of every selection, found through the catalog: nothing but the last test names one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lazaretto import catalog
from lazaretto.keys import generator
from lazaretto.select.by_loss import by_loss
from lazaretto.select.by_size import by_size
from lazaretto.types import Selection

UNKNOWN = np.full(9, np.nan, np.float32)
SIZES = np.array(
    [5, 40, 40, 100, 7, 0, 260, 33, 15], np.int64
)  # 260 of 500: more than a third, and an empty one


@pytest.fixture(params=catalog.names("selections"), scope="module")
def selection(request: pytest.FixtureRequest) -> Selection:
    made: Selection = catalog.build("selections", request.param)
    return made


def counts(selection: Selection, sites: int) -> list[int]:
    return [1, 3, sites - 1, sites] if selection.partial else [sites]


def test_the_right_number_nobody_twice_inputs_untouched(selection: Selection) -> None:
    assert selection.name in catalog.names("selections")
    losses = np.array([np.nan, 0.3, 0.5, np.nan, 0.1, 0.0, 9.0, 0.3, 0.2], np.float32)
    for sizes in (SIZES, np.ones(9, np.int64), np.arange(9)):
        for count in counts(selection, 9):
            for seed in range(30):
                given = sizes.copy(), losses.copy()
                chosen, weighed = selection.choose(generator(seed), *given, count)
                np.testing.assert_array_equal(given[0], sizes)
                np.testing.assert_array_equal(given[1], losses)
                assert chosen.shape == weighed.shape == (count,)
                assert (np.diff(chosen) > 0).all(), "in order, nobody twice"
                assert chosen[0] >= 0
                assert chosen[-1] < 9
                assert np.isfinite(weighed).all()
                assert (weighed >= 0).all()


def test_the_same_from_the_same_seed_alone(selection: Selection) -> None:
    def draws(seed: int) -> list[int]:
        rng, count = generator(seed), counts(selection, 9)[0]
        return [int(k) for _ in range(40) for k in selection.choose(rng, SIZES, UNKNOWN, count)[0]]

    assert draws(1) == draws(1)
    assert not selection.partial or draws(1) != draws(2)


def test_it_claims_to_be_partial_where_it_chooses(selection: Selection) -> None:
    if selection.partial:
        seen = {int(k) for s in range(200) for k in selection.choose(generator(s), SIZES, UNKNOWN, 3)[0]}
        assert seen >= {k for k in range(9) if SIZES[k]}, "everyone who has data has a chance"
    else:
        np.testing.assert_array_equal(selection.choose(generator(0), SIZES, UNKNOWN, 9)[0], np.arange(9))


@pytest.mark.parametrize("count", [1, 3, 6])
def test_by_size_is_unbiased(count: int) -> None:
    """The weighted sum of anything has the mean by size as its expectation.

    Error rate: each of the 27 z-scores exceeds 4.8 with probability 1.6e-6 if the law holds, so a sound
    implementation fails with probability 4e-5 at most (and, the seeds being fixed, always or never).
    """
    rng, draws = generator(5, "by_size", count), 6000
    chosen_often, total = np.zeros(9), np.zeros((draws, 9))
    for draw in range(draws):
        chosen, weighed = by_size().choose(rng, SIZES, UNKNOWN, count)
        assert weighed.sum() == pytest.approx(1.0), "so a rule that normalises by size changes nothing"
        total[draw, chosen] = weighed
        chosen_often[chosen] += 1
    share = SIZES / SIZES.sum()
    for site in np.flatnonzero(share):
        spread = max(total[:, site].std() / np.sqrt(draws), 1e-9)
        assert abs(total[:, site].mean() - share[site]) < 4.8 * spread, site
    if count == 1:
        expected = share * draws
        assert stats.chisquare(chosen_often[SIZES > 0], expected[SIZES > 0]).pvalue > 1e-5
    large = [site for site in range(9) if count * share[site] >= 1]
    assert (chosen_often[large] == draws).all(), "a site too large for its chance is always there"


def test_by_loss_takes_the_worst_candidates_and_first_those_who_never_reported() -> None:
    losses = np.linspace(0.9, 0.1, 9).astype(np.float32)
    every = by_loss(candidates=9.0)
    np.testing.assert_array_equal(every.choose(generator(0), np.ones(9), losses, 3)[0], [0, 1, 2])
    losses[7] = np.nan
    np.testing.assert_array_equal(every.choose(generator(0), np.ones(9), losses, 3)[0], [0, 1, 7])
    # candidates = 1 leaves no choice: the losses have no say
    one = by_loss(candidates=1.0)
    for seed in range(20):
        found = [one.choose(generator(seed), SIZES, given, 3)[0] for given in (losses, losses[::-1])]
        np.testing.assert_array_equal(*found)
