"""Coordinates drawn anew in each round, the same ones at every site."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from lazaretto.compress._payload import count_kept, names_are, scattered, values_of
from lazaretto.compress_types import Compressor, Payload, Public
from lazaretto.errors import InputError
from lazaretto.keys import generator
from lazaretto.types import Float, Int

__all__ = ["random_k"]


def random_k(share: Annotated[float, Gt(0), Le(1)] = 0.1, feedback: bool = True) -> Compressor:
    """A share of the coordinates, drawn from the round's public seed; the same ones at every site.

    k = max(1, round(share · m)). Linear, so sums of several sites can be taken before anyone decodes; no
    index is sent. With feedback the values come as they are, and what was not sent is kept for later rounds:
    E ‖x − C(x)‖² = (1 − k/m) ‖x‖². Without it they are scaled by m/k and unbiased, with m/k − 1 times ‖x‖² of
    noise. Stich et al. 2018, https://arxiv.org/abs/1809.07599; Konečný et al. 2016,
    https://arxiv.org/abs/1610.05492.

    >>> import numpy as np
    >>> from lazaretto.compress_types import Public
    >>> made = random_k(share=0.5)
    >>> sent = made.encode(np.float32([1, 2, 3, 4]), Public(7), np.random.default_rng(0))
    >>> sent["values"].shape, int(np.count_nonzero(made.decode(sent, Public(7), 4)))
    ((2,), 2)
    """

    def places(m: int, public: Public) -> Int:
        rng = generator(public.seed, "random_k", m)
        return np.sort(rng.choice(m, count_kept(share, m), replace=False))

    def scale(m: int) -> np.float32:
        return np.float32(1.0 if feedback else m / count_kept(share, m))

    def encode(x: Float, public: Public, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        return {"values": x[places(x.size, public)]}

    def decode(payload: Payload, public: Public, m: int) -> Float:
        names_are(payload, "values")
        values = values_of(payload, count_kept(share, m))
        with np.errstate(over="ignore"):
            scaled = values * scale(m)
        if not np.isfinite(scaled).all():
            raise InputError("a compressed update is too large", found=float(np.abs(values).max()))
        return scattered(scaled, places(m, public), m)

    return Compressor(
        name="random_k",
        encode=encode,
        decode=decode,
        left=lambda m, public: count_kept(share, m),
        linear=True,
        shared_indices=True,
        unbiased=not feedback,
        feedback=feedback,
        contraction=lambda m: count_kept(share, m) / m if feedback else 0.0,
        lengths=lambda m, public: (np.full(kept := count_kept(share, m), float(scale(m))), np.ones(kept)),
        even=True,
    )
