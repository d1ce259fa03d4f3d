"""A run attacks itself: what an attacker of each kind reaches on this run's model, data and mechanism.

Each audit is a function from `Audited` to the body of a run log's record `audit`, or None where it has
nothing to attack. They train models of their own on the run's data; nothing of that leaves the record.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpy.typing import NDArray

from lazaretto.audit.activation_inversion import Decoder, activations, invert_activations
from lazaretto.audit.canary import canary_audit, canary_directions, gradient_scores, included_by_coins
from lazaretto.audit.class_mix import class_mix_audit, mixed_sites
from lazaretto.audit.gradient_inversion import Known, Public, Search, batch_gradient, make_inverter
from lazaretto.audit.hijacking import Hijack, make_hijacked_site
from lazaretto.audit.membership import attack, lira_scores, membership_audit
from lazaretto.audit.reconstruction import reconstruction_error
from lazaretto.audit.shadow_training import Round, private_shadow_round, shadow_trainer
from lazaretto.audit.watch import Watch
from lazaretto.cut import Cut
from lazaretto.data.streams import Streams, select, windows_of
from lazaretto.dp_local import private_training
from lazaretto.errors import DataError
from lazaretto.keys import generator, jax_key
from lazaretto.local import LocalTraining, SiteData, local_start, make_site_round
from lazaretto.parameters import parameter_count, unravel_of
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.run.private import PrivateSites, Promise
from lazaretto.types import TRAIN, VALIDATION, Float, Model

__all__ = ["AUDITS", "Audited", "run_audits"]

_CANARIES, _MOST_STEPS = 400, 3000
_RECORDS, _SHADOWS = 2000, 8
_SITES_OF_A_MIX, _SIZE_OF_A_MIX = 40, 60
_PASSES = 20  # of shadow models at most: memory of records grows with passes, and so does the time
_EXCHANGES = 50  # within which a hijacking is to be refused


class Audited(NamedTuple):
    """What is attacked. vector [d] as trained; data as the model reads them; rounds of the training.

    mechanism and epsilon: what is promised, of the training alone, at delta; None where nothing is.
    """

    model: Model
    cut: Cut
    training: LocalTraining
    vector: Float
    data: Streams
    kinds: int
    rounds: int
    learning_rate: float
    mechanism: Mechanism | None
    epsilon: float | None
    delta: float
    seed: int

    def windows(self, split: int, most: int) -> Streams:
        """At most so many windows of a split, each by itself, drawn from the seed."""
        every = windows_of(select(self.data, self.data.split == split))
        rng = generator(self.seed, "audited windows", split)
        return select(every, np.sort(rng.permutation(len(every.y))[:most]))

    def params(self) -> Any:
        """The trained parameters."""
        return unravel_of(self.model, self.data.x.shape[2], self.kinds)(jnp.asarray(self.vector))


Found = dict[str, Any]


def _said(name: str, measured: str, value: float, words: str, **more: Any) -> Found:
    usual: Found = {"claimed_epsilon": None, "low": None, "high": None, "floor": None, "floor_words": ""}
    return {"name": name, "measured": measured, "value": float(value), "words": words} | usual | more


def canaries(audited: Audited) -> Found | None:
    """Examples made up to be noticed, put in by coins: does a run's sampling and noise hide which?"""
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

    def seen() -> Any:
        for number in range(audited.rounds):
            drawn = sites.draw(audited.seed, number, [0])
            for step in range(made.steps):
                who = drawn.rows[0, step, : drawn.count[0, step]]
                total = directions[who[included[who]]].sum(axis=0) + drawn.noise[0, step]
                yield total, directions

    found = canary_audit(
        included, gradient_scores(seen()), rng, epsilon=epsilon, delta=audited.delta, gaussian=True
    )
    return _said(
        "canaries",
        "epsilon that the run has at least, at 95 %",
        found.epsilon_lower,
        f"{found.correct} of {found.guesses} guesses about who of {found.canaries} made-up examples was in "
        "were right, by an observer of every noisy sum who knows all others"
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
    )
    rng = generator(audited.seed, "membership")
    shadows = attack(train, len(given[0]), _SHADOWS, rng)
    found = membership_audit(lira_scores(*shadows), shadows.member[0], rng)
    value, low, high = found.true_positives[0.01]
    return _said(
        "membership",
        "share of the members named at 1 % false positives",
        value,
        f"LiRA with {_SHADOWS} shadow models on a site of {found.members} windows, among as many that were "
        f"not in; AUROC {found.auroc.value:.3f}" + ("" if found.enough else "; too few windows to be sure"),
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
    start = ravel_pytree(
        audited.model.init(jax_key(audited.seed, "model"), windows.x.shape[2], audited.kinds)
    )[0]

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
    if most < 0.1:
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
    return _said(
        "class mix",
        "error of the share of attacked windows at a site, by that of always saying the mean",
        told.ratio.value,
        f"from the first updates of {told.targets} sites of {_SIZE_OF_A_MIX} windows: {told.error:.3f} off "
        f"on average, the mean {told.floor:.3f}",
        low=told.ratio.low,
        high=told.ratio.high,
        floor=1.0,
        floor_words="saying the mean of sites that the attacker knows",
    )


def gradient_inversion(audited: Audited, tries: int = 4) -> Found | None:
    """Back from the gradient of one window to the window, through the mechanism where there is one."""
    if audited.model.head is not None or audited.model.novelty is not None:
        return None
    windows, public = audited.windows(TRAIN, tries), audited.windows(VALIDATION, 500)
    explain = batch_gradient(audited.model, Cut(bits=32))
    steps, features = windows.x.shape[1:]
    invert = make_inverter(explain, (1, steps, features), Search(steps=600, restarts=2))
    known = Public(jnp.asarray(public.x.mean((0, 1))), jnp.asarray(public.x.std((0, 1)) + 1e-3))
    ratios, gradient = list[float](), jax.jit(explain)
    made = audited.mechanism
    for at in range(len(windows.y)):
        own = Known(
            audited.params(),
            jnp.asarray(windows.y[[at]], jnp.int32),
            jnp.asarray(windows.judged[[at]], jnp.float32),
            jnp.ones(audited.kinds + 2),
        )
        seen = np.asarray(gradient(windows.x[[at]], own), np.float64)
        if not np.linalg.norm(seen) > 0:
            continue
        if made is not None and made.unit != "site":
            seen = seen * min(1.0, made.clip / float(np.linalg.norm(seen)))
            rng = generator(audited.seed, "inverted noise", at)
            seen = seen + made.noise_multiplier * made.clip * rng.standard_normal(len(seen))
        got = invert(seen, own, known, jax_key(audited.seed, "inversion", at))
        ratios.append(reconstruction_error(got.windows, windows.x[[at]], known.mean, ordered=True).ratio)
    if not ratios:
        return None
    return _said(
        "gradient inversion",
        "error of a window rebuilt from its own gradient, by that of the mean of each feature",
        float(np.median(ratios)),
        f"median of {len(ratios)} windows, each alone in its step, "
        + ("clipped and noised as in this run" if made is not None else "without any protection"),
        low=min(ratios),
        high=max(ratios),
        floor=1.0,
        floor_words="the public mean of each feature",
    )


def activation_inversion(audited: Audited) -> Found | None:
    """Back from what crosses the cut to the readings, by a decoder learned on windows of other units."""
    if not audited.model.split:
        return None
    public, truth = audited.windows(VALIDATION, 1500), audited.windows(TRAIN, 300)
    bottom = audited.params()["bottom"]
    sent, seen = (
        activations(audited.model, audited.cut, bottom, part.x, jax_key(audited.seed, "cut", at))
        for at, part in enumerate((public, truth))
    )
    decoder = Decoder(kind="mlp", steps=1500)
    _, found = invert_activations((sent, public.x), seen, truth.x, decoder, jax_key(audited.seed, "decoder"))
    known = found.r2[np.isfinite(found.r2)]
    return _said(
        "activation inversion",
        "error of readings rebuilt from what crosses the cut, by that of the mean of each feature",
        found.ratio,
        f"{int((known > 0.5).sum())} of {len(known)} features can be read (R² above .5) by whoever sees what "
        "a device sends its site; no mechanism covers that way, which lies inside a hospital",
        floor=1.0,
        floor_words="the public mean of each feature",
    )


def hijacking(audited: Audited) -> Found | None:
    """A site that trains devices for its own ends: refused where labels are at the devices."""
    if not audited.model.split:
        return None
    if audited.model.head is None:
        return _said(
            "hijacking",
            "exchanges until a hostile site is refused",
            math.nan,
            "devices of this model have no labels and cannot notice what their site trains them for",
            floor_words="never",
        )
    if audited.data.names and audited.training.alignment != (0.0, 0.0):
        return None
    data, public = audited.data, audited.windows(VALIDATION, 500)
    rows = np.flatnonzero((data.split == TRAIN) & (data.site == 0))[:16]
    pair = [rows[::2], rows[1::2]]
    count = min(map(len, pair))
    if count < 2:
        return None
    stacked = [np.stack([values[own[:count]] for own in pair]) for values in (data.x, data.y, data.judged)]
    own = SiteData(
        jnp.asarray(stacked[0]),
        jnp.asarray(stacked[1], jnp.int32),
        jnp.asarray(stacked[2], jnp.float32),
        jnp.asarray(count, jnp.int32),
        jnp.ones(audited.kinds + 2),
    )
    batches = max(1, -(-2 * _EXCHANGES * data.window // data.x.shape[1]))
    run = jax.jit(
        make_hijacked_site(audited.model, audited.cut, audited.training, Hijack(), Watch(), batches)
    )
    params = audited.model.init(jax_key(audited.seed, "model"), data.x.shape[2], audited.kinds)
    first = []
    for hostile in (True, False):
        found = run(
            params,
            own,
            jnp.asarray(public.x),
            jax_key(audited.seed, "hijack"),
            jnp.float32(audited.learning_rate),
            jnp.asarray(hostile),
        )
        refused = np.asarray(found.verdicts.refused).any(axis=1)
        first.append(int(refused.argmax()) + 1 if refused.any() else None)
    return _said(
        "hijacking",
        "exchanges until a hostile site is refused",
        math.nan if first[0] is None else first[0],
        f"a hostile site was {'never refused' if first[0] is None else 'refused'}; an honest one was "
        f"{'never refused' if first[1] is None else f'refused after {first[1]}'}",
        floor=float(_EXCHANGES),
        floor_words=f"within {_EXCHANGES} exchanges",
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
    """Every audit that has something to attack, in order; NaN of a value comes out as None."""
    found = []
    for name, one in AUDITS.items():
        show("begin", {"name": f"audit: {name}", "seed": None})
        began = time.perf_counter()
        body = one(audited)
        seconds = time.perf_counter() - began
        show("stage", {"name": f"audit: {name}", "seed": None, "seconds": seconds, "compile_seconds": None})
        if body is not None:
            value = body["value"] if math.isfinite(body["value"]) else None
            found.append(body | {"value": value, "seed": audited.seed, "seconds": seconds})
    return found
