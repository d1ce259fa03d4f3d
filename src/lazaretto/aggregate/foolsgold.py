"""FoolsGold: sites that always say the same are one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Gt

from lazaretto.gram import cosines
from lazaretto.types import Array, Gram, Rule, Weighed

__all__ = ["foolsgold"]


def foolsgold(confidence: Annotated[float, Gt(0)] = 1.0) -> Rule:
    """Sites whose sums of updates so far point alike lose weight: many that are steered by one.

    With c the cosines of the running sums and vᵢ = max over j of cᵢⱼ: cᵢⱼ ← cᵢⱼ vᵢ / vⱼ where vⱼ > vᵢ
    (pardoning), αᵢ = 1 - max over j of cᵢⱼ, scaled so that the largest is 1, then κ (ln(α / (1 - α)) + ½)
    cut to [0, 1]; y = Σ αᵢ xᵢ / Σ αᵢ. Sees inner products. Fung et al. 2020,
    https://arxiv.org/abs/1808.04866 (Algorithm 1), without their weighing of features; they do not divide
    by Σ αᵢ, which makes the length of a step depend on the verdict. It claims to withstand nobody: it finds
    any number of hostile sites that point alike and no single one, and takes equal honest sites for one
    (equal updates are all refused: y = 0). Suspicion: 1 - αᵢ.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(foolsgold(), [[9.0, 0.0], [9.0, 0.0], [0.0, 4.0]]).tolist()
    [0.0, 4.0]
    """

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        assert seen.history is not None  # noqa: S101  it is declared, so whoever calls gives it
        alpha = _learning_rates(cosines(seen.history), confidence)
        weights = np.zeros((1, len(seen.inner)))
        weights[0, : len(alpha)] = alpha / (alpha.sum() or 1.0)
        return Weighed(weights, 1.0 - alpha, {})

    return Rule(
        name="foolsgold",
        sees="gram",
        gram=gram,
        tolerates=lambda n: 0,
        history=True,
        equivariance=frozenset({"scale"}),
    )


def _learning_rates(alike: Array, confidence: float) -> Array:
    """[n] in [0, 1] from cosines [n, n]; a single site gets 1."""
    alike = alike - np.eye(len(alike))
    most = alike.max(axis=1)
    pardoned = (most[None] > most[:, None]) & (most[None] > 0)
    share = np.divide(most[:, None], most[None], out=np.ones_like(alike), where=pardoned)
    rates = np.clip(1.0 - (alike * share).max(axis=1), 0.0, 1.0)
    largest = float(rates.max())
    if largest <= 1e-9:  # all point the same way, to rounding
        return np.zeros_like(rates)
    rates = np.clip(rates / largest, 1e-12, 0.99)
    return np.clip(confidence * (np.log(rates / (1.0 - rates)) + 0.5), 0.0, 1.0)
