"""Where a run's figures come from: plan, version, commit, machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from lazaretto import __version__, catalog
from lazaretto.code_digest import code_digest
from lazaretto.plan import Plan, by_dotted_key, dump, parse_toml
from lazaretto.plan_paths import without_folders
from lazaretto.types import Record

__all__ = ["code_record", "logged_plan", "machine", "other_code", "plan_differences", "run_record"]


def machine() -> dict[str, Any]:
    """What ran: cores, memory, processor, versions."""
    return {
        "cores": jax.local_device_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def _commit() -> str | None:
    """The commit of the source tree this package runs from, "-dirty" if it was edited since; None if the
    package is installed somewhere else, whatever repository surrounds that place.
    """
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    commit, changed = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "--", "..")
    return f"{commit}-dirty" if commit and changed else commit


def _git(*words: str) -> str | None:
    """What git says in this file's folder, or None where it fails."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(  # noqa: S603
            ["git", "-C", str(here), *words],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def logged_plan(body: Mapping[str, Any]) -> Plan | None:
    """The plan of a log's record `run`, or None where this version would not take it."""
    try:
        return Plan.model_validate(parse_toml(str(body.get("plan_toml"))))
    except (ValueError, RecursionError):  # also pydantic's
        return None


def plan_differences(body: Mapping[str, Any], plan: Plan) -> list[str]:
    """Where a plan differs from that of a log's record `run`, but for where data and other files lie.

    Each as "train.rounds = 77, in the log 2"; [] for the same plan. Keys that came after the log was written
    have their defaults.
    """
    logged = logged_plan(body)
    if logged is None:
        return ["the log's own plan, which this version cannot read"]
    given, known = (by_dotted_key(_without_places(one).model_dump(mode="json")) for one in (plan, logged))
    absent = "absent"
    pairs = {key: (given.get(key, absent), known.get(key, absent)) for key in sorted({*given, *known})}
    return [f"{key} = {one}, in the log {other}" for key, (one, other) in pairs.items() if one != other]


def _without_places(plan: Plan) -> Plan:
    """Of data, start and budget only whether there is one."""

    def some(value: str | None) -> str | None:
        return None if value is None else "some"

    return plan.model_copy(
        update={
            "data": plan.data.model_copy(update={"path": some(plan.data.path)}),
            "train": plan.train.model_copy(update={"start": some(plan.train.start)}),
            "privacy": plan.privacy.model_copy(update={"budget": some(plan.privacy.budget)}),
        }
    )


def run_record(plan: Plan) -> dict[str, Any]:
    """Body of the run log's first record."""
    told = without_folders(plan)
    return {
        **code_record(),
        "name": plan.run.name,
        "plan": told.model_dump(mode="json"),
        "plan_toml": dump(told),
        "seeds": list(plan.run.seeds),
        "quick": len(plan.run.seeds) < plan.run.headline_seeds,
        "machine": machine(),
    }


def code_record() -> dict[str, Any]:
    """Body of the run log's record `code`: version, commit, digest of the package and of each file in
    folders of LAZARETTO_PATH that may be a part or belong to one, whether the plan uses it or not; None for
    one that cannot be read.
    """
    files = catalog.part_files()
    return {
        "version": __version__,
        "commit": _commit(),
        "code_sha256": code_digest(),
        "parts_sha256": {_text(name): _digest(file) for name, file in files.items()},
    }


def _text(name: str) -> str:
    """A file's name as text, also where its bytes are none."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _digest(file: Path) -> str | None:
    try:
        with file.open("rb") as body:
            return hashlib.file_digest(body, "sha256").hexdigest()
    except OSError:
        return None


def other_code(records: Iterable[Record]) -> dict[str, Any] | None:
    """Body of a record `code` where this is other code than that which wrote these records last; else None.

    A run that is gone on with has the code that began it in its record `run` (a sweep in `sweep`). Digests
    decide: another commit, or changes that are not committed, may leave them alone. Logs of older versions
    may lack either digest.
    """
    told = [record.body for record in records if record.kind in ("run", "sweep", "code")][-1:]
    now = code_record()
    same = told and all(told[0].get(key, now[key]) == now[key] for key in ("code_sha256", "parts_sha256"))
    return now if told and not (same and told[0].get("version") == now["version"]) else None
