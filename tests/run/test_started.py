"""Training that begins from an earlier run's model: what it begins with, and which starts are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lazaretto import catalog, runlog
from lazaretto.audit.shadow_training import shadow_trainer
from lazaretto.cli import main
from lazaretto.commands import write_page
from lazaretto.data.duplicates import window_digests
from lazaretto.errors import CheckFailed, InputError
from lazaretto.local import LocalTraining
from lazaretto.plan import DataPlan, load_plan
from lazaretto.run.bench import make_bench, program_of, training_of
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import load_table, prepare
from lazaretto.run.saved import load_arrays, load_model, save_arrays
from lazaretto.run.seen import Seen, data_named, load_seen, window_states
from lazaretto.run.started import enter_start, first_vectors
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
    found = first_vectors(plan, model, bench.shape[:2], [5, 6], ours=True)
    vector = load_arrays(trained / "model.safetensors")[0]["vector"]
    np.testing.assert_array_equal(found, [vector, vector])
    other = first_vectors(plan, model, bench.shape[:2], [5, 6], ours=False)
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


def test_the_same_data_goes_on_where_only_training_units_are_known(trained: Path, tmp_path: Path) -> None:
    assert run(tmp_path, trained, "train.rounds=1") == 0
    assert any("training or validation windows here are among those" in note for note in notes(tmp_path))


def test_what_the_model_does_not_read_makes_no_other_windows(trained: Path, tmp_path: Path) -> None:
    """A feature dropped of the records, where traffic alone is read: the same windows to the model."""
    assert run(tmp_path, trained, "train.rounds=1", 'data.drop=["record: alarms_per_step"]') == 0
    assert any("training or validation windows here are among those" in note for note in notes(tmp_path))


def test_windows_are_known_by_folders_of_earlier_versions(trained: Path) -> None:
    """Those hold digests of all modalities, whichever the model read."""
    plan = load_plan(trained / "plan.toml")
    table = load_table(plan, 3)[1]
    assert len(table.x) > 1
    whole = window_digests(table)[0]
    own, idle = window_digests(table, "traffic")
    chosen = np.flatnonzero(~idle)[:5]
    assert not (whole[chosen] == own[chosen]).all(axis=1).any()
    for digests in (whole, own):
        met, _ = window_states(Seen(digests[chosen]), table, "traffic")
        np.testing.assert_array_equal(np.flatnonzero(met), chosen)


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["split.test=0.6"], "on units that are judged"),
        (["split.test=0.6", 'data.drop=["record: alarms_per_step"]'], "on units that are judged"),
        (["split.test=0.1", "split.validation=0.1"], "on units that are judged"),
        (["data.options.window_steps=8"], "on the same data, cut or dealt otherwise"),
        (list(PRIVATE), "on the data that this plan protects"),
        (["run.seeds=[5]", "sites.withhold_families=1"], "may know what sites are to lack"),
        (["run.seeds=[5]", "model.options.hidden=12"], "model.options there and here are not the same"),
        (
            ["run.seeds=[5]", "model.name=gru", "model.options={}", "cut.enabled=false"],
            "model.name there and here",
        ),
        (["run.seeds=[5]", "data.modality=record", "run.setting=record"], "data.modality there and here"),
        (["run.seeds=[5]", "evaluate.leave_one_family_out=true"], "may be known to the model"),
        (["train.start=nowhere"], "train.start: there is no model"),
    ],
)
def test_starts_that_would_not_do(
    sets: list[str], says: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, trained, *sets) in (2, 3, 4)
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


def test_without_digests_nobody_can_tell_and_no_promise_is_made(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare)
    (bare / "seen.safetensors").unlink()
    assert run(tmp_path, bare, "run.seeds=[5]", *PRIVATE) == 2
    assert "does not say what the model has seen" in capsys.readouterr().err
    older = [(r.kind, r.body) for r in runlog.read(trained / "run.sqlite") if r.kind != "seen"]
    (bare / "run.sqlite").unlink()
    runlog.create(bare / "run.sqlite", older)
    digests = load_arrays(trained / "seen.safetensors")[0]
    save_arrays(bare / "seen.safetensors", digests, {"digest": "of an earlier version"})
    assert run(tmp_path, bare, "run.seeds=[5]", *PRIVATE) == 2
    assert "does not say what the model has seen" in capsys.readouterr().err
    (bare / "seen.safetensors").unlink()
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert run(tmp_path, bare, "train.rounds=1") == 0
    (note,) = [one for one in notes(tmp_path) if one.startswith("Training begins")]
    assert "does not say which windows it has seen" in note
    assert not (tmp_path / "out" / "seen.safetensors").exists(), "what began from it cannot say either"


def test_a_private_run_may_begin_from_other_data_and_says_what_is_not_charged(
    trained: Path, tmp_path: Path
) -> None:
    assert run(tmp_path, trained, "run.seeds=[5]", "train.rounds=1", *PRIVATE) == 0
    page = write_page(tmp_path / "out").read_text(encoding="utf-8")
    assert "The model it began from" in page


def test_a_start_of_a_start_knows_what_both_have_seen(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise a single round on other data would wash a model clean."""
    between = tmp_path / "between"
    between.mkdir()
    assert run(between, trained, "run.seeds=[5]", "train.rounds=1") == 0
    both = load_seen(between / "out")
    alone = load_seen(trained)
    assert both is not None
    assert alone is not None
    assert set(alone.data) < set(both.data)
    for sets, says in (
        (["split.test=0.6"], "on units that are judged"),
        (list(PRIVATE), "on the data that this plan protects"),
    ):
        assert run(tmp_path, between / "out", *sets) in (2, 4)
        assert says in capsys.readouterr().err
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_a_refused_start_costs_nothing(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = tmp_path / "budget.json"
    assert run(tmp_path, trained, *PRIVATE, f"privacy.budget={budget}", "privacy.budget_epsilon=9") == 2
    assert "on the data that this plan protects" in capsys.readouterr().err
    assert not budget.exists()


def test_a_start_that_changed_does_not_go_on(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    start = tmp_path / "start"
    shutil.copytree(trained, start)
    plan = load_plan(tmp_path / "plan.toml", sets=["run.seeds=[5]", f"train.start={start}"])
    enter_start(plan, open_journal(tmp_path / "out", plan, False, quiet))
    enter_start(plan, open_journal(tmp_path / "out", plan, True, quiet))
    arrays, meta = load_arrays(start / "model.safetensors")
    save_arrays(start / "model.safetensors", {**arrays, "vector": 2 * arrays["vector"]}, meta)
    with pytest.raises(CheckFailed, match="not the model that this run's log names"):
        enter_start(plan, open_journal(tmp_path / "out", plan, True, quiet))
    (start / "run.sqlite").unlink()  # a start may be handed on without its log
    with pytest.raises(InputError, match="is not the one that this run began with"):
        enter_start(plan, open_journal(tmp_path / "out", plan, True, quiet))


def test_files_of_the_same_sizes_are_the_same_data(tmp_path: Path) -> None:
    for name, content in {"a/x": b"12", "a/y": b"3", "b/z": b"4", "b/w": b"56", "c/x": b"1"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert "0 files" in data_named(DataPlan(source="x_iomt", path=str(tmp_path / "nowhere")), 0)
    a, b, c = (
        data_named(DataPlan(source="x_iomt", path=str(tmp_path / name)), seed)
        for seed, name in enumerate("abc")
    )
    assert a == b != c


def test_shadows_of_an_audit_begin_where_the_run_began(trained: Path) -> None:
    vector = load_arrays(trained / "model.safetensors")[0]["vector"]
    plan = load_plan(trained / "plan.toml")
    made = catalog.build("models", plan.model.name, plan.model.options)
    features = len(load_model(trained / "model.safetensors")[1].features)
    training = LocalTraining(window=4, batch_units=2)
    x = np.random.default_rng(0).normal(size=(4, 4, features)).astype(np.float32)
    windows = (x, np.zeros((4, 4), np.int64), np.ones((4, 4), np.float32))
    member = np.array([True, True, False, False])
    kinds = len(load_model(trained / "model.safetensors")[1].classes) - 1

    def losses(first: np.ndarray | None) -> np.ndarray:
        train = shadow_trainer(
            made, training, windows, kinds=kinds, rounds=1, learning_rate=1e-9, first=first
        )
        return train(member, 0)

    known = losses(vector)
    assert np.abs(known - losses(None)).max() > 1e-3
    np.testing.assert_allclose(losses(vector), known)
