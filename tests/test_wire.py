"""Canonical bytes: round trips, hostile bytes, and golden bytes worked out from the specification."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lazaretto import wire
from lazaretto.errors import WireError
from lazaretto.types import Message

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    | st.binary(max_size=300)
)
ARRAYS = st.sampled_from(wire.DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype=dtype,
        shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        elements={"allow_nan": False, "allow_infinity": False} if np.dtype(dtype).kind == "f" else None,
    )
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(lambda key: key != "__array__")
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(KEYS, inner, max_size=20),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value, type, dtype and shape; 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    return bool(one == other)


@given(VALUES)
def test_round_trip(value: Any) -> None:
    data = wire.encode(value)
    assert same(wire.decode(data), value)
    assert wire.measure(value) == len(data)


@given(st.dictionaries(KEYS, SCALARS, min_size=2, max_size=8))
def test_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert wire.encode(backwards) == wire.encode(value)


@given(VALUES, VALUES)
def test_one_value_one_string_of_bytes(one: Any, other: Any) -> None:
    assert (wire.encode(one) == wire.encode(other)) == same(one, other)
    assert (wire.digest(one) == wire.digest(other)) == same(one, other)


@given(st.binary(max_size=200))
def test_any_bytes_are_canonical_or_refused(data: bytes) -> None:
    try:
        value = wire.decode(data)
    except WireError:
        return
    assert wire.encode(value) == data


@given(VALUES, st.data())
def test_changed_bytes_are_another_value_or_refused(value: Any, data: st.DataObject) -> None:
    original = wire.encode(value)
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] ^= data.draw(st.integers(1, 255))
    try:
        other = wire.decode(bytes(changed))
    except WireError:
        return
    assert wire.encode(other) == bytes(changed)
    assert same(other, value) == (bytes(changed) == original)


@given(VALUES, st.data())
def test_cut_bytes_are_refused(value: Any, data: st.DataObject) -> None:
    original = wire.encode(value)
    with pytest.raises(WireError):
        wire.decode(original[: data.draw(st.integers(0, len(original) - 1))])
    with pytest.raises(WireError, match="bytes follow"):
        wire.decode(original + b"\x00")


# Expected bytes: by hand from the format table of the MessagePack specification (spec.md, "Formats");
# floats by IEEE 754 binary64 big-endian.
GOLDEN = [
    (None, "c0"),
    (False, "c2"),
    (True, "c3"),
    (0, "00"),
    (127, "7f"),
    (128, "cc80"),
    (255, "ccff"),
    (256, "cd0100"),
    (65536, "ce00010000"),
    (2**32, "cf0000000100000000"),
    (2**64 - 1, "cfffffffffffffffff"),
    (-1, "ff"),
    (-32, "e0"),
    (-33, "d0df"),
    (-129, "d1ff7f"),
    (-32769, "d2ffff7fff"),
    (-(2**31) - 1, "d3ffffffff7fffffff"),
    (-(2**63), "d38000000000000000"),
    (1.0, "cb3ff0000000000000"),
    (-0.0, "cb8000000000000000"),
    (1.5, "cb3ff8000000000000"),
    ("", "a0"),
    ("a", "a161"),
    ("é", "a2c3a9"),
    ("a" * 31, "bf" + "61" * 31),
    ("a" * 32, "d920" + "61" * 32),
    ("a" * 256, "da0100" + "61" * 256),
    (b"", "c400"),
    (b"\x00\xff", "c40200ff"),
    (b"\x01" * 256, "c50100" + "01" * 256),
    ([], "90"),
    ([1, [2]], "92019102"),
    ([0] * 16, "dc0010" + "00" * 16),
    ({}, "80"),
    ({"b": 2, "a": 1}, "82a16101a16202"),
    (
        {f"{i:02d}": 0 for i in range(16)},
        "de0010" + "".join(f"a2{f'{i:02d}'.encode().hex()}00" for i in range(16)),
    ),
    # {"__array__": ["<f4", [2], 1.0 and -2.0 as IEEE 754 binary32 little-endian]}
    (
        np.array([1.0, -2.0], dtype=np.float32),
        "81a9" + b"__array__".hex() + "93a3" + b"<f4".hex() + "9102c408" + "0000803f" + "000000c0",
    ),
    (np.array(7, dtype=np.uint8), "81a9" + b"__array__".hex() + "93a3" + b"|u1".hex() + "90c401" + "07"),
]


@pytest.mark.parametrize(("value", "expected"), GOLDEN, ids=range(len(GOLDEN)))
def test_golden_bytes(value: Any, expected: str) -> None:
    assert wire.encode(value).hex() == expected
    assert same(wire.decode(bytes.fromhex(expected)), value)
    assert wire.digest(value) == hashlib.sha256(bytes.fromhex(expected)).digest()


ARRAY = "81a9" + b"__array__".hex()
HOSTILE = {
    "nothing": ("", "too early"),
    "a float of 32 bits": ("ca3f800000", "not canonical"),
    "an integer too long": ("cc01", "not canonical"),
    "an integer far too long": ("cf0000000000000001", "not canonical"),
    "a string too long in form": ("d90161", "not canonical"),
    "an array header too long in form": ("dc000101", "not canonical"),
    "keys out of order": ("82a16201a16101", "not canonical"),
    "a key twice": ("82a16101a16102", "twice"),
    "a number as key": ("810101", "keys must be strings"),
    "a list as key": ("819001", "keys must be strings"),
    "bytes as key": ("81c4016101", "keys must be strings"),
    "not UTF-8": ("a1ff", "not a message"),
    "the unused byte": ("c1", "not a message"),
    "a timestamp": ("d6ff00000000", "extension"),
    "an extension": ("c70105ff", "extension"),
    "NaN": ("cb7ff8000000000000", "not finite"),
    "infinity": ("cb7ff0000000000000", "not finite"),
    "a billion entries": ("dd3b9aca00", "too early"),
    "a billion entries of a map": ("df3b9aca00", "too early"),
    "four gigabytes of bytes": ("c6ffffffff00", "too early"),
    "nested": ("91" * 5000, "too deep"),
    "nested maps": ("81a161" * 5000, "too deep"),
    "an array of objects": (
        ARRAY + "93a3" + b"|O8".hex() + "9101c40800000000" + "00000000",
        "dtype is not allowed",
    ),
    "an array of strings": (ARRAY + "93a3" + b"<U1".hex() + "9101c40400000000", "dtype is not allowed"),
    "a big-endian array": (ARRAY + "93a3" + b">f4".hex() + "9101c40400000000", "dtype is not allowed"),
    "an array without dtype": (ARRAY + "9201c40400000000", "needs dtype"),
    "an array that is no list": (ARRAY + "01", "needs dtype"),
    "an array with a further key": ("82a9" + b"__array__".hex() + "90a17a01", "further keys"),
    "a shape that is no list": (ARRAY + "93a3" + b"<f4".hex() + "01c40400000000", "not a short list"),
    "a shape of nine axes": (
        ARRAY + "93a3" + b"<f4".hex() + "99" + "01" * 9 + "c40400000000",
        "not a short list",
    ),
    "a negative size": (ARRAY + "93a3" + b"<f4".hex() + "91ffc40400000000", "not of sizes"),
    "a size that is true": (ARRAY + "93a3" + b"<f4".hex() + "91c3c40400000000", "not of sizes"),
    "a shape beyond its data": (ARRAY + "93a3" + b"<f4".hex() + "91ce7fffffffc40400000000", "does not fit"),
    "data as text": (ARRAY + "93a3" + b"|u1".hex() + "9101a161", "does not fit"),
    "NaN in an array": (ARRAY + "93a3" + b"<f4".hex() + "9101c4040000c07f", "NaN or infinity"),
    "a boolean that is 2": (ARRAY + "93a3" + b"|b1".hex() + "9101c40102", "other bytes"),
}


@pytest.mark.parametrize(("data", "says"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes(data: str, says: str) -> None:
    with pytest.raises(WireError, match=says):
        wire.decode(bytes.fromhex(data))


UNSENDABLE = {
    "NaN": (float("nan"), "not finite"),
    "infinity": ([float("-inf")], "not finite"),
    "a number as key": ({1: 2}, "keys must be strings"),
    "our own mark": ({"__array__": 1}, "may not use"),
    "a set": ({1, 2}, "cannot be sent"),
    "an object": (object(), "cannot be sent"),
    "a function": (len, "cannot be sent"),
    "an array of objects": (np.array([None]), "dtype cannot be sent"),
    "an array of text": (np.array(["a"]), "dtype cannot be sent"),
    "a complex array": (np.array([1j]), "dtype cannot be sent"),
    "NaN in an array": (np.array([np.nan]), "NaN or infinity"),
    "an integer of 65 bits": (2**64, "no canonical bytes"),
    "half a character": ("\ud800", "no canonical bytes"),
}


@pytest.mark.parametrize(("value", "says"), UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_cannot_be_sent(value: Any, says: str) -> None:
    with pytest.raises(WireError, match=says):
        wire.encode(value)


def nested(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = [inner]
    return inner


@pytest.mark.parametrize("inner", [0, [], {}, np.zeros(2)], ids=["number", "list", "map", "array"])
def test_depth_is_counted_alike_by_all_three(inner: Any) -> None:
    own = {"int": 0, "list": 1, "dict": 1, "ndarray": 3}[type(inner).__name__]
    deepest = nested(wire.MAX_DEPTH - own, inner)
    data = wire.encode(deepest)
    assert same(wire.decode(data), deepest)
    assert wire.measure(deepest) == len(data)
    deeper = [deepest]
    for function in (wire.encode, wire.measure):
        with pytest.raises(WireError, match="too deep"):
            function(deeper)
    with pytest.raises(WireError, match="too deep"):
        wire.decode(b"\x91" + data)


def test_limit_of_bytes() -> None:
    data = wire.encode(b"x" * 100)
    assert wire.decode(data, max_bytes=len(data)) == b"x" * 100
    with pytest.raises(WireError, match="too many bytes"):
        wire.decode(data, max_bytes=len(data) - 1)


def test_arrays_of_other_layouts_have_the_same_bytes() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    for other in (np.asfortranarray(array), array.astype(">f4"), array[:, :], jax.numpy.asarray(array)):
        assert wire.encode(other) == wire.encode(array)
    assert wire.encode(array.T) != wire.encode(array)
    assert wire.encode(np.float32(1.5)) == wire.encode(1.5)
    assert wire.encode((1, 2)) == wire.encode([1, 2])


MESSAGE = Message(
    kind="update",
    link="site-coordinator",
    sender="site 1",
    receiver="coordinator",
    round=3,
    payload={"weights": np.linspace(0, 1, 70_000, dtype=np.float32), "steps": np.array(12)},
)


def test_message_round_trip() -> None:
    data = wire.encode_message(MESSAGE)
    back = wire.decode_message(data)
    assert (back.kind, back.link, back.sender, back.receiver, back.round) == (
        "update",
        "site-coordinator",
        "site 1",
        "coordinator",
        3,
    )
    assert same(dict(back.payload), dict(MESSAGE.payload))
    assert wire.message_bytes(MESSAGE) == len(data)


def test_message_is_measured_by_shapes_alone() -> None:
    shapes = {
        "weights": jax.ShapeDtypeStruct((70_000,), np.float32),
        "steps": jax.ShapeDtypeStruct((), np.int64),
    }
    sketch = Message(**{name: getattr(MESSAGE, name) for name in MESSAGE.__slots__} | {"payload": shapes})
    assert wire.message_bytes(sketch) == len(wire.encode_message(MESSAGE))


ENVELOPE: dict[str, Any] = {
    "kind": "k",
    "link": "device-site",
    "sender": "a",
    "receiver": "b",
    "round": 0,
    "payload": {"h": np.zeros(3)},
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"link": "site-moon"}, "unknown link"),
        ({"round": -1}, "negative"),
        ({"round": True}, "another type"),
        ({"kind": 3}, "another type"),
        ({"payload": [1]}, "another type"),
        ({"payload": {"h": 1.0}}, "not an array"),
        ({"extra": 1}, "other fields"),
    ],
)
def test_wrong_envelopes(change: dict[str, Any], says: str) -> None:
    assert wire.decode_message(wire.encode(ENVELOPE)).kind == "k"
    with pytest.raises(WireError, match=says):
        wire.decode_message(wire.encode(ENVELOPE | change))


def test_a_value_that_is_no_message() -> None:
    with pytest.raises(WireError, match="other fields"):
        wire.decode_message(wire.encode([1]))


def test_small_containers_without_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte on the wire may be a dictionary of a hundred: what counts is how many values there are."""
    monkeypatch.setattr(wire, "_MAX_ITEMS", 1000)
    array = np.zeros((2, 3))  # five values and one for each axis
    most: tuple[Any, ...] = ([{}] * 999, [{"a": []}] * 499 + [0], [array] * 142 + [0] * 5)
    for value in most:
        assert same(wire.decode(wire.encode(value)), value)
    for value in most:
        more = [*value, 0]
        with pytest.raises(WireError, match="too many values"):
            wire.encode(more)
        with monkeypatch.context() as wider:
            wider.setattr(wire, "_MAX_ITEMS", 1001)
            data = wire.encode(more)
        with pytest.raises(WireError, match="too many values"):
            wire.decode(data)
