"""What all systems share: the data of each seed, compiled programs, and how a plan's settings become them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.data.streams import Streams, select
from lazaretto.dp_local import private_training
from lazaretto.errors import PlanError
from lazaretto.evaluate.operating import Operating
from lazaretto.evaluate.scored import Scored, SeedScores
from lazaretto.local import LocalTraining, batches_in_round
from lazaretto.plan import Plan
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.promise import mechanism_of
from lazaretto.run.away import without_site
from lazaretto.run.journal import Journal
from lazaretto.run.modalities import model_options
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared, members
from lazaretto.run.settled import settled
from lazaretto.run.simulate import Program, compile_program
from lazaretto.run.train import Schedule
from lazaretto.types import TEST, VALIDATION, Float, Model

__all__ = [
    "Bench",
    "Job",
    "label_of",
    "make_bench",
    "own_bench",
    "prepared_for",
    "program_of",
    "schedule_of",
    "scored_part",
    "scored_streams",
    "seed_scores",
    "training_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training: which seed (position in `Bench.prepared`), and what is left out: a family, a site, or
    nothing.
    """

    place: int
    without: int | None = None
    without_site: int | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self.without is None and self.without_site is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all systems share.

    mechanism: what makes our training private, or None. units: room per site, so that one compiled program
    serves all seeds. without: data of a seed (its place)
    without a site, filled as needed. every: rounds between two in which sites judge the model; None for those
    of a whole pass. The last one is always judged.
    """

    plan: Plan
    prepared: Sequence[Prepared]
    journal: Journal
    posts: Sequence[Post]
    units: int
    programs: dict[Any, tuple[Program, Model]] = field(default_factory=dict)
    without: dict[tuple[int, int], Prepared] = field(default_factory=dict)
    every: int | None = None
    mechanism: Mechanism | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """F, K, L."""
        one = self.prepared[0]
        return one.data.x.shape[2], one.kinds, one.data.x.shape[1]


def make_bench(plan: Plan, prepared: Sequence[Prepared], posts: Sequence[Post], journal: Journal) -> Bench:
    """Everything the systems share, for the seeds of `prepared`."""
    units = max([plan.aggregate.root_units, *(len(rows) for one in prepared for rows in members(one))])
    made = mechanism_of(plan)
    if made is not None and made.unit == "record" and any(one.schema.irregular for one in prepared):
        raise PlanError(
            "privacy.unit: a value measured at odd times is read in every window until the next one",
            found="record, and an irregular modality",
            way_out='"patient", which covers the whole stream',
        )
    if plan.train.patches and any(_one_outcome(one) for one in prepared):
        raise PlanError(
            "train.patches: where one outcome is asked for, there are no attacked steps to overwrite",
            found=str(plan.train.patches),
            way_out="leave it out, or a task that finds attacks",
        )
    return Bench(plan=plan, prepared=prepared, posts=posts, journal=journal, units=units, mechanism=made)


def _one_outcome(one: Prepared) -> bool:
    """Whether one step of a stream is judged at most, others being read only."""
    return bool((one.data.judged.sum(axis=1) <= 1).all() and (one.data.valid.sum(axis=1) > 1).any())


def training_of(bench: Bench, name: str, batch: int, ours: bool, crossed: bool = False) -> LocalTraining:
    """How a model of that name trains under the plan. ours: with the terms and noise that ours has.

    crossed: whether activations leave a device, so that they should tell little of the readings.
    """
    plan = bench.plan
    noisy = ours or name in plan.evaluate.noisy_baselines
    return LocalTraining(
        window=bench.prepared[0].data.window,
        batch_units=batch,
        local_epochs=plan.train.local_epochs,
        optimiser=plan.train.optimiser,
        momentum=plan.train.momentum,
        temporal_consistency=plan.train.temporal_consistency if ours else 0.0,
        kind_weight=plan.train.kind_weight,
        anomaly_weight=plan.train.anomaly_weight,
        novelty_weight=plan.train.novelty_weight,
        class_balance=plan.train.class_balance,
        layout=bench.prepared[0].data.layout,
        alignment=(plan.train.alignment_cut, plan.train.alignment_fusion) if ours else (0.0, 0.0),
        alignment_temperature=plan.train.alignment_temperature,
        distance_correlation=plan.train.distance_correlation if crossed else 0.0,
        modality_dropout=plan.train.modality_dropout if ours else 0.0,
        pseudo_attacks=plan.train.pseudo_attacks if ours else 0.0,
        level_noise=plan.train.level_noise if noisy else 0.0,
        step_noise=plan.train.step_noise if noisy else 0.0,
        feature_dropout=plan.train.feature_dropout if noisy else 0.0,
        patches=plan.train.patches if ours else 0.0,
        weight_decay=plan.train.weight_decay,
        clip_norm=plan.train.clip_norm,
        synchronise=plan.cut.synchronise,
    )


def program_of(
    bench: Bench,
    name: str,
    cut: Cut,
    training: LocalTraining,
    federated: bool = False,
    mechanism: Mechanism | None = None,
) -> tuple[Program, Model]:
    """The compiled program, made once for equal settings. federated: with the plan's algorithm.

    mechanism: what makes the sites' training private, or None.
    """
    plan = bench.plan
    algorithm = catalog.build("algorithms", plan.federate.algorithm, plan.federate.options)
    if not federated or algorithm.correct is None:  # then local training is plain
        algorithm = None
    corrected = None if algorithm is None else (algorithm.name, repr(plan.federate.options))
    if mechanism is not None:
        training = private_training(training)
    key = (
        name,
        cut,
        training,
        corrected,
        repr(plan.model.options),
        mechanism and (mechanism.unit, mechanism.steps),
    )
    if key not in bench.programs:
        model = catalog.build("models", name, model_options(plan, name, bench.prepared[0].data.layout))
        features, kinds, length = bench.shape
        made = compile_program(model, cut, training, features, kinds, length, algorithm, mechanism)
        bench.programs[key] = (made, model)
    return bench.programs[key]


def schedule_of(plan: Plan, pooled: bool = False) -> Schedule:
    """Rounds and step sizes, of sites or where one model trains on pooled data."""
    passes = batches_in_round(plan.train.local_epochs, plan.train.rounds)  # in all, rounded up
    return Schedule(
        rounds=(plan.train.pooled_rounds or passes) if pooled else plan.train.rounds,
        learning_rate=plan.train.pooled_learning_rate if pooled else plan.train.learning_rate,
        cosine=plan.train.schedule == "cosine",
    )


def prepared_for(bench: Bench, job: Job) -> Prepared:
    """The data of a job: of a whole seed, or without what one site holds, which is then the one judged."""
    whole = bench.prepared[job.place]
    if job.without_site is None:
        return whole
    key = (job.place, job.without_site)
    if key not in bench.without:
        bench.without[key] = without_site(whole, job.without_site, Post())
    return bench.without[key]


def own_bench(bench: Bench, system: str) -> Bench:
    """The bench with the settings that the plan has for this system alone."""
    return replace(bench, plan=settled(bench.plan, system))


def label_of(system: str, bench: Bench, job: Job) -> str:
    """What a job of a system is called in the log."""
    whole = bench.prepared[job.place]
    if job.without_site is not None:
        return f"{system} without site {whole.site_names[job.without_site]}"
    return system if job.without is None else f"{system} without {whole.schema.classes[job.without]}"


def scored_part(prepared: Prepared, split: int, score: Float, by_site: bool = False) -> Scored:
    """Scores [u, L] of one split beside its truth. by_site: each site has its own threshold."""
    return scored_streams(prepared.data, split, score, by_site)


def scored_streams(data: Streams, split: int, score: Float, by_site: bool = False) -> Scored:
    """The same of streams, scaled or not: the truth is all that is read of them."""
    part = select(data, data.split == split)
    return Scored(
        score=score,
        y=part.y,
        valid=part.judged,
        site=part.site,
        unit=part.unit,
        threshold_group=part.site if by_site else None,
        intensity=part.intensity,
    )


def seed_scores(
    prepared: Prepared,
    arrays: dict[str, Any],
    prefix: str = "",
    by_site: bool = False,
    operating: Operating | None = None,
) -> SeedScores:
    """Scores of validation and test out of a stage's arrays, whose names begin with `prefix`.

    operating: thresholds and calibration that were agreed on already, or None.
    """
    return SeedScores(
        validation=scored_part(prepared, VALIDATION, arrays[f"{prefix}validation"], by_site),
        test=scored_part(prepared, TEST, arrays[f"{prefix}test"], by_site),
        operating=operating,
    )
