"""Private training at one site: the clip is a bound, the noise has its size, examples are sampled as said.

Statistical tests here have fixed seeds; each says its error rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dp_accounting import NoOpDpEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from numpy.typing import NDArray
from scipy.stats import chi2, kstest

from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.dp_local import (
    Drawn,
    clipped_sum,
    examples_of,
    make_example_gradient,
    make_private_round,
    private_training,
)
from lazaretto.errors import PlanError
from lazaretto.local import LocalState, LocalTraining, SiteData, local_start, make_site_round
from lazaretto.parameters import unravel_of
from lazaretto.privacy.draws import chance_of, poisson_rows, turn_rows
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.run.private import PrivateSites, Promise

F, K, T, UNITS, DEVICES, WINDOWS = 3, 2, 4, 6, 2, 2
MODEL = catalog.build("models", "conv_gru", {"channels": 4, "cut_channels": 3, "hidden": 5, "bins": 1})
UNRAVEL = unravel_of(MODEL, F, K)
PLAIN = LocalTraining(
    window=T,
    batch_units=UNITS,
    optimiser="sgd",
    momentum=0.0,
    temporal_consistency=0.0,
    class_balance=0.0,
    synchronise="step",
    shuffle=False,
)
TRAINING = private_training(PLAIN)
EXACT = Cut(bits=32)
GRID = 2.0**-20  # what is released is rounded to this


def mechanism(**more: Any) -> Mechanism:
    """A mechanism of records; the event is not looked at here."""
    usual: dict[str, Any] = {
        "name": "dp_sgd",
        "unit": "record",
        "clip": 1.0,
        "noise_multiplier": 1.0,
        "sampling": "poisson",
        "rate": 0.5,
        "steps": 3,
        "event": lambda steps: NoOpDpEvent(),
    }
    return Mechanism(**(usual | more))


def site(seed: int = 0) -> SiteData:
    rng = np.random.default_rng(seed)
    shape = (DEVICES, UNITS, WINDOWS * T)
    return SiteData(
        x=jnp.asarray(rng.normal(size=(*shape, F)), jnp.float32),
        y=jnp.asarray(rng.integers(0, K + 1, shape), jnp.int32),
        weight=jnp.ones(shape),
        units=jnp.int32(UNITS),
        class_weight=jnp.ones(K + 2),
    )


@cache
def vector() -> NDArray[np.float32]:
    return np.asarray(ravel_pytree(MODEL.init(jax.random.key(0), F, K))[0])


@cache
def gradient() -> Callable[..., Any]:
    """(flat parameters, x, y, weight, key) -> flat gradient of one example, compiled."""
    of_example = make_example_gradient(MODEL, EXACT, TRAINING, K + 2)
    return jax.jit(lambda flat, *example: ravel_pytree(of_example(UNRAVEL(flat), *example))[0])


@cache
def private_round(unit: Any = "record") -> Callable[..., tuple[LocalState, Any]]:
    return jax.jit(make_private_round(MODEL, EXACT, TRAINING, UNRAVEL, mechanism(unit=unit)))


def start() -> LocalState:
    return local_start(MODEL, TRAINING, jnp.asarray(vector()), UNRAVEL, DEVICES)


def examples(data: SiteData) -> tuple[Any, ...]:
    """All records of a site, and a key for each."""
    n = DEVICES * UNITS * WINDOWS
    keys = jax.random.split(jax.random.key(5), n)
    return data.x.reshape(n, T, F), data.y.reshape(n, T), data.weight.reshape(n, T), keys


def everybody(unit: Any, clip: float, noise: NDArray[np.float32] | None = None) -> Drawn:
    """One step of all examples of a site."""
    n = DEVICES * UNITS * (WINDOWS if unit == "record" else 1)
    noise = np.zeros((1, vector().size), np.float32) if noise is None else noise
    return Drawn(
        np.arange(n, dtype=np.int32)[None],
        np.int32([n]),
        noise,
        np.float32(clip),
        np.float32(n),
        np.float32(GRID),
    )


def test_with_no_noise_and_no_clip_a_step_is_a_plain_one() -> None:
    data, rate = site(), 0.1
    whole = replace(PLAIN, clip_norm=float("inf"))
    # a plain round steps after each window; the site's first windows alone are one step of either
    short = data._replace(**{name: getattr(data, name)[:, :, :T] for name in ("x", "y", "weight")})
    plain = make_site_round(MODEL, EXACT, whole, UNRAVEL)
    expected, _ = plain(start(), short, jax.random.key(1), rate)
    drawn = everybody("patient", 1e9)
    found, _ = private_round()(start(), short, jax.random.key(1), rate, drawn)
    np.testing.assert_allclose(found.vector, expected.vector, atol=2e-6)
    assert np.abs(np.asarray(expected.vector) - vector()).max() > 1e-4


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_a_step_is_the_sum_of_clipped_gradients_one_by_one(unit: Any) -> None:
    data, rate = site(), 0.1
    steps = T if unit == "record" else WINDOWS * T
    n = data.y.size // steps
    x, y, weight = data.x.reshape(n, steps, F), data.y.reshape(n, steps), data.weight.reshape(n, steps)
    each = [gradient()(vector(), x[i], y[i], weight[i], jax.random.key(0)) for i in range(n)]
    length = [float(np.linalg.norm(own)) for own in each]
    clip, total, short = float(np.median(length)), np.zeros(vector().size), 0
    for own, long in zip(each, length, strict=True):
        total += np.asarray(own, np.float64) * min(1.0, clip / long)
        short += long <= clip
    found, said = private_round(unit)(start(), data, jax.random.key(2), rate, everybody(unit, clip))
    np.testing.assert_allclose(found.vector, vector() - rate * total / n, atol=2e-6)
    assert said.tolist() == [short]


def test_a_step_of_any_size_is_the_sum_of_its_examples() -> None:
    """Examples are taken 16 at a time and the rest 8 at a time; nobody is lost or counted twice between."""
    data, rate, clip = site(), 0.1, 0.1
    x, y, weight, keys = examples(data)
    each = np.stack([np.asarray(gradient()(vector(), *own)) for own in zip(x, y, weight, keys, strict=True)])
    length = np.linalg.norm(each, axis=1)
    clipped = each * np.minimum(1, clip / length)[:, None]
    whole = everybody("record", clip)
    for places, count in [(24, n) for n in (0, 1, 8, 9, 16, 17, 23, 24)] + [(6, 0), (6, 5)]:
        drawn = whole._replace(rows=whole.rows[:, :places], count=np.int32([count]))
        found, said = private_round()(start(), data, jax.random.key(2), rate, drawn)
        total = clipped[:count].sum(axis=0)
        grid = 2.0**-12 * clip / len(each)
        np.testing.assert_allclose(found.vector, vector() - rate * total / len(each), atol=rate * grid + 1e-6)
        assert said.tolist() == [(length[:count] <= clip).sum()]


def _without_clip_on_one(each: Any, real: Any, clip: Any) -> Any:
    """The planted fault: one parameter's gradient is added as it is."""
    length = jnp.sqrt(sum((leaf**2).reshape(len(real), -1).sum(1) for leaf in jax.tree.leaves(each)))
    scale = jnp.minimum(1.0, clip / length) * real
    leaves, structure = jax.tree.flatten(each)
    made = [jnp.tensordot(scale if i else real * 1.0, leaf, axes=1) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, made)


def _apart(summed: Callable[[Any, Any], Any], without: int, clip: float) -> float:
    """How far the sum of a site's clipped gradients moves when one example is not there."""
    real = np.ones(DEVICES * UNITS * WINDOWS, np.bool_)
    less = real.copy()
    less[without] = False
    one, other = (ravel_pytree(summed(jnp.asarray(who), clip))[0] for who in (real, less))
    return float(np.linalg.norm(np.asarray(one) - np.asarray(other)))


@cache
def _each() -> Any:
    of_example = make_example_gradient(MODEL, EXACT, TRAINING, K + 2)
    own = jax.vmap(lambda example: of_example(UNRAVEL(vector()), *example))
    return jax.jit(own)(examples(site()))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, DEVICES * UNITS * WINDOWS - 1), st.floats(0.01, 3.0))
def test_one_example_moves_the_sum_by_no_more_than_the_clip(without: int, clip: float) -> None:
    def summed(real: Any, clip: float) -> Any:
        return clipped_sum(lambda _, own: own, None, _each(), real, jnp.float32(clip))[0]

    assert _apart(summed, without, clip) <= clip * (1 + 1e-5)


def test_planted_fault_clipping_skipped_on_one_parameter() -> None:
    clip = 0.01
    worst = max(
        _apart(lambda real, clip: _without_clip_on_one(_each(), real, clip), i, clip)
        for i in range(DEVICES * UNITS * WINDOWS)
    )
    assert worst > 1.5 * clip, "the law above would not notice this fault"


def test_an_example_that_is_not_finite_counts_for_nothing() -> None:
    each = {"w": jnp.array([[1.0, 0.0], [jnp.nan, 1.0], [jnp.inf, 0.0], [0.0, 3.0]])}
    total, short = clipped_sum(lambda _, own: own, None, each, jnp.ones(4, bool), jnp.float32(1.0))
    np.testing.assert_allclose(total["w"], [1.0, 1.0])
    assert int(short) == 1


@pytest.mark.parametrize("where", [0, 1])
def test_a_row_that_is_not_real_and_not_finite_does_no_harm(where: int) -> None:
    """Compiled, in a loop: nothing of such a row, nor of a real one that is not finite, reaches the sum."""
    each = {"w": jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 3.0]]).at[where].set(jnp.nan)}
    real = jnp.array([True, False, True])

    def summed(_: None, clip: Any) -> tuple[None, Any]:
        return None, clipped_sum(lambda _, own: own, None, each, real, clip)

    _, (total, short) = jax.jit(lambda clips: jax.lax.scan(summed, None, clips))(jnp.array([1.0, 4.0]))
    first = [0.0, 1.0][where]
    np.testing.assert_allclose(total["w"], [[first, 1.0], [first, 3.0]])
    assert short.tolist() == [where, where + 1]


def _noise_of_training(seed: int, **faults: float) -> NDArray[np.float64]:
    """What a round adds to the parameters, by each step's full size of noise, where no example is drawn."""
    made, data, rate = mechanism(rate=1e-9, clip=0.5), site(), 0.1
    packed = jax.tree.map(lambda leaf: np.asarray(leaf)[None], data)
    sites = PrivateSites(Promise(made, "seed"), packed, T, vector().size)
    drawn = jax.tree.map(lambda leaf: leaf[0], sites.draw(seed, 0, [0]))
    drawn = drawn._replace(noise=drawn.noise * np.float32(faults.get("noise", 1.0)))
    assert not drawn.count.any()
    after, _ = private_round()(start(), data, jax.random.key(seed), rate, drawn)
    moved = (np.asarray(after.vector, np.float64) - vector()) * float(drawn.expected) / -rate
    return moved / (made.clip * made.noise_multiplier * np.sqrt(made.steps))


def _right_size(z: NDArray[np.float64], error: float = 1e-6) -> bool:
    """Whether independent normal numbers have variance 1, by a chi-square test."""
    low, high = chi2.ppf([error / 2, 1 - error / 2], z.size)
    return bool(low < (z**2).sum() < high)


@pytest.fixture(scope="module")
def honest_noise() -> NDArray[np.float64]:
    return np.concatenate([_noise_of_training(seed) for seed in range(4)])


def test_the_noise_that_reaches_the_model_has_its_size(honest_noise: NDArray[np.float64]) -> None:
    """Error rate 1e-6."""
    assert _right_size(honest_noise)


@pytest.mark.parametrize("fault", [0.0, 1 / 2, 2 / 3, 3 / 2])
def test_planted_fault_noise_absent_or_of_another_size(fault: float) -> None:
    """Of the 1,000 or so numbers here 2/3 is noticed but for a chance below 1e-20."""
    found = np.concatenate([_noise_of_training(seed, noise=fault) for seed in range(4)])
    assert not _right_size(found)


def test_noise_differs_between_sites_rounds_and_trainings() -> None:
    packed = jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * 2), site())
    made = [PrivateSites(Promise(mechanism(), "seed", name), packed, T, 50) for name in ("a", "b")]
    found = [own.draw(3, number, [0, 1]).noise.reshape(2, -1) for own in made for number in (0, 1)]
    rows = np.concatenate(found)
    assert len(np.unique(rows, axis=0)) == len(rows)
    again = PrivateSites(Promise(mechanism(), "seed", "a"), packed, T, 50).draw(3, 0, [0, 1])
    np.testing.assert_array_equal(again.noise.reshape(2, -1), found[0])


def test_noise_of_the_system_is_new_each_time_and_normal() -> None:
    """Error rate 3e-6: size, distribution, and what two of one pair have in common."""
    one, other = (chance_of("system", 0).normal(4000) for _ in range(2))
    assert not np.array_equal(one, other)
    assert _right_size(np.concatenate([one, other]))
    many = chance_of("system", 0).normal(20_001)  # more than a block, and an odd number
    assert kstest(many, "norm").pvalue > 1e-6
    halves = many[: 2 * 4096].reshape(2, -1)  # of one radius each
    assert abs(np.corrcoef(halves)[0, 1]) < 5 / 64
    u = chance_of("system", 0).uniform(4000)
    assert 0 < u.min() < u.max() < 1
    assert np.histogram(u, 8, (0, 1))[0].min() > 400


def _sampled_independently(counts: NDArray[np.int64], examples: int, rate: float, error: float) -> bool:
    """Whether the sizes of steps vary as those of independent choices do (chi-square on their variance)."""
    usual = examples * rate * (1 - rate)
    low, high = chi2.ppf([error / 2, 1 - error / 2], len(counts))
    return bool(low < ((counts - examples * rate) ** 2).sum() / usual < high)


def test_who_is_in_a_step_is_chosen_independently() -> None:
    """Error rate 1e-6 for the sizes, 1e-6 for pairs of steps."""
    examples, rate, steps = 300, 0.2, 200
    rows = poisson_rows(examples, rate, steps, chance_of("seed", 1, "sampling"))
    assert _sampled_independently(np.array([len(own) for own in rows]), examples, rate, 1e-6)
    inside = np.zeros((steps, examples))
    for step, own in enumerate(rows):
        inside[step, own] = 1
    both = (inside[1:] * inside[:-1]).sum()
    usual, many = rate**2, (steps - 1) * examples
    assert abs(both - many * usual) < 5 * np.sqrt(many * usual)


def _shuffled(examples: int, rate: float, steps: int) -> Iterator[NDArray[np.int64]]:
    """The planted fault: batches of one size out of a shuffled pass."""
    rng, size = np.random.default_rng(2), round(examples * rate)
    order = np.concatenate([rng.permutation(examples) for _ in range(1 + steps * size // examples)])
    return (order[i * size : (i + 1) * size] for i in range(steps))


def test_planted_fault_sampling_replaced_by_shuffling() -> None:
    counts = np.array([len(own) for own in _shuffled(300, 0.2, 200)])
    assert not _sampled_independently(counts, 300, 0.2, 1e-6)


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=60),
    st.integers(1, 8),
    st.integers(1, 12),
    st.integers(0, 30),
    st.integers(0, 59),
)
def test_in_turn_nobody_is_in_two_steps_of_one_pass(
    marks: list[int], b: int, steps: int, first: int, gone: int
) -> None:
    """Nor does it matter to anybody's turn who else is there."""
    numbers = np.array(marks, np.uint64)
    rows = turn_rows(numbers, 1 / b, steps, first)
    for i in range(steps):
        near = np.concatenate(rows[i : i + b])
        assert len(np.unique(near)) == len(near)
    if steps >= b:
        assert len(np.concatenate(rows[:b])) == len(marks)
    if gone < len(marks):
        kept = turn_rows(np.delete(numbers, gone), 1 / b, steps, first)
        others = [[place - (place > gone) for place in own.tolist() if place != gone] for own in rows]
        assert [own.tolist() for own in kept] == others


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_patient_counts_as_much_however_long_the_longest_stream_is(noise: float) -> None:
    """Padding is nobody's: with noise on the inputs, too, where it would be read as steps like any other."""
    rng, noisy = np.random.default_rng(1), replace(TRAINING, level_noise=noise, step_noise=0.0)
    of_example = make_example_gradient(MODEL, EXACT, noisy, K + 2)
    found = jax.jit(lambda *example: ravel_pytree(of_example(UNRAVEL(vector()), *example))[0])
    x = np.zeros((6 * T, F), np.float32)
    x[: 2 * T] = rng.normal(size=(2 * T, F))
    y, weight = rng.integers(0, K + 1, 6 * T), (np.arange(6 * T) < 2 * T).astype(np.float32)
    short, long = (found(x[:n], y[:n], weight[:n], jax.random.key(3)) for n in (2 * T, 6 * T))
    assert np.abs(short).max() > 1e-3
    np.testing.assert_allclose(short, long, atol=1e-6)


def test_a_private_example_is_patched_where_it_is_attacked_and_nowhere_else() -> None:
    found, params = {}, UNRAVEL(vector())
    x, y, weight, keys = examples(site())
    for patches in (0.0, 1.0):
        of_example = make_example_gradient(MODEL, EXACT, replace(TRAINING, patches=patches), K + 2)
        run = jax.jit(jax.vmap(lambda *example, f=of_example: ravel_pytree(f(params, *example))[0]))
        found[patches] = [np.asarray(run(x, labels, weight, keys)) for labels in (y, jnp.zeros_like(y))]
    assert np.abs(found[1.0][0] - found[0.0][0]).max() > 1e-3
    np.testing.assert_allclose(found[1.0][1], found[0.0][1], atol=1e-5)  # programs differ, and so last bits


def test_examples_are_windows_or_streams_with_anything_to_judge() -> None:
    weight = np.zeros((2, 2, 8), np.float32)
    weight[0, 1, 5], weight[1, 0] = 1, 1
    assert examples_of("record", weight, 4).tolist() == [3, 4, 5]
    assert examples_of("patient", weight, 4).tolist() == [1, 2]
    with pytest.raises(PlanError, match="site"):
        examples_of("site", weight, 4)


def test_no_example_is_left_out_when_more_are_drawn_than_usual() -> None:
    packed = jax.tree.map(lambda leaf: np.asarray(leaf)[None], site())
    sites = PrivateSites(Promise(mechanism(rate=1.0, steps=2), "seed"), packed, T, 3)
    drawn = sites.draw(0, 0, [0])
    n = DEVICES * UNITS * WINDOWS
    assert drawn.count.tolist() == [[n, n]]
    assert sorted(drawn.rows[0, 0, :n].tolist()) == list(range(n))


def test_classes_may_not_be_weighed_by_how_common_they_are() -> None:
    with pytest.raises(PlanError, match="class_balance"):
        private_training(replace(PLAIN, class_balance=0.9))


def test_made_up_campaigns_of_other_streams_are_refused() -> None:
    options = {"channels": 4, "cut_channels": 3, "hidden": 5, "novelty_hidden": 4}
    with pytest.raises(PlanError, match="couple examples"):
        make_private_round(
            catalog.build("models", "conv_gru", options), EXACT, TRAINING, UNRAVEL, mechanism()
        )


def test_steps_that_a_late_site_leaves_out_change_nothing_and_count_nothing() -> None:
    noise = np.ones((3, vector().size), np.float32)
    n = DEVICES * UNITS * WINDOWS
    rows = np.tile(np.arange(n, dtype=np.int32), (3, 1))
    drawn = Drawn(rows, np.full(3, n, np.int32), noise, np.float32(1), np.float32(n), np.float32(GRID))
    one, said = private_round()(start(), site(), jax.random.key(3), 0.1, drawn, np.int32(1))
    assert (said >= 0).tolist() == [True, False, False]
    none, _ = private_round()(start(), site(), jax.random.key(3), 0.1, drawn, np.int32(0))
    np.testing.assert_array_equal(none.vector, vector())
    assert np.abs(np.asarray(one.vector) - vector()).max() > 0


def test_one_example_more_leaves_what_is_done_to_the_others_as_it_was() -> None:
    """Noise on inputs is drawn by example: its keys are public where only privacy's own noise is secret."""
    noisy = replace(TRAINING, step_noise=0.5)
    run = jax.jit(make_private_round(MODEL, EXACT, noisy, UNRAVEL, mechanism()))
    rows, clip, rate = np.array([[0, 3, 5, 7]], np.int32), 0.01, 0.1
    none = np.zeros((1, vector().size), np.float32)

    def after(rows: Any) -> Any:
        drawn = Drawn(
            rows, np.int32([rows.shape[1]]), none, np.float32(clip), np.float32(1), np.float32(1e-9)
        )
        return np.asarray(run(start(), site(), jax.random.key(4), rate, drawn)[0].vector, np.float64)

    moved = np.linalg.norm(after(rows) - after(rows[:, 1:]))
    assert 0 < moved <= rate * clip * (1 + 1e-3)
