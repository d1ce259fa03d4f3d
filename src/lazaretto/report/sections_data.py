"""Sections about the data: the data sheet, and who saw what of it."""

from __future__ import annotations

from typing import Any

from lazaretto.report.blocks import STAYS, Block, Cell, Column, Facts, Grid, Row, Section, Text
from lazaretto.report.formats import (
    NOT_AVAILABLE,
    count,
    duration,
    items,
    mapping,
    number,
    percent,
    words,
)
from lazaretto.report.parts import lacking, nothing
from lazaretto.report.reading import Log, called, families, is_outcome, sites_of
from lazaretto.report.sections_run import messages_of

__all__ = ["seen", "sheet_of_data"]

_COUNTS = {
    "rows_read": "Rows read",
    "rows_unlabelled": "Rows without a label",
    "units": "Units",
    "windows": "Windows",
    "duplicates_removed": "Duplicates removed",
}


def sheet_of_data(log: Log) -> Section:
    """Source, units, splits, sites and families, dropped leaks, notes."""
    data = log.first("data")
    if not data:
        return lacking("data", "Data sheet", "Data", nothing(log, "The run log holds no data sheet."))
    features = items(data.get("features"))
    counts = mapping(data.get("counts"))
    step = str(data.get("step") or NOT_AVAILABLE)
    length = number(data.get("step_seconds"))
    pairs = [
        ("Source", str(data.get("source") or NOT_AVAILABLE)),
        ("Modality", words(data.get("modality") or NOT_AVAILABLE)),
        ("One step", _step(step, length)),
        (
            "Features",
            f"{len(features)}: {', '.join(words(f) for f in features)}" if features else NOT_AVAILABLE,
        ),
        (
            "Outcomes" if is_outcome(log) else "Families",
            ", ".join(words(f) for f in families(data.get("classes"))) or "none: normal steps only",
        ),
    ]
    known = [*(key for key in _COUNTS if key in counts), *(key for key in counts if key not in _COUNTS)]
    pairs += [(_COUNTS.get(key, words(key).capitalize()), count(counts[key])) for key in known]
    blocks: list[Block] = [Facts(pairs=tuple(pairs))]
    blocks += [
        block for block in (_splits(data), _leaks(data), _sites(data), _matrix(log)) if block is not None
    ]
    blocks += [Text(text=str(note), tone="note") for note in items(data.get("notes"))]
    return Section(name="data", title="Data sheet", nav="Data", blocks=tuple(blocks))


def _step(step: str, seconds: float | None) -> str:
    """What a step is, with its length where the words do not say it."""
    length = duration(seconds)
    plain = length.replace("\u202f", " ")
    return step if seconds is None or plain in step else f"{step}, {length} on average"


def _splits(data: dict[str, Any]) -> Grid | None:
    positive = str(data.get("positive") or "attacked steps")
    rows = []
    splits = mapping(data.get("splits"))
    for name in [n for n in ("train", "validation", "test") if n in splits] + sorted(
        set(splits) - {"train", "validation", "test"}
    ):
        body = mapping(splits[name])
        steps, attacked = number(body.get("steps")), number(body.get("attacked_steps"))
        share = percent(attacked / steps) if steps and attacked is not None else NOT_AVAILABLE
        cells = [Cell(text=count(body.get(key))) for key in ("units", "steps", "attacked_steps")]
        rows.append(Row(head=words(name).capitalize(), cells=(*cells, Cell(text=share))))
    if not rows:
        return None
    return Grid(
        caption="Splits: no unit stands in two of them",
        first="Split",
        columns=(
            Column(title="Units"),
            Column(title="Steps"),
            Column(title=positive[:1].upper() + positive[1:]),
            Column(title="Share"),
        ),
        rows=tuple(rows),
    )


def _leaks(data: dict[str, Any]) -> Grid | Text | None:
    leaks = data.get("leaks_dropped")
    if leaks is None:
        return None
    if not leaks or not isinstance(leaks, dict):
        return Text(text="No column was dropped as a leak.", tone="note")
    return Grid(
        caption="Columns dropped because they give the label away",
        first="Column",
        columns=(Column(title="Reason", numeric=False),),
        rows=tuple(Row(head=str(name), cells=(Cell(text=str(reason)),)) for name, reason in leaks.items()),
    )


def _sites(data: dict[str, Any]) -> Grid | None:
    sites = [mapping(site) for site in items(data.get("sites"))]
    if not sites:
        return None
    keys = ("train_units", "validation_units", "test_units", "steps")
    rows = [
        Row(head=str(s.get("name")), cells=tuple(Cell(text=count(s.get(k))) for k in keys)) for s in sites
    ]
    total = [sum(number(site.get(key)) or 0 for site in sites) for key in keys]
    rows.append(Row(head="Together", cells=tuple(Cell(text=count(value)) for value in total), total=True))
    return Grid(
        caption="Sites",
        first="Site",
        columns=(
            Column(title="Train", hint="units"),
            Column(title="Validation", hint="units"),
            Column(title="Test", hint="units"),
            Column(title="Steps"),
        ),
        rows=tuple(rows),
        mark=STAYS,
    )


def _matrix(log: Log) -> Grid | None:
    sites = sites_of(log)
    names = families(log.first("data").get("classes")) or sorted(
        {f for s in sites for f in mapping(s.get("families"))}
    )
    if not sites or not names:
        return None
    outcome = is_outcome(log)
    carrying = "with an attack" if called(log)[0] == "attacked steps" else "that carry a family"
    which = "of each outcome" if outcome else carrying
    judged = all(number(site.get(f"{part}_units")) == 0 for site in sites for part in ("train", "validation"))
    rows = []
    for site in sites:
        held, withheld = mapping(site.get("families")), {str(f) for f in items(site.get("withheld"))}
        unsaid = site.get("families") is None  # where privacy is promised
        cells = tuple(
            Cell(text="withheld", tone="withheld")
            if name in withheld
            else Cell(
                text=NOT_AVAILABLE if unsaid else count(held.get(name, 0)),
                tone="" if number(held.get(name)) else "faint",
            )
            for name in names
        )
        rows.append(Row(head=str(site.get("name")), cells=cells))
    return Grid(
        caption=f"Units {which}{'' if judged else ' outside test'}, by site"
        + ("" if outcome else " and family"),
        first="Site",
        columns=tuple(Column(title=words(name)) for name in names),
        rows=tuple(rows),
        mark=STAYS,
        note="" if judged else _left_out_note(sites, outcome),
        wide=True,
    )


def _left_out_note(sites: list[dict[str, Any]], outcome: bool) -> str:
    """Which units are counted, and what withheld means where something is."""
    which = "Training and validation units."
    if not any(items(site.get("withheld")) for site in sites):
        return which
    if outcome:
        return f"{which} Withheld: the site has no such unit in training."
    return (
        f"{which} Withheld: the site has no such attack in training; recall of families unseen at site is "
        "measured on these."
    )


def seen(log: Log) -> Section:
    """Every kind of message that left a site, and what never did."""
    title = "Who saw what"
    _, rows, _ = messages_of(log)
    if not rows:
        return lacking(
            "seen",
            title,
            "Who saw what",
            nothing(log, "No message was counted, so nothing can be said here."),
        )
    lines = []
    for links, who in (
        (("site-coordinator", "site-aggregator"), "Left the hospital"),
        (("aggregator-aggregator", "aggregator-coordinator"), "Among those who aggregate"),
        (("device-site",), "Stayed inside the hospital"),
    ):
        own = [row for row in rows if row.get("link") in links]
        for place, row in enumerate(own):
            ends = str(row.get("link")).split("-")
            ends = ends[::-1] if row.get("direction") == "down" else ends
            kind = str(row.get("kind"))
            cells = (
                Cell(text=f"{ends[0]} → {ends[1]}"),
                Cell(text=count(row.get("count"))),
            )
            carries = str(row.get("content") or "")
            lines.append(Row(head=words(kind), note=carries, cells=cells, group=who if place == 0 else ""))
    kinds = [
        words(r.get("kind"))
        for r in rows
        if str(r.get("link")).startswith("site-") and r.get("direction") == "up"
    ]
    text = (
        "In training the federated split, these kinds of message left a site, and no other: "
        f"{', '.join(dict.fromkeys(kinds))}. "
        if kinds
        else "No message left a site. "
    )
    text += (
        "The list is complete for this run: in simulation every message is counted when it is made. "
        "Parameters and counts are not raw data, but something can be inferred from them; "
        "docs/threat_model.md says what. Pooled baselines see all data: they are there to be compared with."
    )
    grid = Grid(
        caption="Kinds of message, who sent them to whom",
        first="Kind",
        columns=(
            Column(title="From → to", numeric=False),
            Column(title="Messages"),
        ),
        rows=tuple(lines),
    )
    return Section(name="seen", title=title, nav="Who saw what", blocks=(Text(text=text), grid))
