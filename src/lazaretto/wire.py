"""Canonical bytes: one value, one string of bytes, and nothing else is accepted back.

The format is MessagePack restricted so that equal values have equal bytes: map keys are strings in
sorted order, integers and lengths take their shortest form, floats are 64 bits and finite, there are
no extension types. A NumPy array is the map `{"__array__": [dtype, shape, bytes]}` with little-endian
data. `decode` refuses whatever `encode` would not have written, so a digest names one value only.
Specification: MessagePack, 2013 revision, https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, cast

import msgpack
import numpy as np

from lazaretto.errors import WireError
from lazaretto.types import Message

__all__ = [
    "DTYPES",
    "LINKS",
    "MAX_BYTES",
    "MAX_DEPTH",
    "decode",
    "decode_message",
    "digest",
    "encode",
    "encode_message",
    "measure",
    "message_bytes",
]

MAX_BYTES = 256 * 2**20
MAX_DEPTH = 32
DTYPES = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
# between whom a message passes; the last three are those of secret sharing
LINKS = (
    "device-site",
    "site-coordinator",
    "site-aggregator",
    "aggregator-aggregator",
    "aggregator-coordinator",
)

_MARK = "__array__"
_MAX_RANK = 8
_MAX_ITEMS = 2**21  # values in one message or record: an array is five, and one for each axis
_FIELDS = {"kind": str, "link": str, "sender": str, "receiver": str, "round": int, "payload": dict}


def encode(value: Any) -> bytes:
    """Canonical bytes of a value.

    Takes None, bool, int (64 bits), finite float, str, bytes, lists or tuples (a tuple comes back as a
    list), maps with string keys, and arrays whose dtype is in `DTYPES` and whose entries are finite.
    Raises WireError for anything else, and for more than two million values: numbers go into arrays.
    """
    try:
        plain = _plain(value, 0)
        packed = cast("bytes", msgpack.packb(plain, use_bin_type=True))
    except (OverflowError, UnicodeEncodeError, ValueError) as error:
        raise WireError("a value has no canonical bytes", found=error) from error
    if len(packed) > _MAX_ITEMS and _values(plain) > _MAX_ITEMS:  # each takes a byte at least
        raise _too_many()
    return packed


def decode(data: bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """The value whose canonical bytes are `data`; arrays are read-only views of a copy.

    Raises WireError if `data` is larger than `max_bytes`, truncated, followed by other bytes, nested
    deeper than `MAX_DEPTH`, of more than two million values, or is not exactly what `encode` writes for the
    value that it holds.
    """
    if len(data) > max_bytes:
        raise WireError("too many bytes", found=len(data), way_out=f"at most {max_bytes}")
    data = bytes(data)
    # Containers are opened one by one: a header that claims a billion entries allocates nothing.
    reader = msgpack.Unpacker(
        raw=False, strict_map_key=True, max_buffer_size=max(len(data), 1), ext_hook=_no_extension
    )
    reader.feed(data)
    try:
        value = _read(reader, data, 0, [_MAX_ITEMS])
    except msgpack.OutOfData as error:
        raise WireError("bytes end too early", found=f"{len(data)} bytes") from error
    except (msgpack.UnpackException, ValueError) as error:
        raise WireError("bytes are not a message of ours", found=error) from error
    if reader.tell() != len(data):
        raise WireError("bytes follow the value", found=f"{len(data) - reader.tell()} bytes")
    if encode(value) != data:
        raise WireError("bytes are not canonical", way_out="write them with lazaretto.wire.encode")
    return value


def digest(value: Any) -> bytes:
    """SHA-256 of the canonical bytes, 32 bytes."""
    return hashlib.sha256(encode(value)).digest()


def measure(value: Any) -> int:
    """`len(encode(value))` without writing it; of an array only `dtype` and `shape` are read.

    So a compiled program may be measured by its `jax.ShapeDtypeStruct`s. Entries are not looked at.
    """
    return _measure(value, 0)


def encode_message(message: Message) -> bytes:
    """Canonical bytes of a message, envelope included. Raises WireError if it has none."""
    return encode(_envelope(message))


def decode_message(data: bytes, *, max_bytes: int = MAX_BYTES) -> Message:
    """The message whose bytes are `data`. Raises WireError as `decode` does, or for a wrong envelope."""
    value = decode(data, max_bytes=max_bytes)
    if not isinstance(value, dict) or set(value) != set(_FIELDS):
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise WireError("a message has other fields", found=found, way_out=f"exactly: {', '.join(_FIELDS)}")
    for name, kind in _FIELDS.items():
        if not isinstance(value[name], kind) or isinstance(value[name], bool):
            raise WireError(
                f"field '{name}' of a message has another type",
                found=type(value[name]).__name__,
                way_out=f"a value of type {kind.__name__}",
            )
    if value["link"] not in LINKS:
        raise WireError(
            "unknown link of a message", found=value["link"], way_out=f"one of: {', '.join(LINKS)}"
        )
    if value["round"] < 0:
        raise WireError("round of a message is negative", found=value["round"], way_out="0 or more")
    for name, array in value["payload"].items():
        if not isinstance(array, np.ndarray):
            raise WireError(f"payload '{name}' is not an array", found=type(array).__name__)
    return Message(
        kind=value["kind"],
        link=value["link"],
        sender=value["sender"],
        receiver=value["receiver"],
        round=value["round"],
        payload=value["payload"],
    )


def message_bytes(message: Message) -> int:
    """`len(encode_message(message))`, computed from shapes and dtypes alone."""
    return measure(_envelope(message))


def _envelope(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in _FIELDS}


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, np.generic)


def _dtype_text(dtype: Any) -> str:
    try:
        text = str(np.dtype(dtype).newbyteorder("<").str)
    except TypeError as error:
        raise WireError("an array's dtype cannot be sent", found=dtype) from error
    if text not in DTYPES:
        raise WireError(
            "an array's dtype cannot be sent", found=dtype, way_out=f"one of: {', '.join(DTYPES)}"
        )
    return text


def _keys(value: Mapping[Any, Any]) -> list[str]:
    for key in value:
        if not isinstance(key, str):
            raise WireError("a map's keys must be strings", found=repr(key))
        if key == _MARK:
            raise WireError(f"a map may not use the key '{_MARK}'", way_out="give the array itself")
    return sorted(value)


def _deeper(depth: int) -> int:
    """One level further in. An array counts as the three levels that it takes on the wire."""
    if depth >= MAX_DEPTH:
        raise WireError("a value is nested too deep", way_out=f"at most {MAX_DEPTH} levels")
    return depth + 1


def _plain(value: Any, depth: int) -> Any:
    """The same value out of types that MessagePack knows, maps sorted."""
    if value is None or isinstance(value, bool | str | bytes):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), depth)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise WireError("a number is not finite", found=value, way_out="use None for what cannot be had")
        return float(value)
    if isinstance(value, Mapping):
        inner = _deeper(depth)
        return {key: _plain(value[key], inner) for key in _keys(value)}
    if isinstance(value, list | tuple):
        inner = _deeper(depth)
        return [_plain(entry, inner) for entry in value]
    if _is_array(value):
        _deeper(depth + 2)
        return _plain_array(value)
    raise WireError("a value of this type cannot be sent", found=type(value).__name__)


def _plain_array(value: Any) -> dict[str, Any]:
    text = _dtype_text(value.dtype)
    array = np.asarray(value)
    if array.ndim > _MAX_RANK:
        raise WireError("an array has too many axes", found=array.ndim, way_out=f"at most {_MAX_RANK}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WireError("an array holds NaN or infinity", found=f"shape {array.shape}")
    return {_MARK: [text, list(array.shape), array.astype(text, copy=False).tobytes()]}


def _too_many() -> WireError:
    return WireError(
        "there are too many values", found=f"more than {_MAX_ITEMS}", way_out="numbers go into arrays"
    )


def _values(plain: Any) -> int:
    """How many values `_read` meets in what is packed."""
    if isinstance(plain, dict):
        return 1 + sum(map(_values, plain.values()))
    return 1 + sum(map(_values, plain)) if isinstance(plain, list) else 1


def _no_extension(code: int, data: bytes) -> Any:
    raise WireError("extension types are not allowed", found=f"type {code}, {len(data)} bytes")


def _first(reader: Any, data: bytes) -> int:
    position: int = reader.tell()
    if position >= len(data):
        raise WireError("bytes end too early", found=f"{len(data)} bytes")
    return data[position]


def _read(reader: Any, data: bytes, depth: int, room: list[int]) -> Any:
    """room: how many values more there may be, counted down: a byte can be a container of a hundred."""
    first = _first(reader, data)
    room[0] -= 1
    if room[0] < 0:
        raise _too_many()
    if 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
        inner = _deeper(depth)
        return [_read(reader, data, inner, room) for _ in range(reader.read_array_header())]
    if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
        return _read_map(reader, data, depth, room)
    if 0xC7 <= first <= 0xC9 or 0xD4 <= first <= 0xD8:
        raise WireError("extension types are not allowed", found=f"byte 0x{first:02x}")
    value = reader.unpack()
    if isinstance(value, float) and not math.isfinite(value):
        raise WireError("a number is not finite", found=value)
    return value


def _read_map(reader: Any, data: bytes, depth: int, room: list[int]) -> Any:
    inner, found = _deeper(depth), {}
    size = reader.read_map_header()
    for _ in range(size):
        first = _first(reader, data)
        if not (0xA0 <= first <= 0xBF or 0xD9 <= first <= 0xDB):
            raise WireError("a map's keys must be strings", found=f"byte 0x{first:02x}")
        key = reader.unpack()
        if key in found:
            raise WireError("a key stands twice in a map", found=key)
        found[key] = _read(reader, data, inner, room)
    if _MARK not in found:
        return found
    if size != 1:
        raise WireError("an array has further keys", found=sorted(found))
    return _array(found[_MARK])


def _array(parts: Any) -> np.ndarray[Any, Any]:
    if not (isinstance(parts, list) and len(parts) == 3):
        raise WireError("an array needs dtype, shape and data", found=type(parts).__name__)
    text, shape, raw = parts
    if not (isinstance(text, str) and text in DTYPES):
        raise WireError("an array's dtype is not allowed", found=text, way_out=f"one of: {', '.join(DTYPES)}")
    if not (isinstance(shape, list) and len(shape) <= _MAX_RANK):
        raise WireError("an array's shape is not a short list", found=shape)
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**40 for n in shape):
        raise WireError("an array's shape is not of sizes", found=shape)
    size = np.dtype(text).itemsize * math.prod(shape)
    if not isinstance(raw, bytes) or len(raw) != size:
        raise WireError(
            "an array's data does not fit its shape",
            found=f"{len(raw)} bytes" if isinstance(raw, bytes) else type(raw).__name__,
            way_out=f"{size} bytes for {text} {shape}",
        )
    if text == "|b1" and raw.strip(b"\x00\x01"):
        raise WireError("a boolean array holds other bytes than 0 and 1")
    array = np.frombuffer(raw, dtype=text).reshape(shape)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WireError("an array holds NaN or infinity", found=f"shape {shape}")
    return array


def _measure(value: Any, depth: int) -> int:
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, str):
        return _head(len(value.encode()), 31, has_byte_form=True) + len(value.encode())
    if isinstance(value, bytes):
        return _head(len(value), -1, has_byte_form=True) + len(value)
    if isinstance(value, np.generic):
        return _measure(value.item(), depth)
    if isinstance(value, int):
        return _measure_int(value)
    if isinstance(value, float):
        return 9
    if isinstance(value, Mapping):
        inner = _deeper(depth)
        entries = sum(_measure(key, inner) + _measure(value[key], inner) for key in _keys(value))
        return _head(len(value), 15) + entries
    if isinstance(value, list | tuple):
        inner = _deeper(depth)
        return _head(len(value), 15) + sum(_measure(entry, inner) for entry in value)
    if _is_array(value):
        _deeper(depth + 2)
        text, shape = _dtype_text(value.dtype), [int(n) for n in value.shape]
        size = int(np.dtype(text).itemsize) * math.prod(shape)
        frame = 1 + _measure(_MARK, 0) + 1 + _measure(text, 0) + _measure(shape, 0)
        return frame + _head(size, -1, has_byte_form=True) + size
    raise WireError("a value of this type cannot be sent", found=type(value).__name__)


def _measure_int(value: int) -> int:
    if -32 <= value < 128:
        return 1
    for bits in (8, 16, 32, 64):
        if -(2 ** (bits - 1)) <= value < 2**bits:
            return 1 + bits // 8
    raise WireError("an integer does not fit 64 bits", found=value)


def _head(length: int, short: int, *, has_byte_form: bool = False) -> int:
    """Bytes before the content: 1, or 1 + 1, 2 or 4 for the length."""
    if length <= short:
        return 1
    if has_byte_form and length < 2**8:
        return 2
    if length < 2**16:
        return 3
    if length < 2**32:
        return 5
    raise WireError("a value is too long", found=f"{length} entries")
