"""The worked cases of a report: a detected campaign, and one where traffic and record disagree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lazaretto.data.streams import select
from lazaretto.evaluate.operating import EVERYONE, probability
from lazaretto.evaluate.scored import OURS, Protocol, SeedScores
from lazaretto.evaluate.thresholds import MAIN_POINT, operating_of
from lazaretto.plan import Plan, load_plan
from lazaretto.run.bench import scored_part
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared, prepare
from lazaretto.run.protocol import protocol_of
from lazaretto.run.timeline import disagreement, timeline
from lazaretto.types import TEST, VALIDATION

PLAN = """
[run]
seeds = [0]
setting = "combined"
[data]
source = "consortium"
modality = "combined"
options = { sites = 2, units_per_site = 40, windows = 2 }
[model]
name = "fusion"
[evaluate]
false_positive_rate = 0.05
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    file = tmp_path_factory.mktemp("plan") / "plan.toml"
    file.write_text(PLAN)
    return load_plan(file)


@pytest.fixture(scope="module")
def given(plan: Plan) -> tuple[Prepared, Protocol]:
    prepared = prepare(plan, 0, Post())
    return prepared, protocol_of(plan, prepared)


def scores(prepared: Prepared, seen: np.ndarray) -> SeedScores:
    """A system whose score is 2 on attacked steps of the test units of `seen` [u], else below 1."""
    rng, made = np.random.default_rng(0), []
    for split in (VALIDATION, TEST):
        part = select(prepared.data, prepared.data.split == split)
        caught = np.ones(len(part.y), bool) if split == VALIDATION else seen
        score = rng.random(part.y.shape) + 2.0 * ((part.y > 0) & caught[:, None])
        made.append(scored_part(prepared, split, score.astype(np.float32)))
    return SeedScores(validation=made[0], test=made[1])


def test_traffic_and_record_disagree(given: tuple[Prepared, Protocol], plan: Plan, tmp_path: Path) -> None:
    """Each modality sees every other unit and ours all, so that in a case one of the two is silent."""
    prepared, protocol = given
    units = int((prepared.data.split == TEST).sum())
    even = np.arange(units) % 2 == 0
    systems = {
        OURS: [scores(prepared, np.ones(units, bool))],
        "traffic_only": [scores(prepared, even)],
        "record_only": [scores(prepared, ~even)],
    }
    case = disagreement(prepared, systems, protocol)
    assert case is not None
    assert 0 < case["of"] <= case["campaigns"]  # a false alarm may fall into an attack
    truth = np.array(case["truth"], bool)
    alarmed = {
        name: bool((np.array(line)[truth] > case["other_thresholds"][name]).any())
        for name, line in case["others"].items()
    }
    assert sorted(alarmed.values()) == [False, True]
    assert (np.array(case["score"])[truth] > case["threshold"]).any()
    detected = timeline(prepared, systems, protocol)
    journal = open_journal(tmp_path / "run", plan, resume=False, show=quiet)
    for one in (detected, case):
        assert one is not None
        journal.record("timeline", one)
    assert len(journal.seen) == 2, "both stand in the log"


def test_a_case_shows_the_threshold_of_its_own_site(given: tuple[Prepared, Protocol]) -> None:
    """Alarms of the case are those of its site's threshold, which is not the other site's."""
    prepared, protocol = given
    own = replace(protocol, thresholds="own")
    loud = scores(prepared, np.ones(int((prepared.data.split == TEST).sum()), bool))
    assert loud.validation is not None
    # what is normal at site 1 scores higher
    shifted = {
        name: replace(part, score=part.score + 0.5 * (part.site == 1)[:, None])
        for name, part in (("validation", loud.validation), ("test", loud.test))
    }
    systems = {OURS: [SeedScores(**shifted)]}
    operating = operating_of(systems[OURS][0], own, "here")
    one, other = (operating.thresholds[MAIN_POINT][site] for site in (0, 1))
    assert other > one + 0.3
    case = timeline(prepared, systems, own)
    assert case is not None
    threshold = operating.thresholds[MAIN_POINT][prepared.site_names.index(case["site"])]
    assert case["threshold"] == probability(operating.platt[EVERYONE], np.array([threshold]))[0]


def test_no_case_where_both_see_the_same(given: tuple[Prepared, Protocol]) -> None:
    prepared, protocol = given
    units = int((prepared.data.split == TEST).sum())
    all_of_them = [scores(prepared, np.ones(units, bool))]
    both = {OURS: all_of_them, "traffic_only": all_of_them, "record_only": all_of_them}
    assert disagreement(prepared, both, protocol) is None
    assert disagreement(prepared, {OURS: all_of_them}, protocol) is None
