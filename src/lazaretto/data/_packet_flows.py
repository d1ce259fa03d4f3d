"""Packets to flows with the very features of flow tables, so that a model may go from one to the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from lazaretto.data._flow_steps import StepPlan, features_for, to_steps
from lazaretto.types import Float

__all__ = ["FLOW_FEATURES", "flow_features"]

_SUMS = ("bytes_out", "bytes_in", "packets_out", "packets_in")
_HELD = ("start", "duration", "bytes", "packets", *_SUMS)
_PLAN = StepPlan(seconds=None, flows=1, per_window=1, per_unit=None, least=1)  # a step spans its own flows

FLOW_FEATURES: tuple[str, ...] = features_for(_HELD, _PLAN, "file")


def flow_features(
    lengths: ArrayLike,
    times: ArrayLike,
    towards_server: ArrayLike,
    connections: ArrayLike,
    step_packets: int,
    steps: int,
) -> Float:
    """Flow features of each step of step_packets packets; streams of `steps` steps follow one another.

    lengths: [packets] bytes of the frame. times: [packets] seconds, not decreasing inside a stream.
    towards_server: [packets] bool, counted as sent out. connections: [packets] number of the connection.
    A flow is what one connection sends within one step, as a collector with a short active timeout has it.

    Returns [packets / step_packets, len(FLOW_FEATURES)] float32, finite, computed by the very code that
    makes features of flow tables (`_flow_steps`). The order of packets of one moment does not matter.
    """
    columns: dict[str, NDArray[Any]] = {
        "length": np.asarray(lengths, np.float64),
        "time": np.asarray(times, np.float64),
        "out": np.asarray(towards_server, bool),
        "connection": np.asarray(connections, np.int64),
    }
    step = np.arange(len(columns["time"])) // step_packets
    packets = pl.DataFrame(columns).with_columns(
        step=pl.Series(step % steps), unit=pl.Series(step // steps, dtype=pl.Int64)
    )
    there = pl.col("out")
    flows = (
        packets.group_by("unit", "step", "connection")
        .agg(
            pl.col("time").min().alias("start"),
            (pl.col("time").max() - pl.col("time").min()).alias("duration"),
            pl.col("length").sum().alias("bytes"),
            pl.len().cast(pl.Float64).alias("packets"),
            pl.col("length").filter(there).sum().alias("bytes_out"),
            pl.col("length").filter(~there).sum().alias("bytes_in"),
            there.sum().cast(pl.Float64).alias("packets_out"),
            (~there).sum().cast(pl.Float64).alias("packets_in"),
        )
        .sort("unit", "step", "start", "connection")
        .with_columns(
            gap=pl.col("start").diff().over("unit"),
            site=pl.lit(0, pl.Int64),
            **{"class": pl.lit(0, pl.Int64)},
        )
    )
    made = to_steps(flows, FLOW_FEATURES, _PLAN)
    return np.ascontiguousarray(made.select(list(FLOW_FEATURES)).to_numpy(), dtype=np.float32)
