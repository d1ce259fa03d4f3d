"""What arrives is checked here: names, types, sizes, numbers. And what the schemes share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.compress_types import Payload
from lazaretto.errors import InputError
from lazaretto.types import Float, Int

__all__ = ["array_of", "count_kept", "names_are", "scattered", "values_of"]


def names_are(payload: Payload, *names: str) -> None:
    """Raises InputError where the payload holds other arrays than these."""
    if not isinstance(payload, Mapping) or set(payload) != set(names):
        found = sorted(map(str, payload)) if isinstance(payload, Mapping) else type(payload).__name__
        raise InputError(
            "a compressed update holds other arrays than its scheme sends",
            found=found,
            way_out=f"arrays named {', '.join(names)}",
        )


def array_of(payload: Payload, name: str, dtype: str, size: int | None = None) -> NDArray[Any]:
    """The array of this name, one axis. Raises InputError for another type, shape, or NaN and infinity."""
    array = payload[name]
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(dtype) or array.ndim != 1:
        kind = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(
            f"'{name}' of a compressed update has a wrong type", found=kind, way_out=f"{dtype}, one axis"
        )
    if size is not None and array.size != size:
        raise InputError(
            f"'{name}' of a compressed update has a wrong size", found=array.size, way_out=f"{size}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"'{name}' of a compressed update holds NaN or infinity")
    return array


def values_of(payload: Payload, size: int) -> Float:
    """The values [size] float32."""
    found: Float = array_of(payload, "values", "<f4", size)
    return found


def count_kept(share: float, m: int) -> int:
    """How many of m coordinates a share of them is: at least one."""
    return min(m, max(1, round(share * m)))


def scattered(values: Float, places: Int, m: int) -> Float:
    """[m] with values at places [k], 0 elsewhere."""
    out = np.zeros(m, np.float32)
    out[places] = values
    return out
