"""Workload W by Lazaretto alone, N = 16 to 10,000: memory, and time per site (about two minutes).

    python benchmarks/scale.py --clients 16 128 1000 10000
    python benchmarks/scale.py --processes 2 --clients 128

Each N runs in a process of its own: a first round of 16 sites, which compiles, then rounds of N sites until
`--least-sites` sites are done, at least one; medians. With --processes P, each N is trained by
P processes (with one core each) that meet by `lazaretto.run.distributed`, and by one on all cores, and their
vectors are compared.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import engine
import jax
import machine
import numpy as np
import workload as w

from lazaretto.run.backend import use_all_cores
from lazaretto.run.distributed import Hosts, distributed_round, join, leave
from lazaretto.run.stream import streamed_round

__all__ = ["main"]


def _measured(clients: int, seed: int, least_sites: int, hosts: Hosts) -> None:
    """One process of a measurement; its line of JSON."""
    if hosts.processes > 1:
        jax.config.update("jax_num_cpu_devices", 1)
        join(hosts, json.dumps([clients, seed]).encode())
    else:
        use_all_cores()
    stream, vector, randomness = engine.stream(seed), engine.initial_vector(0), (jax.random.key(0), w.RATE)

    def one(sites: int) -> Any:
        weights = np.full(sites, 1 / sites)
        if hosts.processes > 1:
            return distributed_round(stream, vector, weights, randomness, hosts)[0]
        return streamed_round(stream, vector, weights, randomness)[0]

    begin = time.perf_counter()
    one(16)
    first = time.perf_counter() - begin
    rounds = []
    for _ in range(max(1, least_sites // clients)):
        begin, cpu = time.perf_counter(), time.process_time()
        after = one(clients)
        rounds.append((time.perf_counter() - begin, time.process_time() - cpu))
    said = {
        "clients": clients,
        "seconds": float(np.median([r[0] for r in rounds])),
        "cpu_seconds": float(np.median([r[1] for r in rounds])),
        "first_seconds": first,
        "peak_bytes": machine.peak_bytes(os.getpid()),
        "load": os.getloadavg()[0],
        "update": (after - vector).astype(float).tolist(),
    }
    if hosts.processes > 1:
        leave()  # before printing: whoever reads us may be reading another process first
    print(json.dumps(said))


def _asked(clients: int, arguments: argparse.Namespace, processes: int) -> list[dict[str, Any]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    common = [sys.executable, __file__, "--seed", str(arguments.seed)]
    common += ["--least-sites", str(arguments.least_sites), "--processes", str(processes)]
    started = [
        subprocess.Popen(  # noqa: S603
            [*common, "--one", str(clients), "--process", str(process), "--port", str(port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for process in range(processes)
    ]
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"error: a process ended with {[process.returncode for process in started]}")
    return [json.loads(text.splitlines()[-1]) for text in said]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[16, 128, 1000, 10000])
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--least-sites", type=int, default=3000)
    parser.add_argument("--processes", type=int, default=1)
    for hidden in ("one", "process", "port"):
        parser.add_argument(f"--{hidden}", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        hosts = Hosts(f"127.0.0.1:{arguments.port}", arguments.processes, arguments.process)
        _measured(arguments.one, arguments.seed, arguments.least_sites, hosts)
        return
    head = "N", "processes", "s a round", "CPU-s", "ms a site", "CPU-ms a site", "first of 16, s", "peak MB"
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for clients in arguments.clients:
        alone: list[float] = []
        for processes in sorted({1, arguments.processes}):
            parts = _asked(clients, arguments, processes)
            seconds, cpu = max(p["seconds"] for p in parts), sum(p["cpu_seconds"] for p in parts)
            print(
                f"| {clients} | {processes} | {seconds:.3f} | {cpu:.3f} | {1e3 * seconds / clients:.3f} "
                f"| {1e3 * cpu / clients:.3f} | {max(p['first_seconds'] for p in parts):.1f} "
                f"| {' + '.join(str(p['peak_bytes'] // 10**6) for p in parts)} |",
                flush=True,
            )
            alone = alone or parts[0]["update"]
            if processes > 1:
                apart = max(float(np.abs(np.subtract(p["update"], alone)).max()) for p in parts)
                largest = float(np.abs(alone).max())
                print(
                    f"\n{processes} processes against one: updates differ by {apart:.1e} of {largest:.1e}\n"
                )
    print(
        f"\n{machine.described()}; seed {arguments.seed}; commit {machine.commit()}; "
        f"load average {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
