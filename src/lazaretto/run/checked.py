"""Whether the files of a run are those that its log tells of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lazaretto import runlog
from lazaretto.errors import CheckFailed
from lazaretto.plan import Plan
from lazaretto.run.provenance import logged_plan, plan_differences
from lazaretto.run.seen import SEEN_FILE
from lazaretto.types import Record

__all__ = ["MODEL_FILE", "check_files", "check_model", "file_record", "missing_files"]

MODEL_FILE = "model.safetensors"
_METRICS, _PLAN = "metrics.json", "plan.toml"
_MOST_TIMES = 4  # what the log has, as it was written: other line ends and indents make no more of it
_SMALL = 1 << 20  # bytes of a metrics.json that are read in any case
_MOST_PLAN_BYTES = 1 << 20
_MOST = 3  # differences that are shown
_SHOWN = 60  # characters of a value
_BY_DIGEST = {"model": MODEL_FILE, "seen": SEEN_FILE}  # kinds of records, and the files that they name


def file_record(folder: Path, name: str) -> dict[str, Any]:
    """Body of the run log's records `model` and `seen`: length and digest of the file."""
    with (folder / name).open("rb") as file:  # in pieces: a file from elsewhere may be of any length
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"file": name, "bytes": file.tell(), "sha256": digest}


def check_files(directory: Path, records: Sequence[Record] | None = None) -> runlog.Head:
    """Hold plan, figures, model and list of seen windows of a run against its log; the log's head.

    records: of the log, where they have been read already. What is not there is not looked for, as logs of
    older versions name no model; `data.path` and other places of files may differ. Raises CheckFailed where
    one differs or the chain breaks, InputError for no log.
    """
    if records is None:
        records = list(runlog.read(directory / "run.sqlite"))
    begun = _bodies(records, "run")[:1]
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
    metrics, logged = directory / _METRICS, _logged_metrics(records)
    if metrics.is_file() and not _bodies(records, "finished"):
        raise CheckFailed(  # the file is written last, when the log is whole
            f"the run log ends before the run did, though {_METRICS} is there",
            found=f"{len(records)} records, none that it finished",
            way_out="its last records were cut off: use a copy that you trust",
        )
    if logged and metrics.is_file():
        found = _read(metrics, logged[0], way_out)
        differs = [_differing(found, one) for one in logged]
        if all(differs) and not (_resumed_by_older(records) and _but_for_time(found, logged)):
            raise CheckFailed(
                f"{_METRICS} has other figures than this run's log", found=differs[-1], way_out=way_out
            )
    _check_digests(directory, records)
    return runlog.Head(records[-1].sequence, records[-1].digest) if records else runlog.Head(0, bytes(32))


def missing_files(directory: Path, records: Sequence[Record]) -> list[str]:
    """Those of a run's files that the records of its log tell of and that are not there."""
    kinds = {record.kind for record in records}
    told = {_PLAN: "run", _METRICS: "metrics", **{name: kind for kind, name in _BY_DIGEST.items()}}
    return [name for name, kind in told.items() if kind in kinds and not (directory / name).is_file()]


def check_model(directory: Path) -> None:
    """Hold the model's file of a run, and that of what it has seen, against its log.

    Raises CheckFailed where one is another. Where the log names none, as those of older versions, or is not
    there, nothing can be said.
    """
    log = directory / "run.sqlite"
    if log.exists():
        _check_digests(directory, [record for record in runlog.read(log) if record.kind in _BY_DIGEST])


def _check_digests(directory: Path, records: Sequence[Record]) -> None:
    for kind, name in _BY_DIGEST.items():
        named = _bodies(records, kind)
        if not named or not (directory / name).is_file():
            continue
        found, logged = str(file_record(directory, name)["sha256"]), str(named[-1].get("sha256"))
        if found != logged:
            what = "the model" if kind == "model" else "the one"
            raise CheckFailed(
                f"{name} is not {what} that this run's log names",
                found=f"SHA-256 {found[:16]}, in the log {logged[:16]}",
                way_out="copy it again from where the run wrote it, or train again",
            )


def _bodies(records: Sequence[Record], kind: str) -> list[Mapping[str, Any]]:
    return [record.body for record in records if record.kind == kind]


def _read(file: Path, logged: Mapping[str, Any], way_out: str) -> Any:
    """What the file holds. Raises CheckFailed where it is far larger than what the log has would make."""
    usual = len(json.dumps(logged, indent=1, default=str))  # a log from elsewhere may hold bytes
    try:
        if file.stat().st_size > max(_MOST_TIMES * usual, _SMALL):
            raise CheckFailed(
                f"{_METRICS} is too large",
                found=f"{file.stat().st_size} bytes, and the log's figures make {usual}",
                way_out=way_out,
            )
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckFailed(f"{_METRICS} is not as the run wrote it", found=error, way_out=way_out) from error


def _plan_in(file: Path) -> Plan | None:
    with file.open("rb") as opened:
        text = opened.read(_MOST_PLAN_BYTES).decode("utf-8-sig", errors="replace")
    return logged_plan({"plan_toml": text})


def _logged_metrics(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What metrics.json may hold: its last record, also with what an audit puts in once it is logged."""
    metrics = _bodies(records, "metrics")[-1:]
    canaries = [
        body["value"]
        for body in _bodies(records, "audit")
        if body.get("name") == "canaries" and "idle" not in body
    ]
    found = [dict(body) for body in metrics]
    for body in metrics:
        if isinstance(body.get("privacy"), Mapping):
            found += [{**body, "privacy": {**body["privacy"], "audit_epsilon": value}} for value in canaries]
    return found


def _resumed_by_older(records: Sequence[Record]) -> bool:
    """Whether a version finished it that named no model, and that wrote anew what it took where it went on.

    A run stopped between the record and the file has other seconds and another peak of memory in each then.
    """
    return not _bodies(records, "model") and _bodies(records, "finished")[-1].get("resumed") is True


def _but_for_time(found: Any, logged: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the figures are those of the log but for what they took; each has to say that."""
    if not isinstance(found, Mapping) or not {"time", "memory"} <= set(found):
        return False
    return any(
        not _differing(found, {**one, "time": found["time"], "memory": found["memory"]}) for one in logged
    )


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
