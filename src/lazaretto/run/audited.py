"""What every audit of a run looks at, and the form of what it says."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lazaretto.cut import Cut
from lazaretto.data.streams import Streams, select, windows_of
from lazaretto.keys import generator, jax_key
from lazaretto.local import LocalTraining
from lazaretto.parameters import unravel_of
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.types import Float, Model

__all__ = ["Audited", "Found", "of_one_update", "said"]


class Audited(NamedTuple):
    """What is attacked. vector [d] as trained; data as the model reads them; rounds of the training.

    mechanism and epsilon: what is promised, of the training alone, at delta; None where nothing is. protocol:
    of the plan's secrecy, "none" where updates are seen. distributed: whether sites share their noise.
    crossed: whether the plan splits a model that can be split.
    """

    model: Model
    cut: Cut
    training: LocalTraining
    vector: Float
    data: Streams
    kinds: int
    rounds: int
    learning_rate: float
    mechanism: Mechanism | None
    epsilon: float | None
    delta: float
    seed: int
    protocol: str = "none"
    distributed: bool = False
    first: Float | None = None
    crossed: bool = True

    @property
    def split(self) -> bool:
        """Whether anything crosses a cut."""
        return self.crossed and self.model.split

    def first_params(self) -> Any:
        """Parameters before the first round: of the run's start, or drawn from its seed."""
        features = self.data.x.shape[2]
        if self.first is None:
            return self.model.init(jax_key(self.seed, "model"), features, self.kinds)
        return unravel_of(self.model, features, self.kinds)(jnp.asarray(self.first))

    def windows(self, split: int, most: int) -> Streams:
        """At most so many windows of a split, each by itself, drawn from the seed."""
        every = windows_of(select(self.data, self.data.split == split))
        rng = generator(self.seed, "audited windows", split)
        return select(every, np.sort(rng.permutation(len(every.y))[:most]))

    def params(self) -> Any:
        """The trained parameters."""
        return unravel_of(self.model, self.data.x.shape[2], self.kinds)(jnp.asarray(self.vector))


Found = dict[str, Any]


def of_one_update(audited: Audited) -> str:
    """What has to be said of an attack on an update that nobody sees, to end a sentence; else ""."""
    if audited.protocol == "none":
        return ""
    broken = f"; whoever does this has broken secure.protocol ({audited.protocol}), which hides an update"
    return broken + ", and found less noise on it than here" * audited.distributed


def said(name: str, measured: str, value: float, words: str, **more: Any) -> Found:
    """The body of an audit's record, without the seed and the seconds."""
    usual: Found = {"claimed_epsilon": None, "low": None, "high": None, "floor": None, "floor_words": ""}
    return {"name": name, "measured": measured, "value": float(value), "words": words} | usual | more
