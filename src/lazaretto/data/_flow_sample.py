"""A small generated flow table, so that the source can be tried without files."""

from __future__ import annotations

import numpy as np
import polars as pl

from lazaretto.keys import generator

__all__ = ["sample_flows"]


def sample_flows(hosts: int = 24, flows_per_host: int = 200) -> pl.DataFrame:
    """Normalised flows (see `_flow_columns.normalise`) of hosts on three wards, an attack on every other.

    A scan: short one-way flows to many peers. A flood: many small flows to one peer.
    """
    draw = generator(0, "flows_csv", "sample")
    parts = []
    for host in range(hosts):
        n = flows_per_host
        kind = ("normal", "scan", "normal", "flood")[host % 4]
        attacked = np.zeros(n, bool)
        if kind != "normal":
            attacked[n // 2 :] = draw.random(n - n // 2) < 0.5
        start = 1_700_000_000.0 + np.cumsum(draw.exponential(6.0, n))
        out = draw.lognormal(6.0, 1.0, n).round()
        back = draw.lognormal(7.0, 1.0, n).round()
        peer = draw.integers(0, 6, n)
        port = draw.choice([53, 443, 1883], n)
        if kind == "scan":
            peer = np.where(attacked, draw.integers(0, 250, n), peer)
            back = np.where(attacked & (draw.random(n) < 0.8), 0.0, back)
            out = np.where(attacked, 60.0, out)
        if kind == "flood":
            peer = np.where(attacked, 7, peer)
            out = np.where(attacked, draw.lognormal(4.0, 0.3, n).round(), out)
        parts.append(
            pl.DataFrame(
                {
                    "line": np.arange(2, n + 2),
                    "start": start,
                    "duration": draw.exponential(1.0, n).round(3),
                    "bytes_out": out,
                    "bytes_in": back,
                    "bytes": out + back,
                    "packets_out": np.ceil(out / 500),
                    "packets_in": np.ceil(back / 500),
                    "packets": np.ceil(out / 500) + np.ceil(back / 500),
                    "protocol": np.where(port == 53, "udp", "tcp"),
                    "failed": (back == 0).astype(float),
                    "source": [f"10.0.{host % 3}.{host}"] * n,
                    "destination": [f"10.9.0.{p}" for p in peer],
                    "source_port": [str(p) for p in draw.integers(20_000, 60_000, n)],
                    "destination_port": [str(p) for p in port],
                    "site": [f"ward {host % 3 + 1}"] * n,
                    "class_name": np.where(attacked, kind, "normal"),
                }
            )
        )
    return pl.concat(parts)
