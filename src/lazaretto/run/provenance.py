"""Where a run's figures come from: plan, version, commit, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from lazaretto import __version__
from lazaretto.code_digest import code_digest
from lazaretto.plan import Plan, dump
from lazaretto.plan_paths import without_folders

__all__ = ["is_plan_of", "machine", "run_record"]


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


def is_plan_of(body: Mapping[str, Any], plan: Plan) -> bool:
    """Whether a plan is that of a log's record `run`, but for where data and other files lie.

    Keys that came after the log was written have their defaults.
    """
    try:
        logged = Plan.model_validate(tomllib.loads(str(body.get("plan_toml"))))
    except (ValueError, RecursionError):  # also pydantic's: a plan that this version would not take
        return False
    one, other = map(_without_places, (logged, plan))
    return one == other


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
        "version": __version__,
        "name": plan.run.name,
        "plan": told.model_dump(mode="json"),
        "plan_toml": dump(told),
        "seeds": list(plan.run.seeds),
        "quick": len(plan.run.seeds) < plan.run.headline_seeds,
        "machine": machine(),
        "commit": _commit(),
        "code_sha256": code_digest(),
    }
