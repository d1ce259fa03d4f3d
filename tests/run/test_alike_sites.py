"""What a coordinator does about sites that agree on an update; what they send is drawn, nothing trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.chain import rule_of
from lazaretto.keys import generator
from lazaretto.reputation import ReputationSettings
from lazaretto.run.coordinator import Round
from lazaretto.run.federation import _collect, _Done
from lazaretto.run.group import Group
from lazaretto.run.post import Post
from lazaretto.run.taking_part import Federation, TakingPart

SITES, D, HOSTILE = 12, 600, 4
NAMES = [f"site {k}" for k in range(SITES)]


def federation(options: Any = None) -> Federation:
    return Federation(
        algorithm=catalog.build("algorithms", "fedavg"),
        server=catalog.build("server_optimisers", "plain"),
        selection=catalog.build("selections", "everyone"),
        rule=rule_of("nnm | multi_krum", options or {}),
        client_momentum=0.0,
        root=False,
    )


def group_of(made: Federation) -> Group:
    return Group(made, np.zeros(D, np.float32), SITES, SITES)


def play(made: Federation, group: Group, number: int, change: Any) -> Any:
    """One round in which everyone sends; what the coordinator saw."""
    done = _Done((group.vector + change).astype(np.float32), None, np.ones(SITES, np.float32))
    everyone = np.ones(SITES, bool)
    part = TakingPart(np.arange(SITES), everyone, np.ones(SITES), np.ones(SITES, np.int64))
    return _collect(Post(), made, group, NAMES, part, done, Round(0, number, 99))


def quarantined(settings: ReputationSettings, agree: bool) -> tuple[list[int], set[tuple[str, str]]]:
    """Who is out after eighteen rounds, and the flags of the last: four sites of twelve with another aim send
    each its own update, or the mean of theirs with some noise on it.
    """
    made = replace(federation(), reputation=settings)
    group, rng = group_of(made), generator(3, "agree")
    aim, seen = 0.25 * rng.standard_normal(D), None
    for number in range(1, 19):
        change = 0.3 + rng.standard_normal((SITES, D))
        change[:HOSTILE] += aim
        if agree:
            middle = change[:HOSTILE].mean(axis=0)
            change[:HOSTILE] = middle + 0.35 * rng.standard_normal((HOSTILE, D))
        seen = play(made, group, number, change)
    assert seen is not None
    out = np.flatnonzero(seen.reputation.quarantined).tolist()
    return out, {(flag["site"], flag["kind"]) for flag in seen.flags}


SETTINGS: dict[str, Any] = {"decay": 0.65, "suspected_at": 1.0}


def test_sites_that_agree_on_an_update_are_put_out() -> None:
    out, flags = quarantined(ReputationSettings(**SETTINGS), agree=True)
    assert out == list(range(HOSTILE))
    assert {site for site, kind in flags if kind == "alike"} == set(NAMES[:HOSTILE])


@pytest.mark.parametrize("agree", [True, False])
def test_each_switch_spares_its_own_flag_which_is_still_told(agree: bool) -> None:
    kind, other = ("alike", "camps") if agree else ("camp", "alike")
    off = {"alike": False} if agree else {"camps": False}
    for settings, expected in ((off, []), ({other: False}, list(range(HOSTILE)))):
        out, flags = quarantined(ReputationSettings(**SETTINGS, **settings), agree)
        assert out == expected
        assert {site for site, what in flags if what == kind} == set(NAMES[:HOSTILE])


def test_a_checkpoint_from_before_such_sites_were_looked_for_is_gone_on_with() -> None:
    made = replace(federation(), reputation=ReputationSettings(**SETTINGS))
    old = {name: np.array(value) for name, value in group_of(made).arrays().items()}
    del old["sums.alike"]
    group = group_of(made)
    group.restore(old)
    assert group.sums is not None
    assert not group.sums.alike.any()


def test_when_training_begins_anew_those_who_are_out_are_forgotten_and_the_rule_begins_again() -> None:
    made = replace(federation({"multi_krum": {"slack": 1.0}}), reputation=ReputationSettings(**SETTINGS))
    group, rng = group_of(made), generator(4, "anew")
    for number in range(1, 6):
        play(made, group, number, rng.standard_normal((SITES, D)))
    assert group.sums is not None
    assert group.reputation is not None
    assert [int(one[0]) for one in group.rule.values()] == [5]
    out = np.isin(np.arange(SITES), (2, 7))
    group.reputation = group.reputation._replace(quarantined=out)
    group.begin_anew(made, np.zeros(D, np.float32))
    assert group.sums.rounds.tolist() == np.where(out, 0, 5).tolist()
    assert not group.sums.total[out].any()
    assert [int(one[0]) for one in group.rule.values()] == [0]
