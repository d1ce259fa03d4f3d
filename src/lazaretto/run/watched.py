"""Who was flagged and quarantined in a federation, in which round: a summary of its records `round`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

__all__ = ["watched"]


def watched(
    rounds: Sequence[Mapping[str, Any]], names: Sequence[str], hostile: Collection[str]
) -> dict[str, Any]:
    """What watching and reputation made of each site.

    rounds: bodies of the records `round` of one training, in order. names: of all sites.
    "sites": for each its name, whether it is hostile, the round in which it was first flagged and first
    quarantined (None: never), and in how many rounds it was either. "kinds": flags by kind, of "hostile" and
    "honest" sites. "rounds": how many there were; "reputation": whether it was kept.
    """
    bad = set(hostile)
    flagged: dict[str, list[int]] = {name: [] for name in names}
    out: dict[str, list[int]] = {name: [] for name in names}
    kinds: dict[str, Counter[str]] = {"hostile": Counter(), "honest": Counter()}
    for body in rounds:
        place = int(body["round"])
        for flag in body.get("flags", ()):
            kinds["hostile" if flag["site"] in bad else "honest"][flag["kind"]] += 1
            if not flagged[flag["site"]] or flagged[flag["site"]][-1] != place:
                flagged[flag["site"]].append(place)
        for name in body.get("quarantined", ()):
            out[name].append(place)
    return {
        "rounds": len(rounds),
        "reputation": any("quarantined" in body for body in rounds),
        "sites": [
            {
                "name": name,
                "hostile": name in bad,
                "flagged": min(flagged[name], default=None),
                "rounds_flagged": len(flagged[name]),
                "quarantined": min(out[name], default=None),
                "rounds_out": len(out[name]),
            }
            for name in names
        ],
        "kinds": {side: dict(sorted(found.items())) for side, found in kinds.items()},
    }
