"""Patients of the simulator: coupled vitals, illness, care, and the record that follows from them.

Shapes: U bedsides, L steps, C channels (`CHANNELS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lazaretto.data._consortium_hospitals import Bedsides, Floats, Hospital, World, autoregressive

__all__ = ["CHANNELS", "Care", "Vitals", "care", "vitals"]

# name with unit, population mean, sd between patients, sd of the fast and the slow wander of one patient,
# resolution of charting, median minutes between chartings
CHANNELS: tuple[tuple[str, float, float, float, float, float, float], ...] = (
    ("heart_rate_per_minute", 82.0, 11.0, 2.0, 5.0, 1.0, 25.0),
    ("spo2_percent", 96.2, 1.4, 0.35, 0.7, 1.0, 25.0),
    ("respiration_per_minute", 17.0, 2.6, 0.8, 1.6, 1.0, 35.0),
    ("mean_pressure_mmhg", 86.0, 9.0, 2.2, 5.0, 1.0, 30.0),
    ("temperature_celsius", 36.9, 0.35, 0.06, 0.2, 0.1, 150.0),
    ("glucose_mg_per_dl", 128.0, 24.0, 4.0, 14.0, 1.0, 90.0),
    ("infusion_ml_per_hour", 60.0, 28.0, 1.0, 6.0, 0.5, 60.0),
)
_TABLE = np.array([row[1:] for row in CHANNELS])

# Illness -> shift of each channel at full severity, in sd between patients: sepsis, respiratory failure,
# bleeding, dysglycaemia, pain and agitation. One illness moves several channels: that is the coupling.
_ILLNESSES = np.array(
    [
        [2.6, -1.4, 2.2, -2.4, 3.0, 1.0, 1.4],
        [1.8, -3.4, 3.0, 0.5, 0.4, 0.3, 0.3],
        [2.8, -0.8, 1.2, -3.2, -0.6, 0.3, 2.0],
        [1.0, -0.2, 0.6, -0.3, -0.2, 3.2, 0.8],
        [1.8, -0.3, 1.4, 2.0, 0.2, 0.5, 0.4],
    ]
)
# Common causes of the wander of one patient: arousal, ventilation, volume (rows) on the channels.
_CAUSES = np.array(
    [
        [0.8, 0.0, 0.6, 0.7, 0.1, 0.2, 0.0],
        [0.3, 0.9, -0.7, 0.0, 0.0, 0.0, 0.0],
        [-0.5, 0.1, 0.0, 0.7, 0.0, 0.0, 0.5],
    ]
)
_CIRCADIAN = np.array([0.5, -0.2, 0.3, 0.4, 0.7, 0.4, 0.1])  # swing in sd, highest in the afternoon


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """severity: [U, L] of illness, 0 well.  true, sent, received: [U, L, C] at the patient, as the device
    sends them, as they arrive.  centre, scale: [U, C] the patient's own level and wander.
    """

    severity: Floats
    true: Floats
    sent: Floats
    received: Floats
    centre: Floats
    scale: Floats


def vitals(
    world: World, site: Hospital, beds: Bedsides, drives: Mapping[str, Floats], rng: np.random.Generator
) -> Vitals:
    """Vitals of every patient, and what becomes of them on their way to the record."""
    units, steps, channels = site.units, world.steps, len(CHANNELS)
    mean, between, fast, slow = _TABLE[:, 0], _TABLE[:, 1], _TABLE[:, 2], _TABLE[:, 3]
    severity, illness = _illness(site, units, steps, rng)
    centre = mean + between * rng.standard_normal((units, channels))
    causes = autoregressive(rng, (units, 3, steps), 0.93)
    own = autoregressive(rng, (units, channels, steps), 0.95)
    wander = (np.einsum("ukt,kc->uct", causes, _CAUSES) + 0.6 * own).transpose(0, 2, 1)
    swing = np.cos(2 * np.pi * (site.hours(steps)[None, :] - 16.0 - rng.normal(0, 1, (units, 1))) / 24.0)
    scale = np.exp(rng.normal(0.0, 0.25, (units, channels))) * (fast + slow)
    true = centre[:, None, :] + scale[:, None, :] * wander
    true += between * (severity[:, :, None] * illness[:, None, :] + 0.5 * swing[:, :, None] * _CIRCADIAN)
    true += fast * rng.standard_normal(true.shape)
    sent = _limited(_feign(true, centre, scale, drives["feigned"], rng))
    direction = rng.standard_normal((2, units, 1, channels))
    received = _limited(sent + drives["altered"][:, :, None] * scale[:, None, :] * direction[0])
    return Vitals(
        severity=severity, true=_limited(true), sent=sent, received=received, centre=centre, scale=scale
    )


def _illness(site: Hospital, units: int, steps: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Severity [U, L] and direction [U, C]: slow wander plus, for some, a worsening that care may turn."""
    kind = rng.integers(0, len(_ILLNESSES), units)
    direction = _ILLNESSES[kind] * np.exp(rng.normal(0.0, 0.3, (units, len(CHANNELS))))
    time = np.arange(steps)[None, :]
    worsens = rng.random((units, 1)) < 0.35
    start, rise, hold = (
        rng.uniform(-40, steps, (units, 1)),
        rng.uniform(4, 25, (units, 1)),
        rng.uniform(8, 60, (units, 1)),
    )
    episode = 1 / (1 + np.exp(-(time - start) / rise * 4)) - 1 / (
        1 + np.exp(-(time - start - hold) / rise * 3)
    )
    wander = np.abs(0.22 * autoregressive(rng, (units, steps), 0.97) + 0.1)
    height = worsens * rng.uniform(0.3, 1.2, (units, 1))
    return site.sickness * (wander + height * np.maximum(0.0, episode)), direction


def _feign(true: Floats, centre: Floats, scale: Floats, feigned: Floats, rng: np.random.Generator) -> Floats:
    """Replace a share of each reading by a made-up one: calm, near the patient's usual level, uncoupled.

    A loose probe does the same by accident; so the share alone does not tell who did it.
    """
    share = np.clip(feigned, 0.0, 1.0)[:, :, None]
    offset = 0.6 * rng.standard_normal((len(centre), 1, centre.shape[1]))
    noise = 0.25 * autoregressive(rng, (*centre.shape, true.shape[1]), 0.6).transpose(0, 2, 1)
    mixed: Floats = (1.0 - share) * true + share * (centre[:, None, :] + scale[:, None, :] * (offset + noise))
    return mixed


def _limited(values: Floats) -> Floats:
    low = np.array([25.0, 55.0, 4.0, 30.0, 33.0, 25.0, 0.0])
    high = np.array([220.0, 100.0, 55.0, 180.0, 42.5, 500.0, 400.0])
    out: Floats = np.clip(values, low, high)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """What people and the EMR do, counts per step [U, L] unless said.

    charted: [U, L, C] last value in the record.  age: [U, L, C] minutes since it was charted.
    gap: [U, L, C] what the device had sent minus what was charted (0 for channels that it does not measure).
    charts: entries.  alarms: limit alarms raised on the readings as received.
    """

    charted: Floats
    age: Floats
    gap: Floats
    charts: Floats
    alarms: Floats
    acknowledged: Floats
    orders: Floats
    medications: Floats
    results: Floats
    reads: Floats
    readers: Floats
    strangers: Floats
    edits: Floats
    backdated: Floats


def care(
    site: Hospital, beds: Bedsides, state: Vitals, drives: Mapping[str, Floats], rng: np.random.Generator
) -> Care:
    """Alarms, orders, charting, reading and editing that follow from the readings as received."""
    units, steps = state.severity.shape
    rate = np.exp(rng.normal(0.0, 0.5, (6, units, 1)))  # wards differ in how they work
    hours = site.hours(steps)
    day = 0.75 + 0.35 * np.cos(2 * np.pi * (hours - 13.0) / 24.0)[None, :]
    sick = state.severity
    between = _TABLE[:, 1]
    beyond = np.abs(state.received - state.centre[:, None, :]) / between - 1.6
    over = np.where(beds.sends[:, None, :], np.maximum(0.0, beyond), 0.0).sum(axis=2)
    alarms = rng.poisson(rate[0] * (0.08 + 0.9 * over)).astype(float)
    acknowledged = rng.binomial(alarms.astype(np.int64), 0.75).astype(float)
    orders = rng.poisson(rate[1] * day * (0.05 + 0.35 * sick)).astype(float)
    medications = rng.poisson(rate[2] * day * (0.07 + 0.2 * sick)).astype(float)
    results = rng.poisson(0.03 + 0.5 * _later(orders, 6)).astype(float)
    own_reads = rate[3] * day * (0.5 + 0.8 * sick) + 0.5 * orders
    visits = rng.gamma(1.5, 1 / 1.5, (units, steps))
    by_strangers = rng.poisson(visits * rate[4] * (0.06 + 0.5 * drives["strangers"])).astype(float)
    reads = rng.poisson(visits * own_reads * (1.0 + drives["reads"])) + by_strangers
    readers = np.ceil(reads**0.7 * rng.uniform(0.5, 1.0, reads.shape))
    charted, age, gap, charts = _chart(site, beds, state, drives, rng)
    edits = rng.poisson(rate[5] * (0.08 + 0.25 * drives["edits"]) + 0.04 * charts).astype(float)
    old = rng.poisson(rate[5] * (0.03 + 0.2 * drives["backdated"])).astype(float)
    return Care(
        charted=charted,
        age=age,
        gap=gap,
        charts=charts,
        alarms=alarms,
        acknowledged=acknowledged,
        orders=orders,
        medications=medications,
        results=results,
        reads=reads.astype(float),
        readers=readers,
        strangers=by_strangers,
        edits=edits + old,
        backdated=old,
    )


def _later(events: Floats, steps: int) -> Floats:
    """Events `steps` later: a result follows its order."""
    out = np.zeros_like(events)
    out[:, steps:] = events[:, :-steps]
    return out


def _chart(
    site: Hospital, beds: Bedsides, state: Vitals, drives: Mapping[str, Floats], rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats]:
    """Charting at irregular times: last value, its age, its gap to what the device sent, entries per step."""
    units, steps, channels = state.true.shape
    resolution, minutes = _TABLE[:, 4], _TABLE[:, 5]
    interval = minutes * site.charting * np.exp(rng.normal(0.0, 0.3, (units, 1)))
    own = np.where(
        beds.sends, np.minimum(interval, 60.0), interval
    )  # what the device measures is filed sooner
    chance = 5.0 / own[:, None, :] * (1.0 + state.severity[:, :, None])
    chance = chance * (1.0 - np.clip(drives["chart_gaps"], 0.0, 0.95))[:, :, None]
    written = rng.random(state.true.shape) < chance
    charts = written.sum(axis=2).astype(float)
    first_age = rng.exponential(own)
    written[:, 0] = True
    direction = rng.standard_normal((units, 1, channels))
    false = drives["rewritten"][:, :, None] * state.scale[:, None, :] * direction
    slip = 0.3 * _TABLE[:, 2] * rng.standard_t(2.0, state.true.shape)  # now and then one is mistyped
    # the EMR's clock is off, so "the reading at that time" is a little older or newer than the charted one
    before = np.concatenate([state.sent[:, :1], state.sent[:, :-1]], axis=1)
    weight = np.clip(abs(site.skew_steps), 0.0, 1.0)
    device = (1.0 - weight) * state.sent + weight * before
    entry = _limited(np.round((state.received + false + slip) / resolution) * resolution)
    at = np.maximum.accumulate(np.where(written, np.arange(steps)[None, :, None], 0), axis=1)
    charted = np.take_along_axis(entry, at, axis=1)
    gap = np.take_along_axis(device - entry, at, axis=1)
    unseen = np.where(at == 0, first_age[:, None, :], 0.0)
    age = (5.0 * (np.arange(steps)[None, :, None] - at) + unseen).astype(np.float64)
    return charted, age, np.where(beds.sends[:, None, :], gap, 0.0), charts
