"""Trusted data at the coordinator: what is drawn, that nobody else trains on it, and a run that uses it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lazaretto import runlog
from lazaretto.data.root_units import draw_root
from lazaretto.data.sites import Partition
from lazaretto.data.streams import Streams, family_of
from lazaretto.errors import DataError
from lazaretto.keys import generator
from lazaretto.plan import Plan, load_plan
from lazaretto.run.away import without_site
from lazaretto.run.experiment import run_plan
from lazaretto.run.post import LEAVES_THE_SITE, Post
from lazaretto.run.prepare import Prepared, members, prepare
from lazaretto.run.root import root_streams
from lazaretto.types import TEST, TRAIN

PLAN = """
[run]
seeds = [0]
[data.options]
sites = 4
units_per_site = 12
windows = 2
[model.options]
channels = 8
hidden = 8
[train]
rounds = 3
[aggregate]
rule = "fltrust"
root_units = 8
[evaluate]
baselines = []
leave_one_family_out = false
false_positive_rate = 0.2
bootstrap = 100
"""
HOSTILE = ("attack.name=label_flip", "attack.share=0.4")


def plan_of(folder: Path, *sets: str) -> Plan:
    (folder / "plan.toml").write_text(PLAN)
    return load_plan(folder / "plan.toml", sets=sets)


def table(sites: list[int], splits: list[int], families: list[int]) -> tuple[Streams, Partition]:
    """One stream of one step for each of the lists' entries."""
    u, site = len(sites), np.array(sites)
    data = Streams(
        x=np.zeros((u, 1, 1), np.float32),
        y=np.array(families)[:, None],
        valid=np.ones((u, 1), bool),
        judged=np.ones((u, 1), bool),
        unit=np.arange(u),
        site=site,
        split=np.array(splits),
        start_time=np.zeros(u),
        features=("one",),
        window=1,
    )
    names = tuple(f"site {k}" for k in range(site.max() + 1))
    return data, Partition(site=site, site_names=names, withheld=np.zeros((len(names), 4), bool))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_site_gives_its_share_and_keeps_something(draw: st.DataObject) -> None:
    count = draw.draw(st.integers(4, 60))
    sites, splits, families = (
        draw.draw(st.lists(st.integers(0, top), min_size=count, max_size=count)) for top in (4, 2, 3)
    )
    data, parts = table(sites, splits, families)
    held = np.bincount(data.site[data.split == TRAIN], minlength=len(parts.site_names))
    offered = held[held > 1]
    assume(offered.sum() >= 2)
    units = draw.draw(st.integers(1, int(offered.sum()) // 2))
    seed = draw.draw(st.integers(0, 99))
    drawn = draw_root(data, parts, units, generator(seed, "root"))
    moved = drawn.site == len(parts.site_names)
    assert moved.sum() == units
    assert (data.split[moved] == TRAIN).all()
    np.testing.assert_array_equal(drawn.site[~moved], data.site[~moved])
    given_up = np.bincount(data.site[moved], minlength=len(held))
    share = np.where(held > 1, held, 0) * units / offered.sum()
    assert (np.abs(given_up - share) < 1 + 1e-9).all()
    assert (given_up < np.maximum(held, 1)).all()
    again = draw_root(data, parts, units, generator(seed, "root"))
    np.testing.assert_array_equal(again.site, drawn.site)


def test_families_come_as_often_as_there_are() -> None:
    data, parts = table([0] * 100 + [1] * 100, [TRAIN] * 200, ([0] * 60 + [1] * 30 + [2] * 10) * 2)
    drawn = draw_root(data, parts, 20, generator(3, "root"))
    found = np.bincount(family_of(data)[drawn.site == 2], minlength=3)
    assert np.abs(found - [12, 6, 2]).max() <= 1


def test_too_much_and_nothing() -> None:
    data, parts = table([0, 0, 0, 1], [TRAIN] * 4, [0] * 4)
    assert draw_root(data, parts, 0, generator(0, "root")) is data
    with pytest.raises(DataError, match="leave sites with too little") as error:
        draw_root(data, parts, 2, generator(0, "root"))
    assert "aggregate.root_units = 2" in str(error.value)
    assert "at most 1" in str(error.value)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("honest")
    return prepare(plan_of(folder, "evaluate.leave_one_site_out=1"), 0, Post())


def test_an_attack_falsifies_the_sites_alone(honest: Prepared, tmp_path: Path) -> None:
    """The same units with an attack and without, so that runs compare; as true as before."""
    attacked = prepare(plan_of(tmp_path, *HOSTILE), 0, Post())
    rows = root_streams(honest)
    assert len(rows) == 8
    np.testing.assert_array_equal(root_streams(attacked), rows)
    np.testing.assert_array_equal(attacked.data.y[rows], honest.data.y[rows])
    np.testing.assert_array_equal(attacked.data.x[rows], honest.data.x[rows])
    assert (attacked.data.y != honest.data.y).any()
    assert not set(rows) & set(np.concatenate(members(honest)))
    assert len(set(honest.parts.site[rows])) > 2
    assert any("holds 8 training units" in note for note in honest.sheet["notes"])


def test_a_site_that_is_left_out_gives_nothing_to_the_root_data(honest: Prepared) -> None:
    away = without_site(honest, 0, Post())
    theirs = root_streams(honest)
    kept = theirs[honest.parts.site[theirs] != 0]
    assert len(kept) < len(theirs)
    units = honest.data.unit[kept]
    np.testing.assert_array_equal(np.sort(away.data.unit[root_streams(away)]), np.sort(units))
    gone = set(honest.data.unit[(honest.parts.site == 0) & (honest.data.split != TEST)])
    assert not gone & set(away.data.unit)


def test_a_family_left_out_is_left_out_of_the_root_data_too(honest: Prepared) -> None:
    family = int(family_of(honest.data)[root_streams(honest)].max())
    rows = root_streams(honest, family)
    assert 0 < len(rows) < 8
    assert not (honest.data.y[rows] == family).any()


def test_a_run_with_root_data_sends_no_message_for_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_plan(plan_of(tmp_path, "attack.name=sign_flip", "attack.share=0.4"), out)
    metrics = json.loads((out / "metrics.json").read_text())
    assert np.isfinite(metrics["test"]["traffic"]["auroc"]["value"])
    (messages,) = [record.body for record in runlog.read(out / "run.sqlite", "messages")]
    count = {row["kind"]: row["count"] for row in messages["rows"]}
    assert count["update"] == 3 * 4, "of the sites alone"
    assert {row["kind"] for row in messages["rows"] if row["direction"] == "up"} <= {
        *LEAVES_THE_SITE,
        "activations",
        "bottom gradient",
        "trained bottom",
    }
    sheet = next(runlog.read(out / "run.sqlite", "data")).body
    hostile = set(sheet["attack"]["sites"])
    rounds = [record.body for record in runlog.read(out / "run.sqlite", "round")]
    said = [{one["name"]: one["suspicion"] for one in body["suspected"]} for body in rounds]
    assert all(one[name] == 1 for one in said for name in hostile)
    assert all(one[name] < 1 for one in said for name in one.keys() - hostile)
    assert sum(site["train_units"] for site in sheet["sites"]) + 8 == sheet["splits"]["train"]["units"]
