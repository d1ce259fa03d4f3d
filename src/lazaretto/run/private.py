"""Sites that train under a mechanism: whom a round samples, its noise, and what is kept between rounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from lazaretto.dp_local import Drawn, examples_of
from lazaretto.local import SiteData
from lazaretto.privacy.adaptive_clip import next_clip
from lazaretto.privacy.dp_ftrl import correlated
from lazaretto.privacy.draws import Chance, NoiseSource, chance_of, poisson_rows, turn_rows
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.types import Array, Float, Int

__all__ = ["PrivateSites", "Promise", "noised_mean", "secret_keys"]

_GRID = 2.0**-12  # of the noise: what is finer in a released number than this is rounded away
_MULTIPLE = 16  # places for a step's examples, so that other rounds fit the compiled program
_BEYOND = 1e-9  # chance that a step has more: then the program is compiled anew, and nobody is left out


class Promise(NamedTuple):
    """A mechanism, where its chance comes from, and the label of the training, for noise of its own.

    marks: of the sites' windows (`simulate.pack_marks`), by which a fixed order takes its examples in turn;
    None where their places are fixed.
    """

    mechanism: Mechanism
    source: NoiseSource
    label: str = ""
    marks: NDArray[np.uint64] | None = None


class PrivateSites:
    """What sites keep of their mechanism, beside what they train.

    clips [S]: each site's clip, which moves where it is adaptive. before [S, b - 1, d]: the last noise of
    each, where a step's noise takes back what earlier ones added; None else. steps [S]: done so far.
    """

    def __init__(
        self,
        promise: Promise,
        data: SiteData,
        window: int,
        parameters: int,
        parts: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    ) -> None:
        """parts: expected [S] examples of a step -> [S] what each site adds of the noise; None: all of it."""
        self.promise = promise
        made, sites = promise.mechanism, len(data.x)
        self._examples = [examples_of(made.unit, np.asarray(own), window) for own in data.weight]
        self._turns = [
            _turns(made, own, None if promise.marks is None else promise.marks[site])
            for site, own in enumerate(self._examples)
        ]
        self._size = parameters
        self._room = _room(made, max(map(len, self._examples)))
        self.clips = np.full(sites, made.clip)
        self.expected = np.array([max(1.0, made.rate * len(own)) for own in self._examples])
        self._parts = np.ones(sites) if parts is None else parts(self.expected)
        bands = len(made.kernel) - 1
        self.before = np.zeros((sites, bands, parameters)) if bands else None
        self.steps = np.zeros(sites, np.int64)

    def draw(self, seed: int, round_number: int, rows: Sequence[int] | Int) -> Drawn:
        """Samples and noise of a round (from 0) for the sites in `rows`, with a leading axis as of it.

        A site that comes a second time gets neither.
        """
        made = self.promise.mechanism
        chosen, noise = (
            list[list[NDArray[np.int64]]](),
            np.zeros((len(rows), made.steps, self._size), np.float32),
        )
        for place, site in enumerate(map(int, rows)):
            if site in rows[:place]:  # fills up the cores, and does nothing
                chosen.append([])
                continue
            path = ("privacy", self.promise.label, site, round_number)
            chance = chance_of(self.promise.source, seed, *path)
            mine = self._examples[site]
            chosen.append([mine[who] for who in self._sampled(site, len(mine), chance)])
            z = chance.normal(made.steps * self._size).reshape(made.steps, self._size)
            if self.before is not None:
                z, self.before[site] = correlated(z, made.kernel, self.before[site])
            full = made.noise_multiplier * self.clips[site] * self._parts[site]
            np.multiply(z, full, out=noise[place], casting="same_kind")
            self.steps[site] += made.steps
        widest = max((len(who) for own in chosen for who in own), default=0)
        if widest > self._room:
            self._room = -(-widest // _MULTIPLE) * _MULTIPLE
        places = np.zeros((len(rows), made.steps, self._room), np.int32)
        count = np.zeros((len(rows), made.steps), np.int32)
        for place, own in enumerate(chosen):
            for step, who in enumerate(own):
                places[place, step, : len(who)], count[place, step] = who, len(who)
        here = np.asarray(rows)
        clips = self.clips[here].astype(np.float32)
        grid = (_GRID * made.noise_multiplier * self.clips * self._parts)[here].astype(np.float32)
        return Drawn(places, count, noise, clips, self.expected[here].astype(np.float32), grid)

    def _sampled(self, site: int, examples: int, chance: Chance) -> list[NDArray[np.int64]]:
        made = self.promise.mechanism
        if made.sampling == "poisson":
            return poisson_rows(examples, made.rate, made.steps, chance)
        return turn_rows(self._turns[site], made.rate, made.steps, int(self.steps[site]))

    def seen(
        self, seed: int, round_number: int, rows: Sequence[int] | Int, drawn: Drawn, short: Array
    ) -> None:
        """Move adaptive clips, by noisy counts of gradients that were short: short [len(rows), steps]."""
        made = self.promise.mechanism
        if made.quantile is None:
            return
        for place, site in enumerate(map(int, rows)):
            path = ("privacy counts", self.promise.label, site, round_number)
            z = chance_of(self.promise.source, seed, *path).normal(made.steps)
            # centred, so that one example more or less moves it by a half
            counts = np.asarray(short[place], np.float64) - drawn.count[place] / 2 + made.count_noise * z
            for count in counts[np.asarray(short[place]) >= 0]:
                share = 0.5 + count / self.expected[site]
                self.clips[site] = next_clip(self.clips[site], share, made.quantile)

    def arrays(self) -> dict[str, Any]:
        """For a checkpoint; what is kept of noise is as secret as the site's data."""
        held = {"private.clips": self.clips, "private.steps": self.steps, "private.before": self.before}
        return {name: value for name, value in held.items() if value is not None}

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.clips, self.steps = arrays["private.clips"], arrays["private.steps"]
        self.before = arrays.get("private.before")


def secret_keys(sites: int) -> Array:
    """[S] keys of JAX from the operating system, each new and known to nobody."""
    drawn = np.frombuffer(os.urandom(8 * sites), np.uint32).reshape(sites, 2)
    return jax.random.wrap_key_data(jnp.asarray(drawn))


def noised_mean(
    promise: Promise, updates: Float, sites: int, seed: int, round_number: int
) -> NDArray[np.float64]:
    """[d] the mean over all sites of updates [n, d], each clipped, and noise on their sum; n <= sites.

    What did not come counts as zero, and an update that is not finite too, so that one site more or less
    moves the result by at most clip / sites.
    """
    made, rows = promise.mechanism, updates.astype(np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    length = np.linalg.norm(rows, axis=1)
    total = np.minimum(1.0, made.clip / np.maximum(length, 1e-30)) @ rows
    chance = chance_of(promise.source, seed, "privacy", promise.label, "coordinator", round_number)
    noise = made.noise_multiplier * made.clip * chance.normal(updates.shape[1])
    grid = _GRID * made.noise_multiplier * made.clip
    return np.asarray(np.round((total + noise) / grid) * grid / sites)


def _turns(made: Mechanism, examples: Int, marks: NDArray[np.uint64] | None) -> NDArray[np.uint64]:
    """What decides in which steps of a pass each example [n] of a site is, if turns are taken: its own mark.

    marks: [D, U, L / T]. A patient's is that of the first window, and so comes of that patient alone. Numbers
    of packed examples would do where places are fixed: here one unit more moves those behind it.
    """
    if marks is None:
        return examples.astype(np.uint64)
    return (marks if made.unit == "record" else marks[..., 0]).reshape(-1)[examples]


def _room(made: Mechanism, most: int) -> int:
    """Places for a step's examples at a site that has the most; turns come of hashes, as if by chance."""
    usual = binom.ppf(1 - _BEYOND, most, made.rate) if made.sampling != "everyone" else most
    return max(1, -(-int(usual) // _MULTIPLE)) * _MULTIPLE
