"""The machine's cores, set before JAX makes its first computation."""

from __future__ import annotations

import contextlib
from pathlib import Path

import jax

from lazaretto import runlog
from lazaretto.compiled import cores
from lazaretto.errors import InputError

__all__ = ["compiler_options", "use_all_cores", "use_cores_of"]

_MOST_DEVICES = 1024  # each takes memory and threads, and a log may come from elsewhere


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


def use_cores_of(log: Path) -> int:
    """Give JAX as many host devices as the run of this log began with, whatever cores there are now.

    Over how many devices sites are spread shapes the compiled program, hence the last bits of a result and,
    where the cut adds noise, its draws: only the same number goes on to the same result. A log that is empty
    gets one device per core. Returns the number. Raises InputError where JAX has another number of devices
    and can no longer change it.
    """
    first = next(runlog.read(log), None)
    machine = None if first is None else first.body.get("machine")
    begun = machine.get("cores") if isinstance(machine, dict) else None
    if begun is None:
        return use_all_cores()
    if not isinstance(begun, int) or not 1 <= begun <= _MOST_DEVICES:
        raise InputError(
            "the run log names no number of devices that could be", found=begun, way_out="run it anew"
        )
    with contextlib.suppress(RuntimeError):  # JAX has started: see below whether it fits
        jax.config.update("jax_num_cpu_devices", int(begun))
    if jax.local_device_count() != begun:
        raise InputError(
            f"the run began on {begun} devices, and cannot go on to the same result on another number",
            found=f"JAX has {jax.local_device_count()}",
            way_out="go on with it in a new process, where it began on CPUs; else on as many devices",
        )
    return int(begun)


def compiler_options() -> dict[str, int]:
    """What `jax.jit` is told for training: on CPUs, vectors as wide as the machine has.

    XLA keeps to 256 bits otherwise; where the CPU has AVX-512 the gates and activations take half the time.
    """
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}
