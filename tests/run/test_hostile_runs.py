"""Hostile sites from a plan to a report: what they falsify, and what is left as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lazaretto import runlog
from lazaretto.cli import main
from lazaretto.data.streams import select
from lazaretto.plan import Plan, load_plan
from lazaretto.run import coordinator
from lazaretto.run.experiment import run_plan
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare
from lazaretto.types import TEST, TRAIN, VALIDATION

PLAN = """
[run]
seeds = [0]
[data]
source = "consortium"
options = { sites = 5, units_per_site = 12, windows = 2 }
[train]
rounds = 2
[aggregate]
rule = "nnm | multi_krum"
[attack]
name = "NAME"
share = 0.4
[evaluate]
baselines = ["logistic_regression"]
leave_one_family_out = false
false_positive_rate = 0.2
bootstrap = 100
"""


def plan_file(folder: Path, name: str) -> Path:
    text = PLAN.replace("NAME", name)
    if not name:
        text = text.replace("share = 0.4\n", "")
    (folder / "plan.toml").write_text(text)
    return folder / "plan.toml"


def plan_of(folder: Path, name: str) -> Plan:
    return load_plan(plan_file(folder, name))


def test_false_data_is_the_hostile_sites_training_alone(tmp_path: Path) -> None:
    honest, flipped = (prepare(plan_of(tmp_path, name), 0, Post()) for name in ("", "label_flip"))
    assert honest.hostile is None
    assert flipped.hostile is not None
    assert flipped.hostile.sum() == 2
    assert flipped.sheet["attack"]["sites"] == [
        name for name, bad in zip(flipped.site_names, flipped.hostile, strict=True) if bad
    ]
    assert "are hostile in this simulation (label_flip)" in flipped.sheet["notes"][0]
    np.testing.assert_array_equal(flipped.scaling.scale, honest.scaling.scale)
    for split in (TRAIN, VALIDATION, TEST):
        for site in range(5):
            rows = np.flatnonzero((honest.data.split == split) & (honest.data.site == site))
            before, after = (select(one.data, rows).y for one in (honest, flipped))
            false = split == TRAIN and flipped.hostile[site]
            assert np.array_equal(before, after) != false, (split, site)


def test_false_counts_move_everyone_s_scaling(tmp_path: Path) -> None:
    """As the threat model says: above a twentieth of the sites they can."""
    honest, stretched = (prepare(plan_of(tmp_path, name), 0, Post()) for name in ("", "scale_poisoning"))
    assert (stretched.scaling.scale > 1e3 * honest.scaling.scale).all()
    np.testing.assert_array_equal(stretched.data.y, honest.data.y)


@pytest.mark.parametrize("end", ["top", "both"])
def test_the_median_holds_where_the_sum_does_not_and_names_who_lied(end: str, tmp_path: Path) -> None:
    plan = plan_file(tmp_path, "")
    words = ('data.scaling="median"',)
    lied = ("attack.name=scale_poisoning", "attack.share=0.4", f"attack.options={{ end = '{end}' }}")
    honest, held = (prepare(load_plan(plan, sets=changes), 0, Post()) for changes in (words, [*words, *lied]))
    ratio = held.scaling.scale / honest.scaling.scale
    # "top" says that nothing varies: what is left of five hospitals is the least scale of three that differ
    assert ((ratio > 0.03) & (ratio < 10)).all(), "two of five hospitals lie, and the other three differ"
    moved = np.abs(held.scaling.center - honest.scaling.center) / honest.scaling.scale
    assert moved.max() < 1
    told = [note for note in held.sheet["notes"] if "counts lie far" in note]
    assert {note.partition("'s counts")[0] for note in told} == set(held.sheet["attack"]["sites"])
    assert not any("counts lie far" in note for note in honest.sheet["notes"])


def test_the_median_of_honest_hospitals_is_near_their_sum(tmp_path: Path) -> None:
    """They differ, and little is lost; nothing is known of single sites where the sum alone is read."""
    plan = plan_file(tmp_path, "")
    summed, middle = (
        prepare(
            load_plan(
                plan, sets=[f'data.scaling="{how}"', "data.options={ sites = 9, units_per_site = 30 }"]
            ),
            1,
            Post(),
        )
        for how in ("sum", "median")
    )
    ratio = middle.scaling.scale / summed.scaling.scale
    assert 0.9 < np.median(ratio) <= 1.1
    assert ((ratio > 0.4) & (ratio < 1.3)).all()
    assert (np.abs(middle.scaling.center - summed.scaling.center) / summed.scaling.scale).max() < 0.25
    assert [note for note in middle.sheet["notes"] if "counts lie far" in note] == []


@pytest.mark.parametrize("camps", [True, False])
def test_a_camp_counts_unless_the_plan_says_otherwise(
    camps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is flagged all the same."""
    monkeypatch.setattr(
        coordinator,
        "camp_flags",
        lambda sums, sites, names: [{"site": names[0], "kind": "camp", "reason": "made up"}],
    )
    words = ["aggregate.rule=geometric_median", "reputation.suspected_at=1", "train.rounds=4"]
    words += ["reputation.enabled=true", "reputation.decay=0.3"]
    words.append(f"reputation.camps={str(camps).lower()}")
    run_plan(load_plan(plan_file(tmp_path, ""), sets=words), tmp_path / "out")
    rounds = [record.body for record in runlog.read(tmp_path / "out" / "run.sqlite", "round")]
    out = {name for body in rounds for name in body["quarantined"]}
    flagged = {flag["site"] for body in rounds for flag in body["flags"] if flag["kind"] == "camp"}
    assert len(flagged) == 1
    assert out == (flagged if camps else set())


def test_a_run_under_attack_says_so_and_tries_the_trigger(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["run", str(plan_file(tmp_path, "model_replacement")), "--out", str(out), "--quiet"]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    shown = metrics["baselines"]["with_trigger"]["traffic"]
    assert set(shown) >= {"auroc", "recall"}
    rows = {row["name"]: row for row in metrics["comparison"]}
    opened = rows["a backdoor does not open"]
    recall = metrics["test"]["traffic"]["recall"]["value"]
    assert opened["value"] == pytest.approx(1 - shown["recall"]["value"] / recall)
    sheet = next(runlog.read(out / "run.sqlite", "data")).body
    suspected = [
        one["name"] for record in runlog.read(out / "run.sqlite", "round") for one in record.body["suspected"]
    ]
    assert set(sheet["attack"]["sites"]) & set(suspected), "an update boosted by n / f stands out"
    page = (out / "report.html").read_text()
    assert "are hostile in this simulation" in page
    assert "the backdoor" in page


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[attack]\nname = 'sign_flip'\n", "attack.share"),
        ("[attack]\nshare = 0.2\n", "attack.name"),
        ("[attack]\nname = 'label_flip'\nshare = 0.2\n", "leave_one_family_out"),
        ("[attack]\nname = 'sign_flop'\nshare = 0.2\n", "did you mean 'sign_flip'"),
        ("[attack]\nname = 'sign_flip'\nshare = 0.2\n[evaluate]\nleave_one_site_out = 1\n", "not together"),
    ],
)
def test_plans_that_make_no_sense(
    more: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(more)
    assert main(["run", str(tmp_path / "plan.toml"), "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
