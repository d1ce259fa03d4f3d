"""Two real processes on this machine give what one gives, and say so when they cannot meet."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lazaretto.errors import InputError, PlanError
from lazaretto.run.distributed import Hosts, join

PROGRAM = """
import os, sys, jax, numpy as np
jax.config.update("jax_num_cpu_devices", 1)
from lazaretto import catalog
from lazaretto.cut import Cut
from lazaretto.errors import LazarettoError
from lazaretto.local import LocalTraining, SiteData
from lazaretto.run import distributed
from lazaretto.run.simulate import initial_vectors
from lazaretto.run.stream import compile_stream, streamed_round

port, processes, process, plan, out = sys.argv[1:]
hosts = distributed.Hosts(f"127.0.0.1:{port}", int(processes), int(process))
if hosts.processes > 1:
    try:
        distributed.join(hosts, plan.encode(), 60.0)
    except LazarettoError as error:
        print(error)
        raise SystemExit(error.exit_code)
model = catalog.build("models", "gru", {"hidden": 5})

def load(number):
    rng = np.random.default_rng(number)
    x = rng.standard_normal((1, 4, 4, 3)).astype(np.float32)
    y = rng.integers(0, 3, (1, 4, 4)).astype(np.int32)
    return SiteData(x, y, np.ones(y.shape, np.float32), np.int32(4), np.ones(4, np.float32))

stream = compile_stream(model, Cut(bits=32), LocalTraining(window=4, batch_units=2), (3, 2), sites_per_call=2)
vector, weights = initial_vectors(model, 3, 2, [0])[0], np.full(5, 0.2)
for number in range(2):
    randomness = jax.random.key(number), 0.01
    if plan == "dies" and number and process == "1":
        os._exit(7)
    if hosts.processes > 1:
        try:
            vector, loss = distributed.distributed_round(stream, vector, weights, randomness, hosts, load)
        except LazarettoError as error:
            print(error, flush=True)
            os._exit(error.exit_code)  # JAX would wait for the other's heartbeat
    else:
        vector, loss = streamed_round(stream, vector, weights, randomness, load)
np.save(out, np.append(vector, np.float32(loss)))
if hosts.processes > 1:
    distributed.leave()
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _run(folder: Path, several: list[tuple[int, int, str]]) -> list[tuple[int, str]]:
    """Start processes (number of them, which, plan) together; exit status and output of each."""
    port, started = _free_port(), []
    for processes, process, plan in several:
        out = folder / f"{processes}-{process}.npy"
        command = [sys.executable, "-c", PROGRAM, str(port), str(processes), str(process), plan, str(out)]
        started.append(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
            )
        )
    try:
        said = [process.communicate(timeout=150)[0] for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    ended = _run(tmp_path, [(1, 0, "plan"), (2, 0, "plan"), (2, 1, "plan")])
    assert [status for status, _ in ended] == [0, 0, 0], ended
    one, first, second = (np.load(tmp_path / f"{name}.npy") for name in ("1-0", "2-0", "2-1"))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, one, atol=1e-6)


def test_different_plans_are_refused_by_both(tmp_path: Path) -> None:
    ended = _run(tmp_path, [(2, 0, "plan"), (2, 1, "another")])
    assert [status for status, _ in ended] == [2, 2], ended
    assert all("were not told the same" in text for _, text in ended)


def test_a_process_that_dies_is_reported_by_the_other(tmp_path: Path) -> None:
    ended = _run(tmp_path, [(2, 0, "dies"), (2, 1, "dies")])
    assert [status for status, _ in ended] == [2, 7], ended
    assert "another process has ended during the round" in ended[0][1]


def test_a_process_that_does_not_come_is_named() -> None:
    with pytest.raises(InputError, match="missing: 1, 2 of 0 to 2"):
        join(Hosts(f"127.0.0.1:{_free_port()}", 3, 0), b"plan", 0.3)


def test_a_coordinator_that_does_not_come_is_reported() -> None:
    with pytest.raises(InputError, match="process 1 cannot meet the others"):
        join(Hosts(f"127.0.0.1:{_free_port()}", 2, 1), b"plan", 0.3)


@pytest.mark.parametrize("hosts", [Hosts("here", 2, 0), Hosts("127.0.0.1:1", 2, 2), Hosts("a:b", 1, 0)])
def test_impossible_hosts_are_refused(hosts: Hosts) -> None:
    with pytest.raises(PlanError, match="cannot work together"):
        join(hosts, b"plan")
