"""What is measured: traffic as a monitor outside the TLS tunnel sees it, and the record as the EMR keeps it.

Shapes: U bedsides, L steps. Every figure is a count or a size drawn around a rate; labels are not read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from lazaretto.data._consortium_hospitals import STEP_SECONDS, Bedsides, Floats, Hospital, autoregressive
from lazaretto.data._consortium_patients import CHANNELS, Care, Vitals

__all__ = ["ORIGINS", "RATE_FEATURE", "RECORD", "TRAFFIC", "record", "traffic"]

RATE_FEATURE = "packets_per_second"
TRAFFIC: tuple[str, ...] = (
    "packets_per_second",
    "outbound_share_of_packets",
    "bytes_out_per_second",
    "bytes_in_per_second",
    "outbound_share_of_bytes",
    "mqtt_messages_per_step",
    "hl7_messages_per_step",
    "dicom_objects_per_step",
    "http_requests_per_step",
    "http_small_reply_share",
    "interarrival_mean_milliseconds",
    "interarrival_sd_milliseconds",
    "interarrival_variation",
    "packet_size_mean_bytes",
    "packet_size_sd_bytes",
    "packet_size_max_bytes",
    "syn_per_step",
    "fin_per_step",
    "rst_per_step",
    "failed_connections_per_step",
    "short_connections_per_step",
    "tls_handshakes_per_step",
    "name_lookups_per_step",
    "distinct_peers",
    "new_peers",
    "retransmission_share",
    "round_trip_milliseconds",
    "peak_to_mean_rate",
    "message_size_mean_bytes",
    "message_size_repeat_share",
)
RECORD: tuple[str, ...] = (
    *(f"{row[0]}_charted" for row in CHANNELS),
    *(f"{row[0].split('_')[0]}_minutes_since_charted" for row in CHANNELS),
    *(f"{row[0]}_device_minus_charted" for row in CHANNELS),
    "entries_per_step",
    "alarms_per_step",
    "alarms_acknowledged_per_step",
    "orders_per_step",
    "medications_per_step",
    "results_per_step",
    "reads_per_step",
    "readers_per_step",
    "reads_from_other_wards_per_step",
    "edits_per_step",
    "backdated_edits_per_step",
)
ORIGINS: Mapping[str, float] = MappingProxyType({f"{row[0]}_charted": row[1] for row in CHANNELS})

_HL7_BYTES, _DICOM_BYTES, _REQUEST_BYTES, _REPLY_BYTES = 900.0, 9.0e4, 500.0, 3500.0
_MTU = 1460.0


def _counts(rng: np.random.Generator, mean: Floats, shape: Floats | float) -> Floats:
    """Over-dispersed counts: Poisson around a gamma whose shape is the device's own (negative binomial)."""
    out: Floats = rng.poisson(mean * rng.gamma(shape, 1.0 / np.asarray(shape), mean.shape)).astype(float)
    return out


def _share(rng: np.random.Generator, logit: Floats, of: Floats) -> Floats:
    """Observed share of `of` trials, smoothed by one pseudo-trial so that none of none is defined."""
    chance = 1.0 / (1.0 + np.exp(-logit))
    hits = rng.binomial(of.astype(np.int64), chance)
    out: Floats = (hits + chance.mean(axis=1, keepdims=True)) / (of + 1.0)
    return out


def _levels(site: Hospital, beds: Bedsides, steps: int, rng: np.random.Generator) -> Floats:
    """[4, U, L] level of each protocol around its base: daily swing, batch uploads, slow drift."""
    units = site.units
    swing = np.cos(2 * np.pi * (site.hours(steps)[None, :] - beds.phase[:, None]) / 24.0)
    turn = rng.integers(0, 25, (units, 1))
    upload = (np.arange(steps)[None, :] + turn) % beds.period[:, None] == 0
    wander = 0.8 * autoregressive(rng, (4, units, steps), 0.9) + 0.6 * autoregressive(
        rng, (units, steps), 0.97
    )
    strength = np.array([0.5, 0.8, 1.0, 1.0])[
        :, None, None
    ]  # telemetry follows the clock less than people do
    log_level = strength * beds.circadian[:, None] * swing + beds.wander[:, None] * wander
    level: Floats = np.exp(log_level)
    level[1:] *= 1.0 + (beds.duty[:, None] * upload)[None]
    return level


def traffic(
    site: Hospital,
    beds: Bedsides,
    drives: Mapping[str, Floats],
    state: Vitals,
    work: Care,
    rng: np.random.Generator,
) -> Floats:
    """Traffic features [U, L, len(TRAFFIC)], all finite and none negative."""
    units, steps = state.severity.shape
    level = _levels(site, beds, steps, rng)
    clock = level[3] ** 0.5
    shape = beds.dispersion[:, None]
    path = beds.path[:, None]
    heard = 1.0 - np.clip(drives["silence"], 0.0, 0.95)

    def own(values: Floats) -> Floats:
        return values[:, None]

    # messages: the device's own, and those that the patient's care sends past its port
    telemetry = np.clip(1.0 + drives["telemetry"], 0.3, None) * heard * (1.0 + 0.15 * state.severity)
    mqtt = _counts(rng, own(beds.rates[:, 0]) * level[0] * telemetry, shape)
    # an alarm is reported when it starts, while it lasts and when it ends (as IHE PCD-04 does)
    mqtt += rng.binomial((4 * work.alarms).astype(np.int64), path)
    hl7 = _counts(rng, own(beds.rates[:, 1]) * level[1] * heard * (1.0 + drives["corrections"]), shape)
    hl7 += rng.binomial(
        (3 * work.alarms + work.orders + work.results + work.edits + work.charts).astype(np.int64), path
    )
    studies = _counts(rng, own(beds.rates[:, 2]) * level[2] * (1.0 + drives["studies"]), 1.0)
    http = _counts(
        rng, own(beds.rates[:, 3]) * level[3] * (1.0 + np.clip(drives["requests"], 0, None)), shape
    )
    http += rng.binomial((2 * work.reads + work.medications).astype(np.int64), path)

    # connections
    base = own(beds.connections) * clock
    usual = _counts(rng, base, 2 * shape)
    probes = _counts(rng, own(beds.connections) * drives["probes"], 3.0)
    logins = _counts(rng, own(beds.connections) * drives["logins"], 3.0)
    handshakes = _counts(rng, own(beds.sessions) * clock * (1.0 + drives["sessions"]), 2 * shape)
    handshakes += rng.binomial(logins.astype(np.int64), 0.35)
    failed = (
        rng.binomial(usual.astype(np.int64), own(beds.failing))
        + rng.binomial(probes.astype(np.int64), 0.65)
        + rng.binomial(logins.astype(np.int64), 0.45)
    )
    opened = usual + probes + logins + handshakes
    resets = rng.binomial(failed, 0.6) + rng.binomial(usual.astype(np.int64), 0.04)
    short = rng.binomial(usual.astype(np.int64), own(beds.short)) + rng.binomial(
        (probes + logins).astype(np.int64), 0.6
    )
    closed = rng.binomial(np.maximum(0, opened - failed).astype(np.int64), 0.92)
    fresh = rng.poisson(own(beds.new_peers) * clock * (1.0 + 0.3 * drives["lookups"])) + rng.binomial(
        probes.astype(np.int64), 0.3
    )
    peers = 1 + rng.binomial(np.ceil(own(beds.peers) * np.ones_like(base)).astype(np.int64), 0.8) + fresh
    lookups = _counts(rng, own(beds.lookups) * clock * (1.0 + drives["lookups"]) + 0.3 * fresh, shape)

    # sizes: bulk is drawn in multiples of what this device usually moves
    wear = 0.06 * autoregressive(rng, (units, steps), 0.9)
    message = own(beds.message_bytes) * np.exp(np.clip(drives["padding"], -0.8, 0.8) + wear)
    usual_bytes = own(
        beds.rates[:, 0] * beds.message_bytes + beds.rates[:, 1] * _HL7_BYTES + 2.0e3 * beds.rates[:, 3]
    )
    upload = usual_bytes * drives["upload"] * rng.gamma(4.0, 0.25, base.shape)
    download = usual_bytes * drives["download"] * rng.gamma(4.0, 0.25, base.shape)
    bytes_out = mqtt * message + hl7 * _HL7_BYTES + studies * _DICOM_BYTES + http * _REQUEST_BYTES + upload
    bytes_in = http * _REPLY_BYTES + download + 40.0 * (mqtt + hl7)
    bytes_out *= np.exp(0.08 * rng.standard_normal(base.shape))
    bytes_in *= np.exp(0.15 * rng.standard_normal(base.shape))
    bulk = (studies * _DICOM_BYTES + upload + download + http * _REPLY_BYTES) / _MTU
    usual_packets = own(beds.rates.sum(axis=1) * 2.0)
    pressure = _counts(rng, usual_packets * drives["pressure"], 4.0)
    carried = mqtt * np.ceil(message / _MTU) + hl7 + http
    small = 0.6 * (mqtt + hl7) + 1.4 * http + 3.0 * opened + 2.0 * lookups + 0.5 * bulk + pressure
    lost = _share(rng, own(beds.loss) + 0.5 * wear * 10 + drives["loss"], carried + small)
    packets_out = (carried + 0.45 * small + bulk * ((bytes_out + 1.0) / (bytes_out + bytes_in + 2.0))) * (
        1.0 + lost
    )
    packets_in = (
        0.55 * small + bulk * ((bytes_in + 1.0) / (bytes_out + bytes_in + 2.0)) + 0.45 * pressure
    ) * (1.0 + lost)
    bytes_out += 60.0 * packets_out
    bytes_in += 60.0 * packets_in + 20.0 * pressure
    seen_out, seen_in = _tapped(rng, packets_out, site), _tapped(rng, packets_in, site)
    packets = seen_out + seen_in

    # sizes and timing of what the tap saw
    sample = np.sqrt(site.packet_sampling / np.maximum(packets, 1.0))
    mean_size = (bytes_out + bytes_in) / (packets_out + packets_in + 1.0)
    mean_size = np.clip(mean_size * (1.0 + 0.3 * sample * rng.standard_normal(base.shape)), 60.0, 1514.0)
    share_bulk = bulk / (carried + small + bulk + 1.0)
    variation = 0.45 + 0.9 * np.sqrt(share_bulk * (1.0 - share_bulk)) + 0.25 * small / (carried + small + 1.0)
    sd_size = mean_size * variation * np.exp((0.05 + 0.4 * sample) * rng.standard_normal(base.shape))
    max_size = np.where(
        bulk >= site.packet_sampling,
        1514.0,
        np.minimum(1514.0, np.maximum(message, _HL7_BYTES * (hl7 > 0)) + 60.0),
    )
    mean_gap = 1000.0 * STEP_SECONDS / np.maximum(packets, 0.5)
    log_variation = 0.25 + own(beds.spread) + drives["unsteadiness"] + 0.35 * drives["delay"]
    log_variation = log_variation + 0.8 * share_bulk + 0.12 * autoregressive(rng, base.shape, 0.7)
    gap_variation = np.exp(log_variation) * (1.0 + 0.5 * sample * np.abs(rng.standard_normal(base.shape)))
    round_trip = own(beds.round_trip) * np.exp(drives["delay"] + 0.25 * autoregressive(rng, base.shape, 0.85))
    peak = 1.0 + gap_variation * rng.gamma(4.0, 0.5, base.shape) * (
        1.0 + 1.5 * share_bulk + 0.2 * drives["pressure"]
    )
    small_replies = _share(
        rng, np.log(own(beds.small_replies / (1 - beds.small_replies))) + 0.35 * drives["logins"], http
    )
    repeats = _share(rng, own(beds.repeats) + drives["repeats"] + 2.0 * wear, mqtt + hl7)
    message_size = message * np.exp(0.03 * rng.standard_normal(base.shape)) + 20.0
    return np.stack(
        [
            packets / STEP_SECONDS,
            (seen_out + 0.5) / (packets + 1.0),
            bytes_out / STEP_SECONDS,
            bytes_in / STEP_SECONDS,
            bytes_out / (bytes_out + bytes_in + 1.0),
            mqtt,
            hl7,
            studies,
            http,
            small_replies,
            mean_gap,
            mean_gap * gap_variation,
            gap_variation,
            mean_size,
            sd_size,
            max_size,
            opened,
            closed.astype(float),
            resets.astype(float),
            failed.astype(float),
            short.astype(float),
            handshakes,
            lookups,
            peers.astype(float),
            fresh.astype(float),
            lost,
            round_trip,
            peak,
            message_size,
            repeats,
        ],
        axis=2,
    )


def _tapped(rng: np.random.Generator, packets: Floats, site: Hospital) -> Floats:
    """Packets as a sampling tap estimates them: one in so many is seen, and counted for all."""
    out: Floats = rng.poisson(packets / site.packet_sampling).astype(np.float64) * float(site.packet_sampling)
    return out


def record(work: Care) -> Floats:
    """Record features [U, L, len(RECORD)]."""
    counts = (
        work.charts,
        work.alarms,
        work.acknowledged,
        work.orders,
        work.medications,
        work.results,
        work.reads,
        work.readers,
        work.strangers,
        work.edits,
        work.backdated,
    )
    return np.concatenate([work.charted, work.age, work.gap, np.stack(counts, axis=2)], axis=2)
