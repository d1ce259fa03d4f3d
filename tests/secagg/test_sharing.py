"""A shared round gives what a plain one gives; what a hostile site or aggregator does is refused or named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto import catalog
from lazaretto.chain import rule_of
from lazaretto.errors import InputError, PlanError, RoundRefused
from lazaretto.keys import generator
from lazaretto.round import aggregate_once
from lazaretto.secagg import steps
from lazaretto.secagg.channel import sealed
from lazaretto.secagg.deposit import row_of, split_row
from lazaretto.secagg.drawn import derive
from lazaretto.secagg.ring import clipped
from lazaretto.secagg.settings import AGGREGATORS, COORDINATOR, SharedGram, Sharing
from lazaretto.secagg.sharing import Parties, SharedRound, channel_keys, parties, play, share_round
from lazaretto.secagg.sketch import projections, sketch_of
from lazaretto.types import Gram, Message
from lazaretto.wire import decode_message, encode_message, message_bytes

CHAINS = ("nnm | multi_krum", "clip | geometric_median", "bucketing | krum", "clip | nnm | centered_clip")
ALONE = [name for name in catalog.names("rules") if not rule_of(name, {}).mixes]
RULES = (*(name for name in ALONE if rule_of(name, {}).sees != "rows"), *CHAINS)


def seeded(seed: int) -> Callable[[str], bytes]:
    return lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()


def mean(seen: SharedGram) -> np.ndarray:
    n = len(seen.names)
    return np.append(np.full(n, 1 / n), np.zeros(len(seen.inner) - n))


def some(n: int, d: int, seed: int = 0) -> dict[str, np.ndarray]:
    rows = np.random.default_rng(seed).standard_normal((n, d)) / np.sqrt(d)
    return {f"site-{i:02d}": row for i, row in enumerate(rows)}


def shared(
    updates: Mapping[str, np.ndarray],
    agreed: Sharing | None = None,
    decide: Callable[[SharedGram], np.ndarray] = mean,
    public: np.ndarray | None = None,
    seed: int = 0,
    **more: Any,
) -> SharedRound:
    d = len(next(iter(updates.values())))
    public = np.zeros((0, d)) if public is None else public
    agreed = Sharing(clip=10.0) if agreed is None else agreed
    number, kept, tap = more.get("number", 0), more.get("kept"), more.get("tap", lambda message: None)
    return share_round(agreed, number, updates, public, decide, seeded(seed), kept, tap)


# ---- the same as in the clear


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 6),
    d=st.integers(1, 50),
    p=st.integers(0, 2),
    seed=st.integers(0, 999),
    far=st.booleans(),
)
def test_products_and_sum_are_those_of_clipped_updates(n: int, d: int, p: int, seed: int, far: bool) -> None:
    rng = np.random.default_rng(seed)
    updates = {name: row * (50 if far else 1) for name, row in some(n, d, seed).items()}
    public, weights = rng.standard_normal((p, d)), rng.uniform(-1, 1, n + p)
    agreed = Sharing(clip=2.0, most_on_one=1.0)
    found = shared(updates, agreed, lambda seen: weights, public, seed)
    rows = np.array([clipped(row, 2.0) for row in [*updates.values(), *public]])
    assert found.names == tuple(sorted(updates))
    assert np.abs(found.inner - rows @ rows.T).max() < 4 * np.sqrt(d) * 2.0**-16
    assert np.abs(found.update - weights @ rows).max() < (n + p) * 2.0**-16
    assert not found.named


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n", [4, 11])
def test_every_rule_of_inner_products_runs_unchanged(name: str, n: int) -> None:
    rule = rule_of(name, {})
    rng = np.random.default_rng(n)
    X = (np.ones(40) + rng.standard_normal((n, 40))).astype(np.float32)
    X[: n // 4] -= 3
    known = {"zero": np.zeros(40), "previous": rng.standard_normal(40), "root": np.ones(40)}

    def decide(seen: SharedGram) -> np.ndarray:
        if rule.weigh is not None:
            return np.append(rule.weigh(np.ones(n)), np.zeros(len(rule.public)))
        assert rule.gram is not None
        given = Gram(seen.inner, np.ones(n), np.arange(n), rule.public, seen.history)
        return rule.gram(given, rule.start(n), generator(0, "rule", 0)).weights[0]

    updates = {f"site-{i:02d}": row for i, row in enumerate(X)}
    public = np.array([known[one] for one in rule.public]).reshape(-1, 40)
    agreed = Sharing(clip=100.0, most_on_one=1.0, history=rule.history)
    found = shared(updates, agreed, decide, public)
    plain = aggregate_once(rule, X, **{one: known[one] for one in rule.public if one != "zero"})
    assert np.abs(found.update - plain).max() < 2e-4


def test_sketched_products_are_near_and_the_sum_is_exact() -> None:
    updates = some(6, 3000)
    found = shared(updates, Sharing(clip=10.0, sketch_columns=1000))
    X = np.array(list(updates.values()))
    assert 1e-4 < np.abs(found.inner - X @ X.T).max() < 6 * np.sqrt(2 / 1000) * 1.3
    assert np.abs(found.update - X.mean(axis=0)).max() < 2.0**-15


def test_running_sums_give_history() -> None:
    agreed, kept, total = Sharing(clip=10.0, history=True), None, np.zeros((4, 30))
    for number in range(3):
        updates = some(4, 30, seed=number)
        if number == 1:
            del updates["site-03"]
        found = shared(updates, agreed, seed=number, number=number, kept=kept)
        for i, row in enumerate(updates.values()):
            total[i] += row
        n = len(updates)
        assert found.history is not None
        assert np.abs(found.history - total[:n] @ total[:n].T).max() < 1e-3
        kept = found.kept
    assert kept is not None
    assert kept[0].rounds == {"site-00": 3, "site-01": 3, "site-02": 3, "site-03": 2}


def test_sums_over_too_many_rounds_end_with_the_cause() -> None:
    agreed = Sharing(clip=200.0, history=True)
    kept = shared(some(4, 30), agreed).kept
    old = tuple(replace(one, rounds=dict.fromkeys(one.rounds, 10**4)) for one in kept)
    with pytest.raises(RoundRefused, match=r"sums over 10001 rounds .*\n?.*secure.clip"):
        shared(some(4, 30), agreed, kept=old, number=1, seed=1)


def test_noise_has_the_promised_scale() -> None:
    updates = some(4, 4000)
    plain = np.mean(list(updates.values()), axis=0)
    noise = shared(updates, Sharing(clip=10.0, noise=0.05)).update - plain
    assert np.std(noise) == pytest.approx(np.sqrt(1.5) * 0.05, rel=0.06)
    assert not np.isclose(np.std(noise), np.sqrt(1.0) * 0.05, rtol=0.06)


def test_what_crosses_is_what_the_wire_carries() -> None:
    messages: list[Message] = []
    shared(some(4, 30), tap=messages.append)
    links = {message.link for message in messages}
    assert links == {"site-aggregator", "aggregator-aggregator", "aggregator-coordinator"}
    for message in messages:
        back = decode_message(encode_message(message))
        assert message_bytes(message) == len(encode_message(back))
    to_two = [m for m in messages if m.kind == "shares" and any(len(v) == 30 for v in m.payload.values())]
    assert len(to_two) == 2 * 4, "numbers go to two aggregators, seeds to the third"


def test_nothing_secret_is_printed() -> None:
    ended = parties(Sharing(clip=1.0), 0, some(3, 5), np.zeros((0, 5)), mean, seeded(0), None)
    for state in (*ended.aggregators, ended.coordinator):
        assert "0x" in repr(state)
        assert "secret" not in repr(state)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="without any update"):
        share_round(Sharing(clip=1.0), 0, {}, np.zeros((0, 3)), mean, seeded(0), None, lambda m: None)
    with pytest.raises(InputError, match="may not have this name"):
        shared({"coordinator": np.zeros(3)})
    with pytest.raises(InputError, match="another shape"):
        shared({"a": np.zeros(3), "b": np.zeros(4)})
    with pytest.raises(InputError, match="must be finite"):
        shared(some(3, 4), public=np.full((1, 4), np.nan))
    with pytest.raises(PlanError, match=r"secure\.clip"):
        shared(some(3, 4), Sharing(clip=1e6))
    with pytest.raises(InputError, match="another length"):
        share_round(
            Sharing(clip=1.0), 0, some(3, 4), np.zeros((0, 4)), mean, lambda n: b"short", None, lambda m: None
        )


# ---- hostile sites


def with_row(
    rows: Mapping[str, np.ndarray],
    agreed: Sharing,
    hostile: Mapping[str, np.ndarray],
    decide: Callable[[SharedGram], np.ndarray] = mean,
) -> Parties:
    """A round in which some sites share rows of the ring that no clipping made."""
    d = len(next(iter(rows.values())))
    made = parties(agreed, 0, rows, np.zeros((0, d)), decide, seeded(0), None)
    keys = channel_keys([*rows, *AGGREGATORS, COORDINATOR], seeded(0))
    messages = [message for message in made.messages if message.sender not in hostile]
    for name, row in hostile.items():
        own = {to: keys[name][to] for to in AGGREGATORS}
        messages += split_row(name, 0, row, seeded(1)(name), own)
    return play(made._replace(messages=tuple(messages)), lambda message: None)


def spiked(value: int, places: slice = slice(0, 1), d: int = 64) -> np.ndarray:
    """A ring row that is huge where honest updates are 0."""
    row = np.zeros(d, np.uint64)
    row[places] = np.uint64(value % 2**64)
    return row


HUGE = {
    "2^32": spiked(2**32),
    "two of 2^32": spiked(2**32, slice(0, 2)),
    "2^63": spiked(2**63),
    "two of 2^63": spiked(2**63, slice(0, 2)),
    "-2^32": spiked(-(2**32)),
    "2^48": spiked(2**48),
    "a little in all": spiked(2**25, slice(None)),
    "2^31": spiked(2**31),
}


def honest(d: int = 64) -> dict[str, np.ndarray]:
    """Updates that are 0 in the first four coordinates."""
    return {name: np.where(np.arange(d) < 4, 0, row) for name, row in some(5, d).items()}


@pytest.mark.parametrize("columns", [0, 16])
@pytest.mark.parametrize("what", HUGE)
def test_an_update_that_wraps_is_named_and_not_aggregated(what: str, columns: int) -> None:
    rows = honest()
    ended = with_row(rows, Sharing(clip=10.0, sketch_columns=columns), {"site-02": HUGE[what]})
    total = ended.coordinator.sum
    assert total is not None
    assert "longer than secure.clip" in total.named["site-02"]
    left = np.mean([row for name, row in rows.items() if name != "site-02"], axis=0)
    assert np.abs(total.update - left).max() < 1e-4


@pytest.mark.parametrize("columns", [0, 16])
@pytest.mark.parametrize("times", [1.01, 3.0, 40.0])
def test_an_update_just_beyond_the_clip_is_named(times: float, columns: int) -> None:
    rows, agreed = honest(), Sharing(clip=10.0, sketch_columns=columns)
    long = row_of(Sharing(clip=1000.0), rows["site-02"] / np.linalg.norm(rows["site-02"]) * 10.0 * times)
    total = with_row(rows, agreed, {"site-02": long}).coordinator.sum
    assert total is not None
    assert set(total.named) == {"site-02"}
    fine = row_of(Sharing(clip=1000.0), rows["site-02"] / np.linalg.norm(rows["site-02"]) * 10.0)
    total = with_row(rows, agreed, {"site-02": fine}).coordinator.sum
    assert total is not None
    assert not total.named


def test_a_short_update_is_not_named_because_a_sketch_made_it_long() -> None:
    row = np.zeros(64)
    row[[0, 8]] = 10.0 / np.sqrt(2)  # where the two meet, a sketch says 14 or 0
    lengths = []
    for seed in range(40):
        found = shared({**some(5, 64), "heavy": row}, Sharing(clip=10.0, sketch_columns=2), seed=seed)
        assert not found.named
        lengths.append(found.inner[0, 0])
    assert max(lengths) > 150


def let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant: the length check lets every row pass."""
    monkeypatch.setattr(steps, "allowed_bits", lambda agreed, d: 62)
    monkeypatch.setattr(steps, "started", lambda shares, j, bits: _short(shares, j))


def _short(shares: Any, holder: int) -> Any:
    from_zero = type(shares)(np.zeros_like(shares.first), np.zeros_like(shares.second))
    return _started(from_zero, holder, 40)


_started = steps.started


@pytest.mark.parametrize("columns", [0, 16])
@pytest.mark.parametrize("what", ["2^32", "two of 2^32", "2^63", "-2^32", "2^48"])
def test_without_the_length_check_the_sum_is_refused(
    what: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_through(monkeypatch)
    thirds = {f"site-{i:02d}": w for i, w in enumerate([0.21, 0.19, 0.2000001, 0.17, 0.23])}
    ended = with_row(
        honest(),
        Sharing(clip=10.0, sketch_columns=columns),
        {"site-02": HUGE[what]},
        lambda seen: np.array([thirds[name] for name in seen.names]),
    )
    total, why = ended.coordinator.sum, ended.coordinator.refused
    if total is None:
        assert why is not None
        assert "wrap" in why
    else:
        assert "site-02" in total.named  # its length showed in the inner products


@pytest.mark.parametrize("columns", [0, 16])
def test_a_wrapped_entry_within_its_bound_shows_in_the_length_of_the_sum(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_through(monkeypatch)
    light = {f"site-{i:02d}": 2.0**-15 if i == 2 else 0.25 for i in range(5)}
    ended = with_row(
        honest(),
        Sharing(clip=10.0, sketch_columns=columns),
        {"site-02": HUGE["2^32"]},
        lambda seen: np.array([light[name] for name in seen.names]),
    )
    assert ended.coordinator.sum is None
    assert "not as long as the inner products say" in str(ended.coordinator.refused)


def hidden(coin: bytes, d: int, columns: int) -> np.ndarray:
    """A row of 0 and 2⁶³ that a known sketch and known projections map to 0: a kernel over GF(2)."""
    sketch = sketch_of(coin, d, columns)
    assert sketch is not None
    maps = np.zeros((columns + 40, d), np.uint8)
    maps[sketch.column, np.arange(d)] = 1
    unit = projections(derive(coin, "lengths"), np.eye(d, dtype=np.uint64), 40)
    maps[columns:] = (unit.T & np.uint64(1)).astype(np.uint8)
    pivots: list[int] = []
    for column in range(d):
        rank = len(pivots)
        below = np.flatnonzero(maps[rank:, column]) + rank
        if not below.size:
            free = column
            break
        maps[[rank, below[0]]] = maps[[below[0], rank]]
        others = np.flatnonzero(maps[:, column])
        others = others[others != rank]
        maps[others] ^= maps[rank]
        pivots.append(column)
    row = np.zeros(d, np.uint64)
    row[free] = 1
    for i, column in enumerate(pivots):
        row[column] = maps[i, free]
    return row << np.uint64(63)


class _Known:
    """hashlib, whose SHA-256 of three coins is known before: a coin before commitment."""

    def __init__(self, coin: bytes) -> None:
        self.coin = coin

    def sha256(self, data: bytes) -> Any:
        return self if len(data) == 96 else hashlib.sha256(data)

    def digest(self) -> bytes:
        return self.coin


@pytest.mark.parametrize("planted", [False, True])
def test_a_row_in_the_null_space_of_a_sketch_passes_only_if_the_coin_came_first(
    planted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    coin, d, columns = b"\x05" * 32, 200, 16
    if planted:
        monkeypatch.setattr(steps, "hashlib", _Known(coin))
    row = hidden(coin, d, columns)
    assert (row == np.uint64(2**63)).any()
    uneven = {f"site-{i:02d}": 0.2 + 2.0**-24 * (i % 2) for i in range(5)}
    ended = with_row(
        {**some(5, d)},
        Sharing(clip=10.0, sketch_columns=columns),
        {"site-02": row},
        lambda seen: np.array([uneven[name] for name in seen.names]),
    )
    total, why = ended.coordinator.sum, ended.coordinator.refused
    if planted:  # neither check saw it; the sum does, and refuses
        assert total is None
        assert why is not None
        assert "wrap" in why
    else:
        assert total is not None
        assert "length check" in total.named["site-02"]


def resealed(message: Message, **changed: np.ndarray) -> Message:
    """The same message with other arrays, by one who has the key."""
    keys = channel_keys([*some(9, 1), *AGGREGATORS, COORDINATOR], seeded(0))
    payload = {name: value for name, value in message.payload.items() if name != "tag"}
    return sealed(replace(message, payload={**payload, **changed}), keys[message.sender][message.receiver])


def round_with(change: Callable[[Message], Message | None]) -> Parties:
    """A round of five sites, every message changed on the way by whoever sends it."""
    made = parties(Sharing(clip=10.0), 0, some(5, 64), np.zeros((0, 64)), mean, seeded(0), None)
    messages = [change(message) for message in made.messages]
    return play(made._replace(messages=tuple(m for m in messages if m is not None)), lambda message: None)


def test_a_site_that_hands_its_holders_different_shares_is_named() -> None:
    def change(message: Message) -> Message:
        if message.sender != "site-03" or message.receiver != "aggregator-2":
            return message
        return resealed(message, first=message.payload["first"] + np.uint64(1))

    total = round_with(change).coordinator.sum
    assert total is not None
    assert total.named == {"site-03": "what it sent aggregator-2 as share 2 is not what it committed to"}
    left = np.mean([row for name, row in some(5, 64).items() if name != "site-03"], axis=0)
    assert np.abs(total.update - left).max() < 1e-4


def test_a_site_with_two_sets_of_commitments_is_named() -> None:
    other = parties(Sharing(clip=10.0), 0, some(5, 64, 1), np.zeros((0, 64)), mean, seeded(0), None)
    second = split_row(
        "site-03",
        0,
        row_of(Sharing(clip=10.0), some(5, 64, 1)["site-03"]),
        seeded(7)("site-03"),
        {to: channel_keys([*some(5, 1), *AGGREGATORS], seeded(0))["site-03"][to] for to in AGGREGATORS},
    )
    assert other.messages

    def change(message: Message) -> Message:
        return second[1] if (message.sender, message.receiver) == ("site-03", "aggregator-1") else message

    total = round_with(change).coordinator.sum
    assert total is not None
    assert total.named == {"site-03": "it gave the aggregators different commitments"}


@pytest.mark.parametrize("gone", AGGREGATORS)
def test_a_site_that_vanishes_halfway_is_left_out(gone: str) -> None:
    total = round_with(lambda m: None if (m.sender, m.receiver) == ("site-01", gone) else m).coordinator.sum
    assert total is not None
    assert total.named == {"site-01": "its shares did not reach all three aggregators"}


def test_a_malformed_message_of_a_site_is_named() -> None:
    def change(message: Message) -> Message:
        wrong = message.sender == "site-01"
        return resealed(message, second=np.zeros(3, np.float32)) if wrong else message

    total = round_with(change).coordinator.sum
    assert total is not None
    assert "malformed" in total.named["site-01"]


def test_an_update_that_is_not_finite_stays_at_its_site() -> None:
    updates = {**some(4, 30), "site-02": np.full(30, np.nan)}
    found = shared(updates)
    assert set(found.named) == {"site-02"}
    assert found.names == ("site-00", "site-01", "site-03")


# ---- aggregators that do not follow


def lying(
    change: Callable[[Message], Message], monkeypatch: pytest.MonkeyPatch, agreed: Sharing | None = None
) -> str:
    """Why a round is refused in which messages of aggregators are changed by themselves."""
    from_steps = steps.handle

    def handle(state: Any, message: Message) -> Any:
        state, messages = from_steps(state, message)
        return state, tuple(change(one) for one in messages)

    monkeypatch.setattr("lazaretto.secagg.sharing.steps.handle", handle)
    with pytest.raises(RoundRefused) as refused:
        shared(some(5, 64), agreed)
    return str(refused.value)


def test_a_false_share_of_the_sum_names_the_aggregator(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(message: Message) -> Message:
        if message.kind != "sum" or message.sender != "aggregator-1":
            return message
        return resealed(message, share=message.payload["share"] + np.uint64(1), other=np.zeros(32, np.uint8))

    assert "aggregator-1 is lying" in lying(change, monkeypatch)


@pytest.mark.parametrize("field", ["share", "other"])
def test_half_a_false_share_is_refused(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(message: Message) -> Message:
        if message.kind != "sum" or message.sender != "aggregator-1":
            return message
        return resealed(message, **{field: message.payload[field] + message.payload[field].dtype.type(1)})

    why = lying(change, monkeypatch)
    assert "one of aggregator-" in why
    assert "aggregator-1" in why


@pytest.mark.parametrize("field", ["weights", "most", "square", "coin", "names"])
def test_a_report_that_differs_names_the_aggregator(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(message: Message) -> Message:
        if message.kind != "sum" or message.sender != "aggregator-2":
            return message
        return resealed(message, **{field: message.payload[field] + message.payload[field].dtype.type(1)})

    assert f"'{field}' of the sum: aggregator-2 is lying" in lying(change, monkeypatch)


@pytest.mark.parametrize("columns", [0, 16])
@pytest.mark.parametrize("to_itself", [False, True])
def test_a_false_addend_of_the_products_is_refused(
    to_itself: bool, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreed = Sharing(clip=10.0, sketch_columns=columns)
    honest_part = steps._with_zero

    def false(state: Any, addend: np.ndarray, label: str) -> np.ndarray:
        made = honest_part(state, addend, label).copy()
        if state.index == 1:
            made[0, 1] += np.uint64(2**32)  # 1 between updates: below the grain of the dither nothing shows
            made[1, 0] += np.uint64(2**32)
        return made

    def change(message: Message) -> Message:
        if message.kind != "gram" or message.sender != "aggregator-1":
            return message
        inner = message.payload["inner"].copy()
        inner[0, 1] += np.uint64(1)
        inner[1, 0] += np.uint64(1)
        return resealed(message, inner=inner)

    if to_itself:  # all three believe it
        monkeypatch.setattr(steps, "_with_zero", false)
        why = lying(lambda message: message, monkeypatch, agreed)
        assert "not as long as the inner products say" in why
    else:
        assert "aggregator-1 is lying" in lying(change, monkeypatch, agreed)


def test_a_false_bit_of_the_length_check_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(message: Message) -> Message:
        if message.kind != "short" or message.sender != "aggregator-1":
            return message
        return resealed(message, share=message.payload["share"] ^ np.uint64(1))

    assert "one of them is lying" in lying(change, monkeypatch)


def test_another_coin_than_committed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(message: Message) -> Message:
        if message.kind != "coin" or message.sender != "aggregator-1":
            return message
        return resealed(message, coin=np.zeros(32, np.uint8))

    assert "aggregator-1 showed another coin" in lying(change, monkeypatch)


def test_a_weight_that_shows_one_update_is_refused() -> None:
    def one(seen: SharedGram) -> np.ndarray:
        return np.eye(5)[0]

    with pytest.raises(RoundRefused, match=r"so much weight on one site"):
        shared(some(5, 10), decide=one)
    with pytest.raises(RoundRefused, match=r"so much weight on one site"):
        shared(some(2, 10))
    with pytest.raises(RoundRefused, match=r"not finite"):
        shared(some(5, 10), decide=lambda seen: np.full(5, np.nan))
    with pytest.raises(RoundRefused, match=r"wrap around"):
        shared(some(5, 10), decide=lambda seen: np.full(5, 1e9))


def test_a_refused_round_keeps_no_sums() -> None:
    agreed = Sharing(clip=10.0, history=True)
    made = parties(agreed, 0, some(2, 10), np.zeros((0, 10)), mean, seeded(0), None)
    ended = play(made, lambda message: None)
    assert ended.coordinator.refused
    assert all(not state.kept.sums for state in ended.aggregators)
