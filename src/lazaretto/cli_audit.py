"""What `lazaretto audit` prints: what each attack reached, with and without the run, and what was claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lazaretto.cli_grid import say, show
from lazaretto.report.formats import fixed
from lazaretto.report.privacy_reading import attacker_of
from lazaretto.report.sections_privacy import beyond

__all__ = ["show_audits"]


def show_audits(found: Sequence[Mapping[str, Any]], *, again: bool = False) -> None:
    """Print what `audit_run` returned. again: whether the run had been audited before."""
    heads = ("attack", "reached", "95 %", "without the run", "claimed epsilon", "seconds")
    show("audits", heads, [_row(body) for body in found], whole=len(heads))
    for body in found:
        if "idle" not in body:
            say(f"{body['name']}: {body['measured']}; {_beyond(body)}. {body['words']}.")
    if again:
        newer = any(body["name"] == "canaries" and "idle" not in body for body in found)
        canaries = " metrics.json now has the newer figure of the canaries." if newer else ""
        say(
            f"This run was audited before.{canaries} The report shows the earlier audits, too, as none is "
            "left out for a later one that found less."
        )


def _beyond(body: Mapping[str, Any]) -> str:
    """Whether it reached more than its floor; what names an epsilon is held against the one claimed."""
    found = attacker_of(body, None)
    if found.in_epsilon:
        return "beside the claimed epsilon"
    said = beyond(found)[0].lstrip("✗~ ")
    return said if found.in_time else f"more than without the run: {said}"


def _row(body: Mapping[str, Any]) -> tuple[str, ...]:
    if "idle" in body:
        return (body["name"], f"n/a: {body['idle']}", *["n/a"] * 3, f"{body['seconds']:.0f}")
    between = "n/a" if body["low"] is None else f"{fixed(body['low'], 3)} to {fixed(body['high'], 3)}"
    return (
        body["name"],
        "n/a" if body["value"] is None else fixed(body["value"], 3),
        between,
        "n/a" if body["floor"] is None else f"{body['floor']:g}",
        "n/a" if body["claimed_epsilon"] is None else f"{body['claimed_epsilon']:.2f}",
        f"{body['seconds']:.0f}",
    )
