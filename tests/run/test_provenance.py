"""Which code made a run: the package, parts from elsewhere, and other code that went on with it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lazaretto import catalog, runlog
from lazaretto.cli import main
from lazaretto.plan import Plan
from lazaretto.report.sections_run import code_text
from lazaretto.run import experiment, provenance, sweep
from lazaretto.run.provenance import code_record, other_code, run_record

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


def _put(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    return root


def test_parts_from_elsewhere_are_in_the_record_by_their_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Python may import as a part, or beside one, and nothing of the data that may lie there."""
    near = {"models/toy.py": "x = 1\n", "models/_help.py": "y = 2\n", "data/deep/__init__.py": "z = 3\n"}
    more = {"data/deep/in/more.py": "z = 4\n"}
    others = {
        "data/a.csv": "1\n",
        "data/sets/a.py": "",
        "elsewhere/a.py": "",
        "models/__pycache__/toy.pyc": "",
    }
    first = _put(tmp_path / "first", near | more | others)
    second = _put(tmp_path / "second", {"models/toy.py": "x = 5\n", "attack/late.py": "a = 6\n"})
    monkeypatch.delenv("LAZARETTO_PATH", raising=False)
    assert run_record(Plan())["parts_sha256"] == {}
    monkeypatch.setenv("LAZARETTO_PATH", os.pathsep.join((str(first), str(second), str(tmp_path / "none"))))
    expected = {**near, **more, "attack/late.py": "a = 6\n"}
    found = run_record(Plan())["parts_sha256"]
    assert found == {name: hashlib.sha256(text.encode()).hexdigest() for name, text in expected.items()}
    assert list(found) == sorted(found)
    told = code_text(run_record(Plan()))
    assert all(f"{name} from LAZARETTO_PATH {digest[:16]}" in told for name, digest in found.items())
    assert catalog.part_files()["models/toy.py"] == first / "models" / "toy.py", "as Python imports them"


def test_what_editors_leave_beside_parts_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = tmp_path / "parts" / "models"
    _put(tmp_path / "parts", {"models/toy.py": "x = 1\n", "models/.hidden.py": "x = 2\n"})
    (near / ".#toy.py").symlink_to("user@host.1234")
    (near / "gone.py").symlink_to("nowhere.py")
    (near / "folder.py").mkdir()
    (near / os.fsdecode(b"\xff.py")).write_text("x = 3\n")
    monkeypatch.setenv("LAZARETTO_PATH", str(tmp_path / "parts"))
    found = run_record(Plan())["parts_sha256"]
    assert sorted(found) == ["models/\\xff.py", "models/toy.py"]
    monkeypatch.setattr(catalog, "part_files", lambda: {"models/toy.py": near / "gone.py"})
    assert run_record(Plan())["parts_sha256"] == {"models/toy.py": None}, "said to be there, unread"


def test_code_is_other_code_where_package_commit_or_parts_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAZARETTO_PATH", str(_put(tmp_path / "parts", {"models/toy.py": "x = 1\n"})))
    log = runlog.create(tmp_path / "run.sqlite", [("run", run_record(Plan())), ("stage", {"name": "a"})])

    def other() -> list[str]:
        """In which keys this code differs from what the log has last."""
        found, told = other_code(runlog.read(log)), code_record()
        assert found is None or found == told
        last = [record.body for record in runlog.read(log) if record.kind in ("run", "code")][-1]
        return [] if found is None else [key for key in told if told[key] != last[key]]

    assert other() == []
    _put(tmp_path / "parts", {"models/toy.py": "x = 2\n"})
    assert other() == ["parts_sha256"]
    runlog.append(log, "code", code_record())
    assert other() == [], "that was recorded"
    _put(tmp_path / "parts", {"models/toy.py": "x = 1\n"})
    assert other() == ["parts_sha256"], "nor is what began it what went on last"
    runlog.append(log, "code", code_record())
    monkeypatch.setattr(provenance, "_commit", lambda: "0123456789ab-dirty")
    assert other() == [], "a commit that leaves the code alone is no other code"
    monkeypatch.setattr(provenance, "code_digest", lambda: "ab" * 32)
    assert other() == ["commit", "code_sha256"]
    assert other_code([]) is None, "nothing has begun"


def test_log_and_report_name_every_code_that_a_run_was_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    out = tmp_path / "out"
    words = ["run", str(tmp_path / "plan.toml"), "--out", str(out)]

    def stopped(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    def codes() -> list[str]:
        return [record.body["code_sha256"] for record in runlog.read(out / "run.sqlite", "code")]

    with monkeypatch.context() as patched:
        patched.setattr(experiment, "write_metrics", stopped)
        assert main(words) == 3
        assert main([*words, "--resume"]) == 3
        assert codes() == [], "the same code has nothing to say"
        assert "not the code" not in capsys.readouterr().err
        patched.setattr(provenance, "code_digest", lambda: "ab" * 32)
        assert main([*words, "--resume"]) == 3
        assert main([*words, "--resume"]) == 3
        assert codes() == ["ab" * 32], "once"
        assert "not the code that the run was made with so far" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    begun = next(runlog.read(out / "run.sqlite", "run")).body["code_sha256"]
    assert codes() == ["ab" * 32, begun]
    page = (out / "report.html").read_text()
    assert page.count("Gone on with by other code") == 2
    assert f"SHA-256 {'ab' * 8}" in page
    assert "made by several codes, one after another" in page


def test_log_and_page_of_a_sweep_name_the_code_that_went_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    out = tmp_path / "out"
    words = ["sweep", str(tmp_path / "plan.toml"), "--out", str(out), "--over", "train.rounds=1,2"]

    def stopped(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sweep, "validation_auroc", stopped)
        assert main(words) == 3
        patched.setattr(provenance, "code_digest", lambda: "ab" * 32)
        assert main([*words, "--resume"]) == 3
        assert main([*words, "--resume"]) == 3
    assert main([*words, "--resume"]) == 0
    begun = next(runlog.read(out / "sweep.sqlite", "sweep")).body["code_sha256"]
    codes = [record.body["code_sha256"] for record in runlog.read(out / "sweep.sqlite", "code")]
    assert codes == ["ab" * 32, begun], "each once, and none for the code that began it"
    assert (out / "sweep.html").read_text().count("Gone on with by other code") == 2
