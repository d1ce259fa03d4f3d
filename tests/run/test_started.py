"""Training that begins from an earlier run's model: what it begins with, and which starts are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lazaretto import runlog
from lazaretto.cli import main
from lazaretto.commands import write_page
from lazaretto.plan import load_plan
from lazaretto.run.bench import make_bench, program_of, training_of
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare
from lazaretto.run.saved import load_arrays
from lazaretto.run.started import first_vectors
from lazaretto.run.systems import crossing

PLAN = """
[run]
seeds = [3]
[data.options]
sites = 3
units_per_site = 16
windows = 2
[model.options]
channels = 8
hidden = 8
[train]
rounds = 4
learning_rate = 0.01
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""
PRIVATE = (
    "privacy.mechanism=dp_sgd",
    "privacy.epsilon=8",
    "train.class_balance=0",
    "privacy.sample_rate=0.5",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "plan.toml").write_text(PLAN)
    assert main(["run", str(folder / "plan.toml"), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


def run(folder: Path, start: Path, *sets: str) -> int:
    (folder / "plan.toml").write_text(PLAN)
    words = [word for one in (f"train.start={start}", *sets) for word in ("--set", one)]
    return main(["run", str(folder / "plan.toml"), "--out", str(folder / "out"), "--quiet", *words])


def notes(folder: Path) -> list[str]:
    body = next(runlog.read(folder / "out" / "run.sqlite", "data")).body
    return [str(note) for note in body["notes"]]


def test_ours_local_and_pooled_begin_with_its_parameters(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    plan = load_plan(tmp_path / "plan.toml", sets=["run.seeds=[5]", f"train.start={trained}"])
    prepared, post = prepare(plan, 5, Post()), Post()
    bench = make_bench(plan, [prepared], [post], open_journal(tmp_path / "out", plan, False, quiet))
    name = plan.model.name
    _, model = program_of(bench, name, crossing(plan, True)[0], training_of(bench, name, 4, ours=True))
    found = first_vectors(plan, name, model, bench.shape[:2], [5, 6])
    vector = load_arrays(trained / "model.safetensors")[0]["vector"]
    np.testing.assert_array_equal(found, [vector, vector])
    other = first_vectors(plan, "gru", model, bench.shape[:2], [5, 6])
    assert (other[0] != vector).any()
    assert (other[0] != other[1]).any()


def test_a_few_rounds_more_on_new_data_begin_where_it_ended(trained: Path, tmp_path: Path) -> None:
    """Steps of next to nothing leave the model where it was; without the start it is elsewhere."""
    sets = ("run.seeds=[5]", "train.rounds=1", "train.learning_rate=1e-9", 'evaluate.baselines=["local"]')
    assert run(tmp_path, trained, *sets) == 0
    vector = load_arrays(trained / "model.safetensors")[0]["vector"]
    again = load_arrays(tmp_path / "out" / "model.safetensors")[0]["vector"]
    np.testing.assert_allclose(again, vector, atol=1e-6)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    ours = metrics["test"]["traffic"]["auroc"]["value"]
    assert metrics["baselines"]["local"]["traffic"]["auroc"]["value"] == pytest.approx(ours, abs=0.05)
    (note,) = [one for one in notes(tmp_path) if one.startswith("Training begins from the model in out")]
    assert "None of the windows here" in note
    assert "charged" not in note


def test_the_same_data_goes_on_where_only_training_units_are_known(trained: Path, tmp_path: Path) -> None:
    assert run(tmp_path, trained, "train.rounds=1") == 0
    assert any("training or validation windows here are among those" in note for note in notes(tmp_path))


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["split.test=0.6"], "on units that are judged"),
        (list(PRIVATE), "to which this plan promises privacy"),
        (["run.seeds=[5]", "model.options.hidden=12"], "model.options there and here are not the same"),
        (
            ["run.seeds=[5]", "model.name=gru", "model.options={}", "cut.enabled=false"],
            "model.name there and here",
        ),
        (["run.seeds=[5]", "data.modality=record", "run.setting=record"], "data.modality there and here"),
        (["run.seeds=[5]", "evaluate.leave_one_family_out=true"], "may be known to the model"),
        (["train.start=nowhere"], "no such file"),
    ],
)
def test_starts_that_would_not_do(
    sets: list[str], says: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, trained, *sets) in (2, 3, 4)
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


def test_without_digests_nobody_can_tell_and_a_promise_says_so(trained: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare)
    (bare / "seen.safetensors").unlink()
    assert run(tmp_path, bare, "train.rounds=1", *PRIVATE) == 0
    (note,) = [one for one in notes(tmp_path) if one.startswith("Training begins")]
    assert "does not say which windows it has seen" in note
    assert "is not charged here" in note
    page = write_page(tmp_path / "out").read_text(encoding="utf-8")
    assert "The model it began from" in page
