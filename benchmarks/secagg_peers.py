"""SPU beside our sharing in `secagg.py`: asked once in every turn, set against our figures of that turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rule_peers import UNDER_SECRECY, Peer

from lazaretto.gram import squared_distances

__all__ = ["HEADS", "WORK", "SharedPeers", "spread"]

WORK = ("inner products", "distances", "by differences")
HEADS = (
    "n × d",
    "ours, columns",
    "program",
    "work",
    "s",
    "÷ our aggregator, paired",
    "CPU-s",
    "÷ our three aggregators, paired",
    "s with sharing",
    "÷ our whole round, paired",
    "apart",
)


def spread(values: list[float], digits: int = 3) -> str:
    """Median (smallest–largest)."""
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def _ratio(above: list[float], below: list[float]) -> str:
    return spread([a / b for a, b in zip(above, below, strict=True)], 1)


class SharedPeers:
    """The peers at work on one matrix; `turn` asks all of them, and what they said is kept."""

    def __init__(self, folder: Path, place: Path, only: list[str], work: list[str]) -> None:
        self._place, self._work = place, work
        self._peers = {
            name: Peer(name, folder, place / f"{i}.log")
            for i, name in enumerate(UNDER_SECRECY)
            if name in only
        }
        self._said: dict[tuple[str, str], dict[str, list[float]]] = {}
        self._apart: dict[tuple[str, str], float] = {}

    def begin(self, rows: np.ndarray) -> None:
        """New updates: everyone loads and compiles, and the answers are compared with NumPy's."""
        np.save(self._place / "updates.npy", rows)
        inner = rows.astype(np.float64) @ rows.T.astype(np.float64)
        for name, peer in self._peers.items():
            peer.ask(matrix=str(self._place / "updates.npy"))
            for work in self._work:
                file = self._place / "answer.npy"
                answer = peer.ask(rule=work, options={"sharing": False}, save=str(file))
                if "error" in answer:
                    raise SystemExit(f"error: {name}, {work}: {answer['error']}")
                exact = inner if work == "inner products" else squared_distances(inner)
                self._said[name, work] = {"s": [], "CPU-s": [], "s with sharing": []}
                self._apart[name, work] = float(np.abs(np.load(file) - exact).max() / exact.max())

    def turn(self) -> None:
        """Everything once, without and with the making of shares."""
        for (name, work), said in self._said.items():
            answer = self._peers[name].ask(rule=work, options={"sharing": False})
            said["s"].append(answer["seconds"])
            said["CPU-s"].append(answer["cpu_seconds"])
            answer = self._peers[name].ask(rule=work, options={"sharing": True})
            said["s with sharing"].append(answer["seconds"])

    def lines(self, shape: tuple[int, int], columns: int, ours: dict[str, list[float]]) -> list[str]:
        """Of the table, beside our seconds at so many columns."""
        lines = []
        for (name, work), said in self._said.items():
            cells = [
                f"{shape[0]} × {shape[1]:,}",
                f"{columns:,}" if columns else "exact",
                name,
                work,
                spread(said["s"]),
                _ratio(said["s"], ours["aggregator-1"]),
                spread(said["CPU-s"]),
                _ratio(said["CPU-s"], ours["aggregators, CPU"]),
                spread(said["s with sharing"]),
                _ratio(said["s with sharing"], ours["whole round"]),
                f"{self._apart[name, work]:.1e}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return lines

    def versions(self) -> list[str]:
        """What ran."""
        return [f"- {name}: {peer.said()}" for name, peer in self._peers.items()]

    def stop(self) -> None:
        """End all."""
        for peer in self._peers.values():
            peer.stop()
