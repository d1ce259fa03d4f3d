"""Who holds which unit: natural keys, by unit, skewed in labels or size, shifted, families withheld."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lazaretto.data.streams import Streams, carries, family_of
from lazaretto.errors import DataError
from lazaretto.types import TEST, TRAIN, UNASSIGNED, Int

__all__ = ["Partition", "partition", "shift_features", "unused_sites", "withhold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """site [u] of each stream (0 .. S - 1), site_names S, withheld [S, K + 1] bool: families that the
    site never has in training or validation.
    """

    site: Int
    site_names: tuple[str, ...]
    withheld: np.ndarray[tuple[int, int], np.dtype[np.bool_]]


def partition(
    data: Streams,
    natural_names: tuple[str, ...],
    classes: tuple[str, ...],
    rng: np.random.Generator,
    by: Literal["natural", "unit", "dirichlet", "quantity"] = "natural",
    count: int | None = None,
    alpha: float = 0.3,
    places: NDArray[np.float64] | None = None,
) -> Partition:
    """Give every stream to a site. All streams of a unit go to the same site.

    natural: the source's own key; with a count each of its sites is subdivided by chance, into as many
    parts as its share of the units asks for, at least one. unit: shuffled, equal shares. dirichlet: for
    each family (and for quiet units) shares over sites ~ Dirichlet(alpha), so sites see different families
    (Hsu et al. 2019, arXiv:1909.06335). quantity: site sizes ~ Dirichlet(alpha).
    Test units are spread evenly in all but "natural", so that every site is judged on all families.
    places: [n] in [0, 1), of the names of units, by their numbers (`named.places_of`); then a unit's site
    comes of its own name and its own family, whoever else is there, and shares are met by chance alone. How
    many units natural sites have, and how many parts they get for that, is public.
    Raises DataError where a site would stay without training units, and for a count that cannot be had.
    """
    units, first = np.unique(data.unit, return_index=True)
    if by == "natural":
        if (data.site == UNASSIGNED).any():
            raise DataError(
                "the source has no natural sites",
                found="rows without a site",
                way_out='set sites.by = "unit"',
            )
        used = np.unique(data.site)
        site = np.searchsorted(used, data.site)
        names = tuple(natural_names[i] for i in used)
        if count is not None:
            site, names = _subdivided(data, site, names, rng, count, places)
    else:
        if count is None or not 1 <= count <= len(units):
            raise DataError(
                "cannot make so many sites",
                found=f"sites.count = {count}, {len(units)} units",
                way_out=f"choose 1 to {len(units)} sites",
            )
        carried = np.array([family_of(data)[data.unit == unit].max() for unit in units])
        groups = carried if by == "dirichlet" else np.zeros(len(units), np.int64)
        test = data.split[first] == TEST
        owner = np.zeros(len(units), np.int64)
        most = int(groups.max()) if places is None else len(classes) - 1
        shares = rng.dirichlet(np.full(count, alpha), size=most + 1)
        for group in np.unique(groups):
            for judged in (False, True):
                rows = np.flatnonzero((groups == group) & (test == judged))
                even = by == "unit" or judged
                share = np.full(count, 1 / count) if even else shares[group]
                if places is not None:
                    owner[rows] = np.searchsorted(np.cumsum(share)[:-1], places[units[rows]], side="right")
                    continue
                rows = rng.permutation(rows)
                edges = np.floor(np.cumsum(share)[:-1] * len(rows) + rng.random() * even).astype(np.int64)
                for place, part in enumerate(np.split(rows, np.minimum(edges, len(rows)))):
                    owner[part] = place
        site = owner[np.searchsorted(units, data.unit)]
        names = tuple(f"site {i + 1:02d}" for i in range(count))
    _all_train(data, site, names)
    return Partition(site=site, site_names=names, withheld=np.zeros((len(names), len(classes)), np.bool_))


def unused_sites(names: tuple[str, ...], by: str) -> list[str]:
    """A warning where a source names sites (`names`) and units are dealt to sites of equal shares instead."""
    if not names or by != "unit":
        return []
    count, listed = len(names), ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    known = f"{count} site{'s' if count > 1 else ''}: {listed}"
    said = 'with sites.by = "unit" units are dealt by lot, sites.by = "natural" keeps them where they are'
    return [f"The data say whose each unit is ({known}), and no site of this run is one of these: {said}."]


def _subdivided(
    data: Streams,
    site: Int,
    names: tuple[str, ...],
    rng: np.random.Generator,
    count: int,
    places: NDArray[np.float64] | None,
) -> tuple[Int, tuple[str, ...]]:
    """Sites [n] dealt into `count` parts in all, each within one site; every split's units evenly."""
    units, first = np.unique(data.unit, return_index=True)
    if not len(names) <= count <= len(units):
        raise DataError(
            "natural sites can be subdivided, not merged",
            found=f"sites.count = {count}, {len(names)} natural sites, {len(units)} units",
            way_out=f"choose {len(names)} to {len(units)} sites",
        )
    held = np.bincount(site[first], minlength=len(names))
    parts = np.ones(len(names), np.int64)
    for _ in range(count - len(names)):  # the next part to where parts are largest
        parts[int(np.argmax(held / parts))] += 1
    begin = np.cumsum(parts) - parts
    owner = np.zeros(len(units), np.int64)
    for place, many in enumerate(parts):
        if places is not None:
            rows = np.flatnonzero(site[first] == place)
            owner[rows] = begin[place] + (places[units[rows]] * many).astype(np.int64)
            continue
        for split in np.unique(data.split):
            rows = rng.permutation(np.flatnonzero((site[first] == place) & (data.split[first] == split)))
            owner[rows] = begin[place] + (np.arange(len(rows)) + rng.integers(many)) % many
    found = [
        name if many == 1 else f"{name} {part + 1}"
        for name, many in zip(names, parts, strict=True)
        for part in range(many)
    ]
    return owner[np.searchsorted(units, data.unit)], tuple(found)


def withhold(
    data: Streams, parts: Partition, families: int, places: NDArray[np.float64] | None = None
) -> tuple[Streams, Partition]:
    """Take `families` families from every site's training and validation; test units stay.

    Site s lacks families s, s + 1, ... in turn, so every family is withheld somewhere. A unit that
    carries withheld families moves to the least loaded site that may have all it carries (nothing is
    lost), or with `places`, as of `partition`, to that of these sites which its name decides. Raises
    DataError when there are too few families to withhold that many, when no site may have a unit, or when a
    site is left with nothing to train on.
    """
    kinds = parts.withheld.shape[1] - 1
    sites = len(parts.site_names)
    if families == 0:
        return data, parts
    if families >= kinds or sites < 2:
        raise DataError(
            "cannot withhold that many families from each site",
            found=f"sites.withhold_families = {families}, {kinds} families, {sites} sites",
            way_out="withhold fewer families than there are, with two sites or more",
        )
    withheld = np.zeros_like(parts.withheld)
    for place in range(sites):
        for extra in range(families):
            withheld[place, 1 + (place + extra) % kinds] = True
    if withheld[:, 1:].all(axis=0).any():
        lost = int(np.flatnonzero(withheld[:, 1:].all(axis=0))[0]) + 1
        raise DataError(
            "a family would be withheld from every site",
            found=f"class {lost}, {sites} sites",
            way_out="withhold fewer families or make more sites",
        )
    site = parts.site.copy()
    carried = np.stack([carries(data, k) for k in range(kinds + 1)], axis=1)
    carried[:, 0] = False
    load = np.bincount(site, minlength=sites)
    for row in np.flatnonzero(data.split != TEST):
        if (withheld[site[row]] & carried[row]).any():
            allowed = np.flatnonzero(~(withheld & carried[row]).any(axis=1))
            if not allowed.size:
                raise DataError(
                    "no site may have a unit that carries several withheld families",
                    found=f"unit {int(data.unit[row])} carries {int(carried[row].sum())} families",
                    way_out="withhold fewer families, or make more sites",
                )
            to = allowed[np.argmin(load[allowed])]
            if places is not None:
                to = allowed[int(places[data.unit[row]] * len(allowed))]
            load[site[row]] -= 1
            load[to] += 1
            site[row] = to
    _all_train(data, site, parts.site_names)
    return replace(data, site=site), replace(parts, site=site, withheld=withheld)


def _all_train(data: Streams, site: Int, names: tuple[str, ...]) -> None:
    held = np.bincount(site[data.split == TRAIN], minlength=len(names))
    if (held == 0).any():
        empty = ", ".join(names[i] for i in np.flatnonzero(held == 0)[:5])
        raise DataError(
            "a site has no units to train on",
            found=empty,
            way_out="fewer sites, a larger alpha, fewer families withheld, more data, or another split.key "
            "where units are dealt by name",
        )


def shift_features(data: Streams, parts: Partition, strength: float, rng: np.random.Generator) -> Streams:
    """Give every site its own gain per feature: x · exp(strength · z), z ~ N(0, 1). 0 changes nothing."""
    if strength == 0:
        return data
    gain = np.exp(strength * rng.standard_normal((len(parts.site_names), data.x.shape[-1])))
    return replace(data, x=(data.x * gain[parts.site][:, None, :]).astype(np.float32))
