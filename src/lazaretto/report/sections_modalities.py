"""Section on several modalities: each alone, each withheld, what they find by family, whether they meet."""

from __future__ import annotations

from typing import Any

from lazaretto.report.alarms import told, untold_text
from lazaretto.report.blocks import Block, Cell, Column, Grid, Row, Section
from lazaretto.report.formats import fixed, mapping, number, percent, words
from lazaretto.report.parts import cell, lacking, unjudged
from lazaretto.report.reading import (
    METRICS,
    OURS,
    Log,
    false_positive_rate,
    families,
    measured,
    system_name,
    systems,
)

__all__ = ["modalities"]

_ROWS = (OURS, "traffic_only", "record_only", "without_record", "without_traffic")
_COLUMNS = ("auroc", "auprc", "recall", "latency_steps", "false_alarms_per_device_day")


def modalities(log: Log) -> Section | None:
    """Both modalities, one alone and one withheld; None where the run has but one."""
    if log.first("data").get("modality") != "combined":
        return None
    title, found = "Traffic and records", systems(log)
    found = {name: found[name] for name in _ROWS if name in found}
    if len(found) < 2:
        why = unjudged(log, "Nothing was judged with a modality alone or withheld.")
        return lacking("modalities", title, "Modalities", why)
    blocks: list[Block] = [_side_by_side(log, found)]
    order = families(log.first("data").get("classes"))
    if by_family := _by_family(found, order, percent(false_positive_rate(log))):
        blocks.append(by_family)
    if again := _found_again(log.last("found again")):
        blocks.append(again)
    return Section(name="modalities", title=title, nav="Modalities", blocks=tuple(blocks))


def _side_by_side(log: Log, found: dict[str, dict[str, Any]]) -> Grid:
    kept = [metric for metric in METRICS if metric.keys[0] in _COLUMNS]
    kept = [metric for metric in kept if any(told(log, body, metric, name) for name, body in found.items())]
    rows = [
        Row(
            head=_name(name),
            cells=tuple(cell(told(log, body, metric, name), 3 if metric.ratio else 2) for metric in kept),
            ours=name == OURS,
        )
        for name, body in found.items()
    ]
    return Grid(
        caption="The same test steps with both modalities and with one",
        first="Modalities",
        columns=tuple(Column(title=metric.title, hint=metric.hint) for metric in kept),
        rows=tuple(rows),
        wide=True,
        note="Alone: the model was trained with one modality. Withheld: the model that was trained with both "
        "is judged as if one had never been there, at a threshold set on validation units in the same state. "
        f"A step that has only the missing modality counts, too.{untold_text(log, found.items())}",
    )


def _name(system: str) -> str:
    return "both" if system == OURS else system_name(system).removeprefix("ours").strip(", ")


def _by_family(found: dict[str, dict[str, Any]], order: list[str], rate: str) -> Grid | None:
    tables = {name: mapping(body.get("recall_by_class")) for name, body in found.items()}
    known = [family for family in order if any(family in table for table in tables.values())]
    if not known:
        return None
    rows = tuple(
        Row(head=words(family), cells=tuple(cell(measured(table, family), 2) for table in tables.values()))
        for family in known
    )
    return Grid(
        caption=f"What each modality finds: recall by family, at {rate} false positives",
        first="Family",
        columns=tuple(Column(title=_name(name)) for name in tables),
        rows=rows,
        wide=True,
    )


def _found_again(body: dict[str, Any]) -> Grid | None:
    places = [("cut", "at the cut"), ("fusion", "where they are fused"), ("chance", "by chance")]
    ranks = sorted(mapping(body.get("chance")), key=int)
    if not ranks:
        return None
    rows = []
    for key, said in places:
        values = [number(mapping(body.get(key)).get(k)) for k in ranks]
        cells = tuple(Cell(text="n/a" if value is None else fixed(value, 3)) for value in values)
        rows.append(Row(head=said, cells=cells))
    units = round(number(body.get("units")) or 0)
    return Grid(
        caption="Whose record is this? A unit's own record among those nearest to its traffic",
        first="Views",
        columns=tuple(Column(title=f"recall@{k}") for k in ranks),
        rows=tuple(rows),
        note=f"Among some {units} test units of the first seed at one and the same step, mean of "
        f"{int(number(body.get('repeats')) or 0)} such steps; nearest by the cosine of the views that "
        "train.alignment_cut and train.alignment_fusion bring together (where both are 0 nothing does).",
    )
