"""Whole runs whose sites count with noise: what leaves them, what is logged, and that the page stands."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from lazaretto import runlog
from lazaretto.commands import write_page
from lazaretto.data.streams import select, windows_of
from lazaretto.evaluate.operating import EVERYONE
from lazaretto.evaluate.scored import OURS
from lazaretto.keys import generator
from lazaretto.plan import Plan, load_plan
from lazaretto.privacy.counts import CountNoise
from lazaretto.run import experiment, systems
from lazaretto.run.bench import Job, make_bench
from lazaretto.run.experiment import run_plan
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare
from lazaretto.run.progress import display
from lazaretto.run.saved import load_arrays
from lazaretto.types import VALIDATION, Message

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
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""


class _Counting:
    """Normal numbers of a seed, and how often they were asked for by what is counted."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}

    def __call__(self, what: str, site: int) -> Callable[[int], NDArray[np.float64]]:
        self.asked[what] = self.asked.get(what, 0) + 1
        return generator(2, "noise", what, site).standard_normal


def _plan(folder: Path, *sets: str) -> Plan:
    place = folder / "plan.toml"
    place.write_text(PLAN)
    return load_plan(place, sets=list(sets))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, _Counting]:
    """A finished run's folder, and who asked for noise."""
    folder, source = tmp_path_factory.mktemp("noisy"), _Counting()
    noise = CountNoise(unit="record", noise_multiplier=1.0, normals=source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "prepare", partial(prepare, count_noise=noise))
        run_plan(_plan(folder), folder / "out")
    return folder / "out", source


def _rows(folder: Path, kind: str) -> list[Mapping[str, Any]]:
    return [record.body for record in runlog.read(folder / "run.sqlite", kind)]


def test_no_site_says_its_loss_or_auroc(made: tuple[Path, _Counting]) -> None:
    rounds = _rows(made[0], "round")
    assert [body["round"] for body in rounds] == [1, 2]
    for body in rounds:
        assert body["loss"] is None
        assert body["validation_auroc"] is None
        assert body["sites"] == []
        assert body["arrived"] == 4
        assert body["updates"]["sites"]
        assert len(body["updates"]["spectrum"]) == 4, "one for each update"
        assert body["updates"]["spectrum"][0] == pytest.approx(body["updates"]["share"], abs=1e-4)
    kinds = {row["kind"] for body in _rows(made[0], "messages") for row in body["rows"]}
    assert "round report" not in kinds
    assert {"scaling counts", "score counts", "threshold"} <= kinds


def test_noise_is_drawn_once_for_each_site_and_count(made: tuple[Path, _Counting]) -> None:
    """The judge, the kept model and the worked case all read what was agreed on; none draws again."""
    assert made[1].asked == {"scaling": 4, "thresholds": 4}


def test_the_kept_model_alarms_where_the_sites_agreed(made: tuple[Path, _Counting]) -> None:
    _, kept = load_arrays(made[0] / "model.safetensors")
    told = _rows(made[0], "metrics")[0]["test"]["traffic"]["operating_points"]
    assert told.keys() == kept["operating"]["thresholds"].keys() - {"main"}
    assert kept["operating"]["thresholds"]["main"][str(EVERYONE)] is not None


def test_the_page_and_the_display_stand_without_reports(made: tuple[Path, _Counting]) -> None:
    page = write_page(made[0]).read_text(encoding="utf-8")
    assert "No curve by site was recorded" in page
    console = Console(file=io.StringIO(), width=200)
    with display(console=console) as show:
        for body in _rows(made[0], "round"):
            show("round", body)
            show("round", {**body, "arrived": 0})
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.count("no update came") == 2
    assert said.count("loss") == 0


@pytest.mark.parametrize(
    ("unit", "sets"),
    [
        ("patient", ['secure.protocol="masked"']),
        ("record", ['federate.algorithm="fedper"']),
    ],
)
def test_secret_sums_and_models_of_a_sites_own(unit: str, sets: list[str], tmp_path: Path) -> None:
    """With a secret sum no count is seen; where each site has its own threshold none leaves it."""
    plan, sent = _plan(tmp_path, *sets), list[Message]()
    noise = CountNoise(unit=unit, noise_multiplier=1.0, normals=_Counting())  # type: ignore[arg-type]
    post = Post(sent.append)
    prepared = prepare(plan, 2, post, count_noise=noise)
    journal = open_journal(tmp_path / "out", plan, resume=False, show=quiet)
    trained = systems.federated(make_bench(plan, [prepared], [post], journal), OURS, Job(place=0))
    operating = trained.scores.operating
    assert operating is not None
    assert np.isfinite(operating.thresholds["main"][EVERYONE])
    assert not any(message.kind in ("score counts", "round report") for message in sent)
    assert (set(operating.platt) > {EVERYONE}) is (unit == "record")


def test_windows_stand_alone(tmp_path: Path) -> None:
    data = prepare(_plan(tmp_path), 2, Post()).data
    own = select(data, data.split == VALIDATION)
    alone = windows_of(replace(own, valid=own.valid & (np.arange(own.y.shape[1]) >= data.window)))
    assert alone.x.shape[1] == data.window
    assert np.array_equal(alone.x, own.x[:, data.window :].reshape(alone.x.shape))
    assert np.array_equal(alone.judged.sum(), own.judged[:, data.window :].sum())
    assert np.array_equal(alone.site, np.repeat(own.site, own.y.shape[1] // data.window - 1))
