"""How the coordinator of a federation makes a round's updates one, and what it sees of the sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.attack_types import AttackContext
from lazaretto.camps import camp_flags, derived_flags, sums_seen, sums_step
from lazaretto.gram import finite_rows, inner_products
from lazaretto.inspection import flags, round_statistics, statistics_rows
from lazaretto.keys import generator
from lazaretto.reputation import Reputation, reputation_step, say
from lazaretto.round import Aggregated, Arrived, aggregate_round
from lazaretto.run.controls import agree_controls, with_changes
from lazaretto.run.group import Group
from lazaretto.run.hostile import craft_updates
from lazaretto.run.taking_part import Federation, TakingPart
from lazaretto.types import Array, Float, Int

__all__ = [
    "Changes",
    "Round",
    "Seen",
    "aggregate",
    "attacked",
    "fold_changes",
    "judged",
    "look",
    "watch_by",
    "with_momentum",
]


# flags that count fully against a site; who is copied has done nothing, and who did more work moves farther
_EVIDENCE = frozenset({"against", "alone", "nothing", "camp", "alike", "chance", "derived"})


class Seen(NamedTuple):
    """What the coordinator saw of the sites in a round.

    suspicion: [S] in [0, 1] by the rule, NaN where nothing came, 1 where an update was dropped as not
    finite. flags: of `inspection.flags`. statistics: of `inspection.statistics_rows`, or None where nobody
    sent anything. reputation: after the round, or None where it is not kept. rounds: how many there are to
    be, as far as is known. anew: whether training began anew with this round. refused: why a secret round
    had no result, or "".
    """

    suspicion: NDArray[np.float64]
    flags: Sequence[Mapping[str, str]]
    statistics: Mapping[str, Any] | None
    reputation: Reputation | None
    rounds: int | None = None
    anew: bool = False
    refused: str = ""


class Changes(NamedTuple):
    """What n sites sent beside their updates: how much that changed which they keep for an algorithm.

    rows [n, d]; sites [n]. known [n] bool: finite, with a finite update, of a site that has data. agreed [n]
    bool: of those whose updates were used, for a rule that only sums. root [d]: of the root data, or None.
    """

    rows: Float
    sites: Int
    known: NDArray[np.bool_]
    agreed: NDArray[np.bool_]
    root: Float | None


class Round(NamedTuple):
    """A round: the seed of all, its number from 1, and how many there are."""

    seed: int
    number: int
    rounds: int

    def draws(self, what: str) -> np.random.Generator:
        """The generator of what is drawn in it."""
        return generator(self.seed, what, self.number - 1)


def with_momentum(group: Group, keep: float, site: int, update: Float) -> Float:
    """What a site sends for its update [s]: (1 - keep) of it and `keep` of what it sent last.

    The first time it sends the update as it is. One that is not finite is sent, and not remembered.
    """
    if group.momentum is None:
        return update
    last = group.momentum[site]
    if np.isfinite(last).all():
        update = ((1.0 - keep) * update + keep * last).astype(np.float32)
    if np.isfinite(update).all():
        group.momentum[site] = update
    return update


def attacked(federation: Federation, group: Group, updates: Float, part: TakingPart, this: Round) -> Float:
    """[n, s] the updates with those of hostile sites replaced by what the attack crafts.

    An honest update that is not finite is not known to the attack; a hostile one counts as 0.
    """
    assert federation.attack is not None and federation.hostile is not None  # noqa: S101, PT018  the caller looks

    hostile: NDArray[np.bool_] = federation.hostile[part.chosen[part.arrives]]
    fine = finite_rows(updates)
    mine, used = np.where(fine[:, None], updates, np.float32(0)), fine | hostile

    def judge(rows: Array) -> Any:
        whole = updates.copy()
        whole[used] = rows
        made = judged(federation, group, whole, part, this).update
        return np.zeros(updates.shape[1]) if made is None else made

    context = AttackContext(this.number, this.rounds, group.previous, judge)
    crafted: Float = updates.copy()
    crafted[used] = craft_updates(federation.attack, mine[used], hostile[used], context, this.draws("attack"))
    return crafted


def judged(
    federation: Federation,
    group: Group,
    updates: Float,
    part: TakingPart,
    this: Round,
    everyone: bool = False,
) -> Aggregated:
    """What the rule makes of these updates in this round; nothing of the group changes.

    everyone: with sites in quarantine, and none of less weight by its trust; to be suspected, not used.
    """
    sites, sizes = part.chosen[part.arrives], part.sizes[part.arrives]
    if group.reputation is not None and not everyone:
        sizes = sizes * say(group.reputation, federation.reputation)[sites]
    past = None
    if group.history is not None:
        good = np.isfinite(updates).all(axis=1, keepdims=True)  # a sum that once took in a NaN would keep it
        past = group.history[sites] + np.where(good, updates, 0.0)
    arrived = Arrived(updates, sizes, sites, past)
    public: dict[str, Array] = {} if group.previous is None else {"previous": group.previous}
    if group.root is not None:
        public["root"] = group.root
    return aggregate_round(federation.rule, arrived, public, group.rule, this.draws("rule"))


def aggregate(
    federation: Federation, group: Group, updates: Float, part: TakingPart, this: Round
) -> Aggregated:
    """The round's updates [n, s] made one; the rule's state, and what it asks to be kept, go on.

    Suspicion is of everyone who sent something, those in quarantine too.
    """
    result = _judged_twice(federation, group, updates, part, this)
    group.rule = dict(result.state)
    if group.history is not None:
        good = np.isfinite(updates).all(axis=1) & ~result.dropped
        group.history[part.chosen[part.arrives][good]] += updates[good]
    if group.previous is not None and result.update is not None:
        group.previous = result.update
    return result


def _judged_twice(
    federation: Federation, group: Group, updates: Float, part: TakingPart, this: Round
) -> Aggregated:
    """The update of who is trusted, with the suspicion of everyone who sent something."""
    if group.reputation is None:
        return judged(federation, group, updates, part, this)
    sites, sizes = part.chosen[part.arrives], part.sizes[part.arrives]
    trust = say(group.reputation, federation.reputation)[sites]
    fine = finite_rows(updates)
    if not fine.any() and not trust.any():  # nobody's word who counts
        return Aggregated(None, None, np.ones(len(sites)), ~fine, group.rule)
    checked = judged(federation, group, updates, part, this, everyone=True)
    if (trust == 1).all():
        return checked
    if not (fine & (trust > 0) & (sizes > 0)).any():
        return checked._replace(update=None, weights=None, state=group.rule)
    result = judged(federation, group, updates, part, this)
    return result._replace(suspicion=checked.suspicion)


def look(
    federation: Federation,
    group: Group,
    updates: Float,
    result: Aggregated,
    part: TakingPart,
    names: Sequence[str],
    fine: NDArray[np.bool_],
    last: Array | None = None,
) -> Seen:
    """What a round's updates [n, s] tell of those who sent them, and what becomes of their reputation.

    last: [s] the aggregate that every site was told before it sent them, or None. names: [S]. fine: [n] bool,
    whether the rest of what a site sent is finite. Of a site without data its update tells nothing: it is
    not compared with others, and its reputation stays as it is.
    """
    here, known = part.chosen[part.arrives], part.sizes[part.arrives] > 0
    whole = np.flatnonzero(~result.dropped & known)
    before = [] if last is None else [last]
    inner = inner_products(updates[whole], np.array(before).reshape(len(before), updates.shape[1]))
    if group.sums is not None:
        group.sums = sums_step(group.sums, updates[whole], here[whole])
    return _concluded(federation, group, inner, whole, result, part, names, fine)


def watch_by(
    federation: Federation,
    group: Group,
    inner: Array,
    whole: tuple[Int, Array],
    result: Aggregated,
    part: TakingPart,
    names: Sequence[str],
) -> Seen:
    """As `look`, where nobody sees an update.

    inner: [k + 1, k + 1] of k updates and the last aggregate. whole: their places [k] among those who sent
    something, and inner products [k, k] of all that they ever sent, or None.
    """
    places, history = whole
    if group.sums is not None and history is not None:
        squares = np.diagonal(inner)[: len(places)]
        group.sums = sums_seen(group.sums, history, squares, part.chosen[part.arrives][places])
    fine = np.ones(int(part.arrives.sum()), np.bool_)
    return _concluded(federation, group, inner, places, result, part, names, fine)


def _concluded(
    federation: Federation,
    group: Group,
    inner: Array,
    whole: Int,
    result: Aggregated,
    part: TakingPart,
    names: Sequence[str],
    fine: NDArray[np.bool_],
) -> Seen:
    """Flags, statistics and reputation, from inner products of the updates at the places `whole`."""
    here, known = part.chosen[part.arrives], part.sizes[part.arrives] > 0
    suspicion = np.full(len(names), np.nan)
    suspicion[here] = np.where(fine, result.suspicion, 1.0)
    said = None if result.weights is None else result.weights[: len(here)][whole]
    own = [names[site] for site in here[whole]]
    statistics = round_statistics(inner[: len(whole), : len(whole)], said)
    odd = [*flags(statistics, own), *derived_flags(inner, own)]
    if group.sums is not None:
        odd += camp_flags(group.sums, here[whole], own)
    odd.sort(key=lambda flag: own.index(flag["site"]))
    if group.reputation is not None:
        against = suspicion.copy()
        against[here[~known]] = np.nan
        # copies pull what "the others agree on" their way: then nothing is held against who points elsewhere
        copied = any(flag["kind"] == "copy" for flag in odd)
        kept = federation.reputation
        evidence = _EVIDENCE
        if kept is not None:
            switched = {"camp": kept.camps, "alike": kept.alike}
            evidence -= {kind for kind, counts in switched.items() if not counts}
        for flag in odd:
            if flag["kind"] in evidence and not (copied and flag["kind"] == "against"):
                against[names.index(flag["site"])] = 1.0
        group.reputation = reputation_step(group.reputation, against, federation.reputation, group.staying)
    return Seen(suspicion, odd, statistics_rows(statistics, own), group.reputation)


def fold_changes(federation: Federation, group: Group, given: Changes, this: Round) -> None:
    """Make the group's common vector anew: by a sum, or by the rule where it looks at single sites.

    Suspicion of what the rule finds here is not added to that of the updates.
    """
    fold, sites = federation.algorithm.fold, group.sites
    if fold is None:
        return
    if group.controls is None:
        if given.agreed.any():
            group.control = fold(group.control, given.rows[given.agreed], sites)
        return
    told = with_changes(group.controls, given.rows[given.known], given.sites[given.known], given.root)
    kept = group.reputation
    trusted = np.ones(sites) if kept is None else say(kept, federation.reputation)
    group.controls, many = agree_controls(federation.rule, told, trusted, this.draws("control rule"))
    if many:  # as if all of them kept what the rule says
        alike = np.broadcast_to(group.controls.previous, (many, given.rows.shape[1]))
        group.control = fold(np.zeros_like(group.vector), alike, sites)
