"""Hostile sites of a simulation: who they are, and what they send instead of what honest sites would.

Pure functions for the places where a run trains, collects updates, and agrees on scaling and thresholds.
Sites that are not simulated are never made hostile: nothing else calls these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto import catalog
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.data.scaling import TOTAL
from lazaretto.data.streams import Streams
from lazaretto.errors import InputError, PlanError
from lazaretto.evaluate.scored import Said, Scored
from lazaretto.keys import generator
from lazaretto.plan import Plan
from lazaretto.types import TRAIN, Array, Int

__all__ = [
    "craft_updates",
    "draw_hostile",
    "false_scores",
    "hostile_sites",
    "poison_counts",
    "poison_site",
    "said_scores",
]


def hostile_sites(plan: Plan, names: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """[S] bool, the hostile ones among the sites of a simulation, as `draw_hostile` draws them.

    All sites that a plan runs are simulated in one process today. This is the only place that makes sites
    hostile, and so the place to refuse it once there are others. None where the plan names no attack.
    """
    drawn = draw_hostile(plan.attack.share if plan.attack.name else 0.0, len(names), seed)
    return np.isin(np.arange(len(names)), drawn)


def draw_hostile(share: float, sites: int, seed: int) -> Int:
    """Indices, in order, of the hostile ones of so many sites: share · sites rounded down, and at least one.

    None with share 0. The same with the same seed. Raises PlanError where the honest sites would not be the
    majority, which no rule withstands: with one site or two.
    """
    if share == 0:
        return np.zeros(0, np.int64)
    # share · sites of 0.29 · 100 is 28.999…: what a user would count by hand is meant
    count = max(int(np.floor(share * sites + 1e-9)), 1)
    if 2 * count >= sites:
        raise PlanError(
            "attack.share: honest sites have to be the majority",
            found=f"{count} hostile of {sites}",
            way_out="more sites, or a smaller share",
        )
    drawn: Int = np.sort(generator(seed, "hostile").permutation(sites)[:count]).astype(np.int64)
    return drawn


def craft_updates(
    attack: Attack,
    updates: Array,
    hostile: NDArray[np.bool_],
    context: AttackContext,
    rng: np.random.Generator,
) -> Any:
    """[n, d] what arrives in a round in which the sites `hostile` [n] attack; honest rows as they were.

    updates: [n, d] as every site would send them, those of hostile sites after any `poison_site`. `hostile`
    may be all False (a round without them), or all True. context.judge takes the rows in the order of
    `updates`. An attack that crafts nothing leaves them alone. A copy of the same type is always returned.
    Raises InputError where the attack sends what is not [f, d] and finite.
    """
    arrive = np.array(updates)
    if attack.craft is None or not hostile.any():
        return arrive
    order = np.concatenate([np.flatnonzero(~hostile), np.flatnonzero(hostile)])
    place = np.argsort(order)
    told = context._replace(judge=None if context.judge is None else _in_order(context.judge, place))
    rows = arrive.astype(np.float64)
    sent = np.asarray(attack.craft(rows[~hostile], rows[hostile], told, rng))
    if sent.shape != rows[hostile].shape or not np.isfinite(sent).all():
        raise InputError(
            f"attack '{attack.name}' has to send one finite update for each hostile site",
            found=f"shape {sent.shape}, {int((~np.isfinite(sent)).sum())} values that are not finite",
            way_out=f"shape {rows[hostile].shape}, float32",
        )
    arrive[hostile] = sent
    return arrive


def _in_order(judge: Callable[[Array], Array], place: Int) -> Callable[[Array], Array]:
    """The judge of rows that come honest ones first, from one that takes them in the sites' order."""
    return lambda rows: judge(rows[place])


def poison_site(attack: Attack, data: Streams, site: int, kinds: int, rng: np.random.Generator) -> Streams:
    """The streams with the training streams of one site poisoned; all others as they were.

    data: as a model reads them (`run.prepare.read`), so without NaN. kinds: K. Validation and test streams
    of the site stay honest, so that thresholds and judging do. Padding stays 0. An attack that poisons
    nothing, or a site without training streams, changes nothing. Raises InputError where the attack returns
    other shapes or labels than there are.
    """
    rows = np.flatnonzero((data.site == site) & (data.split == TRAIN))
    if attack.poison is None or not rows.size:
        return data
    x, y = attack.poison(data.x[rows], data.y[rows], kinds, rng)
    if x.shape != data.x[rows].shape or y.shape != data.y[rows].shape or y.min() < 0 or y.max() > kinds:
        raise InputError(
            f"attack '{attack.name}' has to keep the shapes of streams and labels from 0 to {kinds}",
            found=f"shapes {x.shape} and {y.shape}, labels from {y.min()} to {y.max()}",
            way_out=f"shapes {data.x[rows].shape} and {data.y[rows].shape}",
        )
    new_x, new_y, valid = data.x.copy(), data.y.copy(), data.valid[rows]
    new_x[rows] = np.where(valid[..., None], x, 0)
    new_y[rows] = np.where(valid, y, 0)
    return replace(data, x=new_x, y=new_y)


def poison_counts(attack: Attack, counts: Int, rng: np.random.Generator) -> Int:
    """[F, buckets] what a hostile site sends for its scaling counts: within the cap that every site has.

    A copy of its own where the attack is not on the scaling.
    """
    if attack.counts is None:
        return counts.copy()
    return attack.counts(counts, TOTAL, rng)


def false_scores(attack: Attack, scored: Scored, hostile: NDArray[np.bool_], seed: int) -> NDArray[Any]:
    """[u, L] the scores as the sites say they are: of normal steps at hostile sites [S] false, else true.

    A copy of the same type. Each site draws by itself, so that the others' being there changes nothing.
    Raises InputError where the attack says what is not [n] and finite.
    """
    told = np.array(scored.score)
    if attack.scores is None:
        return told
    normal = scored.valid & (scored.y == 0)
    for site in map(int, np.flatnonzero(hostile)):
        own = normal & (scored.site == site)[:, None]
        said = np.asarray(attack.scores(told[own], generator(seed, "false scores", site)))
        if said.shape != told[own].shape or not np.isfinite(said.astype(told.dtype)).all():
            raise InputError(
                f"attack '{attack.name}' has to say a finite score for each normal step",
                found=f"shape {said.shape}, {int((~np.isfinite(said)).sum())} values that are not finite",
                way_out=f"shape {told[own].shape}, float32",
            )
        told[own] = said
    return told


def said_scores(plan: Plan, names: Sequence[str], seed: int) -> Said | None:
    """What simulated sites say of their scores when thresholds are agreed on; None where none lies."""
    hostile = hostile_sites(plan, names, seed)
    attack = catalog.build("attacks", plan.attack.name, plan.attack.options) if hostile.any() else None
    if attack is None or attack.scores is None:
        return None
    return lambda scored: false_scores(attack, scored, hostile, seed)
