"""A site that is left out takes no part: not in scaling, not in training, not in thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto.data.scaling import apply_scaling
from lazaretto.errors import Interrupted
from lazaretto.evaluate.scored import OURS
from lazaretto.plan import Plan, load_plan
from lazaretto.run import systems
from lazaretto.run.away import sites_to_leave_out, without_site
from lazaretto.run.bench import Bench, Job, make_bench
from lazaretto.run.experiment import run_plan
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared, members, prepare
from lazaretto.types import TEST, TRAIN, VALIDATION, Message

MARKER = 12_345.0
SITE = 1


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(
        "[run]\nseeds = [3]\n[data.options]\nsites = 3\nunits_per_site = 14\nwindows = 2\n"
        '[model]\nname = "gru"\noptions = { hidden = 4 }\n[cut]\nenabled = false\n'
        "[train]\nrounds = 2\n[evaluate]\nleave_one_site_out = 2\nwindow_rows = 500\nwindow_steps = 4\n"
    )
    return load_plan(path)


@pytest.fixture(scope="module")
def whole(plan: Plan) -> Prepared:
    return prepare(plan, 3, Post())


@pytest.fixture(scope="module")
def marked(whole: Prepared) -> Prepared:
    """The same, but whatever SITE holds for training and validation is replaced by a marker and attacked."""
    own = (whole.data.site == SITE) & (whole.data.split != TEST)
    assert whole.raw is not None
    raw, x, y = whole.raw.x.copy(), whole.data.x.copy(), whole.data.y.copy()
    raw[own], x[own], y[own] = MARKER, MARKER, 1
    return replace(whole, raw=replace(whole.raw, x=raw), data=replace(whole.data, x=x, y=y))


@pytest.fixture
def bench(plan: Plan, tmp_path: Path) -> Callable[[Prepared, str], Bench]:
    def make(prepared: Prepared, name: str) -> Bench:
        journal = open_journal(tmp_path / name, plan, resume=False, show=quiet)
        return make_bench(plan, [prepared], [Post()], journal)

    return make


def test_the_marker_would_be_seen_where_it_is_not_taken_away(marked: Prepared) -> None:
    assert (marked.data.x == MARKER).any()


def test_nothing_that_the_site_trains_on_is_left(whole: Prepared, marked: Prepared) -> None:
    sent: list[Message] = []
    found, clean = without_site(marked, SITE, Post(sent.append)), without_site(whole, SITE, Post())
    np.testing.assert_array_equal(found.scaling.center, clean.scaling.center)
    np.testing.assert_array_equal(found.scaling.scale, clean.scaling.scale)
    np.testing.assert_array_equal(found.data.x, clean.data.x)
    np.testing.assert_array_equal(found.data.y, clean.data.y)
    left_out = whole.site_names[SITE]
    assert left_out not in {party for message in sent for party in (message.sender, message.receiver)}
    assert found.site_names == tuple(name for name in whole.site_names if name != left_out)


def test_the_others_train_and_the_site_is_judged(whole: Prepared) -> None:
    found, data = without_site(whole, SITE, Post()), whole.data
    for split, own in (
        (TRAIN, data.site != SITE),
        (VALIDATION, data.site != SITE),
        (TEST, data.site == SITE),
    ):
        expected = data.unit[(data.split == split) & own]
        np.testing.assert_array_equal(found.data.unit[found.data.split == split], expected)
        assert len(expected) > 0
    assert set(found.data.site[found.data.split == TEST]) == {len(found.site_names)}
    for place, rows in enumerate(members(found)):
        name = found.site_names[place]
        there = whole.site_names.index(name)
        units = data.unit[(data.site == there) & (data.split == TRAIN)]
        np.testing.assert_array_equal(found.data.unit[rows], units)
        np.testing.assert_array_equal(found.parts.withheld[place], whole.parts.withheld[there])


def test_the_others_agree_on_a_scaling_of_their_own(whole: Prepared) -> None:
    found = without_site(whole, SITE, Post())
    assert (found.scaling.center != whole.scaling.center).any()
    rows = (whole.data.site == SITE) == (whole.data.split == TEST)
    assert whole.raw is not None
    there = found.data.valid
    np.testing.assert_array_equal(found.data.x[there], apply_scaling(found.scaling, whole.raw.x[rows][there]))


def test_trained_systems_do_not_lean_on_the_site(
    whole: Prepared, marked: Prepared, bench: Callable[[Prepared, str], Bench]
) -> None:
    clean, planted = bench(whole, "clean"), bench(marked, "planted")
    job = Job(place=0, without_site=SITE)

    def train(one: Bench) -> list[systems.SeedScores]:
        return [systems.federated(one, OURS, job)[0], *systems.centralised(one, "pooled", [job])]

    first = train(clean)
    planted.programs.update(clean.programs)  # compiled once
    for a, b in zip(first, train(planted), strict=True):
        np.testing.assert_array_equal(a.test.score, b.test.score)
        assert a.validation is not None
        assert b.validation is not None
        np.testing.assert_array_equal(a.validation.score, b.validation.score)
        np.testing.assert_array_equal(a.validation.y, b.validation.y)
        assert len(a.test.site) == int(((whole.data.site == SITE) & (whole.data.split == TEST)).sum())
        assert len(set(a.validation.site)) == len(whole.site_names) - 1


def test_sites_are_taken_in_order_as_many_as_asked_for(plan: Plan, whole: Prepared) -> None:
    def asked(count: object, prepared: Prepared = whole) -> list[int]:
        evaluate = plan.evaluate.model_copy(update={"leave_one_site_out": count})
        return sites_to_leave_out(plan.model_copy(update={"evaluate": evaluate}), [prepared])

    assert [asked(0), asked(2), asked(9), asked("all")] == [[], [0, 1], [0, 1, 2], [0, 1, 2]]
    rows = ~((whole.data.site == 0) & (whole.data.split == TEST))
    assert asked(2, replace(whole, data=systems.select(whole.data, rows))) == [1, 2]
    assert asked("all", replace(whole, site_names=("alone",))) == []


def test_raw_features_are_kept_only_where_sites_are_left_out(plan: Plan) -> None:
    evaluate = plan.evaluate.model_copy(update={"leave_one_site_out": 0})
    assert prepare(plan.model_copy(update={"evaluate": evaluate}), 3, Post()).raw is None


def test_as_many_parts_are_announced_as_are_made(plan: Plan, tmp_path: Path) -> None:
    names = ("local", "unsplit", "unprotected", "pooled", "cnn", "gradient_boosting", "rate_threshold")
    asked = plan.evaluate.model_copy(update={"baselines": names, "leave_one_family_out": True})
    run = plan.run.model_copy(update={"seeds": (3, 4)})
    both = plan.model_copy(update={"evaluate": asked, "run": run})
    seen: list[tuple[str, Mapping[str, Any]]] = []

    def show(event: str, body: Mapping[str, Any]) -> None:
        seen.append((event, dict(body)))
        if event == "stage" and body["name"] == "local" and not any(kind == "kept" for kind, _ in seen):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run_plan(both, tmp_path / "out", show=show)
    begun = len(seen)
    run_plan(both, tmp_path / "out", resume=True, show=show)
    first, second = (body["parts"] for event, body in seen if event == "ahead")
    made = [body["name"] for event, body in seen[begun:] if event in ("stage", "kept")]
    assert any("without" in name for name in made)
    assert any(event == "kept" for event, _ in seen[begun:])
    assert first == second == sum(name not in ("prepare data", "judge") for name in made)
