"""Names to factories. A part is a file whose factory bears the file's name and returns its family's type.

Families are packages of `lazaretto`. Folders named in the environment variable `LAZARETTO_PATH`
(separated like PATH; each laid out as `models/toy.py`, `data/toy.py`) add parts without an install.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from lazaretto.errors import OptionError, PlanError, did_you_mean, should_be

__all__ = ["FAMILIES", "build", "describe", "factory", "names", "options", "part_files"]

# family as the user writes it -> (package, type its factories return)
FAMILIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "sources": ("lazaretto.data", "Source"),
        "models": ("lazaretto.models", "Model"),
        "rules": ("lazaretto.aggregate", "Rule"),
        "algorithms": ("lazaretto.federate", "Algorithm"),
        "server_optimisers": ("lazaretto.server", "ServerOptimiser"),
        "selections": ("lazaretto.select", "Selection"),
        "attacks": ("lazaretto.attack", "Attack"),
        "compressors": ("lazaretto.compress", "Compressor"),
        "mechanisms": ("lazaretto.privacy", "Mechanism"),
    }
)


def _search_path(package: str) -> list[str]:
    """Our own folder of the package, then those of LAZARETTO_PATH as it is now."""
    module = importlib.import_module(package)
    own = str(Path(str(module.__file__)).parent)
    module.__path__[:] = [own, *map(str, _places_elsewhere(package))]
    return list(module.__path__)


def _places_elsewhere(package: str) -> list[Path]:
    roots = [root for root in os.environ.get("LAZARETTO_PATH", "").split(os.pathsep) if root]
    return [place for root in roots if (place := Path(root) / package.rpartition(".")[2]).is_dir()]


def part_files() -> dict[str, Path]:
    """Python files of the families in folders of LAZARETTO_PATH, by names such as "models/toy.py", sorted.

    Helpers beside the parts are among them, and those of a part that is a folder; of two of one name the one
    that is imported. What they import from other places is not, and no hidden file: editors leave such.
    """
    found: dict[str, Path] = {}
    for package, _ in FAMILIES.values():
        for place in _places_elsewhere(package):  # where data of any size may lie, too: only looked through
            folders = [file.parent for file in sorted(place.glob("*/__init__.py"))]  # where it is Python's
            for file in (*place.glob("*.py"), *(one for folder in folders for one in folder.rglob("*.py"))):
                name = f"{place.name}/{file.relative_to(place).as_posix()}"
                if "/." not in name and file.is_file():
                    found.setdefault(name, file)
    return dict(sorted(found.items()))


def _factories(family: str) -> dict[str, Callable[..., Any]]:
    if family not in FAMILIES:
        way_out = f"{did_you_mean(family, FAMILIES)}one of: {', '.join(FAMILIES)}"
        raise PlanError("no such family of parts", found=family, way_out=way_out)
    package, returns = FAMILIES[family]
    found = {}
    for entry in pkgutil.iter_modules(_search_path(package)):
        if entry.name.startswith("_"):
            continue
        candidate = getattr(importlib.import_module(f"{package}.{entry.name}"), entry.name, None)
        if inspect.isfunction(candidate) and _return_name(candidate) == returns:
            found[entry.name] = candidate
    return dict(sorted(found.items()))


def _return_name(function: Callable[..., Any]) -> str:
    annotation = function.__annotations__.get("return", "")
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")


def _one_of(family: str) -> str:
    return family[:-1].replace("_", " ")


def names(family: str) -> tuple[str, ...]:
    """Names of a family's parts, sorted."""
    return tuple(_factories(family))


def factory(family: str, name: str) -> Callable[..., Any]:
    """The factory of one part. Raises PlanError with the known names and the nearest one."""
    known = _factories(family)
    if name not in known:
        way_out = f"{did_you_mean(name, known)}known: {', '.join(known)}"
        raise PlanError(f"unknown {_one_of(family)}", found=name, way_out=way_out)
    return known[name]


def options(family: str, name: str) -> dict[str, inspect.Parameter]:
    """Keyword options that a part's factory takes."""
    return dict(inspect.signature(factory(family, name)).parameters)


def build(family: str, name: str, given: Mapping[str, Any] | None = None) -> Any:
    """Make a part with options.

    Raises OptionError for an option that is unknown (with the list of known ones), or that is not of the
    type and range which the factory's signature gives (`Annotated[int, Ge(1)]` and the like).
    """
    make, known = factory(family, name), options(family, name)
    for key in given or {}:
        if key not in known:
            way_out = f"{did_you_mean(key, known)}options: {', '.join(known) or 'none'}"
            one = f"{_one_of(family)} '{name}'"
            raise OptionError(
                f"{one} has no option",
                part=name,
                option=key,
                said=f"{one} has no such option",
                found=key,
                way_out=way_out,
                known=tuple(known),
            )
    return make(**_checked(make, _one_of(family), name, given or {}))


def _checked(make: Callable[..., Any], kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(make, include_extras=True)
    except (NameError, TypeError):  # a signature that cannot be read at run time checks for itself
        return dict(given)
    checked = {}
    for key, value in given.items():
        try:
            # as JSON, so that a list may stand for a tuple and a text for a path; nothing else is converted
            adapter = TypeAdapter(hints.get(key, Any), config=ConfigDict(strict=True))
            checked[key] = adapter.validate_json(json.dumps(value))
        except (PydanticUserError, TypeError):  # a type of the part's own, or a date: it checks for itself
            checked[key] = value
        except ValidationError as error:
            first = error.errors()[0]
            says = should_be(first["type"], first["msg"])
            default = inspect.signature(make).parameters[key].default
            hint = f"its default is {default!r}" if default is not inspect.Parameter.empty else "change it"
            raise OptionError(
                f"{kind} '{name}', option '{key}': it {says}",
                part=name,
                option=key,
                said=says,
                found=value,
                way_out=hint,
            ) from error
    return checked


def describe(family: str, name: str) -> str:
    """First line of the factory's docstring."""
    return (inspect.getdoc(factory(family, name)) or "").partition("\n")[0]
