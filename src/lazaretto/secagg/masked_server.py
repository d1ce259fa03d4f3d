"""The coordinator's side of a masked sum: it passes keys and shares on, adds up, and takes the masks off.

It learns the sum of the vectors that arrived, and which sites those were. See `masked_site` for the sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lazaretto.errors import RoundRefused, WireError
from lazaretto.secagg.masked_keys import SIGNATURE_BYTES, add_mask, public_key, verifies
from lazaretto.secagg.masked_messages import (
    FROM_COORDINATOR,
    FROM_SITES,
    as_bytes,
    lists_text,
    numbers,
    opened,
    rows,
    signed_message,
    site_list,
)
from lazaretto.secagg.masked_settings import COORDINATOR, Setup, holders, share_threshold
from lazaretto.secagg.masked_shamir import PRIME, combine_shares
from lazaretto.secagg.masked_site import (
    SEALED_BYTES,
    SEED_BYTES,
    SHARE_BYTES,
    commitment_of,
    mask_private,
    pair_mask_key,
    self_mask_key,
)
from lazaretto.types import Array, Message

__all__ = ["CloseStep", "ServerState", "handle_at_server", "start_server"]

Answer = tuple["ServerState", tuple[Message, ...]]


@dataclass(frozen=True, slots=True)
class CloseStep:
    """Wait no longer: said by who keeps the time. Not a `Message`, so that no network can say it."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """Where the coordinator stands.

    step: steps closed, of five. came: number of a site -> digest of its message in this step.
    payloads: number -> its arrays of this step, without masked vectors, which are added to `total` at once.
    lists: who gave keys, shares, masked vectors. keys: number -> its message of keys. total: [length] in the
    ring: masked until the last step, then the sum.
    """

    setup: Setup
    step: int = 0
    came: Mapping[int, bytes] = field(default_factory=dict)
    payloads: Mapping[int, Mapping[str, Array]] = field(default_factory=dict, repr=False)
    lists: tuple[tuple[int, ...], ...] = ()
    keys: Mapping[int, Mapping[str, Array]] = field(default_factory=dict, repr=False)
    total: Array = field(default=None, repr=False)
    identity: bytes = field(default=b"", repr=False)

    @property
    def done(self) -> bool:
        """Whether `total` is the sum."""
        return self.step == len(FROM_SITES)

    @property
    def arrived(self) -> tuple[str, ...]:
        """Names of the sites that are in the sum; of those so far in the step, before it is known."""
        where = self.lists[2] if len(self.lists) > 2 else tuple(sorted(self.came))
        return tuple(self.setup.sites[i] for i in where)


def start_server(setup: Setup, identity: bytes) -> ServerState:
    """The state at the beginning of a round; identity: 32 private bytes of the coordinator's Ed25519 key."""
    return ServerState(setup, total=np.zeros(setup.length, setup.dtype), identity=identity)


def handle_at_server(state: ServerState, message: Message | CloseStep) -> Answer:
    """The next state and what the coordinator sends. A second copy, and what comes late, changes nothing.

    `CloseStep` goes on with the sites that are there. Raises WireError for what is malformed, forged, of
    another round, ahead of its turn, or another text than the site sent before; RoundRefused on closing with
    fewer sites than the threshold, or where shares do not open what their site published.
    """
    if isinstance(message, CloseStep):
        if state.done:
            return state, ()
        if len(state.came) < state.setup.settings.threshold:
            raise _refused(
                f"fewer sites sent '{FROM_SITES[state.step]}' than the threshold",
                f"{len(state.came)} of {state.setup.settings.threshold}",
                "wait longer, or lower the threshold as far as secrecy allows",
            )
        return _CLOSE[state.step](state)
    return _taken(state, message), ()


def _refused(problem: str, found: object, way_out: str) -> RoundRefused:
    return RoundRefused(f"masked sum refused: {problem}", found=found, way_out=way_out)


def _taken(state: ServerState, message: Message) -> ServerState:
    setup = state.setup
    if message.kind not in FROM_SITES or message.sender not in setup.sites:
        raise WireError(
            "the coordinator has no use for this message", found=f"'{message.kind}' from '{message.sender}'"
        )
    place, number = FROM_SITES.index(message.kind), setup.sites.index(message.sender)
    text = opened(setup, message, COORDINATOR, _layout(setup, message.kind))
    if place < state.step:
        return state  # late; the site counts as gone from that step on
    where = f"'{message.kind}' from '{message.sender}'"
    if place > state.step or (state.lists and number not in state.lists[-1]):
        raise WireError(f"{where} came before its turn, or from a site that is gone")
    if number in state.came:
        if state.came[number] == text:
            return state
        raise WireError(f"{where} says something else than its first copy", way_out="the first copy counts")
    state = replace(state, came={**state.came, number: text})
    if message.kind == "masked vector":
        return replace(state, total=state.total + message.payload["masked"])
    _check(state, number, where, message.payload)
    return replace(state, payloads={**state.payloads, number: message.payload})


def _layout(setup: Setup, kind: str) -> Mapping[str, tuple[str, Any]]:
    layouts: dict[str, Mapping[str, tuple[str, Any]]] = {
        "mask keys": {"keys": ("|u1", (2, 32)), "commitment": ("|u1", (32,))},
        "mask shares": {"to": ("<i4", (None,)), "sealed": ("|u1", (None, SEALED_BYTES))},
        "masked vector": {"masked": (setup.dtype.str, (setup.length,))},
        "agreement": {"agreed": ("|u1", (SIGNATURE_BYTES,))},
        "unmask shares": {
            "alive": ("<i4", (None,)),
            "self": ("|u1", (None, SHARE_BYTES)),
            "gone": ("<i4", (None,)),
            "pair": ("|u1", (None, SHARE_BYTES)),
        },
    }
    return layouts[kind]


def _check(state: ServerState, number: int, where: str, payload: Mapping[str, Array]) -> None:
    """Raises WireError where a site's arrays, of the right form each, do not fit the round."""
    setup, count = state.setup, len(state.setup.sites)
    if "to" in payload:
        near = _near(state, number, state.lists[0])
        if numbers(payload["to"], count) != near or len(payload["sealed"]) != len(near):
            raise WireError(f"{where} is not for its neighbours", found=len(payload["to"]), way_out=f"{near}")
    elif "agreed" in payload:
        text = lists_text(setup, state.lists)
        if not verifies(setup.identities[number], as_bytes(payload["agreed"]), text):
            raise WireError(f"{where} signs other lists than it was shown")
    elif "alive" in payload:
        alive, gone = numbers(payload["alive"], count), numbers(payload["gone"], count)
        there = set(holders(setup)[number]) & set(state.lists[1])
        fits = set(alive) <= there & set(state.lists[2]) and set(gone) <= there - set(state.lists[2])
        if not fits or len(payload["self"]) != len(alive) or len(payload["pair"]) != len(gone):
            raise WireError(f"{where} opens shares that nobody asked for")
        both = (as_bytes(share) for name in ("self", "pair") for share in payload[name])
        if any(int.from_bytes(share, "big") >= PRIME for share in both):
            raise WireError(f"{where} holds a share outside of the field")


def _near(state: ServerState, number: int, sites: tuple[int, ...]) -> tuple[int, ...]:
    those = set(holders(state.setup)[number])
    return tuple(i for i in sites if i in those and i != number)


def _sent(state: ServerState, step: int, receiver: int, payload: Mapping[str, Array]) -> Message:
    name = state.setup.sites[receiver]
    return signed_message(state.setup, state.identity, FROM_COORDINATOR[step], COORDINATOR, name, payload)


def _on(state: ServerState) -> ServerState:
    """The next step, with nothing in it."""
    return replace(state, step=state.step + 1, came={}, payloads={})


def _close_keys(state: ServerState) -> Answer:
    there, given = tuple(sorted(state.came)), state.payloads
    messages = []
    for i in there:
        near = _near(state, i, there)
        payload = {
            "sites": site_list(there),
            "near": site_list(near),
            "keys": np.array([given[j]["keys"] for j in near], np.uint8).reshape(-1, 2, 32),
            "commitments": rows([as_bytes(given[j]["commitment"]) for j in near], 32),
            "signatures": rows([as_bytes(given[j]["signature"]) for j in near], SIGNATURE_BYTES),
        }
        messages.append(_sent(state, 0, i, payload))
    return replace(_on(state), lists=(there,), keys=given), tuple(messages)


def _close_shares(state: ServerState) -> Answer:
    there = tuple(sorted(state.came))
    sealed = {
        (sender, int(to)): as_bytes(text)
        for sender, payload in state.payloads.items()
        for to, text in zip(payload["to"], payload["sealed"], strict=True)
    }
    messages = []
    for i in there:
        near = _near(state, i, there)
        texts = rows([sealed[j, i] for j in near], SEALED_BYTES)
        messages.append(
            _sent(state, 1, i, {"sites": site_list(there), "from": site_list(near), "sealed": texts})
        )
    return replace(_on(state), lists=(*state.lists, there)), tuple(messages)


def _close_vectors(state: ServerState) -> Answer:
    there = tuple(sorted(state.came))
    messages = tuple(_sent(state, 2, i, {"sites": site_list(there)}) for i in there)
    return replace(_on(state), lists=(*state.lists, there)), messages


def _close_agreement(state: ServerState) -> Answer:
    there = tuple(sorted(state.came))
    signed = rows([as_bytes(state.payloads[i]["agreed"]) for i in there], SIGNATURE_BYTES)
    payload = {"signers": site_list(there), "agreed": signed}
    messages = tuple(_sent(state, 3, i, payload) for i in there)
    return _on(state), messages


def _close_unmask(state: ServerState) -> Answer:
    total, setup = state.total.copy(), state.setup
    alive, known = state.lists[2], state.lists[1]
    opened_self, opened_pair = _shares(state, "alive", "self"), _shares(state, "gone", "pair")
    for i in alive:
        seed = _seed(state, i, opened_self.get(i, {}))
        if seed is None or commitment_of(setup, i, seed) != as_bytes(state.keys[i]["commitment"]):
            raise _not_open(state, i, "self mask")
        add_mask(total, self_mask_key(seed), subtract=True)
    there = set(alive)
    for i in (i for i in known if i not in there):
        near = [j for j in _near(state, i, known) if j in there]
        if not near:
            continue  # none of its masks is in the sum
        seed = _seed(state, i, opened_pair.get(i, {}))
        public = as_bytes(state.keys[i]["keys"][1])
        if seed is None or public_key(mask_private(seed)) != public:
            raise _not_open(state, i, "mask key")
        for j in near:  # j added or took away its mask with i; the other way round now
            key = pair_mask_key(setup, mask_private(seed), as_bytes(state.keys[j]["keys"][1]))
            add_mask(total, key, subtract=j < i)
    return replace(_on(state), total=total), ()


def _shares(state: ServerState, whose: str, what: str) -> dict[int, dict[int, int]]:
    """Number of a site -> place -> share of its secret."""
    found: dict[int, dict[int, int]] = {}
    for holder, payload in state.payloads.items():
        for i, share in zip(payload[whose], payload[what], strict=True):
            found.setdefault(int(i), {})[holder + 1] = int.from_bytes(as_bytes(share), "big")
    return found


def _seed(state: ServerState, number: int, shares: Mapping[int, int]) -> bytes | None:
    """The seed that shares of a site open; None where they open nothing that a site would share."""
    least = share_threshold(state.setup.settings, len(state.setup.sites))
    if len(shares) < least:
        raise _refused(
            f"too few shares of site '{state.setup.sites[number]}' are left",
            f"{len(shares)} of {least}",
            "more neighbours, or fewer shares as far as secrecy allows",
        )
    value = combine_shares(shares, least)
    return value.to_bytes(SEED_BYTES, "big") if value < 2 ** (8 * SEED_BYTES) else None


def _not_open(state: ServerState, number: int, what: str) -> RoundRefused:
    return _refused(
        f"shares do not open the {what} that site '{state.setup.sites[number]}' published",
        "it shared something else, or a neighbour sent a wrong share",
        "start the round again without it",
    )


_CLOSE: tuple[Callable[[ServerState], Answer], ...] = (
    _close_keys,
    _close_shares,
    _close_vectors,
    _close_agreement,
    _close_unmask,
)
