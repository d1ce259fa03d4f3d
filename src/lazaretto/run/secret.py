"""Rounds in which nobody sees an update: what sites send goes to three aggregators as shares.

A simulation: all parties in one process, and secrets that follow from the run's seed so that it can be run
again, unless its noise comes from the operating system: then its secrets do, too. `lazaretto.secagg` has the
protocol.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError, RoundRefused
from lazaretto.keys import generator
from lazaretto.run.post import Post
from lazaretto.secagg.aggregator import Kept
from lazaretto.secagg.ckks import CKKS_KINDS, default_ckks
from lazaretto.secagg.ckks_round import encrypt_counts, encrypt_round
from lazaretto.secagg.masked import MaskedRound, mask_counts, mask_round
from lazaretto.secagg.masked_settings import COORDINATOR, Masked, default_masked
from lazaretto.secagg.ring import Shares
from lazaretto.secagg.settings import LONGEST_COUNTS, SharedGram, Sharing
from lazaretto.secagg.sharing import SharedRound, share_round
from lazaretto.types import Array, Int, Message

__all__ = [
    "FEWEST",
    "Decided",
    "Door",
    "Shared",
    "Weigh",
    "kept_arrays",
    "kept_from",
    "secret_ballots",
    "secret_sum",
    "share_updates",
    "simulated_secrets",
    "sum_updates",
]

FEWEST = 3  # sites, below which a sum and one's own part of it tell another's
_COUNTED = {"shares": "shares", "close": "close", "sum": "opened sum", "refused": "opened sum"}


class Door(NamedTuple):
    """How what sites send is kept secret: "sharing", "masked" or "ckks".

    seed: of the simulation's secrets; label: of the training, so that none serves in two. system: whether
    secrets come from the operating system instead: what they hide may be noised less than what they open.
    """

    protocol: str
    seed: int
    label: str = ""
    system: bool = False


class Decided(NamedTuple):
    """What a rule says of inner products.

    weights: [n + p] on updates and public rows; all 0 where no update is to be used. said: what else came of
    it, for the coordinator.
    """

    weights: NDArray[np.float64]
    said: object


# (inner [n + p, n + p], history [n, n] or None, places of the n in what was given, () -> the same generator
# each time) -> Decided
Weigh = Callable[[Array, Array, Int, Callable[[], np.random.Generator]], Decided]


class Shared(NamedTuple):
    """What a secret round came to, of n sites whose shares arrived.

    update: [d]. inner: [n + p, n + p]; history: [n, n] or None. places: [n] of those sites among the rows
    that were given, in order. said: of `Decided`. named: site -> why it was left out. kept: what the
    aggregators keep for the next round.
    """

    update: NDArray[np.float64]
    inner: NDArray[np.float64]
    history: NDArray[np.float64] | None
    places: Int
    said: object
    named: Mapping[str, str]
    kept: tuple[Kept, ...]


def simulated_secrets(seed: int, what: str, round_number: int) -> Callable[[str], bytes]:
    """Role -> 32 bytes, each call others: of a simulation, as they follow from the seed."""
    calls: dict[str, int] = {}

    def secret(role: str) -> bytes:
        calls[role] = calls.get(role, 0) + 1
        text = f"{seed}\n{what}\n{round_number}\n{calls[role]}\n{role}"
        return hashlib.sha256(text.encode()).digest()

    return secret


def _secrets(door: Door, what: str, round_number: int) -> Callable[[str], bytes]:
    """Role -> 32 bytes, for one round of one thing: drawn anew each time where the door says so."""
    if door.system:
        return lambda role: os.urandom(32)
    return simulated_secrets(door.seed, f"{what} {door.label}", round_number)


def share_updates(
    settings: Sharing,
    rows: Mapping[str, Array],
    public: Array,
    weigh: Weigh,
    about: tuple[Door, int, tuple[Kept, ...] | None],
    post: Post,
) -> Shared:
    """One round: updates [d] by site, at least three of them finite; public rows [p, d].

    about: the door, the round's number, and what the aggregators kept of the one before (or None).
    Raises RoundRefused with the cause where there must be no aggregate.
    """
    door, number, kept = about
    names = list(rows)
    answers: list[Decided] = []

    def decide(seen: SharedGram) -> NDArray[np.float64]:
        places = np.array([names.index(name) for name in seen.names])
        coin = int.from_bytes(seen.coin[:8], "little")
        answers[:] = [weigh(seen.inner, seen.history, places, lambda: generator(coin, "rule", number))]
        return answers[0].weights

    done = share_round(
        settings,
        number,
        rows,
        public,
        decide,
        _secrets(door, "shares", number),
        kept,
        _counter(post),
    )
    return _shared(done, names, answers[0].said)


def _shared(done: SharedRound, names: Sequence[str], said: object) -> Shared:
    places = np.array([names.index(name) for name in done.names])
    return Shared(done.update, done.inner, done.history, places, said, done.named, done.kept)


def sum_updates(
    bound: float,
    rows: Mapping[str, Array],
    weights: Mapping[str, float],
    about: tuple[Door, int],
    post: Post,
    fewest: int = FEWEST,
) -> MaskedRound:
    """One round of a sum and nothing else: updates [d] and weights above 0 by site, at least three.

    bound: the largest absolute value of an entry. about: the door, "masked" or "ckks", and the round's
    number. fewest: sites without which nothing is opened (with "masked"). Raises RoundRefused where too few
    are left.
    """
    door, number = about
    secrets, tap = _secrets(door, "masks", number), _sum_counter(post)
    if door.protocol == "ckks":
        keyed = default_ckks(len(rows), bound)
        return encrypt_round(keyed, rows, weights, secrets, tap, round_number=number)
    return mask_round(_masked(len(rows), bound, fewest), rows, weights, secrets, tap, round_number=number)


def _masked(sites: int, bound: float = 1.0, fewest: int = FEWEST) -> Masked:
    """A third of the sites may vanish, one may be in league with the coordinator."""
    usual = default_masked(sites)
    return replace(usual, threshold=max(usual.threshold, fewest), bound=bound, ring_bits=64)


def secret_sum(rows: Mapping[str, Int], door: Door, what: str, post: Post) -> Int:
    """The sum of whole numbers [...] by site, exact; nobody sees a site's own.

    what: is summed, in words. Raises InputError for fewer than three sites and for numbers whose Euclidean
    length exceeds 2²² (some four million), RoundRefused as the protocols do.
    """
    if len(rows) < FEWEST:
        raise InputError(
            f"a secret sum of {what} needs three sites or more",
            found=len(rows),
            way_out='more sites, or secure.protocol = "none"',
        )
    flat = {name: np.asarray(row, np.float64).ravel() for name, row in rows.items()}
    size, shape = next(iter(flat.values())).size, np.shape(next(iter(rows.values())))
    for name, row in flat.items():
        if float(np.sqrt(row @ row)) > LONGEST_COUNTS:
            raise InputError(
                f"counts of {name} are too large for a secret sum of {what}",
                way_out=f"fewer steps at a site: a length of {LONGEST_COUNTS:.3g} at most",
            )
    if door.protocol != "sharing":
        secrets = _secrets(door, what, 0)
        tap = _sum_counter(post)
        if door.protocol == "ckks":
            keyed = default_ckks(len(rows), LONGEST_COUNTS)
            masked = encrypt_counts(keyed, rows, secrets, tap, round_number=0)
        else:
            masked = mask_counts(
                _masked(len(rows), fewest=len(rows)), rows, int(LONGEST_COUNTS), secrets, tap, round_number=0
            )
        _refuse_part(what, rows, masked.arrived, masked.refused)
        return masked.total
    done = share_round(
        # two bits: the dither is then below half of a count. A sum of one or two sites is refused
        Sharing(clip=LONGEST_COUNTS, fraction_bits=2, most_on_one=1 / 3),
        0,
        flat,
        np.zeros((0, size)),
        lambda seen: np.ones(len(seen.names)),
        _secrets(door, what, 0),
        None,
        _counter(post),
    )
    _refuse_part(what, rows, done.names, done.named)
    return np.rint(done.update).astype(np.int64).reshape(shape)


def secret_ballots(
    ballots: Mapping[str, Int], door: Door, what: str, post: Post
) -> tuple[Int, dict[str, str]]:
    """The sum of ballots [..., w] by site, exact, and site -> why its ballot does not count.

    A ballot is 0 but for a single 1 in each last axis; nobody sees a site's own, and one that is not so is
    named and left out. what: is voted on, in words. Raises InputError for fewer than three sites and for a
    protocol in which a ballot cannot be checked, RoundRefused as the protocol does.
    """
    if door.protocol != "sharing" or len(ballots) < FEWEST:
        raise InputError(
            f"secret ballots on {what} need three sites or more, and sharing",
            found=f"{len(ballots)} sites, {door.protocol}",
            way_out='secure.protocol = "sharing"',
        )
    shape = np.shape(next(iter(ballots.values())))
    rows = {name: np.asarray(own, np.float64).ravel() for name, own in ballots.items()}
    size = int(np.prod(shape))
    done = share_round(
        Sharing(clip=math.sqrt(size // shape[-1]), fraction_bits=0, one_hot=shape[-1]),
        0,
        rows,
        np.zeros((0, size)),
        lambda seen: np.full(len(seen.names), 8.0),  # an eighth of the dither is below half of a mark
        _secrets(door, what, 0),
        None,
        _counter(post),
    )
    total = np.rint(done.update / 8).astype(np.int64).reshape(shape)
    if (total.sum(axis=-1) != len(done.names)).any() or total.min() < 0:
        raise RoundRefused(
            f"a secret sum of ballots on {what} is none: an aggregator gave false addends",
            found=f"{total.sum(axis=-1).max()} marks in one place of {len(done.names)} ballots",
        )
    return total, dict(done.named)


def _refuse_part(
    what: str, rows: Mapping[str, Int], names: Sequence[str], reasons: Mapping[str, str]
) -> None:
    """A sum without some of the sites is none."""
    if lost := sorted(set(rows) - set(names)):
        raise RoundRefused(
            f"a secret sum of {what} lacks sites",
            found=", ".join(f"{name}: {reasons.get(name, 'nothing came')}" for name in lost[:3]),
        )


def _counter(post: Post) -> Callable[[Message], None]:
    def tap(message: Message) -> None:
        among = message.link == "aggregator-aggregator"  # noise is shared there, too
        post.carry(message, "between aggregators" if among else _COUNTED[message.kind])

    return tap


def _sum_counter(post: Post) -> Callable[[Message], None]:
    def tap(message: Message) -> None:
        kind = "encrypted" if message.kind in CKKS_KINDS else "masked"
        post.carry(message, f"{kind} answers" if message.sender == COORDINATOR else kind)

    return tap


def kept_arrays(kept: tuple[Kept, ...] | None) -> dict[str, Array]:
    """Name -> array, for a checkpoint of a simulation; a deployment's aggregators each keep their own."""
    found: dict[str, Array] = {}
    for place, one in enumerate(kept or ()):
        for name, shares in one.sums.items():
            for which in ("first", "second"):
                found[f"kept.{place}.{which}.{name}"] = getattr(shares, which).view(np.int64)
            found[f"kept.{place}.rounds.{name}"] = np.array([one.rounds[name]])
    return found


def kept_from(arrays: Mapping[str, Array]) -> tuple[Kept, ...] | None:
    """From what `kept_arrays` gave, exactly; other names are left alone."""
    parts: list[dict[str, dict[str, Array]]] = [{"first": {}, "second": {}, "rounds": {}} for _ in range(3)]
    for key, value in arrays.items():
        if key.startswith("kept."):
            _, place, which, name = key.split(".", 3)
            parts[int(place)][which][name] = value
    if not parts[0]["rounds"]:
        return None
    return tuple(
        Kept(
            sums={
                name: Shares(part["first"][name].view(np.uint64), part["second"][name].view(np.uint64))
                for name in part["first"]
            },
            rounds={name: int(value[0]) for name, value in part["rounds"].items()},
        )
        for part in parts
    )
