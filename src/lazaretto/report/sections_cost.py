"""Section on what training costs: seconds, operations and bytes, against training on pooled data."""

from __future__ import annotations

from typing import Any

from lazaretto.report.blocks import Block, Cell, Column, Grid, Picture, Row, Section
from lazaretto.report.figures_run import Bar, bars
from lazaretto.report.formats import NOT_AVAILABLE, bytes_human, duration, mapping, number, operations_human
from lazaretto.report.parts import lacking, nothing, picture
from lazaretto.report.reading import OURS, REFERENCES, Log, system_key, system_name

__all__ = ["cost"]


def cost(log: Log) -> Section:
    """What each system's training took."""
    title = "Cost against pooled training"
    metrics = log.last("metrics")
    taken = mapping(mapping(metrics.get("time")).get("training_seconds"))
    table = {
        system_key(name): mapping(body) | {"seconds": taken.get(name)}
        for name, body in mapping(metrics.get("cost")).items()
    }
    if not table:
        return lacking("cost", title, "Cost", nothing(log, "The cost of training was not counted."))
    order = [name for name in (OURS, *REFERENCES) if name in table]
    order += [name for name in table if name not in order]
    blocks: list[Block] = []
    if figure := _figure(table, order):
        blocks.append(figure)
    blocks.append(_table(table, order))
    return Section(name="cost", title=title, nav="Cost", blocks=tuple(blocks))


def _figure(table: dict[str, dict[str, Any]], order: list[str]) -> Picture | None:
    found = [
        Bar(name=system_name(name), value=flops, text=operations_human(flops))
        for name in order
        if (flops := number(table[name].get("flops")))
    ]
    if not found:
        return None
    ours, pooled = (number(table.get(name, {}).get("flops")) for name in (OURS, "pooled"))
    finding = (
        f"Federated split takes {_ratio(ours, pooled)} the operations of the same model on pooled data."
        if ours and pooled
        else f"The most are {operations_human(max(bar.value for bar in found))}."
    )
    caption = (
        "Floating-point operations of one training, a proxy for its energy: counted from the program with "
        "its loops multiplied out, not measured; scoring is left out."
    )
    return picture(
        "cost", ("Arithmetic of one training", caption, finding), lambda wide: bars(found, ("", ""), wide)
    )


def _ratio(value: float, whole: float) -> str:
    ratio = value / whole
    return f"{ratio:.{2 if ratio < 9.95 else 0}f} times"


def _table(table: dict[str, dict[str, Any]], order: list[str]) -> Grid:
    pooled = table.get("pooled", {})
    parts = (
        ("seconds", duration),
        ("flops", operations_human),
        ("up", bytes_human),
        ("down", bytes_human),
        ("inside", bytes_human),
    )
    rows = []
    for name in order:
        cells = []
        for key, said in parts:
            value, whole = _part(table[name], key), _part(pooled, key)
            compared = value and whole and name != "pooled"
            under = f"{_ratio(value, whole)} pooled" if compared else ""  # type: ignore[arg-type]
            if value is None:
                cells.append(Cell(text=NOT_AVAILABLE, tone="faint"))
            else:
                cells.append(Cell(text=said(value), under=under))
        rows.append(Row(head=system_name(name), cells=tuple(cells), ours=name == OURS))
    return Grid(
        caption="What one training costs, every system",
        first="System",
        columns=(
            Column(title="Time", hint="all cores"),
            Column(title="Operations"),
            Column(title="Leaves the sites"),
            Column(title="Comes back"),
            Column(title="Inside the sites", hint="device and site"),
        ),
        rows=tuple(rows),
        note="Time: the whole stage, scoring with it and compiling left out, mean over seeds; models that "
        "were trained side by side share it. What leaves the sites is data where a model is trained on "
        "pooled data (32-bit features and labels of all training steps, once), else messages. n/a: not "
        "counted.",
        wide=True,
    )


def _part(body: dict[str, Any], key: str) -> float | None:
    return (
        number(body.get(key)) if key in ("seconds", "flops") else number(mapping(body.get("bytes")).get(key))
    )
