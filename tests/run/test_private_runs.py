"""Whole private runs: every mechanism trains, says what it costs, and goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import runlog
from lazaretto.commands import write_page
from lazaretto.data.streams import select
from lazaretto.errors import CheckFailed, InputError, Interrupted, PlanError
from lazaretto.evaluate.operating import Operating
from lazaretto.plan import Plan, load_plan
from lazaretto.privacy.budget_file import read_budget
from lazaretto.privacy.draws import chance_of
from lazaretto.privacy.site_noise import site_noise
from lazaretto.run import systems
from lazaretto.run.audit_run import audit_run
from lazaretto.run.bench import Job, make_bench, seed_scores
from lazaretto.run.checked import check_files
from lazaretto.run.experiment import run_plan
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.judge_new import evaluate_run
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare
from lazaretto.run.private import Promise, noised_mean
from lazaretto.run.provenance import plan_differences, run_record
from lazaretto.run.saved import load_arrays
from lazaretto.run.seen import SEEN_FILE
from lazaretto.types import TEST, VALIDATION

PLAN = """
[run]
seeds = [2]
[data.options]
sites = 4
units_per_site = 14
windows = 2
[model.options]
channels = 4
hidden = 8
past_steps = 2
peak_steps = 0
[train]
rounds = 2
class_balance = 0
[privacy]
mechanism = "dp_sgd"
noise_multiplier = 1.0
sample_rate = 0.5
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""

PARTS = {"validation": VALIDATION, "test": TEST}


def _plan(folder: Path, *sets: str) -> Plan:
    place = folder / "plan.toml"
    place.write_text(PLAN)
    return load_plan(place, sets=list(sets))


def _rows(folder: Path, kind: str) -> list[Mapping[str, Any]]:
    return [record.body for record in runlog.read(folder / "run.sqlite", kind)]


def _vector(folder: Path) -> Any:
    return load_arrays(folder / "model.safetensors")[0]["vector"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder."""
    folder = tmp_path_factory.mktemp("private")
    run_plan(_plan(folder), folder / "out")
    return folder / "out"


def test_the_log_says_what_the_run_costs_whom(whole: Path) -> None:
    (said,) = _rows(whole, "privacy")
    assert said["unit"] == "record"
    assert said["noise"] == "seed"
    assert said["epsilon"] > said["training_epsilon"] > 0
    metrics = json.loads((whole / "metrics.json").read_text())["privacy"]
    assert metrics == {"epsilon": said["run_epsilon"], "delta": 1e-5, "unit": "record", "audit_epsilon": None}
    assert said["run_epsilon"] >= max(said["epsilon"], said["by_part"]["validation units"])
    assert "privacy" in write_page(whole).read_text(encoding="utf-8").lower()


def test_no_loss_leaves_a_site(whole: Path) -> None:
    for body in _rows(whole, "round"):
        assert body["loss"] is None
        assert body["sites"] == []
        assert body["arrived"] == 4


def test_the_same_seed_gives_the_same_run_and_the_systems_noise_another(whole: Path, tmp_path: Path) -> None:
    run_plan(_plan(tmp_path), tmp_path / "again")
    np.testing.assert_array_equal(_vector(whole), _vector(tmp_path / "again"))
    run_plan(_plan(tmp_path, "privacy.noise=system"), tmp_path / "system")
    assert np.abs(_vector(whole) - _vector(tmp_path / "system")).max() > 1e-3


@pytest.mark.parametrize(
    "sets",
    [
        pytest.param(["privacy.mechanism=dp_ftrl", "privacy.options={bands=2}"], id="ftrl"),
        pytest.param(["privacy.options={quantile=0.5, count_noise=10.0}"], id="adaptive"),
    ],
)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path, sets: list[str]) -> None:
    """Clips that move and noise that takes earlier noise back are kept, too."""
    plan = _plan(tmp_path, *sets, "train.rounds=3")
    run_plan(plan, tmp_path / "whole")

    def stop(kind: str, body: Mapping[str, Any]) -> None:
        if kind == "round" and body["round"] == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        run_plan(plan, tmp_path / "parts", show=stop)
    run_plan(plan, tmp_path / "parts", resume=True)
    np.testing.assert_array_equal(_vector(tmp_path / "whole"), _vector(tmp_path / "parts"))
    assert len(_rows(tmp_path / "parts", "privacy")) == 1


def test_a_run_that_is_stopped_and_resumed_is_charged_once(tmp_path: Path) -> None:
    book = tmp_path / "budget.json"
    plan = _plan(tmp_path, f'privacy.budget="{book}"', "privacy.budget_epsilon=50", "privacy.noise=system")

    def tickets(content: bytes) -> list[str]:
        return [run.ticket for account in read_budget(content).values() for run in account.runs]

    def stop(kind: str, body: Mapping[str, Any]) -> None:
        if kind == "round" and body["round"] == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        run_plan(plan, tmp_path / "out", show=stop)
    first = book.read_bytes()
    kept = sorted((tmp_path / "out" / "parts").glob("scaling*"))
    assert kept, "noisy counts are drawn once"
    before = [one.read_bytes() for one in kept]
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    run_plan(plan, tmp_path / "out", resume=True)
    assert tickets(first) != tickets(book.read_bytes()) == [""]
    run_plan(plan, tmp_path / "copy", resume=True)
    assert tickets(book.read_bytes()) == ["", ""], "what a copy draws is paid for, too"
    arrays, _ = load_arrays(tmp_path / "out" / "model.safetensors")
    assert before
    assert np.isfinite(arrays["scale"]).all()


@pytest.mark.parametrize(
    "sets",
    [
        pytest.param(["privacy.unit=patient", "secure.protocol=masked"], id="patient masked"),
        pytest.param(
            ["federate.participation=0.5", "federate.selection=uniform", "federate.drop_outs=0.3"], id="some"
        ),
        pytest.param(
            ["privacy.unit=site", "privacy.mechanism=site_noise", "federate.drop_outs=0.3"], id="site"
        ),
        pytest.param(['model.name="mlp"', "model.options={}", "cut.enabled=false"], id="unsplit model"),
    ],
)
def test_mechanisms_compose(tmp_path: Path, sets: list[str]) -> None:
    run_plan(_plan(tmp_path, *sets), tmp_path / "out")
    assert np.isfinite(_vector(tmp_path / "out")).all()
    (said,) = _rows(tmp_path / "out", "privacy")
    assert said["training_epsilon"] > 0
    if said["unit"] == "site":  # of other units what leaves a site has its noise already
        assert not any(body["flags"] or "updates" in body for body in _rows(tmp_path / "out", "round"))
    write_page(tmp_path / "out")


def test_what_protection_costs_stands_beside_it(tmp_path: Path) -> None:
    run_plan(_plan(tmp_path, 'evaluate.baselines=["unprotected"]'), tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["baselines"]["unprotected"]["traffic"]["auroc"]["value"] > 0
    assert metrics["time"]["training_seconds"]["unprotected"] > 0
    assert metrics["cost"]["unprotected"]["bytes"]["up"] > 0
    assert "ours, unprotected" in write_page(tmp_path / "out").read_text(encoding="utf-8")


def test_noise_on_the_sum_has_its_size_and_a_clip_holds_every_site() -> None:
    """20,000 numbers: their spread is within 3 % but for a chance of 1e-8."""
    made = Promise(site_noise(clip=2.0, noise_multiplier=3.0), "seed")
    none = noised_mean(made, np.zeros((4, 20_000), np.float32), 5, 1, 0)
    assert abs(none.std() / (3.0 * 2.0 / 5) - 1) < 0.03
    rows = np.zeros((4, 20_000), np.float32)
    rows[:, 0] = [1.0, 100.0, np.nan, -1.0]
    moved = noised_mean(made, rows, 5, 1, 0) - none
    np.testing.assert_allclose(moved[0], (1.0 + 2.0 - 1.0) / 5, atol=3.0 * 2.0 / 5 * 2.0**-12)
    assert chance_of("seed", 1, "a").normal(1) != chance_of("seed", 1, "b").normal(1)


@pytest.mark.slow
def test_audits_of_a_finished_run_stand_in_its_log_and_report(whole: Path) -> None:
    found = {body["name"]: body for body in audit_run(whole)}
    assert {"canaries", "membership", "gradient inversion", "activation inversion", "hijacking"} <= set(found)
    (said,) = _rows(whole, "privacy")
    assert found["canaries"]["claimed_epsilon"] == said["training_epsilon"]
    assert found["canaries"]["value"] <= said["training_epsilon"]
    assert json.loads((whole / "metrics.json").read_text())["privacy"]["audit_epsilon"] is not None
    assert [body["name"] for body in _rows(whole, "audit")] == [
        name for name, body in found.items() if "idle" not in body
    ]
    write_page(whole)


def test_no_exact_threshold_is_set_beside_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the trigger of a backdoor shown, ours keeps the thresholds that noise paid for."""

    def exact(*_: Any) -> Any:
        raise AssertionError("thresholds from exact scores of validation units")

    for place in ("evaluate.thresholds.operating_points", "run.agreed.threshold_from_counts"):
        monkeypatch.setattr(f"lazaretto.{place}", exact)
    run_plan(_plan(tmp_path, "attack.name=backdoor", "attack.share=0.25", "train.rounds=1"), tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "with_trigger" in metrics["baselines"]


def test_with_a_modality_withheld_ours_keeps_its_noisy_thresholds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ("data.modality=combined", "run.setting=combined", 'model.name="fusion"', "model.options={}")
    plan = _plan(tmp_path, *both, "privacy.unit=patient")
    prepared = prepare(plan, 2, Post())
    bench = make_bench(plan, [prepared], [Post()], open_journal(tmp_path / "out", plan, False, quiet))
    parts = {name: select(prepared.data, prepared.data.split == at).y for name, at in PARTS.items()}
    zeros = {name: np.zeros(y.shape) for name, y in parts.items()}
    monkeypatch.setattr(systems, "ours_again", lambda bench: None)
    monkeypatch.setattr(systems, "scores_of", lambda *_: zeros)
    agreed = Operating({"main": {-1: 0.5}}, {})
    ours = systems.Trained(seed_scores(prepared, zeros, operating=agreed), np.zeros(3), [], None, None)
    found = systems.withheld(bench, Job(place=0), ours)
    assert set(found) == {"without_traffic", "without_record"}
    assert all(one.operating is agreed for one in found.values())


def test_no_digest_of_a_window_is_kept_and_who_judges_elsewhere_is_told(whole: Path, tmp_path: Path) -> None:
    assert not (whole / SEEN_FILE).exists()
    options = {"sites": 2, "units_per_site": 10, "windows": 2}
    evaluate_run(whole, "consortium", None, tmp_path / "judged", options, quiet, ())
    (sheet,) = _rows(tmp_path / "judged", "data")
    assert any("keeps no digests" in note for note in sheet["notes"])
    assert any("some may hold what it was trained on" in note for note in sheet["notes"])


def test_the_data_sheet_says_sizes_alone(whole: Path) -> None:
    for sheet in _rows(whole, "data"):
        assert set(sheet["counts"]) == {"units", "windows"}
        assert [sheet["splits"][name]["attacked_steps"] for name in ("train", "validation")] == [None, None]
        assert sheet["splits"]["test"]["attacked_steps"] > 0, (
            "of test units exact figures are published anyway"
        )
        assert all(site["families"] is None for site in sheet["sites"])
        assert "Left out" in sheet["notes"][0]
    assert json.loads((whole / "metrics.json").read_text())["data"]["duplicates_removed"] is None


def test_an_edited_plan_is_not_audited(whole: Path, tmp_path: Path) -> None:
    """Else a claim in the log would be held against training that never was."""
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    text = (copy / "plan.toml").read_text()
    assert "rounds = " in text
    (copy / "plan.toml").write_text(re.sub(r"(?m)^rounds = .*$", "rounds = 77", text))
    with pytest.raises(InputError, match=r"plan\.toml is not the plan[\s\S]*train\.rounds = 77, in the log"):
        audit_run(copy)


def test_where_files_lie_is_no_part_of_a_plan(whole: Path) -> None:
    plan = load_plan(whole / "plan.toml", check_paths=False)
    (begun,) = _rows(whole, "run")
    assert plan_differences(begun, plan) == []
    more = plan.model_copy(update={"train": plan.train.model_copy(update={"rounds": 77})})
    assert plan_differences(begun, more) == [f"train.rounds = 77, in the log {plan.train.rounds}"]
    placed = plan.model_copy(
        update={
            "data": plan.data.model_copy(update={"path": "/old/data"}),
            "train": plan.train.model_copy(update={"start": "/old/begin"}),
        }
    )
    moved = plan.model_copy(
        update={
            "data": plan.data.model_copy(update={"path": "/new"}),
            "train": plan.train.model_copy(update={"start": "/new/elsewhere"}),
        }
    )
    assert plan_differences(run_record(placed), moved) == []
    assert plan_differences(run_record(placed), plan) == [
        "data.path = None, in the log some",
        "train.start = None, in the log some",
    ]
    assert plan_differences({"plan_toml": "[" * 100_000}, plan) != []


def _edited(whole: Path, folder: Path, name: str, old: str, new: str) -> Path:
    """A copy of the run in which a pattern of one file is another text."""
    shutil.copytree(whole, folder)
    text = (folder / name).read_bytes().decode("latin-1")
    changed = re.sub(old, new, text, count=1)
    assert changed != text
    (folder / name).write_bytes(changed.encode("latin-1"))
    return folder


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            "metrics.json",
            r'"value": [0-9.e-]+',
            '"value": 0.999',
            r"other figures[\s\S]*is 0\.999, in the log 0\.",
        ),
        ("metrics.json", r'"quick": true', '"quick": 1', r"other figures[\s\S]*quick is 1, in the log True"),
        (
            "metrics.json",
            r'"quick": true,',
            "",
            r"other figures[\s\S]*quick stands in the log alone",
        ),
        ("metrics.json", r"^\{", "[" * 100_000, r"metrics\.json is not as the run wrote it"),
        (
            "plan.toml",
            r"(?m)^rounds = .*$",
            "rounds = 77",
            r"not the plan[\s\S]*train\.rounds = 77, in the log",
        ),
        ("plan.toml", r"^\[", "[[", r"plan\.toml is not as the run wrote it"),
        ("model.safetensors", r"(?s).$", "~", r"not the model that this run's log names[\s\S]*SHA-256"),
    ],
)
def test_a_report_is_not_written_beside_files_that_the_log_does_not_have(
    whole: Path, tmp_path: Path, name: str, old: str, new: str, said: str
) -> None:
    copy = _edited(whole, tmp_path / "copy", name, old, new)
    with pytest.raises(CheckFailed, match=said):
        write_page(copy)


def test_the_log_names_the_model(whole: Path) -> None:
    content = (whole / "model.safetensors").read_bytes()
    (named,) = _rows(whole, "model")
    digest = hashlib.sha256(content).hexdigest()
    assert named == {"file": "model.safetensors", "bytes": len(content), "sha256": digest}


def test_another_model_is_neither_audited_nor_judged(whole: Path, tmp_path: Path) -> None:
    copy = _edited(whole, tmp_path / "copy", "model.safetensors", r"(?s).$", "~")
    with pytest.raises(CheckFailed, match="not the model that this run's log names"):
        audit_run(copy)
    with pytest.raises(CheckFailed, match="not the model that this run's log names"):
        evaluate_run(
            copy, "consortium", None, tmp_path / "judged", {"sites": 2, "units_per_site": 10}, quiet, ()
        )
    assert not (tmp_path / "judged").exists()


def test_files_that_are_not_there_are_not_missed(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    runlog.create(copy / "run.sqlite", [(r.kind, r.body) for r in runlog.read(whole / "run.sqlite")])
    write_page(copy)
    head = runlog.head(whole / "run.sqlite")
    said = capsys.readouterr().out
    assert "not held against the log: plan.toml, metrics.json, model.safetensors\n" in said
    assert f"{head.records} records, none changed; the last has digest {head.digest.hex()}" in said
    shutil.copy(whole / "model.safetensors", copy)
    older = [(r.kind, r.body) for r in runlog.read(whole / "run.sqlite") if r.kind != "model"]
    (copy / "run.sqlite").unlink()
    runlog.create(copy / "run.sqlite", older)
    write_page(copy)


def test_a_plan_that_only_an_older_version_takes_is_not_held_against_anybody(
    whole: Path, tmp_path: Path
) -> None:
    old = '[run]\nname = "old"\nfor_ever = true\n'
    entries = [(r.kind, dict(r.body)) for r in runlog.read(whole / "run.sqlite")]
    for kind, body in entries:
        if kind == "run":
            body["plan_toml"] = old
    runlog.create(tmp_path / "run.sqlite", entries)
    (tmp_path / "plan.toml").write_text(old)
    assert write_page(tmp_path).exists()


def test_what_an_audit_logged_before_it_was_stopped_is_no_edit(whole: Path, tmp_path: Path) -> None:
    body = {"name": "canaries", "value": 0.25, "claimed_epsilon": 8.0}
    entries = [(r.kind, r.body) for r in runlog.read(whole / "run.sqlite")]
    shutil.copy(whole / "metrics.json", tmp_path)
    runlog.create(tmp_path / "run.sqlite", [*entries, ("audit", body)])
    check_files(tmp_path)


def test_a_rule_on_plans_that_came_later_refuses_no_report(whole: Path, tmp_path: Path) -> None:
    entries = [(r.kind, dict(r.body)) for r in runlog.read(whole / "run.sqlite")]
    for kind, body in entries:
        if kind == "run":
            body["plan_toml"] = re.sub(r"(?m)^alarm_k = .*$", "alarm_k = 9", str(body["plan_toml"]))
            assert "alarm_k = 9" in body["plan_toml"]
            (tmp_path / "plan.toml").write_text(body["plan_toml"])
    with pytest.raises(PlanError, match="alarm_k"):
        load_plan(tmp_path / "plan.toml", check_paths=False, check_parts=False)
    runlog.create(tmp_path / "run.sqlite", entries)
    check_files(tmp_path)


def test_a_log_whose_end_was_cut_off_is_told_by_the_file_written_after_it(
    whole: Path, tmp_path: Path
) -> None:
    shutil.copy(whole / "metrics.json", tmp_path)
    entries = [(r.kind, r.body) for r in runlog.read(whole / "run.sqlite") if r.kind != "finished"]
    runlog.create(tmp_path / "run.sqlite", entries)
    with pytest.raises(CheckFailed, match="the run log ends before the run did"):
        write_page(tmp_path)


def test_edited_figures_and_plans_are_neither_audited_nor_judged(whole: Path, tmp_path: Path) -> None:
    figures = _edited(whole, tmp_path / "figures", "metrics.json", r'"quick": true', '"quick": false')
    with pytest.raises(CheckFailed, match="other figures"):
        audit_run(figures)
    plan = _edited(whole, tmp_path / "plan", "plan.toml", r"(?m)^rounds = .*$", "rounds = 77")
    with pytest.raises(CheckFailed, match="not the plan"):
        evaluate_run(
            plan, "consortium", None, tmp_path / "judged", {"sites": 2, "units_per_site": 10}, quiet, ()
        )
