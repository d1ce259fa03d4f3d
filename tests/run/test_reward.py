"""What a stage keeps of rewards: worked by hand, of sites alone, and only where trust is kept."""

from __future__ import annotations

import numpy as np

from lazaretto.reputation import reputation_start
from lazaretto.run.reward import reward_of


def test_shares_stand_beside_what_they_follow_from() -> None:
    start = reputation_start(4)
    kept = start._replace(
        trust=np.array([1.0, 0.5, 1.0, 1.0]),
        quarantined=np.array([False, False, True, False]),
        seen=np.array([3, 3, 3, 0]),
    )
    steps = np.array([10, 60, 500, 70, 9000])  # the last is root data, and no site's
    body = reward_of(["a", "b", "c", "d"], steps, kept, 3)["reward"]
    assert body["rounds"] == 3
    columns = ("name", "trust", "quarantined", "rounds_judged", "train_steps", "share")
    assert [tuple(site[key] for key in columns) for site in body["sites"]] == [
        ("a", 1.0, False, 3, 10, 0.25),
        ("b", 0.5, False, 3, 60, 0.75),
        ("c", 1.0, True, 3, 500, 0.0),
        ("d", 1.0, False, 0, 70, 0.0),
    ]


def test_without_reputation_there_is_none() -> None:
    assert reward_of(["a"], np.array([3]), None, 2) == {}
