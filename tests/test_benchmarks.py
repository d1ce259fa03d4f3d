"""The programs behind the documents' figures still start, and judge no unit that set its threshold."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.data.streams import select
from lazaretto.evaluate.robust import halves
from lazaretto.evaluate.scored import Scored
from lazaretto.plan import Plan, load_plan
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared, prepare
from lazaretto.run.saved import save_arrays
from lazaretto.types import VALIDATION

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"
PROGRAMS = sorted(file.stem for file in FOLDER.glob("*.py"))
# All in one process, which imports JAX once; those that read no arguments would begin to measure.
START_ALL = """
import contextlib, importlib, io, json, pathlib, sys
folder, said = pathlib.Path(sys.argv[1]), {}
sys.path.insert(0, str(folder))
for name in sys.argv[2:]:
    out, text = io.StringIO(), (folder / (name + ".py")).read_text(encoding="utf-8")
    try:
        with contextlib.redirect_stdout(out):
            module = importlib.import_module(name)
            if "ArgumentParser(" in text:
                sys.argv = [name, "--help"]
                module.main()
    except SystemExit as end:
        said[name] = "" if end.code == 0 and out.getvalue().startswith("usage: ") else f"ended: {end.code}"
    except Exception as error:
        said[name] = f"{type(error).__name__}: {error}"
    else:
        said[name] = "" if "ArgumentParser(" not in text else "--help went on"
print(json.dumps(said))
"""
SMALL = (
    "run.seeds=[4]",
    "data.options.sites=6",
    "sites.withhold_families=4",  # each of nine families is withheld somewhere
    "data.options.units_per_site=12",
    "data.options.windows=2",
    "model.options={channels=8,hidden=8}",
    "train.rounds=1",
    "split.validation=0.35",
    "split.test=0.05",
    "evaluate.bootstrap=100",
)


@pytest.fixture(scope="module")
def started() -> dict[str, str]:
    """Program -> what went wrong when it was asked for help, or ""."""
    done = subprocess.run(
        [sys.executable, "-c", START_ALL, str(FOLDER), *PROGRAMS],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_says_how_it_is_called(program: str, started: dict[str, str]) -> None:
    assert started[program] == ""


@pytest.fixture(scope="module")
def federation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_federation", FOLDER / "federation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small() -> tuple[Plan, Prepared]:
    plan = load_plan(ROOT / "examples" / "consortium.toml", sets=SMALL)
    return plan, prepare(plan, 4, Post())


def test_one_half_sets_the_threshold_of_the_other(
    federation: ModuleType, small: tuple[Plan, Prepared], tmp_path: Path
) -> None:
    """One half scores far above the other, whatever its steps are: all of it alarms, none of the other."""
    plan, prepared = small
    part = select(prepared.data, prepared.data.split == VALIDATION)
    score = np.random.default_rng(0).random(part.y.shape)
    whole = Scored(score=score, y=part.y, valid=part.valid, site=part.site)
    first = halves(whole, prepared.seed)
    score = score + 100.0 * first[:, None]
    for by_site in (False, True):
        file = tmp_path / f"{by_site}.safetensors"
        save_arrays(file, {"home": score, "away": score}, {"by_site": by_site, "bytes": 7})
        found, costs = federation._judged(plan, [prepared], [file])
        assert costs == [7]
        assert np.isfinite([found.values[name] for name in ("auroc", "seen|recall", "unseen|recall")]).all()
        if not by_site:
            attacked = part.valid & (part.y > 0)
            expected = attacked[first].sum() / attacked.sum()
            assert 0 < expected < 1
            assert found.values["seen|recall"] == pytest.approx(expected)
            assert found.values["unseen|recall"] == pytest.approx(expected), "one model, one threshold"
            assert len(found.samples["unseen|recall"]) == plan.evaluate.bootstrap


def test_the_table_of_federation_from_training_to_print(
    federation: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(federation, "BASE", SMALL)
    setting = federation.Setting
    several = (setting("fedavg"), setting("fedper", ("federate.algorithm=fedper",)))
    monkeypatch.setattr(federation, "GROUPS", {"small": several})
    monkeypatch.setattr(federation, "use_all_cores", lambda: None)  # JAX has begun in this process
    for only in ("1", "9"):
        monkeypatch.setattr(sys, "argv", ["federation.py", "--out", str(tmp_path), "--only", only])
        federation.main()
    said = capsys.readouterr().out
    assert "1 settings are left" in said
    first, second = (
        line.split("|")[1:-1] for line in said.splitlines() if line.startswith(("| fedavg", "| fedper"))
    )
    auroc, seen, unseen, sent = map(float, first[1:])
    assert 0 < auroc < 1
    assert seen == unseen, "one model for all"
    assert sent > float(second[-1]) > 0


AS_ASKED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import aggregate, numpy as np
rows = aggregate._updates(9, 50, 0)
said = {"ours": aggregate._work("centered_clip", rows)().tolist(), "rows": rows.tolist()}
said |= {peer: aggregate._asked(peer, "centered_clip", 9, 50) for peer in aggregate.PEERS}
print(json.dumps(said))
"""


def test_every_rule_is_timed_and_centred_clipping_as_its_peer_does_it() -> None:
    command = [
        sys.executable,
        str(FOLDER / "aggregate.py"),
        "--sites",
        "8",
        "--parameters",
        "60",
        "--turns",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    timed = {
        line.split("|")[1].strip().strip("`") for line in done.stdout.splitlines() if "Lazaretto" in line
    }
    assert {name for name in catalog.names("rules") if not catalog.build("rules", name).mixes} <= timed

    command = [sys.executable, "-c", AS_ASKED, str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    said = json.loads(done.stdout)
    assert said["Flower"] is None, "it has no such rule"
    asked = said["ByzFL, NumPy"]
    assert asked == said["ByzFL, PyTorch"]
    X = np.array(said["rows"])
    v = np.zeros(50)
    for _ in range(asked["iterations"]):  # Karimireddy et al. 2021, (3)
        away = X - v
        v += np.mean(away * np.minimum(1, asked["tau"] / np.linalg.norm(away, axis=1))[:, None], axis=0)
    np.testing.assert_allclose(said["ours"], v, rtol=1e-6, atol=1e-9)
