"""What sites keep for an algorithm, made one by the rule of the updates: changes that hostile sites send.

Without any training: what each site sends in a round is drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.chain import rule_of
from lazaretto.keys import generator
from lazaretto.run.coordinator import Round
from lazaretto.run.federation import _collect, _Done
from lazaretto.run.group import Group
from lazaretto.run.post import Post
from lazaretto.run.taking_part import Federation, TakingPart

SITES, D = 7, 12
NAMES = [f"site {k}" for k in range(SITES)]
HOSTILE = np.arange(SITES) < 2


def federation(rule: str, algorithm: str = "fedavg") -> Federation:
    return Federation(
        algorithm=catalog.build("algorithms", algorithm),
        server=catalog.build("server_optimisers", "plain"),
        selection=catalog.build("selections", "everyone"),
        rule=rule_of(rule, {}),
    )


def group_of(made: Federation) -> Group:
    return Group(made, np.zeros(D, np.float32), SITES, SITES)


def moves(number: int) -> Any:
    """[SITES, D] float32: what each site would send in a round."""
    return generator(number, "moves").standard_normal((SITES, D)).astype(np.float32)


def changed_in(made: Federation, group: Group, number: int, changes: Any, out: tuple[int, ...] = ()) -> Any:
    """A round in which sites send these changes of what they keep."""
    done = _Done(group.vector + moves(number), changes.astype(np.float32), np.ones(SITES, np.float32))
    arrives = ~np.isin(np.arange(SITES), out)
    part = TakingPart(np.arange(SITES), arrives, np.ones(SITES), np.ones(SITES, np.int64))
    return _collect(Post(), made, group, NAMES, part, done, Round(0, number, 9))


@pytest.mark.parametrize("rule", ["nnm | multi_krum", "geometric_median", "trimmed_mean", "foolsgold"])
def test_a_change_of_what_a_site_keeps_passes_the_rule_also_beside_a_good_update(rule: str) -> None:
    """Round after round, in steps small enough to pass for honest ones: errors do not add up."""
    made = federation(rule, algorithm="scaffold")
    group, kept = group_of(made), np.zeros((SITES, D))
    for number in range(1, 9):
        changes = 0.1 * moves(number + 50)
        changes[HOSTILE] = 40.0 if number == 1 else 0.5
        held = {name: np.copy(value) for name, value in group.arrays().items()}
        seen = changed_in(made, group, number, changes, out=(number % 3 + 2,))
        changes[number % 3 + 2] = 0
        kept += changes
    assert group.control is not None
    honest = kept[~HOSTILE]
    reach = np.linalg.norm(honest - honest.mean(axis=0), axis=1).max()
    away = np.linalg.norm(group.control - honest.mean(axis=0))
    if rule == "foolsgold":  # which withstands many that are alike
        assert away < 0.1 * np.linalg.norm(kept[0])
    else:
        assert away <= 2 * reach
    alone = federation(rule)  # suspicion is of the updates, and not counted twice
    plain = group_of(alone)
    plain.restore({**plain.arrays(), **{k: v for k, v in held.items() if k in plain.arrays()}})
    np.testing.assert_array_equal(changed_in(alone, plain, 8, changes, out=(4,)).suspicion, seen.suspicion)


@pytest.mark.parametrize("rule", ["mean", "nnm | multi_krum", "coordinate_median"])
def test_what_all_sites_keep_alike_is_what_is_sent_out(rule: str) -> None:
    """Of those that have told: who has not is at 0, as in the paper."""
    made = federation(rule, algorithm="scaffold")
    group = group_of(made)
    alike = np.repeat(moves(77)[:1], SITES, axis=0)
    changed_in(made, group, 1, alike, out=(3, 4))
    np.testing.assert_allclose(group.control, alike[0] * 5 / SITES, atol=1e-6)
    bad = alike.copy()
    bad[3] = np.nan
    changed_in(made, group, 2, np.where(np.arange(SITES)[:, None] == 4, alike, 0 * bad))
    np.testing.assert_allclose(group.control, alike[0] * 6 / SITES, atol=1e-6, err_msg="NaN told nothing")


def test_scaffold_s_rule_remembers_over_a_checkpoint() -> None:
    made = federation("bucketing | centered_clip", algorithm="scaffold")
    whole, resumed = group_of(made), group_of(made)
    for number in range(1, 7):
        if number == 4:
            resumed = group_of(made)
            resumed.restore({name: np.array(value) for name, value in whole.arrays().items()})
        for group in (whole, resumed) if number > 3 else (whole,):
            changed_in(made, group, number, moves(number + 60), out=(number,))
    for name, value in whole.arrays().items():
        np.testing.assert_array_equal(value, resumed.arrays()[name], err_msg=name)
    assert any(name.startswith("controls.") for name in whole.arrays())
