"""A module imports only from a lower layer, at the top of its file; folders of one layer stay apart."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "src" / "lazaretto"

# Part -> layer. What is not named here has no place yet, and the test says so.
LAYERS = {
    "errors": 0,
    "types": 0,
    "": 0,  # the package itself: its version
    "catalog": 1,
    "keys": 1,
    "compiled": 0,
    "gram": 1,
    "wire": 1,
    "parameters": 1,
    "runlog": 1,
    "data": 2,
    "code_digest": 2,
    "data_files": 2,
    "fixed_parts": 2,
    "models": 2,
    "aggregate": 2,
    "federate": 2,
    "server": 2,
    "select": 2,
    "attack_types": 1,
    "attack": 2,
    "secagg": 2,
    "privacy": 2,
    "audit": 3,
    "compress_types": 1,
    "compress": 2,
    "compression": 2,
    "chain": 2,
    "catalog_page": 2,
    "cut": 2,
    "plan_keys": 3,
    "plan_words": 3,
    "plan_values": 3,
    "plan_train": 3,
    "plan_checks": 3,
    "plan_parts": 3,
    "plan_paths": 3,
    "plan_split": 3,
    "plan_data": 3,
    "plan_sweep": 3,
    "plan_robustness": 3,
    "plan_secure_checks": 3,
    "plan_compress": 3,
    "plan_privacy": 3,
    "promise": 3,
    "plan_privacy_checks": 3,
    "plan_robustness_checks": 3,
    "plan": 3,
    "local": 3,
    "dp_local": 3,
    "split": 3,
    "alignment": 2,
    "losses": 2,
    "augment": 3,
    "personal": 2,
    "reputation": 2,
    "camps": 2,
    "inspection": 2,
    "round": 3,
    "evaluate": 3,
    "run": 5,
    "report": 6,
    "cli_grid": 7,
    "cli_audit": 7,
    "cli_check": 7,
    "cli_sweep": 7,
    "commands": 7,
    "cli": 7,
    "__main__": 8,
}
FOLDERS_APART = {
    "data",
    "models",
    "aggregate",
    "federate",
    "server",
    "select",
    "attack",
    "secagg",
    "compress",
    "privacy",
}  # of one layer, and never import each other
READERS = {"report": {"", "errors", "types", "wire", "runlog", "report"}}


def part_of(module: str) -> str:
    """`lazaretto.data.sites` -> `data`."""
    return module.removeprefix("lazaretto").removeprefix(".").partition(".")[0]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCES.rglob("*.py")):
        relative = path.relative_to(SOURCES).with_suffix("")
        names = [name for name in relative.parts if name != "__init__"]
        yield ".".join(["lazaretto", *names]), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            if node.module == "lazaretto":
                yield from (f"lazaretto.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def broken(module: str, imported: str) -> bool:
    """Whether `module` may not import `imported`."""
    here, there = part_of(module), part_of(imported)
    if there not in LAYERS:  # `from lazaretto import __version__`
        there = ""
    if here in READERS:
        return there not in READERS[here]
    if here == there:
        return False
    return LAYERS[there] > LAYERS[here] or (here in FOLDERS_APART and there in FOLDERS_APART)


MODULES = dict(modules())


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    assert part_of(module) in LAYERS, f"{module} has no layer: add it to LAYERS"
    wrong = [
        name for name in imports(MODULES[module]) if name.startswith("lazaretto") and broken(module, name)
    ]
    assert not wrong, f"{module} may not import {wrong}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_stand_at_the_top(module: str) -> None:
    top = {id(node) for node in MODULES[module].body}
    hidden = [
        node.lineno
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in top
    ]
    assert not hidden, f"{module} imports inside a block at lines {hidden}"


def test_no_cycles() -> None:
    graph = {
        module: {name for name in imports(tree) if name in MODULES and name != module}
        for module, tree in MODULES.items()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a cycle: {' -> '.join([*path, module])}"
        if module not in done:
            for below in graph[module]:
                visit(below, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_rule_itself() -> None:
    assert broken("lazaretto.data.sites", "lazaretto.models.gru")
    assert broken("lazaretto.wire", "lazaretto.plan")
    assert broken("lazaretto.report.page", "lazaretto.plan")
    assert broken("lazaretto.evaluate.metrics", "lazaretto.run.simulate")
    assert not broken("lazaretto.run.simulate", "lazaretto.data.sites")
    assert not broken("lazaretto.report.page", "lazaretto.runlog")
