"""The largest coordinates of each site's own update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from lazaretto.compress._indices import largest, places_of, written
from lazaretto.compress._payload import count_kept, names_are, scattered, values_of
from lazaretto.compress_types import Compressor, Payload, Public
from lazaretto.types import Float

__all__ = ["top_k"]


def top_k(share: Annotated[float, Gt(0), Le(1)] = 0.1) -> Compressor:
    """The largest coordinates of each site's update, with their places; the rest is kept for later rounds.

    k = max(1, round(share · m)), by size, the first of equal ones. Places go as gaps of one byte, or as one
    bit for each coordinate where that is shorter. ‖x − C(x)‖² <= (1 − k/m) ‖x‖² for every x. Not linear:
    each site chooses its own, and which it chose tells of its data, so not under secrecy. Stich et al. 2018,
    https://arxiv.org/abs/1809.07599; error feedback: Karimireddy et al. 2019,
    https://arxiv.org/abs/1901.09847.

    >>> import numpy as np
    >>> from lazaretto.compress_types import Public
    >>> made = top_k(share=0.5)
    >>> sent = made.encode(np.float32([1, -9, 3, 2]), Public(0), np.random.default_rng(0))
    >>> made.decode(sent, Public(0), 4).tolist()
    [0.0, -9.0, 3.0, 0.0]
    """

    def encode(x: Float, public: Public, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        places = largest(x, count_kept(share, x.size))
        return {"values": x[places], **written(places, x.size)}

    def decode(payload: Payload, public: Public, m: int) -> Float:
        name = "bits" if isinstance(payload, Mapping) and "bits" in payload else "gaps"
        names_are(payload, "values", name)
        k = count_kept(share, m)
        return scattered(values_of(payload, k), places_of(payload, name, k, m), m)

    return Compressor(
        name="top_k",
        encode=encode,
        decode=decode,
        left=lambda m, public: count_kept(share, m),
        feedback=True,
        contraction=lambda m: count_kept(share, m) / m,
    )
