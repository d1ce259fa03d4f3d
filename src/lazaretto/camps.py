"""What many rounds, or all updates of one, tell of a site that no single distance does.

Updates of honest sites are mostly noise of their batches: two of them have a cosine of a tenth or less, and a
site that learned false labels differs from its neighbours by less than they differ from each other. Four
things bring it out, all from inner products alone, so that they work where nobody sees an update:

- *camps*: added up over rounds, the noise cancels and what a site's data says is left; sites with another aim
  then lie apart together along the direction in which the sums differ most. What is learned of few inputs,
  such as a trigger, shows in one layer long before it shows in all: large layers are looked at alone, too;
- *chance*: updates that have nothing in common with those the site sent before come from no data;
- *derived*: what a site computed from others' updates, or from the last aggregate, in place of training, has
  no noise of its own;
- *alike*: sites that agree on one update and lay noise on it look like one another as no honest sites do.

Sites with one voice count as one in a camp: a single site that copies an honest one must not bring it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.gram import cosines, inner_products
from lazaretto.types import Array, Float, Int

__all__ = [
    "Sums",
    "camp_flags",
    "derived_flags",
    "distinct",
    "own_parts",
    "sums_arrays",
    "sums_from",
    "sums_seen",
    "sums_start",
    "sums_step",
    "sums_without",
    "together",
    "two_camps",
]

_KEPT = 0.9  # of a sum after a round: some ten rounds count
_SAME = 0.01  # of the usual 1 - cosine between two sites, as in `inspection`
_ALIKE = 1 / 3  # the same of sums: who copied somebody in most rounds
_ALIKE_IN_A_LAYER = 1 / 4  # honest sites come nearer in one layer of several, late above all
_FEWEST_ALIKE = 3  # sites: of two, one may have been copied
_OWN_ALIKE = 1 / 4  # 1 - cosine of what two sites have beside what all have in common
_JOINS = (1.5, 1.15)  # times these, who is near to each of three or more that are alike already
_ALL_ALIKE = 0.1  # the usual 1 - cosine below which nobody is more alike than others: all learn one thing
_STAYS = 0.85  # of what makes camps, where the same sites were one in the round before
_IN_A_LAYER = 1.1  # times the limit, as several layers are tried: one case of noise in 400 each
_EARLY = 12  # updates of the median site, after which a camp that is new has to stand out by more
_LATE = 1.2  # times the limit, from then on
_FEWEST = 6  # distinct sites, below which two camps cannot be told from chance
_ROUNDS = 3  # before which updates have no past to be compared with
_NO_PAST = 0.15  # of what sums of others hold more than chance would
_DERIVED = 1 / 3  # of the usual own part


class Sums(NamedTuple):
    """What S sites sent, every update made as long as 1, older ones counting less.

    total: [S, s] float32, s = 0 where nobody sees an update. square: [S] its squared length; weight: [S] what
    that would be by chance. rounds: [S].
    layers: [k, 2] where in an update the layers begin and end that are looked at alone.
    camp: [1 + k, S] who was in the smaller camp when it was last looked: of whole updates, of each layer.
    alike: [1 + k, S] likewise, from 1, to which group of sites with one voice it belongs; 0: none.
    """

    total: Float
    square: NDArray[np.float64]
    weight: NDArray[np.float64]
    rounds: Int
    layers: Int
    camp: NDArray[np.bool_]
    alike: Int


def sums_start(sites: int, size: int, layers: Sequence[tuple[int, int]] = ()) -> Sums:
    """Before the first round: S sites, updates of so many parameters, (begin, end) of layers of some size."""
    rounds, places = np.zeros(sites, np.int64), np.array(layers, np.int64).reshape(len(layers), 2)
    camp = np.zeros((1 + len(layers), sites), np.bool_)
    zero = np.zeros(sites)
    total = np.zeros((sites, size), np.float32)
    return Sums(total, zero, zero.copy(), rounds, places, camp, camp.astype(np.int64))


def sums_step(sums: Sums, updates: Array, sites: Int) -> Sums:
    """After a round in which `sites` [n] sent updates [n, s]; one that is zero or not finite is no round."""
    total, square, weight = sums.total.copy(), sums.square.copy(), sums.weight.copy()
    rounds = sums.rounds.copy()
    camp, alike = np.zeros(sums.camp.shape, np.bool_), np.zeros(sums.camp.shape, np.int64)
    for site, update in zip(sites, updates, strict=True):
        length = float(np.sqrt(np.sum(np.square(update, dtype=np.float64))))
        if np.isfinite(length) and length > 0:
            total[site] = _KEPT * total[site] + (update / length).astype(np.float32)
            square[site] = np.sum(np.square(total[site], dtype=np.float64))
            weight[site] = _KEPT**2 * weight[site] + 1
            rounds[site] += 1
    known = np.flatnonzero(rounds >= _ROUNDS)
    if len(known) >= _FEWEST:
        late = _late(rounds[known])
        for place, (begin, end) in enumerate([(0, total.shape[1]), *sums.layers]):
            inner = inner_products(np.ascontiguousarray(total[known, begin:end]))
            told = _parted(inner, sums.camp[place, known], np.isin(known, sites), layer=place > 0, late=late)
            camp[place, known], alike[place, known] = told
    return Sums(total, square, weight, rounds, sums.layers, camp, alike)


def sums_seen(sums: Sums, inner: Array, squares: Array, sites: Int) -> Sums:
    """As `sums_step` where nobody sees an update: from what is opened of the sites' own running sums.

    inner: [n, n] of all that `sites` [n] ever sent, this round included; squares: [n] squared lengths of what
    they sent in it. Nothing is forgotten, lengths count, and layers cannot be told apart.
    """
    square, weight, rounds = sums.square.copy(), sums.weight.copy(), sums.rounds.copy()
    camp, alike = sums.camp.copy(), sums.alike.copy()  # who stays away is what it was
    square[sites] = np.diagonal(inner)
    weight[sites] += squares
    rounds[sites] += np.asarray(squares) > 0
    old = np.flatnonzero((rounds[sites] >= _ROUNDS) & (square[sites] > 0))
    if len(old) >= _FEWEST:
        late = _late(rounds[sites[old]])
        everyone = np.ones(len(old), np.bool_)
        told = _parted(inner[np.ix_(old, old)], sums.camp[0, sites[old]], everyone, late=late)
        camp[0, sites[old]], alike[0, sites[old]] = told
    return Sums(sums.total, square, weight, rounds, sums.layers, camp, alike)


def sums_without(sums: Sums, out: NDArray[np.bool_]) -> Sums:
    """As if the sites `out` [S] had never sent anything: it tells nothing of the others any more."""
    total, camp, alike = sums.total.copy(), sums.camp.copy(), sums.alike.copy()
    total[out] = 0.0
    camp[:, out], alike[:, out] = False, 0
    one = {name: np.where(out, 0, getattr(sums, name)) for name in ("square", "weight", "rounds")}
    return sums._replace(total=total, camp=camp, alike=alike, **one)


def sums_arrays(sums: Sums) -> dict[str, Array]:
    """Name -> array, for a checkpoint; bools as uint8."""
    return {**sums._asdict(), "camp": sums.camp.astype(np.uint8)}


def sums_from(arrays: Mapping[str, Array]) -> Sums:
    """From what `sums_arrays` gave; older ones lack `alike`: nobody is, until it is looked for again."""
    camp = np.asarray(arrays["camp"]).astype(np.bool_)
    alike = np.asarray(arrays.get("alike", np.zeros(camp.shape, np.int64)))
    return Sums(**{**arrays, "camp": camp, "alike": alike})


def _late(rounds: Int) -> bool:
    """Whether the median site has sent so often, of rounds [n], that chance had many looks."""
    return bool(np.median(rounds) > _EARLY)


def distinct(cosine: Array, same: float = _SAME) -> Int:
    """[n] the first site that each is a copy of, itself if of none, from cosines [n, n].

    A copy differs by less than `same` of the usual 1 - cosine; where all are alike none is one.
    """
    n = len(cosine)
    apart = 1 - cosine[np.triu_indices(n, 1)]
    usual = float(np.median(apart)) if apart.size else 0.0
    first = np.arange(n)
    if usual > 1e-9:
        for place in range(n):
            first[place] = first[int(np.argmax(1 - cosine[place, : place + 1] < same * usual))]
    return first


def _parted(
    inner: Array,
    before: NDArray[np.bool_],
    present: NDArray[np.bool_],
    *,
    layer: bool = False,
    late: bool = False,
) -> tuple[NDArray[np.bool_], Int]:
    """[n] who is in a camp, and [n] to which group of the alike those present belong, 0: none.

    Camps are looked for among who is not alike; where too few are left, with one of each group.
    """
    group, camp = np.zeros(len(inner), np.int64), np.zeros(len(inner), np.bool_)
    group[present] = together(inner[np.ix_(present, present)], layer=layer)
    rest = np.flatnonzero(group == 0)
    if len(rest) < _FEWEST:
        rest = np.union1d(rest, np.unique(group, return_index=True)[1])
    if len(rest) >= _FEWEST:
        camp[rest] = two_camps(inner[np.ix_(rest, rest)], before[rest], layer=layer, late=late)
    return camp, group


def _apart(inner: Array, *, layer: bool, times: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
    """[n, n] how far two sites are from having one voice, from inner products of their sums: at most 1 where
    they have.

    Both of two have to be small: 1 - cosine beside a third (in a layer a quarter) of the usual, the median of
    all pairs; and, beside a quarter, 1 - the cosine of what is left of both when the direction of the mean of
    all is taken off. times: of these limits. The second spares sites that have much data: their sums are near
    each other as they hold little noise, and what is left of them is each one's own. Infinite where all are
    alike, as in a layer that only decays.
    """
    n, cosine = len(inner), cosines(inner)
    apart = 1 - cosine
    usual = float(np.median(apart[np.triu_indices(n, 1)])) if n > 1 else 0.0
    if usual < _ALL_ALIKE:
        return np.full((n, n), np.inf)
    mean = cosine.mean(axis=0)
    left = cosine - np.outer(mean, mean) / max(float(mean.mean()), 1e-12)
    own = 1 - cosines(left)
    share = _ALIKE_IN_A_LAYER if layer else _ALIKE
    return np.maximum(apart / (times[0] * share * usual), own / (times[1] * _OWN_ALIKE))


def _voices(apart: Array) -> Int:
    """[n] the first site that each has one voice with, itself if none."""
    first = np.arange(len(apart))
    for place in range(len(apart)):
        same = apart[place, :place] <= 1
        first[place] = first[int(np.argmax(same))] if same.any() else place
    return first


def together(inner: Array, *, layer: bool = False) -> Int:
    """[n] from 1, to which group of three sites or more with one voice each belongs, 0: to none; from inner
    products [n, n] of the sums.

    Sums of honest sites do not come that near: what each adds is mostly noise of its own batches, and no
    other has that. Who sends copies, or agrees on one update and lays noise on it, does; a site that two
    others copy cannot be told from them. Whoever is nearly as near to each of the three or more belongs to
    them. In a camp such sites count once, so they are looked for here.
    """
    voices, near = _voices(_apart(inner, layer=layer)), _apart(inner, layer=layer, times=_JOINS) <= 1
    _, group, count = np.unique(voices, return_inverse=True, return_counts=True)
    found = np.zeros(len(inner), np.int64)
    for number, one in enumerate(np.flatnonzero(count >= _FEWEST_ALIKE), 1):
        found[(group == one) | (near[:, group == one].all(axis=1) & (found == 0))] = number
    return found


def two_camps(
    inner: Array, before: NDArray[np.bool_] | None = None, *, layer: bool = False, late: bool = False
) -> NDArray[np.bool_]:
    """[n] who is in the smaller of two camps; nobody where there are none. inner: [n, n] of the sites' sums.

    before: [n] who was in it last; the same sites stay in it until they are clearly none. layer: whether
    these are sums of one layer of several. late: whether many rounds were looked at before.

    Sums are made as long as 1, what they have in common, their mean, is taken off, and what is left made as
    long as 1 again: how far sites got says nothing of where they go. They are then laid along the direction
    in which they differ most (the leading eigenvector of the centred cosines) and parted where the two
    parts spread least. They are camps where the distance of the parts' means is so many standard deviations
    within them as one hundred cases of Gaussian noise exceed once: 2.75 + 38 / n (by simulation, from 7
    sites up; tested). The smaller has to be less than half. What is left is parted again until nothing
    parts it, or half of the sites would be gone. Sites with one voice count once (`together`).

    In a layer the limit is a tenth higher, and a camp is at most a third of the sites: honest sites differ in
    what they make of one layer, in late rounds above all, and then fall into two parts of about equal size.
    Late the limit is a fifth higher for a part with somebody who was in no camp before: every round is one
    more chance to be taken for one. Who is out of camps for a round has to stand out by that to be back.
    At least six sites, or nobody: fewer part too easily by chance. Sites that honestly differ in one way
    from all others are a camp, too.
    """
    n = len(inner)
    cosine = cosines(inner)
    first = _voices(_apart(inner, layer=layer))
    last = np.zeros(n, np.bool_) if before is None else before
    left, out = np.unique(first), np.zeros(n, np.bool_)
    total = len(left)
    most = total // 3 if layer else (total - 1) // 2
    times = _IN_A_LAYER if layer else 1.0
    while len(left) >= _FEWEST:
        small = _smaller(cosine[np.ix_(left, left)], last[left], times, _LATE if late else 1.0)
        if small is None or total - (len(left) - int(small.sum())) > most:
            break
        out |= np.isin(first, left[small])
        left = left[~small]
    return out if int(out.sum()) <= (n // 3 if layer else (n - 1) // 2) else np.zeros(n, np.bool_)


def _smaller(cosine: Array, before: NDArray[np.bool_], times: float, new: float) -> NDArray[np.bool_] | None:
    """[m] who is in the smaller part, or None where two parts are no better than so many times chance.

    new: factor on `times` where somebody is in it who was in no camp before.
    """
    m = len(cosine)
    values, vectors = np.linalg.eigh(_centred(cosines(_centred(cosine))))
    along = vectors[:, -1]
    order = np.argsort(along)
    line = along[order]
    counts = np.arange(1, m)
    below, above = np.cumsum(line)[:-1] / counts, np.cumsum(line[::-1])[-2::-1] / counts[::-1]
    # squares within both parts: all squares less those of the means
    within = np.maximum(np.sum(line**2) - counts * below**2 - counts[::-1] * above**2, 0.0)
    best = int(within.argmin())
    spread = np.sqrt(within[best] / (m - 2))
    count = int(counts[best])
    if values[-1] <= 1e-12 or 2 * count == m:
        return None
    small = np.zeros(m, np.bool_)
    small[order[:count] if 2 * count < m else order[count:]] = True
    held = _STAYS if np.array_equal(small, before) else 1.0 if before[small].all() else new
    limit = times * (2.75 + 38 / m) * held
    return small if above[best] - below[best] >= limit * spread else None


def _centred(inner: Array) -> NDArray[np.float64]:
    """[m, m] inner products once the mean of all m is taken off each."""
    across = inner.mean(axis=0)
    return np.asarray(inner - across[None] - across[:, None] + across.mean())


def camp_flags(sums: Sums, sites: Int, names: Sequence[str]) -> list[dict[str, str]]:
    """What the sums of those who sent something in this round tell: {"site", "kind", "reason"}.

    sites: [n] their places in `sums`; names: [n]. kind: "camp", "alike" or "chance". Of sites with fewer than
    three rounds, or of fewer than six such, nothing is said.
    """
    old = np.flatnonzero(sums.rounds[sites] >= _ROUNDS)
    if len(old) < _FEWEST:
        return []
    chosen = sites[old]
    found, camps, near = list[dict[str, str]](), sums.camp[:, chosen], sums.alike[:, chosen]
    more = sums.square[chosen] / sums.weight[chosen] - 1  # 0: chance
    usual = float(np.median(more))
    for place, among, like, past in zip(old.tolist(), camps.T, near.T, more, strict=True):
        if among.any():
            camp = camps[int(among.argmax())]
            said = (
                f"one of {int(camp.sum())} sites whose updates, added up, point another way than the others'"
            )
            said += "" if among[0] else ", in one layer of the model"
            found.append({"site": names[place], "kind": "camp", "reason": said})
        if like.any():
            row = int((like > 0).argmax())
            many = int((near[row] == like[row]).sum())
            said = f"one of {many} sites whose updates, added up, are far more alike than is usual"
            said += "" if row == 0 else ", in one layer of the model"
            found.append({"site": names[place], "kind": "alike", "reason": said})
        if usual > 0 and past < _NO_PAST * usual:
            said = "its updates have nothing in common from round to round"
            found.append({"site": names[place], "kind": "chance", "reason": said})
    return found


def own_parts(inner: Array, n: int) -> NDArray[np.float64]:
    """[n] in [0, 1]: which part of an update's square the others and public rows do not explain.

    inner: [n + p, n + p] of n updates, then of p public rows such as the last aggregate. Each update is
    projected on the mean direction of the others (copies once, its own copies left out) and on the public
    rows. NaN for an update that is zero, or where there is no other.
    """
    cosine = cosines(inner)
    there = np.diagonal(inner) > 0
    first = distinct(cosine[:n, :n])
    public = n + np.flatnonzero(there[n:])
    found = np.full(n, np.nan)
    for place in np.flatnonzero(there[:n]):
        others = np.unique(first[there[:n] & (first != first[place])])
        if not others.size:
            continue
        basis = np.zeros((1 + len(public), len(inner)))
        basis[0, others] = 1.0 / len(others)
        basis[np.arange(1, len(basis)), public] = 1.0
        reach = basis @ cosine[:, place]
        explained = reach @ np.linalg.pinv(basis @ cosine @ basis.T, rcond=1e-10) @ reach
        found[place] = min(max(1.0 - float(explained), 0.0), 1.0)
    return found


def derived_flags(inner: Array, names: Sequence[str]) -> list[dict[str, str]]:
    """Who sent what follows from others' updates and public rows: {"site", "kind": "derived", "reason"}.

    inner: as `own_parts` takes it, names: [n]. Flagged is an own part below a third of the median; of copies
    also one below that of every other site, by a tenth: a copy of an honest update has as much as others.
    Where honest updates have hardly a part of their own (under 5 %), or of fewer than six sites, nothing is
    said.
    """
    n = len(names)
    parts = own_parts(inner, n)
    known = parts[~np.isnan(parts)]
    first = distinct(cosines(inner[:n, :n]))
    copied = np.bincount(first, minlength=n)[first] > 1
    alone = parts[~copied & ~np.isnan(parts)]
    least = float(alone.min()) if len(alone) > n / 2 else 0.0
    usual = float(np.median(known)) if len(known) >= _FEWEST else 0.0
    if usual < 0.05:
        return []
    return [
        {
            "site": names[place],
            "kind": "derived",
            "reason": f"{1 - parts[place]:.0%} of its update follows from what others sent or all were told, "
            f"usually {1 - usual:.0%}".replace("%", " %"),
        }
        for place in np.flatnonzero((parts < _DERIVED * usual) | (copied & (parts < 0.9 * least))).tolist()
    ]
