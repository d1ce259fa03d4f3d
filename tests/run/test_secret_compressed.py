"""Compressed updates that nobody sees: they come to what the open round comes to, and show nothing more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lazaretto import catalog, wire
from lazaretto.chain import rule_of
from lazaretto.compress_types import Public
from lazaretto.compression import compressor_of, everything
from lazaretto.errors import PlanError
from lazaretto.keys import generator, seed_of
from lazaretto.run import compressed
from lazaretto.run.coordinator import Round
from lazaretto.run.federation import _collect, _Done
from lazaretto.run.group import Group
from lazaretto.run.post import Post
from lazaretto.run.taking_part import Federation, TakingPart
from lazaretto.secagg.settings import Sharing
from lazaretto.types import Message

SITES, D, SHARE = 9, 300, 0.2
NAMES = [f"site {n}" for n in range(SITES)]
SCHEMES = [
    ("random_k", {}),
    ("random_k", {"feedback": False}),
    ("count_sketch", {}),
    ("count_sketch", {"feedback": False}),
    ("top_k_previous", {}),
    ("top_k_previous | count_sketch", {"count_sketch": {"share": 0.6}}),
]


def federation(scheme: str, options: Any = None, rule: str = "nnm | multi_krum") -> Federation:
    return Federation(
        algorithm=catalog.build("algorithms", "fedavg"),
        server=catalog.build("server_optimisers", "plain"),
        selection=catalog.build("selections", "everyone"),
        rule=rule_of(rule, {}),
        compressor=compressor_of(scheme, options or {}, SHARE),
    )


def unseen(made: Federation, protocol: str = "sharing") -> Federation:
    if protocol == "sharing":
        return replace(made, secure=Sharing(clip=300.0))
    return replace(made, sum_bound=100.0, sum_door=protocol)


def moves(number: int) -> Any:
    """Updates around a common direction, two of them far off."""
    rng = generator(number, "moves")
    found = 0.5 + 0.4 * rng.standard_normal((SITES, D))
    found[:2] *= -3
    return found.astype(np.float32)


def play(made: Federation, group: Group, number: int, given: Any = None, post: Post | None = None) -> Any:
    """One round; what the coordinator saw."""
    change = moves(number) if given is None else given
    done = _Done((group.begins()[:SITES] + change).astype(np.float32), None, np.ones(SITES, np.float32))
    everyone = np.ones(SITES, np.bool_)
    part = TakingPart(np.arange(SITES), everyone, np.ones(SITES), np.ones(SITES, np.int64))
    return _collect(post or Post(), made, group, NAMES, part, done, Round(0, number, 9))


def group_of(made: Federation) -> Group:
    return Group(made, np.zeros(D, np.float32), SITES, SITES)


def assert_equal_rounds(made: Federation, protocol: str = "sharing") -> None:
    """To what fixed point rounds in three rounds: 2^-16 for the dither and as much for weights."""
    secret = unseen(made, protocol)
    one, two = group_of(made), group_of(secret)
    for number in (1, 2, 9):  # of nine
        plain, hidden = play(made, one, number), play(secret, two, number)
        assert not hidden.refused
        np.testing.assert_allclose(two.vector, one.vector, atol=1e-3)
        np.testing.assert_allclose(hidden.suspicion, plain.suspicion, atol=2e-2)
        if one.residual is not None:
            np.testing.assert_allclose(two.residual, one.residual, atol=1e-3)
    assert np.abs(one.vector).max() > 0.05


@pytest.mark.parametrize(("scheme", "options"), SCHEMES)
def test_a_shared_round_is_the_open_one(scheme: str, options: Any) -> None:
    assert_equal_rounds(federation(scheme, options))


@pytest.mark.parametrize("scheme", ["random_k", "top_k_previous"])
def test_where_sites_train_ahead_too_and_nothing_is_left_in_the_end(scheme: str) -> None:
    made = replace(federation(scheme), ahead=everything(scheme, {}))
    assert_equal_rounds(made)
    group = group_of(unseen(made))
    for number in (1, 9):
        play(unseen(made), group, number)
    assert group.residual is not None
    np.testing.assert_allclose(group.residual, np.zeros((SITES, D)), atol=1e-5)


@pytest.mark.parametrize("rule", ["mean", "clip | centered_clip", "bucketing | geometric_median"])
@pytest.mark.parametrize(("scheme", "options"), SCHEMES[1:4])
def test_with_other_rules_and_public_rows_too(scheme: str, options: Any, rule: str) -> None:
    """`centered_clip` reads the last aggregate, which has entries where nothing was sent."""
    if "bucketing" in rule:  # its draw comes from the coin, which an open round does not have
        secret = unseen(federation(scheme, options, rule))
        group = group_of(secret)
        assert not play(secret, group, 1).refused
        assert np.isfinite(group.vector).all()
        return
    assert_equal_rounds(federation(scheme, options, rule))


@pytest.mark.parametrize("protocol", ["masked", "ckks"])
@pytest.mark.parametrize(("scheme", "options"), [SCHEMES[1], SCHEMES[2], SCHEMES[4]])
def test_a_sum_alone_is_the_open_one(scheme: str, options: Any, protocol: str) -> None:
    if protocol == "ckks":
        pytest.importorskip("tenseal", reason="the extra 'he' is not installed")
    made = federation(scheme, options, "mean")
    secret = unseen(made, protocol)
    one, two = group_of(made), group_of(secret)
    for number in (1, 2):
        play(made, one, number)
        assert not play(secret, two, number).refused
    np.testing.assert_allclose(two.vector, one.vector, atol=1e-4)


def test_a_row_that_is_not_finite_is_dropped_and_its_site_comes_back() -> None:
    made = unseen(federation("random_k"))
    group, bad = group_of(made), moves(1)
    bad[3, 7] = np.nan
    assert play(made, group, 1, bad).suspicion[3] == 1
    assert np.isfinite(group.vector).all()
    assert group.residual is not None
    assert not group.residual[3].any()
    assert play(made, group, 2).suspicion[3] < 1


def sent_by(scheme: str, options: Any, given: Any, number: int = 1) -> list[Message]:
    """All messages of a round that begins from nothing."""
    messages: list[Message] = []
    made = unseen(federation(scheme, options))
    play(made, group_of(made), number, given, Post(tap=messages.append))
    return messages


def test_what_is_not_sent_shows_nowhere() -> None:
    """Updates that differ only where nothing is sent: the same bytes, all of them. Else only shares tell."""
    scheme = compressor_of("random_k", {}, SHARE)
    public = Public(seed_of(0, "compress", 1))
    ones = scheme.encode(np.arange(D, dtype=np.float32), public, generator(0))["values"].astype(int)
    unsent = np.setdiff1d(np.arange(D), ones)
    assert len(unsent) == D - round(SHARE * D)
    base, other, third = moves(1), moves(1), moves(1)
    other[:, unsent] = 7.0
    third[4, ones[0]] += 0.5
    first, second, last = (
        [wire.encode_message(m) for m in sent_by("random_k", {}, x)] for x in (base, other, third)
    )
    assert first == second
    assert first != last


@pytest.mark.parametrize(("scheme", "options"), SCHEMES)
def test_coordinates_do_not_depend_on_an_update(
    scheme: str, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every site encodes by the same public things, and those are known before it has an update."""
    made, seen, send = unseen(federation(scheme, options)), list[Any](), compressed.send

    def spied(compressor: Any, row: Any, kept: Any, public: Public, rng: Any) -> Any:
        payload, rest = send(compressor, row, kept, public, rng)
        moved = None if public.moved is None else public.moved.tobytes()
        seen.append((public.seed, moved, tuple(payload), payload["values"].shape))
        return payload, rest

    monkeypatch.setattr(compressed, "send", spied)
    group = group_of(made)
    for number in (1, 2):
        moved = None if group.moved is None else group.moved.tobytes()
        play(made, group, number)
        assert len({*seen}) == 1, "one and the same for all sites"
        assert seen[0][:3] == (seed_of(0, "compress", number), moved, ("values",))
        seen.clear()


def test_the_bytes_counted_are_those_of_the_messages_and_fewer() -> None:
    messages: list[Message] = []
    post, made = Post(tap=messages.append), unseen(federation("random_k"))
    play(made, group_of(made), 1, post=post)
    rows = {row["kind"]: row for row in post.rows()}
    shares = [m for m in messages if m.kind == "shares"]
    assert rows["shares"]["bytes"] == sum(len(wire.encode_message(m)) for m in shares)
    assert {m.link for m in messages if m.sender in NAMES} == {"site-aggregator"}
    whole = Post()
    play(replace(made, compressor=None), group_of(replace(made, compressor=None)), 1, post=whole)
    full = next(row["bytes"] for row in whole.rows() if row["kind"] == "shares")
    saved = full - rows["shares"]["bytes"]
    assert saved == pytest.approx(2 * 8 * SITES * D * (1 - SHARE), rel=0.02)


def test_too_few_values_would_tell_themselves() -> None:
    """Of one value a row the inner products are the values but for their signs."""
    made = replace(unseen(federation("random_k")), compressor=compressor_of("random_k", {"share": 0.1}))
    with pytest.raises(PlanError, match=r"compress.share: .*so few values.*30 of 300"):
        play(made, group_of(made), 1)


def test_what_sites_keep_is_in_the_checkpoint() -> None:
    made = unseen(federation("top_k_previous"))
    whole, first = group_of(made), group_of(made)
    for number in (1, 2, 3):
        play(made, whole, number)
        if number < 3:
            play(made, first, number)
    second = group_of(made)
    second.restore({name: np.array(value) for name, value in first.arrays().items()})
    play(made, second, 3)
    for name, value in whole.arrays().items():
        np.testing.assert_array_equal(second.arrays()[name], value)
