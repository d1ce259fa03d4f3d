"""What an aggregator does at each step, and the `handle` that drives it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.secagg.aggregator import (
    Advance,
    Aggregator,
    Answer,
    Kept,
    held_rows,
    left_out,
    peers,
    receive,
    refuse,
    run_steps,
    send,
    site_rows,
    zero_share,
)
from lazaretto.secagg.ballots import block_sums, no_choice
from lazaretto.secagg.channel import array, names_of, text_of
from lazaretto.secagg.deposit import shares_of
from lazaretto.secagg.drawn import SECRET_BYTES, commitment, derive, expand, opens
from lazaretto.secagg.length_check import STAGES, Memory, after, and_share, operands, started
from lazaretto.secagg.ring import Ring, Shares, combined, products, signed, squares
from lazaretto.secagg.settings import (
    AGGREGATORS,
    COORDINATOR,
    PROJECTIONS,
    WEIGHT_BITS,
    SharedGram,
    allowed_bits,
    check_fits,
    stretch,
)
from lazaretto.secagg.sketch import projections, sketch_of, sketched
from lazaretto.secagg.weights import promised, too_long
from lazaretto.types import Message

__all__ = ["handle"]

_TOO_LONG = "its update is longer than secure.clip allows"
_NO_CHOICE = "it did not choose one entry in every block"
_FEWEST = 3  # ballots, below which a sum and one's own part of it tell another's


def handle(state: Aggregator, message: Message) -> Answer:
    """The state after a message, and what is to be sent.

    Messages that are not for this round and party, not authentic, or came before are counted and ignored.
    Nothing is raised: what ends the round is in `refused`, and told to the coordinator and the other
    aggregators.
    """
    if state.refused is not None or state.done:
        return replace(state, ignored=state.ignored + 1), ()
    received = receive(state, message)
    if isinstance(received, str):
        return refuse(state, received, tell=(COORDINATOR,))
    return run_steps(received, STEPS)


def _both(state: Aggregator, kind: str) -> bool:
    return all((kind, peer) in state.inbox for peer in peers(state))


def _own_coin(state: Aggregator) -> tuple[bytes, bytes]:
    return derive(state.secret, "coin", state.round), derive(state.secret, "coin nonce", state.round)


def _collect(state: Aggregator) -> Answer | None:
    """Wait for "close"; then tell the others what arrived, a coin that cannot be taken back, and a key."""
    missing = [name for name in AGGREGATORS if state.settings.noise and name not in state.deposits]
    if ("close", COORDINATOR) not in state.inbox or missing:
        return None
    names = sorted(state.deposits)
    wrong = [state.deposits[name].wrong for name in names]
    payload = {
        "names": text_of("\n".join(names)),
        "wrong": text_of("\n".join(wrong)),
        "commitments": np.stack(
            [np.zeros((3, SECRET_BYTES), np.uint8), *(state.deposits[name].commitments for name in names)]
        ),
        "coin": np.frombuffer(commitment(*_own_coin(state)), np.uint8),
    }
    following = peers(state)[0]
    key = np.frombuffer(derive(state.secret, "zero", state.round), np.uint8)
    messages = [send(state, "arrived", peer, payload) for peer in peers(state)]
    return replace(state, step="agree"), (*messages, send(state, "key", following, {"key": key}))


def _agree(state: Aggregator) -> Answer | None:
    """Which rows all three hold alike; then show the coin."""
    if not _both(state, "arrived") or ("key", peers(state)[1]) not in state.inbox:
        return None
    array(state.inbox["key", peers(state)[1]], "key", np.uint8, (SECRET_BYTES,))
    seen = {state.name: {name: (one.commitments, one.wrong) for name, one in state.deposits.items()}}
    for peer in peers(state):
        message = state.inbox["arrived", peer]
        names, wrong = names_of(message, "names"), names_of(message, "wrong")
        wrong = wrong if len(names) != 1 or wrong else ("",)
        committed = array(message, "commitments", np.uint8, (len(names) + 1, 3, SECRET_BYTES))[1:]
        if len(wrong) != len(names) or len(set(names)) != len(names):
            return refuse(state, f"{peer} sent a list of arrivals that does not fit together")
        seen[peer] = dict(zip(names, zip(committed, wrong, strict=True), strict=True))
    named, fine = dict[str, str](), list[str]()
    for name in sorted(set().union(*seen.values())):
        said = [one[name] for one in (seen[holder] for holder in AGGREGATORS) if name in one]
        faults = [wrong for _, wrong in said if wrong]
        if faults:
            named[name] = faults[0]
        elif any((said[0][0] != committed).any() for committed, _ in said):
            named[name] = "it gave the aggregators different commitments"
        elif len(said) < 3:
            named[name] = "its shares did not reach all three aggregators"
        else:
            fine.append(name)
    for name in AGGREGATORS:
        if name in named:
            return refuse(state, f"the noise of {name} is not usable: {named[name]}")
    sites = tuple(name for name in fine if name not in AGGREGATORS)
    if not sites:
        why = "; ".join(f"{name}: {reason}" for name, reason in named.items())
        return refuse(state, "no site's shares reached all three aggregators" + (f" ({why})" if why else ""))
    coin, nonce = _own_coin(state)
    shown = {"coin": np.frombuffer(coin, np.uint8), "nonce": np.frombuffer(nonce, np.uint8)}
    state = replace(state, names=sites, named=named, step="coin")
    return state, tuple(send(state, "coin", peer, shown) for peer in peers(state))


def _coin(state: Aggregator) -> Answer | None:
    """Put the three coins together; project the shares on directions that follow from it."""
    if not _both(state, "coin"):
        return None
    coins = {state.name: _own_coin(state)[0]}
    for peer in peers(state):
        committed = array(state.inbox["arrived", peer], "coin", np.uint8, (SECRET_BYTES,)).tobytes()
        shown, nonce = (
            array(state.inbox["coin", peer], name, np.uint8, (SECRET_BYTES,)).tobytes()
            for name in ("coin", "nonce")
        )
        if not opens(committed, shown, nonce):
            return refuse(state, f"{peer} showed another coin than it had committed to")
        coins[peer] = shown
    coin = hashlib.sha256(b"".join(coins[name] for name in AGGREGATORS)).digest()
    rows = _shared(state)
    own = projections(derive(coin, "lengths"), rows.first[: len(state.names)], PROJECTIONS)
    state = replace(state, coin=coin, rows=rows, addend=(own,), step="project")
    return state, (send(state, "projected", peers(state)[1], {"share": own}),)


def _project(state: Aggregator) -> Answer | None:
    """Projections of the second share come from the aggregator that has it first; then the length check."""
    message = state.inbox.get(("projected", peers(state)[0]))
    if message is None:
        return None
    own = state.addend[0]
    shares = Shares(own, array(message, "share", np.uint64, own.shape))
    memory = started(shares, state.index, allowed_bits(state.settings, state.parameters))
    return _gate(replace(state, memory=memory, step="check", stage=0))


def _shared(state: Aggregator) -> Shares:
    """Shares of all rows: the sites', the public (their share 0 is the row), the sum of all noise."""
    n, p, noise = len(state.names), len(state.public), bool(state.settings.noise)
    rows = shares_of([state.deposits[name] for name in state.names], state.parameters, p + noise)
    if state.index != 1:
        rows[0 if state.index == 0 else 1][n : n + p] = state.public
    if noise:
        added = shares_of([state.deposits[name] for name in AGGREGATORS], state.parameters)
        for target, one in zip(rows, added, strict=True):
            target[n + p] = one.sum(axis=0, dtype=np.uint64)
    return rows


def _gate(state: Aggregator) -> Answer:
    """One aggregator's part of the next AND gate, for the one before."""
    memory = _memory(state)
    left, right = operands(state.stage, memory)
    part = and_share(left, right, zero_share(state, left.first.shape, f"gate {state.stage}", xor=True))
    memory = memory._replace(part=part)
    message = send(state, f"gate {state.stage}", peers(state)[1], {"part": part})
    return replace(state, memory=memory), (message,)


def _check(state: Aggregator) -> Answer | None:
    """The result of an AND gate; after the last, open one bit for each row."""
    following, before = peers(state)
    message = state.inbox.get((f"gate {state.stage}", following))
    if message is None:
        return None
    memory = _memory(state)
    theirs = array(message, "part", np.uint64, memory.part.shape)
    memory = after(state.stage, memory, Shares(memory.part, theirs))
    state = replace(state, memory=memory, stage=state.stage + 1)
    if state.stage < STAGES:
        return _gate(state)
    return replace(state, step="short"), (
        send(state, "short", following, {"share": memory.a.first}),
        send(state, "short", before, {"share": memory.a.second}),
    )


def _short(state: Aggregator) -> Answer | None:
    """Leave long rows out; then the addends of the inner products."""
    if not _both(state, "short"):
        return None
    following, before = peers(state)
    own = _memory(state).a
    shares = [
        array(state.inbox["short", peer], "share", np.uint64, own.first.shape) for peer in (before, following)
    ]
    if (shares[0] != shares[1]).any():
        return refuse(state, f"{before} and {following} differ about a share: one of them is lying")
    bits = (own.first ^ own.second ^ shares[0])[:, 0]
    if (bits > 1).any():
        return refuse(
            state, f"the length check came to no bit; {before} or {following} broke off the protocol"
        )
    fine = bits == 1
    state = left_out(state, fine, f"{_TOO_LONG} (length check)")
    return _blocks(state) if state.settings.one_hot else _addends(state)


def _blocks(state: Aggregator) -> Answer:
    """Sums of blocks, before anything else of a ballot is multiplied: a false one would read the others."""
    own = block_sums(site_rows(state), state.settings.one_hot)
    own = own + zero_share(state, own.shape, "blocks", xor=False)
    state = replace(state, memory=None, addend=(own,), step="choose")
    return state, tuple(send(state, "blocks", peer, {"sums": own}) for peer in peers(state))


def _choose(state: Aggregator) -> Answer | None:
    """Leave out what is no ballot."""
    if not _both(state, "blocks"):
        return None
    own = state.addend[0]
    parts = [array(state.inbox["blocks", peer], "sums", np.uint64, own.shape) for peer in peers(state)]
    state = left_out(state, ~no_choice(signed(own + parts[0] + parts[1])), _NO_CHOICE)
    if len(state.names) < _FEWEST:
        return refuse(state, f"ballots of fewer than {_FEWEST} sites are left: {_reasons(state)}")
    return _addends(state)


def _addends(state: Aggregator) -> Answer:
    if not state.names:
        return refuse(state, f"no update passed: {_reasons(state)}")
    rows = held_rows(state)
    sketch = sketch_of(state.coin, state.parameters, state.settings.sketch_columns)
    addends = [_with_zero(state, products(Shares(*(sketched(sketch, one) for one in rows))), "gram")]
    kept = None
    if state.settings.history:
        kept = _summed(state, site_rows(state))
        check_fits(state.settings, len(state.names), state.parameters, max(kept.rounds.values()))
        past = [np.stack([kept.sums[name][i] for name in state.names]) for i in (0, 1)]
        addends.append(
            _with_zero(state, products(Shares(*(sketched(sketch, one) for one in past))), "history")
        )
    if sketch is not None:  # which only estimates lengths
        addends.append(squares(rows) + zero_share(state, (len(rows.first),), "squares", xor=False))
    payload = dict(zip(_opened_kinds(state), addends, strict=True))
    state = replace(state, rows=rows, memory=None, addend=tuple(addends), summed=kept, step="weigh")
    return state, tuple(send(state, "gram", peer, payload) for peer in peers(state))


def _weigh(state: Aggregator) -> Answer | None:
    """Open the inner products, ask the rule, and send shares of the sum to the coordinator."""
    if not _both(state, "gram"):
        return None
    opened = {}
    for name, own in zip(_opened_kinds(state), state.addend, strict=True):
        parts = [array(state.inbox["gram", peer], name, np.uint64, own.shape) for peer in peers(state)]
        opened[name] = signed(own + parts[0] + parts[1])
    inner, past = opened["inner"], opened.get("history")
    length = opened.get("squares", np.diagonal(inner).copy())
    sites, p = len(state.names), len(state.public)
    fine = ~too_long(state.settings, length[:sites], state.parameters)
    if not fine.all():
        state = left_out(state, fine, f"{_TOO_LONG} (inner products)")
        if not state.names:
            return refuse(state, f"no update passed: {_reasons(state)}")
        places = np.concatenate([np.flatnonzero(fine), np.arange(sites, len(inner))])
        inner, length = inner[np.ix_(places, places)], length[places]
        past = None if past is None else past[np.ix_(fine, fine)]
        sites = len(state.names)
    unit = 4.0**-state.settings.fraction_bits
    seen = SharedGram(
        inner[: sites + p, : sites + p].astype(np.float64) * unit,
        None if past is None else past.astype(np.float64) * unit,
        state.names,
        derive(state.coin, "rule"),
    )
    weights = np.asarray(state.decide(seen), np.float64)
    promise = promised(state.settings, inner, length, weights, sites, state.parameters)
    rows = held_rows(state)
    shares = [
        combined(promise.weights.view(np.uint64), one) + dither
        for one, dither in zip(rows, _dither(state), strict=True)
    ]
    payload: dict[str, NDArray[Any]] = {
        "names": text_of("\n".join(state.names)),
        "named": text_of("\n".join(f"{name}\t{reason}" for name, reason in sorted(state.named.items()))),
        "share": shares[0],
        "other": np.frombuffer(hashlib.sha256(shares[1].tobytes()).digest(), np.uint8),
        "weights": promise.weights,
        "square": np.frombuffer(promise.square.to_bytes(SECRET_BYTES, "little", signed=True), np.uint8),
        "most": np.array([promise.most]),
        "coin": np.frombuffer(state.coin, np.uint8),
    }
    state = replace(state, opened=seen, kept=_kept(state), rows=None, summed=None, done=True)
    return state, (send(state, "sum", COORDINATOR, payload),)


def _dither(state: Aggregator) -> tuple[Ring, Ring]:
    """[d] each: below one step of a row, for either share of the sum; two aggregators know each of the three.

    Without it the sum, which is opened as an integer, could be taken apart: what has a weight of whole steps
    vanishes modulo a step, and rows of few different weights separate like digits.
    """
    theirs = state.inbox["key", peers(state)[1]].payload["key"].tobytes()
    first, second = (
        expand(derive(key, "dither"), state.parameters) & np.uint64(2**WEIGHT_BITS - 1)
        for key in (theirs, derive(state.secret, "zero", state.round))
    )
    return first, second


def _opened_kinds(state: Aggregator) -> list[str]:
    """Names of what is opened in the step "gram"."""
    sketches = stretch(state.settings, state.parameters) > 1
    return ["inner", *(["history"] if state.settings.history else []), *(["squares"] if sketches else [])]


def _summed(state: Aggregator, rows: Shares) -> Kept:
    """Running sums with this round's rows in them."""
    sums, rounds = dict(state.kept.sums), dict(state.kept.rounds)
    for i, name in enumerate(state.names):
        old = sums.get(name)
        new = Shares(rows.first[i].copy(), rows.second[i].copy())
        sums[name] = new if old is None else Shares(old.first + new.first, old.second + new.second)
        rounds[name] = rounds.get(name, 0) + 1
    return Kept(sums, rounds)


def _kept(state: Aggregator) -> Kept:
    """What stays for the next round: new sums of the sites in the sum, old ones of the others."""
    if state.summed is None:
        return state.kept
    new = state.summed
    return Kept(
        {**state.kept.sums, **{name: new.sums[name] for name in state.names}},
        {**state.kept.rounds, **{name: new.rounds[name] for name in state.names}},
    )


def _with_zero(state: Aggregator, addend: Ring, label: str) -> Ring:
    """A symmetric addend with a fresh, symmetric zero-share."""
    zero = np.tril(zero_share(state, addend.shape, label, xor=False))
    return np.asarray(addend + zero + np.tril(zero, -1).T)


def _reasons(state: Aggregator) -> str:
    return "; ".join(f"{name}: {why}" for name, why in sorted(state.named.items()))


def _memory(state: Aggregator) -> Memory:
    assert state.memory is not None  # noqa: S101  there since the coin
    return state.memory


STEPS: MappingProxyType[str, Advance] = MappingProxyType(
    {
        "collect": _collect,
        "agree": _agree,
        "coin": _coin,
        "project": _project,
        "check": _check,
        "short": _short,
        "choose": _choose,
        "weigh": _weigh,
    }
)
