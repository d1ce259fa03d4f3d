"""Benign events at the bedsides, in the vocabulary that attacks use too: drives.

A drive is one thing that can be pushed at a bedside ("connection attempts to hosts it does not usually
talk to"), in multiples of the device's own level. Attacks own no drive: whatever a campaign pushes, some
benign event pushes too, so no feature can be non-zero under attack alone. What tells an attack is which
drives move together, for how long, and against which level of the same device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lazaretto.data._consortium_hospitals import STEPS_PER_DAY, Bedsides, Floats, Hospital, World

__all__ = ["BOUNDED", "DRIVES", "EVENTS", "ROW", "Event", "benign", "limited"]

DRIVES: Mapping[str, str] = MappingProxyType(
    {
        "probes": "connection attempts to hosts the device does not usually talk to, x own connections",
        "logins": "repeated attempts on one service, x own connections",
        "pressure": "unsolicited inbound packets, x own packets",
        "upload": "bulk bytes sent, x own bytes",
        "download": "bulk bytes received, x own bytes",
        "delay": "rise of the log round trip",
        "loss": "rise of the logit of retransmission",
        "requests": "HTTP requests, x own requests",
        "corrections": "HL7 messages, x own messages",
        "telemetry": "MQTT messages, x own messages",
        "studies": "DICOM objects, x own objects",
        "sessions": "TLS sessions set up anew, x own sessions",
        "lookups": "DNS-like lookups, x own lookups",
        "repeats": "rise of the logit that two messages in a row have the same size",
        "unsteadiness": "rise of the log coefficient of variation of inter-arrival times",
        "padding": "rise of the log message size",
        "silence": "share of own telemetry that is not sent",
        "reads": "reads of the patient's record, x own reads",
        "strangers": "reads by people from other wards, x own",
        "edits": "edits of the record, x own edits",
        "backdated": "edits of entries older than an hour, x own edits",
        "chart_gaps": "share of charting that does not happen",
        "altered": "readings changed between device and record, in sd of the patient's channel",
        "rewritten": "charted values changed afterwards, in sd of the patient's channel",
        "feigned": "share of the reading that is not the patient's",
    }
)
ROW = MappingProxyType({name: row for row, name in enumerate(DRIVES)})


# Logs, shares and sds: they grow with the logarithm of an attack's intensity, multiples grow with it.
BOUNDED = frozenset(
    {
        "delay",
        "loss",
        "repeats",
        "unsteadiness",
        "padding",
        "silence",
        "chart_gaps",
        "altered",
        "rewritten",
        "feigned",
    }
)
_CEILING = 50.0  # of multiples: links, access points and rate limiters carry no more, whoever pushes


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A benign event that can look like an attack.

    per_day: mean number per device, ward or site (`scope`) and day.  steps: shortest and longest length.
    drives: drive -> median push while it lasts.  hours: parts of the day it may start in ("shift" and
    "backup" are the site's own hours), empty for any time.  either: drives that go up or down, by chance.
    """

    name: str
    per_day: float
    steps: tuple[int, int]
    scope: Literal["device", "ward", "site"]
    drives: Mapping[str, float]
    hours: tuple[tuple[float, float], ...] | Literal["shift", "backup"] = ()
    either: tuple[str, ...] = ()


_ROUNDS = ((7.5, 10.5), (15.5, 17.5))


def _event(
    name: str,
    per_day: float,
    steps: tuple[int, int],
    scope: Literal["device", "ward", "site"],
    hours: tuple[tuple[float, float], ...] | Literal["shift", "backup"] = (),
    either: tuple[str, ...] = (),
    **drives: float,
) -> Event:
    pushes = MappingProxyType(drives)
    return Event(
        name=name, per_day=per_day, steps=steps, scope=scope, drives=pushes, hours=hours, either=either
    )


EVENTS: tuple[Event, ...] = (
    _event(
        "firmware_update", 0.4, (2, 8), "device", download=20, sessions=9, lookups=6, logins=2, silence=0.4
    ),
    _event("night_backup", 1.5, (6, 36), "device", "backup", upload=5, sessions=0.6, padding=0.2),
    _event("study_burst", 1.2, (1, 6), "device", studies=100, upload=4, requests=0.6),
    _event("ward_round", 3.0, (3, 10), "ward", _ROUNDS, reads=5, requests=4, corrections=2, edits=0.7),
    _event(
        "handover",
        3.0,
        (2, 6),
        "site",
        "shift",
        reads=4,
        strangers=2,
        sessions=3,
        logins=2,
        backdated=1,
        edits=1,
    ),
    _event("library_sync", 7.0, (2, 12), "device", download=25, sessions=12, lookups=8, requests=8, logins=4),
    _event(
        "waveform_export", 4.0, (2, 10), "device", studies=120, upload=15, sessions=6, requests=4, lookups=4
    ),
    _event("asset_poll", 8.0, (2, 10), "ward", pressure=6, probes=10, logins=5, lookups=5, loss=0.8),
    _event(
        "backlog",
        5.0,
        (2, 10),
        "device",
        telemetry=3,
        corrections=6,
        loss=1.2,
        delay=0.6,
        padding=0.3,
        sessions=2,
    ),
    _event(
        "directory_trouble", 2.5, (2, 10), "ward", logins=15, sessions=12, requests=4, delay=0.9, silence=0.4
    ),
    _event("reboot", 1.0, (1, 4), "device", silence=0.6, sessions=15, logins=6, lookups=8, probes=1),
    _event("reconnect_storm", 0.5, (1, 6), "ward", sessions=12, logins=6, lookups=4, loss=1),
    _event("scanner_window", 0.4, (4, 16), "site", probes=8, pressure=1, logins=3),
    _event("discovery", 4.0, (1, 10), "device", probes=10, lookups=10, telemetry=1),
    _event("resolver_trouble", 0.5, (2, 20), "ward", lookups=6, delay=0.2),
    _event("congestion", 1.0, (3, 24), "ward", delay=1.2, loss=2, unsteadiness=0.5),
    _event("roaming", 0.7, (4, 40), "device", delay=0.8, loss=0.7, either=("delay",)),
    _event("broadcast_storm", 0.5, (1, 10), "ward", pressure=5, loss=1, delay=0.4),
    _event("vendor_session", 0.8, (4, 24), "device", upload=4, requests=4, strangers=1, sessions=2),
    _event("expired_credential", 0.4, (8, 60), "device", logins=6, sessions=2),
    _event("key_rotation", 0.7, (1, 8), "device", sessions=8),
    _event(
        "loose_probe", 1.5, (2, 16), "device", repeats=2, feigned=0.6, telemetry=0.3, either=("telemetry",)
    ),
    _event("recalibration", 0.8, (1, 8), "device", altered=1.5, sessions=3, padding=0.2, either=("padding",)),
    _event(
        "late_charting", 1.5, (1, 6), "device", edits=3, backdated=3, rewritten=0.6, corrections=4, requests=2
    ),
    _event("chart_review", 0.6, (3, 20), "device", reads=6, strangers=5, requests=5, upload=1),
    _event("record_downtime", 0.15, (4, 14), "site", chart_gaps=0.8, silence=0.2, corrections=0.5),
    _event("interface_retry", 1.0, (2, 12), "device", corrections=5, delay=0.6, repeats=1),
    _event(
        "new_settings",
        0.7,
        (16, 120),
        "device",
        telemetry=0.6,
        padding=0.3,
        unsteadiness=0.4,
        repeats=0.8,
        either=("telemetry", "padding", "unsteadiness", "repeats"),
    ),
)


def _hours(event: Event, site: Hospital) -> tuple[tuple[float, float], ...]:
    if event.hours == "shift":
        return tuple((hour % 24.0, (hour + 0.5) % 24.0) for hour in site.shift_hours)
    if event.hours == "backup":
        return ((site.backup_hour, site.backup_hour + 2.0),)
    return event.hours


def _starts(
    rng: np.random.Generator, event: Event, site: Hospital, targets: int, steps: int
) -> NDArray[np.int64]:
    """Starts [k], also before the stream, so that its first step finds events under way."""
    reach = steps + event.steps[1]
    windows = _hours(event, site)
    open_hours = sum((high - low) % 24.0 for low, high in windows) if windows else 24.0
    mean = event.per_day * targets * reach / STEPS_PER_DAY * 24.0 / open_hours
    starts = rng.integers(-event.steps[1], steps, rng.poisson(mean))
    if not windows:
        return starts
    hour = (site.start_seconds / 3600.0 + starts * 24.0 / STEPS_PER_DAY) % 24.0
    inside = np.zeros(len(starts), dtype=bool)
    for low, high in windows:
        inside |= (hour - low) % 24.0 < (high - low) % 24.0
    return starts[inside]


def benign(world: World, site: Hospital, beds: Bedsides, rng: np.random.Generator) -> Floats:
    """Drives [D, U, L] of benign events; rows in the order of `DRIVES`."""
    steps, units = world.steps, site.units
    drives = np.zeros((len(DRIVES), units, steps))
    targets = {"device": units, "ward": site.wards, "site": 1}
    for event in EVENTS:
        starts = _starts(rng, event, site, targets[event.scope], steps)
        lengths = np.exp(rng.uniform(np.log(event.steps[0]), np.log(event.steps[1] + 1), len(starts))).astype(
            int
        )
        where = rng.integers(0, targets[event.scope], len(starts))
        size = world.confounders * np.exp(rng.normal(0.0, 0.7, len(starts)))
        push = np.exp(rng.normal(0.0, 0.5, (len(starts), len(event.drives))))
        sign = np.where(rng.random((len(starts), len(event.drives))) < 0.5, -1.0, 1.0)
        for k, start in enumerate(starts):
            span = slice(max(0, int(start)), max(0, min(steps, int(start + lengths[k]))))
            rows = _rows(event.scope, int(where[k]), beds)
            for j, (name, gain) in enumerate(event.drives.items()):
                turn = sign[k, j] if name in event.either else 1.0
                drives[ROW[name], rows, span] += gain * size[k] * push[k, j] * turn
    return drives


def _rows(scope: str, target: int, beds: Bedsides) -> NDArray[np.int64]:
    if scope == "device":
        return np.array([target])
    return np.flatnonzero(beds.ward == target) if scope == "ward" else np.arange(len(beds.ward))


def limited(drives: Floats) -> Floats:
    """Drives [D, U, L] after saturation: multiples level off at 50, logs and sds at 3, small ones stay."""
    ceiling = np.array([3.0 if name in BOUNDED else _CEILING for name in DRIVES])[:, None, None]
    out: Floats = drives / (1.0 + np.abs(drives) / ceiling)
    return out
