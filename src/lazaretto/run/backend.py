"""The machine's cores, set before JAX makes its first computation."""

from __future__ import annotations

import contextlib
import os

import jax
from threadpoolctl import threadpool_limits

__all__ = ["compiler_options", "cores", "one_blas_thread", "use_all_cores"]


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores(cache: str | None = None) -> int:
    """Give JAX one host device per core, so that sites stream over all of them; returns their number.

    A second call, or one after JAX has started, changes nothing. `cache` is a folder for compiled
    programs (JAX's persistent cache; also settable by JAX_COMPILATION_CACHE_DIR).
    """
    with contextlib.suppress(RuntimeError):  # JAX has started: keep what it has
        jax.config.update("jax_num_cpu_devices", cores())
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return jax.local_device_count()


def compiler_options() -> dict[str, int]:
    """What `jax.jit` is told for training: on CPUs, vectors as wide as the machine has.

    XLA keeps to 256 bits otherwise; where the CPU has AVX-512 the gates and activations take half the time.
    """
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}


def one_blas_thread() -> contextlib.AbstractContextManager[object]:
    """While inside, NumPy's matrix products stay on one thread.

    For many products of a few rows: there OpenBLAS's threads wait for each other, and for JAX's, longer than
    they work.
    """
    limits: contextlib.AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits
