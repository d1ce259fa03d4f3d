"""The bill of what leaves a site besides updates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lazaretto.errors import InputError
from lazaretto.privacy.budget import spent
from lazaretto.privacy.charges import baseline_charges, count_charges, metrics_charge
from lazaretto.privacy.counts import CountNoise, Normals


def _none(what: str, site: int) -> Normals:
    return np.zeros


def _noise(multiplier: float) -> CountNoise:
    return CountNoise(unit="record", noise_multiplier=multiplier, normals=_none)


def test_each_part_pays_what_it_gave() -> None:
    bill = spent([*count_charges(_noise(5)), metrics_charge("record")], 1e-5)
    # the Gaussian mechanism of Balle and Wang 2018, https://arxiv.org/abs/1805.06083, Theorem 8, at sigma 5
    assert bill["training units"] == pytest.approx(0.75, abs=0.05)
    assert bill["training units"] == bill["validation units"]
    assert bill["test units"] == math.inf


def test_a_record_in_two_examples_pays_more() -> None:
    once, twice = (spent(count_charges(_noise(10), k), 1e-5)["training units"] for k in (1, 2))
    half = spent(count_charges(_noise(5)), 1e-5)["training units"]
    assert once < twice == half
    with pytest.raises(InputError):
        count_charges(_noise(1), 0)


def test_no_noise_protects_nobody_and_the_bill_says_so() -> None:
    assert spent(count_charges(_noise(0)), 1e-5)["validation units"] == math.inf
    assert "not private" in metrics_charge("patient").words


def test_baselines_without_noise_are_no_secret_on_the_bill() -> None:
    assert baseline_charges([], "record") == ()
    charges = baseline_charges(["pooled", "gru"], "record")
    assert {charge.part for charge in charges} == {"training units", "validation units"}
    assert all("pooled, gru" in charge.words for charge in charges)
    assert spent(charges, 1e-5)["training units"] == math.inf
