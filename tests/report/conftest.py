"""A fabricated run log: shaped like a run of `consortium`, every number invented from a fixed seed.

It stands for no result. Tests of the report need a complete log within milliseconds; the end-to-end
test of the project renders a real one.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lazaretto.keys import generator
from lazaretto.report.page import render
from lazaretto.types import Record

Entry = tuple[str, dict[str, Any]]
FAMILIES = (
    "scan",
    "brute_force",
    "flood",
    "slow_exfiltration",
    "man_in_the_middle",
    "ransomware_spread",
    "insider_browsing",
    "record_tampering",
    "sensor_spoofing",
)
SITES = (
    "St. Anne",
    "Harbour",
    "Nordstadt",
    "Hill clinic",
    "University",
    "Children's",
    "Riverside",
    "Lakeside",
)
SKILL = {
    "ours": 0.957,
    "unsplit": 0.958,
    "local": 0.894,
    "pooled": 0.960,
    "gradient_boosting": 0.938,
    "logistic_regression": 0.861,
    "gru": 0.941,
    "cnn": 0.926,
    "autoencoder": 0.803,
}
PLAN = """\
[run]
name = "consortium"
seeds = [0, 1]
setting = "traffic"
headline_seeds = 5

[data]
source = "consortium"
modality = "traffic"

[sites]
by = "natural"
withhold_families = 1
devices = 2

[model]
name = "conv_gru"

[cut]
enabled = true
bits = 8

[train]
rounds = 40
local_epochs = 1
batch_units = 8
learning_rate = 0.003

[aggregate]
rule = "mean"

[evaluate]
false_positive_rate = 0.01
bootstrap = 1000
"""


def triple(value: float, half: float, low: float = 0.0, high: float = 1.0) -> dict[str, float]:
    """A value with an interval, cut to [low, high]."""
    return {
        "value": round(min(max(value, low), high), 6),
        "low": round(min(max(value - half, low), high), 6),
        "high": round(min(max(value + 0.8 * half, low), high), 6),
    }


def chain(entries: list[Entry]) -> list[Record]:
    """Records with sequence numbers and digests (of the text of the body: enough for a footer)."""
    records, previous = [], bytes(32)
    for sequence, (kind, body) in enumerate(entries, 1):
        digest = hashlib.sha256(previous + kind.encode() + repr(body).encode("utf-8", "replace")).digest()
        records.append(Record(sequence, kind, body, previous, digest))
        previous = digest
    return records


def system_metrics(name: str) -> dict[str, Any]:
    """All metrics of one system; better where its AUROC is."""
    auroc, rng = SKILL[name], generator(7, "report", name)
    gap = 1 - auroc
    hardness = {family: 0.6 + 0.9 * rng.random() for family in FAMILIES}
    body: dict[str, Any] = {
        "auroc": triple(auroc, 0.011),
        "auprc": triple(auroc - 0.031 - gap * 0.4, 0.017),
        "f1": triple(0.97 - gap * 2.4, 0.019),
        "accuracy": triple(0.985 - gap * 0.8, 0.008),
        "recall": triple(1 - gap * 5.1, 0.028),
        "false_positive_rate": triple(0.0104 + gap * 0.01, 0.0021),
        "calibration_error": triple(0.012 + gap * 0.2, 0.004),
        "latency_steps": triple(4.1 + gap * 60, 0.8, high=1e9),
        "false_alarms_per_device_day": triple(1.4 + gap * 40, 0.6, high=1e9),
        "recall_by_class": {
            f: triple(1 - 5 * gap * hardness[f], 0.05 + 0.04 * hardness[f]) for f in FAMILIES
        },
        "unseen_at_site": {"recall": triple(1 - gap * (9.2 if name == "local" else 6.4), 0.046)},
    }
    body["operating_points"] = {
        "false_positive_rate_0.001": {
            "recall": triple(1 - gap * 8.1, 0.031),
            "false_positive_rate": triple(0.0012, 0.0004),
            "latency_steps": triple(6.3 + gap * 70, 1.1, high=1e9),
        },
        "one_alarm_per_device_day": {
            "recall": triple(1 - gap * 6.7, 0.03),
            "false_alarms_per_device_day": triple(1.1, 0.4, high=1e9),
        },
    }
    # out of order, as a log keeps its maps by their keys
    body["recall_by_intensity"] = {
        name: triple(1 - 5 * gap * weak, 0.04)
        for name, weak in ((">=0.25", 0.4), ("<0.02", 1.9), ("0.02-0.05", 1.4), ("0.05-0.25", 0.9))
    }
    body["calibration_error_before"] = triple(0.06 + gap, 0.01)
    if name not in ("unsplit", "logistic_regression"):
        body["leave_one_family_out"] = {
            f: {
                "auroc": triple(auroc - 0.07 * hardness[f], 0.03),
                "recall": triple(1 - 8 * gap * hardness[f], 0.06),
                "recall_by_intensity": body["recall_by_intensity"],
            }
            for f in FAMILIES
        }
        body["leave_one_family_out_mean"] = {
            "auroc": triple(auroc - 0.07 * 1.05, 0.016),
            "recall": triple(1 - 8 * gap, 0.03),
        }
    if name in ("ours", "pooled", "gru"):
        body["leave_one_site_out"] = {
            site: {"auroc": triple(auroc - 0.01 * place, 0.02)} for place, site in enumerate(SITES)
        }
        body["leave_one_site_out_mean"] = {
            "auroc": triple(auroc - 0.035, 0.01),
            "recall": triple(1 - gap * 6, 0.03),
            "taking_part": {"auroc": {"value": 0.021, "low": 0.008, "high": 0.033}},
        }
    if name == "autoencoder":
        body["calibration_error"] = None
    return body


def metrics() -> dict[str, Any]:
    """The whole of metrics.json."""
    return {
        "schema": "lazaretto/1",
        "test": {"traffic": system_metrics("ours")},
        "baselines": {name: {"traffic": system_metrics(name)} for name in SKILL if name != "ours"},
        "paired_difference": {
            "pooled": {"auroc": {"value": -0.0027, "low": -0.0061, "high": 0.0008}},
            "gru": {"auroc": {"value": 0.0161, "low": 0.0094, "high": 0.0231}},
        },
        "margin_over_best_deep": {
            "auroc": {"value": 0.0161, "low": 0.0094, "high": 0.0231, "baseline": "gru"},
            "auprc": {"value": 0.0224, "low": 0.0102, "high": 0.0347, "baseline": "gru"},
            "f1": {"value": 0.0384, "low": 0.0204, "high": 0.0561, "baseline": "gru"},
            "accuracy": {"value": 0.0128, "low": -0.0011, "high": 0.0263, "baseline": "gru"},
        },
        "comparison": [
            _comparison(
                "as good as pooled", "auroc", "pooled", (-0.0027, -0.0061, 0.0008), ">= -0.005", True
            ),
            _comparison(
                "families a site never had",
                "unseen_at_site.recall",
                "local",
                (0.162, 0.118, 0.204),
                ">= 0.10",
            ),
            _comparison(
                "unknown families",
                "leave_one_family_out.auroc",
                "gradient_boosting",
                (0.021, 0.004, 0.038),
                ">= 0",
            ),
            _comparison("no later", "latency_steps", "gru", (0.3, -0.5, 1.1), "<= 0", False),
            _comparison("no later", "latency_steps", "cnn", (-1.8, -2.9, -0.7), "<= 0"),
            _comparison("not too easy: gradient_boosting", "auroc", None, (0.938, 0.927, 0.947), "< 0.97"),
        ],
        "privacy": {"epsilon": None, "delta": None, "unit": None, "audit_epsilon": None},
        "communication": {"bytes_up": 61_440_000, "bytes_down": 20_480_000},
        "time": {
            "seconds_per_round": 0.61,
            "compile_seconds": 14.2,
            "total_seconds": 96.4,
            "training_seconds": {
                "federated_split": 61.2,
                "local": 48.1,
                "pooled": 21.4,
                "gradient_boosting": 9.7,
            },
        },
        "memory": {"peak_bytes": 1_310_000_000},
        "cost": {
            "federated_split": _cost(2.71e12, 61_440_000, 20_480_000, 206_848_000),
            "local": _cost(2.71e12, 0, 0, None),
            "pooled": _cost(2.42e12, 4_896_000, 1_280_000, 0),
            "gradient_boosting": _cost(None, 4_896_000, None, 0),
        },
        "data": {"rows": 48_000, "units": 640, "duplicates_removed": 312, "leaks_dropped": 4},
        "seeds": [0, 1],
        "version": "0.1.0",
    }


def _cost(flops: float | None, up: int, down: int | None, inside: int | None) -> dict[str, Any]:
    return {"flops": flops, "bytes": {"up": up, "down": down, "inside": inside}}


def reliability(name: str, label: str) -> dict[str, Any]:
    """A curve that is too sure of itself before calibration, and less so after."""
    said = np.linspace(0.01, 0.97, 15)
    gap = 1 - SKILL[name]
    return {
        "system": label,
        "method": "platt",
        "before": {"predicted": said.tolist(), "observed": (said**1.8).tolist(), "steps": [900.0] * 15},
        "after": {
            "predicted": said.tolist(),
            "observed": (said ** (1 + gap)).tolist(),
            "steps": [900.0] * 15,
        },
    }


def _comparison(
    name: str,
    metric: str,
    against: str | None,
    interval: tuple[float, float, float],
    target: str,
    holds: bool = True,
) -> dict[str, Any]:
    value, low, high = interval
    return {
        "name": name,
        "metric": metric,
        "against": against,
        "value": value,
        "low": low,
        "high": high,
        "target": target,
        "holds": holds,
    }


def rounds(seed: int) -> list[Entry]:
    """Forty rounds of one seed, with a curve for each site."""
    rng = generator(7, "rounds", seed)
    entries: list[Entry] = []
    slow = 4 + 9 * rng.random(len(SITES))
    top = 0.9 + 0.07 * rng.random(len(SITES))
    for step in range(1, 41):
        noise = 0.012 * rng.standard_normal(len(SITES))
        auroc = np.clip(0.5 + (top - 0.5) * (1 - np.exp(-step / slow)) + noise, 0, 1)
        entries.append(
            (
                "round",
                {
                    "seed": seed,
                    "system": "federated split",
                    "round": step,
                    "rounds": 40,
                    "loss": float(0.12 + 0.6 * np.exp(-step / 8) + 0.01 * rng.random()),
                    "validation_auroc": float(auroc.mean()),
                    "sites": [
                        {
                            "name": site,
                            "loss": float(0.15 + 0.6 * np.exp(-step / 9)),
                            "auroc": None if site == "Lakeside" and step < 5 else float(value),
                        }
                        for site, value in zip(SITES, auroc, strict=True)
                    ],
                    "bytes": {"device_site": 1_203_200, "site_coordinator": 512_000},
                    "seconds": float(0.6 + 0.05 * rng.random()),
                },
            )
        )
    return entries


def curves(name: str, label: str) -> dict[str, Any]:
    """ROC and precision-recall curves whose areas are about right."""
    power = (1 - SKILL[name]) / SKILL[name]
    fpr = np.concatenate([[0.0], np.geomspace(1e-5, 1, 149)])
    tpr = fpr**power
    precision = np.where(fpr > 0, 0.08 * tpr / (0.08 * tpr + 0.92 * fpr + 1e-12), 1.0)
    return {
        "system": label,
        "roc": {"fpr": fpr.tolist(), "tpr": tpr.tolist()},
        "pr": {"recall": tpr.tolist(), "precision": precision.tolist()},
    }


def latency(name: str, label: str) -> dict[str, Any]:
    """Steps from onset to first alarm of 96 campaigns."""
    rng, gap = generator(7, "latency", name), 1 - SKILL[name]
    steps = rng.geometric(1 / (4.1 + gap * 60), 96)
    detected = sorted(int(step) for step in steps[: int(96 - gap * 150)])
    return {
        "system": label,
        "steps": detected,
        "missed": 96 - len(detected),
        "campaigns": 96,
        "censored_mean": 4.1 + gap * 60,
    }


def timeline() -> dict[str, Any]:
    """One attack of 60 steps in a stretch of 160."""
    rng = generator(7, "timeline")
    steps = np.arange(200, 360)
    truth = ((steps >= 260) & (steps < 320)).astype(int)
    ramp = np.clip((steps - 262) / 12, 0, 1) * truth
    ours = np.clip(0.06 + 0.07 * rng.random(160) + 0.84 * ramp * (0.85 + 0.2 * rng.random(160)), 0, 1)
    trees = np.clip(0.1 + 0.22 * rng.random(160) + 0.5 * ramp * (0.5 + rng.random(160)), 0, 1)
    return {
        "unit": "infusion pump 12",
        "site": "Harbour",
        "family": "slow_exfiltration",
        "onset_step": 260,
        "end_step": 320,
        "step_seconds": 5.0,
        "steps": steps.tolist(),
        "truth": truth.tolist(),
        "score": ours.tolist(),
        "threshold": 0.41,
        "others": {"gradient_boosting": trees.tolist()},
    }


def data() -> dict[str, Any]:
    """The data sheet."""
    rng = generator(7, "data")
    sites = []
    for index, name in enumerate(SITES):
        families = {f: int(rng.integers(2, 9)) for f in FAMILIES}
        missing = FAMILIES[index % len(FAMILIES)]
        families[missing] = 0
        sites.append(
            {
                "name": name,
                "train_units": int(rng.integers(40, 60)),
                "validation_units": int(rng.integers(8, 14)),
                "test_units": int(rng.integers(18, 30)),
                "steps": int(rng.integers(9_000, 16_000)),
                "families": families,
                "withheld": [missing],
            }
        )
    return {
        "source": "consortium",
        "step": "5 seconds of one device's traffic",
        "step_seconds": 5.0,
        "modality": "traffic",
        "classes": ["normal", *FAMILIES],
        "features": [f"feature_{i}" for i in range(18)] + ["packets_per_second"],
        "rate_feature": "packets_per_second",
        "intensity": "share of packets",
        "counts": {"rows_read": 48_312, "units": 640, "windows": 6_210, "duplicates_removed": 312},
        "leaks_dropped": {
            "source_address": "names the attacker: AUROC 1.000 alone",
            "destination_port": "fixed for each attack: AUROC .981 alone",
            "timestamp": "attacks were recorded on other days",
            "tcp_window": "set by the attacking tool: AUROC .993 alone",
        },
        "splits": {
            "train": {"units": 400, "steps": 61_200, "attacked_steps": 5_010},
            "validation": {"units": 84, "steps": 12_930, "attacked_steps": 1_070},
            "test": {"units": 190, "steps": 29_110, "attacked_steps": 2_410},
        },
        "sites": sites,
        "notes": ["Hospitals are simulated; device mix, case mix and clock skew differ between them."],
    }


def messages(seed: int) -> dict[str, Any]:
    """What crossed which link."""
    rows = [
        ("activations", "device-site", "up", 12_800, 38_400_000),
        ("activation_gradients", "device-site", "down", 12_800, 153_600_000),
        ("bottom_parameters", "device-site", "up", 640, 7_424_000),
        ("bottom_parameters", "device-site", "down", 640, 7_424_000),
        ("bucket_counts", "site-coordinator", "up", 8, 155_648),
        ("scaling", "site-coordinator", "down", 8, 1_280),
        ("model_update", "site-coordinator", "up", 320, 61_284_352),
        ("global_model", "site-coordinator", "down", 320, 61_284_352),
        ("validation_counts", "site-coordinator", "up", 320, 40_960),
    ]
    keys = ("kind", "link", "direction", "count", "bytes")
    content = {"model_update": "change of the site's parameters in a round"}
    return {
        "seed": seed,
        "system": "federated split",
        "rows": [dict(zip(keys, row, strict=True)) | {"content": content.get(row[0], "")} for row in rows],
    }


def entries() -> list[Entry]:
    """The whole log, in the order in which a run writes it."""
    names = {"ours": "federated split", "local": "local only", "gru": "GRU", "pooled": "pooled"}
    names["gradient_boosting"] = "gradient_boosting"
    run: dict[str, Any] = {
        "version": "0.1.0",
        "name": "consortium",
        "plan": {
            "run": {"name": "consortium", "seeds": [0, 1], "setting": "traffic", "headline_seeds": 5},
            "data": {"source": "consortium", "path": None, "modality": "traffic"},
            "train": {"rounds": 40},
            "evaluate": {"false_positive_rate": 0.01, "bootstrap": 1000, "alarm_k": 3, "alarm_m": 5},
        },
        "plan_toml": PLAN,
        "seeds": [0, 1],
        "quick": True,
        "machine": {
            "cores": 2,
            "memory_bytes": 8_232_000_000,
            "processor": "x86-64, 2.9 GHz",
            "python": "3.11.2",
            "jax": "0.7.2",
        },
        "commit": "4f0c2b19a7d3",
    }
    stages = [
        ("load", None, 3.1, None),
        ("scaling", None, 0.9, 0.4),
        *(("train federated split", seed, 30.2, 8.1 if seed == 0 else 0.0) for seed in (0, 1)),
        *(("train pooled", seed, 12.4, 3.0) for seed in (0, 1)),
        *(("train local only", seed, 10.9, 2.7) for seed in (0, 1)),
        ("gradient boosting", 0, 9.7, None),
        ("evaluate", None, 6.2, None),
    ]
    return [
        ("run", run),
        ("data", data()),
        *rounds(0),
        *rounds(1),
        ("messages", messages(0)),
        ("messages", messages(1)),
        *(("stage", {"name": n, "seed": s, "seconds": t, "compile_seconds": c}) for n, s, t, c in stages),
        ("metrics", metrics()),
        *(("curves", curves(key, label)) for key, label in names.items()),
        *(("latency", latency(key, label)) for key, label in names.items()),
        *(("reliability", reliability(key, label)) for key, label in names.items()),
        ("timeline", timeline()),
        ("finished", {"seconds": 131.4, "peak_bytes": 1_310_000_000, "interrupted": False}),
    ]


@pytest.fixture(name="entries")
def _entries() -> list[Entry]:
    """A fresh copy of the fabricated log's entries, to be changed at will."""
    return copy.deepcopy(entries())


@pytest.fixture(name="whole", scope="session")
def _whole() -> str:
    """The page of the whole fabricated log."""
    return render(chain(entries()))


@pytest.fixture(name="chain")
def _chain() -> Callable[[list[Entry]], list[Record]]:
    """Entries -> records."""
    return chain
