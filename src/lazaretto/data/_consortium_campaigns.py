"""What happens at the bedsides: benign events and attack campaigns, in one common vocabulary of drives.

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

__all__ = ["CAMPAIGNS", "DRIVES", "EVENTS", "Campaign", "Campaigns", "Event", "benign", "campaigns", "limited"]

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
_ROW = MappingProxyType({name: row for row, name in enumerate(DRIVES)})


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What one attack family pushes: drive -> push at intensity 1.  either: drives that go up or down, by chance.

    Families share mechanisms: scan and ransomware meet new hosts, exfiltration and the insider send more than
    they get, and whoever touches readings disturbs timing and sizes. A relay that ends the session near the
    tap shortens the round trip, one further off lengthens it; a forged message is longer or shorter.
    """

    drives: Mapping[str, float]
    either: tuple[str, ...] = ()


# Logs, shares and sds: they grow with the logarithm of an attack's intensity, multiples grow with it.
_BOUNDED = frozenset(
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
    _event(
        "library_sync", 7.0, (2, 12), "device", download=25, sessions=12, lookups=8, requests=8, logins=4
    ),
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


def _campaign(*either: str, **drives: float) -> Campaign:
    return Campaign(drives=MappingProxyType(drives), either=either)


CAMPAIGNS: Mapping[str, Campaign] = MappingProxyType(
    {
        "scan": _campaign(probes=4, lookups=2, logins=1, loss=0.4),
        "brute_force": _campaign(logins=5, sessions=3, requests=1, lookups=0.6),
        "flood": _campaign("unsteadiness", pressure=4, loss=1, delay=0.7, silence=0.3, unsteadiness=0.3),
        "slow_exfiltration": _campaign("padding", upload=4, lookups=2, sessions=2, probes=0.6, padding=0.3),
        "man_in_the_middle": _campaign(
            "delay",
            "padding",
            "unsteadiness",
            delay=1.3,
            padding=0.35,
            sessions=3,
            loss=0.9,
            unsteadiness=0.5,
            altered=1.5,
        ),
        "ransomware": _campaign(
            probes=2, upload=1.5, download=1.5, lookups=2, logins=1.5, silence=0.25, chart_gaps=0.3
        ),
        "insider_browsing": _campaign(reads=1, strangers=1, requests=4, upload=1.5, corrections=2, sessions=1),
        "record_tampering": _campaign(
            "padding",
            "repeats",
            edits=0.7,
            backdated=0.7,
            rewritten=1.5,
            corrections=4,
            requests=1.5,
            padding=0.35,
            repeats=1.2,
            sessions=1,
            delay=0.2,
        ),
        "sensor_spoofing": _campaign(
            "padding",
            "repeats",
            "telemetry",
            "unsteadiness",
            feigned=0.45,
            repeats=2.0,
            unsteadiness=0.7,
            telemetry=0.3,
            sessions=3,
            padding=0.45,
            delay=0.2,
        ),
    }
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
                drives[_ROW[name], rows, span] += gain * size[k] * push[k, j] * turn
    return drives


def _rows(scope: str, target: int, beds: Bedsides) -> NDArray[np.int64]:
    if scope == "device":
        return np.array([target])
    return np.flatnonzero(beds.ward == target) if scope == "ward" else np.arange(len(beds.ward))


def limited(drives: Floats) -> Floats:
    """Drives [D, U, L] after saturation: multiples level off at 50, logs and sds at 3; small pushes stay as they are."""
    ceiling = np.array([3.0 if name in _BOUNDED else _CEILING for name in DRIVES])[:, None, None]
    out: Floats = drives / (1.0 + np.abs(drives) / ceiling)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaigns:
    """Attack campaigns of a site: one per unit at most.

    drives: [D, U, L].  label: [U, L] 0 normal, else 1 + position in `CAMPAIGNS`; it stands from onset to end,
    also in the pauses of an on-off campaign.  onset, end: [U] steps (L and L where none).  intensity: [U].
    """

    drives: Floats
    label: NDArray[np.int64]
    onset: NDArray[np.int64]
    end: NDArray[np.int64]
    intensity: Floats


def campaigns(world: World, site: Hospital, beds: Bedsides, rng: np.random.Generator) -> Campaigns:
    """Draw campaigns: onset between 15 % and 70 % of the stream, steady, ramping or on-off, log-uniform intensity."""
    steps, units = world.steps, site.units
    families = list(CAMPAIGNS)
    hit = rng.random(units) < world.attacked
    family = rng.choice(len(families), size=units, p=site.families)
    earliest, latest = max(1, round(0.15 * steps)), max(1, round(0.7 * steps))
    onset = rng.integers(earliest, latest + 1, units)
    _spread(onset, hit & (family == families.index("ransomware")), beds, rng, earliest, latest)
    length = np.exp(rng.uniform(np.log(0.12), np.log(0.7), units)) * steps
    end = np.minimum(steps, onset + np.maximum(2, length.astype(int)))
    intensity = np.exp(rng.uniform(np.log(2.8), np.log(25.0), units)) / world.difficulty
    time = np.arange(steps)[None, :]
    under_way = hit[:, None] & (time >= onset[:, None]) & (time < end[:, None])
    envelope = under_way * intensity[:, None] * _shape(rng, time, onset, end)
    drives = np.zeros((len(DRIVES), units, steps))
    for position, name in enumerate(families):
        mine = np.flatnonzero(hit & (family == position))
        plan = CAMPAIGNS[name]
        push = np.exp(rng.normal(0.0, 0.5, (units, len(plan.drives))))
        sign = np.where(rng.random(push.shape) < 0.5, -1.0, 1.0)
        for j, (drive, gain) in enumerate(plan.drives.items()):
            turn = sign[mine, j, None] if drive in plan.either else 1.0
            strength = np.log1p(envelope[mine]) if drive in _BOUNDED else envelope[mine]
            drives[_ROW[drive], mine] += gain * push[mine, j, None] * strength * turn
    return Campaigns(
        drives=drives,
        label=np.where(under_way, family[:, None] + 1, 0).astype(np.int64),
        onset=np.where(hit, onset, steps),
        end=np.where(hit, end, steps),
        intensity=np.where(hit, intensity, 0.0),
    )


def _spread(
    onset: NDArray[np.int64],
    infected: NDArray[np.bool_],
    beds: Bedsides,
    rng: np.random.Generator,
    earliest: int,
    latest: int,
) -> None:
    """Ransomware jumps from bed to bed, first through the ward it starts in; sets `onset` in place."""
    rows = np.flatnonzero(infected)
    if len(rows) == 0:
        return
    rows = rng.permutation(rows)
    order = rows[np.argsort((beds.ward[rows] != beds.ward[rows[0]]).astype(int), kind="stable")]
    first = rng.integers(earliest, (earliest + latest) // 2 + 1)
    gaps = rng.exponential(0.05 * (latest - earliest), len(order))
    onset[order] = np.minimum(latest, first + np.floor(np.cumsum(gaps) - gaps[0])).astype(np.int64)


def _shape(
    rng: np.random.Generator, time: NDArray[np.int64], onset: NDArray[np.int64], end: NDArray[np.int64]
) -> Floats:
    """[U, L] in [0, 1.5]: a third steady, a third ramping up, a third on and off, with a little jitter."""
    units = len(onset)
    kind = rng.integers(0, 3, units)[:, None]
    done = (time - onset[:, None]) / np.maximum(1, end - onset)[:, None]
    on_steps, off_steps = rng.integers(3, 10, (2, units, 1))
    on = (time - onset[:, None]) % (on_steps + off_steps) < on_steps
    ramp = 0.25 + 0.75 * np.minimum(1.0, 2.0 * done)
    base = np.choose(kind, [np.ones_like(done), ramp, np.where(on, 1.0, 0.15)])
    shape: Floats = base * np.exp(rng.normal(-0.02, 0.2, base.shape))
    return shape
