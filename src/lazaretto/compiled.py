"""Work on columns of updates, spread over the cores; loops that no NumPy call does in one pass, compiled."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import RLock
from typing import Any, TypeVar, cast

from llvmlite import ir
from numba import njit
from numba.extending import intrinsic
from threadpoolctl import ThreadpoolController

__all__ = ["by_columns", "compiled", "compiled_for_finite", "cores", "larger", "one_blas_thread", "smaller"]

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")
_STEP = 2**14  # columns of a part
_LIMIT = RLock()  # limits are put back in the order in which they were set


def compiled(function: _F) -> _F:
    """The function, compiled by Numba at its first call for each type of its arguments.

    It lets other threads work meanwhile, and is kept on disk, where that can be written.
    """
    return _made(function, fastmath=False)


def compiled_for_finite(function: _F) -> _F:
    """`compiled`, for numbers of which none is NaN: with one, any number may come out."""
    return _made(function, fastmath={"nnan", "nsz"})


def _made(function: _F, **options: Any) -> _F:
    try:
        made = njit(nogil=True, cache=True, error_model="numpy", **options)(function)
    except RuntimeError:  # neither beside the source nor in the user's cache: compiled anew in every process
        made = njit(nogil=True, error_model="numpy", **options)(function)
    return cast(_F, made)


def _of_two(instruction: str) -> Any:
    """A function (a, b) of floats of one type for compiled loops, that is one instruction of LLVM.

    From Python's `min` of a value and another that goes back to the same place LLVM makes a store under a
    mask, with which a sorting network takes four times as long on AMD's processors.
    """

    @intrinsic
    def of_two(context: Any, a: Any, b: Any) -> Any:
        def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            kind: Any = given[0].type
            return builder.call(
                builder.module.declare_intrinsic(instruction, [kind], ir.FunctionType(kind, [kind, kind])),
                given,
            )

        return a(a, a), write

    return of_two


smaller = _of_two("llvm.minnum")
larger = _of_two("llvm.maxnum")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Products of NumPy on one thread each: for work that has a thread on each core by itself, or few rows.

    May be entered again while inside. Threads of a BLAS wait for each other after every block, awake: where
    other programs want the same cores, that takes several times as long as the work.
    """
    with _LIMIT, _blas().limit(limits=1):
        yield


def by_columns(work: Callable[[int, int], _T], d: int) -> list[_T]:
    """work(begin, end) for parts of d columns, in their order, by a thread on each core.

    The parts do not depend on the number of cores, so what is added up over them does not either.
    """
    parts = [(begin, min(begin + _STEP, d)) for begin in range(0, d, _STEP)]
    if len(parts) < 2:
        return [work(begin, end) for begin, end in parts]
    with ThreadPoolExecutor(min(cores(), len(parts))) as pool:
        return list(pool.map(lambda part: work(*part), parts))
