"""A federation's rounds: tell, train where chosen, collect, aggregate, again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from lazaretto.dp_local import Drawn
from lazaretto.errors import RoundRefused
from lazaretto.gram import finite_rows
from lazaretto.local import LocalState, SiteData
from lazaretto.reputation import Reputation
from lazaretto.run.compressed import send_update, short_row, shortened
from lazaretto.run.coordinator import (
    Changes,
    Round,
    Seen,
    aggregate,
    attacked,
    fold_changes,
    look,
    with_momentum,
)
from lazaretto.run.group import Group
from lazaretto.run.post import Post
from lazaretto.run.private import PrivateSites, noised_mean, secret_keys
from lazaretto.run.root import take_root
from lazaretto.run.secretly import collect_secretly, collect_sum
from lazaretto.run.shared_noise import Parts, parts_of
from lazaretto.run.simulate import Program
from lazaretto.run.taking_part import Federation, TakingPart, take_part
from lazaretto.run.train import Checkpoint, Schedule, round_keys, stoppable, stopped
from lazaretto.types import Array, Float, Int

__all__ = ["RoundDone", "train_federation"]

# round from 1, losses [S] (NaN: nothing came), vector [d] or each site's own [S, d], batches done [S], what
# the coordinator saw
RoundDone: TypeAlias = Callable[[int, Float, Float, Int, Seen], None]


_REFUSALS = 5  # secret rounds in a row without a result, after which a run ends rather than train nothing


class _Done(NamedTuple):
    """What a round came to at those chosen, and where there is root data.

    vectors [m, d]; changes of what they keep [m, d], or None; losses [m]. root, root_change: [d] of the
    row of the root data, or None.
    """

    vectors: Float
    changes: Float | None
    losses: Float
    root: Float | None = None
    root_change: Float | None = None


@jax.jit
def _finite(state: LocalState) -> Array:
    """[S] bool: whose state holds neither NaN nor infinity."""
    fine = [jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(state)]
    return jnp.stack(fine).all(axis=0)


def _mended(fresh: LocalState, state: LocalState, bad: NDArray[np.bool_]) -> Any:
    """The state, on the host, with rows out of `fresh` where it is `bad` [S].

    Without this a site whose optimiser once took in a NaN would send NaN for ever.
    """
    return jax.tree.map(
        lambda new, old: np.where(bad.reshape(-1, *[1] * (np.ndim(old) - 1)), new, old), fresh, state
    )


def _drawn(private: PrivateSites | None, this: Round, rows: Int) -> Drawn | None:
    """Samples and noise of the sites in `rows`, where there is a mechanism."""
    return None if private is None else private.draw(this.seed, this.number - 1, rows)


def _said(private: PrivateSites | None, this: Round, rows: Int, drawn: Drawn | None, loss: Array) -> Array:
    """The losses, or NaN for sites that do not say them."""
    if private is None or drawn is None:
        return loss
    private.seen(this.seed, this.number - 1, rows, drawn, np.asarray(loss)[: len(rows)])
    return np.full(len(loss), np.nan, np.float32)


class _Everyone:
    """All sites work in every round: their states and data stay where they are computed."""

    def __init__(
        self,
        program: Program,
        state: LocalState,
        data: SiteData,
        steady: bool,
        private: PrivateSites | None,
    ) -> None:
        self._program, self._steady, self._whole = program, steady, program.batches(data)
        self._private = private
        self.state, self._data = LocalState(*program.place(tuple(state))), program.place(data)

    def begin_anew(self, state: LocalState) -> None:
        """All sites go on from this state."""
        self.state = LocalState(*self._program.place(tuple(state)))

    def work(self, group: Group, part: TakingPart, keys: Array, rate: float, this: Round) -> _Done:
        """One round; who is lost on the way does nothing."""
        place, sites, rooted = self._program.place, group.sites, group.root is not None
        before = None if group.control is None else np.array(self.state.own)
        begin = self.state._replace(vector=place(group.begins()))
        if group.control is not None:
            begin = begin._replace(common=place(np.repeat(group.control[None], group.padded, axis=0)))
        work = self._whole.astype(np.int32)  # of the root data all, and nothing of what pads
        work[:sites] = part.work
        late = None if self._steady else place(work)
        rows = np.arange(group.padded)
        drawn = _drawn(self._private, this, rows)
        given = None if drawn is None else place(drawn)
        self.state, loss = self._program.round(begin, self._data, place(keys), rate, late, given)
        loss = _said(self._private, this, rows, drawn, loss)
        vectors = np.asarray(self.state.vector)
        changes = None if before is None else np.asarray(self.state.own) - before
        bad = ~np.asarray(_finite(self.state))
        if bad.any():
            fresh = self._program.start(group.vectors(), self._data.x.shape[1])._replace(own=before)
            self.state = LocalState(*place(tuple(_mended(fresh, self.state, bad))))
        return _Done(
            vectors[:sites],
            None if changes is None else changes[:sites],
            np.asarray(loss)[:sites],
            vectors[sites] if rooted else None,
            changes[sites] if rooted and changes is not None else None,
        )


class _Some:
    """A few sites work in a round: gathered, spread over the cores, put back. The others wait on the host."""

    def __init__(
        self, program: Program, state: LocalState, data: SiteData, private: PrivateSites | None
    ) -> None:
        self._program, self._data, self._whole = program, data, program.batches(data)
        self._private = private
        self.begin_anew(state)

    def begin_anew(self, state: LocalState) -> None:
        """All sites go on from this state."""
        self.state: LocalState = jax.tree.map(np.array, state)

    def work(self, group: Group, part: TakingPart, keys: Array, rate: float, this: Round) -> _Done:
        """One round; nothing of those who are lost on the way is put back."""
        many, rooted = len(part.chosen), group.root is not None
        root = np.full(int(rooted), group.sites)
        used = np.concatenate([part.chosen, root])
        spare = -len(used) % self._program.cores
        rows = np.concatenate([used, np.repeat(used[:1], spare)])
        work = np.concatenate([part.work, self._whole[root], np.zeros(spare, np.int64)]).astype(np.int32)
        state, data, given = jax.tree.map(lambda leaf: leaf[rows], (self.state, self._data, keys))
        state = state._replace(vector=group.begins()[rows])
        if group.control is not None:
            state = state._replace(common=np.repeat(group.control[None], len(rows), axis=0))
        place = self._program.place
        drawn = _drawn(self._private, this, rows)
        mine = None if drawn is None else place(drawn)
        after, loss = self._program.round(place(state), place(data), place(given), rate, place(work), mine)
        loss = _said(self._private, this, rows[: len(used)], drawn, loss)
        vectors = np.asarray(after.vector)
        changes = None if group.control is None else np.asarray(after.own) - state.own
        bad = ~np.asarray(_finite(after))
        if bad.any():
            fresh = self._program.start(group.vectors()[rows], data.x.shape[1])._replace(own=state.own)
            after = _mended(fresh, after, bad)
        back = np.flatnonzero(np.concatenate([part.arrives, np.ones(len(root), np.bool_)]))
        for held, fresh in zip(jax.tree.leaves(self.state), jax.tree.leaves(after), strict=True):
            held[used[back]] = np.asarray(fresh)[back]
        return _Done(
            vectors[:many],
            None if changes is None else changes[:many],
            np.asarray(loss)[:many],
            vectors[many] if rooted else None,
            changes[many] if rooted and changes is not None else None,
        )


def train_federation(
    program: Program,
    data: SiteData,
    names: Sequence[str],
    sizes: Int,
    federation: Federation,
    schedule: Schedule,
    first: tuple[Float, int],
    environment: tuple[Post, Path | None, RoundDone],
) -> tuple[Float, int, Reputation | None]:
    """Train a common vector: broadcast, train at the sites chosen, send updates, aggregate, again and again.

    data: SiteData with leading axis S (padded beyond `names`); with `federation.root` the row behind the
    sites' is the root data, which the coordinator trains on as they do. sizes: [sites] training steps.
    first: initial vector [d] and the seed. environment: where messages pass, where unfinished state is kept
    (or None), and what is called after each round. Where not all take part, those whose update arrived get
    the new model at once, to report on it; at the end everyone gets it. A round in which no update arrives
    changes nothing. An update with NaN or infinity is dropped, and its site suspected; InputError where all
    of a round are. Where somebody is in quarantine after `federation.probation_rounds`, all begin anew from
    the initial vector, and there are so many rounds more. Returns the final vector [d], or each site's own
    [sites, d] where something is personal, then how many rounds there were, and the sites' reputation or
    None where it is not kept. Raises Interrupted after saving when asked to stop.
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
    first_vector = vector.copy()
    steady = federation.drop_outs == 0 and federation.stragglers == 0
    partial, batches = federation.selection.partial, program.batches(data)[: len(names)]
    private = None
    if federation.promise is not None:
        parts = _parts(federation, sizes, padded, schedule)
        private = PrivateSites(federation.promise, data, program.window, vector.size, parts)
    if private is not None and begin:
        private.restore(arrays)
    sites = (
        _Some(program, state, data, private) if partial else _Everyone(program, state, data, steady, private)
    )
    with stoppable() as stop:
        for index in range(begin, schedule.rounds + federation.probation_rounds):
            anew = index == federation.probation_rounds > 0 and _somebody_out(group)
            if anew:
                group.begin_anew(federation, first_vector)
                sites.begin_anew(program.start(group.vectors(), devices))
            before = 0 if group.barred is None else federation.probation_rounds
            group.on_probation = group.barred is None and index < federation.probation_rounds
            if index == schedule.rounds + before:
                break
            part = take_part(federation, seed, index, sizes, group.losses, batches)
            receivers = [names[site] for site in part.chosen]
            _tell(post, group, receivers, index + 1, training=True)
            this = Round(seed, index + 1, schedule.rounds + before)
            keys = round_keys(seed, padded, index)
            if federation.promise is not None and federation.promise.source == "system":
                keys = secret_keys(padded)  # else noise on inputs, by place, would tell who else is there
            found = sites.work(group, part, keys, schedule.rate(index - before), this)
            seen = _collect(post, federation, group, names, part, found, this)
            if partial:
                arrived = [names[site] for site in part.chosen[part.arrives]]
                _tell(post, group, arrived, index + 1, training=False)
            losses, worked = np.full(len(names), np.nan, np.float32), np.zeros(len(names), np.int64)
            losses[part.chosen[part.arrives]] = found.losses[part.arrives]
            worked[part.chosen] = part.work
            seen = seen._replace(rounds=schedule.rounds + before, anew=anew)
            done(index + 1, losses, group.result(), worked, seen)
            extra = {"messages": post.rows()}
            held = group.arrays() | ({} if private is None else private.arrays())
            # a round that is done again with other noise would cost again
            made = federation.promise or federation.site_promise
            force = stop.asked or (made is not None and made.source == "system")
            checkpoint.save(sites.state, index + 1, extra, force=force, arrays=held)
            if stop.asked:
                raise stopped(index + 1, schedule.rounds + before, checkpoint.path)
    rounds = schedule.rounds + (0 if group.barred is None else federation.probation_rounds)
    _tell(post, group, names, rounds, training=False)
    return group.result(), rounds, group.reputation


def _parts(federation: Federation, sizes: Int, padded: int, schedule: Schedule) -> Parts | None:
    """How the sites share the noise, where they do."""
    among, promise, weigh = federation.among, federation.promise, federation.rule.weigh
    if among is None or promise is None or weigh is None:
        return None
    weights = np.zeros(padded)
    weights[: len(sizes)] = weigh(sizes)
    rates = schedule.learning_rate, schedule.rate(schedule.rounds - 1)
    return parts_of(promise.mechanism, weights, among.honest, federation.sum_bound or 0.0, rates)


def _somebody_out(group: Group) -> bool:
    """Whether a site is in quarantine."""
    return group.reputation is not None and bool(group.reputation.quarantined.any())


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
    if group.barred is not None:  # they never come back, so what they send tells nothing of the others either
        part = part._replace(sizes=np.where(group.barred[part.chosen], 0.0, part.sizes))
    if found.root is not None:
        take_root(group, federation.client_momentum, found.root)
    here = np.flatnonzero(part.arrives)
    secret = federation.secure is not None or federation.sum_bound is not None
    rows = [(found.vectors[place] - group.vector)[group.shared] for place in here]
    rows = [
        with_momentum(group, federation.client_momentum, part.chosen[p], r)
        for p, r in zip(here, rows, strict=True)
    ]
    if rows and federation.attack is not None and round_number >= federation.attack_from:
        rows = list(attacked(federation, group, np.stack(rows), part, this))
    ends = federation.ahead is not None and round_number == this.rounds
    scheme = federation.ahead if ends else federation.compressor
    short = shortened(scheme, group, this) if secret and scheme is not None else None
    for place, row in zip(here, rows, strict=True):
        site, name = part.chosen[place], names[part.chosen[place]]
        if secret:
            updates.append(row if short is None else short_row(short, group, site, row, this))
        else:
            updates.append(send_update(post, scheme, group, (site, name), row, this))
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
    if group.moved is not None:  # not at all, unless there is an update
        group.moved = np.zeros_like(group.moved)
    if not here.size:
        return Seen(np.full(len(names), np.nan), [], None, group.reputation)
    sites, sent_all = part.chosen[here], np.stack(updates)
    if secret:
        collect = collect_sum if federation.secure is None else collect_secretly
        shared, seen = collect(federation, group, (sent_all, short), part, this, names, post)
        group.refusals = group.refusals + 1 if seen.refused else 0
        if group.refusals == _REFUSALS:
            raise RoundRefused(f"{_REFUSALS} rounds in a row had no result; the last: {seen.refused}")
        if shared is not None and shared.update is not None:
            _move(federation, group, shared.update)
        return seen
    last = group.previous
    result = aggregate(federation, group, sent_all, part, this)
    if federation.site_promise is not None:
        noised = noised_mean(federation.site_promise, sent_all, len(names), this.seed, this.number - 1)
        result = result._replace(update=noised)
    fine = np.array([bool(np.isfinite(change).all()) for change in changes] or [True] * len(updates))
    before = group.reputation  # what the round's update went by
    seen = look(federation, group, sent_all, result, part, names, fine, last)
    if changes:
        out = np.zeros(len(names), np.bool_) if before is None else before.quarantined
        agreed = fine & ~result.dropped & ~out[sites] & (result.update is not None)
        known = fine & finite_rows(sent_all) & (part.sizes[part.arrives] > 0)
        given = Changes(np.stack(changes), sites, known, agreed, found.root_change)
        fold_changes(federation, group, given, this)
    if result.update is None:  # nobody who has data, or who is trusted
        return seen
    _move(federation, group, result.update)
    return seen


def _move(federation: Federation, group: Group, update: NDArray[np.float64]) -> None:
    """The server's optimiser moves what is shared by the round's update."""
    moved, group.server = federation.server.step(group.vector[group.shared], update, group.server)
    before = group.vector[group.shared]
    group.vector = group.vector.copy()
    group.vector[group.shared] = moved
    if group.moved is not None:
        group.moved = group.vector[group.shared] - before
