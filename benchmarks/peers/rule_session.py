"""How a peer's rules are called by `aggregate.py` and `byzfl_oracle.py`: one JSON object a line, in and out.

In: {"rule": NAME, "options": {...}, "save": PATH or null}, {"matrix": PATH} (npy, [n, d]) or {"stop": true}.
Out: first {"ready": what runs, "versions": {...}}, then for each matrix {"loaded": n}, and for each rule
{"seconds": S, "cpu_seconds": C}, after a file (npy) was saved where asked, or {"error": what it raised}; C is
of all threads. Needs NumPy only.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

__all__ = ["serve"]


def serve(
    what: str,
    packages: list[str],
    rules: Mapping[str, Callable[..., Any]],
    given: Callable[[Any], Any] = lambda X: X,
) -> None:
    """Answer until told to stop. rules: name -> (what `given` makes of the matrix, options) -> an array."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what else prints goes to standard error
    warnings.simplefilter("ignore")
    print(
        json.dumps({"ready": what, "versions": {name: version(name) for name in packages}}),
        file=out,
        flush=True,
    )
    X: Any = None
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("stop"):
            return
        if "matrix" in asked:
            X = given(np.load(asked["matrix"]))
            print(json.dumps({"loaded": len(X)}), file=out, flush=True)
            continue
        begin, spent = time.perf_counter(), time.process_time()
        try:
            found = rules[asked["rule"]](X, **asked["options"])
        except Exception as error:  # a peer may raise anything, and that is an answer
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=out, flush=True)
            continue
        seconds, spent = time.perf_counter() - begin, time.process_time() - spent
        if asked.get("save"):
            np.save(asked["save"], np.asarray(found, np.float64))
        print(json.dumps({"seconds": seconds, "cpu_seconds": spent}), file=out, flush=True)
