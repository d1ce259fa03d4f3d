"""X-IoMT as gateway streams (Pinto et al., IEEE NCA 2025, DOI 10.1109/NCA67271.2025.00047).

The published parts are packets of an IoMT testbed, nearly every file of one class. Here normal MQTT
traffic, with a share of HTTP that differs by site, goes on through a whole stream, and campaigns of SYN
flood, FIN flood or Slowloris are mixed in. Labels are per step: the family from a campaign's onset to its
end, also in the pauses of an on-off campaign and in steps that by chance got no attack packet.
With `telemetry` the values inside the packets are a second modality, and device faults are laid in as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto import keys
from lazaretto.data import _gateway_streams as streams
from lazaretto.data import _packet_steps as packet_steps
from lazaretto.data._gateway_streams import Packets, Pool
from lazaretto.data._packet_flows import FLOW_FEATURES, flow_features
from lazaretto.data._x_iomt_files import (
    BACKGROUND,
    BASE,
    FAMILIES,
    HTTP_REQUEST,
    HTTP_RESPONSE,
    LEAKS,
    families_of,
    first_of_identity,
    raw_rows,
    read_packets,
)
from lazaretto.data._x_iomt_sample import synthetic_packets
from lazaretto.data._x_iomt_telemetry import FIELDS, NOTES, ORIGINS, RECORD, extremes
from lazaretto.errors import DataError, PlanError
from lazaretto.types import NORMAL, TEST, TRAIN, UNASSIGNED, VALIDATION, Int, RawRows, Schema, Source, Table

__all__ = ["pools", "split_packets", "x_iomt"]

# The full view reads these as numbers, so that it does not matter how a zero is written.
_FULL_VIEW_READS = ("mqtt.msgtype", "http.request.method", "http.response")

_EXCHANGE_GAP_SECONDS = 1.0
_SILENCE_SECONDS = 300.0  # between published parts; the longest pause of the devices is 30 s
_ATTACK_BLOCK_PACKETS = 2000
# Slowloris tries the same connections again for minutes; a border inside a try would part equal packets,
# so its blocks end at silences of this many seconds only.
_WAITS: Mapping[str, float] = MappingProxyType({"slowloris": 20.0})
_INTENSITY_EDGES = (0.02, 0.05, 0.1, 0.25)
_MOST_BACKGROUND = 0.25  # of normal packets are HTTP, drawn for each site from 0 to this
_APPLICATION: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "share_mqtt_connect": (1, 2),
        "share_mqtt_publish": (3, 4, 5, 6, 7),
        "share_mqtt_subscribe": (8, 9, 10, 11),
        "share_mqtt_ping": (12, 13),
        "share_mqtt_disconnect": (14,),
        "share_http_request": (HTTP_REQUEST,),
        "share_http_response": (HTTP_RESPONSE,),
    }
)
_THREE_KINDS = (
    "All attacks came from one host to one gateway. Kinds other than the three are not in the headers."
)
_NOTES = (
    "A stream is a construction: normal packets go on while packets of one attack are laid in.",
    "Sites may share devices: each draws two to four of the MQTT devices and a share of HTTP.",
    "Streams of one split may overlap in packets; no packet of one split is in another.",
    "Steps carry their campaign's label from onset to end, also where it pauses or sent nothing.",
    _THREE_KINDS,
    "Gaps below 0.1 ms count as 0.1 ms: captures of attacks and of normal traffic stamp time differently.",
    "Left out: exchanges with a packet equal to an earlier one but for its time (replays, reused ports).",
)


def x_iomt(  # noqa: PLR0913  each is a setting of the plan
    sites: int = 20,
    streams_per_site: int = 40,
    windows: int = 4,
    window_steps: int = 16,
    step_packets: int = 50,
    attacked_share: float = 0.6,
    lowest_intensity: float = 0.01,
    view: str = "headers",
    telemetry: bool = False,
) -> Source:
    """X-IoMT packets (MQTT, HTTP, SYN flood, FIN flood, Slowloris) as gateway streams.

    A unit is a stream of windows · window_steps steps of step_packets packets; `attacked_share` of the
    streams carry one campaign (anywhere, 15 to 60 % long, intensity log-uniform from
    `lowest_intensity` to .5 of the packets). Train, validation and test streams (55, 15, 30 %) draw from
    disjoint blocks of time. view: "headers"; "full", with shares of MQTT and HTTP messages as well; or
    "flows", with the features that `flows_csv` gives, so that a model can be judged on flow tables.

    telemetry: with a second modality "record", least and largest of nine telemetry columns in a step
    (irregular: NaN where none has one), and four device faults as further families. To look at, not to judge
    by: telemetry alone gives the published faults away. Not with view "flows".

    `load` and `raw` read a folder of the published parts (.csv or .csv.gz) and raise DataError where it
    cannot be used. Raises PlanError for options out of range.
    """
    for name, value, least in (
        ("sites", sites, 1),
        ("streams_per_site", streams_per_site, 3),
        ("windows", windows, 1),
        ("window_steps", window_steps, 2),
        ("step_packets", step_packets, 10),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise PlanError(
                f"x_iomt: {name} is out of range", found=value, way_out=f"an integer of at least {least}"
            )
    if not 0 < attacked_share < 1:
        raise PlanError(
            "x_iomt: attacked_share is out of range", found=attacked_share, way_out="between 0 and 1"
        )
    if not 0 < lowest_intensity < 0.5:
        raise PlanError("x_iomt: lowest_intensity is out of range", found=lowest_intensity, way_out="0 to .5")
    if view not in ("headers", "full", "flows"):
        raise PlanError("x_iomt: unknown view", found=view, way_out='known: "headers", "full", "flows"')
    if not isinstance(telemetry, bool):
        raise PlanError("x_iomt: telemetry is no truth value", found=telemetry, way_out="true or false")
    if telemetry and view == "flows":
        raise PlanError(
            "x_iomt: a table of flows has no telemetry",
            found='telemetry with view "flows"',
            way_out='set view to "headers" or "full", or telemetry to false',
        )

    def make(
        packets: Packets, counts: dict[str, int], seed: int, size: tuple[int, int, int, int, int]
    ) -> Table:
        return _table(packets, counts, seed, size, (attacked_share, lowest_intensity), view, telemetry)

    def load(path: Any, seed: int) -> Table:
        packets, counts = read_packets(path, telemetry)
        return make(packets, counts, seed, (sites, streams_per_site, windows, window_steps, step_packets))

    def sample() -> Table:
        # More streams with telemetry, so that each of seven families is in one of them.
        return make(synthetic_packets(0, telemetry), {}, 0, (3, 14 if telemetry else 7, 2, 8, 50))

    def raw(path: Any) -> RawRows:
        return raw_rows(path, telemetry)

    read = (*(_FULL_VIEW_READS if view == "full" else ()), *(FIELDS if telemetry else ()))
    leaks = {name: reason for name, reason in LEAKS.items() if name not in read}
    return Source(name="x_iomt", load=load, sample=sample, raw=raw, leaks=leaks, needs_path=True, deals=True)


def split_packets(
    packets: Packets, seed: int, stream_packets: int, families: Mapping[str, str] = FAMILIES
) -> tuple[Int, Int]:
    """Split and block, both [P], of each packet: blocks of time, each kind of packet on its own.

    A packet equal to one in a block of another split (a retransmission across the border) is not
    used: its split is UNASSIGNED. A device fault's packet is a copy, and goes where its original is, or where
    an earlier fault's copy is; without one where its block goes. families: published name -> class of the
    kinds 1, 2, .. Raises DataError where a kind has too few blocks.
    """
    split = np.full(len(packets.time), UNASSIGNED, dtype=np.int64)
    block = np.full(len(packets.time), -1, dtype=np.int64)
    classes = (NORMAL, *families.values())
    for kind in (BASE, BACKGROUND, *range(1, len(classes))):
        where = np.flatnonzero(packets.kind == kind)
        if not len(where):
            continue
        silence = _SILENCE_SECONDS
        if kind == BASE:
            target = min(max(4 * stream_packets, len(where) // 28), len(where) // 7)
        elif kind == BACKGROUND or classes[kind] not in _WAITS:
            target = min(_ATTACK_BLOCK_PACKETS, len(where) // 14)
        else:
            target, silence = len(where), _WAITS[classes[kind]]
        mine = streams.cut_blocks(packets.time[where], target, silence)
        name = {BASE: "normal MQTT", BACKGROUND: "normal HTTP"}.get(kind, classes[kind])
        rng = keys.generator(seed, "x_iomt", "blocks", name)
        split[where] = streams.assign_splits(np.bincount(mine), f"x_iomt, {name}", rng)[mine]
        block[where] = mine + block.max() + 1
    original = split[first_of_identity(packets)]
    copied = packets.kind > len(FAMILIES)
    return np.where(copied | (split == original), original, UNASSIGNED), block


def _groups(index: Int, number: Int) -> tuple[Int, ...]:
    """`index` cut where `number` [len(index)] changes."""
    return tuple(np.split(index, np.flatnonzero(np.diff(number)) + 1)) if len(index) else ()


def pools(
    packets: Packets, split: Int, block: Int, families: Mapping[str, str] = FAMILIES
) -> dict[int, Pool]:
    """What the streams of each split may draw from. Raises DataError where a split lacks a family."""
    classes = (NORMAL, *families.values())
    made = {}
    for code in (TRAIN, VALIDATION, TEST):
        of_kind = {
            kind: np.flatnonzero((split == code) & (packets.kind == kind))
            for kind in (BASE, BACKGROUND, *range(1, len(classes)))
        }
        for kind in range(1, len(classes)):
            if not len(of_kind[kind]):
                raise DataError(
                    f"x_iomt: too few packets of {classes[kind]} for disjoint splits",
                    found="a split without any",
                    way_out="add the published parts of that kind",
                )
        http = of_kind[BACKGROUND]
        http = http[np.lexsort((packets.time[http], packets.connection[http]))]
        silent = np.diff(packets.time[http], prepend=-np.inf) > _EXCHANGE_GAP_SECONDS
        other = np.diff(packets.connection[http], prepend=-1) != 0
        exchanges = _groups(http, np.cumsum(silent | other))
        made[code] = Pool(
            base=_groups(of_kind[BASE], block[of_kind[BASE]]),
            # Shorter ones are single packets of an exchange whose other packets were left out.
            exchanges=tuple(e for e in exchanges if 3 <= len(e) <= 50),
            attacks={k: _groups(of_kind[k], block[of_kind[k]]) for k in range(1, len(classes))},
        )
    return made


def _table(
    packets: Packets,
    counts: dict[str, int],
    seed: int,
    size: tuple[int, int, int, int, int],
    attacked: tuple[float, float],
    view: str,
    telemetry: bool,
) -> Table:
    families = families_of(telemetry)
    sites, units, windows, window_steps, step_packets = size
    steps = windows * window_steps
    split, block = split_packets(packets, seed, steps * step_packets, families)
    pool = pools(packets, split, block, families)
    devices = np.unique(packets.device[packets.kind == BASE])
    drawn, labels, splits, intensity = [], [], [], []
    for site in range(sites):
        rng = keys.generator(seed, "x_iomt", "site", site)
        mine = rng.choice(
            devices, size=int(rng.integers(min(2, len(devices)), len(devices) + 1)), replace=False
        )
        seen = np.isin(packets.device, mine)
        usable = {code: tuple(b[seen[b]] for b in pool[code].base) for code in pool}
        background = float(rng.uniform(0.0, _MOST_BACKGROUND))
        unit_split, family = _units(units, site, attacked[0], len(families), rng)
        for unit in range(units):
            rng = keys.generator(seed, "x_iomt", "stream", site, unit)
            code = int(unit_split[unit])
            campaign = None
            label = np.zeros(steps, dtype=np.int64)
            if family[unit]:
                campaign = streams.draw_campaign(steps, int(family[unit]), attacked[1], rng)
                label[campaign.onset : campaign.end] = campaign.family
            drawn.append(
                streams.draw_stream(
                    packets, pool[code], usable[code], background, step_packets, campaign, steps, rng
                )
            )
            labels.append(label)
            intensity.append(np.where(label > 0, campaign.intensity if campaign else 0.0, 0.0))
        splits.append(unit_split)

    index = np.concatenate([stream.index for stream in drawn])
    time = np.stack([stream.time for stream in drawn])
    # From here on relative to the stream's start: near 1.7e9 s a float64 resolves no less than 0.2 µs.
    since = (time - time[:, :1]).ravel()
    if view == "flows":
        x = flow_features(
            packets.length[index],
            since,
            packets.towards_server[index],
            packets.connection[index],
            step_packets,
            steps,
        )
        names = FLOW_FEATURES
    else:
        x = _features(packets, index, since, step_packets, view)
        names = packet_steps.FEATURES + (tuple(_APPLICATION) if view == "full" else ())
    rows = sites * units * windows
    y_step = np.concatenate(labels).reshape(rows, window_steps)
    per_step = time.reshape(-1, steps, step_packets)
    repeat = np.repeat(np.arange(sites * units), windows)
    shown, features = {"traffic": x}, {"traffic": names}
    if telemetry:
        shown["record"] = extremes(packets.telemetry, index, step_packets)
        features["record"] = RECORD
    return Table(
        x={name: values.reshape(rows, window_steps, -1) for name, values in shown.items()},
        present=np.ones((rows, len(shown)), dtype=np.bool_),
        y=y_step.max(axis=1),
        y_step=y_step,
        valid=np.ones((rows, window_steps), dtype=np.bool_),
        unit=repeat,
        unit_names=tuple(f"site {s + 1:02d} stream {u + 1:02d}" for s in range(sites) for u in range(units)),
        time=per_step[:, ::window_steps, 0].ravel(),
        site=repeat // units,
        site_names=tuple(f"site {s + 1:02d}" for s in range(sites)),
        split=np.concatenate(splits)[repeat],
        schema=Schema(
            features=features,
            classes=(NORMAL, *families.values()),
            step=f"{step_packets} packets",
            step_seconds=float((per_step[:, -1, 0] - per_step[:, 0, 0]).mean() / (steps - 1)),
            rate_feature=packet_steps.RATE_FEATURE,
            intensity="share of packets",
            intensity_edges=_INTENSITY_EDGES,
            irregular=frozenset({"record"} if telemetry else ()),
            origins=ORIGINS if telemetry else {},
        ),
        notes=(*(note for note in _NOTES if note != _THREE_KINDS), *NOTES) if telemetry else _NOTES,
        counts={
            **counts,
            "rows_at_split_borders": int((split == UNASSIGNED).sum()),
            "units": sites * units,
            "windows": rows,
        },
        intensity=np.concatenate(intensity).reshape(rows, window_steps).astype(np.float32),
    )


def _units(
    units: int, site: int, attacked_share: float, families: int, rng: np.random.Generator
) -> tuple[Int, Int]:
    """Split [units] and family [units] (0 none) of a site's streams; families in turn within each split."""
    validation, test = max(1, round(0.15 * units)), max(1, round(0.3 * units))
    split = np.repeat([TRAIN, VALIDATION, TEST], [units - validation - test, validation, test])
    family = np.zeros(units, dtype=np.int64)
    for code in (TRAIN, VALIDATION, TEST):
        mine = rng.permutation(np.flatnonzero(split == code))
        attacked = mine[: max(1, round(attacked_share * len(mine)))]
        family[attacked] = 1 + (site + np.arange(len(attacked))) % families
    return split, family


def _features(
    packets: Packets, index: Int, time: NDArray[np.float64], step_packets: int, view: str
) -> NDArray[np.float32]:
    """[steps, F] of packets `index` at `time` (from its stream's start), `step_packets` to a step."""
    x = packet_steps.step_features(
        packets.length[index],
        packets.payload[index],
        time,
        packets.flags[index],
        packets.towards_server[index],
        np.arange(0, len(index) + 1, step_packets),
    )
    if view != "full":
        return x
    code = packets.application[index].reshape(-1, step_packets)
    shares = [np.isin(code, members).mean(axis=1) for members in _APPLICATION.values()]
    return np.concatenate([x, np.stack(shares, axis=1).astype(np.float32)], axis=1)
