"""The keys of a plan: frozen sections, each key with its type, default, range and meaning.

To add a key, add a field here; reading, `--set`, errors and the documents' check find it by itself.
What is wrong only in combination stands in `lazaretto.plan_checks`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, Field
from pydantic.fields import FieldInfo

from lazaretto.plan_compress import CompressPlan
from lazaretto.plan_data import DataPlan
from lazaretto.plan_privacy import PrivacyPlan
from lazaretto.plan_robustness import RobustnessPlan
from lazaretto.plan_split import SplitPlan
from lazaretto.plan_sweep import SweepPlan, TunedPlan
from lazaretto.plan_train import TrainPlan
from lazaretto.plan_values import (
    BASELINES,
    USUAL,
    Baselines,
    Count,
    Options,
    Section,
    Seeds,
    Share,
    SiteCount,
    whole_bits,
)
from lazaretto.plan_words import Takes, takes_of

__all__ = [
    "BASELINES",
    "AggregatePlan",
    "AttackPlan",
    "CompressPlan",
    "CutPlan",
    "DataPlan",
    "EvaluatePlan",
    "FederatePlan",
    "ModelPlan",
    "Plan",
    "PlanKey",
    "PrivacyPlan",
    "ReputationPlan",
    "RobustnessPlan",
    "RunPlan",
    "SecurePlan",
    "SitesPlan",
    "SplitPlan",
    "TrainPlan",
    "known_keys",
]


class RunPlan(Section):
    """What the experiment is called, and how often it is repeated."""

    name: Annotated[
        str, Takes("at most 64 letters, digits, '.', '_' and '-', the first a letter or a digit")
    ] = Field(
        default="run",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Name of the run; without `--out` it is written to `runs/<name>`.",
    )
    seeds: Seeds = Field(default=(0, 1), description="One full repetition for each seed.")
    setting: Literal["traffic", "record", "combined"] = Field(
        default="traffic", description="What is judged; the same as `data.modality`."
    )
    headline_seeds: Count = Field(
        default=5, description='A run with fewer seeds than this is marked "quick look" in its report.'
    )


class SitesPlan(Section):
    """How units are dealt to sites, and how sites differ."""

    by: Literal["natural", "unit", "dirichlet", "quantity"] = Field(
        default="natural",
        description="`natural`: as the source says; `unit`: evenly; `dirichlet`: skewed in attack families; "
        "`quantity`: skewed in size.",
    )
    count: Count | None = Field(
        default=None, description="Number of sites; with `natural` its sites are subdivided, else needed."
    )
    alpha: Annotated[float, Gt(0)] = Field(
        default=0.3, description="Concentration of the label skew with `dirichlet`; smaller is more skewed."
    )
    quantity_alpha: Annotated[float, Gt(0)] = Field(
        default=1.0, description="Concentration of the size skew with `quantity`; smaller is more skewed."
    )
    feature_shift: Annotated[float, Ge(0)] = Field(
        default=0.0, description="Size of a fixed shift of each site's features, in standard deviations."
    )
    withhold_families: Annotated[int, Ge(0)] = Field(
        default=0, description="Attack families that each site lacks in training; it is still judged on them."
    )
    devices: Count = Field(default=2, description="Devices per site that hold the bottom of the model.")


class ModelPlan(Section):
    """The model that is trained."""

    name: str = Field(default="conv_gru", description="Name of a model (`lazaretto list models`).")
    options: Options = Field(default_factory=dict, description="Options of the model.")


class CutPlan(Section):
    """What passes between a device and its site."""

    enabled: bool = Field(default=True, description="Whether the model is split between device and site.")
    bits: Annotated[int, AfterValidator(whole_bits), Takes("a whole number from 2 to 8, or 32")] = Field(
        default=8, description="Bits of each activation sent, 2 to 8; 32 sends floats as they are."
    )
    noise: Annotated[float, Ge(0)] = Field(
        default=0.0,
        description="Standard deviation of Gaussian noise on the activations, before they are clipped.",
    )
    clip: Annotated[float, Gt(0)] = Field(
        default=4.0,
        description="Each activation is clipped to plus or minus this; with 32 bits it crosses as it is.",
    )
    synchronise: Literal["round", "step"] = Field(
        default="step",
        description="How a site's devices keep one bottom: `step`: its gradients are averaged at every step; "
        "`round`: each device trains its own, and they are averaged after the round.",
    )


class AggregatePlan(Section):
    """How the sites' updates become one."""

    rule: str = Field(
        default="mean",
        description="Name of a rule (`lazaretto list rules`), or several in a chain, pre-aggregators first: "
        '"clip \\| nnm \\| multi_krum".',
    )
    options: Options = Field(
        default_factory=dict,
        description="Options of the rule; of a chain a table for each part: `{ nnm = { hostile = 0.2 } }`.",
    )
    client_momentum: Annotated[float, Ge(0), Lt(1)] = Field(
        default=0.0,
        description="Share of what a site sent last in what it sends; the rest is its new update.",
    )
    root_units: Annotated[int, Ge(0)] = Field(
        default=0,
        description="Training units that the coordinator holds itself, for rules that trust an update of its "
        "own (`fltrust`); drawn over all sites and taken from them, honest, and of no use to other rules.",
    )


class FederatePlan(Section):
    """How sites train towards one model, and who takes part in a round."""

    algorithm: str = Field(
        default="fedavg", description="Name of an algorithm (`lazaretto list algorithms`)."
    )
    options: Options = Field(default_factory=dict, description="Options of the algorithm.")
    participation: Annotated[float, Gt(0), Le(1)] = Field(
        default=1.0, description="Share of the sites that is chosen in each round."
    )
    selection: str = Field(
        default="everyone", description="How they are chosen (`lazaretto list selections`)."
    )
    selection_options: Options = Field(default_factory=dict, description="Options of the selection.")
    drop_outs: Annotated[float, Ge(0), Lt(1)] = Field(
        default=0.0, description="Chance that a chosen site gets the model and nothing comes back."
    )
    stragglers: Annotated[float, Ge(0), Lt(1)] = Field(
        default=0.0, description="Chance that a chosen site does only a part of its work in a round."
    )
    straggler_work: Share = Field(default=0.5, description="That part, as a share of its batches.")
    server: str = Field(
        default="plain",
        description="What the coordinator does with the mean update (`lazaretto list server_optimisers`).",
    )
    server_options: Options = Field(default_factory=dict, description="Options of it.")


class AttackPlan(Section):
    """Simulated sites that are hostile, to try protection on."""

    name: str = Field(
        default="", description="Name of an attack (`lazaretto list attacks`); empty for no attack."
    )
    share: Annotated[float, Ge(0), Lt(0.5)] = Field(
        default=0.0,
        description="Share of the sites that is hostile, rounded down to whole sites, and at least one.",
    )
    options: Options = Field(default_factory=dict, description="Options of the attack.")
    first_round: Count = Field(
        default=1,
        description="Round in which they begin to send false updates; false data is false from the start.",
    )


class ReputationPlan(Section):
    """Trust per site over the rounds, from the rule's suspicion: less weight, quarantine, re-admission."""

    enabled: bool = Field(default=False, description="Whether trust is kept and used.")
    decay: Annotated[float, Gt(0), Le(0.999)] = Field(
        default=0.8, description="What is left of trust's past after one round."
    )
    suspected_at: Annotated[float, Gt(0), Le(1)] = Field(
        default=0.5, description="Suspicion from which a round counts fully against a site."
    )
    quarantine_below: Annotated[float, Ge(0.001), Lt(1)] = Field(
        default=0.12,
        description="Trust below which a bad round leads to quarantine: checked, not used; at most `decay`.",
    )
    readmit_rounds: Count = Field(
        default=2, description="Good rounds in a row after which a site in quarantine is back."
    )
    relapse: Annotated[int, Ge(0)] = Field(
        default=2, description="So many rounds more for each quarantine before this one."
    )
    weigh: bool = Field(
        default=True, description="Whether trust lowers what a site weighs before it comes to quarantine."
    )
    at_most: Annotated[float, Gt(0), Le(0.5)] = Field(
        default=0.5,
        description="Share of the sites that may be in quarantine at once; no more than are assumed hostile.",
    )
    camps: bool = Field(
        default=True,
        description="Whether a minority that points another way than the others counts as hostile.",
    )
    alike: bool = Field(
        default=True,
        description="Whether three sites or more that are far more alike than is usual count as hostile.",
    )
    probation_rounds: Annotated[int, Ge(0)] = Field(
        default=0,
        description="Where a site is in quarantine after so many rounds, their model is thrown away and "
        "training begins anew without those sites, which stay out; until then none comes back. 0: never.",
    )


class SecurePlan(Section):
    """Who sees updates: the coordinator, or nobody."""

    protocol: Literal["none", "sharing", "masked", "ckks"] = Field(
        default="none",
        description="`none`: the coordinator sees updates; `sharing`: three aggregators of different "
        "organisations hold shares, and open inner products and the weighted sum alone; `masked`: the "
        "coordinator gets the sum alone, so that no rule can look at sites; `ckks`: the same by encryption, "
        "weaker, with the extra `he`.",
    )
    clip: Annotated[float, Gt(0)] = Field(
        default=100.0,
        description="Euclidean length to which a longer update is shortened before it is shared; with "
        "`masked` and `ckks` the largest absolute value of an entry.",
    )
    fraction_bits: Annotated[int, Ge(1), Le(20)] = Field(
        default=16, description="Bits after the point of a shared update's entries."
    )
    sketch_columns: Annotated[int, Ge(0)] = Field(
        default=0,
        description="Columns of the sketch that inner products are taken of; 0: exact, of all parameters.",
    )
    noise: Annotated[float, Ge(0)] = Field(
        default=0.0,
        description="Standard deviation of the noise that the aggregators add to every entry of the sum.",
    )


class EvaluatePlan(Section):
    """What the trained model is compared with, and how."""

    baselines: Baselines = Field(default=USUAL, description="Systems to compare with.")
    false_positive_rate: Share = Field(
        default=0.01,
        description="Share of normal validation steps above the threshold: of all, at the median site, or at "
        "each.",
    )
    alarm_k: Count = Field(
        default=3,
        description="An alarm is raised once so many of the last `alarm_m` steps are above the threshold.",
    )
    alarm_m: Count = Field(default=5, description="Steps that `alarm_k` looks back over.")
    thresholds: Literal["sum", "median", "own"] = Field(
        default="sum",
        description="How sites come by alarm thresholds: from summed counts of scores, where one site that "
        "lies can silence everyone's alarms; by the `median` of the sites' own; or each goes by its `own`, "
        "and those without one by the median.",
    )
    calibration: Literal["platt", "temperature", "none"] = Field(
        default="platt",
        description="How scores become probabilities, set on validation units: by slope and intercept "
        "(Platt), by one temperature, or as they are.",
    )
    bootstrap: Annotated[int, Ge(100)] = Field(
        default=1000, description="Resamples of units behind each 95 % interval."
    )
    novelty_weight: Annotated[float, Ge(0)] = Field(
        default=1.0,
        description="Weight of the self-supervised score beside the supervised one, where the model has it; "
        "0 leaves it out.",
    )
    window_steps: Count = Field(default=16, description="Steps that the windowed baselines see at once.")
    window_rows: Annotated[int, Ge(100)] = Field(
        default=12_000,
        description="Most training steps that the windowed baselines learn from; more are drawn down.",
    )
    noisy_baselines: Baselines = Field(
        default=("gru",),
        description="Baseline networks that train with the noise and hidden features of [train] as ours "
        "does; name those that do better so on validation units.",
    )
    leave_one_family_out: bool = Field(
        default=True, description="Whether to train again without each attack family and judge on it."
    )
    leave_one_site_out: SiteCount = Field(
        default=0,
        description="How many sites, in order, to train again without and judge on; `lazaretto run --full` "
        'means "all".',
    )
    leave_one_out_seeds: Count = Field(
        default=2, description="How many of the seeds leaving out is repeated for, at most."
    )


class Plan(Section):
    """A whole experiment."""

    run: RunPlan = RunPlan()
    data: DataPlan = DataPlan()
    sites: SitesPlan = SitesPlan()
    split: SplitPlan = SplitPlan()
    model: ModelPlan = ModelPlan()
    cut: CutPlan = CutPlan()
    train: TrainPlan = TrainPlan()
    aggregate: AggregatePlan = AggregatePlan()
    compress: CompressPlan = CompressPlan()
    federate: FederatePlan = FederatePlan()
    attack: AttackPlan = AttackPlan()
    reputation: ReputationPlan = ReputationPlan()
    secure: SecurePlan = SecurePlan()
    privacy: PrivacyPlan = PrivacyPlan()
    evaluate: EvaluatePlan = EvaluatePlan()
    robustness: RobustnessPlan = RobustnessPlan()
    sweep: SweepPlan = SweepPlan()
    tuned: TunedPlan = TunedPlan()


class PlanKey(NamedTuple):
    """One key of a plan: dotted name, what it takes, its default (None if absent), what it means."""

    name: str
    takes: str
    default: Any
    meaning: str


def known_keys() -> tuple[PlanKey, ...]:
    """Every key of a plan, in order of the sections."""
    return tuple(
        PlanKey(
            f"{section}.{name}",
            takes_of(field),
            field.get_default(call_default_factory=True),
            field.description or "",
        )
        for section, fields in _sections()
        for name, field in fields.items()
    )


def _sections() -> Iterator[tuple[str, Mapping[str, FieldInfo]]]:
    for name, field in Plan.model_fields.items():
        section = typing.cast("type[BaseModel]", field.annotation)
        yield name, section.model_fields
