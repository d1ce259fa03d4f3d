"""What the plan asks of the systems reaches them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.cut import Cut, through
from lazaretto.errors import Interrupted
from lazaretto.plan import load_plan
from lazaretto.run import systems
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare
from lazaretto.run.simulate import compile_program, initial_vectors, score_streams


@pytest.fixture
def bench(tmp_path: Path) -> systems.Bench:
    path = tmp_path / "plan.toml"
    path.write_text(
        "[run]\nseeds = [3]\n[data.options]\nsites = 2\nunits_per_site = 12\nwindows = 2\n"
        "[train]\nfeature_dropout = 0.2\n[evaluate]\nwindow_rows = 321\nwindow_steps = 5\n"
        'noisy_baselines = ["cnn"]\n'
    )
    plan, post = load_plan(path), Post()
    journal = open_journal(tmp_path / "run", plan, resume=False, show=quiet)
    return systems.make_bench(plan, [prepare(plan, 3, post)], [post], journal)


def test_windowed_baselines_see_the_rows_and_steps_of_the_plan(
    bench: systems.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def fit(x: Any, y: Any, valid: Any, others: Any, **limits: Any) -> dict[str, Any]:
        asked.append(limits)
        return {name: np.zeros(there.shape, np.float32) for name, (_, there) in others.items()}

    monkeypatch.setitem(systems._FITS, "gradient_boosting", fit)
    systems.windowed(bench, systems.Job(place=0), ["gradient_boosting"])
    assert asked == [{"seed": 3, "window_steps": 5, "max_rows": 321}]


@pytest.mark.parametrize(
    ("name", "ours", "hidden"), [("conv_gru", True, 0.2), ("gru", False, 0.0), ("cnn", False, 0.2)]
)
def test_only_ours_and_the_noisy_baselines_train_with_noise(
    bench: systems.Bench, name: str, ours: bool, hidden: float
) -> None:
    training = systems._training(bench, name, 4, ours)
    assert training.feature_dropout == hidden
    assert (training.level_noise > 0) == (hidden > 0)
    assert (training.temporal_consistency > 0) == ours
    assert training.synchronise == "step"


@pytest.mark.parametrize("bits", [2, 8])
def test_the_plan_s_cut_rounds_what_passes(bench: systems.Bench, bits: int) -> None:
    plan = bench.plan.model_copy(update={"cut": bench.plan.cut.model_copy(update={"bits": bits})})
    cut = Cut(plan.cut.bits, plan.cut.clip, plan.cut.noise)
    h = np.linspace(-9, 9, 5001, dtype=np.float32)
    passed = np.asarray(through(cut, h))
    assert len(np.unique(passed)) == 2**bits - 1
    assert np.abs(passed).max() == plan.cut.clip


def test_fewer_bits_give_other_scores(bench: systems.Bench) -> None:
    features, kinds, length = bench.shape
    model = catalog.build("models", "conv_gru", {})
    training = systems._training(bench, "conv_gru", 4, ours=True)
    vector = initial_vectors(model, features, kinds, [0])[0]
    x = bench.prepared[0].data.x[:4]
    scores = {
        bits: score_streams(
            compile_program(model, Cut(bits=bits), training, features, kinds, length), vector, x
        )
        for bits in (2, 8, 32)
    }
    coarse, fine = (np.abs(scores[bits] - scores[32]).max() for bits in (2, 8))
    assert 0 < fine < coarse


def test_noise_at_the_cut_is_there_when_scoring_and_repeats(bench: systems.Bench) -> None:
    features, kinds, length = bench.shape
    model = catalog.build("models", "conv_gru", {})
    training = systems._training(bench, "conv_gru", 4, ours=True)
    vector = initial_vectors(model, features, kinds, [0])[0]
    x = bench.prepared[0].data.x[:4]
    quiet_program, noisy = (
        compile_program(model, Cut(noise=noise), training, features, kinds, length) for noise in (0.0, 0.5)
    )
    first = score_streams(noisy, vector, x)
    assert np.abs(first - score_streams(quiet_program, vector, x)).max() > 1e-3
    np.testing.assert_array_equal(first, score_streams(noisy, vector, x))


def test_ctrl_c_in_the_last_round_is_not_swallowed(
    bench: systems.Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = bench.plan.model_copy(update={"train": bench.plan.train.model_copy(update={"rounds": 2})})

    def again(folder: str) -> systems.Bench:
        journal = open_journal(tmp_path / folder, plan, resume=False, show=quiet)
        return replace(bench, plan=plan, journal=journal)

    def interrupting(*words: Any) -> Callable[..., None]:
        def done(round_number: int, losses: Any, vectors: Any) -> None:
            if round_number == 2:
                signal.raise_signal(signal.SIGINT)

        return done

    stopped = again("stopped")
    with monkeypatch.context() as patch:
        patch.setattr(systems, "show_rounds", interrupting)
        with pytest.raises(Interrupted, match="after round 2"):
            systems.local_only(stopped, systems.Job(place=0))
    resumed = systems.local_only(stopped, systems.Job(place=0))
    whole = systems.local_only(again("whole"), systems.Job(place=0))
    np.testing.assert_array_equal(resumed.test.score, whole.test.score)


def test_pooled_models_have_their_own_rounds_and_rate(bench: systems.Bench) -> None:
    train = bench.plan.train.model_copy(update={"pooled_rounds": 7})
    plan = bench.plan.model_copy(update={"train": train})
    assert systems._schedule(plan).rounds == systems._schedule(bench.plan, pooled=True).rounds == train.rounds
    pooled = systems._schedule(plan, pooled=True)
    assert (pooled.rounds, pooled.learning_rate) == (7, train.pooled_learning_rate)
