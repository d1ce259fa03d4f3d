"""From flows to steps with features, and from steps to windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto.types import Float, Int

__all__ = ["StepPlan", "Windows", "features_for", "number_steps", "to_steps", "to_windows"]

# feature -> flow columns that it needs. Sizes, counts, shares and times only: no address, port or clock.
_NEEDS: dict[str, tuple[str, ...]] = {
    "flows": (),
    "flows_per_second": ("start",),
    "bytes_per_second": ("start", "bytes"),
    "packets_per_second": ("start", "packets"),
    "bytes_per_flow": ("bytes",),
    "bytes_spread": ("bytes",),
    "packets_per_flow": ("packets",),
    "packets_spread": ("packets",),
    "bytes_per_packet": ("bytes", "packets"),
    "bytes_out_share": ("bytes_out", "bytes_in"),
    "packets_out_share": ("packets_out", "packets_in"),
    "one_way_share": ("bytes_out", "bytes_in"),
    "single_packet_share": ("packets",),
    "duration_mean_seconds": ("duration",),
    "duration_max_seconds": ("duration",),
    "duration_zero_share": ("duration",),
    "gap_mean_seconds": ("start",),
    "gap_max_seconds": ("start",),
    "gap_spread": ("start",),
    "peers": ("destination",),
    "peer_entropy": ("destination",),
    "new_peer_share": ("destination",),
    "repeat_share": ("destination",),
    "sources": ("source",),
    "destination_ports": ("destination_port",),
    "destination_port_entropy": ("destination_port",),
    "source_ports": ("source_port",),
    "tcp_share": ("protocol",),
    "udp_share": ("protocol",),
    "icmp_share": ("protocol",),
    "other_protocol_share": ("protocol",),
    "failed_share": ("failed",),
}
_LEAST_SPAN = 0.01  # seconds; keeps rates finite where all flows of a step start at once


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """What a step is (`seconds` of time, or a number of `flows`), steps per window and per unit.

    per_unit: steps after which a host's stream is cut into a new unit, or None. least: units of fewer
    steps are left out.
    """

    seconds: float | None
    flows: int | None
    per_window: int
    per_unit: int | None
    least: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Arrays of a Table: x [n, T, F], y_step and valid [n, T], unit and site [n], time [n] seconds."""

    x: Float
    y_step: Int
    valid: NDArray[np.bool_]
    unit: Int
    site: Int
    time: NDArray[np.float64]


def features_for(held: Sequence[str], plan: StepPlan, unit: str) -> tuple[str, ...]:
    """Features that can be had from flow columns `held` and that vary under this plan."""
    # a count over a constant is a constant, and over a constant time the count is the rate
    constant = {"flows"} if plan.flows is not None else {"flows_per_second"}
    constant |= {"sources"} if unit in ("source_address", "host_pair") else set()
    constant |= (
        {"peers", "peer_entropy", "new_peer_share"} if unit in ("destination_address", "host_pair") else set()
    )
    constant |= {"repeat_share"} if unit in ("destination_address", "host_pair") else set()
    return tuple(
        name
        for name, needs in _NEEDS.items()
        if name not in constant and all(column in held for column in needs)
    )


def number_steps(flows: pl.DataFrame, plan: StepPlan) -> tuple[pl.DataFrame, int]:
    """Sort flows by host and time, add "step" and "unit"; flows need host, order, start.

    Empty stretches of time are no steps: the gaps between flows tell of them.
    Returns the flows kept, and how many steps fell away because their unit was too short.
    """
    flows = flows.sort("host", "start", "order").with_columns(
        gap=pl.col("start").diff().over("host"),
        place=pl.int_range(pl.len()).over("host"),
    )
    if plan.flows is not None:
        flows = flows.with_columns(step=pl.col("place") // plan.flows)
    else:
        seconds = float(plan.seconds or 60.0)
        flows = flows.with_columns(bin=(pl.col("start") / seconds).floor())
        flows = flows.with_columns(step=(pl.col("bin").rle_id()).over("host").cast(pl.Int64)).drop("bin")
    if plan.per_unit is not None:
        flows = flows.with_columns(block=pl.col("step") // plan.per_unit, step=pl.col("step") % plan.per_unit)
    else:
        flows = flows.with_columns(block=pl.lit(0, pl.Int64))
    lengths = flows.group_by("host", "block").agg(pl.col("step").n_unique().alias("steps"))
    short = lengths.filter(pl.col("steps") < plan.least)
    lengths = lengths.filter(pl.col("steps") >= plan.least).sort("host", "block").with_row_index("unit")
    flows = flows.join(
        lengths.select("host", "block", pl.col("unit").cast(pl.Int64)), on=["host", "block"], how="inner"
    )
    return flows.sort("unit", "start", "order"), int(short["steps"].sum())


def _entropy(flows: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    """Entropy of a column within a step, in nats over ln(flows): 0 all alike, 1 all different."""
    counts = flows.group_by("unit", "step", column).agg(pl.len().alias("n")).sort("unit", "step", "n", column)
    share = pl.col("n") / pl.col("n").sum()
    most = pl.col("n").sum().cast(pl.Float64).log()
    return counts.group_by("unit", "step", maintain_order=True).agg(
        ((share * share.log()).sum().abs() / pl.when(most > 0).then(most).otherwise(1.0)).alias(name)
    )


def to_steps(flows: pl.DataFrame, features: Sequence[str], plan: StepPlan) -> pl.DataFrame:
    """One row per step: unit, step, start, span (s), class, site, and the features.

    A step in which any flow is an attack is an attack; of several kinds, the one with most flows.
    """
    if "destination" in flows.columns:
        flows = flows.with_columns(
            repeat=(pl.col("destination") == pl.col("destination").shift().over("host")).fill_null(False),
            fresh=pl.col("place") == pl.col("place").min().over("host", "destination"),
        )
    made = _aggregations(flows.columns, plan)
    steps = flows.group_by("unit", "step", maintain_order=True).agg(
        pl.col("start").min().alias("begin"),
        (pl.col("start").max() - pl.col("start").min()).alias("span"),
        pl.col("site").first(),
        *[expression.alias(name) for name, expression in made.items() if name in features],
    )
    attacks = (
        flows.filter(pl.col("class") > 0)
        .group_by("unit", "step", "class")
        .agg(pl.len().alias("n"))
        .sort("unit", "step", "n", "class")
        .group_by("unit", "step", maintain_order=True)
        .agg(pl.col("class").last())
    )
    steps = steps.join(attacks, on=["unit", "step"], how="left").with_columns(pl.col("class").fill_null(0))
    for column, name in (("destination", "peer_entropy"), ("destination_port", "destination_port_entropy")):
        if name in features:
            steps = steps.join(_entropy(flows, column, name), on=["unit", "step"], how="left")
    # a unit's first flow has no gap before it, and one flow has no spread
    steps = steps.with_columns(pl.col(list(features)).cast(pl.Float64).fill_nan(0.0).fill_null(0.0))
    return steps.sort("unit", "step")


def _aggregations(held: Sequence[str], plan: StepPlan) -> dict[str, pl.Expr]:
    """Feature -> its expression over the flows of a step."""
    count = pl.len()
    if plan.seconds is not None:
        span: pl.Expr = pl.lit(float(plan.seconds))
    else:
        span = (pl.col("start").max() - pl.col("start").min()).clip(_LEAST_SPAN)

    def total(name: str) -> pl.Expr:
        return pl.col(name).sum()

    def spread(name: str) -> pl.Expr:  # standard deviation over mean
        return pl.col(name).std(ddof=0) / pl.max_horizontal(pl.col(name).mean(), pl.lit(1e-9))

    def share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
        return part / pl.max_horizontal(whole.cast(pl.Float64), pl.lit(1e-9))

    made = {
        "flows": count,
        "flows_per_second": count / span,
        "bytes_per_second": total("bytes") / span,
        "packets_per_second": total("packets") / span,
        "bytes_per_flow": pl.col("bytes").mean(),
        "bytes_spread": spread("bytes"),
        "packets_per_flow": pl.col("packets").mean(),
        "packets_spread": spread("packets"),
        "bytes_per_packet": share(total("bytes"), total("packets")),
        "bytes_out_share": share(total("bytes_out"), total("bytes_out") + total("bytes_in")),
        "packets_out_share": share(total("packets_out"), total("packets_out") + total("packets_in")),
        "one_way_share": ((pl.col("bytes_out") == 0) | (pl.col("bytes_in") == 0)).mean(),
        "single_packet_share": (pl.col("packets") <= 1).mean(),
        "duration_mean_seconds": pl.col("duration").mean(),
        "duration_max_seconds": pl.col("duration").max(),
        "duration_zero_share": (pl.col("duration") == 0).mean(),
        "gap_mean_seconds": pl.col("gap").mean(),
        "gap_max_seconds": pl.col("gap").max(),
        "gap_spread": spread("gap"),
        "peers": pl.col("destination").n_unique(),
        "new_peer_share": pl.col("fresh").mean(),
        "repeat_share": pl.col("repeat").mean(),
        "sources": pl.col("source").n_unique(),
        "destination_ports": pl.col("destination_port").n_unique(),
        "source_ports": pl.col("source_port").n_unique(),
        "tcp_share": (pl.col("protocol") == "tcp").mean(),
        "udp_share": (pl.col("protocol") == "udp").mean(),
        "icmp_share": (pl.col("protocol") == "icmp").mean(),
        "other_protocol_share": (~pl.col("protocol").is_in(["tcp", "udp", "icmp"])).mean(),
        "failed_share": pl.col("failed").mean(),
    }
    return {name: made[name] for name in made if all(column in held for column in _NEEDS[name])}


def to_windows(steps: pl.DataFrame, features: Sequence[str], per_window: int) -> Windows:
    """Steps of each unit, in time, cut into windows of T = per_window; the last is padded."""
    unit = steps["unit"].to_numpy().astype(np.int64)
    first = np.flatnonzero(np.diff(unit, prepend=-1))
    lengths = np.diff(np.append(first, len(unit)))
    place = np.arange(len(unit)) - np.repeat(first, lengths)
    windows = -(-lengths // per_window)
    offset = np.repeat(np.cumsum(windows) - windows, lengths)
    row, column = offset + place // per_window, place % per_window
    n = int(windows.sum())
    x = np.zeros((n, per_window, len(features)), np.float32)
    values = steps.select(list(features)).to_numpy().astype(np.float64)
    x[row, column] = np.clip(values, -3e38, 3e38).astype(np.float32)
    y_step = np.zeros((n, per_window), np.int64)
    y_step[row, column] = steps["class"].to_numpy()
    valid = np.zeros((n, per_window), bool)
    valid[row, column] = True
    heads = np.flatnonzero(column == 0)
    return Windows(
        x=x,
        y_step=y_step,
        valid=valid,
        unit=unit[heads],
        site=steps["site"].to_numpy().astype(np.int64)[heads],
        time=steps["begin"].to_numpy().astype(np.float64)[heads],
    )
