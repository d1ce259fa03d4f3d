"""The parts that a plan names: they are looked up and built, and what is wrong is said by the key in full."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lazaretto import catalog
from lazaretto.chain import rule_of
from lazaretto.compression import compressor_of
from lazaretto.errors import InputError, OptionError, PlanError, did_you_mean
from lazaretto.plan_keys import Plan
from lazaretto.plan_values import shown

__all__ = [
    "Named",
    "built_part",
    "needs_path",
    "option_problem",
    "parts_of",
    "told_as_well",
    "tuned_problems",
    "unknown_mechanism",
]

# key of the name, family, key of the options
_PARTS = (
    ("data.source", "sources", "data.options"),
    ("model.name", "models", "model.options"),
    ("aggregate.rule", "rules", "aggregate.options"),
    ("federate.algorithm", "algorithms", "federate.options"),
    ("federate.selection", "selections", "federate.selection_options"),
    ("federate.server", "server_optimisers", "federate.server_options"),
    ("attack.name", "attacks", "attack.options"),
    ("compress.scheme", "compressors", "compress.options"),
)


class Named(NamedTuple):
    """A part as a plan names it. key: of its name; place: key of its options."""

    key: str
    family: str
    name: str
    place: str
    options: Mapping[str, Any]


def parts_of(plan: Plan) -> Iterator[Named]:
    """All parts that the plan names; no attack where it names none."""
    for key, family, place in _PARTS:
        name, options = _value(plan, key), _value(plan, place)
        if family != "attacks" or name:
            yield Named(key, family, name, place, options)


def _value(plan: Plan, key: str) -> Any:
    section, _, leaf = key.partition(".")
    return getattr(getattr(plan, section), leaf)


def built_part(one: Named, share: float | None = None) -> Any:
    """The part, or of a chain its whole. share: as `compressor_of` takes it.

    Raises PlanError that names the key: of the name where that is unknown or a chain does not hold, else of
    the option.
    """
    try:
        if one.family == "rules":
            return rule_of(one.name, one.options)
        if one.family == "compressors":
            return compressor_of(one.name, one.options, share)
        return catalog.build(one.family, one.name, one.options)
    except OptionError as error:
        raise option_problem(one, error) from error
    except (PlanError, InputError) as error:  # of a source's own, of files that it would read
        of_name = "|" in one.name or one.name not in catalog.names(one.family)
        key = one.key if of_name else one.place
        problem = error.problem if error.problem.startswith(f"{key}.") else f"{key}: {error.problem}"
        raise PlanError(problem, found=error.found, way_out=error.way_out) from error
    except (TypeError, ValueError) as error:
        way_out = f"options of '{one.name}': {_takes(one)}"
        raise PlanError(f"{one.place}: {error}", found=shown(one.options), way_out=way_out) from error


def option_problem(one: Named, error: OptionError) -> PlanError:
    """An error of an option, by its key in full: in a chain its part stands in between."""
    chained = "|" in one.name and bool(error.part)  # else the table of no part
    place = f"{one.place}.{error.part}" if chained else one.place
    given = one.options.get(error.part, {}) if chained else one.options
    way_out = error.way_out
    if error.known is not None:
        hint = did_you_mean(error.option, error.known, f"{place}.")
        way_out = f"{hint}options: {', '.join(error.known) or 'none'}"
    found = given.get(error.option) if isinstance(given, Mapping) else given
    return PlanError(f"{place}.{error.option}: {error.said}", found=shown(found), way_out=way_out)


def _takes(one: Named) -> str:
    """Options of a part, or of the parts of a chain."""
    parts = [part.strip() for part in one.name.split("|")]
    keys = [key for part in parts for key in catalog.options(one.family, part)]
    return ", ".join(dict.fromkeys(keys)) or "none"


def needs_path(plan: Plan, source: Any) -> Iterator[PlanError]:
    """A source that reads files, without a path to them."""
    if source.needs_path and plan.data.path is None:
        yield PlanError(
            f"data.path: source '{plan.data.source}' reads files",
            way_out="give --data PATH, or set data.path",
        )


def unknown_mechanism(plan: Plan) -> Iterator[PlanError]:
    """A mechanism that there is not. What it takes is built of other keys, and checked with those."""
    asked = plan.privacy.mechanism
    try:
        if asked != "none":
            catalog.factory("mechanisms", asked)
    except PlanError as error:
        yield PlanError(f"privacy.mechanism: {error.problem}", found=error.found, way_out=error.way_out)


def tuned_problems(plan: Plan) -> Iterator[PlanError]:
    """Options of baseline models that the models do not take."""
    for system in plan.tuned.model_fields_set:
        options = getattr(getattr(plan.tuned, system), "options", None)
        if options:
            place = f"tuned.{system}"
            try:
                built_part(Named(place, "models", system, f"{place}.options", options))
            except PlanError as error:
                yield error


def told_as_well(tree: Mapping[str, Any], errors: Sequence[ErrorDetails]) -> Iterator[PlanError]:
    """What is wrong with the parts of a plan some of whose keys are wrong, too.

    Only what stays wrong however those keys are mended: unknown names; options, and a path that is missing,
    where the section is sound and no section is unknown, as that may hold what belongs here. What goes wrong
    between keys is not looked for.
    """
    wrong = {str(detail["loc"][0]) for detail in errors if detail["loc"]}
    sound = wrong <= set(Plan.model_fields)
    try:
        plan = Plan.model_validate(_without(tree, errors))
    except ValidationError:
        return
    for one in parts_of(plan):
        whole = sound and one.key.partition(".")[0] not in wrong
        try:
            part = built_part(one if whole else one._replace(options={}))
        except PlanError as error:
            yield error
            continue
        if whole and one.family == "sources":
            yield from needs_path(plan, part)
    asked = plan.robustness
    for key, family, names in (("rules", "rules", asked.rules), ("attacks", "attacks", asked.attacks)):
        for name in names or ():
            try:
                built_part(Named(f"robustness.{key}", family, name, "", {}))
            except PlanError as error:
                yield error
    yield from unknown_mechanism(plan)
    if "tuned" not in wrong:
        yield from tuned_problems(plan)


def _without(tree: Mapping[str, Any], errors: Sequence[ErrorDetails]) -> dict[str, Any]:
    """The plan's tree without the keys that are wrong; of a system of [tuned] without all of it."""
    kept = copy.deepcopy(dict(tree))
    for detail in errors:
        section, *inner = map(str, detail["loc"][:2])
        own = kept.get(section)
        if inner and isinstance(own, dict):
            own.pop(inner[0], None)
        else:
            kept.pop(section, None)
    return kept
