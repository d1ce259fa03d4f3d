"""What is tried for each system: distributions of its settings, and draws from them.

Random search (Bergstra, Bengio 2012, https://jmlr.org/papers/v13/bergstra12a.html): every setting
of a draw is new, so that no budget is lost on settings that do not matter. The distributions stand here,
in one table, and are no choice of who runs the sweep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from lazaretto.keys import generator

__all__ = ["SPACES", "Choice", "LogUniform", "Uniform", "draw_settings"]


@dataclass(frozen=True, slots=True)
class LogUniform:
    """Between low and high, every factor as likely as any other; `whole` rounds to whole numbers."""

    low: float
    high: float
    whole: bool = False

    def draw(self, rng: np.random.Generator) -> float | int:
        """One value; numbers that are not whole have three digits, so that a plan can be read."""
        value = float(np.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return round(value) if self.whole else float(f"{value:.3g}")


@dataclass(frozen=True, slots=True)
class Uniform:
    """Between low and high."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """One value, of three digits."""
        return float(f"{rng.uniform(self.low, self.high):.3g}")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values, each as likely."""

    values: tuple[int, ...]

    def draw(self, rng: np.random.Generator) -> int:
        """One of them."""
        return int(rng.choice(self.values))


Distribution: TypeAlias = LogUniform | Uniform | Choice
Space: TypeAlias = Mapping[str, Distribution]

_NETWORK: Space = {
    "learning_rate": LogUniform(0.001, 0.03),
    "weight_decay": LogUniform(0.001, 0.3),
    "level_noise": LogUniform(0.01, 0.3),
    "step_noise": LogUniform(0.01, 0.3),
    "feature_dropout": Uniform(0.0, 0.6),
}
_OURS: Space = {
    **_NETWORK,
    "batch_units": Choice((2, 4, 8)),
    "kind_weight": LogUniform(0.05, 2.0),
    "temporal_consistency": LogUniform(0.03, 1.0),
    "pseudo_attacks": Uniform(0.0, 0.4),
}
_CENTRAL: Space = {**_NETWORK, "batch_units": Choice((8, 16, 32))}
_CLASSIFIER: Space = {**_CENTRAL, "kind_weight": LogUniform(0.05, 2.0)}
_HIDDEN = Choice((32, 48, 64, 96))

# A name "options.x" is an option of the baseline's model. Ours and its relatives keep the model of the plan,
# so that pooling, splitting and staying alone are compared on one model.
SPACES: Mapping[str, Space] = MappingProxyType(
    {
        "federated_split": _OURS,
        "unsplit": _OURS,
        "traffic_only": _OURS,
        "record_only": _OURS,
        "local": _OURS,
        "pooled": {**_OURS, "batch_units": Choice((8, 16, 32))},
        "gru": {**_CLASSIFIER, "options.hidden": _HIDDEN},
        "cnn": {**_CLASSIFIER, "options.channels": _HIDDEN},
        "tcn": {**_CLASSIFIER, "options.channels": _HIDDEN},
        "mlp": {**_CLASSIFIER, "options.hidden": _HIDDEN},
        "autoencoder": {**_CENTRAL, "options.hidden": _HIDDEN, "options.code": Choice((4, 8, 16))},
        "gradient_boosting": {
            "learning_rate": LogUniform(0.03, 0.3),
            "max_leaf_nodes": LogUniform(8, 64, whole=True),
            "min_samples_leaf": LogUniform(5, 100, whole=True),
            "l2_regularization": LogUniform(0.001, 10.0),
        },
        "logistic_regression": {"C": LogUniform(1e-5, 100.0)},
    }
)


def draw_settings(system: str, number: int, seed: int) -> dict[str, Any]:
    """Settings of draw `number` (from 0) as `[tuned.<system>]` holds them; draw 0 is {}, the plan as it is.

    A draw depends on (system, number, seed) alone: more draws add to those that there were. Raises KeyError
    for a system that has no space.
    """
    space = SPACES[system]
    if number == 0:
        return {}
    rng = generator(seed, "sweep", system, number)
    settings: dict[str, Any] = {}
    for name, distribution in space.items():
        place, _, option = name.partition(".")
        if option:
            settings.setdefault(place, {})[option] = distribution.draw(rng)
        else:
            settings[name] = distribution.draw(rng)
    return settings
