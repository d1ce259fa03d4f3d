"""How long rules take for n updates of d parameters, beside one float32 product of all rows with all rows.

    python benchmarks/aggregate.py
    python benchmarks/aggregate.py --sites 20 --parameters 100000 --rules krum "nnm | multi_krum"

Updates are Gaussian, a third of them far away. In each of `--turns` the product (NumPy's sgemm, X · Xᵀ), one
reading of the matrix (its sum) and every rule take their turn, so that all meet the same machine; printed
are medians, and medians of a rule's time in units of the product and of the reading of the same turn. "G"
is the inner products alone, which every rule that sees them pays first. Peers (ByzFL, Flower) are not among
them yet.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import machine
import numpy as np

from lazaretto import catalog
from lazaretto.chain import rule_of
from lazaretto.gram import inner_products
from lazaretto.keys import generator
from lazaretto.round import aggregate_once

__all__ = ["main"]

_CHAINS = ("nnm | multi_krum", "clip | nnm | geometric_median")


def _rules() -> list[str]:
    """Every rule that ends and needs no row that only a run or a hospital has, and two chains."""
    alone = [name for name in catalog.names("rules") if not rule_of(name, {}).mixes]
    return [*(name for name in alone if not set(rule_of(name, {}).public) - {"zero"}), *_CHAINS]


def _updates(sites: int, parameters: int, seed: int) -> np.ndarray:
    rows = generator(seed, "updates").standard_normal((sites, parameters), np.float32)
    rows[: sites // 3] += 5.0
    return rows


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sites", type=int, default=100)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", nargs="*", default=None)
    given = parser.parse_args()
    rows = _updates(given.sites, given.parameters, given.seed)
    names = _rules() if given.rules is None else given.rules
    rules = {name: rule_of(name, {}) for name in names}
    copy = rows.copy()  # NumPy would see that X · Xᵀ is symmetric and do half of it
    work: dict[str, Callable[[], object]] = {
        "one sgemm": lambda: rows @ copy.T,
        "one reading": lambda: rows.sum(),
        "G": lambda: inner_products(rows),
        **{name: (lambda rule=rule: aggregate_once(rule, rows)) for name, rule in rules.items()},
    }
    taken: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(given.turns + 1):
        for name, one in work.items():
            seconds = _seconds(one)
            if turn:  # the first warms up
                taken[name].append(seconds)
    times = {name: np.array(seconds) for name, seconds in taken.items()}
    print(f"n = {given.sites}, d = {given.parameters:,}, {given.turns} turns\n")
    print("| what | s | in sgemms | in readings |\n|---|---|---|---|")
    for name, seconds in times.items():
        product, reading = (float(np.median(seconds / times[unit])) for unit in ("one sgemm", "one reading"))
        label = f"`{name}`" if name in rules else name
        shown = label.replace("|", "\\|")
        print(f"| {shown} | {np.median(seconds):.3f} | {product:.2f} | {reading:.1f} |")
    print(f"\n{machine.described()}; seed {given.seed}; commit {machine.commit()}")


if __name__ == "__main__":
    main()
