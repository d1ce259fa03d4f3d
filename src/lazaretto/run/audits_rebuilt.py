"""Audits of a run that rebuild readings: from a gradient, from what crosses the cut, by a hostile site."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from lazaretto.audit.activation_inversion import Decoder, activations, invert_activations
from lazaretto.audit.gradient_inversion import Known, Public, Search, batch_gradient, make_inverter
from lazaretto.audit.hijacking import Hijack, make_hijacked_site
from lazaretto.audit.reconstruction import reconstruction_error
from lazaretto.audit.watch import Watch
from lazaretto.cut import Cut
from lazaretto.keys import generator, jax_key
from lazaretto.local import SiteData
from lazaretto.run.audited import Audited, Found, of_one_update, said
from lazaretto.types import TRAIN, VALIDATION

__all__ = ["activation_inversion", "gradient_inversion", "hijacking"]

_PRIORS = (0.0, 0.1)  # a bold attacker, and one that stays near the public mean
_EXCHANGES = 50  # within which a hijacking is to be refused


def gradient_inversion(audited: Audited, tries: int = 4) -> Found | None:
    """Back from the gradient of one window to the window, through the mechanism where there is one."""
    if audited.model.head is not None or audited.model.novelty is not None:
        return None
    windows, public = audited.windows(TRAIN, tries), audited.windows(VALIDATION, 500)
    explain = batch_gradient(audited.model, Cut(bits=32), audited.training.loss_weights)
    steps, features = windows.x.shape[1:]
    attackers = [
        make_inverter(explain, (1, steps, features), Search(steps=500, restarts=2, prior=prior))
        for prior in _PRIORS
    ]
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
        guesses = [invert(seen, own, known, jax_key(audited.seed, "inversion", at)) for invert in attackers]
        errors = [
            reconstruction_error(got.windows, windows.x[[at]], known.mean, ordered=True) for got in guesses
        ]
        ratios.append(min(error.ratio for error in errors))
    if not ratios:
        return None
    return said(
        "gradient inversion",
        "error of a window rebuilt from its own gradient, by that of the mean of each feature",
        float(np.median(ratios)),
        f"median of {len(ratios)} windows, each alone in its step, by the better of two attackers, "
        + ("clipped and noised as in this run" if made is not None else "without any protection")
        + of_one_update(audited),
        low=min(ratios),
        high=max(ratios),
        floor=1.0,
        floor_words="the public mean of each feature",
    )


def activation_inversion(audited: Audited) -> Found | None:
    """Back from what crosses the cut to the readings, by a decoder learned on windows of other units."""
    if not audited.split:
        return None
    public, truth = audited.windows(VALIDATION, 1500), audited.windows(TRAIN, 300)
    bottom = audited.params()["bottom"]
    sent, seen = (
        activations(audited.model, audited.cut, bottom, part.x, jax_key(audited.seed, "cut", at))
        for at, part in enumerate((public, truth))
    )
    pair, key = (sent, public.x), jax_key(audited.seed, "decoder")
    decoders = (Decoder(kind="ridge"), Decoder(kind="mlp", steps=1500))
    tried = [invert_activations(pair, seen, truth.x, decoder, key)[1] for decoder in decoders]
    found = min(tried, key=lambda one: one.ratio)
    known = found.r2[np.isfinite(found.r2)]
    return said(
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
    if not audited.split:
        return None
    if audited.model.head is None:
        return said(
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
    params = audited.first_params()
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
    return said(
        "hijacking",
        "exchanges until a hostile site is refused",
        math.nan if first[0] is None else first[0],
        f"a hostile site was {'never refused' if first[0] is None else 'refused'}; an honest one was "
        f"{'never refused' if first[1] is None else f'refused after {first[1]}'}",
        floor=float(_EXCHANGES),
        floor_words=f"within {_EXCHANGES} exchanges",
    )
