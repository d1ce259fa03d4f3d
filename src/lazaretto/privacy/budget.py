"""What runs on one data set have cost together, and whether one more may start.

A run is entered before it trains, not after: what has stopped half-way has told of the data too. Where it
goes on it shows the ticket of its entry and gets a new one, so that of two copies of a stopped run one alone
goes on for the price that was paid.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from dp_accounting.dp_event import ComposedDpEvent, DpEvent

from lazaretto.errors import PlanError, many
from lazaretto.privacy.accounting import epsilon_of, rounds_that_fit
from lazaretto.privacy.mechanism import Mechanism, Unit

__all__ = [
    "Account",
    "Budget",
    "Charge",
    "Run",
    "What",
    "Whose",
    "charged",
    "compose",
    "concluded",
    "everywhere",
    "known_as",
    "named",
    "opened",
    "renewed",
    "spent",
    "within",
]

What: TypeAlias = Literal["training", "scaling", "thresholds", "metrics"]
Whose: TypeAlias = Literal["training units", "validation units", "test units"]

_PARTS: tuple[Whose, ...] = ("training units", "validation units", "test units")
_LIMITED: tuple[Whose, ...] = ("training units", "validation units")


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One thing that leaves the sites, and what it costs the units that it touches.

    what: that leaves. part: whose units it touches; each part has an epsilon of its own, as no unit is in
    two as long as they are dealt alike. unit: whom the event protects. event: its whole price, all rounds.
    words: for the report.
    """

    what: What
    part: Whose
    unit: Unit
    event: DpEvent
    words: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run's name and its charges. Two runs of one name are two runs.

    id: of the run's folder, "" in old files; repetitions of one plan share it. ticket: what a run that goes
    on has to show; "" once it is done.
    dealt: SHA-256 of all that decides in which part a unit stands, or "": where it is not known.
    """

    name: str
    charges: tuple[Charge, ...]
    id: str = ""
    ticket: str = ""
    dealt: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """One data set: whose privacy is counted, the limit, and the runs so far, oldest first.

    name: that its keeper gave it, or "". digests: of the copies that were used under this name.
    """

    unit: Unit
    epsilon: float
    delta: float
    runs: tuple[Run, ...] = ()
    name: str = ""
    digests: tuple[str, ...] = ()


Budget: TypeAlias = Mapping[
    str, Account
]  # SHA-256 of a data set, or of its name, in hexadecimal -> its account


def spent(charges: Sequence[Charge], delta: float) -> dict[Whose, float]:
    """The epsilon of each part's units, all its charges together; 0 for a part that none touches.

    The charges must be of one unit. Raises PlanError where they are not: what protects a record says
    nothing of a patient, and what protects a patient costs a record more than once.
    """
    units = sorted({one.unit for one in charges})
    if len(units) > 1:
        raise PlanError(
            "charges of several units have no common price",
            found=", ".join(units),
            way_out="one unit for all that is charged",
        )
    return {
        part: epsilon_of(ComposedDpEvent([one.event for one in charges if one.part == part]), delta)
        for part in _PARTS
    }


def everywhere(charges: Sequence[Charge]) -> list[Charge]:
    """The charges, where units may have changed their part between them.

    What training units or validation units pay is paid by both: that is above every path that one unit can
    have taken through these two. Who was a test unit in between is not protected there, and no sum says so.
    """
    others: dict[Whose, Whose] = dict(zip(_LIMITED, reversed(_LIMITED), strict=True))
    return [*charges, *(replace(one, part=others[one.part]) for one in charges if one.part in others)]


def within(
    charges: Sequence[Charge],
    before: Sequence[Charge],
    epsilon: float,
    delta: float,
    mechanism: Mechanism | None = None,
) -> None:
    """Raise PlanError where charges, after those before, cost training or validation units more than epsilon.

    mechanism: of the training among `charges`; the refusal then says how many of its rounds would fit.
    Test units have no limit: what is published of them is said, and nobody trains on them.
    """
    if not epsilon > 0:
        raise PlanError("the limit is an epsilon above 0", found=epsilon, way_out="for example 8")
    past, asked, total = (spent(some, delta) for some in (before, charges, [*before, *charges]))
    for part in _LIMITED:
        if total[part] <= epsilon:
            continue
        found = f"spent {_number(past[part])}, asked {_number(asked[part])}, together {_number(total[part])}"
        raise PlanError(
            f"this would cost {part} more than epsilon {_number(epsilon)} at delta {delta:g}",
            found=found,
            way_out=_way_out(part, charges, before, epsilon, delta, mechanism),
        )


def _way_out(
    part: Whose,
    charges: Sequence[Charge],
    before: Sequence[Charge],
    epsilon: float,
    delta: float,
    mechanism: Mechanism | None,
) -> str:
    now = [one for one in charges if one.part == part]
    besides: list[DpEvent] = [one.event for one in now if one.what != "training"]
    if mechanism is None or len(besides) == len(now):
        return "more noise, less that is charged, or a larger limit"
    others = [*besides, *(one.event for one in before if one.part == part)]
    rounds = rounds_that_fit(mechanism, others, epsilon, delta)
    if rounds == 0:
        return "not one round would fit: more noise, less that is charged besides, or a larger limit"
    return f"{many(rounds, 'round')} would fit; or more noise, or a larger limit"


def _number(epsilon: float) -> str:
    """Four digits, rounded up where it matters: what is above a limit never looks equal to it."""
    if not math.isfinite(epsilon) or epsilon == 0:
        return f"{epsilon:g}"
    step = 10.0 ** (math.floor(math.log10(epsilon)) - 3)
    return f"{math.ceil(round(epsilon / step, 6)) * step:.4g}"


def known_as(budget: Budget, digest: str, name: str | None) -> tuple[Budget, str]:
    """The key of a data set's account, and the budget with the account under it; there may be none yet.

    digest: SHA-256 of its content. name: what its keeper calls it, whatever its bytes, or None. An account
    that was kept by the bytes alone goes on under the name. Raises PlanError where the data have an account
    under another name, or one by bytes beside that of the name: their runs would not be added up.
    """
    others = [held.name for held in budget.values() if digest in held.digests and held.name != (name or "")]
    if others:
        raise PlanError(
            "the budget file knows this data by another name",
            found=name or "none",
            way_out=f'privacy.budget_data = "{others[0]}"',
        )
    if name is None:
        return budget, digest
    key = hashlib.sha256(b"lazaretto data set\0" + name.encode()).hexdigest()
    if digest not in budget:
        return budget, key
    if key in budget:
        raise PlanError(
            "the budget file has one account for the name and another for these bytes",
            found=f"{name}, {digest}",
            way_out="whoever keeps the file moves the runs of the one to the other",
        )
    rest = {one: account for one, account in budget.items() if one != digest}
    return {**rest, key: budget[digest]}, key


def named(budget: Budget, data: str, digest: str, name: str | None) -> Budget:
    """The budget with the name and the bytes of a data set noted in its account; as it is without a name."""
    if name is None:
        return budget
    account = _account(budget, data)
    digests = tuple(sorted({*account.digests, digest}))
    return {**budget, data: replace(account, name=name, digests=digests)}


def opened(budget: Budget, data: str, unit: Unit, epsilon: float, delta: float) -> Budget:
    """The budget with an account for a data set: as it is where there is one with just these terms.

    data: SHA-256 in hexadecimal. Raises PlanError where its account has others: a limit is not raised by
    a plan, but by whoever keeps the file.
    """
    if data in budget:
        held = budget[data]
        if (held.unit, held.epsilon, held.delta) != (unit, epsilon, delta):
            raise PlanError(
                "the budget file has other terms for this data",
                found=f"{unit}, epsilon {epsilon:g}, delta {delta:g}",
                way_out=f"those of the file: {held.unit}, epsilon {held.epsilon:g}, delta {held.delta:g}",
            )
        return budget
    if not re.fullmatch("[0-9a-f]{64}", data):
        raise PlanError("a data set is named by its SHA-256, 64 hexadecimal digits", found=data)
    if not (0 < epsilon < math.inf and 0 < delta < 1):
        raise PlanError("a limit is a finite epsilon above 0 and a delta in (0, 1)", found=(epsilon, delta))
    return {**budget, data: Account(unit, epsilon, delta)}


def compose(budget: Budget, data: str, charges: Sequence[Charge]) -> dict[Whose, float]:
    """What all runs on a data set cost together with more charges, each part at the account's delta.

    Where its runs were not all dealt alike, each part pays for both (`everywhere`).
    """
    account = _account(budget, data)
    every = [*_past(account), *charges]
    return spent(every if _alike(account.runs) else everywhere(every), account.delta)


def charged(budget: Budget, data: str, run: Run, mechanism: Mechanism | None = None) -> Budget:
    """The budget with one run more. Raises PlanError where that passes the limit, and with what would fit."""
    account = _account(budget, data)
    if any(one.unit != account.unit for one in run.charges):
        raise PlanError(
            f"the budget of this data counts by {account.unit}",
            found=", ".join(sorted({one.unit for one in run.charges})),
            way_out="the same unit, or a data set of its own",
        )
    before, asked = _past(account), list(run.charges)
    if not _alike([*account.runs, run]):
        before, asked = everywhere(before), everywhere(asked)
    within(asked, before, account.epsilon, account.delta, mechanism)
    return {**budget, data: replace(account, runs=(*account.runs, run))}


def renewed(budget: Budget, data: str, run: str, held: Collection[str], ticket: str) -> Budget | None:
    """The budget with a new ticket for a run (its id) that goes on; None where it has to be charged anew.

    held: tickets that it shows. It has to be charged where there is no such run, where it is done, or where
    the ticket it was given last is not among them: then a copy of it has gone on.
    """
    account = budget.get(data)
    own = [one for one in account.runs if one.id == run] if account is not None and run else []
    if account is None or not own or not all(one.ticket and one.ticket in held for one in own):
        return None
    runs = (replace(one, ticket=ticket) if one.id == run else one for one in account.runs)
    return {**budget, data: replace(account, runs=tuple(runs))}


def concluded(budget: Budget, run: str, ticket: str) -> Budget | None:
    """The budget with a run (its id) marked as done, whatever its data; None where this is not its ticket."""
    for data, account in budget.items():
        if run and any(one.id == run for one in account.runs):
            return renewed(budget, data, run, (ticket,), "")
    return None


def _account(budget: Budget, data: str) -> Account:
    if data not in budget:
        raise PlanError(
            "the budget file does not know this data", found=data, way_out="open an account for it"
        )
    return budget[data]


def _alike(runs: Sequence[Run]) -> bool:
    """Whether every unit was in one part in all runs, as far as they say how they dealt."""
    return len({run.dealt for run in runs}) <= 1


def _past(account: Account) -> list[Charge]:
    return [one for run in account.runs for one in run.charges]
