"""Compressed updates in rounds: what arrives, what is kept, what a checkpoint holds, what a plan refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import catalog, wire
from lazaretto.chain import rule_of
from lazaretto.compress_types import Public
from lazaretto.compression import compressor_of, everything
from lazaretto.errors import PlanError
from lazaretto.keys import generator
from lazaretto.plan import load_plan
from lazaretto.run.coordinator import Round
from lazaretto.run.federation import _collect, _Done
from lazaretto.run.group import Group
from lazaretto.run.post import Post
from lazaretto.run.taking_part import Federation, TakingPart
from lazaretto.types import Message

SITES, D = 5, 400
NAMES = [f"site {n}" for n in range(SITES)]
SCHEMES = ["top_k_previous | quantise", "top_k | quantise", "count_sketch", "random_k", "quantise"]


def federation(scheme: str | None, rule: str = "mean", personal: Any = None) -> Federation:
    return Federation(
        algorithm=catalog.build("algorithms", "fedavg"),
        server=catalog.build("server_optimisers", "plain"),
        selection=catalog.build("selections", "everyone"),
        rule=rule_of(rule, {}),
        personal=personal,
        compressor=None if scheme is None else compressor_of(scheme, {}),
    )


def moves(number: int) -> Any:
    return generator(number, "moves").standard_normal((SITES, D)).astype(np.float32)


def play(
    made: Federation,
    group: Group,
    number: int,
    bad: int = -1,
    post: Post | None = None,
    begins: Any = None,
) -> Any:
    """One round; what the coordinator saw."""
    change = moves(number)
    if bad >= 0:
        change[bad, 0] = np.nan
    begins = group.vectors()[:SITES] if begins is None else begins
    done = _Done((begins + change).astype(np.float32), None, np.ones(SITES, np.float32))
    part = TakingPart(np.arange(SITES), np.ones(SITES, np.bool_), np.ones(SITES), np.ones(SITES, np.int64))
    return _collect(post or Post(), made, group, NAMES, part, done, Round(0, number, 9))


def group_of(made: Federation) -> Group:
    return Group(made, np.zeros(D, np.float32), SITES, SITES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_kept_between_rounds_is_in_the_checkpoint(scheme: str) -> None:
    """To the last bit, as a stopped run goes on."""
    made = federation(scheme)
    whole, first = group_of(made), group_of(made)
    for number in (1, 2, 3, 4):
        play(made, whole, number)
        if number < 3:
            play(made, first, number)
    second = group_of(made)
    second.restore({name: np.array(value) for name, value in first.arrays().items()})
    for number in (3, 4):
        play(made, second, number)
    assert whole.arrays().keys() == second.arrays().keys()
    for name, value in whole.arrays().items():
        np.testing.assert_array_equal(second.arrays()[name], value)
    assert ("residual" in whole.arrays()) == compressor_of(scheme, {}).feedback


def test_a_checkpoint_without_what_sites_kept_would_be_noticed() -> None:
    made = federation("top_k")
    one, two = group_of(made), group_of(made)
    play(made, one, 1)
    two.restore({name: np.array(value) for name, value in one.arrays().items()})
    assert two.residual is not None
    two.residual[:] = 0
    play(made, one, 2)
    play(made, two, 2)
    assert not np.array_equal(one.vector, two.vector)


def test_all_is_sent_in_the_end() -> None:
    """What the model moved and what the sites still keep are the sum of their mean updates."""
    made = federation("top_k_previous | quantise")
    group, total = group_of(made), np.zeros(D)
    for number in range(1, 7):
        play(made, group, number)
        total += moves(number).mean(axis=0)
    assert group.residual is not None
    np.testing.assert_allclose(group.vector + group.residual.mean(axis=0), total, atol=1e-4)


def test_the_bytes_counted_are_those_of_the_messages() -> None:
    seen: list[Message] = []
    post, made = Post(tap=seen.append), federation("top_k_previous | quantise")
    group = group_of(made)
    play(made, group, 1, post=post)
    play(made, group, 2, post=post)
    sizes = [len(wire.encode_message(message)) for message in seen]
    [row] = post.rows()
    assert row["bytes"] == sum(sizes)
    assert row["count"] == 2 * SITES
    assert set(seen[-1].payload) == {"codes", "scales"}
    assert seen[0].payload["codes"].size == D  # the model has not moved
    assert seen[-1].payload["codes"].size == D // 10


def test_without_a_scheme_a_message_is_what_it_was() -> None:
    seen: list[Message] = []
    made = federation(None)
    group = group_of(made)
    play(made, group, 1, post=Post(tap=seen.append))
    assert {tuple(message.payload) for message in seen} == {("update",)}
    np.testing.assert_array_equal(seen[0].payload["update"], moves(1)[0])
    assert "residual" not in group.arrays()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_update_that_is_not_finite_is_dropped_and_its_site_comes_back(scheme: str) -> None:
    made = federation(scheme, "multi_krum")
    group = group_of(made)
    assert play(made, group, 1, bad=2).suspicion[2] == 1
    assert np.isfinite(group.vector).all()
    if group.residual is not None:
        assert not group.residual[2].any()
    assert np.isfinite(play(made, group, 2).suspicion).all()


def test_a_message_that_is_no_update_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile site sends codes for another model."""
    made, sent = federation("quantise", "multi_krum"), Post.send

    def forged(self: Post, kind: str, sender: str, receiver: str, number: int, payload: Any) -> Any:
        if sender == NAMES[3]:
            payload = {"codes": np.ones(10**5, np.int8), "scales": np.ones(1, np.float32)}
        return sent(self, kind, sender, receiver, number, payload)

    monkeypatch.setattr(Post, "send", forged)
    group = group_of(made)
    assert play(made, group, 1).suspicion[3] == 1
    assert np.isfinite(group.vector).all()


def test_what_stays_at_a_site_is_not_sent() -> None:
    personal = np.arange(D) >= 300
    seen: list[Message] = []
    made = federation("quantise", personal=personal)
    play(made, group_of(made), 1, post=Post(tap=seen.append))
    assert {message.payload["codes"].size for message in seen} == {300}


PLAN = "[run]\nseeds = [0]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[compress]\nscheme = "topk"', "compress.scheme: unknown compressor"),
        (
            '[compress]\nscheme = "quantise | top_k"',
            "compress.scheme: compressor 'quantise' leaves no values",
        ),
        ('[compress]\nscheme = "top_k"\noptions = { bits = 4 }', "compress.options.bits: .*no such option"),
        (
            '[compress]\nscheme = "quantise"\noptions = { bits = 5 }',
            "compress.options.bits: should be 8 or 4",
        ),
        ('[compress]\nscheme = "top_k | quantise"\noptions = { bits = 4 }', "compress.options.bits: .*table"),
        ('[compress]\nscheme = "quantise"\nshare = 0.2', "compress.share: .*every coordinate"),
        ('[compress]\nscheme = "top_k"\nshare = 0.0', "compress.share"),
        ('[compress]\nscheme = "quantise"\nahead = true', "compress.ahead: .*keeps nothing"),
        (
            '[compress]\nscheme = "top_k"\nahead = true\n[aggregate]\nclient_momentum = 0.5',
            "compress.ahead: .*twice",
        ),
        (
            '[compress]\nscheme = "top_k_previous"\n[federate]\nparticipation = 0.5\nselection = "uniform"',
            "compress.scheme: .*has not seen",
        ),
    ],
)
def test_plans_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "plan.toml").write_text(PLAN + text)
    with pytest.raises(PlanError, match=says):
        load_plan(tmp_path / "plan.toml")


def test_a_share_in_the_plan_goes_to_the_part_that_keeps_one(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN + '[compress]\nscheme = "top_k | quantise"\nshare = 0.25')
    asked = load_plan(tmp_path / "plan.toml").compress
    made = compressor_of(asked.scheme, asked.options, asked.share)
    assert made.contraction(1000) == pytest.approx(0.25, abs=0.01)
    assert compressor_of("top_k", {"share": 0.5}, 0.25).contraction(1000) == 0.5


def test_after_a_round_in_which_nobody_arrived_all_is_sent() -> None:
    """The model stood still, so nothing says which coordinates matter; sites see the same."""
    made = federation("top_k_previous")
    group = group_of(made)
    play(made, group, 1)
    assert group.moved is not None
    assert group.moved.any()
    nobody = TakingPart(np.arange(SITES), np.zeros(SITES, np.bool_), np.ones(SITES), np.ones(SITES, np.int64))
    done = _Done(group.vectors()[:SITES], None, np.ones(SITES, np.float32))
    _collect(Post(), made, group, NAMES, nobody, done, Round(0, 2, 9))
    assert not group.moved.any()


def test_sites_that_train_ahead_go_on_from_what_they_did_not_send() -> None:
    """Three rounds by hand; in the last, all is sent, and the model is the mean of where the sites are."""
    short = compressor_of("random_k", {"share": 0.3})
    made = replace(federation(None), compressor=short, ahead=everything("random_k", {"share": 0.3}))
    group = group_of(made)
    waits = np.zeros((SITES, D))
    for number in (1, 2, 9):  # of nine
        before, begins = group.vector.copy(), group.begins()[:SITES]
        np.testing.assert_allclose(begins, before + waits, atol=1e-5)
        play(made, group, number, begins=begins)
        waits = waits + moves(number)
        sent = group.vector != before
        assert sent.sum() == (D if number == 9 else 0.3 * D)
        np.testing.assert_allclose((group.vector - before)[sent], waits.mean(axis=0)[sent], atol=1e-5)
        waits[:, sent] = 0
    assert group.residual is not None
    assert not group.residual.any()
    np.testing.assert_array_equal(group.begins()[:SITES], np.repeat(group.vector[None], SITES, axis=0))


def test_only_sites_that_train_ahead_begin_elsewhere_than_the_model() -> None:
    made = federation("random_k")
    group = group_of(made)
    play(made, group, 1)
    assert group.residual is not None
    assert group.residual.any()
    np.testing.assert_array_equal(group.begins(), group.vectors())


@pytest.mark.parametrize("scheme", ["random_k | quantise", "top_k", "count_sketch", "top_k_previous"])
def test_everything_leaves_no_coordinate_out(scheme: str) -> None:
    options = {"quantise": {"bits": 8}, "random_k": {"share": 0.1}} if "|" in scheme else {"share": 0.1}
    made, x = everything(scheme, options), moves(3)[0]
    public = Public(3, moves(4)[0])
    found = made.decode(made.encode(x, public, generator(0, "x")), public, D)
    np.testing.assert_allclose(found, x, atol=float(np.abs(x).max()) / 100)
