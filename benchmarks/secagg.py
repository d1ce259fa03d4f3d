"""What secret sharing costs: seconds of each party and bytes on each link, by n and d, beside plain Krum.

    python benchmarks/secagg.py
    python benchmarks/secagg.py --sizes 50x100000 20x10000 --columns 0 8192 --turns 5
    benchmarks/peers/install PEERS
    python benchmarks/secagg.py --sizes 20x10000 --turns 7 --peers PEERS

Updates are Gaussian, a third of them far away. In one turn plain Krum takes the float32 updates as they are,
then all parties of a round play it one after the other in one process, each with all cores, and the time
inside each is added up. "aggregator" is the one that receives most: taking shares in (tags, commitments)
apart from everything after the coordinator has closed, which is what stands beside Krum. Printed are medians
with smallest and largest. Bytes are those of the messages as they cross, envelopes and tags included. The
error of distances is that of the sketch, relative to the exact ones: median and largest over all pairs.

With --peers SPU's ABY3 does its part once in every turn: inner products, or squared distances, of the same
float32 updates, opened; no lengths are checked, nothing is weighed or summed. Three parties at once in one
process. Two scopes: from shares that the parties hold, beside what one of our aggregators does after the
close (s), and beside what all three do (CPU seconds, theirs and ours); and with the making and handing out
of shares, beside all that all our parties do in a round, one after the other. "apart" is the largest
difference from NumPy's float64, beside the largest entry.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import machine
import numpy as np
from rule_peers import UNDER_SECRECY
from secagg_peers import HEADS, WORK, SharedPeers
from secagg_peers import spread as _spread

from lazaretto.chain import rule_of
from lazaretto.gram import squared_distances
from lazaretto.keys import generator
from lazaretto.round import aggregate_once
from lazaretto.secagg import coordinator, steps
from lazaretto.secagg.deposit import share_update
from lazaretto.secagg.settings import AGGREGATORS, COORDINATOR, SharedGram, Sharing
from lazaretto.secagg.sharing import channel_keys, parties
from lazaretto.types import Gram
from lazaretto.wire import message_bytes

__all__ = ["main"]


def _updates(sites: int, parameters: int, seed: int) -> np.ndarray:
    rows = generator(seed, "updates").standard_normal((sites, parameters), np.float32)
    rows[: sites // 3] += 5.0
    return rows / np.float32(np.sqrt(parameters))


class _Turns:
    """Seconds and bytes of turns at one size."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.bytes: Counter[str] = Counter()
        self.inner: np.ndarray | None = None

    def add(self, what: str, seconds: float) -> None:
        self.seconds.setdefault(what, []).append(seconds)


def _krum(seen: SharedGram) -> np.ndarray:
    n = len(seen.names)
    rule = rule_of("krum", {})
    assert rule.gram is not None  # noqa: S101
    return rule.gram(Gram(seen.inner, np.ones(n), np.arange(n)), {}, generator(0, "rule", 0)).weights[0]


def _turn(rows: np.ndarray, agreed: Sharing, turn: int, found: _Turns) -> None:
    """One round; times and bytes are added to `found`."""
    names = [f"site-{i:03d}" for i in range(len(rows))]

    def secrets(name: str) -> bytes:
        return hashlib.sha256(f"{turn} {name}".encode()).digest()

    begin = time.perf_counter()
    made = parties(
        agreed, turn, dict(zip(names, rows, strict=True)), np.zeros((0, rows.shape[1])), _krum, secrets, None
    )
    whole = time.perf_counter() - begin
    keys = channel_keys([*names, *AGGREGATORS, COORDINATOR], secrets)
    begin = time.perf_counter()
    share_update(
        agreed, names[0], turn, rows[0], secrets(names[0]), {to: keys[names[0]][to] for to in AGGREGATORS}
    )
    found.add("site", time.perf_counter() - begin)
    nodes: dict[str, Any] = dict(zip(AGGREGATORS, made.aggregators, strict=True))
    spent: dict[str, float] = defaultdict(float)
    cores: dict[str, float] = defaultdict(float)
    found.bytes.clear()
    head, closing = coordinator.close(made.coordinator)
    waiting = [*made.messages, *closing]
    while waiting:
        message = waiting.pop(0)
        to = message.receiver
        if message.kind == "shares":
            found.bytes[f"site to {to}"] = message_bytes(message)
        else:
            found.bytes[message.link] += message_bytes(message)
        begin, begin_cores = time.perf_counter(), time.process_time()
        if to == COORDINATOR:
            head, answers = coordinator.handle(head, message)
        else:
            nodes[to], answers = steps.handle(nodes[to], message)
        part = f"{to} takes in" if message.kind == "shares" else to
        spent[part] += time.perf_counter() - begin
        cores[part] += time.process_time() - begin_cores
        waiting += answers
    assert head.sum is not None, head.refused  # noqa: S101
    assert np.isfinite(head.sum.update).all()  # noqa: S101
    found.inner = nodes[AGGREGATORS[0]].opened.inner
    for what in ("aggregator-1 takes in", "aggregator-1", COORDINATOR):
        found.add(what, spent[what])
    found.add("aggregators, CPU", sum(cores[name] for name in AGGREGATORS))
    found.add("whole round", whole + sum(spent.values()))


def _measured(
    rows: np.ndarray, columns: list[int], turns: int, peers: SharedPeers | None
) -> dict[int, _Turns]:
    rule = rule_of("krum", {})
    found = {k: _Turns() for k in columns}
    aggregate_once(rule, rows)
    for k in columns:
        _turn(rows, _agreed(k), 0, _Turns())
    if peers:
        peers.begin(rows)
    for turn in range(1, turns + 1):
        if peers and turn % 2:
            peers.turn()
        for k in columns if turn % 2 else columns[::-1]:
            begin = time.perf_counter()
            aggregate_once(rule, rows)
            found[k].add("plain Krum", time.perf_counter() - begin)
            _turn(rows, _agreed(k), turn, found[k])
        if peers and turn % 2 == 0:
            peers.turn()
    return found


def _agreed(columns: int) -> Sharing:
    return Sharing(clip=8.0, sketch_columns=columns, most_on_one=1.0)  # Krum gives one site everything


def _error(sketched: np.ndarray, rows: np.ndarray) -> str:
    """Of distances in a sketch, relative to those of the updates: median, largest."""
    exact = np.sqrt(squared_distances(rows.astype(np.float64) @ rows.T.astype(np.float64)))
    apart = np.triu(exact, 1) > 0
    error = np.abs(np.sqrt(squared_distances(sketched))[apart] / exact[apart] - 1)
    return f"{np.median(error):.1e}, {error.max():.1e}"


def _mega(count: float) -> str:
    return f"{count / 1e6:.3g}"


def _line(sites: int, parameters: int, k: int, turns: _Turns, rows: np.ndarray) -> str:
    times, size = turns.seconds, turns.bytes
    ratio = [a / b for a, b in zip(times["aggregator-1"], times["plain Krum"], strict=True)]
    up = sum(size[f"site to {name}"] for name in AGGREGATORS)
    assert turns.inner is not None  # noqa: S101
    cells = [
        f"{sites} × {parameters:,}",
        f"{k:,}" if k else "exact",
        _spread(times["plain Krum"]),
        _spread(times["aggregator-1"]),
        _spread(ratio, 1),
        _spread(times["aggregator-1 takes in"]),
        _spread(times["site"]),
        _spread(times[COORDINATOR]),
        _mega(up),
        _mega(size["aggregator-aggregator"]),
        _mega(size["aggregator-coordinator"]),
        _error(turns.inner, rows),
    ]
    return f"| {' | '.join(cells)} |"


def _tables(given: argparse.Namespace, peers: SharedPeers | None) -> None:
    print(
        "| n × d | columns | plain Krum s | aggregator s | ÷ Krum, paired | takes in s | site s "
        "| coordinator s | a site sends MB | between aggregators MB "
        "| to the coordinator MB | error of distances |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    beside, loads = [], [os.getloadavg()[0]]
    for size in given.sizes:
        sites, parameters = (int(part) for part in size.split("x"))
        rows = _updates(sites, parameters, given.seed)
        for k, turns in _measured(rows, given.columns, given.turns, peers).items():
            print(_line(sites, parameters, k, turns, rows), flush=True)
            beside += peers.lines(rows.shape, k, turns.seconds) if peers else []
        loads.append(os.getloadavg()[0])
    if peers:
        print("\n".join(["", f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|", *beside]))
        print("\n".join(["", *peers.versions()]))
    print(
        f"\n{machine.described()}; {given.turns} turns; seed {given.seed}; commit {machine.commit()}; "
        f"load average {min(loads):.1f} to {max(loads):.1f}"
    )


def main() -> None:
    """Measure and print, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["20x10000", "50x10000", "50x100000"])
    parser.add_argument("--columns", nargs="+", type=int, default=[0, 8192])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", type=Path, help="folder made by benchmarks/peers/install")
    parser.add_argument("--only", nargs="+", choices=list(UNDER_SECRECY), default=list(UNDER_SECRECY))
    parser.add_argument("--work", nargs="+", choices=WORK, default=WORK[:2], help="a peer's")
    given = parser.parse_args()
    if not given.peers:
        _tables(given, None)
        return
    with tempfile.TemporaryDirectory() as place:
        peers = SharedPeers(given.peers, Path(place), given.only, list(given.work))
        try:
            _tables(given, peers)
        finally:
            peers.stop()


if __name__ == "__main__":
    main()
