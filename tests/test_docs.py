"""Documents tell the truth: keys, commands, parts, scripts and links in them exist, and none is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from lazaretto import catalog
from lazaretto.catalog_page import catalog_page
from lazaretto.cli import app
from lazaretto.plan import known_keys, toml_value

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
KEYS = {key.name: key for key in known_keys()}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#{1,6} +(.+)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def commands(page: Path) -> Iterator[list[str]]:
    """Words of each `lazaretto ...` and `scripts/...` line in a page's code."""
    code = re.findall(r"```[a-z]*\n(.*?)```", text_of(page), flags=re.DOTALL)
    code += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL))
    for block in code:
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ").partition("  #")[0]
            if re.match(r"(\.venv/bin/)?lazaretto [a-z-]|(\./)?scripts/[a-z]", line):
                yield shlex.split(line.removeprefix(".venv/bin/").removeprefix("./"))


def command_of(words: list[str]) -> tuple[typer.core.TyperCommand | typer.core.TyperGroup, list[str]]:
    here, rest = get_command(app), words
    while rest and hasattr(here, "commands") and rest[0] in here.commands:
        here, rest = here.commands[rest[0]], rest[1:]
    return here, rest


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(
        r"!?\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    ):
        if re.match(r"[a-z]+:", target):
            assert target.startswith(("https://", "mailto:")), f"{name_of(page)}: {target}"
            continue
        place, _, anchor = target.partition("#")
        there = (page.parent / place).resolve() if place else page
        assert there.exists(), f"{name_of(page)} links to {target}, which is not there"
        assert there == ROOT or ROOT in there.parents, (
            f"{name_of(page)} links out of the repository: {target}"
        )
        if anchor:
            assert anchor in anchors(there), f"{name_of(page)} links to {target}, which has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page: Path) -> None:
    for words in commands(page):
        where = f"{name_of(page)}: {' '.join(words)}"
        if words[0].startswith("scripts/"):
            assert (ROOT / words[0]).is_file(), where
            continue
        if words[1].startswith("-"):
            continue
        command, rest = command_of(words[1:])
        assert command is not get_command(app), f"{where}: no such command"
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for word in rest:
            if word.startswith("--"):
                assert word.partition("=")[0] in options, f"{where}: no option {word}"
        for place, word in enumerate(rest):
            if word.endswith(".toml") and word.startswith("examples/"):
                assert (ROOT / word).is_file(), f"{where}: no {word}"
            if word == "--set" and words[1] == "run":
                key = rest[place + 1].partition("=")[0]
                assert key in KEYS or ".".join(key.split(".")[:2]) in KEYS or key == "key", (
                    f"{where}: no key {key}"
                )


@pytest.mark.parametrize("page", [*PAGES, ROOT / "examples" / "own_flows.toml"], ids=name_of)
def test_own_tables_are_checked_with_the_plan_that_names_their_columns(page: Path) -> None:
    for line in re.findall(r"data check flows_csv[^`\n]*", text_of(page)):
        assert "--plan own_flows.toml" in line, f"{name_of(page)}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_exist(page: Path) -> None:
    sections = {name.partition(".")[0] for name in KEYS}
    for word in re.findall(r"`([a-z_]+\.[a-z_]+)(?:[`= ])", text_of(page)):
        section, _, leaf = word.partition(".")
        if section in sections and leaf not in ("py", "md", "toml", "sqlite", "html", "json"):
            assert word in KEYS, f"{name_of(page)} names the key {word}, which does not exist"


def test_every_key_is_documented_with_its_default() -> None:
    page = text_of(ROOT / "docs" / "plan.md")
    for name, key in KEYS.items():
        row = f"| `{name}` | `{toml_value(key.default)}` | {key.takes} | {key.meaning} |"
        assert row in page, f"docs/plan.md lacks this row (write it with scripts/docs):\n{row}"
    named = set(re.findall(r"^\| `([^`]+)`", page, flags=re.MULTILINE))
    assert named == set(KEYS), "docs/plan.md names keys that do not exist"


def test_every_command_is_documented() -> None:
    documented = "\n".join(map(text_of, PAGES))
    top = get_command(app)
    for name, command in top.commands.items():  # type: ignore[attr-defined]
        for full in [f"{name} {below}" for below in getattr(command, "commands", {})] or [name]:
            assert f"lazaretto {full}" in documented, f"no page says what `lazaretto {full}` does"


def test_every_part_is_documented() -> None:
    page = text_of(ROOT / "docs" / "parts.md")
    for family in set(catalog.FAMILIES) - {"rules", "attacks"}:
        for name in catalog.names(family):
            assert f"| `{name}` |" in page, f"docs/parts.md lacks {name} of {family}"
    for name in re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE):
        assert any(name in catalog.names(family) for family in catalog.FAMILIES), f"there is no part {name}"


def test_the_catalog_is_what_the_parts_say() -> None:
    page = catalog_page()
    assert text_of(ROOT / "docs" / "catalog.md") == page, "write it with scripts/docs"
    for family in catalog.FAMILIES:
        for name in catalog.names(family):
            assert f"| `{name}` | {catalog.describe(family, name)}".replace("|", "") in page.replace("|", "")


def test_every_record_has_its_parts() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        for head in ("## Context", "## Alternatives", "## Decision", "## Consequences"):
            assert head in text_of(path), f"{name_of(path)} lacks '{head}'"


def test_the_readme_promises_what_is_there() -> None:
    readme = text_of(ROOT / "README.md")
    for command in ("./scripts/demo", "./scripts/test"):
        assert command in readme
        path = ROOT / command
        assert path.is_file()
        assert path.stat().st_mode & 0o111, f"{command} has no run bit"
    plans = re.findall(r"```toml\n(.*?)```", readme, flags=re.DOTALL)
    assert plans, "the README shows a plan"


def test_nothing_names_a_machine_or_a_registry() -> None:
    hosts = ["pypi" + ".org", "python" + "hosted", "registry." + "npmjs"]
    places = ["/" + "work/", "/" + "root/", "/" + "tmp/"]
    suffixes = {".py", ".md", ".toml", ".lock", ""}
    folders = ["src", "docs", "examples", "scripts", "tests", ".ci"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    for path in files:
        if path.suffix in suffixes and "__pycache__" not in path.parts and path.name != ".git":
            text = text_of(path)
            for word in hosts + places:
                assert word not in text, f"{name_of(path)} names {word}"
