"""Flower's rules (`flwr.server.strategy.aggregate`), as released, for `rule_session`."""

from __future__ import annotations

from typing import Any

from flwr.server.strategy import aggregate as flower
from rule_session import serve

RULES = {
    "mean": lambda results: flower.aggregate(results)[0],
    "coordinate_median": lambda results: flower.aggregate_median(results)[0],
    "trimmed_mean": lambda results, cut: flower.aggregate_trimmed_avg(results, cut)[0],
    "krum": lambda results, f: flower.aggregate_krum(results, f, 0)[0],
    "multi_krum": lambda results, f, keep: flower.aggregate_krum(results, f, keep)[0],
}


def results(X: Any) -> list[tuple[list[Any], int]]:
    """What Flower's strategies hand over: each site's layers, here one, and its size."""
    return [([row], 1) for row in X]


if __name__ == "__main__":
    serve("Flower", ["flwr", "numpy"], RULES, results)
