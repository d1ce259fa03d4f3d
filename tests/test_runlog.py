"""The run log: what is written stays, what is changed is found, hostile files are refused."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from lazaretto import runlog, wire
from lazaretto.errors import CheckFailed, InputError, LazarettoError, WireError

ENTRIES = [
    ("run", {"name": "x"}),
    ("round", {"round": 0, "loss": 1.5}),
    ("round", {"round": 1, "loss": None}),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return runlog.create(tmp_path / "run.sqlite", ENTRIES)


def tamper(path: Path, *statements: str) -> None:
    """Change the file as someone would who knows SQLite: without our triggers, put back afterwards."""
    with sqlite3.connect(path) as connection:
        triggers = list(connection.execute("SELECT name, sql FROM sqlite_master WHERE type='trigger'"))
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in triggers:
            connection.execute(sql)
    connection.close()


def test_records_come_back_in_order(log: Path) -> None:
    record = runlog.append(log, "finished", {"seconds": 2.0})
    assert record.sequence == 4
    records = list(runlog.read(log))
    assert [(entry.kind, entry.body) for entry in records] == [*ENTRIES, ("finished", {"seconds": 2.0})]
    assert records[-1] == record
    assert [entry.body["round"] for entry in runlog.read(log, "round")] == [0, 1]
    assert list(runlog.read(log, "no such kind")) == []


def test_chain_is_the_stated_one(log: Path) -> None:
    previous = bytes(32)
    for record in runlog.read(log):
        packed = b"\xa3run" if record.kind == "run" else b"\xa5round"  # MessagePack fixstr
        assert record.previous == previous
        assert record.digest == hashlib.sha256(previous + packed + wire.encode(record.body)).digest()
        previous = record.digest
    assert runlog.head(log) == runlog.Head(3, previous) == runlog.verify(log)


def test_an_empty_log(tmp_path: Path) -> None:
    path = runlog.create(tmp_path / "run.sqlite")
    assert list(runlog.read(path)) == []
    assert runlog.verify(path) == runlog.Head(0, bytes(32))


def test_same_entries_same_digests(log: Path, tmp_path: Path) -> None:
    other = runlog.create(tmp_path / "other.sqlite")
    for kind, body in ENTRIES:
        runlog.append(other, kind, dict(reversed(list(body.items()))))
    assert runlog.head(other) == runlog.head(log)


@pytest.mark.parametrize(
    "statement", ["UPDATE records SET kind = 'x'", "DELETE FROM records WHERE sequence = 3"]
)
def test_the_file_itself_refuses_changes(log: Path, statement: str) -> None:
    connection = sqlite3.connect(log)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statements", "where"),
    [
        (["UPDATE records SET body = x'80' WHERE sequence = 2"], 2),
        (["UPDATE records SET kind = 'stage' WHERE sequence = 3"], 3),
        (["UPDATE records SET digest = zeroblob(32) WHERE sequence = 1"], 1),
        (["DELETE FROM records WHERE sequence = 2"], 2),
        (["DELETE FROM records WHERE sequence = 1"], 1),
        (["UPDATE records SET sequence = 9 WHERE sequence = 3"], 3),
        (["DELETE FROM records WHERE sequence = 2", "UPDATE records SET sequence = 2 WHERE sequence = 3"], 2),
        (["INSERT INTO records VALUES (4, 'round', x'80', zeroblob(32), zeroblob(32))"], 4),
        (["INSERT INTO records SELECT 4, kind, body, previous, digest FROM records WHERE sequence = 3"], 4),
    ],
)
def test_every_change_is_found_where_it_is(log: Path, statements: list[str], where: int) -> None:
    tamper(log, *statements)
    with pytest.raises(CheckFailed, match=f"breaks at record {where}") as error:
        runlog.verify(log)
    assert error.value.exit_code == 1
    with pytest.raises(CheckFailed, match=f"breaks at record {where}"):
        list(runlog.read(log, "finished"))


def test_a_rewritten_chain_and_a_cut_one_are_found_by_a_kept_head(log: Path, tmp_path: Path) -> None:
    kept = runlog.head(log)
    runlog.append(log, "round", {"round": 2})
    assert runlog.verify(log, kept).records == 4
    tamper(log, "DELETE FROM records WHERE sequence > 2")
    assert runlog.verify(log).records == 2  # the chain alone cannot know
    with pytest.raises(CheckFailed, match="does not hold a head"):
        runlog.verify(log, kept)
    forged = runlog.create(tmp_path / "forged.sqlite", [*ENTRIES[:2], ("round", {"round": 1, "loss": 0.1})])
    with pytest.raises(CheckFailed, match="does not hold a head"):
        runlog.verify(forged, kept)


def test_copy_of_the_first_records(log: Path, tmp_path: Path) -> None:
    copy = runlog.copy_prefix(log, tmp_path / "copy.sqlite", 2)
    assert list(runlog.read(copy)) == list(runlog.read(log))[:2]
    with pytest.raises(CheckFailed, match="shorter"):
        runlog.copy_prefix(log, tmp_path / "other.sqlite", 4)
    assert not (tmp_path / "other.sqlite").exists()


def test_several_or_none(log: Path) -> None:
    with pytest.raises(WireError, match="not finite"):
        runlog.append_all(log, [("round", {"round": 2}), ("round", {"loss": float("nan")})])
    assert runlog.head(log).records == 3
    assert [record.sequence for record in runlog.append_all(log, [("a", {}), ("b", {})])] == [4, 5]


HOSTILE = {
    "empty": b"",
    "text": b"not a database at all\n" * 100,
    "header only": b"SQLite format 3\x00" + bytes(84),
    "random": b"SQLite format 3\x00" + bytes(i * 7 % 256 for i in range(8192)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_files_that_are_no_log(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.sqlite"
    path.write_bytes(content)
    for use in (runlog.verify, runlog.head, lambda place: runlog.append(place, "a", {})):
        with pytest.raises(InputError) as error:
            use(path)
        assert error.value.exit_code == 2
    assert path.read_bytes() == content


def test_databases_that_are_no_log(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE records (sequence, kind, body, previous, digest)")
    connection.close()
    with pytest.raises(InputError, match="not a run log"):
        runlog.verify(path)


def test_a_log_with_a_foreign_trigger_is_refused(log: Path) -> None:
    with sqlite3.connect(log) as connection:
        connection.execute("CREATE TRIGGER more AFTER INSERT ON records BEGIN SELECT 1; END")
    connection.close()
    with pytest.raises(InputError, match="not a run log"):
        runlog.append(log, "a", {})


def test_a_log_cut_in_the_middle(log: Path) -> None:
    for number in range(20):
        runlog.append(log, "noise", {"data": bytes((number * place) % 251 for place in range(2000))})
    whole = log.read_bytes()
    for size in range(0, len(whole), 3000):
        log.write_bytes(whole[:size])
        with pytest.raises((InputError, CheckFailed)):
            runlog.verify(log)


def test_bodies_that_are_not_canonical_are_refused(log: Path) -> None:
    body, previous = (
        b"\x81\xa1a\xcc\x01",
        runlog.head(log).digest,
    )  # 1 in two bytes: the chain fits, the body does not
    digest = hashlib.sha256(previous + wire.encode("round") + body).digest()
    tamper(
        log,
        f"INSERT INTO records VALUES (4, 'round', x'{body.hex()}', x'{previous.hex()}', x'{digest.hex()}')",  # noqa: S608
    )
    with pytest.raises(WireError, match="not canonical"):
        runlog.verify(log)


def test_where_nothing_is_or_something_is_already(tmp_path: Path, log: Path) -> None:
    with pytest.raises(InputError, match="no run log"):
        list(runlog.read(tmp_path / "none.sqlite"))
    assert not (tmp_path / "none.sqlite").exists()
    with pytest.raises(InputError, match="no run log"):
        runlog.verify(tmp_path)
    with pytest.raises(InputError, match="already"):
        runlog.create(log)
    with pytest.raises(InputError, match="cannot be used"):
        runlog.create(tmp_path / "no folder" / "run.sqlite")


def test_a_full_disk(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # SQLite's own limit of pages gives its own "database or disk is full".
    monkeypatch.setattr(runlog, "_PRAGMAS", (*runlog._PRAGMAS, "max_page_count=6"))
    with pytest.raises(LazarettoError, match="disk is full") as error:
        runlog.append(log, "big", {"data": bytes(100_000)})
    assert error.value.exit_code == 2
    monkeypatch.undo()
    assert runlog.verify(log).records == 3
    assert runlog.append(log, "small", {}).sequence == 4


def test_a_killed_writer_leaves_a_valid_log(tmp_path: Path) -> None:
    path = runlog.create(tmp_path / "run.sqlite")
    program = (
        "import sys; from pathlib import Path; from lazaretto import runlog\n"
        "for i in range(10**6):\n"
        "    step = [('half', {'i': i, 'pad': bytes(20000)}), ('whole', {'i': i})]\n"
        "    runlog.append_all(Path(sys.argv[1]), step)\n"
        "    print(i, flush=True)\n"
    )
    for after in (1, 3, 8):
        before = runlog.head(path)
        with subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(after):
                written = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
        head = runlog.verify(path, before)
        assert head.records >= before.records + 2 * (written + 1)
        assert head.records % 2 == 0  # both of a step, or neither
        assert list(runlog.read(path))[-1].kind == "whole"


def test_a_journal_that_names_another_file_deletes_none(log: Path, tmp_path: Path) -> None:
    """A journal of several databases names their super-journal, which SQLite deletes when it rolls back."""
    victim = tmp_path / "notes.txt"
    victim.write_text("my only copy")
    magic, name = bytes.fromhex("d9d505f920a163d7"), str(victim).encode()
    pages = log.stat().st_size // 4096
    head = (magic + struct.pack(">IIIII", 0, 0, pages, 512, 4096)).ljust(512, bytes(1))
    end = struct.pack(">I", 0x40000000 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    log.with_name(f"{log.name}-journal").write_bytes(head + end)
    for use in (runlog.verify, runlog.head, lambda path: runlog.append(path, "late", {})):
        with pytest.raises(InputError, match="names another file"):
            use(log)
    assert victim.read_text() == "my only copy"


def test_odd_journals_are_refused_in_words(log: Path, tmp_path: Path) -> None:
    journal = log.with_name(f"{log.name}-journal")
    journal.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="a link for a journal"):
        runlog.head(log)
    journal.unlink()
    journal.mkdir()
    with pytest.raises(InputError, match="check path and permissions"):
        runlog.head(log)


def test_a_link_in_the_place_of_the_draft_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (tmp_path / ".run.sqlite.new").symlink_to(victim)
    runlog.create(tmp_path / "run.sqlite")
    assert victim.read_text() == "theirs"


def test_another_database_is_refused_before_anything_is_written_to_it(tmp_path: Path) -> None:
    other, log = tmp_path / "other.db", tmp_path / "run.sqlite"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE own (a)")
    log.symlink_to(other)
    before = other.read_bytes()
    with pytest.raises(InputError, match="not a run log"):
        runlog.verify(log)
    assert other.read_bytes() == before


def test_a_write_ahead_log_is_none_of_ours(log: Path) -> None:
    log.with_name(f"{log.name}-wal").write_bytes(b"")
    with pytest.raises(InputError, match="write-ahead"):
        runlog.verify(log)
