"""An attacker who knows the rule and tries what harms most."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Annotated, Literal, TypeAlias

import numpy as np
from annotated_types import Ge

from lazaretto import catalog
from lazaretto.attack._sent import Matrix, alike, known, sendable
from lazaretto.attack._spread import deviation, squared_distances
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.errors import InputError
from lazaretto.types import Array, Float

__all__ = ["adaptive", "harm"]

Measure: TypeAlias = Literal["against", "distance"]

_STRENGTHS = (0.1, 0.3, 0.6, 1.7, 3.0, 10.0)  # 1 is the fixed attack itself
_REACHES = np.geomspace(0.05, 20.0, 10)  # of the greatest distance between two honest updates


def harm(aggregate: Array, honest: Array, measure: Measure = "against") -> float:
    """How far an aggregate [d] was moved from what the honest updates [h, d] say on average.

    "against": how far it falls short of the honest mean along that mean's direction, ‖mean‖ − aggregate ·
    mean / ‖mean‖: 0 for the mean itself, ‖mean‖ where nothing is learned, more where it is unlearned. Where
    the mean is zero there is no direction, and the distance counts. "distance": ‖aggregate − mean‖, in any
    direction. Both in the unit of the updates. −inf for an aggregate that is not finite, which a coordinator
    would refuse.
    """
    mean = np.asarray(honest, np.float64).mean(axis=0)
    moved = np.asarray(aggregate, np.float64) - mean
    if not np.isfinite(moved).all():
        return -np.inf
    length = float(np.linalg.norm(mean))
    if measure == "distance" or length == 0:
        return float(np.linalg.norm(moved))
    return float(-moved @ (mean / length))


def adaptive(measure: Measure = "against", refinements: Annotated[int, Ge(0)] = 6) -> Attack:
    """Tries every fixed attack at several strengths, and directions of its own, on the rule itself.

    Tried are: each attack on updates that the catalog knows, with its options left alone, as it is and with
    its deviation from the honest mean made smaller or larger; then points along the directions of `min_max`
    (and with the deviations, too) at growing distances; then, `refinements` times, the best one a little
    weaker and stronger. Sent is what `harm` by `measure` is largest for: never less than any fixed attack
    given the same generator. That is so by this measure and in this round, which need not be what costs most
    AUROC. About 120 calls of `context.judge` a round. After Fang et al. 2020, arXiv:1911.11815, and
    Shejwalkar and Houmansadr 2021, doi.org/10.14722/ndss.2021.24498, who search along one direction.
    Raises InputError where `context.judge` is None.
    """

    def craft(honest: Array, own: Array, context: AttackContext, rng: np.random.Generator) -> Float:
        if context.judge is None:
            raise InputError(
                "attack 'adaptive' has to know the rule",
                way_out="give what the rule makes of all updates, or choose another attack",
            )
        if not len(own):
            return sendable(own)
        rows = known(honest, own)
        judge, sites = context.judge, np.asarray(honest, np.float64)
        mean = rows.mean(axis=0)

        def harmed(sent: Float) -> float:
            return harm(judge(np.concatenate([sites, sent.astype(np.float64)])), rows, measure)

        best = _worst(_tries(rows, own, honest, context, rng), harmed, (sendable(own), -np.inf))
        for step in 2.0 ** (0.5 ** np.arange(1, refinements + 1)):
            deviates = best[0].astype(np.float64) - mean
            best = _worst((sendable(mean + s * deviates) for s in (1 / step, step)), harmed, best)
        rng.random()  # the tries drew from copies: a second call with this generator shall differ
        return best[0]

    return Attack(name="adaptive", kind="updates", knows="rule", craft=craft)


def _worst(
    tries: Iterator[Float], harmed: Callable[[Float], float], best: tuple[Float, float]
) -> tuple[Float, float]:
    """The most harmful of `best` and the tries, with its harm; of equal ones the first."""
    for sent in tries:
        found = harmed(sent)
        if found > best[1]:
            best = sent, found
    return best


def _tries(
    rows: Matrix, own: Array, honest: Array, context: AttackContext, rng: np.random.Generator
) -> Iterator[Float]:
    mean = rows.mean(axis=0)
    for name in catalog.names("attacks"):
        attack: Attack = catalog.build("attacks", name)
        if attack.craft is None or attack.knows == "rule":
            continue
        # a copy each: with this generator the attack alone would draw the same numbers
        sent = attack.craft(honest, own, context, copy.deepcopy(rng))
        yield sent
        deviates = sent.astype(np.float64) - mean
        yield from (sendable(mean + strength * deviates) for strength in _STRENGTHS)
    apart = float(np.sqrt(squared_distances(rows).max())) or float(np.linalg.norm(mean)) or 1.0
    spread = deviation(rows, "std")
    for along in (deviation(rows, "unit"), spread, -spread, deviation(rows, "sign")):
        length = float(np.linalg.norm(along))
        if length > 0:
            yield from (alike(mean + reach * apart / length * along, own) for reach in _REACHES)
