"""One of the three aggregators, as a state machine: `handle(state, message) -> (state, messages)`.

Steps, each waiting for what it needs and then going on by itself:

    collect   shares arrive until the coordinator says "close"; then: what arrived, a committed coin, a key
    agree     rows that all three hold alike go on, the others' owners are named; coins are shown
    coin      the joint coin; projections of the first share, for the aggregator that has it second
    project   projections of both shares
    check     AND gates of the length check; one bit per row is opened, long rows are left out
    choose    where rows are ballots: sums of their blocks are opened, and what is no ballot is left out
    gram      addends of the inner products with fresh zero-shares
    weigh     inner products are opened, the rule answers, shares of the sum go to the coordinator
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import LazarettoError, RoundRefused, WireError
from lazaretto.secagg.channel import authentic, letter, sealed, text, text_of
from lazaretto.secagg.deposit import Deposit, deposited, split_row
from lazaretto.secagg.drawn import derive, expand
from lazaretto.secagg.length_check import Memory
from lazaretto.secagg.noise import discrete_gaussian
from lazaretto.secagg.ring import Ring, Shares, to_ring
from lazaretto.secagg.settings import AGGREGATORS, COORDINATOR, Decide, SharedGram, Sharing
from lazaretto.secagg.weights import noise_steps
from lazaretto.types import Array, Message

__all__ = [
    "Advance",
    "Aggregator",
    "Answer",
    "Kept",
    "begin",
    "held_rows",
    "left_out",
    "peers",
    "receive",
    "refuse",
    "run_steps",
    "send",
    "site_rows",
    "zero_share",
]

_KINDS = ("arrived", "key", "coin", "projected", "short", "blocks", "gram", "refused")


@dataclass(frozen=True, slots=True, repr=False)
class Kept:
    """What an aggregator keeps: site -> shares [d] of its running sum, and over how many rounds."""

    sums: Mapping[str, Shares] = field(default_factory=dict)
    rounds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Aggregator:
    """State of aggregator `index` in one round; never printed, as most of it is secret.

    public: [p, d] ring. keys: party -> the key of their channel. refused: why the round ended, or None.
    opened: what the rule saw. done: whether the shares of the sum are sent.
    """

    settings: Sharing
    index: int
    round: int
    public: Ring
    decide: Decide
    secret: bytes
    keys: Mapping[str, bytes]
    kept: Kept
    step: str = "collect"
    stage: int = 0
    inbox: Mapping[tuple[str, str], Message] = field(default_factory=dict)
    deposits: Mapping[str, Deposit] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    coin: bytes = b""
    rows: Shares | None = None
    memory: Memory | None = None
    addend: tuple[Ring, ...] = ()
    summed: Kept | None = None
    opened: SharedGram | None = None
    ignored: int = 0
    refused: str | None = None
    done: bool = False

    @property
    def name(self) -> str:
        """Its name in messages."""
        return AGGREGATORS[self.index]

    @property
    def parameters(self) -> int:
        """Entries of a row, d."""
        return int(self.public.shape[1])


Answer = tuple[Aggregator, tuple[Message, ...]]
Advance = Callable[[Aggregator], Answer | None]


def peers(state: Aggregator) -> tuple[str, str]:
    """The next aggregator, which has the second share, too, and the one before, which has the first."""
    return AGGREGATORS[(state.index + 1) % 3], AGGREGATORS[(state.index + 2) % 3]


def send(state: Aggregator, kind: str, receiver: str, payload: Mapping[str, NDArray[Any]]) -> Message:
    """A sealed message from this aggregator."""
    link = "aggregator-coordinator" if receiver == COORDINATOR else "aggregator-aggregator"
    message = letter(kind, state.name, receiver, state.round, payload, link)
    return sealed(message, state.keys[receiver])


def begin(
    settings: Sharing,
    index: int,
    round_number: int,
    public: NDArray[np.float64],
    decide: Decide,
    secret: bytes,
    keys: Mapping[str, bytes],
    kept: Kept,
) -> Answer:
    """The state before anything arrived, and shares of this aggregator's noise for the others, if there is
    any.

    public: [p, d] finite and clipped. keys: every site, aggregator and the coordinator -> the key of their
    channel.
    """
    state = Aggregator(
        settings=settings,
        index=index,
        round=round_number,
        public=to_ring(public, settings.fraction_bits),
        decide=decide,
        secret=secret,
        keys=keys,
        kept=kept,
    )
    if not settings.noise:
        return state, ()
    noise = discrete_gaussian(derive(secret, "noise", round_number), noise_steps(settings), state.parameters)
    # the third copy is for itself, under a key that nobody has
    own = {**{peer: keys[peer] for peer in peers(state)}, state.name: derive(secret, "own", round_number)}
    messages = split_row(
        state.name, round_number, noise.view(np.uint64), derive(secret, "noise shares", round_number), own
    )
    mine = next(message for message in messages if message.receiver == state.name)
    state = replace(state, deposits={state.name: deposited(mine, index, state.parameters)})
    return state, tuple(message for message in messages if message.receiver != state.name)


def refuse(state: Aggregator, why: str, *, tell: Iterable[str] = (*AGGREGATORS, COORDINATOR)) -> Answer:
    """End the round here, and tell the others why."""
    messages = [send(state, "refused", to, {"why": text_of(why)}) for to in tell if to != state.name]
    return replace(state, refused=why, rows=None, memory=None, inbox={}), tuple(messages)


def receive(state: Aggregator, message: Message) -> Aggregator | str:
    """The state with a message in it that is new and authentic, else the state with one more ignored.

    A text instead: the cause for which the round has to end.
    """
    sender, kind = message.sender, message.kind
    ignored = replace(state, ignored=state.ignored + 1)
    key = state.keys.get(sender)
    if message.receiver != state.name or message.round != state.round or key is None:
        return ignored
    if not authentic(message, key):
        return ignored
    if kind == "shares":
        if state.step != "collect" or sender in state.deposits or sender == COORDINATOR:
            return ignored
        found = deposited(message, state.index, state.parameters)
        return replace(state, deposits={**state.deposits, sender: found})
    if kind == "close" and sender == COORDINATOR:
        return replace(state, inbox={**state.inbox, (kind, sender): message})
    gates = kind.startswith("gate ") and kind[5:].isdecimal()
    if sender not in AGGREGATORS or not (kind in _KINDS or gates) or (kind, sender) in state.inbox:
        return ignored
    if kind == "refused":
        try:
            return f"{sender} says: {text(message, 'why')}"
        except WireError as error:
            return f"{sender} gave up without a reason that can be read: {error.problem}"
    return replace(state, inbox={**state.inbox, (kind, sender): message})


def run_steps(state: Aggregator, steps: Mapping[str, Advance]) -> Answer:
    """Go on as long as what a step needs is there."""
    sent: list[Message] = []
    while state.refused is None and not state.done:
        try:
            answer = steps[state.step](state)
        except WireError as error:
            answer = refuse(state, f"an aggregator sent something malformed: {error.problem}")
        except RoundRefused as error:
            answer = refuse(state, str(error))
        except LazarettoError as error:
            answer = refuse(state, f"the rule or the settings failed: {error}")
        if answer is None:
            break
        state, messages = answer
        sent += messages
    return state, tuple(sent)


def held_rows(state: Aggregator) -> Shares:
    """Shares of all rows: of sites, of what is public, of noise."""
    assert state.rows is not None  # noqa: S101  there since the coin
    return state.rows


def site_rows(state: Aggregator) -> Shares:
    """Shares of the sites' rows alone."""
    rows, sites = held_rows(state), len(state.names)
    return Shares(rows.first[:sites], rows.second[:sites])


def left_out(state: Aggregator, fine: Array, why: str) -> Aggregator:
    """Without the rows that are not fine, [n] bool; rows behind the sites' stay."""
    named = {**state.named, **{name: why for name, ok in zip(state.names, fine, strict=True) if not ok}}
    rows = held_rows(state)
    stay = np.concatenate([fine, np.ones(len(rows.first) - len(fine), np.bool_)])
    names = tuple(name for name, ok in zip(state.names, fine, strict=True) if ok)
    rows = rows if stay.all() else Shares(rows.first[stay], rows.second[stay])
    return replace(state, names=names, named=named, rows=rows)


def zero_share(state: Aggregator, shape: tuple[int, ...], label: str, *, xor: bool) -> Ring:
    """One aggregator's part of three that add up (or xor) to 0: nobody knows another's."""
    keys = (
        derive(state.secret, "zero", state.round),
        state.inbox["key", peers(state)[1]].payload["key"].tobytes(),
    )
    own, theirs = (expand(derive(key, label), int(np.prod(shape))).reshape(shape) for key in keys)
    return np.asarray(own ^ theirs if xor else own - theirs)
