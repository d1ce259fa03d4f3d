"""Which code this is, wherever it was installed from."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

__all__ = ["code_digest"]

# files and folders that no wheel holds, or of which nothing depends: as .gitignore and the builder have them
_LEFT_OUT = (".*", "__pycache__", "*.py[cdo]", "*.egg-info")


def code_digest() -> str:
    """SHA-256 over the files of this package, names and bytes in order of their names: hexadecimal.

    Equal for a wheel and for the source tree that it was built from, whatever lies there that git ignores;
    `lazaretto --version` prints it. Hidden files and what Python compiled are left out.
    """
    root, total = Path(__file__).resolve().parent, hashlib.sha256()
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    for name in sorted(name for name in files if _counts(name)):
        body = files[name].read_bytes()
        total.update(f"{name}\0{len(body)}\0".encode() + body)
    return total.hexdigest()


def _counts(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not any(fnmatch(part, pattern) for part in parts for pattern in _LEFT_OUT)
