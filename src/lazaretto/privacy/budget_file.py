"""The file that keeps a budget, as bytes: JSON, checked in all that it says.

Nothing here touches a disk. Whoever may change the file may also take a run out of it; only what cannot be
true is noticed.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Len, Lt
from dp_accounting.dp_event import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    MixtureOfGaussiansDpEvent,
    NonPrivateDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError

from lazaretto.errors import InputError, PlanError
from lazaretto.privacy.accounting import flattened
from lazaretto.privacy.budget import Account, Budget, Charge, Run, What, Whose
from lazaretto.privacy.mechanism import Unit

__all__ = ["read_budget", "written"]

_MOST_BYTES = 1 << 24


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_Above0: TypeAlias = Annotated[FiniteFloat, Gt(0)]
_Digest: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Token: TypeAlias = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{32})?$")]
_Word: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class _Gaussian(_Strict):
    kind: Literal["gaussian"]
    noise_multiplier: _Above0


class _PoissonGaussian(_Strict):
    kind: Literal["poisson_gaussian"]
    noise_multiplier: _Above0
    rate: Annotated[FiniteFloat, Gt(0), Le(1)]


class _Mixture(_Strict):
    kind: Literal["mixture_of_gaussians"]
    noise_multiplier: _Above0
    lengths: Annotated[tuple[Annotated[FiniteFloat, Ge(0)], ...], Len(1, 1001)]
    shares: Annotated[tuple[Annotated[FiniteFloat, Ge(0), Le(1)], ...], Len(1, 1001)]


class _NotPrivate(_Strict):
    kind: Literal["not_private"]


class _Steps(_Strict):
    times: Annotated[int, Ge(1), Le(10**9)]
    step: Annotated[_Gaussian | _PoissonGaussian | _Mixture | _NotPrivate, Field(discriminator="kind")]


class _Charge(_Strict):
    what: What
    part: Whose
    unit: Unit
    words: Annotated[str, StringConstraints(max_length=1000)]
    price: tuple[_Steps, ...]


class _Run(_Strict):
    name: _Word
    charges: tuple[_Charge, ...]
    id: _Token = ""
    ticket: _Token = ""
    dealt: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""


class _Account(_Strict):
    unit: Unit
    epsilon: _Above0
    delta: Annotated[FiniteFloat, Gt(0), Lt(1)]
    runs: tuple[_Run, ...]
    name: Annotated[str, StringConstraints(max_length=1000)] = ""
    digests: tuple[_Digest, ...] = ()


class _File(_Strict):
    format: Literal["lazaretto budget"]
    version: Literal[1, 2]  # 1 had neither names nor tickets: all its runs are done
    data: dict[_Digest, _Account]


def written(budget: Budget) -> bytes:
    """The budget as a file: JSON, UTF-8, sorted, so that equal budgets are equal bytes.

    Raises InputError, with the place, for what `read_budget` would refuse.
    """
    plain = _as_plain(budget)
    _checked(plain)
    text = json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def read_budget(content: bytes) -> Budget:
    """The budget in a file's bytes. Raises InputError, with the place, for what `written` would not write:

    another version, unknown kinds of steps, noise or shares out of range, NaN, a name that stands twice.
    """
    if len(content) > _MOST_BYTES:
        raise InputError("a budget file is smaller", found=f"{len(content)} bytes")
    try:
        plain = json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError("this is no budget file", found=str(error), way_out="a copy of it") from error
    return _of_model(_checked(plain))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one place")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of a budget")


def _checked(plain: Any) -> _File:
    try:
        return _File.model_validate_json(json.dumps(plain))
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = ".".join(str(one) for one in first["loc"]) or "the whole"
        raise InputError(f"the budget cannot be true: {first['msg']}", found=place) from error


def _as_plain(budget: Budget) -> dict[str, Any]:
    data = {
        digest: {
            "unit": account.unit,
            "epsilon": account.epsilon,
            "delta": account.delta,
            "name": account.name,
            "digests": list(account.digests),
            "runs": [
                {
                    "name": run.name,
                    "id": run.id,
                    "ticket": run.ticket,
                    "charges": [_plain_charge(one) for one in run.charges],
                }
                | ({"dealt": run.dealt} if run.dealt else {})
                for run in account.runs
            ],
        }
        for digest, account in budget.items()
    }
    return {"format": "lazaretto budget", "version": 2, "data": data}


def _plain_charge(one: Charge) -> dict[str, Any]:
    price = [{"times": times, "step": _plain_step(step)} for step, times in flattened(one.event).items()]
    return {"what": one.what, "part": one.part, "unit": one.unit, "words": one.words, "price": price}


def _plain_step(step: DpEvent) -> dict[str, Any]:
    match step:
        case GaussianDpEvent():
            return {"kind": "gaussian", "noise_multiplier": step.noise_multiplier}
        case PoissonSampledDpEvent():
            noise = step.event.noise_multiplier
            return {"kind": "poisson_gaussian", "noise_multiplier": noise, "rate": step.sampling_probability}
        case MixtureOfGaussiansDpEvent():
            return {
                "kind": "mixture_of_gaussians",
                "noise_multiplier": step.standard_deviation,
                "lengths": list(step.sensitivities),
                "shares": list(step.sampling_probs),
            }
    return {"kind": "not_private"}


def _of_model(file: _File) -> Budget:
    return {
        digest: Account(
            account.unit,
            account.epsilon,
            account.delta,
            tuple(
                Run(
                    run.name,
                    tuple(_charge(one) for one in run.charges),
                    id=run.id,
                    ticket=run.ticket,
                    dealt=run.dealt,
                )
                for run in account.runs
            ),
            name=account.name,
            digests=account.digests,
        )
        for digest, account in file.data.items()
    }


def _charge(one: _Charge) -> Charge:
    event = ComposedDpEvent([SelfComposedDpEvent(_event(steps.step), steps.times) for steps in one.price])
    try:
        flattened(event)
    except PlanError as error:  # a mixture whose shares do not add up
        raise InputError(f"the budget cannot be true: {error.problem}", found=error.found) from error
    return Charge(what=one.what, part=one.part, unit=one.unit, event=event, words=one.words)


def _event(step: _Gaussian | _PoissonGaussian | _Mixture | _NotPrivate) -> DpEvent:
    match step:
        case _Gaussian():
            return GaussianDpEvent(step.noise_multiplier)
        case _PoissonGaussian():
            return PoissonSampledDpEvent(step.rate, GaussianDpEvent(step.noise_multiplier))
        case _Mixture():
            return MixtureOfGaussiansDpEvent(step.noise_multiplier, step.lengths, step.shares)
        case _NotPrivate():
            return NonPrivateDpEvent()
