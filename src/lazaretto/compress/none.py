"""No compression: every number as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.compress._payload import names_are, values_of
from lazaretto.compress_types import Compressor, Payload, Public
from lazaretto.types import Float

__all__ = ["none"]


def none() -> Compressor:
    """Every number of the update as it is, 32 bits each.

    Linear, unbiased, exact. What the other schemes are measured against.

    >>> import numpy as np
    >>> from lazaretto.compress_types import Public
    >>> made = none()
    >>> sent = made.encode(np.float32([1.5, -2.0]), Public(0), np.random.default_rng(0))
    >>> made.decode(sent, Public(0), 2).tolist()
    [1.5, -2.0]
    """

    def encode(x: Float, public: Public, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        return {"values": x.copy()}

    def decode(payload: Payload, public: Public, m: int) -> Float:
        names_are(payload, "values")
        return values_of(payload, m).copy()

    return Compressor(
        name="none",
        encode=encode,
        decode=decode,
        left=lambda m, public: m,
        linear=True,
        shared_indices=True,
        unbiased=True,
        contraction=lambda m: 1.0,
        noise=0.0,
        lengths=lambda m, public: (np.ones(m), np.ones(m)),
        even=True,
    )
