"""Randomness is an argument, and every stream of it has a name.

`generator(seed, "site", 3)` and `generator(seed, "site", 4)` are independent, and neither changes
when another stream is added. Simulation only: keys and privacy noise of real runs come from the
system's generator, never from a seed.
"""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import numpy as np

__all__ = ["generator", "jax_key", "seed_of"]


def seed_of(seed: int, *path: str | int) -> int:
    """A 63-bit seed for the stream `path` under `seed` (SHA-256 of their canonical text)."""
    text = "\x1f".join([str(int(seed)), *(f"{type(part).__name__}:{part}" for part in path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """NumPy generator of the stream `path` under `seed`."""
    return np.random.default_rng(seed_of(seed, *path))


def jax_key(seed: int, *path: str | int) -> Any:
    """JAX key of the stream `path` under `seed`."""
    return jax.random.key(seed_of(seed, *path) & 0xFFFF_FFFF)
