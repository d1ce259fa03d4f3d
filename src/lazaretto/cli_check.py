"""What `lazaretto data check` prints: the table, its classes and features, and suspected leaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lazaretto.cli_grid import say, show
from lazaretto.data.leaks import Finding, suspected_leaks, table_findings
from lazaretto.errors import DataError, many
from lazaretto.types import Source, Table

__all__ = ["show_check"]

_MOST_FINDINGS = 24
_MOST_LABELS = 16
_LONGEST_LABEL = 60


def show_check(source: Source, path: Path | None, table: Table) -> list[str]:
    """Print what a source has loaded from a path; returns the suspicious features that it keeps."""
    sites = len(np.unique(table.site[table.site >= 0]))
    facts = {
        "windows": len(table.y),
        "steps": int(table.valid.sum()),
        "units": len(np.unique(table.unit)),
        **({"sites": sites} if sites else {}),  # else the plan deals units to sites
        **{name.replace("_", " "): count for name, count in table.counts.items()},
    }
    title = source.name if path is None else f"{source.name} from {path}"
    show(title, ("what", "how many"), [(name, f"{count:,}") for name, count in facts.items()], whole=1)
    show(f"classes (a step is {table.schema.step})", ("class", "steps", "units"), _classes(table), whole=3)
    if table.labels:
        _show_labels(table.labels)
    for modality, names in table.schema.features.items():
        heads = ("feature", "middle", "lowest", "highest", "measured")
        shown = heads if modality in table.schema.irregular else heads[:4]
        show(f"features: {modality}", shown, _features(table, modality), whole=len(shown))
        if len(names) > 1 and not bool(table.present[:, list(table.schema.features).index(modality)].all()):
            say(f"note: {modality} is missing in some windows")
    for note in table.notes:
        say(f"note: {note}")
    if source.raw is not None:
        try:
            _show_findings("Columns as published", suspected_leaks(source.raw(path), dropped=source.leaks))
        except DataError as error:
            say(f"columns as published were not checked for leaks: {error}")
    try:
        kept = table_findings(table)
    except DataError as error:
        say(f"features were not checked for leaks: {error}")
        return []
    _show_findings("Features that the source keeps", kept)
    return sorted({" + ".join(finding.columns) for finding in kept})


def _show_labels(labels: Mapping[tuple[str, str], int]) -> None:
    """What each text of the label column was taken for, commonest first; rows without one are one line."""
    bare = {name for text, name in labels if not text.strip()}
    told = [
        (rows, name or "left out", text[:_LONGEST_LABEL])
        for (text, name), rows in labels.items()
        if text.strip()
    ]
    if bare:
        without = sum(rows for (text, _), rows in labels.items() if not text.strip())
        told.append((without, ", ".join(name or "left out" for name in sorted(bare)), "(none)"))
    ranked = sorted(told, key=lambda entry: (-entry[0], entry[2], entry[1]))
    rows = [(f"{count:,}", name, text) for count, name, text in ranked[:_MOST_LABELS]]
    show("labels in the files", ("rows", "taken for", "label"), rows, whole=2)
    if more := len(ranked) - len(rows):
        say(f"and {many(more, 'more label')}")


def _classes(table: Table) -> list[tuple[str, ...]]:
    steps = np.where(table.valid, table.y_step, -1)
    return [
        (
            name,
            f"{(steps == number).sum():,}",
            f"{len(np.unique(table.unit[(steps == number).any(axis=1)])):,}",
        )
        for number, name in enumerate(table.schema.classes)
    ]


def _features(table: Table, modality: str) -> list[tuple[str, ...]]:
    here = table.present[:, list(table.schema.features).index(modality)]
    values = table.x[modality][here][table.valid[here]]
    told = []
    for name, column in zip(table.schema.features[modality], values.T, strict=True):
        held = column[~np.isnan(column)]
        figures = (np.median(held), held.min(), held.max()) if len(held) else ()
        row = (name, *(f"{figure:.4g}" for figure in figures), *["n/a"] * (3 - len(figures)))
        if modality in table.schema.irregular:
            row = (*row, f"{len(held) / max(len(column), 1):.1%} of steps")
        told.append(row)
    return told


def _show_findings(title: str, findings: Sequence[Finding]) -> None:
    if not findings:
        say(f"{title}: none tells attack from normal too well.")
        return
    rows = [
        (
            "n/a" if finding.auroc is None else f"{finding.auroc:.3f}",
            " + ".join(finding.columns),
            f"{finding.why}; " + (f"dropped: {finding.dropped}" if finding.dropped else finding.advice),
        )
        for finding in findings[:_MOST_FINDINGS]
    ]
    show(
        f"{title}: what may give the label away", ("AUROC", "column", "why, and what is done or to do"), rows
    )
    if len(findings) > len(rows):
        say(f"and {len(findings) - len(rows)} more")
