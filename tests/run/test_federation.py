"""A whole run in which parts of the model stay at the sites and hardly an update arrives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lazaretto import runlog
from lazaretto.commands import write_page
from lazaretto.errors import InputError
from lazaretto.plan import load_plan
from lazaretto.run.experiment import run_plan
from lazaretto.run.judge_new import evaluate_run
from lazaretto.run.saved import load_arrays

PLAN = """
[run]
seeds = [4]
[data.options]
sites = 3
units_per_site = 12
windows = 2
[model.options]
channels = 8
hidden = 8
[train]
rounds = 6
[federate]
algorithm = "fedper"
participation = 0.67
selection = "uniform"
drop_outs = 0.6
server = "momentum"
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("federation")
    (place / "plan.toml").write_text(PLAN)
    run_plan(load_plan(place / "plan.toml"), place / "out")
    return place / "out"


def test_the_log_says_who_arrived_and_when_nobody_did(folder: Path) -> None:
    rounds = [record.body for record in runlog.read(folder / "run.sqlite", "round")]
    assert [body["round"] for body in rounds] == list(range(1, 7))
    arrived = [body["arrived"] for body in rounds]
    assert min(arrived) == 0 < max(arrived) <= 2
    for body in rounds:
        assert (body["loss"] is None) == (body["arrived"] == 0)
        reported = [site for site in body["sites"] if site["loss"] is not None]
        assert len(reported) <= body["arrived"], "a site without validation units has nothing to say"
        assert len(body["sites"]) == 3
    (messages,) = [record.body for record in runlog.read(folder / "run.sqlite", "messages")]
    count = {row["kind"]: row["count"] for row in messages["rows"]}
    assert count["update"] == count["round report"] == sum(arrived)
    # to those chosen, again to those who report, and at the end to everyone
    assert count["model"] == 6 * 2 + sum(arrived) + 3


def test_each_site_s_model_is_kept_and_none_is_judged_elsewhere(folder: Path, tmp_path: Path) -> None:
    arrays, meta = load_arrays(folder / "model.safetensors")
    assert "vector" not in arrays
    assert len(arrays["vectors"]) == len(meta["personal"]["sites"]) == 3
    assert (np.ptp(arrays["vectors"], axis=0) > 0).any()
    with pytest.raises(InputError, match="a model for each site"):
        evaluate_run(folder, "consortium", None, tmp_path / "judged", {})
    assert not (tmp_path / "judged").exists()


def test_its_report_can_be_written(folder: Path) -> None:
    assert "fedper" in write_page(folder).read_text(encoding="utf-8")
