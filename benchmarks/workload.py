"""Workload W, the reference for training speed: its data, its model in Lazaretto, its count of operations.

Every site has 256 windows of 20 steps × 40 features (float32) and a class 0 to 5 at each step. Model:
causal conv(5, 32) → GELU (tanh form) → causal conv(3, 16) → GRU(64) → linear(6) at every step; 23,926
parameters. Loss: mean cross-entropy over the steps of a batch. A round: every site starts from the common
parameters and takes one epoch of plain SGD (learning rate 0.05) over batches of 32 windows in order, and
the updates are averaged (FedAvg, all sites of one size).

Data are a function of (seed, site) alone and the same to the bit wherever they are made: integers from a
32-bit mixing function, scaled to [-1, 1). The class of a step is the largest of its first six features.
This file needs NumPy only, so that the peers' environments can import it.

The private round (`dp.py`): DP-SGD (Abadi et al. 2016, arXiv:1607.00133) in place of the epoch. Each of its 8
steps takes every window with probability 1/8, clips the gradient of each at length 1, adds normal noise of
standard deviation 1 to their sum and divides by 32, however many there were.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BATCH, CLASSES, FEATURES, RATE, STEPS, WINDOWS = 32, 6, 40, 0.05, 20, 256
WIDTH, CHANNELS, WIDTH_2, CUT, HIDDEN = 5, 32, 3, 16, 64
CLIP, NOISE_MULTIPLIER, ROUND_STEPS = 1.0, 1.0, WINDOWS // BATCH

__all__ = [
    "BATCH",
    "CHANNELS",
    "CLASSES",
    "CLIP",
    "CUT",
    "FEATURES",
    "HIDDEN",
    "NOISE_MULTIPLIER",
    "RATE",
    "ROUND_STEPS",
    "STEPS",
    "WIDTH",
    "WIDTH_2",
    "WINDOWS",
    "data_bytes",
    "flop_per_window",
    "initial",
    "sampled",
    "site_data",
]


def _mixed(v: Any) -> Any:
    """A permutation of 32-bit integers whose output looks random (the finaliser of MurmurHash3)."""
    v = (v ^ (v >> 16)) * np.uint32(0x85EBCA6B)
    v = (v ^ (v >> 13)) * np.uint32(0xC2B2AE35)
    return v ^ (v >> 16)


def site_data(seed: int, site: Any, xp: Any = np) -> tuple[Any, Any]:
    """x [WINDOWS, STEPS, FEATURES] float32 in [-1, 1), y [WINDOWS, STEPS] int32; by NumPy or `jax.numpy`."""
    start = _mixed(xp.asarray(site, xp.uint32).reshape(1) * np.uint32(0x9E3779B9) + np.uint32(seed))
    place = xp.arange(WINDOWS * STEPS * FEATURES, dtype=xp.uint32)
    bits = _mixed(_mixed(place + start) ^ start)
    x = (bits >> 8).astype(xp.float32) * np.float32(2.0**-23) - np.float32(1)
    x = x.reshape(WINDOWS, STEPS, FEATURES)
    return x, x[..., :CLASSES].argmax(axis=-1).astype(xp.int32)


def sampled(seed: int, site: int) -> list[Any]:
    """Windows of each step of the private round that all programs are compared by, ascending."""
    rng = np.random.default_rng((seed, site))
    return [np.flatnonzero(rng.random(WINDOWS) < BATCH / WINDOWS) for _ in range(ROUND_STEPS)]


def initial(seed: int) -> dict[str, Any]:
    """Initial parameters, float32. Weights [inputs, outputs] scaled by 1 / sqrt(inputs), biases 0.

    conv1, conv2: rows are the steps of the window from oldest to newest, each with its channels. GRU gates
    in the order update z, reset r, candidate n; h' = h + z (n - h), n = tanh(w x + b + r (u h)).
    """
    rng = np.random.default_rng(seed)

    def weights(inputs: int, outputs: int) -> Any:
        return (rng.standard_normal((inputs, outputs)) / inputs**0.5).astype(np.float32)

    def zeros(count: int) -> Any:
        return np.zeros(count, np.float32)

    return {
        "conv1_w": weights(WIDTH * FEATURES, CHANNELS),
        "conv1_b": zeros(CHANNELS),
        "conv2_w": weights(WIDTH_2 * CHANNELS, CUT),
        "conv2_b": zeros(CUT),
        "gru_w": weights(CUT, 3 * HIDDEN),
        "gru_u": weights(HIDDEN, 3 * HIDDEN),
        "gru_b": zeros(3 * HIDDEN),
        "head_w": weights(HIDDEN, CLASSES),
        "head_b": zeros(CLASSES),
    }


def flop_per_window() -> int:
    """Floating-point operations of the matrix products that training on one window needs: 2,585,600.

    A product of [m, k] and [k, n] counts 2 m k n. Per step forward: conv1 2·200·32, conv2 2·96·16, GRU input
    2·16·192, GRU state 2·64·192, head 2·64·6; 20 steps make 947,200. The backward pass needs each twice
    (for weights and for inputs), except that nothing asks for the gradient of the data, so conv1 counts
    once (256,000 less than three times forward). GELU, gates, softmax, SGD and copies count nothing.
    """
    products = [(WIDTH_2 * CHANNELS, CUT), (CUT, 3 * HIDDEN), (HIDDEN, 3 * HIDDEN), (HIDDEN, CLASSES)]
    first = 2 * WIDTH * FEATURES * CHANNELS
    return STEPS * (2 * first + 3 * sum(2 * k * n for k, n in products))


def data_bytes() -> int:
    """Bytes of one site's windows and classes, each read once."""
    return WINDOWS * STEPS * 4 * (FEATURES + 1)
