"""Arrays on disk, whole or not at all, in the safetensors format (no pickle)."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from annotated_types import Ge, Gt, Lt, MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lazaretto.errors import InputError, LazarettoError
from lazaretto.types import NORMAL

__all__ = [
    "CutMeta",
    "ModelMeta",
    "OperatingMeta",
    "PersonalMeta",
    "load_arrays",
    "load_meta",
    "load_model",
    "save_arrays",
    "write_whole",
]

_MAX_BYTES = 1 << 33
_UNREADABLE = (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RecursionError, OSError)


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("each name may stand once")
    return names


def _normal_first(names: list[str]) -> list[str]:
    if names[0] != NORMAL:
        raise ValueError(f"the first class is '{NORMAL}'")
    return names


def _main(points: dict[str, Any]) -> dict[str, Any]:
    if "main" not in points:
        raise ValueError("lacks the point 'main'")
    return points


def _everyone(groups: dict[str, Any]) -> dict[str, Any]:
    if "-1" not in groups:
        raise ValueError("lacks group -1, that of all units")
    return groups


_Word: TypeAlias = Annotated[str, MinLen(1)]
_Names: TypeAlias = Annotated[list[_Word], MinLen(1), AfterValidator(_distinct)]
_Group: TypeAlias = Annotated[str, AfterValidator(lambda group: str(int(group)))]
_Thresholds: TypeAlias = Annotated[dict[_Group, float | None], AfterValidator(_everyone)]
_Platts: TypeAlias = Annotated[dict[_Group, tuple[float, float]], AfterValidator(_everyone)]


class _Meta(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CutMeta(_Meta):
    """The cut that a model was trained with; every key stands there, none has a default."""

    enabled: bool
    bits: Literal[2, 3, 4, 5, 6, 7, 8, 32]
    clip: Annotated[float, Gt(0)]
    noise: Annotated[float, Ge(0)]
    synchronise: Literal["round", "step"]


class OperatingMeta(_Meta):
    """Thresholds and calibration, as `operating_to_json` writes them."""

    thresholds: Annotated[dict[str, _Thresholds], AfterValidator(_main)]
    platt: _Platts
    calibration: Literal["platt", "temperature", "none"] = "platt"


class PersonalMeta(_Meta):
    """Whose models these are, where an algorithm left a part of the model at the sites."""

    algorithm: _Word
    sites: _Names


class ModelMeta(_Meta):
    """What stands beside a model's arrays in model.safetensors."""

    version: str
    model: _Word
    options: dict[str, Any]
    cut: CutMeta
    modality: Literal["traffic", "record", "combined"]
    features: _Names
    classes: Annotated[_Names, MinLen(2), AfterValidator(_normal_first)]
    window: Annotated[int, Ge(1)]
    irregular: bool = False
    width: Annotated[int, Ge(1)] | None = None
    step: str
    seed: Annotated[int, Ge(0), Lt(2**32)]
    operating: OperatingMeta
    personal: PersonalMeta | None = None
    novelty_weight: Annotated[float, Gt(0)] | None = None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole: a temporary one beside it, synced, then renamed.

    Raises LazarettoError (exit 2) if the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:  # a link that lies there already is not followed
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
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
    way_out = "copy it again from where lazaretto wrote it, whole, or train again"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is too large", found=path.stat().st_size, way_out=way_out)
        with safe_open(path, framework="numpy") as file:
            meta = json.loads((file.metadata() or {})["lazaretto"])
            return {name: file.get_tensor(name) for name in file.keys()}, dict(meta)  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError("no such file", found=path, way_out=way_out) from error
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be read", found=error, way_out=way_out) from error


def load_meta(path: Path) -> dict[str, Any]:
    """The metadata alone of `save_arrays`, without reading the arrays. Raises InputError as `load_arrays`."""
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(json.loads((file.metadata() or {})["lazaretto"]))
    except _UNREADABLE as error:
        way_out = "copy it again from where lazaretto wrote it, whole, or train again"
        raise InputError(f"{path} cannot be read", found=error, way_out=way_out) from error


def load_model(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], ModelMeta]:
    """A trained model: arrays `vector` [d], `center` and `scale` [F], float32 and finite, and its metadata.

    Where it has a self-supervised score, also `tails`, which `evaluate.fusion` reads and checks.

    Nothing is trusted. Models of which a part stayed at the sites (`vectors` [sites, d]) are refused.
    Raises InputError that names the file and what is wrong in it. Whether d fits the model is for the
    caller to see, who can build it.
    """
    arrays, raw = load_arrays(path)
    try:
        meta = ModelMeta.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        details = error.errors()
        first = details[0]
        key = ".".join(str(part) for part in first["loc"])
        more = f", and {len(details) - 1} more" if len(details) > 1 else ""
        raise _no_model(path, f"{key}: {first['msg'].removeprefix('Value error, ')}{more}") from error
    if meta.personal is not None:
        raise InputError(
            f"{path} holds a model for each site, and data from elsewhere belongs to none of them",
            found=f"'{meta.personal.algorithm}' left a part of the model at {len(meta.personal.sites)} sites",
            way_out="train with an algorithm that shares the whole model, such as 'fedavg'",
        )
    sides = {"vector": None, "center": len(meta.features), "scale": len(meta.features)}
    for name, side in sides.items():
        if name not in arrays:
            raise _no_model(path, f"no array '{name}'")
        array = arrays[name]
        if array.dtype != np.float32 or array.ndim != 1 or side not in (None, len(array)):
            wanted = "float32 [d]" if side is None else f"float32 [{side}], one for each feature"
            raise _no_model(path, f"{name} is {array.dtype} {list(array.shape)}, not {wanted}")
        if not np.isfinite(array).all():
            raise _no_model(path, f"{name} holds numbers that are not finite")
    if ("tails" in arrays) != (meta.novelty_weight is not None):
        raise _no_model(path, "tails and novelty_weight belong together, and one is missing")
    if not (arrays["scale"] > 0).all():
        raise _no_model(path, "scale holds numbers that are not above 0")
    return arrays, meta


def _no_model(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} does not hold a model that can be judged",
        found=found,
        way_out="give the folder of a finished run of this version, or train again",
    )
