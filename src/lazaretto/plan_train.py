"""The section [train] of a plan: how sites train, and which terms their loss has."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field

from lazaretto.plan_values import Count, Section

__all__ = ["TrainPlan"]


class TrainPlan(Section):
    """Training inside a site and over rounds."""

    rounds: Count = Field(default=40, description="Rounds of training.")
    start: str | None = Field(
        default=None,
        description="Folder of a finished run of the same model on data of the same kind: ours, `local` and "
        "`pooled` begin with its parameters. None: with random ones. Refused where it has seen a window that "
        "is judged, or under privacy this data at all.",
    )
    pooled_rounds: Count | None = Field(
        default=None,
        description="Passes where one model trains on the data of all sites; as many as sites do if absent.",
    )
    local_epochs: Annotated[float, Ge(0.001)] = Field(
        default=1.0,
        description="Passes over a site's data in each round: a whole number, or below 1 that part of its"
        " batches, drawn anew each round.",
    )
    batch_units: Count = Field(default=4, description="Units (sequences) in a batch.")
    pooled_batch_units: Count = Field(
        default=16, description="Units in a batch where one model trains on the data of all sites."
    )
    optimiser: Literal["adam", "sgd"] = Field(default="adam", description="Optimiser at the sites.")
    momentum: Annotated[float, Ge(0), Lt(1)] = Field(
        default=0.9, description="Momentum of `sgd`; a site keeps it from round to round."
    )
    learning_rate: Annotated[float, Gt(0)] = Field(default=0.015, description="Its step size.")
    pooled_learning_rate: Annotated[float, Gt(0)] = Field(
        default=0.004, description="Its step size where one model trains on the data of all sites."
    )
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="Whether the step size falls over the rounds."
    )
    weight_decay: Annotated[float, Ge(0)] = Field(default=0.0, description="Decoupled weight decay of adam.")
    clip_norm: Annotated[float, Gt(0)] = Field(default=1.0, description="Largest norm of a gradient.")
    pseudo_attacks: Annotated[float, Ge(0), Lt(1)] = Field(
        default=0.0,
        description="Share of quiet training streams that get a made-up disturbance, labelled anomalous.",
    )
    level_noise: Annotated[float, Ge(0)] = Field(
        default=0.1, description="Noise added to a training stream as a whole, in scaled units."
    )
    step_noise: Annotated[float, Ge(0)] = Field(
        default=0.1, description="Noise added to every training step, in scaled units."
    )
    feature_dropout: Annotated[float, Ge(0), Lt(1)] = Field(
        default=0.3, description="Largest share of the features that is hidden from a training stream."
    )
    patches: Annotated[float, Ge(0), Le(1)] = Field(
        default=0.0,
        description="Share of training streams in whose attacked steps features are overwritten at random: "
        "against backdoors, which it makes harder and does not rule out. By record: of windows.",
    )
    temporal_consistency: Annotated[float, Ge(0)] = Field(
        default=0.3, description="Weight of the temporal consistency term of the loss."
    )
    kind_weight: Annotated[float, Ge(0)] = Field(
        default=1.0, description="Weight of the term of the loss that names the attack family."
    )
    target_replication: Annotated[float, Ge(0), Le(1)] = Field(
        default=0.0,
        description="Weight of steps that are read, not judged, where one outcome is asked for at the end.",
    )
    novelty_weight: Annotated[float, Gt(0)] = Field(
        default=1.0,
        description="Weight of the term of the self-supervised score, where the model has one.",
    )
    alignment_cut: Annotated[float, Ge(0)] = Field(
        default=0.0,
        description="Weight of the term that asks the modalities of a unit to agree, at the cut.",
    )
    alignment_fusion: Annotated[float, Ge(0)] = Field(
        default=0.0, description="The same where they are fused, each with its own past."
    )
    alignment_temperature: Annotated[float, Gt(0)] = Field(
        default=0.2, description="What divides the cosines of both terms; a small one looks at near ones."
    )
    distance_correlation: Annotated[float, Ge(0)] = Field(
        default=0.0,
        description="Weight of the term that asks activations to tell less of the readings.",
    )
    modality_dropout: Annotated[float, Ge(0), Lt(1)] = Field(
        default=0.0, description="Share of training streams that lose one of several modalities."
    )
    class_balance: Annotated[float, Ge(0), Lt(1)] = Field(
        default=0.999,
        description="Beta of the class-balanced loss (Cui et al. 2019); 0 weighs all steps alike. Each site "
        "balances what it has, so that what is rare at one weighs more there than at another.",
    )
    anomaly_weight: Annotated[float, Gt(0), Le(1000)] = Field(
        default=1.0,
        description="What an anomalous step weighs beside a normal one of the same batch, on top of that. "
        "Under DP-SGD: of the same example, so that it tells only in those that hold both.",
    )
