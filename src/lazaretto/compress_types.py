"""What a compressor is: an update made short, and what came of it at the other end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazaretto.types import Float

__all__ = ["Compressor", "Payload", "Public"]

Payload: TypeAlias = Mapping[str, Any]  # name -> array, as it stands in the message


class Public(NamedTuple):
    """What everybody knows when a round's updates are sent.

    seed: of the round; it must be drawn after the sites' updates of earlier rounds, and is fresh each round.
    moved: [m] by how much the common model moved in the last round, or None before it ever did.
    """

    seed: int
    moved: Float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressor:
    """How an update [m] becomes a few small arrays, and those an update again. All of it without state.

    encode: (x [m] float32, finite, Public, generator) -> payload; a chain raises InputError where sums of x
        are too large for float32. Where `left` is given, the payload holds
        "values" [left(m, Public)] float32, which a compressor behind it in a chain may shorten further.
    decode: (payload, Public, m) -> [m] float32. It trusts nothing in the payload: InputError for a name, a
        type, a size, an index or a number that encode would not have written.
    left:   (m, Public) -> how many values it leaves; None where nothing can follow it.
    linear: encode(a·x + b·y) = a·encode(x) + b·encode(y) of the values, and the same of decode, for the same
        Public; the generator is not used. So values of several sites can be summed before anyone decodes.
    shared_indices: which coordinates are sent depends on Public alone, not on the update.
    unbiased: E decode(encode(x)) = x, over the generator and the public seed.
    feedback: whether a site keeps what was not sent and adds it to its next update.
    contraction: m -> δ in [0, 1] with E ‖x − decode(encode(x))‖² <= (1 − δ) ‖x‖² for every x; 0 promises
        nothing.
    noise:  ω >= 0 with E ‖x − decode(encode(x))‖² <= ω ‖x‖² where it is unbiased; infinite: not known.
    needs_moved: whether it reads `Public.moved`.
    lengths: (m, Public) -> how long decode makes each value of 1, and how long the row of the matrix that
        encode is, both [left]; decode sends values along those rows, which are at right angles. So
        inner products of decoded updates are those of values times the first, and of a decoded update and
        any row those of that and encode(row) over the second. None where it is not so.
    even:   whether neither of the two differs among values.
    """

    name: str
    encode: Callable[[Float, Public, np.random.Generator], dict[str, NDArray[Any]]]
    decode: Callable[[Payload, Public, int], Float]
    left: Callable[[int, Public], int] | None = None
    linear: bool = False
    shared_indices: bool = False
    unbiased: bool = False
    feedback: bool = False
    contraction: Callable[[int], float] = lambda m: 0.0
    noise: float = float("inf")
    needs_moved: bool = False
    lengths: Callable[[int, Public], tuple[NDArray[np.float64], NDArray[np.float64]]] | None = None
    even: bool = False
