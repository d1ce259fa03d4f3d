"""The digest of the code: one for a tree and what is installed from it, another for any other code."""

from __future__ import annotations

import hashlib
import runpy
import shutil
from pathlib import Path

import pytest

from lazaretto.code_digest import code_digest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "lazaretto"


def of(tree: Path) -> str:
    found: str = runpy.run_path(str(tree / "code_digest.py"))["code_digest"]()
    return found


def test_what_is_installed_has_the_digest_of_its_source() -> None:
    assert code_digest() == of(SOURCE)


def test_any_other_code_has_another(tmp_path: Path) -> None:
    shutil.copy(SOURCE / "code_digest.py", tmp_path)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "a.py").write_bytes(b"x = 1\n")
    first = of(tmp_path)
    own = (SOURCE / "code_digest.py").read_bytes()
    told = b"code_digest.py\0" + str(len(own)).encode() + b"\0" + own + b"part/a.py\0" + b"6\0x = 1\n"
    assert first == hashlib.sha256(told).hexdigest()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    (tmp_path / ".hidden").write_bytes(b"of an editor")
    assert of(tmp_path) == first
    (tmp_path / "part" / "a.py").write_bytes(b"x = 2\n")
    assert of(tmp_path) != first
    (tmp_path / "part" / "a.py").rename(tmp_path / "part" / "b.py")
    (tmp_path / "part" / "b.py").write_bytes(b"x = 1\n")
    assert of(tmp_path) != first, "the same bytes under another name"


def test_what_git_ignores_in_a_tree_does_not_count_as_it_is_in_no_wheel(tmp_path: Path) -> None:
    """The builder says what a wheel holds: of a tree with a file for each pattern that is ignored."""
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="the builder of wheels is not installed")
    for name in ("pyproject.toml", ".gitignore", "README.md", "LICENSE"):
        shutil.copy(SOURCE.parents[1] / name, tmp_path)
    tree = tmp_path / "src" / "lazaretto"
    (tree / "part").mkdir(parents=True)
    for name in ("__init__.py", "code_digest.py"):
        shutil.copy(SOURCE / name, tree)
    (tree / "part" / "a.py").write_bytes(b"x = 1\n")
    (tree / "part" / "style.css").write_bytes(b"p {}\n")
    clean = of(tree)
    patterns = (SOURCE.parents[1] / ".gitignore").read_text().split()
    anywhere = [pattern for pattern in patterns if not pattern.startswith("/")]  # others are not in here
    assert {"*.pyc", "*.egg-info/", "__pycache__/"} <= set(anywhere)
    for pattern in anywhere:
        ignored = tree / "part" / pattern.replace("*", "left")
        if pattern.endswith("/"):
            ignored.mkdir(exist_ok=True)
            ignored /= "left.txt"
        ignored.write_bytes(b"ignored")
    for name in ("a.pyo", "a.pyd"):
        (tree / "part" / name).write_bytes(b"compiled")
    held = {file.path for file in wheel.WheelBuilder(str(tmp_path)).recurse_included_files()}
    assert sorted(Path(path).name for path in held) == ["__init__.py", "a.py", "code_digest.py", "style.css"]
    assert of(tree) == clean
