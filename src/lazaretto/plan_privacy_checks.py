"""What is wrong with a plan that promises privacy: what couples examples, what is not charged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lazaretto.data_files import lies_in
from lazaretto.errors import OptionError, PlanError
from lazaretto.plan_keys import Plan, PrivacyPlan
from lazaretto.plan_parts import Named, option_problem, unknown_mechanism
from lazaretto.plan_values import shown
from lazaretto.promise import mechanism_of

__all__ = ["privacy_conflicts", "privacy_problems"]


_OWN_KEYS = {"unit", "clip", "rate", "steps", "appearances", "total_steps", "noise_multiplier"}


def privacy_conflicts(plan: Plan) -> Iterator[PlanError]:
    """Settings without a mechanism, and with one whatever would show more than it covers."""
    asked = plan.privacy
    protected = asked.mechanism != "none" or plan.secure.protocol != "none" or plan.compress.scheme != "none"
    if "unprotected" in plan.evaluate.baselines and not protected:
        yield PlanError(
            "evaluate.baselines: 'unprotected' is ours, where there is neither secrecy nor privacy",
            found=shown(plan.evaluate.baselines),
            way_out="leave it out",
        )
    if asked.mechanism == "none":
        for key, field in PrivacyPlan.model_fields.items():
            value = getattr(asked, key)
            if value != field.get_default(call_default_factory=True):
                yield PlanError(
                    f"privacy.{key}: has no meaning with privacy.mechanism='none'",
                    found=shown(value),
                    way_out='leave it out, or set privacy.mechanism = "dp_sgd"',
                )
        return
    if asked.epsilon is None and asked.noise_multiplier is None:
        yield PlanError(
            "privacy.epsilon: a mechanism needs a budget or its noise",
            way_out="for instance privacy.epsilon = 3, or privacy.noise_multiplier = 1.1",
        )
    yield from _budget_conflicts(plan)
    if plan.evaluate.leave_one_family_out or plan.evaluate.leave_one_site_out:
        both = (plan.evaluate.leave_one_family_out, plan.evaluate.leave_one_site_out)
        yield PlanError(
            "evaluate.leave_one_family_out: each training without something costs as much as the run itself",
            found=f"{shown(both[0])}, and leave_one_site_out = {shown(both[1])}",
            way_out="set evaluate.leave_one_family_out = false and evaluate.leave_one_site_out = 0",
        )
    if plan.data.scaling == "median":
        yield PlanError(
            "data.scaling: the median is taken of each site's exact counts",
            found=plan.data.scaling,
            way_out='data.scaling = "sum"',
        )
    if plan.evaluate.thresholds != "sum":
        yield PlanError(
            "evaluate.thresholds: votes are taken on each site's exact threshold",
            found=plan.evaluate.thresholds,
            way_out='evaluate.thresholds = "sum"',
        )
    if asked.unit == "patient" and plan.split.by == "time":
        yield PlanError(
            "split.by: cut in time, one patient trains, sets thresholds and is judged, and no part covers it",
            found=plan.split.by,
            way_out='"unit", or privacy.unit = "record"',
        )
    if own := sorted(_OWN_KEYS & set(asked.options)):
        yield PlanError(
            f"privacy.options: '{own[0]}' follows from keys of the plan, by which it is checked and priced",
            found=shown(asked.options),
            way_out="leave it out: clip, sample_rate, unit, appearances, noise_multiplier are keys, and "
            "steps are train.local_epochs / privacy.sample_rate",
        )
    if asked.distributed:
        yield from _distributed_conflicts(plan)
    if asked.unit == "site":
        yield from _site_conflicts(plan)
    else:
        yield from _example_conflicts(plan)


def _budget_conflicts(plan: Plan) -> Iterator[PlanError]:
    """What a budget file cannot add up."""
    asked = plan.privacy
    if asked.budget is None:
        for key in ("budget_epsilon", "budget_data"):
            if getattr(asked, key) is not None:
                yield PlanError(
                    f"privacy.{key}: there is no file to add runs up in",
                    found=getattr(asked, key),
                    way_out="set privacy.budget, or leave it out",
                )
        return
    if plan.evaluate.baselines:
        yield PlanError(
            "evaluate.baselines: what is trained beside ours on the same data has no price in a budget file",
            found=shown(plan.evaluate.baselines),
            way_out="[], or no privacy.budget where the data need no protection",
        )
    path = plan.data.path
    if path is not None and asked.budget_data is None and lies_in(Path(asked.budget), Path(path)):
        yield PlanError(
            "privacy.budget: the file lies with the data, whose digest changes with it: it would begin anew",
            found=asked.budget,
            way_out="another place, or a name for the data (privacy.budget_data)",
        )


def _example_conflicts(plan: Plan) -> Iterator[PlanError]:
    """What couples the examples of a site, or tells of them without a charge."""
    if plan.train.class_balance:
        yield PlanError(
            "train.class_balance: weights of classes are made of exact counts, and nobody charges them",
            found=plan.train.class_balance,
            way_out="0: all steps weigh alike",
        )
    yield from _dealing_conflicts(plan)
    if plan.federate.selection == "by_loss":
        yield PlanError(
            "federate.selection: who is chosen by its loss tells of the examples behind the loss",
            found=plan.federate.selection,
            way_out="everyone, uniform or by_size",
        )
    if plan.cut.synchronise == "round":
        yield PlanError(
            "cut.synchronise: the clip is on one gradient over the device's and the site's part together",
            found=plan.cut.synchronise,
            way_out='"step"',
        )
    aligned = plan.train.alignment_cut or plan.train.alignment_fusion
    if aligned and plan.privacy.unit == "record":
        yield PlanError(
            "train.alignment_cut: the contrastive term (InfoNCE) sets a record against others",
            found=f"{plan.train.alignment_cut}, and alignment_fusion = {plan.train.alignment_fusion}",
            way_out='0, or privacy.unit = "patient", which takes the contrast within one stream',
        )
    if plan.aggregate.root_units:
        yield PlanError(
            "aggregate.root_units: the coordinator's own training units are not under the mechanism",
            found=plan.aggregate.root_units,
            way_out="0, and a rule that needs no root data",
        )


def _dealing_conflicts(plan: Plan) -> Iterator[PlanError]:
    """Where one unit stands, or what is in it, would depend on others."""
    made, asked = plan.sites.by != "natural" or plan.sites.count is not None, plan.privacy
    if plan.split.by == "time" and (made or plan.sites.withhold_families):
        yield PlanError(
            "sites.by: units that are cut in time are dealt to sites by counting, so one would move others",
            found=f"{plan.sites.by}, withhold_families = {plan.sites.withhold_families}, split.by = 'time'",
            way_out='the natural sites as they are, or split.by = "unit"',
        )
    if plan.split.by == "time" and asked.mechanism == "dp_ftrl":
        yield PlanError(
            "split.by: a unit that is cut in time has a name for each part, and its turns come of the name",
            found=plan.split.by,
            way_out='"unit", or privacy.mechanism = "dp_sgd"',
        )
    by_family = plan.sites.by == "dirichlet" or plan.sites.withhold_families > 0
    if by_family and asked.unit == "record" and not asked.distributed:
        yield PlanError(
            "sites.withhold_families: a unit's site comes of its attack families, so one record can move all "
            "windows of its stream",
            found=f"{plan.sites.withhold_families}, sites.by = {plan.sites.by!r}",
            way_out='0 and sites that do not look at families, privacy.unit = "patient", or '
            "privacy.distributed = true, whose sum does not tell sites apart",
        )


def _distributed_conflicts(plan: Plan) -> Iterator[PlanError]:
    """What would show a site's update, which has a part of the noise alone, or would not sum to all of it."""
    asked = plan.privacy
    wanted: tuple[tuple[str, object, object, str], ...] = (
        (
            "secure.protocol",
            plan.secure.protocol,
            "masked",
            "nobody may see an update, or products of updates",
        ),
        ("privacy.mechanism", asked.mechanism, "dp_sgd", "the noise of a round is in one sum, independent"),
        ("train.optimiser", plan.train.optimiser, "sgd", "an update has to be the noisy sum, times a number"),
        (
            "train.momentum",
            plan.train.momentum,
            0.0,
            "what a site keeps of old rounds is no noise of this one",
        ),
        ("federate.algorithm", plan.federate.algorithm, "fedavg", "an update has to be the noisy sum"),
        ("federate.participation", plan.federate.participation, 1.0, "all add their part of the noise"),
        ("federate.selection", plan.federate.selection, "everyone", "all add their part of the noise"),
        ("federate.stragglers", plan.federate.stragglers, 0.0, "who does no step adds no noise"),
        ("aggregate.client_momentum", plan.aggregate.client_momentum, 0.0, "noise of old rounds is no noise"),
        ("compress.scheme", plan.compress.scheme, "none", "what is sent has to be the noisy sum"),
    )
    for key, found, right, why in wanted:
        if found != right:
            yield PlanError(
                f"{key}: privacy.distributed sums the sites' parts of the noise, and {why}",
                found=shown(found),
                way_out=f"{shown(right)}, or privacy.distributed = false",
            )
    if "quantile" in asked.options:
        yield PlanError(
            "privacy.options: counts for an adaptive clip stay at a site, with a part of their noise",
            found=shown(asked.options),
            way_out="a fixed privacy.clip, or privacy.distributed = false",
        )
    steps = max(1, round(plan.train.local_epochs / asked.sample_rate))
    if steps != 1:
        yield PlanError(
            "train.local_epochs: with privacy.distributed a second step would begin from a model that has a "
            "part of the noise alone",
            found=f"{plan.train.local_epochs} at privacy.sample_rate = {asked.sample_rate}: {steps} steps",
            way_out=f"train.local_epochs = {asked.sample_rate:g}, one step, and more rounds",
        )


def _site_conflicts(plan: Plan) -> Iterator[PlanError]:
    """What site-level noise does not cover."""
    if plan.aggregate.rule.strip() != "mean":
        yield PlanError(
            "aggregate.rule: one site can change whom a rule selects, which noise on the sum does not cover",
            found=plan.aggregate.rule,
            way_out='"mean", of updates clipped one by one; or privacy.unit = "record" with any rule',
        )
    if plan.reputation.enabled:
        yield PlanError(
            "reputation.enabled: trust in one site depends on what the others send",
            found=True,
            way_out='false, or privacy.unit = "record"',
        )
    if plan.secure.protocol != "none":
        yield PlanError(
            "secure.protocol: the coordinator puts the noise on, so it has to see the sum without",
            found=plan.secure.protocol,
            way_out='"none", or privacy.unit = "record", which composes with secrecy',
        )
    if plan.federate.participation < 1 or plan.federate.selection != "everyone":
        yield PlanError(
            "federate.participation: the price is of rounds in which every site may take part",
            found=f"{plan.federate.participation} by {plan.federate.selection}",
            way_out='participation = 1 and selection = "everyone"',
        )
    if plan.compress.scheme != "none":
        yield PlanError(
            "compress.scheme: the clip is on an update as it is summed",
            found=plan.compress.scheme,
            way_out='"none"',
        )


def privacy_problems(plan: Plan, built: Mapping[str, Any]) -> list[PlanError]:
    """A model that couples examples, an algorithm that sends more than the mechanism covers."""
    if plan.privacy.mechanism == "none":
        return []
    if unknown := list(unknown_mechanism(plan)):
        return unknown
    problems, model = list[PlanError](), built.get("models")
    if "sources" not in built:
        return []  # said already, and what it shows how often is not known
    try:
        if plan.privacy.epsilon or plan.privacy.noise_multiplier:  # else it is said already
            mechanism_of(plan)
    except OptionError as error:
        error.known = None if error.known is None else tuple(k for k in error.known if k not in _OWN_KEYS)
        own = Named("privacy.mechanism", "mechanisms", error.part, "privacy.options", plan.privacy.options)
        problems.append(option_problem(own, error))
    except PlanError as error:
        known = error.problem.startswith(("train.", "privacy."))
        problem = error.problem if known else f"privacy.mechanism: {error.problem}"
        problems.append(PlanError(problem, found=error.found, way_out=error.way_out))
    if model is not None and model.novelty is not None:
        problems.append(
            PlanError(
                f"model.name: '{model.name}' learns made-up campaigns from pieces of other streams",
                found=shown(plan.model.options),
                way_out="the model without its self-supervised score (novelty_hidden = 0)",
            )
        )
    if mixes := built["sources"].mixes:
        problems.append(
            PlanError(
                f"data.source: {mixes}, which nobody prices",
                found=f"{plan.data.source}, {shown(plan.data.options)}",
                way_out="options that leave it out (data.options.kinds without swap), or another source",
            )
        )
    shown_often = max(plan.privacy.appearances or 1, built["sources"].appearances)
    if plan.split.by == "time" and shown_often > 1:
        problems.append(
            PlanError(
                "split.by: cut in time, one record in several windows stands in two parts, none covers it",
                found=f"{plan.split.by}, and a record in {shown_often} windows",
                way_out='"unit", or windows that share nothing',
            )
        )
    algorithm = built.get("algorithms")
    if algorithm is not None and algorithm.keeps and plan.privacy.unit == "site":
        problems.append(
            PlanError(
                f"federate.algorithm: '{algorithm.name}' sends a second vector, which gets no noise",
                found=plan.federate.algorithm,
                way_out="fedavg, fedprox, fedper or fedbn",
            )
        )
    return problems
