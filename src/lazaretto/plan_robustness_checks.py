"""What [robustness] asks for, laid over a plan: which rules and attacks can be tried, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lazaretto import catalog
from lazaretto.attack_types import Attack
from lazaretto.chain import rule_of
from lazaretto.errors import PlanError
from lazaretto.plan_checks import conflicts, part_problems
from lazaretto.plan_keys import AggregatePlan, AttackPlan, Plan, ReputationPlan, RobustnessPlan
from lazaretto.plan_values import shown

__all__ = ["CHAINS", "NO_ATTACK", "Choices", "choices", "robustness_problems", "under"]

CHAINS = ("nnm | multi_krum", "nnm | geometric_median", "bucketing | centered_clip")
NO_ATTACK = "none"


class Choices(NamedTuple):
    """What is tried. left_out: rule or attack that nobody asked for -> why it cannot run in this plan."""

    rules: tuple[str, ...]
    attacks: tuple[str, ...]
    left_out: Mapping[str, str]


def choices(plan: Plan) -> Choices:
    """Rules and attacks that the plan asks for; where it does not say, all that can run.

    Without `robustness.rules` these are the plan's own rule, every rule of the catalog but pre-aggregators,
    which make nothing of updates alone, and `CHAINS`. A part put into a folder of LAZARETTO_PATH is there by
    itself.
    """
    asked, left_out = plan.robustness, dict[str, str]()
    rules = asked.rules
    if rules is None:
        alone = [name for name in catalog.names("rules") if not rule_of(name, {}).mixes]
        found = [*alone, *(text for text in (plan.aggregate.rule, *CHAINS) if text not in alone)]
        for text in dict.fromkeys(found):
            problems = _problems(_by(plan, text))
            if problems:
                left_out[text] = problems[0].problem.removeprefix("aggregate.rule: ")
        rules = tuple(text for text in dict.fromkeys(found) if text not in left_out)
    attacks = asked.attacks or catalog.names("attacks")
    if asked.attacks is None and _own_thresholds(plan):
        idle = [name for name in attacks if catalog.build("attacks", name).kind == "scores"]
        left_out |= dict.fromkeys(idle, "each site sets a threshold of its own here, so it reaches nobody")
        attacks = tuple(name for name in attacks if name not in idle)
    return Choices(rules, attacks, left_out)


def _own_thresholds(plan: Plan) -> bool:
    """Whether sites keep a part of the model, and so a threshold, to themselves."""
    asked = plan.federate
    return catalog.build("algorithms", asked.algorithm, asked.options).personal is not None


def under(plan: Plan, rule: str, attack: str, share: float) -> Plan:
    """The plan with this rule, and so many sites hostile in this way; `NO_ATTACK` for none of them.

    Reputation is kept where the rule can suspect anybody. What a sweep does not read is left out.
    """
    laid = _by(plan, rule)
    if attack == NO_ATTACK:
        return laid
    own = attack == plan.attack.name
    part: Attack = catalog.build("attacks", attack, plan.attack.options if own else None)
    hostile = AttackPlan(
        name=attack,
        share=share,
        options=plan.attack.options if own else {},
        first_round=plan.attack.first_round if part.craft is not None else 1,
    )
    return laid.model_copy(update={"attack": hostile})


def _by(plan: Plan, rule: str) -> Plan:
    """The plan with this rule and without attack; keys of [aggregate] that go with another rule left out."""
    asked = plan.aggregate
    options = asked.options if rule == asked.rule else {}
    evaluate = {"baselines": (), "leave_one_family_out": False, "leave_one_site_out": 0}
    evaluated = plan.evaluate.model_copy(update=evaluate)
    first: Plan | None = None
    for kept in (asked, AggregatePlan(client_momentum=asked.client_momentum)):
        aggregate = kept.model_copy(update={"rule": rule, "options": options})
        changes = {"aggregate": aggregate, "attack": AttackPlan(), "evaluate": evaluated}
        laid = plan.model_copy(update={**changes, "robustness": RobustnessPlan()})
        if _sums(rule, options):
            laid = laid.model_copy(update={"reputation": ReputationPlan()})
        if not _problems(laid):
            return laid
        first = first or laid
    assert first is not None  # noqa: S101  the loop ran
    return first


def _sums(rule: str, options: Mapping[str, object]) -> bool:
    """Whether the rule sees the sum alone; False where it cannot be built."""
    try:
        return rule_of(rule, options).sees == "sum"
    except (PlanError, TypeError, ValueError):
        return False


def _problems(plan: Plan) -> list[PlanError]:
    return [*conflicts(plan), *part_problems(plan)]


def robustness_problems(plan: Plan) -> Iterator[PlanError]:
    """Rules and attacks that cannot be tried, seeds that are not there, keys without meaning."""
    asked = plan.robustness
    if not asked.enabled:
        for key, field in RobustnessPlan.model_fields.items():
            value = getattr(asked, key)
            if value != field.default:
                yield PlanError(
                    f"robustness.{key}: has no meaning with robustness.enabled=false",
                    found=shown(value),
                    way_out="leave it out, or set robustness.enabled = true",
                )
        return
    of_the_plan = {str(problem) for problem in _problems(plan)}
    for text in asked.rules or ():
        for problem in _problems(_by(plan, text)):
            if str(problem) in of_the_plan:  # said already
                continue
            said = problem.problem.removeprefix("aggregate.rule: ")
            yield PlanError(f"robustness.rules: {said}", found=text, way_out=problem.way_out)
    for name in asked.attacks or ():
        try:
            catalog.build("attacks", name, plan.attack.options if name == plan.attack.name else None)
        except PlanError as problem:
            yield PlanError(f"robustness.attacks: {problem.problem}", found=name, way_out=problem.way_out)
    usual = RobustnessPlan.model_fields["seeds"].default  # of those there are, at most
    if asked.seeds != usual and asked.seeds > len(plan.run.seeds):
        yield PlanError(
            "robustness.seeds: more than run.seeds holds",
            found=f"{asked.seeds}, and run.seeds = {list(plan.run.seeds)}",
            way_out=f"at most {len(plan.run.seeds)}, or name more seeds",
        )
    if asked.screen_seeds > asked.seeds:
        yield PlanError(
            "robustness.screen_seeds: more than robustness.seeds",
            found=f"{asked.screen_seeds} of {asked.seeds}",
            way_out=f"at most {asked.seeds}",
        )
    if asked.screen_share not in asked.shares:
        yield PlanError(
            "robustness.screen_share: not one of robustness.shares",
            found=f"{asked.screen_share}, and {list(asked.shares)}",
            way_out="put it among the shares",
        )
