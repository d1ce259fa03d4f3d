"""Rounds: a federation, or sites (or pooled models) that train alone, with their state on disk."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
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
from lazaretto.round import server_step
from lazaretto.run.post import Post
from lazaretto.run.saved import load_arrays, save_arrays
from lazaretto.run.simulate import Program
from lazaretto.types import Array, Float, Int, Rule

__all__ = ["RoundsDone", "Schedule", "Stop", "stoppable", "train_alone", "train_federation"]

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


RoundsDone = Callable[[int, Float, Float], None]  # round from 1, losses [S], vector [d] or vectors [S, d]


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


def _round_keys(seed: int, sites: int, round_number: int) -> Array:
    """[S] keys of a round: a function of seed, site and round alone, so a resumed run meets the same."""
    base = jax.random.fold_in(jax.random.key(seed_of(seed, "train") & 0xFFFF_FFFF), round_number)
    return jax.vmap(lambda site: jax.random.fold_in(base, site))(jnp.arange(sites))


def _leaves(state: LocalState) -> dict[str, Any]:
    return {f"leaf{i:03d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def _stopped(round_number: int) -> Interrupted:
    return Interrupted("stopped", found=f"after round {round_number}", way_out="go on with --resume")


class _Checkpoint:
    """Where a stage's unfinished training is kept; saves at most every `_SAVE_SECONDS`."""

    def __init__(self, path: Path | None) -> None:
        self.path, self._saved_at = path, time.monotonic()

    def load(self, state: LocalState) -> tuple[LocalState, int, dict[str, Any]]:
        if self.path is None or not self.path.exists():
            return state, 0, {}
        arrays, meta = load_arrays(self.path)
        fresh, structure = jax.tree.flatten(state)
        leaves = [arrays[f"leaf{i:03d}"] for i in range(len(fresh))]
        return jax.tree.unflatten(structure, leaves), int(meta["round"]), meta

    def save(self, state: LocalState, round_number: int, extra: dict[str, Any], force: bool) -> None:
        if self.path is None or not (force or time.monotonic() - self._saved_at > _SAVE_SECONDS):
            return
        save_arrays(self.path, _leaves(state), {"round": round_number, **extra})
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def train_federation(
    program: Program,
    data: SiteData,
    names: Sequence[str],
    sizes: Int,
    rule: Rule,
    schedule: Schedule,
    first: tuple[Float, int],
    environment: tuple[Post, Path | None, RoundsDone],
) -> Float:
    """Train a common vector: broadcast, train at every site, send updates, aggregate, again and again.

    data: SiteData with leading axis S (padded beyond `names`). sizes: [sites] training steps.
    first: initial vector [d] and the seed. environment: where messages pass, where unfinished state
    is kept (or None), and what is called after each round with the new global vector.
    Returns the final vector [d]. Raises Interrupted after saving when asked to stop.
    """
    vector, seed = first
    post, place, done = environment
    sites, padded = len(names), data.x.shape[0]
    devices = data.x.shape[1]
    checkpoint = _Checkpoint(place)
    state, begin, meta = checkpoint.load(program.start(np.repeat(vector[None], padded, axis=0), devices))
    if begin:
        state = LocalState(*program.place(state))
        vector = np.asarray(state.vector)[0]
        post.restore(meta["messages"])
    placed, weights = program.place(data), np.asarray(rule.weigh(sizes))
    with stoppable() as stop:
        for index in range(begin, schedule.rounds):
            for name in names:
                post.send("model", "coordinator", name, index + 1, {"vector": vector})
            keys = program.place(_round_keys(seed, padded, index))
            state, loss = program.round(state, placed, keys, schedule.rate(index))
            trained, losses = np.asarray(state.vector), np.asarray(loss)[:sites]
            sent = [
                post.send("update", name, "coordinator", index + 1, {"update": trained[site] - vector})
                for site, name in enumerate(names)
            ]
            updates = np.stack([np.asarray(message["update"]) for message in sent])
            vector = server_step(vector, updates, weights)
            state = state._replace(vector=program.place(np.repeat(vector[None], padded, axis=0)))
            done(index + 1, losses, vector)
            checkpoint.save(state, index + 1, {"messages": post.rows()}, force=stop.asked)
            if stop.asked:
                raise _stopped(index + 1)
    checkpoint.remove()
    return vector


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
    checkpoint = _Checkpoint(place)
    state, begin, _ = checkpoint.load(program.start(vectors, devices))
    if begin:
        state = LocalState(*program.place(state))
    placed = program.place(data)
    with stoppable() as stop:
        for index in range(begin, schedule.rounds):
            keys = program.place(_round_keys(seed, padded, index))
            state, loss = program.round(state, placed, keys, schedule.rate(index))
            done(index + 1, np.asarray(loss), np.asarray(state.vector))
            checkpoint.save(state, index + 1, {}, force=stop.asked)
            if stop.asked:
                raise _stopped(index + 1)
    checkpoint.remove()
    return np.asarray(state.vector)
