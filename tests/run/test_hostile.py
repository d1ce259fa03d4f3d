"""Hostile sites of a simulation: who, and what arrives instead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto import catalog
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.data.scaling import TOTAL
from lazaretto.data.streams import Streams
from lazaretto.errors import InputError, PlanError
from lazaretto.evaluate.operating import BIN_RATIO, EVERYONE
from lazaretto.evaluate.scored import Protocol, Scored
from lazaretto.evaluate.threshold_votes import median_threshold, own_threshold
from lazaretto.evaluate.thresholds import operating_points
from lazaretto.keys import generator
from lazaretto.plan import Plan
from lazaretto.run.hostile import (
    craft_updates,
    draw_hostile,
    false_scores,
    hostile_sites,
    poison_counts,
    poison_site,
    said_scores,
)
from lazaretto.types import TEST, TRAIN, VALIDATION

NOW = AttackContext(round_number=2, rounds=3)


@pytest.mark.parametrize(
    ("share", "sites", "count"),
    [(0.0, 5, 0), (0.3, 20, 6), (0.29, 100, 29), (0.3, 9, 2), (0.01, 20, 1), (0.49, 100, 49), (0.4, 3, 1)],
)
def test_how_many_are_hostile(share: float, sites: int, count: int) -> None:
    drawn = draw_hostile(share, sites, 7)
    assert len(drawn) == count
    assert (np.diff(drawn) > 0).all()
    assert set(drawn.tolist()) <= set(range(sites))
    np.testing.assert_array_equal(draw_hostile(share, sites, 7), drawn)


def test_another_seed_draws_others_and_everyone_can_be_drawn() -> None:
    seen = [tuple(draw_hostile(0.3, 10, seed).tolist()) for seed in range(60)]
    assert len(set(seen)) > 20
    assert {site for drawn in seen for site in drawn} == set(range(10))


@pytest.mark.parametrize(("share", "sites"), [(0.1, 1), (0.1, 2), (0.49, 2)])
def test_honest_sites_are_the_majority(share: float, sites: int) -> None:
    with pytest.raises(PlanError, match=r"attack\.share(.|\n)*1 hostile of(.|\n)*more sites"):
        draw_hostile(share, sites, 0)


def test_a_plan_says_who_is_hostile_and_from_when() -> None:
    names = [f"hospital {k}" for k in range(10)]
    plan = Plan.model_validate({"attack": {"name": "foe", "share": 0.35, "first_round": 3}})
    hostile = hostile_sites(plan, names, 4)
    np.testing.assert_array_equal(np.flatnonzero(hostile), draw_hostile(0.35, 10, 4))
    assert hostile.shape == (10,)
    assert hostile.sum() == 3
    assert hostile_sites(Plan(), names, 4).tolist() == [False] * 10


def updates(n: int = 9, d: int = 4) -> np.ndarray:
    return (0.5 + generator(1, "updates").standard_normal((n, d))).astype(np.float32)


@pytest.mark.parametrize("name", catalog.names("attacks"))
def test_honest_rows_arrive_to_the_bit_wherever_the_hostile_ones_stand(name: str) -> None:
    attack: Attack = catalog.build("attacks", name)
    context = NOW._replace(judge=lambda rows: rows.mean(axis=0), previous=np.ones(4))
    rows = updates()
    held = rows.copy()
    for hostile in (np.arange(9) < 3, np.arange(9) >= 6, np.arange(9) % 3 == 1, np.zeros(9, bool)):
        arrive = craft_updates(attack, rows, hostile, context, generator(2))
        np.testing.assert_array_equal(rows, held)
        assert arrive is not rows
        assert arrive.dtype == np.float32
        np.testing.assert_array_equal(arrive[~hostile], rows[~hostile])
        assert np.isfinite(arrive).all()
        if attack.craft is None or not hostile.any():
            np.testing.assert_array_equal(arrive, rows)
        else:
            assert not np.array_equal(arrive[hostile], rows[hostile])
            sent = attack.craft(rows[~hostile], rows[hostile], context, generator(2))
            np.testing.assert_allclose(arrive[hostile], sent, rtol=1e-5)


def test_everyone_may_be_hostile() -> None:
    flip = catalog.build("attacks", "sign_flip")
    rows = updates()
    np.testing.assert_array_equal(craft_updates(flip, rows, np.ones(9, bool), NOW, generator(0)), -rows)


def test_the_judge_sees_the_rows_in_the_order_of_the_sites() -> None:
    """A rule that weighs sites by their place: what the attack is told is what the coordinator will make."""
    weights = np.arange(1.0, 10.0)
    weights /= weights.sum()
    told: list[np.ndarray] = []

    def craft(honest, own, context, rng):
        told.append(context.judge(np.concatenate([honest, -own])))
        return -own

    attack = Attack(name="asks", kind="updates", knows="rule", craft=craft)
    hostile = np.isin(np.arange(9), [0, 4, 5])
    arrive = craft_updates(
        attack, updates(), hostile, NOW._replace(judge=lambda r: weights @ r), generator(0)
    )
    np.testing.assert_allclose(told[0], weights @ arrive.astype(np.float64), rtol=1e-6)


@pytest.mark.parametrize(
    "craft",
    [
        lambda honest, own, context, rng: own[:1],
        lambda honest, own, context, rng: np.full_like(own, np.nan),
        lambda honest, own, context, rng: np.full_like(own, np.inf),
    ],
)
def test_what_is_no_update_is_refused_by_name(craft) -> None:
    attack = Attack(name="broken", kind="updates", knows="own", craft=craft)
    with pytest.raises(InputError, match=r"'broken'(.|\n)*\(3, 4\)"):
        craft_updates(attack, updates(), np.arange(9) < 3, NOW, generator(0))


def data() -> Streams:
    rng = generator(3, "data")
    valid = np.arange(16) < rng.integers(9, 17, 12)[:, None]
    site, split = np.repeat([0, 1], 6), np.tile([TRAIN, TRAIN, TRAIN, TRAIN, VALIDATION, TEST], 2)
    return Streams(
        x=np.where(valid[..., None], rng.standard_normal((12, 16, 3)), 0).astype(np.float32),
        y=np.where(valid, rng.integers(0, 3, (12, 16)), 0),
        valid=valid,
        judged=valid,
        unit=np.arange(12),
        site=site,
        split=split,
        start_time=np.zeros(12),
        features=("a", "b", "c"),
        window=8,
    )


@pytest.mark.parametrize("name", catalog.names("attacks"))
def test_only_training_streams_of_that_site_are_poisoned(name: str) -> None:
    attack: Attack = catalog.build("attacks", name)
    before, after = data(), poison_site(attack, given := data(), 1, 2, generator(4))
    np.testing.assert_array_equal(given.x, before.x)
    np.testing.assert_array_equal(given.y, before.y)
    hit = (before.site == 1) & (before.split == TRAIN)
    np.testing.assert_array_equal(after.x[~hit], before.x[~hit])
    np.testing.assert_array_equal(after.y[~hit], before.y[~hit])
    assert (attack.poison is not None) == (not np.array_equal(after.y[hit], before.y[hit]))
    assert not after.x[~after.valid].any(), "padding stays empty"
    assert not after.y[~after.valid].any()
    assert poison_site(attack, before, 5, 2, generator(4)) is before, "a site without training streams"


@pytest.mark.parametrize(
    "poison",
    [
        lambda x, y, kinds, rng: (x[:1], y),
        lambda x, y, kinds, rng: (x, y - 1),
        lambda x, y, kinds, rng: (x, y + kinds),
    ],
)
def test_poison_of_another_shape_or_class_is_refused_by_name(poison) -> None:
    attack = Attack(name="broken", kind="data", knows="own", poison=poison)
    with pytest.raises(InputError, match=r"'broken'(.|\n)*labels from 0 to 2"):
        poison_site(attack, replace(data()), 0, 2, generator(0))


@pytest.mark.parametrize("name", catalog.names("attacks"))
def test_poisoned_counts_keep_to_the_cap(name: str) -> None:
    attack: Attack = catalog.build("attacks", name)
    own = np.full((2, 16), TOTAL // 16, np.int64)
    said = poison_counts(attack, own, generator(5))
    assert said is not own
    assert (attack.counts is not None) == (not np.array_equal(said, own))
    assert (said.sum(axis=1) <= TOTAL).all()


LIARS = [name for name in catalog.names("attacks") if catalog.build("attacks", name).scores is not None]
ASKED = Protocol(classes=("normal", "flood", "scan"), step_seconds=60.0, false_positive_rate=0.05)


def scored(seed: int, sites: int = 9) -> Scored:
    """Three units a site, of which one is attacked; site 0 has no normal step."""
    rng = generator(seed, "scored")
    site = np.repeat(np.arange(sites), 3)
    y = np.where((np.arange(len(site)) % 3 == 0)[:, None], rng.integers(0, 3, (len(site), 40)), 0)
    y[site == 0] = 1
    score = (rng.standard_normal(y.shape) + 3.0 * (y > 0) + 0.3 * site[:, None]).astype(np.float32)
    return Scored(score=score, y=y, valid=rng.random(y.shape) < 0.9, site=site)


@pytest.mark.parametrize("name", catalog.names("attacks"))
def test_only_normal_steps_of_hostile_sites_are_lied_about(name: str) -> None:
    attack: Attack = catalog.build("attacks", name)
    found = scored(6)
    held, hostile = found.score.copy(), np.isin(np.arange(9), [0, 2, 7])
    told = false_scores(attack, found, hostile, 4)
    np.testing.assert_array_equal(found.score, held)
    assert told is not found.score
    assert told.dtype == np.float32
    lying = np.isin(found.site, [2, 7])[:, None] & (found.y == 0) & found.valid
    np.testing.assert_array_equal(told[~lying], held[~lying])
    assert (attack.scores is not None) == (not np.array_equal(told, held))
    np.testing.assert_array_equal(false_scores(attack, found, hostile, 4), told)
    np.testing.assert_array_equal(false_scores(attack, found, np.zeros(9, bool), 4), held)


@pytest.mark.parametrize("name", LIARS)
def test_a_site_lies_the_same_whoever_else_is_asked(name: str) -> None:
    attack, found = catalog.build("attacks", name), scored(7)
    told = false_scores(attack, found, np.arange(9) >= 5, 4)
    rows = found.site >= 4
    some = Scored(score=found.score[rows], y=found.y[rows], valid=found.valid[rows], site=found.site[rows])
    np.testing.assert_array_equal(false_scores(attack, some, np.arange(9) >= 5, 4), told[rows])


@pytest.mark.parametrize(
    "scores",
    [
        lambda own, rng: own[:-1],
        lambda own, rng: np.full_like(own, np.nan),
        lambda own, rng: np.full_like(own, np.inf),
        lambda own, rng: np.full(len(own), 1e300),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_scores_that_are_none_are_refused_by_name(scores) -> None:
    attack = Attack(name="broken", kind="scores", knows="own", scores=scores)
    with pytest.raises(InputError, match=r"'broken'(.|\n)*finite score for each normal step"):
        false_scores(attack, scored(8), np.arange(9) == 3, 0)


def test_a_plan_says_who_lies_and_nobody_does_elsewhere() -> None:
    names, found = [f"hospital {k}" for k in range(9)], scored(9)
    plan = Plan.model_validate({"attack": {"name": LIARS[0], "share": 0.35}})
    said = said_scores(plan, names, 4)
    assert said is not None
    hostile = hostile_sites(plan, names, 4)
    expected = false_scores(catalog.build("attacks", LIARS[0]), found, hostile, 4)
    np.testing.assert_array_equal(said(found), expected)
    assert said_scores(Plan(), names, 4) is None
    for name in set(catalog.names("attacks")) - set(LIARS):
        other = Plan.model_validate({"attack": {"name": name, "share": 0.35}})
        assert said_scores(other, names, 4) is None


@settings(max_examples=40)
@given(
    st.sampled_from(LIARS),
    st.integers(0, 1000),
    st.sets(st.integers(1, 8), max_size=3),
    st.sampled_from(["highest", "lowest"]),
)
def test_a_minority_of_liars_leaves_a_vote_among_the_honest_and_calibration_alone(
    name: str, seed: int, liars: set[int], end: str
) -> None:
    options = {"end": end} if "end" in catalog.options("attacks", name) else None
    attack, found = catalog.build("attacks", name, options), scored(seed)
    hostile = np.isin(np.arange(9), sorted(liars))
    voted = replace(ASKED, thresholds="median")
    honest = operating_points(found, voted)
    told = operating_points(found, voted, lambda part: false_scores(attack, part, hostile, 1))
    assert told.platt == honest.platt
    own = [
        own_threshold(found.score[at][(found.y[at] == 0) & found.valid[at]], 0.05)
        for at in (found.site == site for site in np.flatnonzero(~hostile))
    ]
    each = [median_threshold([one]) for one in own if one is not None]
    assert min(each) <= told.thresholds["main"][EVERYONE] <= max(each)


@pytest.mark.parametrize("liars", [1, 2, 4])
def test_lies_that_silence_a_sum(liars: int) -> None:
    """One of nine sites is more than a twentieth of what is counted."""
    attack, found = catalog.build("attacks", "threshold_poisoning"), scored(10)
    hostile = np.arange(9) > 8 - liars
    for point, threshold in operating_points(
        found, ASKED, lambda part: false_scores(attack, part, hostile, 1)
    ).thresholds.items():
        assert np.isfinite(threshold[EVERYONE]), "so that it can be sent, and kept"
        assert threshold[EVERYONE] * BIN_RATIO > 1e9 > 1e6 * found.score.max(), point
