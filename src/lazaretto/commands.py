"""What the commands do, once their words are read. Split from `lazaretto.cli`, so that help comes at once."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from lazaretto import catalog, runlog
from lazaretto.cli_audit import show_audits
from lazaretto.cli_check import show_check
from lazaretto.cli_grid import say
from lazaretto.cli_grid import show as show_grid
from lazaretto.cli_sweep import show_robustness, show_sweep
from lazaretto.data.dropped import load_without
from lazaretto.data.sites import unused_sites
from lazaretto.errors import CheckFailed, DataError, PlanError, many, printable
from lazaretto.plan import Plan, load_plan, parse_options, parse_values
from lazaretto.plan_paths import idle_path
from lazaretto.report.page import headline, render, write_html, write_report
from lazaretto.report.sweep_page import write_sweep_page
from lazaretto.run.admitted import check_admitted
from lazaretto.run.audit_run import audit_run, audited_before
from lazaretto.run.checked import check_files, missing_files
from lazaretto.run.experiment import run_plan
from lazaretto.run.judge_new import evaluate_run
from lazaretto.run.lock import refuse_at_work
from lazaretto.run.progress import display
from lazaretto.run.robustness import run_robustness
from lazaretto.run.sweep import grid, quick_look, run_sweep, tuning
from lazaretto.types import Source

__all__ = ["MOST_POINTS", "audit", "check_data", "judge", "source_options", "sweep", "train", "write_page"]

MOST_POINTS = 400  # of a grid
_MOST_SECONDS = 60.0  # of loading the data of further seeds, for a check


def train(
    plan: Path, data: Path | None, out: Path | None, sets: Sequence[str], *, resume: bool, quiet: bool
) -> Path:
    """Train, evaluate, write the report; returns its path. Without `out` the folder is runs/<name>.

    Raises what `load_plan`, `run_plan` and `write_report` raise.
    """
    checked = load_plan(plan, sets=sets, overrides={} if data is None else {"data.path": str(data)})
    _check_written(plan)
    _warn_unread(checked, quiet)
    folder = Path("runs") / checked.run.name if out is None else out
    refuse_at_work(folder)
    with display(silent=quiet) as show:
        run_plan(checked, folder, resume=resume, show=show)
    return _reported(folder, quiet)


def judge(
    directory: Path,
    source: str,
    data: Path | None,
    out: Path,
    options: dict[str, Any],
    maps: Sequence[str] = (),
    *,
    quiet: bool,
) -> Path:
    """Judge the model in `directory` on data it never saw; returns the path of the report in `out`."""
    _check_path(source, data, options, "--data", "--source")
    with display(silent=quiet) as show:
        known = evaluate_run(directory, source, data, out, options, show, maps)
    for note in () if quiet else known:
        say(f"note: {note}")
    return _reported(out, quiet)


def _reported(folder: Path, quiet: bool) -> Path:
    """Write the report and, unless quiet, print its headline numbers; returns the page's path."""
    records = list(runlog.read(folder / "run.sqlite"))
    page = write_html(folder / "report.html", render(records))
    if not quiet and (cards := headline(records)):
        told = [(card.name, f"{card.value} {card.interval}".strip(), card.about) for card in cards]
        rows = [tuple(cell.replace("\u202f", " ") for cell in row) for row in told]
        show_grid("on the units judged, 95 % intervals", ("", "ours", "what it is"), rows, whole=2)
    return page


def sweep(
    plan: Path,
    data: Path | None,
    out: Path | None,
    sets: Sequence[str],
    over: Sequence[str],
    *,
    quick: bool,
    resume: bool,
    quiet: bool,
) -> Path:
    """Search each system's settings; print the table, return the page's path.

    With `over` a grid is walked instead, and with `robustness.enabled` rules are tried against attacks.

    Without `out` the folder is sweeps/<name>. Raises what `load_plan`, `run_sweep` and
    `write_sweep_page` raise, PlanError for a grid of more than 400 points.
    """
    overrides = {} if data is None else {"data.path": str(data)}
    whole = load_plan(plan, sets=sets, overrides=overrides)
    _check_written(plan)
    _check_priceless(whole)
    _warn_unread(whole, quiet)
    axes = dict(parse_values(text) for text in over)
    folder = Path("sweeps") / whole.run.name if out is None else out
    refuse_at_work(folder)
    if whole.robustness.enabled and not axes:
        with display(silent=quiet) as show:
            found = run_robustness(whole, folder, quick=quick, resume=resume, show=show)
        show_robustness(found)
        return write_sweep_page(folder)
    if len(axes) < len(over):
        raise PlanError(
            "--over: a key stands twice", found=", ".join(over), way_out="one --over for each key"
        )
    if math.prod(len(values) for values in axes.values()) > MOST_POINTS:
        raise PlanError("--over: too many points", found=over, way_out=f"at most {MOST_POINTS}")

    def one(point: Sequence[str]) -> Plan:
        laid = [f"{key}={value}" for key, value in zip(axes, point, strict=True)]
        found = load_plan(plan, sets=[*sets, *laid], overrides=overrides)
        _check_priceless(found)
        return quick_look(found) if quick else found

    if axes:
        points = [(dict(zip(axes, p, strict=True)), one(p)) for p in itertools.product(*axes.values())]
        trials = grid(points)
    else:
        trials = tuning(one(()))
    about = {"mode": "grid" if axes else "tuning", "keys": list(axes), "quick": quick}
    with display(silent=quiet) as show:
        result = run_sweep(whole, trials, folder, about, resume=resume, show=show)
    show_sweep(result)
    return write_sweep_page(folder)


def _check_written(plan: Path) -> None:
    """Raise PlanError for a file of blanks alone: it would read as all defaults, and was hardly meant so."""
    if not plan.is_file():  # such as /dev/null, which is meant
        return
    if not plan.read_bytes().decode("utf-8-sig", errors="replace").strip():  # `load_plan` has seen its size
        raise PlanError(
            "the plan is empty",
            found=plan,
            way_out="write the keys that are not to have their defaults, as in examples/consortium.toml; if "
            "all are, a comment such as '# all defaults'",
        )


def _warn_unread(plan: Plan, quiet: bool) -> None:
    """Say that nothing of a path is read where the display, which says it else, is silent."""
    path = plan.data.path
    if (
        quiet
        and path is not None
        and not catalog.build("sources", plan.data.source, plan.data.options).needs_path
    ):
        text = f"warning: nothing in {path} is read: source '{plan.data.source}' reads no files"
        typer.echo(printable(text), err=True)


def _check_priceless(plan: Plan) -> None:
    """Raise PlanError for a plan that means its privacy: a sweep shows exact figures and charges nothing."""
    asked = plan.privacy
    if asked.budget is None and (asked.mechanism == "none" or asked.noise == "seed"):
        return
    key = "privacy.noise" if asked.budget is None else "privacy.budget"
    raise PlanError(
        f"{key}: a sweep trains many times, each training costs what a run costs, and its figures are exact",
        found=asked.noise if asked.budget is None else asked.budget,
        way_out="tune on data that needs no protection, such as the simulator's, with privacy.noise = 'seed' "
        "and no budget file",
    )


def audit(directory: Path, *, quiet: bool) -> Path:
    """Attack a finished run's privacy; print what each attack reached, return the path of its report.

    Raises what `audit_run` and `write_report` raise.
    """
    again = audited_before(directory)
    with display(silent=quiet) as show:
        found = audit_run(directory, show)
    show_audits(found, again=again)
    return write_report(directory)


def write_page(directory: Path, kept: str | None = None) -> Path:
    """Hold the files of a run against its log and write the report anew; returns its path. Of a sweep the log
    alone is checked.

    Prints where the log ends: who keeps that can tell later, by giving it as `kept`, whether records were cut
    off or written anew. Raises PlanError where that is no digest, CheckFailed where no record has it.
    """
    digest = None if kept is None else _digest(kept)
    log, swept = directory / "run.sqlite", directory / "sweep.sqlite"
    of_sweep = swept.is_file() and not log.exists()
    records = list(runlog.read(swept if of_sweep else log))
    head = runlog.check_kept(swept if of_sweep else log, records, digest)
    if of_sweep:
        page = write_sweep_page(directory)
        unread = [name for name in ("sweep.json", "tuned.toml") if (directory / name).is_file()]
    else:
        check_files(directory, records)
        page = write_html(directory / "report.html", render(records))
        unread = missing_files(directory, records)
        if not any(record.kind == "finished" for record in records):
            say("the run has not finished, and the report says how far it came")
    if unread:
        say(f"{'' if of_sweep else 'not there, so '}not held against the log: {', '.join(unread)}")
    if digest is not None:
        place = next(record.sequence for record in records if record.digest == digest)
        since = many(head.records - place, "record")
        say(f"the digest that was kept is that of record {place}, {since} before the end")
    ends = f"{many(head.records, 'record')}, none changed; the last has digest {head.digest.hex()}"
    say(f"{'sweep' if of_sweep else 'run'} log: {ends}")
    return page


def _digest(text: str) -> bytes:
    """The bytes of a digest as a report prints it."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()) and text.strip("0 "):  # zeros: where no record is yet
        return bytes.fromhex(text)
    raise PlanError(
        "--head: should be a digest of 64 hexadecimal digits",
        found=text,
        way_out="the whole digest that `lazaretto report` printed of this log earlier",
    )


def check_data(
    source: str, path: Path | None, options: dict[str, Any], plan: Path | None = None, *, strict: bool
) -> None:
    """Print what the loader sees, and try whether a run of the plan (else a usual one) would have it.

    That is tried with all seeds of the plan; with its first alone, which is then said, where a source loads
    other units for each and would take more than a minute for them. Raises CheckFailed where a run would not
    have it, with `strict` also if a suspicious feature is kept.
    """
    built = _check_path(source, path, options, "PATH", "SOURCE")
    asked = Plan() if plan is None else load_plan(plan, check_parts=False)
    first, *others = asked.run.seeds if plan else (0,)
    began = time.perf_counter()
    made, table = load_without(built, path, first, asked.data.drop)
    takes = (time.perf_counter() - began) * len(others)
    anew = made.deals or not made.needs_path  # with another seed the source gives another table
    if path is not None and not made.needs_path:  # said before a table of simulated data
        for warning in table.warnings:
            typer.echo(printable(f"warning: {warning}"), err=True)
        path = None
    kept = show_check(made, path, table)
    for warning in unused_sites(table.site_names, asked.sites.by) if plan else ():
        typer.echo(printable(f"warning: {warning}"), err=True)
    if anew and takes > _MOST_SECONDS:
        rest, length = ", ".join(map(str, others)), many(round(takes / 60), "minute")
        say(f"note: tried with seed {first} alone: a run loads other data with seeds {rest}, in {length}.")
        others = []
    for seed in (first, *others):
        try:
            own = load_without(built, path, seed, asked.data.drop)[1] if anew and seed != first else table
            check_admitted(asked, own, seed, at_sites=plan is not None)
        except DataError as error:
            which = "" if seed == first else f" with seed {seed}, though not with {first}"
            more = "" if plan else "; with --plan PLAN its own [split] and [sites] are tried"
            raise CheckFailed(
                f"a run refuses this data{which}: {error.problem}",
                found=error.found,
                way_out=f"{error.way_out}{more}",
            ) from error
    if kept and strict:
        raise CheckFailed(
            "features that may give the label away are kept",
            found=", ".join(kept),
            way_out="name them in data.drop of a plan, and give it by --plan PLAN; or do without --strict",
        )


def source_options(source: str, plan: Path | None, sets: Sequence[str]) -> dict[str, Any]:
    """Options of a source: those of the plan, if one is given, and `option=value` texts laid over them."""
    if plan is None:
        return parse_options(sets)
    catalog.factory("sources", source)  # a name that there is not is no other source
    planned = load_plan(plan, check_parts=False).data
    _check_written(plan)
    if planned.source != source:
        raise PlanError(
            "the plan is of another source", found=planned.source, way_out=f"give a plan of '{source}'"
        )
    return parse_options(sets, planned.options)


def _check_path(source: str, path: Path | None, options: dict[str, Any], given: str, named: str) -> Source:
    """The source; PlanError where it lacks its path, or where it reads none and the path leads nowhere.

    given, named: how the path and the source are said.
    """
    built: Source = catalog.build("sources", source, options)
    if path is None:
        if built.needs_path:
            how = f"lazaretto data check {source} PATH" if given == "PATH" else f"{given} PATH"
            raise PlanError(f"source '{source}' reads files", way_out=f"say where they are: {how}")
    elif not built.needs_path and (idle := idle_path(source, path, given, named)) is not None:
        raise idle
    return built
