"""Sections on single aspects of quality: by family, ROC and precision-recall, detection latency."""

from __future__ import annotations

from typing import Any

from lazaretto.report.alarms import few_families_text
from lazaretto.report.blocks import Block, Cell, Column, Grid, Picture, Row, Section
from lazaretto.report.drawing import looks
from lazaretto.report.figures import Curve, Dots, Steps, characteristic, dot_rows, latency
from lazaretto.report.formats import (
    NOT_AVAILABLE,
    Triple,
    count,
    counted,
    duration,
    fixed,
    interval_text,
    items,
    mapping,
    number,
    percent,
    places,
    triple,
    words,
)
from lazaretto.report.parts import cell, lacking, picture, unjudged, untimed
from lazaretto.report.reading import (
    OURS,
    Log,
    false_positive_rate,
    families,
    group_word,
    is_outcome,
    measured,
    step_seconds,
    system_key,
    system_name,
    systems,
)

__all__ = ["by_family", "characteristics", "delays"]


def by_family(log: Log) -> Section | None:
    """Recall of each family, and AUROC where a family was left out of all training.

    None for an outcome of one kind, whose recall stands with every system's metrics.
    """
    if is_outcome(log) and len(families(log.first("data").get("classes"))) < 2:
        return None
    found, rate = systems(log), percent(false_positive_rate(log))
    ours, kind = found.get(OURS, {}), group_word(log)
    blocks: list[Block] = []
    for part in (
        ("recall_by_class", f"Recall by {kind}, at {rate} false positives", "recall", ""),
        (
            "leave_one_family_out",
            f"AUROC for a {kind} that was left out of training",
            "AUROC",
            "auroc",
        ),
        (
            "leave_one_family_out",
            f"Recall of a {kind} that was left out of training, at {rate} false positives",
            "recall",
            "recall",
        ),
    ):
        name, title, axis, inner = part
        known = families(ours.get(name))
        classes = [family for family in families(log.first("data").get("classes")) if family in known]
        names = list(dict.fromkeys([*classes, *known]))
        values = {
            system: {family: triple(_inside(mapping(body.get(name)).get(family), inner)) for family in names}
            for system, body in found.items()
        }
        values = {s: v for s, v in values.items() if any(v.values())}
        if OURS not in values:
            if log.last("run").get("evaluates"):  # nothing was trained there
                continue
            said = unjudged(log, f"{title}: not measured in this run.")
            blocks += [] if said in blocks else [said]  # of all three the same where nothing was judged
            continue
        blocks.append(_family_figure((f"{name.split('_')[0]}{inner}", title, axis, kind), values))
        blocks.append(_family_table(title, values, few_families_text(log), kind))
    title, nav = ("By class", "Classes") if is_outcome(log) else ("By family of attack", "Families")
    return Section(name="families", title=title, nav=nav, blocks=tuple(blocks))


def _inside(body: Any, inner: str) -> Any:
    return mapping(body).get(inner) if inner else body


def _family_figure(about: tuple[str, str, str, str], values: dict[str, dict[str, Triple | None]]) -> Picture:
    """about: name and title of the figure, title of its axis, and what its rows are called."""
    (name, title, axis, kind), ours = about, values[OURS]
    order = sorted(ours, key=lambda family: one.value if (one := ours[family]) else -1.0, reverse=True)
    shown = [OURS, *[s for s in ("local", "gradient_boosting", "gru") if s in values][:2]]
    look = looks(shown, OURS)
    dots = [
        Dots(name=system_name(s), look=look[s], values=tuple(values[s].get(f) for f in order)) for s in shown
    ]
    present = [f for f in order if ours[f] is not None]
    finding = (
        f"Ours is highest for {words(present[0])}, {interval_text(ours[present[0]], 2)}, and lowest for "
    )
    finding += f"{words(present[-1])}, {interval_text(ours[present[-1]], 2)}."
    if len(present) == 1:
        finding = f"Ours has {interval_text(ours[present[0]], 2)} for {words(present[0])}, the one {kind}."
    elif ours[present[0]] == ours[present[-1]]:
        finding = f"Ours has {interval_text(ours[present[0]], 2)} for all of them."
    caption = "Bars are 95\u202f% intervals; the numbers are ours. From easiest to hardest for ours."
    return picture(
        f"family-{name}",
        (title, caption, finding),
        lambda wide: dot_rows([words(f) for f in order], dots, axis, wide),
    )


def _family_table(title: str, values: dict[str, dict[str, Triple | None]], note: str, kind: str) -> Grid:
    order = list(values[OURS])
    rows = []
    for family in order:
        present = {one.value for v in values.values() if (one := v.get(family))}
        best = max(present) if len(present) > 1 else None
        cells = tuple(
            cell(one, 2, best=words(family) if one and one.value == best else "")
            for one in (v.get(family) for v in values.values())
        )
        rows.append(Row(head=words(family), cells=cells))
    columns = tuple(Column(title=system_name(system)) for system in values)
    return Grid(
        caption=f"{title}, every system",
        first=kind.capitalize(),
        columns=columns,
        rows=tuple(rows),
        wide=True,
        note=note,
    )


def characteristics(log: Log) -> Section:
    """ROC and precision-recall of ours and a few others."""
    bodies = _few({system_key(body.get("system", OURS)): body for body in log.all("curves")})
    found, look = systems(log), looks(list(bodies), OURS)
    curves: dict[str, list[Curve]] = {"roc": [], "pr": []}
    for kind, x, y, metric in (("roc", "fpr", "tpr", "auroc"), ("pr", "recall", "precision", "auprc")):
        for name, body in bodies.items():
            points = _points(mapping(body.get(kind)), x, y)
            area = measured(found.get(name, {}), metric)
            label = system_name(name) + (f" {fixed(area.value, places([area], ratio=True))}" if area else "")
            if points:
                curves[kind].append(Curve(name=label, look=look[name], x=points[0], y=points[1]))
    title = "ROC and precision-recall"
    if not curves["roc"] and not curves["pr"]:
        why = unjudged(log, "No curve was recorded; with one class in test there is none.")
        return lacking("curves", title, "ROC and PR", why)
    rate = false_positive_rate(log)
    caption = (
        f"Beside each name: the area under its curve. The dotted line marks {percent(rate)} false positives, "
        "at which thresholds aim; a logarithmic axis gives room to small shares of them."
    )
    areas = [
        f"{fixed(area.value, places([area], ratio=True))} under {under}"
        for name, under in (("auroc", "the ROC"), ("auprc", "precision against recall"))
        if (area := measured(found.get(OURS, {}), name))
    ]
    finding = f"Federated split has {' and '.join(areas)}." if areas else "Areas were not measured."
    block = picture(
        "curves",
        ("ROC and precision against recall, on test units", caption, finding),
        lambda wide: characteristic(curves["roc"], curves["pr"], rate, wide),
    )
    return Section(name="curves", title=title, nav="ROC and PR", blocks=(block,))


def _few(bodies: dict[str, Any], most: int = 4) -> dict[str, Any]:
    """Ours first, then the most telling others; a figure with more lines is not read."""
    wanted = (OURS, "pooled", "gradient_boosting", "local", "gru", *bodies)
    return {name: bodies[name] for name in list(dict.fromkeys(n for n in wanted if n in bodies))[:most]}


def _points(body: dict[str, Any], x: str, y: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    pairs = [
        (a, b)
        for a, b in zip(map(number, items(body.get(x))), map(number, items(body.get(y))), strict=False)
        if a is not None and b is not None
    ]
    if len(pairs) < 2:
        return None
    return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)


def delays(log: Log) -> Section | None:
    """Distribution of detection latency; None for an outcome, which has none."""
    if is_outcome(log):
        return None
    title, lines, rows = "Detection latency", [], []
    bodies = {system_key(body.get("system", OURS)): body for body in log.all("latency")}
    few, seconds = _few(bodies), step_seconds(log)
    look = looks(list(few), OURS)
    for name in dict.fromkeys([*few, *bodies]):
        body = bodies[name]
        steps = sorted(s for s in map(number, items(body.get("steps"))) if s is not None)
        campaigns = int(number(body.get("campaigns")) or len(steps) + (number(body.get("missed")) or 0))
        if not campaigns:
            continue
        if name in few:
            lines.append(
                Steps(name=system_name(name), look=look[name], steps=tuple(steps), campaigns=campaigns)
            )
        rows.append(_delay_row(name, steps, campaigns, body, seconds))
    if not lines:
        return lacking("latency", title, "Latency", untimed(log, "No attack campaign was judged in test."))
    first = lines[0]
    finding = (
        f"{first.name.capitalize()}: {count(len(first.steps))} of {count(first.campaigns)} attacks were "
        f"detected, {_half(first.steps, first.campaigns)}."
    )
    caption = (
        "Each line counts all attacks, also missed ones: where it ends below 1, the rest was never detected."
    )
    figure = picture(
        "latency",
        ("How soon attacks are detected", caption, finding),
        lambda wide: latency(lines, seconds, wide),
    )
    table = Grid(
        caption="Detection latency in numbers",
        first="System",
        columns=(
            Column(title="Detected", hint="of attacks"),
            Column(title="Half within", hint="steps"),
            Column(title="Mean", hint="missed censored"),
        ),
        rows=tuple(rows),
        note="Detected: at least one step is above the threshold, before alarms are smoothed. Mean: a missed "
        "attack counts with the steps until its end. Counts of this run; the interval of "
        "the mean stands in the table of all metrics.",
    )
    return Section(name="latency", title=title, nav="Latency", blocks=(figure, table))


def _delay_row(
    name: str, steps: list[float], campaigns: int, body: dict[str, Any], seconds: float | None
) -> Row:
    mean = number(body.get("censored_mean")) if steps else None  # else the length of the attacks alone
    cells = (
        Cell(text=f"{count(len(steps))} of {count(campaigns)}", under=percent(len(steps) / campaigns)),
        Cell(text=_median(tuple(steps), campaigns)),
        Cell(
            text=NOT_AVAILABLE if mean is None else f"{fixed(mean, 1)} steps",
            under=duration(mean * seconds) if mean is not None and seconds else "",
        ),
    )
    return Row(head=system_name(name), cells=cells, ours=name == OURS)


def _half(steps: tuple[float, ...], campaigns: int) -> str:
    place = -(-campaigns // 2) - 1
    return (
        f"half of all within {counted(steps[place], 'step')}"
        if place < len(steps)
        else "which is less than half"
    )


def _median(steps: tuple[float, ...], campaigns: int) -> str:
    place = -(-campaigns // 2) - 1
    return fixed(steps[place], 0) if place < len(steps) else "never"
