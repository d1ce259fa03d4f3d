"""Rules one after another: pre-aggregators mix the updates, the last rule makes one of them.

`nnm | multi_krum` in a plan is `chain(nnm(), multi_krum())`. A pre-aggregator with weights W turns the inner
products G that the next rule sees into W·G·Wᵀ, public rows passed through: so a chain of gram rules is a
gram rule, and no rule knows whether it stands in a chain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto import catalog
from lazaretto.aggregate._choice import beyond
from lazaretto.errors import OptionError, PlanError
from lazaretto.gram import combine, distances_to, inner_products
from lazaretto.keys import generator
from lazaretto.types import Array, Gram, Judged, Rule, Weighed

__all__ = ["chain", "rule_of"]


def rule_of(text: str, options: Mapping[str, Any]) -> Rule:
    """The rule that a plan names: one with its options, or parts of a chain with `|` between them.

    options: those of the rule; of a chain a table for each part that has any, by its name.
    Raises PlanError for an unknown name or option, a table of no part, and what `chain` refuses.
    """
    names = [name.strip() for name in text.split("|")]
    if len(names) == 1:
        one: Rule = catalog.build("rules", names[0], options)
        return one
    for key, value in options.items():
        if key not in names or not isinstance(value, Mapping):
            said = f"a chain of rules takes a table of options for each part, and '{key}' is none"
            raise OptionError(
                said,
                part="",
                option=key,
                said=said,
                found=value,
                way_out=f"for instance aggregate.options.{names[0]} = {{ }}; parts: {', '.join(names)}",
            )
    return chain(*(catalog.build("rules", name, options.get(name)) for name in names))


def chain(*rules: Rule) -> Rule:
    """One rule made of several, at least one: all but the last are pre-aggregators (`Rule.mixes`).

    It sees what the neediest part does; public rows and history are those of all parts; it claims only what
    all claim. It withstands as many sites as the last rule does of the mixed updates, and no more than each
    pre-aggregator. Suspicion of a mixed update falls on the sites in it by their shares, no more of it than
    the distance of a site's own update to the aggregate, beyond the median one, allows: mixed updates lie
    so close together that a small difference would count as a large one. (A verdict by history or by
    trusted data is not one of distance, and stays.) A site has the larger of what the parts hold against
    it. `most_on_one` is an upper bound. A rule of rows at the end gets the mixed updates; pre-aggregators
    before it can have no public rows. Raises PlanError for a rule before the end that does not mix, and for
    that.
    """
    *first, last = rules
    if not first:
        return last
    for rule in first:
        if not rule.mixes:
            raise PlanError(
                f"rule '{rule.name}' makes one of all updates, so that nothing can follow it",
                found=" | ".join(each.name for each in rules),
                way_out="put it last; before it stand pre-aggregators such as 'nnm', 'bucketing', 'clip'",
            )
        if last.sees == "rows" and (rule.public or rule.history):
            raise PlanError(
                f"rule '{rule.name}' needs public rows or a history, and '{last.name}' sees updates alone",
                found=" | ".join(each.name for each in rules),
                way_out="end the chain with a rule that sees inner products",
            )

    def gram(seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
        mixed = _mix(first, seen, state, rng)
        said = _last(last, mixed.seen, _part(state, len(first)), rng)
        weights = said.weights @ _with_public(mixed.weights, len(seen.public))
        found = _back(mixed.weights, len(seen.sizes), said.suspicion)
        if not (last.mixes or last.history or "root" in last.public):
            found = _at_most_by_distance(found, _distances(seen, weights[0]))
        kept = {**mixed.state, **_named(said.state, len(first))}
        return Weighed(weights, np.maximum(mixed.suspicion, found), kept)

    def rows(X: Array, sizes: Array, state: Mapping[str, Array], rng: np.random.Generator) -> Judged:
        assert last.rows is not None  # noqa: S101  it says that it sees rows
        mixed = _mix(first, Gram(inner_products(X), sizes, np.arange(len(X))), state, rng)
        given = combine(mixed.weights, X), mixed.seen.sizes
        aggregate, suspicion, kept = last.rows(*given, _part(state, len(first)), rng)
        found = _at_most_by_distance(_back(mixed.weights, len(X), suspicion), distances_to(X, aggregate))
        suspicion = np.maximum(mixed.suspicion, found)
        return aggregate, suspicion, {**mixed.state, **_named(kept, len(first))}

    def start(sites: int) -> dict[str, Array]:
        parts = [_named(rule.start(sites), place) for place, rule in enumerate(rules)]
        return {name: value for part in parts for name, value in part.items()}

    def tolerates(n: int) -> int:
        counts = _counts(first, n)
        return min(rule.tolerates(count) for rule, count in zip(rules, counts, strict=True))

    def most_on_one(n: int) -> float:
        counts = _counts(first, n)
        final = last.most_on_one(counts[-1])
        most = final * math.prod(rule.most_on_one(m) for rule, m in zip(first, counts, strict=False))
        return min(most, 1.0) if final <= 1 else most  # mixing does not add weight

    by_rows = last.sees == "rows"
    return Rule(
        name=" | ".join(rule.name for rule in rules),
        sees="rows" if by_rows else "gram",
        gram=None if by_rows else gram,
        rows=rows if by_rows else None,
        tolerates=tolerates,
        public=tuple(dict.fromkeys(name for rule in rules for name in rule.public)),
        history=any(rule.history for rule in rules),
        start=start,
        equivariance=frozenset.intersection(*(rule.equivariance for rule in rules)),
        agrees=all(rule.agrees for rule in rules),
        mixes=last.mixes,
        most_on_one=most_on_one,
    )


class _Mixed(NamedTuple):
    """What pre-aggregators made: weights [m, n + p], what is seen of the m, suspicion [n], state."""

    weights: NDArray[np.float64]
    seen: Gram
    suspicion: NDArray[np.float64]
    state: dict[str, Array]


def _mix(first: Sequence[Rule], seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> _Mixed:
    """Pre-aggregators in turn."""
    n, p = len(seen.sizes), len(seen.public)
    weights, suspicion, kept = np.eye(n, n + p), np.zeros(n), dict[str, Array]()
    for place, rule in enumerate(first):
        assert rule.gram is not None  # noqa: S101  only rules of inner products mix
        said = rule.gram(seen, _part(state, place), rng)
        suspicion = np.maximum(suspicion, _back(weights, n, said.suspicion))
        weights = said.weights @ _with_public(weights, p)
        kept |= _named(said.state, place)
        seen = _seen_after(said.weights, seen)
    return _Mixed(weights, seen, suspicion, kept)


def _seen_after(weights: Array, seen: Gram) -> Gram:
    """What the next rule sees: of m mixed updates, with the same public rows."""
    n = len(seen.sizes)
    whole = np.concatenate([weights, np.eye(len(seen.inner))[n:]])
    inner = whole @ seen.inner @ whole.T
    share = np.abs(weights[:, :n])
    total = share.sum(axis=1)
    history = None if seen.history is None else weights[:, :n] @ seen.history @ weights[:, :n].T
    return Gram(
        inner=(inner + inner.T) / 2,
        sizes=share @ seen.sizes / np.where(total > 0, total, 1.0),
        sites=seen.sites if len(weights) == n else np.arange(len(weights)),
        public=seen.public,
        history=None if history is None else (history + history.T) / 2,
    )


def _last(rule: Rule, seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
    """What a rule of sums or of inner products says."""
    if rule.gram is not None:
        return rule.gram(seen, state, rng)
    assert rule.weigh is not None  # noqa: S101  it says that it sees the sum
    weights = np.zeros((1, len(seen.inner)))
    weights[0, : len(seen.sizes)] = rule.weigh(seen.sizes)
    return Weighed(weights, np.zeros(len(seen.sizes)), {})


def _with_public(weights: Array, p: int) -> NDArray[np.float64]:
    """[m + p, n + p]: weights [m, n + p] over p public rows that stay as they are."""
    return np.concatenate([weights, np.eye(weights.shape[1])[weights.shape[1] - p :]])


def _back(weights: Array, n: int, suspicion: Array) -> NDArray[np.float64]:
    """[n] suspicion of sites from that of mixed updates [m]: the mean over them, by shares."""
    share = np.abs(weights[:, :n])
    total = share.sum(axis=0)
    found: NDArray[np.float64] = np.clip(suspicion @ share / np.where(total > 0, total, 1.0), 0.0, 1.0)
    return found


def _distances(seen: Gram, weights: Array) -> NDArray[np.float64]:
    """[n] from each site's own update to the aggregate with weights [n + p]."""
    across = seen.inner @ weights
    square = np.diagonal(seen.inner) - 2.0 * across + weights @ across
    return np.asarray(np.sqrt(np.maximum(square[: len(seen.sizes)], 0.0)))


def _at_most_by_distance(suspicion: Array, distances: Array) -> NDArray[np.float64]:
    """[n] suspicion, not more than the distances [n] beyond their median allow."""
    return np.minimum(suspicion, beyond(distances, float(np.median(distances))))


def _counts(first: Sequence[Rule], n: int) -> list[int]:
    """How many updates each rule of a chain gets, the last included: for a rule that mixes, by n alone."""
    counts = [n]
    for rule in first:
        n, p = counts[-1], len(rule.public)
        assert rule.gram is not None  # noqa: S101  only rules of inner products mix
        seen = Gram(np.eye(n + p), np.ones(n), np.arange(n), rule.public, np.eye(n) if rule.history else None)
        counts.append(len(rule.gram(seen, rule.start(n), generator(0, "how many")).weights))
    return counts


def _named(state: Mapping[str, Array], place: int) -> dict[str, Array]:
    return {f"{place}.{name}": value for name, value in state.items()}


def _part(state: Mapping[str, Array], place: int) -> dict[str, Array]:
    mine = f"{place}."
    return {name.removeprefix(mine): value for name, value in state.items() if name.startswith(mine)}
