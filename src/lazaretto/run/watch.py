"""What is seen of a training after each round: by the sites that judge it, and by the display."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from sklearn.metrics import roc_auc_score

from lazaretto.cut import Cut
from lazaretto.data.streams import select
from lazaretto.dp_local import examples_of
from lazaretto.local import LocalTraining, SiteData
from lazaretto.parameters import shapes_of
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.run.coordinator import Seen
from lazaretto.run.journal import Journal
from lazaretto.run.post import OUTSIDE, Post, count_cut_traffic
from lazaretto.run.prepare import Prepared
from lazaretto.run.simulate import Program, score_by_site
from lazaretto.types import VALIDATION, Array, Float, Int, Model

__all__ = ["Timed", "Watch", "exchange_counter", "says_divergence", "show_rounds"]

_ABSURD = 1e4  # a loss on scaled data; an untrained model's is about one
_TIMES_THE_FIRST = 100.0


def says_divergence(journal: Journal, system: str, seed: int | None) -> Callable[[int, float | None], None]:
    """Given each round's loss, shows once where training diverges, and the way out.

    That is where a loss is not finite, or absurdly large by itself or beside the first round's.
    """
    first: list[float] = []
    said: list[int] = []

    def look(round_number: int, loss: float | None) -> None:
        if loss is None or said:
            return
        first[:] = first or [loss]
        if math.isfinite(loss) and loss <= min(_ABSURD, _TIMES_THE_FIRST * max(1.0, first[0])):
            return
        said.append(round_number)
        name = system if seed is None else f"{system} (seed {seed})"
        text = f"{name} diverges: loss {loss:.3g} in round {round_number}; way out: lower train.learning_rate"
        journal.show("diverges", {"system": system, "seed": seed, "round": round_number, "said": text})

    return look


def exchange_counter(
    post: Post,
    model: Model,
    data: SiteData,
    cut: Cut,
    training: LocalTraining,
    prepared: Prepared,
    mechanism: Mechanism | None = None,
) -> Callable[[Int], None]:
    """Counts, after each round, what devices and sites exchanged inside the compiled program.

    It is given the batches that each site did, [S]. With a mechanism these are steps, of as many examples
    as are expected.
    """
    features, kinds, length = prepared.data.x.shape[2], prepared.kinds, prepared.data.x.shape[1]
    window = training.window
    devices, units = data.x.shape[1], data.x.shape[2]
    size = min(training.batch_units, units)
    shapes = shapes_of(model, features, kinds)
    bottom = sum(int(leaf.size) for leaf in jax.tree.leaves(shapes["bottom"]))
    reading = jax.ShapeDtypeStruct((1, 1, features), np.float32)
    starts = model.start(features, 1)
    h, _ = jax.eval_shape(lambda p, x: model.bottom(p, x, starts[0]), shapes["bottom"], reading)
    middle, _ = jax.eval_shape(lambda p, h: model.top(p, h, starts[1]), shapes["top"], h)
    fused = 0 if model.head is None else int(middle.sent.shape[-1])

    # streams with made-up campaigns cross the cut as well
    crossings = [2 * size if model.novelty is not None else size] * len(data.weight)
    windows = length // window
    if mechanism is not None:
        real = [examples_of(mechanism.unit, np.asarray(own), window) for own in data.weight]
        crossings = [math.ceil(mechanism.rate * len(own) / devices) for own in real]
        windows = 1 if mechanism.unit == "record" else windows

    def count(worked: Int) -> None:
        for site, batches in enumerate(map(int, worked)):
            crossing = crossings[site]
            if batches and crossing:
                exchanges = batches * windows
                shape = (crossing, window, int(h.shape[-1]))
                count_cut_traffic(
                    post, cut, exchanges, shape, bottom, devices, training.synchronise == "step", fused
                )

    return count


class Timed:
    """Passes each finished round on with the seconds that it took, what is done between rounds left out."""

    def __init__(self, done: Callable[..., None]) -> None:
        self._done = done
        self._began, self._seconds = time.perf_counter(), list[float]()

    @property
    def compile_seconds(self) -> float | None:
        """How much longer the first round took than the median of the others; None where there is one."""
        if len(self._seconds) < 2:
            return None
        return max(0.0, self._seconds[0] - float(np.median(self._seconds[1:])))

    def __call__(self, round_number: int, losses: Float, vectors: Float, *more: Any) -> None:
        """Note the round and pass it on, the seconds after the vectors."""
        self._seconds.append(time.perf_counter() - self._began)
        self._done(round_number, losses, vectors, self._seconds[-1], *more)
        self._began = time.perf_counter()


class Watch:
    """After each round: every site judges the model on its own validation units and reports three numbers.

    None does where the counts of `prepared` have noise: no such number would be private. every: only in the
    last round and in those that it divides, at least 1; the others are logged without.
    """

    def __init__(
        self,
        journal: Journal,
        program: Program,
        prepared: Prepared,
        post: Post,
        label: str,
        rounds: int,
        detailed: bool,
        every: int = 1,
    ) -> None:
        self._journal, self._program, self._prepared, self._post = journal, program, prepared, post
        self._label, self._rounds, self._detailed, self._every = label, rounds, detailed, every
        self._silent = prepared.count_noise is not None
        self._part = select(prepared.data, prepared.data.split == VALIDATION)
        self._look = says_divergence(journal, label, prepared.seed)

    def __call__(self, round_number: int, losses: Float, vector: Float, seconds: float, seen: Seen) -> None:
        """Log the round: losses [S] of its training, and what each site makes of the new vector.

        losses: NaN for a site from which nothing came; it does not report. Where none does they are not read.
        vector: [d], or each site's own [S, d]. seen: what the coordinator saw; sites with any suspicion are
        named.
        """
        names = self._prepared.site_names
        sites: list[dict[str, Any]] = []
        rounds = self._rounds if seen.rounds is None else seen.rounds
        judged = round_number % self._every == 0 or round_number == rounds
        if self._detailed and judged and not self._silent:
            score = score_by_site(self._program, vector, self._part)
            for site, name in enumerate(names):
                if np.isnan(losses[site]):
                    sites.append({"name": name, "loss": None, "auroc": None})
                    continue
                loss, area = _site_report(self._part.y, self._part.judged, score, self._part.site == site)
                said = [float(losses[site]), loss, area]  # a site with one class has no AUROC to report
                report = {
                    "values": np.array([value or 0.0 for value in said], np.float32),
                    "known": np.array([value is not None for value in said], np.uint8),
                }
                self._post.send("round report", name, "coordinator", round_number, report)
                sites.append({"name": name, "loss": loss, "auroc": area})
        more: dict[str, Any] = {}
        if self._detailed and judged and seen.statistics is not None:
            more["updates"] = dict(seen.statistics)
        if seen.reputation is not None:
            trust, out = seen.reputation.trust, seen.reputation.quarantined
            more["trust"] = {name: float(value) for name, value in zip(names, trust, strict=True)}
            more["quarantined"] = [name for name, away in zip(names, out, strict=True) if away]
        if seen.refused:
            more["refused"] = seen.refused
        if seen.anew:
            more["began_anew"] = True
        arrived = ~np.isnan(seen.suspicion if self._silent else losses)
        areas = [row["auroc"] for row in sites if row["auroc"] is not None]
        loss = float(np.mean(losses[arrived])) if arrived.any() and not self._silent else None
        body = {
            "seed": self._prepared.seed,
            "system": self._label,
            "round": round_number,
            "rounds": rounds,
            "loss": loss,
            "arrived": int(arrived.sum()),
            "validation_auroc": float(np.mean(areas)) if areas else None,
            "sites": sites,
            "suspected": [
                {"name": name, "suspicion": float(value)}
                for name, value in zip(names, seen.suspicion, strict=True)
                if value > 0
            ],
            "flags": [dict(flag) for flag in seen.flags],
            "bytes": {
                "device_site": self._post.link_bytes("device-site"),
                "site_coordinator": self._post.link_bytes(*OUTSIDE),
            },
            "seconds": seconds,
        } | more
        if self._detailed:
            self._journal.record("round", body)
        else:
            self._journal.show("round", body)
        self._look(round_number, loss)


def _site_report(y: Int, valid: Array, score: Float, own: Array) -> tuple[float | None, float | None]:
    use = valid & own[:, None]
    truth, values = y[use] > 0, score[use].astype(np.float64)
    if not truth.size:
        return None, None
    loss = float(np.mean(np.logaddexp(0.0, np.where(truth, -values, values))))
    both = truth.any() and not truth.all()
    return loss, float(roc_auc_score(truth, values)) if both else None


def show_rounds(
    journal: Journal, system: str, seed: int | None, rounds: int, models: int | None = None
) -> Callable[[int, Float, Float, float], None]:
    """Only shows how a training goes that exchanges nothing.

    models: how many are trained, all if None; what follows them fills up a core and learns nothing.
    """
    look = says_divergence(journal, system, seed)

    def done(round_number: int, losses: Float, vectors: Float, seconds: float) -> None:
        loss = float(np.mean(losses[:models]))
        journal.show(
            "round",
            {
                "seed": seed,
                "system": system,
                "round": round_number,
                "rounds": rounds,
                "loss": loss,
                "validation_auroc": None,
                "sites": [],
                "bytes": {"device_site": 0, "site_coordinator": 0},
                "seconds": seconds,
            },
        )
        look(round_number, loss)

    return done
