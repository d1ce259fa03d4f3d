"""Rules against attacks: every pair is screened, then each rule meets its worst attack in every strength.

One case is one training of ours: a rule, an attack, a share of hostile sites, a seed. It is judged on
validation units alone, as in every sweep.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lazaretto import __version__, catalog, runlog
from lazaretto.compiled import one_blas_thread
from lazaretto.errors import DataError, InputError
from lazaretto.evaluate.robust import Judgement, judge_cell, judge_seed, judgement_tree
from lazaretto.evaluate.scored import OURS, Protocol
from lazaretto.plan import Plan
from lazaretto.plan_robustness_checks import NO_ATTACK, Choices, choices, under
from lazaretto.run import systems
from lazaretto.run.backend import use_all_cores
from lazaretto.run.bench import Bench, Job, make_bench, scored_streams
from lazaretto.run.hostile import said_scores
from lazaretto.run.journal import (
    Journal,
    Show,
    close_journal,
    kept_for_resuming,
    let_go_on_error,
    open_journal,
    quiet,
)
from lazaretto.run.post import Post
from lazaretto.run.prepare import Laid, Prepared, lay, ready
from lazaretto.run.protocol import protocol_of
from lazaretto.run.provenance import run_record
from lazaretto.run.saved import load_arrays, save_arrays, write_whole
from lazaretto.run.sweep import SWEEP_SCHEMA, begin_sweep, blind, same_sweep, warn
from lazaretto.run.watched import watched
from lazaretto.types import TRAIN, VALIDATION

__all__ = [
    "Case",
    "quick_robustness",
    "robustness_trials",
    "run_robustness",
    "worst_attacks",
]

CRITERION = "AUROC over validation steps"
_QUICK_RULES = ("mean", "krum", "coordinate_median", "geometric_median")
_QUICK_ATTACKS = ("sign_flip", "foe", "alie", "min_max", "backdoor", "adaptive")


class Case(NamedTuple):
    """One training. rule: as in `aggregate.rule`. attack: its name, or "none" with share 0."""

    rule: str
    attack: str
    share: float
    seed: int

    @property
    def file(self) -> str:
        """What its folder is called while it runs."""
        rule = self.rule.replace(" ", "").replace("|", "+")
        return f"{rule}-{self.attack}-{self.share:g}-seed{self.seed}"


def robustness_trials(plan: Plan, worst: Mapping[str, str] | None = None) -> list[Case]:
    """The trainings of a robustness sweep, each once.

    worst: rule -> attack, as `worst_attacks` finds it in the first stage. None: the first stage, every rule
    against every attack at `robustness.screen_share`; rules take turns, so that a sweep that is stopped has
    favoured none. Else the second: each rule without an attack, and with its worst one at every share.
    """
    chosen, asked = choices(plan), plan.robustness
    if worst is None:
        few = plan.run.seeds[: asked.screen_seeds]
        return [
            Case(rule, attack, asked.screen_share, seed)
            for seed in few
            for attack in chosen.attacks
            for rule in chosen.rules
        ]
    seeds = plan.run.seeds[: asked.seeds]
    cells = [(NO_ATTACK, 0.0), *(("", share) for share in sorted(asked.shares))]
    return [
        Case(rule, attack or worst[rule], share, seed)
        for seed in seeds
        for attack, share in cells
        for rule in chosen.rules
    ]


def worst_attacks(plan: Plan, results: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Rule -> the attack with the lowest mean AUROC in the first stage; of equal ones the first by name.

    results: bodies of records `case`. A training that failed counts as it is judged, with .5. False scores
    move no AUROC, and would be the worst where all others gain by chance: they are it only where nothing
    else was tried.
    """
    stage = set(robustness_trials(plan))
    found: dict[str, dict[str, list[float]]] = {}
    for body in results:
        if _case_of(body) in stage:
            areas = found.setdefault(body["rule"], {}).setdefault(body["attack"], [])
            areas.append(0.5 if body["values"]["auroc"] is None else body["values"]["auroc"])
    still = {name for attacks in found.values() for name in attacks if _only_scores(name)}
    return {
        rule: min(sorted(attacks.keys() - still or attacks), key=lambda name: float(np.mean(attacks[name])))
        for rule, attacks in found.items()
    }


def _only_scores(attack: str) -> bool:
    """Whether the attack falsifies what is said of scores, and nothing that a model is made of."""
    kind: str = catalog.build("attacks", attack).kind
    return kind == "scores"


def quick_robustness(plan: Plan) -> Plan:
    """A first look: one seed, one share, a few of the rules and attacks."""
    asked, chosen = plan.robustness, choices(plan)
    some = dict.fromkeys([*_QUICK_RULES, plan.aggregate.rule])
    rules = tuple(rule for rule in some if rule in chosen.rules) or chosen.rules[:5]
    attacks = tuple(name for name in _QUICK_ATTACKS if name in chosen.attacks) or chosen.attacks[:4]
    fewer = {"rules": rules, "attacks": attacks, "shares": (asked.screen_share,)}
    return plan.model_copy(
        update={
            "robustness": asked.model_copy(update={**fewer, "screen_seeds": 1, "seeds": 1}),
        }
    )


def run_robustness(
    plan: Plan, out: Path, *, quick: bool = False, resume: bool = False, show: Show = quiet
) -> dict[str, Any]:
    """Walk both stages; write sweep.sqlite and sweep.json into `out`.

    A finished training is on the disk and is not run again with `resume`. One that diverges is judged as a
    detector that cannot tell anything: AUROC .5, no alarm. Returns what sweep.json holds. Raises Interrupted
    (exit 3) when the user stops it, InputError if the folder holds something else.
    """
    use_all_cores()
    journal = open_journal(out, plan, resume, show, log_name="sweep.sqlite")
    with let_go_on_error(journal):
        asked = quick_robustness(plan) if quick else plan
        header = _header(asked, choices(plan), quick=quick)
        same_sweep(journal, header)
    with kept_for_resuming(journal, "finished trainings are"), one_blas_thread():
        return _walk(plan, asked, journal, header)


def _header(plan: Plan, chosen: Choices, *, quick: bool) -> dict[str, Any]:
    asked = plan.robustness
    return {
        "schema": SWEEP_SCHEMA,
        "version": __version__,
        "name": plan.run.name,
        "mode": "robustness",
        "criterion": CRITERION,
        "quick": quick,
        "seeds": list(plan.run.seeds[: asked.seeds]),
        "screen_seeds": min(asked.screen_seeds, len(plan.run.seeds)),
        "screen_share": asked.screen_share,
        "shares": sorted(asked.shares),
        "rounds": plan.train.rounds,
        "rules": list(choices(plan).rules),
        "attacks": list(choices(plan).attacks),
        "left_out": dict(chosen.left_out),
        "own_rule": plan.aggregate.rule,
        "false_positive_rate": plan.evaluate.false_positive_rate,
    }


@dataclass(slots=True, kw_only=True)
class _Shared:
    """What trainings take from those before them: each seed's data, and programs compiled for it."""

    plan: Plan
    laid: dict[int, Laid]
    units: int
    programs: dict[Any, Any] = field(default_factory=dict)


def _walk(plan: Plan, asked: Plan, journal: Journal, header: Mapping[str, Any]) -> dict[str, Any]:
    record = {**run_record(plan), **header}
    begin_sweep(journal, record)
    began = time.perf_counter()
    done = {_case_of(r.body): dict(r.body) for r in runlog.read(journal.log, "case")}
    laid = {seed: lay(asked, seed, keep=blind) for seed in header["seeds"]}
    warn(journal, list(laid.values()))
    shared = _Shared(plan=asked, laid=laid, units=max(_most_units(one) for one in laid.values()))
    first = robustness_trials(asked)
    rough = len(set(first) | set(robustness_trials(asked, dict.fromkeys(header["rules"], ""))))
    _try_all(first, done, journal, shared, ("screening", rough))
    worst = worst_attacks(asked, done.values())
    journal.record("worst", {"worst": worst})
    second = robustness_trials(asked, worst)
    _try_all(second, done, journal, shared, ("worst attacks", len(set(first) | set(second))))
    cases = list(dict.fromkeys([*first, *second]))
    if all(done[case]["failed"] for case in cases):
        text = done[cases[0]]["failed"]
        raise DataError("every training failed", found=text, way_out="lower the learning rate")
    tree = _tree(asked, cases, done, shared, journal)
    journal.record("robustness", {"tree": tree})
    result = {
        **header,
        "machine": record["machine"],
        "commit": record["commit"],
        "worst": worst,
        "robustness": tree,
        "cases": [done[case] for case in cases],
    }
    text = json.dumps(result, indent=1, allow_nan=False).encode() + b"\n"
    write_whole(journal.folder / "sweep.json", text)
    journal.record("finished", {"seconds": time.perf_counter() - began, "interrupted": False})
    close_journal(journal)
    return result


def _case_of(body: Mapping[str, Any]) -> Case:
    return Case(str(body["rule"]), str(body["attack"]), float(body["share"]), int(body["seed"]))


def _most_units(laid: Laid) -> int:
    """The most training streams that a site holds: attacks change none of it."""
    return int(np.bincount(laid.data.site[laid.data.split == TRAIN]).max())


def _try_all(
    cases: Sequence[Case],
    done: dict[Case, dict[str, Any]],
    journal: Journal,
    shared: _Shared,
    about: tuple[str, int],
) -> None:
    """Train what is not done. about: the name of the stage, and how many trainings there are in all."""
    began, fresh = time.perf_counter(), 0
    for case in cases:
        if case in done:
            continue
        done[case] = _try(case, journal, shared)
        journal.record("case", done[case])
        shutil.rmtree(journal.parts / case.file, ignore_errors=True)
        fresh += 1
        left = (time.perf_counter() - began) / fresh * max(about[1] - len(done), 0)
        said = {"stage": about[0], "number": len(done), "of": about[1], "left_seconds": left}
        journal.show("tried", {**done[case], **said})


def _try(case: Case, journal: Journal, shared: _Shared) -> dict[str, Any]:
    """Train and judge one case; its scores are kept beside the log, its record is returned."""
    began = time.perf_counter()
    laid = shared.laid[case.seed]
    plan, post = under(shared.plan, case.rule, case.attack, case.share), Post()
    prepared = ready(plan, laid, post)
    folder = journal.parts / case.file
    own = open_journal(folder, plan, (folder / "parts").is_dir(), quiet)
    bench = replace(
        make_bench(plan, [prepared], [post], own),
        programs=shared.programs,
        units=shared.units,
        every=plan.train.rounds,
    )
    failed, seen = None, None
    try:
        arrays, by_site = _train(bench)
        seen = _watched(own, prepared)
        save_arrays(_scores_at(journal, case), arrays, {"by_site": by_site})
        values = _values(case, journal, shared)
    except InputError as error:  # it diverged: its scores, or all updates of a round, are not finite
        failed = str(error).partition("\n")[0]
        part = laid.data.split == VALIDATION
        nothing = {"score": np.zeros(laid.data.y[part].shape, np.float32)}
        save_arrays(_scores_at(journal, case), nothing, {"by_site": False})
        values = _values(case, journal, shared)
    finally:
        own.held.release()
    return {
        **case._asdict(),
        "failed": failed,
        "values": {name: value if np.isfinite(value) else None for name, value in values.items()},
        "watched": seen,
        "seconds": time.perf_counter() - began,
    }


def _train(bench: Bench) -> tuple[dict[str, Any], bool]:
    """Scores of the validation units, and those with a trigger shown where the attack teaches one.

    Also whether each site has a model of its own.
    """
    trained = systems.federated(bench, OURS, Job(place=0))
    shown = systems.with_trigger(bench, Job(place=0), trained, VALIDATION)
    arrays: dict[str, Any] = {}
    for name, scores in (("score", trained.scores), ("shown", shown)):
        if scores is not None and scores.validation is not None:
            arrays[name] = np.asarray(scores.validation.score, np.float32)
    return arrays, trained.vector.ndim == 2


def _watched(own: Journal, prepared: Prepared) -> dict[str, Any]:
    rounds = [dict(record.body) for record in runlog.read(own.log, "round")]
    names = prepared.site_names
    bad = np.zeros(len(names), np.bool_) if prepared.hostile is None else prepared.hostile
    return watched(rounds, names, [name for name, is_bad in zip(names, bad, strict=True) if is_bad])


def _scores_at(journal: Journal, case: Case) -> Path:
    return journal.parts / f"{case.file}.safetensors"


def _protocol(shared: _Shared) -> Protocol:
    return protocol_of(shared.plan, next(iter(shared.laid.values())))


def _judged(case: Case, journal: Journal, shared: _Shared) -> Any:
    arrays, meta = load_arrays(_scores_at(journal, case))
    data = shared.laid[case.seed].data
    scored, shown = (
        None if name not in arrays else scored_streams(data, VALIDATION, arrays[name], bool(meta["by_site"]))
        for name in ("score", "shown")
    )
    assert scored is not None  # noqa: S101  every case has scores
    plan = under(shared.plan, case.rule, case.attack, case.share)
    said = said_scores(plan, shared.laid[case.seed].parts.site_names, case.seed)
    return judge_seed(scored, _protocol(shared), case.seed, shown, said)


def _values(case: Case, journal: Journal, shared: _Shared) -> dict[str, float]:
    values: dict[str, float] = _judged(case, journal, shared)[0]
    return values


def _tree(
    plan: Plan,
    cases: Sequence[Case],
    done: Mapping[Case, Mapping[str, Any]],
    shared: _Shared,
    journal: Journal,
) -> dict[str, Any]:
    """rule -> attack -> share -> what all its seeds come to, less what the rule reaches without attack."""
    protocol, cells = _protocol(shared), dict[tuple[str, str, float], list[Case]]()
    for case in cases:
        cells.setdefault((case.rule, case.attack, case.share), []).append(case)
    honest = {
        rule: [(case, _judged(case, journal, shared)) for case in cells[rule, NO_ATTACK, 0.0]]
        for rule in dict.fromkeys(case.rule for case in cases)
    }
    tree: dict[str, Any] = {}
    for (rule, attack, share), own in cells.items():
        mine = judge_cell([_judged(case, journal, shared) for case in own], protocol)
        without = _without(honest[rule], own, protocol) if attack != NO_ATTACK else None
        body = judgement_tree(mine, without)
        body["seeds"] = [case.seed for case in own]
        body["failed"] = sum(done[case]["failed"] is not None for case in own)
        tree.setdefault(rule, {}).setdefault(attack, {})[f"{share:g}"] = body
    return tree


def _without(honest: Sequence[tuple[Case, Any]], own: Sequence[Case], protocol: Protocol) -> Judgement:
    """The rule without attack, on the same seeds in the same order."""
    by_seed = {case.seed: judged for case, judged in honest}
    return judge_cell([by_seed[case.seed] for case in own], protocol)
