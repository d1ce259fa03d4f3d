"""Keys of a plan about tuning: how much of it there is, and what it found for each system.

Both sections belong to a plan like any other; `lazaretto.plan_keys` holds the rest.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

__all__ = [
    "TUNABLE",
    "SweepPlan",
    "TunedBoosting",
    "TunedLinear",
    "TunedNetwork",
    "TunedOurs",
    "TunedPlan",
    "settings_of",
]

Tunable: TypeAlias = Literal[
    "federated_split",
    "unsplit",
    "local",
    "pooled",
    "traffic_only",
    "record_only",
    "gradient_boosting",
    "logistic_regression",
    "gru",
    "cnn",
    "autoencoder",
    "tcn",
    "mlp",
]
TUNABLE: tuple[Tunable, ...] = typing.get_args(Tunable)  # rate_threshold has nothing to tune


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("twice", "each may stand once")
    return values


Systems: TypeAlias = Annotated[
    tuple[Tunable, ...], BeforeValidator(_as_tuple), AfterValidator(_distinct), MinLen(1)
]
NotNegative: TypeAlias = Annotated[float, Ge(0)]
Positive: TypeAlias = Annotated[float, Gt(0)]
Part: TypeAlias = Annotated[float, Ge(0), Lt(1)]
Count: TypeAlias = Annotated[int, Ge(1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SweepPlan(_Section):
    """How much `lazaretto sweep` tries. `lazaretto run` does not read this section."""

    draws: Annotated[int, Ge(1), Le(1000)] = Field(
        default=20,
        description="Settings tried for each system, as many for all; the first is the plan as it is.",
    )
    seeds: Count = Field(
        default=2, description="How many of the plan's seeds, from its first on, each setting is judged on."
    )
    systems: Systems | None = Field(
        default=None,
        description="Systems to tune; if absent ours and all baselines of the plan, and with `--over` ours.",
    )


class _TunedTraining(_Section):
    """Settings that every network has; each stands in for the key of that name in [train]."""

    learning_rate: Positive | None = None
    batch_units: Count | None = None
    weight_decay: NotNegative | None = None
    level_noise: NotNegative | None = None
    step_noise: NotNegative | None = None
    feature_dropout: Part | None = None
    kind_weight: NotNegative | None = None


class TunedNetwork(_TunedTraining):
    """A baseline network's own settings. options: of the model, laid over its defaults."""

    options: dict[str, Any] | None = None


class TunedOurs(_TunedTraining):
    """Own settings of a system that trains the plan's model."""

    temporal_consistency: NotNegative | None = None
    pseudo_attacks: Part | None = None


class TunedBoosting(_Section):
    """Gradient boosting: names are scikit-learn's."""

    learning_rate: Annotated[float, Gt(0), Le(1)] | None = None
    max_iter: Annotated[int, Ge(1), Le(2000)] | None = None
    max_leaf_nodes: Annotated[int, Ge(2), Le(1000)] | None = None
    min_samples_leaf: Count | None = None
    l2_regularization: NotNegative | None = None


class TunedLinear(_Section):
    """Logistic regression: C, the inverse strength of its penalty, is scikit-learn's."""

    C: Positive | None = None


_OWN = "Own settings of"


class TunedPlan(_Section):
    """Settings of single systems, laid over the rest of the plan; `lazaretto sweep` finds them."""

    federated_split: TunedOurs | None = Field(default=None, description=f"{_OWN} the federated split model.")
    traffic_only: TunedOurs | None = Field(default=None, description=f"{_OWN} ours on traffic alone.")
    record_only: TunedOurs | None = Field(default=None, description=f"{_OWN} ours on records alone.")
    unsplit: TunedOurs | None = Field(default=None, description=f"{_OWN} the federated model without a cut.")
    local: TunedOurs | None = Field(default=None, description=f"{_OWN} the models that sites train alone.")
    pooled: TunedOurs | None = Field(default=None, description=f"{_OWN} the same model on pooled data.")
    gradient_boosting: TunedBoosting | None = Field(default=None, description=f"{_OWN} gradient boosting.")
    logistic_regression: TunedLinear | None = Field(default=None, description=f"{_OWN} logistic regression.")
    gru: TunedNetwork | None = Field(default=None, description=f"{_OWN} the GRU.")
    cnn: TunedNetwork | None = Field(default=None, description=f"{_OWN} the convolutional network.")
    autoencoder: TunedNetwork | None = Field(default=None, description=f"{_OWN} the autoencoder.")
    tcn: TunedNetwork | None = Field(default=None, description=f"{_OWN} the dilated convolutional network.")
    mlp: TunedNetwork | None = Field(default=None, description=f"{_OWN} the multilayer perceptron.")


def settings_of(system: str) -> Mapping[str, FieldInfo]:
    """The keys of `[tuned.<system>]`."""
    table, _ = typing.get_args(TunedPlan.model_fields[system].annotation)
    fields: Mapping[str, FieldInfo] = table.model_fields
    return fields
