"""Packets to steps: what a monitor outside the TLS tunnel can say about a run of packets.

Pure NumPy. No address, port, identifier, TTL, window size or joint of flags enters; flags only as
shares of their own. Reusable by every source that yields packets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lazaretto.types import Float

__all__ = [
    "ACK",
    "FEATURES",
    "FIN",
    "GAP_FLOOR_SECONDS",
    "PSH",
    "RATE_FEATURE",
    "RST",
    "SYN",
    "URG",
    "step_features",
]

SYN, ACK, FIN, RST, PSH, URG = (1 << bit for bit in range(6))
_FLAGS = {"syn": SYN, "ack": ACK, "fin": FIN, "reset": RST, "push": PSH, "urgent": URG}

# Captures differ in how they stamp packets that arrive together (1 µs apart in one, 20 to 100 µs in
# another), which would tell the capture, not the traffic. Shorter gaps count as this long.
GAP_FLOOR_SECONDS = 1e-4
_BURST_GAP_SECONDS = 0.01  # a longer silence ends a burst
# Coarse on purpose: exact sizes tell the sender's operating system (SYN of 54, 58 or 74 bytes).
_LENGTH_EDGES = (64, 128, 256, 512, 1024)
_CHUNK = 8192  # steps computed at once; bounds memory at about 8192 · 50 · 8 B per temporary

RATE_FEATURE = "packets_per_second"
FEATURES: tuple[str, ...] = (
    "length_mean_bytes",
    "length_sd_bytes",
    "length_median_bytes",
    "length_p90_bytes",
    "length_max_bytes",
    "length_entropy_bits",
    "share_length_below_64_bytes",
    "payload_mean_bytes",
    "share_without_payload",
    *(f"share_{name}" for name in _FLAGS),
    "syn_per_ack",
    "share_towards_server",
    "direction_switches",
    "longest_run_towards_server_packets",
    "flow_starts",
    "flow_ends",
    "gap_mean_log10_seconds",
    "gap_sd_log10_seconds",
    "gap_p10_log10_seconds",
    "gap_median_log10_seconds",
    "gap_p90_log10_seconds",
    "gap_max_log10_seconds",
    "share_gap_below_1_ms",
    "share_gap_below_10_ms",
    "share_gap_above_1_s",
    "bursts",
    "longest_burst_packets",
    "duration_seconds",
    RATE_FEATURE,
    "bytes_per_second",
)


def step_features(
    lengths: ArrayLike,
    payloads: ArrayLike,
    times: ArrayLike,
    flags: ArrayLike,
    towards_server: ArrayLike,
    boundaries: ArrayLike | Sequence[int],
) -> Float:
    """Features of each step, a run of packets.

    lengths, payloads: [packets] bytes, of the frame and of the TCP payload.
    times: [packets] seconds, not decreasing inside a step. flags: [packets] bits SYN | ACK | ...
    towards_server: [packets] bool. boundaries: [steps + 1] offsets; step i is packets
    boundaries[i]:boundaries[i + 1], at least one of them.

    Returns [steps, len(FEATURES)] float32, finite. Gaps are those between packets of one step, at
    least GAP_FLOOR_SECONDS; a step of one packet has one gap of that length. Quantiles are of the
    sorted values at index ceil(q · count) - 1, so that no two values are ever mixed.
    Raises ValueError where a step is empty or the arrays differ in length.
    """
    offsets = np.asarray(boundaries, dtype=np.int64)
    counts = np.diff(offsets)
    columns = [np.asarray(c) for c in (lengths, payloads, times, flags, towards_server)]
    if len({len(c) for c in columns}) != 1:
        raise ValueError(f"packet columns differ in length: {[len(c) for c in columns]}")
    if counts.size and (counts.min() < 1 or offsets[0] < 0 or offsets[-1] > len(columns[0])):
        raise ValueError("every step needs at least one packet, and boundaries must lie inside the packets")
    out = np.empty((len(counts), len(FEATURES)), dtype=np.float32)
    for low in range(0, len(counts), _CHUNK):
        high = min(low + _CHUNK, len(counts))
        out[low:high] = _chunk(columns, offsets[low:high], counts[low:high])
    return out


def _chunk(columns: list[NDArray[Any]], start: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[Any]:
    width = int(count.max())
    column = np.arange(width)
    there = column < count[:, None]  # [steps, width]
    index = np.where(there, start[:, None] + column, start[:, None])
    length, payload, time, flag, up = (c[index] for c in columns)
    length, payload = length.astype(np.float64), payload.astype(np.float64)
    up = up.astype(bool) & there

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray((values * there).sum(axis=1) / count)

    # Where there is one packet there is no gap: one of the floor's length stands in.
    gaps = np.maximum(np.diff(time, axis=1, prepend=time[:, :1])[:, 1:], GAP_FLOOR_SECONDS)
    gap_there = there[:, 1:]
    if width == 1:
        gaps, gap_there = np.full((len(count), 1), GAP_FLOOR_SECONDS), np.ones((len(count), 1), bool)
    gaps = np.where(gap_there, gaps, GAP_FLOOR_SECONDS)
    gap_there = gap_there.copy()
    gap_there[count == 1, 0] = True
    gap_count = np.maximum(count - 1, 1)
    log_gap = np.log10(gaps)

    def gap_mean(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray((values * gap_there).sum(axis=1) / gap_count)

    length_mean, gap_log_mean = mean(length), gap_mean(log_gap)
    sorted_length, sorted_gap = _sorted(length, there), _sorted(log_gap, gap_there)
    share = {name: mean((flag & bit) != 0) for name, bit in _FLAGS.items()}
    duration = np.where(there, time, -np.inf).max(axis=1) - time[:, 0]
    floored = np.maximum(duration, GAP_FLOOR_SECONDS)
    turn = (up[:, 1:] != up[:, :-1]) & there[:, 1:]
    together = (gaps <= _BURST_GAP_SECONDS) & gap_there & (count > 1)[:, None]
    features = (
        length_mean,
        np.sqrt(mean((length - length_mean[:, None]) ** 2)),
        _quantile(sorted_length, count, 0.5),
        _quantile(sorted_length, count, 0.9),
        sorted_length[np.arange(len(count)), count - 1],
        _entropy(length, there, count),
        mean(length < _LENGTH_EDGES[0]),
        mean(payload),
        mean(payload == 0),
        *share.values(),
        share["syn"] / np.maximum(share["ack"], 1 / count),
        mean(up),
        turn.sum(axis=1),
        _longest_run(up),
        mean(((flag & SYN) != 0) & up) * count,
        mean((flag & (FIN | RST)) != 0) * count,
        gap_log_mean,
        np.sqrt(gap_mean((log_gap - gap_log_mean[:, None]) ** 2)),
        *(_quantile(sorted_gap, gap_count, q) for q in (0.1, 0.5, 0.9, 1.0)),
        gap_mean(gaps < 0.001),
        gap_mean(gaps < 0.01),
        gap_mean(gaps > 1.0),
        count - together.sum(axis=1),
        1 + _longest_run(together),
        duration,
        count / floored,
        mean(length) * count / floored,
    )
    return np.stack(features, axis=1)


def _sorted(values: NDArray[Any], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.sort(np.where(there, values, np.inf), axis=1)


def _quantile(ordered: NDArray[np.float64], count: NDArray[np.int64], q: float) -> NDArray[np.float64]:
    place = np.ceil(np.round(q * count, 9)).astype(np.int64) - 1
    return np.asarray(ordered[np.arange(len(count)), np.maximum(place, 0)])


def _entropy(length: NDArray[Any], there: NDArray[np.bool_], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Entropy in bits of frame lengths over coarse bins."""
    bins = np.searchsorted(_LENGTH_EDGES, length, side="right")
    total = np.zeros(len(count))
    for code in range(len(_LENGTH_EDGES) + 1):
        p = ((bins == code) & there).sum(axis=1) / count
        total -= p * np.log2(np.where(p > 0, p, 1.0))
    return total


def _longest_run(true: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Longest stretch of True in each row."""
    longest = np.zeros(len(true), dtype=np.int64)
    run = np.zeros(len(true), dtype=np.int64)
    for column in true.T:
        run = np.where(column, run + 1, 0)
        np.maximum(longest, run, out=longest)
    return longest
