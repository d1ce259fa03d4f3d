"""Files that cannot be used: each a DataError that names file, row, column and value, and the way out."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto.data import _flow_read
from lazaretto.data._x_iomt_files import read_packets
from lazaretto.data.flows_csv import flows_csv
from lazaretto.data.splits import assign_splits
from lazaretto.errors import DataError

HEADER = "start,seconds,host,octets,site,label,extra"
COLUMNS = {
    "start_time": "start",
    "duration_seconds": "seconds",
    "source_address": "host",
    "bytes_total": "octets",
    "label": "label",
}


def row(i: int, **other: Any) -> str:
    cells = {
        "start": 1000 + 10 * i,
        "seconds": 0.5,
        "host": "a",
        "octets": 100,
        "site": "x",
        "label": "normal",
    }
    cells |= {"extra": "e"} | other
    return ",".join(str(cells[name]) for name in HEADER.split(","))


def rows(count: int = 300) -> list[str]:
    return [
        row(i, host=f"h{i % 10}", label="scan" if i % 10 in (1, 3, 5) else "normal") for i in range(count)
    ]


def text(lines: list[str]) -> bytes:
    return "\n".join([HEADER, *lines, ""]).encode()


def refuse(path: Path | None, *words: str, **options: Any) -> None:
    """Loading is refused, and the message holds the words and a way out."""
    with pytest.raises(DataError) as caught:
        flows_csv(**{"columns": COLUMNS, **options}).load(path, 0)
    for word in (*words, "way out:"):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def write(data: bytes, name: str = "flows.csv") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


Put = Callable[..., Path]


def test_a_sound_file_loads(put: Put) -> None:
    table = flows_csv(columns=COLUMNS).load(put(text(rows())), 0)
    assert table.counts["rows_used"] == 300
    assert table.counts["columns_ignored"] == 2  # extra columns are ignored, and counted
    assert set(assign_splits(table).split.tolist()) == {0, 1, 2}


def test_no_path_no_file_no_match(tmp_path: Path, put: Put) -> None:
    refuse(None, "no path")
    refuse(tmp_path / "none.csv", "no such file", "none.csv")
    put(b"x", "readme.md")
    refuse(tmp_path, "no flow table", "readme.md", "data.options.files")


def test_a_line_end_of_old_macs_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text(rows()).replace(b"start,", b"start\r,", 1))
    refuse(path, "a.csv", "line 1", "header", "(found: a carriage return in the midst of the line)")


@pytest.mark.parametrize(
    ("old", "new", "column", "found"),
    [
        (b",scan,", b",sc\ran,", "label", r"'sc\ran', and 2 more such rows"),
        (b",scan,", b",\x1b[31mscan,", "label", r"'\x1b[31mscan'"),
        (b",scan,", b',"sc\nan",', "label", r"'sc\nan'"),
        (b",h1,", b",h\r1,", "host", r"'h\r1'"),
        (b",x,", b",x\x0by,", "site", r"'x\x0by'"),
    ],
)
def test_control_characters_within_names(put: Put, old: bytes, new: bytes, column: str, found: str) -> None:
    path = put(text(rows()).replace(old, new, 3))
    first = text(rows()).partition(old)[0].count(b"\n") + 1
    refuse(
        path,
        f"flows.csv, line {first}, column '{column}'",
        "holds a control character",
        found,
        site="column",
        columns=COLUMNS | {"site": "site"},
    )


def test_blanks_at_the_end_of_names_are_no_part_of_them(put: Put) -> None:
    plain, table = (
        flows_csv(columns=COLUMNS).load(put(data), 0)
        for data in (text(rows()), text(rows()).replace(b",scan,", b", scan\r,", 3).replace(b"\n", b"\r\n"))
    )
    assert (table.schema.classes, table.unit_names) == (plain.schema.classes, plain.unit_names)


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_empty_file(put: Put, data: bytes) -> None:
    refuse(put(data), "flows.csv is empty")


def test_empty_gzip(put: Put) -> None:
    refuse(put(gzip.compress(b""), "flows.csv.gz"), "flows.csv.gz is empty")


def test_header_only(put: Put) -> None:
    refuse(put(text([])), "flows.csv has a header and no rows")


def test_no_delimiter(put: Put) -> None:
    refuse(put(b"a report about flows\nand its second line\n"), "one column", "a report about flows")


def test_missing_column_is_named_with_the_nearest(put: Put) -> None:
    path = put(text(rows()).replace(b"octets", b"octet", 1))
    refuse(path, "flows.csv has no column 'octets', which is mapped to bytes_total", "did you mean 'octet'?")


def test_missing_needed_target(put: Put) -> None:
    fewer = {target: column for target, column in COLUMNS.items() if target != "start_time"}
    refuse(put(text(rows())), "no column for start_time", "steps.flows", columns=fewer)
    refuse(put(text(rows())), "no column for site", columns=COLUMNS, site="column")
    bare = {target: column for target, column in COLUMNS.items() if not target.startswith("bytes")}
    refuse(put(text(rows())), "no column for bytes or packets", columns=bare)


def test_unknown_format_without_mapping(put: Put) -> None:
    refuse(
        put(text(rows())),
        "no known format",
        "argus",
        "data.options.columns",
        "in a plan",
        "--plan PLAN",
        "docs/your_data.md",
        columns={},
    )


@pytest.mark.parametrize(("cell", "value"), [("octets", "many"), ("seconds", "0x1"), ("start", "yesterday")])
def test_wrong_type_names_line_column_and_value(put: Put, cell: str, value: str) -> None:
    lines = rows()
    lines[41] = row(41, **{cell: value})
    refuse(put(text(lines)), "flows.csv, line 43", f"column '{cell}'", f"(found: {value!r})\n")
    lines[44] = lines[45] = lines[41]
    refuse(put(text(lines)), "flows.csv, line 43", f"(found: {value!r}, and 2 more such rows)")


@pytest.mark.parametrize("cell", ["octets", "start"])
@pytest.mark.parametrize("value", ["", "NaN", "inf", "-Infinity", "null"])
def test_few_unusable_numbers_are_counted_many_are_refused(put: Put, value: str, cell: str) -> None:
    lines = rows()
    lines[7] = row(7, **{cell: value})
    table = flows_csv(columns=COLUMNS).load(put(text(lines)), 0)
    assert table.counts["rows_unusable"] == 1
    assert table.counts["rows_used"] == 299
    assert any(note.startswith("1 rows with an empty, NaN") for note in table.notes)
    assert np.isfinite(table.x["traffic"]).all()
    for i in range(7, 11):
        lines[i] = row(i, **{cell: value})
    refuse(put(text(lines)), "flows.csv, line 9", f"column '{cell}'", "4 such rows of 300")


def test_negative_sizes_are_unusable_too(put: Put) -> None:
    lines = rows()
    lines[7] = row(7, seconds=-1)
    assert flows_csv(columns=COLUMNS).load(put(text(lines)), 0).counts["rows_unusable"] == 1


def test_unusable_cells_in_ignored_columns_do_not_matter(put: Put) -> None:
    lines = [row(i, extra="inf", label="scan" if i % 2 else "normal") for i in range(20)]
    assert flows_csv(columns=COLUMNS).load(put(text(lines)), 0).counts["rows_unusable"] == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (row(4) + "\r" + row(5), "a carriage return in the midst of the line"),
        (row(4, host='"h'), "a quotation mark that is opened there, and not closed"),
        (row(4, host='"h"x'), "a quotation mark that ends a cell, and more text"),
    ],
)
def test_an_odd_line_is_named_in_our_words(put: Put, line: str, says: str) -> None:
    lines = [*rows()[:4], line, *rows()[5:]]
    refuse(put("\r\n".join([HEADER, *lines, ""]).encode()), "flows.csv, line 6", says)


def test_too_many_cells_names_the_line(put: Put) -> None:
    lines = rows()
    lines[4] += ",one,two"
    refuse(put(text(lines)), "flows.csv, line 6", "9 cells for 7 columns")


def test_open_quotation_mark(put: Put) -> None:
    lines = rows()
    lines[4] = '"' + lines[4]
    refuse(put(text(lines)), "flows.csv", "quotation mark")


def test_truncated_gzip(put: Put) -> None:
    draw = random.Random(0)
    packed = gzip.compress(text([row(i, octets=draw.randrange(10**9)) for i in range(3000)]))
    for share in (0.3, 0.9):
        refuse(put(packed[: int(share * len(packed))], "flows.csv.gz"), "flows.csv.gz", "cut off")
    refuse(put(packed[:-4], "flows.csv.gz"), "cut off")


LIMIT = 1 << 16


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_above_the_limit(put: Put, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    data = text(rows())
    path = put(gzip.compress(data) if packed else data, "flows.csv.gz" if packed else "flows.csv")
    monkeypatch.setattr(_flow_read, "MOST_BYTES", len(data))
    assert flows_csv(columns=COLUMNS).load(path, 0).counts["rows_used"] == 300
    monkeypatch.setattr(_flow_read, "MOST_BYTES", len(data) - 1)
    refuse(path, path.name, "too large", f"at most {len(data) - 1:,} bytes", "split the file")


def _peak(read: Callable[[], object]) -> int:
    """The most bytes that a refused reading held; the message names the limit and the way out."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=f"(?s)too large: at most {LIMIT:,} bytes.*split the file"):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_small_gzip_that_unpacks_to_very_much(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_flow_read, "MOST_BYTES", LIMIT)
    bomb = gzip.compress(b"a," * (16 << 20))
    path = put(bomb, "flows.csv.gz")
    assert _peak(lambda: flows_csv(columns=COLUMNS).load(path, 0)) < 4 << 20
    path.unlink()
    folder = put(bomb, "NormalTrafficMQTT_part_001.csv.gz").parent
    assert _peak(lambda: read_packets(folder)) < 4 << 20


def test_a_header_without_end_is_not_cut_into_names(put: Put) -> None:
    folder = put(gzip.compress(b"," * (32 << 20)), "NormalTrafficMQTT_part_001.csv.gz").parent
    with pytest.raises(DataError, match=r"columns are missing.*found: 1,?048,?577 columns"):
        read_packets(folder)


def test_damaged_gzip(put: Put) -> None:
    packed = bytearray(gzip.compress(text(rows(3000))))
    packed[len(packed) // 2] ^= 0xFF
    refuse(put(bytes(packed), "flows.csv.gz"), "flows.csv.gz", "not a sound gzip")
    refuse(put(text(rows()), "flows.csv.gz"), "not a sound gzip", "drop the ending .gz")


def test_binary_rubbish(put: Put) -> None:
    refuse(put(random.Random(0).randbytes(5000)), "flows.csv is not", "in line")
    refuse(put(text(rows()) + b"\0\0\0"), "not text", "a zero byte in line 302")


def test_wrong_encoding_names_the_line(put: Put) -> None:
    lines = rows()
    lines[9] = row(9, label="Web Attack \N{EN DASH} XSS")
    path = put("\n".join([HEADER, *lines]).encode("cp1252"))
    refuse(path, "flows.csv is not UTF-8", "byte 0x96 in line 11", "iconv")
    refuse(put("\n".join([HEADER, *lines]).encode("utf-16")), "UTF-16")


def test_huge_line(put: Put) -> None:
    lines = rows()
    lines[2] = row(2, extra="e" * (2 << 20))
    refuse(put(text(lines)), "flows.csv, line 4 is too long", "2,097,")


def test_labels_missing_or_too_many(put: Put) -> None:
    fewer = {target: column for target, column in COLUMNS.items() if target != "label"}
    refuse(put(text(rows())), "no labelled row", "label.files", columns=fewer)
    lines = rows()
    lines[11] = row(11, label="")
    refuse(put(text(lines)), "flows.csv, line 13: a row without a label", label={"unlabelled": "refuse"})
    many = [row(i, label=f"id{i}") for i in range(300)]
    refuse(put(text(many)), "too many kinds of attack", "label.families")


def test_site_without_rows(tmp_path: Path, put: Put) -> None:
    put(text(rows()), "one.csv")
    two = put(text([row(1, label="")]), "two.csv")
    refuse(tmp_path, "two.csv is a site by itself and has no usable row", site="file")
    two.write_bytes(text([]))
    refuse(tmp_path, "two.csv has a header and no rows", site="file")
    two.unlink()
    lines = rows()
    lines[5] = row(5, site="")
    refuse(put(text(lines), "one.csv"), "one.csv, line 7, column 'site'", columns=COLUMNS | {"site": "site"})


def test_time_format_that_is_none(put: Put) -> None:
    lines = [row(i, start=f"03-2024-01 10:00:{i:02d}") for i in range(20)]
    refuse(put(text(lines)), "line 2", "column 'start'", "'03-2024-01 10:00:00'")
    good = COLUMNS | {"start_time_format": "%m-%Y-%d %H:%M:%S"}
    assert flows_csv(columns=good).load(put(text(lines)), 0).counts["rows_used"] == 20
    refuse(put(text(lines)), "line 2", columns=COLUMNS | {"start_time_format": "%d/%m/%Y"})


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"format": "argos"}, "argos"),
        ({"unit": "host"}, "host_pair"),
        ({"site": "ward"}, "ward"),
        ({"columns": {"bites_out": "x"}}, "bytes_out"),
        ({"columns": ["x"]}, "table of texts"),
        ({"label": {"normals": []}}, "did you mean 'normal'?"),
        ({"label": "scan"}, "label is a table"),
        ({"label": {"normal": 3}}, "list of patterns"),
        ({"label": {"files": ["a"]}}, "table of texts"),
        ({"label": {"unlabelled": "keep"}}, "refuse"),
        ({"steps": {"seconds": 60, "flows": 5}}, "not both"),
        ({"steps": {"seconds": 0}}, "above 0"),
        ({"steps": {"flows": 2.5}}, "whole number"),
        ({"steps": {"flows": "ten"}}, "'ten'"),
        ({"steps": {"window": 5}}, "per_window"),
    ],
)
def test_wrong_options_are_refused_before_reading(options: dict[str, Any], word: str) -> None:
    with pytest.raises(DataError, match="way out") as caught:
        flows_csv(**options)
    assert word in str(caught.value)


def test_too_little_to_split(put: Put) -> None:
    one_class = flows_csv(columns=COLUMNS).load(put(text([row(i) for i in range(300)])), 0)
    with pytest.raises(DataError, match=r"normal steps and attacked steps.*only normal"):
        assign_splits(one_class)
    one_window = flows_csv(columns=COLUMNS).load(
        put(text([row(i, label="scan" if i > 4 else "normal") for i in range(9)])), 0
    )
    assert len(one_window.y) == 1
    with pytest.raises(DataError, match=r"too few windows.*1 windows of 1 units"):
        assign_splits(one_window)
    few = [row(i, host=f"h{i % 2}", label="scan" if i % 3 else "normal") for i in range(600)]
    with pytest.raises(DataError, match=r"at least three units.*2 unit\(s\): h0, h1"):
        assign_splits(flows_csv(columns=COLUMNS).load(put(text(few)), 0))
