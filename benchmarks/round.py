"""Workload W (`workload.py`): a federated round by Lazaretto and by its peers, in turn, in one sitting.

    benchmarks/peers/install PEERS
    python benchmarks/round.py --clients 16 128 1000 --pairs 5 --peers PEERS --out FILE
    python benchmarks/round.py --clients 10000 --pairs 1 --peers PEERS --out FILE
    python benchmarks/round.py --show FILE

Every program gets the same data, initial parameters and arithmetic; before anything is timed, the first
round's update is compared with ours: no parameter may differ by 1e-5 (updates reach 5e-3), beyond N = 1000
by N times 1e-8, and where a peer adds up whole parameters in float32, by what that may round by. The first
round of each, with its compilation or the start of its workers, stands apart. A pair is one round of ours
and one of the peer's, the order changing from pair to pair; while one works, the other waits. FILE holds one
JSON object a line: what is there is not measured again, so a long comparison goes on where it was stopped
(`--minutes` stops it). CPU time and memory are of all processes of a program, read from /proc (Linux only).
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np
import workload as w

__all__ = ["main"]

HERE = Path(__file__).resolve().parent
OURS = "Lazaretto"
PEERS = {  # name in the table: environment, program, arguments
    "PyTorch loop, one process": ("torch", "torch_loop.py", ()),
    "PyTorch loop, two processes": ("torch", "torch_loop.py", ("--processes", "2")),
    "FedJAX": ("fedjax", "fedjax_simulation.py", ()),
    "Flower simulation": ("flower", "flower_simulation.py", ()),
    "pfl-research": ("pfl", "pfl_simulation.py", ()),
}
_SUMS_WHOLE_MODELS = ("PyTorch loop, one process", "PyTorch loop, two processes", "Flower simulation")


class Program:
    """A process that makes a round when asked; CPU seconds and memory of its whole tree."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise SystemExit("error: no pipes")
        self._to, self._from = self._process.stdin, self._process.stdout
        self.hello = self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._from.readline()
        if not line:
            tail = Path(self._log.name).read_text(errors="replace")[-1500:]
            raise SystemExit(f"error: {self._process.args!r} ended ({self._process.wait()}):\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ask(self, what: dict[str, Any]) -> None:
        self._to.write(json.dumps(what) + "\n")
        self._to.flush()

    def round(self, save: Path | None = None) -> dict[str, float]:
        """One round: seconds, CPU seconds, peak memory so far."""
        before = machine.cpu_seconds(self._process.pid)
        self._ask({"do": "round", "save": None if save is None else str(save)})
        seconds = self._answer()["seconds"]
        cpu = machine.cpu_seconds(self._process.pid) - before
        return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": machine.peak_bytes(self._process.pid)}

    def stop(self) -> None:
        """End it, by its own leave if it can."""
        self._ask({"do": "stop"})
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(30)
        self._log.close()


def _started(name: str, peers: Path, clients: int, seed: int, log: Path) -> Program:
    common = ["--clients", str(clients), "--seed", str(seed)]
    if name == OURS:
        return Program([sys.executable, str(HERE / "ours.py"), *common], log)
    environment, program, extra = PEERS[name]
    python = peers / environment / "bin" / "python"
    return Program([str(python), str(HERE / "peers" / program), *common, *extra], log)


def _bound(name: str, clients: int) -> float:
    """How far a peer's parameters may be from ours; updates reach 5e-3.

    1e-5, beyond N = 1000 N times 1e-8. A peer that makes the mean of N whole models in float32 may at worst
    be N · 2⁻²⁴ times the largest parameter away, an eighth of an update at N = 10,000 (Higham 2002, Accuracy
    and Stability of Numerical Algorithms, section 4.2).
    """
    bound = 1e-5 * max(1.0, clients / 1000)
    if name not in _SUMS_WHOLE_MODELS or clients <= 1000:
        return bound
    largest = max(float(np.abs(value).max()) for value in w.initial(0).values())
    return max(bound, clients * 2.0**-24 * largest)


def _apart(ours: Path, theirs: Path) -> float:
    """Largest absolute difference between the parameters after a round from the same start."""
    a, b = np.load(ours), np.load(theirs)
    return max(float(np.abs(a[k].astype(np.float64) - b[k]).max()) for k in w.initial(0))


def _compare(name: str, clients: int, done: int, arguments: argparse.Namespace, until: float) -> None:
    """Pairs of ours and one peer, appended to the file."""
    seed, out = arguments.seed, arguments.out
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        programs = [
            _started(n, arguments.peers, clients, seed, place / f"{i}.log")
            for i, n in enumerate((OURS, name))
        ]
        try:
            first = [p.round(place / f"{i}.npz") for i, p in enumerate(programs)]
            apart = _apart(place / "0.npz", place / "1.npz")
            bound = _bound(name, clients)
            if not apart < bound:
                raise SystemExit(
                    f"error: the update of {name} differs from ours by {apart:.2g}, more than {bound:.2g}"
                )
            what = {"clients": clients, "peer": name, "seed": seed, "apart": apart}
            what |= {"first": first, "hello": [p.hello for p in programs], "machine": machine.described()}
            for pair in range(done, arguments.pairs):
                if time.monotonic() > until:
                    return
                order = (0, 1) if pair % 2 == 0 else (1, 0)
                rounds: dict[int, dict[str, float]] = {i: programs[i].round() for i in order}
                row = {**what, "pair": pair, "rounds": [rounds[0], rounds[1]], "peaks": machine.peaks()}
                row |= {"load": os.getloadavg()[0], "commit": machine.commit()}
                with out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(
                    f"{clients} {name}: {rounds[0]['seconds']:.3f} s, {rounds[1]['seconds']:.3f} s",
                    flush=True,
                )
        finally:
            for program in programs:
                program.stop()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _spread(values: list[float], digits: int = 2) -> str:
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def _line(name: str, some: list[dict[str, Any]], flop: float) -> str:
    own = some if name == OURS else [row for row in some if row["peer"] == name]
    if not own:
        return ""
    at = 0 if name == OURS else 1
    mine = [row["rounds"][at] for row in own]
    shares = [
        np.median([flop / row["rounds"][at]["seconds"] / row["peaks"][kind] for row in own])
        for kind in ("numpy_flop_per_second", "best_flop_per_second")
    ]
    times = [row["rounds"][1]["seconds"] / row["rounds"][0]["seconds"] for row in own]
    cpu = [row["rounds"][1]["cpu_seconds"] / row["rounds"][0]["cpu_seconds"] for row in own]
    cells = [
        f"{name} ({len(own)})",
        _spread([r["seconds"] for r in mine], 3),
        _spread([r["cpu_seconds"] for r in mine]),
        "" if at == 0 else _spread(times),
        "" if at == 0 else _spread(cpu),
        f"{np.median([row['first'][at]['seconds'] for row in own]):.1f}",
        f"{max(r['peak_bytes'] for r in mine) / 1e6:.0f}",
        f"{shares[0]:.0%}",
        f"{shares[1]:.0%}",
        "" if at == 0 else f"{max(row['apart'] for row in own):.1e}",
    ]
    return "| " + " | ".join(cells) + " |"


def _notes(some: list[dict[str, Any]], flop: float) -> list[str]:
    def rates(kind: str, scale: float) -> list[float]:
        return [row["peaks"][kind] / scale for row in some]

    products = flop / np.median(rates("best_flop_per_second", 1))
    reading = w.data_bytes() * some[0]["clients"] / np.median(rates("copy_bytes_per_second", 1))
    hellos = {OURS: some[0]["hello"][0], **{row["peer"]: row["hello"][1] for row in some}}
    said = [
        f"- {name}: {hello['ready']}; {', '.join(f'{k} {v}' for k, v in hello['versions'].items())}"
        for name, hello in hellos.items()
    ]
    plain, best = rates("numpy_flop_per_second", 1e9), rates("best_flop_per_second", 1e9)
    copying = rates("copy_bytes_per_second", 1e9)
    limits = (
        f"- sgemm on all cores, GFLOP/s: NumPy as it is {_spread(plain, 0)}, best {_spread(best, 0)}; "
        f"copying {_spread(copying, 1)} GB/s. The products alone would take {products:.3f} s, "
        f"reading the data once {reading:.4f} s: {'products bind' if products > reading else 'memory binds'}."
    )
    commits = ", ".join(sorted({row["commit"] for row in some}))
    place = (
        f"- {some[0]['machine']}; Python {platform.python_version()}; seed {some[0]['seed']}; "
        f"commit {commits}; "
        f"load average {_spread([r['load'] for r in some], 1)}"
    )
    return [*said, limits, place]


_HEAD = (
    "program (pairs)",
    "s a round",
    "CPU-s",
    "s ÷ ours, paired",
    "CPU-s ÷ ours, paired",
    "first round, s",
    "peak memory, MB",
    "share of NumPy's sgemm",
    "share of the best sgemm",
    "update apart",
)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: for each N one table, medians with smallest and largest."""
    lines: list[str] = []
    for clients in sorted({row["clients"] for row in rows}):
        flop = float(w.flop_per_window() * w.WINDOWS * clients)
        some = [row for row in rows if row["clients"] == clients]
        lines += [f"N = {clients}: {flop / 1e9:.1f} GFLOP of matrix products a round", ""]
        lines += ["| " + " | ".join(_HEAD) + " |", "|---" * len(_HEAD) + "|"]
        lines += [line for name in (OURS, *PEERS) if (line := _line(name, some, flop))]
        lines += ["", *_notes(some, flop), ""]
    return "\n".join(lines)


def main() -> None:
    """Measure what is not yet in the file, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[128])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--peers", type=Path, help="folder made by benchmarks/peers/install")
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no further pair after so many")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path, help="print the tables of this file and measure nothing")
    arguments = parser.parse_args()
    if arguments.show is None and (arguments.peers is None or arguments.out is None):
        parser.error("--peers and --out, or --show")
    if arguments.show is None:
        until = time.monotonic() + 60 * arguments.minutes
        for clients in arguments.clients:
            for name in arguments.only:
                have = [r for r in _rows(arguments.out) if (r["clients"], r["peer"]) == (clients, name)]
                if len(have) < arguments.pairs and time.monotonic() < until:
                    _compare(name, clients, len(have), arguments, until)
    print(table(_rows(arguments.show or arguments.out)))


if __name__ == "__main__":
    main()
