"""Attack campaigns: which family pushes what, when, and how hard.

They use the drives of `_consortium_events`; none of them is theirs alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lazaretto.data._consortium_events import BOUNDED, DRIVES, ROW
from lazaretto.data._consortium_hospitals import Bedsides, Floats, Hospital, World

__all__ = ["AT_THE_RECORD", "CAMPAIGNS", "Campaign", "Campaigns", "campaigns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What one attack family pushes: drive -> push at intensity 1.  either: drives that go up or down.

    Families share mechanisms: scan and ransomware meet new hosts, exfiltration and the insider send more than
    they get, and whoever touches readings disturbs timing and sizes. A relay that ends the session near the
    tap shortens the round trip, one further off lengthens it; a forged message is longer or shorter.
    """

    drives: Mapping[str, float]
    either: tuple[str, ...] = ()


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
        "insider_browsing": _campaign(
            reads=1, strangers=1, requests=4, upload=1.5, corrections=2, sessions=1
        ),
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


# families that need no way through the bedside's network, and the drives that are of the record
AT_THE_RECORD = ("insider_browsing", "record_tampering")
_OF_THE_RECORD = ("reads", "strangers", "edits", "backdated", "rewritten")


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
    """Draw campaigns at any place that overlaps the stream; intensity is log-uniform.

    Some are under way when the stream begins and some when it ends: every step is attacked with the same
    chance, so that its number tells nothing. At difficulty 1 intensity runs from 2.8 to 25: what the
    pushes of `CAMPAIGNS` are multiplied by. Some campaigns are steady, some ramp up, some come and go.
    """
    steps, units = world.steps, site.units
    families = list(CAMPAIGNS)
    hit = rng.random(units) < world.attacked
    family = rng.choice(len(families), size=units, p=site.families)
    place = rng.random(units)
    _spread(place, hit & (family == families.index("ransomware")), beds, rng)
    length = np.exp(rng.uniform(np.log(0.12), np.log(0.7), units)) * steps
    lasting = np.maximum(2, length.astype(np.int64))
    onset = np.floor(place * (steps + lasting - 1)).astype(np.int64) + 1 - lasting
    end = onset + lasting
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
            strength = np.log1p(envelope[mine]) if drive in BOUNDED else envelope[mine]
            drives[ROW[drive], mine] += gain * push[mine, j, None] * strength * turn
    far = hit & (rng.random(units) < world.elsewhere)  # drawn last, and by all: with 0 nothing else changes
    far &= np.isin(family, [families.index(name) for name in AT_THE_RECORD])
    kept = np.isin(np.arange(len(DRIVES)), [ROW[drive] for drive in _OF_THE_RECORD])
    drives[np.ix_(~kept, far)] = 0.0
    return Campaigns(
        drives=drives,
        label=np.where(under_way, family[:, None] + 1, 0).astype(np.int64),
        onset=np.where(hit, np.maximum(0, onset), steps),
        end=np.where(hit, np.minimum(steps, end), steps),
        intensity=np.where(hit, intensity, 0.0),
    )


def _spread(place: Floats, infected: NDArray[np.bool_], beds: Bedsides, rng: np.random.Generator) -> None:
    """Ransomware jumps from bed to bed, first through the ward it starts in; sets `place` of theirs.

    place: [U] in [0, 1), where in the time that a campaign may begin it does. The lags go round at 1, so
    that each bed's place is uniform.
    """
    rows = np.flatnonzero(infected)
    if len(rows) == 0:
        return
    rows = rng.permutation(rows)
    order = rows[np.argsort((beds.ward[rows] != beds.ward[rows[0]]).astype(int), kind="stable")]
    lags = np.cumsum(rng.exponential(0.025, len(order)))
    place[order] = (rng.random() + lags) % 1.0


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
