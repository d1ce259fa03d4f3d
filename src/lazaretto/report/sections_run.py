"""Sections about what was run: learning, bytes, seconds, plan, provenance."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from lazaretto.report.blocks import STAYS, Block, Cell, Code, Column, Facts, Grid, Picture, Row, Section, Text
from lazaretto.report.drawing import Line
from lazaretto.report.figures_run import Bar, bars, learning, learning_by_site
from lazaretto.report.formats import (
    NOT_AVAILABLE,
    bytes_exact,
    bytes_human,
    count,
    counted,
    duration,
    fixed,
    items,
    mapping,
    number,
    percent,
    words,
)
from lazaretto.report.parts import lacking, nothing, picture
from lazaretto.report.reading import OURS, Log, system_key, system_name

__all__ = [
    "bytes_by_link",
    "code_text",
    "commit_text",
    "gone_on_with",
    "learned",
    "messages_of",
    "plan",
    "provenance",
    "seconds_by_stage",
]

_LINKS = {
    "device-site": "Device to site, inside the hospital",
    "site-coordinator": "Site to coordinator, leaves the hospital",
    "site-aggregator": "Site to aggregators, leaves the hospital as shares",
    "aggregator-aggregator": "Among aggregators",
    "aggregator-coordinator": "Aggregators to coordinator",
}


def learned(log: Log) -> Section:
    """Loss and validation AUROC by round; by site."""
    title, rounds = "Learning", _rounds(log)
    if not rounds:
        return lacking("learning", title, "Learning", nothing(log, "The run log holds no finished round."))
    blocks: list[Block] = []
    panels = []
    for key, name in (("validation_auroc", "Validation AUROC"), ("loss", "Training loss")):
        lines = [_line(rows, key) for rows in rounds.values()]
        lines = [line for line in lines if line[0]]
        if lines:
            panels.append((name, lines, _mean(lines)))
    if panels:
        first, seeds = panels[0], len(rounds)
        finding = (
            f"{first[0]} goes from {fixed(first[2][1][0], 3)} in round {count(first[2][0][0])} to "
            f"{fixed(first[2][1][-1], 3)} in round {count(first[2][0][-1])}."
        )
        caption = f"Thick: mean of {seeds} seeds; thin: each seed." if seeds > 1 else "One seed."
        blocks.append(
            picture(
                "learning",
                ("Federated split, by round", caption, finding),
                lambda wide: learning(panels, wide),
            )
        )
    if by_site := _by_site(rounds):
        blocks.append(by_site)
    elif log.all("privacy") and not panels:
        blocks.append(
            Text(text="Sites that train in private tell no loss and no AUROC after a round: no curve.")
        )
    else:
        blocks.append(nothing(log, "No curve by site was recorded."))
    return Section(name="learning", title=title, nav="Learning", blocks=tuple(blocks))


def _rounds(log: Log) -> dict[Any, list[dict[str, Any]]]:
    """seed -> rounds of our system in order; a round that was run again after a resume counts once."""
    found: dict[Any, dict[float, dict[str, Any]]] = {}
    for body in log.all("round"):
        place = number(body.get("round"))
        if place is not None and system_key(body.get("system", OURS)) == OURS:
            found.setdefault(str(body.get("seed")), {})[place] = body
    return {seed: [rows[place] for place in sorted(rows)] for seed, rows in found.items()}


def _line(rows: Sequence[dict[str, Any]], key: str) -> Line:
    pairs = [(number(row.get("round")), number(row.get(key))) for row in rows]
    whole = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in whole], [y for _, y in whole]


def _mean(lines: Sequence[Line]) -> Line:
    """Mean over the lines that have a value at a round."""
    values: dict[float, list[float]] = {}
    for xs, ys in lines:
        for x, y in zip(xs, ys, strict=True):
            values.setdefault(x, []).append(y)
    xs = sorted(values)
    return xs, [sum(values[x]) / len(values[x]) for x in xs]


def _by_site(rounds: dict[Any, list[dict[str, Any]]]) -> Picture | None:
    for key, what in (("auroc", "AUROC"), ("loss", "loss")):
        lines: dict[str, list[Line]] = {}
        for rows in rounds.values():
            points: dict[str, list[dict[str, Any]]] = {}
            for row in rows:
                for site in map(mapping, items(row.get("sites"))):
                    point = {"round": row.get("round"), key: site.get(key)}
                    points.setdefault(str(site.get("name")), []).append(point)
            for name, one in points.items():
                lines.setdefault(name, []).append(_line(one, key))
        sites = [(name, _mean(several)) for name, several in lines.items()]
        whole = [(name, line) for name, line in sites if line[0]]
        if whole:
            return _site_figure(whole, len(sites) - len(whole), what)
    return None


def _site_figure(sites: list[tuple[str, Line]], without: int, what: str) -> Picture:
    mean = _mean([line for _, line in sites])
    ends = sorted((line[1][-1], name) for name, line in sites)
    finding = (
        f"In the last round validation {what} lies between {fixed(ends[0][0], 2)} ({ends[0][1]}) and "
        f"{fixed(ends[-1][0], 2)} ({ends[-1][1]})."
    )
    caption = "Mean over seeds. A site's curve rests on few units: it is not to be published."
    if without:
        have = "1 site has" if without == 1 else f"{without} sites have"
        caption += f" {have} no {what}: of validation units of one class only there is none."
    texts = ("Federated split, site by site", caption, finding)
    return picture("sites", texts, lambda wide: learning_by_site(sites, mean, what, wide), STAYS)


def messages_of(log: Log) -> tuple[str, list[dict[str, Any]], float]:
    """Seed, rows of one training of our system, and how much other seeds' bytes differ (as a share)."""
    bodies = [body for body in log.all("messages") if system_key(body.get("system", OURS)) == OURS]
    if not bodies:
        return "", [], 0.0
    totals = [sum(number(mapping(r).get("bytes")) or 0 for r in items(b.get("rows"))) for b in bodies]
    spread = (max(totals) - min(totals)) / max(totals) if max(totals) else 0.0
    rows = [row for row in map(mapping, items(bodies[0].get("rows"))) if number(row.get("bytes")) is not None]
    order = sorted(rows, key=lambda row: (str(row.get("link")), -float(row["bytes"])))
    return str(bodies[0].get("seed")), order, spread


def bytes_by_link(log: Log) -> Section:
    """Bytes of one training by link and kind of message."""
    title = "Bytes by link"
    seed, rows, spread = messages_of(log)
    if not rows:
        return lacking("bytes", title, "Bytes", nothing(log, "No message was counted."))
    total = {link: sum(float(r["bytes"]) for r in rows if r.get("link") == link) for link in _LINKS}
    outside = [row.get("link") != "device-site" for row in rows]
    found = [
        Bar(
            name=f"{words(row.get('kind'))} {_arrow(row)}",
            value=float(row["bytes"]),
            text=bytes_human(row["bytes"]),
            outside=out,
        )
        for row, out in zip(rows, outside, strict=True)
    ]
    others = (
        ""
        if len(log.all("messages")) < 2
        else " Other seeds send the same."
        if spread == 0
        else f" Other seeds differ by at most {percent(max(spread, 1e-4))}."
    )
    caption = (
        f"One training, seed {seed}, all rounds and sites together.{others} Counted in simulation. "
        "↑ goes up towards the coordinator, ↓ comes back."
    )
    finding = (
        f"Inside the hospitals {bytes_human(total['device-site'])}, between sites and coordinator "
        f"{bytes_human(total['site-coordinator'])}"
    )
    secret = total["aggregator-aggregator"] + total["aggregator-coordinator"]
    finding += (
        f", from sites to aggregators {bytes_human(total['site-aggregator'])}, and among those who aggregate "
        f"{bytes_human(secret)}."
        if secret
        else "."
    )
    figure = picture(
        "bytes",
        ("What crosses which link", caption, finding),
        lambda wide: bars(found, ("inside the hospital", "outside of it"), wide),
    )
    grid = Grid(
        caption="Messages and bytes of one training",
        first="Kind",
        columns=(Column(title="Messages"), Column(title="Bytes")),
        rows=tuple(_byte_rows(rows, total)),
    )
    return Section(name="bytes", title=title, nav="Bytes", blocks=(figure, grid))


def _arrow(row: dict[str, Any]) -> str:
    return {"up": "↑", "down": "↓"}.get(str(row.get("direction")), "")


def _byte_rows(rows: list[dict[str, Any]], total: dict[str, float]) -> list[Row]:
    found = []
    for link in dict.fromkeys(str(row.get("link")) for row in rows):
        own = [row for row in rows if str(row.get("link")) == link]
        for place, row in enumerate(own):
            cells = (
                Cell(text=count(row.get("count"))),
                Cell(text=bytes_human(row["bytes"]), under=bytes_exact(row["bytes"])),
            )
            title = _LINKS.get(link, words(link))
            found.append(
                Row(
                    head=f"{words(row.get('kind'))} {_arrow(row)}",
                    cells=cells,
                    group=f"{title[:1].upper()}{title[1:]}" if place == 0 else "",
                )
            )
        whole, messages = sum(float(r["bytes"]) for r in own), sum(number(r.get("count")) or 0 for r in own)
        ends = (
            Cell(text=count(messages)),
            Cell(text=bytes_human(whole), under=bytes_exact(whole)),
        )
        found.append(Row(head="Together", cells=ends, total=True))
    return found


def seconds_by_stage(log: Log) -> Section:
    """Where the time went."""
    title = "Seconds by stage"
    stages: dict[str, tuple[float, float, int]] = {}
    for body in log.all("stage"):
        seconds = number(body.get("seconds"))
        if seconds is None:
            continue
        name = _stage_name(str(body.get("name")))
        old = stages.get(name, (0.0, 0.0, 0))
        stages[name] = (
            old[0] + seconds,
            old[1] + min(number(body.get("compile_seconds")) or 0.0, seconds),
            old[2] + 1,
        )
    if not stages:
        return lacking("time", title, "Seconds", nothing(log, "No stage has finished."))
    found = [
        Bar(
            name=name if times == 1 else f"{name} × {times}",
            value=seconds,
            pale=compiling,
            text=duration(seconds),
        )
        for name, (seconds, compiling, times) in stages.items()
    ]
    compiles = any(bar.pale for bar in found)
    whole, finished = sum(bar.value for bar in found), log.last("finished")
    longest = max(found, key=lambda bar: bar.value)
    finding = f"{duration(whole)} in all stages; the longest is {longest.name}, {longest.text}."
    caption = "Stages in the order in which they began, all seeds together."
    if compiles:
        caption += " Compiling happens once for each program."
    told = finished.get("resumed")  # older logs do not tell: then the stages took longer than the last part
    resumed = told is True or (told is None and (number(finished.get("seconds")) or whole) < whole)
    pairs = [
        (f"All stages{', without what was stopped midway' if resumed else ''}", duration(whole)),
        (
            "Since it was last gone on with" if resumed else "From start to end",
            duration(finished.get("seconds")),
        ),
        ("Highest use of memory", bytes_human(finished.get("peak_bytes"))),
    ]
    figure = picture(
        "time",
        ("Where the time went", caption, finding),
        lambda wide: bars(found, ("running", "compiling") if compiles else ("", ""), wide),
    )
    return Section(name="time", title=title, nav="Seconds", blocks=(figure, Facts(pairs=tuple(pairs))))


def _stage_name(name: str) -> str:
    """Trainings that differ only in the family (or in the site) left out count as one stage."""
    system, without, _ = name.partition(" without ")
    shown = system_name(system_key(system))
    return f"{shown}, one {'site' if without.startswith('site ') else 'family'} out" if without else shown


def plan(log: Log) -> Section:
    """The resolved plan."""
    text = log.last("run").get("plan_toml")
    block: Block = (
        Code(text=str(text).strip(), summary="The plan as resolved, every default written out")
        if text
        else nothing(log, "The run log does not hold the plan.")
    )
    return Section(name="plan", title="Plan", nav="Plan", blocks=(block,))


def commit_text(run: dict[str, Any]) -> str:
    """The commit that a run or sweep came from, or that there was no checkout."""
    return str(
        run.get("commit") or "not known: this ran from an installed package, which its code's digest names"
    )


def code_text(run: dict[str, Any]) -> str:
    """The digest of the code of a run or sweep, n/a where an older log has none."""
    digest = str(run.get("code_sha256") or "")
    if not digest:
        return NOT_AVAILABLE
    return ", ".join((f"SHA-256 {digest[:16]}, as `lazaretto --version` prints it", *_parts_words(run)))


def _parts_words(body: dict[str, Any]) -> list[str]:
    """Files of parts that lay outside the package, each with its digest."""
    parts = mapping(body.get("parts_sha256"))
    return [f"{name} from LAZARETTO_PATH {str(digest)[:16]}" for name, digest in parts.items()]


def gone_on_with(log: Log) -> tuple[tuple[str, str], ...]:
    """A row for each other code that the run or sweep was gone on with, in order."""
    return tuple(("Gone on with by other code", _code_words(body)) for body in log.all("code"))


def _code_words(body: dict[str, Any]) -> str:
    digest, commit = str(body.get("code_sha256") or ""), body.get("commit")
    return ", ".join(
        (
            f"version {body.get('version') or NOT_AVAILABLE}",
            f"commit {commit}" if commit else "no commit known",
            f"SHA-256 {digest[:16]}" if digest else "no digest",
            *_parts_words(body),
        )
    )


def provenance(log: Log) -> Section:
    """Version, seeds, machine, digest, and the command that runs it again."""
    run = log.last("run")
    machine = mapping(run.get("machine"))
    parts = (
        counted(machine.get("cores"), "core") if machine.get("cores") else "",
        str(machine.get("processor") or ""),
        (f"{bytes_human(machine.get('memory_bytes'))} memory" if machine.get("memory_bytes") else ""),
    )
    software = tuple(
        f"{title} {machine[key]}" for key, title in (("python", "Python"), ("jax", "JAX")) if machine.get(key)
    )
    pairs = (
        ("Lazaretto", str(run.get("version") or NOT_AVAILABLE)),
        ("Commit", commit_text(run)),
        ("Code", code_text(run)),
        *gone_on_with(log),
        ("Seeds", ", ".join(str(seed) for seed in items(run.get("seeds"))) or NOT_AVAILABLE),
        ("Machine", ", ".join(part for part in parts if part) or NOT_AVAILABLE),
        ("Software", ", ".join(software) or NOT_AVAILABLE),
        ("Run log", f"{counted(log.records, 'record')}, the last with digest {log.digest or NOT_AVAILABLE}"),
    )
    planned = mapping(mapping(run.get("plan")).get("data"))
    maps = "".join(f" --map {shlex.quote(str(text))}" for text in items(run.get("maps")))
    path, model = planned.get("path"), run.get("evaluates")
    data = f" --data {shlex.quote(str(path))}" if path else ""
    again, same = f"lazaretto run plan.toml{data}", "seeds"
    if model:
        source, same = shlex.quote(str(planned.get("source"))), "model"
        again = f"lazaretto evaluate {shlex.quote(str(model))} --source {source}{data}{maps} --plan plan.toml"
    several = (
        " This run was made by several codes, one after another: no one of them needs to give its numbers."
        if log.all("code")
        else ""
    )
    commands = f"{again} --out again\nlazaretto report again"
    about = Text(
        text=f"To reproduce: plan.toml lies beside this page; the same version, {same} and machine give the "
        f"same numbers.{several} The digest names the run log: every record holds the digest of the one "
        "before it, so a log whose last digest differs is not the one that this page was made from."
    )
    return Section(
        name="provenance",
        title="Provenance",
        nav="Provenance",
        blocks=(Facts(pairs=pairs), about, Code(text=commands)),
    )
