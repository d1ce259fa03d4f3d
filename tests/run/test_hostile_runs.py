"""Hostile sites from a plan to a report: what they falsify, and what is left as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from lazaretto import runlog
from lazaretto.cli import main
from lazaretto.commands import write_page
from lazaretto.data.streams import select
from lazaretto.evaluate.operating import EDGES, EVERYONE
from lazaretto.evaluate.scored import Scored, SeedScores
from lazaretto.evaluate.thresholds import MAIN_POINT, operating_of
from lazaretto.keys import generator
from lazaretto.plan import Plan, load_plan
from lazaretto.privacy.counts import CountNoise
from lazaretto.run import coordinator
from lazaretto.run.agreed import agree_common, agree_operating, agree_threshold, as_told
from lazaretto.run.experiment import run_plan
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared, prepare
from lazaretto.run.protocol import protocol_of
from lazaretto.run.saved import load_arrays
from lazaretto.types import TEST, TRAIN, VALIDATION, Message
from lazaretto.wire import decode_message, encode_message

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


def test_false_scores_silence_a_run_and_no_ranking_and_a_vote_holds(tmp_path: Path) -> None:
    """What is judged and kept is what was told; updates, scaling and systems on pooled data stay honest."""

    def run(name: str, *words: str) -> tuple[dict[str, Any], float]:
        out = tmp_path / name.replace(" ", "_")
        run_plan(load_plan(plan_file(tmp_path, ""), sets=list(words)), out)
        _, kept = load_arrays(out / "model.safetensors")
        main_one = float(kept["operating"]["thresholds"]["main"][str(EVERYONE)])
        return json.loads((out / "metrics.json").read_text()), main_one

    lied = ("attack.name=threshold_poisoning", "attack.share=0.4")
    voted = ("evaluate.thresholds=median",)
    (honest, fine), (silent, far), (held, voted_on), (loud, low) = (
        run("honest"),
        run("silent", *lied),
        run("held", *lied, *voted),
        run("loud", *lied, "attack.options={ end = 'lowest' }"),
    )
    ours = [found["test"]["traffic"] for found in (honest, silent, held, loud)]
    assert len({one["auroc"]["value"] for one in ours}) == 1
    assert len({one["calibration_error"]["value"] for one in ours}) == 1
    assert ours[0]["recall"]["value"] > 0
    assert far > 1e8 > 1e3 * abs(fine)
    assert [ours[1][name]["value"] for name in ("recall", "f1", "false_positive_rate")] == [0.0, 0.0, 0.0]
    assert low < fine
    assert ours[3]["false_positive_rate"]["value"] > ours[0]["false_positive_rate"]["value"]
    assert ours[2]["recall"]["value"] > 0
    assert abs(voted_on - fine) < 10
    for found in (silent, loud):
        assert found["baselines"]["logistic_regression"] == honest["baselines"]["logistic_regression"]
    for point in ours[1]["operating_points"].values():
        assert point["recall"]["value"] == 0.0
    assert "are hostile in this simulation" in write_page(tmp_path / "silent").read_text(encoding="utf-8")


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


def scores_of(prepared: Prepared, by_site: bool = False) -> SeedScores:
    """Invented scores of validation and test units."""
    found = {}
    for name, split in (("validation", VALIDATION), ("test", TEST)):
        part = select(prepared.data, prepared.data.split == split)
        score = generator(6, name).standard_normal(part.y.shape) + 3.0 * (part.y > 0)
        group = part.site if by_site else None
        found[name] = Scored(score=score, y=part.y, valid=part.judged, site=part.site, threshold_group=group)
    return SeedScores(**found)


@pytest.mark.parametrize("how", ["sum", "median", "own"])
@pytest.mark.parametrize("door", ["none", "sharing"])
def test_false_scores_go_the_way_of_true_ones(how: str, door: str, tmp_path: Path) -> None:
    """The same kinds of messages, as many bytes, nobody refused; what is told is what is judged by."""
    sets = [f'evaluate.thresholds="{how}"', f'secure.protocol="{door}"']
    told, main_ones, rows, own_ones = [], [], [], []
    for name in ("", "threshold_poisoning"):
        plan = load_plan(plan_file(tmp_path, name), sets=sets)
        prepared, sent = prepare(plan, 0, Post()), list[Message]()
        post, scores, protocol = Post(tap=sent.append), scores_of(prepared), protocol_of(plan, prepared)
        operating, refused = agree_common(prepared, scores, protocol, post)
        assert not refused
        assert (operating is None) == (not name)
        judged = operating or operating_of(scores, protocol, "here")
        main_ones.append(judged.thresholds[MAIN_POINT][EVERYONE])
        own_ones.append(
            {site: one for site, one in judged.thresholds[MAIN_POINT].items() if site != EVERYONE}
        )
        assert as_told(prepared, scores, protocol).operating == operating
        told.append({float(np.asarray(m.payload["value"])[0]) for m in sent if m.kind == "threshold"})
        rows.append({row["kind"]: (row["count"], row["bytes"]) for row in post.rows()})
    assert told == [{float(np.float32(one))} for one in main_ones]
    assert rows[0] == rows[1]
    assert (main_ones[1] > 1e8) == (how == "sum")
    assert own_ones[0] == own_ones[1]
    assert bool(own_ones[0]) == (how == "own")
    assert main_ones[1] > main_ones[0]


@pytest.mark.parametrize("how", ["sum", "median", "own"])
def test_a_threshold_that_nothing_passes_is_told_as_none(
    how: Literal["sum", "median", "own"], tmp_path: Path
) -> None:
    """Scores beyond all that is counted have no threshold; infinity would be no message between processes."""
    plan = load_plan(plan_file(tmp_path, ""))
    prepared, sent = prepare(plan, 0, Post()), list[Message]()
    validation = scores_of(prepared).validation
    assert validation is not None
    beyond = np.full_like(validation.score, 2.0 * EDGES[-1])
    agree_threshold(prepared, beyond, 0.05, Post(tap=sent.append), how)
    told = [message for message in sent if message.kind == "threshold"]
    assert len(told) == len(prepared.site_names)
    for message in told:
        arrived = decode_message(encode_message(message)).payload["value"]
        assert arrived.shape == (0,)
        assert arrived.dtype == np.float32


@pytest.mark.parametrize("by_site", [True, False])
def test_false_scores_among_noisy_counts(by_site: bool, tmp_path: Path) -> None:
    """They stay within the cells that are counted; where each site has its own threshold none is said."""
    found = []
    for name in ("", "threshold_poisoning"):
        plan = load_plan(plan_file(tmp_path, name))
        prepared = prepare(plan, 0, Post())
        prepared = replace(
            prepared,
            count_noise=CountNoise(unit="patient", noise_multiplier=0.0, normals=lambda what, site: np.zeros),
        )
        part = select(prepared.data, prepared.data.split == VALIDATION)
        scores, post = scores_of(prepared, by_site), None if by_site else Post()
        assert scores.validation is not None
        operating = agree_operating(
            prepared, part, scores.validation.score, protocol_of(plan, prepared), post
        )
        found.append(operating.thresholds[MAIN_POINT])
        if by_site:
            assert as_told(prepared, scores, protocol_of(plan, prepared)) is scores
    assert (found[0] == found[1]) == by_site
    assert by_site or found[1][EVERYONE] > 100


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
