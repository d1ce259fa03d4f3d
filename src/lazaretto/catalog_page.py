"""The page docs/catalog.md, from the parts themselves: nobody writes an entry by hand."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence

from lazaretto import catalog
from lazaretto.attack_types import Attack
from lazaretto.compress_types import Compressor
from lazaretto.privacy.mechanism import Mechanism
from lazaretto.types import Rule

__all__ = ["catalog_page"]

_SITES = 20  # at which what a rule claims for n sites is shown
_LINK = re.compile(r"https?://[^\s,;)]+|arXiv:\d{4}\.\d{4,5}|(?<![/\w])doi\.org/[^\s,;)]+")
_HEAD = """\
# Catalog

Every part that there is, from its own file: what it is, the options that it takes with their defaults, and
its papers. [Parts](parts.md) says what the families are for, and how to add one; a new file comes in here by
itself.

This page is written by `scripts/docs` from docstrings, signatures and declared properties of the parts."""


def catalog_page() -> str:
    """The whole page as Markdown, parts of LAZARETTO_PATH included; ends with a line break."""
    sections = [_HEAD]
    for family in catalog.FAMILIES:
        heads, cells = _COLUMNS.get(family, ((), _nothing))
        lines = [f"## {family[:1].upper()}{family[1:].replace('_', ' ')}", ""]
        if family in _NOTES:
            lines += [_NOTES[family], ""]
        lines += [_row(("name", "what it is", *heads, "options", "papers")), "|---" * (4 + len(heads)) + "|"]
        lines += [_row((f"`{name}`", *_entry(family, name, cells))) for name in catalog.names(family)]
        sections.append("\n".join(lines))
    return "\n\n".join(sections) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _entry(family: str, name: str, cells: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    return (
        _plain(catalog.describe(family, name)),
        *cells(name),
        ", ".join(_option(one) for one in catalog.options(family, name).values()) or "none",
        ", ".join(_papers(inspect.getdoc(catalog.factory(family, name)) or "")) or "–",
    )


def _plain(text: str) -> str:
    """Text that can stand in a table."""
    return text.replace("|", "\\|")


def _option(option: inspect.Parameter) -> str:
    if option.default is inspect.Parameter.empty:
        return f"`{option.name}`"
    return f"`{option.name} = {_plain(repr(option.default))}`"


def _papers(text: str) -> list[str]:
    """Links in the order in which they are named, each once."""
    links = dict.fromkeys(found.rstrip(".`'\"") for found in _LINK.findall(text))
    return [_linked(link) for link in links]


def _linked(link: str) -> str:
    if link.startswith("arXiv:"):
        return f"[{link}](https://arxiv.org/abs/{link.removeprefix('arXiv:')})"
    target = link if link.startswith("http") else f"https://{link}"
    return f"[{target.partition('://')[2]}]({target})"


def _nothing(name: str) -> tuple[str, ...]:
    return ()


def _of_rule(name: str) -> tuple[str, ...]:
    rule: Rule = catalog.build("rules", name)
    sees = {"sum": "sum", "gram": "inner products", "rows": "updates"}[rule.sees]
    more = [*rule.public, *(["history"] if rule.history else [])]
    return (
        sees + (f", {', '.join(more)}" if more else "") + (" (mixes)" if rule.mixes else ""),
        str(rule.tolerates(_SITES)),
        ", ".join(sorted(rule.equivariance)) or "–",
        f"{rule.most_on_one(_SITES):.2g}",
    )


def _of_attack(name: str) -> tuple[str, ...]:
    attack: Attack = catalog.build("attacks", name)
    kinds = {
        "updates": "updates",
        "data": "training data",
        "scaling": "scaling counts",
        "scores": "scores for thresholds",
    }
    knows = {"own": "its own", "honest": "honest updates", "rule": "honest updates and the rule"}
    both = " and training data" if attack.poison is not None and attack.craft is not None else ""
    return kinds[attack.kind] + both, knows[attack.knows], "yes" if attack.trigger is not None else "no"


def _of_compressor(name: str) -> tuple[str, ...]:
    made: Compressor = catalog.build("compressors", name)
    return tuple("yes" if says else "no" for says in (made.linear, made.unbiased, made.feedback))


def _of_mechanism(name: str) -> tuple[str, ...]:
    made: Mechanism = catalog.build("mechanisms", name)
    return made.unit, made.sampling.replace("_", " ")


_COLUMNS: dict[str, tuple[tuple[str, ...], Callable[[str], tuple[str, ...]]]] = {
    "rules": (("sees", "withstands", "follows", "most on one"), _of_rule),
    "attacks": (("falsifies", "knows", "trigger"), _of_attack),
    "compressors": (("linear", "unbiased", "feedback"), _of_compressor),
    "mechanisms": (("unit", "sampling"), _of_mechanism),
}
_NOTES = {
    "rules": (
        f"With default options and {_SITES} sites: how many hostile ones a rule withstands, which changes of "
        "its input it follows (translation, scale), and the largest weight that one update can get. "
        "[What that means](rules.md)."
    ),
    "attacks": "[What each is for, and what it has to know](attacks.md).",
    "compressors": "With default options. Linear ones can be summed before anyone decodes them. "
    "[What that means](compression.md).",
    "mechanisms": "With default options. [Whom each protects, and what it costs](privacy.md).",
}
