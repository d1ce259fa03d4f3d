"""Loops over updates that no NumPy call does in one pass: compiled, and spread over the cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from numba import njit

__all__ = ["by_columns", "compiled"]

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")
_STEP = 2**15  # columns of a part


def compiled(function: _F) -> _F:
    """The function, compiled by Numba at its first call for each type of its arguments.

    It lets other threads work meanwhile, and is kept on disk, where that can be written.
    """
    try:
        made = njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither beside the source nor in the user's cache: compiled anew in every process
        made = njit(nogil=True, error_model="numpy")(function)
    return cast(_F, made)


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def by_columns(work: Callable[[int, int], _T], d: int) -> list[_T]:
    """work(begin, end) for parts of d columns, in their order, by a thread on each core.

    The parts do not depend on the number of cores, so what is added up over them does not either.
    """
    parts = [(begin, min(begin + _STEP, d)) for begin in range(0, d, _STEP)]
    if len(parts) < 2:
        return [work(begin, end) for begin, end in parts]
    with ThreadPoolExecutor(min(_cores(), len(parts))) as pool:
        return list(pool.map(lambda part: work(*part), parts))
