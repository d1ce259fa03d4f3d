"""Section on hostile sites: who they were, who was flagged when, trust, quarantine, and backdoors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lazaretto.report.blocks import STAYS, Block, Cell, Column, Grid, Picture, Row, Section, Text
from lazaretto.report.figures_trust import TrustLine, trust_over_rounds
from lazaretto.report.formats import (
    NOT_AVAILABLE,
    count,
    counted,
    fixed,
    interval_text,
    items,
    mapping,
    number,
    triple,
    words,
)
from lazaretto.report.parts import picture
from lazaretto.report.reading import OURS, Log, system_key
from lazaretto.report.reward import rewards

__all__ = ["hostile_sites"]


@dataclass(slots=True)
class _Site:
    """What the rounds of one seed say of a site."""

    hostile: bool
    flagged: list[float] = field(default_factory=list)
    reason: str = ""
    out: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    trust: list[float] = field(default_factory=list)


def hostile_sites(log: Log) -> Section | None:
    """None where nobody was hostile, no trust was kept and no site was flagged."""
    seeds = {str(sheet.get("seed")): sheet for sheet in log.all("data")}
    read = {seed: _sites(log, seed, sheet) for seed, sheet in seeds.items()}
    attacks = [mapping(sheet.get("attack")) for sheet in seeds.values() if mapping(sheet.get("attack"))]
    trusted = any(site.trust for sites in read.values() for site in sites.values())
    noticed = any(site.flagged for sites in read.values() for site in sites.values())
    if not (attacks or trusted or noticed):
        return None
    blocks: list[Block] = [Text(text=_story(log, attacks, read, trusted))]
    blocks += [figure for seed in list(read)[:1] if (figure := _figure(seed, read[seed])) is not None]
    if (table := _table(read)) is not None:
        blocks.append(table)
    blocks += rewards(log)
    return Section(name="hostile", title="Hostile sites", nav="Hostile", blocks=tuple(blocks))


def _sites(log: Log, seed: str, sheet: dict[str, Any]) -> dict[str, _Site]:
    """Name -> site, of our system's training with one seed."""
    bad = {str(name) for name in items(mapping(sheet.get("attack")).get("sites"))}
    names = [str(mapping(row).get("name")) for row in items(sheet.get("sites"))]
    found = {name: _Site(name in bad) for name in names}
    for body in log.all("round"):
        place = number(body.get("round"))
        if place is None or str(body.get("seed")) != seed or system_key(body.get("system", OURS)) != OURS:
            continue
        for flag in map(mapping, items(body.get("flags"))):
            if (site := found.get(str(flag.get("site")))) is not None:
                site.flagged += [] if site.flagged[-1:] == [place] else [place]
                site.reason = str(flag.get("reason") or "")
        for name in map(str, items(body.get("quarantined"))):
            if name in found:
                found[name].out.append(place)
        for name, value in mapping(body.get("trust")).items():
            if name in found and (trust := number(value)) is not None:
                found[name].rounds.append(place)
                found[name].trust.append(trust)
    return found


def _story(
    log: Log, attacks: Sequence[dict[str, Any]], read: dict[str, dict[str, _Site]], trusted: bool
) -> str:
    everyone = [site for sites in read.values() for site in sites.values()]
    bad, good = [s for s in everyone if s.hostile], [s for s in everyone if not s.hostile]
    said = []
    if attacks:
        few, of = len(items(attacks[0].get("sites"))), len(next(iter(read.values())))
        said.append(
            f"In this simulation {count(few)} of {counted(of, 'site')} {_was(few)} hostile on purpose "
            f"({words(attacks[0].get('name'))}), drawn anew with each seed."
        )
        if attacks[0].get("kind") == "scores":
            said.append("They lie about scores alone: updates are honest, and flags of any site are chance.")
        said.append(_flagged("hostile ", bad, len(read)))
    said.append(_flagged("honest " if attacks else "", good, len(read)))
    if trusted:
        for side, sites in (("hostile", bad), ("honest", good)):
            out = [site for site in sites if site.out]
            if sites:
                said.append(
                    f"{_of(out, sites, f'{side} ', len(read))} quarantined"
                    + (f", the last first in round {fixed(max(s.out[0] for s in out), 0)}." if out else ".")
                )
        if anew := [
            body
            for body in log.all("round")
            if body.get("began_anew") and system_key(body.get("system", OURS)) == OURS
        ]:
            first = min(number(body.get("round")) or 0 for body in anew)
            said.append(
                f"Those in quarantine after round {fixed(first - 1, 0)} stayed out: training began anew "
                + (
                    f"without them, with {count(len(anew))} of {counted(len(read), 'seed')}."
                    if len(read) > 1
                    else "without them."
                )
            )
        longest = max((len(site.out) for site in good), default=0)
        said.append(f"No honest site spent more than {counted(longest, 'round')} in quarantine.")
    else:
        said.append("No reputation was kept, so nobody was quarantined.")
    for row in map(mapping, items(log.last("metrics").get("comparison"))):
        if row.get("metric") == "backdoor_success":
            success = interval_text(triple(row), 3)
            said.append(f"The backdoor's trigger takes this share of recall on test units: {success}.")
    return " ".join(said)


def _flagged(side: str, sites: Sequence[_Site], seeds: int) -> str:
    found = [site for site in sites if site.flagged]
    first = f", first in round {fixed(min(s.flagged[0] for s in found), 0)}" if found else ""
    return f"{_of(found, sites, side, seeds)} flagged{first}."


def _of(found: Sequence[_Site], sites: Sequence[_Site], side: str, seeds: int) -> str:
    """How many of the sites; each counts once with every seed, and that is said."""
    each, rest = divmod(len(sites), seeds)
    if seeds == 1:
        of = counted(len(sites), f"{side}site")
    elif rest == 0:
        of = f"{counted(each, f'{side}site')} × {counted(seeds, 'seed')}"
    else:
        of = f"{counted(len(sites), f'{side}site')} of {counted(seeds, 'seed')} together"
    return f"{count(len(found))} of {of} {_was(len(found))}"


def _was(many: int) -> str:
    return "was" if many == 1 else "were"


def _figure(seed: str, sites: dict[str, _Site]) -> Picture | None:
    lines = [
        TrustLine(
            rounds=tuple(site.rounds), trust=tuple(site.trust), hostile=site.hostile, out=tuple(site.out)
        )
        for site in sites.values()
        if site.trust
    ]
    if not lines:
        return None
    ends = [
        f"{name} {fixed(site.trust[-1], 2)}" for name, site in sites.items() if site.hostile and site.trust
    ]
    finding = f"At the end hostile sites have trust: {', '.join(ends)}." if ends else "Nobody was hostile."
    caption = f"Seed {seed}. Who is in quarantine is checked in every round, and not used."
    texts = ("Trust over the rounds", caption, finding)
    return picture("trust", texts, lambda wide: trust_over_rounds(lines, wide), STAYS)


def _table(read: dict[str, dict[str, _Site]]) -> Grid | None:
    """Sites that were hostile, flagged or quarantined, seed by seed."""
    rows = []
    for seed, sites in read.items():
        noted = {name: s for name, s in sites.items() if s.hostile or s.flagged or s.out}
        for place, (name, site) in enumerate(sorted(noted.items(), key=lambda pair: not pair[1].hostile)):
            rows.append(
                Row(
                    head=name,
                    group=f"Seed {seed}" if place == 0 else "",
                    cells=(
                        Cell(text="hostile" if site.hostile else "honest"),
                        _rounds(site.flagged),
                        Cell(text=site.reason or NOT_AVAILABLE),
                        _rounds(site.out, false=not site.hostile),
                        Cell(text=fixed(min(site.trust), 2) if site.trust else NOT_AVAILABLE),
                    ),
                )
            )
    if not rows:
        return None
    return Grid(
        caption="Who was noticed, and when",
        first="Site",
        columns=(
            Column(title="In truth", numeric=False),
            Column(title="First flagged", hint="round"),
            Column(title="What was said last", numeric=False),
            Column(title="Quarantined", hint="from round"),
            Column(title="Lowest trust"),
        ),
        rows=tuple(rows),
        mark=STAYS,
        wide=True,
        note="Who was neither hostile nor noticed is left out. A flag is a reason to look, no verdict.",
    )


def _rounds(places: Sequence[float], *, false: bool = False) -> Cell:
    if not places:
        return Cell(text="never", tone="faint")
    return Cell(text=fixed(places[0], 0), under=counted(len(places), "round"), tone="no" if false else "")
