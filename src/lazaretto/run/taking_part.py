"""How a federation goes, and who does what in a round: chosen, late, lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto import catalog
from lazaretto.attack_types import Attack
from lazaretto.chain import rule_of
from lazaretto.compress_types import Compressor
from lazaretto.compression import compressor_of, everything
from lazaretto.keys import generator
from lazaretto.personal import large_layers, personal_mask
from lazaretto.plan import Plan
from lazaretto.reputation import ReputationSettings
from lazaretto.run.private import Promise
from lazaretto.run.shared_noise import Among
from lazaretto.secagg.settings import Sharing
from lazaretto.types import Algorithm, Float, Int, Model, Rule, Selection, ServerOptimiser

__all__ = ["Federation", "TakingPart", "federation_of", "sharing_of", "take_part"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Federation:
    """How sites train together; all of it public.

    personal: [d] bool, the entries of the vector that stay at their site; None if there are none.
    participation: share of the sites that is chosen in a round, in (0, 1]. drop_outs, stragglers: chance that
    a chosen site's update never comes, or that it does only `straggler_work` of its local work.
    client_momentum: share of what a site sent last in what it sends, in [0, 1). attack: what hostile sites of
    a simulation do, or None; hostile [S] bool, which they are; attack_from: the round, from 1, in which they
    begin to send false updates. reputation: how trust is kept, or None where it is not. layers: (begin, end)
    of layers of an update that reputation looks at alone. root: whether the coordinator trains on data of
    its own, for a rule that asks for the update that comes of it. compressor: how updates are sent, or None
    for as they are. ahead: how they are in the last round, where sites train on from what they did not send;
    None: they do not. probation_rounds: where somebody is in quarantine after so many, training begins anew.
    secure: how updates are shared among three aggregators, or None. sum_bound: the largest entry of an
    update where the sum alone is seen, by the protocol sum_door, or None. promise: what makes the sites'
    training private, or None; among: of the sites that share its noise, or None where each adds all of it;
    site_promise: what makes the sum private for whole sites. label: of the training, for secrets of its own.
    """

    algorithm: Algorithm
    server: ServerOptimiser
    selection: Selection
    rule: Rule
    personal: NDArray[np.bool_] | None = None
    participation: float = 1.0
    drop_outs: float = 0.0
    stragglers: float = 0.0
    straggler_work: float = 0.5
    client_momentum: float = 0.0
    attack: Attack | None = None
    hostile: NDArray[np.bool_] | None = None
    attack_from: int = 1
    reputation: ReputationSettings | None = None
    layers: tuple[tuple[int, int], ...] = ()
    root: bool = False
    compressor: Compressor | None = None
    ahead: Compressor | None = None
    probation_rounds: int = 0
    secure: Sharing | None = None
    sum_bound: float | None = None
    sum_door: str = "masked"
    promise: Promise | None = None
    among: Among | None = None
    site_promise: Promise | None = None
    label: str = ""


class TakingPart(NamedTuple):
    """One round's sites.

    chosen [m] in order, arrives [m] bool, sizes [m] for the rule, work [m] batches that each does (0: lost on
    the way, before it did anything that lasts).
    """

    chosen: Int
    arrives: NDArray[np.bool_]
    sizes: NDArray[np.float64]
    work: Int


def federation_of(
    plan: Plan, model: Model, features: int, kinds: int, hostile: NDArray[np.bool_] | None = None
) -> Federation:
    """What the plan's sections [federate], [aggregate] and [attack] say. hostile: [S] bool, or None."""
    asked = plan.federate
    algorithm = catalog.build("algorithms", asked.algorithm, asked.options)
    rule = rule_of(plan.aggregate.rule, plan.aggregate.options)
    personal, watched = personal_mask(algorithm, model, features, kinds), plan.reputation.enabled
    return Federation(
        algorithm=algorithm,
        server=catalog.build("server_optimisers", asked.server, asked.server_options),
        selection=catalog.build("selections", asked.selection, asked.selection_options),
        rule=rule,
        personal=personal,
        participation=asked.participation,
        drop_outs=asked.drop_outs,
        stragglers=asked.stragglers,
        straggler_work=asked.straggler_work,
        client_momentum=plan.aggregate.client_momentum,
        attack=None if hostile is None else catalog.build("attacks", plan.attack.name, plan.attack.options),
        hostile=hostile,
        attack_from=plan.attack.first_round,
        reputation=_reputation_of(plan),
        layers=large_layers(model, features, kinds, personal) if watched else (),
        root=plan.aggregate.root_units > 0 and "root" in rule.public,
        compressor=_compressor_of(plan),
        ahead=everything(plan.compress.scheme, plan.compress.options) if plan.compress.ahead else None,
        probation_rounds=plan.reputation.probation_rounds,
        secure=sharing_of(plan, rule),
        sum_bound=plan.secure.clip if plan.secure.protocol in ("masked", "ckks") else None,
        sum_door=plan.secure.protocol,
    )


def sharing_of(plan: Plan, rule: Rule) -> Sharing | None:
    """The plan's section [secure]; sums over rounds are opened where rule or reputation need them."""
    asked = plan.secure
    if asked.protocol != "sharing":
        return None
    return Sharing(
        clip=asked.clip,
        fraction_bits=asked.fraction_bits,
        sketch_columns=asked.sketch_columns,
        noise=asked.noise,
        history=rule.history or plan.reputation.enabled,
    )


def _compressor_of(plan: Plan) -> Compressor | None:
    asked = plan.compress
    if asked.scheme == "none":
        return None
    return compressor_of(asked.scheme, asked.options, asked.share)


def _reputation_of(plan: Plan) -> ReputationSettings | None:
    asked = plan.reputation.model_dump(exclude={"enabled", "probation_rounds"})
    return ReputationSettings(**asked) if plan.reputation.enabled else None


def take_part(
    federation: Federation, seed: int, round_number: int, sizes: Int, losses: Float, batches: Int
) -> TakingPart:
    """Who takes part in a round (from 0): a function of the arguments alone, so a resumed run meets the same.

    sizes [S] training steps, losses [S] each site's last (NaN: never reported), batches [S] of a whole round.
    The number of those chosen is the same in every round, so that one compiled program serves.
    """
    count = max(1, round(federation.participation * len(sizes)))
    rng = generator(seed, "taking part", round_number)
    chosen, weighed = federation.selection.choose(rng, sizes, losses, count)
    lost = rng.random(count) < federation.drop_outs
    late = rng.random(count) < federation.stragglers
    part = np.ceil(federation.straggler_work * batches[chosen] - 1e-9).astype(np.int64)
    work = np.where(lost, 0, np.where(late, part, batches[chosen]))
    return TakingPart(np.asarray(chosen), ~lost, np.asarray(weighed, np.float64), work)
