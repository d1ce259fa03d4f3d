"""Every table of measured figures in the documents says which committed command made it, when and with what.

A test cannot measure everything anew. What it can see: beside each such table stands a command or plan that
is in the repository, a commit that is in its history, and the seeds.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        *ROOT.glob("benchmarks/**/*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/adr/*.md"),
    ]
)
MEASURED = re.compile(r"(?<![\w.])[+−-]?\d*\.\d+(?![\w.])")  # .965, 1.52, −.007; no versions, no names
COMMAND = re.compile(r"\b((?:benchmarks|examples|scripts)/[\w.-]+)")
COMMITS = re.compile(r"\bcommits? ((?:(?:, | and )?`?[0-9a-f]{7,40}(?:-dirty)?`?)+)")
COMMIT = re.compile(r"[0-9a-f]{7,40}(?:-dirty)?")
SEEDS = re.compile(r"\b(?:seeds?)\b", re.IGNORECASE)

# tables of numbers that nobody measured
SET_BY_HAND = {
    "docs/consortium.md ## Devices": "parameters of the simulator",
    "docs/consortium.md ## Benign events that look like attacks": "parameters of the simulator",
}


def sections(text: str) -> Iterator[tuple[str, str]]:
    """(heading, text below it up to the next heading of any level)."""
    parts = re.split(r"^(#{1,6} .+)$", text, flags=re.MULTILINE)
    yield "", parts[0]
    yield from zip(parts[1::2], parts[2::2], strict=True)


def measured_tables(text: str) -> list[list[str]]:
    """Tables in which several rows hold a number with a decimal point, outside of code and links."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        rows = [re.sub(r"`[^`]*`|\]\([^)]*\)|arXiv:[\d.]+", "", row) for row in block.splitlines()[2:]]
        if sum(bool(MEASURED.search(row)) for row in rows) >= 2:
            found.append(rows)
    return found


def tables() -> Iterator[tuple[str, str]]:
    """(page and heading, text of the section) of each section that holds a table of measured figures."""
    for page in PAGES:
        if page.name in ("plan.md", "catalog.md"):  # defaults and claims are not measured
            continue
        for heading, text in sections(page.read_text(encoding="utf-8")):
            if measured_tables(text):
                yield f"{page.relative_to(ROOT)} {heading}".strip(), text


TABLES = dict(tables())


def git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)


def commits_in(text: str) -> list[str]:
    """Every commit of "commit a", "commit a, b" and "commits a and b"."""
    return [commit for some in COMMITS.findall(text) for commit in COMMIT.findall(some)]


def in_history(commit: str) -> bool | None:
    """Whether the commit is in the history; None where there is none to ask (an archive, a shallow clone)."""
    if not (ROOT / ".git").exists() or git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        return None
    return git("merge-base", "--is-ancestor", commit, "HEAD").returncode == 0


@pytest.mark.parametrize("where", sorted(set(TABLES) - set(SET_BY_HAND)))
def test_figures_name_what_made_them(where: str) -> None:
    text = TABLES[where]
    commands = COMMAND.findall(text)
    assert commands, f"{where}: no command or plan of the repository is named beside the table"
    for command in commands:
        assert (ROOT / command).exists(), f"{where}: there is no {command}"
    assert SEEDS.search(text), f"{where}: no seeds are named"
    commits = commits_in(text)
    assert commits, f"{where}: no commit is named (write: commit 0123abc)"
    for commit in commits:
        assert not commit.endswith("-dirty"), f"{where}: {commit} cannot be had again"
        assert in_history(commit) is not False, f"{where}: commit {commit} is not in the history"


def test_the_rule_itself() -> None:
    page = "# A\n\n| a | b |\n|---|---|\n| x | .91 |\n| y | 1.52 [1.4, 1.6] |\n\n# B\n\n| a |\n|---|\n| 3 |\n"
    found = {heading: bool(measured_tables(text)) for heading, text in sections(page)}
    assert found == {"": False, "# A": True, "# B": False}
    assert not measured_tables("| a | b |\n|---|---|\n| `x.1` | v1.2.3 |\n| `0.5` | 0.4.0 |\n")
    assert set(SET_BY_HAND) <= set(TABLES), "an exception that is none any more"
    assert any(where.startswith("README.md") for where in TABLES)
    assert in_history("0" * 40) is not True
    assert commits_in("commit 040dfa4) and (commit `f5dadaa`") == ["040dfa4", "f5dadaa"]
    assert commits_in("seed 3; commit 2353a5b, ebd8864-dirty; load") == ["2353a5b", "ebd8864-dirty"]
    assert commits_in("commits `040dfa4` and f5dadaa for two") == ["040dfa4", "f5dadaa"]
