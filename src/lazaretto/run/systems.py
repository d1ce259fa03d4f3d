"""The systems that are compared: each trains on what it may see and scores validation and test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.data.streams import select, windows_of
from lazaretto.evaluate.baselines import gradient_boosting, logistic_regression, rate_threshold
from lazaretto.evaluate.operating import operating_from_json, operating_to_json
from lazaretto.evaluate.scored import ONLY, OURS, WITHHELD, SeedScores
from lazaretto.keys import seed_of
from lazaretto.plan import Plan
from lazaretto.plan_keys import CompressPlan, PrivacyPlan, SecurePlan
from lazaretto.run.agreed import agree_common, agree_once, as_told
from lazaretto.run.bench import (
    Bench,
    Job,
    label_of,
    own_bench,
    prepared_for,
    program_of,
    schedule_of,
    seed_scores,
    training_of,
)
from lazaretto.run.coordinator import Seen
from lazaretto.run.cost import cost_of_training
from lazaretto.run.federation import train_federation
from lazaretto.run.fused import scores_of
from lazaretto.run.journal import Stage, stage
from lazaretto.run.modalities import only, without
from lazaretto.run.post import Post
from lazaretto.run.prepare import members
from lazaretto.run.private import Promise
from lazaretto.run.protocol import protocol_of
from lazaretto.run.reward import record_reward, reward_of
from lazaretto.run.root import root_streams
from lazaretto.run.settled import tuned_of
from lazaretto.run.shared_noise import among_of
from lazaretto.run.simulate import Program, pack_marks, pack_sites, score_by_site
from lazaretto.run.started import first_vectors
from lazaretto.run.taking_part import federation_of
from lazaretto.run.train import train_alone
from lazaretto.run.watch import Timed, Watch, exchange_counter, show_rounds
from lazaretto.types import TEST, VALIDATION, Float, Int

__all__ = [
    "WINDOWED",
    "Trained",
    "centralised",
    "crossing",
    "federated",
    "local_only",
    "ours_again",
    "windowed",
    "with_trigger",
    "withheld",
]

_FITS: dict[str, Callable[..., Any]] = {
    "gradient_boosting": gradient_boosting,
    "logistic_regression": logistic_regression,
}
WINDOWED = (*_FITS, "rate_threshold")
_EXACT = Cut(bits=32)


def crossing(plan: Plan, split: bool) -> tuple[Cut, int, int]:
    """What crosses, devices of a site, units of a batch on each; where nothing is split a device has all."""
    if not split:
        return _EXACT, 1, plan.train.batch_units * plan.sites.devices
    cut = Cut(plan.cut.bits, plan.cut.clip, plan.cut.noise)
    return cut, plan.sites.devices, plan.train.batch_units


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
    """Ours ("federated split"), ours with one modality alone, or "unsplit": a device per site and no cut.

    "unprotected" is ours without secrecy, compression and privacy, on the data as they were scaled for ours.
    """
    bench = own_bench(bench, system)
    prepared, post = prepared_for(bench, job), Post()
    if system == "unprotected":
        open_plan = {"secure": SecurePlan(), "privacy": PrivacyPlan(), "compress": CompressPlan()}
        bench = replace(bench, plan=bench.plan.model_copy(update=open_plan), mechanism=None)
        prepared = replace(prepared, door=None, count_noise=None)
    plan = bench.plan
    if system in ONLY:
        prepared = only(prepared, ONLY[system])
    split = system != "unsplit" and plan.cut.enabled
    cut, devices, batch = crossing(plan, split)
    label = label_of(system, bench, job)
    if job.whole and system == OURS:
        post = bench.posts[job.place]  # which already carried the scaling
    if prepared.door is not None:  # no secret serves in two trainings
        prepared = replace(prepared, door=prepared.door._replace(label=label))

    def make(unfinished: Path) -> Stage:
        training = training_of(bench, plan.model.name, batch, ours=True, crossed=split)
        inside = None if bench.mechanism is None or bench.mechanism.unit == "site" else bench.mechanism
        program, model = program_of(bench, plan.model.name, cut, training, federated=True, mechanism=inside)
        federation = federation_of(plan, model, bench.shape[0], prepared.kinds, prepared.hostile)
        promise = None if bench.mechanism is None else Promise(bench.mechanism, plan.privacy.noise, label)
        at_sites = inside is not None
        federation = replace(
            federation,
            label=label,
            promise=promise if at_sites else None,
            site_promise=None if at_sites else promise,
        )
        trained_on = members(prepared, job.without)
        data, sizes = pack_sites(
            prepared.data,
            [*trained_on, root_streams(prepared, job.without)] if federation.root else trained_on,
            devices,
            plan.train.class_balance,
            prepared.kinds,
            program.cores,
            units=-(-bench.units // devices),
            replication=plan.train.target_replication,
        )
        if at_sites and plan.privacy.distributed:
            federation = replace(federation, among=among_of(int((sizes[: len(trained_on)] > 0).sum())))
        if federation.promise is not None:
            marked = federation.promise._replace(marks=pack_marks(prepared.data, trained_on, data))
            federation = replace(federation, promise=marked)
        (vector,) = first_vectors(plan, model, bench.shape[:2], [prepared.seed], ours=system not in ONLY)
        rounds, a_pass = plan.train.rounds, bench.every or max(1, round(1 / plan.train.local_epochs))
        watch = Timed(
            Watch(bench.journal, program, prepared, post, label, rounds, detailed=job.whole, every=a_pass)
        )
        exchanges = exchange_counter(post, model, data, cut, training, prepared, inside)

        def done(round_number: int, losses: Float, vector: Float, worked: Int, seen: Seen) -> None:
            if split:
                exchanges(worked)
            if promise is not None and not at_sites:  # noise comes after what is seen of single sites
                seen = seen._replace(flags=(), statistics=None)
            watch(round_number, losses, vector, seen)

        vector, rounds, reputation = train_federation(
            program,
            data,
            prepared.site_names,
            sizes[: len(trained_on)],
            federation,
            schedule_of(plan),
            (vector, prepared.seed),
            (post, unfinished, done),
        )
        common = vector.ndim == 1  # else each site sets its own thresholds
        arrays = scores_of(
            program, vector, prepared, plan.evaluate.novelty_weight, post if common else None
        ) | {"vector": vector}
        agreed: dict[str, Any] = {}
        if prepared.count_noise is not None:
            examples = select(prepared.data, prepared.data.split == VALIDATION)
            score = arrays["validation"]
            if prepared.count_noise.unit == "record":  # as it learned them: each by itself
                examples = windows_of(examples)
            if prepared.count_noise.unit == "record" or plan.cut.noise:
                secret = plan.privacy.noise == "system"  # else noise at the cut goes by who is beside whom
                score = score_by_site(program, vector, examples, secret=secret)
            protocol = protocol_of(plan, prepared)
            drawn, whose = prepared.count_noise.normals, "" if system == OURS else f" of {label}"
            noise = replace(
                prepared.count_noise,
                noise_multiplier=plan.privacy.threshold_noise,
                normals=lambda what, site: drawn(what + whose, site),
            )
            asked = replace(prepared, count_noise=noise)
            to = post if common else None
            agreed = agree_once(unfinished, asked, examples, score, protocol, to)
        elif common:
            scores = seed_scores(prepared, arrays)
            others, named = agree_common(prepared, scores, protocol_of(plan, prepared), post)
            agreed = {} if others is None else {"operating": operating_to_json(others)}
            for row in named:
                bench.journal.record("vote refused", {"seed": prepared.seed, "system": label, **row})
        spent = cost_of_training(model, cut, training, prepared.kinds, data, rounds)
        cost: dict[str, float] = {"parameters": program.parameters}
        chance = plan.federate.participation < 1 or plan.federate.drop_outs or plan.federate.stragglers
        if not chance and inside is None:  # else it is chance who works how much
            cost["flops"] = sum(one["flops"] for one in spent)
        told = {"messages": post.rows(), "compile_seconds": watch.compile_seconds, "cost": cost}
        return arrays, told | agreed | reward_of(prepared.site_names, sizes, reputation, rounds)

    arrays, meta = stage(bench.journal, label, make, prepared.seed)
    if job.whole:
        bench.journal.record("messages", {"seed": prepared.seed, "system": label, "rows": meta["messages"]})
        if system == OURS:
            record_reward(bench.journal, prepared.seed, label, meta)
    by_site = arrays["vector"].ndim == 2
    alone = seed_scores(prepared, arrays, "supervised.", by_site) if "supervised.test" in arrays else None
    operating = operating_from_json(meta["operating"]) if "operating" in meta else None
    return Trained(
        scores=seed_scores(prepared, arrays, by_site=by_site, operating=operating),
        vector=arrays["vector"],
        messages=meta["messages"],
        supervised=alone and as_told(prepared, alone, protocol_of(plan, prepared)),
        tails=arrays.get("tails"),
    )


def withheld(bench: Bench, job: Job, ours: Trained) -> dict[str, SeedScores]:
    """Ours as it was trained, judged with one modality withheld; {} where there is but one.

    Thresholds are set anew on validation units that lack it, too, as sites say of these; but where ours were
    agreed on from noisy counts they serve here as well: exact ones would tell of those units unpriced.
    """
    prepared, program = prepared_for(bench, job), ours_again(bench)
    weight, noisy = bench.plan.evaluate.novelty_weight, prepared.count_noise is not None
    found = {
        name: seed_scores(
            prepared,
            scores_of(program, ours.vector, without(prepared, modality), weight),
            by_site=ours.vector.ndim == 2,
            operating=ours.scores.operating if noisy else None,
        )
        for name, modality in WITHHELD.items()
        if modality in prepared.data.names
    }
    protocol = protocol_of(bench.plan, prepared)
    return found if noisy else {name: as_told(prepared, one, protocol) for name, one in found.items()}


def with_trigger(bench: Bench, job: Job, ours: Trained, split: int = TEST) -> SeedScores | None:
    """Ours as it was trained, judged with the trigger of a backdoor on every attacked step of a split.

    All other splits are untouched: with that of test, thresholds are those of honest validation units, and
    those of ours where it agreed on them from noisy counts, or beside liars. None where no attack of the plan
    teaches a trigger.
    """
    plan, prepared = bench.plan, prepared_for(bench, job)
    attack = catalog.build("attacks", plan.attack.name, plan.attack.options) if plan.attack.name else None
    if attack is None or attack.trigger is None:
        return None
    data = prepared.data
    where = (data.split == split)[:, None] & (data.y > 0) & data.valid
    shown = replace(prepared, data=replace(data, x=attack.trigger(data.x, where)))
    arrays = scores_of(ours_again(bench), ours.vector, shown, plan.evaluate.novelty_weight)
    by_site, operating = ours.vector.ndim == 2, ours.scores.operating
    return seed_scores(prepared, arrays, by_site=by_site, operating=operating)


def ours_again(bench: Bench) -> Program:
    """The program that trained ours."""
    bench = own_bench(bench, OURS)
    plan = bench.plan
    cut, _, batch = crossing(plan, plan.cut.enabled)
    training = training_of(bench, plan.model.name, batch, ours=True, crossed=plan.cut.enabled)
    inside = None if bench.mechanism is None or bench.mechanism.unit == "site" else bench.mechanism
    return program_of(bench, plan.model.name, cut, training, federated=True, mechanism=inside)[0]


def local_only(bench: Bench, job: Job) -> SeedScores:
    """Every site trains the same split model alone; each judges its own units with its own threshold."""
    bench = own_bench(bench, "local")
    plan, prepared = bench.plan, prepared_for(bench, job)
    cut, devices, batch = crossing(plan, plan.cut.enabled)
    sites = len(prepared.site_names)

    def make(unfinished: Path) -> Stage:
        training = training_of(bench, plan.model.name, batch, ours=True, crossed=plan.cut.enabled)
        program, model = program_of(bench, plan.model.name, cut, training)
        data, _ = pack_sites(
            prepared.data,
            members(prepared, job.without),
            devices,
            plan.train.class_balance,
            prepared.kinds,
            program.cores,
            units=-(-bench.units // devices),
            replication=plan.train.target_replication,
        )
        first = first_vectors(plan, model, bench.shape[:2], [prepared.seed], ours=True)
        done = Timed(show_rounds(bench.journal, "local", prepared.seed, plan.train.rounds, sites))
        vectors = train_alone(
            program,
            data,
            np.repeat(first, data.x.shape[0], axis=0),
            prepared.seed,
            schedule_of(plan),
            (unfinished, done),
        )
        arrays = scores_of(program, vectors[:sites], prepared, plan.evaluate.novelty_weight)
        spent = cost_of_training(model, cut, training, prepared.kinds, data, plan.train.rounds)
        cost = {"flops": sum(one["flops"] for one in spent)}
        return arrays, {"cost": cost, "compile_seconds": done.compile_seconds}

    arrays, _ = stage(bench.journal, label_of("local", bench, job), make, prepared.seed)
    return seed_scores(prepared, arrays, by_site=True)


def centralised(bench: Bench, system: str, jobs: Sequence[Job]) -> list[SeedScores]:
    """One model per job on the pooled data of all sites; jobs run side by side, one to a core.

    system: "pooled" (our model, no cut) or the name of a baseline model.
    """
    bench = own_bench(bench, system)
    plan = bench.plan
    pooled = system == "pooled"
    name = plan.model.name if pooled else system

    def make(unfinished: Path) -> Stage:
        training = training_of(bench, name, plan.train.pooled_batch_units, ours=pooled)
        training = replace(training, local_epochs=1.0)  # its rounds are passes
        program, model = program_of(bench, name, _EXACT, training)
        packs = []
        width = max(sum(len(rows) for rows in members(one)) for one in bench.prepared)
        for job in jobs:
            prepared = prepared_for(bench, job)
            rows = np.concatenate(members(prepared, job.without))
            pack, _ = pack_sites(
                prepared.data,
                [rows],
                1,
                plan.train.class_balance,
                prepared.kinds,
                1,
                units=width,
                replication=plan.train.target_replication,
            )
            packs.append(pack)
        spare = -len(jobs) % program.cores
        packs += [packs[0]._replace(units=np.zeros(1, np.int32))] * spare
        data = type(packs[0])(*(np.concatenate(values) for values in zip(*packs, strict=True)))
        seeds = [bench.prepared[job.place].seed for job in jobs]
        vectors = first_vectors(plan, model, bench.shape[:2], seeds + seeds[:1] * spare, ours=pooled)
        schedule = schedule_of(plan, pooled=True)
        done = Timed(show_rounds(bench.journal, system, None, schedule.rounds, len(jobs)))
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
    return [seed_scores(prepared_for(bench, job), arrays, f"{place}.") for place, job in enumerate(jobs)]


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

        arrays, _ = stage(bench.journal, label_of(name, bench, job), make, prepared.seed)
        found[name] = seed_scores(prepared, arrays)
    return found
