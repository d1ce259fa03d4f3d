"""Paths of a plan: those that lead nowhere, and those that are nobody's business but this machine's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lazaretto import catalog
from lazaretto.errors import InputError, PlanError
from lazaretto.plan_keys import Plan

__all__ = ["idle_path", "path_problems", "without_folders"]


def path_problems(plan: Plan) -> Iterator[PlanError]:
    """A start without a model; a path that leads nowhere or to nothing, for a source that reads no files.

    Sources that read files say themselves what they miss.
    """
    if plan.train.start is not None:
        folder = Path(plan.train.start)
        file = folder / "model.safetensors"
        if not file.exists():
            yield PlanError(
                "train.start: there is no model"
                + ("" if folder.is_dir() else ", as there is no such folder"),
                found=file if folder.is_dir() else folder,
                way_out="the folder of a finished run, or leave it out",
            )
    if plan.data.path is not None:
        try:
            source = catalog.build("sources", plan.data.source, plan.data.options)
        except (PlanError, InputError, TypeError, ValueError):  # said elsewhere
            return
        if not source.needs_path:
            problem = idle_path(plan.data.source, Path(plan.data.path), "--data (data.path)", "data.source")
            if problem is not None:
                yield problem


def idle_path(source: str, path: Path, given: str, named: str) -> PlanError | None:
    """What is wrong with a path for a source that reads no files: that it leads nowhere, or to nothing.

    Whoever gives one with something in it is told in the data sheet that nothing of it was read.
    given, named: how the path and the source were said.
    """
    if path.exists() and not _empty(path):
        return None
    there = "the folder is empty" if path.exists() else "nothing is there"
    return PlanError(
        f"{given}: source '{source}' reads no files, and {there}",
        found=path,
        way_out=f"name the source that reads your data ({named}; lazaretto list sources), or give no path",
    )


def _empty(path: Path) -> bool:
    """Whether it is a folder that holds nothing; one that may not be looked into may hold something."""
    try:
        return path.is_dir() and not any(path.iterdir())
    except OSError:
        return False


def without_folders(plan: Plan) -> Plan:
    """The plan as a log and a report tell it: of `train.start` and `privacy.budget` the last name alone.

    Where those lie on a machine tells its user's names, and nothing of the run. `data.path` stays whole, as
    the report gives it in the command that runs all again. For words only: it can no longer be run.
    """
    start, budget = plan.train.start, plan.privacy.budget
    return plan.model_copy(
        update={
            "train": plan.train.model_copy(update={"start": None if start is None else Path(start).name}),
            "privacy": plan.privacy.model_copy(
                update={"budget": None if budget is None else Path(budget).name}
            ),
        }
    )
