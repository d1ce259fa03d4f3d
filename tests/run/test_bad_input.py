"""Bad input through the real command: a clear error, exit code 2, nothing half-written, no traceback."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lazaretto.cli import main
from lazaretto.errors import LazarettoError
from lazaretto.run.saved import write_whole

HEADER = (
    "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,"
    "State,sTos,dTos,TotPkts,TotBytes,SrcBytes,SrcPkts,Label"
)
PLAN = """
[data]
source = "flows_csv"
[data.options]
files = "*.binetflow*"
steps = {{ flows = 4, per_window = 4, per_unit = 8 }}
[sites]
by = "unit"
count = {sites}
[model.options]
channels = 4
hidden = 4
[train]
rounds = 1
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""


def _row(i: int, label: str, size: str = "900") -> str:
    second = f"{i // 60:02d}:{i % 60:02d}"
    start, flow = f"2019/04/04 16:{second}.000000,1.5,tcp", f"10.0.0.{i % 3},5000,->,10.0.1.9,80"
    return f"{start},{flow},CON,0,0,9,{size},400,5,{label}"


def _table(rows: int = 480, attacked: Callable[[int], bool] = lambda i: i % 64 >= 40) -> str:
    lines = [
        _row(i, "flow=Malware-X" if attacked(i) else "flow=Normal", str(500 + i * i * 7919 % 9973))
        for i in range(rows)
    ]
    return "\n".join([HEADER, *lines]) + "\n"


def _cut_gzip() -> bytes:
    whole = gzip.compress(_table().encode())
    return whole[: len(whole) // 2]


BAD: dict[str, bytes | None] = {
    "no file": None,
    "empty file": b"",
    "only a header": f"{HEADER}\n".encode(),
    "a missing column": _table().replace("TotBytes", "Whatever").encode(),
    "a wrong type": _table().replace(",9,", ",many,", 1).encode(),
    "NaN and inf": _table().replace(",1.5,", ",NaN,", 40).replace(",1.5,", ",inf,", 40).encode(),
    "one class only": _table(attacked=lambda i: False).encode(),
    "one window": _table(rows=16).encode(),
    "fewer units than splits": re.sub(r"10\.0\.0\.\d", "10.0.0.0", _table(rows=64)).encode(),
    "a truncated gz": _cut_gzip(),
    "binary rubbish": bytes(range(256)) * 40,
}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.format(sites=2))
    return path


def _put(folder: Path, content: bytes | None) -> Path:
    folder.mkdir()
    if content is not None:
        name = "flows.binetflow.gz" if content[:2] == b"\x1f\x8b" else "flows.binetflow"
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(kind: str, plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = _put(tmp_path / "data", BAD[kind]), tmp_path / "out"
    assert main(["run", str(plan), "--data", str(data), "--out", str(out), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "way out" in said
    assert "Traceback" not in said
    assert "bug in Lazaretto" not in said
    assert not out.exists()


def test_the_same_table_unspoilt_runs(plan: Path, tmp_path: Path) -> None:
    """Else the test above would pass for the wrong reason. Extra columns are no error either."""
    lines = _table().splitlines()
    extra = "\n".join([f"{lines[0]},Extra", *(f"{line},7" for line in lines[1:])]) + "\n"
    data, out = _put(tmp_path / "data", extra.encode()), tmp_path / "out"
    assert main(["run", str(plan), "--data", str(data), "--out", str(out), "--quiet"]) == 0
    written = {path.name for path in out.iterdir()}
    assert written == {
        "plan.toml",
        "run.sqlite",
        "metrics.json",
        "model.safetensors",
        "seen.safetensors",
        "report.html",
    }


def test_a_site_without_rows(plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text(PLAN.format(sites=9))
    data, out = _put(tmp_path / "data", _table(rows=160).encode()), tmp_path / "out"
    assert main(["run", str(plan), "--data", str(data), "--out", str(out), "--quiet"]) == 2
    assert "site" in capsys.readouterr().err
    assert not out.exists()


def test_a_plan_with_a_typo(plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text(plan.read_text().replace("rounds", "ruonds"))
    assert main(["run", str(plan), "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "train.ruonds" in said
    assert "train.rounds" in said
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up(plan: Path, tmp_path: Path) -> None:
    """The system refuses to write beyond a size, as a full disk does: no traceback, nothing cut short."""
    data, out = _put(tmp_path / "data", _table().encode()), tmp_path / "out"

    run = [sys.executable, "-m", "lazaretto", "run", str(plan), "--data", str(data), "--out", str(out)]
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -f 40 && exec "$@"', "sh", *run],  # files of 20 or 40 kB at most
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    left = {path.name for path in out.rglob("*")} if out.exists() else set()
    assert "metrics.json" not in left
    assert "report.html" not in left
    assert not [name for name in left if name.endswith(".tmp")]


def test_a_file_is_written_beside_links_that_lie_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever guesses the name of the temporary file has no link of theirs written through."""
    monkeypatch.setattr("lazaretto.run.saved.secrets.token_hex", lambda _: "guessed")
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (tmp_path / ".budget.json.guessed.tmp").symlink_to(victim)
    with pytest.raises(LazarettoError, match=r"cannot write budget\.json"):
        write_whole(tmp_path / "budget.json", b"ours")
    assert victim.read_text() == "theirs"
