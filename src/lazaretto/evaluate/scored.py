"""What the judge is given: scores beside the truth, and the rules of the protocol.

Letters in shapes: u units (streams), L steps of a stream, R bootstrap replicates.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError, PlanError
from lazaretto.evaluate.operating import Calibration, Operating

__all__ = [
    "CONSORTIUM_FLOORS",
    "DEEP",
    "ONLY",
    "OURS",
    "SUPERVISED",
    "TRIGGERED",
    "WITHHELD",
    "Agreement",
    "Protocol",
    "Said",
    "Scored",
    "SeedScores",
    "check_apart",
    "check_scored",
]

OURS = "federated split"
SUPERVISED = "supervised_only"  # ours without a self-supervised score
ONLY = {"traffic_only": "traffic", "record_only": "record"}  # ours, trained and judged on one modality
TRIGGERED = "with_trigger"  # ours, a backdoor's trigger on every attacked step when judged
WITHHELD = {"without_traffic": "traffic", "without_record": "record"}  # ours, one withheld when judged
DEEP = ("gru", "cnn", "autoencoder", "tcn", "mlp")  # the pooled deep baselines that margins are taken against

# AUROC that simple detectors must stay under on the simulator, so that it is worth being judged on
CONSORTIUM_FLOORS: Mapping[str, float] = {
    "gradient_boosting": 0.97,
    "logistic_regression": 0.90,
    "rate_threshold": 0.85,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """Scores of one system on one split of one seed.

    score: [u, L] float, larger is more anomalous, log-odds where the system has them; finite where valid.
    y:     [u, L] int class of each step, 0 normal.   valid: [u, L] bool, False is padding.
    site:  [u] int.
    unit:  [u] int or None. Which units these are: thresholds set on a unit that is judged are refused.
    threshold_group: [u] int or None. Units of one group were scored by one model; where groups differ
        (a model per site) each has its own threshold and its own calibration.
    intensity: [u, L] float or None, strength of the attack that a step belongs to, as in `types.Table`;
        what is not above 0 (or not finite) is not known.
    """

    score: NDArray[Any]
    y: NDArray[Any]
    valid: NDArray[np.bool_]
    site: NDArray[Any]
    threshold_group: NDArray[Any] | None = None
    intensity: NDArray[Any] | None = None
    unit: NDArray[Any] | None = None


Agreement: TypeAlias = Literal["sum", "median", "own"]

# Scores [u, L] as sites say they are when thresholds are agreed on: hostile ones may lie
Said: TypeAlias = Callable[[Scored], NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeedScores:
    """One system, one seed: `validation` sets the thresholds, `test` is judged.

    operating: thresholds and calibration of an earlier run; given, `validation` may be None
    (a trained model judged on data it never saw).
    """

    test: Scored
    validation: Scored | None = None
    operating: Operating | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How to judge.

    classes: names by class number, `classes[0]` is "normal".   step_seconds: length of a step, > 0.
    false_positive_rate: share of normal validation steps above the main threshold, in (0, 1).
    replicates: bootstrap replicates, >= 20.   seed: of the bootstrap.
    alarm_k of alarm_m steps must be above the threshold before an alarm is raised.
    timed: False where steps have no clock: latency and alarms per device-day are then left undefined.
    same_units: True where every seed judges the very same units; they are then drawn together.
    calibration: how validation scores become probabilities: "platt", "temperature" or "none".
    thresholds: "sum", of all sites' counts, "median", of the sites' own (`evaluate.threshold_votes`), or
        "own": each site by its own, those with too few normal steps by the median.
    intensity_edges: ascending borders of the bins of `Scored.intensity`, > 0; empty where it is not known.
    floors: system -> AUROC it must stay under (`CONSORTIUM_FLOORS` on the simulator), or empty.
    Raises PlanError on a value outside its range.
    """

    classes: tuple[str, ...]
    step_seconds: float
    setting: str = "traffic"
    false_positive_rate: float = 0.01
    replicates: int = 1000
    seed: int = 0
    alarm_k: int = 3
    alarm_m: int = 5
    same_units: bool = False
    calibration: Calibration = "platt"
    thresholds: Agreement = "sum"
    intensity_edges: tuple[float, ...] = ()
    timed: bool = True
    floors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ranges = (
            ("classes", len(self.classes), len(self.classes) >= 2, "name normal and at least one attack"),
            ("step_seconds", self.step_seconds, 0 < self.step_seconds < np.inf, "give a length above 0"),
            (
                "false_positive_rate",
                self.false_positive_rate,
                0 < self.false_positive_rate < 1,
                "give 0 < rate < 1",
            ),
            ("bootstrap", self.replicates, self.replicates >= 20, "ask for at least 20 replicates"),
            (
                "alarm_k of alarm_m",
                (self.alarm_k, self.alarm_m),
                1 <= self.alarm_k <= self.alarm_m,
                "1 <= k <= m",
            ),
            (
                "thresholds",
                self.thresholds,
                self.thresholds in typing.get_args(Agreement),
                "sum, median or own",
            ),
            (
                "intensity_edges",
                self.intensity_edges,
                all(a < b for a, b in itertools.pairwise((0.0, *self.intensity_edges))),
                "give borders above 0 that ascend",
            ),
        )
        for name, found, fine, way_out in ranges:
            if not fine:
                raise PlanError(f"evaluation: {name} is out of range", found=found, way_out=way_out)


def check_scored(scored: Scored, where: str, classes: int) -> None:
    """Shapes agree, scores are finite, classes known, something is valid. Raises DataError naming `where`."""
    shape = np.shape(scored.score)
    if len(shape) != 2 or np.shape(scored.y) != shape or np.shape(scored.valid) != shape:
        raise DataError(
            f"{where}: score, y and valid must be of one shape [units, steps]",
            found=[shape, np.shape(scored.y), np.shape(scored.valid)],
        )
    if scored.intensity is not None and np.shape(scored.intensity) != shape:
        raise DataError(f"{where}: intensity must be [units, steps]", found=np.shape(scored.intensity))
    groups = scored.site if scored.threshold_group is None else scored.threshold_group
    if np.shape(scored.site) != shape[:1] or np.shape(groups) != shape[:1]:
        raise DataError(f"{where}: site and threshold_group must be [units]", found=np.shape(scored.site))
    if not np.any(scored.valid):
        raise DataError(
            f"{where}: there is no step to judge", found=shape, way_out="give this split more units"
        )
    bad = ~np.isfinite(scored.score[scored.valid])
    if bad.any():
        raise DataError(
            f"{where}: scores are not finite",
            found=f"{int(bad.sum())} steps",
            way_out="lower the learning rate",
        )
    seen = scored.y[scored.valid]
    if seen.min() < 0 or seen.max() >= classes:
        raise DataError(
            f"{where}: a class has no name",
            found=[int(seen.min()), int(seen.max())],
            way_out=f"0..{classes - 1}",
        )


def check_apart(validation: Scored, test: Scored, where: str) -> None:
    """Refuse a threshold that is set on what it is judged on. Raises DataError naming `where` and the units.

    Units are compared where both say which theirs are; without that only the very same scores are found out.
    """
    way_out = "judge on units that set no threshold and trained nothing"
    if validation.unit is not None and test.unit is not None:
        both = np.intersect1d(validation.unit, test.unit)
        if both.size:
            some = ", ".join(map(str, both[:5])) + (" ..." if both.size > 5 else "")
            raise DataError(
                f"{where}: thresholds would be set on units that are judged",
                found=f"{both.size} units in validation and test: {some}",
                way_out=way_out,
            )
    same = all(
        np.array_equal(getattr(validation, name), getattr(test, name)) for name in ("score", "y", "valid")
    )
    if same:
        raise DataError(
            f"{where}: thresholds would be set on the very steps that are judged",
            found="validation and test hold the same scores",
            way_out=way_out,
        )
