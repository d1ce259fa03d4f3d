"""Whether the files of a run are those that its log tells of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lazaretto import runlog
from lazaretto.errors import CheckFailed
from lazaretto.plan import Plan
from lazaretto.run.provenance import logged_plan, plan_differences

__all__ = ["check_files", "check_model", "missing_files", "model_record"]

_METRICS, _MODEL, _PLAN = "metrics.json", "model.safetensors", "plan.toml"
_MOST_BYTES = 1 << 28  # of a metrics.json
_MOST_PLAN_BYTES = 1 << 20
_MOST = 3  # differences that are shown
_SHOWN = 60  # characters of a value


def model_record(folder: Path) -> dict[str, Any]:
    """Body of the run log's record `model`: length and digest of the file."""
    with (folder / _MODEL).open("rb") as file:  # in pieces: a file from elsewhere may be of any length
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"file": _MODEL, "bytes": file.tell(), "sha256": digest}


def check_files(directory: Path) -> runlog.Head:
    """Hold plan.toml, metrics.json and model.safetensors of a run against its log; the log's head.

    What is not there is not looked for, as logs of older versions name no model; `data.path` and other places
    of files may differ. Raises CheckFailed where one differs or the chain breaks, InputError for no log.
    """
    log = directory / "run.sqlite"
    head = runlog.verify(log)
    begun = [record.body for record in runlog.read(log, "run")][:1]
    way_out = "put back the one that the run wrote, or trust the log and the report alone"
    plan = directory / _PLAN
    if begun and plan.is_file() and logged_plan(begun[0]) is not None:  # not that of another version
        written = _plan_in(plan)  # read as the log's is: a rule on plans that came later refuses neither
        if written is None:
            raise CheckFailed(f"{_PLAN} is not as the run wrote it", found=plan, way_out=way_out)
        if differing := plan_differences(begun[0], written):
            shown = ", ".join(differing[:_MOST]) + (
                f" and {len(differing) - _MOST} more" * (len(differing) > _MOST)
            )
            raise CheckFailed(
                f"{_PLAN} is not the plan that this run's log has", found=shown, way_out=way_out
            )
    metrics, logged = directory / _METRICS, _logged_metrics(log)
    if metrics.is_file() and not any(True for _ in runlog.read(log, "finished")):
        raise CheckFailed(  # the file is written last, when the log is whole
            f"the run log ends before the run did, though {_METRICS} is there",
            found=f"{head.records} records, none that it finished",
            way_out="its last records were cut off: use a copy that you trust",
        )
    if logged and metrics.is_file():
        found = _read(metrics, way_out)
        differs = [_differing(found, one) for one in logged]
        if all(differs):
            raise CheckFailed(
                f"{_METRICS} has other figures than this run's log", found=differs[-1], way_out=way_out
            )
    check_model(directory)
    return head


def missing_files(directory: Path) -> list[str]:
    """Those of a run's files that its log tells of and that are not there."""
    kinds = {record.kind for record in runlog.read(directory / "run.sqlite")}
    told = {_PLAN: "run", _METRICS: "metrics", _MODEL: "model"}
    return [name for name, kind in told.items() if kind in kinds and not (directory / name).is_file()]


def check_model(directory: Path) -> None:
    """Hold the model's file of a run against its log. Raises CheckFailed where it is another.

    Where the log names none, as those of older versions, or is not there, nothing can be said.
    """
    log, file = directory / "run.sqlite", directory / _MODEL
    if not log.exists() or not file.is_file():
        return
    named = [record.body for record in runlog.read(log, "model")]
    if named and named[-1].get("sha256") != (found := model_record(directory))["sha256"]:
        raise CheckFailed(
            f"{_MODEL} is not the model that this run's log names",
            found=f"SHA-256 {found['sha256'][:16]}, in the log {str(named[-1].get('sha256'))[:16]}",
            way_out="copy it again from where the run wrote it, or train again",
        )


def _read(file: Path, way_out: str) -> Any:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise CheckFailed(f"{_METRICS} is too large", found=file.stat().st_size, way_out=way_out)
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckFailed(f"{_METRICS} is not as the run wrote it", found=error, way_out=way_out) from error


def _plan_in(file: Path) -> Plan | None:
    with file.open("rb") as opened:
        text = opened.read(_MOST_PLAN_BYTES).decode("utf-8-sig", errors="replace")
    return logged_plan({"plan_toml": text})


def _logged_metrics(log: Path) -> list[dict[str, Any]]:
    """What metrics.json may hold: its last record, also with what an audit puts in once it is logged."""
    metrics = [record.body for record in runlog.read(log, "metrics")][-1:]
    canaries = [
        body["value"]
        for body in (record.body for record in runlog.read(log, "audit"))
        if body.get("name") == "canaries" and "idle" not in body
    ]
    found = [dict(body) for body in metrics]
    for body in metrics:
        if isinstance(body.get("privacy"), Mapping):
            found += [{**body, "privacy": {**body["privacy"], "audit_epsilon": value}} for value in canaries]
    return found


def _differing(found: Any, logged: Any, place: str = "") -> str:
    """The first value that differs, with its place and both values; empty where none does."""
    if isinstance(found, Mapping) and isinstance(logged, Mapping):
        for key in sorted({*found, *logged}, key=str):
            if key not in found or key not in logged:
                return f"{place}.{key} stands in the {'log' if key in logged else 'file'} alone".lstrip(".")
            if text := _differing(found[key], logged[key], f"{place}.{key}"):
                return text
        return ""
    if isinstance(found, list) and isinstance(logged, list | tuple) and len(found) == len(logged):
        texts = (
            _differing(*pair, f"{place}.{at}") for at, pair in enumerate(zip(found, logged, strict=True))
        )
        return next((text for text in texts if text), "")
    if found == logged and isinstance(found, bool) == isinstance(logged, bool):
        return ""
    return f"{place.lstrip('.')} is {str(found)[:_SHOWN]}, in the log {str(logged)[:_SHOWN]}"
