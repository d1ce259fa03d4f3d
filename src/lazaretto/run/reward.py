"""What each site's share of a reward would be when a training has ended, and what that follows from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lazaretto.reputation import Reputation, reward_shares
from lazaretto.run.journal import Journal
from lazaretto.types import Int

__all__ = ["record_reward", "reward_of"]


def reward_of(
    names: Sequence[str], steps: Int, reputation: Reputation | None, rounds: int
) -> dict[str, dict[str, Any]]:
    """{"reward": the record's body, less seed and system}, for a stage; {} where no reputation was kept.

    names: of all S sites. steps: [S] training steps, as each site says; root data behind them is no site's.
    reputation: after the last of `rounds`.
    Of each site "share" is trust · train_steps, divided by what all come to; 0 in quarantine, and for who was
    judged in no round ("rounds_judged").
    """
    if reputation is None:
        return {}
    shares = reward_shares(reputation, steps[: len(names)])
    sites = [
        {
            "name": name,
            "trust": float(reputation.trust[site]),
            "quarantined": bool(reputation.quarantined[site]),
            "rounds_judged": int(reputation.seen[site]),
            "train_steps": int(steps[site]),
            "share": float(shares[site]),
        }
        for site, name in enumerate(names)
    ]
    return {"reward": {"rounds": rounds, "sites": sites}}


def record_reward(journal: Journal, seed: int, system: str, meta: Mapping[str, Any]) -> None:
    """Log what a finished stage holds of `reward_of`, if it does."""
    if "reward" in meta:
        journal.record("reward", {"seed": seed, "system": system, **meta["reward"]})
