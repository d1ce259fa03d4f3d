"""Sums of coordinates with signs: fewer numbers, and linear."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from lazaretto.compress._payload import count_kept, names_are, values_of
from lazaretto.compress_types import Compressor, Payload, Public
from lazaretto.keys import generator
from lazaretto.types import Float, Int

__all__ = ["count_sketch"]


def count_sketch(share: Annotated[float, Gt(0), Le(1)] = 0.1, feedback: bool = True) -> Compressor:
    """Sums of the coordinates in k buckets, with signs; buckets and signs from the round's public seed.

    k = max(1, round(share · m)); a permutation deals coordinates so that buckets hold ⌊m/k⌋ or ⌈m/k⌉. Linear:
    the sketch of a sum is the sum of the sketches. With feedback a coordinate comes back as its signed share
    of its bucket, a projection: E ‖x − C(x)‖² <= (1 − 1/⌈m/k⌉) ‖x‖², and what is missing is kept for later
    rounds. Without feedback the whole bucket comes back: unbiased, with up to ⌈m/k⌉ − 1 times ‖x‖² of noise.
    One row of buckets; heavy coordinates are not looked for. Charikar et al. 2002,
    https://doi.org/10.1007/3-540-45465-9_59; in federated learning: Rothchild et al. 2020,
    https://arxiv.org/abs/2007.07682.

    >>> import numpy as np
    >>> from lazaretto.compress_types import Public
    >>> made = count_sketch(share=0.5)
    >>> sent = made.encode(np.float32([1, 2, 3, 4]), Public(7), np.random.default_rng(0))
    >>> sent["values"].shape, made.decode(sent, Public(7), 4).shape
    ((2,), (4,))
    """

    def hashed(m: int, public: Public) -> tuple[Int, NDArray[np.float64], NDArray[np.float64]]:
        """Bucket [m] and sign [m] of each coordinate, how many each bucket holds [k]."""
        rng, k = generator(public.seed, "count_sketch", m), count_kept(share, m)
        bucket = np.empty(m, np.int64)
        bucket[rng.permutation(m)] = np.arange(m) % k
        sign = np.asarray(rng.integers(0, 2, m) * 2.0 - 1.0, np.float64)
        return bucket, sign, np.bincount(bucket, minlength=k).astype(np.float64)

    def encode(x: Float, public: Public, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        bucket, sign, load = hashed(x.size, public)
        return {"values": np.bincount(bucket, sign * x, minlength=load.size).astype(np.float32)}

    def decode(payload: Payload, public: Public, m: int) -> Float:
        names_are(payload, "values")
        values = values_of(payload, count_kept(share, m)).astype(np.float64)
        bucket, sign, load = hashed(m, public)
        mine = values / load if feedback else values
        return np.asarray(sign * mine[bucket], np.float32)

    def lengths(m: int, public: Public) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        root = np.sqrt(hashed(m, public)[2])
        return (1 / root if feedback else root), root

    return Compressor(
        name="count_sketch",
        encode=encode,
        decode=decode,
        left=lambda m, public: count_kept(share, m),
        linear=True,
        shared_indices=True,
        unbiased=not feedback,
        feedback=feedback,
        lengths=lengths,
        contraction=lambda m: 1 / -(-m // count_kept(share, m)) if feedback else 0.0,
    )
