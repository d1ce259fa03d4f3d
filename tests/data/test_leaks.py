"""The leak check finds what is planted and what is known, and is silent where there is nothing."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from lazaretto.data._leak_scores import areas, halves
from lazaretto.data.flows_csv import flows_csv
from lazaretto.data.leaks import Finding, leak_notes, suspected_leaks, table_findings
from lazaretto.errors import DataError
from lazaretto.keys import generator
from lazaretto.types import RawRows

ROWS, GROUPS = 6000, 60


def rows_of(pure: bool = False, seed: int = 0, **planted: Any) -> RawRows:
    """Rows whose honest columns know little or nothing of the label; `planted`: (label, draw) -> column."""
    draw = generator(seed, "test", "leaks")
    group = np.repeat(np.arange(GROUPS), ROWS // GROUPS)
    attacked = draw.permutation(GROUPS)[group] % 2 == 0 if pure else draw.random(ROWS) < 0.3
    label = np.where(attacked, 1 + group % 2, 0).astype(np.int64)
    columns: dict[str, Any] = {
        "bytes": draw.lognormal(5, 1, ROWS) * np.where(label > 0, 1.5, 1.0),
        "gap": draw.exponential(1.0, ROWS).round(3),
        "protocol": draw.choice(["tcp", "udp"], ROWS),
        "flag": draw.integers(0, 2, ROWS),
    }
    columns |= {name: make(label, draw) for name, make in planted.items()}
    return RawRows(columns=columns, label=label, group=group)


def about(found: list[Finding], *columns: str) -> Finding:
    hits = [finding for finding in found if set(finding.columns) == set(columns)]
    assert hits, f"nothing found about {columns}: {[finding.columns for finding in found]}"
    return hits[0]


@pytest.mark.parametrize("pure", [False, True])
def test_honest_columns_are_not_suspected(pure: bool) -> None:
    found = suspected_leaks(rows_of(pure))
    assert [finding.columns for finding in found] == []


PLANTED: dict[str, tuple[Any, str]] = {
    "label_and_noise": (lambda y, d: (y > 0) + d.normal(0, 0.2, ROWS), "value"),
    "band": (lambda y, d: np.where(y > 0, d.uniform(4, 6, ROWS), d.choice([1.0, 9.0], ROWS)), "value"),
    "name": (lambda y, d: np.where(y > 0, d.choice(["x", "y"], ROWS), d.choice(["a", "b"], ROWS)), "address"),
    "number_as_text": (lambda y, d: np.char.mod("%d", (y > 0) * 50 + d.integers(0, 40, ROWS)), "value"),
    "gone": (lambda y, d: np.where(y > 0, np.nan, d.normal(size=ROWS)), "missing"),
    "gone_text": (lambda y, d: np.where(y > 0, "", d.choice(list("abc"), ROWS)), "missing"),
    "minus_one": (lambda y, d: np.where(y > 0, -1.0, d.uniform(1, 9, ROWS)), "sentinel"),
    "direction": (lambda y, d: np.where(y > 0, "->", "<-"), "direction"),
}


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_column_is_found_and_named(name: str, pure: bool) -> None:
    make, kind = PLANTED[name]
    found = suspected_leaks(rows_of(pure, **{name: make}))
    finding = about(found, name)
    assert finding.kind == kind
    assert finding.auroc is not None
    assert finding.auroc >= 0.95
    assert finding.why
    assert finding.advice
    assert {f.columns[0] for f in found} == {name}


@pytest.mark.parametrize("form", ["seconds", "text"])
def test_a_clock_is_found_where_attacks_come_in_blocks(form: str) -> None:
    group = np.repeat(np.arange(GROUPS), ROWS // GROUPS)
    attacked = (group // 20) % 3 == 1
    draw = generator(0, "test", "clock")
    clock = 1.7e9 + np.sort(draw.uniform(0, 1e5, ROWS))
    stamps = (clock * 1e6).astype("datetime64[us]").astype(str)
    raw = RawRows(
        columns={"clock": clock if form == "seconds" else stamps, "size": draw.normal(size=ROWS)},
        label=attacked.astype(np.int64),
        group=group,
    )
    found = suspected_leaks(raw, dropped={"clock": "a clock"})
    assert about(found, "clock").kind == "time"
    assert about(found, "clock").dropped == "a clock"
    assert about(found, "(row order)").kind == "order"
    # the same rows with labels that do not come in blocks: a clock still, but it tells nothing
    mixed = suspected_leaks(replace(raw, label=(draw.random(ROWS) < 0.4).astype(np.int64)))
    assert [finding.columns for finding in mixed] == [("clock",)]
    assert mixed[0].auroc is not None
    assert mixed[0].auroc < 0.6


@pytest.mark.parametrize("kind", ["numbers", "flags", "names"])
def test_two_columns_that_tell_only_together(kind: str) -> None:
    def first(y: Any, d: Any) -> Any:
        side = d.integers(0, 2, ROWS)
        return {"numbers": side - d.uniform(0, 1, ROWS), "flags": side, "names": np.array(["a", "b"])[side]}[
            kind
        ]

    raw = rows_of(one=first)
    one = raw.columns["one"]
    side = (one > 0) if kind == "numbers" else (one == 1) if kind == "flags" else (one == "b")
    other = np.logical_xor(side, raw.label > 0)
    two = np.where(other, "src", "dst") if kind == "names" else other + 0.0
    found = suspected_leaks(replace(raw, columns={**raw.columns, "two": two}))
    assert [set(finding.columns) for finding in found] == [{"one", "two"}]
    assert found[0].kind == "pair"
    assert found[0].auroc is not None
    assert found[0].auroc > 0.95


def test_who_talks_to_whom() -> None:
    draw = generator(0, "test", "ends")
    label = (draw.random(ROWS) < 0.4).astype(np.int64)
    broker, device = np.full(ROWS, "broker"), np.char.add("device", draw.integers(0, 4, ROWS).astype(str))
    quiet = draw.random(ROWS) < 0.5  # half the devices talk to each other, so that one end alone tells little
    source = np.where(label > 0, device, np.where(quiet, device, broker))
    target = np.where(label > 0, broker, np.where(quiet, device, device))
    raw = RawRows(
        columns={"ip.src": source, "ip.dst": target, "n": draw.normal(size=ROWS)},
        label=label,
        group=np.arange(ROWS) // 100,
    )
    finding = suspected_leaks(raw)[0]
    assert "ip.dst" in finding.columns
    assert finding.kind in ("direction", "address")


def test_a_gap_is_called_missing_and_the_files_without_the_column_are_named() -> None:
    def ttl(y: Any, d: Any) -> Any:
        return np.where(y == 2, np.nan, d.integers(30, 99, ROWS))

    def name(y: Any, d: Any) -> Any:
        return np.where(y == 2, "", d.choice(list("abc"), ROWS))

    raw = rows_of(ttl=ttl, name=name)
    for column in ("ttl", "name"):
        found = about(suspected_leaks(raw), column)
        assert found.kind == "missing"
        assert found.why == "missing in every row of class 2, and hardly ever elsewhere"
    lacking = {"ttl": ("scan.csv",), "name": tuple(f"{n}.csv" for n in range(6))}
    more = suspected_leaks(replace(raw, lacking=lacking))
    assert about(more, "ttl").why.endswith("elsewhere: there is no such column in scan.csv")
    assert about(more, "name").why.endswith("in 0.csv, 1.csv, 2.csv, 3.csv and 2 more")


def test_identifiers_constants_families_and_copies() -> None:
    def sequence(y: Any, d: Any) -> Any:
        return d.permutation(10**6)[:ROWS]

    def session(y: Any, d: Any) -> Any:
        return np.char.add("s", d.permutation(10**6)[:ROWS].astype(str))

    def tool(y: Any, d: Any) -> Any:
        return np.where(y == 2, 1024, d.integers(0, 9, ROWS) * 100)

    def tells_one(y: Any, d: Any) -> Any:
        return d.normal(size=ROWS) + 12 * (y == 1)

    found = suspected_leaks(rows_of(sequence=sequence, session=session, tool=tool, tells_one=tells_one))
    assert about(found, "sequence").kind == "identifier"
    assert about(found, "session").kind == "identifier"
    assert about(found, "tool").kind == "constant"
    assert "class 2" in about(found, "tool").why
    assert about(found, "tells_one").kind == "family"
    assert "class 1" in about(found, "tells_one").why
    named = replace(rows_of(tells_one=tells_one), classes=("normal", "flood", "scan"))
    assert "it tells flood from normal" in about(suspected_leaks(named), "tells_one").why
    raw = rows_of()
    copies = {name: np.tile(values[: ROWS // 2], 2) for name, values in raw.columns.items()}
    assert about(suspected_leaks(replace(raw, columns=copies)), "(rows)").kind == "duplicates"


def test_leaks_of_packets_like_those_of_the_testbed() -> None:
    """Files of one class each, one attacker, fixed ports, a tool's window size, device to broker."""
    draw = generator(0, "test", "testbed")
    parts = []
    for file in range(24):
        kind, n = (0, 0, 1, 2)[file % 4], 400
        attack = kind > 0
        parts.append(
            pl.DataFrame(
                {
                    "frame.time": 1.7e15 + file * 1e9 + np.sort(draw.uniform(0, 9e8, n)),
                    "ip.src_host": ["10.0.0.66"] * n if attack else draw.choice(["10.0.0.1", "10.0.0.2"], n),
                    "tcp.srcport": draw.integers(1024, 65535, n),
                    "tcp.dstport": [80] * n if attack else draw.choice([1883, 50412, 50413], n),
                    "tcp.window_size": [64] * n if kind == 1 else draw.integers(500, 65535, n),
                    "MAC": [""] * n if attack else draw.choice(["a8:42", "b9:42"], n),
                    "frame.len": draw.integers(54, 90, n),
                    "label": [kind] * n,
                    "group": [file] * n,
                }
            )
        )
    frame = pl.concat(parts)
    raw = RawRows(
        columns={name: frame[name].to_numpy() for name in frame.columns[:-2]},
        label=frame["label"].to_numpy(),
        group=frame["group"].to_numpy(),
    )
    found = suspected_leaks(raw, dropped={"ip.src_host": "fixed attacker"})
    kinds = {finding.columns[0]: finding.kind for finding in found}
    assert kinds["ip.src_host"] == "address"
    assert kinds["tcp.dstport"] == "value"
    assert kinds["MAC"] == "missing"
    assert kinds["tcp.window_size"] == "constant"
    assert kinds["frame.time"] in ("time", "identifier")
    assert "frame.len" not in kinds
    assert about(found, "ip.src_host").dropped == "fixed attacker"
    assert about(found, "tcp.dstport").dropped is None


def test_known_leaks_of_x_iomt(data_folder: Callable[[str], Path]) -> None:
    parts = []
    for number, file in enumerate(sorted(data_folder("x-iomt").glob("*.csv.gz"))[::3]):
        with gzip.open(file, "rb") as stream:
            frame = pl.read_csv(stream.read(), infer_schema=False)
        place = pl.int_range(pl.len())
        frame = frame.with_columns((place * 4 // pl.len() + 4 * number).alias("group")).filter(
            place % 12 == 0
        )
        parts.append(frame)
    kinds = {"Normal": 0, "SYN_Flood": 1, "FIN_Flood": 2, "Slowloris": 3}
    rows = pl.concat(parts, how="diagonal").filter(pl.col("anomaly.name").is_in(list(kinds)))
    raw = RawRows(
        columns={
            name: rows[name].to_numpy() for name in rows.columns if not name.startswith(("anomaly", "group"))
        },
        label=rows["anomaly.name"].replace_strict(kinds, return_dtype=pl.Int64).to_numpy(),
        group=rows["group"].to_numpy().astype(np.int64),
    )
    found = {finding.columns[0]: finding for finding in suspected_leaks(raw)}
    assert (found["ip.src_host"].auroc or 0) > 0.99
    for column in ("tcp.window_size", "tcp.dstport", "frame.time"):
        assert column in found


def test_a_planted_feature_of_a_table_is_found() -> None:
    table = flows_csv(steps={"flows": 5, "per_window": 16}).sample()
    before = {finding.columns for finding in table_findings(table, threshold=0.98)}
    x = table.x["traffic"].copy()
    place = table.schema.features["traffic"].index("duration_mean_seconds")
    noise = generator(0, "test", "feature").normal(0, 0.2, table.y_step.shape)
    x[..., place] = np.where(table.valid, (table.y_step > 0) + noise, 0)
    after = table_findings(replace(table, x={"traffic": x}), threshold=0.98)
    assert ("duration_mean_seconds",) not in before
    assert about(after, "duration_mean_seconds").kind == "value"


def test_what_cannot_be_judged_is_refused() -> None:
    raw = rows_of()
    for label, words in ((np.zeros(ROWS, np.int64), "all normal"), (np.ones(ROWS, np.int64), "all attacked")):
        with pytest.raises(DataError, match=words):
            suspected_leaks(replace(raw, label=label))
    with pytest.raises(DataError, match="too few groups"):
        suspected_leaks(replace(raw, group=np.zeros(ROWS, np.int64)))
    with pytest.raises(DataError, match="'bytes' is not as long as the labels"):
        suspected_leaks(replace(raw, columns={"bytes": np.zeros(3)}))
    with pytest.raises(DataError, match="nothing to check"):
        suspected_leaks(RawRows(columns={}, label=raw.label, group=raw.group))


def test_a_table_too_small_for_the_check_gets_a_note() -> None:
    """One unit alone is attacked, so a half has no attacked rows: no reason to stop a run."""
    table = flows_csv(steps={"flows": 5, "per_window": 16}).sample()
    attacked = table.unit == table.unit[np.argmax(table.y)]
    y_step = np.where(attacked[:, None], table.y_step, 0)
    small = replace(table, y_step=y_step, y=y_step.max(axis=1))
    with pytest.raises(DataError, match="too few groups"):
        table_findings(small)
    (note,) = leak_notes(small)
    assert note.startswith("Features were not checked for leaks: leaks are judged on groups of rows")
    assert note.endswith(" of them without attacks).")
    assert "way out" not in note


def test_halves_keep_groups_whole_and_kinds_on_both_sides() -> None:
    for pure in (False, True):
        raw = rows_of(pure)
        learn = halves(raw.label, raw.group, 0)
        assert len(set(zip(raw.group.tolist(), learn.tolist(), strict=True))) == GROUPS
        for kind in (0, 1, 2):
            share = learn[raw.label == kind].mean()
            assert 0.3 < share < 0.7


def test_areas_agree_with_scikit_learn() -> None:
    draw = generator(0, "test", "areas")
    label = draw.integers(0, 4, 3000)
    for score in (np.asarray(draw.normal(size=3000) + label), np.asarray(draw.integers(0, 5, 3000) * 1.0)):
        found = areas(label, score)
        assert found[0] == pytest.approx(roc_auc_score(label > 0, score))
        for kind in (1, 2, 3):
            rows = (label == 0) | (label == kind)
            assert found[kind] == pytest.approx(roc_auc_score(label[rows] == kind, score[rows]))


def test_sixty_thousand_rows_of_fifty_columns_take_seconds() -> None:
    draw = generator(0, "test", "speed")
    n = 70_000
    columns: dict[str, Any] = {f"number {i}": draw.normal(size=n).round(3) for i in range(35)}
    columns |= {f"text {i}": draw.choice(["a", "b", "c", "d"], n) for i in range(15)}
    label = (draw.random(n) < 0.3).astype(np.int64)
    start = time.perf_counter()
    assert suspected_leaks(RawRows(columns=columns, label=label, group=np.arange(n) // 500)) == []
    assert time.perf_counter() - start < 60
