"""Files of a run that is no secret, held against its log: which honest ones pass, and which edits do not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import runlog
from lazaretto.cli import main
from lazaretto.commands import write_page
from lazaretto.errors import CheckFailed
from lazaretto.run import experiment
from lazaretto.run.checked import check_files, check_model

PLAN = """
[run]
seeds = [3]
[data.options]
sites = 3
units_per_site = 12
windows = 2
[model.options]
channels = 8
hidden = 8
[train]
rounds = 2
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""
SAME = ("--set", "sites=3", "--set", "units_per_site=12", "--set", "windows=2")
FILES = ("plan.toml", "metrics.json", "model.safetensors", "seen.safetensors")
_EDITS = {"rounds = 2": "rounds = 77", '"quick": true': '"quick": false'}

Entries = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "plan.toml").write_text(PLAN)
    assert main(["run", str(folder / "plan.toml"), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


def _copy(
    whole: Path,
    copy: Path,
    files: Mapping[str, Callable[[str], str]] | None = None,
    entries: Callable[[Entries], Entries] = lambda entries: entries,
) -> Path:
    """A folder with this run's files, some edited, and a log written anew from edited entries."""
    copy.mkdir()
    for name in FILES:
        shutil.copy(whole / name, copy)
    for name, edit in (files or {}).items():
        (copy / name).write_bytes(edit((copy / name).read_text()).encode())
    told = [(record.kind, dict(record.body)) for record in runlog.read(whole / "run.sqlite")]
    runlog.create(copy / "run.sqlite", entries(told))
    return copy


@pytest.mark.parametrize("name", ["plan.toml", "metrics.json"])
def test_other_line_ends_are_no_edit_and_hide_none(whole: Path, name: str, tmp_path: Path) -> None:
    copy = _copy(whole, tmp_path / "copy", {name: lambda text: text.replace("\n", "\r\n")})
    assert b"\r\n" in (copy / name).read_bytes()
    check_files(copy)

    def edited(text: str) -> str:
        said = re.sub(r"(?m)^rounds = .*$|\"quick\": true", lambda found: _EDITS[found[0]], text)
        assert said != text
        return said.replace("\n", "\r\n")

    with pytest.raises(CheckFailed, match=name):
        check_files(_copy(whole, tmp_path / "edited", {name: edited}))


def test_a_report_is_written_anew_where_the_data_was_moved(whole: Path, tmp_path: Path) -> None:
    def at(place: str) -> Callable[[str], str]:
        return lambda text: text.replace("[data]\n", f'[data]\npath = "{place}"\n')

    def logged(entries: Entries) -> Entries:
        return [
            (kind, body | {"plan_toml": at("/ward/data")(body["plan_toml"])} if kind == "run" else body)
            for kind, body in entries
        ]

    moved = _copy(whole, tmp_path / "moved", {"plan.toml": at("/archive/data")}, logged)
    assert write_page(moved).exists()
    with pytest.raises(CheckFailed, match=r"plan that this run's log has[\s\S]*data\.path"):
        write_page(_copy(whole, tmp_path / "without", {}, logged))


def test_a_run_killed_between_the_records_of_model_and_figures_goes_on_to_a_whole_folder(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    words = ["run", str(tmp_path / "plan.toml"), "--out", str(tmp_path / "out"), "--quiet"]

    def killed(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(experiment, "write_metrics", killed)
        assert main(words) == 3
    kinds = [record.kind for record in runlog.read(tmp_path / "out" / "run.sqlite")]
    assert "model" in kinds
    assert "metrics" not in kinds
    assert main([*words, "--resume"]) == 0
    check_files(tmp_path / "out")
    again, first = ((place / "model.safetensors").read_bytes() for place in (tmp_path / "out", whole))
    assert again == first
    (tmp_path / "out" / "model.safetensors").write_bytes(first[:-1] + b"~")
    with pytest.raises(CheckFailed, match="not the model"):
        check_files(tmp_path / "out")


def test_the_folder_of_an_evaluation_is_held_against_its_log(whole: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--quiet", str(whole), "--source", "consortium", "--out", str(tmp_path / "out")]
    assert main([*words, *SAME]) == 0
    assert check_files(tmp_path / "out") == runlog.head(tmp_path / "out" / "run.sqlite")
    figures = tmp_path / "out" / "metrics.json"
    figures.write_text(figures.read_text().replace('"units": ', '"units": 9'))
    with pytest.raises(CheckFailed, match=r"other figures[\s\S]*units"):
        check_files(tmp_path / "out")


def _aside(entries: Entries, *kinds: str) -> Entries:
    return [(kind, body) for kind, body in entries if kind not in kinds]


def test_what_the_model_has_seen_is_held_against_the_log(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a list that was emptied lets a model be judged on what it was trained on."""
    copy = _copy(whole, tmp_path / "copy")
    check_model(copy)
    seen = copy / "seen.safetensors"
    changed = bytearray(seen.read_bytes())
    changed[-1] ^= 1
    seen.write_bytes(changed)
    for check in (check_files, check_model):
        with pytest.raises(CheckFailed, match=r"seen\.safetensors is not the one that this run"):
            check(copy)
    words = ["evaluate", "--quiet", str(copy), "--source", "consortium", "--out", str(tmp_path / "out")]
    assert main([*words, "--set", "sites=2"]) == 1
    assert "seen.safetensors" in capsys.readouterr().err
    older = _copy(whole, tmp_path / "older", None, lambda entries: _aside(entries, "seen"))
    (older / "seen.safetensors").write_bytes(changed)
    check_files(older)
    seen.unlink()
    write_page(copy)
    assert "not held against the log: seen.safetensors\n" in capsys.readouterr().out


def _slower(text: str) -> str:
    figures = json.loads(text)
    figures["time"]["total_seconds"] += 1.0
    figures["memory"]["peak_bytes"] += 1
    return json.dumps(figures, indent=1)


def test_a_run_that_an_older_version_went_on_with_has_seconds_of_its_own(whole: Path, tmp_path: Path) -> None:
    """Such a version recorded figures, was stopped, and wrote the file with what the second try took."""

    def older(entries: Entries, resumed: bool = True) -> Entries:
        told = _aside(entries, "model", "seen")
        return [(kind, body | {"resumed": resumed} if kind == "finished" else body) for kind, body in told]

    slower = {"metrics.json": _slower}
    assert write_page(_copy(whole, tmp_path / "honest", slower, older)).exists()
    better = {"metrics.json": lambda text: _slower(text).replace('"quick": true', '"quick": false')}
    dishonest = {
        "figures": _copy(whole, tmp_path / "figures", better, older),
        "once": _copy(whole, tmp_path / "once", slower, lambda entries: older(entries, resumed=False)),
        "now": _copy(
            whole, tmp_path / "now", slower, lambda entries: [*older(entries), ("model", {"sha256": "00"})]
        ),
    }
    for folder in dishonest.values():
        with pytest.raises(CheckFailed, match="other figures"):
            check_files(folder)


@pytest.mark.parametrize("odd", [b"x", np.ones(3)])
def test_a_log_whose_figures_are_no_json_is_refused_in_words(tmp_path: Path, odd: object) -> None:
    runlog.create(tmp_path / "run.sqlite", [("metrics", {"x": odd}), ("finished", {})])
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(CheckFailed, match="other figures than this run's log"):
        check_files(tmp_path)


def test_figures_that_are_far_longer_than_the_log_has_them_are_not_read(whole: Path, tmp_path: Path) -> None:
    def indented(text: str) -> str:
        return json.dumps(json.loads(text), indent=8)

    check_files(_copy(whole, tmp_path / "indented", {"metrics.json": indented}))
    with pytest.raises(CheckFailed, match=r"metrics\.json is too large"):
        check_files(_copy(whole, tmp_path / "long", {"metrics.json": lambda text: text + " " * 2**20}))


def test_a_report_reads_the_log_once(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reader checks the whole chain: with a long log that is most of what a report takes."""
    copy, reads = _copy(whole, tmp_path / "copy"), []
    real = runlog.read

    def counted(path: Path, kind: str | None = None) -> Any:
        reads.append(path)
        return real(path, kind)

    monkeypatch.setattr(runlog, "read", counted)
    write_page(copy)
    assert reads == [copy / "run.sqlite"]
