"""What a step weighs in the detection loss: by its class, and by whether it is anomalous."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from lazaretto.losses import detection_loss
from lazaretto.types import Outputs

B, T, K = 3, 7, 2


def _drawn(seed: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (B, T, 1 + K + 4)).astype(np.float32)
    y = rng.integers(-1, K + 1, (B, T))
    return Outputs(logits[..., 0], logits[..., 1 : 1 + K], logits[..., 1 + K :]), y, rng.random((B, T))


def _by_hand(outputs: Any, y: Any, weight: Any, each: Any, anomaly_weight: float) -> float:
    """Weighted mean over steps of the two cross-entropies, one step after the other."""
    total = 0.0
    parts = 0.0
    for logit, kinds, label, given_weight in zip(
        outputs.anomaly.ravel(), outputs.kinds.reshape(-1, K), y.ravel(), weight.ravel(), strict=True
    ):
        own = given_weight * each[label] * (anomaly_weight if label != 0 else 1.0)
        chance = expit(np.float64(logit))
        loss = -np.log(chance if label != 0 else 1 - chance)
        if label > 0:
            raised = np.exp(kinds.astype(np.float64))
            loss -= np.log(raised[label - 1] / raised.sum())
        total += own
        parts += own * loss
    return parts / max(total, 1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), anomaly_weight=st.floats(0.05, 50.0))
def test_an_anomalous_step_weighs_so_many_normal_ones(seed: int, anomaly_weight: float) -> None:
    """Against a slow sum over steps, anomalies of unknown kind (-1) included."""
    outputs, y, weight = _drawn(seed)
    each = np.random.default_rng(seed + 1).random(K + 2).astype(np.float32) + 0.1
    ours = detection_loss(
        outputs, jnp.asarray(y), jnp.asarray(weight, jnp.float32), jnp.asarray(each), 0.0, 1.0, anomaly_weight
    )
    assert float(ours) == pytest.approx(_by_hand(outputs, y, weight, each, anomaly_weight), rel=2e-4)


def test_only_the_ratio_of_weights_counts() -> None:
    """Three times as heavy anomalies are the same loss as normal steps that weigh a third."""
    outputs, y, weight = _drawn(0)
    heavy = detection_loss(outputs, jnp.asarray(y), jnp.asarray(weight), jnp.ones(K + 2), 0.0, 1.0, 3.0)
    light = jnp.asarray([1 / 3, 1.0, 1.0, 1.0])
    assert float(heavy) == pytest.approx(
        float(detection_loss(outputs, jnp.asarray(y), jnp.asarray(weight), light, 0.0)), rel=1e-5
    )
