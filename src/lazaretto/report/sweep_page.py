"""The page of a sweep: one table, one figure, and how it was made, from the records of its log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lazaretto import runlog
from lazaretto.report.blocks import Block, Cell, Code, Column, Facts, Grid, Picture, Row, Section, Text
from lazaretto.report.figures_sweep import GridLine, SystemDraws, draw_dots, grid_lines
from lazaretto.report.formats import (
    NOT_AVAILABLE,
    bytes_human,
    count,
    counted,
    duration,
    fixed,
    items,
    mapping,
    number,
    seeds_text,
    triple,
)
from lazaretto.report.page import assemble, write_html
from lazaretto.report.parts import cell, nothing, picture
from lazaretto.report.reading import OURS, Log, read_log, system_key, system_name
from lazaretto.report.robustness_page import robustness_facts, robustness_sections
from lazaretto.report.sections_run import code_text, commit_text, gone_on_with
from lazaretto.report.sweep_quick import left_out_by_quick
from lazaretto.report.uncut import has_cut, without_cut
from lazaretto.types import Record

__all__ = ["render_sweep", "write_sweep_page"]

_MOST_LINES = 5


_UNPRICED = Section(
    name="privacy",
    title="Privacy",
    nav="Privacy",
    blocks=(
        Text(
            text="The plan has a privacy mechanism, but every training here costs what a run costs, all were "
            "judged by exact figures of validation units, and nothing is charged: take nobody for protected.",
            tone="warning",
        ),
    ),
)


def write_sweep_page(directory: Path) -> Path:
    """Read DIR/sweep.sqlite, write DIR/sweep.html and return its path. Raises as `write_report`."""
    directory = Path(directory)
    text = render_sweep(list(runlog.read(directory / "sweep.sqlite")))
    return write_html(directory / "sweep.html", text)


def render_sweep(records: Sequence[Record]) -> str:
    """The page as HTML text; the same records give the same page. All text from the records is escaped."""
    log = read_log(records)
    about = log.last("sweep")
    if about.get("mode") == "robustness":
        return _page(
            log,
            [*robustness_sections(log), Section(name="plan", title="Plan", nav="Plan", blocks=_plan(log))],
            robustness_facts(log),
        )
    tuned = about.get("mode") != "grid"
    sections = [
        Section(name="summary", title="Summary", nav="Summary", blocks=(Text(text=_summary(log, tuned)),)),
        Section(
            name="results",
            title="What each system reaches" if tuned else "The grid",
            nav="Results",
            blocks=_results(log, tuned),
        ),
        Section(name="plan", title="Plan", nav="Plan", blocks=_plan(log)),
    ]
    facts = [
        f"{counted(about.get('draws'), 'draw')} for each system"
        if tuned
        else counted(len(log.all("draw")), "training"),
        seeds_text(items(about.get("seeds"))),
        counted(about.get("rounds"), "round"),
    ]
    return _page(log, sections, facts)


def _page(log: Log, sections: Sequence[Section], facts: Sequence[str]) -> str:
    about = log.last("sweep")
    plan = mapping(about.get("plan"))
    asked = mapping(plan.get("privacy")).get("mechanism")
    named = (
        sections if has_cut(plan) or "cut.enabled" in items(about.get("keys")) else map(without_cut, sections)
    )
    return assemble(
        [*named, *([_UNPRICED] if asked not in (None, "none") else [])],
        name=str(about.get("name") or "unnamed sweep"),
        facts=facts,
        quick=left_out_by_quick(about) if about.get("quick") is True else "",
        interrupted="" if log.all("finished") else "The sweep did not finish; what is missing is not shown.",
        version=str(about.get("version") or ""),
        warnings=[str(body.get("said")) for body in log.all("warning")],
    )


def _summary(log: Log, tuned: bool) -> str:
    judged = f"Judged by {log.last('sweep').get('criterion')}. Test units were dropped before any training."
    if not tuned:
        return f"One training for each point of the grid. {judged}"
    return (
        "Every system of the plan had the same number of draws from its own declared distributions; the first"
        f" draw is the plan as it was. {judged} The value of the best draw is a little flattering, as it was "
        "chosen by it; a run of tuned.toml judges it on test units."
    )


def _draws(log: Log) -> dict[str, list[dict[str, Any]]]:
    """Draws by system, in the order in which systems came."""
    found: dict[str, list[dict[str, Any]]] = {}
    for body in log.all("draw"):
        found.setdefault(str(body.get("system")), []).append(body)
    return found


def _value(body: dict[str, Any]) -> float | None:
    return number(mapping(body.get("auroc")).get("value"))


def _name(system: str) -> str:
    return system_name(system_key(system))


def _settings(body: dict[str, Any]) -> str:
    settings = mapping(body.get("settings"))
    flat = {name: value for name, value in settings.items() if name != "options"}
    flat |= mapping(settings.get("options"))
    return ", ".join(f"{name} {value}" for name, value in flat.items()) or "the plan as it was"


def _results(log: Log, tuned: bool) -> tuple[Block, ...]:
    draws = _draws(log)
    if not draws:
        return (nothing(log, "No training has finished."),)
    every = "\n".join(
        f"{system:20} {count((number(body.get('number')) or 0) + 1):>3}  {_shown(body):24} {_settings(body)}"
        for system, bodies in draws.items()
        for body in bodies
    )
    folded = Code(text=every, summary="Every draw" if tuned else "Every training")
    return (*(_tuned(draws) if tuned else _grid(log, draws)), folded)


def _shown(body: dict[str, Any]) -> str:
    value = _value(body)
    return fixed(value, 4) if value is not None else str(body.get("failed") or NOT_AVAILABLE)


def _tuned(draws: dict[str, list[dict[str, Any]]]) -> tuple[Grid, Picture]:
    rows, dots = [], []
    for system, bodies in draws.items():
        known = [body for body in bodies if _value(body) is not None]
        best = max(known, key=lambda body: _value(body) or 0.0, default={})
        start, ours = bodies[0], system_key(system) == OURS
        rows.append(
            Row(
                head=_name(system),
                cells=(
                    cell(triple(best.get("auroc")), 3),
                    cell(triple(start.get("auroc")), 3),
                    Cell(text=count(len(bodies))),
                    Cell(text=count(len(bodies) - len(known))),
                    Cell(text=duration(sum(number(body.get("seconds")) or 0.0 for body in bodies))),
                    Cell(text=_settings(best) if best else NOT_AVAILABLE),
                ),
                ours=ours,
            )
        )
        values = tuple(value for body in known if (value := _value(body)) is not None)
        dots.append(
            SystemDraws(
                name=_name(system),
                values=values,
                start=_value(start),
                best=max(values, default=None),
                ours=ours,
            )
        )
    columns = (
        Column(title="Best", hint="validation AUROC"),
        Column(title="Plan as it was", hint="validation AUROC"),
        Column(title="Draws"),
        Column(title="Failed"),
        Column(title="Time"),
        Column(title="Settings of the best", numeric=False),
    )
    grid = Grid(
        caption="The best of equally many draws",
        first="System",
        columns=columns,
        rows=tuple(rows),
        wide=True,
        note="Below each value: 95 % interval of that draw, by bootstrap over validation units and seeds.",
    )
    top = max(dots, key=lambda row: row.best or 0.0)
    finding = (
        f"Highest on validation units: {top.name}, {fixed(top.best, 3)}."
        if top.best is not None
        else "Every draw failed."
    )
    caption = "A mark for each draw, a ring for the plan as it was, a dot for the best."
    return grid, picture(
        "draws",
        ("Every draw of every system", caption, finding),
        lambda wide: draw_dots(dots, "AUROC on validation units", wide),
    )


def _grid(log: Log, draws: dict[str, list[dict[str, Any]]]) -> tuple[Grid, Picture]:
    keys = [str(name) for name in items(log.last("sweep").get("keys"))]
    several = len(draws) > 1
    rows = [
        Row(
            head=", ".join(str(mapping(body.get("settings")).get(name)) for name in keys),
            group=_name(system) if several and not place else "",
            cells=(
                cell(triple(body.get("auroc")), 3)
                if _value(body) is not None
                else Cell(text=str(body.get("failed") or NOT_AVAILABLE), tone="faint"),
                Cell(text=duration(body.get("seconds_per_round"))),
                Cell(text=bytes_human(body.get("bytes_per_round"))),
                Cell(text=duration(body.get("seconds"))),
            ),
        )
        for system, bodies in draws.items()
        for place, body in enumerate(bodies)
    ]
    columns = (
        Column(title="AUROC", hint="validation"),
        Column(title="A round"),
        Column(title="Bytes a round", hint="both links"),
        Column(title="Training"),
    )
    grid = Grid(caption="Every point", first=", ".join(keys), columns=columns, rows=tuple(rows))
    places, lines = _lines(keys, draws)
    known = [(body, _value(body)) for bodies in draws.values() for body in bodies]
    best, value = max(known, key=lambda pair: pair[1] if pair[1] is not None else -1.0)
    finding = f"Highest: {_settings(best)}, {fixed(value, 3)}." if value is not None else "All points failed."
    caption = "With 95 % intervals by bootstrap over validation units and seeds."
    if len(lines) > _MOST_LINES:
        caption += f" The first {_MOST_LINES} of {len(lines)} lines; the table holds all."
    return grid, picture(
        "grid",
        (f"AUROC over {keys[0]}", caption, finding),
        lambda wide: grid_lines(places, lines[:_MOST_LINES], (keys[0], "AUROC on validation units"), wide),
    )


def _lines(keys: Sequence[str], draws: dict[str, list[dict[str, Any]]]) -> tuple[list[str], list[GridLine]]:
    """Values of the first key, and a line for each system and value of the other keys."""
    places: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    for system, bodies in draws.items():
        for body in bodies:
            settings = mapping(body.get("settings"))
            place, *others = (str(settings.get(name)) for name in keys)
            if place not in places:
                places.append(place)
            rest = [f"{name} {value}" for name, value in zip(keys[1:], others, strict=True)]
            line = ", ".join([*([_name(system)] if len(draws) > 1 else []), *rest]) or _name(system)
            found.setdefault(line, {})[place] = triple(body.get("auroc"))
    return places, [
        GridLine(name=name, values=tuple(values.get(place) for place in places))
        for name, values in found.items()
    ]


def _plan(log: Log) -> tuple[Block, ...]:
    about = log.last("sweep")
    machine = mapping(about.get("machine"))
    pairs = (
        ("Lazaretto", str(about.get("version") or NOT_AVAILABLE)),
        ("Commit", commit_text(about)),
        ("Code", code_text(about)),
        *gone_on_with(log),
        ("Machine", f"{counted(machine.get('cores'), 'core')}, {machine.get('processor') or NOT_AVAILABLE}"),
        ("Time", duration(log.last("finished").get("seconds"))),
        (
            "Sweep log",
            f"{counted(log.records, 'record')}, the last with digest {log.digest or NOT_AVAILABLE}",
        ),
    )
    text = str(about.get("plan_toml") or "").strip()
    return (Facts(pairs=pairs), Code(text=text, summary="The plan as resolved, every default written out"))
