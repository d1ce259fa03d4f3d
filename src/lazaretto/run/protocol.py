"""How the plan wants to be judged."""

from __future__ import annotations

from lazaretto.evaluate.scored import CONSORTIUM_FLOORS, Protocol
from lazaretto.plan import Plan
from lazaretto.run.prepare import Laid, Prepared

__all__ = ["protocol_of"]


def protocol_of(plan: Plan, prepared: Prepared | Laid) -> Protocol:
    """How the plan wants to be judged."""
    return Protocol(
        classes=prepared.schema.classes,
        step_seconds=prepared.schema.step_seconds,
        timed=prepared.schema.timed,
        setting=plan.run.setting,
        false_positive_rate=plan.evaluate.false_positive_rate,
        replicates=plan.evaluate.bootstrap,
        seed=plan.run.seeds[0],
        alarm_k=plan.evaluate.alarm_k,
        alarm_m=plan.evaluate.alarm_m,
        calibration=plan.evaluate.calibration,
        thresholds=plan.evaluate.thresholds,
        intensity_edges=prepared.schema.intensity_edges,
        floors=CONSORTIUM_FLOORS if plan.data.source == "consortium" else {},
    )
