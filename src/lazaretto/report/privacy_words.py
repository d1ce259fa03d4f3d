"""Privacy in plain words: never stronger than what the log shows. Every word here is ours, none the log's."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lazaretto.report.formats import count, counted, percent, plain
from lazaretto.report.privacy_reading import Attacker, Promise, delta_is_large, level_of

__all__ = [
    "NOBODY",
    "attacker_title",
    "decimal",
    "epsilon_text",
    "noise_text",
    "privacy_paragraph",
    "unit_text",
]

NOBODY = (
    "Nothing bounds what this run tells of the data it was trained on: no noise was put on what left the "
    "sites, so take nobody for protected."
)
_TITLES = (
    ("canar", "Canaries, put in by a coin", "telling canaries put in by a coin"),
    ("membership", "Membership: was this record in?", "telling members from others"),
    ("class mix", "A site's mix of classes", "reading a site's mix of classes"),
    ("property", "A site's mix of classes", "reading a site's mix of classes"),
    ("gradient", "Windows rebuilt from an update", "rebuilding windows from an update"),
    ("activation", "Readings rebuilt from activations", "rebuilding readings from activations"),
    ("hijack", "A site that hijacks the split", "hijacking the split"),
)
_SURE = 0.9995


def decimal(value: float) -> str:
    """Three digits or so, never rounded down to look smaller than it is; 1e-5 as 10 to that power."""
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e6:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}".replace("-", "\u2212")
    decimals = 0 if size == round(size) else max(0, min(4, 2 - math.floor(math.log10(size))))
    return plain(value, decimals)


def epsilon_text(epsilon: float | None) -> str:
    """`ε = 7.99`, rounded up, or that there is none."""
    if epsilon is None:
        return "no bound"
    if epsilon >= 1e6:
        return "ε above a million"
    scale = 100 if epsilon < 100 else 1
    return f"ε = {plain(math.ceil(round(epsilon * scale, 6)) / scale, 2 if scale == 100 else 0)}"


def unit_text(promise: Promise) -> str:
    """Who is protected, or would be, as a phrase."""
    steps = f" of {counted(promise.window, 'step')}" if promise.window else ""
    return {
        "record": f"one window{steps} of one stream (a device, or a patient's record)",
        "patient": "one whole stream (a patient, or a device), with all that is in it",
        "site": "one site, with all that it has",
    }.get(promise.unit, "a unit that the log does not name")


def noise_text(promise: Promise) -> str:
    """Where the noise came from."""
    return {
        "system": "the operating system's cryptographic generator, keyed anew: nobody can draw it again",
        "seed": "the seed of a simulation: whoever knows the seed can take the noise off",
    }.get(promise.noise, "not recorded: take it for known")


def attacker_title(attacker: Attacker) -> str:
    """How the report calls an audit; a name that it does not know as it is."""
    return next((title for part, title, _ in _TITLES if part in _plain(attacker)), "")


def _plain(attacker: Attacker) -> str:
    return attacker.name.lower().replace("_", " ")


def privacy_paragraph(
    promise: Promise, attackers: Sequence[Attacker], unprotected: Sequence[str] = ()
) -> str:
    """One paragraph for who has to answer for it. unprotected: systems whose training is not charged."""
    level = level_of(promise, list(attackers))
    said = []
    if level in ("refuted", "doubted"):
        said.append(_contradiction(attackers))
    said.append(_claim(promise, level))
    if level not in ("unbounded", "refuted", "doubted"):
        said += [_meaning(promise, level), _grade(promise, level)]
    said += [_tried(attackers), _uncovered(promise, attackers, unprotected)]
    return " ".join(part for part in said if part)


def _contradiction(attackers: Sequence[Attacker]) -> str:
    broken = [one for one in attackers if one.claim == "broken"]
    if not broken:
        return (
            "An audit's estimate is above what this run claims, though its interval is not: find out why "
            "before anyone relies on the claim."
        )
    worst = max(broken, key=lambda one: (one.in_epsilon, one.value or 0.0))
    least = worst.value if worst.low is None else worst.low
    figure = (
        f": it shows ε of at least {decimal(least)}, and {decimal(worst.claimed)} is claimed"
        if worst.in_epsilon and least is not None and worst.claimed is not None
        else ""
    )
    return (
        f"An audit reached more than this run claims{figure}. The claim does not hold: something in the "
        "training or in the accounting is at fault, and nobody should rely on it."
    )


def _claim(promise: Promise, level: str) -> str:
    unit, price = unit_text(promise), epsilon_text(promise.epsilon)
    if level == "unbounded":
        open_ended = [str(one.get("what")) for one in _unpriced(promise)]
        why = (
            " Beside the training, exact counts leave the sites, and those have no price."
            if open_ended and promise.training is not None
            else ""
        )
        return f"Nothing bounds what this run as a whole tells of {unit}: take nobody for protected.{why}"
    price = f"{price} at δ = {decimal(promise.delta or 0.0)}"
    if level in ("refuted", "doubted"):
        return f"It was said to cost {unit} {price}."
    together = _together(promise)
    if level == "simulated":
        how = (
            "This was a simulation: its noise can be taken off by whoever knows the seed that it comes from"
            if promise.noise == "seed"
            else "The log does not say where the noise came from, so it may be known to somebody"
        )
        return (
            f"{how}. So this run itself protects nobody; it shows what the same plan would cost with noise "
            f"of the operating system's generator: {price} for {unit}{together}."
        )
    return f"All that left the sites in training and for thresholds costs {unit} {price}{together}."


def _unpriced(promise: Promise) -> list[dict[str, object]]:
    rows = promise.body.get("charges")
    return [
        row
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and row.get("part") == "training units" and row.get("epsilon") is None
    ]


def _together(promise: Promise) -> str:
    if promise.other_runs:
        return ", all runs of its budget file together"
    if promise.repetitions > 1:
        once = f" (one alone: {decimal(promise.once)})" if promise.once is not None else ""
        return (
            f", all {count(promise.repetitions)} repetitions together, as their figures are shown here{once}"
        )
    return ""


def _meaning(promise: Promise, level: str) -> str:
    epsilon = promise.epsilon or 0.0
    sure = 1 / (1 + math.exp(-min(epsilon, 700.0)))
    shown = (
        "practically certain" if sure >= _SURE else f"at most {percent(sure, 0 if sure < 0.995 else 2)} sure"
    )
    would, may = ("would be", "could") if level == "simulated" else ("is", "can")
    return (
        f"In the worst case, somebody who sees all of it and thought it as likely as not that this "
        f"{_short(promise)} was among the data of training (or of thresholds) {would} {shown} afterwards"
        f"{'' if shown[0] == 'p' else f', and with probability δ {may} be surer'}."
    )


def _short(promise: Promise) -> str:
    return {"record": "window", "patient": "stream", "site": "site"}.get(promise.unit, "unit")


def _grade(promise: Promise, level: str) -> str:
    weak = (promise.epsilon or 0.0) > 10
    if delta_is_large(promise):
        return "That is weak: δ should be far below one over the number of all units, and it is not."
    if weak:
        return (
            "That is weak: an ε above 10 bounds next to nothing, and only attacks can show what it is worth."
        )
    if level == "strict":
        return "Among bounds in use that is a strong one."
    if level == "middling":
        return "That is a middling bound: it limits what the very worst attacker learns, and only loosely."
    return ""


def _tried(attackers: Sequence[Attacker]) -> str:
    if not attackers:
        return "No attacker has been tried on this run."
    guessing = [one for one in attackers if not (one.in_epsilon or one.in_time)]
    beyond, unsure = ([one for one in guessing if one.reached == how] for how in ("yes", "unsure"))
    many = len(attackers)
    said = f"{count(many)} attacks were tried" if many > 1 else "One attack was tried"
    parts = []
    if beyond:
        parts.append(f"more than guessing was reached in {_named(beyond)}")
    if unsure:
        parts.append(f"in {_named(unsure)} the estimate is above guessing, without certainty")
    if any(one.in_time and one.reached == "yes" for one in attackers):
        parts.append("a site that trains its devices for ends of its own is not noticed in time")
    if not parts:
        unread = [one for one in guessing if one.reached == "unknown"]
        parts.append(
            f"the log does not tell what {'they' if many > 1 else 'it'} reached"
            if unread
            else f"{'none' if many > 1 else 'it'} was not seen to reach more than guessing"
            if guessing
            else "it bounds ε from below, and did not pass the claim"
            if all(one.claim == "kept" for one in attackers)
            else "it bounds ε from below"
        )
    return f"{said}: {'; '.join(parts)}. A better attacker may reach more."


def _named(attackers: Sequence[Attacker]) -> str:
    names = [
        next((doing for part, _, doing in _TITLES if part in _plain(one)), "another attack")
        for one in attackers
    ]
    found = list(dict.fromkeys(names))
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def _uncovered(promise: Promise, attackers: Sequence[Attacker], unprotected: Sequence[str]) -> str:
    parts = [
        "test units, of which exact figures are shown",
        "activations and gradients between a device and its site, which count as inside",
    ]
    if attackers:
        parts.append("figures of the units that audits attacked, which are exact")
    if promise.body.get("deals_anew") and promise.repetitions > 1:
        parts.append(
            "units that are test units in another repetition, as parts are dealt anew with every seed"
        )
    if unprotected:
        parts.append("whatever else was trained on the same data to be compared with, such as baselines")
    if promise.distributed:
        parts.append(
            "a single site's update, which has a part of the noise alone and is summed in secret: the bound "
            "holds for whoever sees sums, with one site's help at most, while the others add their parts"
        )
    if promise.unit == "record":
        parts.append("the many windows of one device or patient taken together")
    return f"Not covered: {'; '.join(parts)}."
