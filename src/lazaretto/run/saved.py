"""Arrays on disk, whole or not at all, in the safetensors format (no pickle)."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lazaretto.errors import InputError, LazarettoError

__all__ = ["load_arrays", "save_arrays", "write_whole"]

_MAX_BYTES = 1 << 33


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole: a temporary one beside it, synced, then renamed.

    Raises LazarettoError (exit 2) if the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise LazarettoError(
            f"cannot write {path.name}",
            found=error.strerror,
            way_out=f"free space or rights in {path.parent}",
        ) from error


def save_arrays(path: Path, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Arrays and JSON-like metadata as one safetensors file."""
    held = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    write_whole(path, save(held, metadata={"lazaretto": json.dumps(meta, sort_keys=True)}))


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """The arrays and metadata of `save_arrays`. Raises InputError for a file that is not one of ours."""
    way_out = "give a file that lazaretto wrote"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path.name} is too large", found=path.stat().st_size, way_out=way_out)
        with safe_open(path, framework="numpy") as file:
            meta = json.loads((file.metadata() or {})["lazaretto"])
            return {name: file.get_tensor(name) for name in file.keys()}, dict(meta)  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError("no such file", found=path, way_out=way_out) from error
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise InputError(f"{path.name} cannot be read", found=error, way_out=way_out) from error
