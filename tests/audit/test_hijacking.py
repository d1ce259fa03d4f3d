"""A hijacked split: the attack does what it says, and a device that knows its labels notices it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto.audit.hijacking import Hijack, make_hijacked_site
from lazaretto.audit.watch import Watch, watch_start, watch_step
from lazaretto.cut import Cut
from lazaretto.errors import InputError
from lazaretto.local import LocalTraining, SiteData
from lazaretto.models.fusion import fusion
from lazaretto.models.mlp import mlp

F, K, T, H, D = 3, 2, 4, 5, 2
MODEL = fusion(repeat_steps=0)  # of a tiny model honest gradients part by label too little
TRAINING = LocalTraining(window=T, batch_units=4, temporal_consistency=0.0)
WATCH = Watch(threshold=0.5, least=5)


def slow_gap(gradients: Any, attacked: Any) -> float:
    """Pair by pair, as it is defined."""
    cosines: dict[str, list[float]] = {"both": [], "neither": [], "across": []}
    for i in range(len(gradients)):
        for j in range(i):
            lengths = np.linalg.norm(gradients[i]) * np.linalg.norm(gradients[j])
            cosine = float(gradients[i] @ gradients[j] / lengths) if lengths > 0 else 0.0
            kind = "across" if attacked[i] != attacked[j] else "both" if attacked[i] else "neither"
            cosines[kind].append(cosine)
    means = {kind: float(np.mean(found)) for kind, found in cosines.items()}
    return (means["both"] + means["neither"]) / 2 - means["across"]


@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(2, 5), st.sampled_from([1e-12, 1.0, 1e6]))
def test_the_gap_is_that_of_all_pairs(seed: int, first: int, second: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    labels = np.array([1] * first + [0] * second, np.int32)
    gradients = rng.standard_normal((len(labels), H)).astype(np.float32)
    gradients[0] *= rng.random() < 0.5  # one may be 0
    weight = np.ones((1, len(labels)))
    _, verdict = watch_step(watch_start(), scale * gradients[None], labels[None], weight, WATCH)
    assert float(verdict.gap) == pytest.approx(slow_gap(gradients, labels > 0), abs=1e-4)


def watched(gradients: Any, labels: Any, exchanges: int, weight: Any = None) -> tuple[Any, list[bool]]:
    state, found = watch_start(), []
    for _ in range(exchanges):
        state, verdict = watch_step(
            state, gradients, labels, np.ones(labels.shape) if weight is None else weight, WATCH
        )
        found.append(bool(verdict.refused))
    return state, found


LABELS = np.array([[0, 1, 0, 2]], np.int32)
PARTED = np.where(LABELS[..., None] > 0, 1.0, -1.0) * np.ones(H, np.float32)


def test_gradients_that_part_by_label_are_let_through_and_others_refused() -> None:
    assert not any(watched(PARTED, LABELS, 8)[1])
    for bad in (np.ones((1, 4, H)), np.zeros((1, 4, H)), np.full((1, 4, H), np.nan)):
        assert watched(bad, LABELS, 6)[1] == [False] * 4 + [True] * 2
    # the attack hides in nothing that is not judged
    assert not any(watched(np.ones((1, 4, H)), LABELS, 8, np.zeros(LABELS.shape))[1])
    assert not any(watched(np.ones((1, 4, H)), np.zeros_like(LABELS), 8)[1])


def test_refused_stays_refused() -> None:
    state, _ = watched(np.ones((1, 4, H)), LABELS, 6)
    for _ in range(200):
        state, verdict = watch_step(state, PARTED, LABELS, np.ones(LABELS.shape), WATCH)
    assert float(verdict.gap) > WATCH.threshold
    assert bool(verdict.refused)


@pytest.fixture(scope="module")
def runs() -> Any:
    """Three honest and three hijacked runs of one compiled program; attacks shift one feature of three."""
    rng = np.random.default_rng(0)
    # a campaign lasts: where labels change at every step, a recurrent site's gradients part by them less
    y = np.repeat((rng.random((D, 8, 3)) < 0.5).astype(np.int32), T, axis=2)
    x = rng.standard_normal((D, 8, 3 * T, F)).astype(np.float32)
    x[..., 0] += 2.0 * y
    data = SiteData(x, y, np.ones(y.shape, np.float32), np.int32(8), np.ones(K + 2, np.float32))
    public = rng.standard_normal((40, T, F)).astype(np.float32)
    run = jax.jit(make_hijacked_site(MODEL, Cut(), TRAINING, Hijack(width=8, tries=1), Watch(), 10))
    return {
        (seed, hostile): run(
            MODEL.init(jax.random.key(seed), F, K),
            data,
            public,
            jax.random.key(9 + seed),
            jnp.float32(0.003),
            jnp.asarray(hostile),
        )
        for seed in range(3)
        for hostile in (False, True)
    }


def test_a_hijack_is_refused_and_honest_training_is_not(runs: Any) -> None:
    """Three fixed seeds; two devices each, all of them."""
    for (_, hostile), found in runs.items():
        assert found.verdicts.refused.shape == (30, D)
        assert np.asarray(found.verdicts.refused[-1]).all() == hostile
        assert np.asarray(found.verdicts.refused).any() == hostile


def test_the_hostile_site_changes_what_devices_become(runs: Any) -> None:
    honest, hijacked = runs[0, False], runs[0, True]
    assert float(honest.loss[0]) == pytest.approx(float(hijacked.loss[0]))
    assert np.isfinite(np.asarray(hijacked.loss)).all()
    moved = np.abs(
        np.asarray(honest.bottoms["encoder0"]["first"]["w"] - hijacked.bottoms["encoder0"]["first"]["w"])
    )
    assert moved.max() > 1e-3


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to hijack"):
        make_hijacked_site(mlp(), Cut(), TRAINING, Hijack(), WATCH, 10)
    with pytest.raises(InputError, match="a hijack has"):
        Hijack(penalty=-1.0)
    with pytest.raises(InputError, match="a watch has"):
        Watch(least=0)
    with pytest.raises(InputError, match="gradients"):
        watch_step(watch_start(), np.ones((4, H)), LABELS, np.ones((1, 4)), WATCH)
