"""The coordinates in which the common model moved most in the last round; the same ones at every site."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from lazaretto.compress._indices import largest
from lazaretto.compress._payload import count_kept, names_are, scattered, values_of
from lazaretto.compress_types import Compressor, Payload, Public
from lazaretto.keys import generator
from lazaretto.types import Float, Int

__all__ = ["top_k_previous"]


def top_k_previous(
    share: Annotated[float, Gt(0), Le(1)] = 0.1, explore: Annotated[float, Ge(0), Lt(1)] = 0.2
) -> Compressor:
    """The coordinates in which the common model moved most in the last round, and a few drawn ones.

    k = max(1, round(share · m)), of which round(explore · k) are drawn from the round's public seed among
    the others, so that places can move. Every site finds the same k from what all know: no index is sent,
    none tells of a site, and the values are linear in the update. Where the model has not moved yet (the
    first round, or after one that changed nothing) all m coordinates are sent. What was not sent is kept for
    later rounds; without exploration parts of it would never be sent. Promises no contraction: the last
    round says nothing certain of this one. Each site must have seen the last two models. After top-k with
    error feedback, Stich et al. 2018, https://arxiv.org/abs/1809.07599, with the aggregate's places as in
    Chen et al. 2020 (regular top-k at the server), https://arxiv.org/abs/2008.08883.

    >>> import numpy as np
    >>> from lazaretto.compress_types import Public
    >>> made = top_k_previous(share=0.5, explore=0.0)
    >>> public = Public(0, np.float32([5, 0, 0, -6]))
    >>> sent = made.encode(np.float32([1, 2, 3, 4]), public, np.random.default_rng(0))
    >>> made.decode(sent, public, 4).tolist()
    [1.0, 0.0, 0.0, 4.0]
    """

    def still(public: Public) -> bool:
        return public.moved is None or not public.moved.any()

    def left(m: int, public: Public) -> int:
        return m if still(public) else count_kept(share, m)

    def places(m: int, public: Public) -> Int:
        if public.moved is None or still(public):
            return np.arange(m)
        k = count_kept(share, m)
        drawn = min(round(explore * k), m - 1)
        first = largest(public.moved, k - drawn)
        others = np.setdiff1d(np.arange(m), first, assume_unique=True)
        rng = generator(public.seed, "top_k_previous", m)
        return np.sort(np.concatenate([first, rng.choice(others, drawn, replace=False)]))

    def encode(x: Float, public: Public, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        return {"values": x[places(x.size, public)]}

    def decode(payload: Payload, public: Public, m: int) -> Float:
        names_are(payload, "values")
        return scattered(values_of(payload, left(m, public)), places(m, public), m)

    return Compressor(
        name="top_k_previous",
        encode=encode,
        decode=decode,
        left=left,
        linear=True,
        shared_indices=True,
        feedback=True,
        needs_moved=True,
        lengths=lambda m, public: (np.ones(left(m, public)), np.ones(left(m, public))),
        even=True,
    )
