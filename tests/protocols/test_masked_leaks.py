"""What a curious coordinator could read: nothing from honest code, and each planted leak is found by the
same test.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from lazaretto.secagg import masked_keys, masked_site
from lazaretto.secagg.masked import mask_round, prepare
from lazaretto.secagg.masked_keys import add_mask
from lazaretto.secagg.masked_messages import FROM_SITES
from lazaretto.secagg.masked_server import CloseStep, ServerState, handle_at_server, start_server
from lazaretto.secagg.masked_settings import COORDINATOR, Setup, default_masked, holders, to_fixed
from lazaretto.secagg.masked_shamir import combine_shares
from lazaretto.secagg.masked_site import SiteState, handle_at_site, mask_private, pair_mask_key, start_site
from lazaretto.types import Message

N, D = 5, 20_000
ERROR = 1e-6  # chance that honest code fails one of the tests of uniformity
NAMES = [f"site-{i}" for i in range(N)]


def secret_of(name: str, place: int = 0) -> bytes:
    return hashlib.sha256(f"{place} a secret of {name}".encode()).digest()


def vectors(seed: int) -> dict[str, Any]:
    """Updates as they are: small numbers around 0 in the ring."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 1000, D).astype(np.int64).astype("<u4") for name in NAMES}


def watch(
    values: dict[str, Any], number: int, late: str | None = None, place: int = 0
) -> tuple[Setup, list[Message], ServerState, ServerState, dict[str, SiteState]]:
    """(setup, all messages of sites, coordinator before the masks are off, and after, sites before they open
    shares).

    late: a site whose masked vector arrives after the step was closed.
    """
    setup, identities = prepare(default_masked(N), NAMES, lambda name: secret_of(name, place), number, D)
    server, sites, seen = start_server(setup, identities[COORDINATOR]), {}, []
    before, kept, answers = server, {}, {}
    for step, kind in enumerate(FROM_SITES):
        for name in setup.sites if step == 0 else list(answers):
            if step == 0:
                made = start_site(setup, name, identities[name], secret_of(name, place), values[name])
            else:
                kept[name] = sites[name]
                made = handle_at_site(sites[name], answers[name])
            sites[name] = made[0]
            seen.extend(made[1])
            if not (kind == "masked vector" and name == late):
                server, _ = handle_at_server(server, made[1][0])
        before = server
        server, messages = handle_at_server(server, CloseStep())
        answers = {message.receiver: message for message in messages}
    return setup, seen, before, server, kept


def of(seen: list[Message], kind: str) -> dict[str, Message]:
    return {message.sender: message for message in seen if message.kind == kind}


def bytes_are_uniform(array: Any) -> bool:
    """Chi-square of each byte of a number by its place; honest code fails with probability 1e-6."""
    table = array.view(np.uint8).reshape(len(array), -1)
    counts = np.array([np.bincount(column, minlength=256) for column in table.T])
    return bool(chisquare(counts.ravel()).pvalue > ERROR)


def look_alike(first: Any, second: Any) -> bool:
    """Two-sample chi-square of bytes; honest code fails with probability 1e-6."""
    counts = [np.bincount(array.view(np.uint8), minlength=256) for array in (first, second)]
    return bool(chi2_contingency(np.array(counts)).pvalue > ERROR)


# --- masks ---


def test_masked_vectors_and_their_sum_are_uniform() -> None:
    values = vectors(1)
    _, seen, before, server, _ = watch(values, 1)
    for message in of(seen, "masked vector").values():
        assert bytes_are_uniform(message.payload["masked"])
    assert bytes_are_uniform(before.total), "the sum with the self masks still on tells nothing"
    np.testing.assert_array_equal(server.total, sum(values.values()))
    assert not bytes_are_uniform(server.total)
    assert not bytes_are_uniform(values["site-0"]), "the test tells an update from noise"


def test_what_is_sent_does_not_tell_two_sets_of_updates_with_one_sum_apart() -> None:
    ours = vectors(1)
    others = dict(zip(NAMES, [np.roll(v, 1) for v in vectors(2).values()], strict=True))
    others[NAMES[-1]] = sum(ours.values()) - sum(others[name] for name in NAMES[:-1])
    views = []
    for place, values in enumerate((ours, others)):
        _, seen, _, server, _ = watch(values, 1, place=place)
        views.append(of(seen, "masked vector"))
        np.testing.assert_array_equal(server.total, sum(ours.values()))
    for name in NAMES:
        first, second = (view[name].payload["masked"] for view in views)
        assert look_alike(first, second)
    assert not look_alike(ours["site-0"], ours["site-0"] * np.uint32(7) + np.uint32(2**20))


def test_planted_no_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked_site, "add_mask", lambda total, key, subtract=False: None)
    _, seen, _, _, _ = watch_until_masked(vectors(1))
    assert not bytes_are_uniform(of(seen, "masked vector")["site-0"].payload["masked"])


def test_planted_pair_masks_alone_are_found_in_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    _drop_self_masks(monkeypatch)
    _, seen, before, _, _ = watch_until_masked(vectors(1))
    assert bytes_are_uniform(of(seen, "masked vector")["site-0"].payload["masked"])
    assert not bytes_are_uniform(before.total), "without self masks the masked sum is the sum"


def watch_until_masked(values: dict[str, Any]) -> Any:
    """As `watch`, as far as the masked vectors: code with a planted fault gets no further."""
    setup, identities = prepare(default_masked(N), NAMES, secret_of, 1, D)
    server, sites, seen, answers = start_server(setup, identities[COORDINATOR]), {}, [], {}
    for step in range(3):
        for name in setup.sites:
            if step == 0:
                made = start_site(setup, name, identities[name], secret_of(name), values[name])
            else:
                made = handle_at_site(sites[name], answers[name])
            sites[name] = made[0]
            seen.extend(made[1])
            server, _ = handle_at_server(server, made[1][0])
        if step < 2:
            server, messages = handle_at_server(server, CloseStep())
            answers = {message.receiver: message for message in messages}
    return setup, seen, server, server, sites


def _drop_self_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = masked_site.self_mask_key
    keys: set[bytes] = set()

    def noted(seed: bytes) -> bytes:
        keys.add(honest(seed))
        return honest(seed)

    def add(total: Any, key: bytes, *, subtract: bool = False) -> None:
        if key not in keys:
            add_mask(total, key, subtract=subtract)

    monkeypatch.setattr(masked_site, "self_mask_key", noted)
    monkeypatch.setattr(masked_site, "add_mask", add)


# --- a vector that came late ---


def read_late(setup: Setup, masked: Any, server: ServerState, kept: dict[str, SiteState], late: str) -> Any:
    """What the coordinator makes of a late vector with all shares of its pair masks, which it gets."""
    number = setup.sites.index(late)
    shares = {state.number + 1: state.held[number][1] for state in kept.values() if number in state.held}
    seed = combine_shares(shares, setup.settings.threshold).to_bytes(31, "big")
    found = masked.copy()
    for other in holders(setup)[number]:
        if other != number:
            public = server.keys[other]["keys"][1].tobytes()
            add_mask(found, pair_mask_key(setup, mask_private(seed), public), subtract=number < other)
    return found


def test_a_vector_that_came_late_cannot_be_read() -> None:
    values = vectors(3)
    setup, seen, _, server, kept = watch(values, 1, late="site-2")
    left = read_late(setup, of(seen, "masked vector")["site-2"].payload["masked"], server, kept, "site-2")
    assert bytes_are_uniform(left)
    np.testing.assert_array_equal(server.total, sum(v for name, v in values.items() if name != "site-2"))


def test_planted_missing_self_mask_lets_a_late_vector_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = vectors(3)
    _drop_self_masks(monkeypatch)
    setup, seen, _, server, kept = watch(values, 1, late="site-2")
    left = read_late(setup, of(seen, "masked vector")["site-2"].payload["masked"], server, kept, "site-2")
    np.testing.assert_array_equal(left, values["site-2"])


# --- two rounds ---


def difference_tells(seed: int) -> bool:
    """Whether the difference of what a site sends in two rounds, under one secret, is that of its updates."""
    first, second = vectors(seed), vectors(seed + 1)
    views = [of(watch(values, place)[1], "masked vector") for place, values in enumerate((first, second))]
    sent = views[0]["site-1"].payload["masked"] - views[1]["site-1"].payload["masked"]
    told = bool((sent == first["site-1"] - second["site-1"]).all())
    assert told or bytes_are_uniform(sent)
    return told


def test_no_mask_serves_in_two_rounds_even_under_one_secret() -> None:
    assert not difference_tells(5)


def test_planted_reused_seed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = masked_keys.derive

    def of_no_round(secret: bytes, *label: Any) -> bytes:
        return honest(secret, *(part for part in label if not isinstance(part, bytes)))

    monkeypatch.setattr(masked_keys, "derive", of_no_round)
    monkeypatch.setattr(masked_site, "derive", of_no_round)
    assert difference_tells(5)


def test_one_secret_in_one_round_does_not_mask_two_vectors_alike() -> None:
    first, second = vectors(1), vectors(2)
    sent = [of(watch(values, 1)[1], "masked vector")["site-0"].payload for values in (first, second)]
    assert bytes_are_uniform(sent[0]["masked"] - sent[1]["masked"])


# --- sealed shares ---


def pads_repeat(values: dict[str, Any]) -> bool:
    """Whether what two sites seal for each other is under one pad: then the two texts tell their
    difference.
    """
    setup, seen, _, _, kept = watch(values, 1)
    sealed = {}
    for name, message in of(seen, "mask shares").items():
        for to, text in zip(message.payload["to"], message.payload["sealed"], strict=True):
            sealed[setup.sites.index(name), int(to)] = text[:64]
    found = []
    for i, j in sealed:
        texts = [
            b"".join(share.to_bytes(32, "big") for share in kept[setup.sites[to]].held[sender])
            for sender, to in ((i, j), (j, i))
        ]
        plain = np.bitwise_xor(*(np.frombuffer(text, np.uint8) for text in texts))
        found.append(bool((plain == (sealed[i, j] ^ sealed[j, i])).all()))
    return any(found)


def test_no_pad_of_sealed_shares_repeats() -> None:
    assert not pads_repeat(vectors(1))


def test_planted_nonce_reuse_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_no_direction(state: SiteState, private: bytes, *, sender: int, receiver: int) -> bytes:
        other = receiver if sender == state.number else sender
        return masked_keys.agreed_key(private, state.keys[other][0], state.setup.session, "seal")

    monkeypatch.setattr(masked_site, "_sealing_key", of_no_direction)
    assert pads_repeat(vectors(1))


def test_nothing_of_an_update_is_in_any_message() -> None:
    """No two neighbouring numbers of a vector stand in any message of the round."""
    rng = np.random.default_rng(0)
    updates = {name: rng.normal(0, 1, 300) for name in NAMES}
    seen: list[Message] = []
    mask_round(default_masked(N), updates, dict.fromkeys(NAMES, 1.0), secret_of, seen.append, round_number=1)
    arrays = [array for message in seen for array in message.payload.values()]
    sent = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    for update in updates.values():
        text = to_fixed(update, 1.0, default_masked(N), N)[:-1].tobytes()
        assert not any(text[k : k + 8] in sent for k in range(0, len(text) - 8, 4))
