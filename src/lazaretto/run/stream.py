"""A round over any number of sites in the memory of a few: each is made, trained, added to a sum, forgotten.

For rules that see only the sum of the updates and sites that keep nothing between rounds (their optimisers
start anew). Sites run one at a time on each core, as in `simulate`; neither their data nor their updates are
ever stacked, so memory does not grow with their number.

Shapes: S sites, C cores, d parameters, B sites of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from lazaretto.cut import Cut
from lazaretto.errors import InputError, PlanError
from lazaretto.local import LocalTraining, SiteData, local_start, make_site_round
from lazaretto.parameters import parameter_count, unravel_of
from lazaretto.run.backend import compiler_options
from lazaretto.types import Array, Float, Int, Model

__all__ = ["Stream", "Sums", "Totals", "add_sites", "apply_totals", "compile_stream", "streamed_round"]

_NONE_BAD = np.iinfo(np.int32).max


class Sums(NamedTuple):
    """What each core has added up so far, with leading axis C.

    total [C, d] and lost [C, d]: a compensated sum (Neumaier 1974), so that 10,000 sites lose no more than
    one addition does. loss [C]: sum of the sites' mean losses. bad [C]: smallest number of a site whose
    update is not finite, or 2^31 - 1.
    """

    total: Array
    lost: Array
    loss: Array
    bad: Array


class Totals(NamedTuple):
    """Sums over cores (in `distributed` over processes too): update [d] float64, loss, sites, `bad`."""

    update: NDArray[np.float64]
    loss: float
    sites: int
    bad: int


class Stream(NamedTuple):
    """A compiled round over sites.

    add: (Sums, vector [d], numbers [B] int32 (-1: no site), weights [B], data with leading axis B or None,
        round key, learning rate) -> Sums; its first argument is used up.
    start: () -> Sums of nothing. place: lay arrays with leading axis B over the cores.
    cores: C. block: B, a multiple of C. made: whether sites are made inside the program; data is None then.
    parameters: d.
    """

    add: Callable[..., Sums]
    start: Callable[[], Sums]
    place: Callable[[Any], Any]
    cores: int
    block: int
    made: bool
    parameters: int


def compile_stream(
    model: Model,
    cut: Cut,
    training: LocalTraining,
    sizes: tuple[int, int],
    make: Callable[[Array], SiteData] | None = None,
    sites_per_call: int = 16,
) -> Stream:
    """Build the program; JAX compiles it at its first call, once for any number of sites.

    sizes: features and kinds of attack. make: a function that JAX can trace, from the number of a site to its
    data, for data that are generated; without it `add` is given data. sites_per_call: of one core.
    """
    mesh, spec = Mesh(np.array(jax.local_devices()), ("sites",)), PartitionSpec("sites")
    unravel = unravel_of(model, *sizes)
    one = make_site_round(model, cut, training, unravel)

    def train(vector: Array, number: Array, data: SiteData, key: Array, rate: Array) -> tuple[Array, Array]:
        fresh = local_start(model, training, vector, unravel, data.x.shape[0])
        state, loss = one(fresh, data, jax.random.fold_in(key, number), rate)
        return state.vector - vector, loss

    def stream(sums: Sums, vector: Array, sites: tuple[Array, Array, Any], key: Array, rate: Array) -> Sums:
        def step(sums: Sums, site: tuple[Array, Array, Any]) -> tuple[Sums, None]:
            number, weight, data = site

            def trained(sums: Sums) -> Sums:
                update, loss = train(vector, number, data if make is None else make(number), key, rate)
                return _added(sums, update, weight, loss, number)

            return jax.lax.cond(number >= 0, trained, lambda sums: sums, sums), None

        return Sums(*(v[None] for v in jax.lax.scan(step, Sums(*(v[0] for v in sums)), sites)[0]))

    sharded = jax.shard_map(
        stream,
        mesh=mesh,
        in_specs=(spec, PartitionSpec(), spec, PartitionSpec(), PartitionSpec()),
        out_specs=spec,
        check_vma=False,
    )
    compiled = jax.jit(sharded, donate_argnums=(0,), compiler_options=compiler_options())
    length = parameter_count(model, *sizes)
    cores = mesh.size

    def place(values: Any) -> Any:
        return jax.device_put(values, NamedSharding(mesh, spec))

    def start() -> Sums:
        zeros = np.zeros((cores, length), np.float32)
        return Sums(
            *place((zeros, zeros.copy(), np.zeros(cores, np.float32), np.full(cores, _NONE_BAD, np.int32)))
        )

    def add(
        sums: Sums,
        vector: Array,
        numbers: Int,
        weights: Float,
        data: SiteData | None,
        key: Array,
        rate: float,
    ) -> Sums:
        sites = place((numbers, weights, data))
        return Sums(*compiled(sums, vector, sites, key, jnp.float32(rate)))

    return Stream(add, start, place, cores, sites_per_call * cores, make is not None, length)


def _added(sums: Sums, update: Array, weight: Array, loss: Array, number: Array) -> Sums:
    term = weight * update
    total = sums.total + term
    small = jnp.where(
        jnp.abs(sums.total) >= jnp.abs(term), (sums.total - total) + term, (term - total) + sums.total
    )
    bad = jnp.where(jnp.isfinite(update).all(), _NONE_BAD, number)
    return Sums(total, sums.lost + small, sums.loss + loss, jnp.minimum(sums.bad, bad))


def add_sites(
    stream: Stream,
    vector: Float,
    sites: tuple[Int, NDArray[np.float64]],
    randomness: tuple[Array, float],
    load: Callable[[int], SiteData] | None = None,
) -> Totals:
    """Train the sites with these numbers [S] from `vector` and add up weight [S] times update.

    randomness: the round's key and learning rate; a site's key is the round's key with the site's number
    folded in. load: from a site's number to its data (NumPy arrays, one shape for all), called in a thread
    of its own, one block ahead of training; needed unless the stream makes its sites itself.
    Raises PlanError when both or neither say where data come from.
    """
    if stream.made == (load is not None):
        raise PlanError(
            "a stream of sites needs exactly one source of data",
            found="both make and load" if stream.made else "neither make nor load",
            way_out="give make to compile_stream, or load to the round",
        )
    numbers, weights = sites
    key, rate = randomness
    sums = stream.start()
    placed = jnp.asarray(vector, jnp.float32)
    with ThreadPoolExecutor(max_workers=1) as reader:
        blocks = list(_blocks(numbers, weights, stream))
        ahead = reader.submit(_stacked, load, blocks[0][0]) if blocks else None
        for index, (some, weight) in enumerate(blocks):
            data = ahead.result() if ahead is not None else None
            if index + 1 < len(blocks):
                ahead = reader.submit(_stacked, load, blocks[index + 1][0])
            jax.block_until_ready(sums.loss)  # at most one block in training and one waiting for it
            sums = stream.add(sums, placed, some, weight, data, key, rate)
    total, lost, loss, bad = (np.asarray(v) for v in sums)
    update = (total.astype(np.float64) + lost).sum(axis=0)
    return Totals(update, float(loss.astype(np.float64).sum()), len(numbers), int(bad.min()))


def apply_totals(vector: Float, totals: Totals) -> tuple[Float, float]:
    """The new vector [d] and the sites' mean loss. Raises InputError for an update that is not finite."""
    if totals.bad != _NONE_BAD:
        raise InputError(
            f"the update of site {totals.bad} is not finite",
            way_out="lower train.learning_rate",
        )
    return (vector + totals.update).astype(np.float32), totals.loss / max(totals.sites, 1)


def streamed_round(
    stream: Stream,
    vector: Float,
    weights: NDArray[np.float64],
    randomness: tuple[Array, float],
    load: Callable[[int], SiteData] | None = None,
) -> tuple[Float, float]:
    """One round over the sites 0 to S - 1: broadcast, train, add up, apply; (new vector [d], mean loss).

    weights: [S], what `Rule.weigh` gives for the sites' sizes. The rest, and what is raised, as in
    `add_sites` and `apply_totals`. The same sum as `mean_update` over stacked updates, to rounding.
    """
    sites = np.arange(len(weights)), weights
    return apply_totals(vector, add_sites(stream, vector, sites, randomness, load))


def _blocks(
    numbers: Int, weights: NDArray[np.float64], stream: Stream
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Blocks of one size, the last filled with sites -1 of weight 0; sites go to the cores in turn."""
    size = stream.block
    turns = np.arange(size).reshape(stream.cores, -1, order="F").ravel()  # a core's sites lie together
    for begin in range(0, len(numbers), size):
        some = numbers[begin : begin + size]
        block, weight = np.full(size, -1, np.int32), np.zeros(size, np.float32)
        block[: len(some)], weight[: len(some)] = some, weights[begin : begin + size]
        yield block[turns], weight[turns]


def _stacked(load: Callable[[int], SiteData] | None, numbers: NDArray[np.int32]) -> SiteData | None:
    if load is None:
        return None
    loaded = {int(number): load(int(number)) for number in numbers if number >= 0}
    filler = next(iter(loaded.values()))  # never trained, only there for the shape
    several = [loaded.get(int(number), filler) for number in numbers]
    return SiteData(*(np.stack([np.asarray(v) for v in values]) for values in zip(*several, strict=True)))
