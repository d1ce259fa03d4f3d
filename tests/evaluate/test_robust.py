"""Cross-fitted thresholds: nothing is judged by a threshold that it helped to set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from lazaretto.errors import DataError
from lazaretto.evaluate.operating import EVERYONE
from lazaretto.evaluate.robust import halves, judge_cell, judge_seed, judgement_tree
from lazaretto.evaluate.scored import Protocol, Scored
from lazaretto.evaluate.thresholds import MAIN_POINT, operating_points
from lazaretto.keys import generator

PROTOCOL = Protocol(
    classes=("normal", "flood", "scan"), step_seconds=1.0, false_positive_rate=0.05, replicates=200
)


def scored(seed: int, strength: float = 2.0, units: int = 24, steps: int = 60) -> Scored:
    """Every third unit is quiet; the others carry one of two families for a third of their steps."""
    rng = generator(seed, "robust")
    y = np.zeros((units, steps), np.int64)
    for unit in range(units):
        if unit % 3:
            y[unit, 20:40] = unit % 3
    score = rng.normal(size=y.shape) + strength * (y > 0)
    return Scored(
        score=score, y=y, valid=rng.random(y.shape) < 0.95, site=np.arange(units) % 4, unit=np.arange(units)
    )


def test_halves_share_no_unit_and_hold_as_many_of_each_family() -> None:
    one = scored(0)
    first = halves(one, 3)
    assert first.sum() == 12
    for family in range(3):
        assert first[np.arange(24) % 3 == family].sum() == 4
    np.testing.assert_array_equal(first, halves(one, 3))
    assert not np.array_equal(first, halves(one, 4))
    twice = replace(one, unit=np.arange(24) // 2)
    np.testing.assert_array_equal(halves(twice, 3)[::2], halves(twice, 3)[1::2])
    with pytest.raises(DataError, match="a unit each"):
        halves(replace(one, unit=np.zeros(24, int)), 3)


def test_figures_are_those_of_the_other_half_s_threshold() -> None:
    """By hand, with the order statistic itself in place of counted bins (0.2 % wide)."""
    one = scored(1)
    values, _ = judge_seed(one, PROTOCOL, 5)
    first, alarm = halves(one, 5), np.zeros(one.valid.shape, bool)
    for own in (first, ~first):
        normal = one.valid & (one.y == 0) & ~own[:, None]
        ordered = np.sort(one.score[normal])
        threshold = ordered[len(ordered) - int(0.05 * len(ordered)) - 1]
        alarm[own] = one.score[own] > threshold
    truth = one.y[one.valid] > 0
    assert values["f1"] == pytest.approx(f1_score(truth, alarm[one.valid]), abs=0.01)
    assert values["auroc"] == pytest.approx(roc_auc_score(truth, one.score[one.valid]), abs=1e-12)
    scan = one.valid & (one.y == 2)
    assert values["class:scan|recall"] == pytest.approx(alarm[scan].mean(), abs=0.01)


def test_a_unit_sets_no_threshold_that_judges_it() -> None:
    """Moving one unit's scores out of sight changes nothing about the alarms in its own half."""
    one, unit = scored(2), 0
    own = halves(one, 7) == halves(one, 7)[unit]
    loud = replace(one, score=np.where(np.arange(24)[:, None] == unit, one.score + 50.0, one.score))
    before, after = (judge_seed(each, PROTOCOL, 7)[1].columns for each in (one, loud))
    others = own & (np.arange(24) != unit)
    np.testing.assert_array_equal(before["hits"][others], after["hits"][others])
    np.testing.assert_array_equal(before["false"][others], after["false"][others])
    assert not np.array_equal(before["hits"][~own], after["hits"][~own]), "the other half goes by it"


@pytest.mark.parametrize("lie", [1e9, -1e9])
def test_lies_reach_no_site_that_goes_by_its_own_threshold(lie: float) -> None:
    one, asked = scored(4, 3.0), replace(PROTOCOL, thresholds="own")

    def said(part: Scored) -> np.ndarray:
        return np.where((part.site == 1)[:, None] & (part.y == 0), lie, part.score)

    honest, before = judge_seed(one, asked, 6)
    values, after = judge_seed(one, asked, 6, said=said)
    assert values == honest
    assert honest["recall"] > 0
    for name, column in before.columns.items():
        np.testing.assert_array_equal(after.columns[name], column)


@pytest.mark.parametrize("how", ["sum", "median"])
@pytest.mark.parametrize("lie", [1e9, -1e9])
def test_lies_act_on_what_sets_a_threshold_and_never_on_what_is_judged(how, lie: float) -> None:
    """By hand: the same halves, each judged by operating points that lies were laid into before."""
    one, asked = scored(4, 3.0), replace(PROTOCOL, thresholds=how)
    given: list[Scored] = []

    def said(part: Scored) -> np.ndarray:
        given.append(part)
        return np.where((part.site == 1)[:, None] & (part.y == 0), lie, part.score)

    honest, _ = judge_seed(one, asked, 6)
    values, stats = judge_seed(one, asked, 6, said=said)
    assert values["auroc"] == honest["auroc"]
    first = halves(one, 6)
    assert [sorted(part.unit.tolist()) for part in given] == [
        sorted(one.unit[own].tolist()) for own in (~first, first)
    ]
    for own in (first, ~first):
        lied = replace(one, score=said(one))
        part = Scored(**{name: getattr(lied, name)[~own] for name in ("score", "y", "valid", "site", "unit")})
        points = operating_points(part, replace(asked, calibration="none"))
        alarm = one.valid & (one.score > points.thresholds[MAIN_POINT][EVERYONE])
        np.testing.assert_array_equal(stats.columns["hits"][own], (alarm & (one.y > 0)).sum(axis=1)[own])
    if how == "sum" and lie > 0:
        assert values["recall"] == values["false_positive_rate"] == values["f1"] == 0.0
    elif how == "sum":
        assert values["false_positive_rate"] > honest["false_positive_rate"]
    else:
        assert values["recall"] > 0.5 * honest["recall"]


def test_where_each_site_has_its_own_threshold_nobody_can_move_another_s() -> None:
    one = replace(scored(5), threshold_group=scored(5).site)
    values, _ = judge_seed(one, PROTOCOL, 6, said=lambda part: part.score + 1e9)
    assert values == judge_seed(one, PROTOCOL, 6)[0]


def test_a_detector_that_says_nothing_is_chance_and_never_alarms() -> None:
    values, _ = judge_seed(replace(scored(3), score=np.zeros((24, 60))), PROTOCOL, 0)
    assert values["auroc"] == 0.5
    assert values["f1"] == values["recall"] == values["false_positive_rate"] == 0.0


def test_losses_are_paired_and_the_trigger_s_success_is_a_share_of_recall() -> None:
    seeds = [scored(seed, 3.0) for seed in range(3)]
    weaker = [replace(one, score=one.score - 1.0 * (one.y > 0)) for one in seeds]
    hidden = [replace(one, score=one.score - 2.0 * (one.y > 0)) for one in weaker]
    honest = judge_cell([judge_seed(one, PROTOCOL, n) for n, one in enumerate(seeds)], PROTOCOL)
    hit = judge_cell(
        [
            judge_seed(one, PROTOCOL, n, shown)
            for n, (one, shown) in enumerate(zip(weaker, hidden, strict=True))
        ],
        PROTOCOL,
    )
    tree = judgement_tree(hit, honest)
    lost = tree["lost"]["auroc"]
    assert lost["value"] == pytest.approx(honest.values["auroc"] - hit.values["auroc"])
    assert 0 < lost["low"] <= lost["value"] <= lost["high"]
    apart = honest.samples["auroc"] - generator(0, "x").permutation(hit.samples["auroc"])
    assert lost["high"] - lost["low"] < np.subtract(*np.quantile(apart, [0.975, 0.025])), "pairing narrows it"
    success = tree["backdoor_success"]
    assert success["value"] == pytest.approx(1 - hit.values["shown|recall"] / hit.values["recall"])
    assert success["value"] > 0.5
    assert judgement_tree(honest)["backdoor_success"] is None
    assert set(tree["recall_by_class"]) == {"flood", "scan"}
    assert len(tree["by_seed"]["auroc"]) == 3
