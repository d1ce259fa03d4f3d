"""X-IoMT: packets to steps against a slow loop, splits without common packets, labels, and bad files."""

from __future__ import annotations

import gzip
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto.data import _gateway_streams as streams
from lazaretto.data import _packet_steps as packet_steps
from lazaretto.data._x_iomt_files import FAMILIES, families_of, read_packets
from lazaretto.data._x_iomt_telemetry import extremes
from lazaretto.data.streams import streams as streams_of
from lazaretto.data.x_iomt import pools, split_packets, x_iomt
from lazaretto.errors import DataError, PlanError
from lazaretto.types import TEST, TRAIN, VALIDATION, Table

FLAGS = ("syn", "ack", "fin", "reset", "push", "urg")
HEADER = (
    "frame.time,ip.src_host,ip.dst_host,tcp.srcport,tcp.dstport,tcp.seq,tcp.ack,"
    + ",".join(f"tcp.flags.{flag}" for flag in FLAGS)
    + ",tcp.len,mqtt.msgtype,http.request.method,http.response,ip.ttl,frame.len,anomaly.name"
)
GATEWAY = "10.0.0.1"
# flags (syn, ack, fin, reset, push, urg), payload, towards the gateway, MQTT message type
PUBLISH = (
    ("100000", 0, True, 0),
    ("110000", 0, False, 0),
    ("010000", 0, True, 0),
    ("010010", 29, True, 3),
    ("010000", 0, False, 0),
    ("011000", 0, True, 0),
)
REQUEST = (
    ("100000", 0, True, 0),
    ("110000", 0, False, 0),
    ("010010", 300, True, 0),
    ("010010", 90, False, 0),
)
ATTACKS = {
    "SYN_Flood": (("100000", 0, True, 0), ("000100", 0, True, 0)),
    "FIN_Flood": (("001000", 0, True, 0),),
    "Slowloris": (("100000", 0, True, 0), ("010010", 150, True, 0)),
}
FIRST_PORT = {"mqtt": 2000, "http": 10_000, "SYN_Flood": 20_000, "FIN_Flood": 30_000, "Slowloris": 40_000}
SMALL = {"sites": 2, "streams_per_site": 10, "windows": 2, "window_steps": 6, "step_packets": 20}


def row(time: float, client: str, port: int, at: int, packet: tuple[str, int, bool, int], name: str) -> str:
    """One CSV row; `at` keeps packets of an exchange apart by their sequence number."""
    flags, payload, towards, message = packet
    ends = (client, GATEWAY, port, 1883) if towards else (GATEWAY, client, 1883, port)
    method = "POST" if name == "http" and payload == 300 else "0"
    return ",".join(
        str(v)
        for v in (
            round(time * 1e6),
            *ends,
            at,
            0,
            *flags,
            payload,
            message,
            method,
            "0",
            64,
            54 + payload,
            "Normal" if name in ("mqtt", "http") else name,
        )
    )


def exchanges(
    start: float,
    count: int,
    pause: float,
    pattern: tuple[tuple[str, int, bool, int], ...],
    name: str,
) -> Iterator[str]:
    """`count` exchanges a mean `pause` seconds apart, by two clients in turn (one where it is an attack)."""
    rng = np.random.default_rng(int(start) % 1000 + len(name))
    time = start
    first_port = FIRST_PORT[name]  # so that no two kinds have equal packets
    for number in range(count):
        time += pause * rng.uniform(0.5, 1.5) + (30.0 if name in ATTACKS and number % 100 == 0 else 0.0)
        client = "10.0.0.99" if name in ATTACKS else f"10.0.0.{7 + number % 2}"
        for at, packet in enumerate(pattern):
            time += 0.002
            yield row(time, client, first_port + number, at, packet, name)


def write(folder: Path, name: str, rows: list[str], header: str = HEADER) -> Path:
    """Write a part, compressed where its name says so."""
    data = "\n".join([header, *rows, ""]).encode()
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of tiny made-up parts, all families, one part of them not compressed."""
    write(tmp_path, "NormalTrafficMQTT_part_001.csv.gz", list(exchanges(1e9, 1200, 3.0, PUBLISH, "mqtt")))
    write(tmp_path, "NormalTrafficHTTP_part_001.csv", list(exchanges(1.1e9, 60, 5.0, REQUEST, "http")))
    for number, (name, pattern) in enumerate(ATTACKS.items()):
        rows = list(exchanges(1.2e9 + 1e6 * number, 500, 0.003, pattern, name))
        write(tmp_path, f"NetworkAnomalies{name.replace('_', '')}_part_001.csv.gz", rows)
    return tmp_path


def digest(table: Table) -> bytes:
    """All bytes of a table's arrays."""
    return b"".join(
        a.tobytes() for a in (*table.x.values(), table.y_step, table.time, table.split, table.site)
    )


# --- features -----------------------------------------------------------------------------------------------


def slow_step(
    length: list[float], payload: list[float], time: list[float], flags: list[int], towards: list[bool]
) -> list[float]:
    """Features of one step, one at a time, in the order of FEATURES."""
    n = len(length)

    def mean(values: list[float]) -> float:
        return math.fsum(values) / len(values)

    def spread(values: list[float]) -> float:
        return math.sqrt(mean([(v - mean(values)) ** 2 for v in values]))

    def quantile(values: list[float], tenths: int) -> float:
        return sorted(values)[max(-(-tenths * len(values) // 10) - 1, 0)]

    def run(true: list[bool]) -> int:
        longest = current = 0
        for value in true:
            current = current + 1 if value else 0
            longest = max(longest, current)
        return longest

    gaps = [max(b - a, 1e-4) for a, b in itertools.pairwise(time)]
    together = [gap <= 0.01 for gap in gaps]
    gaps = gaps or [1e-4]
    logs = [math.log10(gap) for gap in gaps]
    entropy = 0.0
    for low, high in ((0, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 10**9)):
        p = sum(low <= v < high for v in length) / n
        entropy -= p * math.log2(p) if p else 0.0
    share = [sum(bool(f >> bit & 1) for f in flags) / n for bit in range(6)]
    span = time[-1] - time[0]
    return [
        mean(length),
        spread(length),
        quantile(length, 5),
        quantile(length, 9),
        max(length),
        entropy,
        sum(v < 64 for v in length) / n,
        mean(payload),
        sum(v == 0 for v in payload) / n,
        *share,
        share[0] / max(share[1], 1 / n),
        sum(towards) / n,
        sum(a != b for a, b in itertools.pairwise(towards)),
        run(towards),
        sum(bool(f & 1) and up for f, up in zip(flags, towards, strict=True)),
        sum(bool(f & 12) for f in flags),
        mean(logs),
        spread(logs),
        *(quantile(logs, tenths) for tenths in (1, 5, 9, 10)),
        sum(gap < 0.001 for gap in gaps) / len(gaps),
        sum(gap < 0.01 for gap in gaps) / len(gaps),
        sum(gap > 1 for gap in gaps) / len(gaps),
        n - sum(together),
        1 + run(together),
        span,
        n / max(span, 1e-4),
        math.fsum(length) / max(span, 1e-4),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_step_features_agree_with_the_slow_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.r_[1, 2, rng.integers(1, 60, size=12)]
    bounds = np.r_[0, np.cumsum(sizes)]
    n = int(bounds[-1])
    length = rng.choice([40, 54, 63, 64, 127, 128, 700, 1023, 1024, 1514], size=n).astype(np.float32)
    payload = np.maximum(length - 54, 0)
    time = np.cumsum(10.0 ** rng.uniform(-5, 1, size=n))
    flags, towards = rng.integers(0, 64, size=n).astype(np.uint8), rng.random(n) < 0.6
    got = packet_steps.step_features(length, payload, time, flags, towards, bounds)
    want = [
        slow_step(*(column[a:b].tolist() for column in (length, payload, time, flags, towards)))
        for a, b in itertools.pairwise(bounds)
    ]
    assert got.shape == (len(sizes), len(packet_steps.FEATURES))
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


def test_step_features_do_not_depend_on_other_steps_or_on_when_it_is() -> None:
    rng = np.random.default_rng(0)
    time = np.cumsum(rng.exponential(0.1, 100))
    rest = (rng.integers(40, 900, 100), np.zeros(100), rng.integers(0, 64, 100), rng.random(100) < 0.5)
    both = packet_steps.step_features(rest[0], rest[1], time, rest[2], rest[3], [0, 40, 100])
    last = [column[40:] for column in rest]
    alone = packet_steps.step_features(last[0], last[1], time[40:] + 64.0, last[2], last[3], [0, 60])
    np.testing.assert_allclose(both[1:], alone, rtol=1e-5)


def test_step_features_refuse_empty_steps_and_unequal_columns() -> None:
    three = np.ones(3)
    with pytest.raises(ValueError, match="at least one packet"):
        packet_steps.step_features(three, three, three, three.astype(int), three > 0, [0, 3, 3])
    with pytest.raises(ValueError, match="differ in length"):
        packet_steps.step_features(three, three, three[:2], three.astype(int), three > 0, [0, 3])


# --- campaigns and streams ----------------------------------------------------------------------------------


def test_campaigns_keep_to_their_bounds_and_shapes() -> None:
    rng = np.random.default_rng(0)
    drawn = [streams.draw_campaign(64, 2, 0.01, rng) for _ in range(600)]
    assert {c.shape for c in drawn} == {"steady", "ramp", "on-off"}
    for c in drawn:
        assert 0 <= c.onset < c.end <= 64
        assert c.end - c.onset <= 0.6 * 64 + 1
        assert 0.01 <= c.intensity <= 0.5
        assert not c.share[: c.onset].any()
        assert not c.share[c.end :].any()
        assert c.share.max() <= c.intensity * (1 + 1e-12)
        assert c.share[c.onset] > 0 or c.onset == 0  # the label starts with the attack, or before the stream
    below = np.mean([c.intensity < np.sqrt(0.01 * 0.5) for c in drawn])
    assert below == pytest.approx(0.5, abs=0.07)  # log-uniform: half lie below the geometric mean


def test_the_number_of_the_step_tells_nothing() -> None:
    """Every step is attacked equally often: 4,000 campaigns, binomial sd under .008, 64 steps, 4.5 sd."""
    rng = np.random.default_rng(1)
    under_way = np.zeros(64)
    for _ in range(4000):
        c = streams.draw_campaign(64, 1, 0.01, rng)
        under_way[c.onset : c.end] += 1
    assert np.ptp(under_way / 4000) < 2 * 4.5 * 0.008


def drawn_stream(folder: Path, share: float, background: float) -> tuple[streams.Packets, streams.Stream]:
    packets, _ = read_packets(folder)
    pool = pools(packets, *split_packets(packets, 0, 400))[TRAIN]
    campaign = streams.Campaign(
        family=1,
        onset=5,
        end=15,
        intensity=share,
        shape="steady",
        share=np.r_[[0.0] * 5, [share] * 10, [0.0] * 5],
    )
    rng = np.random.default_rng(1)
    return packets, streams.draw_stream(packets, pool, pool.base, background, 20, campaign, 20, rng)


def test_attack_packets_stand_in_their_steps_and_nowhere_else(folder: Path) -> None:
    packets, stream = drawn_stream(folder, 0.3, 0.2)
    kind = packets.kind[stream.index].reshape(20, 20)
    np.testing.assert_array_equal((kind == 1).sum(axis=1), stream.attack)
    assert not stream.attack[:5].any()
    assert not stream.attack[15:].any()
    assert stream.attack[5:15].mean() / 20 == pytest.approx(0.3, abs=0.08)
    assert (kind == -1).any()  # background is there
    assert set(np.unique(kind)) == {-1, 0, 1}


def test_streams_keep_the_tempo_of_what_they_are_made_of(folder: Path) -> None:
    packets, stream = drawn_stream(folder, 0.3, 0.2)
    assert (np.diff(stream.time) >= 0).all()
    base = packets.kind[stream.index] == 0
    source = stream.index[base]
    rank = np.flatnonzero(packets.kind == 0)
    assert (np.diff(np.searchsorted(rank, source)) == 1).all()  # a run without holes
    longer = np.diff(stream.time[base]) - np.diff(packets.time[source])
    assert longer.min() > -1e-6
    assert np.mean(longer < 1e-6) > 0.9  # a step comes later only where a burst would not fit
    attack = packets.kind[stream.index] == 1
    own = np.diff(packets.time[stream.index[attack]])
    kept = np.abs(np.diff(stream.time[attack]) - own) < 2e-6
    assert kept.mean() > 0.4  # inside bursts; one to three of them in each step of about six packets


# --- tables -------------------------------------------------------------------------------------------------


def test_sample_needs_no_files_and_is_the_same_each_time() -> None:
    one, two = x_iomt().sample(), x_iomt().sample()
    assert digest(one) == digest(two)
    assert set(np.unique(one.y_step)) == {0, 1, 2, 3}
    assert set(np.unique(one.split)) == {TRAIN, VALIDATION, TEST}


def test_load_is_a_function_of_folder_and_seed(folder: Path) -> None:
    source = x_iomt(**SMALL)
    one, two, other = source.load(folder, 3), source.load(folder, 3), source.load(folder, 4)
    assert digest(one) == digest(two)
    assert one.counts == two.counts
    assert digest(one) != digest(other)
    assert one.x["traffic"].shape == (40, 6, len(packet_steps.FEATURES))
    assert one.x["traffic"].dtype == np.float32
    assert np.isfinite(one.x["traffic"]).all()
    assert one.schema.rate_feature in one.schema.features["traffic"]
    assert one.schema.classes == ("normal", "syn_flood", "fin_flood", "slowloris")
    for unit in range(20):
        assert (np.diff(one.time[one.unit == unit]) > 0).all()
        assert len(set(one.split[one.unit == unit])) == 1
    assert one.schema.step_seconds > 0


def test_splits_and_families_are_shared_out_in_every_site(folder: Path) -> None:
    table = x_iomt(**{**SMALL, "streams_per_site": 40}).load(folder, 0)
    family = table.y_step.reshape(80, -1).max(axis=1)
    split, site = table.split[::2], table.site[::2]
    for s in range(2):
        mine = site == s
        assert [int((split[mine] == c).sum()) for c in (TRAIN, VALIDATION, TEST)] == [22, 6, 12]
        assert np.ptp(np.bincount(family[mine & (split == TRAIN)], minlength=4)[1:]) <= 1
        assert set(family[mine & (split == TEST)]) == {0, 1, 2, 3}
        assert (family[mine] > 0).mean() == pytest.approx(0.6, abs=0.05)


def test_labels_run_without_a_hole_from_onset_to_end(folder: Path) -> None:
    table = x_iomt(**{**SMALL, "streams_per_site": 30}).load(folder, 0)
    for label in table.y_step.reshape(60, -1):
        on = np.flatnonzero(label)
        if len(on):
            assert (label[on[0] : on[-1] + 1] == label[on[0]]).all()
    np.testing.assert_array_equal(table.y, table.y_step.max(axis=1))


def test_the_full_view_adds_application_shares_only(folder: Path) -> None:
    plain = x_iomt(**SMALL).load(folder, 0)
    full = x_iomt(**SMALL, view="full").load(folder, 0)
    known = plain.x["traffic"].shape[2]
    np.testing.assert_array_equal(full.x["traffic"][:, :, :known], plain.x["traffic"])
    names = full.schema.features["traffic"]
    publish = full.x["traffic"][..., names.index("share_mqtt_publish")]
    request = full.x["traffic"][..., names.index("share_http_request")]
    assert 0.05 < publish.mean() < 0.3
    assert 0 < request.mean() < publish.mean()
    assert len(names) == full.x["traffic"].shape[2] == known + 7


def assert_disjoint(
    packets: streams.Packets, seed: int, stream_packets: int, families: Mapping[str, str] = FAMILIES
) -> None:
    """No packet, nor an equal of it, may be drawn in two splits; blocks of time do not interleave."""
    split, block = split_packets(packets, seed, stream_packets, families)
    drawable = pools(packets, split, block, families)
    held: dict[int, set[int]] = {}
    for code, pool in drawable.items():
        parts = [*pool.base, *pool.exchanges, *(b for blocks in pool.attacks.values() for b in blocks)]
        held[code] = {int(i) for i in packets.identity[np.concatenate(parts)]}
        assert held[code]
    for one, two in ((TRAIN, VALIDATION), (TRAIN, TEST), (VALIDATION, TEST)):
        assert not held[one] & held[two]
    for kind in np.unique(packets.kind):
        mine = packets.kind == kind
        assert (np.diff(block[mine]) >= 0).all()  # packets are by time, and so are blocks
        assert set(split[mine]) >= {TRAIN, VALIDATION, TEST}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_packet_stands_in_two_splits(folder: Path, seed: int) -> None:
    assert_disjoint(read_packets(folder)[0], seed, 240)


def test_a_retransmission_across_a_border_is_not_used(folder: Path) -> None:
    packets, _ = read_packets(folder)
    equal = packets.identity.copy()
    base = np.flatnonzero(packets.kind == 0)
    equal[base[-1]] = equal[base[0]]  # first and last block may well be of one split: try until not
    twin = streams.Packets(
        **{n: equal if n == "identity" else getattr(packets, n) for n in packets.__slots__}
    )
    parted = 0
    for seed in range(6):
        before, _ = split_packets(packets, seed, 240)
        after, _ = split_packets(twin, seed, 240)
        crossing = before[base[0]] != before[base[-1]]
        parted += int(crossing)
        assert (after[base[-1]] == -1) == crossing
        assert_disjoint(twin, seed, 240)
    assert parted


def test_replays_are_removed_whole_and_retransmissions_stay(folder: Path) -> None:
    _, clean = read_packets(folder)
    assert clean["duplicates_removed"] == 0
    name = "NormalTrafficMQTT_part_001.csv.gz"
    lines = gzip.decompress((folder / name).read_bytes()).decode().split("\n")[1:-1]

    def later(line: str, seconds: float, **changed: str) -> str:
        time, rest = line.split(",", 1)
        return f"{int(time) + round(seconds * 1e6)},{changed.get('rest', rest)}"

    replay = [later(line, 90_000.0) for line in lines[:60]]  # ten exchanges of six packets
    fresh = lines[0].split(",", 1)[1].replace(",54,", ",55,")  # not an equal, but of a replayed connection
    replay.append(later(lines[0], 90_000.01, rest=fresh))
    again = [later(lines[600], 1.0), later(lines[600], 3.0)]  # TCP tries a SYN again after 1 s, then 2 s
    write(folder, name, lines + replay + again)
    packets, counts = read_packets(folder)
    assert counts["duplicates_removed"] == 61
    assert counts["rows_read"] == clean["rows_read"] + 63
    assert len(packets.time) == clean["rows_read"] + 2


def test_unlabelled_and_foreign_rows_are_dropped_and_counted(folder: Path) -> None:
    name = "NormalTrafficMQTT_part_001.csv.gz"
    lines = gzip.decompress((folder / name).read_bytes()).decode().split("\n")[1:-1]
    unlabelled = [line.rsplit(",", 1)[0] + "," for line in lines[:4]]
    foreign = [line.rsplit(",", 1)[0] + ",Overheating" for line in lines[:5]]
    other = [lines[7].replace(",1883,", ",0,")]
    write(folder, name, lines + unlabelled + foreign + other)
    packets, counts = read_packets(folder)
    assert (counts["rows_unlabelled"], counts["rows_of_other_kinds"], counts["rows_not_tcp"]) == (4, 5, 1)
    assert len(packets.time) == counts["rows_read"] - 10
    assert (np.diff(packets.time) >= 0).all()  # also where a part is not in order


def test_raw_rows_hold_every_published_column(folder: Path) -> None:
    source = x_iomt()
    assert source.raw is not None
    raw = source.raw(folder)
    assert {"frame.time", "ip.src_host", "ip.ttl", "tcp.seq", "mqtt.msgtype"} <= set(raw.columns)
    assert not {"anomaly.name", "anomaly.label", "anomaly.layer", "file"} & set(raw.columns)
    assert {len(c) for c in raw.columns.values()} == {len(raw.label)} == {len(raw.group)}
    assert set(raw.label) == {0, 1, 2, 3}
    assert set(raw.columns["ip.src_host"][raw.label > 0]) == {"10.0.0.99"}
    assert raw.columns["frame.len"].dtype == np.float64
    assert len(np.unique(raw.group)) == 5
    assert set(source.leaks) >= {
        "ip.src_host",
        "tcp.window_size",
        "tcp.dstport",
        "frame.time",
        "http.response",
    }
    assert "http.response" not in x_iomt(view="full").leaks


# --- bad input ----------------------------------------------------------------------------------------------

MQTT = "NormalTrafficMQTT_part_001.csv.gz"


def _cut(folder: Path) -> None:
    data = (folder / MQTT).read_bytes()
    (folder / MQTT).write_bytes(data[: len(data) // 2])


def _number(folder: Path, column: str, value: str) -> None:
    lines = gzip.decompress((folder / MQTT).read_bytes()).decode().split("\n")
    cells = lines[3].split(",")
    cells[HEADER.split(",").index(column)] = value
    lines[3] = ",".join(cells)
    (folder / MQTT).write_bytes(gzip.compress("\n".join(lines).encode()))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (_cut, f"{MQTT}: cannot be read"),
    "rubbish": (lambda f: (f / MQTT).write_bytes(b"\x00\xff\x13" * 99), f"{MQTT}: cannot be read"),
    "rubbish inside": (
        lambda f: (f / MQTT).write_bytes(gzip.compress(b"\xfe\x00\xff" * 99)),
        f"{MQTT}: not a CSV file in UTF-8",
    ),
    "rubbish below the header": (
        lambda f: (f / MQTT).write_bytes(gzip.compress(HEADER.encode() + b"\n" + b"\xfe\x00\xff" * 99)),
        f"{MQTT}: ",
    ),
    "open quotation mark": (
        lambda f: _number(f, "tcp.flags.syn", '"open'),
        f"{MQTT}: not a CSV file in UTF-8 .found: a quotation mark in line 4 that nothing closes",
    ),
    "a field of two lines before it": (
        lambda f: (f / MQTT).write_bytes(gzip.compress(f'{HEADER}\n1,"x\ny",2\n4,"5,6\n'.encode())),
        "a quotation mark in line 4 that nothing closes",
    ),
    "empty": (lambda f: (f / MQTT).write_bytes(gzip.compress(b"")), f"{MQTT}: the file is empty"),
    "no bytes": (lambda f: (f / MQTT).write_bytes(b""), f"{MQTT}: "),
    "header only": (lambda f: write(f, MQTT, []), "no packets of normal MQTT"),
    "no columns": (lambda f: write(f, MQTT, ["1,2"], "a,b"), f"{MQTT}: columns are missing: frame.time"),
    "word": (lambda f: _number(f, "tcp.len", "many"), r"column tcp.len .* 1 rows .*'many' in labelled row 3"),
    "nan": (lambda f: _number(f, "frame.len", "nan"), r"column frame.len .*'nan'"),
    "inf": (lambda f: _number(f, "tcp.seq", "inf"), r"column tcp.seq .*'inf'"),
    "negative": (lambda f: _number(f, "frame.len", "-1"), r"column frame.len .*'-1'"),
    "giant": (lambda f: _number(f, "tcp.len", "1e300"), r"column tcp.len .* from 0 to 1e\+12.*'1e300'"),
    "end of time": (
        lambda f: _number(f, "frame.time", str(2**63 - 1)),
        r"column frame.time .*'9223372036854775807'",
    ),
    "blank": (lambda f: _number(f, "tcp.flags.syn", ""), r"column tcp.flags.syn .*None"),
    "time": (lambda f: _number(f, "frame.time", "noon"), r"column frame.time .*'noon'"),
    "no family": (
        lambda f: (f / "NetworkAnomaliesFINFlood_part_001.csv.gz").unlink(),
        "no packets of FIN_Flood",
    ),
    "too few": (
        lambda f: write(f, MQTT, list(exchanges(1e9, 60, 3.0, PUBLISH, "mqtt"))),
        "too few packets in a row",
    ),
    "one attempt": (
        lambda f: write(
            f,
            "NetworkAnomaliesSlowloris_part_001.csv.gz",
            list(exchanges(1.3e9, 90, 0.003, ATTACKS["Slowloris"], "Slowloris")),
        ),
        "slowloris: too few blocks of time",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_by_name_with_a_way_out(folder: Path, name: str) -> None:
    spoil, message = BAD[name]
    spoil(folder)
    with pytest.raises(DataError, match=message) as caught:
        x_iomt(**SMALL).load(folder, 0)
    assert "way out" in str(caught.value)


def test_a_message_type_that_is_no_number_is_none(folder: Path) -> None:
    _number(folder, "mqtt.msgtype", "nan")
    packets, _ = read_packets(folder)
    assert np.isin(packets.application, range(18)).all()


def test_a_path_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    load = x_iomt(**SMALL).load
    with pytest.raises(DataError, match="no path"):
        load(None, 0)
    with pytest.raises(DataError, match=r"not a folder .*nothing"):
        load(tmp_path / "nowhere", 0)
    with pytest.raises(DataError, match=r"no part of X-IoMT here .*an empty folder"):
        load(tmp_path, 0)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"no part of X-IoMT here .*other.csv"):
        load(tmp_path, 0)
    with pytest.raises(DataError, match=r"not a folder .*a file"):
        load(tmp_path / "other.csv", 0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("sites", 0),
        ("sites", True),
        ("streams_per_site", 2),
        ("windows", 0),
        ("window_steps", 1.5),
        ("step_packets", 9),
        ("attacked_share", 1.0),
        ("lowest_intensity", 0.5),
        ("view", "everything"),
    ],
)
def test_options_out_of_range_are_refused(option: str, value: object) -> None:
    with pytest.raises(PlanError, match=option if option != "view" else "unknown view"):
        x_iomt(**{option: value})  # type: ignore[arg-type]


# --- telemetry ----------------------------------------------------------------------------------------------

VALUES = ("Temperature", "Memory", "In_Temperature", "CPU", "RSSI", "HR", "PULSE", "RESP", "SpO2")
WIDE = HEADER.replace(",anomaly.name", "," + ",".join(VALUES) + ",anomaly.name")
# fault -> column that it alters, and the value put in
PUT_IN = {
    "Overheating": ("In_Temperature", "90.0"),
    "CPUSpike": ("CPU", "220.0"),
    "Weak_Signal": ("RSSI", "-95.0"),
    "Clinical": ("Temperature", "40.0"),
}
USUAL = {"Temperature": "36.5", "Memory": "94.9", "In_Temperature": "51.1", "CPU": "160.0", "RSSI": "-50.0"}


def widen(line: str, name: str | None = None, **values: str) -> str:
    """A row with telemetry columns before the name, empty but for `values`."""
    rest, own = line.rsplit(",", 1)
    return ",".join([rest, *(values.get(column, "") for column in VALUES), name or own])


@pytest.fixture
def wide(folder: Path) -> Path:
    """The same parts with telemetry: faults are copies of MQTT packets, an hour earlier, a value put in."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        lines = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode().split("\n")[1:-1]
        mqtt = path.name == MQTT
        inside = USUAL if mqtt else {}
        write(folder, path.name, [widen(line, **inside) for line in lines], WIDE)
        if not mqtt:
            continue
        for place, (name, (column, value)) in enumerate(PUT_IN.items()):
            mine = [line for at, line in enumerate(lines) if at // 60 % len(PUT_IN) == place]
            earlier = [f"{int(t) - 3_600_000_000},{rest}" for t, rest in (x.split(",", 1) for x in mine)]
            copies = [widen(line, name, **{**USUAL, column: value}) for line in earlier]
            beside = [widen(line, "Normal") for line in earlier[:3]]
            part = "Application" if name == "Clinical" else "Physical"
            write(folder, f"{part}Anomalies{name}.csv.gz", copies + beside, WIDE)
    return folder


def test_without_the_option_the_faults_files_change_nothing(wide: Path, tmp_path_factory: Any) -> None:
    plain = tmp_path_factory.mktemp("plain")
    for path in wide.iterdir():
        if not path.name.startswith(("Physical", "Application")):
            (plain / path.name).write_bytes(path.read_bytes())
    one, two = x_iomt(**SMALL).load(plain, 0), x_iomt(**SMALL, telemetry=False).load(wide, 0)
    assert digest(one) == digest(two)
    assert (one.counts, one.notes, one.schema) == (two.counts, two.notes, two.schema)
    assert list(one.x) == ["traffic"]
    assert not one.schema.irregular


def test_with_the_option_normal_and_network_packets_stay_what_they_were(wide: Path) -> None:
    packets, counts = read_packets(wide, telemetry=True)
    plain, _ = read_packets(wide)
    known = packets.kind <= 3
    for name in ("time", "length", "identity", "kind", "device"):
        np.testing.assert_array_equal(getattr(packets, name)[known], getattr(plain, name))
    families = families_of(True)
    np.testing.assert_array_equal(
        split_packets(packets, 0, 240, families)[0][known], split_packets(plain, 0, 240)[0]
    )
    assert counts["rows_normal_beside_faults"] == 12
    assert counts["duplicates_removed"] == counts["telemetry_not_numeric"] == 0
    assert np.bincount(packets.kind[~known])[4:].tolist() == [1800] * 4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_copy_stands_in_the_split_of_its_original(wide: Path, seed: int) -> None:
    packets, _ = read_packets(wide, telemetry=True)
    assert_disjoint(packets, seed, 240, families_of(True))
    split, _ = split_packets(packets, seed, 240, families_of(True))
    original = {
        int(i): int(s) for i, s, k in zip(packets.identity, split, packets.kind, strict=True) if k < 4
    }
    copies = np.flatnonzero(packets.kind > 3)
    assert [int(split[c]) for c in copies] == [original[int(packets.identity[c])] for c in copies]


def test_telemetry_is_a_second_modality_and_faults_are_families(wide: Path) -> None:
    options = {**SMALL, "streams_per_site": 60, "lowest_intensity": 0.4, "view": "full"}
    table = x_iomt(**options, telemetry=True).load(wide, 0)
    assert table.schema.classes[4:] == ("overheating", "cpu_spike", "weak_signal", "clinical")
    assert set(np.unique(table.y_step)) == set(range(8))
    assert table.schema.irregular == {"record"}
    assert table.present.shape == (240, 2)
    names, record = table.schema.features["record"], table.x["record"]
    assert record.shape == (240, 6, 18)
    assert record.dtype == np.float32
    shown = 0
    for kind, (column, value) in enumerate(PUT_IN.values(), start=4):
        seen = (record[..., VALUES.index(column) :: 9] == float(value)).any(axis=-1)
        assert set(table.y_step[seen]) <= {kind}  # no step of another kind has what the fault puts in
        shown += int(seen.sum())
    assert 0 < shown <= (table.y_step > 3).sum()
    assert np.isnan(record[..., names.index("spo2_percent_least")]).all()  # no packet here has one
    assert sum("without claims" in note for note in table.notes) == 1
    assert len(streams_of(table, "combined").features) == 18 + table.x["traffic"].shape[2]


def test_least_and_largest_of_a_step() -> None:
    """By hand: two steps of three packets, one of them without any value of the second column."""
    nan = np.nan
    telemetry = np.array([[1, nan], [2, 7], [nan, nan], [4, nan], [nan, nan]], np.float32)
    got = extremes(telemetry, np.array([0, 1, 2, 1, 3, 4]), 3)
    np.testing.assert_array_equal(got, np.array([[1, 7, 2, 7], [2, 7, 4, 7]], np.float32))
    got = extremes(telemetry, np.array([0, 0, 2, 4, 2, 4]), 3)
    np.testing.assert_array_equal(got, np.array([[1, nan, 1, nan], [nan, nan, nan, nan]], np.float32))


def test_cells_without_a_number_are_counted_and_nothing_is_clipped(wide: Path) -> None:
    lines = gzip.decompress((wide / MQTT).read_bytes()).decode().split("\n")[1:-1]
    for at, text in enumerate(("hot", "nan", "1e39", " ", "-400.0")):  # the third is none in float32
        lines[at] = lines[at].replace(",36.5,", f",{text},")
    write(wide, MQTT, lines, WIDE)
    packets, counts = read_packets(wide, telemetry=True)
    assert counts["telemetry_not_numeric"] == 3  # a blank is empty, and what no patient can have is a number
    first = packets.telemetry[packets.kind == 0][:6, 0]
    np.testing.assert_array_equal(first, np.array([np.nan] * 4 + [-400.0, 36.5], np.float32))


def test_a_fault_that_is_not_there_or_too_small_is_refused(wide: Path) -> None:
    load = x_iomt(**SMALL, telemetry=True).load
    clinical = wide / "ApplicationAnomaliesClinical.csv.gz"
    lines = gzip.decompress(clinical.read_bytes()).decode().split("\n")[1:-1]
    write(wide, clinical.name, lines[:20], WIDE)
    with pytest.raises(DataError, match=r"clinical.* for disjoint"):
        load(wide, 0)
    clinical.unlink()
    with pytest.raises(DataError, match="no packets of Clinical"):
        load(wide, 0)


def test_parts_without_telemetry_columns_are_refused_with_the_option_only(folder: Path) -> None:
    with pytest.raises(DataError, match="columns are missing: Temperature, Memory"):
        x_iomt(**SMALL, telemetry=True).load(folder, 0)
    x_iomt(**SMALL).load(folder, 0)


def test_the_leak_check_sees_telemetry_where_it_is_read(wide: Path) -> None:
    source = x_iomt(telemetry=True)
    assert not set(VALUES) & set(source.leaks)
    assert set(VALUES) <= set(x_iomt().leaks)
    assert source.raw is not None
    raw = source.raw(wide)
    assert raw.classes[4:] == ("overheating", "cpu_spike", "weak_signal", "clinical")
    assert np.bincount(raw.label)[4:].tolist() == [1800] * 4
    assert (raw.columns["CPU"][raw.label == 5] == 220).all()


def test_the_sample_with_telemetry_holds_all_families_and_both_modalities() -> None:
    one, two = x_iomt(telemetry=True).sample(), x_iomt(telemetry=True).sample()
    assert digest(one) == digest(two)
    assert set(np.unique(one.y_step)) == set(range(8))
    record = one.x["record"]
    assert np.isnan(record).any()
    assert not np.isnan(record).all(axis=(0, 1)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"view": "flows", "telemetry": True}, "flows has no telemetry"), ({"telemetry": 1}, "no truth value")],
)
def test_telemetry_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        x_iomt(**options)


# --- the real thing -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_published_files_load(data_folder: Callable[[str], Path]) -> None:
    folder = data_folder("x-iomt")
    packets, counts = read_packets(folder)
    assert counts["rows_read"] > 600_000
    assert counts["duplicates_removed"] > 40_000  # normal HTTP alone is mostly replay
    http = packets.kind == -1
    assert 1_000 < http.sum() < 5_000
    assert_disjoint(packets, 0, 3200)
    source = x_iomt(sites=3, streams_per_site=7)
    assert source.raw is not None
    kept = {"tcp.len", "frame.len", *(f"tcp.flags.{flag}" for flag in FLAGS)}
    assert set(source.raw(folder).columns) - set(source.leaks) == kept  # every other column has a reason
    table = source.load(folder, 0)
    assert np.isfinite(table.x["traffic"]).all()
    assert 10 < table.schema.step_seconds < 120


@pytest.mark.slow
def test_the_published_faults_load(data_folder: Callable[[str], Path]) -> None:
    table = x_iomt(sites=3, streams_per_site=14, telemetry=True).load(data_folder("x-iomt"), 0)
    assert table.counts["rows_normal_beside_faults"] > 6_000
    assert table.counts["telemetry_not_numeric"] == 0
    assert set(np.unique(table.y_step)) == set(range(8))
    packets, _ = read_packets(data_folder("x-iomt"), telemetry=True)
    assert (packets.telemetry[packets.kind == 5, 3] >= 200).all()  # column CPU
    assert np.nanmax(packets.telemetry[packets.kind != 5, 3]) == 160
    assert np.isnan(packets.telemetry[np.isin(packets.kind, (1, 2, 3))]).all()
    assert_disjoint(packets, 0, 3200, families_of(True))
