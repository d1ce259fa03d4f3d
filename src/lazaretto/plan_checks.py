"""What is wrong with a plan whose keys are all fine: values that do not go together, parts that fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lazaretto.errors import PlanError
from lazaretto.personal import personal_mask
from lazaretto.plan_compress import compress_conflicts
from lazaretto.plan_keys import AttackPlan, CutPlan, Plan, ReputationPlan, SitesPlan
from lazaretto.plan_parts import built_part, needs_path, parts_of
from lazaretto.plan_privacy_checks import privacy_conflicts, privacy_problems
from lazaretto.plan_secure_checks import secure_conflicts, secure_problems
from lazaretto.plan_split import split_conflicts
from lazaretto.plan_values import shown
from lazaretto.reputation import ReputationSettings, rounds_to_quarantine

__all__ = ["conflicts", "part_problems"]

_OF_SEVERAL = ("alignment_cut", "alignment_fusion", "modality_dropout")
_ALONE = ("traffic_only", "record_only")


def conflicts(plan: Plan) -> Iterator[PlanError]:
    """Values that are fine alone and impossible together."""
    sites, cut, split = plan.sites, plan.cut, plan.split
    if sites.by != "natural" and sites.count is None:
        yield PlanError(
            f"sites.count: needed with sites.by='{sites.by}'", way_out="for instance sites.count = 20"
        )
    if plan.run.setting != plan.data.modality:
        yield PlanError(
            "run.setting: must be the modality that is used",
            found=f"{plan.run.setting!r}, and data.modality = {plan.data.modality!r}",
            way_out="give both the same value",
        )
    yield from _modality_problems(plan)
    for key, only in (("alpha", "dirichlet"), ("quantity_alpha", "quantity")):
        value = getattr(sites, key)
        if sites.by != only and value != SitesPlan.model_fields[key].default:
            yield PlanError(
                f"sites.{key}: has no meaning with sites.by='{sites.by}'",
                found=value,
                way_out=f"leave it out, or choose sites.by = '{only}'",
            )
    for key in ("bits", "noise", "clip", "synchronise"):
        value = getattr(cut, key)
        if not cut.enabled and value != CutPlan.model_fields[key].default:
            yield PlanError(
                f"cut.{key}: has no meaning with cut.enabled=false",
                found=shown(value),
                way_out="leave it out, or set cut.enabled = true",
            )
    if plan.train.local_epochs > 1 and not plan.train.local_epochs.is_integer():
        yield PlanError(
            "train.local_epochs: a part of a pass has no meaning beside whole ones",
            found=plan.train.local_epochs,
            way_out="a whole number, or one below 1",
        )
    if plan.train.start is not None and (
        plan.evaluate.leave_one_family_out or plan.evaluate.leave_one_site_out
    ):
        yield PlanError(
            "train.start: what is left out of training may be known to the model that training begins from",
            found="evaluate.leave_one_family_out or leave_one_site_out",
            way_out="evaluate.leave_one_family_out = false, evaluate.leave_one_site_out = 0",
        )
    if plan.train.start is not None and sites.withhold_families:
        yield PlanError(
            "sites.withhold_families: the model that training begins from may know what sites are to lack",
            found=sites.withhold_families,
            way_out="0, or no train.start",
        )
    if plan.federate.stragglers == 0 and plan.federate.straggler_work != 0.5:
        yield PlanError(
            "federate.straggler_work: has no meaning with federate.stragglers=0",
            found=plan.federate.straggler_work,
            way_out="leave it out, or set federate.stragglers above 0",
        )
    yield from _attack_conflicts(plan)
    yield from _reputation_conflicts(plan)
    yield from secure_conflicts(plan)
    yield from privacy_conflicts(plan)
    if plan.evaluate.alarm_k > plan.evaluate.alarm_m:
        yield PlanError(
            "evaluate.alarm_k: more steps than evaluate.alarm_m looks back over",
            found=f"{plan.evaluate.alarm_k} of {plan.evaluate.alarm_m}",
            way_out="alarm_k is at most alarm_m",
        )
    yield from split_conflicts(split, plan.privacy.mechanism != "none")


def part_problems(plan: Plan) -> list[PlanError]:
    """Parts that are unknown, or cannot be built with their options, or do not go together."""
    problems: list[PlanError] = []
    built: dict[str, Any] = {}
    for one in parts_of(plan):
        try:
            part = built_part(one, plan.compress.share)
        except PlanError as error:
            problems.append(error)
            continue
        built[one.family] = part
        if one.family == "sources":
            problems += needs_path(plan, part)
        if one.family == "models" and plan.cut.enabled and not part.split:
            problems.append(
                PlanError(
                    f"cut.enabled: model '{one.name}' has no cut, so its raw data would leave the device",
                    found=True,
                    way_out="set cut.enabled = false, or choose a model that can be split",
                )
            )
    more = (
        _rule_problems,
        _model_problems,
        _federate_problems,
        _attack_problems,
        _reputation_problems,
        _compress_problems,
        secure_problems,
        privacy_problems,
    )
    return problems + [problem for find in more for problem in find(plan, built)]


def _rule_problems(plan: Plan, built: Mapping[str, Any]) -> Iterator[PlanError]:
    """A rule that a run cannot give what it needs, or that makes nothing of the updates alone."""
    rule = built.get("rules")
    if rule is None:
        return
    if rule.mixes:
        yield PlanError(
            f"aggregate.rule: '{rule.name}' only mixes updates",
            found=plan.aggregate.rule,
            way_out=f'put a rule behind it: "{rule.name} | multi_krum"',
        )
    known = ("zero", "previous", "root") if plan.aggregate.root_units else ("zero", "previous")
    unknown = [name for name in rule.public if name not in known]
    if unknown:
        more = "aggregate.root_units = 40 (trusted data), or " if "root" in unknown else ""
        yield PlanError(
            f"aggregate.rule: '{rule.name}' needs a public row that this run does not have",
            found=", ".join(unknown),
            way_out=f'{more}a rule without it, such as "nnm | multi_krum"',
        )


def _model_problems(plan: Plan, built: Mapping[str, Any]) -> list[PlanError]:
    """What the plan asks of a model that does not do it."""
    model = built.get("models")
    problems: list[PlanError] = []
    if model is None:
        return problems
    aligned = [key for key in ("alignment_cut", "alignment_fusion") if getattr(plan.train, key)]
    if aligned and model.head is None:
        problems.append(
            PlanError(
                f"train.{aligned[0]}: model '{model.name}' has no views of its modalities to align",
                found=getattr(plan.train, aligned[0]),
                way_out='leave it out, or set model.name = "fusion"',
            )
        )
    if plan.train.distance_correlation and not plan.cut.enabled:
        problems.append(
            PlanError(
                "train.distance_correlation: nothing leaves the device where the cut is off",
                found=plan.train.distance_correlation,
                way_out="leave it out, or set cut.enabled = true",
            )
        )
    if "layout" in plan.model.options:
        problems.append(
            PlanError(
                "model.options.layout: it is filled in from the data",
                found=shown(plan.model.options["layout"]),
                way_out="leave it out",
            )
        )
    if model.novelty is not None and plan.evaluate.thresholds != "sum":
        problems.append(
            PlanError(
                "evaluate.thresholds: a self-supervised score is fused by summed counts, which one can bend",
                found=f"{plan.evaluate.thresholds}, a model with such a score",
                way_out='novelty_hidden = 0, or evaluate.thresholds = "sum" where all sites are trusted',
            )
        )
    if model.head is not None and (model.loss is not None or model.novelty is not None):
        problems.append(
            PlanError(
                f"model.name: '{model.name}' has a head at the device, and a loss or score of its own",
                found=model.name,
                way_out="a U-shaped model has neither",
            )
        )
    return problems


def _federate_problems(plan: Plan, built: Mapping[str, Any]) -> list[PlanError]:
    """What is wrong only between parts; built: those that could be built, by family."""
    problems = []
    share, selection = plan.federate.participation, built.get("selections")
    if selection is not None and selection.partial != (share < 1):
        problems.append(
            PlanError(
                f"federate.participation: has no meaning with federate.selection='{selection.name}'",
                found=share,
                way_out="a share under 1"
                if selection.partial
                else "1, or another selection such as 'uniform'",
            )
        )
    if "algorithms" in built and "models" in built:
        try:
            personal_mask(built["algorithms"], built["models"], 2, 2)
        except PlanError as error:
            problems.append(error)
        if built["algorithms"].personal is not None and plan.evaluate.leave_one_site_out:
            problems.append(
                PlanError(
                    "evaluate.leave_one_site_out: a site that took no part has no layers of its own",
                    found=f"federate.algorithm='{plan.federate.algorithm}'",
                    way_out="set it to 0 (no --full), or choose an algorithm that shares the whole model",
                )
            )
    return problems


def _attack_conflicts(plan: Plan) -> Iterator[PlanError]:
    """An attack without sites, sites without an attack, and an attack after the end."""
    attack = plan.attack
    if attack.name and attack.share == 0:
        yield PlanError(
            f"attack.share: attack '{attack.name}' needs hostile sites",
            found=attack.share,
            way_out="for instance attack.share = 0.3, or leave attack.name out",
        )
    for key in ("share", "options", "first_round"):
        value = getattr(attack, key)
        if not attack.name and value != AttackPlan.model_fields[key].get_default(call_default_factory=True):
            yield PlanError(
                f"attack.{key}: has no meaning without attack.name",
                found=shown(value),
                way_out="leave it out, or name an attack (lazaretto list attacks)",
            )
    if attack.name and plan.evaluate.leave_one_site_out:
        yield PlanError(
            "evaluate.leave_one_site_out: not together with an attack, which is drawn for all sites",
            found=plan.evaluate.leave_one_site_out,
            way_out="leave one of the two out",
        )
    if attack.name and attack.first_round > plan.train.rounds:
        yield PlanError(
            "attack.first_round: after the last round",
            found=f"{attack.first_round}, and train.rounds = {plan.train.rounds}",
            way_out=f"at most {plan.train.rounds}",
        )


def _reputation_conflicts(plan: Plan) -> Iterator[PlanError]:
    """Settings of a reputation that is not kept, or that one round would ruin."""
    reputation = plan.reputation
    for key, field in ReputationPlan.model_fields.items():
        value = getattr(reputation, key)
        if not reputation.enabled and value != field.default:
            yield PlanError(
                f"reputation.{key}: has no meaning with reputation.enabled=false",
                found=shown(value),
                way_out="leave it out, or set reputation.enabled = true",
            )
    if reputation.enabled and reputation.quarantine_below > reputation.decay:
        yield PlanError(
            "reputation.quarantine_below: above reputation.decay, so that one round would do it",
            found=f"{reputation.quarantine_below}, and reputation.decay = {reputation.decay}",
            way_out=f"at most {reputation.decay}",
        )
    elif reputation.enabled and reputation.probation_rounds:
        yield from _probation_conflicts(plan)


def _probation_conflicts(plan: Plan) -> Iterator[PlanError]:
    """A probation in which nobody can come into quarantine, or that is longer than the training."""
    asked = plan.reputation
    kept = ReputationSettings(**asked.model_dump(exclude={"enabled", "probation_rounds"}))
    if plan.sites.count and int(asked.at_most * plan.sites.count + 1e-9) == 0:
        yield PlanError(
            "reputation.at_most: no room for a single site",
            found=f"{asked.at_most} of {plan.sites.count}",
            way_out=f"at least {1 / plan.sites.count:.2g}",
        )
    least, most = rounds_to_quarantine(kept), plan.train.rounds
    if not least <= asked.probation_rounds <= most:
        yield PlanError(
            f"reputation.probation_rounds: nobody is in quarantine before round {least}, "
            f"and train.rounds = {most}",
            found=asked.probation_rounds,
            way_out=f"from {least} to {most}, or 0"
            if least <= most
            else "0, or more train.rounds, or a smaller reputation.decay",
        )


def _attack_problems(plan: Plan, built: Mapping[str, Any]) -> Iterator[PlanError]:
    """A first round of what does not go by rounds; families that false labels would hide; lies to nobody."""
    attack = built.get("attacks")
    if attack is None:
        return
    if attack.poison is not None and plan.evaluate.leave_one_family_out:
        yield PlanError(
            f"evaluate.leave_one_family_out: attack '{attack.name}' hides families under false labels",
            found=True,
            way_out="set evaluate.leave_one_family_out = false",
        )
    if attack.craft is None and plan.attack.first_round != 1:
        yield PlanError(
            f"attack.first_round: attack '{attack.name}' sends no false updates that could begin later",
            found=plan.attack.first_round,
            way_out="leave it out",
        )
    algorithm = built.get("algorithms")
    if attack.kind == "scores" and algorithm is not None and algorithm.personal is not None:
        yield PlanError(
            f"attack.name: '{attack.name}' reaches nobody, as each site sets a threshold of its own here",
            found=f"federate.algorithm = {plan.federate.algorithm}",
            way_out="another attack, or fedavg",
        )


def _compress_problems(plan: Plan, built: Mapping[str, Any]) -> Iterator[PlanError]:
    """A scheme that does not go with who takes part."""
    made = built.get("compressors")
    if made is not None:
        momentum = plan.aggregate.client_momentum
        yield from compress_conflicts(plan.compress, made, plan.federate.participation, momentum)


def _reputation_problems(plan: Plan, built: Mapping[str, Any]) -> list[PlanError]:
    """Trust by a rule that cannot suspect anybody."""
    rule = built.get("rules")
    if rule is None or rule.sees != "sum" or not plan.reputation.enabled:
        return []
    return [
        PlanError(
            f"reputation.enabled: rule '{rule.name}' sees no single update, so it suspects nobody",
            found=True,
            way_out="leave it out, or choose a rule that looks at updates",
        )
    ]


def _modality_problems(plan: Plan) -> Iterator[PlanError]:
    """What needs several modalities, where there is one."""
    if plan.data.modality == "combined":
        return
    asked = [f"train.{key}" for key in _OF_SEVERAL if getattr(plan.train, key)]
    asked += [f"evaluate.baselines: '{name}'" for name in _ALONE if name in plan.evaluate.baselines]
    for name in asked:
        yield PlanError(
            f"{name}: has no meaning with one modality",
            found=f"data.modality = {plan.data.modality!r}",
            way_out='leave it out, or set data.modality and run.setting to "combined"',
        )
