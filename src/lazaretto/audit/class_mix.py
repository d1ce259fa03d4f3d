"""Property inference: what share of a site's records was attacked, read from the site's update.

The attacker has labelled records of its own, makes shadow sites of known mix from them, trains each from the
model that the target started from, and learns to tell the share from the update (after Ateniese et al. 2015,
arXiv:1306.4447; for updates Melis, Song, De Cristofaro, Shmatikov 2019, arXiv:1805.04049). The floor is to
say of every site the mean share of the shadow sites. Differential privacy for records hides no property of
all of a site's records, so a good result has to be shown; it does not follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lazaretto.audit.membership import Interval
from lazaretto.errors import DataError

__all__ = ["ClassMixAudit", "MixedSites", "class_mix_audit", "drawn_with_share", "mixed_sites"]

_Floats = NDArray[np.float64]
_LEAST = 10
_REPLICATES = 2000
_PENALTIES = np.logspace(-2, 6, 17)  # on standardised parameters; chosen on shadow sites left out one by one


class MixedSites(NamedTuple):
    """Sites of known mix: updates [S, d], and shares [S] of attacked records behind each."""

    updates: _Floats
    shares: _Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMixAudit:
    """How far the attacker's shares are from the true ones: root mean squares, over the targets.

    error: of the attack.  floor: of saying the shadow sites' mean each time.  ratio: error / floor with its
    interval of 95 %, 1 where nothing was learnt.  targets: how many updates were read.
    """

    error: float
    floor: float
    ratio: Interval
    targets: int

    @property
    def learned(self) -> bool:
        """Whether the attack was better than the floor, at 97.5 %."""
        return self.ratio.high < 1


def drawn_with_share(attacked: Any, share: float, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Numbers [size] of records, round(share · size) of them attacked, without repetition.

    attacked [n] bool. Raises DataError where there are not so many of either, or the share is none.
    """
    flags = np.asarray(attacked)
    if flags.ndim != 1 or flags.dtype != np.bool_ or not 0 <= share <= 1 or size < 1:
        raise DataError(
            "drawn_with_share: which records are attacked, a share, a size",
            found=f"{flags.dtype} {flags.shape}, share {share}, size {size}",
            way_out="[n] of bool, 0 to 1, at least 1",
        )
    wanted = round(share * size)
    if flags.sum() < wanted or (~flags).sum() < size - wanted:
        raise DataError(
            "too few records for a site of this mix",
            found=f"{flags.sum()} attacked of {len(flags)}; {wanted} of {size} are wanted",
            way_out="smaller sites, less extreme shares, or more records",
        )
    parts = [
        rng.choice(np.flatnonzero(which), number, replace=False)
        for which, number in ((flags, wanted), (~flags, size - wanted))
    ]
    return np.asarray(rng.permutation(np.concatenate(parts)), np.int64)


def mixed_sites(
    update: Callable[[NDArray[np.int64], int], Any],
    attacked: Any,
    sites: int,
    size: int,
    shares: tuple[float, float],
    rng: np.random.Generator,
) -> MixedSites:
    """Train so many sites of `size` records each, their shares drawn evenly from a range.

    update: (numbers of the site's records [size], seed) -> its update [d]. attacked [n] bool. shares: lowest
    and highest. Shadow sites come from the attacker's records and targets from others, or the audit tells who
    shared records rather than what they are like. Raises DataError as `drawn_with_share`, and on updates of
    several lengths.
    """
    low, high = shares
    if not 0 <= low < high <= 1 or sites < 1:
        raise DataError(
            "mixed_sites: a range of shares and a number of sites",
            found=f"{low} to {high}, {sites} sites",
            way_out="0 <= lowest < highest <= 1, at least 1 site",
        )
    found, told = [], []
    for share in rng.uniform(low, high, sites):
        rows = drawn_with_share(attacked, share, size, rng)
        found.append(np.asarray(update(rows, int(rng.integers(2**31)))))
        told.append(round(share * size) / size)
    if any(one.ndim != 1 or one.shape != found[0].shape for one in found):
        raise DataError("mixed_sites: updates differ in shape", found=found[-1].shape, way_out="[d] each")
    return MixedSites(np.stack(found).astype(np.float64), np.array(told))


def class_mix_audit(shadows: MixedSites, targets: MixedSites, rng: np.random.Generator) -> ClassMixAudit:
    """Learn the share from the shadow sites' updates by ridge regression, and tell the targets'.

    At least ten of either. rng draws the bootstrap over targets. Raises DataError where they do not fit.
    """
    for name, given in (("shadow sites", shadows), ("targets", targets)):
        updates, shares = given
        fits = updates.ndim == 2 and shares.shape == updates.shape[:1] and len(shares) >= _LEAST
        fits = fits and updates.shape[1] == shadows.updates.shape[-1]
        if not fits or not (np.isfinite(updates).all() and ((shares >= 0) & (shares <= 1)).all()):
            raise DataError(
                f"class_mix_audit: {name} need an update and a share each",
                found=f"updates {updates.shape}, shares {shares.shape}",
                way_out=f"[S, d] of one d, finite, and [S] in 0 .. 1, at least {_LEAST}",
            )
    regression = make_pipeline(StandardScaler(), RidgeCV(alphas=_PENALTIES))
    regression.fit(shadows.updates, shadows.shares)
    said = np.clip(regression.predict(targets.updates), 0, 1)
    own = np.square(said - targets.shares)
    floor = np.square(shadows.shares.mean() - targets.shares)
    if floor.mean() <= 0:
        raise DataError(
            "class_mix_audit: all targets have the mean share",
            found=targets.shares[0],
            way_out="several mixes",
        )
    rows = rng.integers(len(own), size=(_REPLICATES, len(own)))
    drawn = np.sqrt(own[rows].mean(axis=1) / np.maximum(floor[rows].mean(axis=1), 1e-12))
    low, high = np.quantile(drawn, [0.025, 0.975])
    error, least = float(np.sqrt(own.mean())), float(np.sqrt(floor.mean()))
    return ClassMixAudit(
        error=error, floor=least, ratio=Interval(error / least, float(low), float(high)), targets=len(own)
    )
