"""Section for who has to answer for privacy: who is protected, what it cost whom, what attackers reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazaretto.report.blocks import Block, Cell, Code, Column, Facts, Grid, Picture, Row, Section, Text, Tone
from lazaretto.report.figures_privacy import utility_over_epsilon
from lazaretto.report.formats import (
    NOT_AVAILABLE,
    Triple,
    count,
    counted,
    fixed,
    interval_text,
    items,
    mapping,
    number,
    percent,
    triple,
    words,
)
from lazaretto.report.parts import nothing, picture
from lazaretto.report.privacy_reading import Attacker, Promise, attackers_of, level_of, promise_of
from lazaretto.report.privacy_words import (
    NOBODY,
    attacker_title,
    decimal,
    epsilon_text,
    noise_text,
    privacy_paragraph,
    unit_text,
)
from lazaretto.report.reading import OURS, REFERENCES, Log, system_key, system_name, systems

__all__ = ["beyond", "privacy"]

_WHAT = {
    "training": "Training",
    "scaling": "Counts for scaling",
    "thresholds": "Counts for thresholds",
    "metrics": "Published figures",
}
_MECHANISMS = {
    "dp_sgd": "DP-SGD: gradients clipped one by one, noise on their sum",
    "dp_ftrl": "DP-FTRL: as DP-SGD, in a fixed order, with noise that later steps take back in part",
    "site_noise": "updates of sites clipped one by one, noise on their sum",
}
_CLAIMS: dict[str, tuple[str, Tone]] = {
    "broken": ("✗ broken", "no"),
    "doubted": ("~ doubtful", "partly"),
    "kept": ("not broken", ""),
    "": ("no claim", "faint"),
}
_REACHED: dict[str, tuple[str, Tone]] = {
    "yes": ("✗ yes", "no"),
    "unsure": ("~ not certain", "partly"),
    "no": ("not seen", ""),
    "unknown": (NOT_AVAILABLE, "faint"),
}


def privacy(log: Log) -> Section:
    """What a run promises, to whom, and what attacks on it reached; one sentence where there is nothing."""
    promise, attackers = promise_of(log), attackers_of(log)
    blocks: list[Block] = []
    if promise is None:
        blocks.append(_without(log))
    else:
        alone = _not_charged(log)
        level = level_of(promise, attackers)
        alarming = level in ("refuted", "doubted", "unbounded")
        text = privacy_paragraph(promise, attackers, alone)
        blocks.append(Text(text=text, tone="warning" if alarming else ""))
        blocks.append(_facts(promise))
        blocks.append(_charges(promise))
        blocks.append(_uncovered(log, promise, alone))
    if attackers:
        blocks.append(_attackers(attackers))
    elif promise is not None:
        blocks.append(
            nothing(log, "No audit was run, so this page shows a claim and no attempt to break it.")
        )
        blocks.append(Code(text="lazaretto audit DIR"))
    if (curve := _curve(log)) is not None:
        blocks.append(curve)
    return Section(name="privacy", title="Privacy", nav="Privacy", blocks=tuple(blocks))


def _without(log: Log) -> Text:
    """The one sentence of a run without a promise."""
    asked = mapping(mapping(log.last("run").get("plan")).get("privacy")).get("mechanism")
    if asked is not None and asked != "none":
        return nothing(
            log,
            "The plan asks for privacy, but the log does not say what it cost: take nobody for protected.",
        )
    return Text(text=NOBODY, tone="note")


def _not_charged(log: Log) -> list[str]:
    """Systems of the report that were trained besides ours, or are to be."""
    covered = {OURS, "supervised_only"}
    covered |= {name for name in REFERENCES if name.startswith(("without_", "with_"))}
    asked = [system_key(name) for name in items(log.last("privacy").get("baselines"))]
    return [name for name in dict.fromkeys([*systems(log), *asked]) if name not in covered]


def _facts(promise: Promise) -> Facts:
    body = promise.body
    noise, clip, rate = (number(body.get(key)) for key in ("noise_multiplier", "clip", "rate"))
    steps, rounds = number(body.get("steps")), number(body.get("rounds"))
    sampling = {
        "poisson": f"each example by itself, with probability {percent(rate) if rate else NOT_AVAILABLE}",
        "fixed_order": "nobody is drawn: all take turns in a fixed order",
        "everyone": "nobody is drawn: all take part in every step",
    }.get(str(body.get("sampling")), NOT_AVAILABLE)
    each = "each site's update" if promise.unit == "site" else "one example's gradient"
    adaptive = " at first; it adapts" if number(body.get("quantile")) is not None else ""
    name, times = str(body.get("mechanism") or ""), number(body.get("appearances")) or 1
    pairs = [
        ("Who", unit_text(promise)),
        ("Cost of one such unit", epsilon_text(promise.epsilon)),
        ("δ: may fail with probability", NOT_AVAILABLE if promise.delta is None else decimal(promise.delta)),
        ("Mechanism", _MECHANISMS.get(name, words(name) or NOT_AVAILABLE)),
        ("Steps", f"{counted(rounds, 'round')} of {count(steps)}" if rounds and steps else NOT_AVAILABLE),
        ("Who is in a step", sampling),
        ("A record is in", f"{count(times)} window{'s' if times > 1 else ''} at most"),
        ("Longest that counts", f"{decimal(clip)}, of {each}{adaptive}" if clip else NOT_AVAILABLE),
        ("Noise", f"{decimal(noise)} times that" if noise else NOT_AVAILABLE),
        ("Noise is from", noise_text(promise)),
    ]
    if promise.repetitions > 1:
        pairs.insert(2, ("of which one repetition", epsilon_text(promise.once)))
    if promise.every is not None or body.get("all_runs_epsilon") is not None:
        pairs.insert(2, ("All runs of the budget file", epsilon_text(promise.every)))
    limit = number(body.get("limit"))
    if limit is not None:
        whole = "the whole run" if body.get("limit_of") == "run" else "each repetition"
        pairs.insert(2, ("Limit in the plan", f"{epsilon_text(limit)}, of {whole}"))
    return Facts(pairs=tuple(pairs))


def _charges(promise: Promise) -> Grid:
    rows, seen = [], set[str]()
    totals, whole = (mapping(promise.body.get(key)) for key in ("by_part", "run_by_part"))
    charges = [mapping(row) for row in items(promise.body.get("charges"))]
    parts = list(dict.fromkeys(str(row.get("part")) for row in charges))
    for part in parts:
        own = [row for row in charges if str(row.get("part")) == part]
        for row in own:
            rows.append(
                Row(
                    head=_WHAT.get(str(row.get("what")), words(row.get("what"))),
                    note=str(row.get("words") or ""),
                    group="" if part in seen else part[:1].upper() + part[1:],
                    cells=(_price(row.get("epsilon")),),
                )
            )
            seen.add(part)
        if len(own) > 1:
            rows.append(Row(head="Together", cells=(_price(totals.get(part)),), total=True))
        if promise.repetitions > 1 and part in whole:
            head = f"All {count(promise.repetitions)} repetitions"
            rows.append(Row(head=head, cells=(_price(whole.get(part)),), total=True))
    return Grid(
        caption="What was charged to whom",
        first="What leaves the sites",
        columns=(Column(title="ε", hint="of one unit, once"),),
        rows=tuple(rows),
        note="Of one repetition where nothing else stands; no unit is in two of its parts. Together is less "
        "than the sum: one accountant (privacy loss distributions) composes it all."
        if rows
        else "The log holds no charges.",
    )


def _price(value: Any) -> Cell:
    found = number(value)
    if found is None:
        return Cell(text="✗ no bound", tone="no")
    return Cell(text=epsilon_text(found).removeprefix("ε = "))


def _uncovered(log: Log, promise: Promise, alone: Sequence[str]) -> Grid:
    unit = {"record": "window", "patient": "stream", "site": "site"}.get(promise.unit, "unit")
    plan = mapping(log.last("run").get("plan"))
    tuned = sorted(name for name, own in mapping(plan.get("tuned")).items() if own)
    rows = [
        ("Test units", "Exact figures of judging are published of them. Nobody trains on them."),
        (
            "What devices and site exchange",
            "Activations and gradients at the cut count as inside: a site may read its devices' data there.",
        ),
        (
            "How much data there is",
            "The data sheet below counts units and steps exactly by site and part, and what test units hold.",
        ),
        (
            "How long it took",
            "Seconds of a round depend on how many examples are in it, which otherwise nobody is told.",
        ),
        (
            "How settings were found",
            "Trying settings on this data is a run for every try, and none is counted here"
            + (f": {', '.join(system_name(name) for name in tuned)} have tuned ones." if tuned else "."),
        ),
    ]
    if mapping(plan.get("train")).get("start"):
        rows.append(
            ("The model it began from", "What that tells of the data it was trained on is not charged here.")
        )
    if promise.every is None:
        rows.append(("Other runs on this data", "No budget file adds them up: this page knows of none."))
    if log.all("audit"):
        rows.append(
            (
                "Audits",
                "What attackers reached (below) is exact of the units they attack: no mechanism covers it.",
            )
        )
    if promise.body.get("deals_anew"):
        rows.append(
            (
                "Who has what",
                "This source deals units by counting, and may forge some: who is where can depend on others.",
            )
        )
    if promise.unit == "record":
        rows.append(
            (
                "Many windows together",
                "Each is covered alone. What is in k of them costs up to k times the ε, and more δ.",
            )
        )
    if promise.unit != "site":
        rows.append(("A site as a whole", f"That a site takes part, and what is true of each {unit} it has."))
    if promise.body.get("deals_anew") and promise.repetitions > 1:
        rows.insert(
            1,
            (
                "Units that change their part",
                "Dealt anew with every seed: who is judged in one repetition is not protected in it.",
            ),
        )
    if alone:
        names = ", ".join(system_name(name) for name in alone)
        rows.append(
            (
                "Systems to compare with",
                f"Trained on the same data, most without noise, and not charged: {names}.",
            )
        )
    return Grid(
        caption="What the promise does not cover",
        first="What",
        columns=(Column(title="Why", numeric=False),),
        rows=tuple(Row(head=head, cells=(Cell(text=why),)) for head, why in rows),
    )


def _attackers(attackers: Sequence[Attacker]) -> Grid:
    claims = (
        " No claim: the run promises nothing that this figure could break."
        if not all(one.claim for one in attackers)
        else ""
    )
    return Grid(
        caption="What each attacker reached, and what it reaches without the run",
        first="Attack",
        columns=(
            Column(title="Reached", hint="interval"),
            Column(title="Without", hint="the run"),
            Column(title="More", hint="than without?", numeric=False),
            Column(title="Claim", numeric=False),
        ),
        rows=tuple(_attacker_row(one) for one in attackers),
        stacked=True,
        note="Without the run: the same figure for somebody who saw nothing of it, in the way that is named "
        "below the attack. Where the figure is an error, a smaller one tells more."
        + claims
        + " Not seen and "
        "not broken are no proof: a better attacker may reach more.",
    )


def _attacker_row(one: Attacker) -> Row:
    value = None if one.value is None else Triple(one.value, one.low, one.high)
    decimals = _digits(one)
    text, _, under = interval_text(value, decimals).partition(" [")
    claim, claim_tone = _CLAIMS[one.claim]
    reached, tone = beyond(one)
    floor = NOT_AVAILABLE if one.floor is None else fixed(one.floor, decimals)
    known = str(one.body.get("floor_words") or "")
    beside = (
        f"{'to be refused' if one.in_time else 'without the run'}: {known}"
        if known and not (one.in_time and one.floor is None)
        else ""
    )
    said = [part.rstrip(".") for part in (one.measured, str(one.body.get("words") or ""), beside) if part]
    return Row(
        head=attacker_title(one) or words(one.name) or "unnamed",
        note="".join(f"{part[:1].upper()}{part[1:]}. " for part in said).strip(),
        cells=(
            Cell(text=text, under=f"[{under}" if under else ""),
            Cell(text=floor),
            Cell(text=reached, tone=tone),
            Cell(
                text=claim,
                tone=claim_tone,
                under=f"of {epsilon_text(one.claimed)}" if one.claim and one.claimed is not None else "",
            ),
        ),
    )


def beyond(one: Attacker) -> tuple[str, Tone]:
    """Whether an attacker reached more than its floor, in words, and how they are to look."""
    reached, tone = _REACHED[one.reached]
    if one.in_epsilon:
        return "see the claim", "faint"
    if one.in_time and one.value is None and one.floor is None:  # nothing was tried: nobody could notice
        return "nobody could notice", "faint"
    if one.in_time and one.reached in ("yes", "no"):
        return ("✗ not noticed" if one.reached == "yes" else "noticed"), tone
    return reached, tone


def _digits(one: Attacker) -> int:
    """Decimals of a value and of the floor beside it: the same, and as many as a small floor needs."""
    known = [abs(found) for found in (one.value, one.floor) if found is not None]
    if one.in_time:
        return 0 if all(found == round(found) for found in known) else 1
    decimals = 1 if known and known[0] >= 10 else 3
    while decimals < 6 and any(0 < found < 0.95 * 10**-decimals for found in known):
        decimals += 1
    return decimals


def _curve(log: Log) -> Picture | None:
    body = log.last("privacy curve")
    found: dict[float, tuple[Triple, float | None]] = {}
    for row in map(mapping, items(body.get("points"))):
        epsilon, middle = number(row.get("epsilon")), number(row.get("auroc"))
        value = triple({"value": middle, "low": row.get("low"), "high": row.get("high")})
        if epsilon is not None and 0 < epsilon <= 1e6 and value is not None:
            found[epsilon] = (value, number(row.get("seed_count")))
    if len(found) < 2:
        return None
    points = [(epsilon, found[epsilon][0]) for epsilon in sorted(found)]
    without = body.get("reference")
    reference = triple(without)
    (first, low), (last, high) = points[0], points[-1]
    finding = f"AUROC is {interval_text(low)} at ε = {decimal(first)} and {interval_text(high)} at ε = "
    finding += decimal(last)
    finding += f"; without privacy {interval_text(reference)}." if reference is not None else "."
    seeds = sorted({int(many) for _, many in found.values() if many is not None})
    caption = "Bars: 95\u202f% intervals."
    if seeds:
        span = count(seeds[0]) if len(seeds) == 1 else f"{count(seeds[0])} to {count(seeds[-1])}"
        caption += f" {span} seed{'' if seeds == [1] else 's'} at each point."
    names = [decimal(epsilon) for epsilon, _ in points]
    texts = ("What privacy costs in detection", caption, finding)
    return picture("utility", texts, lambda wide: utility_over_epsilon(points, reference, names, wide))
