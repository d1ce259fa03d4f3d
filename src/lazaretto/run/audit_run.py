"""The audits of a finished run: what was trained is read back and attacked; what was reached is logged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lazaretto import catalog, runlog
from lazaretto.cut import Cut
from lazaretto.data.scaling import Scaling
from lazaretto.errors import InputError
from lazaretto.local import LocalTraining
from lazaretto.parameters import parameter_count
from lazaretto.plan import Plan, load_plan
from lazaretto.promise import mechanism_of, rounds_of
from lazaretto.run.audited import Audited
from lazaretto.run.audits import run_audits
from lazaretto.run.backend import use_all_cores
from lazaretto.run.checked import check_files
from lazaretto.run.journal import Show, quiet
from lazaretto.run.prepare import lay, read
from lazaretto.run.provenance import plan_differences
from lazaretto.run.saved import load_model, write_whole
from lazaretto.run.started import first_vectors

__all__ = ["audit_run", "audited_before"]


def audited_before(directory: Path) -> bool:
    """Whether the run's log holds audits already."""
    log = directory / "run.sqlite"
    return log.exists() and any(True for _ in runlog.read(log, "audit"))


def audit_run(directory: Path, show: Show = quiet) -> list[dict[str, Any]]:
    """Attack the model of a finished run in `directory`; what each audit reached, also in its run log.

    Audits that had nothing to attack are rows with a reason, `idle`, and stay out of the log. The data must
    lie where the plan says. Audits that were made before stay in the log. `metrics.json` gets
    `privacy.audit_epsilon`, what canaries have shown. Raises InputError where the folder holds no finished
    run, or its model does not fit the plan.
    """
    use_all_cores()
    file = directory / "metrics.json"
    if not file.exists():
        raise InputError(
            "there is no finished run to audit",
            found=directory,
            way_out="lazaretto run first, or with --resume if it was stopped",
        )
    model_file = directory / "model.safetensors"
    records = list(runlog.read(directory / "run.sqlite"))
    begun = [record.body for record in records if record.kind == "run"]
    if any("evaluates" in body for body in begun):
        raise InputError(
            "this folder is an evaluation: nothing was trained in it, and it keeps no model",
            found=directory,
            way_out="audit the run whose model was judged",
        )
    plan = load_plan(directory / "plan.toml", check_paths=False)
    if not begun or (differing := plan_differences(begun[0], plan)):
        raise InputError(
            "plan.toml is not the plan that this run's log has",
            found=", ".join(differing) if begun else directory / "plan.toml",
            way_out="put back the one that the run wrote; data.path, train.start, privacy.budget may differ",
        )
    check_files(directory, records)
    arrays, meta = load_model(model_file)
    laid = lay(plan, meta.seed)
    data = read(laid.data, Scaling(arrays["center"], arrays["scale"]))
    model = catalog.build("models", meta.model, meta.options)
    kinds, features = len(meta.classes) - 1, data.x.shape[2]
    if parameter_count(model, features, kinds) != len(arrays["vector"]):
        raise InputError(
            "the model does not fit the data",
            found=f"{len(arrays['vector'])} parameters, {features} features",
            way_out="the data on which it was trained",
        )
    privacy = [record.body for record in records if record.kind == "privacy"]
    said: Mapping[str, Any] = privacy[-1] if privacy else {}
    audited = Audited(
        model=model,
        cut=Cut(plan.cut.bits, plan.cut.clip, plan.cut.noise),
        training=_training(plan, data.window, data.layout),
        vector=arrays["vector"],
        data=data,
        kinds=kinds,
        rounds=rounds_of(plan),
        learning_rate=plan.train.learning_rate,
        mechanism=mechanism_of(plan, int(said.get("appearances", 1))),
        epsilon=said.get("training_epsilon"),
        delta=plan.privacy.delta,
        seed=meta.seed,
        protocol=plan.secure.protocol,
        distributed=plan.privacy.distributed,
        crossed=plan.cut.enabled,
        first=None
        if plan.train.start is None
        else first_vectors(plan, model, (data.x.shape[2], kinds), [meta.seed], ours=True)[0],
    )
    found = run_audits(audited, show)
    runlog.append_all(directory / "run.sqlite", [("audit", body) for body in found if "idle" not in body])
    shown = [body["value"] for body in found if body["name"] == "canaries" and "idle" not in body]
    if shown:
        metrics = json.loads(file.read_text(encoding="utf-8"))
        metrics["privacy"]["audit_epsilon"] = shown[0]
        write_whole(file, json.dumps(metrics, indent=1, allow_nan=False).encode() + b"\n")
    return found


def _training(plan: Plan, window: int, layout: Any) -> LocalTraining:
    """How the run's sites train, without what is laid over their data."""
    asked = plan.train
    return LocalTraining(
        window=window,
        batch_units=int(np.clip(asked.batch_units * plan.sites.devices, 1, 64)),
        local_epochs=asked.local_epochs,
        optimiser=asked.optimiser,
        momentum=asked.momentum,
        temporal_consistency=asked.temporal_consistency,
        kind_weight=asked.kind_weight,
        anomaly_weight=asked.anomaly_weight,
        layout=layout,
        class_balance=0.0,
        weight_decay=asked.weight_decay,
        clip_norm=asked.clip_norm,
        synchronise="step",
    )
