"""Series with gaps from files to a report: nothing that a model reads is NaN, and only judged steps count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lazaretto import catalog, runlog
from lazaretto.cli import main
from lazaretto.data.irregular import laid_out_names
from lazaretto.data.scaling import Scaling, apply_scaling
from lazaretto.data.streams import select, streams
from lazaretto.errors import DataError
from lazaretto.plan import Plan, load_plan
from lazaretto.run.away import without_site
from lazaretto.run.feature_map import match_features
from lazaretto.run.judge_new import _matched
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared, members, prepare, read
from lazaretto.run.saved import ModelMeta
from lazaretto.run.simulate import pack_sites
from lazaretto.types import TEST, TRAIN, VALIDATION

PLAN = """
[run]
seeds = [0]
setting = "record"
[data]
source = "physionet2012"
modality = "record"
options = { task = "TASK", step_hours = 6 }
[sites]
by = "natural"
[model]
name = "gru"
options = { hidden = 4 }
[cut]
enabled = false
[train]
rounds = 2
[evaluate]
baselines = ["local", "gradient_boosting"]
window_steps = 4
leave_one_family_out = false
leave_one_site_out = 1
bootstrap = 100
"""
STAYS = 96


@pytest.fixture(scope="module")
def stays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up stays of four types, in the published form; every other one dies, and is tachycardic."""
    place = tmp_path_factory.mktemp("stays")
    rng = np.random.default_rng(0)
    rows = ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
    for number in range(STAYS):
        ill = number // 4 % 2
        text = [
            "Time,Parameter,Value",
            f"00:00,RecordID,{number}",
            f"00:00,Age,{40 + number % 40}",
            "00:00,Gender,1",
            "00:00,Height,-1",
            f"00:00,ICUType,{1 + number % 4}",
            "00:00,Weight,80",
        ]
        for hour in range(48):
            for name, level, often in (("HR", 85 + 25 * ill, 0.8), ("Temp", 37, 0.3), ("Na", 140, 0.1)):
                if rng.random() < often:
                    text.append(f"{hour:02}:30,{name},{level + rng.normal(0, 2):.1f}")
        (place / f"{number}.txt").write_text("\n".join(text) + "\n")
        rows.append(f"{number},1,1,9,{5 if ill else -1},{ill}")
    (place / "Outcomes-a.txt").write_text("\n".join(rows) + "\n")
    return place


def plan_file(folder: Path, task: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.toml").write_text(PLAN.replace("TASK", task))
    return folder / "plan.toml"


def plan_of(folder: Path, task: str, stays: Path) -> Plan:
    return load_plan(plan_file(folder, task), sets=[f"data.path={stays}"])


@pytest.fixture(scope="module", params=["tampering", "mortality"])
def ran(request: pytest.FixtureRequest, stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(str(request.param))
    words = ["run", str(plan_file(folder, request.param)), "--data", str(stays), "--out", str(folder / "out")]
    assert main([*words, "--quiet"]) == 0
    return folder / "out"


def sheet_of(folder: Path) -> dict[str, object]:
    return dict(next(runlog.read(folder / "run.sqlite", "data")).body)


def prepared(tmp_path: Path, task: str, stays: Path) -> Prepared:
    return prepare(plan_of(tmp_path, task, stays), 0, Post())


def test_an_outcome_has_no_attacked_steps_to_overwrite(
    stays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "run",
        str(plan_file(tmp_path, "mortality")),
        "--data",
        str(stays),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*words, "--set", "train.patches=0.5"]) != 0
    assert "train.patches" in capsys.readouterr().err


def test_a_run_ends_with_a_report(ran: Path) -> None:
    metrics = json.loads((ran / "metrics.json").read_text())
    assert 0 <= metrics["test"]["record"]["auroc"]["value"] <= 1
    sheet = sheet_of(ran)
    assert "each of the 41 series reaches a model as three numbers" in " ".join(sheet["notes"]).lower()  # type: ignore[arg-type]
    assert len(sheet["features"]) == 41  # type: ignore[arg-type]
    assert (ran / "report.html").is_file()


def test_only_the_last_step_of_a_stay_is_judged(ran: Path) -> None:
    sheet = sheet_of(ran)
    splits: dict[str, dict[str, int]] = sheet["splits"]  # type: ignore[assignment]
    per_unit = {split["steps"] / split["units"] for split in splits.values()}
    if sheet["timed"]:
        assert per_unit == {8.0}
        return
    assert per_unit == {1.0}
    assert "All 768 steps are read; trained and judged are 96." in sheet["notes"]  # type: ignore[operator]
    metrics = json.loads((ran / "metrics.json").read_text())
    # heart rates 25 beats apart: whoever reads the whole stay cannot miss it
    assert metrics["baselines"]["gradient_boosting"]["record"]["auroc"]["value"] > 0.95
    assert "patients who died" in (ran / "report.html").read_text()


def test_a_trained_model_judges_what_it_kept_and_what_is_new(ran: Path, stays: Path) -> None:
    task = "tampering" if sheet_of(ran)["timed"] else "mortality"
    words = ["evaluate", str(ran), "--source", "physionet2012", "--data", str(stays)]
    options = ["--set", f"task={task}", "--set", "step_hours=6"]
    same = ran.parent / "same"
    assert main([*words, *options, "--out", str(same), "--quiet"]) == 0
    first, again = (
        json.loads((place / "metrics.json").read_text())["test"]["record"] for place in (ran, same)
    )
    assert first["auroc"]["value"] == pytest.approx(again["auroc"]["value"], abs=1e-6)
    other = ran.parent / "other"
    finer = ["--set", f"task={task}", "--set", "step_hours=3"]
    assert main([*words, *finer, "--out", str(other), "--quiet"]) == 0
    assert "A step was 6 hours in training, and is 3 hours here." in sheet_of(other)["notes"]  # type: ignore[operator]


def test_what_is_judged_is_there_once(ran: Path, stays: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(ran), "--source", "physionet2012", "--data", str(stays)]
    out = ran.parent / "copied"
    assert main([*words, "--set", "training_copies=2", "--out", str(out), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "training_copies: what is judged must be there once" in said
    assert "(found: 2)" in said
    assert not out.exists()


@pytest.mark.parametrize("task", ["tampering", "mortality"])
def test_what_a_model_reads(task: str, tmp_path: Path, stays: Path) -> None:
    """No NaN; values scaled by what was measured in training; masks and times as they are."""
    one = prepared(tmp_path, task, stays)
    data, whole = one.data, one.raw
    assert whole is not None
    assert data.features == laid_out_names(whole.features)
    assert np.isfinite(data.x).all()
    series = len(whole.features)
    measured = ~np.isnan(whole.x)
    np.testing.assert_array_equal(data.x[..., series : 2 * series], measured)
    np.testing.assert_allclose(
        data.x[..., :series][measured], apply_scaling(one.scaling, whole.x)[measured], rtol=1e-6
    )
    heart = whole.features.index("heart_rate_per_minute")
    train = whole.x[whole.split == TRAIN][..., heart]
    by_site = [np.nanmedian(train[whole.site[whole.split == TRAIN] == s]) for s in range(4)]
    assert min(by_site) * 0.85 < one.scaling.center[heart] < max(by_site) * 1.15
    assert data.x[..., 2 * series :].max() <= 2.0


def test_data_check_says_how_often_each_series_is_measured(
    stays: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ages once in eight steps; what nobody measured has no figures. The outcome is seen, and is dropped."""
    words = ["data", "check", "physionet2012", str(stays), "--set", "task=mortality", "--set", "step_hours=6"]
    assert main(words) == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in said.splitlines() if " of steps" in line}
    assert rows["age_years"].endswith("12.5% of steps")
    assert rows["albumin_g_per_dl"] == "n/a n/a n/a 0.0% of steps"
    assert "In-hospital_death" in said


def test_without_a_site_gaps_are_laid_out_again(tmp_path: Path, stays: Path) -> None:
    one = prepared(tmp_path, "mortality", stays)
    found = without_site(one, 2, Post())
    assert found.data.features == one.data.features
    assert np.isfinite(found.data.x).all()
    assert one.raw is not None
    rows = (one.data.site == 2) == (one.data.split == 2)
    measured = ~np.isnan(one.raw.x[rows])
    scaled = apply_scaling(Scaling(found.scaling.center, found.scaling.scale), one.raw.x[rows])
    np.testing.assert_allclose(found.data.x[..., :41][measured], scaled[measured], rtol=1e-6)


def test_training_weighs_judged_steps_only(tmp_path: Path, stays: Path) -> None:
    one = prepared(tmp_path, "mortality", stays)
    rows: Sequence[np.ndarray] = members(one)
    pack, steps = pack_sites(one.data, rows, 1, 0.99, 1, 1)
    assert steps.tolist() == [len(own) for own in rows]
    for site, own in enumerate(rows):
        weight = np.asarray(pack.weight)[site, 0, : len(own)]
        assert weight[:, -1].all()
        assert not weight[:, :-1].any()
    again, same = pack_sites(one.data, rows, 1, 0.99, 1, 1, replication=0.25)
    assert same.tolist() == steps.tolist()
    whole = np.asarray(again.weight)[0, 0]
    np.testing.assert_array_equal(whole[: len(rows[0]), :-1], np.float32(0.25))
    assert whole[: len(rows[0]), -1].all()
    assert not whole[len(rows[0]) :].any(), "padding never weighs"
    part = select(one.data, rows[0])
    assert part.valid.all()
    assert np.abs(np.asarray(pack.x)[0, 0, : len(rows[0]), :-1]).sum() > 0, "earlier steps are read"


def test_only_training_stays_are_there_several_times(tmp_path: Path, stays: Path) -> None:
    plan = plan_of(tmp_path, "tampering", stays)
    options = {**plan.data.options, "training_copies": 3}
    more = plan.model_copy(update={"data": plan.data.model_copy(update={"options": options})})
    one, three = prepare(plan, 0, Post()), prepare(more, 0, Post())
    for split, times in ((TRAIN, 3), (VALIDATION, 1), (TEST, 1)):
        few, many = (select(found.data, found.data.split == split) for found in (one, three))
        assert len(many.y) == times * len(few.y)
        if times == 1:
            np.testing.assert_array_equal(few.y, many.y)
            np.testing.assert_array_equal(few.unit, many.unit)
    units = three.data.unit[three.data.split == TRAIN]
    assert len(np.unique(units)) == len(units), "a copy is a unit of its own"


def test_scaling_counts_from_usual_values(tmp_path: Path, stays: Path) -> None:
    """Temperatures of 37 and a spread of 2 would fall into one bucket, counted from 0."""
    one = prepared(tmp_path, "tampering", stays)
    assert one.raw is not None
    place = one.measured.index("temperature_celsius")
    training = one.data.split == TRAIN
    measured = one.raw.x[training][..., place]
    half = (np.nanquantile(measured, 0.95) - np.nanquantile(measured, 0.05)) / 2
    assert one.scaling.scale[place] == pytest.approx(half, rel=0.1)


def test_models_with_and_without_gaps_on_data_with_and_without(tmp_path: Path, stays: Path) -> None:
    """A model that knows no gap is told of none; to one that does, what the data lacks was never measured."""
    source = catalog.build("sources", "physionet2012", {"step_hours": 6})
    table = source.load(stays, 0)
    data = streams(table, "record")
    center = np.zeros(3, np.float32)
    wanted = ["heart_rate_per_minute", "age_years", "colour"]
    matched = match_features(wanted, data.features, {}, "physionet2012")
    meta = ModelMeta.model_construct(modality="record", features=wanted, irregular=False)
    with pytest.raises(DataError, match="has gaps"):
        _matched(data, matched, meta, center, table)
    knows = meta.model_copy(update={"irregular": True})
    found = _matched(data, matched, knows, center, table)
    assert np.isnan(found.x[..., 2]).all()
    laid = read(found, Scaling(center, center + 1))
    assert np.isfinite(laid.x).all()
    assert not laid.x[..., [2, 5]].any()
    whole = replace(data, x=np.ones_like(data.x), step_days=None)
    regular = read(_matched(whole, matched, knows, center, table), Scaling(center, center + 1))
    assert regular.x[..., 3:5].all(), "measured in every step"
    assert "never measured: colour (1 of the model's 3" in matched.sentences("x", "never measured")[0]
