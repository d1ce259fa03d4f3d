"""A run attacks itself: what an attacker of each kind reaches on this run's model, data and mechanism.

Each audit is a function from `Audited` to the body of a run log's record `audit`, or None where it has
nothing to attack. They train models of their own on the run's data, and what a record says is an exact
figure of that data: no mechanism covers it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpy.typing import NDArray

from lazaretto.audit.canary import canary_audit, canary_directions, gradient_scores, included_by_coins
from lazaretto.audit.class_mix import class_mix_audit, mixed_sites
from lazaretto.audit.membership import attack, lira_scores, loss_threshold_scores, membership_audit
from lazaretto.audit.shadow_training import Round, private_shadow_round, shadow_trainer
from lazaretto.cut import Cut
from lazaretto.dp_local import clipped_sum, private_training
from lazaretto.errors import DataError
from lazaretto.keys import generator, jax_key
from lazaretto.local import LocalTraining, SiteData, local_start, make_site_round
from lazaretto.parameters import parameter_count, unravel_of
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.run.audited import Audited, Found, of_one_update, said
from lazaretto.run.audits_rebuilt import activation_inversion, gradient_inversion, hijacking
from lazaretto.run.private import PrivateSites, Promise
from lazaretto.types import TRAIN

__all__ = ["AUDITS", "canaries", "class_mix", "membership", "run_audits"]

_CANARIES, _MOST_STEPS = 400, 3000
_LOUD = 8.0  # times the clip: length of a canary's gradient, so that a clip that is not there shows
_RECORDS, _SHADOWS = 2000, 8
_SITES_OF_A_MIX, _SIZE_OF_A_MIX = 40, 60
_PASSES = 20  # of shadow models at most: memory of records grows with passes, and so does the time


def canaries(audited: Audited) -> Found | None:
    """Examples made up to be noticed, put in by coins: do a run's sampling, clip and noise hide which?

    Their gradients are far longer than the clip, and pass through the sum that training uses.
    """
    made, epsilon = audited.mechanism, audited.epsilon
    if made is None or made.unit == "site" or epsilon is None or not math.isfinite(epsilon):
        return None
    size = parameter_count(audited.model, audited.data.x.shape[2], audited.kinds)
    rng = generator(audited.seed, "canaries")
    steps = made.steps * audited.rounds
    if steps > _MOST_STEPS:
        raise DataError(
            "too many steps to play them again with canaries", found=steps, way_out=f"at most {_MOST_STEPS}"
        )
    included = included_by_coins(_CANARIES, rng)
    directions = canary_directions(_CANARIES, size, 1.0, rng)
    weight = np.ones((1, 1, _CANARIES, audited.data.window), np.float32)
    place = SiteData(weight, weight, weight, np.array([_CANARIES], np.int32), np.ones((1, 2)))
    alone = replace(made, unit="record", clip=1.0, quantile=None)
    sites = PrivateSites(Promise(alone, "seed", "canary audit"), place, audited.data.window, size)
    loud, inside = jnp.asarray(_LOUD * directions, jnp.float32), jnp.asarray(included)

    @jax.jit
    def noisy_sum(loud: Any, rows: Any, count: Any, noise: Any, clip: Any, grid: Any) -> Any:
        real = (jnp.arange(len(rows)) < count) & inside[rows]
        total, _ = clipped_sum(lambda scale, own: scale * own, jnp.ones(()), loud[rows], real, clip)
        return jnp.round((total + noise) / grid) * grid

    def seen() -> Any:
        for number in range(audited.rounds):
            drawn = sites.draw(audited.seed, number, [0])
            for step in range(made.steps):
                mine = (one[0, step] for one in (drawn.rows, drawn.count, drawn.noise))
                yield noisy_sum(loud, *mine, drawn.clip[0], drawn.grid[0]), directions

    found = canary_audit(
        included, gradient_scores(seen()), rng, epsilon=epsilon, delta=audited.delta, gaussian=True
    )
    return said(
        "canaries",
        "epsilon that the run has at least, at 95 %",
        found.epsilon_lower,
        f"{found.correct} of {found.guesses} guesses about who of {found.canaries} made-up examples was in "
        "were right, by an observer of every noisy sum who knows all others; they pass through the clip and "
        f"the noise of training{', all of it at one site' * audited.distributed}"
        + ("" if found.able else "; so few cannot refute this claim"),
        claimed_epsilon=epsilon,
        floor=0.0,
        floor_words="an epsilon of 0: nothing learned",
    )


def _plain(made: Mechanism | None) -> bool:
    """Whether shadow models can be trained so: without a mechanism, or by plain DP-SGD of records."""
    return made is None or (made.unit, made.sampling, made.quantile) == ("record", "poisson", None)


def _site_training(audited: Audited) -> LocalTraining:
    return replace(audited.training, novelty_weight=1.0, class_balance=0.0)


def membership(audited: Audited) -> Found | None:
    """Whether a window was trained on, by the likelihood ratios of shadow models."""
    if audited.model.head is not None or audited.model.novelty is not None or audited.model.loss is not None:
        return None
    made = audited.mechanism
    if not _plain(made):
        return None
    windows = audited.windows(TRAIN, _RECORDS)
    rounds = audited.rounds if made is not None else max(1, min(audited.rounds, _PASSES))
    given = (windows.x, windows.y, windows.judged.astype(np.float32))
    judged = windows.judged.any(axis=1)
    given = (given[0][judged], given[1][judged], given[2][judged])
    training, one_round = _site_training(audited), None
    if made is not None:
        training = private_training(training)
        one_round = _private_round(audited, training, made)
    train = shadow_trainer(
        audited.model,
        training,
        given,
        kinds=audited.kinds,
        rounds=rounds,
        learning_rate=audited.learning_rate,
        one_round=one_round,
        first=audited.first,
    )
    rng = generator(audited.seed, "membership")
    shadows = attack(train, len(given[0]), _SHADOWS, rng)
    tried = {
        f"LiRA with {_SHADOWS} shadow models": lira_scores(*shadows),
        "its loss alone": loss_threshold_scores(shadows.losses),
    }
    each = {how: membership_audit(scores, shadows.member[0], rng) for how, scores in tried.items()}
    best = max(each, key=lambda how: each[how].true_positives[0.01].value)
    found = each[best]
    value, low, high = found.true_positives[0.01]
    return said(
        "membership",
        "share of the members named at 1 % false positives",
        value,
        f"by {best}, the better of two, on a site of {found.members} windows trained as in this run, among "
        f"as many that were not in; AUROC {found.auroc.value:.3f}"
        + ("" if found.enough else "; too few windows to be sure"),
        low=low,
        high=high,
        floor=0.01,
        floor_words="guessing",
    )


def _private_round(audited: Audited, training: LocalTraining, made: Mechanism) -> Round:
    return private_shadow_round(
        audited.model,
        training,
        made,
        features=audited.data.x.shape[2],
        kinds=audited.kinds,
        learning_rate=audited.learning_rate,
    )


def class_mix(audited: Audited) -> Found | None:
    """What share of a site's windows is attacked, read from its first update."""
    made = audited.mechanism
    if audited.model.novelty is not None or not _plain(made):
        return None
    windows = audited.windows(TRAIN, 8 * _RECORDS)
    attacked = np.asarray((windows.judged & (windows.y > 0)).any(axis=1))
    unravel = unravel_of(audited.model, windows.x.shape[2], audited.kinds)
    training = replace(_site_training(audited), local_epochs=1.0)
    quiet = private_training(training)
    open_round = jax.jit(make_site_round(audited.model, Cut(bits=32), training, unravel))
    private = None if made is None else _private_round(audited, training, made)
    start = ravel_pytree(audited.first_params())[0]

    def update(rows: NDArray[np.int64], seed: int) -> Any:
        data = SiteData(
            x=jnp.asarray(windows.x[rows][None]),
            y=jnp.asarray(windows.y[rows][None], jnp.int32),
            weight=jnp.asarray(windows.judged[rows][None], jnp.float32),
            units=jnp.asarray(len(rows), jnp.int32),
            class_weight=jnp.ones(audited.kinds + 2),
        )
        if private is not None:
            return private(local_start(audited.model, quiet, start, unravel, 1), data, seed).vector - start
        state = local_start(audited.model, training, start, unravel, 1)
        return open_round(state, data, jax_key(seed, "mixed site"), audited.learning_rate)[0].vector - start

    rng = generator(audited.seed, "class mix")
    half = np.asarray(rng.permutation(len(attacked)) < len(attacked) // 2)
    most = 0.9 * min(float(attacked[own].sum()) for own in (half, ~half)) / _SIZE_OF_A_MIX
    if most < 0.1 or min(half.sum(), (~half).sum()) < 2 * _SIZE_OF_A_MIX:
        return None
    found = []
    for own, sites in ((half, _SITES_OF_A_MIX), (~half, _SITES_OF_A_MIX // 2)):
        rows = np.flatnonzero(own)
        found.append(
            mixed_sites(
                lambda at, seed, rows=rows: update(rows[at], seed),  # type: ignore[misc]
                attacked[rows],
                sites,
                _SIZE_OF_A_MIX,
                (0.0, min(0.8, most)),
                rng,
            )
        )
    told = class_mix_audit(found[0], found[1], rng)
    return said(
        "class mix",
        "error of the share of attacked windows at a site, by that of always saying the mean",
        told.ratio.value,
        f"from the first updates of {told.targets} sites of {_SIZE_OF_A_MIX} windows: {told.error:.3f} off "
        f"on average, the mean {told.floor:.3f}{of_one_update(audited)}",
        low=told.ratio.low,
        high=told.ratio.high,
        floor=1.0,
        floor_words="saying the mean of sites that the attacker knows",
    )


AUDITS: Mapping[str, Callable[[Audited], Found | None]] = MappingProxyType(
    {
        "canaries": canaries,
        "membership": membership,
        "class mix": class_mix,
        "gradient inversion": gradient_inversion,
        "activation inversion": activation_inversion,
        "hijacking": hijacking,
    }
)


def run_audits(audited: Audited, show: Callable[[str, Mapping[str, Any]], None]) -> list[Found]:
    """Every audit, in order; NaN of a value comes out as None.

    One that has nothing to attack is a row with a reason, `idle`, and without a value.
    """
    found = []
    for name, one in AUDITS.items():
        show("begin", {"name": f"audit: {name}", "seed": None})
        began = time.perf_counter()
        body = one(audited)
        seconds = time.perf_counter() - began
        show("stage", {"name": f"audit: {name}", "seed": None, "seconds": seconds, "compile_seconds": None})
        if body is None:
            found.append({"name": name, "idle": _idle(name, audited), "seconds": seconds})
        else:
            value = body["value"] if math.isfinite(body["value"]) else None
            found.append(body | {"value": value, "seed": audited.seed, "seconds": seconds})
    return found


def _idle(name: str, audited: Audited) -> str:
    """Why an audit had nothing to attack."""
    if name in ("activation inversion", "hijacking") and not audited.split:
        return "the model is not split, so that nothing crosses a cut"
    if name != "canaries":
        return "nothing in this run that it could attack"
    return (
        "no mechanism to test" if audited.mechanism is None else "no promise to records or patients to test"
    )
