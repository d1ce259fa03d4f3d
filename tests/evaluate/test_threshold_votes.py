"""Alarm thresholds by a vote of the sites: exact, and out of a minority's reach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.errors import DataError, PlanError, RoundRefused
from lazaretto.evaluate.metrics import smooth
from lazaretto.evaluate.operating import (
    EDGES,
    EVERYONE,
    edge_counts,
    for_elsewhere,
    operating_from_json,
    operating_to_json,
    score_counts,
    threshold_from_counts,
    threshold_from_edges,
)
from lazaretto.evaluate.scored import Protocol, Scored, SeedScores
from lazaretto.evaluate.threshold_votes import (
    CHOICES,
    choice_of,
    median_threshold,
    own_threshold,
    threshold_ballot,
    threshold_from_ballots,
)
from lazaretto.evaluate.thresholds import (
    ALARM_POINT,
    MAIN_POINT,
    STRICT_POINT,
    operating_points,
    own_thresholds,
    thresholds_of,
)
from lazaretto.keys import generator

edges = st.sampled_from([*EDGES[::97].tolist(), *EDGES[-20:].tolist(), float("inf")])


def on_grid(threshold: float) -> float:
    """The next of every sixteenth edge that is as high; at most 3.3 % away, beyond a millionth from 0."""
    higher = [edge for edge in EDGES[::16].tolist() if edge >= threshold]
    return higher[0] if higher else float("inf")


@settings(max_examples=50, deadline=None)
@given(edges)
def test_votes_are_rounded_up_by_three_in_a_hundred_at_most(threshold: float) -> None:
    found = on_grid(threshold)
    assert median_threshold([threshold]) == found
    assert found >= threshold
    assert np.isinf(found) or found - threshold <= 0.033 * abs(threshold) + 1.1e-6


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), edges), max_size=9))
def test_it_is_the_upper_median_of_who_votes(own: list[float | None]) -> None:
    voted = sorted(one for one in own if one is not None)
    if not voted:
        with pytest.raises(DataError, match="no normal validation step"):
            median_threshold(own)
    else:
        assert median_threshold(own) == on_grid(voted[len(voted) // 2])


@settings(max_examples=50, deadline=None)
@given(st.lists(edges, min_size=1, max_size=8), st.lists(edges, max_size=7))
def test_a_minority_moves_it_no_further_than_honest_sites_differ(
    honest: list[float], hostile: list[float]
) -> None:
    hostile = hostile[: len(honest) - 1]
    assert on_grid(min(honest)) <= median_threshold([*honest, *hostile]) <= on_grid(max(honest))


@settings(max_examples=25, deadline=None)
@given(st.one_of(st.none(), edges))
def test_a_ballot_has_one_mark_and_says_what_was_meant(threshold: float | None) -> None:
    ballot = threshold_ballot(threshold)
    assert ballot.shape == (1, CHOICES)
    assert ballot.sum() == 1
    if threshold is not None:
        assert threshold_from_ballots(ballot) == on_grid(threshold)


def test_a_site_s_own_is_what_counts_alone_would_give() -> None:
    score = generator(3, "own threshold").normal(size=700)
    assert own_threshold(score, 0.01) == threshold_from_counts(score_counts(score), 0.01)
    assert own_threshold(score[:0], 0.01) is None


def scored(sites: int = 9) -> tuple[Scored, np.ndarray]:
    """Normal scores of four units a site, sites a little apart; an attack in every second unit."""
    rng = generator(5, "votes")
    site = np.repeat(np.arange(sites), 4)
    score = rng.normal(size=(len(site), 80)) + 0.1 * site[:, None]
    y = np.zeros(score.shape, np.int64)
    y[::2, 40:60] = 1
    score += 4.0 * (y > 0)
    return Scored(score=score.astype(np.float32), y=y, valid=np.ones(y.shape, bool), site=site), site


VOTED = Protocol(classes=("normal", "flood"), step_seconds=60.0, thresholds="median", calibration="none")


def test_all_three_points_are_medians_of_the_sites_own() -> None:
    found, site = scored()
    operating = operating_points(found, VOTED)
    smoothed = smooth(found.score, found.valid, VOTED.alarm_k, VOTED.alarm_m)
    own: dict[str, list[float]] = {MAIN_POINT: [], STRICT_POINT: [], ALARM_POINT: []}
    for one in range(9):
        at, normal = site == one, found.y[site == one] == 0
        counts = score_counts(found.score[at][normal])
        own[MAIN_POINT].append(threshold_from_counts(counts, 0.01))
        own[STRICT_POINT].append(threshold_from_counts(counts, 0.001))
        alarms = edge_counts(smoothed[at], normal)
        own[ALARM_POINT].append(threshold_from_edges(alarms, 60.0 * normal.sum()))
    for point, each in own.items():
        assert operating.thresholds[point][EVERYONE] == on_grid(sorted(each)[4])


@pytest.mark.parametrize("liars", [1, 2, 4])
def test_sites_that_say_all_is_normal_silence_a_sum_and_not_a_median(liars: int) -> None:
    found, site = scored()
    lying = (site < liars)[:, None] & (found.y == 0)
    told = replace(found, score=np.where(lying, np.float32(1e9), found.score))
    attacked = found.score[found.y > 0]

    def recall(protocol: Protocol) -> float:
        return float((attacked > operating_points(told, protocol).thresholds[MAIN_POINT][EVERYONE]).mean())

    assert recall(replace(VOTED, thresholds="sum")) == 0.0
    calm = [found.score[site == s][found.y[site == s] == 0] for s in range(liars, 9)]
    highest = on_grid(max(threshold_from_counts(score_counts(one), 0.01) for one in calm))
    assert recall(VOTED) >= float((attacked > highest).mean()) > 0.5


def test_a_site_without_normal_steps_has_no_vote() -> None:
    found, site = scored(3)
    y = np.where((site == 2)[:, None], 1, found.y)
    some = replace(found, y=y)
    kept = operating_points(some, VOTED).thresholds
    two = [own_threshold(found.score[site == s][y[site == s] == 0], 0.01) for s in (0, 1)]
    assert kept[MAIN_POINT][EVERYONE] == on_grid(max(t for t in two if t is not None))
    with pytest.raises(DataError, match="no normal validation step"):
        operating_points(replace(found, y=np.ones_like(y)), VOTED)


OWN = replace(VOTED, thresholds="own")


def test_who_goes_by_its_own_is_counted_at_each_point_and_seed() -> None:
    """By hand: 280 and more normal steps a site, of which 1 in 20 may pass, but not 1 in 1,000."""
    found, site = scored()
    some = replace(found, y=np.where((site == 8)[:, None], 1, found.y))  # that one has no normal step
    asked = replace(OWN, false_positive_rate=0.05, step_seconds=3600.0)
    seeds = [
        SeedScores(test=one, validation=None, operating=operating_points(one, asked)) for one in (found, some)
    ]
    assert own_thresholds(seeds, asked, "ours") == {
        MAIN_POINT: [9, 8],
        STRICT_POINT: [0, 0],
        ALARM_POINT: [9, 8],
    }
    voted = [replace(seeds[0], operating=operating_points(found, VOTED))]
    assert own_thresholds(voted, VOTED, "ours") == {}


@pytest.mark.parametrize("liars", [0, 2, 9])
def test_each_site_goes_by_its_own_and_nobody_s_lie_reaches_it(liars: int) -> None:
    """Whatever is said in the vote, even by all."""
    found, site = scored()
    some = replace(found, y=np.where((site == 8)[:, None], 1, found.y))  # that one has no normal step

    def said(part: Scored) -> np.ndarray:
        return np.where((part.site < liars)[:, None] & (part.y == 0), np.float32(1e9), part.score)

    asked = replace(OWN, false_positive_rate=0.05, step_seconds=3600.0)
    operating = operating_points(some, asked, said)
    voted = operating_points(some, replace(asked, thresholds="median"), said)
    smoothed = smooth(found.score, found.valid, OWN.alarm_k, OWN.alarm_m)
    for point, rate in ((MAIN_POINT, 0.05), (STRICT_POINT, 0.001), (ALARM_POINT, None)):
        each = thresholds_of(some, operating, point)
        for one in range(8):
            at, normal = site == one, found.y[site == one] == 0
            if point == STRICT_POINT:  # 280 and more steps, of which none may pass
                own = voted.thresholds[point][EVERYONE]
            elif rate is None:
                own = threshold_from_edges(
                    edge_counts(smoothed[at], normal), asked.step_seconds * normal.sum()
                )
            else:
                own = threshold_from_counts(score_counts(found.score[at][normal]), rate)
            assert set(each[at]) == {own}
        assert set(each[site == 8]) == {voted.thresholds[point][EVERYONE]}
    assert operating.platt == voted.platt, "one model, one calibration"


def test_own_thresholds_are_kept_and_stay_at_their_sites() -> None:
    found, site = scored()
    operating = operating_points(found, OWN)
    again = operating_from_json(operating_to_json(operating))
    assert again == operating
    away = for_elsewhere(operating)
    assert set(thresholds_of(found, away)) == {
        operating_points(found, VOTED).thresholds[MAIN_POINT][EVERYONE]
    }
    moved = replace(found, site=site + 100)  # nobody who was there
    np.testing.assert_array_equal(thresholds_of(moved, operating), thresholds_of(found, away))
    for by_site in (None, 1, "true"):
        with pytest.raises(DataError, match="cannot be read"):
            operating_from_json({**operating_to_json(operating), "by_site": by_site})


@pytest.mark.parametrize("how", ["sum", "median", "own"])
def test_where_each_site_has_a_model_it_votes_with_nobody(how) -> None:
    """On the grid of scores, as an own threshold beside one model is; that of ballots would put it up."""
    found, site = scored()
    apart = operating_points(replace(found, threshold_group=site), replace(OWN, thresholds=how))
    beside = operating_points(found, OWN)
    for one in range(9):
        for point in (MAIN_POINT, ALARM_POINT):
            same = apart.thresholds[point][one] == beside.thresholds[point].get(one)
            assert same == (point == MAIN_POINT), "a site of this table has less than a day"


@pytest.mark.parametrize(("steps", "own"), [(0, False), (1, False), (99, False), (100, True)])
def test_too_few_normal_steps_for_one_to_pass_go_by_the_vote(steps: int, own: bool) -> None:
    found, site = scored()
    y = found.y.copy()
    place = np.argwhere((site == 8)[:, None] & (y == 0))[steps:]
    y[place[:, 0], place[:, 1]] = 1
    some = replace(found, y=y)
    operating, voted = (operating_points(some, one).thresholds for one in (OWN, VOTED))
    assert (8 in operating[MAIN_POINT]) == own
    assert set(operating[STRICT_POINT]) == set(operating[ALARM_POINT]) == {EVERYONE}
    assert operating[MAIN_POINT][EVERYONE] == voted[MAIN_POINT][EVERYONE]
    day = replace(OWN, step_seconds=86_400.0 / 280)  # of 320 steps 280 and more are normal
    assert set(operating_points(some, day).thresholds[ALARM_POINT]) == {EVERYONE, *range(8)}


def test_a_word_that_is_no_way_to_agree_is_refused() -> None:
    with pytest.raises(PlanError, match="thresholds"):
        replace(VOTED, thresholds="medain")


@pytest.mark.parametrize(
    "value",
    [
        np.array([-1]),
        np.array([CHOICES]),
        np.array([2**32 - 1], np.uint32),
        np.array([3.0]),
        np.array([np.nan]),
        np.array([[1]]),
        np.array([1, 2]),
        np.array([], np.uint32),
        np.array(1),
        np.array(["7"]),
    ],
)
def test_a_message_that_names_no_place_is_no_vote(value: np.ndarray) -> None:
    assert choice_of(value) is None


def test_a_message_that_names_a_place_is_one() -> None:
    assert choice_of(np.array([CHOICES - 1], np.uint32)) == CHOICES - 1


def test_too_few_voters_are_not_shown() -> None:
    total = sum((threshold_ballot(one) for one in (1.0, None, None, 2.0)), np.zeros((1, CHOICES), np.int64))
    assert threshold_from_ballots(total) == on_grid(2.0)
    with pytest.raises(RoundRefused, match="too few sites"):
        threshold_from_ballots(total, 3)
    with pytest.raises(DataError, match="is a number"):
        threshold_ballot(float("nan"))
