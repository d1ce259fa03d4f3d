"""Hospitals of the simulator: what differs between sites, wards and devices, fixed for a whole stream.

Shapes: U bedsides of a site, L steps of their streams. A step is five minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lazaretto.keys import generator

__all__ = [
    "DEVICES",
    "KINDS",
    "STEPS_PER_DAY",
    "STEP_SECONDS",
    "Bedsides",
    "Device",
    "Floats",
    "Hospital",
    "World",
    "autoregressive",
    "bedsides",
    "hospital",
]

Floats = NDArray[np.float64]

STEP_SECONDS = 300.0
STEPS_PER_DAY = 288


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Options of the simulator; meanings and bounds stand at the factory `consortium`."""

    sites: int
    units_per_site: int
    windows: int
    window_steps: int
    attacked: float
    difficulty: float
    confounders: float
    missing: float
    elsewhere: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of one stream."""
        return self.windows * self.window_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Median traffic of one kind of device; each single device scatters around it by a factor of about two.

    mqtt, hl7, dicom, http: messages per minute.  message_bytes: size of one telemetry message.
    connections: new TCP connections per step.  peers: hosts it talks to.
    path: share of its patient's EMR messages (results, orders, alarms) that pass this device's port.
    sends: which of the patient's channels it measures (see `_consortium_patients.CHANNELS`).
    """

    name: str
    share: float
    mqtt: float
    hl7: float
    dicom: float
    http: float
    message_bytes: float
    connections: float
    peers: float
    path: float
    sends: tuple[int, ...]


DEVICES = (
    Device(
        name="infusion_pump",
        share=0.28,
        mqtt=6.0,
        hl7=0.6,
        dicom=0.002,
        http=0.6,
        message_bytes=190.0,
        connections=3.0,
        peers=3.0,
        path=0.35,
        sends=(6,),
    ),
    Device(
        name="monitor",
        share=0.32,
        mqtt=40.0,
        hl7=3.0,
        dicom=0.01,
        http=1.5,
        message_bytes=420.0,
        connections=5.0,
        peers=5.0,
        path=0.7,
        sends=(0, 1, 2, 3, 4),
    ),
    Device(
        name="ventilator",
        share=0.14,
        mqtt=24.0,
        hl7=1.8,
        dicom=0.004,
        http=0.8,
        message_bytes=340.0,
        connections=3.5,
        peers=4.0,
        path=0.5,
        sends=(1, 2),
    ),
    Device(
        name="cgm",
        share=0.14,
        mqtt=1.6,
        hl7=0.25,
        dicom=0.001,
        http=1.2,
        message_bytes=150.0,
        connections=4.0,
        peers=2.0,
        path=0.25,
        sends=(5,),
    ),
    Device(
        name="gateway",
        share=0.12,
        mqtt=80.0,
        hl7=9.0,
        dicom=0.25,
        http=9.0,
        message_bytes=500.0,
        connections=16.0,
        peers=14.0,
        path=1.0,
        sends=(0, 1, 2, 3, 4, 5, 6),
    ),
)
KINDS = tuple(device.name for device in DEVICES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hospital:
    """One site: what all its bedsides share.

    start_seconds: clock at the first step (random hour, so that step and time of day are not the same).
    skew_steps: by how much the EMR's clock lags the devices' clock.
    packet_sampling: the tap sees one packet in so many.  charting: factor on charting intervals.
    sickness: mean severity of the patients.  families: probability of each attack family here.
    shift_hours: changes of shift.  backup_hour: start of the nightly backups.
    """

    index: int
    units: int
    wards: int
    start_seconds: float
    skew_steps: float
    packet_sampling: int
    charting: float
    sickness: float
    mix: Floats
    families: Floats
    shift_hours: tuple[float, float, float]
    backup_hour: float
    level: Floats

    def hours(self, steps: int) -> Floats:
        """Hour of the day [steps] in [0, 24)."""
        hour: Floats = (
            (self.start_seconds + STEP_SECONDS * np.arange(steps, dtype=np.float64)) / 3600.0 % 24.0
        )
        return hour


def hospital(world: World, seed: int, index: int, families: int) -> Hospital:
    """Site `index`; depends on (seed, index) and the options only, never on other sites."""
    rng = generator(seed, "consortium", "hospital", index)
    share = np.array([device.share for device in DEVICES])
    shift = rng.uniform(-0.75, 0.75)
    return Hospital(
        index=index,
        units=max(2, round(world.units_per_site * float(np.exp(np.clip(rng.normal(0.0, 0.2), -0.5, 0.5))))),
        wards=int(rng.integers(2, 6)),
        start_seconds=float(rng.integers(0, 7 * STEPS_PER_DAY)) * STEP_SECONDS,
        skew_steps=float(rng.normal(0.0, 0.6)),
        packet_sampling=int(rng.choice([1, 1, 1, 2, 4])),
        charting=float(np.exp(rng.normal(0.0, 0.3))),
        sickness=float(rng.uniform(0.7, 1.4)),
        mix=rng.dirichlet(12.0 * share),
        families=rng.dirichlet(np.full(families, 4.0)),
        shift_hours=(7.0 + shift, 15.0 + shift, 23.0 + shift),
        backup_hour=float(rng.uniform(0.0, 4.0)),
        level=rng.normal(0.0, 0.25, 8),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bedsides:
    """The U monitored bedsides of a site: one device and its patient each. Arrays are [U] unless said.

    rates: [U, 4] messages per step of MQTT, HL7, DICOM, HTTP.  wander: sd of the slow drift of log rates.
    dispersion: shape of the gamma that makes counts over-dispersed.  period, duty: steps between batch
    uploads and their height.  circadian, phase: strength and hour of the daily swing.
    """

    kind: NDArray[np.int64]
    ward: NDArray[np.int64]
    rates: Floats
    message_bytes: Floats
    connections: Floats
    sessions: Floats
    lookups: Floats
    peers: Floats
    new_peers: Floats
    failing: Floats
    short: Floats
    small_replies: Floats
    repeats: Floats
    spread: Floats
    round_trip: Floats
    loss: Floats
    path: Floats
    wander: Floats
    dispersion: Floats
    period: NDArray[np.int64]
    duty: Floats
    circadian: Floats
    phase: Floats
    sends: NDArray[np.bool_]


def bedsides(site: Hospital, rng: np.random.Generator, channels: int) -> Bedsides:
    """Draw the devices of a site. Every device has its own base rates, dispersion, period and daily swing."""
    units = site.units
    kind = rng.choice(len(DEVICES), size=units, p=site.mix).astype(np.int64)

    def scattered(values: list[float], sd: float, level: float = 0.0) -> Floats:
        out: Floats = np.array(values)[kind] * np.exp(rng.normal(level, sd, units))
        return out

    def logit_normal(centre: float, sd: float) -> Floats:
        out: Floats = 1.0 / (1.0 + np.exp(-rng.normal(centre, sd, units)))
        return out

    per_minute = np.array([[d.mqtt, d.hl7, d.dicom, d.http] for d in DEVICES])
    rates = (
        5.0 * per_minute[kind] * np.exp(site.level[:4] + rng.normal(0.0, [0.7, 0.8, 1.0, 0.9], (units, 4)))
    )
    sends = np.zeros((len(DEVICES), channels), dtype=bool)
    for row, device in enumerate(DEVICES):
        sends[row, list(device.sends)] = True
    return Bedsides(
        kind=kind,
        ward=rng.integers(0, site.wards, units),
        rates=rates,
        message_bytes=scattered([d.message_bytes for d in DEVICES], 0.35),
        connections=scattered([d.connections for d in DEVICES], 0.8, float(site.level[4])),
        sessions=np.exp(rng.normal(-0.6 + site.level[5], 0.8, units)),
        lookups=np.exp(rng.normal(0.8 + site.level[6], 0.9, units)),
        peers=1.0 + scattered([d.peers for d in DEVICES], 0.4),
        new_peers=np.exp(rng.normal(-1.6, 1.1, units)),
        failing=logit_normal(-2.6, 0.8),
        short=logit_normal(-1.2, 0.7),
        small_replies=logit_normal(-1.6, 0.8),
        repeats=rng.normal(-0.4, 0.9, units),
        spread=rng.normal(0.0, 0.35, units),
        round_trip=np.exp(rng.normal(2.0 + site.level[7], 0.5, units)),
        loss=rng.normal(-4.6, 0.7, units),
        path=np.array([d.path for d in DEVICES])[kind] * rng.uniform(0.5, 1.0, units),
        wander=rng.uniform(0.04, 0.22, units),
        dispersion=np.exp(rng.normal(3.0, 0.7, units)),
        period=rng.integers(2, 25, units),
        duty=rng.gamma(0.8, 0.35, units),
        circadian=rng.uniform(0.0, 0.6, units),
        phase=rng.normal(14.0, 3.0, units),
        sends=sends[kind],
    )


def autoregressive(rng: np.random.Generator, shape: tuple[int, ...], memory: float) -> Floats:
    """Stationary AR(1) noise of unit variance along the last axis; `memory` is its lag-one correlation."""
    out: Floats = rng.standard_normal(shape)
    fresh = np.sqrt(1.0 - memory**2)
    for step in range(1, shape[-1]):
        out[..., step] = memory * out[..., step - 1] + fresh * out[..., step]
    return out
