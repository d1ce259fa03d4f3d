"""The run log: one SQLite file to which records are added and from which nothing is taken.

Each record holds the digest of the one before it:
`digest = SHA-256(previous digest || encode(kind) || encode(body))`, starting from 32 zero bytes, with
`encode` of `lazaretto.wire`. Every reader checks the chain as it goes, so a changed, dropped or
inserted record is found; who keeps `head(path)` also notices a log that was cut short.
No clock is read here: what a body does not say is not recorded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lazaretto import wire
from lazaretto.errors import CheckFailed, InputError, LazarettoError, WireError
from lazaretto.types import Record

__all__ = [
    "MAX_BODY_BYTES",
    "Head",
    "append",
    "append_all",
    "check_kept",
    "copy_prefix",
    "create",
    "head",
    "read",
    "verify",
]

MAX_BODY_BYTES = 64 * 2**20
_NOTHING = bytes(32)
_APPLICATION = 0x4C415A41  # "LAZA"
_VERSION = 1
_HEADER_BYTES = 100
_PUT_BACK = "put back a copy of this file that you trust, or run again into another folder"
# ends a journal that belongs to several databases, as ours never do
_MAGIC = bytes.fromhex("d9d505f920a163d7")
_PRAGMAS = ("trusted_schema=OFF", "cell_size_check=ON", "journal_mode=DELETE", "synchronous=FULL")
_SCHEMA = (
    (
        "CREATE TABLE records (sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, "
        "previous BLOB NOT NULL, digest BLOB NOT NULL) STRICT"
    ),
    (
        "CREATE TRIGGER records_keep_update BEFORE UPDATE ON records "
        "BEGIN SELECT RAISE(ABORT, 'the run log is append-only'); END"
    ),
    (
        "CREATE TRIGGER records_keep_delete BEFORE DELETE ON records "
        "BEGIN SELECT RAISE(ABORT, 'the run log is append-only'); END"
    ),
)


class Head(NamedTuple):
    """Where a log ends: number of records, and the digest of the last one (32 zero bytes if none)."""

    records: int
    digest: bytes


def create(path: Path, entries: Iterable[tuple[str, Mapping[str, Any]]] = ()) -> Path:
    """Make a log that holds `entries` and return its path. The file appears whole or not at all.

    Raises InputError if something is there already, LazarettoError if it cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise InputError("a run log is there already", found=path, way_out="choose another folder")
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.unlink(missing_ok=True)
        draft.open("xb").close()  # a link that lies there is not followed
        with _opened(draft, check=False) as connection, _transaction(connection):
            connection.execute(f"PRAGMA application_id={_APPLICATION}")
            connection.execute(f"PRAGMA user_version={_VERSION}")
            for statement in _SCHEMA:
                connection.execute(statement)
        append_all(draft, entries)
        draft.replace(path)
    except OSError as error:
        raise _cannot(path, error) from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def append(path: Path, kind: str, body: Mapping[str, Any]) -> Record:
    """Add one record; it is on the disk when this returns, or not at all.

    body: what `wire.encode` takes. Raises WireError for a body without canonical bytes, InputError
    if the file is no run log of ours, LazarettoError if the disk is full.
    """
    return append_all(path, [(kind, body)])[-1]


def append_all(path: Path, entries: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Record]:
    """Add several records in one step: after a crash all of them are there or none. Raises as `append`."""
    packed = [(kind, dict(body), wire.encode(dict(body))) for kind, body in entries]
    for kind, _, data in packed:
        if len(data) > MAX_BODY_BYTES:
            raise WireError(f"body of record '{kind}' is too large", found=f"{len(data)} bytes")
    added = []
    with _opened(path) as connection, _transaction(connection):
        sequence, previous = _last(connection)
        for kind, body, data in packed:
            sequence, digest = sequence + 1, _link(previous, kind, data)
            connection.execute(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?)", (sequence, kind, data, previous, digest)
            )
            added.append(Record(sequence, kind, body, previous, digest))
            previous = digest
    return added


def read(path: Path, kind: str | None = None) -> Iterator[Record]:
    """Records in order, all or those of one kind; sequence numbers start at 1.

    Raises CheckFailed at the first record that does not follow from the one before it, InputError if
    the file is missing or no run log of ours.
    """
    with _opened(path) as connection:
        expected, previous = 1, _NOTHING
        for row in connection.execute(
            "SELECT sequence, kind, body, previous, digest FROM records ORDER BY sequence"
        ):
            sequence, record_kind, data, stated, digest = row
            whole = isinstance(record_kind, str) and isinstance(data, bytes)
            if (
                sequence != expected
                or stated != previous
                or not whole
                or digest != _link(previous, record_kind, data)
            ):
                raise CheckFailed(
                    f"the run log breaks at record {expected}",
                    found=f"{path}: record {sequence} of kind '{record_kind}'",
                    way_out=f"it was changed after it was written{_before(expected)}: {_PUT_BACK}",
                )
            if kind is None or kind == record_kind:
                yield Record(sequence, record_kind, _body(path, sequence, data), previous, digest)
            expected, previous = sequence + 1, digest


def _before(sequence: int) -> str:
    """That the records before this one are as they were written, where there are any."""
    return "" if sequence == 1 else f" (what comes before record {sequence} was not)"


def head(path: Path) -> Head:
    """Where the log ends. Keep it, and a log that was cut short can be told later."""
    with _opened(path) as connection:
        return Head(*_last(connection))


def verify(path: Path, kept: Head | bytes | None = None) -> Head:
    """Check the whole chain, every body, and that `kept` (an earlier `head`, or its digest) is part of it.

    Returns the head. Raises CheckFailed at the first break, InputError if the file is no run log.
    """
    return check_kept(path, read(path), kept)


def check_kept(path: Path, records: Iterable[Record], kept: Head | bytes | None) -> Head:
    """The same of records that were read from the file already, by `read`, which checks them."""
    count, digest, seen = 0, _NOTHING, kept in (None, _NOTHING, Head(0, _NOTHING))
    for record in records:
        count, digest = record.sequence, record.digest
        seen = seen or kept in (digest, Head(count, digest))
    if not seen and kept is not None:
        was = (
            f"record {kept[0]} was {kept[1].hex()[:16]}"
            if isinstance(kept, Head)
            else "none with that digest"
        )
        raise CheckFailed(
            "the run log does not hold a head that was kept earlier",
            found=f"{path}: {count} records, {was}",
            way_out="it was cut short or written anew; use a copy that you trust",
        )
    return Head(count, digest)


def copy_prefix(path: Path, target: Path, count: int) -> Path:
    """A new log at `target` with the first `count` records of `path`: what a resumed run starts from.

    Raises CheckFailed if there are fewer, InputError if `target` is there already.
    """
    kept = [(record.kind, record.body) for record in read(path) if record.sequence <= count]
    if len(kept) < count:
        raise CheckFailed(
            "the run log is shorter than the saved state", found=f"{len(kept)} of {count} records"
        )
    return create(target, kept)


def _link(previous: bytes, kind: str, data: bytes) -> bytes:
    return hashlib.sha256(previous + wire.encode(kind) + data).digest()


def _body(path: Path, sequence: int, data: bytes) -> Mapping[str, Any]:
    body = wire.decode(data, max_bytes=MAX_BODY_BYTES)
    if not isinstance(body, dict):
        raise InputError(
            f"record {sequence} of the run log is not a map", found=f"{path}: {type(body).__name__}"
        )
    return body


def _last(connection: sqlite3.Connection) -> tuple[int, bytes]:
    row = connection.execute("SELECT sequence, digest FROM records ORDER BY sequence DESC LIMIT 1").fetchone()
    return (0, _NOTHING) if row is None else (row[0], row[1])


@contextlib.contextmanager
def _opened(path: Path, *, check: bool = True) -> Iterator[sqlite3.Connection]:
    """A connection that trusts nothing in the file; closed at the end, errors turned into ours."""
    path = Path(path)
    if not path.is_file():
        raise InputError("no run log", found=path, way_out="give the folder of a finished run")
    path = path.resolve()  # a journal lies beside the file itself
    if check:
        _check_file(path)
    # Read-write, so that a journal left by a crash is rolled back; never creating.
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise _cannot(path, error) from error
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BODY_BYTES + 2**20)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        if check:
            _check_schema(connection, path)
        yield connection
    except sqlite3.Error as error:
        raise _cannot(path, error) from error
    finally:
        connection.close()


def _check_file(path: Path) -> None:
    """Refuse what SQLite would act upon as it opens: another's database, a journal that names other files.

    It opens and closes the file, with which this process loses locks it holds on it: not for use while a
    connection of its own is open.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise _cannot(path, error) from error
    if not header.startswith(b"SQLite format 3\0"):
        what = (
            "this file is not a run log" if header else "the run log is empty, so this file is not a run log"
        )
        raise InputError(what, found=path, way_out=_PUT_BACK)
    said = tuple(int.from_bytes(header[at : at + 4], "big") for at in (68, 60))
    # bytes 18 and 19: written and read by way of a rollback journal, as ours always are
    if said != (_APPLICATION, _VERSION) or header[18:20] != b"\1\1":
        raise _not_ours(path)
    journal = path.with_name(f"{path.name}-journal")
    if path.with_name(f"{path.name}-wal").exists():
        raise _not_ours(path, " has a write-ahead log beside it")
    if journal.is_symlink():
        raise _not_ours(path, " has a link for a journal")
    try:
        with journal.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - len(_MAGIC)))
            end = file.read()
    except FileNotFoundError:  # none, or another process has just finished with it
        return
    except OSError as error:
        raise _cannot(path, error) from error
    if end == _MAGIC:
        raise _not_ours(path, " has a journal that names another file, which would be deleted")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back by itself
            connection.execute("ROLLBACK")
        raise


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    found = (
        connection.execute("PRAGMA application_id").fetchone()[0],
        connection.execute("PRAGMA user_version").fetchone()[0],
        sorted(row[0] or "" for row in connection.execute("SELECT sql FROM sqlite_master")),
    )
    if found != (_APPLICATION, _VERSION, sorted(_SCHEMA)):
        raise _not_ours(path)


def _not_ours(path: Path, why: str = "") -> InputError:
    return InputError(
        "this database is not a run log, or its tables were changed",
        found=f"{path}{why}",
        way_out=_PUT_BACK,
    )


def _cannot(path: Path, error: Exception) -> LazarettoError:
    text = str(error)
    if "is full" in text or "No space left" in text:
        return LazarettoError(
            "the disk is full", found=path, way_out="free some space, then run with --resume"
        )
    if "not a database" in text or "malformed" in text:
        what = "the run log is damaged or cut short, so this file is not a run log any more"
        return InputError(what, found=f"{path}: {text}", way_out=_PUT_BACK)
    return InputError(
        "the run log cannot be used", found=f"{path}: {text}", way_out="check path and permissions"
    )
