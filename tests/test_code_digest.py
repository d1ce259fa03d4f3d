"""The digest of the code: one for a tree and what is installed from it, another for any other code."""

from __future__ import annotations

import hashlib
import runpy
import shutil
from pathlib import Path

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
