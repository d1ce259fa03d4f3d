"""A model of one real set judged on another: packets of a testbed there, flow tables of captures here."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path

from lazaretto import runlog
from lazaretto.cli import main

PLAN = """
[run]
seeds = [0]
[data]
source = "x_iomt"
options = { sites = 2, streams_per_site = 12, windows = 2, view = "VIEW" }
[model.options]
channels = 8
hidden = 8
[train]
rounds = 2
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""


def test_from_packets_to_flow_tables(root: Path, data_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """17 of 18 features are found by name; the report says what a step was and is, and what is new."""
    packets, captures = data_folder("x-iomt"), data_folder("captures") / "zeek-and-pcap"
    (tmp_path / "plan.toml").write_text(PLAN.replace("VIEW", "flows"))
    words = ["run", str(tmp_path / "plan.toml"), "--data", str(packets), "--out", str(tmp_path / "out")]
    assert main([*words, "--quiet"]) == 0
    plan = ["--plan", str(root / "examples" / "own_flows.toml")]
    judged = ["evaluate", str(tmp_path / "out"), "--source", "flows_csv", "--data", str(captures), *plan]
    assert main([*judged, "--out", str(tmp_path / "there"), "--quiet"]) == 0
    sheet = next(runlog.read(tmp_path / "there" / "run.sqlite", "data")).body
    notes = " ".join(sheet["notes"])
    assert len(sheet["features"]) == 18
    absent = "Not in 'flows_csv', and kept at the median of training: packets_out_share (1 of the model's 18"
    assert absent in notes  # Argus's short form has bytes both ways, packets in sum
    assert "A step was 50 packets in training, and is 5 flows here." in notes
    assert "Families that no training unit carried: malware, port_scan, telnet_scan." in notes
    found = json.loads((tmp_path / "there" / "metrics.json").read_text())["test"]["traffic"]
    assert set(found["recall_by_class"]) == {"malware", "port_scan", "telnet_scan"}
    assert "data that it never saw" in html.unescape((tmp_path / "there" / "report.html").read_text())
