"""What one party sees can be made from the inner products and the sum alone; planted leaks are caught.

Two claims. A simulator that is given G and one aggregator's own randomness writes the messages which that
aggregator receives; and updates that were exchanged for others with the same G and the same sum give views
with the same statistics. Statistics are those an attacker would try: bits of all numbers, sums and
differences of what it holds, guesses of updates held against commitments and addends. Each is compared over
24 rounds by a two-sample Kolmogorov-Smirnov test; the level of all tests of one party together is 1e-6
(Bonferroni), and seeds are fixed. The same statistics must see every planted leak.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lazaretto.secagg import deposit, steps
from lazaretto.secagg.aggregator import Aggregator
from lazaretto.secagg.channel import letter, sealed
from lazaretto.secagg.drawn import commitment, expand
from lazaretto.secagg.ring import Shares, products, to_ring
from lazaretto.secagg.settings import AGGREGATORS, COORDINATOR, SharedGram, Sharing
from lazaretto.secagg.sharing import channel_keys, parties, play
from lazaretto.types import Message

D, N, ROUNDS, LEVEL = 16, 4, 24, 1e-6
SITES = tuple(f"site-{i}" for i in range(N))
AGREED = Sharing(clip=16.0, most_on_one=1.0)
PUBLIC = np.eye(D)[:1] * 0.5 + np.eye(D)[8:9] * 0.5  # a row that everyone knows
Arrays = dict[tuple[str, str, str], np.ndarray]


def two_sets() -> tuple[np.ndarray, np.ndarray]:
    """Rows [N, D] and turned copies: the same inner products, with the public row too, and mean."""
    rng = np.random.default_rng(11)
    half = rng.integers(-90, 90, (N, D // 2)) / 64.0
    other = rng.integers(-90, 90, (N, D // 2)) / 64.0
    other[-1] += half.sum(axis=0) - other.sum(axis=0)  # both halves have one sum, so they can change places
    rows = np.concatenate([half, other], axis=1)
    return rows, np.concatenate([other, half], axis=1)


ROWS, TURNED = two_sets()


def mean(seen: SharedGram) -> np.ndarray:
    return np.append(np.full(N, 0.25), 0.0)


def fresh(number: int) -> Callable[[str], bytes]:
    return lambda name: hashlib.sha256(f"{number} {name}".encode()).digest()


def received(rows: np.ndarray, number: int) -> dict[str, Arrays]:
    """party -> all arrays that it receives in a round, by (kind, sender, name)."""
    seen: dict[str, Arrays] = {name: {} for name in (*AGGREGATORS, COORDINATOR)}

    def tap(message: Message) -> None:
        for name, value in message.payload.items():
            seen[message.receiver][message.kind, message.sender, name] = value

    made = parties(AGREED, number, dict(zip(SITES, rows, strict=True)), PUBLIC, mean, fresh(number), None)
    ended = play(made, tap)
    assert ended.coordinator.sum is not None
    return seen


def simulated(index: int, gram: np.ndarray, number: int, rng: np.random.Generator) -> Arrays:
    """What aggregator `index` receives, written from G [N + 1, N + 1] in the ring and random numbers."""
    secrets = fresh(number)
    zeros = dict.fromkeys(SITES, np.zeros(D))  # gives parties their keys; no update is in it
    state: Aggregator = parties(AGREED, number, zeros, PUBLIC, mean, secrets, None).aggregators[index]
    keys = channel_keys([*SITES, *AGGREGATORS, COORDINATOR], secrets)[state.name]
    seen: Arrays = {}
    following, before = AGGREGATORS[(index + 1) % 3], AGGREGATORS[(index + 2) % 3]

    def words(*shape: int) -> np.ndarray:
        return rng.integers(0, 2**64, shape, np.uint64)

    def octets(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, np.uint8)

    def give(kind: str, sender: str, **payload: np.ndarray) -> None:
        nonlocal state
        site = sender in SITES
        link = "site-aggregator" if site else "aggregator-aggregator"
        link = "aggregator-coordinator" if sender == COORDINATOR else link
        message = sealed(letter(kind, sender, state.name, number, payload, link), keys[sender])
        for name, value in message.payload.items():
            seen[kind, sender, name] = value
        state, _ = steps.handle(state, message)
        assert state.refused is None

    committed = []
    for site in SITES:
        held = (index, (index + 1) % 3)
        shares = [octets(32) if part < 2 else words(D) for part in held]
        nonces, marks = octets(2, 32), octets(3, 32)
        for part, share, nonce in zip(held, shares, nonces, strict=True):
            made = commitment(share.tobytes(), nonce.tobytes())
            marks[part] = np.frombuffer(made, np.uint8)
        committed.append(marks)
        give("shares", site, first=shares[0], second=shares[1], nonces=nonces, commitments=marks)
    give("close", COORDINATOR, close=octets(0))
    lists = {
        "names": np.frombuffer("\n".join(SITES).encode(), np.uint8),
        "wrong": np.frombuffer(("\n" * (N - 1)).encode(), np.uint8),
        "commitments": np.stack([np.zeros((3, 32), np.uint8), *committed]),
    }
    coins = {peer: (octets(32), octets(32)) for peer in (following, before)}
    for peer, (coin, nonce) in coins.items():
        mark = np.frombuffer(commitment(coin.tobytes(), nonce.tobytes()), np.uint8)
        give("arrived", peer, **lists, coin=mark)
    give("key", before, key=octets(32))
    for peer, (coin, nonce) in coins.items():
        give("coin", peer, coin=coin, nonce=nonce)
    assert state.rows is not None
    lengths = steps.projections(steps.derive(state.coin, "lengths"), state.rows.second[:N], steps.PROJECTIONS)
    give("projected", following, share=lengths)  # of a share that it holds: nothing new
    while state.step == "check":
        assert state.memory is not None
        give(f"gate {state.stage}", following, part=words(*state.memory.part.shape))
    assert state.memory is not None
    last = np.uint64(1) ^ state.memory.a.first ^ state.memory.a.second
    give("short", following, share=last)
    give("short", before, share=last)
    one = np.tril(words(N + 1, N + 1))
    one = one + np.tril(one, -1).T
    give("gram", following, inner=one)
    give("gram", before, inner=gram - state.addend[0] - one)
    assert state.opened is not None
    assert (state.opened.inner * 2.0**32 == gram.view(np.int64)).all()
    return seen


def statistics(index: int, seen: Arrays) -> dict[str, float]:
    """What an aggregator may compute from its view, each one number."""
    found: dict[str, float] = {}
    for (kind, sender, name), value in seen.items():
        if value.dtype == np.uint64 and value.size:
            bits = np.unpackbits(value.view(np.uint8))
            found[f"bits of {name} in {kind} from {sender}"] = float(bits.mean())
            found[f"first word of {name} in {kind} from {sender}"] = float(value.ravel()[0])
        elif name in ("first", "second", "commitments", "nonces", "coin", "key"):
            found[f"bytes of {name} in {kind} from {sender}"] = float(value.mean())
    shares = [
        [
            one if one.dtype == np.uint64 else expand(one.tobytes(), D)
            for one in (seen["shares", site, "first"], seen["shares", site, "second"])
        ]
        for site in SITES
    ]
    for i, (a, b) in enumerate(shares):
        for text, mixed in (("a+b", a + b), ("a-b", a - b), ("2a+b", 2 * a + b), ("a+2b", a + 2 * b)):
            found[f"{text} of site {i}"] = float(mixed[0].view(np.int64))
        for k in range(i):
            for text, mixed in (("a", a - shares[k][0]), ("b", b - shares[k][1])):
                found[f"{text} of site {i} less that of {k}"] = float(mixed[0].view(np.int64))
    for text, rows in (("rows", ROWS), ("turned", TURNED)):
        found |= {
            f"{name}, guessing {text}": value for name, value in guesses(index, seen, shares, rows).items()
        }
    return found


def guesses(index: int, seen: Arrays, shares: list[list[np.ndarray]], rows: np.ndarray) -> dict[str, float]:
    """Whether a guess of all updates is confirmed, by a commitment or by an addend."""
    ring, found = to_ring(rows, 16), {}
    missing = [row - a - b for row, (a, b) in zip(ring, shares, strict=True)]
    for i, site in enumerate(SITES):
        mark = seen["shares", site, "commitments"][(index + 2) % 3].tobytes()
        found[f"commitment of site {i}"] = float(hashlib.sha256(missing[i].tobytes()).digest() == mark)
    a, b = (np.stack([pair[part] for pair in shares]) for part in (0, 1))
    zero, public = np.zeros((1, D), np.uint64), to_ring(PUBLIC, 16)
    # share 0 of the public row is the row, the others are 0
    held = [public if part == 0 else zero for part in (index, (index + 1) % 3, (index + 2) % 3)]
    first, second, third = (
        np.concatenate([rows, known]) for rows, known in zip((a, b, np.stack(missing)), held, strict=True)
    )
    for peer, pair in (((index + 1) % 3, (second, third)), ((index + 2) % 3, (third, first))):
        addend = seen["gram", AGGREGATORS[peer], "inner"]
        found[f"addend of {peer}"] = float((products(Shares(*pair)) == addend).all())
    return found


def alarm(index: int, left: list[Arrays], right: list[Arrays]) -> list[str]:
    """Statistics by which the two lots of views can be told apart, or that confirm a guess."""
    tables = [[statistics(index, seen) for seen in lot] for lot in (left, right)]
    assert tables[0][0].keys() == tables[1][0].keys()
    limit, told = LEVEL / len(tables[0][0]), []
    for name in tables[0][0]:
        a, b = ([table[name] for table in lot] for lot in tables)
        if stats.ks_2samp(a, b, method="exact").pvalue < limit:
            told.append(name)
    return told


Lots = tuple[list[dict[str, Arrays]], list[dict[str, Arrays]]]


def lots(start: int = 0) -> Lots:
    """Views of all parties in rounds of one set of updates, and in rounds of the other."""
    return (
        [received(ROWS, start + i) for i in range(ROUNDS)],
        [received(TURNED, start + ROUNDS + i) for i in range(ROUNDS)],
    )


def of(party: str, views: Lots) -> tuple[list[Arrays], list[Arrays]]:
    return [seen[party] for seen in views[0]], [seen[party] for seen in views[1]]


@pytest.fixture(scope="module")
def views() -> Lots:
    return lots()


def ring_gram() -> np.ndarray:
    both = to_ring(np.concatenate([ROWS, PUBLIC]), 16)
    return both @ both.T


def test_the_two_sets_have_equal_products_and_sum() -> None:
    both = to_ring(np.concatenate([TURNED, PUBLIC]), 16)
    assert (both @ both.T == ring_gram()).all()
    assert (ROWS.mean(axis=0) == TURNED.mean(axis=0)).all()
    assert np.abs(ROWS - TURNED).min(axis=1).max() > 0
    assert (np.linalg.norm(ROWS, axis=1) < AGREED.clip).all()


@pytest.mark.parametrize("index", range(3))
def test_views_of_turned_updates_are_alike(index: int, views: Lots) -> None:
    assert alarm(index, *of(AGGREGATORS[index], views)) == []


@pytest.mark.parametrize("index", range(3))
def test_a_simulator_with_nothing_but_products_writes_the_view(index: int, views: Lots) -> None:
    rng = np.random.default_rng(17 + index)
    real, _ = of(AGGREGATORS[index], views)
    made = [simulated(index, ring_gram(), 600 + i, rng) for i in range(ROUNDS)]
    for a, b in zip(real, made, strict=True):
        assert {key: (v.dtype, v.shape) for key, v in a.items()} == {
            key: (v.dtype, v.shape) for key, v in b.items()
        }
    assert alarm(index, real, made) == []


def test_the_coordinator_gets_shares_of_the_sum_alone(views: Lots) -> None:
    """Two of three are sums of seeds' expansions, whatever the updates; the third follows from the sum."""
    both = of(COORDINATOR, views)
    for name in AGGREGATORS:
        words = [[float(seen["sum", name, "share"][0]) for seen in lot] for lot in both]
        assert stats.ks_2samp(*words, method="exact").pvalue > LEVEL
    for lot in both:
        for seen in lot:
            total = np.sum([seen["sum", name, "share"] for name in AGGREGATORS], axis=0, dtype=np.uint64)
            over = total.view(np.int64) - np.rint(ROWS.mean(axis=0) * 2.0**32)
            assert ((over >= 0) & (over <= 3 * (2**16 - 1))).all(), "the sum and its dither"
            assert {kind for kind, _, _ in seen} == {"sum"}


# ---- planted leaks


def same_seed(secret: bytes, *label: str | int) -> bytes:
    """Plant: shares 0 and 1 from one seed."""
    return _derive(secret, *(0 if label[0] == "share" and part == 1 else part for part in label))


def common_seed(secret: bytes, *label: str | int) -> bytes:
    """Plant: all sites of all rounds from the same seeds."""
    return _derive(bytes(32), "share", label[-1]) if label[0] == "share" else _derive(secret, *label)


_derive = deposit.derive


def no_zero(state: Aggregator, shape: tuple[int, ...], label: str, *, xor: bool) -> np.ndarray:
    return np.zeros(shape, np.uint64)


def unsalted(content: bytes, nonce: bytes) -> bytes:
    return hashlib.sha256(content).digest()


PLANTS: Mapping[str, tuple[str, Any, str]] = {
    "one seed for two shares": ("lazaretto.secagg.deposit.derive", same_seed, "of site"),
    "a seed used again": ("lazaretto.secagg.deposit.derive", common_seed, "less that of"),
    "no zero-share": ("lazaretto.secagg.steps.zero_share", no_zero, "addend"),
    "no nonce": ("lazaretto.secagg.deposit.commitment", unsalted, "commitment of site"),
}


@pytest.mark.parametrize("what", PLANTS)
def test_a_planted_leak_is_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, fault, by = PLANTS[what]
    monkeypatch.setattr(place, fault)
    if what == "no nonce":
        monkeypatch.setattr(deposit, "opens", lambda mark, content, nonce: unsalted(content, nonce) == mark)
    leaking = lots(900)
    told = [name for j, party in enumerate(AGGREGATORS) for name in alarm(j, *of(party, leaking))]
    assert any(by in name for name in told), told


def test_a_coin_is_drawn_after_commitments_and_anew_in_every_round() -> None:
    coins = []
    for number in range(3):
        order: list[str] = []
        made = parties(AGREED, number, dict(zip(SITES, ROWS, strict=True)), PUBLIC, mean, fresh(number), None)
        ended = play(made, lambda message, order=order: order.append(message.kind))
        coins.append(ended.aggregators[0].coin)
        assert max(i for i, kind in enumerate(order) if kind == "shares") < order.index("coin")
        assert max(i for i, kind in enumerate(order) if kind == "arrived") < order.index("coin")
    assert len(set(coins)) == 3


def test_shares_that_come_after_the_coin_are_not_taken() -> None:
    made = parties(AGREED, 0, dict(zip(SITES, ROWS, strict=True)), PUBLIC, mean, fresh(0), None)
    late = [message for message in made.messages if message.sender == "site-0"]
    early = tuple(message for message in made.messages if message.sender != "site-0")
    ended = play(made._replace(messages=early), lambda message: None)
    for j, message in enumerate(late):
        state = replace(ended.aggregators[j], done=False, step="coin", inbox={})
        after, sent = steps.handle(state, message)
        assert "site-0" not in after.deposits
        assert not sent


def opened(rows: Mapping[str, np.ndarray], weights: np.ndarray, agreed: Sharing, number: int) -> np.ndarray:
    """[d] int64: the sum of a round as the coordinator opens it, an integer."""
    seen: list[np.ndarray] = []

    def tap(message: Message) -> None:
        if message.kind == "sum":
            seen.append(np.asarray(message.payload["share"]))

    size = len(next(iter(rows.values())))
    made = parties(agreed, number, rows, np.zeros((0, size)), lambda _: weights, fresh(number), None)
    assert play(made, tap).coordinator.sum is not None
    return np.sum(seen, axis=0, dtype=np.uint64).view(np.int64)


def test_noise_cannot_be_taken_off_modulo_a_step() -> None:
    """Noise has a weight of whole steps, so without the dither it vanishes modulo a step, in every entry."""
    rng = np.random.default_rng(5)
    rows = {f"site-{i:02d}": rng.normal(0, 0.002, 400) for i in range(20)}
    y = opened(rows, np.full(20, 0.05), Sharing(clip=1.0, noise=0.5), 1)
    weight = round(0.05 * 2**16) | 1  # the nearest that can be inverted
    guess = (y % 2**16) * pow(weight, -1, 2**16) % 2**16
    truth = sum(np.rint(row * 2**16) for row in rows.values()).astype(np.int64) % 2**16
    assert (guess == truth).mean() < 0.02
    low = np.bincount(y % 16, minlength=16)
    assert stats.chisquare(low).pvalue > 1e-6


def test_a_sum_with_two_weights_cannot_be_taken_apart() -> None:
    """Nineteen sites of one size and one of another: their part modulo the other's weight told an update."""
    rng = np.random.default_rng(6)
    rows = {f"site-{i:02d}": rng.normal(0, 0.002, 400) for i in range(20)}
    sizes = np.array([1000.0] * 19 + [737.0])
    whole = np.rint(sizes / sizes.sum() * 2**16).astype(np.int64)
    y = opened(rows, sizes / sizes.sum(), Sharing(clip=1.0), 2)
    common, other = int(whole[0]), int(whole[-1])
    step = common if np.gcd(common, other) == 1 else common + 1
    guess = (y % step) * pow(other, -1, step) % step if np.gcd(other, step) == 1 else y % step
    guess = np.where(guess > step // 2, guess - step, guess)
    truth = np.rint(rows["site-19"] * 2**16).astype(np.int64)
    assert (guess == truth).mean() < 0.05
