"""A run's folder while it is being made: the log, finished stages, unfinished training."""

from __future__ import annotations

import contextlib
import glob
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lazaretto import runlog
from lazaretto.errors import InputError, Interrupted, LazarettoError, many
from lazaretto.plan import Plan, by_dotted_key, dump, load_plan, parse_toml
from lazaretto.run.lock import Held, hold
from lazaretto.run.saved import load_arrays, load_meta, save_arrays, write_whole
from lazaretto.types import Record

__all__ = [
    "Journal",
    "Show",
    "close_journal",
    "kept_for_resuming",
    "let_go_on_error",
    "open_journal",
    "quiet",
    "stage",
    "unfinished_name",
]

Show = Callable[[str, Mapping[str, Any]], None]
Stage = tuple[dict[str, "np.ndarray[Any, Any]"], dict[str, Any]]

_DATA = "prepare data"  # a stage after which nothing is trained

# which fields tell two records of a kind apart: a resumed run does not repeat one
_IDENTITY: Mapping[str, tuple[str, ...]] = {
    "run": (),
    "start": (),
    "data": ("seed",),
    "warning": ("said",),
    "round": ("seed", "system", "round"),
    "stage": ("name", "seed"),
    "messages": ("seed", "system"),
    "reward": ("seed", "system"),
    "vote refused": ("seed", "system", "site"),
    "timeline": ("case",),
    "curves": ("system",),
    "latency": ("system",),
    "reliability": ("system",),
    "metrics": (),
    "privacy": (),
    "finished": (),
    "sweep": (),
    "draw": ("system", "number"),
    "case": ("rule", "attack", "share", "seed"),
    "worst": (),
    "robustness": (),
}


def quiet(event: str, body: Mapping[str, Any]) -> None:
    """A display that shows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """folder: the run's. log: its run log. parts: where stages are kept until the run is whole.

    seen: identities of records that the log already holds. show: the progress display. resumed: whether an
    earlier process began it. held: the lock on the folder, which goes with the journal or its process.
    """

    folder: Path
    log: Path
    parts: Path
    seen: set[tuple[Any, ...]] = field(default_factory=set)
    show: Show = quiet
    resumed: bool = False
    held: Held = field(default_factory=Held)

    def record(self, kind: str, body: Mapping[str, Any]) -> None:
        """Append to the log and show it; a record that a resumed run has already is only shown."""
        identity = (kind, *(body.get(name) for name in _IDENTITY.get(kind, ())))
        if kind not in _IDENTITY or identity not in self.seen:
            runlog.append(self.log, kind, body)
            self.seen.add(identity)
        self.show(kind, body)


def _differs(before: str, now: str) -> str:
    """Which keys two plans, as they are dumped, have otherwise, three at most."""
    try:
        old, new = (by_dotted_key(parse_toml(text)) for text in (before, now))
    except (ValueError, RecursionError):
        return "not a plan any more"
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    said = [f"{key} is {new.get(key, 'absent')!r} and was {old.get(key, 'absent')!r}" for key in keys]
    return "; ".join([*said[:3], *([f"{len(said) - 3} more"] if len(said) > 3 else [])])


def _read_anew(text: Path) -> bytes | None:
    """A plan as it would be dumped today, so that a key that is new has its default; None if it is none."""
    try:
        return dump(load_plan(text, check_parts=False)).encode()
    except LazarettoError:
        return None


def unfinished_name(unfinished: Path) -> str:
    """What is trained there, by the name of its file."""
    name, _, seed = unfinished.stem.rpartition("-seed")
    return f"{name.replace('_', ' ')} (seed {seed})" if name else seed.replace("_", " ")


def _file_of(name: str, seed: int | None) -> str:
    """What a stage's files are called, but for what they end with."""
    return "-".join([name.replace(" ", "_"), *([] if seed is None else [f"seed{seed}"])])


def _done(records: Sequence[Record], parts: Path) -> str:
    """How far a log has come, in words, what else was begun, and where training goes on."""
    stages = sum(record.kind in ("stage", "draw", "case") for record in records)
    rounds = [record.body for record in records if record.kind == "round"]
    begun = ", ".join(unfinished_name(part) for part in sorted(parts.glob("*.unfinished")))
    trained = f"{many(stages, 'part')} finished" + (f", {begun} begun" if begun else "")
    if not rounds:
        return trained
    last, after = rounds[-1]["round"], _kept_round(rounds[-1], parts)
    of = f"of {rounds[-1]['rounds']} ({rounds[-1]['system']}, seed {rounds[-1]['seed']})"
    told = f"{trained}, and the last recorded round is {last} {of}"
    if after in (None, last):
        return told
    kept = f"round {after} was kept last, and training goes on after it" if after else "none was kept"
    return f"{told}; {kept}" if after else f"{told}; {kept}, and training begins anew"


def _kept_round(last: Mapping[str, Any], parts: Path) -> int | None:
    """After which round the training goes on whose round was recorded last; None where it is finished.

    A process that was killed may have recorded rounds after it saved for the last time.
    """
    file = _file_of(str(last["system"]), last["seed"])
    if (parts / f"{file}.safetensors").exists():
        return None
    unfinished = parts / f"{file}.unfinished"
    after = load_meta(unfinished).get("round", 0) if unfinished.exists() else 0
    return after if isinstance(after, int) else None  # what it is worth is looked at when it is loaded


def open_journal(folder: Path, plan: Plan, resume: bool, show: Show, log_name: str = "run.sqlite") -> Journal:
    """Start a run's folder, or go on with it; its log is `folder / log_name`. It is locked meanwhile.

    Raises InputError if the folder holds something already (without `resume`), holds nothing to
    resume, or was made from another plan, and while another process is at work there.
    """
    log, parts, text = folder / log_name, folder / "parts", folder / "plan.toml"
    written = dump(plan).encode()
    _refuse_finished(folder, log)
    if resume:
        return _gone_on(folder, log, written, show)
    if folder.exists() and any(folder.iterdir()):
        unfinished = parts.is_dir()
        raise InputError(
            "the output folder is not empty",
            found=folder,
            way_out=f"{'go on with the same command and --resume, or ' * unfinished}choose another --out",
        )
    try:
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "cannot make the output folder",
            found=f"{folder}: {error.strerror}",
            way_out="choose another --out",
        ) from error
    held = hold(parts, folder)
    try:
        if others := sorted(one.name for one in folder.iterdir() if one != parts):
            raise InputError(
                "another process has just begun in this folder",
                found=f"{folder}: {', '.join(others)}",
                way_out="choose another --out",
            )
        write_whole(text, written)
        runlog.create(log)
    except BaseException:
        held.release()
        raise
    return Journal(folder=folder, log=log, parts=parts, show=show, held=held)


def _gone_on(folder: Path, log: Path, written: bytes, show: Show) -> Journal:
    """The journal of a run that goes on. Nothing is read before the folder is locked."""
    parts, text = folder / "parts", folder / "plan.toml"
    _refuse_nothing(folder, log)
    held = hold(parts, folder)
    try:
        _refuse_finished(folder, log)  # another process may have finished it just before, or given it up
        _refuse_nothing(folder, log)
        if text.read_bytes() != written and _read_anew(text) != written:
            raise InputError(
                "the folder was made from another plan",
                found=f"{text}: {_differs(text.read_bytes().decode(errors='replace'), written.decode())}",
                way_out="use the same plan, or another --out",
            )
        records = list(runlog.read(log))
        show("goes on", {"folder": str(folder), "done": _done(records, parts)})
    except BaseException:
        held.release()
        raise
    seen = {
        (record.kind, *(record.body.get(name) for name in _IDENTITY[record.kind]))
        for record in records
        if record.kind in _IDENTITY
    }
    return Journal(folder=folder, log=log, parts=parts, seen=seen, show=show, resumed=True, held=held)


def _refuse_nothing(folder: Path, log: Path) -> None:
    if not (log.exists() and (folder / "parts").is_dir() and (folder / "plan.toml").exists()):
        raise InputError(
            "there is no interrupted run to go on with", found=folder, way_out="run without --resume"
        )


def _refuse_finished(folder: Path, log: Path) -> None:
    if log.exists() and (folder / "plan.toml").exists() and not (folder / "parts").is_dir():
        raise InputError(
            "the output folder holds a finished run, which stays as it is",
            found=folder,
            way_out="choose another --out, or open its page",
        )


def _discard_if_empty(journal: Journal) -> None:
    """After an error: take away a folder in which no round was made; nothing half-written stays."""
    if not any(journal.parts.iterdir()) and not _finished(journal, rounds=True):
        shutil.rmtree(journal.parts)
        for path in (journal.log, journal.folder / "plan.toml"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody else's files stay
            journal.folder.rmdir()


def _finished(journal: Journal, rounds: bool = False) -> bool:
    """Whether anything was trained to its end, as the log tells; a log that cannot be read may tell of it.

    rounds: or for a round.
    """
    known = ("draw", "case", "round") if rounds else ("draw", "case")
    try:
        return any(
            record.kind in known or (record.kind == "stage" and record.body["name"] != _DATA)
            for record in runlog.read(journal.log)
        )
    except LazarettoError:
        return True


@contextlib.contextmanager
def let_go_on_error(journal: Journal) -> Iterator[None]:
    """Around what comes before the work of a folder: an error leaves it as it is, and lets its lock go."""
    try:
        yield
    except BaseException:
        journal.held.release()
        raise


@contextlib.contextmanager
def kept_for_resuming(journal: Journal, what: str) -> Iterator[None]:
    """Around the work of a folder: what is finished stays, and a folder without any round goes.

    The folder's lock goes at the end. what: is finished, in words. Raises Interrupted (exit 3) for Ctrl-C;
    other errors pass on.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        begun = any(journal.parts.glob("*.unfinished"))
        nothing = (
            f"nothing was finished; {journal.folder} has the plan{' and what was begun' if begun else ''}"
        )
        said = f"{what} in {journal.folder}" if _finished(journal) else nothing
        raise Interrupted(f"stopped: {said}", way_out="go on with the same command and --resume") from error
    except Interrupted:
        raise
    except BaseException:
        _discard_if_empty(journal)
        raise
    finally:
        journal.held.release()


def close_journal(journal: Journal) -> None:
    """The run is whole: what was kept for resuming goes, and the lock."""
    shutil.rmtree(journal.parts)
    journal.held.release()


def stage(journal: Journal, name: str, make: Callable[[Path], Stage], seed: int | None = None) -> Stage:
    """A part of the run that is made once: from disk if an earlier try finished it, else by `make`.

    `make` gets the path at which it may keep unfinished state; returns arrays and JSON-like metadata, of
    which "compile_seconds" and "cost" go into the log.
    """
    file = _file_of(name, seed)
    kept = journal.parts / f"{file}.safetensors"
    if kept.exists():
        journal.show("kept", {"name": name, "seed": seed})
        return load_arrays(kept)
    journal.show("begin", {"name": name, "seed": seed})
    began = time.perf_counter()
    arrays, meta = make(journal.parts / f"{file}.unfinished")
    save_arrays(kept, arrays, meta)
    for left in journal.parts.glob(f"{glob.escape(file)}.unfinished*"):
        left.unlink()  # not before: what is done again with other noise costs again
    seconds = time.perf_counter() - began
    journal.record(
        "stage",
        {
            "name": name,
            "seed": seed,
            "seconds": seconds,
            "compile_seconds": meta.get("compile_seconds"),
            "cost": meta.get("cost"),
        },
    )
    return arrays, meta
