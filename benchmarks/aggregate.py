"""How long rules take for n updates of d parameters, ours and those of ByzFL and Flower, in turn.

    python benchmarks/aggregate.py
    benchmarks/peers/install PEERS
    python benchmarks/aggregate.py --peers PEERS
    python benchmarks/aggregate.py --sites 20 --parameters 100000 --rules krum "nnm | multi_krum"

Updates are Gaussian, a third of them far away. One turn of a rule is one float32 product of all updates with
all updates (NumPy's sgemm, X · Xᵀ), one reading of the matrix (its sum, by NumPy, on one core), ours, and
each peer's, so that all meet the same machine; the order of the programs changes from turn to turn. Printed
are medians with smallest and largest: seconds, times in units of the product and of the reading of the same
turn, and a peer's in units of ours. Ours is the whole round at the coordinator: finding what is not finite,
weights, suspicion, update. Peers get the matrix in the form that they like best (rows, or a tensor) before
the clock runs; "apart" is the largest difference of their answer from ours, beside the largest entry of
ours. Centred clipping has a fixed radius, √d, and begins at 0 in all programs. "G" is the inner products
alone, "G, near" those of updates that are all nearly the same, which are taken again in float64. "sgemm, own
threads" is the same product on threads as ours, each with a BLAS of one thread: beside other programs
NumPy's own takes much longer than its work, and this is the unit that holds.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import machine
import numpy as np
from rule_peers import PEERS, Peer
from threadpoolctl import threadpool_info

from lazaretto import catalog
from lazaretto.chain import rule_of
from lazaretto.compiled import by_columns, one_blas_thread
from lazaretto.gram import inner_products
from lazaretto.keys import generator
from lazaretto.round import aggregate_once

__all__ = ["main"]

_CHAINS = ("nnm | multi_krum", "clip | nnm | geometric_median")
_COMPARED = (
    "krum",
    "multi_krum",
    "geometric_median",
    "centered_clip",
    "nnm | multi_krum",
    "coordinate_median",
    "trimmed_mean",
)
_HOSTILE = 0.3


def _rules() -> list[str]:
    """Every rule that ends, and two chains."""
    return [*(name for name in catalog.names("rules") if not rule_of(name, {}).mixes), *_CHAINS]


def _radius(parameters: int) -> float:
    """To which centred clipping shortens: as long as an honest update, the same for all programs."""
    return float(np.sqrt(parameters))


def _work(rule: str, rows: np.ndarray) -> Callable[[], np.ndarray]:
    """A round of ours, with the public rows that the rule sees: last aggregate 0, as peers begin there."""
    parameters = rows.shape[1]
    made = rule_of(rule, {"radius": _radius(parameters)} if rule == "centered_clip" else {})
    rows_of = {"previous": np.zeros(parameters), "root": rows[-1].astype(np.float64)}
    public = {name: rows_of[name] for name in made.public if name in rows_of}
    return partial(aggregate_once, made, rows, **public)


def _asked(peer: str, rule: str, n: int, parameters: int) -> dict[str, Any] | None:
    """Options with which a peer does what our rule does here; None where it has no such rule.

    ByzFL counts the update itself among the neighbours of Krum, so its f is one more; its Multi-Krum keeps
    n - f, hence one less than ours. Its geometric median is left as it is, with 3 steps.
    """
    f = int(_HOSTILE * n)
    if peer == "Flower":
        known: dict[str, dict[str, Any]] = {
            "coordinate_median": {},
            "trimmed_mean": {"cut": f / n},
            "krum": {"f": f},
            "multi_krum": {"f": f, "keep": n - f},
        }
        return known.get(rule)
    known = {
        "coordinate_median": {},
        "trimmed_mean": {"f": f},
        "krum": {"f": f + 1},
        "multi_krum": {"f": f + 1},
        "nnm | multi_krum": {"f": f, "krum_f": f + 1},
        "geometric_median": {"nu": 0.1, "T": 3},
        "centered_clip": {"tau": _radius(parameters), "iterations": 3},
    }
    return known.get(rule)


def _updates(sites: int, parameters: int, seed: int) -> np.ndarray:
    rows = generator(seed, "updates").standard_normal((sites, parameters), np.float32)
    rows[: sites // 3] += 5.0
    return rows


def _product(rows: np.ndarray, copy: np.ndarray) -> np.ndarray:
    """X · Xᵀ as a general product, by columns."""

    def part(begin: int, end: int) -> np.ndarray:
        return rows[:, begin:end] @ copy[:, begin:end].T

    with one_blas_thread():
        return np.asarray(sum(by_columns(part, rows.shape[1])))


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _spread(values: list[float], digits: int = 3) -> str:
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def _ratio(above: list[float], below: list[float], digits: int = 2) -> str:
    return _spread([a / b for a, b in zip(above, below, strict=True)], digits)


class _Turns:
    """Times of one rule, turn by turn: `times[program]`; and what peers answered or refused."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self.refused: dict[str, str] = {}
        self.apart: dict[str, float] = {}


def _first(
    rule: str, ours: Any, peers: dict[str, Peer], given: argparse.Namespace, folder: Path
) -> tuple[_Turns, dict[str, Any]]:
    """Warm everyone up and compare the answers; what to ask of the peers that have the rule and answered."""
    found, asked = _Turns(), {}
    for name, peer in peers.items():
        options = _asked(name, rule, given.sites, given.parameters)
        if options is None:
            continue
        answer = peer.ask(rule=rule, options=options, save=str(folder / "answer.npy"))
        if "error" in answer:
            found.refused[name] = answer["error"]
            continue
        asked[name] = options
        found.apart[name] = float(np.abs(np.load(folder / "answer.npy") - ours).max() / np.abs(ours).max())
    return found, asked


def _answered(peer: Peer, rule: str, options: dict[str, Any]) -> float:
    return float(peer.ask(rule=rule, options=options)["seconds"])


def _measured(
    rule: str,
    work: Callable[[], Any],
    units: dict[str, Callable[[], object]],
    peers: dict[str, Peer],
    given: argparse.Namespace,
    folder: Path,
) -> _Turns:
    """Turns of one rule."""
    for unit in units.values():
        unit()
    ours = work()
    found, asked = _first(rule, ours, peers, given, folder)
    for turn in range(given.turns):
        programs: dict[str, Callable[[], float]] = {
            "one sgemm": lambda: _seconds(units["one sgemm"]),
            "one reading": lambda: _seconds(units["one reading"]),
            "ours": lambda: _seconds(work),
            **{name: partial(_answered, peers[name], rule, options) for name, options in asked.items()},
        }
        names = list(programs)
        for name in names if turn % 2 == 0 else names[::-1]:
            found.times.setdefault(name, []).append(programs[name]())
    return found


def _in_units(seconds: list[float], times: dict[str, list[float]]) -> str:
    """Three cells: seconds, in sgemms, in readings."""
    product, reading = _ratio(seconds, times["one sgemm"]), _ratio(seconds, times["one reading"], 1)
    return f"{_spread(seconds)} | {product} | {reading}"


def _lines(rule: str, found: _Turns) -> list[str]:
    """Of the table: ours, then each peer's."""
    label = f"`{rule}`" if rule.partition(" ")[0] in catalog.names("rules") else rule
    label, times = label.replace("|", "\\|"), found.times
    ours = times["ours"]
    lines = [f"| {label} | Lazaretto | {_in_units(ours, times)} | | |"]
    for name in PEERS:
        if name in times:
            lines.append(
                f"| {label} | {name} | {_in_units(times[name], times)} | {_ratio(times[name], ours, 1)} "
                f"| {found.apart[name]:.1e} |"
            )
        elif name in found.refused:
            lines.append(f"| {label} | {name} | {found.refused[name][:80]} | | | | |")
    return lines


def _kernels() -> str:
    """Which kernels NumPy's BLAS took for this machine."""
    some = [one for one in threadpool_info() if one.get("user_api") == "blas"]
    return ", ".join(
        f"{one['internal_api']} {one['version']} ({one['architecture']}, {one['num_threads']} threads)"
        for one in some
    )


def main() -> None:
    """Measure and print, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sites", type=int, default=100)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", nargs="*", help="ours; with --peers those that a peer has, else all")
    parser.add_argument("--peers", type=Path, help="folder made by benchmarks/peers/install")
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS))
    given = parser.parse_args()
    rows = _updates(given.sites, given.parameters, given.seed)
    copy = rows.copy()  # NumPy would see that X · Xᵀ is symmetric and do half of it
    units: dict[str, Callable[[], object]] = {
        "one sgemm": lambda: rows @ copy.T,
        "one reading": rows.sum,
    }
    names = given.rules or (_COMPARED if given.peers else _rules())
    near = rows[:1] + np.float32(0.01) * rows
    work: dict[str, Callable[[], Any]] = {
        "sgemm, own threads": lambda: _product(rows, copy),
        "G": lambda: inner_products(rows),
        "G, near": lambda: inner_products(near),
        **{name: _work(name, rows) for name in names},
    }
    print(f"n = {given.sites}, d = {given.parameters:,}, {given.turns} turns\n")
    print("| rule | program | s | in sgemms | in readings | s ÷ ours, paired | apart |")
    print("|---|---|---|---|---|---|---|")
    loads = [os.getloadavg()[0]]
    sgemm: list[float] = []
    reading: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        peers = {}
        try:
            if given.peers:
                np.save(folder / "updates.npy", rows)
                for i, name in enumerate(given.only):
                    peers[name] = Peer(name, given.peers, folder / f"{i}.log")
                    peers[name].ask(matrix=str(folder / "updates.npy"))
            for name, one in work.items():
                found = _measured(name, one, units, peers, given, folder)
                sgemm += found.times["one sgemm"]
                reading += found.times["one reading"]
                loads.append(os.getloadavg()[0])
                print("\n".join(_lines(name, found)), flush=True)
            print()
            for name, peer in peers.items():
                print(f"- {name}: {peer.said()}")
        finally:
            for peer in peers.values():
                peer.stop()
    rate = 2 * given.sites**2 * given.parameters / float(np.median(sgemm)) / 1e9
    speed = rows.nbytes / float(np.median(reading)) / 1e9
    print(f"- one sgemm {_spread(sgemm)} s: {rate:.0f} GFLOP/s")
    print(f"- one reading {_spread(reading)} s: {speed:.1f} GB/s")
    print(f"- {_kernels()}")
    print(
        f"- {machine.described()}; seed {given.seed}; commit {machine.commit()}; "
        f"load average {_spread(loads, 1)}"
    )


if __name__ == "__main__":
    main()
