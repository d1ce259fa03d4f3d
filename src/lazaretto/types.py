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
    "Algorithm",
    "Array",
    "Float",
    "Gram",
    "Int",
    "Judged",
    "Message",
    "Middle",
    "Model",
    "Novelty",
    "Outputs",
    "Pair",
    "Part",
    "RawRows",
    "Record",
    "Rule",
    "Schema",
    "Selection",
    "ServerOptimiser",
    "Source",
    "Table",
    "Weighed",
]

Array: TypeAlias = Any  # a NumPy or JAX array; its shape stands in the docstring
Float: TypeAlias = NDArray[np.float32]
Int: TypeAlias = NDArray[np.int64]
# what a rule that sees the updates answers: aggregate [d], suspicion [n] in [0, 1], state
Judged: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], Mapping[str, Any]]
NORMAL = "normal"  # always class 0
UNASSIGNED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What the numbers of a table mean.

    features: modality -> names of its F features, units of measurement in the names.
    classes:  names; `classes[0]` is "normal", the rest are attack families.
    step:     what one step is, in words ("50 packets", "5 minutes").
    step_seconds: mean length of a step; sets alarms per device-day and latency in seconds.
    rate_feature: its size alone is a naive alarm ("flows"), in the first modality that has it; or None.
    intensity: what `Table.intensity` measures, in words ("share of packets"), or "" where it is not known.
    intensity_edges: ascending borders between the bins by which recall is told; a bin holds its lower border.
    timed:    False where steps have no clock to judge by: latency and alarms per day are then left out.
    positive, negative: what steps of the other classes and of class 0 are called in the report.
    irregular: modalities measured at odd times: their `Table.x` holds NaN where a step has no measurement.
        `step_seconds` then has to be right, timed or not, as a model is told how long ago a value is.
    origins: feature -> a value that is public knowledge and usual for it, 0 for those left out. Scaling
        counts from there: it knows quantiles to a twentieth of their distance to it.
    """

    features: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]
    step: str
    step_seconds: float
    rate_feature: str | None = None
    intensity: str = ""
    intensity_edges: tuple[float, ...] = ()
    timed: bool = True
    positive: str = "attacked steps"
    negative: str = "normal steps"
    irregular: frozenset[str] = frozenset()
    origins: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Windows of steps, n of them, each of T steps. Windows of one unit follow each other in time.

    x:       modality -> [n, T, F] float32, finite where valid, 0 where not. In a modality of
             `schema.irregular` a valid step may hold NaN, "not measured in this step": what a model reads
             instead is laid out by `lazaretto.data.irregular`, after scaling.
    present: [n, modalities] bool, in the order of `schema.features`.
    y_step:  [n, T] int64 class of each step; y: [n] the window's class (largest of its steps).
    valid:   [n, T] bool; False pads the last window of a unit.
    unit:    [n] int64 index into unit_names (a patient, a device, a generated stream).
    time:    [n] float64 seconds, start of the window; increases within a unit.
    site:    [n] int64 index into site_names, the source's natural site (UNASSIGNED if it has none).
    split:   [n] int64 TRAIN, VALIDATION, TEST where the source must decide (blocks of time), else UNASSIGNED.
    notes:   what the report must say (limits, constructions); `warnings` of them it begins with.
    counts:  figures of loading for the data sheet: rows_read, duplicates_removed, rows_unlabelled ...
    intensity: [n, T] float32 height of the campaign that a step is of, 0 if normal, or None; never a feature.
    judged:  [n, T] bool, valid steps that are trained and judged on, others being read only (as where one
             outcome is asked for at the end of a stay); None: all valid steps are.
    labels:  (text of a label in the files, its class or "" if left out) -> rows, where the source knows.
    leaks:   those of `Source.leaks` that the files have, under the names there; None: all of them.
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
    warnings: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    intensity: Float | None = None
    judged: NDArray[np.bool_] | None = None
    labels: Mapping[tuple[str, str], int] | None = None
    leaks: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """Rows as published, for the leak check: every column, also those a loader drops.

    columns: name -> [rows] of numbers or strings. label: [rows] int64, 0 normal. classes: names by label.
    group: [rows] int64, no group has rows on both sides of the check. lacking: column -> files without it.
    """

    columns: Mapping[str, NDArray[Any]]
    label: Int
    group: Int
    classes: tuple[str, ...] = ()
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a table comes from.

    load: (path or None, seed) -> Table; same arguments, same table to the byte. raw: path -> RawRows for the
    leak check; None where no files are read. sample: () -> a small real Table for the family's exam. leaks:
    column -> why it is dropped. needs_path: is `--data` a must. appearances: in how many windows one step (or
    stay) stands at most. deals: whether `load` makes splits, anew with every seed. mixes: how one unit's
    values depend on which others are there, which no mechanism prices; "" where they do not.
    """

    name: str
    load: Callable[[Any, int], Table]
    sample: Callable[[], Table]
    raw: Callable[[Any], RawRows] | None = None
    leaks: Mapping[str, str] = field(default_factory=dict)
    needs_path: bool = True
    appearances: int = 1
    deals: bool = False
    mixes: str = ""


class Part(NamedTuple):
    """Columns of one modality in x [..., F]: begin to end.

    values: end of what was measured, begin < values <= end; behind it stand masks and gaps in time where the
    modality is irregular. With several modalities x ends in one column for each, 1 where it is there, else 0.
    """

    begin: int
    values: int
    end: int


class Outputs(NamedTuple):
    """What a model says at every step.

    anomaly: [B, T] score, larger is more anomalous (a logit where the model is a classifier).
    kinds:   [B, T, K] logits over attack families.
    representation: [B, T, R], for temporal consistency.
    extra: what a model's own loss needs, or ().   members: [B, T, M] logits of an ensemble's, or ().
    """

    anomaly: Array
    kinds: Array
    representation: Array
    extra: Any = ()
    members: Any = ()


class Pair(NamedTuple):
    """Two views of the same steps, of two modalities, that should agree.

    a, b: [B, T, P]. both: [B, T] bool, whether both modalities are there.
    """

    a: Array
    b: Array
    both: Array


class Middle(NamedTuple):
    """What the site's part of a U-shaped model makes.

    sent: [B, T, M], back to the labels. pairs: views to align at the site, unlabelled: at cut, then fusion.
    """

    sent: Array
    pairs: tuple[Pair, ...] = ()


class Novelty(NamedTuple):
    """A second score at the site, from the same activations: how unlike anything normal a step is.

    It learns campaigns that are made up (`lazaretto.augment.compose`) from pieces of known attacks; no step
    of a real attack is in its loss.
    start: (batch B) -> state
    score: (params["top"]["novelty"], h [B, T, H], state) -> (logit [B, T], state)
    """

    start: Callable[[int], Any]
    score: Callable[[Any, Array, Any], tuple[Array, Any]]


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
    novelty: the self-supervised score, or None where the model has none
    head:   (params["bottom"], sent [B, T, M]) -> Outputs, or None. With it the model is U-shaped: `top` gives
            a Middle instead of Outputs, the head runs where `bottom` runs, and labels stay there
    Law: running two windows in turn, state carried, equals running their concatenation.
    """

    name: str
    init: Callable[[Array, int, int], dict[str, Any]]
    start: Callable[[int, int], tuple[Any, Any]]
    bottom: Callable[[Any, Array, Any], tuple[Array, Any]]
    top: Callable[[Any, Array, Any], tuple[Any, Any]]
    loss: Callable[[Outputs, Array, Array, Array], Array] | None = None
    split: bool = True
    novelty: Novelty | None = None
    head: Callable[[Any, Array], Outputs] | None = None


class Gram(NamedTuple):
    """What a gram rule sees of n updates and p public rows: lengths and angles, never an update itself.

    inner:   [n + p, n + p] float64 inner products, of the updates in order, then of the public rows.
    sizes:   [n] > 0, what the updates weigh by where a rule weighs by size.
    sites:   [n] int64, numbers of the sites in the federation, each once; draws and state follow these.
    public:  names of the p public rows in order: "zero" (the zero update), "previous" (the last aggregate,
             zero before the first), "root" (an update made on a root data set).
    history: [n, n] inner products of each site's running sum of updates, this one included; or None.
    """

    inner: NDArray[np.float64]
    sizes: NDArray[np.float64]
    sites: Int
    public: tuple[str, ...] = ()
    history: NDArray[np.float64] | None = None


class Weighed(NamedTuple):
    """What a gram rule answers.

    weights:   [m, n + p]; the rows of weights · [updates; public rows] are the aggregate (m = 1), or the
               mixed updates of a pre-aggregator. A row need not sum to 1: the rest lies on the zero update.
    suspicion: [n] in [0, 1]: 0 where nothing speaks against a site, 1 where it is taken for hostile.
    state:     what the rule keeps for the next round.
    """

    weights: NDArray[np.float64]
    suspicion: NDArray[np.float64]
    state: Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How site updates become one. `sees` decides under which protection the rule can run.

    sees:  "sum": the updates' weighted sum alone; "gram": their inner products; "rows": the updates.
    weigh: (sizes [n]) -> weights [n] summing to 1, for a rule that sees the sum; else None.
    gram:  (Gram, state, generator) -> Weighed, for a rule that sees inner products; else None.
    rows:  (X [n, d], sizes [n], state, generator) -> Judged, for a rule that sees the updates; else None.
    tolerates: n -> number of hostile sites it withstands: wherever their updates lie, the aggregate stays
        near the honest ones; below max(n, 1).
    public:  names of the public rows that it needs, in the order in which it gets them.
    history: whether it needs the running sums of each site's updates.
    start:   number of the federation's sites -> state: name -> array, before the first round.
    equivariance: of {"translation", "scale"}: moving, or stretching, all that the rule sees (public rows and
        history too) does the same to the aggregate.
    agrees:  whether equal updates give that update, whatever the public rows are.
    mixes:   whether it is a pre-aggregator (`lazaretto.chain`). Its number of rows, m, depends on n alone.
    most_on_one: n -> the largest weight that one site's update can get; of a pre-aggregator, in all of its
        rows together. For plans that keep single updates secret.
    All leave their arguments as they are.
    """

    name: str
    sees: Literal["sum", "gram", "rows"]
    tolerates: Callable[[int], int]
    weigh: Callable[[Array], Array] | None = None
    gram: Callable[[Gram, Mapping[str, Array], np.random.Generator], Weighed] | None = None
    rows: Callable[[Array, Array, Mapping[str, Array], np.random.Generator], Judged] | None = None
    public: tuple[str, ...] = ()
    history: bool = False
    start: Callable[[int], dict[str, Array]] = lambda sites: {}
    equivariance: frozenset[str] = frozenset()
    agrees: bool = False
    mixes: bool = False
    most_on_one: Callable[[int], float] = lambda n: 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """How sites train towards a common model: what it adds to plain local training (FedAvg adds nothing).

    keeps:    whether every site keeps a vector `own` [d] from round to round, and the coordinator one,
        `common` [d], that it sends with the model; both start at 0. Where not, all below get None for them.
    correct:  (gradient, parameters, parameters at the start of the round, own, common) -> gradient,
        for every local step, before the gradient is clipped; or None. All are pytrees of one structure (a
        device's or the site's part of the model). Pure, traceable by JAX.
    conclude: (own [d], common [d], mean gradient along the site's path in this round [d]) -> own.
        Traceable; what changed in `own` is sent up with the update. None unless `keeps`.
    fold:     (common [d], changes of `own` that arrived [n, d], number of all sites) -> common. n may be 0.
        None unless `keeps`.
    personal: whether the parameter at a path of names, such as ("top", "anomaly", "w"), stays at its
        site: never averaged, never sent.
    """

    name: str
    keeps: bool = False
    correct: Callable[[Any, Any, Any, Any, Any], Any] | None = None
    conclude: Callable[[Array, Array, Array], Array] | None = None
    fold: Callable[[Array, Array, int], Array] | None = None
    personal: Callable[[tuple[str, ...]], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptimiser:
    """What the coordinator does with the mean update. State in, state out, in float64.

    start: d -> state: name -> array, before the first round
    step:  (vector [d] float32, mean update [d] float64, state) -> (vector [d] float32, state)
    """

    name: str
    start: Callable[[int], dict[str, Array]]
    step: Callable[[Array, Array, Mapping[str, Array]], tuple[Array, dict[str, Array]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Who takes part in a round.

    choose: (generator, sizes [S] >= 0, last losses [S], NaN if not known, how many m) -> (sites [m] in order,
        sizes [m]). By these the rule weighs updates: those given, or others where size chose the sites.
    partial: False where it takes every site, and m has to be S.
    """

    name: str
    choose: Callable[[np.random.Generator, Array, Array, int], tuple[Int, Array]]
    partial: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: who sent what to whom. A link "device-site" stays in the hospital, all others leave it."""

    kind: str
    link: str
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
