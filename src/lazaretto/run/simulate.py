"""All sites in one process: one compiled program streams them over the cores.

Each core is one JAX device; inside it a scan takes one site after another (never `vmap` over
sites: several times slower on CPUs). The same program trains a federation, local-only sites and
pooled models: what differs is whether the vectors are aggregated between rounds.
"""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from lazaretto.cut import Cut, through
from lazaretto.data.streams import Streams
from lazaretto.dp_local import Drawn, make_private_round
from lazaretto.keys import jax_key
from lazaretto.local import (
    LocalState,
    LocalTraining,
    SiteData,
    batches_in_round,
    local_start,
    make_site_round,
)
from lazaretto.parameters import parameter_count, unravel_of
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.run.backend import compiler_options
from lazaretto.split import forward
from lazaretto.types import Algorithm, Array, Float, Int, Model

__all__ = [
    "Program",
    "class_weights",
    "compile_program",
    "initial_vectors",
    "pack_marks",
    "pack_sites",
    "score_by_site",
    "score_streams",
    "views_of_streams",
]

_BLOCK = 16  # units that one core scores at a time


class Program(NamedTuple):
    """A model, made to run on all cores.

    start: vectors [S, d], devices -> LocalState with leading axis S, before the first round
    round: (state, SiteData with leading axis S, keys [S], learning rate, work [S] int32 or None for all of
        it: most batches that a site does) -> (state, loss [S]). S may differ from call to call; each S
        is compiled once. With a mechanism also `Drawn` with leading axis S, and instead of the loss, which
        is not private, how many gradients of each step were short, [S, n].
    score: (vector [d], x [B, L, F], salt) -> anomaly scores [B, L]; B a multiple of `block`; the salt,
        below 2^32, draws the cut's noise
    novelty: the same for the self-supervised score; None where the model has none
    views: the same for the pairs of views (`types.Pair`) of a model that aligns two modalities, or None
    batches: SiteData with leading axis S -> [S] batches of a whole round at each site
    place: lay arrays with a leading sites axis over the cores; S must be a multiple of `cores`
    """

    start: Callable[[Float, int], LocalState]
    round: Callable[..., tuple[LocalState, Array]]
    score: Callable[[Array, Array, int], Array]
    novelty: Callable[[Array, Array, int], Array] | None
    views: Callable[[Array, Array, int], Any] | None
    batches: Callable[[SiteData], Int]
    place: Callable[[Any], Any]
    cores: int
    block: int
    parameters: int
    window: int = 0


def compile_program(
    model: Model,
    cut: Cut,
    training: LocalTraining,
    features: int,
    kinds: int,
    length: int,
    algorithm: Algorithm | None = None,
    mechanism: Mechanism | None = None,
) -> Program:
    """Build the program; JAX compiles each function at its first call.

    mechanism: of records or patients, or None: then nothing is private.
    """
    devices = np.array(jax.local_devices())
    mesh, spec = Mesh(devices, ("sites",)), PartitionSpec("sites")
    unravel = unravel_of(model, features, kinds)
    if mechanism is None:
        one = make_site_round(model, cut, training, unravel, algorithm)
    else:
        one = make_private_round(model, cut, training, unravel, mechanism, algorithm)
    keeps = algorithm is not None and algorithm.keeps

    def stream(
        state: LocalState, data: SiteData, keys: Array, rate: Array, work: Array | None, drawn: Drawn | None
    ) -> tuple[LocalState, Array]:
        def step(_: None, site: Any) -> tuple[None, Any]:
            site_state, site_data, key, site_work, site_drawn = site
            more = () if site_drawn is None else (site_drawn,)
            return None, one(site_state, site_data, key, rate, *more, site_work)

        new, loss = jax.lax.scan(step, None, (state, data, keys, work, drawn))[1]
        return new, loss

    sharded = jax.shard_map(
        stream,
        mesh=mesh,
        in_specs=(spec, spec, spec, PartitionSpec(), spec, spec),
        out_specs=spec,
        check_vma=False,
    )

    def score(vector: Array, x: Array, salt: Array) -> Array:
        up, down = jax.random.split(_noise_key(salt))
        outputs, _ = forward(model, cut, unravel(vector), x, model.start(features, x.shape[0]), (up, down))
        return outputs.anomaly

    def novelty(vector: Array, x: Array, salt: Array) -> Array:
        assert model.novelty is not None  # noqa: S101  compiled only where there is one
        params = unravel(vector)
        h, _ = model.bottom(params["bottom"], x, model.start(features, x.shape[0])[0])
        h = through(cut, h, jax.random.split(_noise_key(salt))[0])
        return model.novelty.score(params["top"]["novelty"], h, model.novelty.start(x.shape[0]))[0]

    def views(vector: Array, x: Array, salt: Array) -> Any:
        params, starts = unravel(vector), model.start(features, x.shape[0])
        h, _ = model.bottom(params["bottom"], x, starts[0])
        h = through(cut, h, jax.random.split(_noise_key(salt))[0])
        return model.top(params["top"], h, starts[1])[0].pairs

    def on_all_cores(part: Callable[[Array, Array, Array], Any]) -> Callable[[Array, Array, int], Array]:
        sharded = jax.shard_map(
            part,
            mesh=mesh,
            in_specs=(PartitionSpec(), spec, PartitionSpec()),
            out_specs=spec,
            check_vma=False,
        )
        compiled = jax.jit(sharded, compiler_options=compiler_options())
        return lambda vector, x, salt: compiled(vector, x, np.uint32(salt))

    def place(values: Any) -> Any:
        return jax.device_put(values, NamedSharding(mesh, spec))

    @functools.cache  # traced and compiled once, for trainings without number
    def start_of(devices_per_site: int) -> Callable[[Array], LocalState]:
        make = jax.vmap(lambda v: local_start(model, training, v, unravel, devices_per_site, keeps))
        return jax.jit(make)

    def start(vectors: Float, devices_per_site: int) -> LocalState:
        return LocalState(*place(start_of(devices_per_site)(jnp.asarray(vectors))))

    def batches(data: SiteData) -> Int:
        size = min(training.batch_units, data.x.shape[2])
        if mechanism is not None:
            return np.where(np.asarray(data.units) > 0, mechanism.steps, 0).astype(np.int64)
        batches = -(-np.asarray(data.units, np.int64) // size)
        whole: Int = batches_in_round(training.local_epochs, batches)
        return whole

    pairs = model.head is not None and len(training.layout) == 2
    compiled = jax.jit(sharded, donate_argnums=(0,), compiler_options=compiler_options())
    return Program(
        start=start,
        round=lambda state, data, keys, rate, work=None, drawn=None: compiled(
            state, data, keys, jnp.float32(rate), work, drawn
        ),
        score=on_all_cores(score),
        novelty=None if model.novelty is None else on_all_cores(novelty),
        views=on_all_cores(views) if pairs else None,
        batches=batches,
        place=place,
        cores=len(devices),
        block=_BLOCK * len(devices),
        parameters=parameter_count(model, features, kinds),
        window=training.window,
    )


def _noise_key(salt: Array) -> Array:
    return jax.random.fold_in(jax.random.key(salt), jax.lax.axis_index("sites"))


def initial_vectors(model: Model, features: int, kinds: int, seeds: Sequence[int]) -> Float:
    """[len(seeds), d] float32: the model's parameters at the start, one row per seed."""
    make = _flat_init(model, features, kinds)
    return np.stack([np.asarray(make(jax_key(seed, "model"))) for seed in seeds]).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _flat_init(model: Model, features: int, kinds: int) -> Callable[[Array], Array]:
    """The model's initialisation to a flat vector, compiled once."""
    return jax.jit(lambda key: jax.flatten_util.ravel_pytree(model.init(key, features, kinds))[0])


def class_weights(y: Int, valid: NDArray[np.bool_], kinds: int, beta: float) -> Float:
    """[K + 2] weights by effective number of steps, (1 - β) / (1 - β^n), mean 1 over the site's steps.

    Cui et al. 2019, arXiv:1901.05555. A class that the site lacks gets weight 0; the last entry, for
    anomalies of unknown kind, is the weight that all attacks together would have as one class.
    """
    counts = np.bincount(y[valid], minlength=kinds + 1).astype(np.float64)

    def weight(n: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(n > 0, (1 - beta) / np.maximum(1 - beta**n, 1e-12), 0.0)

    each = weight(counts)
    mean = (each * counts).sum() / max(counts.sum(), 1.0)
    unknown = weight(np.maximum(counts[1:].sum(keepdims=True), 1.0))
    balanced: Float = (np.concatenate([each, unknown]) / max(mean, 1e-12)).astype(np.float32)
    return balanced


def pack_sites(
    data: Streams,
    members: Sequence[Int],
    devices: int,
    beta: float,
    kinds: int,
    multiple: int,
    units: int = 1,
    replication: float = 0.0,
) -> tuple[SiteData, Int]:
    """Lay the training streams of each site (`members`: indices of streams) on its devices.

    Units go to devices in turn; each device has room for at least `units`, so that one program serves
    several seeds. replication: weight, in [0, 1], of steps that are read and not judged; where one outcome is
    asked for at the end, learning it at every step helps (target replication, Lipton et al. 2016,
    arXiv:1511.03677). Returns SiteData with leading axis S (padded by empty sites to a
    multiple of `multiple`) and the number of training steps of each real site.
    """
    sites = -(-len(members) // multiple) * multiple
    units = max(units, max(-(-len(rows) // devices) for rows in members))
    length, features = data.x.shape[1:]
    x = np.zeros((sites, devices, units, length, features), np.float32)
    y = np.zeros((sites, devices, units, length), np.int32)
    weight = np.zeros((sites, devices, units, length), np.float32)
    longest = np.zeros(sites, np.int32)
    balance = np.ones((sites, kinds + 2), np.float32)
    steps = np.zeros(len(members), np.int64)
    for site, rows in enumerate(members):
        for device in range(devices):
            own = rows[device::devices]
            x[site, device, : len(own)] = data.x[own]
            y[site, device, : len(own)] = data.y[own]
            weight[site, device, : len(own)] = np.where(data.judged[own], 1.0, replication * data.valid[own])
        longest[site] = -(-len(rows) // devices)
        balance[site] = class_weights(data.y[rows], data.judged[rows], kinds, beta)
        steps[site] = int(data.judged[rows].sum())
    return SiteData(x, y, weight, longest, balance), steps


def pack_marks(data: Streams, members: Sequence[Int], laid: SiteData) -> NDArray[np.uint64] | None:
    """Marks of the windows (`Streams.marks`) as `pack_sites` laid their streams: [S, D, U, L / T].

    0 for padding; None where the streams have none. members, laid: what it was given and what came of it.
    """
    if data.marks is None:
        return None
    devices, units = laid.x.shape[1:3]
    marks = np.zeros((len(laid.x), devices, units, data.marks.shape[1]), np.uint64)
    for site, rows in enumerate(members):
        for device in range(devices):
            own = rows[device::devices]
            marks[site, device, : len(own)] = data.marks[own]
    return marks


def score_streams(
    program: Program,
    vector: Float,
    x: Float,
    part: Literal["score", "novelty"] = "score",
    secret: bool = False,
) -> Float:
    """Anomaly score (or the self-supervised one) of every step: x [u, L, F] -> [u, L], float32.

    Noise at the cut, if any, is drawn anew for each block of units, from what they hold and where they
    stand: other units get other noise, the same call gives the same scores again. secret: drawn of the
    system's generator instead, so that no unit's noise tells who stands beside it.
    """
    says = program.score if part == "score" else program.novelty
    assert says is not None  # noqa: S101  asked for only where the model has one
    out = [np.asarray(found)[:rows] for found, rows in _by_block(program, says, vector, x, secret)]
    return np.concatenate(out) if out else np.zeros(x.shape[:2], np.float32)


def _by_block(
    program: Program, says: Callable[..., Any], vector: Float, x: Float, secret: bool = False
) -> Iterator[tuple[Any, int]]:
    """What `says` finds in each block of units, padded, and how many of them are real."""
    for begin in range(0, len(x), program.block):
        rows = x[begin : begin + program.block]
        padded = np.zeros((program.block, *x.shape[1:]), np.float32)
        padded[: len(rows)] = rows
        salt = zlib.crc32(padded.tobytes(), begin) if not secret else int.from_bytes(os.urandom(4), "big")
        yield says(jnp.asarray(vector), padded, salt), len(rows)


def views_of_streams(
    program: Program, vector: Float, x: Float
) -> tuple[dict[str, tuple[Float, Float]], NDArray[np.bool_]]:
    """Views of either modality at the "cut" and at "fusion", [u, L, P] each, and where both are: [u, L].

    x: [u, L, F], u >= 1. For a program with `views`.
    """
    assert program.views is not None  # noqa: S101  asked for only where the model has them
    found = [
        [[np.asarray(value)[:rows] for value in pair] for pair in pairs]
        for pairs, rows in _by_block(program, program.views, vector, x)
    ]
    early, late = (
        [np.concatenate(values) for values in zip(*blocks, strict=True)]
        for blocks in zip(*found, strict=True)
    )
    return {"cut": (early[0], early[1]), "fusion": (late[0], late[1])}, early[2].astype(np.bool_)


def score_by_site(
    program: Program,
    vector: Float,
    part: Streams,
    which: Literal["score", "novelty"] = "score",
    secret: bool = False,
) -> Float:
    """Such a score of every step, [u, L]: by one vector [d], or each unit by that of its site, [S, d]."""
    if vector.ndim == 1:
        return score_streams(program, vector, part.x, which, secret)
    score = np.zeros(part.y.shape, np.float32)
    for site in range(len(vector)):
        own = part.site == site
        score[own] = score_streams(program, vector[site], part.x[own], which, secret)
    return score
