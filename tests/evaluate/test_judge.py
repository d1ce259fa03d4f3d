"""The judge as a whole: shapes of metrics.json, pairing, claims, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lazaretto.errors import DataError, PlanError
from lazaretto.evaluate.compare import judge
from lazaretto.evaluate.judge import draws_for, judge_system, table_of
from lazaretto.evaluate.operating import operating_from_json, operating_to_json
from lazaretto.evaluate.scored import CONSORTIUM_FLOORS, OURS, Protocol, Scored, SeedScores
from lazaretto.evaluate.thresholds import on_common_scale, operating_points, probabilities_of, thresholds_of

Make = Callable[..., list[SeedScores]]
WITHHELD = [{0: (1,), 1: (2,), 2: (3,), 3: (0, 1)}] * 3


@pytest.fixture
def systems(system: Make) -> dict[str, list[SeedScores]]:
    strengths = {OURS: 3.0, "pooled": 3.0, "gru": 2.6, "cnn": 2.0, "gradient_boosting": 2.2, "local": 1.2}
    return {name: system(strength, number) for number, (name, strength) in enumerate(strengths.items())}


@pytest.fixture
def judged(systems: dict[str, list[SeedScores]], protocol: Protocol) -> dict[str, object]:
    left = {
        name: {1: systems[name][:2], 2: systems[name][:2]}
        for name in (OURS, "gru", "cnn", "gradient_boosting")
    }
    with_floors = dataclasses.replace(protocol, floors=CONSORTIUM_FLOORS)
    return judge(systems, with_floors, withheld=WITHHELD, leave_out=left)


def triples(value: object) -> list[dict[str, float | None]]:
    if not isinstance(value, dict):
        return []
    own = [value] if {"value", "low", "high"} <= value.keys() else []
    return own + [t for inner in value.values() for t in triples(inner)]


def test_the_result_is_json_and_every_value_lies_in_its_interval(judged: dict[str, object]) -> None:
    json.dumps(judged, allow_nan=False)
    found = triples(judged["test"]) + triples(judged["baselines"])
    assert len(found) > 100
    for triple in found:
        assert triple["value"] is not None
        assert triple["low"] is not None
        assert triple["high"] is not None
        assert triple["low"] <= triple["value"] <= triple["high"]


def test_the_shape_is_that_of_the_public_interface(judged: dict[str, object], protocol: Protocol) -> None:
    table = judged["test"]["traffic"]  # type: ignore[index]
    for metric in (
        "accuracy", "f1", "auroc", "auprc", "false_positive_rate", "calibration_error", "latency_steps",
        "false_alarms_per_device_day",
    ):  # fmt: skip
        assert table[metric]["value"] is not None
    assert set(table["recall_by_class"]) == set(protocol.classes[1:])
    assert set(table["leave_one_family_out"]) == {"flood", "scan"}
    assert set(table["operating_points"]) == {"false_positive_rate_0.001", "one_alarm_per_device_day"}
    assert "recall" in table["unseen_at_site"]
    assert set(judged["baselines"]) == {"pooled", "gru", "cnn", "gradient_boosting", "local"}  # type: ignore[call-overload]
    assert set(judged["margin_over_best_deep"]) == {"accuracy", "f1", "auroc", "auprc"}  # type: ignore[call-overload]


def test_point_values_are_the_means_of_scikit_learns(
    systems: dict[str, list[SeedScores]], judged: dict[str, object]
) -> None:
    exact = [roc_auc_score(s.test.y[s.test.valid] > 0, s.test.score[s.test.valid]) for s in systems["gru"]]
    assert judged["baselines"]["gru"]["traffic"]["auroc"]["value"] == pytest.approx(np.mean(exact))  # type: ignore[index]
    curves = {row["system"]: row for row in judged["curves"]}  # type: ignore[attr-defined]
    assert max(map(len, [*curves["gru"]["roc"].values(), *curves["gru"]["pr"].values()])) <= 200
    latency = {row["system"]: row for row in judged["latency"]}["gru"]  # type: ignore[attr-defined]
    assert latency["campaigns"] == len(latency["steps"]) + latency["missed"] == 78


def test_thresholds_come_from_validation_never_from_test(system: Make, protocol: Protocol) -> None:
    (seed,) = system(2.0, 0, 1)
    test = dataclasses.replace(seed.test, score=seed.test.score + 2.0)
    moved = [SeedScores(validation=seed.validation, test=test)]
    values = judge_system(moved, protocol, "moved", draws_for(moved, protocol)).values
    assert values["false_positive_rate"] > 0.2
    assert seed.validation is not None
    use = seed.validation.valid & (seed.validation.y == 0)
    limit = thresholds_of(seed.validation, operating_points(seed.validation, protocol))[0]
    assert 0.008 <= (seed.validation.score[use] > limit).mean() <= 0.01


def rows(judged: dict[str, object], metric: str) -> dict[str, dict[str, object]]:
    return {row["against"] or row["name"]: row for row in judged["comparison"] if row["metric"] == metric}  # type: ignore[attr-defined]


def test_claims_are_differences_of_the_tables_and_say_whether_they_hold(judged: dict[str, object]) -> None:
    ours, others = judged["test"]["traffic"], judged["baselines"]  # type: ignore[index]
    pooled = rows(judged, "auroc")["pooled"]
    assert pooled["value"] == pytest.approx(
        ours["auroc"]["value"] - others["pooled"]["traffic"]["auroc"]["value"]
    )  # type: ignore[index]
    assert pooled["target"] == ">= -0.005"
    unseen = rows(judged, "unseen_at_site.recall")["local"]
    assert unseen["holds"] and unseen["certain"]  # noqa: PT018
    left = rows(judged, "leave_one_family_out.auroc")
    assert set(left) == {"gru", "gradient_boosting"}  # gru is the better of the two deep ones
    assert all(row["holds"] for row in left.values())
    assert set(rows(judged, "latency_steps")) == {"gru", "cnn"}
    assert all(row["target"] == "<= 0" and row["value"] < 0 for row in rows(judged, "latency_steps").values())  # type: ignore[operator]
    floor = rows(judged, "auroc")["not too easy: gradient_boosting"]
    assert floor["target"] == "< 0.97"
    assert floor["holds"] == (others["gradient_boosting"]["traffic"]["auroc"]["value"] < 0.97)  # type: ignore[index]
    for row in judged["comparison"]:  # type: ignore[attr-defined]
        assert row["holds"] or not row["certain"]


def test_records_are_held_to_goals_of_their_own(
    systems: dict[str, list[SeedScores]], protocol: Protocol, judged: dict[str, object]
) -> None:
    of_records = dataclasses.replace(protocol, setting="record")
    verdict = judge({name: systems[name] for name in systems}, of_records)
    found = rows(verdict, "auroc")
    goals = {name: row["target"] for name, row in found.items() if not name.startswith("not too easy")}
    assert goals == {
        "pooled": ">= -0.01", "local": ">= 0.01", "gru": ">= 0", "gradient_boosting": ">= 0"
    }  # fmt: skip
    ours, local = verdict["test"]["record"], verdict["baselines"]["local"]["record"]
    assert found["local"]["value"] == pytest.approx(ours["auroc"]["value"] - local["auroc"]["value"])
    untimed = rows(judge(systems, dataclasses.replace(of_records, timed=False)), "auroc")
    assert untimed["local"]["target"] == ">= 0"
    assert "local" not in rows(judged, "auroc")


def test_a_claim_is_certain_only_if_the_whole_interval_is_on_its_side(
    system: Make, protocol: Protocol
) -> None:
    # two systems equally good but for their noise: somewhere the interval straddles the target
    equal = {name: system(1.5, number) for number, name in enumerate((OURS, "gru", "cnn", "autoencoder"))}
    found = judge(equal, protocol)["comparison"]
    straddling = [row for row in found if row["low"] < 0 < row["high"]]
    assert straddling
    assert not any(row["certain"] for row in straddling)
    assert all(row["certain"] == (row["high"] <= 0) for row in found)


def test_every_other_system_has_its_paired_difference(judged: dict[str, object]) -> None:
    paired: dict[str, dict[str, dict[str, float]]] = judged["paired_difference"]  # type: ignore[assignment]
    assert set(paired) == set(judged["baselines"])  # type: ignore[call-overload]
    ours = judged["test"]["traffic"]["auroc"]["value"]  # type: ignore[index]
    for name, found in paired.items():
        theirs = judged["baselines"][name]["traffic"]["auroc"]["value"]  # type: ignore[index]
        assert found["auroc"]["value"] == pytest.approx(ours - theirs, abs=1e-12)
    margin: dict[str, dict[str, float | str]] = judged["margin_over_best_deep"]  # type: ignore[assignment]
    best = {key: value for key, value in margin["auroc"].items() if key != "baseline"}
    assert paired[str(margin["auroc"]["baseline"])]["auroc"] == best


def test_what_scores_alike_differs_by_nothing_in_any_resample(system: Make, protocol: Protocol) -> None:
    same = {OURS: system(2.0, 0), "gru": system(2.0, 0)}
    found = judge(same, protocol)["paired_difference"]["gru"]["auroc"]
    assert (found["low"], found["value"], found["high"]) == (0.0, 0.0, 0.0)


def test_a_claim_that_does_not_hold_is_said_not_to(
    systems: dict[str, list[SeedScores]], protocol: Protocol
) -> None:
    turned = judge({OURS: systems["local"], "pooled": systems["pooled"], "gru": systems["gru"]}, protocol)
    assert [row["holds"] for row in turned["comparison"]] == [False, False]
    assert turned["margin_over_best_deep"]["auroc"]["high"] < 0


def test_a_system_against_itself_differs_by_nothing(system: Make, protocol: Protocol) -> None:
    same = system(2.0, 0)
    row = judge({OURS: same, "pooled": same}, protocol)["comparison"][0]
    assert (row["value"], row["low"], row["high"], row["certain"]) == (0.0, 0.0, 0.0, True)


def test_pairing_makes_the_interval_of_a_difference_narrow(system: Make, protocol: Protocol) -> None:
    first = system(2.0, 0)
    nudge = [
        SeedScores(
            validation=s.validation,
            test=dataclasses.replace(s.test, score=s.test.score + 0.05 * (s.test.y > 0)),
        )
        for s in first
    ]
    found = judge({OURS: nudge, "pooled": first}, protocol)
    own = found["test"]["traffic"]["auroc"]
    row = found["comparison"][0]
    assert row["high"] - row["low"] < (own["high"] - own["low"]) / 5
    assert row["low"] > 0


def test_the_best_deep_baseline_is_chosen_on_validation(system: Make, protocol: Protocol) -> None:
    good, bad = system(2.5, 1), system(1.0, 2)
    # good on validation, bad on test, and the other way round
    first = [SeedScores(validation=g.validation, test=b.test) for g, b in zip(good, bad, strict=True)]
    second = [SeedScores(validation=b.validation, test=g.test) for g, b in zip(good, bad, strict=True)]
    margins = judge({OURS: system(2.0, 0), "gru": first, "cnn": second}, protocol)["margin_over_best_deep"]
    assert {margin["baseline"] for margin in margins.values()} == {"gru"}


def with_groups(scored: Scored, factor: np.ndarray) -> Scored:
    of_unit = factor[scored.site][:, None]
    return dataclasses.replace(scored, score=(scored.score + 10) * of_unit, threshold_group=scored.site)


def test_models_of_different_scale_get_thresholds_and_a_scale_of_their_own(
    system: Make, protocol: Protocol
) -> None:
    plain = system(2.0, 0)
    factor = np.asarray([0.01, 1.0, 30.0, 500.0])
    grouped = [
        SeedScores(validation=with_groups(s.validation, factor), test=with_groups(s.test, factor))
        for s in plain
        if s.validation is not None
    ]
    naive = [
        SeedScores(
            validation=dataclasses.replace(s.validation, threshold_group=None),
            test=dataclasses.replace(s.test, threshold_group=None),
        )
        for s in grouped
        if s.validation is not None
    ]
    draws = draws_for(plain, protocol)
    values, own, lost = (judge_system(s, protocol, "s", draws).values for s in (plain, grouped, naive))
    assert own["auroc"] == pytest.approx(values["auroc"], abs=0.02)
    assert own["recall"] == pytest.approx(values["recall"], abs=0.1)
    assert own["false_positive_rate"] < 0.03
    assert lost["auroc"] < values["auroc"] - 0.1


def test_a_group_that_validation_lacks_goes_by_everyones_threshold(system: Make, protocol: Protocol) -> None:
    (seed,) = system(2.0, 0, 1)
    assert seed.validation is not None
    validation = dataclasses.replace(seed.validation, threshold_group=seed.validation.site)
    test = dataclasses.replace(seed.test, threshold_group=seed.test.site + 2)
    points = operating_points(validation, protocol)
    limits = thresholds_of(test, points)
    assert len(set(limits)) == 3  # groups 2 and 3, and everyone's for 4 and 5
    assert np.isfinite(on_common_scale(test, points).score).all()


def test_unseen_recall_counts_only_what_the_site_lacked(system: Make, protocol: Protocol) -> None:
    (seed,) = system(2.0, 0, 1)
    test = seed.test
    lacked = test.valid & (test.site == 1)[:, None] & (test.y == 2)
    assert lacked.any()
    score = np.where(lacked, 50.0, -50.0)
    only = [SeedScores(validation=seed.validation, test=dataclasses.replace(test, score=score))]
    found = judge_system(only, protocol, "s", draws_for(only, protocol), withheld=[{1: (2,)}])
    assert found.values["unseen|recall"] == 1.0
    assert 0 < found.values["recall"] < 1


def test_left_out_families_rank_against_normal_steps_alone(system: Make, protocol: Protocol) -> None:
    seeds = system(2.0, 0, 2)
    values = judge_system(seeds, protocol, "s", draws_for(seeds, protocol), family=2).values
    exact = []
    for seed in seeds:
        use = seed.test.valid & np.isin(seed.test.y, (0, 2))
        exact.append(roc_auc_score(seed.test.y[use] == 2, seed.test.score[use]))
    assert values["auroc"] == pytest.approx(np.mean(exact))


def test_a_trained_model_is_judged_by_its_stored_operating_points(system: Make, protocol: Protocol) -> None:
    (seed,) = system(2.0, 0, 1)
    assert seed.validation is not None
    stored = json.loads(json.dumps(operating_to_json(operating_points(seed.validation, protocol))))
    again = [SeedScores(test=seed.test, operating=operating_from_json(stored))]
    draws = draws_for([seed], protocol)
    first, second = (judge_system(s, protocol, "s", draws) for s in ([seed], again))
    assert first.values == second.values
    assert judge({OURS: again}, protocol)["test"] == judge({OURS: [seed]}, protocol)["test"]
    chance = probabilities_of(seed.test, again[0].operating)  # type: ignore[arg-type]
    assert ((chance >= 0) & (chance <= 1)).all()


def test_a_test_split_without_attacks_gives_nulls_not_errors(system: Make, protocol: Protocol) -> None:
    (seed,) = system(2.0, 0, 1)
    quiet = dataclasses.replace(seed.test, y=np.zeros_like(seed.test.y))
    found = judge({OURS: [SeedScores(validation=seed.validation, test=quiet)]}, protocol)
    json.dumps(found, allow_nan=False)
    table = found["test"]["traffic"]
    assert table["auroc"]["value"] is None
    assert table["latency_steps"]["value"] is None
    assert table["false_positive_rate"]["value"] is not None


def test_the_same_scores_give_the_same_result(system: Make, protocol: Protocol) -> None:
    first, second = (judge({OURS: system(2.0, 0), "gru": system(1.5, 1)}, protocol) for _ in range(2))
    assert first == second
    draws = draws_for(system(2.0, 0), protocol)
    table = table_of(judge_system(system(2.0, 0), protocol, "s", draws), protocol.classes)
    assert table == first["test"]["traffic"]


def changed(seed: SeedScores, **fields: object) -> list[SeedScores]:
    return [SeedScores(validation=seed.validation, test=dataclasses.replace(seed.test, **fields))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"score": np.full((40, 120), np.nan)}, "not finite"),
        ({"score": np.zeros((40, 7))}, "one shape"),
        ({"valid": np.zeros((40, 120), dtype=bool)}, "no step to judge"),
        ({"y": np.full((40, 120), 9)}, "has no name"),
        ({"site": np.zeros(3, dtype=int)}, r"\[units\]"),
    ],
)
def test_scores_that_cannot_be_judged_are_refused(
    fields: dict[str, object], message: str, system: Make, protocol: Protocol
) -> None:
    with pytest.raises(DataError, match=message):
        judge({OURS: changed(system(2.0, 0, 1)[0], **fields)}, protocol)


def test_other_misuse_is_refused_by_name(system: Make, protocol: Protocol) -> None:
    seeds = system(2.0, 0)
    with pytest.raises(DataError, match="not among"):
        judge({"gru": seeds}, protocol)
    with pytest.raises(DataError, match="no seed"):
        judge({OURS: []}, protocol)
    with pytest.raises(DataError, match="'gru' differ"):
        judge({OURS: seeds, "gru": seeds[::-1]}, protocol)
    with pytest.raises(DataError, match="every seed"):
        judge({OURS: seeds}, protocol, withheld=WITHHELD[:1])
    with pytest.raises(DataError, match="not an attack"):
        judge({OURS: seeds}, protocol, leave_out={OURS: {0: seeds}})
    with pytest.raises(DataError, match="no threshold"):
        judge({OURS: [SeedScores(test=seeds[0].test)]}, protocol)


@pytest.mark.parametrize(
    "fields",
    [
        {"classes": ("normal",)},
        {"step_seconds": 0.0},
        {"false_positive_rate": 1.0},
        {"replicates": 3},
        {"alarm_k": 9},
    ],
)
def test_a_protocol_out_of_range_is_refused(fields: dict[str, object], protocol: Protocol) -> None:
    with pytest.raises(PlanError, match="out of range"):
        dataclasses.replace(protocol, **fields)  # type: ignore[arg-type]
