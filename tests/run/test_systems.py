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
from lazaretto.evaluate.scored import OURS
from lazaretto.plan import load_plan
from lazaretto.run import experiment, systems
from lazaretto.run.bench import Bench, Job, make_bench, program_of, schedule_of, training_of
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare
from lazaretto.run.simulate import compile_program, initial_vectors, score_streams


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    path = tmp_path / "plan.toml"
    path.write_text(
        "[run]\nseeds = [3]\n[data.options]\nsites = 2\nunits_per_site = 12\nwindows = 2\n"
        "[train]\nfeature_dropout = 0.2\n[evaluate]\nwindow_rows = 321\nwindow_steps = 5\n"
        'noisy_baselines = ["cnn"]\n'
    )
    plan, post = load_plan(path), Post()
    journal = open_journal(tmp_path / "run", plan, resume=False, show=quiet)
    return make_bench(plan, [prepare(plan, 3, post)], [post], journal)


def test_windowed_baselines_see_the_rows_and_steps_of_the_plan(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def fit(x: Any, y: Any, valid: Any, others: Any, **limits: Any) -> dict[str, Any]:
        asked.append(limits)
        return {name: np.zeros(there.shape, np.float32) for name, (_, there) in others.items()}

    monkeypatch.setitem(systems._FITS, "gradient_boosting", fit)
    systems.windowed(bench, Job(place=0), ["gradient_boosting"])
    assert asked == [{"seed": 3, "window_steps": 5, "max_rows": 321}]


@pytest.mark.parametrize(
    ("name", "ours", "hidden"), [("conv_gru", True, 0.2), ("gru", False, 0.0), ("cnn", False, 0.2)]
)
def test_only_ours_and_the_noisy_baselines_train_with_noise(
    bench: Bench, name: str, ours: bool, hidden: float
) -> None:
    training = training_of(bench, name, 4, ours)
    assert training.feature_dropout == hidden
    assert (training.level_noise > 0) == (hidden > 0)
    assert (training.temporal_consistency > 0) == ours
    assert training.synchronise == "step"


@pytest.mark.parametrize("bits", [2, 8, 32])
@pytest.mark.parametrize("system", ["federated", "local"])
def test_the_plan_s_cut_is_the_one_that_is_trained_with(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, bits: int, system: str
) -> None:
    plan = bench.plan.model_copy(update={"cut": bench.plan.cut.model_copy(update={"bits": bits})})
    asked: list[Cut] = []

    class Enough(Exception):
        pass

    def compile_program(model: Any, cut: Cut, *others: Any) -> None:
        asked.append(cut)
        raise Enough

    monkeypatch.setattr("lazaretto.run.bench.compile_program", compile_program)
    asking, job = replace(bench, plan=plan), Job(place=0)
    train = {
        "federated": lambda: systems.federated(asking, OURS, job),
        "local": lambda: systems.local_only(asking, job),
    }
    with pytest.raises(Enough):
        train[system]()
    assert asked == [Cut(bits=bits, clip=4.0)]
    h = np.linspace(-9, 9, 5001, dtype=np.float32)
    assert len(np.unique(np.asarray(through(asked[0], h)))) == (5001 if bits == 32 else 2**bits - 1)


def scored(bench: Bench, cut: Cut, x: Any, secret: bool = False) -> Any:
    """Scores of `x` by the untrained model of seed 0, cut as given."""
    features, kinds, length = bench.shape
    model = catalog.build("models", "conv_gru", {})
    training = training_of(bench, "conv_gru", 4, ours=True)
    program = compile_program(model, cut, training, features, kinds, length)
    return score_streams(program, initial_vectors(model, features, kinds, [0])[0], x, secret=secret)


def test_fewer_bits_give_other_scores(bench: Bench) -> None:
    x = bench.prepared[0].data.x[:4]
    scores = {bits: scored(bench, Cut(bits=bits), x) for bits in (2, 8, 32)}
    coarse, fine = (np.abs(scores[bits] - scores[32]).max() for bits in (2, 8))
    assert 0 < fine < coarse


def test_noise_at_the_cut_is_there_when_scoring_and_repeats(bench: Bench) -> None:
    x, noisy = bench.prepared[0].data.x[:4], Cut(noise=0.5)
    first = scored(bench, noisy, x)
    assert np.abs(first - scored(bench, Cut(), x)).max() > 1e-3
    np.testing.assert_array_equal(first, scored(bench, noisy, x))
    # the same unit 200 times over, followed by another one: every copy gets noise of its own, in every block
    many = scored(bench, noisy, np.concatenate([np.repeat(x[:1], 200, axis=0), x[1:2]]))
    assert len(np.unique(many[:200], axis=0)) > 100
    assert np.abs(many[0] - many[1]).max() > 1e-3
    twice = [scored(bench, noisy, x, secret=True) for _ in range(2)]  # of the system: it tells of nobody
    assert np.abs(twice[0] - twice[1]).max() > 1e-3


@pytest.mark.parametrize(("by", "same"), [("time", True), ("unit", False)])
def test_seeds_that_judge_the_same_steps_are_known(tmp_path: Path, by: str, same: bool) -> None:
    lines = ["start_time,src,dst,dport,bytes_total,packets_total,duration_seconds,label"]
    for step in range(600):
        host, bad = step % 6, (step // 60) % 3 == 1
        label = "flood" if bad else "normal"
        lines.append(
            f"{1000 + step},10.0.0.{host},10.0.1.1,80,{100 + step % 37 + 50 * bad},{3 + bad},1.5,{label}"
        )
    (tmp_path / "flows.csv").write_text("\n".join(lines) + "\n")
    path = tmp_path / "plan.toml"
    path.write_text(
        f"""[run]\nseeds = [0, 1]\n[data]\nsource = "flows_csv"\npath = "{tmp_path}"\n"""
        """[data.options]\nunit = "source_address"\nsteps = { flows = 5, per_window = 2 }\n"""
        """[data.options.columns]\nsource_address = "src"\ndestination_address = "dst"\n"""
        """destination_port = "dport"\nlabel = "label"\nstart_time = "start_time"\n"""
        """bytes_total = "bytes_total"\npackets_total = "packets_total"\n"""
        """[data.options.label]\nnormal = ["normal"]\n"""
        f"""[sites]\nby = "unit"\ncount = 1\n[split]\nby = "{by}"\nvalidation = 0.3\ntest = 0.3\n"""
    )
    plan = load_plan(path)
    prepared = [prepare(plan, seed, Post()) for seed in plan.run.seeds]
    assert experiment._same_units(prepared) is same
    assert experiment._same_units(prepared[:1])


def test_ctrl_c_in_the_last_round_is_not_swallowed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = bench.plan.model_copy(update={"train": bench.plan.train.model_copy(update={"rounds": 2})})

    def again(folder: str) -> Bench:
        journal = open_journal(tmp_path / folder, plan, resume=False, show=quiet)
        return replace(bench, plan=plan, journal=journal)

    def interrupting(*words: Any) -> Callable[..., None]:
        def done(round_number: int, losses: Any, vectors: Any, seconds: float) -> None:
            if round_number == 2:
                signal.raise_signal(signal.SIGINT)

        return done

    stopped = again("stopped")
    with monkeypatch.context() as patch:
        patch.setattr(systems, "show_rounds", interrupting)
        with pytest.raises(Interrupted, match="after round 2"):
            systems.local_only(stopped, Job(place=0))
    resumed = systems.local_only(stopped, Job(place=0))
    whole = systems.local_only(again("whole"), Job(place=0))
    np.testing.assert_array_equal(resumed.test.score, whole.test.score)


def test_pooled_models_have_their_own_rounds_and_rate(bench: Bench) -> None:
    train = bench.plan.train.model_copy(update={"pooled_rounds": 7})
    plan = bench.plan.model_copy(update={"train": train})
    assert schedule_of(plan).rounds == schedule_of(bench.plan, pooled=True).rounds == train.rounds
    pooled = schedule_of(plan, pooled=True)
    assert (pooled.rounds, pooled.learning_rate) == (7, train.pooled_learning_rate)
    train = train.model_copy(update={"pooled_rounds": None, "rounds": 9, "local_epochs": 0.4})
    plan = bench.plan.model_copy(update={"train": train})
    assert (schedule_of(plan).rounds, schedule_of(plan, pooled=True).rounds) == (9, 4)


def test_programs_are_told_apart_by_the_options_of_the_algorithm(bench: Bench) -> None:
    training = training_of(bench, "conv_gru", 4, ours=True)
    for mu in (0.01, 0.3):
        federate = bench.plan.federate.model_copy(update={"algorithm": "fedprox", "options": {"mu": mu}})
        own = replace(bench, plan=bench.plan.model_copy(update={"federate": federate}))
        program_of(own, "conv_gru", Cut(), training, federated=True)
    assert len(bench.programs) == 2


def test_scores_say_which_units_they_are_of(bench: Bench) -> None:
    scores = systems.windowed(bench, Job(place=0), ["rate_threshold"])["rate_threshold"]
    assert scores.validation is not None
    there, judged = scores.validation.unit, scores.test.unit
    assert there is not None
    assert judged is not None
    assert not set(there) & set(judged), "a threshold set on a judged unit would be refused"
