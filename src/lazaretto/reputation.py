"""Trust per site over the rounds of a run: from suspicion to less weight, to quarantine, and back.

A rule says in each round how much speaks against each site: suspicion s in [0, 1]. What a site weighs says
less, as Krum gives all but one site no weight. A round counts against a site by e = min(1, s / suspected_at),
fully from `suspected_at` on: rules say 1 - usual / distance, so 1/2 is twice as far as usual, and the
difference between 1/2 and 1 is one between bad and worse. Trust forgets by a factor λ = `decay` for every
round in which the site took part:

    t ← λ · t + (1 - λ) · (1 - e),  t = 1 at the start.

A round is *bad* where 1 - e < q = `quarantine_below`. A site is quarantined in a bad round that leaves its
trust below q. What follows from that:

- Suspicion that stays at s leads to t → 1 - e, so to quarantine where s > suspected_at · (1 - q), with
  the defaults .44. A site that stays below is never quarantined, however long the run.
- A site suspected fully has t = λ^k after k rounds at most, so it is out after the smallest k with λ^k < q
  (`rounds_to_quarantine`): with the defaults 10, also after any number of good rounds before.
- One round never does it from full trust: λ < q is refused.
- Suspicion at random, fully in a share p of the rounds and not at all in the others: t has mean 1 - p and
  standard deviation √(p (1 - p) (1 - λ) / (1 + λ)). With p = 1/3 and the defaults q lies 3.5 of these below
  the mean; t is bounded, not normal, and by simulation falls below q about once in 10,000 rounds. The way out
  is then 2 good rounds, 4 chances of 9 that they are the next two.

So a low q with a short memory was chosen. With q = 1/2 and the λ that brings a site out in ten rounds (.93)
the last site would fall below q about once in 70 rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError, PlanError
from lazaretto.types import Array, Int

__all__ = [
    "Reputation",
    "ReputationSettings",
    "reputation_arrays",
    "reputation_from",
    "reputation_start",
    "reputation_step",
    "reward_shares",
    "rounds_to_quarantine",
    "say",
]


class Reputation(NamedTuple):
    """What is known of S sites.

    trust:       [S] float64 in [0, 1].
    quarantined: [S] bool: checked in every round, not used.
    good:        [S] rounds in a row, up to the last, that were not bad.
    seen:        [S] rounds in which the site took part.
    quarantines: [S] how often it was quarantined.
    """

    trust: NDArray[np.float64]
    quarantined: NDArray[np.bool_]
    good: Int
    seen: Int
    quarantines: Int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReputationSettings:
    """How trust is kept; the module says what follows from the numbers.

    decay: in (0, .999], what is left of trust's past after one round.
    suspected_at: in (0, 1], suspicion from which a round counts fully against a site.
    quarantine_below: in [.001, decay], trust below which a bad round leads to quarantine.
    readmit_rounds: >= 1, good rounds in a row, checked and not used, after which a site is back.
    relapse: >= 0, so many more for each quarantine before this one.
    weigh: whether trust below 1 lowers what a site weighs before it comes to quarantine.
    at_most: in (0, .5], share of the sites that ever took part that may be in quarantine at once.
    camps: whether a minority that points another way than the others counts as evidence (`lazaretto.camps`).
    alike: whether being far more alike than is usual counts, of three sites or more (the same).
    Raises PlanError for a number outside of its range.
    """

    decay: float = 0.8
    suspected_at: float = 0.5
    quarantine_below: float = 0.12
    readmit_rounds: int = 2
    relapse: int = 2
    weigh: bool = True
    at_most: float = 0.5
    camps: bool = True
    alike: bool = True

    def __post_init__(self) -> None:
        ranges = (
            ("decay", 0 < self.decay <= 0.999, "above 0 and at most 0.999"),
            ("suspected_at", 0 < self.suspected_at <= 1, "above 0 and at most 1"),
            ("quarantine_below", 0.001 <= self.quarantine_below <= self.decay, "from 0.001 to decay"),
            ("readmit_rounds", self.readmit_rounds >= 1, "at least 1"),
            ("relapse", self.relapse >= 0, "at least 0"),
            ("at_most", 0 < self.at_most <= 0.5, "above 0 and at most 0.5"),
        )
        for name, fine, way_out in ranges:
            if not fine:
                raise PlanError(
                    f"reputation.{name}: out of its range", found=getattr(self, name), way_out=way_out
                )


def rounds_to_quarantine(settings: ReputationSettings) -> int:
    """Rounds, >= 2, after which a site is out at the latest that is suspected fully in each of them."""
    trust, rounds = 1.0, 0
    while trust >= settings.quarantine_below:  # as `reputation_step` multiplies, to the last bit
        trust, rounds = settings.decay * trust, rounds + 1
    return rounds


def reputation_start(sites: int) -> Reputation:
    """Of so many sites, >= 0, before the first round: all trusted, none seen."""
    nothing = np.zeros(sites, np.int64)
    return Reputation(np.ones(sites), np.zeros(sites, np.bool_), nothing, nothing.copy(), nothing.copy())


def reputation_step(
    reputation: Reputation,
    suspicion: Array,
    settings: ReputationSettings | None = None,
    barred: NDArray[np.bool_] | None = None,
) -> Reputation:
    """Reputation after a round with suspicion [S] in [0, 1], NaN where nothing was judged.

    barred: [S] who stays in quarantine whatever it does, or None.

    NaN leaves a site exactly as it was, in quarantine or not. A site in quarantine has to be judged with the
    others, or it never comes back; a rule that was told size 0 for it has *not* judged it, and the 0 that it
    says is not good behaviour. So where somebody is in quarantine a round asks the rule twice: with all
    sizes, for suspicion, and with `say` on the sizes, for the update.

    No more than `at_most` of the sites that ever took part are in quarantine at once. Who is in it keeps
    its place; of the others the least trusted go, and of those tied for the last places none: order never
    decides. Who stays in for want of room goes in a later bad round in which there is some. Raises
    InputError for another shape or a number outside of [0, 1].
    """
    settings = ReputationSettings() if settings is None else settings
    given = np.asarray(suspicion, np.float64)
    if given.shape != reputation.trust.shape:
        raise InputError(
            "suspicion is not one number for each site",
            found=f"shape {given.shape}, and {len(reputation.trust)} sites",
            way_out="NaN for sites of which nothing came",
        )
    here = ~np.isnan(given)
    if not ((given[here] >= 0) & (given[here] <= 1)).all():
        wrong = int(np.flatnonzero(here & ~((given >= 0) & (given <= 1)))[0])
        raise InputError(
            f"the suspicion of site {wrong} is outside of [0, 1]",
            found=float(given[wrong]),
            way_out="a rule's suspicion, or NaN where nothing came",
        )
    # divided only where it stays below 1: a tiny suspected_at would overflow
    fully = given >= settings.suspected_at
    against = np.divide(given, settings.suspected_at, out=np.ones_like(given), where=here & ~fully)
    kept = settings.decay * reputation.trust + (1 - settings.decay) * (1 - against)
    trust = np.where(here, np.clip(kept, 0.0, 1.0), reputation.trust)
    bad = here & (1 - against < settings.quarantine_below)
    good = np.where(here, np.where(bad, 0, reputation.good + 1), reputation.good)
    seen = reputation.seen + here
    needed = settings.readmit_rounds + settings.relapse * np.maximum(reputation.quarantines - 1, 0)
    back = here & (good >= needed)
    staying = reputation.quarantined & ~(back if barred is None else back & ~barred)
    asked = bad & ~reputation.quarantined & (trust < settings.quarantine_below)
    room = int(settings.at_most * int((seen > 0).sum()) + 1e-9) - int(staying.sum())
    entering = _least_trusted(trust, asked, room)
    return Reputation(trust, staying | entering, good, seen, reputation.quarantines + entering)


def _least_trusted(trust: Array, asked: NDArray[np.bool_], room: int) -> NDArray[np.bool_]:
    """[S]: those asked for, where there is room for all; else those below the first who has no room."""
    if int(asked.sum()) <= max(room, 0):
        return asked
    limit = np.sort(trust[asked])[max(room, 0)]
    return np.asarray(asked & (trust < limit))


def say(reputation: Reputation, settings: ReputationSettings | None = None) -> NDArray[np.float64]:
    """[S] in [0, 1], a factor on the sites' sizes: ones at the start, 0 in quarantine.

    Else trust, but never less than `quarantine_below`, so that who stays in has some say; or 1 where
    `weigh` is off.
    """
    settings = ReputationSettings() if settings is None else settings
    trust = np.maximum(reputation.trust, settings.quarantine_below)
    return np.where(reputation.quarantined, 0.0, trust if settings.weigh else 1.0)


def reward_shares(reputation: Reputation, sizes: Array) -> NDArray[np.float64]:
    """[S] >= 0 summing to 1: by trust · size, nothing in quarantine or for who was never seen.

    Zeros where nobody has a share. What sizes say is up to the sites, so this shares out among sites that
    count honestly; it does not measure what a site's data was worth.
    Raises InputError for sizes of another shape, below 0, or not finite.
    """
    given = np.asarray(sizes, np.float64)
    if given.shape != reputation.trust.shape or not (np.isfinite(given) & (given >= 0)).all():
        raise InputError(
            "sizes are not one number >= 0 for each site",
            found=f"shape {given.shape}, and {len(reputation.trust)} sites",
            way_out="the sites' training steps",
        )
    used = ~reputation.quarantined & (reputation.seen > 0)
    given = np.where(used, given, 0.0)
    largest = float(given.max(initial=0.0))
    if largest == 0:
        return np.zeros(len(given))
    part = reputation.trust * (given / largest)
    total = float(part.sum())
    return part / total if total > 0 else np.zeros(len(given))


_TYPES = {
    "trust": np.float64,
    "quarantined": np.bool_,
    "good": np.int64,
    "seen": np.int64,
    "quarantines": np.int64,
}


def reputation_arrays(reputation: Reputation) -> dict[str, Array]:
    """Name -> array [S], for a checkpoint; bools as uint8."""
    return {
        name: value.astype(np.uint8) if value.dtype == np.bool_ else value.copy()
        for name, value in reputation._asdict().items()
    }


def reputation_from(arrays: Mapping[str, Array]) -> Reputation:
    """From what `reputation_arrays` gave, exactly; more names are left alone.

    Raises InputError where an array is missing, is not [S], or trust is outside of [0, 1].
    """
    missing = [name for name in _TYPES if name not in arrays]
    if missing:
        raise InputError(
            "the saved reputation is not whole",
            found=f"without {', '.join(missing)}",
            way_out="start the run anew",
        )
    found = Reputation(**{name: np.array(arrays[name]).astype(kind) for name, kind in _TYPES.items()})
    shapes = {value.shape for value in found}
    if len(shapes) != 1 or found.trust.ndim != 1 or not ((found.trust >= 0) & (found.trust <= 1)).all():
        raise InputError(
            "the saved reputation is not one of S sites with trust in [0, 1]",
            found=f"shapes {sorted(shapes)}",
            way_out="start the run anew",
        )
    return found
