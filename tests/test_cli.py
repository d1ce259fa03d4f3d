"""The command line: words in, exit code and words out, never a traceback."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import pytest
import typer
import typer.core

from lazaretto import __version__, catalog, cli, cli_audit, cli_grid, commands, runlog
from lazaretto.code_digest import code_digest
from lazaretto.errors import Interrupted
from lazaretto.fixed_parts import FIXED_PARTS
from lazaretto.plan import load_plan
from lazaretto.plan_keys import BASELINES, Plan, SecurePlan
from lazaretto.run.journal import kept_for_resuming, open_journal, quiet

TINY = ["--set", "sites=2", "--set", "units_per_site=12", "--set", "windows=2"]


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def lazaretto(*words: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lazaretto", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    told = f"lazaretto {__version__}\ncode SHA-256 {code_digest()}\n"
    assert call(capsys, "--version")[:2] == (0, told)
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for command in ("run", "sweep", "evaluate", "report", "list", "data"):
        assert f"  {command} " in out
        assert call(capsys, command, "--help")[0] == 0


def test_help_says_which_options_may_be_repeated() -> None:
    found = typer.main.get_command(cli.app)
    assert isinstance(found, typer.core.TyperGroup)
    data = found.commands["data"]
    assert isinstance(data, typer.core.TyperGroup)
    several = 0
    for command in (*found.commands.values(), *data.commands.values()):
        for option in command.params:
            if isinstance(option, typer.core.TyperOption):
                assert option.multiple == ("may be repeated" in (option.help or "")), option.opts
                several += option.multiple
    assert several >= 6


def test_help_needs_no_numerical_libraries() -> None:
    program = (
        "import sys; from lazaretto import cli; cli.main(['--help']); "
        "sys.exit(bool({'jax', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_what_is_fixed_is_all_that_a_plan_may_name() -> None:
    assert set(FIXED_PARTS["baselines"]) == set(BASELINES)
    protocols = typing.get_args(SecurePlan.model_fields["protocol"].annotation)
    assert set(FIXED_PARTS["protocols"]) == {*protocols} - {"none"}


def test_list_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "list")
    assert code == 0
    for family in catalog.FAMILIES:
        assert f"\n{family}" in f"\n{out}"
        for name in catalog.names(family):
            assert f"\n{name} " in out
        assert call(capsys, "list", family)[1] in out
        for name in catalog.names(family):  # in a pipe each part is one line, for grep
            assert catalog.describe(family, name) in out


def test_tables_read_well_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    for words in (["list"], ["data", "check", "consortium", *TINY]):
        lines = re.sub(r"\x1b\[[0-9;]*m", "", call(capsys, *words)[1]).splitlines()
        assert 60 < max(map(len, lines)) <= 80


def test_a_path_in_a_title_is_not_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    title = f"x_iomt from /{'a long folder/' * 12}flows.csv"
    cli_grid.show(title, ("what", "how many"), [("windows", "3")])
    assert f"{title}\n" in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    cli_grid.show(title, ("what", "how many"), [("windows", "3")])
    assert title in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list", "ruels"], ["no such family", "ruels", "sources, models, rules"]),
        (["run", "none.toml"], ["no such plan", "none.toml"]),
        (["runn"], ["runn"]),
        (["run"], ["PLAN"]),
        (["run", "none.toml", "--sets", "a=b"], ["--sets"]),
        (["report", "none"], ["no run log", "none"]),
        (["evaluate", "none", "--source", "consortium", "--out", "other"], ["no such folder", "none"]),
        (["audit", "none"], ["no such folder", "none", "a finished run"]),
        (["evaluate", ".", "--source", "consortia", "--out", "other"], ["did you mean 'consortium'"]),
        (
            ["evaluate", ".", "--source", "consortium", "--data", "none", "--out", "other"],
            ["--data: source 'consortium' reads no files", "none", "--source"],
        ),
        (["data", "check", "x_iomt"], ["x_iomt", "reads files"]),
        (["data", "check", "x_iomt", "none"], ["none"]),
        (["data", "check", "consortium", "none"], ["PATH: source 'consortium' reads no files", "none"]),
        (["data", "check", "consortia"], ["unknown source", "did you mean 'consortium'"]),
        (
            ["data", "check", "consortium", "--set", "sitess=3"],
            ["no option", "sitess", "did you mean 'sites'"],
        ),
    ],
)
def test_wrong_words(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    says: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *words)
    assert code == 2
    for text in says:
        assert text in err, err
    assert not list(tmp_path.iterdir()), "something was written all the same"


@pytest.mark.parametrize(
    "words",
    [
        ["run", "PLAN", "--data", "EMPTY", "--out", "OUT"],
        ["sweep", "PLAN", "--data", "EMPTY", "--out", "OUT"],
        ["data", "check", "consortium", "EMPTY"],
        ["evaluate", "RUN", "--source", "consortium", "--data", "EMPTY", "--out", "OUT"],
    ],
)
def test_an_empty_folder_is_no_data_of_a_simulator(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]
) -> None:
    places = {"PLAN": tmp_path / "plan.toml", "EMPTY": tmp_path / "empty", "RUN": tmp_path / "empty"}
    places["PLAN"].write_text("[run]\nseeds = [0]\n")
    places["EMPTY"].mkdir()
    places["OUT"] = tmp_path / "out"
    code, _, err = call(capsys, *(str(places.get(word, word)) for word in words))
    assert code == 2
    assert "source 'consortium' reads no files, and the folder is empty" in err
    assert str(places["EMPTY"]) in err
    assert not places["OUT"].exists()


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_data_that_are_not_read_are_told_of_in_quiet_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted("begun")

    for name in ("run_plan", "run_sweep"):
        monkeypatch.setattr(commands, name, stopped)
    plan, flows = tmp_path / "plan.toml", tmp_path / "flows.csv"
    plan.write_text("[run]\nseeds = [0]\n")
    flows.write_text("a,b\n")
    warned = f"warning: nothing in {flows} is read: source 'consortium' reads no files"
    for more, told in (
        (["--data", str(flows), "--quiet"], True),
        (["--data", str(flows)], False),  # the display says it
        (["--quiet"], False),
    ):
        code, _, err = call(capsys, command, str(plan), "--out", str(tmp_path / "out"), *more)
        assert code == 3
        assert (warned in err) == told, err


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize(
    "words",
    [["run", "PLAN", "--out", "OUT"], ["sweep", "PLAN"], ["data", "check", "consortium", "--plan", "PLAN"]],
)
def test_an_empty_plan_is_no_default_plan(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "plan.toml"
    plan.write_text(text, encoding="utf-8")
    code, _, err = call(capsys, *(str(plan) if word == "PLAN" else word for word in words))
    assert code == 2
    assert err.startswith(f"error: the plan is empty (found: {plan})")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.toml"]


def test_a_comment_alone_is_a_plan_of_defaults(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[object] = []

    def stopped(plan: object, *_: object, **__: object) -> None:
        got.append(plan)
        raise Interrupted("begun")

    monkeypatch.setattr(commands, "run_plan", stopped)
    (tmp_path / "plan.toml").write_text("# all defaults\n")
    for plan in (str(tmp_path / "plan.toml"), "/dev/null"):
        assert call(capsys, "run", plan, "--out", str(tmp_path / "out"))[0] == 3
    assert got == [Plan()] * 2


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (["run", "PLAN", "--out", "DIR"], "wait until it is done, or write elsewhere with --out"),
        (["run", "PLAN", "--out", "DIR", "--resume"], "wait until it is done, or write elsewhere with --out"),
        (["sweep", "PLAN", "--out", "DIR"], "wait until it is done, or write elsewhere with --out"),
        (["audit", "DIR"], "wait until it is done: nothing in it is finished before"),
        (
            ["evaluate", "DIR", "--source", "consortium", "--out", "OUT"],
            "wait until it is done: nothing in it is finished before",
        ),
    ],
)
def test_a_folder_at_work_is_to_be_waited_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], way_out: str
) -> None:
    plan, folder = tmp_path / "plan.toml", tmp_path / "dir"
    plan.write_text("[run]\nseeds = [0]\n")
    journal = open_journal(folder, load_plan(plan), False, quiet)
    places = {"PLAN": plan, "DIR": folder, "OUT": tmp_path / "out"}
    given = [str(places.get(word, word)) for word in words]
    with kept_for_resuming(journal, "nothing is"):
        code, _, err = call(capsys, *given)
    assert code == 2
    assert err.startswith("error: another process is at work in this folder")
    assert str(folder) in err
    assert err.endswith(f"\n  way out: {way_out}\n")
    assert not places["OUT"].exists()
    if words[0] == "audit":  # the lock is gone
        assert "there is no finished run to audit" in call(capsys, *given)[2]


def test_a_misspelt_source_is_no_other_source(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('[data]\nsource = "flows_csv"\n')
    code, _, err = call(capsys, "data", "check", "flow_csv", "--plan", str(plan))
    assert code == 2
    assert "did you mean 'flows_csv'?" in err


@pytest.mark.parametrize("blank", ["", "\n" * 5000])
def test_options_of_another_source_however_late_they_begin(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, blank: str
) -> None:
    """Many blank lines before a plan are no empty plan."""
    plan = tmp_path / "plan.toml"
    plan.write_text(blank + '[data]\nsource = "x_iomt"\n')
    code, _, err = call(capsys, "data", "check", "consortium", "--plan", str(plan))
    assert code == 2
    assert "plan is of another source" in err


@pytest.mark.parametrize("command", ["run", "sweep", "evaluate"])
def test_a_file_is_no_place_to_write_into(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    plan = tmp_path / "my.toml"
    plan.write_text("")
    more = ["--source", "consortium"] if command == "evaluate" else []
    first = tmp_path if command == "evaluate" else plan
    code, _, err = call(capsys, command, str(first), *more, "--out", str(plan))
    assert code == 2
    assert "--out: this is a file" in err
    assert str(plan) in err
    assert plan.read_text() == ""


def test_an_evaluation_is_not_audited(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("plan.toml", "metrics.json"):
        (tmp_path / name).write_text("")
    runlog.create(tmp_path / "run.sqlite")
    runlog.append(tmp_path / "run.sqlite", "run", {"evaluates": "runs/ward"})
    code, _, err = call(capsys, "audit", str(tmp_path))
    assert code == 2
    assert "this folder is an evaluation" in err
    assert "audit the run" in err


def test_audits_have_a_row_each_and_a_repeated_one_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    idle = {"name": "canaries", "idle": "no mechanism to test", "seconds": 0.0}
    cli_audit.show_audits([idle])
    first = capsys.readouterr().out
    assert re.search("canaries +n/a: no mechanism to test", first)
    assert "audited before" not in first
    cli_audit.show_audits([idle], again=True)
    again = capsys.readouterr().out
    assert "This run was audited before." in again
    assert "metrics.json" not in again, "nothing of the canaries was written anew"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "run --rsume plan",
            "no such option (found: --rsume)\n  way out: did you mean '--resume'? `lazaretto run -h`",
        ),
        ("sweeep", "no such command (found: sweeep)\n  way out: did you mean 'sweep'? `lazaretto -h`"),
        ("data chek", "no such command (found: chek)\n  way out: did you mean 'check'? `lazaretto data -h`"),
        ("run", "missing argument 'PLAN'\n  way out: `lazaretto run -h`"),
        ("evaluate x", "missing option '--source'\n  way out: `lazaretto evaluate -h`"),
        ("report --head", "option '--head' requires an argument\n  way out: `lazaretto COMMAND -h`"),
        ("run a b c", "more words than the command takes (found: b c)\n  way out: `lazaretto run -h`"),
    ],
)
def test_misuse_is_told_as_every_other_error(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.err == f"error: {said} tells what it takes\n"
    assert not printed.out


@pytest.mark.parametrize("words", [["--help"], ["run", "-h"], ["data", "check", "--help"], ["--version"]])
def test_help_is_no_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(("Usage: lazaretto", "lazaretto "))
    assert not printed.err


@pytest.mark.parametrize("words", [[], ["data"]])
def test_no_words_at_all_get_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(words)
    printed = capsys.readouterr()
    assert (printed.out + printed.err).startswith("Usage: lazaretto")
    assert "error" not in printed.err


def test_audits_tell_who_reached_more_than_the_floor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    body = {"measured": "true positives at 1 % false positives", "words": "said", "seconds": 1.0}
    body |= {"name": "membership", "floor": 0.01, "claimed_epsilon": None, "larger_is_worse": True}
    cases = [(0.2, 0.1, 0.3, "yes"), (0.02, 0.005, 0.04, "not certain"), (0.005, 0.0, 0.02, "not seen")]
    for value, low, high, said in cases:
        cli_audit.show_audits([body | {"value": value, "low": low, "high": high}])
        assert (
            f"membership: true positives at 1 % false positives; more than without the run: {said}. said."
            in (capsys.readouterr().out)
        )
    cli_audit.show_audits([body | {"measured": "epsilon", "value": 0.2, "low": 0.1, "high": 0.3}])
    assert "membership: epsilon; beside the claimed epsilon. said." in capsys.readouterr().out


def test_data_check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("[data]\noptions = { sites = 3, units_per_site = 12 }\n")
    code, out, _ = call(capsys, "data", "check", "consortium", "--plan", str(plan), *TINY)
    assert code == 0
    table = catalog.build("sources", "consortium", {"sites": 2, "units_per_site": 12, "windows": 2}).load(
        None, 0
    )
    for word in (*table.schema.classes, *table.schema.features["traffic"], *table.notes[0].split()):
        assert word in out
    assert f"{table.valid.sum():,}" in out
    assert "sites" in out


def test_data_check_says_first_that_a_path_is_not_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "flows.csv").write_text("a,b\n")
    code, out, err = call(capsys, "data", "check", "consortium", str(tmp_path), *TINY)
    assert code == 0
    assert err.startswith("warning: A path was given, and nothing in it was read")
    assert "note: A path was given, and nothing in it was read" in out
    assert str(tmp_path) not in out


def test_report_of_a_log_that_was_changed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = runlog.create(tmp_path / "run.sqlite", [("run", {"name": "x"})])
    data = log.read_bytes()
    place = data.index(b"\xa4name\xa1x")
    log.write_bytes(data[: place + 6] + b"y" + data[place + 7 :])
    code, _, err = call(capsys, "report", str(tmp_path))
    assert code == 1
    assert "breaks at record 1" in err
    assert "it was changed after it was written: put back a copy of this file that you trust" in err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("size", "says"),
    [(0, "the run log is empty"), (50, "not a run log"), (9000, "the run log is damaged or cut short")],
)
def test_a_log_that_is_no_log_any_more(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, size: int, says: str
) -> None:
    log = runlog.create(tmp_path / "run.sqlite", [("run", {"name": "x" * 9000})])
    os.truncate(log, size)
    code, _, err = call(capsys, "report", str(tmp_path))
    assert code == 2
    assert says in err
    assert f"found: {log}" in err
    assert "way out: put back a copy of this file that you trust, or run again into another folder" in err


@pytest.mark.parametrize("tuned", [True, False])
@pytest.mark.parametrize("command", [["audit"], ["evaluate", "--source", "consortium", "--out", "other"]])
def test_a_sweep_is_neither_audited_nor_evaluated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str], tuned: bool
) -> None:
    runlog.create(tmp_path / "sweep.sqlite")
    if tuned:
        (tmp_path / "tuned.toml").write_text("")
    code, _, err = call(capsys, command[0], str(tmp_path), *command[1:])
    assert code == 2
    assert "this folder is a sweep's, which keeps no model" in err
    assert f"lazaretto run {tmp_path / 'tuned.toml' if tuned else 'PLAN'}, and then" in err


def test_a_log_written_anew_is_found_by_a_head_kept_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = runlog.create(tmp_path / "run.sqlite", [("run", {"name": "x"}), ("note", {"auroc": 0.6})])
    code, out, _ = call(capsys, "report", str(tmp_path))
    assert code == 0
    kept = re.findall(r"the last has digest ([0-9a-f]{64})\n", out)[0]
    assert call(capsys, "report", str(tmp_path), "--head", kept)[0] == 0
    runlog.append(log, "note", {"audited": True})  # what came later is no reason to refuse
    code, out, _ = call(capsys, "report", str(tmp_path), "--head", f" {kept.upper()} ")
    assert code == 0
    assert "the digest that was kept is that of record 2, 1 record before the end" in out

    log.unlink()
    (tmp_path / "report.html").unlink()
    runlog.create(log, [("run", {"name": "x"}), ("note", {"auroc": 0.9}), ("note", {"audited": True})])
    code, _, err = call(capsys, "report", str(tmp_path), "--head", kept)
    assert code == 1
    assert "does not hold a head that was kept earlier" in err
    assert f"{log}: 3 records, none with that digest" in err
    assert not (tmp_path / "report.html").exists()
    assert call(capsys, "report", str(tmp_path))[0] == 0  # without the head nobody can tell


def test_a_log_cut_short_is_found_by_a_head_kept_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = runlog.create(tmp_path / "run.sqlite", [("run", {"name": "x"}), ("note", {"auroc": 0.6})])
    kept = runlog.head(log).digest.hex()
    log.unlink()
    runlog.create(log, [("run", {"name": "x"})])
    assert call(capsys, "report", str(tmp_path), "--head", kept)[0] == 1
    for wrong in (kept[:16], "x" * 64, "", "0" * 64):  # the last stands before any record, in every log
        code, _, err = call(capsys, "report", str(tmp_path), "--head", wrong)
        assert code == 2
        assert "--head: should be a digest of 64 hexadecimal digits" in err
    assert not (tmp_path / "report.html").exists()


def test_file_names_with_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "run", "a\x1b[31mred.toml")
    assert code == 2
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 3, "interrupted"),
        (Interrupted("stopped", way_out="go on with --resume"), 3, "go on with --resume"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 2, "the disk is full (found: runs/x)"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), 2, "no permission (found: runs/x)"),
        (OSError(errno.EROFS, "Read-only file system", "runs/x"), 2, "Read-only file system (found: runs/x)"),
        (MemoryError(), 2, "not enough memory"),
    ],
)
def test_what_may_happen_inside(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    says: str,
) -> None:
    def fail(*words: object, **options: object) -> Path:
        raise error

    monkeypatch.setattr(commands, "train", fail)
    found, _, err = call(capsys, "run", "plan.toml")
    assert found == code
    assert says in err


@pytest.mark.parametrize(("words", "laid"), [([], []), (["--full"], ['evaluate.leave_one_site_out="all"'])])
def test_the_full_protocol_leaves_every_site_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], laid: list[str]
) -> None:
    asked: list[list[str]] = []

    def train(plan: Path, data: object, out: object, sets: list[str], **options: object) -> Path:
        asked.append(list(sets))
        return plan

    monkeypatch.setattr(commands, "train", train)
    call(capsys, "run", "plan.toml", "--set", "train.rounds=2", *words)
    assert asked == [["train.rounds=2", *laid]]


def test_a_full_device_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():  # Linux has it; macOS has no device that is always full
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr(commands, "train", lambda *words, **options: Path("/dev/full").write_bytes(b"x"))
    code, _, err = call(capsys, "run", "plan.toml")
    assert code == 2
    assert "disk is full" in err


def test_a_bug_is_called_a_bug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*words: object, **options: object) -> Path:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(commands, "train", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, _, err = call(capsys, "run", "plan.toml")
    assert code == cli.BUG == 70
    (saved,) = tmp_path.iterdir()
    assert str(saved) in err
    assert "bug in Lazaretto" in err
    text = saved.read_text()
    assert "Traceback" in text
    assert "ZeroDivisionError: by zero" in text


def wait_for_handlers(process: subprocess.Popen[str]) -> None:
    """Return when the process catches SIGTERM, the last of the signals that it asks for as it starts."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():  # Linux has it; elsewhere a signal could arrive before the process asks for it
        pytest.skip("this system does not tell which signals a process catches")
    bit = 1 << (signal.SIGTERM - 1)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        (caught,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if int(caught, 16) & bit:
            return
        time.sleep(0.01)
    raise AssertionError("the process never asked for SIGTERM")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.0, 0.4, 1.5])
def test_stopped_while_it_starts(tmp_path: Path, number: signal.Signals, seconds: float) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("[train]\nrounds = 100000\n")
    with lazaretto("run", str(plan), "--out", str(tmp_path / "out"), "--quiet") as process:
        wait_for_handlers(process)
        time.sleep(seconds)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "Traceback" not in err
    assert err.strip()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    with lazaretto("list") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
    assert "Traceback" not in err
    assert "bug in Lazaretto" not in err


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("lazaretto")
    assert os.access(command, os.X_OK)
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"lazaretto {__version__}\ncode SHA-256 ")
