"""Sections of the page of `lazaretto sweep` where rules were tried against attacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazaretto.report.blocks import Block, Cell, Column, Grid, Picture, Row, Section, Text
from lazaretto.report.figures_robustness import HeatRow, SharePanel, heat_map, share_panels
from lazaretto.report.formats import (
    NOT_AVAILABLE,
    Triple,
    counted,
    fixed,
    items,
    mapping,
    number,
    percent,
    plain,
    seeds_text,
    triple,
    words,
)
from lazaretto.report.parts import cell, lacking, nothing, picture
from lazaretto.report.reading import Log
from lazaretto.report.robustness_alarms import alarms_under_attack
from lazaretto.report.robustness_classes import classes_over_shares
from lazaretto.report.robustness_reading import (
    MEAN,
    Found,
    axis_of,
    bodies_over_shares,
    found_of,
    most_lost,
    value_of,
)
from lazaretto.report.robustness_watch import who_was_noticed

__all__ = ["robustness_facts", "robustness_sections"]


def robustness_sections(log: Log) -> list[Section]:
    """All sections but the plan."""
    found = found_of(log)
    if not found.tree:
        return [lacking("summary", "Summary", "Summary", nothing(log, "No figure has been made yet."))]
    return [
        Section(
            name="summary", title="Summary", nav="Summary", blocks=(*_summary(log, found), _table(found))
        ),
        Section(name="pairs", title="Every rule against every attack", nav="Pairs", blocks=_pairs(found)),
        Section(name="shares", title="The more are hostile", nav="Shares", blocks=_shares(found)),
        Section(
            name="classes",
            title="Recall by attack family",
            nav="Families",
            blocks=(_classes(found), *classes_over_shares(found)),
        ),
        Section(name="backdoors", title="Backdoors", nav="Backdoors", blocks=(_backdoors(log, found),)),
        who_was_noticed(log, found),
    ]


def robustness_facts(log: Log) -> list[str]:
    """What was done, in a line."""
    about = log.last("sweep")
    return [
        counted(len(items(about.get("rules"))), "rule"),
        counted(len(items(about.get("attacks"))), "attack"),
        counted(len(log.all("case")), "training"),
        seeds_text(items(about.get("seeds"))),
        counted(about.get("rounds"), "round"),
    ]


def _summary(log: Log, found: Found) -> tuple[Text, ...]:
    about = log.last("sweep")
    more = ["more seeds"] if len(items(about.get("seeds"))) > (number(about.get("screen_seeds")) or 0) else []
    more += ["other numbers of hostile sites"] if len(found.shares) > 1 else []
    first = (
        f"Every rule met every attack with {found.who()} hostile. The attack that costs a rule most AUROC is "
        f"its worst{'; each rule met that one again, with ' if more else ''}{' and '.join(more)}."
    )
    said = [first]
    for rule in dict.fromkeys((MEAN, found.own)):
        before, after = value_of(found.honest(rule), "auroc"), value_of(found.hit(rule), "auroc")
        if before is not None and after is not None:
            title = "Plain mean" if rule == MEAN else f"The plan's rule, {rule},"
            worst = words(found.worst.get(rule))
            goes = "falls" if after < before else "goes"
            said.append(f"{title} {goes} from AUROC {fixed(before, 3)} to {fixed(after, 3)} under {worst}.")
    hits = ((value_of(found.hit(rule), "auroc"), rule) for rule in found.rules)
    held = [(value, rule) for value, rule in hits if value is not None]
    if held:
        value, rule = max(held)
        said.append(f"Highest under its own worst attack: {rule}, {fixed(value, 3)}.")
    rate = percent(number(about.get("false_positive_rate")) or 0.01)
    agreed = mapping(mapping(about.get("plan")).get("evaluate")).get("thresholds")
    other = {
        "median": "other, as the median of its sites asks for it",
        "own": "other, of each site by itself (a site with too few of them goes by the median of votes)",
    }.get(str(agreed), "other")
    how = (
        "All figures are of validation units; test units were dropped before any training. F1 and recall "
        "need a threshold, which may not be set on what it judges: the units are dealt into two halves, and "
        f"each half is judged by the threshold that lets through {rate} of the normal steps of the {other}. "
        "The worst attack was chosen on the units that judge it, with the first seeds alone."
    )
    judged = [how]
    failed = sum(body.get("failed") is not None for body in log.all("case"))
    if failed:
        judged.append(
            f"{counted(failed, 'training')} ended in no finite model, and "
            f"{'counts' if failed == 1 else 'count'} as a detector that can tell nothing "
            "(AUROC 0.5, no alarm)."
        )
    for rule, why in mapping(about.get("left_out")).items():
        judged.append(f"Left out: {rule} ({why}).")
    return Text(text=" ".join(said)), Text(text=" ".join(judged), tone="note")


def _table(found: Found) -> Grid:
    mean = value_of(found.honest(MEAN), "auroc")
    order = sorted(found.rules, key=lambda rule: -(value_of(found.hit(rule), "auroc") or 0.0))
    rows = [_row(found, rule, mean) for rule in order]
    return Grid(
        caption=f"Each rule without an attack, and under its worst with {found.who()} hostile",
        first="Rule",
        columns=(
            Column(title="AUROC", hint="no attack"),
            Column(title="Below plain mean", hint="no attack"),
            Column(title="Worst attack", numeric=False),
            Column(title="AUROC", hint="attacked"),
            Column(title="AUROC lost"),
            Column(title="F1", hint="attacked"),
            Column(title="F1 lost"),
            Column(title="Most recall lost", hint="of a family"),
        ),
        rows=tuple(rows),
        wide=True,
        note="Below each value its 95 % interval, by bootstrap over units and seeds; losses are paired. The "
        "largest loss of several families is larger by chance than a loss named beforehand.",
    )


def _row(found: Found, rule: str, mean: float | None) -> Row:
    honest, hit = found.honest(rule), found.hit(rule)
    lost, own = mapping(hit.get("lost")), value_of(honest, "auroc")
    below = NOT_AVAILABLE if mean is None or own is None else plain(mean - own, 3)
    family, most = most_lost(mapping(lost.get("recall_by_class")))
    return Row(
        head=rule,
        cells=(
            cell(triple(honest.get("auroc")), 3),
            Cell(text=below),
            Cell(text=words(found.worst.get(rule, NOT_AVAILABLE))),
            cell(triple(hit.get("auroc")), 3),
            cell(triple(lost.get("auroc")), 3),
            cell(triple(hit.get("f1")), 3),
            cell(triple(lost.get("f1")), 3),
            Cell(text=NOT_AVAILABLE if most is None else plain(most.value, 2), under=words(family)),
        ),
        ours=rule == found.own,
    )


def _pairs(found: Found) -> tuple[Block, ...]:
    """Two heat maps, the attacker that knows the rule beside the others, the plan's rule at its threshold."""
    mean = _first(found.honest(MEAN))
    own = [_heat_row(found, rule, _first(found.honest(rule))) for rule in found.rules]
    columns = [words(name) for name in found.attacks]
    blocks: list[Block] = [
        _heat("own", own, columns, found, "than the same rule reaches without an attack"),
    ]
    if mean is not None:
        against = [_heat_row(found, rule, mean) for rule in found.rules]
        blocks.append(_heat("mean", against, columns, found, "than plain mean reaches without an attack"))
    if "adaptive" in found.attacks and len(found.attacks) > 1:
        blocks.append(_adaptive(found))
    alarms = alarms_under_attack(found)
    return (*blocks, *([] if alarms is None else [alarms]))


def _first(body: dict[str, Any]) -> float | None:
    """AUROC with the first seed, which is the one of the screening where that has one."""
    values = items(mapping(body.get("by_seed")).get("auroc"))
    return number(values[0]) if values else None


def _heat_row(found: Found, rule: str, whole: float | None) -> HeatRow:
    values = []
    for attack in found.attacks:
        there = _first(found.at(rule, attack, found.share))
        values.append(None if there is None or whole is None else whole - there)
    worst = found.worst.get(rule)
    return HeatRow(
        name=rule,
        values=tuple(values),
        worst=found.attacks.index(worst) if worst in found.attacks else None,
        ours=rule == found.own,
    )


def _heat(name: str, rows: Sequence[HeatRow], columns: Sequence[str], found: Found, against: str) -> Picture:
    known = [
        (value, row.name, columns[place])
        for row in rows
        for place, value in enumerate(row.values)
        if value is not None
    ]
    value, rule, attack = max(known, default=(0.0, "", ""))
    finding = f"Most is lost by {rule} under {attack}: {fixed(value, 2)} AUROC."
    caption = (
        f"Hundredths of AUROC below what {against.removeprefix('than ')}, {found.who()} "
        "hostile, first seed. A minus is a gain, mostly chance. Framed: the worst attack of a rule."
    )
    return picture(
        f"heat-{name}",
        (f"AUROC lost: less {against}", caption, finding),
        lambda wide: heat_map(rows, columns, wide),
    )


def _adaptive(found: Found) -> Grid:
    rows = []
    for rule in found.rules:
        fixed_ones = [
            (value, attack)
            for attack in found.attacks
            if attack != "adaptive" and (value := _first(found.at(rule, attack, found.share))) is not None
        ]
        knows = _first(found.at(rule, "adaptive", found.share))
        if knows is None or not fixed_ones:
            continue
        value, attack = min(fixed_ones)
        holds = knows <= value
        rows.append(
            Row(
                head=rule,
                cells=(
                    Cell(text=fixed(knows, 3)),
                    Cell(text=fixed(value, 3)),
                    Cell(text=words(attack)),
                    Cell(text="yes" if holds else "no", tone="no" if holds else "yes"),  # red: what harms
                ),
                ours=rule == found.own,
            )
        )
    return Grid(
        caption="The attacker that knows the rule, beside the worst of the others",
        first="Rule",
        columns=(
            Column(title="AUROC", hint="adaptive"),
            Column(title="AUROC", hint="worst other"),
            Column(title="Which", numeric=False),
            Column(title="Adaptive harms most", numeric=False),
        ),
        rows=tuple(rows),
        note="First seed. By its own measure the adaptive attack is in each round at least as harmful as "
        "every fixed one on updates; false data and false counts it does not try, and what costs most AUROC "
        "in the end may be another.",
    )


def _shares(found: Found) -> tuple[Block, ...]:
    shares, places, axis = axis_of(found)
    blocks: list[Block] = []
    for name, title in (("auroc", "AUROC"), ("f1", "F1")):
        panels = [
            SharePanel(
                name=rule,
                about=words(found.worst.get(rule, "")),
                values=_over(found, rule, shares, name),
                ours=rule == found.own,
            )
            for rule in found.rules
        ]
        mean = _over(found, MEAN, shares, name)
        blocks.append(
            picture(
                f"shares-{name}",
                (
                    f"{title} over {axis}",
                    "Each rule under its own worst attack, which stands under its name, with 95 % intervals.",
                    f"With {found.who(shares[-1])} hostile {_kept(panels, title)}.",
                ),
                lambda wide, panels=panels, mean=mean, title=title: share_panels(  # type: ignore[misc]
                    panels, places, ("plain mean", mean), f"{title} by {axis}", wide
                ),
            )
        )
    return tuple(blocks)


def _kept(panels: Sequence[SharePanel], title: str) -> str:
    """Which rule keeps most with most sites hostile, or that none keeps anything."""
    ends = [(v.value, panel.name) for panel in panels if (v := panel.values[-1]) is not None]
    if not ends:
        return f"no {title} was measured"
    value, rule = max(ends)
    if title == "F1" and round(value, 3) <= 0:
        honest = [v.value for panel in panels if (v := panel.values[0]) is not None]
        never = ", and none has without an attack" if max(honest, default=1.0) < 0.0005 else ""
        return f"no rule has an F1 above 0 under its worst attack{never}"
    return f"{rule} keeps most {title}, {fixed(value, 3)}"


def _over(found: Found, rule: str, shares: Sequence[float], name: str) -> tuple[Triple | None, ...]:
    return tuple(triple(body.get(name)) for body in bodies_over_shares(found, rule, shares))


def _classes(found: Found) -> Block:
    names = list(mapping(found.honest(found.rules[0]).get("recall_by_class")))
    rows = []
    for rule in found.rules:
        before, after = (
            mapping(body.get("recall_by_class")) for body in (found.honest(rule), found.hit(rule))
        )
        pairs = [(triple(before.get(name)), triple(after.get(name))) for name in names]
        rows.append(
            Row(
                head=rule,
                cells=tuple(
                    Cell(
                        text=NOT_AVAILABLE if hit is None else fixed(hit.value, 2),
                        under=NOT_AVAILABLE if honest is None else fixed(honest.value, 2),
                    )
                    for honest, hit in pairs
                ),
                ours=rule == found.own,
            )
        )
    return Grid(
        caption=f"Recall under the worst attack, {found.who()} hostile; below, without an attack",
        first="Rule",
        columns=tuple(Column(title=words(name)) for name in names),
        rows=tuple(rows),
        wide=True,
        note="Validation holds few units of a family: single figures are rough. Intervals are in sweep.json.",
    )


def _backdoors(log: Log, found: Found) -> Block:
    attacks = [
        attack
        for attack in found.attacks
        if any(found.at(rule, attack, found.share).get("backdoor_success") for rule in found.rules)
    ]
    if not attacks:
        return nothing(log, "No attack of this sweep teaches a trigger.")
    rows = [
        Row(
            head=rule,
            cells=tuple(
                cell(triple(found.at(rule, attack, found.share).get("backdoor_success")), 2)
                for attack in attacks
            ),
            ours=rule == found.own,
        )
        for rule in found.rules
    ]
    return Grid(
        caption=f"Success of backdoors, {found.who()} hostile",
        first="Rule",
        columns=tuple(Column(title=words(attack)) for attack in attacks),
        rows=tuple(rows),
        note="The share by which recall falls where the trigger is put on every attacked step. Below 0: the "
        "trigger makes attacks stand out.",
    )
