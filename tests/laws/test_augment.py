"""Laws of what is done to training streams, above all of made-up campaigns."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.augment import compose, disturb_values, hide_modality, jitter, patch, pieces_of, settled_values
from lazaretto.types import Part

U, L, F = 6, 40, 5


def _device(seed: int, attacked: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x [U, L, F], y, weight; units 0 to 2 carry an attack on steps 20 to 29, the last unit is padding."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((U, L, F)).astype(np.float32)
    y, weight = np.zeros((U, L), np.int32), np.ones((U, L), np.float32)
    if attacked:
        y[:3, 20:30] = 2
    weight[-1] = 0
    return x, y, weight


def _composed(x: Any, y: Any, weight: Any, seed: int, known: Any = None) -> tuple[np.ndarray, np.ndarray]:
    new, made = jax.jit(compose)(x, y, weight, pieces_of(*(known or (x, y, weight))), jax.random.key(seed))
    return np.asarray(new), np.asarray(made)


@given(y=arrays.arrays(np.int32, (4, 20), elements=st.integers(-1, 3)), data=st.data())
@settings(max_examples=30, deadline=None)
def test_pieces_are_taken_from_attacked_steps_of_units_with_enough_quiet_ones(y: Any, data: Any) -> None:
    weight = data.draw(arrays.arrays(np.float32, (4, 20), elements=st.sampled_from([0.0, 1.0])))
    x = np.random.default_rng(0).standard_normal((4, 20, 3)).astype(np.float32)
    pieces = pieces_of(x, y, weight)
    expected = []
    for unit in range(4):
        calm = [t for t in range(20) if weight[unit, t] and y[unit, t] == 0]
        for t in range(20):
            expected.append(len(calm) >= 8 and weight[unit, t] > 0)
        if calm:
            np.testing.assert_allclose(pieces.quiet[unit], x[unit, calm].mean(axis=0), atol=1e-5)
    attacked = [use and y.ravel()[i] != 0 for i, use in enumerate(expected)]
    chosen = attacked if any(attacked) else expected
    np.testing.assert_array_equal(np.diff(np.asarray(pieces.running), prepend=0.0) > 0, chosen)


@pytest.mark.parametrize("seed", range(5))
def test_only_made_steps_and_those_of_real_attacks_change(seed: int) -> None:
    x, y, weight = _device(seed)
    new, made = _composed(x, y, weight, seed)
    assert new.shape == x.shape
    assert made.shape == y.shape
    assert made.dtype == bool
    assert np.isfinite(new).all()
    assert not made[(y != 0) | (weight == 0)].any()
    untouched = ~made & (y == 0) & (weight > 0)
    np.testing.assert_array_equal(new[untouched], x[untouched])


def test_one_key_one_campaign() -> None:
    device = _device(0)
    first, again, other = _composed(*device, 1), _composed(*device, 1), _composed(*device, 2)
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])


def test_only_features_that_attacks_moved_can_move() -> None:
    x, y, weight = _device(0)
    x[..., :] = 0.0
    x[y != 0, 3] = 5.0
    moved = np.zeros(F, bool)
    for seed in range(10):
        new, made = _composed(np.zeros_like(x), np.zeros_like(y), weight, seed, (x, y, weight))
        moved |= (new[made] != 0).any(axis=0)
    assert moved.tolist() == [False, False, False, True, False]


def test_a_device_without_attacks_makes_them_of_its_own_quiet_steps() -> None:
    x, y, weight = _device(0, attacked=False)
    new, made = _composed(x, y, weight, 0)
    assert made.any()
    assert not np.array_equal(new, x)


def test_a_device_without_usable_steps_makes_none() -> None:
    x, y, weight = _device(0)
    new, made = _composed(x, y, np.zeros_like(weight), 0)
    assert not made.any()
    np.testing.assert_array_equal(new, x)


def test_six_streams_of_ten_get_a_campaign() -> None:
    # 2,000 streams: 0.6 within 4.5 standard errors (0.011), so that a right rate fails 7 times in a million;
    # a campaign may be wholly outside of the stream only by rounding
    x, y, weight = (np.tile(a[3:4], (2000, *[1] * (a.ndim - 1))) for a in _device(0))
    _, made = _composed(x, y, weight, 0, _device(1))
    assert abs(made.any(axis=1).mean() - 0.6) < 4.5 * 0.011


LAYOUT = (Part(0, 2, 2), Part(2, 4, 8))  # two plain features; two irregular ones with masks and gaps


def _combined(streams: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """[streams, 6, 10]; the last two columns say what is there; the last stream lacks the second modality."""
    x = np.random.default_rng(0).standard_normal((streams, 6, 10)).astype(np.float32)
    x[..., 8:] = 1.0
    x[-1, :, 2:8] = x[-1, :, 9] = 0.0
    return x


def _slowly_settled(x: np.ndarray) -> np.ndarray:
    """By loops: the second modality's values are those last measured, and nothing where it is not there."""
    out = x.copy()
    for stream in out:
        for variable in (2, 3):
            last = 0.0
            for step in stream:
                last = step[variable] if step[variable + 2] > 0 else last
                step[variable] = last
        stream[:, 0:2] *= stream[:, 8:9]
        stream[:, 2:4] *= stream[:, 9:10]
    return out


def _read(streams: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """`_combined` with masks of 0 and 1, values carried, and the first modality away in the middle."""
    x = _combined(streams)
    x[..., 4:6] = (x[..., 4:6] > 0) * x[..., 9:]
    x[0, 2:4, 8] = 0.0
    return _slowly_settled(x)


def test_what_is_read_is_carried_on_and_what_is_not_there_is_not() -> None:
    x = _read(5)
    moved = x.copy()
    moved[..., :4] += np.random.default_rng(2).standard_normal(moved[..., :4].shape).astype(np.float32)
    np.testing.assert_allclose(settled_values(jnp.asarray(moved), LAYOUT), _slowly_settled(moved), rtol=1e-6)
    np.testing.assert_array_equal(settled_values(jnp.asarray(x), LAYOUT), x)


def test_noise_touches_measured_values_alone() -> None:
    x = _read(40)
    noisy = np.asarray(jitter(jnp.asarray(x), jax.random.key(0), 1.0, 1.0, 0.0, LAYOUT))
    np.testing.assert_array_equal(noisy[..., 4:], x[..., 4:])
    np.testing.assert_allclose(noisy, _slowly_settled(noisy), rtol=1e-6)
    assert (noisy[..., :2] != x[..., :2])[x[..., 8] > 0].all()
    assert (noisy[0, 2:4, :2] == 0).all(), "no noise where there is nothing"


def test_a_hidden_variable_was_never_measured() -> None:
    x = _read(200)
    hidden = np.asarray(jitter(jnp.asarray(x), jax.random.key(0), 0.0, 0.0, 0.9, LAYOUT))
    np.testing.assert_array_equal(hidden[..., 8:], x[..., 8:])
    gone = 0
    for variable in (2, 3):
        own = [variable, variable + 2, variable + 4]
        kept = (hidden[..., own] == x[..., own]).all(axis=(1, 2))
        lost = (hidden[..., own] == 0).all(axis=(1, 2))
        assert (kept | lost).all(), "value, mask and gap go together"
        gone += int((lost & ~kept).sum())
    assert gone > 50


def test_a_made_up_attack_leaves_labels_where_nothing_moved() -> None:
    x = _read(300)
    y, weight = np.zeros(x.shape[:2], np.int32), np.ones(x.shape[:2], np.float32)
    new, labels = map(np.asarray, disturb_values(jnp.asarray(x), y, weight, jax.random.key(3), 0.9, LAYOUT))
    moved = (new != x).any(axis=-1)
    assert moved.sum() > 100
    assert moved[labels == -1].all(), "what is called an attack moved"
    plain = (new[..., :2] != x[..., :2]).any(axis=-1)
    assert (labels[plain] == -1).all(), "and what moved is called one, but for values that are carried on"
    np.testing.assert_array_equal(new[..., 4:], x[..., 4:])


def test_a_hidden_modality_is_gone_as_a_whole_and_one_always_stays() -> None:
    x = _combined(4001)
    hidden = np.asarray(hide_modality(jnp.asarray(x), jax.random.key(1), 0.4, LAYOUT))
    there = hidden[..., 8:] > 0
    lost = ~there[:-1, 0]
    assert (there == there[:, :1]).all(), "for the whole stream"
    assert there.any(axis=-1).all(), "never both"
    np.testing.assert_array_equal(hidden[-1], x[-1])
    assert (hidden[:-1, :, 0:2][lost[:, 0]] == 0).all()
    assert (hidden[:-1, :, 2:8][lost[:, 1]] == 0).all()
    kept = ~lost.any(axis=1)
    np.testing.assert_array_equal(hidden[:-1][kept], x[:-1][kept])
    # 4,000 streams, each modality in a fifth of them: five standard deviations are .032
    np.testing.assert_allclose(lost.mean(axis=0), 0.2, atol=0.032)


def test_patches_overwrite_attacked_steps_alone() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2000, 40, 10)).astype(np.float32)
    y = (rng.random((2000, 40)) < 0.5).astype(np.int32) * rng.integers(1, 4, (2000, 1)).astype(np.int32)
    y[:, 30:] = -1  # an attack of unknown kind
    weight = (rng.random((2000, 40)) < 0.9).astype(np.float32)
    new = np.asarray(patch(jnp.asarray(x), y, weight, jax.random.key(0), 0.4))
    moved = new != x
    assert not moved[(y == 0) | (weight == 0)].any(), "normal and padded steps stay"
    streams = moved.any(axis=(1, 2))
    # of 2,000 streams 40 % are chosen, and in few of those no attacked step is hit: five standard deviations
    assert 0.30 < streams.mean() < 0.4 + 5 * (0.4 * 0.6 / 2000) ** 0.5
    columns = moved.any(axis=1)[streams].sum(axis=1)
    assert columns.min() == 1, "a single feature, too"
    assert columns.max() >= 6, "and many"
    for stream in np.flatnonzero(streams)[:50]:
        for column in np.flatnonzero(moved[stream].any(axis=0)):
            values = new[stream, moved[stream, :, column], column]
            assert np.unique(values).size == 1, "a constant along the stream"
            assert abs(values[0]) <= 6
    several = [s for s in np.flatnonzero(streams) if moved[s].any(axis=0).sum() > 1]
    one = [np.unique(new[s][moved[s]]).size == 1 for s in several]
    # half of the streams have one constant for all features: five standard deviations of some 500 are .11
    assert 0.38 < np.mean(one) < 0.62
    hit = moved.any(axis=2)[streams] & ((y != 0) & (weight > 0))[streams]
    share = hit.sum() / ((y != 0) & (weight > 0))[streams].sum()
    assert 0.4 < share < 0.75, "half of the pieces, more in the streams where any was"


def test_patches_of_every_stream_and_of_none() -> None:
    x, y, weight = np.zeros((50, 6, 1), np.float32), np.ones((50, 6), np.int32), np.ones((50, 6), np.float32)
    assert (np.asarray(patch(x, y, weight, jax.random.key(1), 0.0)) == 0).all()
    moved = np.asarray(patch(x, y, weight, jax.random.key(1), 1.0)) != 0
    assert moved.any(axis=(1, 2)).mean() > 0.4, "one feature and six steps are enough"
    short = patch(x[:, :2], y[:, :2], weight[:, :2], jax.random.key(1), 1.0)
    assert np.isfinite(np.asarray(short)).all(), "streams shorter than a patch"


def test_patches_of_modalities_leave_what_says_what_was_measured() -> None:
    x = _combined(400)
    y, weight = np.ones(x.shape[:2], np.int32), np.ones(x.shape[:2], np.float32)
    new = np.asarray(patch(jnp.asarray(x), y, weight, jax.random.key(2), 1.0, LAYOUT))
    np.testing.assert_array_equal(new[..., 4:], x[..., 4:])
    moved = new != x
    assert moved[..., :2].any()
    assert moved[..., 2:4].any()
    absent = x[..., 8:] == 0
    assert (new[..., :2][absent[..., 0]] == 0).all(), "nothing in a modality that is not there"
    assert (new[..., 2:4][absent[..., 1]] == 0).all()


def test_patches_and_made_up_attacks_together_leave_quiet_steps_as_they_are() -> None:
    """In the order of training: what a patch changed is not carried on into steps that are not attacked."""
    layout = (Part(0, 3, 9),)
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 20, 9)).astype(np.float32)
    x[..., 3:6] = x[..., 3:6] > 0
    x = np.asarray(settled_values(jnp.asarray(x), layout))
    y = (rng.random((300, 20)) < 0.4).astype(np.int32)
    weight = np.ones((300, 20), np.float32)
    moved, labels = disturb_values(jnp.asarray(x), y, weight, jax.random.key(1), 1e-9, layout)
    new = np.asarray(patch(moved, labels, weight, jax.random.key(2), 1.0, layout))
    changed = (new != x).any(axis=-1)
    assert changed.sum() > 500
    assert not changed[y == 0].any()
