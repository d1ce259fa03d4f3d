"""How a peer talks with `round.py`: one JSON object a line, in and out. Needs NumPy only.

In: {"do": "round", "save": PATH or null} or {"do": "stop"}.
Out: first {"ready": what runs, "versions": {...}}, then for each round {"seconds": S}. After a round with
"save" the parameters lie there (npz, named as in `workload.initial`). CPU time and memory are read from
outside, over all processes of the peer.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import workload as w

__all__ = ["Session", "data", "w"]

_KEPT = 1024  # sites whose data a process keeps; beyond that they are made anew in every round


@lru_cache(maxsize=_KEPT)
def data(seed: int, site: int) -> tuple[Any, Any]:
    """A site's windows and classes, kept between rounds."""
    return w.site_data(seed, site)


class Session:
    """Standard input and output of a peer; everything else that prints goes to standard error."""

    def __init__(self, what: str, packages: list[str]) -> None:
        parser = argparse.ArgumentParser(description=what)
        parser.add_argument("--clients", type=int, required=True)
        parser.add_argument("--seed", type=int, required=True)
        parser.add_argument("--processes", type=int, default=1)
        arguments = parser.parse_args()
        self.clients, self.seed, self.processes = arguments.clients, arguments.seed, arguments.processes
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._save: str | None = None
        self._began = 0.0
        self._ready = {"ready": what, "versions": {name: version(name) for name in packages}}

    @property
    def compared(self) -> bool:
        """Whether this round is compared: if private, it takes `workload.sampled` and no noise."""
        return self._save is not None

    def ready(self) -> None:
        """Say that rounds can come."""
        print(json.dumps(self._ready), file=self._out, flush=True)

    def wait(self) -> None:
        """Wait for a round to be asked for; the process ends here when it is told to stop."""
        line = sys.stdin.readline()
        asked = json.loads(line) if line else {"do": "stop"}
        if asked["do"] == "stop":
            self._out.close()
            raise SystemExit(0)
        self._save, self._began = asked.get("save"), time.perf_counter()

    def done(self, named: Any) -> None:
        """The round is over; named: a function that gives the new parameters."""
        seconds = time.perf_counter() - self._began
        if self._save:
            np.savez(self._save, **named())
        print(json.dumps({"seconds": seconds}), file=self._out, flush=True)
