"""What a coordinator does with a rule from round to round: state, history, momentum, bad updates.

Without any training: what each site comes to in a round is drawn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.attack_types import Attack
from lazaretto.chain import rule_of
from lazaretto.errors import InputError
from lazaretto.keys import generator
from lazaretto.reputation import ReputationSettings
from lazaretto.run.coordinator import Round, attacked, judged
from lazaretto.run.federation import _collect, _Done
from lazaretto.run.group import Group
from lazaretto.run.post import Post
from lazaretto.run.taking_part import Federation, TakingPart
from lazaretto.secagg.settings import Sharing

SITES, D = 7, 12
NAMES = [f"site {k}" for k in range(SITES)]


def federation(rule: str, momentum: float = 0.0, algorithm: str = "fedavg") -> Federation:
    made = rule_of(rule, {})
    return Federation(
        algorithm=catalog.build("algorithms", algorithm),
        server=catalog.build("server_optimisers", "plain"),
        selection=catalog.build("selections", "everyone"),
        rule=made,
        client_momentum=momentum,
        root="root" in made.public,
    )


def group_of(made: Federation) -> Group:
    return Group(made, np.zeros(D, np.float32), SITES, SITES + made.root)


def moves(number: int) -> Any:
    """[SITES, D] float32: what each site would change in a round."""
    return generator(number, "moves").standard_normal((SITES, D)).astype(np.float32)


def root_move(made: Federation, number: int) -> Any:
    """[D] what the root data would change in a round, or None without any."""
    return moves(number + 1000)[0] if made.root else None


def seen_in(
    made: Federation,
    group: Group,
    number: int,
    lost: tuple[int, ...] = (),
    bad: int = -1,
    bad_change: int = -1,
) -> Any:
    """One round; what the coordinator saw."""
    arrives = ~np.isin(np.arange(SITES), lost)
    change = moves(number)
    if bad >= 0:
        change[bad, 0] = np.nan
    keeps = np.ones((SITES, D), np.float32) if made.algorithm.keeps else None
    if keeps is not None:
        keeps[[site for site in (bad, bad_change) if site >= 0]] = np.nan
    root = None if (move := root_move(made, number)) is None else group.vector + move
    done = _Done((group.vector + change).astype(np.float32), keeps, np.ones(SITES, np.float32), root)
    part = TakingPart(np.arange(SITES), arrives, np.ones(SITES), np.ones(SITES, np.int64))
    return _collect(Post(), made, group, NAMES, part, done, Round(0, number, 9))


def play(made: Federation, group: Group, number: int, **more: Any) -> Any:
    """One round; suspicion."""
    return seen_in(made, group, number, **more).suspicion


REMEMBERS = [
    "clipped_clustering",
    "centered_clip",
    "foolsgold",
    "bucketing | clipped_clustering",
    "nnm | dnc",
    "nnm | fltrust",
]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rule", REMEMBERS)
def test_what_is_kept_between_rounds_is_in_the_checkpoint(rule: str, momentum: float) -> None:
    made = federation(rule, momentum)
    whole, first = group_of(made), group_of(made)
    for number in range(6):
        play(made, whole, number, lost=(number,))
    for number in range(3):
        play(made, first, number, lost=(number,))
    resumed = group_of(made)
    resumed.restore({name: np.array(value) for name, value in first.arrays().items()})
    for number in range(3, 6):
        play(made, resumed, number, lost=(number,))
    assert whole.arrays().keys() == resumed.arrays().keys()
    for name, value in whole.arrays().items():
        np.testing.assert_array_equal(value, resumed.arrays()[name], err_msg=name)


def test_the_last_aggregate_is_a_public_row() -> None:
    made = federation("centered_clip")
    group = group_of(made)
    play(made, group, 0)
    once = group.vector.copy()
    play(made, group, 1)
    np.testing.assert_allclose(group.previous, group.vector - once, atol=1e-6)
    before = group.previous
    play(made, group, 2, lost=tuple(range(SITES)))
    np.testing.assert_array_equal(group.previous, before)


def test_history_is_the_sum_of_what_each_site_sent() -> None:
    made = federation("foolsgold")
    group = group_of(made)
    for number, lost, bad in ((0, (), -1), (1, (2,), -1), (2, (), 4)):
        play(made, group, number, lost=lost, bad=bad)
    sent = sum(moves(number).astype(np.float64) for number in range(3))
    sent[2] -= moves(1)[2]
    sent[4] -= moves(2)[4]
    assert group.history is not None
    np.testing.assert_allclose(group.history, sent, atol=1e-5)


def test_momentum_is_what_a_site_sent_last() -> None:
    made = federation("mean", 0.75)
    group = group_of(made)
    play(made, group, 0)
    np.testing.assert_allclose(group.vector, moves(0).mean(axis=0), atol=1e-6)
    play(made, group, 1, lost=(3,))
    play(made, group, 2, bad=5)
    one = moves(0)
    two = 0.25 * moves(1) + 0.75 * one
    two[3] = one[3]
    three = 0.25 * moves(2) + 0.75 * two
    three[5] = two[5]  # what was not finite is not remembered
    np.testing.assert_allclose(group.momentum, three, atol=1e-6)


@pytest.mark.parametrize("rule", ["mean", "nnm | multi_krum", "trimmed_mean"])
def test_one_bad_update_does_not_stop_the_others(rule: str) -> None:
    made = federation(rule, algorithm="scaffold")
    group = group_of(made)
    suspicion = play(made, group, 0, lost=(1,), bad=6)
    np.testing.assert_array_equal(np.isnan(suspicion), np.arange(SITES) == 1)
    assert suspicion[6] == 1
    assert np.isfinite(group.vector).all()
    assert np.abs(group.vector).max() > 0
    assert group.control is not None
    assert np.isfinite(group.control).all()
    suspicion = play(made, group, 1, bad_change=4)
    assert suspicion[4] == 1
    assert np.isfinite(group.control).all()
    with pytest.raises(InputError, match="no update is finite, that of site 6"):
        play(made, group, 2, lost=(0, 1, 2, 3, 4, 5), bad=6)


HOSTILE = np.arange(SITES) < 2


def spy(seen: list[Any]) -> Attack:
    """Sends twos, and notes what it is told and what the coordinator would make of it, asked twice."""

    def craft(honest: Any, own: Any, context: Any, rng: Any) -> Any:
        sent = np.full(own.shape, 2.0)
        rows = np.concatenate([honest, sent])
        seen.append((context, context.judge(rows), context.judge(rows)))
        return sent

    return Attack(name="spy", kind="updates", knows="rule", craft=craft)


@pytest.mark.parametrize(
    "rule", ["mean", "foolsgold", "bucketing | centered_clip", "nnm | multi_krum", "dnc", "fltrust"]
)
def test_hostile_sites_know_what_the_coordinator_will_make_of_it(rule: str) -> None:
    """Asked twice the same, in any round; what they ask changes nothing that is kept."""
    seen: list[Any] = []
    plain = federation(rule)
    made = replace(plain, attack=spy(seen), hostile=HOSTILE)
    group, other = group_of(made), group_of(made)
    for number in (1, 2, 3):
        before = group.vector.copy()
        play(made, group, number)
        context, once, twice = seen[-1]
        np.testing.assert_array_equal(once, twice)
        np.testing.assert_allclose(group.vector - before, once, atol=1e-6)
        assert (context.round_number, context.rounds) == (number, 9)
        change = (other.vector + moves(number)).astype(np.float32) - other.vector
        change[HOSTILE] = 2.0
        part = TakingPart(np.arange(SITES), np.ones(SITES, bool), np.ones(SITES), np.ones(SITES, np.int64))
        other.root = root_move(made, number)
        by_hand = judged(plain, other, change, part, Round(0, number, 9)).update
        np.testing.assert_allclose(by_hand, once, atol=1e-6)
        other = group_of(made)
        other.restore({key: np.copy(value) for key, value in group.arrays().items()})


def test_hostile_sites_wait_for_their_round_and_some_are_lost() -> None:
    seen: list[Any] = []
    made = replace(federation("mean"), attack=spy(seen), hostile=HOSTILE, attack_from=3)
    group = group_of(made)
    for number in (1, 2):
        before = group.vector.copy()
        play(made, group, number)
        np.testing.assert_allclose(group.vector - before, moves(number).mean(axis=0), atol=1e-6)
    assert not seen
    before = group.vector.copy()
    play(made, group, 3, lost=(0, 4))
    arrived = moves(3)[[1, 2, 3, 5, 6]]
    arrived[0] = 2.0
    np.testing.assert_allclose(group.vector - before, arrived.mean(axis=0), atol=1e-6)
    assert seen[0][0].previous is not None


def test_nobody_hostile_arrives() -> None:
    made = replace(federation("mean"), attack=spy([]), hostile=HOSTILE)
    group = group_of(made)
    part = TakingPart(np.arange(2, SITES), np.ones(5, bool), np.ones(5), np.ones(5, np.int64))
    rows = moves(1)[2:]
    np.testing.assert_array_equal(attacked(made, group, rows, part, Round(0, 1, 1)), rows)


def turned(honest: Any, own: Any, context: Any, rng: Any) -> Any:
    return -5.0 * own


TURNED = Attack(name="turned", kind="updates", knows="own", craft=turned)


@pytest.mark.parametrize("rule", ["nnm | multi_krum", "geometric_median", "trimmed_mean"])
def test_who_turns_its_update_is_out_within_ten_rounds_and_comes_back(rule: str) -> None:
    """Checked while out: it stays out as long as it is bad, and is back once it has been good."""
    settings = ReputationSettings()
    made = replace(federation(rule), attack=TURNED, hostile=HOSTILE, reputation=settings)
    good = replace(made, attack=None)
    group = group_of(made)
    rounds = [common_move(made, group, number) for number in range(1, 13)]
    out = [np.flatnonzero(seen.reputation.quarantined).tolist() for seen in rounds]
    assert [0, 1] in out[:10]
    assert out[-1] == [0, 1]
    assert all(set(those) <= {0, 1} for those in out)
    kinds = {flag["kind"] for flag in rounds[-1].flags if flag["site"] in NAMES[:2]}
    assert "against" in kinds
    arrays = {key: np.copy(value) for key, value in group.arrays().items()}
    again = group_of(made)
    again.restore(arrays)
    forgotten = 10  # rounds, after which what was added up of its bad ones says little
    for number in range(13, 13 + forgotten + settings.readmit_rounds):
        seen, same = (common_move(good, one, number) for one in (group, again))
        for left, right in zip(seen.reputation, same.reputation, strict=True):
            np.testing.assert_array_equal(left, right)
    assert not seen.reputation.quarantined.any()


def common_move(made: Federation, group: Group, number: int) -> Any:
    """A round in which all sites move much the same way."""
    change = (1.0 + 0.3 * moves(number)).astype(np.float32)
    done = _Done((group.vector + change).astype(np.float32), None, np.ones(SITES, np.float32))
    part = TakingPart(np.arange(SITES), np.ones(SITES, bool), np.ones(SITES), np.ones(SITES, np.int64))
    return _collect(Post(), made, group, NAMES, part, done, Round(0, number, 99))


def test_who_is_in_quarantine_has_no_weight() -> None:
    made = replace(federation("geometric_median"), reputation=ReputationSettings())
    group = group_of(made)
    assert group.reputation is not None
    group.reputation = group.reputation._replace(quarantined=np.arange(SITES) == 3)
    before = group.vector.copy()
    part = TakingPart(np.arange(SITES), np.ones(SITES, bool), np.ones(SITES), np.ones(SITES, np.int64))
    change = (before + moves(1)).astype(np.float32) - before
    used = judged(made, group, change, part, Round(0, 1, 9))
    all_of_them = judged(made, group, change, part, Round(0, 1, 9), everyone=True)
    assert used.weights is not None
    assert used.weights[3] == 0
    assert all_of_them.weights is not None
    assert all_of_them.weights[3] > 0
    play(made, group, 1)
    np.testing.assert_allclose(group.vector - before, used.update, atol=1e-6)


def test_a_site_without_data_is_not_judged() -> None:
    """It sends zeros in every round, and would else be taken for a free rider."""
    made = replace(federation("nnm | multi_krum"), reputation=ReputationSettings())
    group = group_of(made)
    sizes = np.ones(SITES)
    sizes[5:] = 0
    part = TakingPart(np.arange(SITES), np.ones(SITES, bool), sizes, np.ones(SITES, np.int64))
    for number in range(1, 16):
        change = (1.0 + 0.3 * moves(number)).astype(np.float32)
        change[5:] = 0
        done = _Done((group.vector + change).astype(np.float32), None, np.ones(SITES, np.float32))
        seen = _collect(Post(), made, group, NAMES, part, done, Round(0, number, 99))
        assert not seen.flags
    assert seen.reputation is not None
    assert seen.reputation.seen.tolist() == [15] * 5 + [0, 0]
    assert not seen.reputation.quarantined.any()


@pytest.mark.parametrize(
    ("lost", "bad"),
    [((0, 1, 2, 4, 5, 6), 3), ((0, 1, 2, 4, 5), 3), ((0, 1, 2, 4, 5), 6), ((0, 1, 2, 4, 5, 6), -1)],
)
def test_with_a_site_in_quarantine_a_bad_round_changes_nothing_or_goes_on(
    lost: tuple[int, ...], bad: int
) -> None:
    made = replace(federation("geometric_median"), reputation=ReputationSettings())
    group = group_of(made)
    assert group.reputation is not None
    group.reputation = group.reputation._replace(quarantined=np.arange(SITES) == 3)
    before = group.vector.copy()
    seen = seen_in(made, group, 1, lost=lost, bad=bad)
    trusted = [site for site in range(SITES) if site not in {*lost, bad, 3}]
    assert np.array_equal(group.vector, before) == (not trusted)
    if bad >= 0:
        assert seen.suspicion[bad] == 1


@pytest.mark.parametrize("name", ["alie", "mimic", "adaptive", "min_max"])
def test_an_honest_update_that_is_not_finite_is_unknown_to_the_attack(name: str) -> None:
    """What is crafted is what would have been crafted without that site."""
    attack = catalog.build("attacks", name)
    made = replace(federation("multi_krum"), attack=attack, hostile=HOSTILE)
    group = group_of(made)
    everyone = TakingPart(np.arange(SITES), np.ones(SITES, bool), np.ones(SITES), np.ones(SITES, np.int64))
    rows = moves(1)
    rows[4, 3] = np.nan
    crafted = attacked(made, group, rows, everyone, Round(0, 1, 9))
    fewer = TakingPart(np.delete(np.arange(SITES), 4), np.ones(6, bool), np.ones(6), np.ones(6, np.int64))
    alone = attacked(made, group, np.delete(rows, 4, axis=0), fewer, Round(0, 1, 9))
    np.testing.assert_allclose(crafted[HOSTILE], alone[:2], rtol=1e-6)
    np.testing.assert_array_equal(crafted[~HOSTILE], rows[~HOSTILE])
    rows[0] = np.inf
    assert np.isfinite(attacked(made, group, rows, everyone, Round(0, 1, 9))[HOSTILE]).all()


def test_a_dropped_update_leaves_no_trace_in_the_history() -> None:
    made = federation("foolsgold")
    group = group_of(made)
    change = moves(1)
    change[2] = 1e30
    done = _Done((group.vector + change).astype(np.float32), None, np.ones(SITES, np.float32))
    part = TakingPart(np.arange(SITES), np.ones(SITES, bool), np.ones(SITES), np.ones(SITES, np.int64))
    _collect(Post(), made, group, NAMES, part, done, Round(0, 1, 9))
    assert group.history is not None
    assert not group.history[2].any()


def test_the_root_row_decides_whom_to_trust() -> None:
    """FLTrust by hand, from the updates and the root's."""
    made = federation("fltrust")
    group = group_of(made)
    play(made, group, 3)
    X, root = moves(3).astype(np.float64), root_move(made, 3).astype(np.float64)
    length = np.linalg.norm(X, axis=1)
    trust = np.maximum(X @ root / length / np.linalg.norm(root), 0)
    expected = (trust / length * np.linalg.norm(root)) @ X / trust.sum()
    np.testing.assert_allclose(group.vector, expected, atol=1e-6)


def test_a_root_that_is_not_finite_trusts_nobody_in_that_round_alone() -> None:
    made = federation("fltrust", momentum=0.5)
    group, other = group_of(made), group_of(made)
    bad = np.full(D, np.nan, np.float32)
    done = _Done(moves(0), None, np.ones(SITES, np.float32), bad)
    everyone = np.ones(SITES, bool)
    part = TakingPart(np.arange(SITES), everyone, np.ones(SITES), np.ones(SITES, np.int64))
    seen = _collect(Post(), made, group, NAMES, part, done, Round(0, 1, 9))
    np.testing.assert_array_equal(group.vector, 0)
    np.testing.assert_array_equal(seen.suspicion, 1)
    assert other.momentum is not None
    other.momentum[:SITES] = moves(0)
    for one in (group, other):
        play(made, one, 1)
    np.testing.assert_array_equal(group.vector, other.vector)
    assert np.abs(group.vector).max() > 0


def test_who_is_barred_tells_nothing_of_the_others() -> None:
    """Whatever a barred site sends, a copy of an honest update with noise or plain noise: the same bits."""
    made = replace(federation("nnm | multi_krum"), reputation=ReputationSettings(decay=0.3))
    ends = []
    for copies in (True, False):
        group = group_of(made)
        assert group.reputation is not None
        out = np.isin(np.arange(SITES), (0, 1))
        group.reputation = group.reputation._replace(quarantined=out, trust=np.where(out, 0.0, 1.0))
        group.begin_anew(made, np.zeros(D, np.float32))
        kept = []
        for number in range(1, 12):
            change = (1.0 + 0.3 * moves(number)).astype(np.float32)
            change[:2] = (change[3] if copies else 9.0) + 0.01 * moves(number + 500)[:2]
            done = _Done((group.vector + change).astype(np.float32), None, np.ones(SITES, np.float32))
            part = TakingPart(
                np.arange(SITES), np.ones(SITES, bool), np.ones(SITES), np.ones(SITES, np.int64)
            )
            seen = _collect(Post(), made, group, NAMES, part, done, Round(0, number, 99))
            kept.append(seen.reputation.quarantined.tolist())
            assert seen.reputation.quarantined[:2].all()
        ends.append((group.vector, kept))
    np.testing.assert_array_equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


def test_who_is_left_out_of_a_secret_round_is_named_with_the_reason() -> None:
    made = replace(federation("nnm | multi_krum"), secure=Sharing(clip=100.0))
    group = group_of(made)
    seen = seen_in(made, group, 1, bad=2)
    assert [(flag["site"], flag["reason"]) for flag in seen.flags if flag["kind"] == "left out"] == [
        (NAMES[2], "its update was not finite, so it had nothing to send")
    ]
    assert seen.suspicion[2] == 1
    assert group.vector.any()
