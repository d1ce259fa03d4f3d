"""A new model, source, rule or attack is one file: listed, documented, accepted, examined, run, swept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MODEL = '''
"""A toy."""
from __future__ import annotations
import jax
import jax.numpy as jnp
from lazaretto.types import Model, Outputs

def toy_sums(width: int = 8) -> Model:
    """Running means of what the device sends, by one layer on each side."""

    def init(key, features, kinds):
        one, two, three = jax.random.split(key, 3)
        return {
            "bottom": {"w": jax.random.normal(one, (features, width)) * 0.5},
            "top": {
                "a": jax.random.normal(two, (2 * width, 1)) * 0.3,
                "k": jax.random.normal(three, (2 * width, kinds)) * 0.3,
                "b": jnp.zeros(1),
            },
        }

    def start(features, batch):
        return (), jnp.zeros((batch, width))

    def bottom(params, x, state):
        return jnp.tanh(x @ params["w"]), state

    def top(params, h, state):
        def step(mean, now):
            mean = 0.7 * mean + 0.3 * now
            return mean, mean
        state, means = jax.lax.scan(step, state, jnp.swapaxes(h, 0, 1))
        both = jnp.concatenate([h, jnp.swapaxes(means, 0, 1)], axis=-1)
        return Outputs((both @ params["a"])[..., 0] + params["b"][0], both @ params["k"], both), state

    return Model(name="toy_sums", init=init, start=start, bottom=bottom, top=top)
'''

SOURCE = '''
"""A toy."""
from __future__ import annotations
import numpy as np
from lazaretto.keys import generator
from lazaretto.types import UNASSIGNED, Schema, Source, Table

def toy_sine(units: int = 48, windows: int = 3, steps: int = 8) -> Source:
    """A noisy sine in two features; attacks of two kinds raise one of them."""

    def load(path, seed):
        rng = generator(seed, "toy_sine")
        length = windows * steps
        kind = np.arange(units) % 4 % 3  # two of four units are attacked
        onset = np.where(kind > 0, rng.integers(4, length - 6, units), length)
        y = np.where(np.arange(length) >= onset[:, None], kind[:, None], 0)
        x = rng.standard_normal((units, length, 2)) + np.sin(np.arange(length) / 3)[:, None]
        x += 3.0 * np.stack([y == 1, y == 2], axis=-1)
        n = units * windows
        y_step = y.reshape(n, steps).astype(np.int64)
        unit = np.repeat(np.arange(units), windows)
        return Table(
            x={"traffic": x.reshape(n, steps, 2).astype(np.float32)},
            present=np.ones((n, 1), bool),
            y=y_step.max(axis=1),
            y_step=y_step,
            valid=np.ones((n, steps), bool),
            unit=unit,
            unit_names=tuple(f"u{i}" for i in range(units)),
            time=np.tile(np.arange(windows), units) * 60.0,
            site=unit % 3,
            site_names=("a", "b", "c"),
            split=np.full(n, UNASSIGNED),
            schema=Schema(
                features={"traffic": ("sine", "cosine")},
                classes=("normal", "first", "second"),
                step="one second",
                step_seconds=1.0,
            ),
        )

    return Source(name="toy_sine", load=load, sample=lambda: load(None, 0), needs_path=False)
'''

RULE = '''
"""A toy."""
from __future__ import annotations
import numpy as np
from lazaretto.gram import squared_distances
from lazaretto.types import Rule, Weighed

def toy_medoid() -> Rule:
    """The update with the smallest sum of distances to the others; ties share the weight.

    >>> from lazaretto.round import aggregate_once
    >>> aggregate_once(toy_medoid(), [[0.0], [1.0], [9.0]]).tolist()
    [1.0]
    """

    def gram(seen, state, rng):
        n = len(seen.sizes)
        away = np.sqrt(squared_distances(seen.inner[:n, :n])).sum(axis=1)
        best = away <= away.min() * (1 + 1e-9)
        weights = np.zeros((1, len(seen.inner)))
        weights[0, :n] = best / best.sum()
        far = away > np.median(away)
        suspicion = np.where(far, 1 - np.median(away) / np.where(far, away, 1.0), 0.0)
        return Weighed(weights, suspicion, {})

    return Rule(
        name="toy_medoid",
        sees="gram",
        gram=gram,
        tolerates=lambda n: max(n - 1, 0) // 3,
        equivariance=frozenset({"translation", "scale"}),
        agrees=True,
    )
'''

ATTACK = '''
"""A toy."""
from __future__ import annotations
import numpy as np
from lazaretto.attack_types import Attack

def toy_lull(share: float = 0.5) -> Attack:
    """All hostile sites send a part of the honest mean turned round. Nobody 2026, arXiv:2601.00001."""

    def craft(honest, own, context, rng):
        rows = honest if len(honest) else own
        mean = np.asarray(rows, np.float64).mean(axis=0) if len(rows) else np.zeros(own.shape[1])
        sent = np.clip(np.nan_to_num(-share * mean), -1e12, 1e12)  # nothing that would overflow
        return np.repeat(sent[None], len(own), axis=0).astype(np.float32)

    return Attack(name="toy_lull", kind="updates", knows="honest", craft=craft)
'''

LIAR = '''
"""A toy."""
from __future__ import annotations
import numpy as np
from lazaretto.attack_types import Attack

def toy_alarmed(times: float = 9.0) -> Attack:
    """All hostile sites say that their normal steps score higher. Nobody 2026, arXiv:2601.00001."""

    def scores(own, rng):
        return np.clip(times + own.astype(np.float64), -1e9, 1e9).astype(np.float32)

    return Attack(name="toy_alarmed", kind="scores", knows="own", scores=scores)
'''

PLAN = """
[run]
name = "toy"
seeds = [0]
[data]
source = "toy_sine"
[sites]
by = "natural"
[model]
name = "toy_sums"
options = { width = 6 }
[train]
rounds = 2
[aggregate]
rule = "nnm | toy_medoid"
[evaluate]
baselines = []
bootstrap = 100
leave_one_family_out = false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("parts")
    for family, name, text in (
        ("models", "toy_sums", MODEL),
        ("data", "toy_sine", SOURCE),
        ("aggregate", "toy_medoid", RULE),
        ("attack", "toy_lull", ATTACK),
        ("attack", "toy_alarmed", LIAR),
    ):
        (place / family).mkdir(exist_ok=True)
        (place / family / f"{name}.py").write_text(text, encoding="utf-8")
    (place / "plan.toml").write_text(PLAN, encoding="utf-8")
    return place


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The same Python, with the folder in LAZARETTO_PATH, from the folder itself."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        env={**os.environ, "LAZARETTO_PATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=230,
    )


def test_they_are_listed(folder: Path) -> None:
    done = call(folder, "lazaretto", "list")
    assert done.returncode == 0, done.stderr
    assert "toy_sums" in done.stdout
    assert "Running means of what the device sends" in done.stdout
    assert "toy_sine" in done.stdout
    assert "toy_medoid" in done.stdout
    assert "All hostile sites send a part of the honest mean" in done.stdout


TRIALS = """
from pathlib import Path
from lazaretto.catalog_page import catalog_page
from lazaretto.plan import load_plan
from lazaretto.run.robustness import robustness_trials

print("\\n".join(line for line in catalog_page().splitlines() if "toy_" in line))
plan = load_plan(Path(PLAN))
for case in robustness_trials(plan):
    print(case.rule, "meets", case.attack)
worst = {case.rule: "toy_lull" for case in robustness_trials(plan)}
for case in robustness_trials(plan, worst):
    print(case.rule, "at", f"{case.share:g}")
"""


def test_a_rule_and_an_attack_are_documented_and_in_the_sweep(folder: Path) -> None:
    """Claim 6: one file each, and nothing else edited."""
    plan = str(ROOT / "examples" / "poisoning.toml")
    (folder / "trials.py").write_text(TRIALS.replace("PLAN", repr(plan)), encoding="utf-8")
    done = call(folder, "trials")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (rule,) = (line for line in lines if line.startswith("| `toy_medoid`"))
    assert "The update with the smallest sum of distances" in rule
    assert "| inner products | 6 | scale, translation |" in rule
    (attack,) = (line for line in lines if line.startswith("| `toy_lull`"))
    assert "| updates | honest updates | no | `share = 0.5` |" in attack
    assert "https://arxiv.org/abs/2601.00001" in attack
    (liar,) = (line for line in lines if line.startswith("| `toy_alarmed`"))
    assert "| scores for thresholds | its own | no | `times = 9.0` |" in liar
    assert "toy_medoid meets toy_alarmed" in lines
    assert {"toy_medoid meets toy_lull", "toy_medoid meets alie", "krum meets toy_lull"} <= set(lines)
    assert {"toy_medoid at 0", "toy_medoid at 0.1", "toy_medoid at 0.4"} <= set(lines)


def test_they_run_from_a_plan(folder: Path) -> None:
    done = call(folder, "lazaretto", "run", "plan.toml", "--out", "out", "--quiet")
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "report.html").stat().st_size > 1000
    assert 'name = "toy_sums"' in (folder / "out" / "plan.toml").read_text(encoding="utf-8")


def test_a_plan_refuses_their_unknown_options(folder: Path) -> None:
    done = call(folder, "lazaretto", "run", "plan.toml", "--set", "model.options.widht=3", "--out", "none")
    assert done.returncode == 2
    assert "did you mean 'model.options.width'" in done.stderr
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("exam", "name", "least"),
    [
        ("models", "toy_sums", 10),
        ("sources", "toy_sine", 10),
        ("rules", "toy_medoid", 100),
        ("attacks", "toy_lull", 10),
        ("attacks", "toy_alarmed", 10),
    ],
)
def test_they_sit_the_exam(folder: Path, exam: str, name: str, least: int) -> None:
    test = ROOT / "tests" / "laws" / f"test_{exam}.py"
    words = ["-p", "no:cacheprovider", "-W", "error", "-c", str(ROOT / "pyproject.toml"), "-k", name]
    done = call(folder, "pytest", "-q", *words, str(test))
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= least
    assert "skipped" not in done.stdout


def test_a_bad_model_fails_the_exam(folder: Path, tmp_path: Path) -> None:
    forgetful = MODEL.replace("toy_sums", "toy_bad").replace(
        "return Outputs(", "state = state * 0\n        return Outputs("
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "toy_bad.py").write_text(forgetful, encoding="utf-8")
    test = ROOT / "tests" / "laws" / "test_models.py"
    words = ["-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "-k", "toy_bad and turn"]
    done = call(tmp_path, "pytest", "-q", *words, str(test))
    assert done.returncode == 1, done.stdout
    assert "3 failed" in done.stdout


def test_a_rule_that_claims_too_much_fails_the_exam(tmp_path: Path) -> None:
    """A mean that says it withstands a third of the sites."""
    boasting = RULE.replace("toy_medoid", "toy_boast").replace("away.min() * (1 + 1e-9)", "np.inf")
    (tmp_path / "aggregate").mkdir()
    (tmp_path / "aggregate" / "toy_boast.py").write_text(boasting, encoding="utf-8")
    test = ROOT / "tests" / "laws" / "test_rules.py"
    words = ["-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "-k", "toy_boast and withstands"]
    done = call(tmp_path, "pytest", "-q", *words, str(test))
    assert done.returncode == 1, done.stdout
    assert "test_it_withstands_as_many_as_it_says[toy_boast-together-first]" in done.stdout
