"""A run whose model has a self-supervised score: trained, fused, judged beside the supervised score, used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import runlog
from lazaretto.cli import main
from lazaretto.errors import InputError
from lazaretto.evaluate.fusion import fuse, tails_from_array
from lazaretto.evaluate.scored import OURS, SUPERVISED
from lazaretto.plan import load_plan
from lazaretto.run import fused, judge_new, systems
from lazaretto.run.bench import Bench, Job, make_bench
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare
from lazaretto.run.saved import load_arrays, save_arrays
from lazaretto.types import Message

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
novelty_hidden = 8
[train]
rounds = 4
[evaluate]
baselines = ["local"]
leave_one_out_seeds = 1
bootstrap = 100
"""
SAME = ("--set", "sites=3", "--set", "units_per_site=16", "--set", "windows=2")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fused")
    (folder / "plan.toml").write_text(PLAN)
    assert main(["run", str(folder / "plan.toml"), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


def _metrics(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return found


def test_judged_beside_its_supervised_score_alone(run: Path) -> None:
    metrics = _metrics(run)
    ours, alone = metrics["test"]["traffic"], metrics["baselines"][SUPERVISED]["traffic"]
    assert ours["auroc"]["value"] != alone["auroc"]["value"]
    for table in (ours, alone):
        mean = table["leave_one_family_out_mean"]
        assert 0 <= mean["recall"]["value"] <= 1
        assert 0 <= mean["false_positive_rate"]["value"] <= 1
    claim = next(row for row in metrics["comparison"] if "self-supervised" in row["name"])
    gain = ours["leave_one_family_out_mean"]["recall"]["value"]
    gain -= alone["leave_one_family_out_mean"]["recall"]["value"]
    assert claim["value"] == pytest.approx(gain, abs=1e-9)
    assert claim["against"] == SUPERVISED
    assert "supervised score alone" in (run / "report.html").read_text()


def test_counts_go_up_and_tails_come_down(run: Path) -> None:
    rows = next(runlog.read(run / "run.sqlite", "messages")).body["rows"]
    passed = {row["kind"]: row["count"] for row in rows}
    assert passed["part counts"] == passed["score tails"] == 3  # one for each site


def test_the_saved_model_scores_as_the_run_did(run: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--quiet", str(run), "--source", "consortium", *SAME]
    assert main([*words, "--out", str(tmp_path / "again")]) == 0
    again = _metrics(tmp_path / "again")["test"]["traffic"]
    ours = _metrics(run)["test"]["traffic"]
    for metric in ("auroc", "recall", "latency_steps"):
        assert again[metric]["value"] == pytest.approx(ours[metric]["value"], abs=1e-6)


@pytest.mark.parametrize("spoil", ["no tails", "no weight", "bad tails"])
def test_a_file_with_half_of_it_is_refused(
    run: Path, tmp_path: Path, spoil: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, meta = load_arrays(run / "model.safetensors")
    if spoil == "no tails":
        del arrays["tails"]
    if spoil == "no weight":
        del meta["novelty_weight"]
    if spoil == "bad tails":
        arrays["tails"] = arrays["tails"][:, :, ::-1]
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "plan.toml").write_bytes((run / "plan.toml").read_bytes())
    save_arrays(folder / "model.safetensors", arrays, meta)
    words = ["evaluate", "--quiet", str(folder), "--source", "consortium", *SAME]
    assert main([*words, "--out", str(tmp_path / "again")]) == 2
    assert "tails" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_a_model_without_the_score_does_not_take_tails(run: Path) -> None:
    arrays, _ = load_arrays(run / "model.safetensors")
    meta = judge_new.load_model(run / "model.safetensors")[1]
    plain = meta.model_copy(update={"options": {**meta.options, "novelty_hidden": 0}})
    with pytest.raises(InputError, match="do not fit its model"):
        judge_new._model(run / "model.safetensors", plain, len(arrays["vector"]))


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Bench, systems.Trained, list[Message]]:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "plan.toml").write_text(PLAN)
    messages: list[Message] = []
    plan, post = load_plan(folder / "plan.toml"), Post(tap=messages.append)
    journal = open_journal(folder / "run", plan, resume=False, show=quiet)
    bench = make_bench(plan, [prepare(plan, 3, post)], [post], journal)
    return bench, systems.federated(bench, OURS, Job(place=0)), messages


def test_what_is_fused_is_the_two_scores_by_the_tails_that_were_sent(
    trained: tuple[Bench, systems.Trained, list[Message]],
) -> None:
    bench, found, messages = trained
    (program, _), *_ = bench.programs.values()
    unfused = fused.scores_of(program, found.vector, bench.prepared[0], weight=0.0)
    sent = [message.payload["tails"] for message in messages if message.kind == "score tails"]
    assert len(sent) == 3
    unlike = fused.score_by_site(
        program,
        found.vector,
        fused.select(bench.prepared[0].data, bench.prepared[0].data.split == fused.TEST),
        "novelty",
    )
    expected = fuse(tails_from_array(sent[0]), (unfused["test"], unlike), 1.0)
    np.testing.assert_allclose(found.scores.test.score, expected, rtol=1e-5, atol=1e-5)
    assert found.supervised is not None
    np.testing.assert_array_equal(found.supervised.test.score, unfused["test"])


def test_sites_of_their_own_measure_against_their_own_steps(
    trained: tuple[Bench, systems.Trained, list[Message]],
) -> None:
    bench, found, _ = trained
    (program, _), *_ = bench.programs.values()
    same = np.repeat(found.vector[None], 3, axis=0)
    own = fused.scores_of(program, same, bench.prepared[0], weight=1.0)
    assert "tails" not in own
    np.testing.assert_array_equal(own["supervised.test"], found.supervised.test.score)  # type: ignore[union-attr]
    assert not np.allclose(own["test"], found.scores.test.score)
