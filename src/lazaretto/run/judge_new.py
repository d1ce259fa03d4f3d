"""Judge a trained model on data, and classes, that it never saw."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.data.scaling import Scaling, apply_scaling
from lazaretto.data.streams import Streams, family_of, streams
from lazaretto.errors import DataError, InputError
from lazaretto.evaluate.compare import judge
from lazaretto.evaluate.operating import operating_from_json
from lazaretto.evaluate.scored import OURS, Protocol, Scored, SeedScores
from lazaretto.local import LocalTraining
from lazaretto.plan import load_plan
from lazaretto.run.backend import use_all_cores
from lazaretto.run.experiment import run_record, write_metrics
from lazaretto.run.journal import Journal, Show, close_journal, open_journal, quiet
from lazaretto.run.saved import load_arrays
from lazaretto.run.simulate import compile_program, score_streams
from lazaretto.types import Table

__all__ = ["evaluate_run"]


def evaluate_run(
    directory: Path,
    source: str,
    path: Path | None,
    out: Path,
    options: Mapping[str, Any],
    show: Show = quiet,
) -> None:
    """Score every unit that `source` finds at `path` with the model in `directory`; write `out`.

    Thresholds and calibration are those that the model's own validation units set: nothing is tuned on
    the new data. Features are matched by name. Writes plan.toml, run.sqlite and metrics.json.
    Raises InputError if there is no model, DataError if features or both kinds of steps are missing.
    """
    use_all_cores()
    began = time.perf_counter()
    arrays, meta = load_arrays(directory / "model.safetensors")
    trained = load_plan(directory / "plan.toml", check_parts=False)
    plan = trained.model_copy(
        update={
            "run": trained.run.model_copy(update={"name": f"{trained.run.name} on {source}"}),
            "data": trained.data.model_copy(
                update={
                    "source": source,
                    "path": None if path is None else str(path),
                    "options": dict(options),
                    "modality": meta["modality"],
                }
            ),
        }
    )
    made = catalog.build("sources", source, options)
    table = made.load(path, int(meta["seed"]))
    data = _matched(streams(table, meta["modality"]), meta["features"], source)
    _check_steps(data)
    journal = open_journal(out, plan, resume=False, show=show)
    journal.record("run", run_record(plan))
    sheet = _sheet(source, table, data, meta, dict(made.leaks))
    journal.record("data", {"seed": meta["seed"], **sheet})
    start = time.perf_counter()
    score = _score(arrays, meta, data)
    _stage(journal, "score", start)
    protocol = Protocol(
        classes=table.schema.classes,
        step_seconds=table.schema.step_seconds,
        setting=trained.run.setting,
        false_positive_rate=trained.evaluate.false_positive_rate,
        replicates=trained.evaluate.bootstrap,
        seed=int(meta["seed"]),
    )
    scored = Scored(score=score, y=data.y, valid=data.valid, site=np.zeros(len(data.unit), np.int64))
    start = time.perf_counter()
    operating = operating_from_json(meta["operating"])
    verdict = judge({OURS: [SeedScores(test=scored, operating=operating)]}, protocol)
    _stage(journal, "judge", start)
    write_metrics(plan, journal, verdict, sheet, [], began)
    close_journal(journal)


def _stage(journal: Journal, name: str, start: float) -> None:
    seconds = time.perf_counter() - start
    journal.record("stage", {"name": name, "seed": None, "seconds": seconds, "compile_seconds": None})


def _matched(data: Streams, wanted: list[str], source: str) -> Streams:
    """The streams with the features that the model was trained on, in its order."""
    missing = [name for name in wanted if name not in data.features]
    if missing:
        some = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise DataError(
            f"source '{source}' lacks features that the model was trained on",
            found=f"{len(missing)} of {len(wanted)}: {some}",
            way_out="judge it on a source with the same features, or train on this one",
        )
    order = [data.features.index(name) for name in wanted]
    return Streams(
        x=data.x[:, :, order],
        y=data.y,
        valid=data.valid,
        unit=data.unit,
        site=data.site,
        split=data.split,
        start_time=data.start_time,
        features=tuple(wanted),
        window=data.window,
    )


def _check_steps(data: Streams) -> None:
    seen = data.y[data.valid] > 0
    if seen.all() or not seen.any():
        raise DataError(
            "judging needs normal steps and attacked steps",
            found="only attacked steps" if seen.any() else "only normal steps",
            way_out="give labelled data of both kinds",
        )


def _score(arrays: Mapping[str, Any], meta: Mapping[str, Any], data: Streams) -> Any:
    model = catalog.build("models", meta["model"], meta["options"])
    cut = Cut(meta["cut"]["bits"], meta["cut"]["clip"]) if meta["cut"]["enabled"] else Cut(32, None)
    training = LocalTraining(window=data.window)
    kinds = len(meta["classes"]) - 1
    program = compile_program(model, cut, training, len(meta["features"]), kinds, data.x.shape[1])
    if arrays["vector"].shape != (program.parameters,):
        raise InputError(
            "the model's parameters do not fit its plan",
            found=f"{arrays['vector'].shape}, expected ({program.parameters},)",
            way_out="use a folder that a finished run wrote",
        )
    scaled = apply_scaling(Scaling(arrays["center"], arrays["scale"]), data.x)
    return score_streams(
        program, arrays["vector"], np.where(data.valid[..., None], scaled, 0).astype(np.float32)
    )


def _sheet(
    source: str, table: Table, data: Streams, meta: Mapping[str, Any], leaks: dict[str, str]
) -> dict[str, Any]:
    family, classes = family_of(data), table.schema.classes
    new = [name for name in classes if name not in meta["classes"]]
    units = len(np.unique(data.unit))
    attacked = int((data.y[data.valid] > 0).sum())
    families = {classes[k]: int((family == k).sum()) for k in range(1, len(classes))}
    notes = [
        *table.notes,
        "Everything here is test data: thresholds and calibration come from the training run.",
    ]
    if new:
        notes.append(f"Families that no training unit carried: {', '.join(new)}.")
    nothing = {"units": 0, "steps": 0, "attacked_steps": 0}
    return {
        "source": source,
        "step": table.schema.step,
        "step_seconds": float(table.schema.step_seconds),
        "modality": meta["modality"],
        "classes": list(classes),
        "features": list(data.features),
        "rate_feature": table.schema.rate_feature,
        "counts": {"units": units, "windows": len(table.y), "duplicates_removed": 0}
        | {key: int(value) for key, value in table.counts.items()},
        "leaks_dropped": leaks,
        "splits": {
            "train": nothing,
            "validation": nothing,
            "test": {"units": units, "steps": int(data.valid.sum()), "attacked_steps": attacked},
        },
        "sites": [
            {
                "name": "all",
                "train_units": 0,
                "validation_units": 0,
                "test_units": units,
                "steps": int(data.valid.sum()),
                "families": families,
                "withheld": [],
            }
        ],
        "notes": notes,
    }
