"""A trained model judged on data and classes that it never saw."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import runlog
from lazaretto.cli import main
from lazaretto.errors import DataError
from lazaretto.plan import load_plan
from lazaretto.run import judge_new
from lazaretto.run.saved import load_arrays, save_arrays

PLAN = """
[run]
seeds = [3, 0]
[data.options]
sites = 3
units_per_site = 16
windows = 2
[model.options]
channels = 8
hidden = 8
[train]
rounds = 6
learning_rate = 0.01
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""
TOY = '''
"""A source with the simulator's features, its own class names and one family more."""
from dataclasses import replace
from lazaretto.data.consortium import consortium
from lazaretto.types import Source

def elsewhere(drop: int = 0, turn: bool = True) -> Source:
    """Another hospital group."""
    def load(path, seed):
        table = consortium(sites=2, units_per_site=12, windows=2).load(None, 99)
        classes = ("normal", *(f"new_{name}" for name in table.schema.classes[1:]))
        x, features = dict(table.x), dict(table.schema.features)
        step = -1 if turn else 1
        x["traffic"] = x["traffic"][:, :, ::step][:, :, drop:]
        features["traffic"] = features["traffic"][::step][drop:]
        return replace(table, x=x, schema=replace(table.schema, classes=classes, features=features))
    return Source(name="elsewhere", load=load, sample=lambda: load(None, 0), needs_path=False)
'''


EVALUATE = ("evaluate", "--quiet")
SAME = ("--set", "sites=3", "--set", "units_per_site=16", "--set", "windows=2")


def _body(folder: Path, kind: str) -> Any:
    return next(runlog.read(folder / "run.sqlite", kind)).body


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "plan.toml").write_text(PLAN)
    assert main(["run", str(folder / "plan.toml"), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts" / "data").mkdir(parents=True)
    (tmp_path / "parts" / "data" / "elsewhere.py").write_text(TOY)
    monkeypatch.setenv("LAZARETTO_PATH", str(tmp_path / "parts"))


def test_judged_on_its_own_data_only_test_units_count(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the very data of training: its test units alone, so the same figures as the run's first seed."""
    out = tmp_path / "again"
    # an option that is given as its default does not make the data other
    sets = [*SAME, "--set", "window_steps=16"]
    loud = [word for word in EVALUATE if word != "--quiet"]
    assert main([*loud, str(trained), "--source", "consortium", "--out", str(out), *sets]) == 0
    assert "note: The model was trained on this very data. Only the units" in capsys.readouterr().out
    sheet = _body(out, "data")
    before = next(r.body for r in runlog.read(trained / "run.sqlite", "data") if r.body["seed"] == 3)
    assert sheet["splits"]["test"] == before["splits"]["test"]
    assert sheet["splits"]["train"]["units"] == 0
    assert any("kept for testing" in note for note in sheet["notes"])
    alone = tmp_path / "one" / "out"
    alone.parent.mkdir()
    (alone.parent / "plan.toml").write_text(PLAN.replace("[3, 0]", "[3]"))
    assert main(["run", str(alone.parent / "plan.toml"), "--out", str(alone), "--quiet"]) == 0
    here, there = (
        json.loads((folder / "metrics.json").read_text())["test"]["traffic"] for folder in (out, alone)
    )
    assert here["auroc"] == there["auroc"]
    assert here["false_positive_rate"] == there["false_positive_rate"]


def test_own_thresholds_of_sites_judge_nobody_elsewhere(trained: Path, tmp_path: Path) -> None:
    """They stay at their sites: the model that is kept has the vote, and page and sheet say so."""
    (tmp_path / "plan.toml").write_text(PLAN.replace("[3, 0]", "[3]") + 'thresholds = "own"\n')
    run, new, old = (tmp_path / name for name in ("run", "new", "old"))
    assert main(["run", str(tmp_path / "plan.toml"), "--out", str(run), "--quiet"]) == 0
    _, meta = load_arrays(run / "model.safetensors")
    assert all(set(groups) == {"-1"} for groups in meta["operating"]["thresholds"].values())
    said = "thresholds" in meta["operating"], "Each site goes by a threshold of its own"
    page = (run / "report.html").read_text()
    assert said[1] in page
    own = json.loads((run / "metrics.json").read_text())["own_thresholds"]
    assert f"Sites that go by their own, of {own['sites']}: {own['main'][0]} at 1" in page
    for folder, out in ((run, new), (trained, old)):
        assert main(["evaluate", str(folder), "--source", "consortium", "--out", str(out), *SAME]) == 0
        notes = _body(out, "data")["notes"]
        assert any("median of their votes" in note for note in notes) == (folder == run)
        assert said[1] not in (out / "report.html").read_text()
    assert json.loads((new / "metrics.json").read_text())["test"]["traffic"]["recall"]["value"] > 0


def test_other_options_judge_everything_and_say_so(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sets = ["--set", "sites=3", "--set", "units_per_site=12", "--set", "windows=2"]
    assert main([*EVALUATE, str(trained), "--source", "consortium", "--out", str(out), *sets]) == 0
    sheet = _body(out, "data")
    assert sheet["splits"]["test"]["units"] == sheet["counts"]["units"]
    assert any("or with other options" in note for note in sheet["notes"])
    assert len(sheet["sites"]) == 3, "as the source has them"
    assert sum(site["test_units"] for site in sheet["sites"]) == sheet["counts"]["units"]
    held = sheet["splits"]["test"]["families"]
    assert {name: sum(site["families"][name] for site in sheet["sites"]) for name in held} == held
    page = (out / "report.html").read_text()
    assert "Units with an attack, by site and family" in page
    assert sheet["sites"][0]["name"] in page.replace("<wbr>", "")
    assert "is judged here on consortium." in page
    assert "that it never saw" not in page
    assert "took no part in training" not in page


def test_one_seed_is_judged_and_the_page_says_how_to_do_it_again(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*EVALUATE, str(trained), "--source", "consortium", "--out", str(out), *SAME]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["seeds"] == [3]
    assert metrics["quick"] is True
    assert load_plan(out / "plan.toml").run.seeds == (3,)
    page = html.unescape((out / "report.html").read_text())
    assert re.findall('<a href="#(\\w+)"', page) == [
        *("summary", "baselines", "points", "families", "intensity", "curves", "latency", "calibration"),
        *("time", "data", "plan", "provenance"),
    ]
    assert 'class="missing"' not in page, "what belongs to training is not missing here"
    for advice in ("lazaretto run plan.toml", "--full", "that a headline needs", "over units and seeds"):
        assert advice not in page
    command = f"lazaretto evaluate {trained} --source consortium --plan plan.toml --out again"
    assert command in page
    plan = str(out / "plan.toml")
    words = command.replace("plan.toml", plan).replace("again", str(tmp_path / "again")).split()[1:]
    assert main([*words, "--quiet"]) == 0
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["test"] == metrics["test"]


def _broken(trained: Path, folder: Path, change: Callable[[dict, dict], object]) -> Path:
    """A copy of a trained model, changed."""
    folder.mkdir()
    (folder / "plan.toml").write_bytes((trained / "plan.toml").read_bytes())
    arrays, meta = load_arrays(trained / "model.safetensors")
    change(arrays, meta)
    save_arrays(folder / "model.safetensors", arrays, meta)
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, m: m.clear(), "Field required"),
        (lambda a, m: m.pop("classes"), "classes"),
        (lambda a, m: m.update(features="abc"), "features"),
        (lambda a, m: m.update(features=[*m["features"][1:], 1]), "features"),
        (lambda a, m: m.update(classes=["attack", "normal"]), "the first class is 'normal'"),
        (lambda a, m: m.update(window=0), "window"),
        (lambda a, m: m.update(window="16"), "window"),
        (lambda a, m: m.update(seed=-1), "seed"),
        (lambda a, m: m["cut"].update(bits=9), "cut.bits"),
        (lambda a, m: m["cut"].update(clip=None), "cut.clip"),
        (lambda a, m: m["cut"].update(clip=float("nan")), "cut.clip"),
        (lambda a, m: m["cut"].update(noise=-1.0), "cut.noise"),
        (lambda a, m: m["cut"].pop("noise"), "cut.noise"),
        (lambda a, m: m.update(operating={}), "operating"),
        (lambda a, m: m["operating"]["thresholds"].pop("main"), "main"),
        (lambda a, m: m["operating"]["thresholds"]["main"].clear(), "group -1"),
        (lambda a, m: m["operating"]["platt"].update({"-1": [1.0]}), "platt"),
        (lambda a, m: m.update(options={"hidden": "many"}), "cannot be built"),
        (lambda a, m: m.update(model="nonesuch"), "cannot be built"),
        (lambda a, m: a.pop("scale"), "no array 'scale'"),
        (lambda a, m: a.update(scale=a["scale"] * 0), "scale"),
        (lambda a, m: a.update(scale=a["scale"][1:]), "scale is float32"),
        (lambda a, m: a.update(center=a["center"].astype(np.float64)), "center is float64"),
        (lambda a, m: a.update(center=a["center"] * np.float32("nan")), "center"),
        (lambda a, m: a.update(vector=a["vector"][1:]), "do not fit"),
        (lambda a, m: a.update(vector=a["vector"][None]), "vector"),
        (lambda a, m: a.update(vector=a["vector"] * np.float32("inf")), "vector"),
    ],
)
def test_a_model_is_not_trusted(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict, dict], object],
    said: str,
) -> None:
    folder, out = _broken(trained, tmp_path / "model", change), tmp_path / "out"
    assert main([*EVALUATE, str(folder), "--source", "consortium", "--out", str(out), *SAME]) == 2
    error = capsys.readouterr().err
    assert str(folder / "model.safetensors") in error
    assert said in error
    assert "way out" in error
    assert not out.exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, DataError("no"), OSError(28, "No space left")])
@pytest.mark.parametrize(
    "where", ["score_streams", "judge", "open_journal", "write_metrics", "close_journal"]
)
def test_a_failed_evaluation_leaves_nothing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, stop: BaseException
) -> None:
    real = getattr(judge_new, where)

    def fail(*given: object, **named: object) -> None:
        if where in ("open_journal", "write_metrics"):  # after it has written
            real(*given, **named)
        raise stop

    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "deep" / "er" / "out", tmp_path / "empty"):
        words = [*EVALUATE, str(trained), "--source", "consortium", "--out", str(out), *SAME]
        with monkeypatch.context() as patched:
            patched.setattr(judge_new, where, fail)
            assert main(words) == (3 if stop is KeyboardInterrupt else 2)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]
        assert list((tmp_path / "empty").iterdir()) == []


def test_a_taken_folder_stays_as_it_is(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "plan.toml").write_text("mine")
    words = [*EVALUATE, str(trained), "--source", "consortium", *SAME, "--out"]
    assert main([*words, str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "not empty" in error
    assert "--resume" not in error
    assert main([*words, str(tmp_path / "plan.toml")]) == 2
    assert (tmp_path / "plan.toml").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "plan.toml"]


@pytest.mark.usefixtures("elsewhere")
def test_other_data_other_classes_features_in_another_order(trained: Path, tmp_path: Path) -> None:
    """Features are matched by name: turning their order round changes no figure."""
    tests = []
    for turn in ("true", "false"):
        out = tmp_path / turn
        arguments = ["--source", "elsewhere", "--out", str(out), "--quiet", "--set", f"turn={turn}"]
        assert main(["evaluate", str(trained), *arguments]) == 0
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["baselines"] == {}
        tests.append(metrics["test"])
    assert tests[0] == tests[1]
    found = tests[0]["traffic"]
    assert all(name.startswith("new_") for name in found["recall_by_class"])
    assert found["auroc"]["low"] < found["auroc"]["value"] < found["auroc"]["high"]
    assert "never" in (out / "report.html").read_text()


def test_a_run_that_is_not_finished_has_no_model_to_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "parts").mkdir(parents=True)
    (tmp_path / "run" / "run.sqlite").touch()
    words = ["evaluate", str(tmp_path / "run"), "--source", "consortium", "--out", str(tmp_path / "out")]
    assert main([*words, "--quiet"]) == 2
    assert "or go on with lazaretto run --resume if it was stopped" in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere")
def test_missing_features_and_missing_models_are_said(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--source", "elsewhere", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["evaluate", str(trained), *arguments, "--set", "drop=16"]) == 2
    error = capsys.readouterr().err
    assert "lacks features" in error
    assert "16 of 30" in error
    assert not (tmp_path / "out").exists()
    assert main(["evaluate", str(tmp_path), *arguments]) == 2
    assert "model.safetensors" in capsys.readouterr().err
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00rubbish")
    (tmp_path / "plan.toml").write_text(PLAN)
    assert main(["evaluate", str(tmp_path), *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere")
def test_absent_features_stand_at_the_median_and_the_report_names_them(trained: Path, tmp_path: Path) -> None:
    words = [*EVALUATE, str(trained), "--source", "elsewhere", "--set", "drop=3"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    notes = " ".join(_body(tmp_path / "out", "data")["notes"])
    assert "(3 of the model's 30 features)" in notes
    assert all(name in notes for name in ("message_size_repeat_share", "peak_to_mean_rate"))
    # pairing an absent feature with another one changes the scores, and is said
    paired = [*words, "--map", "message_size_repeat_share=retransmission_share*0.5"]
    assert main([*paired, "--out", str(tmp_path / "paired")]) == 0
    notes = " ".join(_body(tmp_path / "paired", "data")["notes"])
    assert "message_size_repeat_share from retransmission_share times 0.5" in notes
    assert "2 of the model's 30" in notes
    figures = [
        json.loads((tmp_path / name / "metrics.json").read_text())["test"] for name in ("out", "paired")
    ]
    assert figures[0] != figures[1]
    page = html.unescape((tmp_path / "paired" / "report.html").read_text())
    assert "--map 'message_size_repeat_share=retransmission_share*0.5' --plan plan.toml" in page


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bytes", "--map pairs a feature"),
        ("a=b*x", "--map pairs a feature"),
        ("a=b*-1", "--map pairs a feature"),
        ("a=b*inf", "--map pairs a feature"),
        ("paket_size_mean_bytes=new_peers", "did you mean 'packet_size_mean_bytes'?"),
        ("new_peers=newpeers", "source 'elsewhere' has no such feature"),
    ],
)
def test_maps_that_cannot_be(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    words = [*EVALUATE, str(trained), "--source", "elsewhere", "--out", str(tmp_path / "out"), "--map", text]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "way out" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
