"""Ballots add up exactly, whoever's is none is named, and nothing but that is told of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lazaretto.errors import InputError, RoundRefused
from lazaretto.run import secret
from lazaretto.run.post import Post
from lazaretto.run.secret import Door, secret_ballots
from lazaretto.secagg import steps
from lazaretto.secagg.aggregator import Aggregator, zero_share
from lazaretto.secagg.ballots import block_sums, no_choice
from lazaretto.secagg.deposit import split_row
from lazaretto.secagg.drawn import expand
from lazaretto.secagg.ring import Shares, products
from lazaretto.secagg.settings import AGGREGATORS, COORDINATOR, Sharing, check_fits
from lazaretto.secagg.sharing import Parties, SharedRound, channel_keys, parties, play
from lazaretto.types import Message

WIDTH, BLOCKS = 4, 3
AGREED = Sharing(clip=BLOCKS**0.5, fraction_bits=0, one_hot=WIDTH)
LEVEL = 1e-6  # of all two-sample tests together; seeds are fixed


def seeded(seed: int) -> Callable[[str], bytes]:
    return lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()


def marked(choices: Any, width: int = WIDTH) -> np.ndarray:
    """[blocks · width] of the chosen entry of each block."""
    return (np.asarray(choices)[:, None] == np.arange(width)).astype(np.int64).ravel()


def others(n: int = 4) -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(3).integers(0, WIDTH, (n, BLOCKS))
    return {f"site-{i}": marked(row) for i, row in enumerate(drawn)}


def played(
    rows: Mapping[str, np.ndarray],
    seed: int = 0,
    tap: Callable[[Message], None] = lambda message: None,
    agreed: Sharing = AGREED,
) -> Parties:
    """A round of ring rows, whatever is in them; eight times the sum is opened."""
    zeros = {name: np.zeros(row.size) for name, row in rows.items()}
    size = next(iter(zeros.values())).size
    made = parties(
        agreed, 0, zeros, np.zeros((0, size)), lambda seen: np.full(len(seen.names), 8.0), seeded(seed), None
    )
    keys = channel_keys([*rows, *AGGREGATORS, COORDINATOR], seeded(seed))
    messages: list[Message] = []
    for name, row in rows.items():
        own = {to: keys[name][to] for to in AGGREGATORS}
        messages += split_row(
            name, 0, np.asarray(row).astype(np.int64).view(np.uint64), seeded(seed + 1)(name), own
        )
    return play(made._replace(messages=tuple(messages)), tap)


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 7), st.integers(1, 6), st.integers(2, 9), st.integers(0, 99))
def test_they_add_up_exactly(n: int, blocks: int, width: int, seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, width, (n, blocks))
    given = {f"s{i}": marked(row, width).reshape(blocks, width) for i, row in enumerate(drawn)}
    total, named = secret_ballots(given, Door("sharing", seed), "something", Post())
    np.testing.assert_array_equal(total, sum(given.values()))
    assert named == {}


@pytest.mark.parametrize("scheme", ["sharing", "masked", "ckks"])
def test_too_few_and_protocols_that_cannot_check_are_refused(scheme: str) -> None:
    few = 2 if scheme == "sharing" else 4
    ballots = {name: row.reshape(BLOCKS, WIDTH) for name, row in others(few).items()}
    with pytest.raises(InputError, match="three sites or more"):
        secret_ballots(ballots, Door(scheme, 0), "something", Post())


WRAPPED = {  # both sums are 1 modulo 2⁶⁴: their length alone tells them from a choice
    "2^32 and back": [1, 2**32, -(2**32), 0],
    "2^63 twice": [1, -(2**63), -(2**63), 0],
}
FALSE: dict[str, list[int]] = {
    "nothing": [0, 0, 0, 0],
    "two marks": [1, 1, 0, 0],
    "ten marks in one place": [10, 0, 0, 0],
    "a mark against": [-1, 0, 0, 0],
    "two and one against": [2, -1, 0, 0],
    "a sum of 1 alone": [1, 1, -1, 0],
    "squares of 1 alone": [0, 0, -1, 0],
    "2^32, whose square is 0": [1, 2**32, 0, 0],
    "2^63": [1, -(2**63), 0, 0],
    **WRAPPED,
}


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("what", FALSE)
def test_a_false_ballot_is_named_and_not_counted(what: str, block: int) -> None:
    rows = others()
    false = rows["site-2"].copy()
    false[block * WIDTH : (block + 1) * WIDTH] = FALSE[what]
    total = played({**rows, "site-2": false}).coordinator.sum
    assert total is not None
    assert set(total.named) == {"site-2"}
    assert "choose" in total.named["site-2"] or "longer" in total.named["site-2"]
    assert total.names == ("site-0", "site-1", "site-3")
    right = sum(row for name, row in rows.items() if name != "site-2")
    np.testing.assert_array_equal(np.rint(total.update / 8), right)


@pytest.mark.parametrize("what", WRAPPED)
def test_sums_of_blocks_alone_would_let_a_wrapped_one_pass(what: str) -> None:
    row = np.array(WRAPPED[what], np.int64).view(np.uint64)[None]
    nothing = np.zeros_like(row)
    sums = block_sums(Shares(row, nothing), WIDTH)
    assert not no_choice(sums.view(np.int64)).any()


def test_what_is_left_of_two_is_not_opened() -> None:
    rows = others(3)
    rows["site-1"] = 2 * rows["site-1"]
    ended = played(rows)
    assert ended.coordinator.sum is None
    assert "fewer than 3 sites are left: site-1: it" in str(ended.coordinator.refused)


def test_a_block_is_a_choice_where_both_sums_are_one_and_nowhere_else() -> None:
    blocks = np.array(list(product(range(-3, 4), repeat=WIDTH)), np.int64)
    sums = np.stack([blocks.sum(axis=1), np.square(blocks).sum(axis=1)], axis=1)
    right = (np.sort(blocks, axis=1) == [0, 0, 0, 1]).all(axis=1)
    np.testing.assert_array_equal(no_choice(sums[:, None]), ~right)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_addends_add_up_to_the_sums_of_blocks(n: int, blocks: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-50, 50, (n, blocks * width))
    a, b = rng.integers(0, 2**64, (2, *rows.shape), np.uint64)
    parts = (a, b, rows.view(np.uint64) - a - b)
    total = sum(block_sums(Shares(parts[j], parts[(j + 1) % 3]), width) for j in range(3))
    right = rows.reshape(n, blocks, width)
    np.testing.assert_array_equal(
        np.asarray(total).view(np.int64), np.stack([right.sum(axis=2), np.square(right).sum(axis=2)], axis=2)
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"one_hot": 5}, "one_hot=5"),
        ({"one_hot": -1}, "one_hot=-1"),
        ({"one_hot": 4, "fraction_bits": 2}, "fraction_bits=2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, int], says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_fits(Sharing(**{"clip": 2.0, "fraction_bits": 0, **given}), 5, 12)  # type: ignore[arg-type]


# ---- what an aggregator sees of them: as in test_secrecy, with two sets that have the same products and sum

HALF, OTHER = np.array([0, 1, 2, 0]), np.array([1, 0, 0, 2])
ROUNDS = 24
Views = list[dict[str, dict[tuple[str, str, str], np.ndarray]]]


def views(start: int, *, turned: bool) -> tuple[Views, dict[str, np.ndarray]]:
    pairs = np.stack([OTHER, HALF] if turned else [HALF, OTHER], axis=1)
    rows = {f"site-{i}": marked(pair, 3) for i, pair in enumerate(pairs)}
    agreed, found = Sharing(clip=2**0.5, fraction_bits=0, one_hot=3), []
    for number in range(ROUNDS):
        seen: dict[str, dict[tuple[str, str, str], np.ndarray]] = {name: {} for name in AGGREGATORS}

        def tap(message: Message, seen: Any = seen) -> None:
            for name, value in message.payload.items():
                seen.get(message.receiver, {})[message.kind, message.sender, name] = value

        assert played(rows, 1000 * start + 10 * number, tap, agreed).coordinator.sum is not None
        found.append(seen)
    return found, rows


def told(index: int, left: Views, right: Views, rows: Mapping[str, np.ndarray]) -> list[str]:
    """By which statistics of a peer's addends two lots of views differ, and which confirm a guess of rows.

    A guess is of a row's addends, of the difference of two rows' (the same zero-share on both falls out), and
    of what hides them beside what hides the inner products (one zero-share for both shows).
    """
    party, peers = AGGREGATORS[index], (AGGREGATORS[(index + 1) % 3], AGGREGATORS[(index + 2) % 3])
    found, tests = [], 2 * 3
    for peer in peers:
        lots = [[seen[party]["blocks", peer, "sums"] for seen in lot] for lot in (left, right)]
        for name, statistic in (
            ("bits", lambda one: float(np.unpackbits(one.view(np.uint8)).mean())),
            ("first word", lambda one: float(one.ravel()[0])),
            ("sum", lambda one: float(one.sum(dtype=np.uint64))),
        ):
            a, b = ([statistic(one) for one in lot] for lot in lots)
            if stats.ks_2samp(a, b, method="exact").pvalue < LEVEL / tests:
                found.append(f"{name} from {peer}")
        for seen in left:
            pairs = [
                [
                    one if one.dtype == np.uint64 else expand(one.tobytes(), 6)
                    for one in (seen[party]["shares", site, which] for which in ("first", "second"))
                ]
                for site in rows
            ]
            a_b = [np.stack([pair[k] for pair in pairs]) for k in (0, 1)]
            third = np.stack(list(rows.values())).view(np.uint64) - a_b[0] - a_b[1]
            guess = Shares(a_b[1], third) if peer == peers[0] else Shares(third, a_b[0])
            hidden = seen[party]["blocks", peer, "sums"] - block_sums(guess, 3)
            inner = seen[party]["gram", peer, "inner"] - products(guess)
            if not hidden.any():
                found.append(f"a guess, by {peer}")
            if (hidden[0] == hidden[1]).any() or np.isin(hidden, inner).any():
                found.append(f"a guess of a difference, by {peer}")
    return found


@pytest.mark.parametrize("index", range(3))
def test_addends_tell_nothing_of_who_chose_what(index: int) -> None:
    (left, rows), (right, _) = views(1, turned=False), views(2, turned=True)
    assert told(index, left, right, rows) == []
    for seen in left:
        party = AGGREGATORS[index]
        assert {name for kind, _, name in seen[party] if kind == "blocks"} == {"sums", "tag"}


def no_zero(state: Aggregator, shape: tuple[int, ...], label: str, *, xor: bool) -> np.ndarray:
    return np.zeros(shape, np.uint64)


def same_for_all(state: Aggregator, shape: tuple[int, ...], label: str, *, xor: bool) -> np.ndarray:
    """Plant: one zero-share for the sums of all rows."""
    made = zero_share(state, shape, label, xor=xor)
    return np.broadcast_to(made[:1], shape).copy() if label == "blocks" else made


def same_as_products(state: Aggregator, shape: tuple[int, ...], label: str, *, xor: bool) -> np.ndarray:
    """Plant: the zero-share of inner products once more."""
    return zero_share(state, shape, "gram" if label == "blocks" else label, xor=xor)


@pytest.mark.parametrize("plant", [no_zero, same_for_all, same_as_products])
def test_a_missing_zero_share_is_seen(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "zero_share", plant)
    (left, rows), (right, _) = views(3, turned=False), views(4, turned=True)
    assert any("a guess" in one for one in told(0, left, right, rows))


def test_a_false_ballot_reads_nobody_s_answer() -> None:
    """A row of different numbers has another inner product with each answer: out before one is opened."""
    rows = others()
    probe = np.concatenate([[1, -1, 0, 0], np.zeros((BLOCKS - 1) * WIDTH)])  # as short as a ballot
    multiplied: list[tuple[int, ...]] = []

    def tap(message: Message) -> None:
        if message.kind == "gram":
            multiplied.append(message.payload["inner"].shape)

    ended = played({**rows, "probe": probe}, tap=tap)
    assert multiplied == [(len(rows), len(rows))] * 6, "three aggregators, to two others each"
    for state in ended.aggregators:
        assert state.opened is not None
        assert state.opened.names == tuple(rows)
        assert state.opened.inner.shape == (len(rows), len(rows))
        assert "choose" in state.named["probe"]
    assert (ended.aggregators[0].opened.inner.diagonal() == BLOCKS).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("added", [[1], [-9, 9], [0, -9, 0, 9]])
def test_a_lying_aggregator_that_adds_marks_is_found(added: list[int]) -> None:
    """The sum of ballots has as many marks in each place as there are ballots, none below 0."""
    ballots = {name: row.reshape(BLOCKS, WIDTH) for name, row in others(4).items()}
    honest = secret.share_round

    def more(*given: Any) -> SharedRound:
        done = honest(*given)
        return done._replace(update=done.update + 8 * np.resize([*added, *[0] * 99], done.update.size))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secret, "share_round", more)
        with pytest.raises(RoundRefused, match="an aggregator gave false addends"):
            secret_ballots(ballots, Door("sharing", 0), "something", Post())


def test_a_refused_round_is_an_error_with_the_cause() -> None:
    ballots = {name: row.reshape(BLOCKS, WIDTH) for name, row in others(3).items()}
    ballots["site-0"] = 0 * ballots["site-0"]
    with pytest.raises(RoundRefused, match="fewer than 3 sites are left: site-0: it did not choose"):
        secret_ballots(ballots, Door("sharing", 0), "something", Post())
