"""Inner products and squared distances of all updates with all by SPU's ABY3, for `rule_session`.

Three parties in one process, each a thread with a runtime of its own that is made once, over SPU's link in
memory: what its own simulator does, without making runtimes anew in every call. A program is compiled the
first time that it is asked for. `--one-thread`: OpenMP may start no second thread for a product. SPU asks
for two, which on two cores took some sixty times the CPU seconds of one, nearly all in Eigen's parallel
product.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

ONE_THREAD = "--one-thread" in sys.argv[1:]
if ONE_THREAD:
    os.environ["OMP_THREAD_LIMIT"] = "1"  # read when SPU is loaded

import jax.numpy as jnp  # noqa: E402
from rule_session import serve  # noqa: E402
from spu import libspu  # noqa: E402
from spu.api import Io, Runtime  # noqa: E402
from spu.utils import frontend  # noqa: E402

PARTIES, FRACTION_BITS = 3, 18  # the bits are SPU's default for 64


def inner_products(X: Any) -> Any:
    """X · Xᵀ."""
    return jnp.dot(X, X.T)


def distances(X: Any) -> Any:
    """Squared, from inner products."""
    G = jnp.dot(X, X.T)
    lengths = jnp.diagonal(G)
    return lengths[:, None] + lengths[None] - 2 * G


def by_differences(X: Any) -> Any:
    """Squared distances as they are written down."""
    return jnp.sum((X[:, None] - X[None]) ** 2, -1)


class Shared:
    """A matrix, and three parties that hold shares of it."""

    def __init__(self, X: Any) -> None:
        config = libspu.RuntimeConfig(libspu.ProtocolKind.ABY3, libspu.FieldType.FM64, FRACTION_BITS)
        link = libspu.link.Desc()
        for rank in range(PARTIES):
            link.add_party(f"party-{rank}", f"thread-{rank}")
        self.X, self._io = X, Io(PARTIES, config)
        self._threads = ThreadPoolExecutor(PARTIES)
        self._runtimes = self._each(lambda rank: Runtime(libspu.link.create_mem(link, rank), config))
        self._compiled: dict[str, Any] = {}
        self.share()

    def __len__(self) -> int:
        return len(self.X)

    def _each(self, work: Callable[[int], Any]) -> list[Any]:
        """Of all parties at once."""
        return list(self._threads.map(work, range(PARTIES)))

    def share(self) -> None:
        """New shares, handed to the parties."""
        parts = self._io.make_shares(self.X, libspu.Visibility.VIS_SECRET)
        for runtime, part in zip(self._runtimes, parts, strict=True):
            runtime.set_var("X", part)

    def run(self, program: Callable[[Any], Any]) -> Any:
        """What the parties open."""
        if program.__name__ not in self._compiled:
            self._compiled[program.__name__], _ = frontend.compile(
                frontend.Kind.JAX,
                program,
                (self.X,),
                {},
                ["X"],
                [libspu.Visibility.VIS_SECRET],
                lambda outputs: ["found"],
            )

        def party(rank: int) -> Any:
            self._runtimes[rank].run(self._compiled[program.__name__])
            return self._runtimes[rank].get_var("found")

        return self._io.reconstruct(self._each(party))


def asked(program: Callable[[Any], Any]) -> Callable[..., Any]:
    """A rule of the session: `sharing` takes the making and handing over of shares in."""

    def rule(shared: Shared, sharing: bool) -> Any:
        if sharing:
            shared.share()
        return shared.run(program)

    return rule


if __name__ == "__main__":
    threads = "one OpenMP thread" if ONE_THREAD else "OpenMP as it is"
    how = f"ABY3, FM64, {FRACTION_BITS} fractional bits, three threads over a link in memory, {threads}"
    serve(
        f"SPU, {how}",
        ["spu", "jax", "numpy"],
        {
            "inner products": asked(inner_products),
            "distances": asked(distances),
            "by differences": asked(by_differences),
        },
        Shared,
    )
