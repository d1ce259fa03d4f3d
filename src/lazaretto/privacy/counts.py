"""Counts that a site sends once: each example's part clipped, their sum noised (the Gaussian mechanism).

Scaling, thresholds and calibration come from such counts. What is done with them afterwards costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from dp_accounting import DpEvent, GaussianDpEvent, NonPrivateDpEvent
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import binary_propagation

from lazaretto.errors import InputError
from lazaretto.privacy.mechanism import Unit

__all__ = [
    "CLEAR",
    "GRAINS",
    "CountNoise",
    "Normals",
    "count_event",
    "histograms",
    "kept_counts",
    "noisy_counts",
]

Normals: TypeAlias = Callable[[int], NDArray[np.float64]]  # number -> so many new standard normals

GRAINS = 16  # whole numbers of these make one example: what is finer is rounded away, after the noise
CLEAR = 4.0  # standard deviations: of noise alone one cell in 30,000 is above
_BESIDE = 2.0  # of a cell next to one that is there; of noise alone one in 44 is above


@dataclass(frozen=True, slots=True, kw_only=True)
class CountNoise:
    """How the counts of a site are made private. Neighbours differ by one example, in or out.

    unit: "record": an example is one window of a stream; "patient": a whole stream.
    noise_multiplier: standard deviation of the noise, divided by the clip; at least 0, where 0 protects
        nobody.
    clip: in (0, 1], largest length of what one example counts in one histogram, as the root of the mean
        square over histograms; 1 never clips.
    normals: (what is counted, number of the site) -> its source of normal numbers.
    among: at least 1, honest sites that share the noise: each adds it divided by the root of that, and it is
        whole in a sum over so many of them, which nobody sees the parts of. Raises InputError.
    """

    unit: Unit
    noise_multiplier: float
    normals: Callable[[str, int], Normals]
    clip: float = 0.5
    among: int = 1

    def __post_init__(self) -> None:
        if self.unit not in ("record", "patient"):
            raise InputError("counts protect no such unit", found=self.unit, way_out="record or patient")
        if not 0 <= self.noise_multiplier < np.inf:
            raise InputError(
                "the noise of counts is out of range",
                found=self.noise_multiplier,
                way_out="a noise multiplier of 0 or more",
            )
        if not 0 < self.clip <= 1:
            raise InputError("the clip of counts is out of range", found=self.clip, way_out="0 < clip <= 1")
        if self.among < 1:
            raise InputError("nobody adds the noise of counts", found=self.among, way_out="one site or more")

    @property
    def of_a_site(self) -> float:
        """Noise multiplier of what one site adds."""
        return self.noise_multiplier / float(np.sqrt(self.among))

    def length(self, histograms: int) -> float:
        """Largest Euclidean length of an example's part in that many histograms together."""
        return self.clip * float(np.sqrt(histograms))

    def deviation(self, histograms: int, sites: int) -> float:
        """Standard deviation of the noise in each cell of the sum over sites, in grains."""
        return GRAINS * self.of_a_site * self.length(histograms) * float(np.sqrt(sites))


def histograms(cells: NDArray[np.int64], weight: NDArray[np.float64], size: int) -> sparse.csr_array:
    """[n, size] what each of n examples counts: weight [n, m] laid on cells [n, m] of 0..size - 1.

    Weight 0 counts nothing. Raises InputError for a cell or a weight that cannot be.
    """
    if cells.shape != weight.shape or cells.ndim != 2:
        raise InputError("cells and weights are not of one shape [n, m]", found=(cells.shape, weight.shape))
    if cells.size and (cells.min() < 0 or cells.max() >= size):
        raise InputError(
            "a cell is outside its histogram",
            found=(int(cells.min()), int(cells.max())),
            way_out=f"0 to {size - 1}",
        )
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise InputError("weights must be finite and not below 0", found=weight)
    row, place = np.nonzero(weight)
    laid = sparse.coo_array((weight[row, place], (row, cells[row, place])), shape=(len(cells), size))
    found = sparse.csr_array(laid)
    found.sum_duplicates()
    return found


def noisy_counts(
    contributions: Any, clip: float, noise_multiplier: float, normals: Normals
) -> NDArray[np.int64]:
    """[k] the sum of contributions [n, k] (an array, dense or sparse), clipped and noised, in `GRAINS`.

    Each row is scaled to a Euclidean length of `clip` > 0 at most. The noise is independent in each cell, of
    standard deviation noise_multiplier * clip. So one row more or less moves the sum by at most `clip`, and
    the result costs what `count_event` says. Rounded to whole grains after the noise, so that the last bits
    of a floating-point number tell nothing (Mironov 2012, https://doi.org/10.1145/2382196.2382264). n may
    be 0.
    Raises InputError for what is not finite or out of range.
    """
    if not (0 < clip < np.inf and 0 <= noise_multiplier < np.inf):
        raise InputError(
            "clip or noise of counts is out of range",
            found=(clip, noise_multiplier),
            way_out="clip > 0 and noise_multiplier >= 0",
        )
    rows = sparse.csr_array(contributions, dtype=np.float64)
    if not np.isfinite(rows.data).all():
        raise InputError("contributions must be finite", way_out="leave out what was not measured")
    total = _clipped_sum(rows, clip)
    if noise_multiplier:
        total = total + noise_multiplier * clip * normals(len(total))
    return np.rint(GRAINS * total).astype(np.int64)


def _clipped_sum(rows: sparse.csr_array, clip: float) -> NDArray[np.float64]:
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return np.asarray(np.minimum(1.0, clip / np.maximum(lengths, clip)) @ rows, np.float64).ravel()


def kept_counts(counts: NDArray[np.int64], deviation: float) -> NDArray[np.int64]:
    """Noisy counts [m, k] without what may be noise: the others are 0.

    deviation: of a cell's noise, in the unit of the counts. Kept are cells of four deviations, and those of
    two that are joined to one by such: values lie side by side, and rows have thousands of cells of which at
    three deviations some would be noise, far from all values. Where a row would keep nothing its largest cell
    is kept, if it is above 0: noise or not, it is the best that is known.
    """
    clear, beside = (counts >= max(times * deviation, 1) for times in (CLEAR, _BESIDE))
    along = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]], bool)
    kept = np.where(binary_propagation(clear, structure=along, mask=beside), counts, 0)
    none = np.flatnonzero(~kept.any(axis=1))
    best = counts[none].argmax(axis=1)
    kept[none, best] = np.maximum(counts[none, best], 0)
    return np.asarray(kept, np.int64)


def count_event(noise_multiplier: float) -> DpEvent:
    """What `noisy_counts` cost one example, for `dp_accounting`."""
    return GaussianDpEvent(noise_multiplier) if noise_multiplier > 0 else NonPrivateDpEvent()
