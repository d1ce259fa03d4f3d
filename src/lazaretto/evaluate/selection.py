"""What settings are chosen by: the ranking of validation steps, and nothing of the test units.

No threshold takes part in it, so none can be tuned along the way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lazaretto.evaluate.bootstrap import (
    Triple,
    UnitStats,
    interval,
    rank_counts,
    replicates,
    resamples,
    unit_metrics,
)
from lazaretto.evaluate.metrics import auroc
from lazaretto.evaluate.scored import Protocol, Scored, check_scored
from lazaretto.evaluate.thresholds import on_common_scale, operating_points
from lazaretto.keys import generator

__all__ = ["CRITERION", "validation_auroc"]

CRITERION = "AUROC over validation steps, mean over seeds"


def validation_auroc(seeds: Sequence[Scored], protocol: Protocol) -> tuple[list[float], Triple]:
    """AUROC over the validation steps of each seed, and their mean with its 95 % interval.

    seeds: validation scores of one system, one entry per seed. Where each site has a model of its own, its
    scores are first brought to one scale by its calibration. The interval is the two-level bootstrap of
    `bootstrap`, its draws the same for all systems on these units. A seed without attacked or
    without normal steps counts as NaN and is left out of the mean. Raises DataError on scores that cannot be
    ranked: empty, not finite, or of classes without a name.
    """
    values, stats, binned = [], [], []
    for number, scored in enumerate(seeds):
        check_scored(scored, f"validation, seed {number}", len(protocol.classes))
        common = scored
        if scored.threshold_group is not None:
            common = on_common_scale(scored, operating_points(scored, protocol))
        attacked = common.y > 0
        values.append(auroc(common.score[common.valid], attacked[common.valid]))
        stats.append(UnitStats({}, {}, rank_counts(common.score, attacked, common.valid)))
        once = np.ones((1, len(common.site)), np.float32)
        binned.append(float(unit_metrics(stats[-1], once, protocol.step_seconds)["auroc"][0]))
    mean = _mean(values)
    units = [len(scored.site) for scored in seeds]
    draws = resamples(units, protocol.replicates, generator(protocol.seed, "selection", *units))
    samples = replicates(stats, draws, protocol.step_seconds)["auroc"]
    # as in the judge: bins give the spread, the exact value gives the place
    return values, interval(mean, samples + (mean - _mean(binned)))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
