"""Which code this is, wherever it was installed from."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["code_digest"]


def code_digest() -> str:
    """SHA-256 over the files of this package, names and bytes in order of their names: hexadecimal.

    Equal for a wheel and for the source tree that it was built from; `lazaretto --version` prints it. Hidden
    files and what Python compiled are left out.
    """
    root, total = Path(__file__).resolve().parent, hashlib.sha256()
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    for name in sorted(name for name in files if "__pycache__" not in name and "/." not in f"/{name}"):
        body = files[name].read_bytes()
        total.update(f"{name}\0{len(body)}\0".encode() + body)
    return total.hexdigest()
