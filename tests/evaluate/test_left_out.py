"""Recall by intensity, and systems judged on families and sites that they never trained on."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.errors import DataError, PlanError
from lazaretto.evaluate.compare import judge
from lazaretto.evaluate.judge import draws_for, judge_system, table_of
from lazaretto.evaluate.left_out import judge_families, judge_sites, recall_gain, taking_part
from lazaretto.evaluate.metrics import alarm_columns, intensity_bins, intensity_columns, ratios
from lazaretto.evaluate.operating import EVERYONE
from lazaretto.evaluate.scored import OURS, SUPERVISED, Protocol, Scored, SeedScores
from lazaretto.evaluate.thresholds import operating_points
from lazaretto.keys import generator

Make = Callable[..., list[SeedScores]]
EDGES = (0.02, 0.05, 0.1, 0.25)


def with_intensity(seeds: list[SeedScores]) -> list[SeedScores]:
    """The same scores; every unit's attack gets a strength of its own."""
    found = []
    for number, seed in enumerate(seeds):
        test = seed.test
        strength = np.exp(generator(number, "strength").uniform(np.log(0.01), np.log(0.5), len(test.site)))
        intensity = np.where(test.y > 0, strength[:, None], 0.0)
        found.append(dataclasses.replace(seed, test=dataclasses.replace(test, intensity=intensity)))
    return found


def test_bins_have_the_names_of_their_borders() -> None:
    assert intensity_bins(()) == ()
    assert intensity_bins((4.0,)) == ("<4", ">=4")
    assert intensity_bins(EDGES) == ("<0.02", "0.02-0.05", "0.05-0.1", "0.1-0.25", ">=0.25")


@settings(max_examples=60)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 2),  # class
            st.booleans(),  # valid
            st.booleans(),  # alarm
            st.sampled_from([0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.25, 0.5, 3.0]),
        ),
        min_size=4,
        max_size=40,
    )
)
def test_bins_add_up_to_the_total_recall(steps: list[tuple[int, bool, bool, float]]) -> None:
    y, valid, alarm, strength = (np.asarray(column).reshape(1, -1) for column in zip(*steps, strict=True))
    columns = intensity_columns(y, valid, alarm, np.where(y > 0, strength, 0.0), EDGES)
    whole = alarm_columns(y, valid, valid & alarm, valid & alarm)
    hits = sum(v.sum() for name, v in columns.items() if name.endswith("|hits"))
    held = sum(v.sum() for name, v in columns.items() if name.endswith("|steps"))
    assert (hits, held) == (whole["hits"].sum(), whole["attacked"].sum())
    found = ratios({name: v.sum() for name, v in columns.items()}, 60.0)
    for name, (low, high) in zip(
        intensity_bins(EDGES), itertools.pairwise((0.0, *EDGES, np.inf)), strict=True
    ):
        own = [said for kind, there, said, s in steps if kind and there and low <= s < high]
        recall = found[f"intensity:{name}|recall"]
        assert np.isnan(recall) if not own else recall == pytest.approx(np.mean(own))


def test_steps_of_unknown_strength_are_in_no_bin() -> None:
    y, valid = np.ones((1, 4), int), np.ones((1, 4), bool)
    columns = intensity_columns(y, valid, valid, np.asarray([[0.0, np.nan, -1.0, 0.03]]), EDGES)
    assert sum(v.sum() for name, v in columns.items() if name.endswith("|steps")) == 1


def test_a_system_is_judged_by_strength_only_where_strength_is_known(
    system: Make, protocol: Protocol
) -> None:
    seeds = system(2.0, 0)
    asked = dataclasses.replace(protocol, intensity_edges=EDGES)
    plain = table_of(judge_system(seeds, asked, "s", draws_for(seeds, asked)), protocol.classes)
    assert "recall_by_intensity" not in plain
    known = table_of(
        judge_system(with_intensity(seeds), asked, "s", draws_for(seeds, asked)), protocol.classes
    )
    assert list(known.pop("recall_by_intensity")) == list(intensity_bins(EDGES))
    assert known == plain


@pytest.mark.parametrize("edges", [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0)])
def test_borders_must_ascend(protocol: Protocol, edges: tuple[float, ...]) -> None:
    with pytest.raises(PlanError, match="intensity_edges"):
        dataclasses.replace(protocol, intensity_edges=edges)


def test_intensity_of_another_shape_is_refused(system: Make, protocol: Protocol) -> None:
    seed = system(2.0, 0)[0]
    wrong = dataclasses.replace(seed, test=dataclasses.replace(seed.test, intensity=np.zeros(3)))
    with pytest.raises(DataError, match="intensity"):
        judge_system([wrong], protocol, "s", draws_for([wrong], protocol))


def by_hand(seeds: list[SeedScores], protocol: Protocol, family: int) -> tuple[float, float]:
    """Recall of a family, mean over bins of strength, and false positives: loops over steps."""
    recalls: dict[int, list[float]] = {}
    rates = []
    for seed in seeds:
        assert seed.validation is not None
        threshold = operating_points(seed.validation, protocol).thresholds["main"][-1]
        bins: dict[int, list[bool]] = {}
        false = []
        test = seed.test
        assert test.intensity is not None
        for unit, step in zip(*np.nonzero(test.valid), strict=True):
            alarm = bool(test.score[unit, step] > threshold)
            if test.y[unit, step] == family:
                place = sum(test.intensity[unit, step] >= edge for edge in protocol.intensity_edges)
                bins.setdefault(place, []).append(alarm)
            elif test.y[unit, step] == 0:
                false.append(alarm)
        for place, alarms in bins.items():
            recalls.setdefault(place, []).append(float(np.mean(alarms)))
        rates.append(float(np.mean(false)))
    return float(np.mean([np.mean(values) for values in recalls.values()])), float(np.mean(rates))


def test_gain_over_families_and_strengths_is_that_of_loops(system: Make, protocol: Protocol) -> None:
    asked = dataclasses.replace(protocol, intensity_edges=EDGES)
    leave = {
        name: {f: with_intensity(system(strength, 10 * n + f)) for f in (1, 2, 3)}
        for n, (name, strength) in enumerate({OURS: 3.0, SUPERVISED: 1.5}.items())
    }
    left = judge_families(leave, asked)
    gain = recall_gain(left[OURS], left[SUPERVISED])
    hand = {name: [by_hand(seeds, asked, f) for f, seeds in of.items()] for name, of in leave.items()}
    recall = {name: np.mean([one[0] for one in rows]) for name, rows in hand.items()}
    assert gain["value"] == pytest.approx(recall[OURS] - recall[SUPERVISED])
    assert gain["value"] > 0.2
    assert gain["low"] is not None
    assert gain["high"] is not None
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    back = recall_gain(left[SUPERVISED], left[OURS])
    assert back["value"] == pytest.approx(-gain["value"])
    assert recall_gain(left[OURS], left[OURS]) == {"value": 0.0, "low": 0.0, "high": 0.0}

    seeds = with_intensity(system(3.0, 0))
    verdict = judge({OURS: seeds}, asked, leave_out=leave)
    json.dumps(verdict, allow_nan=False)
    table = verdict["test"]["traffic"]
    assert table["leave_one_family_out_mean"]["recall"]["value"] == pytest.approx(recall[OURS])
    other = verdict["baselines"][SUPERVISED]["traffic"]
    for name, found in ((OURS, table), (SUPERVISED, other)):
        rates = [one[1] for one in hand[name]]
        each = [
            found["leave_one_family_out"][c]["false_positive_rate"]["value"] for c in protocol.classes[1:]
        ]
        assert each == pytest.approx(rates)
        mean = found["leave_one_family_out_mean"]["false_positive_rate"]["value"]
        assert mean == pytest.approx(np.mean(rates))
        assert found["leave_one_family_out"]["flood"]["recall_by_intensity"]
    rows = {row["name"]: row for row in verdict["comparison"]}
    claim = rows["unknown families, by the self-supervised score"]
    assert claim["value"] == gain["value"]
    assert claim["holds"]
    assert rows["at the same false alarms"]["against"] == SUPERVISED


def test_without_known_strength_the_gain_is_of_plain_recall(system: Make, protocol: Protocol) -> None:
    leave = {OURS: {1: system(3.0, 0)}, "other": {1: system(1.5, 1)}}
    left = judge_families(leave, protocol)
    expected = left[OURS][1].values["recall"] - left["other"][1].values["recall"]
    assert recall_gain(left[OURS], left["other"])["value"] == pytest.approx(expected)


def of_site(seeds: list[SeedScores], site: int, shift: float) -> list[SeedScores]:
    """As if trained without the site: validation of the others, test of the site, scores worse by `shift`."""
    found = []
    for seed in seeds:
        assert seed.validation is not None
        parts = []
        for scored, own in (
            (seed.validation, seed.validation.site != site),
            (seed.test, seed.test.site == site),
        ):
            score = scored.score[own] - shift * (scored.y[own] > 0)
            parts.append(
                dataclasses.replace(
                    scored, score=score, y=scored.y[own], valid=scored.valid[own], site=scored.site[own]
                )
            )
        found.append(SeedScores(validation=parts[0], test=parts[1]))
    return found


def test_sites_left_out_stand_in_the_tables_with_their_mean(system: Make, protocol: Protocol) -> None:
    systems = {OURS: system(3.0, 0), "pooled": system(3.0, 1)}
    away = {
        name: {site: of_site(seeds[:2], site, shift) for site in (0, 2)}
        for (name, seeds), shift in zip(systems.items(), (1.0, 0.5), strict=True)
    }
    names = ("north", "south", "east", "west")
    verdict = judge(systems, protocol, leave_out_sites=away, site_names=names)
    json.dumps(verdict, allow_nan=False)
    table = verdict["test"]["traffic"]
    assert set(table["leave_one_site_out"]) == {"north", "east"}
    for metric in ("auroc", "recall", "false_positive_rate"):
        each = [one[metric]["value"] for one in table["leave_one_site_out"].values()]
        assert table["leave_one_site_out_mean"][metric]["value"] == pytest.approx(np.mean(each))
    row = next(row for row in verdict["comparison"] if row["metric"] == "leave_one_site_out_mean.auroc")
    other = verdict["baselines"]["pooled"]["traffic"]["leave_one_site_out_mean"]["auroc"]["value"]
    assert row["value"] == pytest.approx(table["leave_one_site_out_mean"]["auroc"]["value"] - other)
    gain = table["leave_one_site_out_mean"]["taking_part"]
    assert gain["auroc"]["value"] > 0
    assert gain["auroc"]["low"] <= gain["auroc"]["value"] <= gain["auroc"]["high"]


def test_nothing_is_gained_where_nothing_changes(system: Make, protocol: Protocol) -> None:
    seeds = system(2.0, 0)
    given_sites = {1: of_site(seeds, 1, 0.0)}
    left = judge_sites({OURS: given_sites}, protocol)[OURS]
    assert taking_part(seeds, left, given_sites, protocol)["auroc"]["value"] == pytest.approx(0.0)
    assert taking_part(system(2.0, 0, seeds=3)[::-1], left, given_sites, protocol) == {}


def test_a_threshold_of_one_s_own_is_no_gain_of_taking_part(system: Make, protocol: Protocol) -> None:
    """A site scores higher than the others, alike with and without it: its own threshold is left aside."""

    def higher(part: Scored) -> Scored:
        return dataclasses.replace(part, score=part.score + 1.0 * (part.site == 1)[:, None])

    seeds = [SeedScores(validation=higher(s.validation), test=higher(s.test)) for s in system(2.0, 0)]
    given_sites, gains = {1: of_site(seeds, 1, 0.0)}, {}
    for how in ("median", "own"):
        asked = dataclasses.replace(protocol, thresholds=how, false_positive_rate=0.05)
        left = judge_sites({OURS: given_sites}, asked)[OURS]
        gains[how] = taking_part(seeds, left, given_sites, asked)
        points = operating_points(seeds[0].validation, asked)
    assert points.thresholds["main"][1] > points.thresholds["main"][EVERYONE] + 0.5
    assert gains["own"] == gains["median"]
    assert gains["own"]["auroc"]["value"] == pytest.approx(0.0)


def test_sites_share_the_draw_of_seeds_and_draw_their_own_units(system: Make, protocol: Protocol) -> None:
    seeds = system(2.0, 0)
    first, second, again = (draws_for(seeds, protocol, group) for group in (0, 1, 0))
    for a, b, c in zip(first.slots, second.slots, again.slots, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert any((a != b).any() for a, b in zip(first.counts, second.counts, strict=True))
    assert all((a == c).all() for a, c in zip(first.counts, again.counts, strict=True))
