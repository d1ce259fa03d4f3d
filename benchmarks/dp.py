"""A private round of workload W (`workload.py`), DP-SGD by window: Lazaretto and its peers, in turn.

    benchmarks/peers/install PEERS
    python benchmarks/dp.py --pairs 5 --peers PEERS --out FILE
    python benchmarks/dp.py --show FILE

Every program gets the same data, initial parameters and arithmetic, and samples and noise as it makes them
itself. Before anything is timed, a round with the same samples and no noise is compared with ours: no
parameter may differ by 1e-5. Two rows are Lazaretto without privacy, plain batches of 32: streamed
(`ours.py`) and in memory as the private round is. A pair is one round of the private program and one of the
other, the order changing from pair to pair; while one works, the other waits. FILE holds one JSON object a
line: what is there is not measured again. CPU time is of all processes of a program, read from /proc (Linux
only).
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
import numpy as np
import workload as w
from round import Program

__all__ = ["main", "table"]

HERE = Path(__file__).resolve().parent
PEERS = {  # name in the table: environment ("" for ours), program, arguments
    "Lazaretto without privacy, streamed": ("", "ours.py", ()),
    "Lazaretto without privacy, in memory": ("", "ours_private.py", ("--plain",)),
    "jax-privacy": ("jax_privacy", "peers/jax_privacy_private.py", ()),
    "torch.func.vmap, compiled": ("torch", "peers/vmap_private.py", ()),
    "Opacus": ("opacus", "peers/opacus_private.py", ()),
}
_UNLIKE = ("Lazaretto without privacy, streamed", "Lazaretto without privacy, in memory")


def _started(name: str, peers: Path, clients: int, seed: int, log: Path) -> Program:
    environment, program, extra = PEERS.get(name, ("", "ours_private.py", ()))
    python = str(peers / environment / "bin" / "python") if environment else sys.executable
    return Program([python, str(HERE / program), "--clients", str(clients), "--seed", str(seed), *extra], log)


def _apart(ours: Path, theirs: Path) -> float:
    a, b = np.load(ours), np.load(theirs)
    return max(float(np.abs(a[k].astype(np.float64) - b[k]).max()) for k in w.initial(0))


def _compare(name: str, done: int, arguments: argparse.Namespace) -> None:
    """Pairs of ours and one other, appended to the file."""
    seed, clients = arguments.seed, arguments.clients
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        programs = [
            _started(n, arguments.peers, clients, seed, place / f"{i}.log") for i, n in enumerate(("", name))
        ]
        try:
            first = [p.round(place / f"{i}.npz") for i, p in enumerate(programs)]
            apart = None if name in _UNLIKE else _apart(place / "0.npz", place / "1.npz")
            if apart is not None and not apart < 1e-5:
                raise SystemExit(f"error: the update of {name} differs from ours by {apart:.2g}")
            for program in programs:  # what else is compiled once, with noise and another size of a batch
                for _ in range(arguments.warm):
                    program.round()
            what = {"clients": clients, "peer": name, "seed": seed, "apart": apart, "first": first}
            what |= {"hello": [p.hello for p in programs], "machine": machine.described()}
            for pair in range(done, arguments.pairs):
                order = (0, 1) if pair % 2 == 0 else (1, 0)
                rounds: dict[int, dict[str, float]] = {i: programs[i].round() for i in order}
                row = {**what, "pair": pair, "rounds": [rounds[0], rounds[1]]}
                row |= {"load": os.getloadavg()[0], "commit": machine.commit()}
                with arguments.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                said = " and ".join(f"{rounds[i]['cpu_seconds']:.2f}" for i in (0, 1))
                print(f"{name}: {said} CPU-s", flush=True)
        finally:
            for program in programs:
                program.stop()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _spread(values: list[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def _line(name: str, own: list[dict[str, Any]], at: int) -> str:
    mine = [row["rounds"][at] for row in own]
    ratios = [row["rounds"][1]["cpu_seconds"] / row["rounds"][0]["cpu_seconds"] for row in own]
    apart = [row["apart"] for row in own if row["apart"] is not None]
    cells = [
        f"{name} ({len(own)})",
        _spread([r["cpu_seconds"] for r in mine]),
        _spread([r["seconds"] for r in mine]),
        _spread(ratios) if at else "",
        f"{max(r['peak_bytes'] for r in mine) / 1e6:.0f}",
        f"{max(apart):.1e}" if at and apart else "",
    ]
    return "| " + " | ".join(cells) + " |"


_HEAD = (
    "program (pairs)",
    "CPU-s a round",
    "s a round",
    "CPU-s ÷ ours, paired",
    "peak memory, MB",
    "update apart",
)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: medians with smallest and largest, what ran, and where."""
    lines = ["| " + " | ".join(_HEAD) + " |", "|---" * len(_HEAD) + "|", _line("Lazaretto, private", rows, 0)]
    said = {"Lazaretto, private": rows[0]["hello"][0]}
    for name in PEERS:
        if own := [row for row in rows if row["peer"] == name]:
            lines.append(_line(name, own, 1))
            said[name] = own[0]["hello"][1]
    lines.append("")
    for name, hello in said.items():
        versions = ", ".join(f"{k} {v}" for k, v in hello["versions"].items())
        lines.append(f"- {name}: {hello['ready']}; {versions}")
    lines.append(
        f"- N = {rows[0]['clients']}; {rows[0]['machine']}; Python {platform.python_version()}; seeds "
        f"{', '.join(sorted({str(row['seed']) for row in rows}))}; commit "
        f"{', '.join(sorted({row['commit'] for row in rows}))}; "
        f"load average {_spread([r['load'] for r in rows])}"
    )
    return "\n".join(lines)


def main() -> None:
    """Measure what is not yet in the file, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--warm", type=int, default=1, help="rounds of each program before the pairs")
    parser.add_argument("--peers", type=Path, help="folder made by benchmarks/peers/install")
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path, help="print the table of this file and measure nothing")
    arguments = parser.parse_args()
    if arguments.show is None:
        if arguments.peers is None or arguments.out is None:
            parser.error("--peers and --out, or --show")
        for name in arguments.only:
            have = [row for row in _rows(arguments.out) if row["peer"] == name]
            if len(have) < arguments.pairs:
                _compare(name, len(have), arguments)
    print(table(_rows(arguments.show or arguments.out)))


if __name__ == "__main__":
    main()
