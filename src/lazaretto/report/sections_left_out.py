"""Sections on what is hard to see: weak attacks, and sites that took no part in training."""

from __future__ import annotations

import math
from typing import Any

from lazaretto.report.alarms import told, untold_text
from lazaretto.report.blocks import PUBLISHABLE, STAYS, Block, Column, Grid, Picture, Row, Section, Text
from lazaretto.report.drawing import looks
from lazaretto.report.figures import Dots, dot_rows
from lazaretto.report.formats import (
    Triple,
    count,
    fixed,
    interval_text,
    mapping,
    percent,
    places,
    triple,
    words,
)
from lazaretto.report.parts import cell, lacking, picture, unjudged
from lazaretto.report.reading import (
    METRICS,
    OURS,
    Log,
    Metric,
    called,
    false_positive_rate,
    families,
    is_outcome,
    measured,
    system_name,
    systems,
)

__all__ = ["by_intensity", "sites_left_out"]

_OF_SITE = ("auroc", "auprc", "recall", "false_positive_rate", "false_alarms_per_device_day", "latency_steps")


def by_intensity(log: Log) -> Section | None:
    """Recall of attacks by their strength, and of families left out of training; None for an outcome."""
    if is_outcome(log):
        return None
    title, found = "By strength of the attack", systems(log)
    rate = percent(false_positive_rate(log))
    means = str(log.first("data").get("intensity") or "strength")
    bins = sorted(mapping(found.get(OURS, {}).get("recall_by_intensity")), key=_place)
    if not bins:
        known = log.first("data").get("intensity")
        why = unjudged(
            log,
            "No attack whose strength is known was judged."
            if known
            else "The source does not say how strong its attacks are.",
        )
        return lacking("intensity", title, "Strength", why)
    labels = [_bin(name, means) for name in bins]
    values = {
        s: [triple(mapping(body.get("recall_by_intensity")).get(name)) for name in bins]
        for s, body in found.items()
    }
    values = {s: row for s, row in values.items() if any(row)}
    blocks: list[Block] = [
        _strength_figure(labels, values, f"Recall by strength, at {rate} false positives", means),
        _strength_table(labels, values, f"Recall by strength, at {rate} false positives, every system"),
    ]
    order = families(log.first("data").get("classes"))
    if unknown := _unknown_by_strength(found.get(OURS, {}), order, bins, labels):
        blocks.append(unknown)
    return Section(name="intensity", title=title, nav="Strength", blocks=tuple(blocks))


def _place(name: str) -> tuple[float, str]:
    """Bins in ascending order; a log keeps its maps in the order of their keys."""
    start = name.removeprefix(">=").partition("-")[0]
    try:
        return (-math.inf if name.startswith("<") else float(start)), name
    except ValueError:
        return math.inf, name


def _bin(name: str, means: str) -> str:
    """A bin of metrics.json in words: "0.02-0.05" of a share is "2 % to 5 %"."""

    def said(text: str) -> str:
        try:
            edge = float(text)
        except ValueError:
            return text
        return percent(edge) if means.startswith("share") else f"{edge:g}"

    if name.startswith("<"):
        return f"under {said(name[1:])}"
    if name.startswith(">="):
        return f"{said(name[2:])} and more"
    low, _, high = name.partition("-")
    return f"{said(low)} to {said(high)}"


def _strength_figure(
    labels: list[str], values: dict[str, list[Triple | None]], title: str, means: str
) -> Picture:
    shown = [OURS, *[s for s in ("local", "gradient_boosting", "pooled", "gru") if s in values][:2]]
    look = looks(shown, OURS)
    dots = [Dots(name=system_name(s), look=look[s], values=tuple(values[s])) for s in shown]
    known = [(label, one) for label, one in zip(labels, values[OURS], strict=True) if one]
    finding = (
        f"Ours finds {interval_text(known[0][1], 2)} of the weakest ({known[0][0]}) and "
        f"{interval_text(known[-1][1], 2)} of the strongest ({known[-1][0]})."
    )
    caption = (
        f"Strength: {means}, of the campaign at its height; pauses and weaker stretches of a campaign count "
        "with it. The numbers are ours; bars are 95\u202f% intervals."
    )
    return picture(
        "intensity", (title, caption, finding), lambda wide: dot_rows(labels, dots, "recall", wide)
    )


def _strength_table(labels: list[str], values: dict[str, list[Triple | None]], caption: str) -> Grid:
    rows = []
    for place, label in enumerate(labels):
        present = {one.value for row in values.values() if (one := row[place])}
        best = max(present) if len(present) > 1 else None
        cells = tuple(
            cell(row[place], 2, best=label if row[place] and _value(row[place]) == best else "")
            for row in values.values()
        )
        rows.append(Row(head=label, cells=cells))
    columns = tuple(Column(title=system_name(system)) for system in values)
    return Grid(caption=caption, first="Strength", columns=columns, rows=tuple(rows), wide=True)


def _value(one: Triple | None) -> float | None:
    return None if one is None else one.value


def _unknown_by_strength(
    ours: dict[str, Any], order: list[str], bins: list[str], labels: list[str]
) -> Grid | None:
    rows = []
    left = mapping(ours.get("leave_one_family_out"))
    for family in dict.fromkeys([*(name for name in order if name in left), *left]):
        body = left[family]
        values = [triple(mapping(mapping(body).get("recall_by_intensity")).get(name)) for name in bins]
        if any(values):
            whole = triple(mapping(body).get("recall"))
            rows.append(Row(head=words(family), cells=tuple(cell(v, 2) for v in [*values, whole])))
    if not rows:
        return None
    mean = measured(ours, "leave_one_family_out_mean.recall")
    said = f" Mean over families, and within each over strengths: {interval_text(mean)}." if mean else ""
    return Grid(
        caption="Recall of a family that was left out of training, by strength, federated split",
        first="Family",
        columns=(*(Column(title=label) for label in labels), Column(title="All steps")),
        rows=tuple(rows),
        note=f"Each family in turn is left out of all training.{said}",
        wide=True,
    )


def sites_left_out(log: Log) -> Section:
    """Each site judged by models that were trained without it."""
    title, found = "A site that took no part", systems(log)
    away = {s: mapping(body.get("leave_one_site_out")) for s, body in found.items()}
    away = {s: sites for s, sites in away.items() if sites}
    if OURS not in away:
        why = unjudged(log, "No site was left out of training in this run (lazaretto run --full does it).")
        return lacking("away", title, "New site", why)
    blocks: list[Block] = [_means(log, found, list(away), len(away[OURS]))]
    if sentence := _taking_part(found[OURS]):
        blocks.append(sentence)
    blocks.append(_site_figure(away, called(log)))
    return Section(name="away", title=title, nav="New site", blocks=tuple(blocks))


def _metric(key: str) -> Metric:
    return next(metric for metric in METRICS if metric.keys[0] == key)


def _means(log: Log, found: dict[str, dict[str, Any]], names: list[str], sites: int) -> Grid:
    shown = [_metric(key) for key in _OF_SITE]
    table = {
        name: [told(log, mapping(found[name].get("leave_one_site_out_mean")), m) for m in shown]
        for name in names
    }
    digits = [
        places([row[i] for row in table.values()], ratio=metric.ratio) for i, metric in enumerate(shown)
    ]
    rows = tuple(
        Row(
            head=system_name(name),
            cells=tuple(cell(v, n) for v, n in zip(row, digits, strict=True)),
            ours=name == OURS,
        )
        for name, row in table.items()
    )
    of = f"{count(sites)} sites" if sites > 1 else "one site"
    bodies = [mapping(found[name].get("leave_one_site_out_mean")) for name in names]
    left_out = untold_text(log, (("", body) for body in bodies))
    return Grid(
        caption=f"Judged at a site that took no part in training, mean over {of}",
        first="System",
        columns=tuple(Column(title=m.title, hint=m.hint) for m in shown),
        rows=rows,
        note="One site in turn gives nothing to training, scaling and thresholds; its test units are judged "
        f"with the thresholds of the others.{left_out}",
        mark=PUBLISHABLE if sites > 2 else STAYS,
        wide=True,
    )


def _taking_part(ours: dict[str, Any]) -> Text | None:
    gain = triple(mapping(mapping(ours.get("leave_one_site_out_mean")).get("taking_part")).get("auroc"))
    if gain is None:
        return None
    text = interval_text(gain, 3, sign=True)
    if gain.low is None or gain.high is None:
        return Text(
            text=f"Taking part changes a site's AUROC by {text}; without an interval that says little."
        )
    shown = "more" if gain.low > 0 else "less" if gain.high < 0 else ""
    if not shown:
        return Text(text=f"No gain of taking part can be shown: a site's AUROC changes by {text}, paired.")
    size = fixed(abs(gain.value), 3)
    return Text(
        text=f"With the site taking part its AUROC is {size} {shown} ({text}, paired, mean over sites)."
    )


def _site_figure(away: dict[str, dict[str, Any]], both: tuple[str, str]) -> Picture:
    """both: what a site needs to test for an AUROC."""
    shown = [OURS, *[s for s in ("pooled", "gru", "cnn") if s in away][:2]]
    look = looks(shown, OURS)
    sites = list(away[OURS])
    values = {s: tuple(triple(mapping(away[s].get(site)).get("auroc")) for site in sites) for s in shown}
    dots = [Dots(name=system_name(s), look=look[s], values=values[s]) for s in shown]
    known = sorted((v.value, site) for site, v in zip(sites, values[OURS], strict=True) if v)
    finding = (
        f"Ours lies between {fixed(known[0][0], 2)} ({known[0][1]}) and {fixed(known[-1][0], 2)} "
        f"({known[-1][1]})."
        if known
        else f"No site tests both {' and '.join(both)}."
    )
    caption = (
        "Each site's test units, judged by models trained without it. A site's value rests on few units: it "
        "is not to be published. The numbers are ours; bars are 95\u202f% intervals."
    )
    texts = ("AUROC at a site that took no part", caption, finding)
    return picture("away", texts, lambda wide: dot_rows(sites, dots, "AUROC", wide), STAYS)
