"""What simple detectors reach on forged records: python benchmarks/tampering_floor.py PHYSIONET2012

For each kind of tampering the AUROC of its steps against all normal steps, on validation units (or, with
--split test, on test units). Detectors: gradient boosting on pooled data, as `lazaretto.evaluate.baselines`
has it (scaled and laid out as a model reads it, the last 8 steps); a rule that a reader can do by hand, how
far the last known vital signs lie from the middle of their usual ranges, in quarters of the range, on
average; and, as a control, the number of the step.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.metrics import roc_auc_score

import lazaretto
from lazaretto.data.irregular import lay_out
from lazaretto.data.physionet2012 import physionet2012
from lazaretto.data.sites import partition
from lazaretto.data.splits import assign_splits
from lazaretto.data.streams import select, streams
from lazaretto.data.tampering import FEEDS, KINDS, MONITOR, Series
from lazaretto.evaluate.baselines import gradient_boosting
from lazaretto.keys import generator
from lazaretto.run.post import Post
from lazaretto.run.prepare import rescaled
from lazaretto.types import TEST, TRAIN, VALIDATION

__all__ = ["far_from_usual", "main", "scores"]

SPAN = 8
DETECTORS = ("far from usual", "gradient boosting", "step number")


def far_from_usual(x: np.ndarray[Any, Any], names: tuple[str, ...]) -> np.ndarray[Any, Any]:
    """[u, L] the rule, from series [u, L, V] as measured, NaN where not; 0 before anything is known."""
    bounds, count = Series.of(names), x.shape[2]
    laid, _ = lay_out(x, np.ones(x.shape[:2], bool), 1.0)
    known = np.maximum.accumulate(laid[..., count : 2 * count], axis=1) > 0
    away = np.abs(laid[..., :count] - (bounds.low + bounds.high) / 2) / bounds.spread
    vital = np.isin(names, [name for feed in MONITOR for name in FEEDS[feed]])
    told = known & vital
    mean: np.ndarray[Any, Any] = np.where(told, away, 0).sum(axis=2) / np.maximum(told.sum(axis=2), 1)
    return mean


def scores(
    path: Path, seed: int, split: int, detectors: tuple[str, ...] = DETECTORS
) -> tuple[np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]:
    """Class [k] of each step of the split, and detector -> score [k] of being tampered with."""
    table = assign_splits(physionet2012().load(path, seed))
    data = streams(table, "record")
    parts = partition(data, table.site_names, table.schema.classes, generator(seed, "sites"))
    _, laid = rescaled(data, parts, Post())
    train, judged = select(laid, laid.split == TRAIN), select(laid, laid.split == split)
    found: dict[str, np.ndarray[Any, Any]] = {}
    if "far from usual" in detectors:
        found["far from usual"] = far_from_usual(data.x[data.split == split], data.features)
    if "gradient boosting" in detectors:
        given = {"judged": (judged.x, judged.valid)}
        boosted = gradient_boosting(train.x, train.y, train.valid, given, window_steps=SPAN, seed=seed)
        found["gradient boosting"] = boosted["judged"]
    if "step number" in detectors:
        found["step number"] = np.broadcast_to(np.arange(judged.y.shape[1]), judged.y.shape)
    return judged.y[judged.valid], {name: score[judged.valid] for name, score in found.items()}


def main() -> None:
    """Print one table for all seeds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=DETECTORS)
    given = parser.parse_args()
    print(f"machine: {os.cpu_count()} x {platform.machine()}, {platform.system()}")
    print(
        f"python {platform.python_version()}, scikit-learn {sklearn.__version__}, "
        f"lazaretto {lazaretto.__version__}"
    )
    print(f"seeds {given.seeds}, AUROC per step on {given.split} units\n")
    rows: dict[str, dict[str, list[float]]] = {}
    started = time.perf_counter()
    for seed in given.seeds:
        split = VALIDATION if given.split == "validation" else TEST
        label, found = scores(given.path, seed, split, tuple(given.detectors))
        for name, score in found.items():
            for kind, some in [
                ("all", label >= 0),
                *((k, (label == 0) | (label == 1 + i)) for i, k in enumerate(KINDS)),
            ]:
                area = float(roc_auc_score(label[some] > 0, score[some]))
                rows.setdefault(kind, {}).setdefault(name, []).append(area)
    print("| kind | " + " | ".join(given.detectors) + " |\n|---|" + "---|" * len(given.detectors))
    for kind, cells in rows.items():
        text = (" / ".join(f"{value:.3f}" for value in cells[name]) for name in given.detectors)
        print(f"| {kind} | " + " | ".join(text) + " |")
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
