"""The systems that are compared: each trains on what it may see and scores validation and test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.data.streams import select
from lazaretto.evaluate.baselines import gradient_boosting, logistic_regression, rate_threshold
from lazaretto.evaluate.scored import OURS, Scored, SeedScores
from lazaretto.keys import seed_of
from lazaretto.local import LocalTraining
from lazaretto.plan import Plan
from lazaretto.run.agreed import agree_threshold
from lazaretto.run.away import without_site
from lazaretto.run.cost import cost_of_training
from lazaretto.run.federation import train_federation
from lazaretto.run.fused import scores_of
from lazaretto.run.journal import Journal, Stage, stage
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared, members
from lazaretto.run.settled import settled, tuned_of
from lazaretto.run.simulate import Program, compile_program, initial_vectors, pack_sites
from lazaretto.run.taking_part import federation_of
from lazaretto.run.train import Schedule, train_alone
from lazaretto.run.watch import Timed, Watch, exchange_counter, show_rounds
from lazaretto.types import TEST, VALIDATION, Float, Int, Model

__all__ = [
    "WINDOWED",
    "Bench",
    "Job",
    "Trained",
    "centralised",
    "federated",
    "local_only",
    "make_bench",
    "prepared_for",
    "windowed",
]

_FITS: dict[str, Callable[..., Any]] = {
    "gradient_boosting": gradient_boosting,
    "logistic_regression": logistic_regression,
}
WINDOWED = (*_FITS, "rate_threshold")
_EXACT = Cut(bits=32)


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

    units: room per site, so that one compiled program serves all seeds. without: data of a seed (its place)
    without a site, filled as needed.
    """

    plan: Plan
    prepared: Sequence[Prepared]
    journal: Journal
    posts: Sequence[Post]
    units: int
    programs: dict[Any, tuple[Program, Model]] = field(default_factory=dict)
    without: dict[tuple[int, int], Prepared] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """F, K, L."""
        one = self.prepared[0]
        return one.data.x.shape[2], one.kinds, one.data.x.shape[1]


def make_bench(plan: Plan, prepared: Sequence[Prepared], posts: Sequence[Post], journal: Journal) -> Bench:
    """Everything the systems share, for the seeds of `prepared`."""
    units = max(len(rows) for one in prepared for rows in members(one))
    return Bench(plan=plan, prepared=prepared, posts=posts, journal=journal, units=units)


def _training(bench: Bench, name: str, batch: int, ours: bool) -> LocalTraining:
    plan = bench.plan
    noisy = ours or name in plan.evaluate.noisy_baselines
    return LocalTraining(
        window=bench.prepared[0].data.window,
        batch_units=batch,
        local_epochs=plan.train.local_epochs,
        optimiser=plan.train.optimiser,
        temporal_consistency=plan.train.temporal_consistency if ours else 0.0,
        kind_weight=plan.train.kind_weight,
        novelty_weight=plan.train.novelty_weight,
        pseudo_attacks=plan.train.pseudo_attacks if ours else 0.0,
        level_noise=plan.train.level_noise if noisy else 0.0,
        step_noise=plan.train.step_noise if noisy else 0.0,
        feature_dropout=plan.train.feature_dropout if noisy else 0.0,
        weight_decay=plan.train.weight_decay,
        clip_norm=plan.train.clip_norm,
        synchronise=plan.cut.synchronise,
    )


def _program(
    bench: Bench, name: str, cut: Cut, training: LocalTraining, federated: bool = False
) -> tuple[Program, Model]:
    plan = bench.plan
    algorithm = catalog.build("algorithms", plan.federate.algorithm, plan.federate.options)
    if not federated or algorithm.correct is None:  # then local training is plain
        algorithm = None
    corrected = None if algorithm is None else (algorithm.name, repr(plan.federate.options))
    key = (name, cut, training, corrected, repr(plan.model.options))
    if key not in bench.programs:
        model = catalog.build("models", name, plan.model.options if name == plan.model.name else {})
        features, kinds, length = bench.shape
        made = compile_program(model, cut, training, features, kinds, length, algorithm)
        bench.programs[key] = (made, model)
    return bench.programs[key]


def _schedule(plan: Plan, pooled: bool = False) -> Schedule:
    return Schedule(
        rounds=(plan.train.pooled_rounds if pooled else None) or plan.train.rounds,
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


def _own(bench: Bench, system: str) -> Bench:
    """The bench with the settings that the plan has for this system alone."""
    return replace(bench, plan=settled(bench.plan, system))


def _label(system: str, bench: Bench, job: Job) -> str:
    whole = bench.prepared[job.place]
    if job.without_site is not None:
        return f"{system} without site {whole.site_names[job.without_site]}"
    return system if job.without is None else f"{system} without {whole.schema.classes[job.without]}"


def _scored(prepared: Prepared, split: int, score: Float, by_site: bool = False) -> Scored:
    part = select(prepared.data, prepared.data.split == split)
    return Scored(
        score=score,
        y=part.y,
        valid=part.judged,
        site=part.site,
        unit=part.unit,
        threshold_group=part.site if by_site else None,
        intensity=part.intensity,
    )


def _seed_scores(
    prepared: Prepared, arrays: dict[str, Any], prefix: str = "", by_site: bool = False
) -> SeedScores:
    return SeedScores(
        validation=_scored(prepared, VALIDATION, arrays[f"{prefix}validation"], by_site),
        test=_scored(prepared, TEST, arrays[f"{prefix}test"], by_site),
    )


class Trained(NamedTuple):
    """A federation at its end: scores, the final vector [d] and the rows of messages.

    supervised: scores of the supervised part alone, and tails: what fuses both parts (`evaluate.fusion`);
    None where the model has no self-supervised score. Where an algorithm leaves something at the sites, each
    site has its own vector, [S, d], and judges with its own threshold.
    """

    scores: SeedScores
    vector: Float
    messages: list[dict[str, Any]]
    supervised: SeedScores | None
    tails: Any


def federated(bench: Bench, system: str, job: Job) -> Trained:
    """Ours ("federated split"), or "unsplit": one device per site and no cut."""
    bench = _own(bench, system)
    plan, prepared, post = bench.plan, prepared_for(bench, job), Post()
    split = system == OURS and plan.cut.enabled
    devices = plan.sites.devices if split else 1
    cut = Cut(plan.cut.bits, plan.cut.clip, plan.cut.noise) if split else _EXACT
    batch = plan.train.batch_units if split else plan.train.batch_units * plan.sites.devices
    label = _label(system, bench, job)
    if job.whole and system == OURS:
        post = bench.posts[job.place]  # which already carried the scaling

    def make(unfinished: Path) -> Stage:
        training = _training(bench, plan.model.name, batch, ours=True)
        program, model = _program(bench, plan.model.name, cut, training, federated=True)
        data, sizes = pack_sites(
            prepared.data,
            members(prepared, job.without),
            devices,
            plan.train.class_balance,
            prepared.kinds,
            program.cores,
            units=-(-bench.units // devices),
        )
        vector = initial_vectors(model, bench.shape[0], prepared.kinds, [prepared.seed])[0]
        watch = Timed(
            Watch(bench.journal, program, prepared, post, label, plan.train.rounds, detailed=job.whole)
        )
        exchanges = exchange_counter(post, model, data, cut, training, prepared)

        def done(round_number: int, losses: Float, vector: Float, worked: Int) -> None:
            if split:
                exchanges(worked)
            watch(round_number, losses, vector)

        vector = train_federation(
            program,
            data,
            prepared.site_names,
            sizes,
            federation_of(plan, model, bench.shape[0], prepared.kinds),
            _schedule(plan),
            (vector, prepared.seed),
            (post, unfinished, done),
        )
        common = vector.ndim == 1  # else each site sets its own thresholds
        arrays = scores_of(
            program, vector, prepared, plan.evaluate.novelty_weight, post if common else None
        ) | {"vector": vector}
        if common:
            agree_threshold(prepared, arrays["validation"], plan.evaluate.false_positive_rate, post)
        spent = cost_of_training(model, cut, training, prepared.kinds, data, plan.train.rounds)
        cost: dict[str, float] = {"parameters": program.parameters}
        if plan.federate.participation == 1 and not (plan.federate.drop_outs or plan.federate.stragglers):
            cost["flops"] = sum(one["flops"] for one in spent)  # else it is chance who works how much
        return arrays, {"messages": post.rows(), "compile_seconds": watch.compile_seconds, "cost": cost}

    arrays, meta = stage(bench.journal, label, make, prepared.seed)
    if job.whole:
        bench.journal.record("messages", {"seed": prepared.seed, "system": label, "rows": meta["messages"]})
    by_site = arrays["vector"].ndim == 2
    alone = "supervised.test" in arrays
    return Trained(
        scores=_seed_scores(prepared, arrays, by_site=by_site),
        vector=arrays["vector"],
        messages=meta["messages"],
        supervised=_seed_scores(prepared, arrays, "supervised.", by_site) if alone else None,
        tails=arrays.get("tails"),
    )


def local_only(bench: Bench, job: Job) -> SeedScores:
    """Every site trains the same split model alone; each judges its own units with its own threshold."""
    bench = _own(bench, "local")
    plan, prepared = bench.plan, prepared_for(bench, job)
    cut = Cut(plan.cut.bits, plan.cut.clip, plan.cut.noise) if plan.cut.enabled else _EXACT
    devices = plan.sites.devices if plan.cut.enabled else 1
    sites = len(prepared.site_names)

    def make(unfinished: Path) -> Stage:
        batch = plan.train.batch_units if plan.cut.enabled else plan.train.batch_units * plan.sites.devices
        training = _training(bench, plan.model.name, batch, ours=True)
        program, model = _program(bench, plan.model.name, cut, training)
        data, _ = pack_sites(
            prepared.data,
            members(prepared, job.without),
            devices,
            plan.train.class_balance,
            prepared.kinds,
            program.cores,
            units=-(-bench.units // devices),
        )
        first = initial_vectors(model, bench.shape[0], prepared.kinds, [prepared.seed])
        done = Timed(show_rounds(bench.journal, "local", prepared.seed, plan.train.rounds))
        vectors = train_alone(
            program,
            data,
            np.repeat(first, data.x.shape[0], axis=0),
            prepared.seed,
            _schedule(plan),
            (unfinished, done),
        )
        arrays = scores_of(program, vectors[:sites], prepared, plan.evaluate.novelty_weight)
        spent = cost_of_training(model, cut, training, prepared.kinds, data, plan.train.rounds)
        cost = {"flops": sum(one["flops"] for one in spent)}
        return arrays, {"cost": cost, "compile_seconds": done.compile_seconds}

    arrays, _ = stage(bench.journal, _label("local", bench, job), make, prepared.seed)
    return _seed_scores(prepared, arrays, by_site=True)


def centralised(bench: Bench, system: str, jobs: Sequence[Job]) -> list[SeedScores]:
    """One model per job on the pooled data of all sites; jobs run side by side, one to a core.

    system: "pooled" (our model, no cut) or the name of a baseline model.
    """
    bench = _own(bench, system)
    plan = bench.plan
    pooled = system == "pooled"
    name = plan.model.name if pooled else system

    def make(unfinished: Path) -> Stage:
        training = _training(bench, name, plan.train.pooled_batch_units, ours=pooled)
        program, model = _program(bench, name, _EXACT, training)
        packs = []
        width = max(sum(len(rows) for rows in members(one)) for one in bench.prepared)
        for job in jobs:
            prepared = prepared_for(bench, job)
            rows = np.concatenate(members(prepared, job.without))
            pack, _ = pack_sites(
                prepared.data, [rows], 1, plan.train.class_balance, prepared.kinds, 1, units=width
            )
            packs.append(pack)
        spare = -len(jobs) % program.cores
        packs += [packs[0]._replace(units=np.zeros(1, np.int32))] * spare
        data = type(packs[0])(*(np.concatenate(values) for values in zip(*packs, strict=True)))
        seeds = [bench.prepared[job.place].seed for job in jobs]
        vectors = initial_vectors(model, bench.shape[0], bench.shape[1], seeds + seeds[:1] * spare)
        schedule = _schedule(plan, pooled=True)
        done = Timed(show_rounds(bench.journal, system, None, schedule.rounds))
        vectors = train_alone(
            program,
            data,
            vectors,
            seed_of(seeds[0], system),
            schedule,
            (unfinished, done),
        )
        arrays: dict[str, Any] = {}
        for place, job in enumerate(jobs):
            found = scores_of(program, vectors[place], prepared_for(bench, job), plan.evaluate.novelty_weight)
            arrays |= {f"{place}.{split}": found[split] for split in ("validation", "test")}
        spent = cost_of_training(model, _EXACT, training, bench.shape[1], data, schedule.rounds)
        whole = [one["flops"] for one, job in zip(spent, jobs, strict=False) if job.whole]
        cost: dict[str, float] = {"trainings": len(jobs), "parameters": program.parameters}
        cost |= {"flops": float(np.mean(whole))} if whole else {}
        return arrays, {"cost": cost, "compile_seconds": done.compile_seconds}

    arrays, _ = stage(bench.journal, system, make)
    return [_seed_scores(prepared_for(bench, job), arrays, f"{place}.") for place, job in enumerate(jobs)]


def windowed(bench: Bench, job: Job, names: Sequence[str]) -> dict[str, SeedScores]:
    """Baselines of scikit-learn on flattened windows of the pooled data."""
    prepared = prepared_for(bench, job)
    found = {}
    for name in names:

        def make(unfinished: Path, name: str = name) -> Stage:
            train = select(prepared.data, np.concatenate(members(prepared, job.without)))
            others = {
                "validation": select(prepared.data, prepared.data.split == VALIDATION),
                "test": select(prepared.data, prepared.data.split == TEST),
            }
            given = {key: (part.x, part.valid) for key, part in others.items()}
            truth = np.where(train.judged, train.y, -1)
            if name == "rate_threshold":
                column = int(prepared.rate_column or 0)
                return dict(rate_threshold(train.x, truth, train.valid, given, column)), {}
            asked, fit = bench.plan.evaluate, _FITS[name]
            limits = {"window_steps": asked.window_steps, "max_rows": asked.window_rows}
            own = tuned_of(bench.plan, name)
            return dict(fit(train.x, truth, train.valid, given, seed=prepared.seed, **limits, **own)), {}

        arrays, _ = stage(bench.journal, _label(name, bench, job), make, prepared.seed)
        found[name] = _seed_scores(prepared, arrays)
    return found
