"""The coordinator: closes the round, opens the sum, and refuses it where it is not what was promised."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import WireError
from lazaretto.secagg.channel import array, authentic, letter, names_of, sealed, text
from lazaretto.secagg.ring import signed, square_sum
from lazaretto.secagg.settings import AGGREGATORS, COORDINATOR, WEIGHT_BITS, Sharing
from lazaretto.secagg.sketch import sketch_of, sketched
from lazaretto.secagg.weights import dither_length
from lazaretto.types import Message

__all__ = ["Coordinator", "Sum", "close", "give_up", "handle"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Sum:
    """What a round came to.

    update: [d] float64. names: sites in it, sorted. named: site -> why it was left out.
    """

    update: NDArray[np.float64]
    names: tuple[str, ...]
    named: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Coordinator:
    """State of the coordinator in one round. keys: aggregator -> the key of their channel."""

    settings: Sharing
    round: int
    parameters: int
    keys: Mapping[str, bytes]
    inbox: Mapping[str, Message] = field(default_factory=dict)
    ignored: int = 0
    refused: str | None = None
    sum: Sum | None = None


def close(state: Coordinator) -> tuple[Coordinator, tuple[Message, ...]]:
    """No more updates: whoever decides that (a clock, a count) stands outside."""
    payload = {"close": np.zeros(0, np.uint8)}
    messages = [
        letter("close", COORDINATOR, name, state.round, payload, "aggregator-coordinator")
        for name in AGGREGATORS
    ]
    return state, tuple(sealed(message, state.keys[message.receiver]) for message in messages)


def give_up(state: Coordinator) -> tuple[Coordinator, tuple[Message, ...]]:
    """End a round that does not get on, and say whom it waits for."""
    if state.sum is not None or state.refused is not None:
        return state, ()
    silent = [name for name in AGGREGATORS if name not in state.inbox]
    return replace(state, refused=f"the round did not end: nothing came from {', '.join(silent)}"), ()


def handle(state: Coordinator, message: Message) -> tuple[Coordinator, tuple[Message, ...]]:
    """The state after a message. Once the round has a sum or is refused nothing changes it any more."""
    key = state.keys.get(message.sender)
    fresh = state.sum is None and state.refused is None and message.sender not in state.inbox
    ours = message.receiver == COORDINATOR and message.round == state.round and key is not None
    if not (fresh and ours and key and message.kind in ("sum", "refused") and authentic(message, key)):
        return replace(state, ignored=state.ignored + 1), ()
    try:
        if message.kind == "refused":
            return replace(state, refused=f"{message.sender} says: {text(message, 'why')}"), ()
        state = replace(state, inbox={**state.inbox, message.sender: message})
        if len(state.inbox) < len(AGGREGATORS):
            return state, ()
        return _opened(state), ()
    except WireError as error:
        return replace(state, refused=f"an aggregator sent something malformed: {error.problem}"), ()


_SAME = ("names", "named", "weights", "square", "most", "coin")


def _opened(state: Coordinator) -> Coordinator:
    """Three reports -> a sum, or a refusal that names who is to blame where that can be known."""
    reports = [state.inbox[name] for name in AGGREGATORS]
    odd = _odd_one(reports)
    if odd is not None:
        return replace(state, refused=odd)
    first = reports[0]
    shares = [array(report, "share", np.uint64, (state.parameters,)) for report in reports]
    digests = [array(report, "other", np.uint8, (32,)).tobytes() for report in reports]
    # share j + 1 comes from aggregator j + 1 in full, and as a digest from aggregator j
    fine = [
        hashlib.sha256(shares[(j + 1) % 3].tobytes()).digest() == digest for j, digest in enumerate(digests)
    ]
    if not all(fine):
        return replace(state, refused=f"shares of the sum differ: {_liar(fine)}")
    total = signed(shares[0] + shares[1] + shares[2])
    most = float(array(first, "most", np.float64, (1,))[0])
    square = int.from_bytes(array(first, "square", np.uint8, (32,)).tobytes(), "little", signed=True)
    weights = array(first, "weights", np.int64, (None,))
    largest = most + 3 * 2.0**WEIGHT_BITS  # with the dither
    if not most >= 0 or (np.abs(total.astype(np.float64)) > largest).any() or len(weights) == 0:
        return replace(
            state, refused="an entry of the sum is larger than clipped updates allow: one wrapped around"
        )
    sketch = sketch_of(
        array(first, "coin", np.uint8, (32,)).tobytes(), state.parameters, state.settings.sketch_columns
    )
    seen = signed(sketched(sketch, total.view(np.uint64)[None])[0])
    # the sum without its dither has exactly the promised length, so with it one that is no farther off
    apart = abs(math.sqrt(square_sum(seen)) - math.sqrt(max(square, 0)))
    if square < 0 or apart > dither_length(state.settings, state.parameters) * (1 + 1e-9):
        return replace(
            state,
            refused="the sum is not as long as the inner products say: an update wrapped around, or "
            "an aggregator gave false addends",
        )
    middle = 1.5 * (2.0**WEIGHT_BITS - 1)  # of the dither
    update = (total.astype(np.float64) - middle) * 2.0 ** -(state.settings.fraction_bits + WEIGHT_BITS)
    named = dict(line.split("\t", 1) for line in names_of(first, "named") if "\t" in line)
    return replace(state, sum=Sum(update=update, names=names_of(first, "names"), named=named))


def _odd_one(reports: list[Message]) -> str | None:
    """Who reports something else than the two others about what all three computed alike."""
    for name in _SAME:
        said = [report.payload.get(name) for report in reports]
        raw = [one.tobytes() if isinstance(one, np.ndarray) else b"" for one in said]
        if len(set(raw)) > 1:
            odd = [AGGREGATORS[i] for i in range(3) if raw.count(raw[i]) == 1]
            who = odd[0] if len(odd) == 1 else "one of " + ", ".join(odd)
            return f"aggregators differ about '{name}' of the sum: {who} is lying"
    return None


def _liar(fine: list[bool]) -> str:
    """fine[j]: aggregators j and j + 1 agree about share j + 1. Who disagrees with both others is lying."""
    wrong = [{AGGREGATORS[j], AGGREGATORS[(j + 1) % 3]} for j in range(3) if not fine[j]]
    common = set.intersection(*wrong)
    who = sorted(common or set(AGGREGATORS))
    return f"{who[0]} is lying" if len(who) == 1 else f"one of {', '.join(who)} is lying"
