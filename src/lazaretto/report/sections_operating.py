"""Sections on what an operator chooses: where the threshold stands, and how far a score can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lazaretto.report.alarms import smoothing_text, told, untold_text
from lazaretto.report.blocks import Block, Cell, Column, Grid, Picture, Row, Section
from lazaretto.report.drawing import Look, looks
from lazaretto.report.figures import Curve, Dots, dot_rows
from lazaretto.report.figures_protocol import benefit, diagonal
from lazaretto.report.formats import (
    Triple,
    fixed,
    interval_text,
    items,
    mapping,
    number,
    percent,
    places,
    words,
)
from lazaretto.report.parts import cell, lacking, picture, unjudged
from lazaretto.report.reading import (
    METRICS,
    OURS,
    Log,
    called,
    false_positive_rate,
    is_outcome,
    is_timed,
    measured,
    system_key,
    system_name,
    systems,
)
from lazaretto.report.svg import COLOURS

__all__ = ["calibration", "operating_points"]

_AT_THRESHOLD = (
    "accuracy",
    "f1",
    "recall",
    "false_positive_rate",
    "false_alarms_per_device_day",
    "latency_steps",
)
_POINTS = {
    "false_positive_rate_0.001": "0.1\u202f% of {negative}",
    "one_alarm_per_device_day": "one false alarm per device-day",
}
_METHODS = {
    "platt": "Platt scaling (slope and intercept)",
    "temperature": "temperature scaling",
    "none": "none: scores are read as log-odds",
}


def operating_points(log: Log) -> Section:
    """Every system at every threshold."""
    title, found = "Operating points", systems(log)
    names = list(mapping(found.get(OURS, {}).get("operating_points")))
    if not names:
        why = unjudged(log, "No threshold but the main one was judged in this run.")
        return lacking("points", title, "Thresholds", why)
    positive, negative = called(log)
    main = f"{percent(false_positive_rate(log))} of {negative}"
    points = {main: found}
    for name in names:
        bodies = {s: mapping(mapping(body.get("operating_points")).get(name)) for s, body in found.items()}
        points[_POINTS.get(name, words(name)).replace("{negative}", negative)] = bodies
    run = log.last("run")
    how = str(mapping(mapping(run.get("plan")).get("evaluate")).get("thresholds"))
    if how == "own" and run.get("evaluates"):  # nobody is at a site of training there
        how = "median"
    own = _who_goes_by_own(log, dict(zip(("main", *names), points, strict=True)))
    figure = _recall_figure(points, how, positive, own)
    blocks: tuple[Block, ...] = (figure, _points_table(log, points))
    return Section(name="points", title=title, nav="Thresholds", blocks=blocks)


def _who_goes_by_own(log: Log, labels: Mapping[str, str]) -> str:
    """How many sites have a threshold of their own at each point; "" where the log does not say."""
    told = mapping(log.last("metrics").get("own_thresholds"))
    sites, said = number(told.get("sites")), []
    for point, label in labels.items():
        counts = [int(n) for n in map(number, items(told.get(point))) if n is not None]
        if counts:
            least, most = min(counts), max(counts)
            said.append(f"{least if least == most else f'{least} to {most}'} at {label}")
    if sites is None or not said:
        return ""
    seeds = ", by seed" if len(items(told.get("main"))) > 1 else ""
    return f" Sites that go by their own, of {int(sites)}{seeds}: {'; '.join(said)}."


def _recall_figure(
    points: dict[str, dict[str, dict[str, Any]]], how: str, positive: str, own: str
) -> Picture:
    first = next(iter(points.values()))
    shown = [OURS, *[s for s in ("pooled", "gradient_boosting", "local", "gru") if s in first][:2]]
    look = looks(shown, OURS)
    values = {s: tuple(measured(bodies.get(s, {}), "recall") for bodies in points.values()) for s in shown}
    dots = [Dots(name=system_name(s), look=look[s], values=values[s]) for s in shown]
    parts = [
        f"{interval_text(value, 2)} at {name}"
        for name, value in zip(points, values[OURS], strict=True)
        if value
    ]
    finding = f"Ours finds {'; '.join(parts)}."
    caption = (
        f"Share of {positive} that are found, by what the threshold lets through. The numbers are ours; "
        "bars are 95\u202f% intervals."
    )
    if how == "median":
        caption += " Each threshold is the median of the sites' own: of all steps more or less may pass."
    if how == "own":
        caption += (
            " Each site goes by a threshold of its own; one with too few normal validation steps for it by "
            f"the median of the sites' votes.{own}"
        )
    return picture(
        "points",
        (f"{positive[:1].upper()}{positive[1:]} found, at each threshold", caption, finding),
        lambda wide: dot_rows(list(points), dots, "recall", wide),
    )


def _points_table(log: Log, points: dict[str, dict[str, dict[str, Any]]]) -> Grid:
    every = [body for bodies in points.values() for body in bodies.values()]
    by_key = {metric.keys[0]: metric for metric in METRICS}
    shown = [by_key[key] for key in _AT_THRESHOLD if any(told(log, body, by_key[key]) for body in every)]
    digits = [places([told(log, body, m) for body in every], ratio=m.ratio) for m in shown]
    rows = []
    for point, bodies in points.items():
        judged = [(s, body) for s, body in bodies.items() if any(told(log, body, m) for m in shown)]
        for place, (system, body) in enumerate(judged):
            cells = tuple(cell(told(log, body, m), n) for m, n in zip(shown, digits, strict=True))
            rows.append(
                Row(
                    head=system_name(system),
                    cells=cells,
                    group=f"Threshold for {point}" if place == 0 else "",
                    ours=system == OURS,
                )
            )
    many = smoothing_text(log)
    smoothing = f" once {many} are above the threshold" if many else ""
    negative = called(log)[1]
    alarms = (
        f" An alarm is raised{smoothing}; false alarms per device-day count those raised on {negative}."
        if is_timed(log)
        else ""
    )
    untold = untold_text(log, [("", body) for body in every])
    return Grid(
        caption="Every system at every threshold",
        first="System",
        columns=tuple(Column(title=m.title, hint=m.hint) for m in shown),
        rows=tuple(rows),
        note=f"Each threshold comes from {negative} of validation units; what it lets through on test "
        f"stands under False positives.{alarms}{untold}",
        wide=True,
    )


def calibration(log: Log) -> Section:
    """How often what is called likely is an attack."""
    title, found = "Calibration", systems(log)
    bodies = {system_key(body.get("system", OURS)): body for body in log.all("reliability")}
    positive = called(log)[0]
    share = f"Share of {positive}" if is_outcome(log) else "Share attacked"
    panels = _reliability_curves(bodies, share)
    blocks: list[Block] = []
    if panels:
        blocks.append(_reliability_figure(panels, bodies, found))
    else:
        blocks.append(unjudged(log, "No reliability curve was recorded."))
    if table := _errors(found, bodies, share.lower()):
        blocks.append(table)
    if not is_timed(log) and (decided := _decision_figure(bodies, positive)):
        blocks.append(decided)
    return Section(name="calibration", title=title, nav="Calibration", blocks=tuple(blocks))


def _reliability_curves(bodies: dict[str, dict[str, Any]], share: str) -> list[tuple[str, list[Curve]]]:
    """Panels: ours after and before calibration; others, calibrated. share: of what, for their titles."""
    shown = [s for s in (OURS, "pooled", "gradient_boosting", "gru") if s in bodies]
    look, own = looks(shown, OURS), bodies.get(OURS, {})
    lines = {system: _line(mapping(bodies[system].get("after"))) for system in shown}
    curves = {
        system: Curve(name=system_name(system), look=look[system], x=line[0], y=line[1])
        for system, line in lines.items()
        if line
    }
    mine, before = [curves.pop(OURS)] if OURS in curves else [], _line(mapping(own.get("before")))
    if mine and before and own.get("method") != "none":
        grey = Look(COLOURS["other"], (0, (8, 2)), 1.1, "v")
        mine.append(Curve(name="before calibration", look=grey, x=before[0], y=before[1]))
    panels = [(f"{share}, ours", mine), (f"{share}, others", list(curves.values()))]
    return [panel for panel in panels if panel[1]]


def _line(body: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    pairs = [
        (a, b)
        for a, b in zip(
            map(number, items(body.get("predicted"))), map(number, items(body.get("observed"))), strict=False
        )
        if a is not None and b is not None
    ]
    return None if len(pairs) < 2 else (tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def _reliability_figure(
    panels: list[tuple[str, list[Curve]]], bodies: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]]
) -> Picture:
    method = _METHODS.get(str(mapping(bodies.get(OURS)).get("method")), "")
    error = measured(found.get(OURS, {}), "calibration_error")
    before = measured(found.get(OURS, {}), "calibration_error_before")
    if mapping(bodies.get(OURS)).get("method") == "none":
        before = None
    finding = (
        f"Ours is off by {interval_text(error)} on average"
        + (f", before calibration by {interval_text(before)}." if before else ".")
        if error
        else "The calibration error was not measured."
    )
    caption = (
        "Steps of test units, in bins of equal number by their probability; on the dotted line probabilities "
        "are what they say." + (f" Calibrated on validation units by {method}." if method else "")
    )
    return picture(
        "reliability",
        ("What probabilities are worth", caption, finding),
        lambda wide: diagonal(panels, "probability that the system gives", wide),
    )


def _decision_figure(bodies: dict[str, dict[str, Any]], positive: str) -> Picture | None:
    """What acting on the probabilities is worth, for outcomes of patients."""
    shown = [s for s in (OURS, "pooled", "gradient_boosting", "gru") if s in bodies]
    look = looks(shown, OURS)
    curves = [
        Curve(name=system_name(system), look=look[system], x=line[0], y=line[1])
        for system in shown
        if (line := _benefit(mapping(bodies[system].get("decision")), "net_benefit"))
    ]
    everyone = _benefit(mapping(mapping(bodies.get(OURS)).get("decision")), "act_on_all")
    if not curves or everyone is None:
        return None
    ahead = [
        x
        for x, own, every in zip(curves[0].x, curves[0].y, everyone[1], strict=False)
        if own > max(every, 0.0)
    ]
    finding = (
        f"{curves[0].name.capitalize()} is worth more than acting on everyone or on nobody from "
        f"{percent(ahead[0])} to {percent(ahead[-1])}."
        if ahead
        else "It is worth no more than acting on everyone or on nobody."
    )
    grey = Look(COLOURS["other"], (0, (8, 2)), 1.1, "")
    curves.append(Curve(name="act on everyone", look=grey, x=everyone[0], y=everyone[1]))
    caption = (
        f"Share of {positive} that is acted on, less the price of those acted on in vain: a threshold of p "
        "says that 1 − p of the former is worth p of the latter (Vickers and Elkin 2006). At 0, nobody is "
        "acted on. Calibrated probabilities of test units."
    )
    most = max(max(curve.y) for curve in curves)
    kept = [replace(curve, y=tuple(max(y, -most) for y in curve.y)) for curve in curves]
    return picture(
        "decision",
        ("What acting on it is worth", caption, finding),
        lambda wide: benefit(kept, -0.3 * most, wide),
    )


def _benefit(body: dict[str, Any], key: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    pairs = list(
        zip(map(number, items(body.get("threshold"))), map(number, items(body.get(key))), strict=False)
    )
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    return None if len(known) < 2 else (tuple(x for x, _ in known), tuple(y for _, y in known))


def _errors(found: dict[str, dict[str, Any]], bodies: dict[str, dict[str, Any]], share: str) -> Grid | None:
    keys = ("calibration_error_before", "calibration_error")
    table = {name: [measured(body, key) for key in keys] for name, body in found.items()}
    table = {name: row for name, row in table.items() if any(row)}
    if not table:
        return None
    digits = places([value for row in table.values() for value in row], ratio=True)
    rows = []
    for name, row in table.items():
        method = _METHODS.get(str(mapping(bodies.get(name)).get("method")), "")
        verdict = _compared(*row)
        cells = (*(cell(value, digits) for value in row), Cell(text=verdict))
        rows.append(Row(head=system_name(name), note=method, cells=cells, ours=name == OURS))
    return Grid(
        caption="Calibration error before and after",
        first="System",
        columns=(
            Column(title="Before", hint="scores as log-odds"),
            Column(title="After"),
            Column(title="After minus before"),
        ),
        rows=tuple(rows),
        note=f"Mean gap between probability and {share}, over 15 bins of equal number (Naeini et al. "
        "2015). Scores that are distances, as the autoencoder's and the rate threshold's, are no log-odds: "
        "before calibration they mean nothing.",
    )


def _compared(before: Triple | None, after: Triple | None) -> str:
    return "" if before is None or after is None else fixed(after.value - before.value, 3, sign=True)
