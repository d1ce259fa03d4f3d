"""Made-up scores whose truth is known, for the tests of the judge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lazaretto.evaluate.scored import Protocol, Scored, SeedScores
from lazaretto.keys import generator

CLASSES = ("normal", "flood", "scan", "exfiltration")
UNITS, STEPS = 40, 120


def _truth(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y [u, L], valid [u, L] (the last steps of some units are padding), site [u] of four."""
    rng = generator(seed, "truth")
    y = np.zeros((UNITS, STEPS), dtype=np.int64)
    valid = np.ones((UNITS, STEPS), dtype=bool)
    for unit in range(UNITS):
        valid[unit, STEPS - rng.integers(1, 9) :] = False
        if unit % 3:
            onset = rng.integers(5, STEPS - 40)
            y[unit, onset : onset + rng.integers(4, 30)] = 1 + unit % 7 % 3
    return y, valid, np.arange(UNITS) % 4


def _scored(seed: int, strength: float, number: int) -> Scored:
    """Normal scores plus `strength` where attacked, with an offset of each unit."""
    y, valid, site = _truth(seed)
    rng = generator(seed, "score", number)
    noise = rng.normal(size=y.shape) + 0.4 * rng.normal(size=(len(y), 1))
    return Scored(score=(noise + strength * (y > 0)).astype(np.float32), y=y, valid=valid, site=site)


@pytest.fixture
def system() -> Callable[..., list[SeedScores]]:
    """(strength, number, seeds) -> scores of a system; truth depends on the seed, noise on `number` too."""

    def make(strength: float, number: int, seeds: int = 3) -> list[SeedScores]:
        return [
            SeedScores(validation=_scored(100 + s, strength, number), test=_scored(200 + s, strength, number))
            for s in range(seeds)
        ]

    return make


@pytest.fixture
def protocol() -> Protocol:
    return Protocol(classes=CLASSES, step_seconds=60.0, replicates=200)
