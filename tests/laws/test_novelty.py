"""The self-supervised score: trained beside the supervised one, and never by a label of an attack."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.local import LocalTraining, SiteData, local_start, make_site_round
from lazaretto.losses import novelty_loss
from lazaretto.parameters import unravel_of
from lazaretto.types import Model

F, K, T = 5, 2, 4
SMALL = {"channels": 6, "cut_channels": 4, "hidden": 7}
WITHOUT = catalog.build("models", "conv_gru", SMALL)
WITH = catalog.build("models", "conv_gru", SMALL | {"novelty_hidden": 7})


def _data(devices: int = 2, units: int = 3, steps: int = 3 * T) -> SiteData:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((devices, units, steps, F)).astype(np.float32)
    y = np.zeros((devices, units, steps), np.int32)
    y[:, 0, 9:] = 1
    weight = np.ones((devices, units, steps), np.float32)
    return SiteData(x, y, weight, np.int32(units), np.ones(K + 2, np.float32))


def _trained(model: Model, data: SiteData, **asked: object) -> dict:
    # one step of plain descent each window, so that nothing of one part reaches the other but by gradients
    training = LocalTraining(
        window=T, batch_units=3, optimiser="sgd", clip_norm=1e9, synchronise="step", **asked
    )
    unravel = unravel_of(model, F, K)
    params = model.init(jax.random.key(0), F, K)
    if "novelty" in params["top"]:
        plain = WITHOUT.init(jax.random.key(0), F, K)
        params = {
            "bottom": plain["bottom"],
            "top": plain["top"] | {"novelty": params["top"]["novelty"]},
        }
    vector = ravel_pytree(params)[0]
    state = local_start(model, training, vector, unravel, data.x.shape[0])
    site_round = jax.jit(make_site_round(model, Cut(bits=32), training, unravel))
    new, _ = site_round(state, data, jax.random.key(1), np.float32(0.01))
    return unravel(new.vector)


def test_without_weight_it_changes_nothing_of_the_rest() -> None:
    plain, both = _trained(WITHOUT, _data()), _trained(WITH, _data(), novelty_weight=0.0)
    start = WITH.init(jax.random.key(0), F, K)
    for part in ("gru", "anomaly", "kinds"):
        for name, value in plain["top"][part].items():
            np.testing.assert_allclose(both["top"][part][name], value, atol=2e-6)
    np.testing.assert_allclose(both["bottom"]["first"]["w"], plain["bottom"]["first"]["w"], atol=2e-6)
    np.testing.assert_allclose(
        both["top"]["novelty"]["score"]["w"], start["top"]["novelty"]["score"]["w"], atol=2e-6
    )


def test_with_weight_its_head_learns_and_the_encoder_is_shared() -> None:
    plain, both = _trained(WITHOUT, _data()), _trained(WITH, _data())
    start = WITH.init(jax.random.key(0), F, K)
    head = both["top"]["novelty"]["score"]["w"] - start["top"]["novelty"]["score"]["w"]
    assert np.abs(head).max() > 1e-5
    assert np.abs(both["bottom"]["first"]["w"] - plain["bottom"]["first"]["w"]).max() > 1e-6


def test_which_attack_a_step_carries_does_not_matter_to_it() -> None:
    data = _data()
    other = data._replace(y=np.where(data.y == 1, 2, data.y))
    heads = [
        _trained(WITH, one, kind_weight=0.0)["top"]["novelty"] for one in (data, other)
    ]  # the kinds head would reach it through the shared encoder
    for name, value in heads[0]["score"].items():
        np.testing.assert_array_equal(heads[1]["score"][name], value)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_loss_leaves_out_what_has_no_weight(weight: float) -> None:
    score = np.array([[3.0, -50.0]], np.float32)
    loss = novelty_loss(score, np.array([[True, True]]), np.array([[weight, 0.0]], np.float32))
    assert float(loss) == pytest.approx(weight * np.log1p(np.exp(-3.0)), rel=1e-5)
