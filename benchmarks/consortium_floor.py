"""What simple detectors reach on `consortium`, per step: python benchmarks/consortium_floor.py

Split by unit 55/15/30. Features: symlog around the median, then robust scale, both from training units.
Logistic regression and gradient boosting (200 trees, no early stop) see the last 16 steps flattened, with
mean, sd, least, greatest and last - first of each feature. The rate threshold sees the rate of the step, in
the direction that is better on training units. "Boosting and position" is a control: it is also told the
number of the step in the stream, which a recurrent model can count by itself. Printed: AUROC over test
steps, and by family (the family's steps against all normal steps).
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import os
import platform
import time
from typing import Any

import numpy as np
import sklearn
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import lazaretto
from lazaretto.data.consortium import consortium
from lazaretto.keys import generator
from lazaretto.types import Table

__all__ = ["main", "scores"]

SPAN = 16
DETECTORS = ("rate threshold", "logistic regression", "gradient boosting", "boosting and position")


def streams(
    table: Table, modality: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """x [units, L, F], label [units, L], seen [units, L] (False where the modality is missing)."""
    units = len(table.unit_names)
    x = table.x[modality].reshape(units, -1, table.x[modality].shape[-1])
    column = list(table.schema.features).index(modality)
    seen = np.repeat(table.present[:, column], table.y_step.shape[1]).reshape(units, -1)
    return x, table.y_step.reshape(units, -1), seen


def scaled(x: np.ndarray[Any, Any], train: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Symlog (x over its median size), then centred and scaled by quartiles, from the rows in `train`."""
    flat = x[train].reshape(-1, x.shape[-1])
    size = np.median(np.abs(flat), axis=0)
    size[size == 0] = 1.0
    logs = np.sign(x) * np.log1p(np.abs(x) / size)
    low, middle, high = np.percentile(logs[train].reshape(-1, x.shape[-1]), [25, 50, 75], axis=0)
    out: np.ndarray[Any, Any] = ((logs - middle) / np.maximum(high - low, 0.2)).astype(np.float32)
    return out


def windows(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[units, L, F] -> [units, L, F * (SPAN + 5)]; steps before the stream repeat its first."""
    padded = np.concatenate([np.repeat(x[:, :1], SPAN - 1, axis=1), x], axis=1)
    view = np.lib.stride_tricks.sliding_window_view(padded, SPAN, axis=1)  # [units, L, F, SPAN]
    parts = [view.mean(-1), view.std(-1), view.min(-1), view.max(-1), view[..., -1] - view[..., 0]]
    return np.concatenate([view.reshape(*x.shape[:2], -1), *parts], axis=2)


def scores(
    table: Table, seed: int, modality: str = "traffic", detectors: tuple[str, ...] = DETECTORS
) -> tuple[np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]:
    """Class [k] of each test step, and detector -> score [k] of being attacked."""
    x, label, seen = streams(table, modality)
    order = generator(seed, "consortium_floor", "split").permutation(len(x))
    train, test = order[: round(0.55 * len(x))], order[round(0.7 * len(x)) :]
    values = scaled(x, train)
    wide = windows(values)
    fit, target = wide[train][seen[train]], label[train][seen[train]] > 0
    judged = wide[test][seen[test]]
    rate = list(table.schema.features["traffic"]).index(str(table.schema.rate_feature))
    out: dict[str, np.ndarray[Any, Any]] = {}
    if "rate threshold" in detectors and modality == "traffic":
        alone = values[train][seen[train]][:, rate]
        out["rate threshold"] = (
            np.sign(roc_auc_score(target, alone) - 0.5) * values[test][seen[test]][:, rate]
        )
    if "logistic regression" in detectors:
        linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500, tol=1e-3))
        linear.fit(np.clip(fit, -8, 8), target)
        out["logistic regression"] = linear.decision_function(np.clip(judged, -8, 8))
    if "gradient boosting" in detectors:
        boosted = HistGradientBoostingClassifier(max_iter=200, early_stopping=False, random_state=0)
        out["gradient boosting"] = boosted.fit(fit, target).predict_proba(judged)[:, 1]
    if "boosting and position" in detectors:
        place = np.broadcast_to(np.arange(x.shape[1], dtype=np.float32)[None, :, None], (*label.shape, 1))
        told = np.concatenate([wide, place], axis=2)
        boosted = HistGradientBoostingClassifier(max_iter=200, early_stopping=False, random_state=0)
        boosted.fit(told[train][seen[train]], target)
        out["boosting and position"] = boosted.predict_proba(told[test][seen[test]])[:, 1]
    return label[test][seen[test]], out


def main() -> None:
    """Print one table for all seeds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--modality", choices=["traffic", "record"], default="traffic")
    parser.add_argument("--units", type=int, default=40, help="bedsides of a site, on average")
    given = parser.parse_args()
    print(f"machine: {os.cpu_count()} x {platform.processor() or platform.machine()}, {platform.system()}")
    print(
        f"python {platform.python_version()}, scikit-learn {sklearn.__version__}, "
        f"lazaretto {lazaretto.__version__}"
    )
    print(f"seeds {given.seeds}, modality {given.modality}, {given.units} bedsides a site")
    print("AUROC per step on test units\n")
    rows: dict[str, dict[str, list[float]]] = {}
    started = time.perf_counter()
    for seed in given.seeds:
        table = consortium(units_per_site=given.units).load(None, seed)
        label, found = scores(table, seed, given.modality)
        for name, score in found.items():
            rows.setdefault("all", {}).setdefault(name, []).append(float(roc_auc_score(label > 0, score)))
            for k, family in enumerate(table.schema.classes[1:], start=1):
                some = (label == 0) | (label == k)
                if (label == k).any():
                    area = float(roc_auc_score(label[some] == k, score[some]))
                    rows.setdefault(family, {}).setdefault(name, []).append(area)
    names = list(rows["all"])
    print("| family | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for family, cells in rows.items():
        text = (" / ".join(f"{value:.3f}" for value in cells.get(name, [])) for name in names)
        print(f"| {family} | " + " | ".join(text) + " |")
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
