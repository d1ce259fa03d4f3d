"""Sums under CKKS: right to the noise, flooded as stated, and what arrives is checked. Extra `he`."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest

from lazaretto.errors import InputError, PlanError, RoundRefused, WireError
from lazaretto.secagg import ckks
from lazaretto.secagg.ckks import (
    Ckks,
    CkksServer,
    CkksSite,
    check_ckks,
    encryption_error,
    flood_scale,
    handle_at_ckks_server,
    handle_at_ckks_site,
    new_context,
    public_context,
    start_ckks_site,
)
from lazaretto.secagg.ckks_round import encrypt_round
from lazaretto.secagg.masked import prepare
from lazaretto.secagg.masked_messages import signed_message
from lazaretto.secagg.masked_server import CloseStep
from lazaretto.secagg.masked_settings import COORDINATOR, Masked
from lazaretto.types import Message

NAMES = ["a", "b", "c", "d"]
CHOSEN = Ckks(threshold=3)


def secret_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@pytest.fixture(scope="module")
def tenseal() -> Any:
    return pytest.importorskip("tenseal", reason="the extra 'he' is not installed")


@pytest.fixture(scope="module")
def context(tenseal: Any) -> bytes:
    return new_context()


class Parties:
    def __init__(self, context: bytes, d: int) -> None:
        self.setup, self.keys = prepare(Masked(threshold=3), NAMES, secret_of, 1, d + 2)
        self.server = CkksServer(self.setup, CHOSEN, public_context(context), self.keys[COORDINATOR])
        self.sites = {
            name: CkksSite(self.setup, CHOSEN, name, context, bytes(32), self.keys[name]) for name in NAMES
        }

    def updates(self, names: list[str], d: int) -> list[Message]:
        return [start_ckks_site(self.sites[name], np.full(d, 0.5), 1.0)[1][0] for name in names]

    def says(self, name: str, message: Message, payload: dict[str, Any]) -> Message:
        """The same message with other arrays, well signed."""
        payload = {key: array for key, array in payload.items() if key != "signature"}
        return signed_message(
            self.setup, self.keys[name], message.kind, message.sender, message.receiver, payload
        )


@pytest.mark.parametrize("d", [5, 5000])
@pytest.mark.parametrize("step", [None, "encrypted update", "opened sum"])
@pytest.mark.usefixtures("tenseal")
def test_the_sum_is_right_with_one_site_gone(d: int, step: str | None) -> None:
    rng = np.random.default_rng(d)
    updates = {name: rng.normal(0, 1, d) for name in NAMES}
    weights = {"a": 1.0, "b": 3.0, "c": 2.0, "d": 8.0}
    seen: list[Message] = []
    found = encrypt_round(
        CHOSEN,
        updates,
        weights,
        secret_of,
        seen.append,
        lambda name, kind: name == "b" and kind == step,
        round_number=1,
    )
    there = [name for name in NAMES if not (name == "b" and step == "encrypted update")]
    assert list(found.arrived) == there
    total = sum(weights[name] for name in there)
    mean = sum(weights[name] * updates[name] for name in there) / total
    apart = np.abs(found.update - mean).max()
    scale = flood_scale(CHOSEN, 4) * 8 / total
    assert apart < 7 * scale
    assert apart > scale / 1000, "no noise at all"
    assert {message.kind for message in seen} == set(ckks.CKKS_KINDS)


@pytest.mark.usefixtures("tenseal")
def test_too_few_are_refused_by_the_coordinator_and_by_sites(context: bytes) -> None:
    parties = Parties(context, 3)
    server = parties.server
    for message in parties.updates(["a", "b"], 3):
        server, _ = handle_at_ckks_server(server, message)
    with pytest.raises(RoundRefused, match="'encrypted update' than the threshold"):
        handle_at_ckks_server(server, CloseStep())
    payload = ckks._packed(list(server.sums))  # the coordinator asks all the same
    message = signed_message(
        parties.setup, parties.keys[COORDINATOR], "encrypted sum", COORDINATOR, "a", payload
    )
    with pytest.raises(RoundRefused, match="does not hold the threshold of sites"):
        handle_at_ckks_site(parties.sites["a"], message)


@pytest.mark.usefixtures("tenseal")
def test_the_noise_is_as_stated_and_cannot_be_averaged(context: bytes) -> None:
    d = 4000
    parties = Parties(context, d)
    server = parties.server
    for message in parties.updates(NAMES, d):
        server, _ = handle_at_ckks_server(server, message)
    server, sums = handle_at_ckks_server(server, CloseStep())
    opened = {
        message.receiver: handle_at_ckks_site(parties.sites[message.receiver], message) for message in sums
    }
    values = [answers[0].payload["sum"] for _, answers in opened.values()]
    for other in values[1:]:
        np.testing.assert_array_equal(values[0], other)
    noise = (values[0][:-2] - 2.0) / flood_scale(CHOSEN, 4)
    assert kstest(noise, "norm").pvalue > 1e-4
    state = opened["a"][0]
    assert handle_at_ckks_site(state, sums[0]) == (state, ())
    second = parties.updates(NAMES, d)
    other, _ = handle_at_ckks_server(parties.server, second[0])
    for message in second[1:]:
        other, _ = handle_at_ckks_server(other, message)
    _, again = handle_at_ckks_server(other, CloseStep())
    with pytest.raises(RoundRefused, match="open a second sum"):
        handle_at_ckks_site(state, again[0])
    fresh = handle_at_ckks_site(parties.sites["a"], again[0])[1][0].payload["sum"]
    assert np.abs(fresh - values[0]).max() > 0, "another sum has other noise"


def test_the_error_of_encryption_is_below_its_bound(tenseal: Any) -> None:
    """At a scale where floats can show it."""
    scale = 2.0**40
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=8192, coeff_mod_bit_sizes=[60, 60, 60]
    )
    context.global_scale = scale
    values = np.random.default_rng(0).normal(0, 1, 4096)
    errors = [
        np.abs(np.array(tenseal.ckks_vector(context, values.tolist()).decrypt()) - values).max()
        for _ in range(5)
    ]
    assert max(errors) < encryption_error() / scale
    assert max(errors) > encryption_error() / scale / 10_000, "the bound says nothing"


@pytest.mark.usefixtures("tenseal")
def test_what_arrives_is_checked(context: bytes, tenseal: Any) -> None:
    parties = Parties(context, 3)
    message = parties.updates(["a"], 3)[0]
    payload = dict(message.payload)

    def of(texts: list[bytes]) -> dict[str, Any]:
        return ckks._packed(texts)

    own = tenseal.context_from(context)
    own.global_scale = 2.0**40
    other = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=8192, coeff_mod_bit_sizes=[60, 58, 60]
    )
    other.global_scale = 2.0**85
    data = payload["encrypted"].tobytes()
    bad = [
        (of([data, data]), "another number or size"),
        (of([data[:1000]]), "another number or size"),
        (of([data + bytes(9_000)]), "another number or size"),
        ({**payload, "sizes": payload["sizes"] - 1}, "do not fit their sizes"),
        (of([bytes(len(data))]), "ciphertext"),
        (of([tenseal.ckks_vector(own, [1.0] * 5).serialize()]), "other parameters"),
        (of([tenseal.ckks_vector(other, [1.0] * 5).serialize()]), "ciphertext"),
    ]
    fine = tenseal.context_from(context)
    bad.append((of([tenseal.ckks_vector(fine, [1.0] * 4).serialize()]), "other parameters"))
    for changed, problem in bad:
        with pytest.raises(WireError, match=problem):
            handle_at_ckks_server(parties.server, parties.says("a", message, changed))
    flipped = payload["encrypted"].copy()
    flipped[1000] ^= 1
    for forged, problem in [
        (replace(message, payload={**payload, "encrypted": flipped}), "signature"),
        (replace(message, sender="b"), "signature"),
        (replace(message, sender="x"), "no use"),
        (replace(message, round=2), "round 1"),
        (replace(message, kind="opened sum"), "other arrays"),
    ]:
        with pytest.raises(WireError, match=problem):
            handle_at_ckks_server(parties.server, forged)
    server, _ = handle_at_ckks_server(parties.server, message)
    assert handle_at_ckks_server(server, message) == (server, ())
    second = parties.updates(["a"], 3)[0]
    with pytest.raises(WireError, match="something else than its first copy"):
        handle_at_ckks_server(server, second)


@pytest.mark.usefixtures("tenseal")
@pytest.mark.parametrize(("liar", "lie"), [(2, 1.0), (0, 1.0), (2, np.nan), (0, np.nan)])
def test_sites_that_open_different_sums_are_refused(context: bytes, liar: int, lie: float) -> None:
    parties = Parties(context, 3)
    server = parties.server
    for message in parties.updates(NAMES, 3):
        server, _ = handle_at_ckks_server(server, message)
    server, sums = handle_at_ckks_server(server, CloseStep())
    for place, message in enumerate(sums):
        site = parties.sites[message.receiver]
        _, (answer,) = handle_at_ckks_site(site, message)
        payload = {**answer.payload, "sum": answer.payload["sum"] + (lie if place == liar else 0.0)}
        server, _ = handle_at_ckks_server(server, parties.says(site.name, answer, payload))
    with pytest.raises(RoundRefused, match="opened different sums"):
        handle_at_ckks_server(server, CloseStep())


@pytest.mark.usefixtures("tenseal")
def test_the_coordinator_has_no_secret_key(context: bytes, tenseal: Any) -> None:
    public = tenseal.context_from(public_context(context))
    assert not public.has_secret_key()
    parties = Parties(context, 3)
    server, _ = handle_at_ckks_server(parties.server, parties.updates(["a"], 3)[0])
    with pytest.raises(ValueError, match="secret_key"):
        tenseal.ckks_vector_from(public, server.sums[0]).decrypt()
    assert "context" not in repr(parties.sites["a"])


@pytest.mark.parametrize(
    ("chosen", "sites", "problem"),
    [
        (Ckks(threshold=2), 3, "lets one update be opened"),
        (Ckks(threshold=3), 6, "lets one update be opened"),
        (Ckks(threshold=3), 2, "lets one update be opened"),
        (Ckks(threshold=9), 8, "lets one update be opened"),
        (Ckks(threshold=3, bound=np.inf), 4, "does not fit"),
        (Ckks(threshold=3, bound=1e12), 4, "does not fit"),
        (Ckks(threshold=3, flood_bits=10), 4, "protects nothing"),
    ],
)
def test_settings_are_refused_by_name(chosen: Ckks, sites: int, problem: str) -> None:
    with pytest.raises(PlanError, match=problem):
        check_ckks(chosen, sites)


def test_without_tenseal_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(PlanError, match=r"pip install 'lazaretto\[he\]'"):
        new_context()


@pytest.mark.usefixtures("tenseal")
def test_what_cannot_be_encrypted_stays_away() -> None:
    updates = {name: np.ones(3) for name in NAMES}
    updates["b"] = np.array([np.nan, 1, 1])
    found = encrypt_round(
        CHOSEN, updates, dict.fromkeys(NAMES, 1.0), secret_of, lambda m: None, round_number=0
    )
    assert "not a finite vector" in found.refused["b"]
    assert found.arrived == ("a", "c", "d")
    with pytest.raises(InputError, match="not vectors of one length"):
        encrypt_round(
            CHOSEN,
            {**updates, "b": np.ones(4)},
            dict.fromkeys(NAMES, 1.0),
            secret_of,
            lambda m: None,
            round_number=0,
        )
