"""What is done to training streams before a model sees them: noise, hidden features, campaigns, patches.

All of it is traceable and happens inside a hospital. Made-up campaigns come in two kinds: `disturb` moves
features at random, `compose` lays pieces of what known attacks changed over quiet steps.

Shapes: U units of a device, B sequences of a batch, L steps of a stream, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lazaretto.types import Array, Part

__all__ = [
    "Pieces",
    "compose",
    "disturb",
    "disturb_values",
    "hide_modality",
    "jitter",
    "patch",
    "pieces_of",
    "settled_values",
]

_WEAKEST = 0.03  # of a piece's size; the strongest is 1
_PIECES = 2  # that are added up in one campaign
_FEWEST_QUIET_STEPS = 8  # that a unit's own level is taken from
_ATTACKED_SHARE = 0.6  # of streams that get a campaign
_SHORTEST_PATCH = 4  # steps
_FARTHEST = 6.0  # scaled values are bounded by it


class Pieces(NamedTuple):
    """Where a device finds pieces of campaigns: x [U, L, F]; quiet [U, F], each unit's own level;
    running [U * L], how many steps up to each (in order) are attacked, or usable where none is.
    """

    x: Array
    quiet: Array
    running: Array


def pieces_of(x: Array, y: Array, weight: Array) -> Pieces:
    """What one device can make campaigns from: x [U, L, F], y [U, L] classes, weight [U, L] (0 pads).

    A piece is how an attacked step differs from the mean of the same unit's quiet steps; a unit with fewer
    than eight of those gives none. A device that knows no attack uses its quiet steps instead.
    """
    calm = (weight > 0) & (y == 0)
    level = jnp.einsum("ul,ulf->uf", calm.astype(x.dtype), x)
    quiet = level / jnp.maximum(calm.sum(axis=1), 1)[:, None]
    usable = (weight > 0) & (calm.sum(axis=1) >= _FEWEST_QUIET_STEPS)[:, None]
    attacked = usable & (y != 0)
    source = jnp.where(attacked.any(), attacked, usable)
    return Pieces(x, quiet, jnp.cumsum(source.ravel().astype(jnp.float32)))


def compose(x: Array, y: Array, weight: Array, pieces: Pieces, key: Array) -> tuple[Array, Array]:
    """Lay made-up campaigns over streams: x [B, L, F], y [B, L], weight [B, L] -> x, and made [B, L] bool.

    In six streams of ten a campaign is under way from a random onset to a random end (a tenth to seven
    tenths of the stream; it may begin before the stream or end after it), steady, rising, or coming and
    going. What it changes is the sum of two pieces (`pieces_of`), each of random size and on a random subset
    of the features, the same all along. So no campaign is one that was seen, and yet features move as
    attacks move them. Real attacks in x stay where they are; the caller leaves those steps out of the loss.
    A step is `made` from onset to end, pauses included. A device without usable steps gets no campaigns.

    In the spirit of mixing parts of examples (CutMix: Yun et al. 2019, arXiv:1905.04899) and of made-up
    outliers (Hendrycks et al. 2019, arXiv:1812.04606).
    """
    lead, steps, features = x.shape[0], x.shape[1], x.shape[2]
    shape_key, hit_key, *piece_keys = jax.random.split(key, 2 + _PIECES)
    under_way, height = _shape(shape_key, lead, steps)
    known = pieces.running[-1]
    hit = (jax.random.uniform(hit_key, (lead, 1)) < _ATTACKED_SHARE) & (known > 0)
    change = jnp.zeros((lead, features))
    for one in piece_keys:
        keys = jax.random.split(one, 4)
        place = jnp.searchsorted(pieces.running, jax.random.uniform(keys[0], (lead,)) * known, side="right")
        place = jnp.minimum(place, pieces.running.shape[0] - 1)
        unit, step = place // pieces.x.shape[1], place % pieces.x.shape[1]
        size = jnp.exp(jax.random.uniform(keys[1], (lead, 1), minval=jnp.log(_WEAKEST), maxval=0.0))
        share = jax.random.uniform(keys[2], (lead, 1), minval=0.2, maxval=0.9)
        kept = jax.random.uniform(keys[3], (lead, features)) < share
        change = change + size * kept * (pieces.x[unit, step] - pieces.quiet[unit])
    made = under_way & hit & (weight > 0) & (y == 0)
    rough = 1.0 + 0.2 * jax.random.normal(jax.random.fold_in(key, 1), x.shape)
    return x + (height * hit)[..., None] * change[:, None, :] * rough, made


def _shape(key: Array, lead: int, steps: int) -> tuple[Array, Array]:
    """Under way or not [B, L], and how high [B, L] >= 0, about 1 at most."""
    keys = jax.random.split(key, 6)
    column = (lead, 1)
    lasting = steps * jnp.exp(jax.random.uniform(keys[0], column, minval=jnp.log(0.1), maxval=jnp.log(0.7)))
    begin = jax.random.uniform(keys[1], column) * (steps + lasting - 1) - lasting + 1
    since = jnp.arange(steps) - begin
    under_way = (since >= 0) & (since < lasting)
    rising = 0.1 + 0.9 * jnp.clip(since / lasting, 0.0, 1.0)
    period = jax.random.uniform(keys[2], column, minval=4.0, maxval=14.0)
    busy = jax.random.uniform(keys[3], column, minval=0.3, maxval=0.7)
    in_turns = (since % period < busy * period).astype(jnp.float32)
    kind = jax.random.randint(keys[4], column, 0, 3)
    height = jnp.where(kind == 0, 1.0, jnp.where(kind == 1, rising, in_turns))
    return under_way, height * under_way * jnp.exp(0.2 * jax.random.normal(keys[5], height.shape))


def disturb(x: Array, y: Array, weight: Array, key: Array, share: float) -> tuple[Array, Array]:
    """Lay made-up campaigns over some quiet streams, so that the model learns "unlike its own past".

    x [..., L, F] scaled features, y [..., L], weight [..., L]. In about `share` of the streams that
    carry no attack, a random subset of features moves by a random amount from a random onset to a
    random end, steadily or rising. Returns x and y, where moved steps have y = -1 (anomalous, kind
    unknown). Outlier exposure (Hendrycks et al. 2019, arXiv:1812.04606) without another data set.
    """
    keys = jax.random.split(key, 8)
    lead, steps, features = x.shape[:-2], x.shape[-2], x.shape[-1]
    chosen = jax.random.bernoulli(keys[0], share, lead) & (y == 0).all(axis=-1)
    onset = jax.random.uniform(keys[1], lead, minval=0.05, maxval=0.85) * steps
    lasting = jax.random.uniform(keys[2], lead, minval=0.1, maxval=0.6) * steps
    density = jax.random.uniform(keys[3], (*lead, 1), minval=0.02, maxval=0.6)
    which = jax.random.bernoulli(keys[4], density, (*lead, features))
    size = jnp.exp(jax.random.uniform(keys[5], (*lead, 1), minval=jnp.log(0.1), maxval=jnp.log(2.0)))
    shift = size * jax.random.normal(keys[6], (*lead, features)) * which
    since = jnp.arange(steps) - onset[..., None]  # [..., L]
    under_way = (since >= 0) & (since < lasting[..., None]) & (chosen & which.any(axis=-1))[..., None]
    rising = jax.random.bernoulli(keys[7], 0.5, lead)[..., None]
    height = jnp.where(rising, jnp.clip((since + 1) / lasting[..., None], 0.0, 1.0), 1.0) * under_way
    return x + height[..., None] * shift[..., None, :], jnp.where(under_way & (weight > 0), -1, y)


def jitter(
    x: Array,
    key: Array,
    level_noise: float,
    step_noise: float,
    feature_dropout: float,
    layout: Sequence[Part] = (),
) -> Array:
    """x [..., L, F] with an offset per stream and feature, noise per step, and some features hidden.

    A hidden feature stays at 0 (its median over all sites) for the whole stream, so an attack must be
    recognised by any subset of what it changes. Each stream hides its own share, uniform up to the largest.
    layout: of modalities; then only measured values get noise, what was carried on is carried on with it,
    what is not there stays so, and a hidden variable was never measured (time since: 0, as at the begin).
    """
    keys = jax.random.split(key, 4)
    lead = x.shape[:-2]
    columns, owner = _variables(layout) if layout else (np.arange(x.shape[-1]),) * 2
    values, features = x[..., columns], len(columns)
    offset = level_noise * jax.random.normal(keys[0], (*lead, 1, features))
    noisy = values + offset + step_noise * jax.random.normal(keys[1], values.shape)
    share = jax.random.uniform(keys[2], (*lead, 1, 1), maxval=max(feature_dropout, 1e-6))
    kept = jax.random.uniform(keys[3], (*lead, 1, features)) >= share
    if not layout:
        return noisy * kept
    read = settled_values(x.at[..., columns].set(noisy), layout)
    return jnp.concatenate([read[..., : len(owner)] * kept[..., owner], x[..., len(owner) :]], axis=-1)


def patch(x: Array, y: Array, weight: Array, key: Array, share: float, layout: Sequence[Part] = ()) -> Array:
    """x [..., L, F] where in about `share` of the streams attacked steps have some features overwritten.

    y, weight [..., L]; labels stay. Half of the pieces of such a stream, four steps or more save at its ends,
    get constants in a random subset of the features, the same all along the stream: one feature, and each
    other with a chance that is the stream's own, up to a half. The constants are drawn from all that scaled
    features can be (± 6), in half of the streams one for all. So a few features learn less well to make an
    attack look normal, which is what a backdoor's trigger needs (`lazaretto.attack.backdoor`): where some
    sites teach that one does, the others teach that none does, without knowing which it is. No guarantee.
    layout: of modalities; then values alone are overwritten, also where none was measured, since who puts a
    trigger on need not keep to that. 0 stays in a modality that is not there.

    In the spirit of Borgnia et al. 2021, arXiv:2011.09527 (strong augmentation against backdoors).
    """
    columns = _variables(layout)[0] if layout else np.arange(x.shape[-1])
    keys = jax.random.split(key, 9)
    lead, steps, features = x.shape[:-2], x.shape[-2], len(columns)
    chosen = jax.random.bernoulli(keys[0], share, lead)
    shortest, whole = jnp.log(float(min(_SHORTEST_PATCH, steps))), jnp.log(float(steps))
    length = jnp.exp(jax.random.uniform(keys[1], (*lead, 1), minval=shortest, maxval=whole))
    piece = (jnp.arange(steps) + jax.random.uniform(keys[2], (*lead, 1)) * length) // length
    drawn = jax.random.bernoulli(keys[3], 0.5, (*lead, steps + 1))
    hit = jnp.take_along_axis(drawn, piece.astype(jnp.int32), axis=-1)
    where = hit & chosen[..., None] & (y != 0) & (weight > 0)
    least = jnp.log(1 / features)
    density = jnp.exp(jax.random.uniform(keys[4], (*lead, 1), minval=least, maxval=jnp.log(0.5)))
    which = jax.random.bernoulli(keys[5], density, (*lead, features))
    which = which | (jax.random.randint(keys[6], (*lead, 1), 0, features) == jnp.arange(features))
    value = jax.random.uniform(keys[7], (*lead, features), minval=-_FARTHEST, maxval=_FARTHEST)
    value = jnp.where(jax.random.bernoulli(keys[8], 0.5, (*lead, 1)), value, value[..., :1])
    values = x[..., columns]
    new = jnp.where(where[..., None] & which[..., None, :], value[..., None, :], values)
    if len(layout) > 1:
        there = np.repeat(np.arange(len(layout)), [part.values - part.begin for part in layout])
        new = new * x[..., layout[-1].end + there]
    return x.at[..., columns].set(new) if layout else new


def _variables(layout: Sequence[Part]) -> tuple[Any, Any]:
    """Columns of measured values, [V], and for every column but those of presence whose variable it is."""
    columns = np.concatenate([np.arange(part.begin, part.values) for part in layout])
    first, owner = 0, []
    for part in layout:
        width = part.values - part.begin
        owner.append(first + np.arange(part.end - part.begin) % width)
        first += width
    return columns, np.concatenate(owner)


def settled_values(x: Array, layout: Sequence[Part]) -> Array:
    """x [..., L, F] whose values were changed, made such as could have been read.

    Values of a modality that is not there are 0; in an irregular one a value that was not measured is the
    last measured one, 0 before the first.
    """
    several, steps = len(layout) > 1, jnp.arange(x.shape[-2])[:, None]
    for at, part in enumerate(layout):
        values = x[..., part.begin : part.values]
        if part.end > part.values:
            measured = x[..., part.values : 2 * part.values - part.begin] > 0
            newest = jax.lax.cummax(jnp.where(measured, steps, -1), axis=x.ndim - 2)
            carried = jnp.take_along_axis(values, jnp.maximum(newest, 0), axis=-2)
            values = jnp.where(newest >= 0, carried, 0.0)
        if several:
            values = values * x[..., layout[-1].end + at, None]
        x = x.at[..., part.begin : part.values].set(values)
    return x


def disturb_values(
    x: Array, y: Array, weight: Array, key: Array, share: float, layout: Sequence[Part] = ()
) -> tuple[Array, Array]:
    """`disturb` of measured values alone; a step in which nothing moved keeps its label."""
    if not layout:
        return disturb(x, y, weight, key, share)
    columns, _ = _variables(layout)
    moved, labels = disturb(x[..., columns], y, weight, key, share)
    new = settled_values(x.at[..., columns].set(moved), layout)
    return new, jnp.where((new != x).any(axis=-1), labels, y)


def hide_modality(x: Array, key: Array, share: float, layout: Sequence[Part]) -> Array:
    """x [..., L, F] where about `share` of the streams have lost one of their modalities, chosen at random.

    Its columns are 0, and so is the one that says whether it is there. A stream that has but one keeps it.
    """
    count, lead = len(layout), x.shape[:-2]
    first, second = jax.random.split(key)
    there = x[..., -count:] > 0
    several = there.any(axis=-2).all(axis=-1)
    chosen = jax.random.bernoulli(first, share, lead) & several
    lost = jax.nn.one_hot(jax.random.randint(second, lead, 0, count), count) * chosen[..., None]
    owner = np.concatenate([np.full(part.end - part.begin, at) for at, part in enumerate(layout)])
    owner = np.concatenate([owner, np.arange(count)])
    return x * (1.0 - lost[..., owner])[..., None, :]
