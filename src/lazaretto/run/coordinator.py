"""What the coordinator of a federation keeps, and how it makes a round's updates one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.attack_types import AttackContext
from lazaretto.camps import camp_flags, derived_flags, sums_arrays, sums_from, sums_start, sums_step
from lazaretto.gram import finite_rows, inner_products
from lazaretto.inspection import flags, round_statistics, statistics_rows
from lazaretto.keys import generator
from lazaretto.reputation import (
    Reputation,
    reputation_arrays,
    reputation_from,
    reputation_start,
    reputation_step,
    say,
)
from lazaretto.round import Aggregated, Arrived, aggregate_round
from lazaretto.run.controls import (
    agree_controls,
    controls_arrays,
    controls_from,
    controls_start,
    with_changes,
)
from lazaretto.run.hostile import craft_updates
from lazaretto.run.taking_part import Federation, TakingPart
from lazaretto.types import Array, Float, Int

__all__ = [
    "Changes",
    "Group",
    "Round",
    "Seen",
    "aggregate",
    "attacked",
    "fold_changes",
    "judged",
    "look",
    "with_momentum",
]


# flags that count fully against a site; who is copied has done nothing, and who did more work moves farther
_EVIDENCE = frozenset({"against", "alone", "nothing", "camp", "chance", "derived"})


class Seen(NamedTuple):
    """What the coordinator saw of the sites in a round.

    suspicion: [S] in [0, 1] by the rule, NaN where nothing came, 1 where an update was dropped as not finite.
    flags: of `inspection.flags`. statistics: of `inspection.statistics_rows`, or None where nobody sent
    anything. reputation: after the round, or None where it is not kept. rounds: how many there are to be, as
    far as is known. anew: whether training began anew with this round.
    """

    suspicion: NDArray[np.float64]
    flags: Sequence[Mapping[str, str]]
    statistics: Mapping[str, Any] | None
    reputation: Reputation | None
    rounds: int | None = None
    anew: bool = False


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


class Group:
    """What the coordinator keeps from round to round, and beside it the sites' personal parameters.

    vector [d]; control [d] or None; server: its optimiser's state; losses [sites], the last that each
    said; personal [padded, p] or None. Of the shared part, s of d: rule: the rule's state; previous [s], the
    last aggregate, and history [sites, s], the sum of what each site sent, where the rule asks for them (an
    attack looks at the last aggregate, too); momentum [sites, s], what each site sent last, NaN before it
    did, where sites send momentum (a hostile one remembers what it would honestly have sent). reputation: of
    all sites, and sums of what they sent, or None where it is not kept. root [s]: the update on the root data
    in this round, or None where there is none; it has a row of its own, behind the sites', in personal and
    momentum. controls: what each site keeps for the algorithm, where a rule that looks at sites makes
    `control` of that. residual [sites, s]: what each site did not send yet, where a compressor keeps it.
    moved [s]: how far the last round moved the shared part, where a compressor asks for it. barred [sites]
    bool: who stays in quarantine since training began anew without it; None where it did not.
    """

    def __init__(self, federation: Federation, vector: Float, sites: int, padded: int) -> None:
        watched = federation.reputation is not None
        self.sites, self.padded = sites, padded
        self.reputation = reputation_start(sites) if watched else None
        self.barred: NDArray[np.bool_] | None = None
        self._begin(federation, vector)
        size = vector[self.shared].size
        self.sums = sums_start(sites, size, federation.layers) if watched else None

    def begin_anew(self, federation: Federation, vector: Float) -> None:
        """From this vector [d], as if nothing had been learned; who is in quarantine stays there for good.

        What is known of the sites is kept: reputation and the sums of what they sent.
        """
        assert self.reputation is not None  # noqa: S101  nobody is in quarantine otherwise
        self.barred = self.reputation.quarantined.copy()
        self._begin(federation, vector)

    def _begin(self, federation: Federation, vector: Float) -> None:
        """All that training makes, before the first round."""
        mask, sites, padded = federation.personal, self.sites, self.padded
        self.mask = mask
        self.shared: Any = slice(None) if mask is None else ~mask
        self.vector = vector
        self.control = np.zeros_like(vector) if federation.algorithm.keeps else None
        self.server = federation.server.start(vector[self.shared].size)
        self.losses: Float = np.full(sites, np.nan, np.float32)
        self.personal = None if mask is None else np.repeat(vector[None, mask], padded, axis=0)
        size, rule = vector[self.shared].size, federation.rule
        self.rule = rule.start(sites)
        watched = federation.reputation is not None
        wanted = "previous" in rule.public or federation.attack is not None or watched
        self.previous = np.zeros(size) if wanted else None
        self.history = np.zeros((sites, size)) if rule.history else None
        self.root = np.zeros(size, np.float32) if federation.root else None
        rows = sites + federation.root
        self.momentum = np.full((rows, size), np.nan, np.float32) if federation.client_momentum else None
        short = federation.compressor
        self.residual = np.zeros((sites, size), np.float32) if short is not None and short.feedback else None
        self.moved = np.zeros(size, np.float32) if short is not None and short.needs_moved else None
        looks = federation.algorithm.keeps and rule.sees != "sum"
        self.controls = controls_start(rule, sites, rows, vector.size) if looks else None

    def vectors(self) -> Float:
        """[padded, d]: the model as each site has it."""
        found = np.repeat(self.vector[None], self.padded, axis=0)
        if self.personal is not None:
            found[:, self.mask] = self.personal
        return found

    def result(self) -> Float:
        """The vector [d], or each site's own [sites, d] where something is personal."""
        return self.vector if self.personal is None else self.vectors()[: self.sites]

    def arrays(self) -> dict[str, Any]:
        """For a checkpoint."""
        held: dict[str, Any] = {"vector": self.vector, "losses": self.losses, "control": self.control}
        held |= {"personal": self.personal} | {f"server.{name}": v for name, v in self.server.items()}
        held |= {f"rule.{name}": v for name, v in self.rule.items()}
        if self.reputation is not None:
            held |= {f"reputation.{n}": v for n, v in reputation_arrays(self.reputation).items()}
        if self.sums is not None:
            held |= {f"sums.{name}": value for name, value in sums_arrays(self.sums).items()}
        if self.controls is not None:
            held |= controls_arrays(self.controls)
        held |= {"previous": self.previous, "history": self.history, "momentum": self.momentum}
        held |= {"residual": self.residual, "moved": self.moved}
        held |= {"barred": None if self.barred is None else self.barred.astype(np.uint8)}
        return {name: value for name, value in held.items() if value is not None}

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.vector, self.losses = arrays["vector"], arrays["losses"]
        self.control, self.personal = arrays.get("control"), arrays.get("personal")
        self.server = {name: arrays[f"server.{name}"] for name in self.server}
        self.rule = {name: arrays[f"rule.{name}"] for name in self.rule}
        self.previous, self.history = arrays.get("previous"), arrays.get("history")
        self.momentum = arrays.get("momentum")
        self.residual, self.moved = arrays.get("residual"), arrays.get("moved")
        self.barred = arrays["barred"].astype(np.bool_) if "barred" in arrays else None
        if self.controls is not None:
            self.controls = controls_from(self.controls, arrays)
        if self.reputation is not None:
            self.reputation = reputation_from(
                {name: arrays[f"reputation.{name}"] for name in self.reputation._fields}
            )
        if self.sums is not None:
            self.sums = sums_from({name: arrays[f"sums.{name}"] for name in self.sums._fields})


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
    suspicion = np.full(len(names), np.nan)
    suspicion[here] = np.where(fine, result.suspicion, 1.0)
    whole = np.flatnonzero(~result.dropped & known)
    said = None if result.weights is None else result.weights[: len(here)][whole]
    own = [names[site] for site in here[whole]]
    before = [] if last is None else [last]
    inner = inner_products(updates[whole], np.array(before).reshape(len(before), updates.shape[1]))
    statistics = round_statistics(inner[: len(whole), : len(whole)], said)
    odd = [*flags(statistics, own), *derived_flags(inner, own)]
    if group.sums is not None:
        group.sums = sums_step(group.sums, updates[whole], here[whole])
        odd += camp_flags(group.sums, here[whole], own)
    odd.sort(key=lambda flag: own.index(flag["site"]))
    if group.reputation is not None:
        against = suspicion.copy()
        against[here[~known]] = np.nan
        # copies pull what "the others agree on" their way: then nothing is held against who points elsewhere
        copied = any(flag["kind"] == "copy" for flag in odd)
        for flag in odd:
            if flag["kind"] in _EVIDENCE and not (copied and flag["kind"] == "against"):
                against[names.index(flag["site"])] = 1.0
        group.reputation = reputation_step(group.reputation, against, federation.reputation, group.barred)
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
