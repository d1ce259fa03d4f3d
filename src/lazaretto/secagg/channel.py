"""Messages that nobody else could have written, and their arrays, checked where they come in.

Channels between parties are private (TLS, or a bus with keys per party); the tag keeps what is on the way
from being changed, invented, or sent again in another round by whoever carries it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import WireError
from lazaretto.types import Array, Message
from lazaretto.wire import encode_message

__all__ = ["array", "authentic", "letter", "names_of", "sealed", "text", "text_of"]

_TAG = "tag"
_LONGEST = 2**20


def sealed(message: Message, key: bytes) -> Message:
    """The message with a tag under the key that sender and receiver share (HMAC-SHA256, RFC 2104, 1997)."""
    tag = hmac.digest(key, encode_message(message), hashlib.sha256)
    return _with(message, {**message.payload, _TAG: np.frombuffer(tag, np.uint8)})


def authentic(message: Message, key: bytes) -> bool:
    """Whether the tag is that of this very message: parties, round, kind and arrays."""
    tag = message.payload.get(_TAG)
    if not isinstance(tag, np.ndarray) or tag.dtype != np.uint8 or tag.shape != (32,):
        return False
    bare = _with(message, {name: value for name, value in message.payload.items() if name != _TAG})
    try:
        expected = hmac.digest(key, encode_message(bare), hashlib.sha256)
    except WireError:
        return False
    return hmac.compare_digest(expected, tag.tobytes())


def letter(
    kind: str, sender: str, receiver: str, round_number: int, payload: Mapping[str, Array], link: str
) -> Message:
    """A message, not yet sealed."""
    return Message(
        kind=kind, link=link, sender=sender, receiver=receiver, round=round_number, payload=payload
    )


def array(message: Message, name: str, dtype: type[Any], shape: tuple[int | None, ...]) -> NDArray[Any]:
    """One array of a payload. Raises WireError unless it has the type and the shape (None: any size)."""
    value = message.payload.get(name)
    wanted = f"{np.dtype(dtype).name} {list(shape)}"
    if not isinstance(value, np.ndarray):
        raise WireError(f"'{message.kind}' of {message.sender} lacks '{name}'", way_out=wanted)
    fits = len(value.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, value.shape, strict=True)
    )
    if value.dtype != dtype or not fits:
        raise WireError(
            f"'{name}' in '{message.kind}' of {message.sender} has another type or shape",
            found=f"{value.dtype.name} {list(value.shape)}",
            way_out=wanted,
        )
    return value


def text_of(words: str) -> NDArray[np.uint8]:
    """A text as an array of bytes."""
    return np.frombuffer(words.encode(), np.uint8)


def text(message: Message, name: str) -> str:
    """A text of a payload, of at most 1 MiB. Raises WireError where it is none."""
    value = array(message, name, np.uint8, (None,))
    if value.size > _LONGEST:
        raise WireError(f"'{name}' of {message.sender} is too long", found=f"{value.size} bytes")
    try:
        return value.tobytes().decode()
    except UnicodeDecodeError as error:
        raise WireError(f"'{name}' of {message.sender} is no text", found=error) from error


def names_of(message: Message, name: str) -> tuple[str, ...]:
    """Lines of a text of a payload: names, or nothing."""
    words = text(message, name)
    return tuple(words.split("\n")) if words else ()


def _with(message: Message, payload: Mapping[str, Array]) -> Message:
    return letter(message.kind, message.sender, message.receiver, message.round, payload, message.link)
