"""`lazaretto data check` on own flow tables: what it says, and what it refuses as a run would."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import commands, runlog
from lazaretto.cli import main
from lazaretto.types import Source, Table

PLAN = """
[run]
seeds = [3, 4]
[data]
source = "flows_csv"
[data.options]
steps = { flows = 5, per_window = 4 }
[data.options.columns]
start_time = "start"
source_address = "src"
destination_address = "dst"
bytes_total = "octets"
packets_total = "packets"
state = "state"
label = "verdict"
[data.options.label]
normal = ["ok"]
[sites]
by = "unit"
count = 2
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


def table(folder: Path, hosts: range, normal: str = "ok", bad: str = "flood") -> Path:
    """Flows of hosts, every second of which is attacked in its later half; attacked flows mostly fail."""
    lines = ["start,src,dst,octets,packets,state,verdict"]
    for host in hosts:
        rng = np.random.default_rng(host)
        for step in range(40):
            attacked = host % 2 == 1 and step >= 20
            size, count = rng.integers(100, 900) + 100 * attacked, rng.integers(1, 20)
            state = "REJ" if attacked else "SF"
            word = bad if attacked else normal
            lines.append(f"{1000 + step},10.0.0.{host},10.0.1.1,{size},{count},{state},{word}")
    folder.mkdir(exist_ok=True)
    (folder / "week.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "own.toml").write_text(PLAN)
    return tmp_path / "own.toml"


def check(plan: Path, data: Path, *more: str) -> int:
    return main(["data", "check", "flows_csv", str(data), "--plan", str(plan), *more])


def test_what_a_run_has_passes_and_labels_are_told(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = table(tmp_path / "flows", range(1, 25), bad="SYN Flood")
    assert check(plan, data) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["720", "normal", "ok"] in lines
    assert ["240", "syn_flood", "SYN", "Flood"] in lines
    assert ["rows", "unlabelled", "taken", "as", "normal", "0"] in lines
    many = (data / "week.csv").read_text().splitlines()
    for texts, says in ((30, "and 15 more labels"), (16, "and 1 more label")):
        attacked = [at for at, line in enumerate(many) if line.endswith("Flood")]
        named = list(many)
        for place, at in enumerate(attacked):
            named[at] += f"-{place % texts}"
        (data / "week.csv").write_text("\n".join(named) + "\n")
        assert check(plan, data) == 0
        assert says in capsys.readouterr().out.splitlines()


def test_rows_without_a_label_are_one_line_and_a_column_of_no_file_is_missing_there(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels by the names of files; one file lacks a column that no feature is made of."""
    lines = (table(tmp_path / "all", range(1, 37)) / "week.csv").read_text().splitlines()
    flows = tmp_path / "flows"
    flows.mkdir()
    for number, kind in enumerate(("calm", "flood", "scan")):
        rows = [line.split(",")[:6] for line in lines[1 + 480 * number : 481 + 480 * number]]
        heads = lines[0].split(",")[:6]
        if kind != "scan":
            heads, rows = [*heads, "ttl"], [[*row, str(30 + place % 60)] for place, row in enumerate(rows)]
        (flows / f"{kind}.csv").write_text("\n".join(",".join(row) for row in [heads, *rows]) + "\n")
    text = PLAN.replace('label = "verdict"\n', "").replace(
        'normal = ["ok"]', 'files = { "calm*" = "normal", "flood*" = "flood", "scan*" = "scan" }'
    )
    plan.write_text(text)
    assert check(plan, flows) == 0
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if "(none)" in line] == [
        ["1,440", "flood,", "normal,", "scan", "(none)"]
    ]
    told = next(line for line in out.splitlines() if " ttl " in line)
    assert (
        "missing in every row of scan, and hardly ever elsewhere: there is no such column in scan.csv" in told
    )


def test_the_text_that_the_refusal_gives_is_one_that_is_matched(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("Class 0", "[ok]"):
        data = table(tmp_path / "flows", range(1, 25), text)
        plan.write_text(PLAN)
        assert check(plan, data) == 1
        told = capsys.readouterr().err.partition("normal = ")[2].partition(" in ")[0]
        plan.write_text(PLAN.replace('normal = ["ok"]', f"normal = {told}"))
        assert check(plan, data) == 0
        capsys.readouterr()


@pytest.mark.parametrize(
    ("normal", "bad", "says"),
    [
        ("fine", "flood", ["no step is normal: is 'fine' your normal label?", "label"]),
        ("Class 0", "Class 1", ["is 'Class 0' your normal label?", 'normal = ["Class 0"]']),
        ("[ok]", "flood", ["is '[ok]' your normal label?", 'normal = ["[[]ok]"]']),
        ("ok", "ok", ["no step is attacked", "only normal", "taken as normal (data.options.label.normal)"]),
    ],
)
def test_one_kind_alone_is_refused_as_a_run_does(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], normal: str, bad: str, says: list[str]
) -> None:
    data = table(tmp_path / "flows", range(1, 25), normal, bad)
    assert check(plan, data) == 1
    out, err = capsys.readouterr()
    assert "features: traffic" in out, "what the loader sees is said all the same"
    assert "a run refuses this data" in err
    assert ("Only one kind of attack" in out) is False
    assert main(["run", str(plan), "--data", str(data), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    refusal = capsys.readouterr().err
    for text in says:
        assert text in err
        assert text in refusal
    assert not (tmp_path / "out").exists()


def test_too_few_units_and_sites_are_refused(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(plan, table(tmp_path / "few", range(1, 3))) == 1
    assert "at least three units" in capsys.readouterr().err
    plan.write_text(PLAN.replace("count = 2", "count = 200"))
    assert check(plan, table(tmp_path / "flows", range(1, 25))) == 1
    assert "a run refuses this data" in capsys.readouterr().err
    plan.write_text(PLAN.replace("[data]", '[data]\nleaks = "refuse"'))
    assert check(plan, tmp_path / "flows") == 1
    assert "failed_share" in capsys.readouterr().err


def simulated(plan: Path, seeds: str) -> list[str]:
    plan.write_text(f"[run]\nseeds = {seeds}\n[data.options]\nsites = 2\nunits_per_site = 12\nwindows = 2\n")
    return ["data", "check", "consortium", "--plan", str(plan)]


def test_every_seed_of_a_source_that_deals_anew_is_tried(
    plan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded = commands.load_without, list[int]()

    def loading(source: Source, path: object, seed: int, *words: Any) -> tuple[Source, Table]:
        loaded.append(seed)
        made, found = load(source, path, seed, *words)
        calm = np.zeros_like(found.y_step)
        return made, found if seed != 5 else replace(found, y_step=calm, y=calm.max(axis=1))

    monkeypatch.setattr(commands, "load_without", loading)
    assert main(simulated(plan, "[3, 4]")) == 0
    assert loaded == [3, 4]
    assert "alone" not in capsys.readouterr().out
    assert main(simulated(plan, "[3, 4, 5]")) == 1
    assert "a run refuses this data with seed 5, though not with 3: " in capsys.readouterr().err
    monkeypatch.setattr(commands, "_MOST_SECONDS", 0.0)  # as where loading takes long
    assert main(simulated(plan, "[3, 5]")) == 0
    assert "tried with seed 3 alone: a run loads other data with seeds 5" in capsys.readouterr().out
    loaded.clear()
    data = table(plan.parent / "flows", range(1, 25))
    plan.write_text(PLAN)
    assert check(plan, data) == 0
    assert loaded == [3], "the same flows with every seed"


def sheet_of(folder: Path) -> Any:
    return next(runlog.read(folder / "run.sqlite", "data")).body


def test_a_feature_that_gives_the_label_away_can_be_dropped(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = table(tmp_path / "flows", range(1, 41))
    assert check(plan, data, "--strict") == 1
    out, err = capsys.readouterr()
    assert 'data.drop = ["failed_share"]' in " ".join(out.split())
    assert "data.drop" in err
    assert "remove_duplicates" not in out
    words = ["run", str(plan), "--data", str(data), "--out", str(tmp_path / "trained"), "--quiet"]
    assert main([*words, "--set", "data.leaks=refuse"]) == 2
    assert "data.drop" in capsys.readouterr().err
    plan.write_text(PLAN.replace("[data]", '[data]\nleaks = "refuse"\ndrop = ["failed_share"]'))
    assert check(plan, data, "--strict") == 0
    assert "failed_share" not in capsys.readouterr().out
    assert main(words) == 0
    sheet = sheet_of(tmp_path / "trained")
    assert "failed_share" not in sheet["features"]
    assert set(sheet["leaks_dropped"]) == {"start", "src", "dst", "failed_share"}
    assert sheet["leaks_dropped"]["failed_share"] == "dropped by the plan"
    assert "dropped by the plan" in (tmp_path / "trained" / "report.html").read_text()
    # the same data, a copy of it elsewhere, and new hosts: all judged without the feature
    shutil.copytree(data, tmp_path / "copied")
    new = table(tmp_path / "new", range(41, 61))
    judged = {}
    for place in (data, tmp_path / "copied", new):
        out_folder = tmp_path / f"judged-{place.name}"
        more = ["--plan", str(plan), "--data", str(place), "--out", str(out_folder), "--quiet"]
        assert main(["evaluate", str(tmp_path / "trained"), "--source", "flows_csv", *more]) == 0
        judged[place.name] = sheet_of(out_folder)
        assert judged[place.name]["features"] == sheet["features"]
        assert judged[place.name]["leaks_dropped"]["failed_share"] == "dropped by the plan"
    assert judged["flows"]["splits"]["test"] == sheet["splits"]["test"]
    assert judged["copied"]["splits"]["test"] == sheet["splits"]["test"], "what was seen is known again"
    assert judged["new"]["splits"]["test"]["units"] == 20


def test_a_feature_that_is_not_there_cannot_be_dropped(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = table(tmp_path / "flows", range(1, 25))
    plan.write_text(PLAN.replace("[data]", '[data]\ndrop = ["fail_share"]'))
    for words in (["data", "check", "flows_csv", str(data), "--plan", str(plan)], ["run", str(plan)]):
        more = ["--data", str(data), "--out", str(tmp_path / "out")] if words[0] == "run" else []
        assert main([*words, *more]) == 2
        assert "did you mean 'failed_share'" in capsys.readouterr().err
