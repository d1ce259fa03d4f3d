"""What the machine can do and what a program takes of it: read from /proc, measured in the same sitting."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["commit", "cpu_seconds", "described", "peak_bytes", "peaks", "tree"]

_TICK = os.sysconf("SC_CLK_TCK")
_SIDE, _TRIES = 2048, 3


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, or nothing where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    parents = {int(p.name): _stat(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()}
    found = [root]
    for one in found:
        found += [pid for pid, stat in parents.items() if stat and int(stat[1]) == one]
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of a tree, ended children counted with their parents."""
    ticks = 0
    for pid in tree(root):
        stat = _stat(pid)
        ticks += sum(int(v) for v in stat[11:15]) if stat else 0
    return ticks / _TICK


def peak_bytes(root: int) -> int:
    """Largest resident memory of each process of a tree, added up (shared pages count in each)."""
    total = 0
    for pid in tree(root):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
    return total


def _best(work: Any) -> float:
    fastest = float("inf")
    for _ in range(_TRIES):
        begin = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - begin)
    return fastest


_WIDE = """
import time, numpy as np
a = np.ones(({0}, {0}), np.float32); a @ a
seconds = []
for _ in range({1}):
    begin = time.perf_counter(); a @ a; seconds.append(time.perf_counter() - begin)
print(2 * {0} ** 3 / min(seconds))
"""


def peaks() -> dict[str, float]:
    """Now, on all cores: sgemm as NumPy does it by itself, the best sgemm found, and copying.

    OpenBLAS does not know every CPU and may keep to 256-bit vectors where the machine has 512; the best is
    the faster of it and the same library told to use its AVX-512 kernels (OPENBLAS_CORETYPE=SkylakeX), where
    /proc/cpuinfo lists avx512f. Copying counts what is read and what is written.
    """
    a = np.ones((_SIDE, _SIDE), np.float32)
    rates = {"numpy_flop_per_second": 2 * _SIDE**3 / _best(lambda: a @ a)}
    rates["best_flop_per_second"] = rates["numpy_flop_per_second"]
    if "avx512f" in Path("/proc/cpuinfo").read_text():
        wide = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _WIDE.format(_SIDE, _TRIES)],
            env={**os.environ, "OPENBLAS_CORETYPE": "SkylakeX"},
            capture_output=True,
            text=True,
            check=True,
        )
        rates["best_flop_per_second"] = max(rates["best_flop_per_second"], float(wide.stdout))
    source = np.ones(64 << 20, np.uint8)
    target = np.empty_like(source)
    rates["copy_bytes_per_second"] = 2 * source.nbytes / _best(lambda: np.copyto(target, source))
    return rates


@cache
def described() -> str:
    """CPU model and cores that this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU"
    )
    wide = "AVX-512" if any("avx512f" in line for line in lines) else "no AVX-512"
    return f"{model} ({wide}), {len(os.sched_getaffinity(0))} cores"


@cache
def commit() -> str:
    """Short hash of the checkout, marked where files differ from it."""
    here = Path(__file__).resolve().parent
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude", "*"],  # noqa: S607
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "unknown"
