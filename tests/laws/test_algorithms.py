"""The exam of every algorithm, found through the catalog: nothing here names one."""

from __future__ import annotations

import math
import signal
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from lazaretto import catalog
from lazaretto.chain import chain
from lazaretto.cut import Cut
from lazaretto.errors import Interrupted
from lazaretto.keys import generator, jax_key
from lazaretto.local import LocalTraining, SiteData, batches_in_round, local_start, make_site_round
from lazaretto.parameters import parameter_count, unravel_of
from lazaretto.personal import personal_mask
from lazaretto.run.coordinator import Round
from lazaretto.run.federation import _Everyone, _Some, train_federation
from lazaretto.run.group import Group
from lazaretto.run.post import Post
from lazaretto.run.simulate import Program, compile_program
from lazaretto.run.taking_part import Federation, TakingPart
from lazaretto.run.train import Schedule, round_keys, train_alone
from lazaretto.types import Algorithm, Gram, Model, Outputs, Rule, Weighed

F, K, STEPS, DEVICES, UNITS, ROUNDS = 4, 2, 6, 2, 3, 4


def toy() -> Model:
    """One layer on the device, a normalisation layer and two heads at the site."""

    def init(key: Any, features: int, kinds: int) -> dict[str, Any]:
        one, two, three = jax.random.split(key, 3)
        return {
            "bottom": {"first": jax.random.normal(one, (features, 5)) * 0.5},
            "top": {
                "norm": {"gain": jnp.ones(5), "offset": jnp.zeros(5)},
                "anomaly": {"w": jax.random.normal(two, (5, 1))},
                "kinds": {"w": jax.random.normal(three, (5, kinds))},
            },
        }

    def bottom(params: Any, x: Any, state: Any) -> tuple[Any, Any]:
        return jnp.tanh(x @ params["first"]), state

    def top(params: Any, h: Any, state: Any) -> tuple[Outputs, Any]:
        h = h * params["norm"]["gain"] + params["norm"]["offset"]
        return Outputs((h @ params["anomaly"]["w"])[..., 0], h @ params["kinds"]["w"], h), state

    def start(features: int, batch: int) -> tuple[Any, Any]:
        return (), ()

    return Model(name="toy", init=init, start=start, bottom=bottom, top=top)


def data(sites: int, equal: bool = False) -> SiteData:
    rng = generator(3, "algorithms")
    x = rng.standard_normal((3, DEVICES, UNITS, STEPS, F)).astype(np.float32)
    y = rng.integers(0, K + 1, (3, DEVICES, UNITS, STEPS)).astype(np.int32)
    which = np.zeros(sites, int) if equal else np.arange(sites)
    units, balance = np.full(sites, UNITS, np.int32), np.ones((sites, K + 2), np.float32)
    return SiteData(x[which], y[which], np.ones_like(y[which], np.float32), units, balance)


# batches hold every unit, so that the order of units does not matter
STEP = LocalTraining(
    window=STEPS, batch_units=UNITS, optimiser="sgd", synchronise="step", temporal_consistency=0.0
)
SEVERAL = replace(STEP, local_epochs=2)
VECTOR = np.asarray(ravel_pytree(toy().init(jax_key(0), F, K))[0])


FOUND: dict[str, Algorithm] = {
    name: catalog.build("algorithms", name) for name in catalog.names("algorithms")
}


@pytest.fixture(params=FOUND, scope="module")
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    return FOUND[request.param]


@cache
def program(algorithm: Algorithm | None, training: LocalTraining) -> Program:
    """Compiled once: most of this exam's time."""
    return compile_program(toy(), Cut(bits=32), training, F, K, STEPS, algorithm)


def federation_of(algorithm: Algorithm, selection: str, server: str, **more: float) -> Federation:
    return Federation(
        algorithm=algorithm,
        server=catalog.build("server_optimisers", server),
        selection=catalog.build("selections", selection),
        rule=catalog.build("rules", "mean"),
        personal=personal_mask(algorithm, toy(), F, K),
        **more,
    )


def trained(
    algorithm: Algorithm,
    data: SiteData,
    training: LocalTraining,
    federation: Federation | None = None,
    place: Path | None = None,
    stop_after: int = 0,
) -> tuple[Any, list[Any]]:
    """Each site's vector at the end, [S, d], and losses by round; by default everyone takes part."""
    losses: list[Any] = []

    def done(number: int, loss: Any, vector: Any, worked: Any, seen: Any) -> None:
        losses.append(loss)
        if number == stop_after:
            signal.raise_signal(signal.SIGINT)

    sites = len(data.units) - (federation is not None and federation.root)
    vector = train_federation(
        program(None if algorithm.correct is None else algorithm, training),
        data,
        [f"site {k}" for k in range(sites)],
        np.ones(sites, np.int64),
        federation or federation_of(algorithm, "everyone", "plain"),
        Schedule(rounds=ROUNDS, learning_rate=0.05),
        (VECTOR, 0),
        (Post(), place, done),
    )[0]
    return np.broadcast_to(vector, (sites, len(VECTOR))), losses


def test_its_claims(algorithm: Algorithm) -> None:
    assert algorithm.name in catalog.names("algorithms")
    assert algorithm.keeps == (algorithm.conclude is not None) == (algorithm.fold is not None)


def test_it_trains_repeats_and_leaves_its_inputs_alone(algorithm: Algorithm) -> None:
    given = data(3)
    held = jax.tree.map(np.copy, given)
    first, losses = trained(algorithm, given, SEVERAL)
    again, _ = trained(algorithm, given, SEVERAL)
    jax.tree.map(np.testing.assert_array_equal, given, held)
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert np.mean(losses[-1]) < np.mean(losses[0])


def test_what_is_personal_differs_and_the_rest_is_common(algorithm: Algorithm) -> None:
    vectors, _ = trained(algorithm, data(3), SEVERAL)
    mask = personal_mask(algorithm, toy(), F, K)
    differs = (vectors != vectors[:1]).any(axis=0)
    np.testing.assert_array_equal(differs, np.zeros(len(VECTOR), bool) if mask is None else mask)


@pytest.mark.parametrize("name", [name for name, made in FOUND.items() if made.correct is not None])
def test_a_correction_without_a_past_is_none(name: str) -> None:
    """At the round's first step, with nothing known of other sites, the gradient is the site's own."""
    algorithm = FOUND[name]
    rng = generator(1, "correct")
    tree = {"a": rng.standard_normal((2, 3)).astype(np.float32), "b": [rng.standard_normal(4)]}
    zero = jax.tree.map(np.zeros_like, tree) if algorithm.keeps else None
    found = algorithm.correct(tree, tree, tree, zero, zero)
    jax.tree.map(np.testing.assert_array_equal, found, tree)


def test_one_site_with_one_step_a_round_trains_as_if_alone(algorithm: Algorithm) -> None:
    vectors, _ = trained(algorithm, data(1), STEP)
    schedule = Schedule(rounds=ROUNDS, learning_rate=0.05)
    assert np.abs(vectors - VECTOR).max() > 0.01
    alone = train_alone(program(None, STEP), data(1), VECTOR[None], 0, schedule, (None, lambda *done: None))
    np.testing.assert_allclose(vectors, alone, atol=1e-6)


def test_equal_sites_are_as_one(algorithm: Algorithm) -> None:
    """Many sites with the same data go nowhere that one of them would not go."""
    one, many = (trained(algorithm, data(sites, equal=True), SEVERAL)[0] for sites in (1, 3))
    np.testing.assert_allclose(many, np.repeat(one, 3, axis=0), atol=2e-6)


@pytest.mark.parametrize("selection", ["everyone", "by_loss"])
def test_a_stopped_training_goes_on_to_the_same_bits(
    algorithm: Algorithm, selection: str, tmp_path: Path
) -> None:
    """What sites and coordinator keep is in the checkpoint, also where updates are late or lost."""
    chances = {"drop_outs": 0.3, "stragglers": 0.4, "participation": 1.0 if selection == "everyone" else 0.67}
    given = algorithm, data(3), SEVERAL, federation_of(algorithm, selection, "fedyogi", **chances)
    whole, losses = trained(*given)
    assert np.isnan(losses).any(), "somebody was lost or not chosen"
    with pytest.raises(Interrupted, match="after round 2"):
        trained(*given, place=tmp_path / "unfinished", stop_after=2)
    resumed, rest = trained(*given, place=tmp_path / "unfinished")
    np.testing.assert_array_equal(resumed, whole)
    np.testing.assert_array_equal(rest, losses[2:])


def test_a_stopped_training_with_rules_that_draw_and_remember_goes_on_to_the_same_bits(
    tmp_path: Path,
) -> None:
    """Every rule that keeps something, behind every pre-aggregator; sites send momentum."""
    plain = next(made for made in FOUND.values() if made.correct is None and made.personal is None)
    rules = [catalog.build("rules", name) for name in catalog.names("rules")]
    keeping = [rule for rule in rules if rule.start(3) or rule.history or "previous" in rule.public]
    assert keeping
    for rule in (chain(mixer, end) for mixer in rules if mixer.mixes for end in keeping):
        made = replace(federation_of(plain, "everyone", "plain"), rule=rule, client_momentum=0.5)
        given = plain, data(3), SEVERAL, made
        whole, _ = trained(*given)
        with pytest.raises(Interrupted, match="after round 2"):
            trained(*given, place=tmp_path / rule.name, stop_after=2)
        resumed, _ = trained(*given, place=tmp_path / rule.name)
        np.testing.assert_array_equal(resumed, whole, err_msg=rule.name)
        assert np.isfinite(whole).all()


def test_a_late_site_has_done_the_first_part_of_its_work(algorithm: Algorithm) -> None:
    correcting = None if algorithm.correct is None else algorithm
    found = []
    # one batch of two against one epoch of one; the numbers of sites are those that are compiled anyway
    for training, sites, work in ((SEVERAL, 3, np.ones(3, np.int32)), (STEP, 1, None)):
        made = program(correcting, training)
        state = made.start(np.repeat(VECTOR[None], sites, axis=0), DEVICES)
        keys = jax.random.split(jax_key(0), sites)
        given = made.place((data(sites), keys))
        state, loss = made.round(state, *given, 0.05, None if work is None else made.place(work))
        found.append([np.asarray(leaf)[0] for leaf in jax.tree.leaves((state, loss))])
    assert np.abs(found[0][0] - VECTOR).max() > 0.01
    for left, right in zip(*found, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


@pytest.mark.parametrize("units", [1, 2])
def test_half_a_pass_is_the_first_half_of_the_batches(units: int) -> None:
    """Of one unit in a batch and one round: half of two is one, half of one is one."""
    one = replace(STEP, batch_units=1, shuffle=False)
    site = data(1)._replace(units=np.full(1, units, np.int32))
    found = []
    for training, work in ((replace(one, local_epochs=0.5), None), (one, np.ones(1, np.int32))):
        made = program(None, training)
        assert made.batches(site).tolist() == [1 if work is None else units]
        state = made.start(VECTOR[None], DEVICES)
        keys = jax.random.split(jax_key(0), 1)
        state, loss = made.round(state, *made.place((site, keys)), 0.05, work)
        found.append([np.asarray(leaf) for leaf in jax.tree.leaves((state, loss))])
    for left, right in zip(*found, strict=True):
        np.testing.assert_array_equal(left, right)


@given(st.one_of(st.integers(1, 50), st.integers(1, 1000).map(lambda n: n / 1000)), st.integers(0, 1_000_000))
def test_batches_of_a_round_are_counted_alike_everywhere(passes: float, batches: int) -> None:
    exact = math.ceil(Fraction(str(passes)) * batches)
    assert batches_in_round(passes, batches) == exact
    assert batches_in_round(passes, np.int64(batches)) == exact
    if exact < 2**31 and batches * 1000 < 2**31:
        assert int(batches_in_round(passes, jnp.int32(batches))) == exact


def test_who_does_not_take_part_keeps_what_it_has(algorithm: Algorithm) -> None:
    """Parameters, optimisers and what the algorithm keeps wait at the site; also where its update is lost."""
    made = program(None if algorithm.correct is None else algorithm, SEVERAL)
    group = Group(federation_of(algorithm, "uniform", "plain"), VECTOR, 3, 3)
    sites = _Some(made, made.start(np.repeat(VECTOR[None], 3, axis=0), DEVICES), data(3), None)
    before = jax.tree.map(np.copy, sites.state)
    chosen, arrives = np.array([0, 1]), np.array([True, False])
    work = np.array([2, 0])
    sites.work(
        group, TakingPart(chosen, arrives, np.ones(2), work), round_keys(0, 3, 0), 0.05, Round(0, 1, 1)
    )
    changed = [
        (np.asarray(old) != np.asarray(new)).reshape(3, -1).any(axis=1)
        for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(sites.state), strict=True)
    ]
    np.testing.assert_array_equal(np.any(changed, axis=0), [True, False, False])


@pytest.mark.parametrize("some", [False, True])
def test_training_goes_on_from_where_a_site_begins(some: bool) -> None:
    """Steps of length 0 lead nowhere: what a site did not send yet is in what it comes back with."""
    made, short = program(None, SEVERAL), catalog.build("compressors", "random_k")
    asked = federation_of(catalog.build("algorithms", "fedavg"), "uniform" if some else "everyone", "plain")
    group = Group(replace(asked, compressor=short, ahead=short), VECTOR, 3, 3)
    assert group.residual is not None
    group.residual[1] = np.linspace(-1, 1, VECTOR.size)
    start = made.start(np.repeat(VECTOR[None], 3, axis=0), DEVICES)
    sites = _Some(made, start, data(3), None) if some else _Everyone(made, start, data(3), True, None)
    part = TakingPart(np.arange(3), np.ones(3, bool), np.ones(3), made.batches(data(3)))
    found = sites.work(group, part, round_keys(0, 3, 0), 0.0, Round(0, 1, 3))
    np.testing.assert_allclose(found.vectors - VECTOR, group.residual, atol=1e-6)


def test_a_round_in_which_nobody_arrives_changes_nothing(algorithm: Algorithm) -> None:
    alone = federation_of(algorithm, "everyone", "momentum", drop_outs=1 - 1e-12)
    vectors, losses = trained(algorithm, data(3), SEVERAL, alone)
    np.testing.assert_array_equal(vectors, np.repeat(VECTOR[None], 3, axis=0))
    assert np.isnan(losses).all()


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("name", catalog.names("models"))
def test_every_model_can_be_trained_with_it(algorithm: Algorithm, name: str, optimiser: Any) -> None:
    """Traced only; an unsplit model has no parameters on the device."""
    model, steps = catalog.build("models", name), 8
    training = LocalTraining(window=4, batch_units=2, optimiser=optimiser)
    unravel = unravel_of(model, F, K)
    vector = jnp.zeros(parameter_count(model, F, K))
    state = local_start(model, training, vector, unravel, DEVICES, algorithm.keeps)
    shape = (DEVICES, UNITS, steps)
    given = SiteData(
        np.zeros((*shape, F), np.float32),
        np.zeros(shape, np.int32),
        np.ones(shape, np.float32),
        np.int32(UNITS),
        np.ones(K + 2, np.float32),
    )
    run = make_site_round(model, Cut(), training, unravel, algorithm)
    new, loss = jax.eval_shape(run, state, given, jax_key(0), 0.1)
    assert loss.shape == ()
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert [leaf.shape for leaf in jax.tree.leaves(new)] == [leaf.shape for leaf in jax.tree.leaves(state)]


def test_what_comes_of_one_round_s_nan_is_over_in_the_next(algorithm: Algorithm) -> None:
    """A site whose optimiser took in a NaN begins anew, and keeps what it kept; others notice nothing."""
    made = program(None if algorithm.correct is None else algorithm, SEVERAL)
    keeps = algorithm.keeps
    for some in (False, True):
        found = []
        for bad in (False, True):
            group = Group(federation_of(algorithm, "uniform" if some else "everyone", "plain"), VECTOR, 3, 3)
            start = made.start(np.repeat(VECTOR[None], 3, axis=0), DEVICES)
            sites = _Some(made, start, data(3), None) if some else _Everyone(made, start, data(3), True, None)
            part = TakingPart(np.arange(3), np.ones(3, bool), np.ones(3), made.batches(data(3)))
            sites.work(group, part, round_keys(0, 3, 0), 0.05, Round(0, 1, 1))
            own = np.array(sites.state.own) if keeps else None
            if bad:
                leaves, structure = jax.tree.flatten(jax.tree.map(np.array, sites.state.top_optimiser))
                leaves = [np.array(leaf) for leaf in leaves]
                assert any(np.issubdtype(leaf.dtype, np.floating) for leaf in leaves)
                for leaf in leaves:
                    if np.issubdtype(leaf.dtype, np.floating):
                        leaf[1] = np.nan
                broken = sites.state._replace(top_optimiser=jax.tree.unflatten(structure, leaves))
                sites.state = broken if some else type(broken)(*made.place(tuple(broken)))
            first = sites.work(group, part, round_keys(0, 3, 1), 0.05, Round(0, 2, 3))
            if bad:
                assert not np.isfinite(first.vectors[1]).all()
                assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(sites.state))
                if keeps:
                    np.testing.assert_array_equal(np.asarray(sites.state.own)[1], own[1])
            second = sites.work(group, part, round_keys(0, 3, 2), 0.05, Round(0, 3, 3))
            assert np.isfinite(second.vectors).all()
            found.append(second.vectors)
        np.testing.assert_array_equal(found[0][[0, 2]], found[1][[0, 2]])
        assert np.abs(found[1][1] - VECTOR).max() > 1e-4


def root_alone() -> Rule:
    """The update on the root data, whatever the sites send."""

    def gram(seen: Gram, state: Any, rng: Any) -> Weighed:
        n = len(seen.sizes)
        return Weighed(np.eye(1, n + 1, n), np.zeros(n), {})

    return Rule(name="root alone", sees="gram", gram=gram, tolerates=lambda n: 0, public=("root",))


@pytest.mark.parametrize("selection", ["everyone", "uniform"])
def test_the_coordinator_trains_on_its_root_data_as_a_site_would(
    algorithm: Algorithm, selection: str
) -> None:
    """In every round, whoever else takes part, with an optimiser and personal layers of its own."""
    if algorithm.correct is not None and (not algorithm.keeps or selection == "uniform"):
        # its correction comes from other sites, and this test lets the root train alone: nothing to compare
        pytest.skip("alone nothing is corrected by others")
    chances = {"participation": 1.0 if selection == "everyone" else 0.67, "stragglers": 0.5}
    made = replace(federation_of(algorithm, selection, "plain", **chances), rule=root_alone(), root=True)
    given = data(4, equal=True)
    given = given._replace(x=given.x * np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1, 1, 1))
    vectors, losses = trained(algorithm, given, SEVERAL, made)
    assert len(vectors) == 4 - made.root
    assert len(losses[0]) == 3
    schedule = Schedule(rounds=ROUNDS, learning_rate=0.05)
    first = np.repeat(VECTOR[None], 4, axis=0)
    alone = train_alone(program(None, SEVERAL), given, first, 0, schedule, (None, lambda *done: None))[3]
    shared = np.ones(len(VECTOR), bool) if made.personal is None else ~made.personal
    np.testing.assert_allclose(vectors[0][shared], alone[shared], atol=3e-6)
    assert np.abs(alone - VECTOR).max() > 0.01


@pytest.mark.parametrize("selection", ["everyone", "by_loss"])
def test_a_stopped_training_with_root_data_goes_on_to_the_same_bits(
    algorithm: Algorithm, selection: str, tmp_path: Path
) -> None:
    chances = {"drop_outs": 0.3, "participation": 1.0 if selection == "everyone" else 0.67}
    plain = federation_of(algorithm, selection, "plain", **chances)
    rule = catalog.build("rules", "fltrust")
    given = algorithm, data(3), SEVERAL, replace(plain, rule=rule, root=True, client_momentum=0.5)
    whole, _ = trained(*given)
    with pytest.raises(Interrupted, match="after round 2"):
        trained(*given, place=tmp_path / "unfinished", stop_after=2)
    resumed, _ = trained(*given, place=tmp_path / "unfinished")
    np.testing.assert_array_equal(resumed, whole)
    assert np.abs(whole - VECTOR).max() > 1e-3
