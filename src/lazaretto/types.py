"""Values that every part passes around. Frozen, documented by shape, without behaviour.

Letters in shapes: n rows (windows), T steps of a window, F features, K kinds of attack
(classes without "normal"), B sequences of a batch, H channels at the cut, d parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NORMAL",
    "TEST",
    "TRAIN",
    "UNASSIGNED",
    "VALIDATION",
    "Array",
    "Float",
    "Int",
    "Message",
    "Model",
    "Outputs",
    "RawRows",
    "Record",
    "Rule",
    "Schema",
    "Source",
    "Table",
]

Array: TypeAlias = Any  # a NumPy or JAX array; its shape stands in the docstring
Float: TypeAlias = NDArray[np.float32]
Int: TypeAlias = NDArray[np.int64]

NORMAL = "normal"  # always class 0
UNASSIGNED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What the numbers of a table mean.

    features: modality -> names of its F features, units of measurement in the names.
    classes:  names; `classes[0]` is "normal", the rest are attack families.
    step:     what one step is, in words ("50 packets", "5 minutes").
    step_seconds: mean length of a step; sets alarms per device-day and latency in seconds.
    rate_feature: the feature whose size alone is a naive alarm ("packets_per_second"), or None.
    timed:    False where steps have no clock to judge by: latency and alarms per day are then left out.
    positive, negative: what steps of the other classes and of class 0 are called in the report.
    """

    features: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]
    step: str
    step_seconds: float
    rate_feature: str | None = None
    timed: bool = True
    positive: str = "attacked steps"
    negative: str = "normal steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Windows of steps, n of them, each of T steps. Windows of one unit follow each other in time.

    x:       modality -> [n, T, F] float32, finite where valid, 0 where not.
    present: [n, modalities] bool, in the order of `schema.features`.
    y_step:  [n, T] int64 class of each step; y: [n] the window's class (largest of its steps).
    valid:   [n, T] bool; False pads the last window of a unit.
    unit:    [n] int64 index into unit_names (a patient, a device, a generated stream).
    time:    [n] float64 seconds, start of the window; increases within a unit.
    site:    [n] int64 index into site_names, the source's natural site (UNASSIGNED if it has none).
    split:   [n] int64 TRAIN, VALIDATION, TEST where the source must decide (blocks of time), else UNASSIGNED.
    notes:   sentences that the report must show (shared devices, constructions, limits).
    counts:  figures of loading for the data sheet: rows_read, duplicates_removed, rows_unlabelled ...
    """

    x: Mapping[str, Float]
    present: NDArray[np.bool_]
    y: Int
    y_step: Int
    valid: NDArray[np.bool_]
    unit: Int
    unit_names: tuple[str, ...]
    time: NDArray[np.float64]
    site: Int
    site_names: tuple[str, ...]
    split: Int
    schema: Schema
    notes: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """Rows as published, for the leak check: every column, also those a loader drops.

    columns: name -> [rows] of numbers or strings.  label: [rows] int64, 0 normal.
    group: [rows] int64, rows of one group (file, block of time, unit) never stand on both sides of the check.
    classes: names by label, so that findings can name them; or empty.
    """

    columns: Mapping[str, NDArray[Any]]
    label: Int
    group: Int
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a table comes from.

    load: (path or None, seed) -> Table. Same arguments, same table to the byte.
    raw: path -> RawRows for the leak check, or None where nothing is read from files.
    sample: () -> a small real Table that sits the family's exam.
    leaks: column -> why it is dropped.
    needs_path: whether `--data` must be given.
    """

    name: str
    load: Callable[[Any, int], Table]
    sample: Callable[[], Table]
    raw: Callable[[Any], RawRows] | None = None
    leaks: Mapping[str, str] = field(default_factory=dict)
    needs_path: bool = True


class Outputs(NamedTuple):
    """What a model says at every step.

    anomaly: [B, T] score, larger is more anomalous (a logit where the model is a classifier).
    kinds:   [B, T, K] logits over attack families.
    representation: [B, T, R], for temporal consistency.
    extra:   what a model's own loss needs, or ().
    """

    anomaly: Array
    kinds: Array
    representation: Array
    extra: Any = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A sequence model with its cut point. All functions are pure and traceable by JAX.

    init:   (key, F, K) -> {"bottom": pytree, "top": pytree}
    start:  (F, batch B) -> (bottom state, top state) before the first step
    bottom: (params["bottom"], x [B, T, F], state) -> (h [B, T, H], state); runs on the device
    top:    (params["top"], h, state) -> (Outputs, state); runs at the site
    loss:   (outputs, y_step [B, T], weight [B, T], class_weight [K + 1]) -> scalar, or None for the
            common loss (class-balanced cross-entropy + temporal consistency)
    split:  False where bottom is the identity, so that a cut would send raw data.
    Law: running two windows in turn, state carried, equals running their concatenation.
    """

    name: str
    init: Callable[[Array, int, int], dict[str, Any]]
    start: Callable[[int, int], tuple[Any, Any]]
    bottom: Callable[[Any, Array, Any], tuple[Array, Any]]
    top: Callable[[Any, Array, Any], tuple[Outputs, Any]]
    loss: Callable[[Outputs, Array, Array, Array], Array] | None = None
    split: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How site updates become one. `sees` decides under which protection the rule can run.

    weigh: (sizes [n]) -> weights [n], for rules that see only the sum.
    tolerates: n -> number of hostile sites it withstands.
    """

    name: str
    sees: Literal["sum", "gram", "rows"]
    weigh: Callable[[Array], Array]
    tolerates: Callable[[int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message between two parties: what it is, who sent it to whom, its arrays.

    Links: "device-site" stays inside the hospital; "site-coordinator" leaves it.
    """

    kind: str
    link: Literal["device-site", "site-coordinator"]
    sender: str
    receiver: str
    round: int
    payload: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the run log; `digest` = SHA-256 of previous digest, kind and canonical body."""

    sequence: int
    kind: str
    body: Mapping[str, Any]
    previous: bytes
    digest: bytes
