"""What each site's share of a reward would be, in the section on trust: a table, and what it is not."""

from __future__ import annotations

from typing import Any

from lazaretto.report.blocks import STAYS, Block, Cell, Column, Grid, Row, Text
from lazaretto.report.formats import NOT_AVAILABLE, count, fixed, items, mapping, number, percent, seeds_text
from lazaretto.report.reading import OURS, Log, system_key

__all__ = ["rewards"]


def rewards(log: Log) -> list[Block]:
    """A table of the first seed, and a sentence on all where sites were hostile; [] where none was logged."""
    found = [body for body in log.all("reward") if system_key(body.get("system", OURS)) == OURS]
    if not found:
        return []
    attacked = {str(sheet.get("seed")): mapping(sheet.get("attack")) for sheet in log.all("data")}
    bad = {seed: {str(name) for name in items(attack.get("sites"))} for seed, attack in attacked.items()}
    said = _to_hostile(found, bad)
    table = _table(found[0], bad.get(str(found[0].get("seed")), set()), more=len(found) > 1)
    return [*([] if said is None else [Text(text=said)]), *([] if table is None else [table])]


def _sites(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [mapping(site) for site in items(body.get("sites"))]


def _to_hostile(found: list[dict[str, Any]], bad: dict[str, set[str]]) -> str | None:
    """What hostile sites would get together, beside what they hold: means over seeds."""
    got, held, seeds = 0.0, 0.0, []
    for body in found:
        hostile, sites = bad.get(str(body.get("seed")), set()), _sites(body)
        steps = [number(site.get("train_steps")) or 0.0 for site in sites]
        if not hostile or not sum(steps):
            continue
        theirs = [str(site.get("name")) in hostile for site in sites]
        got += sum((number(s.get("share")) or 0.0) for s, one in zip(sites, theirs, strict=True) if one)
        held += sum(size for size, one in zip(steps, theirs, strict=True) if one) / sum(steps)
        seeds.append(body.get("seed"))
    if not seeds:
        return None
    mean = "mean of " if len(seeds) > 1 else ""
    return (
        "Were a reward divided by trust times size at the end of training, hostile sites would together get "
        f"{_share(got / len(seeds))} of it, and hold {_share(held / len(seeds))} of the training steps "
        f"({mean}{seeds_text(seeds)})."
    )


def _table(body: dict[str, Any], hostile: set[str], *, more: bool) -> Grid | None:
    """All sites, the largest share first."""
    sites = sorted(_sites(body), key=lambda site: -(number(site.get("share")) or 0.0))
    if not sites:
        return None
    truth = (Column(title="In truth", numeric=False),) if hostile else ()
    seed = str(body.get("seed"))
    return Grid(
        caption=f"What each site's share of a reward would be, seed {seed}",
        first="Site",
        columns=(
            Column(title="Share"),
            Column(title="Trust", hint="at the end"),
            Column(title="Training steps"),
            *truth,
        ),
        rows=tuple(_row(site, hostile) for site in sites),
        mark=STAYS,
        note="A share is trust times training steps, divided by what all sites come to; 0 for who is in "
        "quarantine or was never judged. It is no payment: nothing is paid by it. Nor does it say what a "
        "site's data was worth: steps are what sites say, and who says more gets more."
        + (" Shares with the other seeds are in the run log (records `reward`)." if more else ""),
    )


def _row(site: dict[str, Any], hostile: set[str]) -> Row:
    name, out = str(site.get("name")), site.get("quarantined") is True
    trust, share = number(site.get("trust")), number(site.get("share"))
    never = number(site.get("rounds_judged")) == 0
    truth = (Cell(text="hostile" if name in hostile else "honest"),) if hostile else ()
    return Row(
        head=name,
        cells=(
            Cell(
                text=NOT_AVAILABLE if share is None else _share(share),
                tone="no" if out and hostile and name not in hostile else "",
            ),
            Cell(
                text=NOT_AVAILABLE if trust is None else fixed(trust, 2),
                under="in quarantine" if out else "never judged" if never else "",
            ),
            Cell(text=count(site.get("train_steps"))),
            *truth,
        ),
    )


def _share(value: float) -> str:
    return percent(value, 1 if value else 0)
