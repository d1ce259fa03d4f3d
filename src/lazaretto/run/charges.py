"""What a private run is charged, to whom, and by what its data are known."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dp_accounting import NonPrivateDpEvent

from lazaretto import runlog
from lazaretto.data_files import files_under
from lazaretto.errors import DataError, many
from lazaretto.plan import Plan
from lazaretto.privacy.budget import Charge, What, Whose, everywhere, spent
from lazaretto.privacy.charges import baseline_charges, count_charges, metrics_charge
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.promise import count_noise_of, deals_anew, rounds_of
from lazaretto.run.journal import Journal

__all__ = ["charges_of", "data_digest", "privacy_record", "promised"]

_EXACT: tuple[tuple[What, Whose, str], ...] = (
    (
        "scaling",
        "training units",
        "not private: each site's exact counts of feature values, and its loss after every round",
    ),
    (
        "thresholds",
        "validation units",
        "not private: each site's exact counts of scores, and its AUROC after every round",
    ),
)


def charges_of(plan: Plan, mechanism: Mechanism, appearances: int = 1) -> list[Charge]:
    """All that leaves the sites in one repetition of a run, and what it costs the units it touches.

    appearances: the most examples in which one record stands, as of the mechanism.
    """
    asked, unit, rounds = plan.privacy, mechanism.unit, rounds_of(plan)
    noise = "of the operating system's generator" if asked.noise == "system" else "of a simulation's seed"
    if asked.distributed:
        noise += ", of which each site adds a part: all of it is in the sum alone"
    training = Charge(
        what="training",
        part="training units",
        unit=unit,
        event=mechanism.event(rounds * mechanism.steps),
        words=f"{many(rounds, 'round')} of {many(mechanism.steps, 'step')} by {mechanism.name}, "
        f"with noise {noise}",
    )
    counts = count_noise_of(plan, plan.run.seeds[0])
    if counts is not None:
        scaling, _ = count_charges(counts, appearances)
        fewer = replace(counts, noise_multiplier=asked.threshold_noise)
        _, thresholds = count_charges(fewer, appearances)
        return [training, scaling, thresholds, metrics_charge(unit)]
    exact = [
        Charge(what=what, part=part, unit=unit, event=NonPrivateDpEvent(), words=words)
        for what, part, words in _EXACT
    ]
    return [training, *exact, metrics_charge(unit)]


def privacy_record(plan: Plan, mechanism: Mechanism, appearances: int = 1) -> dict[str, Any]:
    """Body of the run log's record `privacy`; an epsilon that nothing bounds is None.

    `epsilon` is of the training units and all that touches them in one repetition, `training_epsilon` of the
    training alone, `repeated_epsilon` of all repetitions together: each as of a unit that was in training
    every time, or where parts are dealt anew (`deals_anew`) in both parts every time. `by_part` is of one
    repetition, `run_by_part` of all, and `run_epsilon` the most that the whole run costs a training or a
    validation unit.
    """
    asked, charges = plan.privacy, charges_of(plan, mechanism, appearances)
    each = spent(charges, asked.delta)
    training = spent([one for one in charges if one.what == "training"], asked.delta)
    every = charges * len(plan.run.seeds)
    if len(plan.run.seeds) > 1 and deals_anew(plan):
        every = everywhere(every)
    repeated = spent(every, asked.delta)
    most = max(repeated["training units"], repeated["validation units"])
    return {
        "mechanism": mechanism.name,
        "unit": mechanism.unit,
        "delta": asked.delta,
        "epsilon": _finite(each["training units"]),
        "training_epsilon": _finite(training["training units"]),
        "repeated_epsilon": _finite(repeated["training units"]),
        "deals_anew": deals_anew(plan),
        "repetitions": len(plan.run.seeds),
        "run_epsilon": _finite(most),
        "limit": asked.epsilon,
        "limit_of": asked.epsilon_of,
        "by_part": {part: _finite(value) for part, value in each.items()},
        "run_by_part": {part: _finite(value) for part, value in repeated.items()},
        "charges": [
            {
                "what": one.what,
                "part": one.part,
                "words": one.words,
                "epsilon": _finite(spent([one], asked.delta)[one.part]),
            }
            for one in charges
        ],
        "clip": mechanism.clip,
        "noise_multiplier": mechanism.noise_multiplier,
        "sampling": mechanism.sampling,
        "rate": mechanism.rate,
        "steps": mechanism.steps,
        "rounds": rounds_of(plan),
        "bands": len(mechanism.kernel),
        "quantile": mechanism.quantile,
        "noise": asked.noise,
        "distributed": asked.distributed,
        "counts_noise": asked.counts_noise,
        "threshold_noise": asked.threshold_noise,
        "appearances": appearances,
        "baselines": list(plan.evaluate.baselines),
        "not_charged": sorted(
            {one.words for one in baseline_charges(plan.evaluate.baselines, mechanism.unit)}
        ),
    }


def _finite(epsilon: float) -> float | None:
    return float(epsilon) if math.isfinite(epsilon) else None


def data_digest(plan: Plan) -> str:
    """SHA-256, in hexadecimal, of the files that a source reads; of its name and options where it reads none.

    Options do not count where there are files: whatever a plan takes of them, it is the same data. Names do
    not count either; linked folders are part of it. Raises DataError where a file or folder cannot be read,
    or there is none.
    """
    if plan.data.path is None:
        named = json.dumps([plan.data.source, plan.data.options], sort_keys=True, default=str)
        return hashlib.sha256(named.encode()).hexdigest()
    place = Path(plan.data.path)

    def cannot(error: OSError) -> None:
        raise DataError(
            "a file of the data cannot be read", found=f"{error.filename}: {error.strerror}"
        ) from error

    digests = []
    for file in files_under(place, cannot):
        try:
            with file.open("rb") as content:
                digests.append(hashlib.file_digest(content, "sha256").digest())
        except OSError as error:
            cannot(error)
    if not digests:
        raise DataError(
            "there is no file in the folder of the data", found=place, way_out="give another data.path"
        )
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def promised(journal: Journal) -> dict[str, Any]:
    """The promise in short; all None where nothing is promised.

    epsilon: the most that the whole run costs a training or a validation unit, all repetitions together.
    """
    found = [record.body for record in runlog.read(journal.log, "privacy")]
    said: Mapping[str, Any] = found[0] if found else {}
    named = {"epsilon": "run_epsilon", "delta": "delta", "unit": "unit"}
    return {key: said.get(name) for key, name in named.items()} | {"audit_epsilon": None}
