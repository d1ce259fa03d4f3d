"""Temperature scaling keeps every ranking, never worsens what it is fitted on, and finds the truth."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.errors import DataError
from lazaretto.evaluate.judge import draws_for, judge_system, table_of
from lazaretto.evaluate.metrics import decision_curve, reliability
from lazaretto.evaluate.operating import (
    AS_IT_IS,
    fit_calibration,
    fit_platt,
    fit_temperature,
    log_loss,
    log_odds,
    operating_from_json,
    operating_to_json,
)
from lazaretto.evaluate.scored import Protocol, SeedScores
from lazaretto.evaluate.thresholds import operating_points
from lazaretto.keys import generator

Make = Callable[..., list[SeedScores]]


@settings(max_examples=80)
@given(
    rows=st.lists(st.tuples(st.floats(-1e4, 1e4, width=32), st.booleans()), min_size=1, max_size=40),
)
def test_temperature_keeps_the_order_and_never_worsens_validation(rows: list[tuple[float, bool]]) -> None:
    score = np.asarray([row[0] for row in rows])
    attacked = np.asarray([row[1] for row in rows])
    found = fit_temperature(score, attacked)
    assert found.intercept == 0
    assert 1e-3 * (1 - 1e-9) <= found.slope <= 1e3 * (1 + 1e-9)
    assert log_loss(found, score, attacked) <= log_loss(AS_IT_IS, score, attacked)
    odds = log_odds(found, score)
    assert (np.sign(odds) == np.sign(score)).all()
    for low, high in itertools.pairwise(np.sort(score)):
        assert log_odds(found, low) <= log_odds(found, high)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_is_that_of_a_search_by_brute_force(temperature: float) -> None:
    rng = generator(0, "temperature", temperature)
    logits = 2 * rng.normal(size=3000)
    attacked = rng.random(3000) < 1 / (1 + np.exp(-logits))
    score = logits * temperature
    inverse = np.geomspace(0.05, 20, 3001)
    losses = [np.mean(np.log1p(np.exp(-np.where(attacked, 1, -1) * score * a))) for a in inverse]
    best = inverse[int(np.argmin(losses))]
    found = fit_temperature(score, attacked)
    assert found.slope == pytest.approx(best, rel=3e-3)
    assert log_loss(found, score, attacked) <= min(losses) + 1e-9
    assert 1 / found.slope == pytest.approx(temperature, rel=0.1)


def test_platt_is_never_worse_than_temperature_where_both_can_fit() -> None:
    rng = generator(1, "temperature")
    score = rng.normal(size=2000) + 1.5
    attacked = rng.random(2000) < 1 / (1 + np.exp(-(2 * score - 4)))
    losses = [log_loss(fit(score, attacked), score, attacked) for fit in (fit_platt, fit_temperature)]
    assert losses[0] < losses[1] < log_loss(AS_IT_IS, score, attacked)
    assert fit_calibration("none", score, attacked) == AS_IT_IS
    assert fit_calibration("platt", score, attacked) == fit_platt(score, attacked)
    assert fit_calibration("temperature", score, attacked) == fit_temperature(score, attacked)


def test_nothing_to_calibrate_on_is_said() -> None:
    with pytest.raises(DataError, match="calibrate"):
        fit_temperature(np.zeros(0), np.zeros(0, bool))


def test_calibration_changes_probabilities_and_nothing_else(system: Make, protocol: Protocol) -> None:
    seeds = system(2.0, 0, seeds=2)
    draws = draws_for(seeds, protocol)
    tables = {}
    for method in ("platt", "temperature", "none"):
        asked = dataclasses.replace(protocol, calibration=method)
        judged = judge_system(seeds, asked, "system", draws)
        assert judged.reliability["method"] == method
        tables[method] = table_of(judged, protocol.classes)
    for metric in ("auroc", "auprc", "recall", "false_positive_rate", "calibration_error_before"):
        assert tables["platt"][metric] == tables["temperature"][metric] == tables["none"][metric]
    assert tables["none"]["calibration_error"] == tables["none"]["calibration_error_before"]
    assert tables["platt"]["calibration_error"]["value"] < tables["none"]["calibration_error"]["value"]


@pytest.mark.parametrize("method", ["platt", "temperature", "none"])
def test_the_method_is_stored_with_the_model(system: Make, protocol: Protocol, method: str) -> None:
    validation = system(2.0, 0, seeds=1)[0].validation
    assert validation is not None
    point = operating_points(validation, dataclasses.replace(protocol, calibration=method))
    body = json.loads(json.dumps(operating_to_json(point)))
    assert operating_from_json(body) == point
    assert body.pop("calibration") == method
    assert operating_from_json(body).calibration == "platt"  # what was stored before there was a choice
    with pytest.raises(DataError, match="stored operating points"):
        operating_from_json(body | {"calibration": "magic"})


def test_reliability_is_that_of_a_loop_and_holds_every_step() -> None:
    rng = generator(2, "reliability")
    said = [rng.random(400).round(2), rng.random(300).round(2)]
    true = [rng.random(len(one)) < one**2 for one in said]
    found = reliability(said, true, bins=5)
    assert sum(found["steps"]) == 700
    whole, truth = np.concatenate(said), np.concatenate(true)
    cuts = [-1.0, *np.unique(np.quantile(whole, [0.2, 0.4, 0.6, 0.8])), 2.0]
    for place, (low, high) in enumerate(itertools.pairwise(cuts)):
        own = (whole > low) & (whole <= high)
        assert found["steps"][place] == own.sum()
        assert found["predicted"][place] == pytest.approx(whole[own].mean(), abs=1e-5)
        assert found["observed"][place] == pytest.approx(truth[own].mean(), abs=1e-5)


def test_net_benefit_is_that_of_a_loop() -> None:
    rng = generator(4, "decision")
    said, true = rng.random(200).round(2), rng.random(200) < 0.3
    found = decision_curve([said[:90], said[90:]], [true[:90], true[90:]])
    assert len(found["threshold"]) == 99
    for p, own, every in zip(found["threshold"], found["net_benefit"], found["act_on_all"], strict=True):
        acted = said >= p
        hits, misses = (acted & true).sum() / 200, (acted & ~true).sum() / 200
        assert own == pytest.approx(hits - misses * p / (1 - p), abs=1e-6)
        assert every == pytest.approx(true.mean() - (1 - true.mean()) * p / (1 - p), abs=1e-6)


def test_who_knows_is_worth_the_whole_share_and_who_says_nothing_is_worth_nothing() -> None:
    true = np.arange(50) < 10
    sure = decision_curve([true.astype(float)], [true])
    assert sure["net_benefit"] == pytest.approx([0.2] * 99)
    assert decision_curve([np.zeros(50)], [true])["net_benefit"] == pytest.approx([0.0] * 99)
    assert decision_curve([np.zeros(0)], [np.zeros(0, bool)])["threshold"] == []
