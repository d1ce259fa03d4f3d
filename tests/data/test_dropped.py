"""Features that a plan drops: gone from every array, name and role, in all kinds of tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.data.dropped import drop_features, load_without
from lazaretto.data.streams import COMBINED, rate_column, streams
from lazaretto.errors import PlanError
from lazaretto.types import Source, Table


def sample(name: str) -> Table:
    table: Table = catalog.build("sources", name).sample()
    return table


def test_the_rest_stays_as_it_is() -> None:
    table = sample("flows_csv")
    names = table.schema.features["traffic"]
    rate = str(table.schema.rate_feature)
    less = drop_features(table, [names[3], rate])
    assert less.schema.features["traffic"] == tuple(n for n in names if n not in (names[3], rate))
    for name in less.schema.features["traffic"]:
        at, was = less.schema.features["traffic"].index(name), names.index(name)
        np.testing.assert_array_equal(less.x["traffic"][..., at], table.x["traffic"][..., was])
    assert less.schema.rate_feature is None
    assert drop_features(table, [names[3]]).schema.rate_feature == rate
    assert drop_features(table, []) is table


def test_several_modalities_and_irregular_series() -> None:
    table = sample("paired")
    assert len(table.schema.features) > 1
    assert table.schema.irregular
    last = {modality: names[-1] for modality, names in table.schema.features.items()}
    for modality, name in last.items():
        less = drop_features(table, [f"{modality}: {name}"])
        for other, names in table.schema.features.items():
            kept = names[:-1] if other == modality else names
            assert less.schema.features[other] == kept
            assert less.x[other].shape[-1] == len(kept)
    plain = drop_features(table, list(last.values()))
    assert all(len(names) == plain.x[m].shape[-1] for m, names in plain.schema.features.items())
    assert not set(last.values()) & set(streams(plain, COMBINED).features)
    assert not set(plain.schema.origins) & set(last.values())


def test_a_feature_may_be_named_with_the_one_modality_that_there_is() -> None:
    table = sample("flows_csv")
    less = drop_features(table, ["traffic: failed_share"])
    assert set(table.schema.features["traffic"]) - set(less.schema.features["traffic"]) == {"failed_share"}


def test_what_cannot_be_dropped_is_refused() -> None:
    table = sample("flows_csv")
    with pytest.raises(PlanError, match=r"(?s)no such feature.*fail_share.*did you mean 'failed_share'"):
        drop_features(table, ["fail_share"])
    several = sample("paired")
    with pytest.raises(PlanError, match="no such feature") as caught:
        drop_features(several, ["nothing of the kind"])
    listed = str(caught.value).partition("features: ")[2]
    assert all(name in listed for names in several.schema.features.values() for name in names)
    assert not any(f"{modality}: " in listed for modality in several.schema.features), "each is listed once"
    with pytest.raises(PlanError, match=r"no feature of 'traffic'"):
        drop_features(table, table.schema.features["traffic"])


def test_a_source_tells_what_was_dropped() -> None:
    table = replace(sample("flows_csv"), leaks=None)  # as of a source that does not look
    made = Source(name="x", load=lambda path, seed: table, sample=lambda: table, leaks={"clock": "a clock"})
    source, less = load_without(made, None, 0, ["failed_share"])
    assert source.leaks == {"clock": "a clock", "failed_share": "dropped by the plan"}
    assert "failed_share" not in less.schema.features["traffic"]
    source, less = load_without(made, None, 0, ["failed_share", "nothing"], strict=False)
    assert "nothing" not in source.leaks
    with pytest.raises(PlanError, match="nothing"):
        load_without(made, None, 0, ["nothing"])
    found = replace(table, leaks={"CLOCK": "a clock"})
    made = replace(made, load=lambda path, seed: found, leaks={"clock": "a clock", "port": "a port"})
    assert load_without(made, None, 0)[0].leaks == {"CLOCK": "a clock"}


def test_a_rate_is_that_of_its_modality() -> None:
    """Records may have a feature of the same name, which is no rate of packets."""
    table = sample("paired")
    traffic, record = (list(names) for names in table.schema.features.values())
    rate = str(table.schema.rate_feature)
    record[2] = rate
    both = {"traffic": tuple(traffic), "record": tuple(record)}
    table = replace(table, schema=replace(table.schema, features=both))
    for modality, place in (
        ("traffic", traffic.index(rate)),
        ("combined", traffic.index(rate)),
        ("record", None),
    ):
        assert rate_column(table.schema, streams(table, modality), modality) == place
    assert drop_features(table, [f"record: {rate}"]).schema.rate_feature == rate
    assert drop_features(table, [f"traffic: {rate}"]).schema.rate_feature is None
    turned = replace(table.schema, features={"record": tuple(record), "traffic": tuple(traffic)})
    data = streams(replace(table, schema=turned, present=table.present[:, ::-1]), COMBINED)
    assert rate_column(turned, data, COMBINED) == 2
    first = replace(turned, features={**turned.features, "record": both["record"][:2]})
    less = replace(table, schema=first, x={**table.x, "record": table.x["record"][..., :2]})
    assert rate_column(first, streams(less, COMBINED), COMBINED) == 2 + traffic.index(rate)
    assert rate_column(replace(first, rate_feature=None), data, COMBINED) is None
