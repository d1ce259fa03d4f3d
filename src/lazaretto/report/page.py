"""The page: one self-contained report.html from the records of a run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from lazaretto import runlog
from lazaretto.errors import LazarettoError
from lazaretto.report import (
    sections_attack,
    sections_cost,
    sections_data,
    sections_detail,
    sections_hostile,
    sections_left_out,
    sections_modalities,
    sections_operating,
    sections_privacy,
    sections_results,
    sections_run,
)
from lazaretto.report.blocks import PUBLISHABLE, Block, Card, Code, Facts, Grid, Picture, Section, Text
from lazaretto.report.formats import count, counted, items, mapping, number, seeds_text, words
from lazaretto.report.reading import Log, is_unfinished, read_log, sites_of
from lazaretto.report.uncut import has_cut, without_cut
from lazaretto.report.wording import headline_seeds
from lazaretto.types import Record

__all__ = ["assemble", "headline", "render", "write_html", "write_report"]

_SECTIONS: tuple[Callable[[Log], Section | None], ...] = (
    sections_results.summary,
    sections_results.baselines,
    sections_modalities.modalities,
    sections_operating.operating_points,
    sections_detail.by_family,
    sections_left_out.by_intensity,
    sections_left_out.sites_left_out,
    sections_hostile.hostile_sites,
    sections_privacy.privacy,
    sections_detail.characteristics,
    sections_detail.delays,
    sections_operating.calibration,
    sections_attack.attack,
    sections_run.learned,
    sections_run.bytes_by_link,
    sections_run.seconds_by_stage,
    sections_cost.cost,
    sections_data.sheet_of_data,
    sections_data.seen,
    sections_run.plan,
    sections_run.provenance,
)
# sections on how a model came about: where one that was trained elsewhere is judged, they have nothing to say
_OF_TRAINING = ("away", "privacy", "timeline", "learning", "bytes", "cost", "seen")
_OF_RUN = (
    "Ours, on test units. In brackets: 95\u202f% interval by bootstrap over units and seeds. Thresholds come "
    "from validation units."
)
_OF_EVALUATION = (
    "One trained model, on the units that are judged here. In brackets: 95\u202f% interval by bootstrap over "
    "units; how much models of other seeds differ is not in it. Thresholds come from its training run."
)
_KINDS = {Picture: "picture", Grid: "grid", Text: "text", Facts: "facts", Code: "code"}


def render(records: Sequence[Record]) -> str:
    """The whole page as HTML text; the same records give the same page to the byte.

    records: of a run log, in order; a log that is cut short, lacks kinds or has unknown fields gives
    a page that says what is missing. The page needs no network and holds no script; all text from the
    records is escaped.
    """
    log = read_log(records)
    run = log.last("run")
    judged = bool(run.get("evaluates"))
    sections = [section for build in _SECTIONS if (section := build(log)) is not None]
    sections = [section for section in sections if not (judged and section.name in _OF_TRAINING)]
    return assemble(
        sections if has_cut(mapping(run.get("plan"))) else [without_cut(section) for section in sections],
        name=str(run.get("name") or "unnamed run"),
        facts=_facts(log),
        quick=_quick(log),
        interrupted=_interrupted(log),
        version=str(run.get("version") or ""),
        warnings=_warnings(log),
        about_cards=_OF_EVALUATION if judged else _OF_RUN,
    )


def assemble(
    sections: Sequence[Section],
    *,
    name: str,
    facts: Sequence[str],
    quick: str,
    interrupted: str,
    version: str,
    warnings: Sequence[str] = (),
    about_cards: str = _OF_RUN,
) -> str:
    """HTML of sections under a heading. quick, interrupted: what to say of such a run, else empty.

    warnings: what a reader must know before any figure. about_cards: what the headline numbers rest on.
    """
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            name=name,
            sections=_numbered(sections),
            facts=facts,
            quick=quick,
            interrupted=interrupted,
            warnings=tuple(warnings),
            publishable=PUBLISHABLE,
            about_cards=about_cards,
            version=version,
        )
    )


def _warnings(log: Log) -> list[str]:
    """Of the data sheets of all seeds, each once, in order."""
    found = [str(warning) for data in log.all("data") for warning in items(data.get("warnings"))]
    return list(dict.fromkeys(found))


def headline(records: Sequence[Record]) -> list[Card]:
    """The headline numbers of a run log, none where nothing was judged."""
    return list(sections_results.summary(read_log(records)).cards)


def write_report(directory: Path) -> Path:
    """Read DIR/run.sqlite, write DIR/report.html and return its path. The page appears whole or not at all.

    Raises InputError if there is no run log, CheckFailed if its chain of digests breaks, LazarettoError
    if the page cannot be written.
    """
    directory = Path(directory)
    text = render(list(runlog.read(directory / "run.sqlite")))
    return write_html(directory / "report.html", text)


def write_html(target: Path, text: str) -> Path:
    """Write a page so that it appears whole or not at all; returns its path. Raises LazarettoError."""
    directory, draft = target.parent, None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=directory, prefix=".report-", suffix=".html", delete=False
        ) as file:
            draft = file.name
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o644)
        Path(draft).replace(target)
    except OSError as error:
        raise LazarettoError(
            "the report cannot be written",
            found=f"{target}: {error.strerror or error}",
            way_out="free some space or mend the permissions, then `lazaretto report DIR`",
        ) from error
    finally:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
    return target


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("lazaretto.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _facts(log: Log) -> list[str]:
    """What was run, in a line."""
    plan, sites = mapping(log.last("run").get("plan")), sites_of(log)
    model, rounds = mapping(plan.get("model")).get("name"), number(mapping(plan.get("train")).get("rounds"))
    seeds = items(log.last("run").get("seeds"))
    found = (
        str(log.first("data").get("source") or ""),
        words(log.first("data").get("modality") or ""),
        counted(len(sites), "site") if sites else "",
        f"model {model}" if model else "",
        counted(rounds, "round") if rounds and not log.last("run").get("evaluates") else "",
        seeds_text(seeds) if seeds else "",
    )
    return [fact for fact in found if fact]


def _quick(log: Log) -> str:
    run = log.last("run")
    seeds, wanted = len(items(run.get("seeds"))), headline_seeds(log)
    if not run or run.get("evaluates") or not (run.get("quick") is True or seeds < wanted):
        return ""
    if seeds < wanted:
        return f"{count(seeds)} of the {wanted} seeds that a headline needs"
    return "marked so by the plan"


def _interrupted(log: Log) -> str:
    """What to say of a run that did not finish; empty for one that did."""
    if not is_unfinished(log):
        return ""
    last = log.last("round")
    place, whole = number(last.get("round")), number(last.get("rounds"))
    said = "This run had not finished when this page was written; sections whose numbers are missing say so."
    if place:
        said += f" The last recorded round is {count(place)} of {count(whole)}, seed {last.get('seed')}: what"
        said += " comes after it is missing, other systems and the judging among it."
    return f"{said} A run that was stopped goes on with lazaretto run, the same --out and --resume."


def _numbered(sections: Sequence[Section]) -> list[tuple[Section, list[tuple[str, Block, int]]]]:
    """Each section with its blocks: kind, block, and its number among figures or among tables."""
    numbers = {"picture": 0, "grid": 0}
    found = []
    for section in sections:
        blocks = []
        for block in section.blocks:
            kind = _KINDS[type(block)]
            numbers[kind] = numbers.get(kind, 0) + 1
            blocks.append((kind, block, numbers[kind]))
        found.append((section, blocks))
    return found
