"""A whole round of secret sharing in one process; every message goes through `tap`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError, RoundRefused
from lazaretto.secagg import coordinator, steps
from lazaretto.secagg.aggregator import Aggregator, Kept, begin
from lazaretto.secagg.coordinator import Coordinator
from lazaretto.secagg.deposit import share_update
from lazaretto.secagg.drawn import SECRET_BYTES, derive
from lazaretto.secagg.ring import clipped
from lazaretto.secagg.settings import (
    AGGREGATORS,
    COORDINATOR,
    Decide,
    SharedGram,
    Sharing,
    check_fits,
)
from lazaretto.types import Array, Message

__all__ = ["Parties", "SharedRound", "channel_keys", "parties", "play", "share_round"]

_NOT_FINITE = "its update was not finite, so it had nothing to send"


class SharedRound(NamedTuple):
    """What a round came to, and what the aggregators keep.

    update [d] float64. inner [n + p, n + p] and history [n, n] or None: float64, of clipped updates, as the
    rule saw them (sketched where there is a sketch). names [n]: sites in the round, sorted; rows of inner
    follow them. named: site -> why it was left out. kept: one per aggregator, for the next round; secret.
    """

    update: NDArray[np.float64]
    inner: NDArray[np.float64]
    history: NDArray[np.float64] | None
    names: tuple[str, ...]
    named: Mapping[str, str]
    kept: tuple[Kept, ...]


class Parties(NamedTuple):
    """States of a round, and the messages that start it (shares, noise)."""

    aggregators: tuple[Aggregator, ...]
    coordinator: Coordinator
    messages: tuple[Message, ...]


def share_round(
    settings: Sharing,
    round_number: int,
    updates: Mapping[str, Array],
    public: Array,
    decide: Decide,
    secrets: Callable[[str], bytes],
    kept: tuple[Kept, ...] | None,
    tap: Callable[[Message], None],
) -> SharedRound:
    """One round: sites share their updates, aggregators open inner products, the rule weighs, the sum is
    opened.

    updates: site -> [d]; at least one is finite. public: [p, d], rows that all know, clipped like updates.
    decide: inner products -> weights [n + p]; asked once, must be a pure function. secrets: name of a role ->
    32 bytes, new in every call and every round (`os.urandom` in a deployment). kept: from the round before,
    or None.

    Guarantee: `update` is decide's weights · (clipped updates; public rows), to 2⁻¹⁷ of the weights, one
    and a half steps of 2^-fraction_bits for the dither, and half a step of 2^-fraction_bits of each entry,
    over sites in `names`; and no party saw more than docs/secagg_sharing.md says. Raises PlanError where
    fields are too small, InputError for wrong arguments, RoundRefused with the cause where the round must
    not have a result.
    """
    started = parties(settings, round_number, updates, public, _once(decide), secrets, kept)
    ended = play(started, tap)
    head, one = ended.coordinator, ended.aggregators[0]
    if head.sum is None or one.opened is None:
        raise RoundRefused(f"round {round_number} was refused: {head.refused}")
    silent = {name: _NOT_FINITE for name, row in updates.items() if not np.isfinite(row).all()}
    assert one.opened is not None  # noqa: S101  there is a sum
    return SharedRound(
        head.sum.update,
        one.opened.inner,
        one.opened.history,
        head.sum.names,
        {**head.sum.named, **silent},
        tuple(state.kept for state in ended.aggregators),
    )


def play(started: Parties, tap: Callable[[Message], None]) -> Parties:
    """The states at the end: everything is delivered in the order sent, then the round is closed."""
    aggregators = dict(zip(AGGREGATORS, started.aggregators, strict=True))
    head, queue, closed = started.coordinator, list(started.messages), False
    while queue or not closed:
        if not queue:
            head, messages = coordinator.close(head)
            queue, closed = list(messages), True
        sent, queue = queue, []
        for message in sent:
            tap(message)
            if message.receiver == COORDINATOR:
                head, answers = coordinator.handle(head, message)
            else:
                aggregators[message.receiver], answers = steps.handle(aggregators[message.receiver], message)
            queue += answers
    head, _ = coordinator.give_up(head)
    return Parties(tuple(aggregators.values()), head, ())


def parties(
    settings: Sharing,
    round_number: int,
    updates: Mapping[str, Array],
    public: Array,
    decide: Decide,
    secrets: Callable[[str], bytes],
    kept: tuple[Kept, ...] | None,
) -> Parties:
    """All parties of a round before anything is delivered. Arguments and errors as `share_round`."""
    rows = {name: np.asarray(row, np.float64) for name, row in updates.items()}
    known = np.asarray(public, np.float64)
    _refuse(rows, known)
    d = int(np.size(known, 1))
    check_fits(settings, len(rows), d)
    known = np.array([clipped(row, settings.clip) for row in known]).reshape(known.shape)
    keys = channel_keys([*rows, *AGGREGATORS, COORDINATOR], secrets)
    messages: list[Message] = []
    for name, row in rows.items():
        if not np.isfinite(row).all():  # such a site has nothing to send
            continue
        own = {to: keys[name][to] for to in AGGREGATORS}
        messages += share_update(settings, name, round_number, row, _fresh(secrets, name), own)
    states = []
    for index, name in enumerate(AGGREGATORS):
        before = Kept() if kept is None else kept[index]
        secret = _fresh(secrets, name)
        state, noise = begin(settings, index, round_number, known, decide, secret, keys[name], before)
        states.append(state)
        messages += noise
    head = Coordinator(settings=settings, round=round_number, parameters=d, keys=keys[COORDINATOR])
    return Parties(tuple(states), head, tuple(messages))


def channel_keys(names: Iterable[str], secrets: Callable[[str], bytes]) -> dict[str, dict[str, bytes]]:
    """party -> party -> the key of the two: here from one secret, in a deployment by agreement."""
    secret = _fresh(secrets, "channels")
    keys: dict[str, dict[str, bytes]] = {}
    roles = (*AGGREGATORS, COORDINATOR)
    for one, other in combinations(dict.fromkeys(names), 2):
        if one in roles or other in roles:  # sites do not talk to each other
            key = derive(secret, one, other)
            keys.setdefault(one, {})[other] = keys.setdefault(other, {})[one] = key
    return keys


def _once(decide: Decide) -> Decide:
    """The same answer for the same inner products: three aggregators here ask one rule."""
    known: dict[bytes, NDArray[np.float64]] = {}

    def answer(seen: SharedGram) -> NDArray[np.float64]:
        past = b"" if seen.history is None else seen.history.tobytes()
        key = seen.inner.tobytes() + past + seen.coin + "\n".join(seen.names).encode()
        if key not in known:
            known[key] = decide(seen)
        return known[key]

    return answer


def _fresh(secrets: Callable[[str], bytes], name: str) -> bytes:
    secret = secrets(name)
    if len(secret) != SECRET_BYTES:
        raise InputError(
            "a secret has another length", found=f"{len(secret)} bytes", way_out=f"{SECRET_BYTES} bytes"
        )
    return secret


def _refuse(rows: Mapping[str, Array], public: Array) -> None:
    if not rows:
        raise InputError("a round without any update", way_out="wait for sites")
    if public.ndim != 2 or not np.isfinite(public).all():
        raise InputError("public rows must be finite numbers [p, d]", found=f"shape {public.shape}")
    for name, row in rows.items():
        if name in (*AGGREGATORS, COORDINATOR) or not name or set(name) & {"\n", "\t"}:
            raise InputError("a site may not have this name", found=name, way_out="any line of text")
        if row.shape != (public.shape[1],):
            raise InputError(
                f"the update of {name} has another shape than public rows",
                found=row.shape,
                way_out=f"({public.shape[1]},)",
            )
