"""Scores that move everyone's alarm threshold."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lazaretto.attack_types import Attack
from lazaretto.types import Float

__all__ = ["threshold_poisoning"]

_FAR = 1e9  # beyond what a model says of a step, and within the range in which thresholds are counted


def threshold_poisoning(end: Literal["highest", "lowest"] = "highest") -> Attack:
    """A hostile site says that all its normal steps score highest, so that nothing raises an alarm.

    With "lowest" alarms are false instead. It counts as many steps as it has, and nothing refuses it. A
    threshold read from summed counts lies beyond every score as soon as hostile sites are more than
    `evaluate.false_positive_rate` of what is counted: no attack is found anywhere, and no AUROC shows it.
    Updates are honest, so no rule sees it. "lowest" does less: of what honest sites count passes at most what
    was asked over their share of all.
    Ours: an attack on the agreement in `lazaretto.run.agreed`.
    """

    def scores(own: Float, rng: np.random.Generator) -> Float:
        return np.full(len(own), {"highest": _FAR, "lowest": -_FAR}[end], np.float32)

    return Attack(name="threshold_poisoning", kind="scores", knows="own", scores=scores)
