"""What `lazaretto sweep` prints when it is done: a row for each system, rule, or point of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lazaretto.cli_grid import say, show
from lazaretto.report.formats import counted, fixed

__all__ = ["show_robustness", "show_sweep"]


def show_sweep(result: Mapping[str, Any]) -> None:
    """Print what `run_sweep` returned."""
    draws = result["results"]
    if result["mode"] == "tuning":
        heads = ("system", "best", "AUROC", "as it was", "failed", "minutes")
        rows = [
            _system(name, [draw for draw in draws if draw["system"] == name], result["best"].get(name))
            for name in result["systems"]
        ]
        show(f"{counted(result['draws'], 'draw')} for each system", heads, rows, whole=2)
        say("best: its draw, 1 is the plan as it was. tuned.toml holds what was found.")
    else:
        keys = result["keys"]
        several = len(result["systems"]) > 1
        heads = (*(["system"] if several else []), *keys, "AUROC", "95 %", "s/round", "MB/round")
        show("grid", heads, [_point(draw, keys, several) for draw in draws], whole=len(heads))
    seeds = ", ".join(map(str, result["seeds"]))
    say(f"{result['criterion']} ({seeds}); test units were not looked at.")
    if result["quick"]:
        say(f"A quick look: {counted(result['rounds'], 'round')} and one seed.")


def _system(name: str, draws: Sequence[Mapping[str, Any]], best: int | None) -> tuple[str, ...]:
    chosen = next((draw for draw in draws if draw["number"] == best), None)
    minutes = sum(draw["seconds"] for draw in draws) / 60
    return (
        name,
        "n/a" if best is None else str(best + 1),
        "n/a" if chosen is None else _area(chosen),
        _area(draws[0]),
        str(sum(draw["failed"] is not None for draw in draws)),
        f"{minutes:.1f}",
    )


def _point(draw: Mapping[str, Any], keys: Sequence[str], several: bool) -> tuple[str, ...]:
    triple, seconds, sent = draw["auroc"], draw["seconds_per_round"], draw["bytes_per_round"]
    between = "n/a" if triple["low"] is None else f"{fixed(triple['low'], 3)} to {fixed(triple['high'], 3)}"
    return (
        *([draw["system"]] if several else []),
        *(str(draw["settings"][key]) for key in keys),
        draw["failed"] or _area(draw),
        between,
        "n/a" if seconds is None else f"{seconds:.2f}",
        "n/a" if sent is None else f"{sent / 1e6:.2f}",
    )


def _area(draw: Mapping[str, Any]) -> str:
    value = draw["auroc"]["value"]
    return "n/a" if value is None else fixed(value, 4)


def show_robustness(result: Mapping[str, Any]) -> None:
    """Print what `run_robustness` returned: what each rule reaches without an attack and under its worst."""
    share = f"{result['screen_share']:g}"
    heads = ("rule", "AUROC", "worst attack", "AUROC", "F1", "F1 attacked")
    rows = []
    for rule in result["rules"]:
        tree, worst = result["robustness"][rule], result["worst"][rule]
        honest, hit = tree["none"]["0"], tree[worst][share]
        before, after = _three(honest["auroc"]), _three(hit["auroc"])
        rows.append((rule, before, worst, after, _three(honest["f1"]), _three(hit["f1"])))
    rows.sort(key=lambda row: row[3].lstrip("<>"), reverse=True)
    show(f"{result['screen_share']:.0%} hostile sites, the worst attack of each rule", heads, rows, whole=3)
    seeds = ", ".join(map(str, result["seeds"]))
    say(f"{result['criterion']}, seeds {seeds}; test units were not looked at.")
    for rule, why in result["left_out"].items():
        say(f"Left out: {rule} ({why}).")
    if result["quick"]:
        say("A quick look: one seed, one share, few rules and attacks.")


def _three(triple: Mapping[str, Any]) -> str:
    return "n/a" if triple["value"] is None else fixed(triple["value"], 3)
