"""X-IoMT's views: flows of packets against a slow loop, the features of flow tables, and leaks by view."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.data._packet_flows import FLOW_FEATURES, flow_features
from lazaretto.data.flows_csv import flows_csv
from lazaretto.data.leaks import table_findings
from lazaretto.types import Source

FULL = ("mqtt.msgtype", "http.request.method", "http.response")


def _x_iomt(**options: object) -> Source:
    made: Source = catalog.build("sources", "x_iomt", options)
    return made


def test_flows_agree_with_a_slow_loop() -> None:
    rng = np.random.default_rng(1)
    steps, size = 3, 12
    count = 2 * steps * size  # two streams
    length = rng.integers(40, 1500, count).astype(float)
    time = np.concatenate([np.cumsum(rng.exponential(0.5, count // 2)) for _ in range(2)])
    out, connection = rng.random(count) < 0.6, rng.integers(0, 4, count)
    made = flow_features(length, time, out, connection, size, steps)
    assert made.shape == (2 * steps, len(FLOW_FEATURES))
    previous: float | None = None
    for number, row in enumerate(made):
        here = range(number * size, (number + 1) * size)
        held = defaultdict(list)
        for packet in here:
            held[connection[packet]].append(packet)
        flows = sorted(held.values(), key=lambda packets: time[packets[0]])
        starts = [time[packets[0]] for packets in flows]
        span = max(starts[-1] - starts[0], 0.01)
        sent = sum(length[p] for p in here)
        previous = None if number % steps == 0 else previous
        before = ([] if previous is None else [previous]) + starts
        gaps = [b - a for a, b in itertools.pairwise(before)]
        per_flow = [sum(length[p] for p in packets) for packets in flows]
        mean = sum(per_flow) / len(flows)
        slow = {
            "flows_per_second": len(flows) / span,
            "packets_per_second": size / span,
            "bytes_per_second": sent / span,
            "bytes_per_flow": mean,
            "bytes_spread": math.sqrt(sum((b - mean) ** 2 for b in per_flow) / len(flows)) / mean,
            "packets_per_flow": size / len(flows),
            "bytes_per_packet": sent / size,
            "bytes_out_share": sum(length[p] for p in here if out[p]) / sent,
            "packets_out_share": sum(out[p] for p in here) / size,
            "one_way_share": sum(len({bool(out[p]) for p in f}) == 1 for f in flows) / len(flows),
            "single_packet_share": sum(len(f) == 1 for f in flows) / len(flows),
            "duration_max_seconds": max(time[f[-1]] - time[f[0]] for f in flows),
            "gap_mean_seconds": sum(gaps) / len(gaps) if gaps else 0.0,
            "gap_max_seconds": max(gaps, default=0.0),
        }
        found = dict(zip(FLOW_FEATURES, row.tolist(), strict=True))
        assert {name: found[name] for name in slow} == pytest.approx(slow, rel=1e-4, abs=1e-6)
        previous = starts[-1]


def test_flow_features_are_those_of_flow_tables() -> None:
    """What lets a model go from packets to flow tables: the same names, from the same code."""
    named = flows_csv().sample().schema.features["traffic"]
    assert (
        len(set(FLOW_FEATURES) - set(named)) <= 1
    )  # "flows" stands for its rate where steps last equally long
    assert _x_iomt(view="flows").sample().schema.features["traffic"] == FLOW_FEATURES


@pytest.mark.parametrize("view", ["headers", "full", "flows"])
def test_a_view_drops_what_it_does_not_read(view: str) -> None:
    made = _x_iomt(view=view)
    assert all((name in made.leaks) is (view != "full") for name in FULL)
    assert {"mqtt.topic", "http.host", "mqtt.clientid", "frame.time", "tcp.window_size"} <= set(made.leaks)
    table = made.sample()
    shares = [
        name for name in table.schema.features["traffic"] if name.startswith(("share_mqtt", "share_http"))
    ]
    assert len(shares) == (7 if view == "full" else 0)
    assert table.schema.rate_feature in table.schema.features["traffic"]


@pytest.mark.parametrize("view", ["full", "flows"])
def test_real_packets_in_the_view(view: str, data_folder: Callable[[str], Path]) -> None:
    made = _x_iomt(view=view, sites=3, streams_per_site=12)
    table = made.load(data_folder("x-iomt"), 0)
    values = table.x["traffic"]
    assert np.isfinite(values).all()
    names = table.schema.features["traffic"]
    if view == "full":  # normal steps publish; a step's shares are shares of its packets
        shares = values[:, :, [name.startswith(("share_mqtt", "share_http")) for name in names]]
        assert shares.min() >= 0
        assert shares.sum(axis=2).max() <= 1 + 1e-6
        assert shares[table.y_step == 0].max() > 0
    alone = [f.columns[0] for f in table_findings(table) if len(f.columns) == 1 and f.kind == "value"]
    assert not [name for name in alone if name.startswith(("share_mqtt", "share_http"))]
