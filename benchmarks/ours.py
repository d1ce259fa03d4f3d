"""Lazaretto as a program that `round.py` can ask for rounds (see `peers/session.py`)."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
import engine
from session import Session, w

from lazaretto.run.backend import use_all_cores
from lazaretto.run.stream import streamed_round


def main() -> None:
    """Serve rounds."""
    cores = use_all_cores()
    what = f"run.stream over {cores} host devices; sites made from their seeds inside the round"
    session = Session(what, ["lazaretto", "jax", "jaxlib", "numpy"])
    stream, vector = engine.stream(session.seed), engine.initial_vector(0)
    weights = np.full(session.clients, 1 / session.clients)
    session.ready()
    while True:
        session.wait()
        vector, _ = streamed_round(stream, vector, weights, (jax.random.key(0), w.RATE))
        session.done(partial(engine.as_named, vector))


if __name__ == "__main__":
    main()
