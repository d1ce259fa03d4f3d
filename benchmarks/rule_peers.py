"""Programs in environments of their own that answer with a peer's rules (`peers/rule_session.py`)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["PEERS", "UNDER_SECRECY", "Peer"]

_HERE = Path(__file__).resolve().parent
PEERS = {  # name: environment, program, arguments
    "ByzFL, PyTorch": ("byzfl", "byzfl_rules.py", ()),
    "ByzFL, NumPy": ("byzfl", "byzfl_rules.py", ("--numpy",)),
    "Flower": ("flower", "flower_rules.py", ()),
}
UNDER_SECRECY = {
    "SPU": ("spu", "spu_aby3.py", ()),
    "SPU, one thread": ("spu", "spu_aby3.py", ("--one-thread",)),
}


class Peer:
    """A peer at work; `folder` is what `peers/install` made."""

    def __init__(self, name: str, folder: Path, log: Path) -> None:
        environment, program, extra = (PEERS | UNDER_SECRECY)[name]
        python = folder / environment / "bin" / "python"
        if not python.exists():
            raise SystemExit(f"error: no {python}: run benchmarks/peers/install {folder}")
        self._log = log.open("w")
        self._process = subprocess.Popen(  # noqa: S603
            [str(python), "-B", str(_HERE / "peers" / program), *extra],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.hello = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101  a pipe, as asked for
        line = self._process.stdout.readline()
        if not line:
            tail = Path(self._log.name).read_text(errors="replace")[-1500:]
            raise SystemExit(f"error: a peer ended ({self._process.wait()}):\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **what: Any) -> dict[str, Any]:
        """One question, one answer."""
        assert self._process.stdin is not None  # noqa: S101  a pipe, as asked for
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def said(self) -> str:
        """Name and versions."""
        versions = ", ".join(f"{name} {version}" for name, version in self.hello["versions"].items())
        return f"{self.hello['ready']}; {versions}"

    def stop(self) -> None:
        """End it, by its own leave."""
        assert self._process.stdin is not None  # noqa: S101  a pipe, as asked for
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(30)
        self._log.close()
