"""Judge a trained model on data, and classes, that it never saw."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.data.dropped import load_without
from lazaretto.data.duplicates import take
from lazaretto.data.leaks import leak_warnings
from lazaretto.data.scaling import Scaling
from lazaretto.data.streams import COMBINED, Streams, select, streams
from lazaretto.errors import DataError, InputError, PlanError
from lazaretto.evaluate.compare import judge
from lazaretto.evaluate.fusion import fuse, tails_from_array
from lazaretto.evaluate.operating import operating_from_json
from lazaretto.evaluate.scored import OURS, Protocol, Scored, SeedScores
from lazaretto.local import LocalTraining
from lazaretto.parameters import parameter_count
from lazaretto.plan import DataPlan, Plan, load_plan
from lazaretto.run.backend import use_all_cores
from lazaretto.run.checked import check_files
from lazaretto.run.experiment import write_metrics
from lazaretto.run.feature_map import Matched, match_features, parse_map, take_features
from lazaretto.run.journal import Show, close_journal, open_journal, quiet
from lazaretto.run.new_data_notes import (
    ALL_TEST,
    absent,
    hostile_note,
    leaks_read,
    other_step,
    own_note,
    relation_notes,
)
from lazaretto.run.prepare import read, reading_notes, split_table
from lazaretto.run.provenance import run_record
from lazaretto.run.saved import ModelMeta, load_model
from lazaretto.run.seen import seen_windows
from lazaretto.run.sheet import judged_sites, schema_words, split_counts
from lazaretto.run.simulate import compile_program, score_streams
from lazaretto.types import TEST, Float, Model, Table

__all__ = ["evaluate_run"]


# every file that an evaluation writes, with those that SQLite keeps beside a log while it writes
_WRITTEN = (
    "plan.toml",
    "metrics.json",
    "run.sqlite",
    "run.sqlite-journal",
    ".run.sqlite.new",
    ".run.sqlite.new-journal",
)


def evaluate_run(
    directory: Path,
    source: str,
    path: Path | None,
    out: Path,
    options: Mapping[str, Any],
    show: Show = quiet,
    maps: Sequence[str] = (),
) -> list[str]:
    """Score the units that `source` finds at `path` with the model in `directory`; write `out`.

    Where source, path and options are those of training, only its test units are judged. Elsewhere windows of
    the very values that the model has seen are left out, if its folder knows them. Thresholds and
    calibration are those that the model's own validation units set: nothing is tuned on the new data.
    Features are matched by name, by equal meaning (`feature_map`) or as `maps` says; those that are absent
    stand at the median of training, and the report names them. Classes are matched by name.
    Writes plan.toml, run.sqlite and metrics.json, all of them or none. Returns what a reader
    must know of model and data, as sentences.
    Raises InputError if there is no model or `out` is taken, PlanError for maps that cannot be, DataError if
    more than half of the features or one kind of steps is missing, or if the model has seen all there is.
    """
    use_all_cores()
    began = time.perf_counter()
    _check_free(out)
    given = parse_map(maps)
    file = directory / "model.safetensors"
    if not file.exists() and (directory / "parts").is_dir() and (directory / "run.sqlite").exists():
        raise InputError(
            "there is no finished run whose model could be judged",
            found=directory,
            way_out="wait until it is done, or go on with lazaretto run --resume if it was stopped",
        )
    if (directory / "run.sqlite").exists():  # a model may be handed on without it
        check_files(directory)
    arrays, meta = load_model(file)
    trained = load_plan(directory / "plan.toml", check_parts=False)
    plan = _plan(trained, meta, source, path, options)
    model = _model(file, meta, len(arrays["vector"]))
    relation = _relation(trained.data, plan.data)
    if relation != "same" and options.get("training_copies", 1) != 1:
        raise PlanError(
            "training_copies: what is judged must be there once",
            found=options["training_copies"],
            way_out="leave it out",
        )
    made = catalog.build("sources", source, options)
    made, table = load_without(made, path, meta.seed, trained.data.drop, strict=relation == "same")
    if relation == "same":
        table = split_table(trained, table, meta.seed)
    met = None if relation == "same" else seen_windows(directory, table, meta.modality)
    if met is not None and met.any():
        _check_new(met)
        table = take(table, ~met)
    data = streams(table, meta.modality)
    if given and meta.modality == COMBINED:
        raise PlanError(
            "--map: a model of combined modalities takes its features as they are",
            found=", ".join(maps),
            way_out="leave it out, or judge a model of one modality",
        )
    matched = match_features(meta.features, data.features, given, source)
    used = {data.features[place] for place in matched.place if place >= 0}
    data = _matched(data, matched, meta, arrays["center"], table)
    if relation == "same":
        data = select(data, data.split == TEST)
        table = replace(take(table, table.split == TEST), counts={})
        if trained.privacy.mechanism != "none":  # they tell of training and validation units as well
            table = replace(table, notes=(), warnings=())
    _check_steps(data)
    known = relation_notes(trained, relation, met)
    hostile = hostile_note(trained)
    grave = [note for note in known if relation != "same" and note != ALL_TEST]
    grave += [*hostile, *other_step(meta, table)]
    told = [
        *known,
        *own_note(trained),
        *hostile,
        *matched.sentences(source, absent(meta)),
        *other_step(meta, table),
    ]
    leaks = leaks_read(table, meta.modality, used)
    sheet = _sheet(table, data, meta, plan, dict(made.leaks), [*told, *leaks])
    sheet["warnings"] = [*table.warnings, *leak_warnings(leaks), *grave]
    show("begin", {"name": "score", "seed": None})
    start = time.perf_counter()
    score = _score(model, arrays, meta, data)
    seconds = {"score": time.perf_counter() - start}
    protocol = Protocol(
        classes=table.schema.classes,
        step_seconds=table.schema.step_seconds,
        timed=table.schema.timed,
        setting=trained.run.setting,
        false_positive_rate=trained.evaluate.false_positive_rate,
        replicates=trained.evaluate.bootstrap,
        seed=meta.seed,
        alarm_k=trained.evaluate.alarm_k,
        alarm_m=trained.evaluate.alarm_m,
        intensity_edges=table.schema.intensity_edges,
    )
    scored = Scored(
        score=score,
        y=data.y,
        valid=data.judged,
        site=np.zeros(len(data.unit), np.int64),
        intensity=data.intensity,
    )
    show("begin", {"name": "judge", "seed": None})
    start = time.perf_counter()
    operating = operating_from_json(meta.operating.model_dump())
    verdict = judge({OURS: [SeedScores(test=scored, operating=operating)]}, protocol)
    seconds["judge"] = time.perf_counter() - start
    with _whole_or_gone(out):
        journal = open_journal(out, plan, resume=False, show=show)
        origin = {
            "evaluates": str(directory.resolve()),
            "relation": relation,
            "unseen": relation == "same" or (relation == "other" and trained.privacy.mechanism == "none"),
            "maps": list(maps),
        }
        journal.record("run", {**run_record(plan), **origin})
        journal.record("data", {"seed": meta.seed, **sheet})
        for name, taken in seconds.items():
            journal.record("stage", {"name": name, "seed": None, "seconds": taken, "compile_seconds": None})
        write_metrics(plan, journal, verdict, sheet, [], began)
        close_journal(journal)
    return told


def _plan(trained: Plan, meta: ModelMeta, source: str, path: Path | None, options: Mapping[str, Any]) -> Plan:
    """The plan of training with the new data, and with the one seed whose model was kept."""
    data = {
        "source": source,
        "path": None if path is None else str(path.resolve()),
        "options": dict(options),
        "modality": meta.modality,
    }
    run = {"name": f"{trained.run.name}-on-{source}"[:64], "seeds": (meta.seed,)}
    return trained.model_copy(
        update={
            "run": trained.run.model_copy(update=run),
            "data": trained.data.model_copy(update=data),
        }
    )


def _relation(trained: DataPlan, new: DataPlan) -> Literal["same", "akin", "other"]:
    """Whether the model was trained on this very data, on data of this source, or of another.

    An option left out is its default. Files at another path, or read with other options, may be the
    same files in part: they are akin, and nobody can say that the model never saw them.
    """
    if trained.source != new.source:
        return "other"
    places = {None if data.path is None else Path(data.path).resolve() for data in (trained, new)}
    default = {name: option.default for name, option in catalog.options("sources", new.source).items()}
    same = len(places) == 1 and default | trained.options == default | new.options
    return "same" if same else "akin"


def _check_new(met: NDArray[np.bool_]) -> None:
    if met.all():
        raise DataError(
            "the model was trained, or its thresholds set, on all of this data",
            found=f"{len(met)} windows, all known",
            way_out="judge it on data that it never saw",
        )


def _check_free(out: Path) -> None:
    """Raises InputError if something is at `out` already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            "the output folder is not empty" if out.is_dir() else "the output is not a folder",
            found=out,
            way_out="choose another --out",
        )


@contextlib.contextmanager
def _whole_or_gone(out: Path) -> Iterator[None]:
    """While inside, `out` is written; after an error or Ctrl-C what was begun is gone, and only that."""
    _check_free(out)
    made = [place for place in (out, *out.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        shutil.rmtree(out / "parts", ignore_errors=True)
        for name in _WRITTEN:
            with contextlib.suppress(OSError):
                (out / name).unlink()
        for place in made:
            with contextlib.suppress(OSError):  # somebody else's files stay
                place.rmdir()
        raise


def _matched(data: Streams, matched: Matched, meta: ModelMeta, center: Float, table: Table) -> Streams:
    """The streams with the features that the model was trained on, in its order.

    A model of combined modalities takes the very same ones alone. A model of irregular series takes a regular
    one as measured in every step. Raises DataError otherwise: a model that knows of no gap cannot be told of
    one.
    """
    if data.there is not None:
        if data.features != tuple(meta.features):
            raise DataError(
                "a model of combined modalities judges data of the same modalities and features",
                found=f"{len(data.features)} features, {len(set(data.features) & set(meta.features))} known",
                way_out="judge a model of one modality, or data from a source like that of training",
            )
        return data
    if data.step_days is not None and not meta.irregular:
        raise DataError(
            "the data has gaps, and the model was trained on series without",
            found=f"modality '{meta.modality}', measured at odd times",
            way_out="train a model on data that is measured at odd times",
        )
    absent = np.full(len(center), np.nan, np.float32) if meta.irregular else center
    return replace(
        data,
        x=take_features(data.x, matched, absent),
        features=tuple(meta.features),
        step_days=table.schema.step_seconds / 86400 if meta.irregular else None,
    )


def _check_steps(data: Streams) -> None:
    seen = data.y[data.judged] > 0
    if seen.all() or not seen.any():
        raise DataError(
            "judging needs normal steps and attacked steps",
            found="only attacked steps" if seen.any() else "only normal steps",
            way_out="give labelled data of both kinds",
        )


def _model(file: Path, meta: ModelMeta, parameters: int) -> Model:
    """The model that `file` names. Raises InputError if it cannot be built, or has other parameters."""
    way_out = "use a folder that a finished run wrote, with the parts that it used"
    try:
        model: Model = catalog.build("models", meta.model, meta.options)
        width = meta.width or len(meta.features)
        wanted = parameter_count(model, width, len(meta.classes) - 1)
    except (PlanError, TypeError, ValueError, ArithmeticError) as error:
        found = str(error).partition("\n")[0]
        raise InputError(f"the model in {file} cannot be built", found=found, way_out=way_out) from error
    if parameters != wanted:
        raise InputError(
            f"the parameters in {file} do not fit its model",
            found=f"{parameters}, expected {wanted}",
            way_out=way_out,
        )
    return model


def _score(model: Model, arrays: Mapping[str, Any], meta: ModelMeta, data: Streams) -> Any:
    cut = Cut(meta.cut.bits, meta.cut.clip, meta.cut.noise) if meta.cut.enabled else Cut(32)
    training = LocalTraining(window=data.window)
    kinds = len(meta.classes) - 1
    x = read(data, Scaling(arrays["center"], arrays["scale"])).x
    program = compile_program(model, cut, training, x.shape[2], kinds, x.shape[1])
    score = score_streams(program, arrays["vector"], x)
    if meta.novelty_weight is None:
        return score
    if model.novelty is None:
        raise InputError(
            "the model has no self-supervised score, and its file has tails of one",
            found=meta.model,
            way_out="train again",
        )
    unlike = score_streams(program, arrays["vector"], x, "novelty")
    return fuse(tails_from_array(arrays["tails"]), (score, unlike), meta.novelty_weight)


def _sheet(
    table: Table, data: Streams, meta: ModelMeta, plan: Plan, leaks: dict[str, str], known: Sequence[str]
) -> dict[str, Any]:
    classes = table.schema.classes
    new = [name for name in classes if name not in meta.classes]
    units = len(np.unique(data.unit))
    notes = [*table.notes, *reading_notes(data), *known]
    if new:
        notes.append(f"Families that no training unit carried: {', '.join(new)}.")
    nothing = split_counts(select(data, np.zeros(len(data.unit), bool)), classes)
    return {
        "source": plan.data.source,
        "step": table.schema.step,
        **schema_words(table.schema),
        "modality": meta.modality,
        "classes": list(classes),
        "features": list(data.features),
        "rate_feature": table.schema.rate_feature,
        "intensity": table.schema.intensity,
        "counts": {"units": units, "windows": len(table.y), "duplicates_removed": 0}
        | {key: int(value) for key, value in table.counts.items()},
        "leaks_dropped": leaks,
        "splits": {
            "train": nothing,
            "validation": nothing,
            "test": split_counts(data, classes),
        },
        "sites": judged_sites(data, table.site_names, classes),
        "notes": notes,
    }
