"""What is wrong with a plan in which nobody is to see an update."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from lazaretto import catalog
from lazaretto.compression import composes_with_sharing, compressor_of
from lazaretto.errors import PlanError
from lazaretto.plan_keys import Plan, SecurePlan
from lazaretto.plan_values import shown
from lazaretto.secagg.ckks import Ckks, check_ckks, check_installed
from lazaretto.secagg.settings import LONGEST_COUNTS, Sharing, check_fits
from lazaretto.types import Rule

__all__ = ["secure_conflicts", "secure_problems"]

_OF_SHARING = ("fraction_bits", "sketch_columns", "noise")
_OF_SUMS = ("masked", "ckks")  # protocols that show nothing but sums
_LARGE_MODEL = 2**22  # parameters for which fields are checked; a run checks its own model's


def secure_conflicts(plan: Plan) -> Iterator[PlanError]:
    """Settings of a protocol that is not used, and what would show single sites beside it."""
    for key, field in SecurePlan.model_fields.items():
        value = getattr(plan.secure, key)
        if plan.secure.protocol == "none" and value != field.default:
            yield PlanError(
                f"secure.{key}: has no meaning with secure.protocol='none'",
                found=shown(value),
                way_out='leave it out, or set secure.protocol = "sharing"',
            )
    if plan.secure.protocol != "none" and plan.compress.scheme != "none":
        yield from _compression_problems(plan)
    if plan.secure.protocol != "none" and plan.evaluate.leave_one_site_out:
        yield PlanError(
            "evaluate.leave_one_site_out: sums with and without a site tell that site's counts",
            found=plan.evaluate.leave_one_site_out,
            way_out='0 (no --full), or secure.protocol = "none"',
        )
    for key, value, harm in (
        ("data.scaling", plan.data.scaling, "more than a twentieth of the sites can stretch"),
        (
            "evaluate.thresholds",
            plan.evaluate.thresholds,
            "one site that lies can raise until nothing alarms",
        ),
    ):
        if plan.secure.protocol in _OF_SUMS and value != "sum":
            yield PlanError(
                f"{key}: sites vote for it, and one vote cannot be told from ten where only sums are seen",
                found=f"{value}, secure.protocol={plan.secure.protocol!r}",
                way_out=f'secure.protocol = "sharing", which checks ballots; or {key} = "sum", which {harm}',
            )


def secure_problems(plan: Plan, built: Mapping[str, Any]) -> list[PlanError]:
    """Rules that need more than is opened, or would publish a site's update; fields that are too small."""
    rule, algorithm = built.get("rules"), built.get("algorithms")
    if plan.secure.protocol == "none" or rule is None:
        return []
    # the number of natural sites is known later
    problems, n = [], max(3, round(plan.federate.participation * (plan.sites.count or 20)))
    if rule.sees == "rows":
        problems.append(
            PlanError(
                f"aggregate.rule: '{rule.name}' looks at updates, and secure.protocol keeps them secret",
                found=f"secure.protocol={plan.secure.protocol!r}",
                way_out='a rule of inner products, such as "nnm | multi_krum" (lazaretto list rules)',
            )
        )
    elif rule.sees != "sum" and plan.secure.protocol in _OF_SUMS:
        problems.append(
            PlanError(
                f"aggregate.rule: '{rule.name}' looks at single sites, and a sum shows none",
                found=f"secure.protocol={plan.secure.protocol!r}",
                way_out='aggregate.rule = "mean", or secure.protocol = "sharing"',
            )
        )
    elif rule.sees == "gram" and not rule.mixes and rule.most_on_one(n) > 1 / 3:
        problems.append(
            PlanError(
                f"aggregate.rule: '{rule.name}' may put more than a third on one site, whose update the sum "
                "would then tell",
                found=_most_said(plan, rule),
                way_out='a rule that spreads weight, such as "nnm | multi_krum"',
            )
        )
    elif rule.sees == "sum" and plan.attack.share > 0:
        problems.append(
            PlanError(
                f"aggregate.rule: '{rule.name}' sees sums alone, and attack.share makes sites hostile",
                found=plan.attack.share,
                way_out='a rule that sees inner products, such as "nnm | multi_krum"',
            )
        )
    if algorithm is not None and algorithm.keeps:
        problems.append(
            PlanError(
                f"federate.algorithm: '{algorithm.name}' sends two vectors, and secure.protocol carries one",
                found=plan.federate.algorithm,
                way_out="fedavg, fedprox, fedper or fedbn",
            )
        )
    if plan.secure.protocol in _OF_SUMS:
        unused = [
            key for key in _OF_SHARING if getattr(plan.secure, key) != SecurePlan.model_fields[key].default
        ]
        problems += [
            PlanError(
                f"secure.{key}: has no meaning with secure.protocol={plan.secure.protocol!r}",
                found=shown(getattr(plan.secure, key)),
                way_out="leave it out",
            )
            for key in unused
        ]
        return problems + (list(_ckks_problems(plan, n)) if plan.secure.protocol == "ckks" else [])
    sums = rule.history or plan.reputation.enabled
    if sums and plan.compress.scheme != "none":
        problems.append(
            PlanError(
                "compress.scheme: the rule or reputation asks for sums over rounds, and compressed rows hold "
                "other coordinates in each round",
                found=f"'{rule.name}', reputation.enabled={plan.reputation.enabled}",
                way_out='compress.scheme = "none", or a rule without history and reputation.enabled = false',
            )
        )
    try:
        asked = plan.secure.model_dump(exclude={"protocol"})
        sharing = Sharing(**asked, history=sums)
        check_fits(sharing, n, _LARGE_MODEL, plan.train.rounds + plan.reputation.probation_rounds)
    except PlanError as error:
        problems.append(error)
    return problems


def _most_said(plan: Plan, rule: Rule) -> str:
    """How much of all weight one site may get, with the plan's number of sites where it says one."""
    known = plan.sites.count or plan.data.options.get("sites")
    if known is None and plan.data.source in catalog.names("sources"):
        usual = catalog.options("sources", plan.data.source).get("sites")
        known = None if usual is None else usual.default
    n = max(3, round(plan.federate.participation * known)) if type(known) is int else None
    most = rule.most_on_one(n or 20)
    if math.isinf(most):
        share = "as much as it likes: a short update is stretched without limit"
    else:
        share = "all of it" if most >= 1 else f"up to {most:.0%}"
    return f"{share}, with {n} sites" if n else share


def _compression_problems(plan: Plan) -> Iterator[PlanError]:
    """Schemes whose values cannot be summed before they are decoded."""
    asked = plan.compress
    try:
        made = compressor_of(asked.scheme, asked.options, asked.share)
    except PlanError:  # said elsewhere
        return
    if not composes_with_sharing(made):
        yield PlanError(
            f"compress.scheme: '{made.name}' cannot be summed before it is decoded, as secure.protocol asks",
            found=f"secure.protocol={plan.secure.protocol!r}",
            way_out="top_k_previous, random_k or count_sketch alone, or none",
        )


def _ckks_problems(plan: Plan, sites: int) -> Iterator[PlanError]:
    """TenSEAL that is not there; updates or counts of so many sites that would not fit beside the scale."""
    try:
        check_installed()
    except PlanError as error:
        yield PlanError(f"secure.protocol: {error.problem}", found=error.found, way_out=error.way_out)
    for key, bound in (("secure.clip", plan.secure.clip), ("sites.count", LONGEST_COUNTS)):
        try:
            check_ckks(Ckks(threshold=sites, bound=bound), sites)
        except PlanError as error:
            yield PlanError(f"{key}: {error.problem}", found=error.found, way_out=error.way_out)
