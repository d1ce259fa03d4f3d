"""Time and bytes of a masked sum, by sites and parameters, beside one client of Flower's SecAgg+.

    python benchmarks/secagg_masked.py --sites 10 30 100 --parameters 10000 1000000
    benchmarks/peers/install PEERS
    python benchmarks/secagg_masked.py --sites 100 --parameters 1000000 --peers PEERS

Every round is played in full in this process: each site is a client with a full-length update. The time of
each party is CPU seconds of its own calls, messages made and checked, signatures included, network not; all
of it runs on one core. A third of the sites vanish before they send their vectors, which is the dearest case
for the server. A client's time is the median of all who stay. Flower's is one client's, the four stages of
its mod called one after another in its own environment, without network and without its serialisation, turns
in between ours. Both have everyone as everyone's neighbour and the same threshold. "Masking alone" is the
stage in which the vector is quantised and masked (ours with the digest that is taken at the start), without
splitting secrets, where Flower is slowest.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import machine
import numpy as np

from lazaretto.secagg.masked import prepare
from lazaretto.secagg.masked_messages import FROM_SITES
from lazaretto.secagg.masked_server import CloseStep, handle_at_server, start_server
from lazaretto.secagg.masked_settings import COORDINATOR, Masked, default_masked, from_fixed, to_fixed
from lazaretto.secagg.masked_site import handle_at_site, start_site
from lazaretto.wire import message_bytes

__all__ = ["main", "played"]


def played(settings: Masked, sites: int, d: int, seed: int, lost: int) -> dict[str, Any]:
    """Seconds and bytes of one full round; the sum is checked."""
    rng = np.random.default_rng(seed)
    names = [f"{i:04d}" for i in range(sites)]
    fresh = {name: secrets.token_bytes(32) for name in (*names, COORDINATOR)}
    setup, identities = prepare(settings, names, fresh.__getitem__, seed, d + 1)
    server = start_server(setup, identities[COORDINATOR])
    states: dict[str, Any] = {}
    inbox: dict[str, Any] = {}
    base = rng.normal(0, 1, d).astype(np.float32)
    clients: dict[str, dict[str, float]] = defaultdict(dict)
    up: dict[str, int] = defaultdict(int)
    down: dict[str, int] = defaultdict(int)
    closing: dict[str, float] = {}
    receiving = 0.0
    for step, kind in enumerate(FROM_SITES):
        for number, name in enumerate(names if step == 0 else list(inbox)):
            if kind == "masked vector" and number < lost:
                continue
            update = base + np.float32(int(name) / sites) if step == 0 else None
            begin = time.process_time()
            if step == 0:
                vector = to_fixed(update, 0.5, settings, sites)
                states[name], sent = start_site(setup, name, identities[name], fresh[name], vector)
            else:
                states[name], sent = handle_at_site(states[name], inbox[name])
            clients[name][kind] = time.process_time() - begin
            up[name] += message_bytes(sent[0])
            begin = time.process_time()
            server, _ = handle_at_server(server, sent[0])
            receiving += time.process_time() - begin
        begin = time.process_time()
        server, messages = handle_at_server(server, CloseStep())
        closing[kind] = time.process_time() - begin
        inbox = {message.receiver: message for message in messages}
        for name, message in inbox.items():
            down[name] += message_bytes(message)
    mean, _ = from_fixed(server.total, settings, sites)
    expected = base.astype(np.float64) + np.mean([int(name) / sites for name in server.arrived])
    stayed = server.arrived
    return {
        "client": {kind: float(np.median([clients[name][kind] for name in stayed])) for kind in FROM_SITES},
        "client total": [sum(clients[name].values()) for name in stayed],
        "server": receiving + sum(closing.values()),
        "unmasking": closing[FROM_SITES[-1]],
        "up": float(np.median([up[name] for name in stayed])),
        "down": float(np.median([down[name] for name in stayed])),
        "apart": float(np.abs(mean - expected).max()),
    }


def peer(folder: Path, sites: int, threshold: int, d: int) -> dict[str, Any]:
    """One turn of Flower's client, in its environment."""
    python = folder / "flower" / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"error: no {python}: run benchmarks/peers/install {folder}")
    program = Path(__file__).resolve().parent / "peers" / "flower_secagg.py"
    said = subprocess.run(  # noqa: S603
        [str(python), "-B", str(program), *map(str, (sites, threshold, d, 1))],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    answer: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return answer


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sites", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--parameters", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--turns", type=int, default=3, help="with --peers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", type=Path, help="folder made by benchmarks/peers/install")
    given = parser.parse_args()
    loads, versions = [os.getloadavg()[0]], {}
    if given.peers:
        print("| n | d | turn | ours, CPU-s | Flower's client, CPU-s | Flower's ÷ ours | masking alone |")
        print("|---|---|---|---|---|---|---|")
    else:
        print(
            "| n | d | client, CPU-s | of it masking | server, CPU-s | of it unmasking | up, MB | down, MB |"
            " apart |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
    for sites in given.sites:
        settings = default_masked(sites)
        for d in given.parameters:
            for turn in range(given.turns if given.peers else 1):
                ours = played(settings, sites, d, given.seed + turn, sites // 3)
                total = float(np.median(ours["client total"]))
                loads.append(os.getloadavg()[0])
                if given.peers:
                    said = peer(given.peers, sites, settings.threshold, d)
                    versions, theirs = said["versions"], said["turns"][0]
                    alone = theirs["masked vector"] / (
                        ours["client"]["masked vector"] + ours["client"]["mask keys"]
                    )
                    print(
                        f"| {sites} | {d:,} | {turn} | {total:.3f} | {sum(theirs.values()):.2f} |"
                        f" {sum(theirs.values()) / total:.1f} | {alone:.1f} |",
                        flush=True,
                    )
                    continue
                print(
                    f"| {sites} | {d:,} | {total:.3f} | {ours['client']['masked vector']:.3f} |"
                    f" {ours['server']:.2f} | {ours['unmasking']:.2f} | {ours['up'] / 1e6:.3f} |"
                    f" {ours['down'] / 1e6:.3f} | {ours['apart']:.0e} |",
                    flush=True,
                )
    print()
    if versions:
        print("- Flower: " + ", ".join(f"{name} {value}" for name, value in versions.items()))
    print(
        f"- {machine.described()}; seed {given.seed}; commit {machine.commit()};"
        f" load average {min(loads):.1f} to {max(loads):.1f}"
    )


if __name__ == "__main__":
    main()
