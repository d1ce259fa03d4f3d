"""What a coordinator does where nobody sees an update: it asks its rule by inner products."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError, RoundRefused
from lazaretto.gram import finite_rows
from lazaretto.reputation import say
from lazaretto.round import Aggregated, weigh_seen
from lazaretto.run.compressed import Short, public_rows, whole_update
from lazaretto.run.coordinator import Round, Seen, watch_by
from lazaretto.run.group import Group
from lazaretto.run.post import Post
from lazaretto.run.secret import FEWEST, Decided, Door, share_updates, sum_updates
from lazaretto.run.taking_part import Federation, TakingPart
from lazaretto.secagg.ring import clipped
from lazaretto.types import Array, Float, Gram, Int, Weighed

__all__ = ["collect_secretly", "collect_sum"]


class _Said(NamedTuple):
    """Of the sites whose shares arrived: what the rule says of all, and of those trusted."""

    checked: Weighed
    used: Weighed


def collect_secretly(
    federation: Federation,
    group: Group,
    sent: tuple[Float, Short | None],
    part: TakingPart,
    this: Round,
    names: Sequence[str],
    post: Post,
) -> tuple[Aggregated | None, Seen]:
    """Updates [n, s] of those who arrived, made one by the plan's rule from inner products alone.

    sent: the updates, or rows [n, k] that stand for them, and how they do.
    None where fewer than three finite ones came: nothing is shared then, as a sum of two tells either site
    the other's; and where the protocol refused the round, with the cause in what is seen. Raises InputError
    where none of several is finite.
    """
    assert federation.secure is not None  # noqa: S101  the caller looks
    rows, short = sent
    here, fine = part.chosen[part.arrives], finite_rows(rows)
    sizes = part.sizes[part.arrives]
    _refuse_all_bad(fine, sizes, here)
    suspicion = np.full(len(names), np.nan)
    suspicion[here[~fine]] = 1.0
    if fine.sum() < FEWEST:
        return None, Seen(suspicion, [], None, group.reputation)
    public = _public(federation, group, rows.shape[1] if short is None else short.size)
    if short is not None:
        public = np.stack([clipped(row, federation.secure.clip) for row in public])
    products = public @ public.T
    trust = (
        np.ones(len(here)) if group.reputation is None else say(group.reputation, federation.reputation)[here]
    )
    given = {names[site]: row for site, row in zip(here, rows, strict=True)}

    def weigh(inner: Array, past: Array, places: Int, draws: Callable[[], np.random.Generator]) -> Decided:
        if short is not None:  # what a public row has beside what was sent is known
            inner = inner.copy()
            inner[len(places) :, len(places) :] = products
        seen = Gram(inner, sizes[places], here[places], (), past)
        return _weigh(federation, group, seen, trust[places], draws)

    about = _door(federation, "sharing", this), this.number, group.kept
    try:
        known = public if short is None else public_rows(short, public)
        done = share_updates(federation.secure, given, known, weigh, about, post)
    except RoundRefused as refused:  # for instance where few are left, and one of them would show
        return None, Seen(suspicion, [], None, group.reputation, refused=str(refused))
    group.kept = done.kept
    assert isinstance(done.said, _Said)  # noqa: S101  of `weigh` above
    update, inner = done.update, done.inner
    if short is not None:
        n, on_public = len(done.places), np.zeros(len(public))
        on_public[:-1] = done.said.used.weights[0, n:]
        update = whole_update(short, update, on_public, public)
        inner = inner.copy()
        inner[n:, n:] = products
    result = _result(federation, group, done.places, done.said, update, len(here))
    group.rule = dict(result.state)
    if group.previous is not None and result.update is not None:
        group.previous = result.update
    counted = sizes[done.places] > 0
    # the last public row is the last aggregate, where it is known
    view = np.flatnonzero(np.concatenate([counted, np.zeros(len(public) - 1, bool), np.ones(1, bool)]))
    seen = watch_by(
        federation,
        group,
        inner[np.ix_(view, view)],
        (done.places[counted], None if done.history is None else done.history[np.ix_(counted, counted)]),
        result,
        part,
        names,
    )
    named = [{"site": name, "kind": "left out", "reason": why} for name, why in sorted(done.named.items())]
    return result, seen._replace(flags=[*seen.flags, *named])


def collect_sum(
    federation: Federation,
    group: Group,
    sent: tuple[Float, Short | None],
    part: TakingPart,
    this: Round,
    names: Sequence[str],
    post: Post,
) -> tuple[Aggregated | None, Seen]:
    """As `collect_secretly`, for a rule of sums: the coordinator gets the weighted mean and nothing else."""
    (rows, short), rule, bound = sent, federation.rule, federation.sum_bound
    assert rule.weigh is not None  # noqa: S101  refused in plans otherwise
    assert bound is not None  # noqa: S101  the caller looks
    here, fine = part.chosen[part.arrives], finite_rows(rows)
    sizes = part.sizes[part.arrives]
    _refuse_all_bad(fine, sizes, here)
    suspicion = np.where(fine, 0.0, 1.0)
    told = np.full(len(names), np.nan)
    told[here] = suspicion
    used = np.flatnonzero(fine & (sizes > 0))
    fewest = FEWEST if federation.among is None else federation.among.fewest
    if len(used) < fewest:
        few = f"{len(used)} updates have too little noise: {fewest} are needed"
        why = "" if federation.among is None else few
        return None, Seen(told, [], None, group.reputation, refused=why)
    weights = np.asarray(rule.weigh(sizes[used]), np.float64)
    given = {names[here[place]]: rows[place] for place in used}
    shares = {names[here[place]]: float(w) for place, w in zip(used, weights, strict=True)}
    try:
        if weights.max() > weights.sum() / 3 * (1 + 1e-9):
            raise RoundRefused(
                "one site has so much weight that the sum would show its update",
                found=f"{weights.max() / weights.sum():.3f} of the sites' weight",
                way_out="more sites, or sites of more even size",
            )
        about = _door(federation, federation.sum_door, this), this.number
        done = sum_updates(bound, given, shares, about, post, fewest)
    except RoundRefused as refused:
        return None, Seen(told, [], None, group.reputation, refused=str(refused))
    whole = np.zeros(len(here))
    whole[used] = weights
    update = done.update
    if short is not None:
        update = whole_update(short, update, np.zeros(0), np.zeros((0, short.size)))
    if group.previous is not None:
        group.previous = update
    result = Aggregated(update, whole, suspicion, ~fine, group.rule)
    return result, Seen(told, [], None, group.reputation)


def _door(federation: Federation, protocol: str, this: Round) -> Door:
    system = federation.promise is not None and federation.promise.source == "system"
    return Door(protocol, this.seed, federation.label, system)


def _refuse_all_bad(fine: NDArray[np.bool_], sizes: Array, here: Int) -> None:
    if not fine.any() and (sizes > 0).any():
        raise InputError(
            f"no update is finite, that of site {here[0]} for instance",
            found=f"{len(here)} with NaN or infinity",
            way_out="lower train.learning_rate",
        )


def _public(federation: Federation, group: Group, size: int) -> NDArray[np.float64]:
    """[p, s]: the rule's public rows in their order, then the last aggregate (0 where it is not kept)."""
    known: Mapping[str, Any] = {"zero": np.zeros(size), "previous": group.previous, "root": group.root}
    last = np.zeros(size) if group.previous is None else group.previous
    return np.stack([*(known[name] for name in federation.rule.public), last]).astype(np.float64)


def _weigh(
    federation: Federation,
    group: Group,
    seen: Gram,
    trust: NDArray[np.float64],
    draws: Callable[[], np.random.Generator],
) -> Decided:
    """The rule asked of everyone, for suspicion, and of those trusted, for the update."""
    rule, n = federation.rule, len(seen.sizes)
    cut = n + len(rule.public)
    part = seen._replace(
        inner=seen.inner[:cut, :cut], public=rule.public, history=seen.history if rule.history else None
    )
    checked = used = weigh_seen(rule, part, group.rule, draws())
    if not (trust == 1).all():
        used = weigh_seen(rule, part._replace(sizes=part.sizes * trust), group.rule, draws())
    weights = np.zeros(len(seen.inner))
    weights[:cut] = used.weights[0]
    return Decided(weights, _Said(checked, used))


def _result(
    federation: Federation, group: Group, places: Int, said: _Said, update: NDArray[np.float64], count: int
) -> Aggregated:
    """What came of a round, of all who sent something; who was left out by the protocol is suspected."""
    n, p = len(places), len(federation.rule.public)
    weights, suspicion, dropped = np.zeros(count + p), np.ones(count), np.ones(count, np.bool_)
    weights[places], weights[count:] = said.used.weights[0, :n], said.used.weights[0, n : n + p]
    suspicion[places], dropped[places] = said.checked.suspicion, False
    nothing = not weights.any()
    return Aggregated(
        update=None if nothing else update,
        weights=None if nothing else weights,
        suspicion=suspicion,
        dropped=dropped,
        state=group.rule if nothing else said.used.state,
    )
