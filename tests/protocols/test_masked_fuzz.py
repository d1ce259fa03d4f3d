"""Random schedules: a network that drops, delays, doubles, reorders, forges and replays, and sites that fail.

LAZARETTO_SCHEDULES says how many, 150 unless it is set; the claim of 10,000 is run with
`LAZARETTO_SCHEDULES=10000 pytest -s --timeout=0 tests/protocols/test_masked_fuzz.py`.
"""

from __future__ import annotations

import collections
import hashlib
import os
from typing import Any

import numpy as np
import pytest

from lazaretto.errors import RoundRefused, WireError
from lazaretto.secagg.masked import prepare
from lazaretto.secagg.masked_messages import FROM_SITES, signed_message
from lazaretto.secagg.masked_server import CloseStep, ServerState, handle_at_server, start_server
from lazaretto.secagg.masked_settings import COORDINATOR, default_masked
from lazaretto.secagg.masked_site import SiteState, handle_at_site, start_site
from lazaretto.types import Message
from lazaretto.wire import decode_message, encode_message

SCHEDULES = int(os.environ.get("LAZARETTO_SCHEDULES", "150"))
MOST_TICKS = 3000
D = 3
CAUSES = ("than the threshold", "shares do not open", "too few shares of site")  # of a refusal


def secret_of(seed: int) -> Any:
    return lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()


class Schedule:
    """One round under one random schedule; everything random comes from its number."""

    def __init__(self, number: int, stale: list[bytes]) -> None:
        self.rng = np.random.default_rng(number)
        n = int(self.rng.integers(3, 9))
        names = [f"s{i}" for i in range(n)]
        secret = secret_of(number)
        self.setup, self.identities = prepare(default_masked(n), names, secret, number, D)
        self.vectors = {name: self.rng.integers(0, 2**32, D).astype("<u4") for name in names}
        self.loss = float(self.rng.choice([0.0, 0.0, 0.005, 0.02, 0.1]))
        self.noise = float(self.rng.choice([0.0, 0.05, 0.3]))
        self.crash = float(self.rng.choice([0.0, 0.0, 0.01, 0.05]))
        self.haste = float(self.rng.choice([0.0, 0.0, 0.0, 0.01]))
        self.hostile = set(names[:1]) if self.rng.random() < 0.2 else set()
        self.fault = str(self.rng.choice(["shares", "open", "two"]))
        self.server: ServerState = start_server(self.setup, self.identities[COORDINATOR])
        self.sites: dict[str, SiteState] = {}
        self.others: dict[str, Any] = {}  # what a site that says two things says the second time
        self.pool: list[bytes] = []
        self.log, self.stale = [], stale
        for name in names:
            start = start_site(self.setup, name, self.identities[name], secret(name), self.vectors[name])
            self.sites[name] = start[0]
            self.send(name, start[1])

    def send(self, name: str, messages: tuple[Message, ...]) -> None:
        for message in messages:
            for said in self.spoiled(name, message) if name in self.hostile else [message]:
                data = encode_message(said)
                self.log.append(data)
                if self.rng.random() >= self.loss:
                    self.pool.append(data)

    def spoiled(self, name: str, message: Message) -> list[Message]:
        """What a hostile site makes of its own message, well signed."""
        payload = {key: array.copy() for key, array in message.payload.items() if key != "signature"}
        out = [message]
        if message.kind == "mask shares" and self.fault == "shares":
            payload["sealed"][int(self.rng.integers(len(payload["sealed"])))] ^= 1
            out = []
        elif message.kind == "unmask shares" and self.fault == "open":
            payload["self"][int(self.rng.integers(len(payload["self"]))), 31] ^= 1
            out = []
        elif message.kind == "masked vector" and self.fault == "two":
            payload["masked"] += np.uint32(5)
            self.others[name] = self.vectors[name] + np.uint32(5)
        else:
            return out
        key = self.identities[name]
        return [*out, signed_message(self.setup, key, message.kind, name, COORDINATOR, payload)]

    def forged(self, data: bytes) -> bytes:
        if self.stale and self.rng.random() < 0.3:
            return self.stale[int(self.rng.integers(len(self.stale)))]
        if self.rng.random() < 0.5:
            place = int(self.rng.integers(len(data)))
            return data[:place] + bytes([data[place] ^ int(self.rng.integers(1, 256))]) + data[place + 1 :]
        message = decode_message(data)
        names = [*self.setup.sites, COORDINATOR, "nobody"]
        changed = {
            "kind": str(self.rng.choice(FROM_SITES)),
            "link": message.link,
            "sender": str(self.rng.choice(names)),
            "receiver": str(self.rng.choice(names)),
            "round": message.round,
            "payload": message.payload,
        }
        return encode_message(Message(**changed))

    def deliver(self, data: bytes) -> None:
        try:
            message = decode_message(data)
            if message.receiver == COORDINATOR:
                self.server, answers = handle_at_server(self.server, message)
                assert not answers, "the coordinator answers when it closes a step"
            elif message.receiver in self.sites:
                name = message.receiver
                self.sites[name], answers = handle_at_site(self.sites[name], message)
                self.send(name, answers)
        except WireError:
            pass  # dropped at the rim; nothing changed

    def run(self) -> str:
        for _ in range(MOST_TICKS):
            if self.server.done:
                return self.judged()
            if not self.pool or self.rng.random() < self.haste:
                try:
                    self.server, answers = handle_at_server(self.server, CloseStep())
                except RoundRefused as refusal:
                    return self.refused(refusal.problem)
                self.send(COORDINATOR, answers)
                continue
            if self.rng.random() < self.crash and len(self.sites) > 1:
                del self.sites[str(self.rng.choice(sorted(self.sites)))]
            data = self.pool.pop(int(self.rng.integers(len(self.pool))))
            if self.rng.random() < self.noise:
                self.pool.append(data)  # twice
            if self.rng.random() < self.noise:
                self.deliver(self.forged(data))
            self.deliver(data)
        raise AssertionError("a schedule hangs")

    def refused(self, problem: str) -> str:
        cause = next((cause for cause in CAUSES if cause in problem), None)
        assert cause is not None, problem
        assert self.hostile or cause != "shares do not open", "honest shares open what was published"
        return cause

    def judged(self) -> str:
        arrived = self.server.arrived
        assert len(arrived) >= self.setup.settings.threshold
        total = sum(self.vectors[name] for name in arrived)
        allowed = [total] + [total - self.vectors[k] + v for k, v in self.others.items() if k in arrived]
        assert any((self.server.total == sums).all() for sums in allowed), "a wrong sum"
        return "sum"


def play(count: int) -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    stale: list[bytes] = []
    for number in range(count):
        schedule = Schedule(number, stale)
        found[schedule.run()] += 1
        stale = schedule.log[:40]
    return found


def test_the_right_sum_or_a_refusal_that_names_its_cause() -> None:
    found = play(SCHEDULES)
    print(dict(found))  # noqa: T201  seen with pytest -s
    assert sum(found.values()) == SCHEDULES
    assert found["sum"] > SCHEDULES / 3, "most schedules come to nothing, so the test sees little"
    assert found["than the threshold"] > SCHEDULES / 20, "hardly a schedule breaks anything"


def test_a_wrong_sum_would_be_seen() -> None:
    schedule = Schedule(0, [])
    schedule.loss = schedule.noise = schedule.crash = schedule.haste = 0.0
    schedule.hostile = set()
    schedule.vectors = {name: vector + np.uint32(1) for name, vector in schedule.vectors.items()}
    with pytest.raises(AssertionError, match="a wrong sum"):
        schedule.run()
