"""What the log of a sweep of rules against attacks holds: figures by rule and attack, who was hostile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lazaretto.report.formats import Triple, count, counted, items, mapping, number, percent, triple
from lazaretto.report.reading import Log

__all__ = ["MEAN", "NONE", "Found", "axis_of", "bodies_over_shares", "found_of", "most_lost", "value_of"]

MEAN, NONE = "mean", "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the log holds. tree: rule -> attack -> share -> figures. share: at which pairs were screened.

    hostile: share that was asked for -> how many of the `sites` were hostile, where the log tells.
    """

    rules: tuple[str, ...]
    attacks: tuple[str, ...]
    shares: tuple[float, ...]
    share: float
    own: str
    tree: dict[str, Any]
    worst: dict[str, Any]
    sites: int
    hostile: dict[float, int]

    def at(self, rule: str, attack: str, share: float) -> dict[str, Any]:
        """Figures of a cell, or an empty map."""
        return mapping(mapping(mapping(self.tree.get(rule)).get(attack)).get(f"{share:g}"))

    def honest(self, rule: str) -> dict[str, Any]:
        """Without an attack."""
        return self.at(rule, NONE, 0.0)

    def hit(self, rule: str) -> dict[str, Any]:
        """Under the rule's worst attack, at the share of the screening."""
        return self.at(rule, str(self.worst.get(rule)), self.share)

    def who(self, share: float | None = None) -> str:
        """`6 of 20 sites`, at a share that was asked for (that of the screening unless told).

        A share is rounded down to whole sites, and to one at least: the count says what was so. Where the
        log does not tell it, what was asked for: `30 % of the sites`.
        """
        share = self.share if share is None else share
        many = self.hostile.get(share)
        if many is None:
            return f"{percent(share)} of the sites"
        return f"{count(many)} of {counted(self.sites, 'site')}"


def found_of(log: Log) -> Found:
    """Everything that the sections share; empty where the log has not come that far."""
    about = log.last("sweep")
    sites, hostile = _counted(log)
    return Found(
        rules=tuple(map(str, items(about.get("rules")))),
        attacks=tuple(map(str, items(about.get("attacks")))),
        shares=tuple(s for s in map(number, items(about.get("shares"))) if s is not None),
        share=number(about.get("screen_share")) or 0.0,
        own=str(about.get("own_rule")),
        tree=mapping(log.last("robustness").get("tree")),
        worst=mapping(log.last("worst").get("worst")),
        sites=sites,
        hostile=hostile,
    )


def axis_of(found: Found) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Shares that differ in who was hostile, where each stands on the axis, and what the axis counts."""
    many = {0.0: 0, **{share: found.hostile[share] for share in found.shares if share in found.hostile}}
    if not set(found.shares) <= set(many):
        shares = (0.0, *found.shares)
        return shares, tuple(100 * share for share in shares), "the share of hostile sites, in percent"
    first = {count: share for share, count in reversed(list(many.items()))}
    counts = sorted(first)
    axis = f"the number of hostile sites, of {found.sites}"
    return tuple(first[count] for count in counts), tuple(map(float, counts)), axis


def bodies_over_shares(found: Found, rule: str, shares: Sequence[float]) -> list[dict[str, Any]]:
    """A rule's figures at each share: without an attack at 0, else under its worst."""
    worst = str(found.worst.get(rule))
    return [found.at(rule, worst, share) if share else found.honest(rule) for share in shares]


def most_lost(by_class: dict[str, Any]) -> tuple[str, Triple | None]:
    """Of losses by family the largest, and whose it is; ("", None) where there is none."""
    known = [(name, value) for name, body in by_class.items() if (value := triple(body)) is not None]
    return max(known, key=lambda pair: pair[1].value, default=("", None))


def value_of(body: dict[str, Any], name: str) -> float | None:
    """The estimate of a figure of a cell."""
    return number(mapping(body.get(name)).get("value"))


def _counted(log: Log) -> tuple[int, dict[float, int]]:
    """How many sites there are, and how many were hostile at each share; (0, {}) where trainings differ."""
    seen: dict[float, set[tuple[int, int]]] = {}
    for body in log.all("case"):
        sites = [mapping(site) for site in items(mapping(body.get("watched")).get("sites"))]
        if sites and (share := number(body.get("share"))) is not None:
            bad = sum(site.get("hostile") is True for site in sites)
            seen.setdefault(share, set()).add((bad, len(sites)))
    every = {many for pairs in seen.values() for _, many in pairs}
    if len(every) != 1:
        return 0, {}
    return every.pop(), {share: next(iter(pairs))[0] for share, pairs in seen.items() if len(pairs) == 1}
