"""The budget file of a plan: a run is entered before it trains, goes on by its ticket, and is marked as done.

All that is read and written stands between two turns of a lock, so that of runs that begin at once none
overwrites what another was charged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from lazaretto import runlog
from lazaretto.data_files import files_under, lies_in
from lazaretto.errors import InputError
from lazaretto.plan import Plan
from lazaretto.privacy.budget import (
    Budget,
    Run,
    charged,
    compose,
    concluded,
    known_as,
    named,
    opened,
    renewed,
)
from lazaretto.privacy.budget_file import read_budget, written
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.promise import dealing_of
from lazaretto.run.charges import charges_of, data_digest, privacy_record
from lazaretto.run.journal import Journal
from lazaretto.run.lock import taken
from lazaretto.run.saved import write_whole

__all__ = ["Entry", "conclude_run", "enter_run", "go_on", "keep_apart", "promise_run"]

_WAIT_SECONDS = 300.0  # pricing hundreds of runs takes a minute
_LOOK_SECONDS = 0.05
_BEGINS = "begins"

Price = tuple[Mechanism, int]  # and in how many examples one unit stands


class Entry(NamedTuple):
    """A run in the file: its id, the ticket it was given last, what all runs there cost one unit together.

    said: what was spent in the file before the run was entered, and what it takes, for the display.
    """

    id: str
    ticket: str
    all_runs_epsilon: float | None
    said: str = ""


def keep_apart(plan: Plan, folder: Path) -> None:
    """Raise InputError where budget file or run folder would change the digest by which data are known.

    And where the budget file's folder is not there: a misspelt path is no new file, in which all is free.
    """
    asked = plan.privacy
    if asked.budget is None:
        return
    _folder_of(_place(plan))
    if plan.data.path is None or asked.budget_data is not None:
        return
    for what, place in (("the budget file", Path(asked.budget)), ("the run's folder", folder)):
        if lies_in(place, Path(plan.data.path)):
            raise InputError(
                f"{what} lies with the data, whose digest changes with it: the budget would begin anew",
                found=place,
                way_out="another place, or a name for the data (privacy.budget_data)",
            )


def promise_run(plan: Plan, mechanism: Mechanism, appearances: int, journal: Journal) -> None:
    """Log what the run costs, and enter it into its budget file, before anything trains.

    A run that goes on is not charged again, if it can show that it alone does. Raises as `enter_run`.
    """
    if ("privacy",) in journal.seen:
        go_on(plan, (mechanism, appearances), journal)
        return
    body = privacy_record(plan, mechanism, appearances)
    entry = enter_run(plan, mechanism, appearances)
    journal.record("privacy", body | {"all_runs_epsilon": None if entry is None else entry.all_runs_epsilon})
    if entry is not None:
        _record(journal, entry, _BEGINS)


def enter_run(
    plan: Plan, mechanism: Mechanism, appearances: int = 1, wait_seconds: float = _WAIT_SECONDS
) -> Entry | None:
    """Write the run into the plan's budget file before it trains; None where the plan has none.

    Each repetition (seed) is a run of its own. Raises PlanError where that would pass the limit
    (`privacy.budget_epsilon`, else the file's own), InputError where the file cannot be used, or is in use
    for longer than wait_seconds.
    """
    if plan.privacy.budget is None:
        return None
    digest = data_digest(plan)
    with _locked(plan, wait_seconds):
        return _entered(plan, (mechanism, appearances), digest)


def go_on(plan: Plan, price: Price, journal: Journal, wait_seconds: float = _WAIT_SECONDS) -> None:
    """Before a stopped run goes on: its ticket exchanged for a new one, or the run charged anew.

    Anew where the file does not know the run, where it is done, or where a copy of its folder went on
    before: what that has drawn and told was paid for once. Raises as `enter_run`.
    """
    if plan.privacy.budget is None:
        return
    shown = [record.body for record in runlog.read(journal.log, "budget")]
    run = str(shown[-1]["id"]) if shown else ""
    tickets = [str(body["ticket"]) for body in shown if body["id"] == run]
    ticket = secrets.token_hex(16)
    if shown:  # before the file: who is stopped in between still holds the one before
        _record(journal, Entry(run, ticket, None), "goes on")
    digest = data_digest(plan)

    def renew(budget: Budget) -> Budget | None:
        moved, data = known_as(budget, digest, plan.privacy.budget_data)
        return renewed(moved, data, run, tickets, ticket)

    with _locked(plan, wait_seconds):
        if not _changed(plan, renew):
            again = _entered(plan, price, digest)
            _record(journal, again, "charged again: a copy of it went on, or the file does not know it")


def conclude_run(plan: Plan, price: Price, journal: Journal, wait_seconds: float = _WAIT_SECONDS) -> None:
    """Before a run is published: marked as done, or charged anew where a copy of it went on meanwhile.

    Raises as `enter_run`; then nothing may be published.
    """
    if plan.privacy.budget is None:
        return
    last = [record.body for record in runlog.read(journal.log, "budget")][-1]
    run, ticket = str(last["id"]), str(last["ticket"])
    with _locked(plan, wait_seconds):
        if not _changed(plan, lambda budget: concluded(budget, run, ticket)):
            again = _entered(plan, price, data_digest(plan))
            _changed(plan, lambda budget: concluded(budget, again.id, again.ticket))
            _record(journal, again, "charged again: a copy of it went on meanwhile")


def _record(journal: Journal, entry: Entry, why: str) -> None:
    """Log the entry, and show what was spent and what it takes."""
    body = {"id": entry.id, "ticket": entry.ticket, "all_runs_epsilon": entry.all_runs_epsilon, "why": why}
    runlog.append(journal.log, "budget", body)
    if entry.said:
        more = "" if why == _BEGINS else f"; {why}"
        journal.show("budget", {"said": f"{entry.said}{more}"})


def _entered(plan: Plan, price: Price, digest: str) -> Entry:
    """The run charged to the file, which must be locked."""
    asked, (mechanism, appearances) = plan.privacy, price
    place = _place(plan)
    new = not place.exists()
    budget, data = known_as(_read(place), digest, asked.budget_data)
    if data in budget and asked.budget_epsilon is None:
        limit = budget[data].epsilon
    elif asked.budget_epsilon is None:
        raise InputError(
            "the budget file does not know this data, and the plan sets no limit for it",
            found=place,
            way_out="set privacy.budget_epsilon",
        )
    else:
        limit = asked.budget_epsilon
    budget = opened(budget, data, mechanism.unit, limit, asked.delta)
    budget = named(budget, data, digest, asked.budget_data)
    spent = _most(budget, data)
    # what is limited is what one can keep to: exact figures of test units have no price
    charges = [one for one in charges_of(plan, mechanism, appearances) if one.part != "test units"]
    run, ticket = secrets.token_hex(16), secrets.token_hex(16)
    for seed in plan.run.seeds:
        one = Run(
            name=f"{plan.run.name}, seed {seed}",
            charges=tuple(charges),
            id=run,
            ticket=ticket,
            dealt=_dealt(plan, seed, digest),
        )
        budget = charged(budget, data, one, mechanism)
    write_whole(place, written(budget))
    after = _most(budget, data)
    takes = f"this run takes it to {after:.2f} of {limit:g}"
    said = f"budget: new file {place}, {takes}" if new else f"budget {place}: {spent:.2f} spent, {takes}"
    return Entry(run, ticket, after, said)


def _most(budget: Budget, data: str) -> float:
    """What all runs of the account cost a training or a validation unit."""
    total = compose(budget, data, [])
    return max(total["training units"], total["validation units"])


def _dealt(plan: Plan, seed: int, digest: str) -> str:
    """Of all that decides who stands in which part, names in the data (its bytes, its files') included."""
    place = None if plan.data.path is None else Path(plan.data.path)
    below: set[Path] = set()
    if place is not None and place.is_dir():
        for file in files_under(place):
            below |= {one for one in (file, *file.parents) if place in one.parents}
    said = [dealing_of(plan, seed), digest, sorted(str(one.relative_to(place or "")) for one in below)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _changed(plan: Plan, change: Callable[[Budget], Budget | None]) -> bool:
    """Whether the file, which must be locked, could be changed; else it is as it was."""
    place = _place(plan)
    new = change(_read(place))
    if new is not None:
        write_whole(place, written(new))
    return new is not None


def _place(plan: Plan) -> Path:
    """The file itself: a link is followed, so that writing does not put a second file in its place."""
    return Path(str(plan.privacy.budget)).resolve()


def _folder_of(place: Path) -> Path:
    """The folder of the budget file. Raises InputError where there is none: none is made for it."""
    if not place.parent.is_dir():
        raise InputError(
            "privacy.budget: the folder of the budget file is not there, and none is made for it",
            found=place.parent,
            way_out="check the path; for a new budget make the folder first",
        )
    return place.parent


def _read(place: Path) -> Budget:
    try:
        return read_budget(place.read_bytes()) if place.exists() else {}
    except OSError as error:
        raise InputError(
            "the budget file cannot be read",
            found=f"{place}: {error.strerror}",
            way_out="check privacy.budget",
        ) from error


@contextlib.contextmanager
def _locked(plan: Plan, wait_seconds: float) -> Iterator[None]:
    """Alone with the budget file. The lock is on a file beside it, as writing puts a new file in its place;
    it stays, and goes with the process that holds it, however that ends.
    """
    place = _place(plan)
    path, until = _folder_of(place) / f"{place.name}.lock", time.monotonic() + wait_seconds
    try:
        with path.open("ab") as lock:
            while not taken(lock.fileno()):
                if time.monotonic() > until:
                    raise InputError(
                        "the budget file is in use by another run",
                        found=path,
                        way_out="start again when that is done (--resume where something was trained)",
                    )
                time.sleep(_LOOK_SECONDS)
            yield
    except OSError as error:
        raise InputError(
            "the budget file cannot be locked or written",
            found=f"{path}: {error.strerror}",
            way_out="a folder on a file system with locks, which this user may write",
        ) from error
