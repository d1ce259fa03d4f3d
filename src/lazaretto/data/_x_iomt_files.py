"""X-IoMT's published CSV parts to packets: read, checked, without replays."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto.data._flow_read import LONGEST_LINE, read_bytes
from lazaretto.data._gateway_streams import Packets
from lazaretto.data._x_iomt_telemetry import FAULT_PARTS, FAULTS, FIELDS, read_telemetry
from lazaretto.errors import DataError
from lazaretto.types import NORMAL, Int, RawRows

__all__ = [
    "BACKGROUND",
    "BASE",
    "FAMILIES",
    "HTTP_REQUEST",
    "HTTP_RESPONSE",
    "LEAKS",
    "families_of",
    "first_of_identity",
    "raw_rows",
    "read_packets",
]

FAMILIES: Mapping[str, str] = MappingProxyType(
    {"SYN_Flood": "syn_flood", "FIN_Flood": "fin_flood", "Slowloris": "slowloris"}
)
BASE, BACKGROUND = 0, -1  # kinds of packets beside the families 1, 2, 3 (and the faults 4 ..)

_HTTP = ("request.method", "request.version", "request.uri.query", "referer", "content_length", "file_data")
_MQTT = (
    "msgtype",
    "msg",
    "topic",
    "topic_len",
    "conflags",
    "conflag.cleansess",
    "len",
    "proto_len",
    "protoname",
)
_MQTT_MORE = ("ver", "msg_decoded_as", "conack.flags", "hdrflags", "qos", "retain", "dupflag")
_CONTENT = (
    *(f"http.{name}" for name in (*_HTTP, "response")),
    *(f"mqtt.{name}" for name in (*_MQTT, *_MQTT_MORE)),
)
LEAKS: Mapping[str, str] = MappingProxyType(
    {
        "frame.time": "each kind was captured on its own day; only gaps inside a step are used",
        "ip.src_host": "one attacker with a fixed address (AUROC 1.0 alone)",
        "ip.dst_host": "one attacker with a fixed address; direction towards the gateway is kept",
        "tcp.srcport": "ports of fixed hosts and tools",
        "tcp.dstport": "attacks went to ports 80, 1883 and 8000 (AUROC .954 alone)",
        "tcp.seq": "relative sequence number, 0 or 1 in floods",
        "tcp.ack": "random in floods, small elsewhere",
        "tcp.flags.fin without tcp.flags.ack": "in FIN flood alone; flags enter as shares of their own",
        "ip.ttl": "tells the sending host",
        "tcp.window_size": "tells the sending host (AUROC .993 alone)",
        "frame.protocols": "tells the file",
        "mqtt.clientid": "names the device",
        "http.host": "names the host",
        "http.request.full_uri": "names the host",
        "http.user_agent": "names the tool",
        "MAC_extracted": "empty in all network attacks; two look invented",
        **dict.fromkeys(FIELDS, "forward-filled, empty in attacks; faults are injected constants"),
        **dict.fromkeys(_CONTENT, "inside the tunnel; a zero is written 0, 0.0 or left out, by file"),
    }
)

_FLAG_COLUMNS = tuple(f"tcp.flags.{name}" for name in ("syn", "ack", "fin", "reset", "push", "urg"))
_NUMERIC = ("tcp.srcport", "tcp.dstport", "tcp.seq", "tcp.ack", *_FLAG_COLUMNS, "tcp.len", "frame.len")
_LARGEST = 1e12  # of a port, a sequence number or a length, with room
_LATEST = 1e17  # in µs: three thousand years
_COLUMNS = (
    "frame.time",
    "ip.src_host",
    "ip.dst_host",
    *_NUMERIC,
    "mqtt.msgtype",
    "http.request.method",
    "http.response",
    "anomaly.name",
)
_PARTS = ("NormalTraffic", "NetworkAnomalies")
_CONNECTION_GAP_SECONDS = 70.0  # SYN retransmissions come after 1, 2, 4 .. 64 s
_RAW_ROWS = 60_000
HTTP_REQUEST, HTTP_RESPONSE = 16, 17  # application codes above those of MQTT's message types


def families_of(telemetry: bool) -> Mapping[str, str]:
    """Published name -> class of kinds 1, 2, ..: the network attacks, with telemetry the faults as well."""
    return MappingProxyType({**FAMILIES, **FAULTS}) if telemetry else FAMILIES


def _files(path: Any, telemetry: bool) -> list[Path]:
    if path is None:
        raise DataError("x_iomt reads published files, and no path is given", way_out="give --data FOLDER")
    folder = Path(path)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise DataError(
            f"{folder}: not a folder", found=found, way_out="give the folder of X-IoMT's .csv.gz parts"
        )
    globs = [f"{part}*.csv*" for part in (*_PARTS, *(FAULT_PARTS if telemetry else ()))]
    files = sorted(
        {file for glob in globs for file in folder.glob(glob) if file.name.endswith((".csv", ".csv.gz"))}
    )
    if not files:
        held = ", ".join(sorted(entry.name for entry in folder.iterdir())[:3]) or "an empty folder"
        raise DataError(
            f"{folder}: no part of X-IoMT here", found=held, way_out=f"files named {' or '.join(globs)}"
        )
    return files


def _frame(file: Path, needed: tuple[str, ...], every: bool = False) -> pl.DataFrame:
    """The file's text columns that are needed, or every one. Raises DataError naming the file."""
    again = "download the file again"
    try:
        data = read_bytes(file)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read", found=error, way_out=again) from error
    if not data.strip():
        raise DataError(f"{file}: the file is empty", way_out=again)
    try:
        header = data[:LONGEST_LINE].partition(b"\n")[0].decode("utf-8").strip().replace('"', "").split(",")
        missing = [name for name in needed if name not in header]
        if missing:
            more = ", ..." if len(missing) > 5 else ""
            raise DataError(
                f"{file}: columns are missing: {', '.join(missing[:5])}{more}",
                found=f"{len(header)} columns",
                way_out="use the published X-IoMT files, with their header line",
            )
        return pl.read_csv(io.BytesIO(data), columns=None if every else list(needed), infer_schema_length=0)
    except (UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        plain = isinstance(error, UnicodeDecodeError) or "utf-8" in str(error)
        line = 0 if plain else _left_open(data)
        said = f"a quotation mark in line {line} that nothing closes"
        reason = said if line else str(error).partition("\n")[0]
        raise DataError(f"{file}: not a CSV file in UTF-8", found=reason, way_out=again) from error


def _left_open(data: bytes) -> int:
    """The line of the quotation mark that nothing closes, from 1; 0 where there is none."""
    before, _, _ = data.rpartition(b'"')
    return before.count(b"\n") + 1 if data.count(b'"') % 2 else 0


def _numbers(frame: pl.DataFrame, file: Path) -> pl.DataFrame:
    """Numeric columns as float64, time as int64 µs. Raises DataError with the count and the first bad row."""
    cast = frame.select(
        pl.col("frame.time").cast(pl.Int64, strict=False),
        *(pl.col(name).cast(pl.Float64, strict=False) for name in _NUMERIC),
    )
    for name in cast.columns:
        most = _LATEST if name == "frame.time" else _LARGEST
        bad = ~(cast[name].is_finite() & (cast[name] >= 0) & (cast[name] <= most)).fill_null(False)
        if bad.any():
            row = int(bad.arg_max() or 0)
            raise DataError(
                f"{file}: column {name} must hold numbers from 0 to {most:.0e}; {bad.sum()} rows do not",
                found=f"{frame[name][row]!r} in labelled row {int(frame['row'][row]) + 1}",
                way_out="mend or remove those rows",
            )
    return cast


def read_packets(path: Any, telemetry: bool = False) -> tuple[Packets, dict[str, int]]:
    """All packets of a folder by time, and what was read and dropped. Raises DataError.

    telemetry: read the values inside as well, and the device faults. Normal rows of their files are left out:
    they are the other direction of the same exchanges.
    """
    families = families_of(telemetry)
    counts = {"rows_read": 0, "rows_unlabelled": 0, "rows_of_other_kinds": 0, "rows_not_tcp": 0}
    if telemetry:
        counts |= {"rows_normal_beside_faults": 0, "telemetry_not_numeric": 0}
    frames = []
    for file in _files(path, telemetry):
        frame = _frame(file, _COLUMNS + (tuple(FIELDS) if telemetry else ())).with_row_index("row")
        labelled = frame.filter(pl.col("anomaly.name").is_not_null() & (pl.col("anomaly.name") != ""))
        known = labelled.filter(pl.col("anomaly.name").is_in(["Normal", *families]))
        counts["rows_read"] += frame.height
        counts["rows_unlabelled"] += frame.height - labelled.height
        counts["rows_of_other_kinds"] += labelled.height - known.height
        if file.name.startswith(FAULT_PARTS):
            faults = known.filter(pl.col("anomaly.name") != "Normal")
            counts["rows_normal_beside_faults"] += known.height - faults.height
            known = faults
        numbers = _numbers(known, file)
        tcp = (numbers["tcp.srcport"] > 0) & (numbers["tcp.dstport"] > 0)
        counts["rows_not_tcp"] += int((~tcp).sum())
        http = file.name.startswith("NormalTrafficHTTP")
        kind = pl.col("anomaly.name").replace_strict(
            ["Normal", *families], [BACKGROUND if http else BASE, *range(1, len(families) + 1)]
        )
        values = pl.DataFrame()
        if telemetry:
            values, wrong = read_telemetry(known)
            counts["telemetry_not_numeric"] += wrong
        frames.append(
            numbers.with_columns(
                known["ip.src_host"].fill_null(""),
                known["ip.dst_host"].fill_null(""),
                known.select(kind.cast(pl.Int64).alias("kind"))["kind"],
                known.select(_application().alias("application"))["application"],
                *values.get_columns(),
            ).filter(tcp)
        )
    rows = pl.concat(frames).sort("frame.time", maintain_order=True)
    for code, name in ((BASE, "normal MQTT"), *enumerate(families, start=1)):
        if not (rows["kind"] == code).any():
            raise DataError(
                f"{path}: no packets of {name}",
                found=f"{len(frames)} files, {rows.height} labelled packets",
                way_out="add the published parts of that kind",
            )
    counts["files_read"] = len(frames)
    return _clean(_packets(rows, tuple(FIELDS.values()) if telemetry else ()), counts), counts


def _application() -> pl.Expr:
    """MQTT's message type, or a code for an HTTP request or response; 0 where there is none."""
    method, response = pl.col("http.request.method"), pl.col("http.response")
    mqtt = pl.col("mqtt.msgtype").cast(pl.Float64, strict=False).fill_nan(0).fill_null(0).clip(0, 15)
    return (
        pl.when(method.str.contains("^[A-Z]+$").fill_null(False))
        .then(pl.lit(float(HTTP_REQUEST)))
        .when(response.str.to_lowercase().is_in(["true", "1", "1.0"]).fill_null(False))
        .then(pl.lit(float(HTTP_RESPONSE)))
        .otherwise(mqtt)
        .cast(pl.UInt8)
    )


def _packets(rows: pl.DataFrame, fields: tuple[str, ...]) -> Packets:
    hosts = pl.concat([rows["ip.src_host"], rows["ip.dst_host"]]).alias("host").value_counts()
    # The gateway that is watched takes part in nearly all packets.
    server = hosts.sort(["count", "host"], descending=[True, False])["host"][0]
    towards = (rows["ip.dst_host"] == server).to_numpy()
    client = np.where(towards, rows["ip.src_host"].to_numpy(), rows["ip.dst_host"].to_numpy())
    _, device = np.unique(client.astype(str), return_inverse=True)
    source, target = rows["tcp.srcport"].to_numpy(), rows["tcp.dstport"].to_numpy()
    ports = np.where(towards, source * 65536 + target, target * 65536 + source).astype(np.int64)
    kind = rows["kind"].to_numpy()
    # A fault's packet is not of the connection that its original was of, nor of another fault's.
    ends = device * (1 << 33) + ports + _fault(kind) * (1 << 52)
    time = rows["frame.time"].to_numpy().astype(np.float64) / 1e6
    telemetry = [rows[name].fill_null(float("nan")).to_numpy() for name in fields]
    flags = sum(
        (rows[name].to_numpy() != 0).astype(np.uint8) << bit for bit, name in enumerate(_FLAG_COLUMNS)
    )
    return Packets(
        time=time,
        length=rows["frame.len"].to_numpy().astype(np.float32),
        payload=rows["tcp.len"].to_numpy().astype(np.float32),
        flags=np.asarray(flags, dtype=np.uint8),
        towards_server=towards,
        device=device.astype(np.int64),
        connection=_connections(ends, time),
        identity=rows.select("ip.src_host", "ip.dst_host", *_NUMERIC).hash_rows(seed=0).to_numpy(),
        kind=kind,
        application=rows["application"].to_numpy(),
        telemetry=np.stack(telemetry, axis=1) if fields else np.zeros((rows.height, 0), np.float32),
    )


def _connections(key: Int, time: NDArray[np.float64]) -> Int:
    """One number per run of packets between the same hosts and ports without a long silence."""
    order = np.lexsort((time, key))
    new = (np.diff(key[order]) != 0) | (np.diff(time[order]) > _CONNECTION_GAP_SECONDS)
    number = np.empty(len(key), dtype=np.int64)
    number[order] = np.r_[0, np.cumsum(new)]
    return number


def _fault(kind: Int) -> Int:
    """0 for normal traffic and network attacks, 1 .. for the device faults, whose packets are copies."""
    return np.maximum(kind - len(FAMILIES), 0)


def first_of_identity(packets: Packets, within_faults: bool = False) -> Int:
    """[P] index of the first packet that is equal but for its time and telemetry; faults count as the last.

    within_faults: packets of a device fault are compared with those of the same fault only.
    """
    fault = _fault(packets.kind)
    order = np.lexsort((np.arange(len(packets.time)), fault, packets.identity))
    new = np.r_[True, np.diff(packets.identity[order].view(np.int64)) != 0]
    if within_faults:
        new[1:] |= np.diff(fault[order]) != 0
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return first


def _clean(packets: Packets, counts: dict[str, int]) -> Packets:
    """Without exchanges that repeat a packet of an earlier one; TCP's own retransmissions stay."""
    first = first_of_identity(packets, within_faults=True)
    copied = packets.connection != packets.connection[first]
    replayed = np.zeros(int(packets.connection.max()) + 1, dtype=bool)
    replayed[packets.connection[copied]] = True
    kept = ~replayed[packets.connection]
    counts["duplicates_removed"] = int((~kept).sum())
    return packets.take(kept)


def raw_rows(path: Any, telemetry: bool = False) -> RawRows:
    """Labelled rows with every published column, spread evenly over the files, at most 60,000.

    Columns that hold numbers throughout are float64 (NaN where empty), the others strings. A group is a file.
    telemetry: with the device faults, as `read_packets` takes them.
    """
    names = ["Normal", *families_of(telemetry)]
    files = _files(path, telemetry)
    each = max(1, _RAW_ROWS // len(files))
    taken = []
    for number, file in enumerate(files):
        frame = _frame(file, _COLUMNS, every=True)
        read = names[1:] if file.name.startswith(FAULT_PARTS) else names
        frame = frame.filter(pl.col("anomaly.name").is_in(read))
        rows = np.unique(np.linspace(0, max(frame.height - 1, 0), min(each, frame.height)).astype(np.int64))
        taken.append(frame[rows].with_columns(file=pl.lit(number)))
    both = pl.concat(taken, how="diagonal")
    columns: dict[str, NDArray[Any]] = {}
    for name in both.columns:
        if name in ("file", "anomaly.name", "anomaly.label", "anomaly.layer"):
            continue
        number_column = both[name].cast(pl.Float64, strict=False)
        if number_column.null_count() == both[name].null_count():
            columns[name] = number_column.fill_null(float("nan")).to_numpy()
        else:
            columns[name] = both[name].fill_null("").to_numpy()  # objects: some texts are long
    label = both["anomaly.name"].replace_strict(names, range(len(names))).to_numpy().astype(np.int64)
    group = both["file"].to_numpy().astype(np.int64)
    classes = (NORMAL, *families_of(telemetry).values())
    return RawRows(columns=columns, label=label, group=group, classes=classes)
