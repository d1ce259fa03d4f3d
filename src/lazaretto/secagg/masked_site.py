"""A site's side of a masked sum: what it sends, and what it refuses.

Bonawitz et al. 2017, https://doi.org/10.1145/3133956.3133982 (figure 4, with signatures), on the graph of
Bell et al. 2020, https://doi.org/10.1145/3372297.3417885. States are values; a message that is refused
changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from lazaretto.errors import InputError, RoundRefused, WireError
from lazaretto.secagg.masked_keys import (
    SIGNATURE_BYTES,
    add_mask,
    agreed_key,
    derive,
    public_key,
    seal,
    sign,
    stream,
    unseal,
    verifies,
)
from lazaretto.secagg.masked_messages import (
    FROM_COORDINATOR,
    LINK,
    as_bytes,
    lists_text,
    numbers,
    opened,
    rows,
    signed_message,
    site_list,
)
from lazaretto.secagg.masked_settings import COORDINATOR, Setup, holders, share_threshold
from lazaretto.secagg.masked_shamir import PRIME, split_secret
from lazaretto.types import Array, Message

__all__ = [
    "SEALED_BYTES",
    "SEED_BYTES",
    "SHARE_BYTES",
    "SiteState",
    "commitment_of",
    "handle_at_site",
    "mask_private",
    "pair_mask_key",
    "self_mask_key",
    "start_site",
]

SHARE_BYTES = 32
SEED_BYTES = 31  # below 2^248, so always in the field of the shares
SEALED_BYTES = 2 * SHARE_BYTES + 16
Answer = tuple["SiteState", tuple[Message, ...]]


@dataclass(frozen=True, slots=True)
class SiteState:
    """Where a site stands. What is secret is in no repr.

    step: how many of the coordinator's messages it took; seen: their digests. lists: numbers of the sites
    that gave keys, shares, masked vectors, as far as it was told. keys: number -> (sealing key, mask key) of
    its neighbours. held: number -> (share of the self-mask seed, share of the mask key's seed).
    """

    setup: Setup
    number: int
    step: int = 0
    seen: tuple[bytes, ...] = ()
    lists: tuple[tuple[int, ...], ...] = ()
    keys: Mapping[int, tuple[bytes, bytes]] = field(default_factory=dict)
    held: Mapping[int, tuple[int, int]] = field(default_factory=dict, repr=False)
    identity: bytes = field(default=b"", repr=False)
    secret: bytes = field(default=b"", repr=False)
    vector: Array = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The site's name."""
        return self.setup.sites[self.number]


def start_site(setup: Setup, name: str, identity: bytes, secret: bytes, vector: Array) -> Answer:
    """The state at the beginning of a round, and the site's first message.

    identity: 32 private bytes of its Ed25519 key. secret: 32 bytes, fresh from the system's generator each
    round and known to nobody else. vector: [setup.length] of `setup.dtype`, in the ring. Raises InputError
    for another vector or an identity that is not the one the others know.
    """
    if name not in setup.sites:
        raise InputError("a site is not in this round", found=name)
    if vector.shape != (setup.length,) or vector.dtype != setup.dtype:
        raise InputError("a vector to be masked has another form", found=f"{vector.dtype} {vector.shape}")
    # The vector too, so that a secret that serves twice does not mask two vectors alike.
    own = derive(
        secret, "round", setup.session, name, hashlib.sha256(np.ascontiguousarray(vector).data).digest()
    )
    state = SiteState(setup, setup.sites.index(name), identity=identity, secret=own, vector=vector)
    keys = rows(
        [public_key(derive(own, "sealing key")), public_key(mask_private(_seed(own, "mask key")))], 32
    )
    commitment = np.frombuffer(commitment_of(setup, state.number, _seed(own, "self mask")), np.uint8)
    return state, (_message(state, "mask keys", {"keys": keys, "commitment": commitment}),)


def _seed(own: bytes, purpose: str) -> bytes:
    return derive(own, purpose)[:SEED_BYTES]


def mask_private(seed: bytes) -> bytes:
    """Private X25519 key of the seed that is shared out; who opens the seed has the key."""
    return derive(bytes(1) + seed, "private mask key")


def commitment_of(setup: Setup, number: int, seed: bytes) -> bytes:
    """What a site publishes of its self-mask seed: binds, and tells nothing of 248 random bits."""
    return hashlib.sha256(setup.session + number.to_bytes(4, "big") + seed).digest()


def _message(state: SiteState, kind: str, payload: Mapping[str, Array]) -> Message:
    return signed_message(state.setup, state.identity, kind, state.name, COORDINATOR, payload)


def handle_at_site(state: SiteState, message: Message) -> Answer:
    """The next state and what the site answers. A second copy of a message that was taken changes nothing.

    Raises WireError for what is malformed, forged, of another round or ahead of its turn, and RoundRefused
    for what an honest coordinator never sends: another text of a message that was taken, lists that shrink
    below the threshold or grow, too few signatures. Either way the state at hand stays valid and secret.
    """
    if message.kind not in FROM_COORDINATOR or message.sender != COORDINATOR:
        raise WireError(
            "a site has no use for this message", found=f"'{message.kind}' from '{message.sender}'"
        )
    place = FROM_COORDINATOR.index(message.kind)
    layout, take = _STEPS[place]
    text = opened(state.setup, message, state.name, layout)
    if place < state.step:
        if text == state.seen[place]:
            return state, ()
        raise _refused(state, f"the coordinator sent two different messages '{message.kind}'")
    if place > state.step:
        raise WireError(f"'{message.kind}' came before its turn", way_out="send it again in order")
    state, messages = take(state, message.payload)
    return replace(state, step=place + 1, seen=(*state.seen, text)), messages


def _refused(state: SiteState, problem: str, found: object = None) -> RoundRefused:
    return RoundRefused(f"site '{state.name}' stops: {problem}", found=found)


def _list(state: SiteState, array: Array) -> tuple[int, ...]:
    """A list of sites with this one in it, not shorter than the threshold, out of the list before."""
    found = numbers(array, len(state.setup.sites))
    least = state.setup.settings.threshold
    if len(found) < least:
        raise _refused(state, "fewer sites are left than the threshold", f"{len(found)} of {least}")
    if state.number not in found:
        raise _refused(state, "it was asked to go on though it is said to be gone")
    if state.lists and not set(found) <= set(state.lists[-1]):
        raise _refused(state, "the list of sites grew")
    return found


def _near(state: SiteState, sites: tuple[int, ...]) -> tuple[int, ...]:
    """The holders of this site's shares, this site left out, among some sites."""
    those = set(holders(state.setup)[state.number])
    return tuple(i for i in sites if i in those and i != state.number)


def _take_keys(state: SiteState, payload: Mapping[str, Array]) -> Answer:
    setup = state.setup
    given = _list(state, payload["sites"])
    near = _near(state, given)
    if numbers(payload["near"], len(setup.sites)) != near or len(payload["keys"]) != len(near):
        raise _refused(state, "the keys are not those of its neighbours")
    least = share_threshold(setup.settings, len(setup.sites))
    if len(near) + 1 < least:
        raise _refused(state, "too few neighbours are left to hold shares", f"{len(near) + 1} of {least}")
    keys: dict[int, tuple[bytes, bytes]] = {}
    for i, both, commitment, signature in zip(
        near, payload["keys"], payload["commitments"], payload["signatures"], strict=True
    ):
        name = setup.sites[i]
        arrays = {"keys": both, "commitment": commitment, "signature": signature}
        message = Message(
            kind="mask keys", link=LINK, sender=name, receiver=COORDINATOR, round=setup.round, payload=arrays
        )
        opened(setup, message, COORDINATOR, {"keys": ("|u1", (2, 32)), "commitment": ("|u1", (32,))})
        keys[i] = (as_bytes(both[0]), as_bytes(both[1]))
    if len({key for both in keys.values() for key in both}) < 2 * len(keys):
        raise _refused(state, "two of its neighbours have the same key")
    state = replace(state, lists=(given,), keys=keys)
    return _share_out(state, near, least)


def _share_out(state: SiteState, near: tuple[int, ...], least: int) -> Answer:
    """Shares of both seeds for each neighbour, sealed; its own are kept."""
    places = [*near, state.number]
    shared = []
    for purpose in ("self mask", "mask key"):
        raw = stream(derive(state.secret, "coefficients", purpose), 48 * (least - 1))
        coefficients = [int.from_bytes(raw[k : k + 48], "big") % PRIME for k in range(0, len(raw), 48)]
        seed = int.from_bytes(_seed(state.secret, purpose), "big")
        shared.append(split_secret(seed, [i + 1 for i in places], coefficients))
    private = derive(state.secret, "sealing key")
    sealed = []
    for place, i in enumerate(near):
        content = b"".join(shares[place].to_bytes(SHARE_BYTES, "big") for shares in shared)
        key = _sealing_key(state, private, sender=state.number, receiver=i)
        sealed.append(seal(key, content, state.setup.session))
    payload = {"to": site_list(near), "sealed": rows(sealed, SEALED_BYTES)}
    state = replace(state, held={state.number: (shared[0][-1], shared[1][-1])})
    return state, (_message(state, "mask shares", payload),)


def _sealing_key(state: SiteState, private: bytes, *, sender: int, receiver: int) -> bytes:
    """A key for the one message from sender to receiver; the other direction has another."""
    other = receiver if sender == state.number else sender
    return agreed_key(private, state.keys[other][0], state.setup.session, "seal", sender, receiver)


def _take_shares(state: SiteState, payload: Mapping[str, Array]) -> Answer:
    given = _list(state, payload["sites"])
    near = _near(state, given)
    if numbers(payload["from"], len(state.setup.sites)) != near or len(payload["sealed"]) != len(near):
        raise _refused(state, "the shares are not those of its neighbours")
    least = share_threshold(state.setup.settings, len(state.setup.sites))
    if len(near) + 1 < least:
        raise _refused(state, "too few neighbours hold its shares", f"{len(near) + 1} of {least}")
    held, private = dict(state.held), derive(state.secret, "sealing key")
    for i, sealed in zip(near, payload["sealed"], strict=True):
        key = _sealing_key(state, private, sender=i, receiver=state.number)
        content = unseal(key, as_bytes(sealed), state.setup.session)
        if content is not None:  # else that neighbour's shares are simply not there
            both = tuple(
                int.from_bytes(part, "big") for part in (content[:SHARE_BYTES], content[SHARE_BYTES:])
            )
            if max(both) < PRIME:  # else they are none; passed on, they would be laid to this site
                held[i] = both[0], both[1]
    state = replace(state, lists=(*state.lists, given), held=held)
    masked = _masked(state, near)
    return replace(state, vector=None), (_message(state, "masked vector", {"masked": masked}),)


def _masked(state: SiteState, near: tuple[int, ...]) -> Array:
    """The vector, its self mask, and a mask with each neighbour, added by the lower number, taken away by
    the other.
    """
    masked = state.vector.copy()
    add_mask(masked, self_mask_key(_seed(state.secret, "self mask")))
    private = mask_private(_seed(state.secret, "mask key"))
    for i in near:
        add_mask(masked, pair_mask_key(state.setup, private, state.keys[i][1]), subtract=state.number > i)
    return masked


def self_mask_key(seed: bytes) -> bytes:
    """Key of a self mask, from its seed."""
    return derive(bytes(1) + seed, "self mask")


def pair_mask_key(setup: Setup, private: bytes, public: bytes) -> bytes:
    """Key of the mask that two sites share, from one's private and the other's public mask key."""
    return agreed_key(private, public, setup.session, "pair mask")


def _take_survivors(state: SiteState, payload: Mapping[str, Array]) -> Answer:
    state = replace(state, lists=(*state.lists, _list(state, payload["sites"])))
    agreed = sign(state.identity, lists_text(state.setup, state.lists))
    return state, (_message(state, "agreement", {"agreed": np.frombuffer(agreed, np.uint8)}),)


def _take_agreed(state: SiteState, payload: Mapping[str, Array]) -> Answer:
    """Shares, once the threshold of sites has signed the same lists: then no other lists can have so many."""
    setup = state.setup
    signers = numbers(payload["signers"], len(setup.sites))
    least, text = setup.settings.threshold, lists_text(setup, state.lists)
    if (
        len(signers) < least
        or len(payload["agreed"]) != len(signers)
        or not set(signers) <= set(state.lists[2])
    ):
        raise _refused(state, "too few survivors signed the lists", f"{len(signers)} of {least}")
    for i, signature in zip(signers, payload["agreed"], strict=True):
        if not verifies(setup.identities[i], as_bytes(signature), text):
            raise _refused(
                state, f"site '{setup.sites[i]}' was shown other lists of survivors, or did not sign"
            )
    there = set(state.lists[2])
    those = [i for i in sorted(state.held) if i in state.lists[1]]
    alive, gone = [i for i in those if i in there], [i for i in those if i not in there]
    payload = {
        "alive": site_list(tuple(alive)),
        "self": rows([state.held[i][0].to_bytes(SHARE_BYTES, "big") for i in alive], SHARE_BYTES),
        "gone": site_list(tuple(gone)),
        "pair": rows([state.held[i][1].to_bytes(SHARE_BYTES, "big") for i in gone], SHARE_BYTES),
    }
    message = _message(state, "unmask shares", payload)
    return replace(state, held={}, secret=b""), (message,)


_Layout = Mapping[str, tuple[str, tuple[int | None, ...]]]
_STEPS: tuple[tuple[_Layout, Callable[[SiteState, Mapping[str, Array]], Answer]], ...] = (
    (
        {
            "sites": ("<i4", (None,)),
            "near": ("<i4", (None,)),
            "keys": ("|u1", (None, 2, 32)),
            "commitments": ("|u1", (None, 32)),
            "signatures": ("|u1", (None, SIGNATURE_BYTES)),
        },
        _take_keys,
    ),
    (
        {"sites": ("<i4", (None,)), "from": ("<i4", (None,)), "sealed": ("|u1", (None, SEALED_BYTES))},
        _take_shares,
    ),
    ({"sites": ("<i4", (None,))}, _take_survivors),
    ({"signers": ("<i4", (None,)), "agreed": ("|u1", (None, SIGNATURE_BYTES))}, _take_agreed),
)
