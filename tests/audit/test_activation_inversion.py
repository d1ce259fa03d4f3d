"""Activations give readings away as far as they hold them: a linear map back, noise, and what was cut off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lazaretto.audit.activation_inversion import Decoder, activations, invert_activations
from lazaretto.cut import Cut
from lazaretto.errors import InputError
from lazaretto.models.conv_gru import conv_gru
from lazaretto.models.mlp import mlp

F, T, H = 3, 6, 5
RNG = np.random.default_rng(2)
PUBLIC, TRUTH = (RNG.standard_normal((n, T, F)).astype(np.float32) for n in (60, 20))
RIDGE, NETWORK = Decoder(kind="ridge", penalty=1e-3), Decoder(width=24, steps=800, rows=64)
MODEL = conv_gru(channels=8, cut_channels=8, hidden=4, past_steps=0, peak_steps=0, bins=2)
BOTTOM = MODEL.init(jax.random.key(1), F, 2)["bottom"]
KEY = jax.random.key(0)


def sent(x: Any, cut: Cut, salt: int) -> Any:
    return activations(MODEL, cut, BOTTOM, x, jax.random.key(salt))


def test_a_linear_map_is_undone_and_what_it_drops_is_not() -> None:
    """Two of three features cross; the third is at most its mean."""
    matrix = RNG.standard_normal((F, H)).astype(np.float32)
    matrix[2] = 0.0
    _, found = invert_activations((PUBLIC @ matrix, PUBLIC), TRUTH @ matrix, TRUTH, RIDGE, KEY)
    assert (found.r2[:2] > 0.99).all()
    assert found.r2[2] < 0.1


def test_a_network_reads_a_detector_and_noise_at_the_cut_hinders_it() -> None:
    ratios = []
    for noise in (0.0, 0.5, 4.0):
        cut = Cut(noise=noise)
        given = (sent(PUBLIC, cut, 1), PUBLIC)
        ratios.append(invert_activations(given, sent(TRUTH, cut, 2), TRUTH, NETWORK, KEY)[1].ratio)
    assert ratios[0] < 0.7
    assert ratios[0] < ratios[1] < ratios[2]


def test_activations_of_other_windows_tell_nothing() -> None:
    """A control: with activations shuffled among the windows, no decoder beats the mean by much."""
    given = (sent(PUBLIC, Cut(), 1), PUBLIC)
    shuffled = sent(TRUTH, Cut(), 2)[RNG.permutation(len(TRUTH))]
    for decoder in (RIDGE, NETWORK):
        assert invert_activations(given, shuffled, TRUTH, decoder, KEY)[1].ratio > 0.9


def test_the_same_arguments_give_the_same_answer() -> None:
    given, seen = (sent(PUBLIC, Cut(), 1), PUBLIC), sent(TRUTH, Cut(), 2)
    first, again = (invert_activations(given, seen, TRUTH, NETWORK, KEY)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="without a cut"):
        activations(mlp(), Cut(), {}, PUBLIC, KEY)
    h = np.zeros((60, T, H), np.float32)
    with pytest.raises(InputError, match="do not fit"):
        invert_activations((h[:50], PUBLIC), h[:20], TRUTH, RIDGE, KEY)
    with pytest.raises(InputError, match="NaN"):
        invert_activations((h * np.nan, PUBLIC), h[:20], TRUTH, RIDGE, KEY)
    with pytest.raises(InputError, match="a decoder is"):
        replace(RIDGE, context=-1)
    assert jnp.isfinite(h).all()
