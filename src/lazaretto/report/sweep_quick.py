"""What a quick look of a sweep left out of what its plan asks for."""

from __future__ import annotations

from typing import Any

from lazaretto.report.formats import items, mapping, number

__all__ = ["left_out_by_quick"]


def left_out_by_quick(about: dict[str, Any]) -> str:
    """A phrase that names only what was less than the plan asks for. about: the body of the record `sweep`.

    Where the plan names no rules or attacks it asks for all that can run: several are then but a part.
    """
    plan = mapping(about.get("plan"))
    asked = mapping(plan.get("robustness" if about.get("mode") == "robustness" else "sweep"))
    seeds = len(items(mapping(plan.get("run")).get("seeds")))
    fewer = {"seeds": min(number(asked.get("seeds")) or seeds, seeds) > len(items(about.get("seeds")))}
    if about.get("mode") == "robustness":
        known = {name: (asked.get(name), items(about.get(name))) for name in ("rules", "attacks", "shares")}
        fewer = {
            **{
                name: len(wanted) > len(tried) if isinstance(wanted, list) else len(tried) > 1
                for name, (wanted, tried) in known.items()
            },
            **fewer,
        }
    else:
        rounds, draws = number(mapping(plan.get("train")).get("rounds")), number(asked.get("draws"))
        walked = "train.rounds" in items(about.get("keys"))  # each of its values was divided
        fewer = {
            "rounds": walked or (rounds or 0) > (number(about.get("rounds")) or 0),
            "draws": about.get("mode") != "grid" and (draws or 0) > (number(about.get("draws")) or 0),
            **fewer,
        }
    names = [name for name, less in fewer.items() if less]
    if not names:
        return "a first look, though nothing that the plan asks for was left out"
    last = names.pop()
    return f"fewer {', '.join(names)}{' and ' if names else ''}{last} than the plan asks for"
