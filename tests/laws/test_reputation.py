"""Laws of reputation: bounds, order, memory, and how long who is out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto.errors import InputError, PlanError
from lazaretto.keys import generator
from lazaretto.reputation import (
    Reputation,
    ReputationSettings,
    reputation_arrays,
    reputation_from,
    reputation_start,
    reputation_step,
    reward_shares,
    rounds_to_quarantine,
    say,
)

USUAL = ReputationSettings()
NAN = float("nan")


def after(history: Iterable[Any], settings: ReputationSettings = USUAL) -> list[Reputation]:
    """The reputation after each round of [rounds, S]."""
    states: list[Reputation] = []
    for suspicion in history:
        before = states[-1] if states else reputation_start(len(suspicion))
        states.append(reputation_step(before, np.array(suspicion, np.float64), settings))
    return states


def same(a: Reputation, b: Reputation) -> None:
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@st.composite
def histories(draw: st.DrawFn, rounds: int = 30) -> np.ndarray:
    """Suspicion [rounds, S], with sites of every temper and rounds in which some are away."""
    sites = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    temper = rng.choice([0.0, 0.3, 0.7, 1.0], sites)
    found = np.where(rng.random((rounds, sites)) < temper, rng.choice([0.4, 0.5, 1.0], sites), rng.random())
    found[rng.random(found.shape) < draw(st.sampled_from([0.0, 0.3]))] = NAN
    return found


@st.composite
def manners(draw: st.DrawFn) -> ReputationSettings:
    decay = draw(st.floats(0.05, 0.95))
    return ReputationSettings(
        decay=decay,
        suspected_at=draw(st.floats(0.1, 1)),
        quarantine_below=draw(st.floats(0.02, decay)),
        readmit_rounds=draw(st.integers(1, 4)),
        relapse=draw(st.integers(0, 3)),
        weigh=draw(st.booleans()),
    )


def test_by_hand() -> None:
    """λ = 1/2, q = 1/4, fully suspected from 1 on; the second site is there to leave room."""
    settings = ReputationSettings(
        decay=0.5, suspected_at=1.0, quarantine_below=0.25, readmit_rounds=1, relapse=2
    )
    rounds = [1.0, 1.0, 1.0, NAN, 0.5, 1.0, 1.0, 0.75, 0.0, 0.0]
    expected = [  # trust, quarantined, good, seen, quarantines
        (0.5, False, 0, 1, 0),
        (0.25, False, 0, 2, 0),  # at q, not below
        (0.125, True, 0, 3, 1),
        (0.125, True, 0, 3, 1),
        (0.3125, False, 1, 4, 1),  # one good round, and back
        (0.15625, True, 0, 5, 2),
        (0.078125, True, 0, 6, 2),
        (0.1640625, True, 1, 7, 2),  # 1 - 3/4 is not below q: good; but the second time takes three
        (0.58203125, True, 2, 8, 2),
        (0.791015625, False, 3, 9, 2),
    ]
    states = after([[value, 0.0] for value in rounds], settings)
    assert [tuple(column[0] for column in state) for state in states] == expected
    assert [float(say(state, settings)[0]) for state in states[1:3]] == [0.25, 0.0]
    assert all(state.trust[1] == 1 and state.quarantines[1] == 0 for state in states)


@given(histories(), manners())
def test_bounds(history: np.ndarray, settings: ReputationSettings) -> None:
    for state in after(history, settings):
        assert ((state.trust >= 0) & (state.trust <= 1)).all()
        assert state.quarantined.sum() <= (state.seen > 0).sum() // 2
        factor = say(state, settings)
        assert ((factor >= 0) & (factor <= 1)).all()
        np.testing.assert_array_equal(factor == 0, state.quarantined)
        assert (state.quarantines >= state.quarantined).all()
        shares = reward_shares(state, np.ones(len(factor)))
        assert (shares >= 0).all()
        assert not shares[state.quarantined].any()
        assert np.isclose(shares.sum(), 1) or not shares.any()


@given(histories(), manners(), st.integers(0, 2**32 - 1))
def test_more_suspicion_never_means_more_trust(
    history: np.ndarray, settings: ReputationSettings, seed: int
) -> None:
    more = history + (1 - history) * np.random.default_rng(seed).random(history.shape)
    clean = np.zeros_like(history)  # as many again, so that there is room for all
    less_states = after(np.hstack([history, clean]), settings)
    more_states = after(np.hstack([np.minimum(more, 1), clean]), settings)
    for less, greater in zip(less_states, more_states, strict=True):
        assert (greater.trust <= less.trust).all()
        # whoever was ever out is so with more suspicion, too, and no later
        assert ((greater.quarantines > 0) >= (less.quarantines > 0)).all()


@given(histories(), manners())
def test_a_round_without_a_site_leaves_it_as_it_was(
    history: np.ndarray, settings: ReputationSettings
) -> None:
    states = after(history, settings)
    for before, suspicion, now in zip(states, history[1:], states[1:], strict=False):
        away = np.isnan(suspicion)
        for one, other in zip(before, now, strict=True):
            np.testing.assert_array_equal(one[away], other[away])
        np.testing.assert_array_equal(now.seen - before.seen, ~away)


@given(histories(), manners(), st.randoms(use_true_random=False))
def test_the_order_of_sites_means_nothing(
    history: np.ndarray, settings: ReputationSettings, random: Any
) -> None:
    order = list(range(history.shape[1]))
    random.shuffle(order)
    for plain, moved in zip(after(history, settings), after(history[:, order], settings), strict=True):
        same(Reputation(*(column[order] for column in plain)), moved)


@given(histories(), manners(), st.integers(0, 30))
def test_going_on_from_arrays_is_exact(history: np.ndarray, settings: ReputationSettings, stop: int) -> None:
    whole = after(history, settings)
    begun = after(history[:stop], settings)
    state = begun[-1] if begun else reputation_start(history.shape[1])
    state = reputation_from({"other": np.zeros(3), **reputation_arrays(state)})
    for suspicion in history[stop:]:
        state = reputation_step(state, suspicion, settings)
    same(state, whole[-1])


@given(manners(), st.integers(1, 4), st.floats(0, 1))
def test_good_behaviour_brings_back_after_a_known_number_of_rounds(
    settings: ReputationSettings, times: int, share: float
) -> None:
    good = share * 0.999 * settings.suspected_at * (1 - settings.quarantine_below)  # any good round will do
    state = reputation_start(2)
    for earlier in range(times):
        for _ in range(rounds_to_quarantine(settings)):
            state = reputation_step(state, np.array([1.0, 0.0]), settings)
        assert state.quarantined.tolist() == [True, False]
        assert state.quarantines[0] == earlier + 1
        needed = settings.readmit_rounds + settings.relapse * earlier
        for _ in range(needed - 1):
            state = reputation_step(state, np.array([good, 0.0]), settings)
            assert state.quarantined[0]
        state = reputation_step(state, np.array([good, 0.0]), settings)
        assert not state.quarantined[0]


@given(manners(), st.integers(0, 40))
def test_fully_suspected_is_out_in_time_whatever_went_before(
    settings: ReputationSettings, honest: int
) -> None:
    most = rounds_to_quarantine(settings)
    assert most >= 2
    states = after([[0.0, 0.0]] * honest + [[1.0, 0.0]] * most, settings)
    assert states[-1].quarantined.tolist() == [True, False]
    if honest:
        assert not states[-2].quarantined[0], "the number is exact from full trust"


def test_by_default_that_is_ten_rounds() -> None:
    assert rounds_to_quarantine(USUAL) == 10
    states = after([[1.0] * 6 + [0.1] * 14] * 40)
    assert states[9].quarantined.tolist() == [True] * 6 + [False] * 14
    assert all(state.quarantined[:6].all() for state in states[9:]), "and they never come back"


@pytest.mark.parametrize(("suspicion", "out"), [(0.43, False), (0.45, True)])
def test_the_stationary_suspicion_that_leads_to_quarantine(suspicion: float, out: bool) -> None:
    """The docstring's .5 · (1 - .12) = .44."""
    assert any(state.quarantined[0] for state in after([[suspicion, 0.0]] * 500)) == out


def test_moderate_and_ragged_suspicion_leaves_honest_sites_in() -> None:
    """As under label skew: a third of the sites around .25 for ever, any round between 0 and .5."""
    for seed in range(5):
        history = generator(seed, "skew").uniform(0, 0.2, (200, 20))
        history[:, :7] = generator(seed, "skewed").uniform(0, 0.5, (200, 7))
        assert not after(history)[-1].quarantines.any()


def longest_stays(history: np.ndarray) -> np.ndarray:
    """[S] most rounds in a row in quarantine."""
    stays = np.zeros(history.shape[1], np.int64)
    now = stays.copy()
    for state in after(history):
        now = np.where(state.quarantined, now + 1, 0)
        stays = np.maximum(stays, now)
    return stays


def test_suspected_a_third_of_the_time() -> None:
    """Fully in one round of three, for 100 rounds: 2,000 sites of which under 1 % are out longer than two.

    They go in about once in 9,500 rounds, so in 100 rounds 1 % do, 5 of 9 of which for more than two.
    """
    history = (generator(0, "third").random((100, 2000)) < 1 / 3).astype(np.float64)
    assert (longest_stays(history) > 2).mean() < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_a_federation_of_twenty(seed: int) -> None:
    """30 % fully suspected, the others a third of the time: in 60 rounds the ones out for good, no other."""
    history = (generator(seed, "twenty").random((60, 20)) < 1 / 3).astype(np.float64)
    history[:, :6] = 1.0
    states = after(history)
    assert states[9].quarantined[:6].all()
    assert (longest_stays(history)[6:] <= 2).all()


def test_who_stays_in_where_too_many_would_go() -> None:
    """Five sites: two at most. The least trusted go; of those tied for the last place none."""
    half = [[1.0, 1.0, 0.47, 0.49, 0.0]] * 40
    assert after(half)[-1].quarantined.tolist() == [True, True, False, False, False]
    tied = [[1.0, 1.0, 1.0, 0.0, 0.0]] * 40
    assert not after(tied)[-1].quarantined.any()
    assert say(after(tied)[-1]).tolist() == [0.12] * 3 + [1.0] * 2, "they keep the least say"
    one_first = [[1.0, 0.0, 0.0, 0.0, 0.0]] * 12 + [[1.0, 1.0, 0.6, 0.47, 0.0]] * 40
    states = after(one_first)
    assert states[11].quarantined.tolist() == [True, False, False, False, False]
    assert states[-1].quarantined.sum() == 1, "two equally bad ones and room for one"
    strangers = [[1.0, NAN, NAN, NAN, NAN]] * 40
    assert not after(strangers)[-1].quarantined.any(), "who never took part gives no room"


def test_who_comes_back_makes_room_at_once() -> None:
    states = after([[1.0, 1.0, 0.0, 0.0]] * 10 + [[1.0, 0.0, 1.0, 0.0]] * 9)
    assert states[9].quarantined.tolist() == [True, True, False, False]
    assert states[11].quarantined.tolist() == [True, False, False, False]
    both = after([[1.0, 0.0, 1.0, 0.0]] * 10 + [[0.0, 1.0, 1.0, 0.0]] * 12)
    assert both[10].quarantined.tolist() == [True, False, True, False]
    assert both[-1].quarantined.tolist() == [False, True, True, False]
    swap = [[1.0, 1.0, 0.0, 0.0]] * 2 + [[1.0, 1.0, 1.0, 0.0]] * 8 + [[0.0, 1.0, 1.0, 0.0]] * 2
    states = after(swap)
    assert states[10].quarantined.tolist() == [True, True, False, False]
    assert states[11].quarantined.tolist() == [False, True, True, False], "one goes as the other comes"


def test_back_with_little_trust_one_bad_round_is_enough() -> None:
    """Good rounds near the border raise trust slowly: .107 → .114 → .119, all below .12."""
    settings = ReputationSettings(readmit_rounds=1)
    states = after([[1.0, 0.0]] * 10 + [[0.43, 0.0]] * 2 + [[1.0, 0.0]], settings)
    assert [bool(state.quarantined[0]) for state in states[9:]] == [True, False, False, True]
    assert states[11].trust[0] < 0.12
    assert states[12].quarantines[0] == 2


def test_no_mass_release_in_a_long_run() -> None:
    """Trusts that all fall to 0 tie, and whoever is out stays so."""
    states = after([[1.0, 1.0, 0.0, 0.0]] * 4000)
    assert states[-1].trust[0] == states[-1].trust[1] < 1e-300
    assert states[-1].quarantined.tolist() == [True, True, False, False]


def test_say_and_shares() -> None:
    assert say(reputation_start(3)).tolist() == [1.0, 1.0, 1.0]
    state = after([[1.0, 0.25, 0.0, NAN]] * 12)[-1]
    assert state.quarantined.tolist() == [True, False, False, False]
    trust = float(state.trust[1])
    assert trust == pytest.approx(0.5 + 0.5 * 0.8**12)
    assert say(state).tolist() == [0.0, trust, 1.0, 1.0]
    assert say(state, ReputationSettings(weigh=False)).tolist() == [0.0, 1.0, 1.0, 1.0]
    shares = reward_shares(state, [1e308, 1e308, 1e308, 1e308])
    np.testing.assert_allclose(shares, [0, trust / (1 + trust), 1 / (1 + trust), 0])
    assert reward_shares(state, [5, 0, 0, 5]).tolist() == [0.0] * 4
    assert reward_shares(state, [1e308, 0, 1e-20, 1e308]).tolist() == [0.0, 0.0, 1.0, 0.0]
    assert reward_shares(reputation_start(2), [1, 1]).tolist() == [0.0, 0.0]
    assert reward_shares(reputation_start(0), []).shape == (0,)
    assert reputation_step(reputation_start(0), []).trust.shape == (0,)


def test_inputs_stay_untouched() -> None:
    state = reputation_start(3)
    suspicion = np.array([1.0, NAN, 0.2])
    held = reputation_arrays(state)
    for column in (*state, suspicion):
        column.flags.writeable = False
    new = reputation_step(state, suspicion)
    reputation_arrays(new)["trust"][:] = 0
    same(state, reputation_from(held))
    assert new.trust[0] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("suspicion", "words"),
    [([0.0, 0.5], "3 sites"), ([0.0, 1.5, 0.2], "site 1"), ([0.0, 0.1, -0.1], "site 2")],
)
def test_what_is_no_suspicion_is_refused(suspicion: list[float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        reputation_step(reputation_start(3), suspicion)


@pytest.mark.parametrize("sizes", [[1.0], [1.0, -1.0], [1.0, NAN]])
def test_what_are_no_sizes_is_refused(sizes: list[float]) -> None:
    with pytest.raises(InputError, match="sizes"):
        reward_shares(reputation_start(2), sizes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"decay": 1.0},
        {"decay": NAN},
        {"suspected_at": 0.0},
        {"quarantine_below": 0.81},
        {"quarantine_below": 0.0},
        {"readmit_rounds": 0},
        {"relapse": -1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=f"reputation.{next(iter(wrong))}"):
        ReputationSettings(**wrong)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"good": None}, "without good"),
        ({"trust": np.ones(3)}, "shapes"),
        ({"trust": np.array([1.5, 0])}, "trust"),
        ({"trust": np.array([NAN, 0])}, "trust"),
    ],
)
def test_a_broken_checkpoint_is_refused(change: dict[str, Any], words: str) -> None:
    arrays = {**reputation_arrays(reputation_start(2)), **change}
    with pytest.raises(InputError, match=words):
        reputation_from({name: value for name, value in arrays.items() if value is not None})


@given(st.integers(2, 40), st.floats(0.01, 0.5))
def test_no_more_than_a_share_is_out_at_once(sites: int, share: float) -> None:
    """However many are suspected, and whoever is barred besides counts."""
    settings, reputation = ReputationSettings(at_most=share), reputation_start(sites)
    against = np.linspace(0.6, 1.0, sites)
    barred = np.zeros(sites, np.bool_)
    for round_ in range(30):
        reputation = reputation_step(reputation, against, settings, barred)
        assert reputation.quarantined.sum() <= share * sites + 1e-6
        if round_ == 15:
            barred = reputation.quarantined.copy()
            against = against[::-1].copy()
    assert (reputation.quarantined >= barred).all()


def test_who_is_barred_stays_out_however_well_it_behaves() -> None:
    settings, reputation = ReputationSettings(), reputation_start(6)
    for _ in range(12):
        reputation = reputation_step(reputation, np.array([1.0, 0, 0, 0, 0, 0]), settings)
    barred = reputation.quarantined.copy()
    kept, freed = reputation, reputation
    for _ in range(20):
        kept = reputation_step(kept, np.zeros(6), settings, barred)
        freed = reputation_step(freed, np.zeros(6), settings)
    assert kept.quarantined.tolist() == [True] + [False] * 5
    assert not freed.quarantined.any()
