"""One round at the coordinator: updates in, one update out, for the server's optimiser to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError, PlanError
from lazaretto.gram import combine, finite_rows, inner_products, lengths_and_products, row_lengths
from lazaretto.keys import generator
from lazaretto.types import Array, Float, Gram, Int, Rule, Weighed

__all__ = ["Aggregated", "Arrived", "aggregate_once", "aggregate_round", "mean_update", "weigh_seen"]

_ABSURD = 1e8  # times the median length: half of the digits of a float64


class Arrived(NamedTuple):
    """What came in, n >= 0 sites.

    updates [n, d] float32; sizes [n] >= 0, what they weigh by; sites [n], each site's number in the
    federation; history [n, d], the sum of all that each site has sent, this included (where
    `Rule.history`), or None.
    """

    updates: Float
    sizes: NDArray[np.float64]
    sites: Int
    history: Array = None


class Aggregated(NamedTuple):
    """What a round came to.

    update:    [d] float64, or None where nobody with data was there.
    weights:   [n + p] on the updates and the rule's public rows, update = weights · rows; None of a rule
               that sees rows, and without an update.
    suspicion: [n] in [0, 1]; 1 where an update was dropped.
    dropped:   [n] bool: updates with NaN or infinity, or beyond all measure.
    state:     the rule's, for the next round.
    """

    update: NDArray[np.float64] | None
    weights: NDArray[np.float64] | None
    suspicion: NDArray[np.float64]
    dropped: NDArray[np.bool_]
    state: Mapping[str, Array]


def aggregate_round(
    rule: Rule,
    arrived: Arrived,
    public: Mapping[str, Array],
    state: Mapping[str, Array],
    rng: np.random.Generator,
) -> Aggregated:
    """The updates that arrived, made one by a rule.

    public: name -> row [d] for those in `rule.public`; "zero" is known. state: the rule's. An update with NaN
    or infinity is left out and gets suspicion 1, and so does one more than 1e8 times as long as the median,
    unless the rule sees sums alone; one of size 0 has no say and no suspicion. The rule gets
    the others in order of their sites, so the order in which they came in never matters.
    Raises InputError where all that have a size are not finite, PlanError where a public row or the history
    is missing or the rule is a pre-aggregator alone.
    """
    _refuse(rule, arrived, public)
    count, sizes = len(arrived.sizes), np.asarray(arrived.sizes, np.float64)
    given = [np.zeros(arrived.updates.shape[1]) if name == "zero" else public[name] for name in rule.public]
    known = np.array(given, np.float64).reshape(len(given), arrived.updates.shape[1])
    inner = None
    if count and rule.gram is not None and (sizes > 0).all() and (np.diff(arrived.sites) >= 0).all():
        length, inner = lengths_and_products(arrived.updates, known)  # one reading where nothing is left out
    else:
        length = row_lengths(arrived.updates)
    dropped = ~np.isfinite(length)
    if arrived.history is not None:
        dropped |= ~finite_rows(arrived.history)
    used = np.flatnonzero(~dropped & (sizes > 0))
    used = used[np.argsort(np.asarray(arrived.sites)[used], kind="stable")]
    suspicion = dropped.astype(np.float64)
    if not used.size:
        if (dropped & (sizes > 0)).any():
            raise InputError(
                f"no update is finite, that of site {arrived.sites[dropped.argmax()]} for instance",
                found=f"{int(dropped.sum())} with NaN or infinity",
                way_out="lower train.learning_rate",
            )
        return Aggregated(None, None, suspicion, dropped, state)
    in_order = used.size == count and bool((used == np.arange(count)).all())
    rows = arrived.updates if in_order else arrived.updates[used]
    if rule.gram is not None and (inner is None or not in_order):
        inner = inner_products(rows, known)
    if rule.sees != "sum":
        fine = np.flatnonzero(~_absurd(length[used]))
        if len(fine) < len(used):
            dropped[np.delete(used, fine)] = True
            suspicion[dropped] = 1.0
            inner = None if inner is None else _without(inner, fine, len(used))
            used, rows = used[fine], rows[fine]
    if rule.rows is not None:
        update, found, state = rule.rows(rows, sizes[used], state, rng)
        weights = None
    else:
        if rule.gram is None:
            assert rule.weigh is not None  # noqa: S101  it says that it sees the sum
            said, found = np.asarray(rule.weigh(sizes[used])), np.zeros(len(used))
            update = mean_update(rows, said)
        else:
            past = None if arrived.history is None else inner_products(arrived.history[used])
            assert inner is not None  # noqa: S101  made above
            seen = Gram(inner, sizes[used], arrived.sites[used], rule.public, past)
            answer = rule.gram(seen, state, rng)
            said, found, state = answer.weights[0], answer.suspicion, answer.state
            update = combine(said[None], rows, known)[0]
        weights = np.zeros(count + len(given))
        weights[used], weights[count:] = said[: len(used)], said[len(used) :]
    suspicion[used] = found
    return Aggregated(update, weights, suspicion, dropped, state)


def weigh_seen(rule: Rule, seen: Gram, state: Mapping[str, Array], rng: np.random.Generator) -> Weighed:
    """What a rule that does not look at updates says of their inner products, as `aggregate_round` asks it.

    seen: of n finite updates, in any order, sizes >= 0: one of size 0 has no say and no suspicion. The rule
    gets the others in order of their sites. Returns weights [1, n + p], suspicion [n], the rule's state; all
    weights are 0 where no size is above 0. Raises PlanError for a rule of rows, or a pre-aggregator alone.
    """
    if rule.rows is not None or rule.mixes:
        raise PlanError(
            f"rule '{rule.name}' cannot make one update of inner products alone",
            way_out='a rule that sees them, such as "nnm | multi_krum"',
        )
    n, sizes = len(seen.sizes), np.asarray(seen.sizes, np.float64)
    used = np.flatnonzero(sizes > 0)
    used = used[np.argsort(np.asarray(seen.sites)[used], kind="stable")]
    weights, suspicion = np.zeros((1, len(seen.inner))), np.zeros(n)
    if not used.size:
        return Weighed(weights, suspicion, state)
    if rule.gram is None:
        assert rule.weigh is not None  # noqa: S101  it says that it sees the sum
        weights[0, used] = rule.weigh(sizes[used])
        return Weighed(weights, suspicion, state)
    places = np.concatenate([used, np.arange(n, len(seen.inner))])
    past = None if seen.history is None else seen.history[np.ix_(used, used)]
    part = Gram(seen.inner[np.ix_(places, places)], sizes[used], seen.sites[used], seen.public, past)
    said = rule.gram(part, state, rng)
    weights[0, places], suspicion[used] = said.weights[0], said.suspicion
    return Weighed(weights, suspicion, said.state)


def _absurd(length: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[n] bool, by lengths [n]: updates so much longer than the median that others drown in rounding."""
    usual = float(np.median(length))
    return np.asarray(length > _ABSURD * usual) if usual > 0 else np.zeros(len(length), np.bool_)


def _without(inner: Array, kept: Int, n: int) -> NDArray[np.float64]:
    """Inner products [n + p, n + p] of the kept updates and all public rows."""
    places = np.concatenate([kept, np.arange(n, len(inner))])
    return np.asarray(inner[np.ix_(places, places)])


def _refuse(rule: Rule, arrived: Arrived, public: Mapping[str, Array]) -> None:
    """What cannot be aggregated at all."""
    if rule.mixes:
        raise PlanError(
            f"rule '{rule.name}' only mixes updates", way_out=f"a rule behind it: '{rule.name} | multi_krum'"
        )
    missing = [name for name in rule.public if name != "zero" and name not in public]
    missing += ["history"] if rule.history and arrived.history is None else []
    if missing:
        raise PlanError(
            f"rule '{rule.name}' needs what nobody gave",
            found=f"without {', '.join(missing)}",
            way_out="give it, or choose another rule",
        )


def aggregate_once(rule: Rule, updates: Array, **public: Array) -> NDArray[np.float64]:
    """A first round of sites of equal size, to look at a rule: updates [n, d], n >= 1, to [d].

    public: rows [d] by name; history is the updates. Raises as `aggregate_round`.
    """
    rows = np.asarray(updates, np.float32)
    n = len(rows)
    arrived = Arrived(rows, np.ones(n), np.arange(n), rows if rule.history else None)
    update = aggregate_round(rule, arrived, public, rule.start(n), generator(0, "rule", 0)).update
    assert update is not None  # noqa: S101  all sizes are 1
    return update


def mean_update(updates: Float, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ weights[i] · updates[i], [d], summed in float64 in the order of the sites.

    updates [n, d], weights [n] summing to 1. An update with NaN or infinity is refused: InputError
    names its position.
    """
    bad = np.flatnonzero(~np.isfinite(updates).all(axis=1))
    if bad.size:
        raise InputError(
            f"the update of site {bad[0]} is not finite",
            found=f"{int((~np.isfinite(updates[bad[0]])).sum())} entries",
            way_out="lower train.learning_rate",
        )
    mean: NDArray[np.float64] = weights @ updates.astype(np.float64)
    return mean
