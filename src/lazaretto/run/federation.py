"""A federation's rounds: tell, train where chosen, collect, aggregate, again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from numpy.typing import NDArray

from lazaretto.attack_types import AttackContext
from lazaretto.keys import generator
from lazaretto.local import LocalState, SiteData
from lazaretto.round import Aggregated, Arrived, aggregate_round
from lazaretto.run.hostile import craft_updates
from lazaretto.run.post import Post
from lazaretto.run.simulate import Program
from lazaretto.run.taking_part import Federation, TakingPart, take_part
from lazaretto.run.train import Checkpoint, Schedule, round_keys, stoppable, stopped
from lazaretto.types import Array, Float, Int

__all__ = ["RoundDone", "train_federation"]

# round from 1, losses [S] (NaN: nothing came), vector [d] or each site's own [S, d], batches done [S],
# suspicion [S] (NaN: nothing came; 1 with an update that was dropped as not finite)
RoundDone: TypeAlias = Callable[[int, Float, Float, Int, Float], None]


class _Group:
    """What the coordinator keeps from round to round, and beside it the sites' personal parameters.

    vector [d]; control [d] or None; server: its optimiser's state; losses [sites], the last that each
    said; personal [padded, p] or None. Of the shared part, s of d: rule: the rule's state; previous [s], the
    last aggregate, and history [sites, s], the sum of what each site sent, where the rule asks for them (an
    attack looks at the last aggregate, too); momentum [sites, s], what each site sent last, NaN before it
    did, where sites send momentum.
    """

    def __init__(self, federation: Federation, vector: Float, sites: int, padded: int) -> None:
        mask = federation.personal
        self.sites, self.padded = sites, padded
        self.mask = mask
        self.shared: Any = slice(None) if mask is None else ~mask
        self.vector = vector
        self.control = np.zeros_like(vector) if federation.algorithm.keeps else None
        self.server = federation.server.start(vector[self.shared].size)
        self.losses: Float = np.full(sites, np.nan, np.float32)
        self.personal = None if mask is None else np.repeat(vector[None, mask], padded, axis=0)
        size, rule = vector[self.shared].size, federation.rule
        self.rule = rule.start(sites)
        wanted = "previous" in rule.public or federation.attack is not None
        self.previous = np.zeros(size) if wanted else None
        self.history = np.zeros((sites, size)) if rule.history else None
        self.momentum = np.full((sites, size), np.nan, np.float32) if federation.client_momentum else None

    def vectors(self) -> Float:
        """[padded, d]: the model as each site has it."""
        found = np.repeat(self.vector[None], self.padded, axis=0)
        if self.personal is not None:
            found[:, self.mask] = self.personal
        return found

    def result(self) -> Float:
        """The vector [d], or each site's own [sites, d] where something is personal."""
        return self.vector if self.personal is None else self.vectors()[: self.sites]

    def arrays(self) -> dict[str, Any]:
        """For a checkpoint."""
        held: dict[str, Any] = {"vector": self.vector, "losses": self.losses, "control": self.control}
        held |= {"personal": self.personal} | {f"server.{name}": v for name, v in self.server.items()}
        held |= {f"rule.{name}": v for name, v in self.rule.items()}
        held |= {"previous": self.previous, "history": self.history, "momentum": self.momentum}
        return {name: value for name, value in held.items() if value is not None}

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.vector, self.losses = arrays["vector"], arrays["losses"]
        self.control, self.personal = arrays.get("control"), arrays.get("personal")
        self.server = {name: arrays[f"server.{name}"] for name in self.server}
        self.rule = {name: arrays[f"rule.{name}"] for name in self.rule}
        self.previous, self.history = arrays.get("previous"), arrays.get("history")
        self.momentum = arrays.get("momentum")


class _Done(NamedTuple):
    """What a round came to at those chosen.

    vectors [m, d]; changes of what they keep [m, d], or None; losses [m].
    """

    vectors: Float
    changes: Float | None
    losses: Float


class _Round(NamedTuple):
    """A round: the seed of all, its number from 1, and how many there are."""

    seed: int
    number: int
    rounds: int

    def draws(self, what: str) -> np.random.Generator:
        """The generator of what is drawn in it."""
        return generator(self.seed, what, self.number - 1)


class _Everyone:
    """All sites work in every round: their states and data stay where they are computed."""

    def __init__(self, program: Program, state: LocalState, data: SiteData, steady: bool) -> None:
        self._program, self._steady = program, steady
        self.state, self._data = LocalState(*program.place(tuple(state))), program.place(data)

    def work(self, group: _Group, part: TakingPart, keys: Array, rate: float) -> _Done:
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

    def work(self, group: _Group, part: TakingPart, keys: Array, rate: float) -> _Done:
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
    group = _Group(federation, vector, len(names), padded)
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
            this = _Round(seed, index + 1, schedule.rounds)
            suspicion = _collect(post, federation, group, names, part, found, this)
            if partial:
                arrived = [names[site] for site in part.chosen[part.arrives]]
                _tell(post, group, arrived, index + 1, training=False)
            losses, worked = np.full(len(names), np.nan, np.float32), np.zeros(len(names), np.int64)
            losses[part.chosen[part.arrives]] = found.losses[part.arrives]
            worked[part.chosen] = part.work
            done(index + 1, losses, group.result(), worked, suspicion)
            extra = {"messages": post.rows()}
            checkpoint.save(sites.state, index + 1, extra, force=stop.asked, arrays=group.arrays())
            if stop.asked:
                raise stopped(index + 1)
    _tell(post, group, names, schedule.rounds, training=False)
    checkpoint.remove()
    return group.result()


def _tell(post: Post, group: _Group, receivers: Sequence[str], round_number: int, training: bool) -> None:
    """The model goes to sites, for training with what an algorithm keeps in common."""
    for name in receivers:
        post.send("model", "coordinator", name, round_number, {"vector": group.vector[group.shared]})
        if training and group.control is not None:
            post.send("control", "coordinator", name, round_number, {"vector": group.control})


def _collect(
    post: Post,
    federation: Federation,
    group: _Group,
    names: Sequence[str],
    part: TakingPart,
    found: _Done,
    this: _Round,
) -> Float:
    """Updates come in and make the group's next state; [S] suspicion of each site, NaN where nothing came."""
    updates, changes, round_number = [], [], this.number
    here = np.flatnonzero(part.arrives)
    rows = [(found.vectors[place] - group.vector)[group.shared] for place in here]
    rows = [
        _with_momentum(group, federation.client_momentum, part.chosen[p], r)
        for p, r in zip(here, rows, strict=True)
    ]
    if rows and federation.attack is not None and round_number >= federation.attack_from:
        rows = list(_attacked(federation, group, np.stack(rows), part, this))
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
        group.losses[site] = found.losses[place]
    suspicion = np.full(len(names), np.nan, np.float32)
    if not here.size:
        return suspicion
    result = _aggregate(federation, group, np.stack(updates), part, this)
    fine = np.array([bool(np.isfinite(change).all()) for change in changes] or [True] * len(updates))
    suspicion[part.chosen[here]] = np.where(fine, result.suspicion, 1.0)
    if result.update is None:  # nobody who has data
        return suspicion
    moved, group.server = federation.server.step(group.vector[group.shared], result.update, group.server)
    group.vector = group.vector.copy()
    group.vector[group.shared] = moved
    kept = [changes[k] for k in np.flatnonzero(fine & ~result.dropped)] if changes else []
    if kept and federation.algorithm.fold is not None:
        group.control = federation.algorithm.fold(group.control, np.stack(kept), len(names))
    return suspicion


def _with_momentum(group: _Group, keep: float, site: int, update: Float) -> Float:
    """What a site sends for its update [s]: (1 - keep) of it and `keep` of what it sent last.

    The first time it sends the update as it is. One that is not finite is sent, and not remembered.
    """
    if group.momentum is None:
        return update
    last = group.momentum[site]
    if np.isfinite(last).all():
        update = ((1.0 - keep) * update + keep * last).astype(np.float32)
    if np.isfinite(update).all():
        group.momentum[site] = update
    return update


def _attacked(federation: Federation, group: _Group, updates: Float, part: TakingPart, this: _Round) -> Float:
    """[n, s] the updates with those of hostile sites replaced by what the attack crafts."""
    assert federation.attack is not None and federation.hostile is not None  # noqa: S101, PT018  the caller looks

    def judge(rows: Array) -> Any:
        made = _judged(federation, group, np.asarray(rows, np.float32), part, this).update
        return np.zeros(updates.shape[1]) if made is None else made

    context = AttackContext(this.number, this.rounds, group.previous, judge)
    hostile: NDArray[np.bool_] = federation.hostile[part.chosen[part.arrives]]
    crafted: Float = craft_updates(federation.attack, updates, hostile, context, this.draws("attack"))
    return crafted


def _judged(
    federation: Federation, group: _Group, updates: Float, part: TakingPart, this: _Round
) -> Aggregated:
    """What the rule makes of these updates in this round; nothing of the group changes."""
    sites = part.chosen[part.arrives]
    past = None
    if group.history is not None:
        good = np.isfinite(updates).all(axis=1, keepdims=True)  # a sum that once took in a NaN would keep it
        past = group.history[sites] + np.where(good, updates, 0.0)
    arrived = Arrived(updates, part.sizes[part.arrives], sites, past)
    public = {} if group.previous is None else {"previous": group.previous}
    return aggregate_round(federation.rule, arrived, public, group.rule, this.draws("rule"))


def _aggregate(
    federation: Federation, group: _Group, updates: Float, part: TakingPart, this: _Round
) -> Aggregated:
    """The round's updates made one; the rule's state, and what it asks to be kept, go on."""
    result = _judged(federation, group, updates, part, this)
    group.rule = dict(result.state)
    if group.history is not None:
        good = np.isfinite(updates).all(axis=1)
        group.history[part.chosen[part.arrives][good]] += updates[good]
    if group.previous is not None and result.update is not None:
        group.previous = result.update
    return result
