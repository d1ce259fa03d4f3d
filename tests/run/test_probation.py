"""Rounds on probation: training that begins anew without those who are in quarantine after them."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import runlog
from lazaretto.cli import main
from lazaretto.commands import write_page
from lazaretto.errors import Interrupted
from lazaretto.plan import load_plan
from lazaretto.run.experiment import run_plan
from lazaretto.run.saved import load_arrays
from lazaretto.run.systems import OURS

PLAN = """
[run]
seeds = [2]
[data.options]
sites = 8
units_per_site = 12
windows = 2
[model.options]
channels = 8
hidden = 8
[train]
rounds = 4
[aggregate]
rule = "geometric_median"
[reputation]
enabled = true
decay = 0.3
probation_rounds = 3
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""
HOSTILE = ('attack.name="gaussian"', "attack.share=0.25", "attack.options={ scale = 10.0 }")


def cost_of(folder: Path) -> Mapping[str, float]:
    """What training ours cost, as the log has it."""
    stages = [record.body for record in runlog.read(folder / "run.sqlite", "stage")]
    return next(dict(body["cost"]) for body in stages if body["name"] == OURS)


def rewards_of(folder: Path) -> list[Mapping[str, Any]]:
    """What was logged of rewards."""
    return [record.body for record in runlog.read(folder / "run.sqlite", "reward")]


def run(folder: Path, *sets: str, **more: Any) -> tuple[list[Mapping[str, Any]], Any]:
    """Bodies of the rounds, and the vector that came of them."""
    place = folder.parent / "plan.toml"
    place.write_text(PLAN)
    run_plan(load_plan(place, sets=list(sets)), folder, **more)
    rounds = [record.body for record in runlog.read(folder / "run.sqlite", "round")]
    return rounds, load_arrays(folder / "model.safetensors")[0]["vector"]


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Mapping[str, Any]], Any, Path]:
    folder = tmp_path_factory.mktemp("probation") / "out"
    return (*run(folder, *HOSTILE), folder)


def test_training_begins_anew_without_who_is_out(flipped: Any) -> None:
    rounds, _, folder = flipped
    sheet = next(runlog.read(folder / "run.sqlite", "data")).body
    out = set(rounds[2]["quarantined"])
    assert out == set(sheet["attack"]["sites"])
    assert [body["round"] for body in rounds] == list(range(1, 8))
    assert [body["rounds"] for body in rounds] == [4] * 3 + [7] * 4
    assert [bool(body.get("began_anew")) for body in rounds] == [False] * 3 + [True] + [False] * 3
    assert all(set(body["quarantined"]) >= out for body in rounds[3:])
    page = write_page(folder).read_text(encoding="utf-8")
    assert "training began anew" in page.lower()


def test_the_log_says_whose_share_of_a_reward_is_what(flipped: Any) -> None:
    """Trust at the end times training steps, and nothing for those who are out."""
    rounds, _, folder = flipped
    (said,) = rewards_of(folder)
    sheet = next(runlog.read(folder / "run.sqlite", "data")).body
    assert (said["seed"], said["system"], said["rounds"]) == (2, rounds[-1]["system"], 7)
    sites = {site["name"]: site for site in said["sites"]}
    assert list(sites) == [site["name"] for site in sheet["sites"]]
    assert {name: site["trust"] for name, site in sites.items()} == rounds[-1]["trust"]
    assert [name for name, site in sites.items() if site["quarantined"]] == rounds[-1]["quarantined"]
    assert sum(site["train_steps"] for site in sites.values()) == sheet["splits"]["train"]["steps"]
    assert set(sheet["attack"]["sites"]) <= {name for name, site in sites.items() if site["share"] == 0}
    part = {
        name: 0.0 if site["quarantined"] else site["trust"] * site["train_steps"]
        for name, site in sites.items()
    }
    assert {name: site["share"] for name, site in sites.items()} == pytest.approx(
        {name: value / sum(part.values()) for name, value in part.items()}, rel=1e-12
    )
    page = write_page(folder).read_text(encoding="utf-8")
    assert "What each site&#39;s share of a reward would be" in page


def test_nothing_is_left_of_what_was_thrown_away(flipped: Any, tmp_path: Path) -> None:
    """However loud hostile sites were in the rounds before, the model is the same to the bit."""
    rounds, vector, _ = flipped
    louder, other = run(tmp_path / "out", *HOSTILE, "attack.options={ scale = 2.5 }")
    assert louder[2]["quarantined"] == rounds[2]["quarantined"]
    assert louder[1]["loss"] != rounds[1]["loss"]
    np.testing.assert_array_equal(other, vector)


ON_AND_OFF = '''
"""Hostile in the first two rounds, and then good."""
from __future__ import annotations
from lazaretto.attack_types import Attack

def on_and_off() -> Attack:
    """Noise, and then what an honest site would send. Nobody 2026, arXiv:2601.00001."""

    def craft(honest, own, context, rng):
        noise = rng.standard_normal(own.shape).astype("float32")
        return noise if context.round_number <= 2 else own

    return Attack(name="on_and_off", kind="updates", knows="own", craft=craft)
'''


def test_nobody_comes_back_on_probation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hostile sites taught is in the model, however well they behave when the probation ends."""
    parts = tmp_path / "parts" / "attack"
    parts.mkdir(parents=True)
    (parts / "on_and_off.py").write_text(ON_AND_OFF)
    monkeypatch.setenv("LAZARETTO_PATH", str(tmp_path / "parts"))
    sets = ('attack.name="on_and_off"', "attack.share=0.25", "reputation.readmit_rounds=1", "train.rounds=5")
    rounds, _ = run(tmp_path / "plain", *sets, "reputation.probation_rounds=0")
    assert rounds[1]["quarantined"]
    assert not rounds[3]["quarantined"], "they would be back"
    held, _ = run(tmp_path / "held", *sets, "reputation.probation_rounds=4")
    assert held[3]["quarantined"] == held[1]["quarantined"] == rounds[1]["quarantined"]
    assert [bool(body.get("began_anew")) for body in held].index(True) == 4
    assert set(held[-1]["quarantined"]) >= set(held[1]["quarantined"])


def test_without_anybody_out_it_costs_nothing(tmp_path: Path) -> None:
    rounds, vector = run(tmp_path / "out")
    assert not any(body["quarantined"] for body in rounds)
    assert len(rounds) == 4
    _, plain = run(tmp_path / "plain", "reputation.probation_rounds=0")
    np.testing.assert_array_equal(vector, plain)


@pytest.mark.parametrize("stop", [3, 5, 7])
def test_a_stopped_run_goes_on_to_the_same_bits(stop: int, flipped: Any, tmp_path: Path) -> None:
    """Also where it stops between probation and the training anew, and after the last round."""

    def show(kind: str, body: Mapping[str, Any]) -> None:
        if kind == "round" and body["round"] == stop:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        run(tmp_path / "out", *HOSTILE, show=show)
    rounds, vector = run(tmp_path / "out", *HOSTILE, resume=True)
    np.testing.assert_array_equal(vector, flipped[1])
    assert [body["quarantined"] for body in rounds] == [body["quarantined"] for body in flipped[0]]
    assert cost_of(tmp_path / "out") == cost_of(flipped[2])
    assert rewards_of(tmp_path / "out") == rewards_of(flipped[2])


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["reputation.probation_rounds=1"], "from 2 to 4, or 0"),
        (["reputation.probation_rounds=5"], "from 2 to 4, or 0"),
        (["reputation.decay=0.8"], "0, or more train.rounds"),
        (["reputation.at_most=0.1", "sites.count=8"], "no room for a single site"),
        (["reputation.probation_rounds=-1"], "reputation.probation_rounds"),
        (["reputation.enabled=false", "reputation.decay=0.8"], "has no meaning"),
    ],
)
def test_probations_that_make_no_sense(
    sets: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    words = [word for one in sets for word in ("--set", one)]
    assert main(["run", str(tmp_path / "plan.toml"), *words, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
