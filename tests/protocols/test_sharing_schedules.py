"""Networks that drop, delay, repeat, reorder, forge and replay: the right sum or a refusal with its cause.

A schedule is drawn from a seed: what the network does on which links, which sites misbehave and how, when the
coordinator closes. LAZARETTO_SCHEDULES sets how many are played; unless set, few enough for every run.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lazaretto.secagg import coordinator, steps
from lazaretto.secagg.channel import sealed
from lazaretto.secagg.deposit import split_row
from lazaretto.secagg.ring import clipped
from lazaretto.secagg.settings import AGGREGATORS, COORDINATOR, SharedGram, Sharing
from lazaretto.secagg.sharing import channel_keys, parties
from lazaretto.types import Message

SCHEDULES = int(os.environ.get("LAZARETTO_SCHEDULES", "100"))
D, MOST_STEPS = 12, 20_000
SITES = tuple(f"site-{i}" for i in range(5))
FAULTS = ("absent", "part", "huge", "wraps", "two rows", "malformed", "not what it committed to")
BALLOT = Sharing(clip=3**0.5, fraction_bits=0, one_hot=4)  # three blocks of four entries


def secrets(number: int) -> Callable[[str], bytes]:
    """Fresh for every round, except the keys of channels: those last, so that replays bear good tags."""
    return lambda name: hashlib.sha256(f"{0 if name == 'channels' else number} {name}".encode()).digest()


def mean(seen: SharedGram) -> np.ndarray:
    return np.append(
        np.full(len(seen.names), 1 / len(seen.names)), np.zeros(len(seen.inner) - len(seen.names))
    )


def eight(seen: SharedGram) -> np.ndarray:
    return np.full(len(seen.names), 8.0)


def broken(fault: str, messages: list[Message], rng: np.random.Generator, number: int) -> list[Message]:
    """What a hostile site sends instead of its three messages."""
    site = messages[0].sender
    keys = channel_keys([*SITES, *AGGREGATORS, COORDINATOR], secrets(number))[site]
    own = {to: keys[to] for to in AGGREGATORS}
    if fault == "absent":
        return []
    if fault == "part":
        return list(rng.permutation(np.array(messages, object))[: rng.integers(1, 3)])
    row = np.zeros(D, np.uint64)
    if fault == "no ballot":
        row[[0, 4, 8]] = 1
        row[rng.integers(D)] += np.uint64(2 ** int(rng.choice([0, 1, 2])))
        return list(split_row(site, number, row, rng.bytes(32), own))
    if fault == "huge":
        row[rng.integers(D)] = rng.integers(2**28, 2**62)
        return list(split_row(site, number, row, rng.bytes(32), own))
    if fault == "wraps":
        row[rng.choice(D, rng.integers(1, 3), replace=False)] = 2 ** int(rng.choice([32, 33, 48, 62, 63]))
        return list(split_row(site, number, row, rng.bytes(32), own))
    if fault == "two rows":
        other = split_row(site, number, row, rng.bytes(32), own)
        return [other[0], *messages[1:]] if rng.random() < 0.5 else [*messages, *other]
    place = int(rng.integers(3))
    payload = {name: value for name, value in messages[place].payload.items() if name != "tag"}
    name = str(rng.choice(["first", "second", "nonces", "commitments"]))
    if fault == "malformed":
        payload[name] = [np.zeros(3), np.zeros(0, np.uint8), np.zeros((2, D), np.uint64)][rng.integers(3)]
        if rng.random() < 0.3:
            del payload[name]
    else:
        payload[name] = payload[name] + payload[name].dtype.type(1)
    made = sealed(replace(messages[place], payload=payload), keys[messages[place].receiver])
    return [*messages[:place], made, *messages[place + 1 :]]


def forged(message: Message, rng: np.random.Generator) -> Message:
    """The message with something changed, by one without the key."""
    what = rng.integers(5)
    if what == 0:
        return replace(message, sender=str(rng.choice([*SITES, *AGGREGATORS, COORDINATOR, "stranger"])))
    if what == 1:
        return replace(message, round=message.round + 1)
    if what == 2:
        return replace(
            message, kind=str(rng.choice(["shares", "coin", "gate 3", "gate x", "blocks", "sum", "refused"]))
        )
    name = str(rng.choice(list(message.payload)))
    value = message.payload[name]
    if what == 3 or not value.size:
        changed = np.zeros(int(rng.integers(4)), np.uint8)
    else:
        changed = value.copy()
        place = int(rng.integers(value.size))
        changed.reshape(-1)[place : place + 1] += value.dtype.type(1)  # wraps, as a part of an array
    return replace(message, payload={**message.payload, name: changed})


class Network:
    """Messages on their way, and what happens to them; `sent` is everything that ever passed."""

    def __init__(self, rng: np.random.Generator, old: list[Message]) -> None:
        self.rng, self.old = rng, old
        rates = rng.choice([0.0, 0.0, 0.02, 0.1], 4)
        self.drop, self.repeat, self.forge, self.replay = rates
        self.ordered = bool(rng.random() < 0.3)
        # half of the schedules spare the links between aggregators, so that sums come about as well
        self.everywhere = bool(rng.random() < 0.5)
        self.waiting: list[Message] = []
        self.sent: list[Message] = []

    def post(self, messages: list[Message] | tuple[Message, ...]) -> None:
        for message in messages:
            self.sent.append(message)
            hit = self.everywhere or message.link == "site-aggregator"
            if not (hit and self.rng.random() < self.drop):
                self.waiting.append(message)
            if self.rng.random() < self.repeat:
                self.waiting.append(self.sent[self.rng.integers(len(self.sent))])
            if self.rng.random() < self.forge:
                self.waiting.append(forged(message, self.rng))
            if self.old and self.rng.random() < self.replay:
                self.waiting.append(self.old[self.rng.integers(len(self.old))])

    def take(self) -> Message:
        return self.waiting.pop(0 if self.ordered else int(self.rng.integers(len(self.waiting))))


def drawn(rng: np.random.Generator) -> np.ndarray:
    """A ballot: one mark in each block."""
    return (rng.integers(4, size=(3, 1)) == np.arange(4)).astype(np.float64).ravel()


def play(seed: int, old: list[Message], *, ballots: bool = False) -> tuple[str, list[Message]]:
    """One schedule; what came of it, and what was sent. Asserts that the sum is right."""
    rng, number = np.random.default_rng(seed), 1 + seed % 3
    updates = {site: drawn(rng) if ballots else rng.standard_normal(D) for site in SITES}
    agreed = Sharing(
        clip=4.0,
        most_on_one=1.0,
        noise=float(rng.choice([0.0, 0.0, 2.0**-10])),
        sketch_columns=int(rng.choice([0, 5])),
        history=bool(rng.random() < 0.2),
    )
    public, decide, faults = np.zeros((int(rng.integers(2)), D)), mean, FAULTS
    if ballots:
        agreed, public, decide, faults = BALLOT, public[:0], eight, (*FAULTS, "no ballot")
    made = parties(agreed, number, updates, public, decide, secrets(number), None)
    hostile = dict(zip(rng.permutation(SITES)[: rng.integers(4)], rng.choice(faults, 4), strict=False))
    network = Network(rng, old)
    for site in rng.permutation(SITES):
        own = [message for message in made.messages if message.sender == site]
        network.post(broken(str(hostile[site]), own, rng, number) if site in hostile else own)
    nodes: dict[str, Any] = dict(zip(AGGREGATORS, made.aggregators, strict=True))
    head, closed, early, count = made.coordinator, False, rng.random() < 0.2, 0
    while network.waiting or not closed:
        count += 1
        assert count < MOST_STEPS, "it does not end"
        if not network.waiting or (early and not closed and rng.random() < 0.1):
            head, messages = coordinator.close(head)
            closed = True
            network.post(messages)
            continue
        message = network.take()
        if message.receiver == COORDINATOR:
            head, answers = coordinator.handle(head, message)
        elif message.receiver in nodes:
            nodes[message.receiver], answers = steps.handle(nodes[message.receiver], message)
        else:
            answers = ()
        network.post(answers)
    head, _ = coordinator.give_up(head)
    if head.sum is None:
        assert head.refused
        return head.refused, network.sent
    if ballots:
        assert not {site for site, fault in hostile.items() if fault == "no ballot"} & set(head.sum.names)
        right = np.sum([updates[name] for name in head.sum.names], axis=0)
        np.testing.assert_array_equal(np.rint(head.sum.update / 8), right, str((seed, hostile)))
        return "sum", network.sent
    rows = np.array([clipped(updates[name], 4.0) for name in head.sum.names])
    sums = [rows.mean(axis=0)]
    for i, name in enumerate(head.sum.names):
        if hostile.get(name) == "two rows":  # whichever of the two reached all three
            sums += [one - rows[i] / len(rows) for one in sums]
    apart = min(np.abs(head.sum.update - one).max() for one in sums)
    assert apart < 1e-4 + 10 * agreed.noise, (seed, hostile)
    bad = {site for site, fault in hostile.items() if fault in ("huge", "wraps", "not what it committed to")}
    assert not bad & set(head.sum.names), (seed, hostile)
    return "sum", network.sent


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("ballots", [False, True])
def test_the_right_sum_or_a_refusal_with_its_cause(ballots: bool) -> None:
    outcomes, old = Counter[str](), list[Message]()
    for seed in range(SCHEDULES):
        outcome, sent = play(seed, old, ballots=ballots)
        outcomes[outcome.partition(":")[0][:60]] += 1
        old = sent  # the next schedule replays messages of this one
    print(dict(outcomes))  # noqa: T201
    assert outcomes["sum"] > SCHEDULES / 5
    assert outcomes.total() - outcomes["sum"] > SCHEDULES / 10


@pytest.mark.parametrize(
    "kind", ["arrived", "key", "coin", "projected", "gate 7", "short", "blocks", "gram", "sum", "close"]
)
def test_each_message_that_is_lost_is_waited_for_and_named(kind: str) -> None:
    rows = {site: np.resize([1.0, 0.0, 0.0, 0.0], D) for site in SITES}
    agreed = BALLOT if kind == "blocks" else Sharing(clip=4.0)
    made = parties(agreed, 0, rows, np.zeros((0, D)), mean, secrets(0), None)
    nodes: dict[str, Any] = dict(zip(AGGREGATORS, made.aggregators, strict=True))
    head, closing = coordinator.close(made.coordinator)
    waiting = [*made.messages, *closing]
    lost = False
    while waiting:
        message = waiting.pop(0)
        if message.kind == kind and not lost:
            lost = True
            continue
        if message.receiver == COORDINATOR:
            head, _ = coordinator.handle(head, message)
        else:
            nodes[message.receiver], answers = steps.handle(nodes[message.receiver], message)
            waiting += answers
    assert lost
    head, _ = coordinator.give_up(head)
    assert head.sum is None
    assert head.refused is not None
    assert "nothing came from aggregator-" in head.refused


def test_a_forged_refusal_ends_nothing() -> None:
    rows = {site: np.ones(D) for site in SITES}
    made = parties(Sharing(clip=4.0), 0, rows, np.zeros((0, D)), mean, secrets(0), None)
    why = {"why": np.frombuffer(b"give up", np.uint8)}
    message = Message(
        kind="refused",
        link="aggregator-coordinator",
        sender="aggregator-1",
        receiver=COORDINATOR,
        round=0,
        payload=why,
    )
    head, _ = coordinator.handle(made.coordinator, message)
    assert head.refused is None
    assert head.ignored == 1
    head, _ = coordinator.handle(made.coordinator, sealed(message, made.coordinator.keys["aggregator-1"]))
    assert head.refused == "aggregator-1 says: give up"  # its word, not a finding of ours
