"""Lazaretto's private round as a program that `dp.py` can ask for rounds (see `peers/session.py`).

What `lazaretto run` does for a plan with DP-SGD by record: `run.private` draws, `run.simulate` trains the
sites, whose updates are averaged. With `--plain` the same program without a mechanism.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
import engine
from session import Session, w

from lazaretto.cut import Cut
from lazaretto.dp_local import Drawn, private_training
from lazaretto.local import LocalState
from lazaretto.privacy.dp_sgd import dp_sgd
from lazaretto.run.backend import use_all_cores
from lazaretto.run.private import PrivateSites, Promise
from lazaretto.run.simulate import Program, compile_program


def compared(seed: int, drawn: Drawn) -> Drawn:
    """The draws of the round that all programs are compared by, in the shapes of another: no noise."""
    rows, count = np.zeros_like(drawn.rows), np.zeros_like(drawn.count)
    for site in range(len(rows)):
        for step, who in enumerate(w.sampled(seed, site)):
            rows[site, step, : len(who)], count[site, step] = who, len(who)
    return drawn._replace(rows=rows, count=count, noise=np.zeros_like(drawn.noise))


def main() -> None:
    """Serve rounds."""
    plain = "--plain" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--plain"]
    cores = use_all_cores()
    what = "no privacy" if plain else "run.private and run.simulate, noise of the system's generator"
    session = Session(f"{what}, over {cores} host devices", ["lazaretto", "jax", "jaxlib", "numpy"])
    training, mechanism = engine.training(), None
    if not plain:
        training = private_training(replace(training, class_balance=0.0))
        mechanism = dp_sgd(
            clip=w.CLIP, noise_multiplier=w.NOISE_MULTIPLIER, rate=w.BATCH / w.WINDOWS, steps=w.ROUND_STEPS
        )
    program = compile_program(
        engine.model(), Cut(bits=32), training, w.FEATURES, w.CLASSES, w.STEPS, mechanism=mechanism
    )
    sites = [engine.site(session.seed, number, np) for number in range(session.clients)]
    data: Any = jax.tree.map(lambda *leaves: np.stack(leaves), *sites)
    vector = engine.initial_vector(0)
    private = None
    if mechanism is not None:
        private = PrivateSites(Promise(mechanism, "system"), data, w.STEPS, vector.size)
    serve(session, program, private, program.place(data), vector)


def serve(session: Session, program: Program, private: PrivateSites | None, data: Any, vector: Any) -> None:
    """Rounds, one after another."""
    clients, number = session.clients, 0
    state = LocalState(*program.place(tuple(program.start(np.repeat(vector[None], clients, axis=0), 1))))
    keys = program.place(jax.random.split(jax.random.key(0), clients))
    session.ready()
    while True:
        session.wait()
        drawn = None
        if private is not None:
            drawn = private.draw(session.seed, number, range(clients))
            drawn = compared(session.seed, drawn) if session.compared else drawn
        begun = state._replace(vector=program.place(np.repeat(vector[None], clients, axis=0)))
        state, _ = program.round(
            begun, data, keys, w.RATE, None, None if drawn is None else program.place(drawn)
        )
        vector, number = np.asarray(state.vector).mean(axis=0), number + 1
        session.done(partial(engine.as_named, vector))


if __name__ == "__main__":
    main()
