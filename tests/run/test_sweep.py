"""Equal draws for every system, judged without the test units; found settings reach the run."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import runlog
from lazaretto.cli import main
from lazaretto.cli_sweep import show_sweep
from lazaretto.data.consortium import UNREAD
from lazaretto.errors import Interrupted, PlanError, WireError
from lazaretto.evaluate.scored import OURS
from lazaretto.evaluate.selection import validation_auroc
from lazaretto.plan import BASELINES, Plan, load_plan
from lazaretto.plan_sweep import TUNABLE, SweepPlan, settings_of
from lazaretto.run import prepare as preparing
from lazaretto.run import sweep, systems
from lazaretto.run.bench import Job, make_bench
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.protocol import protocol_of
from lazaretto.run.search_space import SPACES, draw_settings
from lazaretto.run.settled import settled
from lazaretto.types import TEST, TRAIN, VALIDATION, Table

PLAN = """
[run]
seeds = [3, 1]
[data.options]
sites = 2
units_per_site = 12
windows = 2
[model.options]
channels = 8
hidden = 8
[train]
rounds = 2
[evaluate]
baselines = ["logistic_regression", "rate_threshold"]
bootstrap = 100
leave_one_family_out = false
[sweep]
draws = 2
seeds = 1
"""
ABOUT = {"mode": "tuning", "keys": [], "quick": False}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "plan.toml").write_text(PLAN)
    return load_plan(tmp_path / "plan.toml")


def figures(result: dict[str, Any]) -> list[Any]:
    return [(d["system"], d["number"], d["settings"], d["auroc"], d["by_seed"]) for d in result["results"]]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swept")
    (folder / "plan.toml").write_text(PLAN)
    assert main(["sweep", str(folder / "plan.toml"), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


def test_report_writes_the_page_of_a_sweep_anew(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(swept, copy)
    page, kept = (copy / "sweep.html").read_bytes(), runlog.head(copy / "sweep.sqlite")
    (copy / "sweep.html").unlink()
    assert main(["report", str(copy)]) == 0
    out = capsys.readouterr().out
    assert f"report: {copy / 'sweep.html'}" in out
    assert "\nnot held against the log: sweep.json, tuned.toml\n" in f"\n{out}"
    assert f"sweep log: {kept.records} records, none changed; the last has digest {kept.digest.hex()}" in out
    assert (copy / "sweep.html").read_bytes() == page
    assert not (copy / "report.html").exists()
    assert main(["report", str(copy), "--head", kept.digest.hex()]) == 0
    assert main(["report", str(copy), "--head", "ab" * 32]) == 1


def test_every_system_gets_as_many_draws_and_the_first_is_the_plan(swept: Path) -> None:
    result = json.loads((swept / "sweep.json").read_text())
    assert result["systems"] == ["federated_split", "logistic_regression"]
    found = [(d["system"], d["number"]) for d in result["results"]]
    assert found == [(system, number) for number in range(2) for system in result["systems"]]
    for draw in result["results"]:
        assert (draw["settings"] == {}) == (draw["number"] == 0)
        assert draw["auroc"]["low"] <= draw["auroc"]["value"] <= draw["auroc"]["high"]
    for system, best in result["best"].items():
        values = [d["auroc"]["value"] for d in result["results"] if d["system"] == system]
        assert best == int(np.argmax(values))
    assert sorted(path.name for path in swept.iterdir()) == [
        "plan.toml",
        "sweep.html",
        "sweep.json",
        "sweep.sqlite",
        "tuned.toml",
    ]
    runlog.verify(swept / "sweep.sqlite")


def test_what_was_found_stands_in_tuned_toml_and_run_takes_it(swept: Path, tmp_path: Path) -> None:
    result = json.loads((swept / "sweep.json").read_text())
    tuned = load_plan(swept / "tuned.toml")
    for system, best in result["best"].items():
        (draw,) = (d for d in result["results"] if (d["system"], d["number"]) == (system, best))
        table = getattr(tuned.tuned, system)
        assert (table.model_dump(exclude_none=True) if table else {}) == draw["settings"]
    assert tuned.model_copy(update={"tuned": Plan().tuned}) == load_plan(swept / "plan.toml")
    (other,) = (d for d in result["results"] if (d["system"], d["number"]) == ("logistic_regression", 1))
    sets = [f"tuned.logistic_regression.C={other['settings']['C']}", "run.seeds=[3]", "train.rounds=1"]
    # prepared as a run does it, test units and all, it reaches the figure of the draw
    again = load_plan(swept / "plan.toml", sets=sets)
    prepared, post = preparing.prepare(again, 3, Post()), Post()
    journal = open_journal(tmp_path / "again", again, resume=False, show=quiet)
    bench = make_bench(again, [prepared], [post], journal)
    scores = systems.windowed(bench, Job(place=0), ["logistic_regression"])["logistic_regression"]
    assert scores.validation is not None
    values, _ = validation_auroc([scores.validation], protocol_of(again, prepared))
    assert values == other["by_seed"]
    assert values != result["results"][1]["by_seed"], "the plan as it was does otherwise"
    words = [word for text in sets for word in ("--set", text)]
    out = tmp_path / "out"
    assert main(["run", str(swept / "plan.toml"), "--out", str(out), "--quiet", *words]) == 0
    assert "[tuned.logistic_regression]\nC = " in (out / "report.html").read_text()


def test_the_page_shows_one_table_and_one_figure(swept: Path) -> None:
    page = (swept / "sweep.html").read_text()
    assert page.count("<table") == 1
    assert page.count("<figure") == 1
    assert "federated split" in page
    assert "<script" not in page
    assert "quick look" not in page


def corrupt(table: Table) -> Table:
    """The table with other labels and other values in all its test windows."""
    test = table.split == TEST
    rng = np.random.default_rng(7)
    y_step = table.y_step.copy()
    y_step[test] = rng.integers(0, len(table.schema.classes), y_step[test].shape)
    x = {name: np.where(test[:, None, None], rng.normal(size=v.shape), v) for name, v in table.x.items()}
    x = {name: values.astype(np.float32) for name, values in x.items()}
    return replace(table, x=x, y_step=y_step, y=y_step.max(axis=1))


def test_nothing_of_the_test_units_reaches_a_sweep(
    plan: Plan, swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random labels and values in the test units: the same sweep to the bit."""
    clean = json.loads((swept / "sweep.json").read_text())
    split = preparing.assign_splits
    monkeypatch.setattr(preparing, "assign_splits", lambda *words: corrupt(split(*words)))
    (seed,) = plan.run.seeds[:1]
    honest = preparing.prepare(plan, seed, Post())
    assert (honest.data.y[honest.data.split == TEST] > 0).mean() > 0.5, "the corruption is there"
    assert figures(sweep.run_sweep(plan, sweep.tuning(plan), tmp_path / "other", ABOUT)) == figures(clean)


def test_systems_of_a_sweep_are_given_no_test_unit(plan: Plan) -> None:
    ((prepared, _),) = sweep._prepared(plan, sweep._Shared(seeds=[3]))
    assert set(np.unique(prepared.data.split)) == {TRAIN, VALIDATION}
    assert prepared.sheet["splits"]["test"]["units"] == 0


def test_points_of_a_grid_over_attacks_have_their_own_data(plan: Plan) -> None:
    shared, found = sweep._Shared(seeds=[3]), []
    plan = plan.model_copy(
        update={"data": plan.data.model_copy(update={"options": plan.data.options | {"sites": 4}})}
    )
    for name, share in (("", 0.0), ("label_flip", 0.3), ("sign_flip", 0.3)):
        attack = plan.attack.model_copy(update={"name": name, "share": share})
        ((prepared, _),) = sweep._prepared(plan.model_copy(update={"attack": attack}), shared)
        found.append((prepared.hostile, prepared.data.y))
    assert found[0][0] is None
    assert all(hostile is not None and hostile.any() for hostile, _ in found[1:])
    assert not np.array_equal(found[0][1], found[1][1]), "false labels"
    np.testing.assert_array_equal(found[0][1], found[2][1])


def test_stopped_and_resumed_no_finished_draw_is_run_again(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = plan.sweep.model_copy(update={"systems": ("gru", "logistic_regression")})
    plan = plan.model_copy(update={"sweep": alone})
    trials, out = sweep.tuning(plan), tmp_path / "out"
    whole = sweep.run_sweep(plan, trials, tmp_path / "whole", ABOUT)
    tried: list[tuple[str, int]] = []
    real = sweep._try

    def counted(trial: sweep.Trial, *words: Any) -> dict[str, Any]:
        tried.append((trial.system, trial.number))
        return real(trial, *words)

    def stopping(event: str, body: Any) -> None:
        if event == "round" and "draw 2" in body["system"]:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sweep, "_try", counted)
    with pytest.raises(Interrupted, match="--resume"):
        sweep.run_sweep(plan, trials, out, ABOUT, show=stopping)
    assert not (out / "sweep.json").exists()
    assert tried == [(t.system, t.number) for t in trials[:3]]
    resumed = sweep.run_sweep(plan, trials, out, ABOUT, resume=True)
    assert tried[3:] == [(t.system, t.number) for t in trials[2:]]
    assert figures(resumed) == figures(whole)


def test_resume_refuses_another_sweep(
    swept: Path, plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = open_journal(tmp_path / "out", plan, resume=False, show=quiet, log_name="sweep.sqlite")
    journal.record("sweep", {"seeds": [3], "draws": 9})
    journal.held.release()
    words = ["sweep", str(tmp_path / "plan.toml"), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*words, "--resume"]) == 2
    assert "another sweep" in capsys.readouterr().err
    assert main(words) == 2
    assert "not empty" in capsys.readouterr().err
    runlog.verify(tmp_path / "out" / "sweep.sqlite")
    assert main([*words[:2], "--out", str(swept), "--resume"]) == 2


def test_a_draw_that_diverges_is_counted_and_no_more(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = plan.sweep.model_copy(update={"systems": ("logistic_regression",), "draws": 3})
    trials = sweep.tuning(plan.model_copy(update={"sweep": more}))
    fit: Callable[..., Any] = systems._FITS["logistic_regression"]

    def failing(*words: Any, C: float | None = None, **named: Any) -> Any:
        if trials[1].settings["C"] == C:
            raise WireError("not finite", found="nan")
        return fit(*words, **named)

    monkeypatch.setitem(systems._FITS, "logistic_regression", failing)
    result = sweep.run_sweep(plan, trials, tmp_path / "out", ABOUT)
    assert [d["failed"] for d in result["results"]] == [None, "not finite (found: nan)", None]
    assert result["results"][1]["auroc"]["value"] is None
    assert len(result["results"]) == 3


def test_a_grid_walks_every_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    out = tmp_path / "out"
    words = ["--over", "cut.bits=2,8", "--over", "train.learning_rate=0.01,0.1", "--out", str(out)]
    assert main(["sweep", str(tmp_path / "plan.toml"), *words, "--quick"]) == 0
    result = json.loads((out / "sweep.json").read_text())
    points = [tuple(d["settings"].values()) for d in result["results"]]
    assert points == [("2", "0.01"), ("2", "0.1"), ("8", "0.01"), ("8", "0.1")]
    sent = [d["bytes_per_round"] for d in result["results"]]
    assert sent[0] < sent[2], "fewer bits, fewer bytes"
    assert not (out / "tuned.toml").exists()
    page = (out / "sweep.html").read_text()
    assert "quick look" in page
    assert page.count("<figure") == page.count("<table") == 1
    printed = capsys.readouterr()
    assert "quick look" in printed.out
    assert "train.learning_rate" in printed.out
    assert ", point 4 (seed 3): round" in printed.err
    assert "draw" not in printed.out + printed.err


@pytest.mark.parametrize("over", [(), ("data.options.units_per_site=12,13",)])
def test_what_makes_the_data_doubtful_stands_above_all_once(
    over: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.replace('"rate_threshold"', ""))
    (tmp_path / "unread").mkdir()
    (tmp_path / "unread" / "flows.csv").write_text("a,b\n")
    words = [str(tmp_path / "plan.toml"), "--data", str(tmp_path / "unread"), "--out", str(tmp_path / "out")]
    sets = [
        "--set",
        "sweep.systems=['logistic_regression']",
        *(word for one in over for word in ("--over", one)),
    ]
    assert main(["sweep", *words, *sets]) == 0
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count(f"warning: {UNREAD}") == 1
    page = (tmp_path / "out" / "sweep.html").read_text()
    said = "<strong>Before you read on:</strong>"
    assert page.count(said) == 1
    assert page.index(said) < page.index('id="summary"')


def test_one_of_something_is_no_plural(capsys: pytest.CaptureFixture[str]) -> None:
    result = {
        "mode": "tuning",
        "systems": [],
        "results": [],
        "best": {},
        "seeds": [0],
        "criterion": "AUROC of validation units",
        "quick": True,
        "draws": 1,
        "rounds": 1,
    }
    show_sweep(result)
    printed = capsys.readouterr().out
    assert "1 draw for each system" in printed
    assert "A quick look: 1 round and one seed." in printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--over", "cut.bits"], "--over needs a key"),
        (["--over", "cut.bits=8,"], "--over needs a key"),
        (["--over", "cut.bits=8,8"], "twice"),
        (["--over", "cut.bits=8", "--over", "cut.bits=2"], "a key stands twice"),
        (["--over", "cut.bits=8,9"], "should be from 2 to 8"),
        (["--over", "cut.bit=8"], "did you mean 'cut.bits'"),
        (["--over", "train.rounds=" + ",".join(map(str, range(1, 402)))], "at most 400"),
        (["--over", "run.seeds=[0],[1]"], "says how a sweep runs"),
        (["--over", "sweep.seeds=1,2"], "says how a sweep runs"),
        (["--over", "robustness.seeds=1,2"], "says how a sweep runs"),
    ],
)
def test_wrong_grids(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    assert main(["sweep", str(tmp_path / "plan.toml"), "--out", str(tmp_path / "out"), *words]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_spaces_cover_every_system_that_can_be_tuned() -> None:
    assert set(SPACES) == set(TUNABLE)
    assert set(BASELINES) - {"rate_threshold", "unprotected"} == set(TUNABLE) - {"federated_split"}
    for system, space in SPACES.items():
        assert {name.partition(".")[0] for name in space} <= set(settings_of(system))


@pytest.mark.parametrize("system", TUNABLE)
def test_draws_are_valid_differ_and_repeat(system: str, tmp_path: Path) -> None:
    draws = [draw_settings(system, number, 0) for number in range(30)]
    assert draws[0] == {}
    assert len({json.dumps(draw) for draw in draws}) == 30
    assert draws[7] == draw_settings(system, 7, 0) != draw_settings(system, 7, 1)
    assert SweepPlan().draws == 20
    (tmp_path / "plan.toml").write_text("")
    for draw in draws[1:]:
        laid = load_plan(tmp_path / "plan.toml", overrides={f"tuned.{system}": draw})
        assert getattr(laid.tuned, system).model_dump(exclude_none=True) == draw


def test_a_system_s_own_settings_reach_it_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        '[model]\nname = "gru"\n[cut]\nenabled = false\n[train]\nlearning_rate = 0.01\n'
        "[tuned.federated_split]\nlearning_rate = 0.5\nbatch_units = 3\n"
        "[tuned.gru]\nlearning_rate = 0.25\nlevel_noise = 0.7\noptions = { hidden = 17 }\n"
        "[tuned.cnn]\nstep_noise = 0.2\n[tuned.pooled]\nbatch_units = 5\n"
    )
    plan = load_plan(tmp_path / "plan.toml")
    ours, gru, cnn, pooled = (settled(plan, name) for name in (OURS, "gru", "cnn", "pooled"))
    assert (ours.train.learning_rate, ours.train.batch_units) == (0.5, 3)
    assert ours.model == pooled.model == plan.model
    assert (gru.train.pooled_learning_rate, gru.train.level_noise) == (0.25, 0.7)
    assert gru.train.step_noise == plan.train.step_noise, "the GRU is among the noisy ones of the plan"
    assert gru.model.options == {"hidden": 17}
    assert (cnn.train.step_noise, cnn.train.level_noise, cnn.train.feature_dropout) == (0.2, 0.0, 0.0)
    assert "cnn" in cnn.evaluate.noisy_baselines
    assert (pooled.train.pooled_batch_units, pooled.train.batch_units) == (5, plan.train.batch_units)
    assert settled(plan, "autoencoder") is settled(plan, "local") is plan


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tuned.grru]\nlearning_rate = 1.0\n", ["tuned.grru", "unknown key", "gru"]),
        ("[tuned.gru]\nlearnin_rate = 1.0\n", ["did you mean 'tuned.gru.learning_rate'"]),
        ("[tuned.gru]\nlearning_rate = 0\n", ["tuned.gru.learning_rate", "greater than 0", "more than 0"]),
        ("[tuned.gru]\ntemporal_consistency = 1.0\n", ["unknown key", "keys of [tuned.gru]"]),
        ("[tuned.logistic_regression]\nc = 1.0\n", ["did you mean", "tuned.logistic_regression.C"]),
        ("[tuned.gru]\noptions = { widht = 3 }\n", ["tuned.gru.options", "widht", "hidden"]),
        ("[tuned]\ngru = 3\n", ["tuned.gru"]),
        ("[tuned.gru]\noptions = { hidden = [3] }\n", ["tuned.gru.options", "hidden"]),
        ('[sweep]\nsystems = ["grue"]\n', ["sweep.systems", "grue"]),
        ('[sweep]\nsystems = ["gru", "gru"]\n', ["sweep.systems", "once"]),
    ],
)
def test_wrong_settings(tmp_path: Path, text: str, says: list[str]) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(PlanError) as error:
        load_plan(tmp_path / "plan.toml")
    for word in [*says, "way out"]:
        assert word in str(error.value)
