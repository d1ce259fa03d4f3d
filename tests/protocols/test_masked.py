"""Masked sums: right with any third gone at any step, refused below the threshold, nothing told to a lying
server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.errors import InputError, PlanError, RoundRefused, WireError
from lazaretto.secagg import masked_site
from lazaretto.secagg.masked import mask_counts, mask_round, prepare
from lazaretto.secagg.masked_messages import FROM_COORDINATOR, FROM_SITES, lists_text, signed_message
from lazaretto.secagg.masked_server import CloseStep, ServerState, handle_at_server, start_server
from lazaretto.secagg.masked_settings import COORDINATOR, Masked, Setup, default_masked
from lazaretto.secagg.masked_site import SiteState, handle_at_site, start_site
from lazaretto.types import Message
from lazaretto.wire import decode_message, encode_message

D = 6


def secret_of(name: str) -> bytes:
    return hashlib.sha256(b"a test's secret of " + name.encode()).digest()


def names(n: int) -> list[str]:
    return [f"site-{i:02d}" for i in range(n)]


@dataclass
class Played:
    """A round played up to a step: every party's state, and what was sent in each step."""

    setup: Setup
    identities: Mapping[str, bytes]
    server: ServerState
    sites: dict[str, SiteState]
    vectors: Mapping[str, Any]
    sent: dict[str, dict[str, Message]]  # kind of message -> site (sender or receiver) -> message


def play(
    until: str, n: int = 5, gone: Mapping[str, Collection[str]] | None = None, number: int = 1
) -> Played:
    """Everything up to and with messages of kind `until`. gone: name -> kinds that never arrive."""
    lost = gone or {}
    setup, identities = prepare(default_masked(n), names(n), secret_of, number, D)
    rng = np.random.default_rng(number)
    vectors = {name: rng.integers(0, 1000, D).astype("<u4") for name in setup.sites}
    played = Played(setup, identities, start_server(setup, identities[COORDINATOR]), {}, vectors, {})
    answers: Mapping[str, Message] = {}
    for step, kind in enumerate(FROM_SITES):
        played.sent[kind] = {}
        for name in setup.sites if step == 0 else list(answers):
            if step == 0:
                made = start_site(setup, name, identities[name], secret_of(name), vectors[name])
            else:
                made = handle_at_site(played.sites[name], answers[name])
            played.sites[name], (message,) = made
            played.sent[kind][name] = message
            if kind not in lost.get(name, ()):
                played.server, _ = handle_at_server(played.server, message)
        if kind == until:
            return played
        played.server, messages = handle_at_server(played.server, CloseStep())
        answers = {message.receiver: message for message in messages}
        if messages:
            played.sent[messages[0].kind] = dict(answers)
            if messages[0].kind == until:
                return played
    return played


def from_server(played: Played, receiver: str, kind: str, payload: Mapping[str, Any]) -> Message:
    """What a lying coordinator sends: whatever it likes, with its own good signature."""
    key = played.identities[COORDINATOR]
    return signed_message(played.setup, key, kind, COORDINATOR, receiver, payload)


def from_site(played: Played, name: str, kind: str, payload: Mapping[str, Any]) -> Message:
    return signed_message(played.setup, played.identities[name], kind, name, COORDINATOR, payload)


# --- the sum ---


@given(
    step=st.sampled_from(FROM_SITES),
    n=st.integers(3, 8),
    seed=st.integers(0, 999),
    ring=st.sampled_from([32, 64]),
)
@settings(max_examples=60)
def test_any_third_may_vanish_at_any_step(step: str, n: int, seed: int, ring: Any) -> None:
    rng = np.random.default_rng(seed)
    chosen = replace(default_masked(n), ring_bits=ring)
    gone = set(rng.choice(names(n), n - chosen.threshold, replace=False))
    updates = {name: rng.normal(0, 1, D) for name in names(n)}
    weights = {name: float(rng.integers(1, 50)) for name in names(n)}
    found = mask_round(
        chosen,
        updates,
        weights,
        secret_of,
        lambda message: None,
        lambda name, kind: name in gone and kind == step,
        round_number=seed,
    )
    counted = set(names(n)) - (gone if FROM_SITES.index(step) <= 2 else set())
    assert set(found.arrived) == counted
    assert not found.refused
    total = sum(weights[name] for name in counted)
    mean = sum(weights[name] * updates[name] for name in counted) / total
    np.testing.assert_allclose(found.update, mean, atol=1e-5)
    assert found.weight == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("step", FROM_SITES)
def test_one_below_the_threshold_is_refused_by_name(step: str) -> None:
    n = 7
    chosen = default_masked(n)
    gone = names(n)[: n - chosen.threshold + 1]
    updates = {name: np.ones(D) for name in names(n)}
    with pytest.raises(RoundRefused, match=f"'{step}' than the threshold") as caught:
        mask_round(
            chosen,
            updates,
            dict.fromkeys(updates, 1.0),
            secret_of,
            lambda message: None,
            lambda name, kind: name in gone and kind == step,
            round_number=0,
        )
    assert f"{chosen.threshold - 1} of {chosen.threshold}" in str(caught.value)


def test_a_sparse_graph_gives_the_same_sum() -> None:
    n = 40
    sparse = Masked(threshold=36, hostile=1, degree=36, shares=26)
    rng = np.random.default_rng(0)
    updates = {name: rng.normal(0, 1, D) for name in names(n)}
    gone = names(n)[3::10]
    taken = {"mask shares": gone[:1], "masked vector": gone[1:3], "unmask shares": gone[3:]}
    found = mask_round(
        sparse,
        updates,
        dict.fromkeys(updates, 2.0),
        secret_of,
        lambda message: None,
        lambda name, kind: name in taken.get(kind, ()),
        round_number=0,
    )
    assert set(found.arrived) == set(names(n)) - set(gone[:3])
    np.testing.assert_allclose(
        found.update, np.mean([updates[name] for name in found.arrived], axis=0), atol=1e-5
    )


def test_counts_are_exact_and_keep_their_shape() -> None:
    rng = np.random.default_rng(0)
    counts = {name: rng.integers(-9000, 9001, (2, 3, 4)) for name in names(5)}
    counts[names(5)[2]] = np.full((2, 3, 4), 9001)
    found = mask_counts(default_masked(5), counts, 9000, secret_of, lambda message: None, round_number=0)
    assert list(found.refused) == [names(5)[2]]
    assert "within the public largest" in found.refused[names(5)[2]]
    np.testing.assert_array_equal(found.total, sum(counts[name] for name in found.arrived))
    assert len(found.arrived) == 4
    with pytest.raises(PlanError, match="too small for counts of 5 sites"):
        mask_counts(default_masked(5), counts, 2**29, secret_of, lambda message: None, round_number=0)


def test_a_site_with_nan_stays_away_and_a_long_update_is_shortened() -> None:
    updates = {name: np.ones(D) for name in names(6)}
    updates[names(6)[0]] = np.array([np.nan] * D)
    updates[names(6)[1]] = np.array([80.0, -40.0, 0, 0, 0, 0])
    found = mask_round(
        default_masked(6), updates, dict.fromkeys(updates, 1.0), secret_of, lambda m: None, round_number=0
    )
    assert "not a finite vector" in found.refused[names(6)[0]]
    np.testing.assert_allclose(found.update, (np.array([8.0, -4, 0, 0, 0, 0]) + [4] * 6) / 5, atol=1e-6)


def test_every_byte_passes_the_tap_and_can_be_read_back() -> None:
    seen: list[Message] = []
    updates = {name: np.ones(D) for name in names(3)}
    mask_round(
        default_masked(3), updates, dict.fromkeys(updates, 1.0), secret_of, seen.append, round_number=0
    )
    assert {message.kind for message in seen} == {*FROM_SITES, *FROM_COORDINATOR}
    assert len(seen) == 3 * (len(FROM_SITES) + len(FROM_COORDINATOR))
    for message in seen:
        assert encode_message(decode_message(encode_message(message))) == encode_message(message)


@pytest.mark.parametrize(
    ("weights", "problem"),
    [({"site-00": 1.0}, "not one number above 0"), (dict.fromkeys(names(3), 0.0), "not one number above 0")],
)
def test_weights_are_checked(weights: dict[str, float], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        mask_round(
            default_masked(3),
            {name: np.ones(D) for name in names(3)},
            weights,
            secret_of,
            lambda message: None,
            round_number=0,
        )


# --- a coordinator that lies ---


def test_two_lists_of_survivors_open_nothing() -> None:
    """Half of the sites are told that one is gone, the others that it is there: both secrets would be
    opened.
    """
    played = play("masked vector", 6)
    everyone = np.arange(6, dtype="<i4")
    without = everyone[everyone != 5]
    agreed: dict[str, Any] = {}
    for place, name in enumerate(played.setup.sites[:5]):
        told = everyone if place % 2 else without
        message = from_server(played, name, "survivors", {"sites": told})
        played.sites[name], (answer,) = handle_at_site(played.sites[name], message)
        agreed[name] = answer.payload["agreed"]
    payload = {"signers": without, "agreed": np.array(list(agreed.values()))}
    for name in played.setup.sites[:5]:
        with pytest.raises(RoundRefused, match="was shown other lists of survivors"):
            handle_at_site(played.sites[name], from_server(played, name, "all agreed", payload))
    few = {"signers": without[::2], "agreed": np.array(list(agreed.values()))[::2]}
    with pytest.raises(RoundRefused, match="too few survivors signed"):
        handle_at_site(played.sites["site-00"], from_server(played, "site-00", "all agreed", few))


def test_one_site_is_not_shown_a_second_list() -> None:
    played = play("agreement", 5)
    second = from_server(played, "site-00", "survivors", {"sites": np.arange(4, dtype="<i4")})
    with pytest.raises(RoundRefused, match="two different messages 'survivors'"):
        handle_at_site(played.sites["site-00"], second)


def test_no_site_opens_both_secrets_of_another() -> None:
    played = play("unmask shares", 6, gone={"site-05": ["masked vector"]})
    for message in played.sent["unmask shares"].values():
        alive, gone = set(message.payload["alive"]), set(message.payload["gone"])
        assert not alive & gone
        assert gone == {5}
        assert alive == set(range(5))
    again = played.sent["all agreed"]["site-00"]
    state, messages = handle_at_site(played.sites["site-00"], again)
    assert not messages
    assert not state.held, "what was opened once is forgotten"
    assert state.secret == b""
    lists = (tuple(range(6)),) * 3  # now with site-05 among the living, signed by hostile sites
    text = lists_text(played.setup, lists)
    assert text != lists_text(played.setup, played.sites["site-00"].lists)
    other = from_server(
        played,
        "site-00",
        "all agreed",
        {name: array[:4] for name, array in again.payload.items() if name != "signature"},
    )
    with pytest.raises(RoundRefused, match="two different messages 'all agreed'"):
        handle_at_site(state, other)


@pytest.mark.parametrize(
    ("sites", "problem"),
    [([1, 2, 3, 4], "said to be gone"), ([0, 1, 2], "fewer sites are left than the threshold")],
)
def test_lists_that_no_honest_coordinator_sends(sites: list[int], problem: str) -> None:
    played = play("masked vector", 5)
    message = from_server(played, "site-00", "survivors", {"sites": np.array(sites, "<i4")})
    with pytest.raises(RoundRefused, match=problem):
        handle_at_site(played.sites["site-00"], message)


def test_a_list_cannot_grow() -> None:
    played = play("masked vector", 6, gone={"site-05": ["mask shares"]})
    message = from_server(played, "site-00", "survivors", {"sites": np.arange(6, dtype="<i4")})
    with pytest.raises(RoundRefused, match="list of sites grew"):
        handle_at_site(played.sites["site-00"], message)


@pytest.mark.parametrize("sites", [[0, 0, 1, 2, 3], [3, 2, 1, 0], [-1, 0, 1, 2, 3], [0, 1, 2, 3, 99]])
def test_malformed_lists(sites: list[int]) -> None:
    played = play("masked vector", 5)
    message = from_server(played, "site-00", "survivors", {"sites": np.array(sites, "<i4")})
    with pytest.raises(WireError, match="not ascending or names nobody"):
        handle_at_site(played.sites["site-00"], message)


def test_the_coordinator_cannot_put_its_own_key_for_a_site() -> None:
    played = play("mask keys", 5)
    _, messages = handle_at_server(played.server, CloseStep())
    payload = {name: array.copy() for name, array in messages[0].payload.items() if name != "signature"}
    payload["keys"][0, 1] = 7
    message = from_server(played, "site-00", "all mask keys", payload)
    with pytest.raises(WireError, match=r"signature of 'mask keys' from 'site-01'"):
        handle_at_site(played.sites["site-00"], message)


def test_keys_of_an_old_round_do_not_serve_again() -> None:
    old, played = play("mask keys", 5, number=1), play("mask keys", 5, number=2)
    _, messages = handle_at_server(played.server, CloseStep())
    payload = {name: array.copy() for name, array in messages[0].payload.items() if name != "signature"}
    for name, key in (("keys", "keys"), ("commitments", "commitment"), ("signatures", "signature")):
        payload[name][0] = old.sent["mask keys"]["site-01"].payload[key]
    with pytest.raises(WireError, match=r"signature of 'mask keys' from 'site-01'"):
        handle_at_site(played.sites["site-00"], from_server(played, "site-00", "all mask keys", payload))


# --- a network and sites that misbehave ---


@pytest.mark.parametrize("kind", FROM_SITES)
def test_copies_forgeries_and_old_messages_at_the_coordinator(kind: str) -> None:
    played, before = play(kind, 5), play(FROM_SITES[0], 5)
    message = played.sent[kind]["site-01"]
    same, sent = handle_at_server(played.server, message)
    assert same.came == played.server.came
    assert not sent
    if kind != "mask keys":
        with pytest.raises(WireError, match="before its turn"):
            handle_at_server(before.server, message)
    first = next(name for name in message.payload if name != "signature" and message.payload[name].size)
    changed = {name: array.copy() for name, array in message.payload.items()}
    changed[first].flat[0] ^= 1
    for forged, problem in [
        (replace(message, payload=changed), "signature of .* is not its sender's"),
        (replace(message, sender="site-02"), "signature of .* is not its sender's"),
        (replace(message, sender="nobody"), "no use for this message"),
        (replace(message, kind="model"), "no use for this message"),
        (replace(message, round=2), "is not for 'coordinator' in round 1"),
        (replace(message, link="device-site"), "is not for 'coordinator'"),
        (replace(message, receiver="site-00"), "is not for 'coordinator'"),
        (replace(message, payload={**message.payload, "more": np.zeros(1)}), "holds other arrays"),
        (
            replace(message, payload={**message.payload, first: message.payload[first].astype("<f8")}),
            "has another form",
        ),
        (replace(message, payload={**message.payload, first: message.payload[first][None]}), "another form"),
    ]:
        with pytest.raises(WireError, match=problem):
            handle_at_server(played.server, forged)
    old = play(kind, 5, number=7).sent[kind]["site-01"]
    with pytest.raises(WireError, match=r"signature of .* is not its sender's"):
        handle_at_server(played.server, replace(old, round=1))


@pytest.mark.parametrize("kind", FROM_COORDINATOR)
def test_copies_forgeries_and_old_messages_at_a_site(kind: str) -> None:
    played = play(kind, 5)
    message = played.sent[kind]["site-00"]
    state, answer = handle_at_site(played.sites["site-00"], message)
    assert answer
    same, nothing = handle_at_site(state, message)
    assert same is state
    assert not nothing
    changed = {name: array.copy() for name, array in message.payload.items()}
    changed["signature"][0] ^= 1
    for forged, problem in [
        (replace(message, payload=changed), "signature of .* is not its sender's"),
        (played.sent[kind]["site-01"], "is not for 'site-00'"),
        (replace(message, sender="site-01"), "no use for this message"),
        (replace(message, round=9), "in round 1"),
    ]:
        with pytest.raises(WireError, match=problem):
            handle_at_site(played.sites["site-00"], forged)
    if kind != FROM_COORDINATOR[-1]:
        later = play(FROM_COORDINATOR[-1], 5).sent[FROM_COORDINATOR[-1]]["site-00"]
        with pytest.raises(WireError, match="before its turn"):
            handle_at_site(played.sites["site-00"], later)


def test_a_site_that_says_two_things_is_counted_once() -> None:
    played = play("masked vector", 5)
    other = from_site(played, "site-01", "masked vector", {"masked": np.zeros(D, "<u4")})
    with pytest.raises(WireError, match="something else than its first copy"):
        handle_at_server(played.server, other)


def test_a_late_vector_is_not_added() -> None:
    played = play("survivors", 6, gone={"site-05": ["masked vector"]})
    late = played.sent["masked vector"]["site-05"]
    state, _ = handle_at_server(played.server, late)
    assert state is played.server


def test_a_wrong_share_is_never_a_wrong_sum() -> None:
    played = play("all agreed", 5)
    for name in played.setup.sites:
        played.sites[name], (message,) = handle_at_site(played.sites[name], played.sent["all agreed"][name])
        payload = {key: array.copy() for key, array in message.payload.items() if key != "signature"}
        if name == "site-00":
            payload["self"][3, 31] ^= 1
        played.server, _ = handle_at_server(played.server, from_site(played, name, "unmask shares", payload))
    with pytest.raises(RoundRefused, match="do not open the self mask that site 'site-03' published"):
        handle_at_server(played.server, CloseStep())


@pytest.mark.parametrize("change", ["both", "stranger", "field", "count"])
def test_shares_that_nobody_asked_for(change: str) -> None:
    played = play("all agreed", 5)
    message = handle_at_site(played.sites["site-00"], played.sent["all agreed"]["site-00"])[1][0]
    payload = {key: array.copy() for key, array in message.payload.items() if key != "signature"}
    if change == "both":
        payload["gone"], payload["pair"] = payload["alive"], payload["self"]
    elif change == "stranger":
        payload["alive"] = np.arange(1, 6, dtype="<i4")
    elif change == "field":
        payload["self"][0] = 255
    else:
        payload["self"] = payload["self"][:-1]
    problem = "opens shares that nobody asked for|not ascending|outside of the field"
    with pytest.raises(WireError, match=problem):
        handle_at_server(played.server, from_site(played, "site-00", "unmask shares", payload))


def test_shares_that_cannot_be_unsealed_are_left_out_and_the_sum_is_right() -> None:
    played = play("mask shares", 5, gone={"site-02": ["mask shares"]})
    good = played.sent["mask shares"]["site-02"]
    spoiled = good.payload["sealed"].copy()
    spoiled[0] ^= 1
    bad = from_site(played, "site-02", "mask shares", {"to": good.payload["to"], "sealed": spoiled})
    server, _ = handle_at_server(played.server, bad)
    for _ in FROM_COORDINATOR[1:]:
        server, messages = handle_at_server(server, CloseStep())
        for message in messages:
            played.sites[message.receiver], sent = handle_at_site(played.sites[message.receiver], message)
            for answer in sent:
                server, _ = handle_at_server(server, answer)
    server, _ = handle_at_server(server, CloseStep())
    assert server.done
    np.testing.assert_array_equal(server.total, sum(played.vectors.values()))


def test_states_do_not_print_secrets() -> None:
    played = play("masked vector", 3)
    for name, state in played.sites.items():
        text = repr(state)
        for hidden in (secret_of(name), played.identities[name], state.secret):
            assert repr(hidden)[2:-1] not in text
            assert hidden.hex() not in text
        assert not any(str(share) in text for both in state.held.values() for share in both)
    assert "identity" not in repr(played.server)


def test_a_site_checks_what_it_is_given() -> None:
    played = play("mask keys", 3)
    identity = played.identities["site-00"]
    for vector in (np.zeros(D, "<u8"), np.zeros(D + 1, "<u4")):
        with pytest.raises(InputError, match="another form"):
            start_site(played.setup, "site-00", identity, secret_of("x"), vector)
    with pytest.raises(InputError, match="not in this round"):
        start_site(played.setup, "site-09", identity, secret_of("x"), np.zeros(D, "<u4"))
    with pytest.raises(InputError, match="another length"):
        start_site(played.setup, "site-00", identity, b"short", np.zeros(D, "<u4"))


def test_who_deals_shares_that_are_none_frames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The holders leave them out; passed on, they would have the coordinator refuse the holders."""
    honest = masked_site.split_secret
    setup, identities = prepare(default_masked(4), names(4), secret_of, 1, D)
    server, sites = start_server(setup, identities[COORDINATOR]), dict[str, SiteState]()
    answers: Mapping[str, Message] = {}
    refused = ""
    for step in range(len(FROM_SITES)):
        for name in setup.sites if step == 0 else list(answers):
            if step == 0:
                made = start_site(setup, name, identities[name], secret_of(name), np.ones(D, "<u4"))
            else:
                with monkeypatch.context() as lying:
                    if name == "site-03" and step == 1:

                        def wrong(secret: int, places: Any, more: Any) -> list[int]:
                            right = honest(secret, places, more)
                            return [
                                v if place == 4 else 2**256 - 1
                                for place, v in zip(places, right, strict=True)
                            ]

                        lying.setattr(masked_site, "split_secret", wrong)
                    made = handle_at_site(sites[name], answers[name])
            sites[name], sent = made
            for message in sent:
                server, _ = handle_at_server(server, message)  # raises where it would blame a sender
        try:
            server, messages = handle_at_server(server, CloseStep())
        except RoundRefused as error:
            refused = str(error)
            break
        answers = {message.receiver: message for message in messages}
    assert "site-03" in refused
    for name in ("site-00", "site-01", "site-02"):
        assert name not in refused


def test_a_site_cannot_have_the_name_of_the_coordinator() -> None:
    with pytest.raises(InputError, match="coordinator's name"):
        prepare(default_masked(4), [*names(3), COORDINATOR], secret_of, 1, D)
