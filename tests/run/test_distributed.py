"""Two real processes on this machine give what one gives, and say so when they cannot meet."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
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


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Processes, here threads, that would start JAX's service."""
    came: list[int] = []
    monkeypatch.setattr("jax.distributed.initialize", lambda *given, **more: came.append(given[2]))
    return came


def _joining(hosts: Hosts, timeout: float, plan: bytes = b"plan") -> tuple[threading.Thread, list[Exception]]:
    failed: list[Exception] = []

    def run() -> None:
        try:
            join(hosts, plan, timeout)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failed


def _call_on(port: int) -> socket.socket:
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except OSError:
            time.sleep(0.02)
    raise AssertionError("nobody listens")


def _hangs_up(one: socket.socket) -> None:
    one.close()


def _resets(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    one.close()


def _is_silent(one: socket.socket) -> None:
    pass


def _begins_like_one_of_ours(one: socket.socket) -> None:
    one.sendall(b"lazaretto jo")


def _sends_rubbish(one: socket.socket) -> None:
    one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 4000)


STRAYS = (_hangs_up, _resets, _is_silent, _begins_like_one_of_ours, _sends_rubbish)


@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_connection_hinders_nobody(stray: Callable[[socket.socket], None], met: list[int]) -> None:
    port = _free_port()
    hosts = f"127.0.0.1:{port}"
    first, failed = _joining(Hosts(hosts, 3, 0), 30.0)
    second, failed_2 = _joining(Hosts(hosts, 3, 1), 30.0)
    with _call_on(port) as one:
        stray(one)
        begun = time.monotonic()
        third, failed_3 = _joining(Hosts(hosts, 3, 2), 30.0)
        for thread in (first, second, third):
            thread.join(20)
        assert time.monotonic() - begun < 4, "nobody waited for the stray one"
    assert not [*failed, *failed_2, *failed_3]
    assert sorted(met) == [0, 1, 2]


def test_more_strays_than_are_let_in_hinder_nobody(met: list[int]) -> None:
    port = _free_port()
    hosts = f"127.0.0.1:{port}"
    first, failed = _joining(Hosts(hosts, 2, 0), 30.0)
    strays = [_call_on(port) for _ in range(100)]
    second, failed_2 = _joining(Hosts(hosts, 2, 1), 30.0)
    for thread in (first, second):
        thread.join(20)
    closed = 0
    for one in strays:
        one.settimeout(5)
        with one:
            try:
                closed += one.recv(1) == b""
            except ConnectionError:
                closed += 1
    assert closed == len(strays)
    assert not [*failed, *failed_2]
    assert sorted(met) == [0, 1]


def test_who_is_missing_is_said_in_spite_of_strays(met: list[int]) -> None:
    port = _free_port()
    hosts = f"127.0.0.1:{port}"
    first, failed = _joining(Hosts(hosts, 4, 0), 6.0)
    second, failed_2 = _joining(Hosts(hosts, 4, 2), 6.0)
    with _call_on(port) as one, _call_on(port) as other:
        _sends_rubbish(one)
        first.join(20)
        second.join(20)
        other.close()
    (said,) = failed
    assert isinstance(said, InputError)
    assert "missing: 1, 3 of 0 to 3; 2 connections from somebody else, or that hung up" in str(said)
    assert len(failed_2) == 1
    assert isinstance(failed_2[0], InputError)
    assert met == []


def test_a_process_that_was_started_again_may_come_again(met: list[int]) -> None:
    port = _free_port()
    hosts = f"127.0.0.1:{port}"
    first, failed = _joining(Hosts(hosts, 3, 0), 30.0)
    ended, failed_2 = _joining(Hosts(hosts, 3, 1), 0.5)
    ended.join(20)
    assert len(failed_2) == 1, "it has waited long enough"
    again, failed_3 = _joining(Hosts(hosts, 3, 1), 30.0)
    last, failed_4 = _joining(Hosts(hosts, 3, 2), 30.0)
    for thread in (first, again, last):
        thread.join(20)
    assert not [*failed, *failed_3, *failed_4]
    assert sorted(met) == [0, 1, 2]


def test_somebody_else_at_the_address_is_no_leave_to_go(met: list[int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        thread, failed = _joining(Hosts(f"127.0.0.1:{port}", 2, 1), 5.0)
        one, _ = server.accept()
        with one:
            one.sendall(b"HTTP/1.1 400 Bad Request")
            thread.join(20)
    assert len(failed) == 1
    assert "somebody else answers" in str(failed[0])
    assert met == []
