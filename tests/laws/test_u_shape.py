"""The U-shape: split training with labels at the devices is joint training, and no label crosses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from sklearn.metrics import roc_auc_score

from lazaretto import catalog
from lazaretto.alignment import alignment_loss, distance_correlation
from lazaretto.cut import Cut, through
from lazaretto.local import (
    LocalTraining,
    SiteData,
    local_start,
    make_site_round,
)
from lazaretto.losses import class_balance, detection_loss
from lazaretto.models._layers import (
    deviation,
    deviation_start,
    present_deviation,
    repeats,
    repeats_start,
)
from lazaretto.parameters import unravel_of
from lazaretto.run.simulate import class_weights
from lazaretto.split import Terms, forward, u_gradients
from lazaretto.types import Array, Part

LAYOUT = (Part(0, 3, 3), Part(3, 5, 9))  # three plain features; two irregular, with masks and gaps
F, K, T, B = 11, 2, 4, 2  # and two columns that say what is there
EXACT = Cut(bits=32)
SIZES = {"channels": 6, "cut_channels": 4, "hidden": 7, "sent_channels": 5, "bins": 2}
BOTH = catalog.build("models", "fusion", {**SIZES, "layout": [list(part) for part in LAYOUT]})
ONE = catalog.build("models", "fusion", SIZES)


def _data(devices: int, units: int, steps: int) -> SiteData:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((devices, units, steps, F)).astype(np.float32)
    x[..., 5:7] = rng.random((devices, units, steps, 2)) < 0.6
    x[..., 7:9] = rng.integers(0, 5, (devices, units, steps, 2))
    there = np.ones((devices, units, 1, 2), bool)
    there[0, 0, :, 1] = there[-1, -1, :, 0] = False  # one unit lacks the second modality, one the first
    x[..., 9:] = there
    x[..., 0:3] *= there[..., :1]
    x[..., 3:9] *= there[..., 1:]
    y = rng.integers(0, K + 1, (devices, units, steps)).astype(np.int32)
    weight = (rng.random((devices, units, steps)) < 0.9).astype(np.float32)
    return SiteData(x, y, weight, np.int32(units), np.ones(K + 2, np.float32))


def _private(x: Array, h: Array) -> Array:
    flat = (values.reshape(-1, values.shape[-1]) for values in (x, h))
    return 0.4 * distance_correlation(*flat, jnp.ones(B * T))


def _terms(private: bool) -> Terms:
    return Terms(
        labelled=lambda outputs, labels: detection_loss(outputs, *labels, 0.1),
        unlabelled=lambda middle: alignment_loss(middle.pairs, (0.3, 0.2), 0.2),
        private=_private if private else None,
    )


@pytest.mark.parametrize("model", [BOTH, ONE], ids=["two modalities", "one"])
@pytest.mark.parametrize(("devices", "private"), [(1, True), (3, False), (3, True)])
def test_gradients_over_both_cuts_are_the_joint_gradients(model: Any, devices: int, private: bool) -> None:
    params = model.init(jax.random.key(0), F, K)
    data, terms = _data(devices, B, T), _terms(private)
    balance = 1.0 + np.arange(devices * (K + 2), dtype=np.float32).reshape(devices, K + 2)
    bottoms = jax.tree.map(lambda p: jnp.broadcast_to(p, (devices, *p.shape)), params["bottom"])
    bottom_state, top_state = model.start(F, B)[0], model.start(F, B * devices)[1]
    states = (jax.tree.map(lambda s: jnp.broadcast_to(s, (devices, *s.shape)), bottom_state), top_state)
    value, (bottom, top), _ = jax.jit(
        lambda params, x, labels: u_gradients(
            model, EXACT, terms, params, x, labels, states, jax.random.key(1)
        )
    )((bottoms, params["top"]), data.x, (data.y, data.weight, balance))

    def joint(params: Any) -> Array:
        """The whole in one place: the mean over devices of their losses, and the site's term over all."""
        flat = data.x.reshape(-1, T, F)
        h, _ = model.bottom(params["bottom"], flat, model.start(F, len(flat))[0])
        middle, _ = model.top(params["top"], h, model.start(F, len(flat))[1])
        outputs = model.head(params["bottom"], middle.sent)

        def of(d: int, values: Any) -> Any:
            return jax.tree.map(lambda v: v[d * B : (d + 1) * B], values)

        own = [
            terms.labelled(of(d, outputs), (data.y[d], data.weight[d], balance[d])) for d in range(devices)
        ]
        hidden = [terms.private(data.x[d], of(d, h)) if terms.private else 0.0 for d in range(devices)]
        return (sum(own) + sum(hidden)) / devices + terms.unlabelled(middle)

    expected, gradient = jax.jit(jax.value_and_grad(joint))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    summed = jax.tree.map(lambda g: g.sum(axis=0), bottom)
    for ours, theirs in zip(
        jax.tree.leaves({"bottom": summed, "top": top}), jax.tree.leaves(gradient), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=3e-6)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(summed["head"])) > 1e-4


def test_whole_rounds_of_one_device_are_those_of_synchronised_devices_and_all_terms_train() -> None:
    """With a balance of 0 and every step of weight 1 the mean of devices' means is the mean."""
    vector = ravel_pytree(BOTH.init(jax.random.key(5), F, K))[0]
    unravel = unravel_of(BOTH, F, K)
    together = _data(1, 4, 2 * T)._replace(weight=np.ones((1, 4, 2 * T), np.float32))
    apart = SiteData(
        *(v.reshape(2, 2, *v.shape[2:]) for v in together[:3]), np.int32(2), together.class_weight
    )
    found = []
    for data, batch in ((together, 4), (apart, 2)):
        training = LocalTraining(
            window=T,
            batch_units=batch,
            optimiser="sgd",
            synchronise="step",
            clip_norm=1e9,
            temporal_consistency=0.0,
            layout=LAYOUT,
            class_balance=0.0,
            alignment=(0.3, 0.2),
        )
        state = local_start(BOTH, training, vector, unravel, data.x.shape[0])
        run = jax.jit(make_site_round(BOTH, EXACT, training, unravel))
        found.append(np.asarray(run(state, data, jax.random.key(2), 1e-2)[0].vector))
    changed = unravel(jnp.asarray(found[0] != np.asarray(vector), jnp.float32))
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(changed)), "a part that nothing trains"
    np.testing.assert_allclose(found[0], found[1], atol=2e-6)


def test_a_modality_that_is_not_there_changes_nothing() -> None:
    """Whatever stands in the columns of a modality that is absent, also in its past."""
    params = BOTH.init(jax.random.key(0), F, K)
    x = _data(1, 6, T).x[0]
    x[:, :, 9:] = [1.0, 0.0]
    other = x.copy()
    other[:, :, 3:9] = np.abs(other[:, :, 3:9]) + 1.0
    states = BOTH.start(F, 6)
    score = jax.jit(lambda x: forward(BOTH, EXACT, params, x, states, (None, None))[0].anomaly)
    one, two = score(x), score(other)
    np.testing.assert_array_equal(one, two)


def test_what_the_site_gets_holds_no_label() -> None:
    """The site's part has neither head nor label: activations in, fused activations and pairs out."""
    params, data = BOTH.init(jax.random.key(0), F, K), _data(2, B, T)
    starts = BOTH.start(F, B)
    h, _ = jax.eval_shape(BOTH.bottom, params["bottom"], data.x[0], starts[0])
    middle, _ = jax.eval_shape(BOTH.top, params["top"], h, starts[1])
    assert middle.sent.shape == (B, T, 5)
    assert set(params["top"]) & {"anomaly", "kinds", "head"} == set(), "the heads are beside the labels"
    assert len(middle.pairs) == 2


def test_classes_are_balanced_on_each_device_as_they_would_be_at_a_site() -> None:
    rng = np.random.default_rng(4)
    y, valid = rng.integers(0, 3, (5, 7)), rng.random((5, 7)) < 0.8
    y[y == 2] = 0  # a class that the device lacks
    for beta in (0.0, 0.9, 0.999):
        ours = class_balance(beta, 4, y, valid.astype(np.float32))
        np.testing.assert_allclose(ours, class_weights(y, valid, 2, beta), rtol=1e-4)


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 32])
@pytest.mark.parametrize(("clip", "noise"), [(4.0, 0.0), (0.3, 0.0), (20.0, 0.0), (4.0, 2.0)])
def test_the_site_always_knows_which_modalities_there_are(bits: int, clip: float, noise: float) -> None:
    params, data = BOTH.init(jax.random.key(0), F, K), _data(1, 40, T)
    cut, starts = Cut(bits=bits, clip=clip, noise=noise), BOTH.start(F, 40)

    @jax.jit
    def pairs(x: Array) -> Any:
        h, _ = BOTH.bottom(params["bottom"], x, starts[0])
        return BOTH.top(params["top"], through(cut, h, jax.random.key(1)), starts[1])[0].pairs

    expected = (data.x[0, ..., 9:] > 0).all(axis=-1)
    for pair in pairs(data.x[0]):
        np.testing.assert_array_equal(pair.both, expected)


def test_an_outage_of_a_modality_leaves_its_past_as_it_was() -> None:
    """A steady reading deviates from nothing after hours without it; where all is there, nothing is new."""
    there = np.ones((1, 30, 1), np.float32)
    there[:, 8:20] = 0.0
    x = 2.0 * there
    zero = (jnp.zeros((1, 1)), jnp.zeros((1, 1)))
    out, _ = present_deviation(x, there, zero, 8.0)
    np.testing.assert_allclose(out[0, 20:, 0], 0.0, atol=1e-6)
    whole, _ = deviation(x[:, :8], deviation_start(1, 1), 8.0)
    same, _ = present_deviation(x[:, :8], there[:, :8], zero, 8.0)
    np.testing.assert_allclose(same, whole, atol=1e-6)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 12, 3)).astype(np.float32)
    plain, _ = deviation(noise, deviation_start(3, 2), 5.0)
    zeros = jnp.zeros((2, 3))
    np.testing.assert_allclose(
        present_deviation(noise, np.ones_like(noise), (zeros, zeros), 5.0)[0], plain, atol=1e-5
    )


def test_repeats_by_hand() -> None:
    """Two features, the second missing at the third step: so one or two are compared."""
    x = np.array([[[1.0, 5], [2, 6], [1, 7], [2, 6]]])
    there = np.array([[[1.0, 1], [1, 1], [1, 0], [1, 1]]])
    found, _ = repeats(x, there, repeats_start(2, 1, 2), near=1e-3)
    root = 2**0.5 / 3
    expected = [[0, 0, 0, 0], [0, root, 0, 0], [0, 1 / 3, 0.5, 1 / 3], [0, 1 / 3, 2 / 3, root]]
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_copies_are_looked_for_where_something_was_measured() -> None:
    """A series that is never measured again is no copy of itself; one measured again with its value is."""
    layout = (Part(0, 2, 6),)
    model = catalog.build("models", "fusion", {**SIZES, "repeat_steps": 2, "layout": layout})
    params = model.init(jax.random.key(0), 6, K)
    first = params["bottom"]["encoder0"]["first"]
    plain = catalog.build("models", "fusion", {**SIZES, "repeat_steps": 2})
    regular = plain.init(jax.random.key(0), 6, K)["bottom"]["encoder0"]["first"]
    assert first["w"].shape[0] == 2 * 2 * (1 + SIZES["bins"]) + 2 * 2 + 2 * 2
    assert regular["w"].shape[0] == 2 * 6 * (1 + SIZES["bins"]), "no copies in a regular series"
    value, gaps = np.full((1, 4, 2), 0.5, np.float32), np.zeros((1, 4, 2), np.float32)
    once = np.concatenate([value, gaps, gaps], axis=-1)
    again = np.concatenate([value, gaps + 1, gaps], axis=-1)
    begin = 2 * 2 * (1 + SIZES["bins"])  # where the copies' inputs stand
    rows = first["w"][begin : begin + 4]
    blind = {**params["bottom"]}
    blind["encoder0"] = {
        **blind["encoder0"],
        "first": {**first, "w": first["w"].at[begin : begin + 4].set(0)},
    }
    assert np.abs(rows).min() > 0
    for x, differs in ((once, False), (again, True)):
        state = model.start(6, 1)[0]
        seen, without = (model.bottom(given, x, state)[0] for given in (params["bottom"], blind))
        assert bool(np.abs(np.asarray(seen) - np.asarray(without)).max() > 1e-4) == differs


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_repeats_window_by_window(seed: int, lags: int, cut: int) -> None:
    """Two windows in turn give what the whole gives, also where a window is shorter than the lags."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, (2, 9, 4)).astype(np.float32)
    there = rng.integers(0, 2, x.shape).astype(np.float32)
    quick = jax.jit(repeats)
    whole, last = quick(x, there, repeats_start(4, 2, lags))
    first, state = quick(x[:, :cut], there[:, :cut], repeats_start(4, 2, lags))
    second, end = quick(x[:, cut:], there[:, cut:], state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    for one, other in zip(last, end, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_curious_site_can_read_the_labels_from_the_gradients_it_gets() -> None:
    """What the threat model admits: whoever knows the head's weights gets each label from its gradient.

    The site averages the heads, and so knows them. Should this test fail, the documents may promise more.
    """
    params, data = BOTH.init(jax.random.key(0), F, K), _data(1, 8, T)
    y, weight = data.y[0], np.ones(data.y[0].shape, np.float32)
    starts = BOTH.start(F, 8)

    @jax.jit
    def fused(x: Array) -> Array:
        h, _ = BOTH.bottom(params["bottom"], x, starts[0])
        return BOTH.top(params["top"], h, starts[1])[0].sent

    sent = fused(data.x[0])

    def device(sent: Array) -> Array:
        return detection_loss(BOTH.head(params["bottom"], sent), y, weight, np.ones(K + 2, np.float32), 0.1)

    gradient = jax.jit(jax.grad(device))(sent)

    def loss(sent: Array, labels: Array) -> Array:
        return detection_loss(BOTH.head(params["bottom"], sent), labels, weight, jnp.ones(K + 2), 0.0)

    slopes = jax.jit(jax.grad(loss))

    def if_all_were(label: int) -> np.ndarray:
        """Direction of the gradient at each step under that label."""
        slope = np.asarray(slopes(sent, np.full(y.shape, label)))
        return slope / np.linalg.norm(slope, axis=-1, keepdims=True)

    normal, *attacks = ((np.asarray(gradient) * if_all_were(k)).sum(axis=-1) for k in range(K + 1))
    guess = np.max(attacks, axis=0) - normal
    assert roc_auc_score((y > 0).ravel(), guess.ravel()) > 0.95
