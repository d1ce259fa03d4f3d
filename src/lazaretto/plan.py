"""A plan: one validated, frozen experiment, read from TOML.

Everything that can be known to be wrong before the data is read is refused here, all of it at once,
each with its key, the value found and the way out. `docs/plan.md` lists the keys; it is checked
against the descriptions in `lazaretto.plan_keys`.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lazaretto import wire
from lazaretto.errors import PlanError, did_you_mean, should_be
from lazaretto.plan_checks import conflicts, part_problems
from lazaretto.plan_keys import (
    BASELINES,
    AggregatePlan,
    CutPlan,
    DataPlan,
    EvaluatePlan,
    FederatePlan,
    ModelPlan,
    Plan,
    PlanKey,
    RunPlan,
    SitesPlan,
    SplitPlan,
    TrainPlan,
    known_keys,
)
from lazaretto.plan_parts import told_as_well, tuned_problems
from lazaretto.plan_paths import path_problems
from lazaretto.plan_robustness_checks import robustness_problems
from lazaretto.plan_sweep import SweepPlan, TunedPlan, settings_of
from lazaretto.plan_values import shown
from lazaretto.plan_words import takes_of

__all__ = [
    "BASELINES",
    "AggregatePlan",
    "CutPlan",
    "DataPlan",
    "EvaluatePlan",
    "FederatePlan",
    "ModelPlan",
    "Plan",
    "PlanKey",
    "RunPlan",
    "SitesPlan",
    "SplitPlan",
    "SweepPlan",
    "TrainPlan",
    "TunedPlan",
    "by_dotted_key",
    "dump",
    "known_keys",
    "load_plan",
    "parse_options",
    "parse_toml",
    "parse_values",
    "plan_digest",
    "toml_value",
]

_SLIP = 0.75  # how alike two names are of which one is taken for the other misspelt
_MAX_FILE_BYTES = 2**20
_MAX_KEY_PARTS = 300


def load_plan(
    path: Path,
    *,
    sets: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    check_parts: bool = True,
    check_paths: bool = True,
) -> Plan:
    """The validated plan at `path`.

    A relative `data.path` is relative to the plan's folder, or where laid over to the working directory.

    sets:        `key=value` texts as of `--set`, laid over the file in order; a value is read as TOML, a
                 bare word is a string, `null` is "absent".
    overrides:   dotted key -> value, laid over both.
    check_parts: whether source, model and rule are looked up and built with their options.
    check_paths: whether the start and an idle path must be there, too; only with check_parts.
    Raises PlanError that names every wrong key, its value and the way out.
    """
    tree = _read_toml(Path(path))
    _anchor(tree, Path(path).resolve().parent)
    for text in sets:
        _lay(tree, *_parse_set(text))
    for key, value in (overrides or {}).items():
        _lay(tree, key, value)
    _anchor(tree, Path.cwd())
    try:
        plan = Plan.model_validate(tree)
    except ValidationError as error:
        wrong = error.errors()
        more = told_as_well(tree, wrong) if check_parts else ()
        raise _together([*map(_explain, wrong), *more], path) from error
    problems = list(path_problems(plan)) if check_parts and check_paths else []
    problems += conflicts(plan)
    if check_parts:
        problems += [*part_problems(plan), *tuned_problems(plan), *robustness_problems(plan)]
    if problems:
        raise _together(problems, path)
    return plan


def parse_values(text: str) -> tuple[str, list[str]]:
    """Key and values of a `key=v1,v2` text, each value as `--set` takes it; commas in brackets do not part.

    Raises PlanError for a text that is no key with at least one value.
    """
    key, equals, rest = text.partition("=")
    values, depth = [""], 0
    for letter in rest:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            values.append("")
        else:
            values[-1] += letter
    values = [value.strip() for value in values]
    if not equals or not key.strip() or not all(values):
        raise PlanError(
            "--over needs a key and its values",
            found=text,
            way_out="for instance --over train.rounds=10,20,40",
        )
    if key.strip().partition(".")[0] in ("robustness", "run", "sweep", "tuned"):
        raise PlanError(
            f"--over {key.strip()}: says how a sweep runs, not what is trained",
            found=text,
            way_out="lay it over the plan with --set, and walk keys of the other sections",
        )
    if len(set(values)) < len(values):
        raise PlanError(f"--over {key.strip()}: a value stands twice", found=rest, way_out="give each once")
    return key.strip(), values


def parse_options(sets: Sequence[str], below: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Options of a part from `key=value` texts (as `--set`, dots go into tables), laid over `below`.

    A source's may be named as in a plan, too: `data.options.view` is its `view`. Raises PlanError for a text
    that is no key and value.
    """
    tree: dict[str, Any] = {"options": copy.deepcopy(dict(below or {}))}
    for text in sets:
        key, value = _parse_set(text)
        _lay(tree, f"options.{key.removeprefix('data.options.')}", value)
    options: dict[str, Any] = tree["options"]
    return options


def dump(plan: Plan) -> str:
    """The resolved plan as TOML: every key that has a value. Loading it gives an equal plan."""
    return tomli_w.dumps(plan.model_dump(mode="python", exclude_none=True))


def toml_value(value: Any) -> str:
    """A key's value as it stands in a plan; "absent" for None, which TOML cannot write."""
    if value is None:
        return "absent"
    if isinstance(value, dict) and not value:
        return "{}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(entry) for entry in value) + "]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").strip()


def plan_digest(plan: Plan) -> bytes:
    """SHA-256 of the plan's canonical bytes; the place of the data (`data.path`) does not count."""
    body = plan.model_dump(mode="python")
    body["data"].pop("path")
    return wire.digest(body)


def by_dotted_key(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a plan's tree by dotted key, as in "data.options.sites"; an empty table is a value."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inner = by_dotted_key(value) if isinstance(value, Mapping) and value else {"": value}
        found |= {f"{key}.{name}" if name else key: one for name, one in inner.items()}
    return found


def parse_toml(text: str) -> dict[str, Any]:
    """TOML of at most 1 MiB and without keys of very many parts, over which Python's reader takes minutes.

    Raises ValueError for other text, and RecursionError for deep nesting, as tomllib does.
    """
    if len(text) > _MAX_FILE_BYTES:
        raise ValueError("too long for a plan")
    for number, line in enumerate(text.split("\n"), 1):  # a key stands in one line
        if line.count(".") > _MAX_KEY_PARTS and not line.lstrip().startswith("#"):
            raise ValueError(f"a key of too many parts (at line {number})")
    return tomllib.loads(text)


def _read_toml(path: Path) -> dict[str, Any]:
    way_out = "give a plan in TOML, for instance examples/consortium.toml"
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise PlanError("the plan's file is too large", found=path, way_out=way_out)
        text = path.read_bytes().decode("utf-8-sig")
        return parse_toml(text)
    except FileNotFoundError as error:
        raise PlanError("no such plan", found=path, way_out=way_out) from error
    except OSError as error:
        raise PlanError(
            "the plan cannot be read", found=f"{path}: {error.strerror}", way_out=way_out
        ) from error
    except UnicodeDecodeError as error:
        raise PlanError(
            "the plan is not text in UTF-8", found=path, way_out="save it as UTF-8; " + way_out
        ) from error
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        twice = "does a key stand there twice? " if "overwrite" in str(error) else ""
        raise PlanError(
            "the plan is not valid TOML", found=f"{path}: {error}", way_out=f"{twice}{way_out}"
        ) from error


def _anchor(tree: Mapping[str, Any], folder: Path) -> None:
    """Make paths absolute, so that the resolved plan means the same from anywhere."""
    data = tree.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str) and data["path"]:
        data["path"] = str((folder / data["path"]).resolve())
    for section, key in (("privacy", "budget"), ("train", "start")):
        own = tree.get(section)
        if isinstance(own, dict) and isinstance(own.get(key), str) and own[key]:
            own[key] = str((folder / own[key]).resolve())


def _parse_set(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key or not value:
        raise PlanError(
            "--set needs a key and a value", found=text, way_out="for instance --set train.rounds=10"
        )
    if value == "null":
        return key, None
    try:
        read = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if value[0] in "\"'[{":
            raise PlanError(
                f"--set {key}: the value is not valid TOML: {error}",
                found=value,
                way_out="write a list as [0, 1] and a text as \"mean\", and all of it in '...' for the shell",
            ) from error
        return key, value
    if list(read) != ["value"]:
        raise PlanError(f"--set {key}: more than one value", found=value, way_out="one --set for each key")
    return key, read["value"]


def _lay(tree: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    place = tree
    for depth, part in enumerate(above):
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise PlanError(
                f"{'.'.join(above[: depth + 1])} is not a section", found=repr(place), way_out=_near(key)
            )
    if len(above) == 0 or not all((*above, last)):
        raise PlanError("a key has the form section.name", found=key, way_out=_near(key))
    place[last] = value


def _near(key: str) -> str:
    """The way out of an unknown key: the nearest one, or what its section knows."""
    names = [known.name for known in known_keys()]
    section, _, leaf = key.partition(".")
    same_leaf = [name for name in names if name.endswith(f".{leaf or key}")]
    inside = [name.partition(".")[2] for name in names if name.startswith(f"{section}.")]
    hint = f"did you mean '{same_leaf[0]}'? " if same_leaf else ""
    if inside and leaf:
        slip = "" if same_leaf else did_you_mean(leaf, inside, f"{section}.", _SLIP)
        if slip:
            return f"{slip}docs/plan.md has all keys"
        return f"{hint}keys of [{section}]: {', '.join(inside)}"
    hint = hint or did_you_mean(key, [*names, *Plan.model_fields], cutoff=0.6)
    return f"{hint}sections: {', '.join(Plan.model_fields)}"


def _explain(detail: ErrorDetails) -> PlanError:
    if detail["loc"][0] == "tuned" and len(detail["loc"]) > 2:
        return _explain_tuned(detail)
    key = ".".join(str(part) for part in detail["loc"][:2])
    index = detail["loc"][2:]
    where = f"{key}[{index[0]}]" if index and isinstance(index[0], int) else key
    if detail["type"] == "extra_forbidden":
        kind = "section" if len(detail["loc"]) == 1 else "key"
        return PlanError(f"{key}: unknown {kind}", found=shown(detail["input"]), way_out=_near(key))
    if len(detail["loc"]) == 1:
        return PlanError(
            f"{key}: should be a section", found=shown(detail["input"]), way_out=f"write [{key}]"
        )
    takes = next(known.takes for known in known_keys() if known.name == key)
    message = should_be(detail["type"], detail["msg"])
    names = re.findall(r"'(\w+)'", takes)  # none where it takes other than names
    hint = did_you_mean(detail["input"], names)
    if detail["type"] == "tuple_type" and isinstance(detail["input"], str | int | float):
        hint = _as_list(key, detail["input"], re.findall(r"'(\w+)'", hint)) or hint
    return PlanError(f"{where}: {message}", found=shown(detail["input"]), way_out=f"{hint}takes {takes}")


def _as_list(key: str, given: str | int | float, near: Sequence[str]) -> str:
    """How the list is written that was meant by one value, or by a text of several; "" where none fits."""
    section, _, leaf = key.partition(".")
    texts = [text for text in re.split(r"[\s,\[\]]+", str(given)) if text]
    numbers = [int(text) for text in texts if text.isascii() and text.isdigit()]
    whole = [numbers] if numbers and len(numbers) == len(texts) else []
    for values in [near[:1], [given], *whole, texts]:
        try:
            Plan.model_validate({section: {leaf: values}})
        except ValidationError:
            continue
        return f"for {'one alone' if len(values) == 1 else 'these'} --set '{key}={toml_value(values)}'; "
    return ""


def _explain_tuned(detail: ErrorDetails) -> PlanError:
    """An error inside a table of [tuned], such as tuned.gru.learning_rate."""
    _, system, *inner = map(str, detail["loc"])
    key, leaf = f"tuned.{system}.{inner[0]}", inner[0]
    settings = settings_of(system)
    known = ", ".join(settings)
    if detail["type"] == "extra_forbidden":
        hint = did_you_mean(leaf, settings, f"tuned.{system}.")
        return PlanError(
            f"{key}: unknown key",
            found=shown(detail["input"]),
            way_out=f"{hint}keys of [tuned.{system}]: {known}",
        )
    message = should_be(detail["type"], detail["msg"])
    return PlanError(
        f"{key}: {message}", found=shown(detail["input"]), way_out=f"takes {takes_of(settings[leaf])}"
    )


def _together(problems: Sequence[PlanError], path: Path) -> PlanError:
    if len(problems) == 1:
        return problems[0]
    lines = "\n".join(f"- {problem}" for problem in problems)
    return PlanError(f"{path} has {len(problems)} errors:\n{lines}")
