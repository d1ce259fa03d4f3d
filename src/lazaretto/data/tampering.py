"""Tampering laid over clinical series that are real: who changed the record, and since when?

A construction for research: nobody publishes charts that were forged in earnest. Six kinds, each of them a
pure function of one stay's series; `tamper` draws which stays meet which. Only measured values are changed,
never when something was measured: a forger who adds or drops measurements is not simulated. What is
written is rounded as the series is, and no patient could not have it. `docs/tampering.md` tells it in full.

Shapes: n stays, L steps, V series.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.data._clinical import VARIABLES
from lazaretto.types import Float, Int

__all__ = [
    "FEEDS",
    "INTENSITY",
    "INTENSITY_EDGES",
    "KINDS",
    "MONITOR",
    "Campaign",
    "Kind",
    "Series",
    "Tampered",
    "drift",
    "forge",
    "offset",
    "replay",
    "scaling",
    "silenced",
    "swap",
    "tamper",
]

_Floats = NDArray[np.float64]

# What a forger reaches together: one sensor, one analyser, one hand that charts.
FEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "heart": ("heart_rate_per_minute",),
        "breathing": ("respiratory_rate_per_minute",),
        "temperature": ("temperature_celsius",),
        "saturation": ("oxygen_saturation_percent",),
        "artery": ("systolic_pressure_mmhg", "diastolic_pressure_mmhg", "mean_pressure_mmhg"),
        "cuff": ("cuff_systolic_pressure_mmhg", "cuff_diastolic_pressure_mmhg", "cuff_mean_pressure_mmhg"),
        "gases": (
            "arterial_ph",
            "arterial_carbon_dioxide_mmhg",
            "arterial_oxygen_mmhg",
            "arterial_oxygen_saturation_percent",
            "lactate_mmol_per_l",
        ),
        "chemistry": (
            "sodium_mmol_per_l",
            "potassium_mmol_per_l",
            "chloride_mmol_per_l",
            "bicarbonate_mmol_per_l",
            "urea_nitrogen_mg_per_dl",
            "creatinine_mg_per_dl",
            "glucose_mg_per_dl",
            "magnesium_mg_per_dl",
            "calcium_mg_per_dl",
            "phosphate_mg_per_dl",
        ),
        "blood count": (
            "haematocrit_percent",
            "haemoglobin_g_per_dl",
            "platelets_10_9_per_l",
            "white_cells_10_9_per_l",
        ),
        "chart": ("glasgow_coma_scale", "urine_millilitres"),
        "bed": ("weight_kilograms", "inspired_oxygen_fraction"),
    }
)
MONITOR = ("heart", "breathing", "temperature", "saturation", "artery", "cuff")
_TRIES = 8  # draws of a campaign that must change something
_OFTEN = 0.25  # a feed is worth forging where it is measured in that share of the steps
INTENSITY = "mean change of the values that were altered, in quarters of the variable's usual range"
INTENSITY_EDGES = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What the V series are. names [V] of VARIABLES; least, largest: plausible; low, high: usual; all [V].

    spread [V]: a quarter of the usual range, the unit in which strength is told.
    """

    names: tuple[str, ...]
    least: _Floats
    largest: _Floats
    low: _Floats
    high: _Floats

    @property
    def spread(self) -> _Floats:
        """A quarter of the usual range."""
        return (self.high - self.low) / 4

    @classmethod
    def of(cls, names: Sequence[str]) -> Series:
        """Bounds of those variables."""
        held = [VARIABLES[name] for name in names]
        return cls(
            names=tuple(names),
            least=np.array([v.least for v in held], float),
            largest=np.array([v.largest for v in held], float),
            low=np.array([v.usual[0] for v in held], float),
            high=np.array([v.usual[1] for v in held], float),
        )


class Campaign(NamedTuple):
    """One forgery. onset may be below 0 and end above L where it was under way before or goes on after.

    strength: of the kind, see KINDS. push [V]: -1 or 1 in the series that it touches, else 0. shown: first
    step of the recording that a replay shows.
    """

    onset: int
    end: int
    strength: float
    push: _Floats
    shown: int

    def under_way(self, steps: int) -> NDArray[np.bool_]:
        """[L] from onset to end."""
        step = np.arange(steps)
        return (step >= self.onset) & (step < self.end)


_Change = Callable[[_Floats, Campaign, Series, _Floats | None], _Floats]


def offset(x: _Floats, campaign: Campaign, series: Series, other: _Floats | None = None) -> _Floats:
    """Every value is moved by `strength` spreads, up or down."""
    return x + campaign.push * campaign.strength * series.spread


def scaling(x: _Floats, campaign: Campaign, series: Series, other: _Floats | None = None) -> _Floats:
    """Every value is multiplied; in the middle of the usual range that moves it by `strength` spreads."""
    middle = (series.low + series.high) / 2
    return x * (1 + campaign.push * campaign.strength * series.spread / middle)


def drift(x: _Floats, campaign: Campaign, series: Series, other: _Floats | None = None) -> _Floats:
    """Values move away step by step, by `strength` spreads at the end, and never out of the usual range."""
    done = (np.arange(len(x)) - campaign.onset + 1) / (campaign.end - campaign.onset)
    moved = x + campaign.push * campaign.strength * series.spread * np.clip(done, 0, 1)[:, None]
    return np.clip(moved, np.fmin(x, series.low), np.fmax(x, series.high))


def silenced(x: _Floats, campaign: Campaign, series: Series, other: _Floats | None = None) -> _Floats:
    """Values outside the usual range are written as ones inside it, `strength` spreads from its border.

    A fifth of how far outside a value was goes on inwards, at most to the middle: so values still differ.
    """
    below, above = series.low - x, x - series.high
    middle = (series.low + series.high) / 2
    inside = campaign.strength * series.spread
    quieted = np.where(above > 0, np.maximum(series.high - inside - 0.2 * above, middle), x)
    return np.where(below > 0, np.minimum(series.low + inside + 0.2 * below, middle), quieted)


def replay(x: _Floats, campaign: Campaign, series: Series, other: _Floats | None = None) -> _Floats:
    """Values come from a recording of `strength` steps of the same stay, shown over and over.

    The recording may be of a later hour, which stands for days that were not published; one of the past alone
    could never be shown early, and the number of the step would tell it.
    """
    length = max(1, round(campaign.strength))
    recorded = campaign.shown + (np.arange(len(x)) - campaign.onset) % length
    return _shown(x, _known(x)[np.minimum(recorded, len(x) - 1)])


def swap(x: _Floats, campaign: Campaign, series: Series, other: _Floats | None = None) -> _Floats:
    """Every value is what was known of another patient at that step."""
    return x if other is None else _shown(x, _known(other))


def _known(x: _Floats) -> _Floats:
    """[L, V] the last measured value, NaN before the first."""
    newest = np.maximum.accumulate(np.where(np.isnan(x), -1, np.arange(len(x))[:, None]), axis=0)
    return np.where(newest >= 0, np.take_along_axis(x, np.maximum(newest, 0), axis=0), np.nan)


def _shown(x: _Floats, instead: _Floats) -> _Floats:
    """`instead` where it is known, else what is there."""
    return np.where(np.isnan(instead), x, instead)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """change: the function. weakest, strongest: strength, drawn log-uniformly between them.

    feeds: how many of those that are measured often are touched, at least and at most, or which.
    least: share of what is measured in its feeds that a campaign over the whole stay would alter; a stay with
    less is left alone. (Asked of the whole stay, since asked of the campaign it would tell where it stands.)
    """

    change: _Change
    weakest: float
    strongest: float
    feeds: tuple[int, int] | tuple[str, ...]
    least: float = 0.0


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "offset": Kind(change=offset, weakest=1.0, strongest=5.0, feeds=(2, 4)),
        "scaling": Kind(change=scaling, weakest=1.0, strongest=5.0, feeds=(2, 4)),
        "replay": Kind(change=replay, weakest=1.0, strongest=8.0, feeds=MONITOR),
        "swap": Kind(change=swap, weakest=1.0, strongest=1.0, feeds=tuple(FEEDS)),
        "silenced": Kind(change=silenced, weakest=0.5, strongest=2.0, feeds=tuple(FEEDS), least=0.15),
        "drift": Kind(change=drift, weakest=4.0, strongest=16.0, feeds=(2, 5)),
    }
)


class Tampered(NamedTuple):
    """x [n, L, V] float32 with NaN as before; label [n, L] 0 or 1 + position in `kinds`; intensity [n, L]."""

    x: Float
    label: Int
    intensity: Float


def tamper(
    x: Float,
    group: Int,
    names: Sequence[str],
    rng: np.random.Generator,
    share: float = 0.5,
    kinds: Sequence[str] = tuple(KINDS),
) -> Tampered:
    """Lay one campaign over about `share` of the stays.

    x: [n, L, V] float32, NaN where not measured. group: [n]; a swap is with a stay of the same group (site
    and split). names: of the series; those in no feed are never touched. A campaign lasts 12 to 70 % of the
    stay and stands anywhere that it meets it, so that the number of a step tells nothing. A stay keeps its
    series, and is normal, where in eight draws no campaign would change anything.
    """
    series = Series.of(names)
    out, steps = x.copy(), x.shape[1]
    label, intensity = np.zeros(x.shape[:2], np.int64), np.zeros(x.shape[:2], np.float32)
    for stay in map(int, np.flatnonzero(rng.random(len(x)) < share)):
        own = x[stay].astype(np.float64)
        which = int(rng.integers(len(kinds)))
        kind = KINDS[kinds[which]]
        for _ in range(_TRIES):
            campaign = _draw(own, kind, series, rng)
            other = _donor(x, stay, group, campaign, series, rng) if kind.change is swap else None
            changed = forge(own, campaign, kind, series, other)
            moved = np.abs(changed - own) / series.spread
            if _alters(own, campaign, kind, series, other) < kind.least:
                break
            if (moved > 0).any():
                under_way = campaign.under_way(steps)
                out[stay] = changed
                label[stay, under_way] = which + 1
                intensity[stay, under_way] = moved[moved > 0].mean()
                break
    return Tampered(out, label, intensity)


def forge(
    x: _Floats, campaign: Campaign, kind: Kind, series: Series, other: _Floats | None = None
) -> _Floats:
    """[L, V] the stay with the campaign: only what was measured, touched and under way differs.

    What is written keeps the decimals of its series and lies where a patient may have it. A value that would
    move by less than half of its last digit stays as it is, to the bit.
    """
    changed = kind.change(x, campaign, series, other)
    digits = _decimals(x)
    written = np.round(changed * 10.0**digits) / 10.0**digits
    written = np.clip(written, series.least, series.largest)
    reached = campaign.under_way(len(x))[:, None] & (campaign.push != 0) & ~np.isnan(x)
    reached &= np.abs(changed - x) > 0.5 * 10.0**-digits
    # as float32, which is what is kept: else a value that did not change would seem to have
    return np.where(reached, written, x).astype(np.float32).astype(np.float64)


def _alters(
    x: _Floats, campaign: Campaign, kind: Kind, series: Series, other: _Floats | None = None
) -> float:
    """Share of what is measured in the series it touches that the campaign would alter if it never ended."""
    whole = campaign._replace(onset=0, end=len(x))
    reached = ~np.isnan(x[:, campaign.push != 0])
    altered = (forge(x, whole, kind, series, other) != x)[:, campaign.push != 0]
    return float(altered[reached].mean()) if reached.any() else 0.0


def _decimals(x: _Floats) -> Int:
    """[V] fewest decimals, 0 to 4, that hold every value of a series; 4 where none of these does."""
    digits = np.full(x.shape[1], 4)
    for fewer in (3, 2, 1, 0):
        fits = np.isnan(x) | (np.abs(x - np.round(x, fewer)) <= 1e-5 + 1e-6 * np.abs(x))
        digits = np.where(fits.all(axis=0), fewer, digits)
    return digits


def _draw(x: _Floats, kind: Kind, series: Series, rng: np.random.Generator) -> Campaign:
    """A campaign of that kind for a stay."""
    steps = len(x)
    lasting = max(2, int(np.exp(rng.uniform(np.log(0.12), np.log(0.7))) * steps))
    onset = int(rng.integers(1 - lasting, steps))
    strength = float(np.exp(rng.uniform(np.log(kind.weakest), np.log(kind.strongest))))
    places = {
        feed: [series.names.index(name) for name in names if name in series.names]
        for feed, names in FEEDS.items()
    }
    least, most = kind.feeds[0], kind.feeds[-1]
    if isinstance(least, int) and isinstance(most, int):
        share = (~np.isnan(x)).mean(axis=0)
        often = [feed for feed, own in places.items() if own and share[own].max() >= _OFTEN]
        number = int(rng.integers(least, most + 1))
        feeds = tuple(str(feed) for feed in rng.permutation(often)[:number])
    else:
        feeds = tuple(str(feed) for feed in kind.feeds)
    push = np.zeros(len(series.names))
    for feed in feeds:
        push[places[feed]] = 1.0 if rng.random() < 0.5 else -1.0
    return Campaign(
        onset=onset,
        end=onset + lasting,
        strength=strength,
        push=push,
        shown=int(rng.integers(max(1, steps - round(strength)))),
    )


def _donor(
    x: Float, stay: int, group: Int, campaign: Campaign, series: Series, rng: np.random.Generator
) -> _Floats | None:
    """Series of another patient of the group: of `strength` drawn ones the most alike where it matters."""
    others = np.flatnonzero((group == group[stay]) & (np.arange(len(x)) != stay))
    if not len(others):
        return None
    drawn = rng.choice(others, min(len(others), max(1, round(campaign.strength))), replace=False)
    touched = campaign.push != 0
    own = _known(x[stay].astype(np.float64))[campaign.under_way(x.shape[1])][:, touched]
    best, least = None, np.inf
    for donor in drawn:
        theirs = x[donor].astype(np.float64)
        apart = np.abs(_known(theirs)[campaign.under_way(x.shape[1])][:, touched] - own)
        apart = apart / series.spread[touched]
        far = float(np.nanmean(apart)) if not np.isnan(apart).all() else np.inf
        if best is None or far < least:
            best, least = theirs, far
    return best
