"""The command line. Exit codes: 0 done, 1 a check failed, 2 the input or the plan is wrong,
3 interrupted (the state is saved), 70 a bug of ours (the traceback is saved in a file).
"""

from __future__ import annotations

import errno
import functools
import importlib
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, ParamSpec

import typer

from lazaretto import __version__, catalog
from lazaretto.cli_grid import show_parts
from lazaretto.code_digest import code_digest
from lazaretto.errors import InputError, Interrupted, LazarettoError, PlanError, did_you_mean, printable
from lazaretto.fixed_parts import FIXED_PARTS
from lazaretto.run.lock import refuse_at_work

__all__ = ["BUG", "app", "audit", "data_check", "evaluate", "list_parts", "main", "report", "run", "sweep"]

P = ParamSpec("P")
BUG = 70  # EX_SOFTWARE of sysexits.h
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # of click, or of the click within typer
_UNKNOWN = re.compile(r"No such (option|command):? '?([^' ]+)")
_EXTRA = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)$")

app = typer.Typer(
    name="lazaretto",
    help="Train and judge a common attack detector for hospitals that never pool their data.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data = typer.Typer(help="Look at data before it is used.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")

PlanFile = Annotated[
    Path, typer.Argument(metavar="PLAN", help="A plan in TOML; its keys are in docs/plan.md.")
]
DataPath = Annotated[
    Path | None, typer.Option("--data", metavar="PATH", help="File or folder of the source.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a finished run.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Lay a value over the plan; may be repeated."),
]
OptionSets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="OPTION=VALUE", help="An option of the source; may be repeated."),
]
Maps = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="MODEL=NEW",
        help="A feature of the new data (*FACTOR) for one of the model; may be repeated.",
    ),
]
OptionPlan = Annotated[
    Path | None, typer.Option("--plan", metavar="PLAN", help="Take the source's options from this plan.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


def _stoppable(command: Callable[P, None]) -> Callable[P, None]:
    """The command, with Ctrl-C as one of our errors (typer would make it an "Aborted" with code 1)."""

    @functools.wraps(command)
    def run_it(*words: P.args, **options: P.kwargs) -> None:
        # Only now: an exception in the middle of typer's work or of an import may be lost or come out as
        # something else, and until here nothing has begun.
        _commands()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, _terminated)
            command(*words, **options)
        except KeyboardInterrupt as stop:
            raise Interrupted("interrupted") from stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    return run_it


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and the digest of the code, and leave.")
    ] = False,
) -> None:
    if version:
        typer.echo(f"lazaretto {__version__}\ncode SHA-256 {code_digest()}")
        raise typer.Exit


@app.command()
@_stoppable
def run(
    plan: PlanFile,
    data: DataPath = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write; runs/<name> if not given.")
    ] = None,
    sets: Sets = None,
    full: Annotated[
        bool, typer.Option("--full", help="Leave every site out in turn, too, and judge on it (takes long).")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train, evaluate, write the report."""
    _check_out(out)
    laid = [*(sets or ()), *(['evaluate.leave_one_site_out="all"'] if full else ())]
    _report(_commands().train(plan, data, out, laid, resume=resume, quiet=quiet))


@app.command(short_help="Tune systems, walk a grid, or try rules against attacks.")
@_stoppable
def sweep(
    plan: PlanFile,
    data: DataPath = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write; sweeps/<name> if not given.")
    ] = None,
    sets: Sets = None,
    over: Annotated[
        list[str] | None,
        typer.Option("--over", metavar="KEY=V1,V2", help="Walk a grid over these values; may be repeated."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Fewer rounds, one seed, few draws (or rules and attacks); marked as a quick look.",
        ),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted sweep.")] = False,
    quiet: Quiet = False,
) -> None:
    """Tune all systems alike, walk a grid, or try rules against attacks; on validation units."""
    _check_out(out)
    words = (plan, data, out, sets or (), over or ())
    _report(_commands().sweep(*words, quick=quick, resume=resume, quiet=quiet))


@app.command()
@_stoppable
def evaluate(
    directory: RunFolder,
    source: Annotated[str, typer.Option("--source", metavar="NAME", help="Source of the new data.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR2", help="Where to write.")],
    data: DataPath = None,
    plan: OptionPlan = None,
    sets: OptionSets = None,
    maps: Maps = None,
    quiet: Quiet = False,
) -> None:
    """Judge a trained model on data that it never saw."""
    _check_run(directory)
    _check_out(out)
    options = _commands().source_options(source, plan, sets or ())
    _report(_commands().judge(directory, source, data, out, options, maps or (), quiet=quiet))


@app.command()
@_stoppable
def audit(directory: RunFolder, quiet: Quiet = False) -> None:
    """Attack a finished run's privacy, and write what was reached into its report."""
    _check_run(directory)
    _report(_commands().audit(directory, quiet=quiet))


@app.command(short_help="Hold a run's files against its log, and write its report anew.")
@_stoppable
def report(
    directory: RunFolder,
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="DIGEST",
            help="Refuse a log without this digest, which an earlier report printed and you kept elsewhere.",
        ),
    ] = None,
) -> None:
    """Hold a run's files against its log, and write DIR/report.html anew from DIR/run.sqlite.

    Of a sweep's folder the log alone is checked, and DIR/sweep.html written anew from DIR/sweep.sqlite.
    """
    _report(_commands().write_page(directory, head))


@app.command("list")
@_stoppable
def list_parts(
    family: Annotated[
        str | None, typer.Argument(metavar="[FAMILY]", help="Such as models; all families if not given.")
    ] = None,
) -> None:
    """What there is, one line each."""
    known = (*catalog.FAMILIES, *FIXED_PARTS)
    if family is not None and family not in known:
        way_out = f"{did_you_mean(family, known)}one of: {', '.join(known)}"
        raise PlanError("no such family of parts", found=family, way_out=way_out)
    for name in known if family is None else [family]:
        fixed = FIXED_PARTS.get(name)
        show_parts(name, fixed or {part: catalog.describe(name, part) for part in catalog.names(name)})


@data.command("check")
@_stoppable
def data_check(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Name of a source (lazaretto list sources).")
    ],
    path: Annotated[Path | None, typer.Argument(metavar="[PATH]", help="Its file or folder.")] = None,
    plan: OptionPlan = None,
    sets: OptionSets = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leave with 1 if a suspicious feature is kept.")
    ] = False,
) -> None:
    """What the loader sees, which columns may give the label away, and whether a run would have it."""
    options = _commands().source_options(source, plan, sets or ())
    _commands().check_data(source, path, options, plan, strict=strict)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; what goes wrong is said in words, without traceback."""
    try:
        left = app(arguments, prog_name="lazaretto", standalone_mode=False)
        return left if isinstance(left, int) else 0
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except _UsageError as wrong:
        if type(wrong).__name__ == "NoArgsIsHelpError":
            wrong.show()  # type: ignore[attr-defined]
            return PlanError.exit_code
        return _say(f"error: {_misused(wrong)}", PlanError.exit_code)
    except typer.Abort:
        return _say("error: the input ended", 1)
    except Interrupted as stop:
        return _say(str(stop), stop.exit_code)
    except LazarettoError as error:
        return _say(f"error: {error}", error.exit_code)
    except MemoryError:
        return _say("error: not enough memory\n  way out: fewer or smaller sites, or a larger machine", 2)
    except OSError as error:
        return _say(f"error: {_explain(error)}", 2)
    except Exception:
        return _say(_save_traceback(), BUG)


def _misused(wrong: Any) -> PlanError:
    """What typer says of words that it cannot take, as one of our errors."""
    said, context = str(wrong.format_message()), wrong.ctx
    known: list[str] = []
    if context is not None:
        known = [name for param in context.command.params for name in param.opts if name.startswith("-")]
        known += getattr(context.command, "commands", {})
    helped = (
        f"`{context.command_path if context is not None else 'lazaretto COMMAND'} -h` tells what it takes"
    )
    if named := _UNKNOWN.match(said):
        near = did_you_mean(named[2], known)
        return PlanError(f"no such {named[1]}", found=named[2], way_out=f"{near}{helped}")
    if extra := _EXTRA.match(said):
        return PlanError("more words than the command takes", found=extra[1], way_out=helped)
    said = f"{said[:1].lower()}{said[1:].rstrip('.')}"
    return PlanError(said, way_out=helped)


def _commands() -> Any:
    """The commands. They bring the numerical libraries, several seconds of them, which help does not need."""
    return importlib.import_module("lazaretto.commands")


def _check_run(directory: Path) -> None:
    """Raise InputError where a run's folder is not there, or a sweep's, before anything in it is missed."""
    if not directory.is_dir():
        what = "this is a file, and a run is a folder" if directory.exists() else "there is no such folder"
        raise InputError(what, found=directory, way_out="the folder of a finished run, such as runs/NAME")
    refuse_at_work(directory, "wait until it is done: nothing in it is finished before")
    if (directory / "sweep.sqlite").is_file() and not (directory / "run.sqlite").exists():
        plan = directory / "tuned.toml"
        raise InputError(
            "this folder is a sweep's, which keeps no model",
            found=directory,
            way_out=f"lazaretto run {plan if plan.is_file() else 'PLAN'}, and then the folder of that run",
        )


def _check_out(out: Path | None) -> None:
    """Raise PlanError where what is to be written into is a file."""
    if out is not None and out.exists() and not out.is_dir():
        raise PlanError(
            "--out: this is a file, and what is written needs a folder",
            found=out,
            way_out="another --out: a folder that is empty or not there yet",
        )


def _report(path: Path) -> None:
    typer.echo(f"report: {path}")


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str, code: int) -> int:
    typer.echo(printable(text), err=True)
    return code


def _explain(error: OSError) -> str:
    place = error.filename or "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full (found: {place})\n  way out: free some space, then run again with --resume"
    if isinstance(error, PermissionError):
        return f"no permission (found: {place})\n  way out: choose another folder, or change its permissions"
    return f"{error.strerror or error} (found: {place})\n  way out: check the path"


def _save_traceback() -> str:
    handle, name = tempfile.mkstemp(prefix="lazaretto-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"lazaretto {__version__}, python {sys.version}, arguments {sys.argv[1:]}\n\n")
        traceback.print_exc(file=file)
    kind, problem, _ = sys.exc_info()
    return (
        f"error: {getattr(kind, '__name__', 'error')}: {problem}\n"
        f"  this is a bug in Lazaretto; please report it with the file {name}"
    )
