"""Public names are those in `__all__`, sorted, documented, and no signature is too long."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "src" / "lazaretto"
FILES = sorted(path for path in SOURCES.rglob("*.py") if path.name != "__main__.py")
MAX_LINES, MAX_PARAMETERS = 400, 8
# Each parameter is a setting of the plan, named and checked on its own; ruff is told the same there.
MANY_SETTINGS = {"lazaretto.data.consortium.consortium": 9, "lazaretto.data.x_iomt.x_iomt": 9}


def name_of(path: Path) -> str:
    parts = [part for part in path.relative_to(SOURCES).with_suffix("").parts if part != "__init__"]
    return ".".join(["lazaretto", *parts])


def defined(tree: ast.Module) -> set[str]:
    """Functions and classes without a leading underscore at a file's top level."""
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name for name in names if not name.startswith("_")}


def stated(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            value: list[str] = ast.literal_eval(node.value)
            return value
    return None


def alphabetical(names: list[str]) -> list[str]:
    """CONSTANTS, Classes, functions; each from A to Z (as ruff sorts `__all__`)."""
    return sorted(names, key=lambda name: (not name.isupper(), not name[:1].isupper(), name))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_all_is_complete_and_sorted(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = stated(tree)
    if names is None:
        assert not defined(tree), f"{path.name} defines {sorted(defined(tree))} and has no __all__"
        return
    assert names == alphabetical(names)
    module = importlib.import_module(name_of(path))
    missing = [name for name in names if not hasattr(module, name)]
    assert not missing, f"__all__ of {name_of(path)} names what is not there: {missing}"
    if path.name.startswith("_") and path.name != "__init__.py":
        return  # a private file: its neighbours use what they need
    forgotten = defined(tree) - set(names)
    assert not forgotten, (
        f"{name_of(path)}: put into __all__, or give a leading underscore: {sorted(forgotten)}"
    )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_functions_are_documented_and_short(path: Path) -> None:
    module = importlib.import_module(name_of(path))
    assert inspect.getdoc(module)
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if not (inspect.isfunction(value) or inspect.isclass(value)) or value.__module__ != module.__name__:
            continue
        assert value.__doc__, f"{module.__name__}.{name} has no docstring"
        if inspect.isfunction(value):
            count = len(inspect.signature(value).parameters)
            most = MANY_SETTINGS.get(f"{module.__name__}.{name}", MAX_PARAMETERS)
            assert count <= most, f"{module.__name__}.{name} takes {count} parameters"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{name_of(path)} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_what_an_error_found_is_something(path: Path) -> None:
    """That there was none belongs into the problem, and who stopped a run met nothing."""
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call):
            continue
        given = {word.arg: word.value for word in call.keywords}
        found = given.get("found")
        if "way_out" not in given or found is None:
            continue
        assert getattr(call.func, "id", "") != "Interrupted", f"line {call.lineno}"
        if isinstance(found, ast.Constant) and isinstance(found.value, str):
            assert not found.value.startswith(("no ", "none", "nothing", "neither")), f"line {call.lineno}"
