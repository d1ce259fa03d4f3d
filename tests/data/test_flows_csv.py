"""Own flow tables: known formats, mapping, labels, steps, features, sites."""

from __future__ import annotations

import gzip
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto.data._flow_read import open_table, read_columns
from lazaretto.data.duplicates import remove_duplicates
from lazaretto.data.flows_csv import flows_csv
from lazaretto.data.splits import assign_splits
from lazaretto.errors import DataError, PlanError
from lazaretto.types import UNASSIGNED, Table

ARGUS = (
    "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,"  # as Argus writes them
    "TotPkts,TotBytes,SrcBytes,SrcPkts,Label"
)


def argus_row(
    second: float, host: str = "10.0.0.1", peer: str = "10.9.0.1", label: str = "flow=Normal", **kw: Any
) -> str:
    stamp = f"2024/03/01 10:{int(second) // 60:02d}:{second % 60:09.6f}"
    port, state, total, out = (
        kw.get("port", 443),
        kw.get("state", "CON"),
        kw.get("total", 300),
        kw.get("out", 100),
    )
    proto = kw.get("proto", "tcp")
    return f"{stamp},0.5,{proto},{host},50000,   ->,{peer},{port},{state},0,0,4,{total},{out},2,{label}"


def write(folder: Path, name: str, rows: list[str], header: str = ARGUS) -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def feature(table: Table, name: str) -> np.ndarray:
    return table.x["traffic"][..., table.schema.features["traffic"].index(name)]


def test_features_of_a_step_are_what_a_hand_computes(tmp_path: Path) -> None:
    rows = [
        argus_row(0, peer="a", port=1, total=100, out=100, state="REQ"),
        argus_row(10, peer="b", port=2),
        argus_row(30, peer="b", port=2, proto="udp"),
        argus_row(50, peer="c", port=3, total=300, out=0),
        argus_row(70, peer="a", port=1, label="flow=Malware-Scan"),
    ]
    table = flows_csv(steps={"seconds": 60, "per_window": 4}).load(write(tmp_path, "t.csv", rows), 0)
    assert table.x["traffic"].shape[:2] == (1, 4)
    assert table.valid.tolist() == [[True, True, False, False]]
    assert table.schema.classes == ("normal", "malware_scan")
    assert table.y_step.tolist() == [[0, 1, 0, 0]]
    assert table.y.tolist() == [1]
    expected = {
        "flows": 4,
        "bytes_per_flow": 250,
        "bytes_per_second": 1000 / 60,
        "bytes_per_packet": 1000 / 16,
        "bytes_out_share": 300 / 1000,
        "one_way_share": 0.5,
        "peers": 3,
        "peer_entropy": 1.5 * np.log(2) / np.log(4),
        "new_peer_share": 0.75,
        "repeat_share": 0.25,
        "destination_ports": 3,
        "destination_port_entropy": 1.5 * np.log(2) / np.log(4),
        "udp_share": 0.25,
        "failed_share": 0.25,
        "duration_mean_seconds": 0.5,
        "gap_mean_seconds": 50 / 3,
        "gap_max_seconds": 20,
    }
    for name, value in expected.items():
        assert feature(table, name)[0, 0] == pytest.approx(value, rel=1e-6), name
    assert feature(table, "new_peer_share")[0, 1] == 0  # "a" was met in the step before
    assert feature(table, "gap_max_seconds")[0, 1] == pytest.approx(20)
    assert not table.x["traffic"][~table.valid].any()


def test_a_step_is_an_attack_if_any_flow_is_and_of_the_commonest_kind(tmp_path: Path) -> None:
    rows = [argus_row(i) for i in range(7)]
    rows += [argus_row(8 + i / 10, label=label) for i, label in enumerate(["zeta", "alpha", "alpha"])]
    table = flows_csv(steps={"flows": 10, "per_window": 1}).load(write(tmp_path, "t.csv", rows), 0)
    assert table.schema.classes == ("normal", "alpha", "zeta")
    assert table.y_step.tolist() == [[1]]


def test_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    rows = [argus_row(i * 7, host=f"10.0.0.{i % 3}", total=200 + i) for i in range(60)]
    first = flows_csv().load(write(tmp_path, "t.csv", rows), 0)
    second = flows_csv().load(write(tmp_path, "t.csv", rows[::-1]), 0)
    np.testing.assert_array_equal(first.x["traffic"], second.x["traffic"])
    assert first.unit_names == second.unit_names == ("10.0.0.0", "10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("packed", [False, True])
def test_delimiters_and_gzip_change_nothing(tmp_path: Path, delimiter: str, packed: bool) -> None:
    rows = [argus_row(i * 20) for i in range(9)]
    plain = flows_csv().load(write(tmp_path, "plain.csv", rows), 0)
    text = "\n".join([ARGUS, *rows]).replace(",", delimiter).encode()
    other = tmp_path / ("other.tsv.gz" if packed else "other.tsv")
    other.write_bytes(gzip.compress(text) if packed else b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    np.testing.assert_array_equal(flows_csv().load(other, 0).x["traffic"], plain.x["traffic"])


def test_cicflowmeter_is_known_by_its_header(tmp_path: Path) -> None:
    header = (
        "Flow ID, Source IP, Source Port, Destination IP, Destination Port, Protocol, Timestamp,"
        " Flow Duration, Total Fwd Packets, Total Backward Packets,Total Length of Fwd Packets,"
        " Total Length of Bwd Packets,Flow Bytes/s, Fwd Header Length, Fwd Header Length, Label"
    )
    rows = [
        f"x,10.0.0.1,5000,10.0.0.{i},80,6,3/7/2017 8:5{i}:00,2000000,3,1,300,100,Infinity,1,2,{label}"
        for i, label in enumerate(["BENIGN", "BENIGN", "Web Attack - XSS"])
    ]
    table = flows_csv().load(write(tmp_path, "t.csv", rows, header), 0)
    assert table.schema.classes == ("normal", "web_attack_xss")
    assert table.y_step[table.valid].tolist() == [0, 0, 1]
    assert feature(table, "duration_mean_seconds")[0, 0] == 2.0
    assert feature(table, "bytes_out_share")[0, 0] == pytest.approx(0.75)
    assert table.time[0] == datetime(2017, 7, 3, 8, 50, tzinfo=UTC).timestamp()  # the day stands first


def test_netflow_has_no_clock_and_needs_none(tmp_path: Path) -> None:
    header = (
        "IPV4_SRC_ADDR,L4_SRC_PORT,IPV4_DST_ADDR,L4_DST_PORT,PROTOCOL,L7_PROTO,IN_BYTES,OUT_BYTES,IN_PKTS,OUT_PKTS,"
        "TCP_FLAGS,FLOW_DURATION_MILLISECONDS,Label,Attack"
    )
    rows = [
        f"10.0.0.1,1,10.0.0.{i},443,6,7,60,{0 if i else 40},1,0,{2 if i else 18},1500,{i % 2},"
        + ("DoS" if i else "Benign")
        for i in range(4)
    ]
    table = flows_csv(steps={"flows": 4, "per_window": 2}).load(write(tmp_path, "t.csv", rows, header), 0)
    assert table.schema.classes == ("normal", "dos")
    assert feature(table, "failed_share")[0, 0] == pytest.approx(0.75)  # SYN without ACK
    assert feature(table, "duration_mean_seconds")[0, 0] == 1.5
    assert not any(
        "gap" in name or "second" in name.replace("_seconds", "") for name in table.schema.features["traffic"]
    )


def test_a_column_that_is_ignored_in_several_files_is_one(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        rows = [
            f"{1_700_000_000_000 + i * 30_000};h{i % 2};{100 + i};{'bad' if i > 5 else 'ok'};junk"
            for i in range(10)
        ]
        write(tmp_path, name, rows, "when;who;octets;verdict;extra")
    source = flows_csv(
        columns={"start_time": "when", "source_address": "who", "bytes_total": "octets", "label": "verdict"},
        label={"normal": ["ok"], "families": {"b*": "flood"}},
    )
    assert source.load(tmp_path, 0).counts["columns_ignored"] == 1


def test_any_table_by_a_mapping(tmp_path: Path) -> None:
    rows = [
        f"{1_700_000_000_000 + i * 30_000};h{i % 2};{100 + i};w{i % 2};{'bad' if i > 5 else 'ok'};junk"
        for i in range(10)
    ]
    path = write(tmp_path, "t.csv", rows, "when;who;octets;ward;verdict;extra")
    source = flows_csv(
        columns={
            "start_time": "when",
            "source_address": "who",
            "bytes_total": "octets",
            "site": "WARD",
            "label": "verdict",
        },
        label={"normal": ["ok"], "families": {"b*": "flood"}},
    )
    table = source.load(path, 0)
    assert table.schema.classes == ("normal", "flood")
    assert table.site_names == ("w0", "w1")
    assert [table.site_names[s] for s in table.site] == ["w0", "w1"]
    assert table.counts["columns_ignored"] == 1
    assert table.time[0] == 1_700_000_000.0
    assert source.leaks["who"]
    assert source.leaks["when"]
    assert table.leaks is not None
    assert set(table.leaks) == {"who", "when", "ward"}, "not the columns of formats that it is not in"


def test_labels_by_file_and_rows_without_label(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", [argus_row(i, label="") for i in range(3)])
    write(tmp_path, "b.csv", [argus_row(i, label="flow=Own" if i == 0 else "") for i in range(3)])
    options: dict[str, Any] = {"steps": {"flows": 1, "per_window": 1}, "site": "file"}
    named = flows_csv(label={"files": {"a.csv": "normal", "b.*": "Port Scan"}}, **options).load(tmp_path, 0)
    assert named.schema.classes == ("normal", "own", "port_scan")
    assert sorted(named.y.tolist()) == [0, 0, 0, 1, 2, 2]  # a row's own label comes first
    assert named.site_names == ("a.csv", "b.csv")
    taken = flows_csv(label={"unlabelled": "normal"}, **options).load(tmp_path, 0)
    assert taken.counts["rows_unlabelled_taken_as_normal"] == 5
    assert taken.labels == {("", "normal"): 5, ("flow=Own", "own"): 1}
    assert any("5 rows" in note for note in taken.notes)
    assert not any("label.files" in warning for warning in named.warnings)
    dropped = flows_csv(label={"files": {"a.csv": "normal"}}, **options).load(tmp_path, 0)
    assert dropped.counts["rows_unlabelled"] == 2
    assert len(dropped.y) == 4
    missed = flows_csv(label={"files": {"a.csv": "normal", "c.csv": "scan"}}, **options).load(tmp_path, 0)
    assert any("not among those read" in warning and "c.csv" in warning for warning in missed.warnings)


@pytest.mark.parametrize("files", ["/abs/*.csv", "../*.csv", "a/../../*.csv", ["*.csv", "/abs/*.csv"]])
def test_files_outside_the_folder_are_refused(files: Any) -> None:
    with pytest.raises(PlanError, match=r"(?s)within the folder.*way out: give the folder with --data"):
        flows_csv(files=files)


@pytest.mark.parametrize("files", ["", ".", "**.csv", [], 5, ["*.csv", 5], {"a": "b"}])
def test_files_that_are_no_patterns_are_refused(files: Any) -> None:
    with pytest.raises(PlanError, match=r'(?s)data.options.files.*way out.*files = "\*.csv'):
        flows_csv(files=files)


def test_files_in_folders_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a..b").mkdir()
    write(tmp_path / "a..b", "t.csv", [argus_row(i * 20) for i in range(9)])
    for files in ("**/*.csv", "./a..b/*.csv", ["*.tsv", "a..b/t.csv"]):
        assert flows_csv(files=files).load(tmp_path, 0).counts["rows_used"] == 9


def test_a_feature_needs_its_column_in_every_file(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", [argus_row(i) for i in range(3)])
    short = ",".join(name for name in ARGUS.split(",") if name != "SrcPkts")
    rows = [",".join(c for place, c in enumerate(argus_row(i).split(",")) if place != 14) for i in range(3)]
    write(tmp_path, "b.csv", rows, short)
    table = flows_csv().load(tmp_path, 0)
    assert "packets_out_share" not in table.schema.features["traffic"]
    assert "packets_per_flow" in table.schema.features["traffic"]
    assert any("packets_out" in note for note in table.notes)


def test_blocks_of_a_host_become_units_and_the_report_is_told(tmp_path: Path) -> None:
    rows = [argus_row(i, label="x" if i % 20 > 15 else "flow=Normal") for i in range(100)]
    table = flows_csv(steps={"flows": 5, "per_window": 3, "per_unit": 4}).load(
        write(tmp_path, "t.csv", rows), 0
    )
    assert len(table.unit_names) == 5
    assert table.counts["hosts"] == 1
    assert table.valid.sum() == 20
    assert table.valid.sum(axis=1).tolist() == [3, 1] * 5
    assert any("blocks of 4 steps of one host" in note for note in table.notes)
    assert any(note.startswith("Too little data") for note in table.notes)
    assert np.all(np.diff(table.time) > 0)


def test_sample_is_sound_and_stable() -> None:
    table, again = flows_csv().sample(), flows_csv().sample()
    np.testing.assert_array_equal(table.x["traffic"], again.x["traffic"])
    assert np.isfinite(table.x["traffic"]).all()
    assert table.x["traffic"].dtype == np.float32
    assert (table.split == UNASSIGNED).all()
    assert len(table.site_names) == 3
    names = " ".join(table.schema.features["traffic"])
    assert "address" not in names
    assert "start" not in names
    for unit in np.unique(table.unit):
        assert np.all(np.diff(table.time[table.unit == unit]) > 0)


def test_raw_holds_every_column_but_the_label(tmp_path: Path) -> None:
    rows = [argus_row(i, label="" if i == 3 else "x" if i % 2 else "Normal") for i in range(50)]
    raw = flows_csv().raw
    assert raw is not None
    found = raw(write(tmp_path, "t.csv", rows))
    assert set(found.columns) == set(ARGUS.split(",")) - {"Label"}
    assert len(found.label) == 49
    assert set(found.label.tolist()) == {0, 1}
    assert np.all(np.diff(found.group) >= 0)
    assert found.group.max() >= 1


def test_columns_may_have_any_names(tmp_path: Path) -> None:
    header = "line,blank,,host,step,unit,class,line,verdict"
    rows = [f"{i * 9},1,2,h,{100 + i},3,4,5,{'bad' if i % 4 else 'normal'}" for i in range(60)]
    path = write(tmp_path, "t.csv", rows, header)
    columns = {"start_time": "line", "source_address": "host", "bytes_total": "step", "label": "verdict"}
    source = flows_csv(columns=columns)
    table = source.load(path, 0)
    assert table.counts["rows_used"] == 60
    assert table.time[0] == 0.0  # of two columns of one name, the first is meant
    assert source.raw is not None
    assert set(source.raw(path).columns) == set(header.split(",")) - {"verdict"}


def test_example_plan_on_argus_captures(root: Path, data_folder: Callable[[str], Path]) -> None:
    folder = data_folder("captures/zeek-and-pcap")
    plan = tomllib.loads((root / "examples" / "own_flows.toml").read_text(encoding="utf-8"))
    table = flows_csv(**plan["data"]["options"]).load(folder, 0)
    assert table.schema.classes == ("normal", "malware", "port_scan", "telnet_scan")
    assert table.counts["rows_read"] == 7600
    assert table.counts["rows_management"] == 1
    assert any("Too little data" in note for note in table.notes)
    split = assign_splits(table, **plan["split"])
    kept, _ = remove_duplicates(split)
    for part in (0, 1, 2):
        held = kept.y_step[kept.split == part][kept.valid[kept.split == part]]
        assert set(held.tolist()) == {0, 1, 2, 3}


def test_a_file_that_was_cut_off_is_refused_and_a_whole_one_without_a_line_end_is_not(tmp_path: Path) -> None:
    file = tmp_path / "flows.csv"
    whole = "a,b,c\n1,2,3\n4,5,6"
    short = "a,b,c,\n1,2,3\n4,5,6"  # a header that ends in a delimiter, and no row that does
    one = ("a,b,c\n1,2,3", "a,b,c\r\n1,2,3\r\n")
    for text in one:
        file.write_text(text)
        assert len(read_columns(open_table(file), ["a"])) == 1
    for text in (whole, whole + "\n", whole + "\r\n", whole + "\n7,8\n", whole[:-1] + '"6,7"', short):
        file.write_text(text)
        assert len(read_columns(open_table(file), ["a"])) >= 2
    for text, line in ((whole[:-2], 3), (whole[:-3] + "\r", 3), ("a,b,c\n1,2", 2), (short[:-2], 3)):
        file.write_text(text)
        with pytest.raises(DataError, match=f"line {line}, the last, has too few cells and no line end"):
            read_columns(open_table(file), ["a"])


@pytest.mark.parametrize(
    ("unit", "counted", "one"),
    [
        ("source_address", "hosts", "host"),
        ("host_pair", "pairs_of_hosts", "pair of hosts"),
        ("file", None, "file"),
    ],
)
def test_notes_speak_of_what_makes_a_stream(tmp_path: Path, unit: str, counted: str | None, one: str) -> None:
    for name, label in (("a.csv", "flow=Normal"), ("b.csv", "flow=Own")):
        write(tmp_path, name, [argus_row(i, label=label) for i in range(6)])
    table = flows_csv(unit=unit, steps={"flows": 1, "per_window": 1, "per_unit": 2}).load(tmp_path, 0)
    assert {"hosts", "pairs_of_hosts"} & set(table.counts) == ({counted} if counted else set())
    assert any(f"steps of one {one}: blocks of the same {one} stand" in note for note in table.notes)
    few = "files" if unit == "file" else (counted or "").replace("_", " ")
    assert any(f"units from 2 {few}" in warning for warning in table.warnings)
