"""One row, split into three shares: what its owner sends, and what a holder makes of it.

Shares 0 and 1 travel as seeds, share 2 = row − share 0 − share 1 as numbers; aggregator j gets shares j and
j + 1. Each share is committed to with a nonce of its own, and all three aggregators get all three
commitments; the nonce goes to the share's two holders only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import WireError
from lazaretto.secagg.channel import array, letter, sealed
from lazaretto.secagg.drawn import SECRET_BYTES, commitment, derive, expand, opens
from lazaretto.secagg.ring import Ring, Shares, clipped, to_ring
from lazaretto.secagg.settings import AGGREGATORS, Sharing
from lazaretto.types import Array, Message

__all__ = ["Deposit", "deposited", "row_of", "share_update", "shares_of", "split_row"]


class Deposit(NamedTuple):
    """What one aggregator got of one row: two shares as sent, all commitments, what is wrong or ''."""

    first: NDArray[np.uint8] | Ring
    second: NDArray[np.uint8] | Ring
    commitments: NDArray[np.uint8]
    wrong: str


def row_of(settings: Sharing, update: Array) -> Ring:
    """[d] in the ring: a finite update, clipped and rounded."""
    return to_ring(clipped(update, settings.clip), settings.fraction_bits)


def share_update(
    settings: Sharing, site: str, round_number: int, update: Array, secret: bytes, keys: dict[str, bytes]
) -> tuple[Message, ...]:
    """All that a site does in a round: one message to each aggregator.

    update: [d], finite (WireError otherwise). secret: 32 bytes, fresh for this round. keys: aggregator -> the
    key of its channel.
    """
    if not np.isfinite(update).all():
        raise WireError(f"the update of {site} is not finite", way_out="lower train.learning_rate")
    return split_row(site, round_number, row_of(settings, update), secret, keys)


def split_row(
    owner: str, round_number: int, row: Ring, secret: bytes, keys: dict[str, bytes]
) -> tuple[Message, ...]:
    """Messages to the aggregators that have a key, for a row [d] of the ring."""
    seeds = [derive(secret, "share", round_number, owner, part) for part in (0, 1)]
    nonces = [derive(secret, "nonce", round_number, owner, part) for part in (0, 1, 2)]
    last = row - expand(seeds[0], len(row)) - expand(seeds[1], len(row))
    sent: list[Array] = [*(np.frombuffer(seed, np.uint8) for seed in seeds), last]
    commitments = np.stack(
        [
            np.frombuffer(commitment(part.tobytes(), nonce), np.uint8)
            for part, nonce in zip(sent, nonces, strict=True)
        ]
    )
    link = "aggregator-aggregator" if owner in AGGREGATORS else "site-aggregator"
    messages = []
    for j, receiver in enumerate(AGGREGATORS):
        if receiver in keys:
            held = (j, (j + 1) % 3)
            payload = {
                "first": sent[held[0]],
                "second": sent[held[1]],
                "nonces": np.stack([np.frombuffer(nonces[part], np.uint8) for part in held]),
                "commitments": commitments,
            }
            message = letter("shares", owner, receiver, round_number, payload, link)
            messages.append(sealed(message, keys[receiver]))
    return tuple(messages)


def deposited(message: Message, holder: int, parameters: int) -> Deposit:
    """What arrived at aggregator `holder`, checked; what is wrong with it is said in it, not raised."""
    empty = np.zeros((3, SECRET_BYTES), np.uint8)
    try:
        commitments = array(message, "commitments", np.uint8, (3, SECRET_BYTES))
        nonces = array(message, "nonces", np.uint8, (2, SECRET_BYTES))
        shares = [
            array(message, name, np.uint64, (parameters,))
            if part == 2
            else array(message, name, np.uint8, (SECRET_BYTES,))
            for name, part in (("first", holder), ("second", (holder + 1) % 3))
        ]
    except WireError as error:
        return Deposit(empty[0], empty[0], empty, f"it sent something malformed: {error.problem}")
    for place, (share, part) in enumerate(zip(shares, (holder, (holder + 1) % 3), strict=True)):
        if not opens(commitments[part].tobytes(), share.tobytes(), nonces[place].tobytes()):
            wrong = f"what it sent {AGGREGATORS[holder]} as share {part} is not what it committed to"
            return Deposit(shares[0], shares[1], commitments, wrong)
    return Deposit(shares[0], shares[1], commitments, "")


def shares_of(deposits: list[Deposit], parameters: int, room: int = 0) -> Shares:
    """[n + room, d] shares of n rows, seeds expanded; then `room` rows of 0."""
    found = Shares(*(np.empty((len(deposits) + room, parameters), np.uint64) for _ in range(2)))
    for share in found:
        share[len(deposits) :] = 0
    for i, deposit in enumerate(deposits):
        for target, sent in ((found.first, deposit.first), (found.second, deposit.second)):
            target[i] = sent if sent.dtype == np.uint64 else expand(sent.tobytes(), parameters)
    return found
