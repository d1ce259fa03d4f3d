"""Sections about how well it works: the verdict, headline numbers, ours against every baseline."""

from __future__ import annotations

from typing import Any

from lazaretto.report.alarms import FEWEST_DAYS, knowing_nothing, raised, told, untold_text, watched_days
from lazaretto.report.blocks import (
    Block,
    Card,
    Cell,
    Column,
    Grid,
    Picture,
    Row,
    Section,
    Text,
    Tone,
)
from lazaretto.report.figures import forest
from lazaretto.report.formats import (
    NOT_AVAILABLE,
    Triple,
    duration,
    fixed,
    interval_text,
    mapping,
    percent,
    places,
    plain,
    triple,
)
from lazaretto.report.parts import cell, picture, unjudged
from lazaretto.report.reading import (
    METRICS,
    OURS,
    REFERENCES,
    Log,
    Metric,
    called,
    false_positive_rate,
    is_timed,
    measured,
    metric_named,
    paired_auroc,
    step_seconds,
    system_key,
    system_name,
    systems,
)
from lazaretto.report.wording import (
    Comparison,
    State,
    against,
    bound_of,
    comparisons,
    verdict,
)

__all__ = ["baselines", "summary"]

_STATES: dict[State, tuple[str, str, Tone]] = {
    "certain": ("✓ yes", "certain", "yes"),
    "likely": ("~ yes", "not certain", "partly"),
    "unlikely": ("~ no", "not certain", "partly"),
    "missed": ("✗ no", "certain", "no"),
    "unknown": ("n/a", "not measured", "faint"),
}

_TONES: dict[str, Tone] = {"better": "yes", "worse": "no"}
_HAMPERED = ("with_trigger", "without_traffic", "without_record")  # the more ours leads, the more it lost
_SHORT = {"Recall, unseen at site": "Unseen at site", "AUROC, unknown families": "Unknown families"}


def summary(log: Log) -> Section:
    """The verdict and the headline numbers."""
    ours = systems(log).get(OURS)
    cards = tuple(_cards(log, ours)) if ours else ()
    said = tuple(Text(text=paragraph) for paragraph in verdict(log))
    return Section(name="summary", title="Summary", nav="Summary", blocks=said, cards=cards)


def _cards(log: Log, ours: dict[str, Any]) -> list[Card]:
    rate, seconds = percent(false_positive_rate(log)), step_seconds(log)
    about = {
        "AUROC": " above ".join(called(log)),
        "AUPRC": "precision over all recalls",
        "F1": "at the validation threshold",
        "Accuracy": "at the validation threshold",
        "Recall": f"of {called(log)[0]}, with {rate} false positives asked for",
        "Recall, unseen at site": "recall of families the site never had",
        "AUROC, unknown families": "mean AUROC, each family left out in turn",
        "Latency": "steps from onset to the first above the threshold",
        "False alarms": "per device and day",
    }
    blind = knowing_nothing(log)
    if blind is not None:  # neither figure says much without it
        precision, right = (fixed(value, places([Triple(value)], ratio=True)) for value in blind)
        about["AUPRC"] += f"; guessing has {precision}"
        about["Accuracy"] += f"; one answer to all has {right}"
    cards = []
    for metric in METRICS[:9]:
        value = measured(ours, metric)
        if value is None and metric.title in _SHORT:  # nothing was left out
            continue
        if not is_timed(log) and metric.title in ("Latency", "False alarms"):
            continue
        decimals = places([value], ratio=metric.ratio)
        text, _, interval = interval_text(value, decimals).partition(" ")
        note = about[metric.title]
        each = " with each seed" if len(log.all("data")) > 1 else ""
        days = watched_days(log)
        if metric.title == "False alarms" and days is not None:
            note += f"; {plain(days, 1 if days >= 1 else 2)} device-days watched{each}"
            if days < FEWEST_DAYS:
                text, interval, note = NOT_AVAILABLE, "", f"{note}, too few to tell"
        if metric.title == "Latency":
            found, of = raised(log)
            if seconds and value:
                time = duration(value.value * seconds)
                note = f"steps, about {time}, from onset to the first above the threshold"
            if of and not found:
                text, interval, note = (
                    NOT_AVAILABLE,
                    "",
                    f"none of {of} attacks has a step above the threshold",
                )
            elif found < of:
                all_seeds = " of all seeds" if each else ""
                note += f"; {of - found} of {of} attacks{all_seeds} missed, counted to their end"
        cards.append(
            Card(name=_SHORT.get(metric.title, metric.title), value=text, interval=interval, about=note)
        )
    return cards


def baselines(log: Log) -> Section:
    """Ours beside every baseline: forest plot, all metrics, paired differences."""
    found = systems(log)
    blocks: list[Block] = []
    scored = [(name, value) for name, body in found.items() if (value := measured(body, METRICS[0]))]
    judged = bool(log.last("run").get("evaluates"))  # there are no baselines there
    if len(found) < 2 and not judged:
        blocks.append(unjudged(log, "No baseline was judged in this run."))
    if len(scored) > 1:
        blocks.append(_forest(scored))
    if found:
        blocks.append(_all_metrics(log, found))
    if paired := _paired(log):
        blocks.append(paired)
    found_more = (_margins(log), _floors(log))
    blocks += [grid for grid in found_more if grid is not None]
    title, nav = ("Every metric", "Metrics") if judged else ("Ours against every baseline", "Baselines")
    return Section(name="baselines", title=title, nav=nav, blocks=tuple(blocks))


def _forest(scored: list[tuple[str, Triple]]) -> Picture:
    scored = sorted(scored, key=lambda pair: -pair[1].value)
    rank = [name for name, _ in scored].index(OURS) + 1 if OURS in dict(scored) else 0
    best = system_name(scored[0][0])
    title = "AUROC of every system"
    caption = (
        "Dots are estimates, bars 95\u202f% intervals over units and seeds. Bars that overlap do not tell "
        "whether two systems differ; paired differences do, where they are given."
    )
    finding = f"The highest of {len(scored)} estimates is that of {best}, {interval_text(scored[0][1])}"
    finding += f"; ours is number {rank}, {interval_text(dict(scored)[OURS])}." if rank > 1 else "."
    rows = [(system_name(name), value, name == OURS) for name, value in scored]
    return picture("forest", (title, caption, finding), lambda wide: forest(rows, "AUROC", wide))


def _all_metrics(log: Log, found: dict[str, dict[str, Any]]) -> Grid:
    metrics = [m for m in METRICS if any(told(log, body, m, name) for name, body in found.items())]
    rate = percent(false_positive_rate(log))
    columns = tuple(
        Column(title=m.title, hint=m.hint or (f"at {rate} false positives" if "Recall" in m.title else ""))
        for m in metrics
    )
    paired = paired_auroc(log)
    beside = metrics[:1] == [METRICS[0]] and any(name in paired for name in found)
    if beside:
        apart = Column(title="Ours minus it", hint="AUROC, paired")
        columns = (columns[0], apart, *columns[1:])
    table = {name: [told(log, body, m, name) for m in metrics] for name, body in found.items()}
    digits = [places([row[i] for row in table.values()], ratio=m.ratio) for i, m in enumerate(metrics)]
    best = [_best(m, [row[i] for row in table.values()]) for i, m in enumerate(metrics)]
    groups = (
        ("Ours", [n for n in table if n == OURS]),
        ("Same model, otherwise trained or used", [n for n in REFERENCES if n in table]),
        ("Other models, trained on pooled data", [n for n in table if n not in (OURS, *REFERENCES)]),
    )
    rows = []
    for group, names in groups:
        for place, name in enumerate(names):
            cells = tuple(
                cell(value, digits[i], best=m.title if value and value.value == best[i] else "")
                for i, (m, value) in enumerate(zip(metrics, table[name], strict=True))
            )
            if beside:
                cells = (cells[0], _minus(paired.get(name), name), *cells[1:])
            rows.append(
                Row(
                    head=system_name(name),
                    cells=cells,
                    group=group if place == 0 and group != "Ours" else "",
                    ours=name == OURS,
                )
            )
    note = "Ours minus it, on the same resampled units and seeds: no difference is shown where the interval "
    note = f"{note}holds 0, and of twenty equal systems one may seem to differ. " if beside else ""
    if len(found) > 1:
        note += "Bold with a dot: best estimate in its column, whether or not the difference is certain. "
    note += "Thresholds come from validation units, never from test. Small figures: 95\u202f% interval."
    note += untold_text(log, found.items())
    return Grid(
        caption="Every metric of every system" if len(found) > 1 else "Its metrics",
        first="System",
        columns=columns,
        rows=tuple(rows),
        note=note,
        wide=True,
    )


def _minus(difference: Triple | None, name: str) -> Cell:
    """A paired difference in AUROC; blank for ours beside itself, not judged where ours is hampered."""
    if name == OURS:
        return Cell(text="")
    text, _, interval = interval_text(difference, places([difference], ratio=True), sign=True).partition(" ")
    tone: Tone = "faint" if difference is None else _TONES.get(against(difference, METRICS[0]), "partly")
    if name in _HAMPERED:
        tone = ""
    return Cell(text=text, under=interval, tone=tone)


def _best(metric: Metric, values: list[Triple | None]) -> float | None:
    if metric.title == "False positives":  # a rate that was set, not earned
        return None
    present = [value.value for value in values if value is not None]
    if len(present) < 2:
        return None
    return max(present) if metric.up else min(present)


def _paired(log: Log) -> Grid | None:
    rows = [_claim(row) for row in comparisons(log) if row.against]
    if not rows:
        return None
    return Grid(
        caption="Paired differences, ours minus the other, and their targets",
        first="Question",
        columns=(
            Column(title="Difference", hint="95\u202f% interval"),
            Column(title="Target"),
            Column(title="Holds?", numeric=False),
        ),
        rows=tuple(rows),
        note="Paired: both systems are judged on the same resampled units and seeds. A target holds or not "
        "by the estimate; that is certain if the whole interval lies on the same side of it.",
    )


def _claim(row: Comparison) -> Row:
    said, why, tone = _STATES[row.state]
    decimals = _apart(row, places([row.difference], ratio=row.metric.ratio))
    value, _, interval = interval_text(row.difference, decimals, sign=bool(row.against)).partition(" ")
    hint = f", {row.metric.hint}" if row.metric.hint else ""
    other = f", against {system_name(row.against)}" if row.against else ""
    target = row.target.replace("-", "\u2212").replace(">=", "≥").replace("<=", "≤")
    return Row(
        head=row.name[:1].upper() + row.name[1:],
        note=f"{row.metric.title}{hint}{other}",
        cells=(
            Cell(text=value, under=interval),
            Cell(text=target or "none"),
            Cell(text=said, under=why, tone=tone),
        ),
    )


def _apart(row: Comparison, decimals: int) -> int:
    """Decimals with which an estimate just beside its target does not read as if it were on it."""
    bound = bound_of(row.target)
    if bound is None or row.difference is None:
        return decimals
    value = row.difference.value
    edges = [edge for edge in (bound, -bound) if edge != value and edge * value >= 0]  # "within" has two
    while decimals < 6 and any(round(value, decimals) == round(edge, decimals) for edge in edges):
        decimals += 1
    return decimals


def _floors(log: Log) -> Grid | None:
    rows = [_claim(row) for row in comparisons(log) if not row.against]
    if not rows:
        return None
    return Grid(
        caption="Is the data hard enough to be judged on?",
        first="Question",
        columns=(
            Column(title="Value", hint="95\u202f% interval"),
            Column(title="Target"),
            Column(title="Holds?", numeric=False),
        ),
        rows=tuple(rows),
        note="What simple detectors reach on the same test units; where they saturate, a comparison says "
        "little.",
    )


def _margins(log: Log) -> Grid | None:
    rows = []
    for name, body in sorted(
        mapping(log.last("metrics").get("margin_over_best_deep")).items(), key=lambda pair: _order(pair[0])
    ):
        value, metric = triple(body), metric_named(name)
        if value is None:
            continue
        judged = against(value, metric)
        text, _, under = interval_text(value, places([value], ratio=metric.ratio), sign=True).partition(" ")
        rows.append(
            Row(
                head=metric.title,
                note=f"against {system_name(system_key(mapping(body).get('baseline') or 'the best'))}",
                cells=(
                    Cell(text=text, under=under),
                    Cell(text=judged, tone=_TONES.get(judged, "partly")),
                ),
            )
        )
    if not rows:
        return None
    return Grid(
        caption="Margin over the deep baseline that is best by each metric on validation units",
        first="Metric",
        columns=(
            Column(title="Ours minus it", hint="95\u202f% interval"),
            Column(title="Ours is", numeric=False),
        ),
        rows=tuple(rows),
    )


def _order(name: str) -> int:
    titles = [metric.title for metric in METRICS]
    title = metric_named(name).title
    return titles.index(title) if title in titles else len(titles)
