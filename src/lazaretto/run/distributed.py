"""One round over several processes or machines of one institution, by `jax.distributed`.

Each process trains its share of the sites and only sums are exchanged. Nothing here is authenticated or
encrypted (nor is `jax.distributed`): use it inside one trusted network, never between hospitals.
"""

from __future__ import annotations

import hashlib
import selectors
import socket
import struct
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import multihost_utils
from numpy.typing import NDArray

from lazaretto.errors import InputError, PlanError
from lazaretto.local import SiteData
from lazaretto.run.stream import Stream, Totals, add_sites, apply_totals
from lazaretto.types import Array, Float

__all__ = ["Hosts", "distributed_round", "join", "leave"]

_NAME = b"lazaretto join 1"  # who does not begin so is no process of ours
_CALL = struct.Struct(f"!{len(_NAME)}sI32s")  # that, who is there, SHA-256 of what it was told to run
_GO, _OTHER_PLAN, _OTHER_NUMBER = b"g", b"p", b"n"
_HEARTBEAT_SECONDS = 20
_PATIENCE_SECONDS = 5.0  # for a call to arrive whole
_MOST_AT_ONCE = 64  # connections that have not told all; beyond, the oldest goes


@dataclass(frozen=True, slots=True)
class Hosts:
    """coordinator: "address:port" that every process can reach, served by process 0.
    processes: how many, >= 1. process: which one this is, from 0.
    """

    coordinator: str
    processes: int
    process: int


def join(hosts: Hosts, plan: bytes, timeout_seconds: float = 60.0) -> None:
    """Wait until every process has come with the same plan, then start JAX's service.

    Once, before any computation. Connections of others, who hang up, are silent or say something else,
    are closed and hinder nobody; a process that was ended and started again may come a second time.

    plan: whatever decides the result (the plan's bytes, seed, initial vector); processes compare its
    digest. Raises PlanError where the plans or the numbers of processes differ, InputError where a process is
    missing after `timeout_seconds` or the address cannot be used. JAX itself would end the program then.
    """
    address, _, port = hosts.coordinator.rpartition(":")
    if not (address and port.isdigit() and 0 <= hosts.process < hosts.processes):
        raise PlanError(
            "these hosts cannot work together",
            found=hosts,
            way_out="coordinator ADDRESS:PORT, and process from 0 to processes - 1",
        )
    digest = hashlib.sha256(struct.pack("!I", hosts.processes) + plan).digest()
    until = time.monotonic() + timeout_seconds
    place = (address, int(port))
    try:
        if hosts.process == 0:
            _gather(place, hosts, digest, until)
        else:
            _report(place, hosts, digest, until)
    except OSError as error:
        raise InputError(
            f"process {hosts.process} cannot meet the others at {hosts.coordinator}",
            found=error.strerror or "no answer in time",
            way_out="start all processes with one coordinator, a free port, and a longer timeout if need be",
        ) from error
    jax.distributed.initialize(
        hosts.coordinator,
        hosts.processes,
        hosts.process,
        initialization_timeout=max(int(timeout_seconds), 1),
        heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
    )


def leave() -> None:
    """Part from the other processes; waits for them."""
    jax.distributed.shutdown()


def _gather(place: tuple[str, int], hosts: Hosts, digest: bytes, until: float) -> None:
    """Process 0: hear every other process once, then answer all alike. Nobody waits for who is silent."""
    waiting: dict[int, socket.socket] = {}
    heard: dict[socket.socket, tuple[bytes, float]] = {}  # so far, until when; who came first is first
    answer, strangers, told = _GO, 0, list[socket.socket]()
    with socket.create_server(place) as server, selectors.DefaultSelector() as events:
        server.setblocking(False)
        events.register(server, selectors.EVENT_READ)
        try:
            while len(waiting) < hosts.processes - 1 and answer == _GO:
                now = time.monotonic()
                if now >= until:
                    raise _missing(hosts, waiting, strangers + len(heard))
                silent = [one for one, (_, patience) in heard.items() if patience <= now]
                for late in silent or list(heard)[: max(len(heard) - _MOST_AT_ONCE, 0)]:
                    strangers += _dismiss(late, heard, events)
                soonest = min([until, *(patience for _, patience in heard.values())])
                for key, _ in events.select(max(soonest - now, 0.0)):
                    one = key.fileobj
                    assert isinstance(one, socket.socket)  # noqa: S101  nothing else is registered
                    if one is server:
                        _open(server, heard, events)
                        continue
                    call = _call(one, heard)
                    if call is None:
                        waiting = {number: other for number, other in waiting.items() if other is not one}
                        strangers += _dismiss(one, heard, events)
                    elif call:
                        _, number, theirs = _CALL.unpack(call)
                        if theirs != digest:
                            answer = _OTHER_PLAN
                        elif number in waiting or not 0 < number < hosts.processes:
                            answer = _OTHER_NUMBER
                        told.append(one)
                        waiting.setdefault(number, one)
            gone = {number for number, each in waiting.items() if not _answered(each, answer)}
            for other in told:
                if other not in waiting.values():
                    _answered(other, answer)
        finally:
            for each in {*heard, *told, *waiting.values()}:
                each.close()
    _refuse(answer)
    if gone:
        raise _missing(hosts, waiting.keys() - gone, strangers)


def _open(
    server: socket.socket,
    heard: dict[socket.socket, tuple[bytes, float]],
    events: selectors.BaseSelector,
) -> None:
    try:
        one, _ = server.accept()
    except (BlockingIOError, ConnectionAbortedError):  # it hung up before it was let in
        return
    one.setblocking(False)
    heard[one] = b"", time.monotonic() + _PATIENCE_SECONDS
    events.register(one, selectors.EVENT_READ)


def _dismiss(
    one: socket.socket, heard: dict[socket.socket, tuple[bytes, float]], events: selectors.BaseSelector
) -> int:
    """Close a connection that is nobody's; how many that makes."""
    heard.pop(one, None)
    events.unregister(one)
    one.close()
    return 1


def _call(one: socket.socket, heard: dict[socket.socket, tuple[bytes, float]]) -> bytes | None:
    """Read on: the call once it is whole, b"" before; None from who is no process of ours, or no longer."""
    so_far, patience = heard.get(one, (None, 0.0))
    try:
        part = one.recv(1 if so_far is None else _CALL.size - len(so_far))
    except BlockingIOError:
        return b""
    except OSError:
        return None
    if so_far is None or not part:  # it waits for an answer, and hangs up or speaks out of turn
        return None
    so_far += part
    if not so_far.startswith(_NAME[: len(so_far)]):
        return None
    if len(so_far) < _CALL.size:
        heard[one] = so_far, patience
        return b""
    del heard[one]
    return so_far


def _answered(connection: socket.socket, answer: bytes) -> bool:
    try:
        connection.settimeout(1.0)
        connection.sendall(answer)
    except OSError:
        return False
    return True


def _missing(hosts: Hosts, there: Collection[int], strangers: int) -> InputError:
    numbers = ", ".join(map(str, sorted(set(range(1, hosts.processes)) - set(there))))
    calls = "connection" if strangers == 1 else "connections"
    others = f"; {strangers} {calls} from somebody else, or that hung up" if strangers else ""
    return InputError(
        f"not every process has come to {hosts.coordinator}",
        found=f"missing: {numbers} of 0 to {hosts.processes - 1}{others}",
        way_out="start them all, each with its own number, or wait longer (timeout_seconds)",
    )


def _report(place: tuple[str, int], hosts: Hosts, digest: bytes, until: float) -> None:
    """Another process: knock until process 0 opens, say who is there, wait for its answer."""
    while True:
        left = max(until - time.monotonic(), 0.01)
        try:
            connection = socket.create_connection(place, timeout=left)
            break
        except OSError:
            if time.monotonic() + 0.1 > until:
                raise
            time.sleep(0.1)
    with connection:
        connection.settimeout(max(until - time.monotonic(), 0.01))
        connection.sendall(_CALL.pack(_NAME, hosts.process, digest))
        _refuse(_exactly(connection, 1))


def _exactly(connection: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        part = connection.recv(count - len(got))
        if not part:
            raise ConnectionError(0, "the other side hung up")
        got += part
    return got


def _refuse(answer: bytes) -> None:
    if answer == _GO:
        return
    if answer == _OTHER_PLAN:
        raise PlanError(
            "the processes were not told the same",
            found="another plan, seed or number of processes",
            way_out="start all of them with the same plan and the same number of processes",
        )
    if answer == _OTHER_NUMBER:
        raise PlanError("two processes have one number", way_out="number them from 0 without gaps")
    raise InputError(
        "at the coordinator's address somebody else answers",
        found=answer,
        way_out="a port that no other program uses",
    )


def distributed_round(
    stream: Stream,
    vector: Float,
    weights: NDArray[np.float64],
    randomness: tuple[Array, float],
    hosts: Hosts,
    load: Callable[[int], SiteData] | None = None,
) -> tuple[Float, float]:
    """`streamed_round` over all processes: (new vector [d], mean loss), the same in each of them to the bit.

    Process p of P trains the sites p, p + P, p + 2P ...; sums are added in the order of the processes in
    float64, so the result is that of one process to rounding. Raises InputError when another process has
    ended, and what `add_sites` and `apply_totals` raise.
    """
    numbers = np.arange(hosts.process, len(weights), hosts.processes)
    own = add_sites(stream, vector, (numbers, weights[numbers]), randomness, load)
    high = own.update.astype(np.float32)
    low = (own.update - high).astype(np.float32)  # JAX sends float32; both parts keep the sum's precision
    rest = np.array([own.loss, 0], np.float32), np.array([own.sites, own.bad], np.int32)
    try:
        highs, lows, losses, counts = multihost_utils.process_allgather((high, low, *rest))
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # a lost connection comes as either
        if isinstance(error, ValueError) and "gloo" not in str(error).lower():
            raise
        raise InputError(
            "another process has ended during the round",
            found=str(error).partition("\n")[0],
            way_out="see what it said, and start all processes again",
        ) from error
    parts = [np.asarray(v).reshape(hosts.processes, -1) for v in (highs, lows, losses, counts)]
    update = (parts[0].astype(np.float64) + parts[1]).sum(axis=0)
    loss, sites, bad = float(parts[2][:, 0].sum()), int(parts[3][:, 0].sum()), int(parts[3][:, 1].min())
    return apply_totals(vector, Totals(update, loss, sites, bad))
