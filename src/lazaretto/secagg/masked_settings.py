"""What all parties of a masked sum know beforehand: thresholds, the graph of neighbours, fixed point.

`check_masked` refuses what would let the server learn one update; the bounds are in docs/secagg_masked.md.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from lazaretto.errors import InputError, PlanError
from lazaretto.types import Array
from lazaretto.wire import encode

__all__ = [
    "COORDINATOR",
    "Masked",
    "Setup",
    "check_masked",
    "default_masked",
    "fraction_bits",
    "from_fixed",
    "holders",
    "share_threshold",
    "smallest_graph",
    "to_fixed",
    "weight_bits",
]

COORDINATOR = "coordinator"
_SECRECY, _COMPLETION = 2.0**-40, 2.0**-20  # what a graph with few neighbours may leave to chance
# more bits after the point than float32 parameters have would show, by their grain, whose an update is
_LEAST_BITS, _MOST_BITS = 8, 20
_BLOCK = 2**15  # entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """Settings of a masked sum.

    threshold: sites without which no step goes on; with fewer there is no sum.
    hostile:   sites that may be in league with the server; the sum stays secret against so many.
    bound:     largest absolute value of an update's entry; a longer update is shortened as a whole.
    ring_bits: sums are taken modulo 2 to this.
    degree:    neighbours of a site, an even number, or None for all others.
    shares:    shares that open a secret of a site, where `degree` is given.
    """

    threshold: int
    hostile: int = 1
    bound: float = 8.0
    ring_bits: Literal[32, 64] = 32
    degree: int | None = None
    shares: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One round, as everyone knows it beforehand.

    round:       number of the round, >= 0. coin: 32 bytes that nobody could choose after who is hostile was
    settled.
    sites:       names, sorted. identities: Ed25519 public keys [len(sites)], known from outside of the
    protocol. coordinator: Ed25519 public key of the coordinator. length: entries of the vectors that are
    summed.
    """

    settings: Masked
    round: int
    coin: bytes
    sites: tuple[str, ...]
    identities: tuple[bytes, ...]
    coordinator: bytes
    length: int

    @property
    def session(self) -> bytes:
        """32 bytes that differ when anything of the setup does."""
        return _session(self)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of masked vectors."""
        return np.dtype("<u4" if self.settings.ring_bits == 32 else "<u8")


def default_masked(sites: int, *, hostile: int = 1) -> Masked:
    """Everyone the neighbour of everyone; any third of the sites may vanish.

    Raises PlanError as `check_masked`.
    """
    settings = Masked(threshold=max(sites - sites // 3, hostile + 2, 3), hostile=hostile)
    check_masked(settings, sites)
    return settings


def check_masked(settings: Masked, sites: int) -> None:
    """Refuses with PlanError what would let the server learn one update, or sums that could wrap."""
    _check_numbers(settings, sites)
    threshold, hostile = settings.threshold, settings.hostile
    if sites < 3:
        raise PlanError(
            "a masked sum of fewer than three sites tells what each of them sent",
            found=f"{sites} sites",
            way_out="three sites or more",
        )
    if threshold > sites:
        raise PlanError("the threshold of a masked sum is above its sites", found=f"{threshold} of {sites}")
    least = max(3, hostile + 2, (sites + hostile) // 2 + 1)
    if threshold < least:
        raise PlanError(
            "the threshold of a masked sum lets the server learn one update",
            found=f"threshold {threshold} of {sites} sites, {hostile} of them hostile",
            way_out=f"a threshold of {least} or more: two lists of survivors must not both find so many"
            " honest sites, and every sum must hold two honest updates",
        )
    if settings.degree is not None:
        _check_graph(settings, sites, settings.degree)
    fraction_bits(settings, sites)


def _check_numbers(settings: Masked, sites: int) -> None:
    for name, value in (("sites", sites), ("threshold", settings.threshold), ("hostile", settings.hostile)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise PlanError(f"'{name}' of a masked sum is not a whole number from 0", found=value)
    if settings.ring_bits not in (32, 64):
        raise PlanError("a masked sum has no such ring", found=settings.ring_bits, way_out="32 or 64 bits")
    if not (math.isfinite(settings.bound) and settings.bound > 0):
        raise PlanError("the bound of masked updates is not above 0", found=settings.bound)
    if (settings.degree is None) != (settings.shares is None):
        raise PlanError(
            "a masked sum needs 'degree' and 'shares' together", way_out="`smallest_graph` gives both"
        )


def _check_graph(settings: Masked, sites: int, degree: int) -> None:
    shares = share_threshold(settings, sites)
    if not (2 <= degree < sites and degree % 2 == 0 and 2 <= shares <= degree):
        raise PlanError(
            "neighbours and shares of a masked sum do not go together",
            found=f"{degree} neighbours, {shares} shares, {sites} sites",
            way_out="an even number of neighbours below that of sites, and at most as many shares",
        )
    told, stuck = _risks(sites, settings.threshold, settings.hostile, degree, shares)
    if told > _SECRECY or stuck > _COMPLETION:
        raise PlanError(
            "too few neighbours for a masked sum",
            found=f"secrecy fails with 2^{math.log2(max(told, 1e-300)):.0f}, the sum with"
            f" 2^{math.log2(max(stuck, 1e-300)):.0f}",
            way_out="at most 2^-40 and 2^-20: `smallest_graph` finds numbers that do, or leave out 'degree'",
        )


def _risks(sites: int, threshold: int, hostile: int, degree: int, shares: int) -> tuple[float, float]:
    """Chances, over a random order of sites, that something is told, and that a secret cannot be opened.

    Told: the hostile neighbours of some site hold enough shares to open both of its secrets; or the honest
    survivors fall apart, which takes a run of degree / 2 missing sites in the ring.
    Stuck: of some site too few neighbours survive. Union bounds; Bell et al. 2020, section 3.
    """
    open_both = float(hypergeom.sf(shares - 1, sites - 1, hostile, degree))
    missing, half = hostile + sites - threshold, degree // 2
    gap = math.prod(max(missing - j, 0) / (sites - j) for j in range(half))
    stuck = float(hypergeom.cdf(shares - 1, sites - 1, threshold - 1, degree))
    return sites * (open_both + gap), sites * stuck


def smallest_graph(sites: int, threshold: int, hostile: int) -> tuple[int, int] | None:
    """(neighbours, most shares) of the sparsest graph that `check_masked` accepts, or None where only all
    will do.
    """
    for degree in range(2, sites, 2):
        for shares in range(degree, 1, -1):
            told, stuck = _risks(sites, threshold, hostile, degree, shares)
            if told <= _SECRECY and stuck <= _COMPLETION:
                return degree, shares
    return None


def share_threshold(settings: Masked, sites: int) -> int:
    """Shares that open a secret: `shares` in a graph, else as many as the threshold."""
    return settings.threshold if settings.shares is None else settings.shares


@lru_cache(maxsize=64)
def _session(setup: Setup) -> bytes:
    settings = {name: getattr(setup.settings, name) for name in Masked.__slots__}
    known = [
        settings,
        setup.round,
        setup.coin,
        setup.sites,
        setup.identities,
        setup.coordinator,
        setup.length,
    ]
    return hashlib.sha256(encode(known)).digest()


@lru_cache(maxsize=64)
def holders(setup: Setup) -> tuple[tuple[int, ...], ...]:
    """[sites] ascending numbers of those who hold shares of each site: its neighbours and itself.

    Neighbours are the nearest in a ring ordered by a hash of the coin: the same for all, symmetric, and
    as good as random for who cannot choose the coin (Harary graph; Bell et al. 2020).
    """
    count, degree = len(setup.sites), setup.settings.degree
    if degree is None:
        return (tuple(range(count)),) * count
    ring = sorted(range(count), key=lambda i: hashlib.sha256(setup.coin + setup.sites[i].encode()).digest())
    near = range(-(degree // 2), degree // 2 + 1)
    found = {site: sorted(ring[(place + step) % count] for step in near) for place, site in enumerate(ring)}
    return tuple(tuple(found[site]) for site in range(count))


def fraction_bits(settings: Masked, sites: int) -> int:
    """Bits behind the point such that honest sums cannot wrap.

    Raises PlanError where fewer than 8 are left.
    """
    room = ((2.0 ** (settings.ring_bits - 1) - 1) / max(sites, 1) - 1) / settings.bound  # 1 for rounding
    bits = min(
        math.floor(math.log2(max(room, 2.0**-60))),
        _MOST_BITS,
        50 - math.ceil(math.log2(max(settings.bound, 1))),
    )
    if bits < _LEAST_BITS:
        raise PlanError(
            f"the ring of {settings.ring_bits} bits is too small for {sites} sites of such values",
            found=f"{bits} bits behind the point for values to {settings.bound:g}",
            way_out=f"at least {_LEAST_BITS}: a ring of 64 bits, or a lower bound",
        )
    return bits


def weight_bits(settings: Masked, sites: int) -> int:
    """Bits of weights such that their sum cannot wrap: at most 24."""
    return min(24, settings.ring_bits - 2 - math.ceil(math.log2(max(sites, 2))))


def to_fixed(update: Array, share: float, settings: Masked, sites: int) -> NDArray[np.unsignedinteger]:
    """[d + 1] fixed point of an update [d] times its weight, then the weight, in Z₂ to the `ring_bits`.

    share: the site's weight over the largest possible, in (0, 1]. An update with an entry beyond the bound is
    shortened to it as a whole. Raises InputError for NaN, infinity or another share.
    """
    row = np.asarray(update)
    row = row if row.dtype in (np.float32, np.float64) else row.astype(np.float64)
    ends = (float(row.max(initial=0.0)), float(row.min(initial=0.0)))  # NaN where there is one
    if row.ndim != 1 or not (math.isfinite(ends[0]) and math.isfinite(ends[1])):
        raise InputError("an update to be masked is not a finite vector", found=f"shape {row.shape}")
    if not 0 < share <= 1:
        raise InputError("a weight under masks is not within the public largest one", found=share)
    largest = max(ends[0], -ends[1])
    weight = max(1, round(share * 2 ** weight_bits(settings, sites)))
    scale = 2.0 ** fraction_bits(settings, sites) * weight / 2 ** weight_bits(settings, sites)
    if largest > settings.bound:
        scale *= settings.bound / largest
    fixed = np.empty(len(row) + 1, "<u4" if settings.ring_bits == 32 else "<u8")
    floats, whole = np.empty(_BLOCK), np.empty(_BLOCK, np.int64)
    for begin in range(0, len(row), _BLOCK):  # in blocks: what is in between stays in the cache
        part = row[begin : begin + _BLOCK]
        size = len(part)
        np.multiply(part, scale, out=floats[:size], dtype=np.float64)
        np.rint(floats[:size], out=whole[:size], casting="unsafe")
        fixed[begin : begin + size] = whole[:size].view(np.uint64)
    fixed[-1] = weight
    return fixed


def from_fixed(total: Array, settings: Masked, sites: int) -> tuple[NDArray[np.float64], float]:
    """(weighted mean [d] float64, sum of weights over the largest possible) of a sum [d + 1] of `to_fixed`.

    Off by at most half a unit of the last of `fraction_bits` per site, over the sum of weights. Raises
    InputError where the sum of weights is not one of 1 to `sites` sites, or an entry beyond what honest
    sites can reach.
    """
    values = total.view(np.int32 if settings.ring_bits == 32 else np.int64)
    unit = 2 ** weight_bits(settings, sites)
    weight = int(values[-1])
    if not 0 < weight <= sites * unit:
        raise InputError("the sum of masked weights is not one of honest sites", found=weight)
    most = weight / unit * settings.bound * 2.0 ** fraction_bits(settings, sites) + sites
    if len(values) > 1 and max(-int(values[:-1].min()), int(values[:-1].max())) > most:
        raise InputError("a masked sum has an entry beyond what honest sites can reach")
    return values[:-1] / (2.0 ** fraction_bits(settings, sites) * (weight / unit)), weight / unit
