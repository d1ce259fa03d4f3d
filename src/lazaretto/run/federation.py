"""A federation's rounds: tell, train where chosen, collect, aggregate, again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import jax
import numpy as np

from lazaretto.local import LocalState, SiteData
from lazaretto.run.coordinator import Group, Round, Seen, aggregate, attacked, look, with_momentum
from lazaretto.run.post import Post
from lazaretto.run.simulate import Program
from lazaretto.run.taking_part import Federation, TakingPart, take_part
from lazaretto.run.train import Checkpoint, Schedule, round_keys, stoppable, stopped
from lazaretto.types import Array, Float, Int

__all__ = ["RoundDone", "train_federation"]

# round from 1, losses [S] (NaN: nothing came), vector [d] or each site's own [S, d], batches done [S], what
# the coordinator saw
RoundDone: TypeAlias = Callable[[int, Float, Float, Int, Seen], None]


class _Done(NamedTuple):
    """What a round came to at those chosen.

    vectors [m, d]; changes of what they keep [m, d], or None; losses [m].
    """

    vectors: Float
    changes: Float | None
    losses: Float


class _Everyone:
    """All sites work in every round: their states and data stay where they are computed."""

    def __init__(self, program: Program, state: LocalState, data: SiteData, steady: bool) -> None:
        self._program, self._steady = program, steady
        self.state, self._data = LocalState(*program.place(tuple(state))), program.place(data)

    def work(self, group: Group, part: TakingPart, keys: Array, rate: float) -> _Done:
        """One round; who is lost on the way does nothing."""
        place = self._program.place
        before = None if group.control is None else np.array(self.state.own)
        begin = self.state._replace(vector=place(group.vectors()))
        if group.control is not None:
            begin = begin._replace(common=place(np.repeat(group.control[None], group.padded, axis=0)))
        work = np.pad(part.work, (0, group.padded - group.sites)).astype(np.int32)
        late = None if self._steady else place(work)
        self.state, loss = self._program.round(begin, self._data, place(keys), rate, late)
        chosen = slice(0, group.sites)
        changes = None if before is None else (np.asarray(self.state.own) - before)[chosen]
        return _Done(np.asarray(self.state.vector)[chosen], changes, np.asarray(loss)[chosen])


class _Some:
    """A few sites work in a round: gathered, spread over the cores, put back. The others wait on the host."""

    def __init__(self, program: Program, state: LocalState, data: SiteData) -> None:
        self._program, self._data = program, data
        self.state: LocalState = jax.tree.map(np.array, state)

    def work(self, group: Group, part: TakingPart, keys: Array, rate: float) -> _Done:
        """One round; nothing of those who are lost on the way is put back."""
        spare = -len(part.chosen) % self._program.cores
        rows = np.concatenate([part.chosen, np.repeat(part.chosen[:1], spare)])
        work = np.concatenate([part.work, np.zeros(spare, np.int64)]).astype(np.int32)
        state, data, given = jax.tree.map(lambda leaf: leaf[rows], (self.state, self._data, keys))
        state = state._replace(vector=group.vectors()[rows])
        if group.control is not None:
            state = state._replace(common=np.repeat(group.control[None], len(rows), axis=0))
        place, many = self._program.place, len(part.chosen)
        new, loss = self._program.round(place(state), place(data), place(given), rate, place(work))
        new = jax.tree.map(lambda leaf: np.asarray(leaf)[:many], new)
        changes = None if group.control is None else new.own - self.state.own[part.chosen]
        for held, fresh in zip(jax.tree.leaves(self.state), jax.tree.leaves(new), strict=True):
            held[part.chosen[part.arrives]] = fresh[part.arrives]
        return _Done(new.vector, changes, np.asarray(loss)[:many])


def train_federation(
    program: Program,
    data: SiteData,
    names: Sequence[str],
    sizes: Int,
    federation: Federation,
    schedule: Schedule,
    first: tuple[Float, int],
    environment: tuple[Post, Path | None, RoundDone],
) -> Float:
    """Train a common vector: broadcast, train at the sites chosen, send updates, aggregate, again and again.

    data: SiteData with leading axis S (padded beyond `names`). sizes: [sites] training steps. first:
    initial vector [d] and the seed. environment: where messages pass, where unfinished state is kept (or
    None), and what is called after each round. Where not all take part, those whose update arrived get the
    new model at once, to report on it; at the end everyone gets it. A round in which no update arrives
    changes nothing. An update with NaN or infinity is dropped, and its site suspected; InputError where all
    of a round are. Returns the final vector [d], or each site's own [sites, d] where something is personal.
    Raises Interrupted after saving when asked to stop.
    """
    vector, seed = first
    post, place, done = environment
    padded, devices = data.x.shape[:2]
    group = Group(federation, vector, len(names), padded)
    checkpoint = Checkpoint(place)
    fresh = program.start(np.repeat(vector[None], padded, axis=0), devices)
    state, begin, meta, arrays = checkpoint.load(fresh)
    if begin:
        group.restore(arrays)
        post.restore(meta["messages"])
    steady = federation.drop_outs == 0 and federation.stragglers == 0
    partial, batches = federation.selection.partial, program.batches(data)[: len(names)]
    sites = _Some(program, state, data) if partial else _Everyone(program, state, data, steady)
    with stoppable() as stop:
        for index in range(begin, schedule.rounds):
            part = take_part(federation, seed, index, sizes, group.losses, batches)
            receivers = [names[site] for site in part.chosen]
            _tell(post, group, receivers, index + 1, training=True)
            found = sites.work(group, part, round_keys(seed, padded, index), schedule.rate(index))
            this = Round(seed, index + 1, schedule.rounds)
            seen = _collect(post, federation, group, names, part, found, this)
            if partial:
                arrived = [names[site] for site in part.chosen[part.arrives]]
                _tell(post, group, arrived, index + 1, training=False)
            losses, worked = np.full(len(names), np.nan, np.float32), np.zeros(len(names), np.int64)
            losses[part.chosen[part.arrives]] = found.losses[part.arrives]
            worked[part.chosen] = part.work
            done(index + 1, losses, group.result(), worked, seen)
            extra = {"messages": post.rows()}
            checkpoint.save(sites.state, index + 1, extra, force=stop.asked, arrays=group.arrays())
            if stop.asked:
                raise stopped(index + 1)
    _tell(post, group, names, schedule.rounds, training=False)
    checkpoint.remove()
    return group.result()


def _tell(post: Post, group: Group, receivers: Sequence[str], round_number: int, training: bool) -> None:
    """The model goes to sites, for training with what an algorithm keeps in common."""
    for name in receivers:
        post.send("model", "coordinator", name, round_number, {"vector": group.vector[group.shared]})
        if training and group.control is not None:
            post.send("control", "coordinator", name, round_number, {"vector": group.control})


def _collect(
    post: Post,
    federation: Federation,
    group: Group,
    names: Sequence[str],
    part: TakingPart,
    found: _Done,
    this: Round,
) -> Seen:
    """Updates come in and make the group's next state; what they tell of the sites."""
    updates, changes, round_number = [], [], this.number
    here = np.flatnonzero(part.arrives)
    rows = [(found.vectors[place] - group.vector)[group.shared] for place in here]
    rows = [
        with_momentum(group, federation.client_momentum, part.chosen[p], r)
        for p, r in zip(here, rows, strict=True)
    ]
    if rows and federation.attack is not None and round_number >= federation.attack_from:
        rows = list(attacked(federation, group, np.stack(rows), part, this))
    for place, row in zip(here, rows, strict=True):
        site, name = part.chosen[place], names[part.chosen[place]]
        sent = post.send("update", name, "coordinator", round_number, {"update": row})
        updates.append(np.asarray(sent["update"]))
        if found.changes is not None:
            change = {"change": found.changes[place]}
            sent = post.send("control change", name, "coordinator", round_number, change)
            changes.append(np.asarray(sent["change"]))
        if group.personal is not None:
            own = found.vectors[place][group.mask]
            if np.isfinite(own).all():  # else the site goes on with what it had
                group.personal[site] = own
        if np.isfinite(found.losses[place]):  # else the last that it said
            group.losses[site] = found.losses[place]
    if not here.size:
        return Seen(np.full(len(names), np.nan), [], None, group.reputation)
    sites, sent_all = part.chosen[here], np.stack(updates)
    last = group.previous
    result = aggregate(federation, group, sent_all, part, this)
    fine = np.array([bool(np.isfinite(change).all()) for change in changes] or [True] * len(updates))
    before = group.reputation  # what the round's update went by
    seen = look(federation, group, sent_all, result, part, names, fine, last)
    if result.update is None:  # nobody who has data, or who is trusted
        return seen
    moved, group.server = federation.server.step(group.vector[group.shared], result.update, group.server)
    group.vector = group.vector.copy()
    group.vector[group.shared] = moved
    out = np.zeros(len(names), np.bool_) if before is None else before.quarantined
    kept = [changes[k] for k in np.flatnonzero(fine & ~result.dropped & ~out[sites])] if changes else []
    if kept and federation.algorithm.fold is not None:
        group.control = federation.algorithm.fold(group.control, np.stack(kept), len(names))
    return seen
