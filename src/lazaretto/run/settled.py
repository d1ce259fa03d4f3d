"""The plan as one system sees it, its own tuned settings laid over what holds for all."""

from __future__ import annotations

from typing import Any

from lazaretto.evaluate.scored import OURS
from lazaretto.plan import ModelPlan, Plan

__all__ = ["key_of", "settled", "tuned_of"]

_POOLED = {"learning_rate": "pooled_learning_rate", "batch_units": "pooled_batch_units"}
_NOISE = ("level_noise", "step_noise", "feature_dropout")
_AT_SITES = ("federated_split", "unsplit", "local", "traffic_only", "record_only")
_OF_THE_PLANS_MODEL = (*_AT_SITES, "pooled")


def key_of(system: str) -> str:
    """A system's name as plans write it: "federated split" is `federated_split`."""
    return OURS.replace(" ", "_") if system == OURS else system


def tuned_of(plan: Plan, system: str) -> dict[str, Any]:
    """What `[tuned.<system>]` sets, {} where there is no such table; system as in reports or plans."""
    table = getattr(plan.tuned, key_of(system), None)
    return {} if table is None else table.model_dump(exclude_none=True)


def settled(plan: Plan, system: str) -> Plan:
    """The plan with a network's own settings laid over [train], [model] and `evaluate.noisy_baselines`.

    Where one model trains on pooled data, its learning rate and batch are those of the keys `pooled_...`. A
    baseline that is given any noise of its own trains with that, and with no other unless the plan has it
    among the noisy ones. Without a table in [tuned] the plan comes back as it is.
    """
    own = tuned_of(plan, system)
    if not own:
        return plan
    name, train = key_of(system), dict(own)
    update: dict[str, Any] = {}
    options = train.pop("options", {})
    if name not in _OF_THE_PLANS_MODEL:
        noisy = plan.evaluate.noisy_baselines
        below = plan.model.options if plan.model.name == name else {}
        update["model"] = ModelPlan(name=name, options={**below, **options})
        if name not in noisy and any(key in own for key in _NOISE):
            train = dict.fromkeys(_NOISE, 0.0) | train
            update["evaluate"] = plan.evaluate.model_copy(update={"noisy_baselines": (*noisy, name)})
    if name not in _AT_SITES:
        train = {_POOLED.get(key, key): value for key, value in train.items()}
    return plan.model_copy(update={**update, "train": plan.train.model_copy(update=train)})
