"""What reconstructs: gradients, activations, a hijacked split, on windows of the simulator.

    python benchmarks/reconstruction.py gradients activations hijacking

Printed as Markdown. Errors are mean squared errors in scaled units, divided by that of the public mean of
each feature: 1 is no better than the mean. Public are windows of validation units; attacked are training
units. The watch's threshold was set on data of seed 0 and run seeds 0 and 1; its table is of other data.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import machine
import numpy as np
from scipy.stats import beta

from lazaretto import catalog
from lazaretto.audit.activation_inversion import Decoder, activations, invert_activations
from lazaretto.audit.gradient_inversion import Known, Public, Search, batch_gradient, make_inverter
from lazaretto.audit.hijacking import Hijack, decode, make_hijacked_site
from lazaretto.audit.reconstruction import reconstruction_error
from lazaretto.audit.watch import Watch
from lazaretto.cut import Cut
from lazaretto.keys import generator, jax_key
from lazaretto.local import LocalTraining, SiteData
from lazaretto.models.fusion import fusion
from lazaretto.plan import load_plan
from lazaretto.run.post import Post
from lazaretto.run.prepare import prepare
from lazaretto.run.simulate import class_weights
from lazaretto.types import TRAIN, VALIDATION

__all__ = ["Windows", "main", "windows"]

PLAN = Path(__file__).resolve().parents[1] / "examples" / "consortium.toml"
SITES_IN_SUM, DEVICES, UNITS = 20, 2, 17


class Windows(NamedTuple):
    """Scaled streams [u, L, F], labels [u, L] and site [u] of training units; public windows [m, T, F]."""

    x: Any
    y: Any
    site: Any
    public: Any
    kinds: int

    def cut(self, rows: Any) -> tuple[Any, Any]:
        """Windows [n, T, F] and labels [n, T] of some streams."""
        steps, features = self.public.shape[1:]
        return self.x[rows].reshape(-1, steps, features), self.y[rows].reshape(-1, steps)


def windows(seed: int) -> Windows:
    """Of the plan's simulator."""
    prepared = prepare(load_plan(PLAN, sets=[f"run.seeds=[{seed}]"]), seed, Post())
    data = prepared.data
    train, public = data.split == TRAIN, data.x[data.split == VALIDATION]
    shaped = public.reshape(-1, data.window, public.shape[-1])
    return Windows(data.x[train], data.y[train], data.site[train], shaped, prepared.kinds)


def gradients(data: Windows, seed: int, tries: int, steps: int) -> None:
    """One window's gradient at a model's first step: as it is, clipped, noised, and in a sum."""
    plan = load_plan(PLAN)
    model, cut = catalog.build("models", plan.model.name, plan.model.options), Cut(bits=32)
    steps_of, features = data.public.shape[1:]
    explain = batch_gradient(model, cut)
    invert = make_inverter(explain, (1, steps_of, features), Search(steps=steps, restarts=2))
    gradient = jax.jit(explain)
    public = Public(jnp.asarray(data.public.mean((0, 1))), jnp.asarray(data.public.std((0, 1))))
    x, y = data.cut(slice(None))
    rows = generator(seed, "inverted windows").choice(len(x), (tries, SITES_IN_SUM), replace=False)
    found: dict[str, list[float]] = {}
    for at in range(tries):
        params = model.init(jax_key(seed, "model", at), features, data.kinds)
        known = [
            Known(params, jnp.asarray(y[[row]]), jnp.ones((1, steps_of)), jnp.ones(data.kinds + 2))
            for row in rows[at]
        ]
        each = [gradient(x[[row]], mine) for row, mine in zip(rows[at], known, strict=True)]
        clipped = each[0] * jnp.minimum(1.0, 1.0 / jnp.linalg.norm(each[0]))
        noise = jax.random.normal(jax_key(seed, "noise", at), clipped.shape)
        seen = {
            "nothing": each[0],
            "clip 1": clipped,
            "clip 1, noise multiplier 0.01": clipped + 0.01 * noise,
            "clip 1, noise multiplier 1": clipped + noise,
            f"only the sum of {SITES_IN_SUM} sites is seen": sum(each),
        }
        for name, vector in seen.items():
            got = invert(vector, known[0], public, jax_key(seed, "search", at))
            error = reconstruction_error(got.windows, x[rows[at][:1]], public.mean, ordered=True)
            found.setdefault(name, []).append(error.ratio)
    print(f"\n| protection | error ÷ mean's: median of {tries} | least | most |\n|---|---|---|---|")
    for name, ratios in found.items():
        print(f"| {name} | {np.median(ratios):.3f} | {min(ratios):.3f} | {max(ratios):.3f} |")


def site_data(data: Windows, site: int) -> SiteData:
    """So many training units of a site, on its devices."""
    rows = np.flatnonzero(data.site == site)[: DEVICES * UNITS]
    own = [rows[device::DEVICES] for device in range(DEVICES)]
    count = min(map(len, own))
    room = [np.resize(mine[:count], UNITS) for mine in own]
    x, y = (np.stack([values[mine] for mine in room]) for values in (data.x, data.y))
    balance = class_weights(data.y[rows], np.ones(data.y[rows].shape, bool), data.kinds, 0.999)
    return SiteData(x, y.astype(np.int32), np.ones(y.shape, np.float32), np.int32(count), balance)


def activation_table(data: Windows, seed: int) -> None:
    """Activations of windows of other hospitals, by a decoder learned on those of validation units."""
    plan = load_plan(PLAN)
    model = catalog.build("models", plan.model.name, plan.model.options)
    bottom = model.init(jax_key(seed, "model"), data.public.shape[-1], data.kinds)["bottom"]
    truth, _ = data.cut(slice(0, 100))
    print(
        "\n| cut | decoder | error ÷ mean's | features with R² above 0.5 | median R² |\n|---|---|---|---|---|"
    )
    cuts = (Cut(bits=32), Cut(), Cut(bits=2), Cut(noise=0.5), Cut(noise=1.0), Cut(noise=2.0))
    for cut in cuts:
        sent = activations(model, cut, bottom, data.public, jax_key(seed, "public noise"))
        seen = activations(model, cut, bottom, truth, jax_key(seed, "seen noise"))
        for kind in ("ridge", "mlp"):
            decoder = Decoder(kind=kind)  # type: ignore[arg-type]
            _, found = invert_activations((sent, data.public), seen, truth, decoder, jax_key(seed, kind))
            r2 = found.r2[np.isfinite(found.r2)]
            name = f"{cut.bits} bits" + (f", noise {cut.noise}" if cut.noise else "")
            read = f"{(r2 > 0.5).sum()} of {len(r2)} | {np.median(r2):.2f}"
            print(f"| {name} | {kind} | {found.ratio:.3f} | {read} |")


def hijacking(data: Windows, seed: int, runs: int, batches: int) -> None:
    """Honest and hijacked runs of the U-shaped model on traffic, watched by devices."""
    model, watch = fusion(), Watch()
    steps, features = data.public.shape[1:]
    training = LocalTraining(window=steps, batch_units=4, temporal_consistency=0.3, kind_weight=0.2)
    run = jax.jit(make_hijacked_site(model, Cut(), training, Hijack(tries=1), watch, batches))
    public, mean = jnp.asarray(data.public), data.public.mean((0, 1))
    sites = len(np.unique(data.site))
    refusals = "runs refused by 50 exchanges | by the end | first exchange of refusal"
    print(f"\n| site | {refusals} | gap: least | most | error ÷ mean's, median |")
    print("|---|---|---|---|---|---|---|")
    for hostile in (False, True):
        early, late, first, gaps, ratios = 0, 0, list[int](), list[float](), list[float]()
        for at in range(runs):
            params = model.init(jax_key(seed, "model", at), features, data.kinds)
            own = site_data(data, at % sites)
            key = jax_key(seed, "run", at)
            got = run(params, own, public, key, jnp.float32(0.008), jnp.asarray(hostile))
            refused = np.asarray(np.asarray(got.verdicts.refused).any(axis=1))
            gaps += np.asarray(got.verdicts.gap)[np.asarray(got.verdicts.known)].tolist()
            early, late = early + int(refused[:50].any()), late + int(refused.any())
            first += [int(refused.argmax()) + 1] if refused.any() else []
            truth = own.x[0, : int(own.units)].reshape(-1, steps, features)
            bottom = jax.tree.map(lambda p: p[0], got.bottoms)
            sent = activations(model, Cut(), bottom, truth, key)
            ratios.append(reconstruction_error(decode(got.state, sent), truth, mean, ordered=True).ratio)
        when = f"{min(first)} to {max(first)}" if first else "none"
        name = "hijacks" if hostile else "honest"
        print(
            f"| {name} | {early} of {runs} | {late} of {runs} | {when} | {min(gaps):.2f} | {max(gaps):.2f} "
            f"| {np.median(ratios):.2f} |"
        )
        bound = beta.ppf(0.95, late + 1, runs - late) if late < runs else 1.0
        print(f"<!-- {name}: one-sided 95 % bound on the rate of refusal {bound:.3f} -->")


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="+", choices=["gradients", "activations", "hijacking"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--batches", type=int, default=30)
    given = parser.parse_args()
    data = windows(given.seed)
    for part in given.parts:
        begin = time.perf_counter()
        if part == "gradients":
            gradients(data, given.seed, given.tries, given.steps)
        elif part == "activations":
            activation_table(data, given.seed)
        else:
            hijacking(data, given.seed, given.runs, given.batches)
        print(f"\n{part}: {time.perf_counter() - begin:.0f} s", flush=True)
    print(f"\n{machine.described()}; seed {given.seed}; commit {machine.commit()}")


if __name__ == "__main__":
    main()
