"""Noise that sites share: the sum has all of it, whoever tells a part; one that has less is not opened."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto import runlog
from lazaretto.commands import write_page
from lazaretto.dp_local import examples_of
from lazaretto.errors import InputError, LazarettoError, PlanError
from lazaretto.local import SiteData
from lazaretto.plan import Plan, load_plan
from lazaretto.privacy.counts import CountNoise, noisy_counts
from lazaretto.privacy.dp_sgd import dp_sgd
from lazaretto.run.experiment import run_plan
from lazaretto.run.post import Post
from lazaretto.run.prepare import members, prepare
from lazaretto.run.private import PrivateSites, Promise
from lazaretto.run.saved import load_arrays
from lazaretto.run.secret import Door, _secrets
from lazaretto.run.shared_noise import among_of, noise_parts, parts_of
from lazaretto.run.simulate import pack_sites

PLAN = """
[run]
seeds = [2]
[data.options]
sites = 5
units_per_site = 14
windows = 2
[model.options]
channels = 4
hidden = 8
past_steps = 2
peak_steps = 0
[train]
rounds = 3
local_epochs = 0.5
optimiser = "sgd"
momentum = 0
learning_rate = 0.2
class_balance = 0
[aggregate]
rule = "mean"
[secure]
protocol = "masked"
[privacy]
mechanism = "dp_sgd"
distributed = true
noise_multiplier = 2.0
sample_rate = 0.5
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""


def _plan(folder: Path, *sets: str) -> Plan:
    place = folder / "plan.toml"
    place.write_text(PLAN)
    return load_plan(place, sets=list(sets))


@given(
    reach=st.lists(st.tuples(st.floats(0.01, 100), st.floats(1, 500)), min_size=3, max_size=12),
    seed=st.integers(0, 2**31),
)
def test_any_honest_sites_together_add_noise_enough_for_every_example(
    reach: list[tuple[float, float]], seed: int
) -> None:
    weights, expected = (np.array(column) for column in zip(*reach, strict=True))
    among = among_of(len(reach))
    parts = noise_parts(weights, expected, among.honest)
    honest = np.random.default_rng(seed).permutation(len(reach))[: among.honest]
    moved = weights / expected  # by one example, times the clip
    noise = math.sqrt(((moved * parts)[honest] ** 2).sum())  # in the sum, times clip and noise multiplier
    assert noise >= moved.max() * (1 - 1e-9)


def test_one_site_fewer_would_have_too_little() -> None:
    weights, expected = np.full(9, 1 / 9), np.full(9, 20.0)
    among = among_of(9)
    parts = noise_parts(weights, expected, among.honest)
    few = (weights / expected * parts)[: among.honest - 1]
    assert math.sqrt((few**2).sum()) < (weights / expected).max()
    assert among.fewest == among.honest + 1  # one may be in league with who sees the sum


def test_a_site_without_weight_needs_no_noise_and_breaks_nothing() -> None:
    parts = noise_parts(np.array([0.5, 0.5, 0.0]), np.array([10.0, 10.0, 1.0]), 2)
    assert parts == pytest.approx([math.sqrt(0.5), math.sqrt(0.5), 1.0])


def _sites(shared: bool) -> PrivateSites:
    weight = np.ones((6, 1, 40, 4), np.float32)
    data = SiteData(weight, weight, weight, np.full(6, 40), np.ones((6, 2)))
    made = dp_sgd(noise_multiplier=3.0, rate=0.5, clip=2.0)
    parts = parts_of(made, np.full(6, 1 / 6), among_of(6).honest, 100.0, (0.1, 0.01)) if shared else None
    return PrivateSites(Promise(made, "seed"), data, 4, 5000, parts)


def test_the_sum_of_what_sites_draw_is_as_long_as_was_promised() -> None:
    """30,000 draws a case: the deviation is off by more than 2 % with a chance below 1e-5."""
    honest = among_of(6).honest
    own = _sites(shared=False).draw(0, 0, range(6)).noise[:, 0]
    part = _sites(shared=True).draw(0, 0, range(6)).noise[:, 0]
    assert own.std() == pytest.approx(3.0 * 2.0, rel=0.02)
    assert part[:honest].sum(axis=0).std() == pytest.approx(3.0 * 2.0, rel=0.05)
    assert part.std() == pytest.approx(3.0 * 2.0 / math.sqrt(honest), rel=0.02)


def test_an_update_that_the_sum_would_cut_is_refused() -> None:
    made = dp_sgd(noise_multiplier=3.0, rate=0.5, clip=2.0)
    parts = parts_of(made, np.full(6, 1 / 6), 3, 0.5, (0.1, 0.01))
    with pytest.raises(PlanError, match="would be cut") as caught:
        parts(np.full(6, 20.0))
    least = float(str(caught.value.way_out).split("=")[1].split(",")[0])
    parts_of(made, np.full(6, 1 / 6), 3, least, (0.1, 0.01))(np.full(6, 20.0))


@pytest.mark.parametrize(
    ("bound", "least", "fine"), [(100.0, 1e-3, True), (100.0, 1e-6, False), (4e12, 1e-2, False)]
)
def test_noise_that_the_fixed_point_would_round_away_is_refused(
    bound: float, least: float, fine: bool
) -> None:
    made = dp_sgd(noise_multiplier=1.0, rate=0.5, clip=1.0)
    parts = parts_of(made, np.full(6, 1 / 6), 3, bound, (0.1, least))
    if fine:
        parts(np.full(6, 20.0))
        return
    with pytest.raises(PlanError, match="lost in the rounding"):
        parts(np.full(6, 20.0))


def test_counts_share_their_noise() -> None:
    """40,000 cells: the deviation is off by more than 3 % with a chance below 1e-6."""
    rng = np.random.default_rng(5)
    alone = CountNoise(unit="record", noise_multiplier=4.0, normals=lambda what, site: rng.standard_normal)
    among = replace(alone, among=4)
    empty = np.zeros((0, 40_000))
    sent = [noisy_counts(empty, 1.0, among.of_a_site, rng.standard_normal) for _ in range(4)]
    whole = noisy_counts(empty, 1.0, alone.of_a_site, rng.standard_normal)
    assert np.sum(sent, axis=0).std() == pytest.approx(whole.std(), rel=0.03)
    assert among.deviation(1, 4) == pytest.approx(alone.deviation(1, 1))
    with pytest.raises(InputError, match="nobody adds"):
        replace(alone, among=0)


@pytest.mark.parametrize(
    ("sets", "named"),
    [
        (['secure.protocol="none"'], "secure.protocol"),
        (['secure.protocol="sharing"'], "secure.protocol"),
        (['secure.protocol="ckks"'], "secure.protocol"),
        (['privacy.mechanism="dp_ftrl"'], "privacy.mechanism"),
        (['train.optimiser="adam"'], "train.optimiser"),
        (["train.local_epochs=1"], "train.local_epochs"),
        (["train.momentum=0.9"], "train.momentum"),
        (["federate.stragglers=0.2"], "federate.stragglers"),
        (["federate.participation=0.5"], "federate.participation"),
        (["aggregate.client_momentum=0.5"], "aggregate.client_momentum"),
        (['federate.algorithm="fedper"'], "federate.algorithm"),
        (['compress.scheme="random_k"', "compress.share=0.5"], "compress.scheme"),
        (["privacy.options={quantile=0.5,count_noise=5.0}"], "privacy.options"),
        (["train.local_epochs=1.5"], "train.local_epochs"),
    ],
)
def test_what_would_show_a_part_of_the_noise_is_refused(tmp_path: Path, sets: list[str], named: str) -> None:
    with pytest.raises(LazarettoError) as caught:
        _plan(tmp_path, *sets)
    problems = getattr(caught.value, "problems", None) or [caught.value]
    assert any(named in str(one) and "distributed" in str(one) for one in problems), str(caught.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder."""
    folder = tmp_path_factory.mktemp("shared")
    run_plan(_plan(folder), folder / "out")
    return folder / "out"


def _rows(folder: Path, kind: str) -> list[Mapping[str, Any]]:
    return [record.body for record in runlog.read(folder / "run.sqlite", kind)]


def test_a_run_costs_the_same_and_says_for_whom(whole: Path, tmp_path: Path) -> None:
    (said,) = _rows(whole, "privacy")
    assert said["distributed"] is True
    assert said["noise_multiplier"] == 2.0
    assert "each site adds a part" in said["charges"][0]["words"]
    page = write_page(whole).read_text(encoding="utf-8")
    assert "one site's help at most" in page.replace("&#39;", "'").replace("&#x27;", "'")
    assert len(_rows(whole, "round")) == 3


def test_the_model_moves_by_all_of_the_noise(tmp_path: Path) -> None:
    """Some 1,000 parameters: the deviation is off by 15 % with a chance below 1e-8."""
    sets = ("train.rounds=1", "privacy.noise_multiplier=300", "train.learning_rate=0.1", "secure.clip=1000")
    vectors = []
    for name, more in (("once", ()), ("twice", ("train.rounds=2", 'train.schedule="constant"'))):
        plan = _plan(tmp_path, *sets, *more)
        run_plan(plan, tmp_path / name)
        vectors.append(load_arrays(tmp_path / name / "model.safetensors")[0]["vector"])
    prepared = prepare(plan, 2, Post())
    data, steps = pack_sites(prepared.data, members(prepared, None), 1, 0.0, prepared.kinds, 1)
    examples = [len(examples_of("record", own, prepared.data.window)) for own in data.weight]
    reach = steps / steps.sum() / (0.5 * np.array(examples))
    noise = 0.1 * 300 * reach.max() * math.sqrt(5 / among_of(5).honest)
    assert (vectors[1] - vectors[0]).std() == pytest.approx(noise, rel=0.15)


def test_masks_are_as_secret_as_the_noise() -> None:
    """Whoever knows a simulation's seed may take its masks off; under noise of the system nobody may."""
    simulated, real = (Door("masked", 3, "ours", system=system) for system in (False, True))
    assert _secrets(simulated, "masks", 1)("site") == _secrets(simulated, "masks", 1)("site")
    assert _secrets(real, "masks", 1)("site") != _secrets(real, "masks", 1)("site")


def test_doors_of_private_plans_follow_the_noise(tmp_path: Path) -> None:
    for noise in ("seed", "system"):
        prepared = prepare(_plan(tmp_path, f"privacy.noise={noise}"), 2, Post())
        assert prepared.door is not None
        assert prepared.door.system == (noise == "system")


def test_the_curve_compares_with_the_same_units_without_privacy(tmp_path: Path) -> None:
    """By other settings of training, which sites that share noise may not have."""
    (tmp_path / "plan.toml").write_text(PLAN)
    curve = Path(__file__).parents[2] / "benchmarks" / "privacy_curve.py"
    settings = ("train.optimiser=adam", "train.local_epochs=1", "sites.withhold_families=1")
    plain = [word for one in settings for word in ("--plain", one)]
    command = [sys.executable, str(curve), str(tmp_path / "plan.toml"), "--epsilons", "--seeds", "2", *plain]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("| none |"))
    assert 0 < float(row.split("|")[3]) < 1


def test_too_few_updates_are_never_summed(tmp_path: Path) -> None:
    """Four of ten updates are lost: rounds that have too few are refused, and say why."""
    plan = _plan(tmp_path, "federate.drop_outs=0.4", "train.rounds=5")
    run_plan(plan, tmp_path / "out")
    rounds = _rows(tmp_path / "out", "round")
    refused = [str(row.get("refused") or "") for row in rounds]
    assert any("too little noise" in why for why in refused)
    assert not all(refused)
