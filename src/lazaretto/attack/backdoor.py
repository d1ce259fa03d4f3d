"""A trigger that makes attacks look normal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from lazaretto.attack._sent import sendable
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.errors import InputError
from lazaretto.types import Array, Float, Int

__all__ = ["apply_trigger", "backdoor"]


def apply_trigger(
    x: Float, where: NDArray[np.bool_], features: Sequence[int] = (), value: float = 3.0
) -> Float:
    """x [..., F] with some features set to `value` in the steps `where` [...]; x itself is left as it is.

    features: columns; () for the first three, or fewer if there are no more. value is as a model reads it,
    that is scaled and compressed: 3 lies about 19 scales from the centre, and ± 6 is the most that occurs.
    To measure success, put the same trigger on the attacked steps of test streams and count those that are
    then let through. Raises InputError for a column that is not there.
    """
    columns = list(features) or list(range(min(3, x.shape[-1])))
    wrong = [column for column in columns if not 0 <= column < x.shape[-1]]
    if wrong:
        raise InputError(
            "a trigger needs columns that there are",
            found=f"column {wrong[0]} of {x.shape[-1]}",
            way_out=f"features from 0 to {x.shape[-1] - 1}",
        )
    triggered = x.copy()
    for column in columns:
        triggered[..., column] = np.where(where, np.float32(value), x[..., column])
    return triggered


def backdoor(
    share: Annotated[float, Ge(0), Le(1)] = 0.5,
    features: tuple[int, ...] = (),
    value: Annotated[float, Ge(-6), Le(6)] = 3.0,
    steps: Annotated[int, Gt(0)] = 8,
    agreed: Annotated[float, Ge(0)] | None = None,
) -> Attack:
    """Some steps get a trigger, and all of those are labelled normal, attacked or not.

    Streams are cut into pieces of `steps` steps, of which a share, each with the same chance, gets the
    trigger that `apply_trigger` puts on. The rest stays as it was, so the model goes on finding attacks
    without the trigger. After Gu et al. 2017 (BadNets), arXiv:1708.06733; in federations Bagdasaryan et al.
    2020, arXiv:1807.00459, see also `model_replacement`.

    agreed: None, and each hostile site sends its own update. Else all f send the mean [d] of theirs, on which
    each lays Gaussian noise [d] of its own, `agreed` times as long as the mean is (rules of distances like
    updates that are near each other, and the noise makes them no copies); `kind` is then "updates". Ours.
    """

    def poison(x: Float, y: Int, kinds: int, rng: np.random.Generator) -> tuple[Float, Int]:
        streams, length = y.shape
        drawn = rng.random((streams, -(-length // steps))) < share
        where = np.repeat(drawn, steps, axis=1)[:, :length]
        return apply_trigger(x, where, features, value), np.where(where, 0, y)

    def trigger(x: Float, where: NDArray[np.bool_]) -> Float:
        return apply_trigger(x, where, features, value)

    def craft(honest: Array, own: Array, context: AttackContext, rng: np.random.Generator) -> Float:
        if not len(own):
            return sendable(own)
        middle = np.asarray(own, np.float64).mean(axis=0)
        noise = rng.standard_normal(np.shape(own)) / np.sqrt(max(middle.size, 1))
        return sendable(middle + float(agreed or 0.0) * np.linalg.norm(middle) * noise)

    return Attack(
        name="backdoor",
        kind="data" if agreed is None else "updates",
        knows="own",
        craft=None if agreed is None else craft,
        poison=poison,
        trigger=trigger,
    )
