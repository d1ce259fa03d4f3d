"""Rounds, with their state on disk; sites (or pooled models) that train alone."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lazaretto.errors import Interrupted
from lazaretto.keys import seed_of
from lazaretto.local import LocalState, SiteData
from lazaretto.run.journal import unfinished_name
from lazaretto.run.saved import load_arrays, save_arrays
from lazaretto.run.simulate import Program
from lazaretto.types import Array, Float

__all__ = [
    "Checkpoint",
    "RoundsDone",
    "Schedule",
    "Stop",
    "round_keys",
    "stoppable",
    "stopped",
    "train_alone",
]

_SAVE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """rounds, learning rate of the first, and whether it falls to 2 % along a half cosine."""

    rounds: int
    learning_rate: float
    cosine: bool = True

    def rate(self, round_number: int) -> float:
        """Learning rate of a round (from 0)."""
        if not self.cosine or self.rounds < 2:
            return self.learning_rate
        part = round_number / (self.rounds - 1)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * part))))


RoundsDone = Callable[[int, Float, Float], None]  # round from 1, losses [S], vectors [S, d]


class Stop:
    """Whether the user has asked to stop; set by a signal, read between rounds."""

    asked = False


@contextmanager
def stoppable() -> Iterator[Stop]:
    """While inside, Ctrl-C (or SIGTERM) asks to stop after the round; a second one stops at once."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, ask)
    except ValueError:  # not the main thread: whoever runs us handles signals
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def round_keys(seed: int, sites: int, round_number: int) -> Array:
    """[S] keys of a round: a function of seed, site and round alone, so a resumed run meets the same."""
    base = jax.random.fold_in(jax.random.key(seed_of(seed, "train") & 0xFFFF_FFFF), round_number)
    return jax.vmap(lambda site: jax.random.fold_in(base, site))(jnp.arange(sites))


def _leaves(state: LocalState) -> dict[str, Any]:
    return {f"leaf{i:03d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def stopped(round_number: int, rounds: int, unfinished: Path | None) -> Interrupted:
    """What to raise when a training, kept at `unfinished`, stops after a round because it was asked to."""
    of = "" if unfinished is None else f" of {unfinished_name(unfinished)}"
    said = f"stopped after round {round_number} of {rounds}{of}"
    return Interrupted(said, way_out="go on with the same command and --resume")


class Checkpoint:
    """Where a stage's unfinished training is kept; saves at most every `_SAVE_SECONDS`."""

    def __init__(self, path: Path | None) -> None:
        self.path, self._saved_at = path, time.monotonic()

    def load(self, state: LocalState) -> tuple[LocalState, int, dict[str, Any], dict[str, Any]]:
        """The state, the rounds done, and what else was saved: metadata and arrays."""
        if self.path is None or not self.path.exists():
            return state, 0, {}, {}
        arrays, meta = load_arrays(self.path)
        fresh, structure = jax.tree.flatten(state)
        leaves = [arrays.pop(f"leaf{i:03d}") for i in range(len(fresh))]
        return jax.tree.unflatten(structure, leaves), int(meta["round"]), meta, arrays

    def save(
        self,
        state: LocalState,
        round_number: int,
        extra: dict[str, Any],
        force: bool,
        arrays: Mapping[str, Any] | None = None,
    ) -> None:
        """Write it all, if `force` or if the last time is long ago."""
        if self.path is None or not (force or time.monotonic() - self._saved_at > _SAVE_SECONDS):
            return
        save_arrays(self.path, {**_leaves(state), **(arrays or {})}, {"round": round_number, **extra})
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """The training is whole."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def train_alone(
    program: Program,
    data: SiteData,
    vectors: Float,
    seed: int,
    schedule: Schedule,
    environment: tuple[Path | None, RoundsDone],
) -> Float:
    """Every entry of the leading axis trains on its own data, nothing is exchanged.

    vectors: [S, d] initial, S as in `data` (local-only sites, or pooled models of several seeds).
    Returns the final vectors [S, d]. Raises Interrupted after saving when asked to stop.
    """
    place, done = environment
    padded, devices = data.x.shape[:2]
    checkpoint = Checkpoint(place)
    state, begin, _, _ = checkpoint.load(program.start(vectors, devices))
    if begin:
        state = LocalState(*program.place(state))
    placed = program.place(data)
    with stoppable() as stop:
        for index in range(begin, schedule.rounds):
            keys = program.place(round_keys(seed, padded, index))
            state, loss = program.round(state, placed, keys, schedule.rate(index))
            done(index + 1, np.asarray(loss), np.asarray(state.vector))
            checkpoint.save(state, index + 1, {}, force=stop.asked)
            if stop.asked:
                raise stopped(index + 1, schedule.rounds, place)
    checkpoint.remove()
    return np.asarray(state.vector)
