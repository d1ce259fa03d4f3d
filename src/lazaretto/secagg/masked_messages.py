"""Messages of a masked sum: signed by who sends them, bound to their round, checked before anything is read.

Kinds, in order: "mask keys" and "all mask keys"; "mask shares" and "shares for you"; "masked vector" and
"survivors"; "agreement" and "all agreed"; "unmask shares". Sites send the first of each pair, the coordinator
answers with the second when a step is closed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from lazaretto.errors import WireError
from lazaretto.secagg.masked_keys import SIGNATURE_BYTES, sign, verifies
from lazaretto.secagg.masked_settings import COORDINATOR, Setup
from lazaretto.types import Array, Message
from lazaretto.wire import digest

__all__ = [
    "FROM_COORDINATOR",
    "FROM_SITES",
    "LINK",
    "as_bytes",
    "lists_text",
    "numbers",
    "opened",
    "rows",
    "signed_message",
    "site_list",
]

FROM_SITES = ("mask keys", "mask shares", "masked vector", "agreement", "unmask shares")
FROM_COORDINATOR = ("all mask keys", "shares for you", "survivors", "all agreed")
LINK: Final = "site-coordinator"


def _text(setup: Setup, message: Message) -> bytes:
    """What is signed: everything but the signature, with the session of the round."""
    payload = {name: message.payload[name] for name in sorted(message.payload) if name != "signature"}
    return digest(
        [setup.session, message.kind, message.sender, message.receiver, message.round, _bare(payload)]
    )


def _bare(payload: Mapping[str, Array]) -> dict[str, list[Any]]:
    """Arrays as dtype, shape and digest, so that a long one is not copied into a text first."""
    return {
        name: [str(array.dtype.str), list(array.shape), _digest_of(array)] for name, array in payload.items()
    }


def _digest_of(array: Array) -> bytes:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).data).digest()


def signed_message(
    setup: Setup, identity: bytes, kind: str, sender: str, receiver: str, payload: Mapping[str, Array]
) -> Message:
    """A message of this round with its signature under a private identity."""
    plain = Message(
        kind=kind, link=LINK, sender=sender, receiver=receiver, round=setup.round, payload=dict(payload)
    )
    signature = np.frombuffer(sign(identity, _text(setup, plain)), np.uint8)
    return replace(plain, payload={**payload, "signature": signature})


def opened(setup: Setup, message: Message, receiver: str, layout: Mapping[str, tuple[str, Any]]) -> bytes:
    """Checks a message that arrived; its digest, by which a second copy is known.

    layout: name of an array -> its dtype and its shape, None for a size that is free. Raises WireError for
    another link, receiver, round, sender, arrays, dtypes or shapes, and for a signature that is not the
    sender's.
    """
    where = f"'{message.kind}' from '{message.sender}'"
    if (message.link, message.receiver, message.round) != (LINK, receiver, setup.round):
        raise WireError(
            f"{where} is not for '{receiver}' in round {setup.round}",
            found=f"link {message.link}, to '{message.receiver}', round {message.round}",
        )
    if set(message.payload) != {*layout, "signature"}:
        raise WireError(f"{where} holds other arrays", found=sorted(message.payload))
    for name, (dtype, shape) in {**layout, "signature": ("|u1", (SIGNATURE_BYTES,))}.items():
        array = message.payload[name]
        found = (np.asarray(array).dtype.str, np.shape(array))
        fits = len(found[1]) == len(shape) and all(
            want in (None, size) for want, size in zip(shape, found[1], strict=True)
        )
        if found[0] != dtype or not fits:
            raise WireError(
                f"array '{name}' of {where} has another form", found=found, way_out=f"{dtype} {shape}"
            )
    public = _identity_of(setup, message.sender, where)
    text = _text(setup, message)
    if not verifies(public, as_bytes(message.payload["signature"]), text):
        raise WireError(
            f"the signature of {where} is not its sender's", way_out="drop it; it was forged or is old"
        )
    return text


def _identity_of(setup: Setup, sender: str, where: str) -> bytes:
    if sender == COORDINATOR:
        return setup.coordinator
    if sender not in setup.sites:
        raise WireError(f"{where} comes from nobody of this round")
    return setup.identities[setup.sites.index(sender)]


def lists_text(setup: Setup, lists: tuple[tuple[int, ...], ...]) -> bytes:
    """What survivors sign: who gave keys, who gave shares, who gave a masked vector."""
    return digest([setup.session, "agreement", [list(some) for some in lists]])


def numbers(array: Array, sites: int) -> tuple[int, ...]:
    """Numbers of sites, ascending and different, from an array [m]; WireError for any other."""
    found = tuple(int(i) for i in array)
    if list(found) != sorted(set(found)) or (found and not 0 <= found[0] <= found[-1] < sites):
        raise WireError("a list of sites is not ascending or names nobody", found=found[:5])
    return found


def as_bytes(array: Array) -> bytes:
    """The bytes of an array."""
    return np.ascontiguousarray(array).tobytes()


def rows(items: list[bytes], width: int) -> Array:
    """[m, width] uint8 of m strings of bytes."""
    return np.frombuffer(b"".join(items), np.uint8).reshape(len(items), width)


def site_list(items: tuple[int, ...]) -> Array:
    """[m] "<i4" numbers of sites."""
    return np.array(items, "<i4")
