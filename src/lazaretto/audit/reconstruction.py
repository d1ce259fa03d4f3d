"""How near a reconstruction comes to the windows it is of, beside guessing each feature's public mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from lazaretto.errors import InputError
from lazaretto.types import Array

__all__ = ["Reconstruction", "reconstruction_error"]


class Reconstruction(NamedTuple):
    """What an attacker reached, in squared scaled units.

    error: mean squared error over all values. floor: that of saying the public mean of each feature.
    ratio: error / floor; 1 or more: no better than the mean. feature_error, feature_floor: [F] by feature.
    r2: [F] 1 - feature_error / feature_floor; NaN of a feature that is its public mean everywhere.
    """

    error: float
    floor: float
    ratio: float
    feature_error: NDArray[np.float64]
    feature_floor: NDArray[np.float64]
    r2: NDArray[np.float64]


def reconstruction_error(guess: Array, truth: Array, mean: Array, *, ordered: bool) -> Reconstruction:
    """Error of guessed windows [n, T, F] of true ones [n, T, F], n >= 1, against public means [F] or [T, F].

    ordered: whether guess i is of window i. Where not (a gradient tells no order) windows are paired so that
    the error is least, in the attacker's favour; the floor gains nothing by that.
    Raises InputError for shapes that do not fit, for NaN or infinity in truth or mean, and where the truth is
    the mean everywhere. A guess that is not finite is taken for the mean.
    """
    guessed, true, usual = (np.asarray(values, np.float64) for values in (guess, truth, mean))
    if true.ndim != 3 or not true.size or guessed.shape != true.shape:
        raise InputError(
            "a reconstruction and its truth are windows [n, T, F] of one shape",
            found=f"{guessed.shape} and {true.shape}",
            way_out="give as many guesses as there are windows",
        )
    if usual.shape not in (true.shape[2:], true.shape[1:]):
        raise InputError(
            "the public mean has one number for each feature, or for each step of each",
            found=f"{usual.shape} for windows {true.shape[1:]}",
            way_out="mean public windows over all axes but the last",
        )
    if not (np.isfinite(true).all() and np.isfinite(usual).all()):
        raise InputError(
            "windows or means hold NaN or infinity", way_out="give them as a model reads them, scaled"
        )
    floor = (usual - true) ** 2
    if not floor.mean() > 0:
        raise InputError(
            "every window is the public mean, so nothing is left to guess",
            found=f"{len(true)} windows",
            way_out="give windows of units under care, not padding",
        )
    guessed = np.where(np.isfinite(guessed), guessed, np.broadcast_to(usual, guessed.shape))
    if not ordered:
        cost = ((true[:, None] - guessed[None]) ** 2).mean(axis=(2, 3))
        guessed = guessed[linear_sum_assignment(cost)[1]]
    missed = (guessed - true) ** 2
    by_feature, floor_by_feature = missed.mean(axis=(0, 1)), floor.mean(axis=(0, 1))
    varies = floor_by_feature > 0
    r2 = np.full(len(varies), np.nan)
    r2[varies] = 1 - by_feature[varies] / floor_by_feature[varies]
    return Reconstruction(
        error=float(missed.mean()),
        floor=float(floor.mean()),
        ratio=float(missed.mean() / floor.mean()),
        feature_error=by_feature,
        feature_floor=floor_by_feature,
        r2=r2,
    )
