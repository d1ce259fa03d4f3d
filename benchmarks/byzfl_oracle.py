"""Our rules beside ByzFL's, in its own environment, on the same updates: where they agree and where not.

    benchmarks/peers/install PEERS
    python benchmarks/byzfl_oracle.py --peers PEERS

Each line is a rule of ours, ByzFL's counterpart with the options that mean the same, and the largest
difference of any coordinate over 24 random matrices, in units of the largest coordinate of the answer. Ends
with 1 where a line that should agree does not, or one that is known to differ has come to agree: then
docs/rules.md ("Against ByzFL") is out of date. `--golden` prints the values that tests/oracles/test_byzfl.py
holds.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import machine
import numpy as np
from rule_peers import Peer

from lazaretto.aggregate._coordinates import nearest_to_median
from lazaretto.chain import rule_of
from lazaretto.gram import inner_products
from lazaretto.keys import generator
from lazaretto.round import aggregate_once
from lazaretto.types import Gram

__all__ = ["main"]

_SAME = 2e-5  # of the largest coordinate: ByzFL computes in float32
_LINE = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)


class Line(NamedTuple):
    """ours: X, f -> [d] or [m, d]; theirs, options: what ByzFL is asked, from X and f; agrees: expected."""

    label: str
    ours: Callable[[Any, int], Any]
    theirs: str
    options: Callable[[Any, int], dict[str, Any]]
    agrees: bool


def _once(name: str, **options: Any) -> Any:
    return lambda X: aggregate_once(rule_of(name, options), X)


def _share(X: Any, f: int) -> float:
    """The option `hostile` that assumes f of n."""
    return (f + 0.5) / len(X)


def _mixed(name: str, X: Any, **options: Any) -> Any:
    """[m, d]: what a pre-aggregator makes of the updates."""
    rule, n = rule_of(name, options), len(X)
    assert rule.gram is not None  # noqa: S101  pre-aggregators see inner products
    seen = Gram(inner_products(X), np.ones(n), np.arange(n))
    return rule.gram(seen, {}, generator(0, "mixed")).weights @ X.astype(np.float64)


def _start(X: Any) -> Any:
    return (X[0] / 2).astype(np.float32)


def _radius(X: Any) -> float:
    return float(np.median(np.linalg.norm(X, axis=1)))


def _clipped(X: Any, f: int) -> Any:
    rule = rule_of("centered_clip", {"radius": _radius(X), "iterations": 3})
    return aggregate_once(rule, X, previous=_start(X))


LINES = (
    Line("`mean`", lambda X, f: _once("mean")(X), "mean", lambda X, f: {}, True),
    Line(
        "`coordinate_median`",
        lambda X, f: _once("coordinate_median")(X),
        "coordinate_median",
        lambda X, f: {},
        True,
    ),
    Line(
        "`trimmed_mean`",
        lambda X, f: _once("trimmed_mean", hostile=_share(X, f))(X),
        "trimmed_mean",
        lambda X, f: {"f": f},
        True,
    ),
    Line(
        "nearest to the median (in `bulyan`)",
        lambda X, f: nearest_to_median(X, len(X) - f),
        "near_median",
        lambda X, f: {"f": f},
        True,
    ),
    Line(
        "`krum`, ByzFL's f one more",
        lambda X, f: _once("krum", hostile=_share(X, f))(X),
        "krum",
        lambda X, f: {"f": f + 1},
        True,
    ),
    Line(
        "`krum`, the same f",
        lambda X, f: _once("krum", hostile=_share(X, f))(X),
        "krum",
        lambda X, f: {"f": f},
        False,
    ),
    Line(
        "`multi_krum` of n − f − 1, ByzFL's f one more",
        lambda X, f: _once("multi_krum", hostile=_share(X, f), keep=len(X) - f - 1)(X),
        "multi_krum",
        lambda X, f: {"f": f + 1},
        True,
    ),
    Line(
        "`geometric_median`, ByzFL's run on (T = 3000, ν = 1e-6)",
        lambda X, f: _once("geometric_median")(X),
        "geometric_median",
        lambda X, f: {"nu": 1e-6, "T": 3000},
        True,
    ),
    Line(
        "`geometric_median`, ByzFL's as it is (T = 3, ν = 0.1)",
        lambda X, f: _once("geometric_median")(X),
        "geometric_median",
        lambda X, f: {"nu": 0.1, "T": 3},
        False,
    ),
    Line(
        "`centered_clip`, fixed radius, 3 steps",
        _clipped,
        "centered_clip",
        lambda X, f: {"tau": _radius(X), "iterations": 3, "start": _start(X).tolist()},
        True,
    ),
    Line(
        "`nnm`",
        lambda X, f: _mixed("nnm", X, hostile=_share(X, f)),
        "nnm",
        lambda X, f: {"f": f},
        True,
    ),
    Line(
        "`clip` to a bound",
        lambda X, f: _mixed("clip", X, bound=_radius(X)),
        "clip",
        lambda X, f: {"c": _radius(X)},
        True,
    ),
)


def _cases() -> Iterator[tuple[Any, int]]:
    """Updates [n, d] around a direction, the first f far off; f."""
    for n, f, d in ((5, 1, 3), (9, 2, 10), (12, 3, 40), (20, 6, 400), (31, 9, 50), (40, 12, 20)):
        for seed in range(4):
            rng = generator(seed, "oracle", n)
            X = rng.standard_normal((n, d)) + rng.standard_normal(d)
            X[:f] -= rng.uniform(0.5, 4)
            yield X.astype(np.float32), f


def _apart(line: Line, X: Any, f: int, peer: Peer, folder: Path) -> float:
    answer = peer.ask(rule=line.theirs, options=line.options(X, f), save=str(folder / "found.npy"))
    if "error" in answer:
        raise SystemExit(f"error: ByzFL's {line.theirs}: {answer['error']}")
    theirs, ours = np.load(folder / "found.npy"), np.asarray(line.ours(X, f))
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def _table(peer: Peer, folder: Path) -> bool:
    """Print the lines; whether all are as expected."""
    largest = dict.fromkeys(LINES, 0.0)
    count = dict.fromkeys(LINES, 0)
    for X, f in _cases():
        np.save(folder / "updates.npy", X)
        peer.ask(matrix=str(folder / "updates.npy"))
        for line in LINES:
            apart = _apart(line, X, f, peer, folder)
            largest[line], count[line] = max(largest[line], apart), count[line] + (apart > _SAME)
    print("| ours, and ByzFL's counterpart | matrices that differ, of 24 | largest difference | expected |")
    print("|---|---|---|---|")
    fine = True
    for line in LINES:
        as_said = (count[line] == 0) == line.agrees
        fine &= as_said
        expected = ("agrees" if line.agrees else "differs") + ("" if as_said else " **(it does not)**")
        print(f"| {line.label} | {count[line]} | {largest[line]:.1e} | {expected} |")
    return fine


def _quirks(peer: Peer, folder: Path) -> bool:
    """Print what ByzFL does that a user should know; whether it still does."""
    np.save(folder / "updates.npy", _LINE)
    peer.ask(matrix=str(folder / "updates.npy"))
    median = peer.ask(rule="geometric_median", options={"nu": 0.1, "T": 3}, save=str(folder / "found.npy"))
    short = "error" not in median and not np.allclose(np.load(folder / "found.npy"), [4, 5, 6], atol=0.1)
    answer = np.load(folder / "found.npy").round(4).tolist()
    print(f"- geometric median of {_LINE.tolist()}: {answer}, not [4, 5, 6]")
    refused = peer.ask(rule="refuses a start", options={"start": [0.0, 0.0, 0.0]}, save=None)
    print(f"- CenteredClipping(m=array): {refused.get('error', 'accepted')}")
    peer.ask(rule="clip writes over", options={"c": 1.0}, save=str(folder / "found.npy"))
    over = bool(np.load(folder / "found.npy")[0])
    print(f"- Clipping changes the matrix that it is given: {'yes' if over else 'no'}")
    return short and "error" in refused and over


GOLDEN = np.array([[4, -1], [0.5, 2], [1, 1.5], [0, 2.5], [-6, 3], [1.5, 0.25], [0.75, 1]], np.float32)


def _golden(peer: Peer, folder: Path) -> None:
    """ByzFL's answers for the tests: label and values as JSON lines."""
    np.save(folder / "updates.npy", GOLDEN)
    peer.ask(matrix=str(folder / "updates.npy"))
    for line in LINES:
        if line.agrees:
            options = line.options(GOLDEN, 2)
            peer.ask(rule=line.theirs, options=options, save=str(folder / "found.npy"))
            print(json.dumps([line.theirs, options, np.load(folder / "found.npy").round(6).tolist()]))


def main() -> None:
    """Compare and print, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=Path, required=True, help="folder made by benchmarks/peers/install")
    parser.add_argument("--golden", action="store_true", help="print values for the tests instead")
    given = parser.parse_args()
    fine = True
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("ByzFL, NumPy",) if given.golden else ("ByzFL, NumPy", "ByzFL, PyTorch"):
            peer = Peer(name, given.peers, folder / "log")
            try:
                if given.golden:
                    print(f"# {peer.said()}")
                    _golden(peer, folder)
                    continue
                print(f"{peer.said()}:\n")
                fine &= _table(peer, folder)
                print()
                fine &= _quirks(peer, folder)
                print()
            finally:
                peer.stop()
    print(f"seeds 0 to 3; commit {machine.commit()}")
    if not fine:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
