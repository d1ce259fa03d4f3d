"""The simulator: same seed same bytes, sites stand alone, couplings are there, labels leave no artefact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from lazaretto import catalog
from lazaretto.data._consortium_campaigns import AT_THE_RECORD, CAMPAIGNS
from lazaretto.data._consortium_events import DRIVES, EVENTS
from lazaretto.data.consortium import consortium
from lazaretto.errors import PlanError
from lazaretto.types import NORMAL, Table


@pytest.fixture(scope="module")
def table() -> Table:
    return consortium(sites=6, units_per_site=40).load(None, 0)


@pytest.fixture(scope="module")
def quiet() -> Table:
    """No campaign anywhere: what correlates here does so without an attack."""
    return consortium(sites=6, units_per_site=40, attacked=0.0, missing=0.0).load(None, 1)


def by_unit(table: Table, modality: str, name: str) -> np.ndarray[Any, Any]:
    column = table.schema.features[modality].index(name)
    return table.x[modality][:, :, column].reshape(len(table.unit_names), -1)


def test_same_seed_same_bytes_and_other_seed_other_table() -> None:
    source = consortium(sites=2, units_per_site=6)
    first, again, other = source.load(None, 3), source.load(None, 3), source.load(None, 4)
    for modality in first.x:
        assert first.x[modality].tobytes() == again.x[modality].tobytes()
    assert first.y_step.tobytes() == again.y_step.tobytes()
    assert first.unit_names == again.unit_names
    assert first.x["traffic"].tobytes() != other.x["traffic"].tobytes()


def test_a_site_does_not_depend_on_other_sites() -> None:
    few, many = (
        consortium(sites=2, units_per_site=6).load(None, 5),
        consortium(sites=4, units_per_site=6).load(None, 5),
    )
    rows = many.site < 2
    for modality in few.x:
        np.testing.assert_array_equal(few.x[modality], many.x[modality][rows])
    np.testing.assert_array_equal(few.y_step, many.y_step[rows])
    np.testing.assert_array_equal(few.time, many.time[rows])
    np.testing.assert_array_equal(few.present, many.present[rows])


def test_sites_differ() -> None:
    whole = consortium(sites=5, units_per_site=20).load(None, 0)
    sizes = np.bincount(whole.site)
    assert len(set(sizes.tolist())) > 1
    mixes = {tuple(np.unique(whole.time[whole.site == s] % 86400.0)[:1]) for s in range(5)}
    assert len(mixes) > 1  # no common clock


def test_schema_and_shapes(table: Table) -> None:
    n, steps = table.y_step.shape
    assert steps == 16
    assert table.schema.classes == (NORMAL, *CAMPAIGNS)
    assert len(CAMPAIGNS) == 9
    assert table.schema.rate_feature in table.schema.features["traffic"]
    assert table.present.shape == (n, len(table.schema.features))
    for column, (modality, names) in enumerate(table.schema.features.items()):
        values = table.x[modality]
        assert values.shape == (n, steps, len(names))
        assert values.dtype == np.float32
        assert len(set(names)) == len(names)
        assert np.isfinite(values).all()
        missing = ~table.present[:, column]
        assert missing.any()
        assert (values[missing] == 0).all()
        assert (values[~missing] != 0).any(axis=(1, 2)).all()
    assert table.present.any(axis=1).all()
    assert (table.x["traffic"] >= 0).all()
    np.testing.assert_array_equal(table.y, table.y_step.max(axis=1))
    assert set(np.unique(table.y_step)) == set(range(10))
    assert (np.diff(table.time)[np.diff(table.unit) == 0] == 16 * 300.0).all()
    assert table.counts["units"] == len(table.unit_names) == table.unit.max() + 1


def test_found_by_name_and_sample_is_small() -> None:
    assert "consortium" in catalog.names("sources")
    source = catalog.build("sources", "consortium", {"sites": 2})
    assert not source.needs_path
    assert source.sample().y_step.size < 5000
    assert (source.sample().y_step > 0).any()


def test_campaigns_stay_inside_their_streams(table: Table) -> None:
    label = table.y_step.reshape(len(table.unit_names), -1)
    attacked = (label > 0).any(axis=1)
    assert 0.45 < attacked.mean() < 0.75  # 0.6 of about 240 units; binomial sd .032
    for row in label[attacked]:
        here = np.flatnonzero(row)
        assert len(set(row[here])) == 1  # one family per unit
        assert (np.diff(here) == 1).all()  # onset to end, pauses included


def test_the_number_of_the_step_tells_nothing() -> None:
    """A detector that only counts steps ranks as chance does: 2,000 units, sd of the AUROC .006."""
    table = consortium(sites=20, units_per_site=100, windows=3).load(None, 7)
    label = table.y_step.reshape(len(table.unit_names), -1) > 0
    number = np.broadcast_to(np.arange(label.shape[1]), label.shape)
    assert abs(roc_auc_score(label.ravel(), number.ravel()) - 0.5) < 0.03
    middle = -np.abs(number - label.shape[1] / 2)
    assert abs(roc_auc_score(label.ravel(), middle.ravel()) - 0.5) < 0.03


def test_every_drive_of_an_attack_has_a_benign_cause() -> None:
    benign = {drive for event in EVENTS for drive in event.drives}
    pushed = {drive for plan in CAMPAIGNS.values() for drive in plan.drives}
    assert pushed <= benign <= set(DRIVES)
    for entry in (*EVENTS, *CAMPAIGNS.values()):
        assert set(entry.either) <= set(entry.drives)


def test_no_value_belongs_to_attacks_alone(table: Table) -> None:
    """Per feature: 97 of 100 attacked steps stay in the benign range; no value that attacks share is new.

    A value counts as shared if three attacked units show it: one unit's last charted value stands for hours.
    """
    units = np.repeat(table.unit, table.y_step.shape[1])
    attacked = table.y_step.ravel() > 0
    for column, (modality, names) in enumerate(table.schema.features.items()):
        seen = np.repeat(table.present[:, column], table.y_step.shape[1])
        flat = table.x[modality].reshape(-1, len(names))
        for j, name in enumerate(names):
            calm, under = flat[seen & ~attacked, j], flat[seen & attacked, j]
            outside = (under < calm.min()) | (under > calm.max())
            assert outside.mean() < 0.03, name
            assert (np.mod(calm, 1) == 0).all() == (np.mod(under, 1) == 0).all(), name
            whose = units[seen & attacked]
            values, place = np.unique(under, return_inverse=True)
            bearers = np.bincount(np.unique(np.stack([place, whose]), axis=1)[0], minlength=len(values))
            fresh = ~np.isin(values, calm) & (bearers >= 3)
            assert not np.isin(under, values[fresh]).mean() > 0.01, name


def test_no_single_feature_tells(table: Table) -> None:
    attacked = table.y_step.ravel() > 0
    for column, (modality, names) in enumerate(table.schema.features.items()):
        seen = np.repeat(table.present[:, column], table.y_step.shape[1])
        flat = table.x[modality].reshape(-1, len(names))
        for j, name in enumerate(names):
            area = roc_auc_score(attacked[seen], flat[seen, j])
            assert 0.2 < area < 0.8, name


@pytest.mark.parametrize(
    ("traffic", "record"),
    [
        ("hl7_messages_per_step", "alarms_per_step"),
        ("http_requests_per_step", "reads_per_step"),
        ("hl7_messages_per_step", "entries_per_step"),
    ],
)
def test_traffic_follows_the_record(quiet: Table, traffic: str, record: str) -> None:
    """Within a unit, so that base rates play no part: mean rank correlation over about 240 units of 96 steps.

    Control: the record of the next unit of the same site, which shares its clock, rounds and shifts. Without
    coupling own and control have the same mean; their difference has a standard error of about .01, so a
    difference of .04 is met by chance less than once in a thousand.
    """
    left, right = by_unit(quiet, "traffic", traffic), by_unit(quiet, "record", record)
    home = quiet.site[:: len(quiet.site) // len(left)]
    own, control = [], []
    for site in np.unique(home):
        rows = np.flatnonzero((home == site) & (left.std(axis=1) > 0) & (right.std(axis=1) > 0))
        for row, other in zip(rows, np.roll(rows, 1), strict=True):
            own.append(spearmanr(left[row], right[row]).statistic)
            control.append(spearmanr(left[row], right[other]).statistic)
    difference = np.array(own) - np.array(control)
    assert difference.mean() > 0.04
    assert difference.std() / np.sqrt(len(difference)) < 0.013


def test_illness_moves_vitals_together_and_raises_alarms(quiet: Table) -> None:
    """Across units: mean charted respiration against heart rate, and units with most alarms are the sicker.

    Sepsis, respiratory failure, bleeding and pain raise both; uncoupled, rank correlation over 240 units has
    sd .065, so .15 is wrong with probability .01.
    """
    heart = by_unit(quiet, "record", "heart_rate_per_minute_charted")
    breath = by_unit(quiet, "record", "respiration_per_minute_charted")
    oxygen = by_unit(quiet, "record", "spo2_percent_charted")
    rise = [values[:, 48:].mean(axis=1) - values[:, :48].mean(axis=1) for values in (heart, breath, oxygen)]
    assert spearmanr(rise[0], rise[1]).statistic > 0.15
    assert spearmanr(rise[1], rise[2]).statistic < -0.15


def test_tampering_shows_as_disagreement_between_device_and_chart(table: Table) -> None:
    """Size of the gap on measured channels, attacked steps against the same units before onset.

    Scaled by the feature's benign spread; under no effect each unit's sign is a coin, so 60 % of some tens
    of units would be passed by chance about one time in ten; the mean must rise as well.
    """
    names = table.schema.features["record"]
    gaps = [j for j, name in enumerate(names) if name.endswith("device_minus_charted")]
    size = np.abs(table.x["record"][:, :, gaps])
    calm = size[table.y_step == 0]
    spread = np.array([np.median(c[c > 0]) for c in calm.T])
    score = np.minimum(size / spread, 20.0).max(axis=2).reshape(len(table.unit_names), -1)
    label = table.y_step.reshape(len(table.unit_names), -1)
    seen = np.repeat(table.present[:, 1], 16).reshape(label.shape)
    touched = [1 + list(CAMPAIGNS).index(name) for name in ("man_in_the_middle", "record_tampering")]
    change = []
    for row in range(len(label)):
        under, before = seen[row] & np.isin(label[row], touched), seen[row] & (label[row] == 0)
        if under.any() and before.any() and score[row].any():
            change.append(score[row][under].mean() - score[row][before].mean())
    assert len(change) > 15
    assert np.mean(change) > 3 * np.std(change) / np.sqrt(len(change)) > 0


def test_illness_and_attack_leave_a_trace_at_low_and_high_intensity() -> None:
    """Harder means weaker: the best single threshold loses ground as `difficulty` rises."""
    areas = []
    for difficulty in (0.5, 8.0):
        whole = consortium(sites=4, units_per_site=30, difficulty=difficulty, missing=0.0).load(None, 2)
        attacked = whole.y_step.ravel() > 0
        areas.append(roc_auc_score(attacked, by_unit(whole, "traffic", "tls_handshakes_per_step").ravel()))
    assert areas[0] > areas[1] + 0.05


def test_who_sits_elsewhere_leaves_a_trace_in_the_record_alone() -> None:
    here, far = (
        consortium(sites=6, units_per_site=60, missing=0.0, elsewhere=share).load(None, 2)
        for share in (0.0, 1.0)
    )
    np.testing.assert_array_equal(here.y_step, far.y_step)
    assert here.x["record"].tobytes() == far.x["record"].tobytes()
    raised = "tls_handshakes_per_step"  # the record causes none; what it does cause stays
    for family in AT_THE_RECORD:
        attacked = far.y_step.reshape(len(far.unit_names), -1) == far.schema.classes.index(family)
        carrying = attacked.any(axis=1) & ~attacked.all(axis=1)
        ratio = []
        for table in (here, far):
            values = by_unit(table, "traffic", raised)[carrying] + 0.5
            mine = attacked[carrying]
            ratio.append(np.exp(np.mean(np.log(values[mine])) - np.mean(np.log(values[~mine]))))
        assert ratio[0] > 2.0, family
        assert 0.8 < ratio[1] < 1.25, family


def test_raw_rows_hold_the_columns_that_are_dropped() -> None:
    source = consortium(sites=2, units_per_site=6)
    assert source.raw is not None
    raw = source.raw(None)
    rows = len(raw.label)
    assert all(len(values) == rows for values in raw.columns.values())
    assert set(source.leaks) <= set(raw.columns)
    assert len(raw.group) == rows
    assert len(np.unique(raw.group)) == len(np.unique(raw.columns["unit"]))
    np.testing.assert_array_equal(raw.label, source.load(None, 0).y_step.ravel())


@pytest.mark.parametrize(
    "options",
    [
        {"sites": 0},
        {"sites": 2.5},
        {"units_per_site": 1},
        {"windows": 1, "window_steps": 4},
        {"attacked": 1.5},
        {"attacked": float("nan")},
        {"attacked": True},
        {"difficulty": 0.0},
        {"confounders": -1},
        {"missing": "often"},
    ],
)
def test_options_out_of_bounds_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="consortium") as caught:
        consortium(**options)
    assert caught.value.way_out


def test_a_path_is_not_read_and_the_table_says_so() -> None:
    source = consortium(sites=1, units_per_site=12)
    plain, given = source.load(None, 0), source.load("somewhere", 0)
    np.testing.assert_array_equal(given.x["traffic"], plain.x["traffic"])
    assert given.notes[1:] == plain.notes
    assert "nothing in it was read" in given.notes[0]
    assert source.raw is not None
    with pytest.raises(PlanError, match="reads no files"):
        source.raw("somewhere")


def test_simple_detectors_stay_under_their_ceilings(table: Table) -> None:
    """Claim 3 in small: mean, sd and last - first of 16 steps; rate < .85, linear < .90, boosting < .97."""
    names, units = table.schema.features["traffic"], len(table.unit_names)
    x = np.log1p(table.x["traffic"].reshape(units, -1, len(names)).astype(float))
    label = table.y_step.reshape(units, -1) > 0
    view = np.lib.stride_tricks.sliding_window_view(x, 16, axis=1)
    wide = np.concatenate([view[..., -1], view.mean(-1), view.std(-1), view[..., -1] - view[..., 0]], axis=2)
    target = label[:, 15:]
    order = np.random.default_rng(0).permutation(units)
    train, test = order[: units * 7 // 10], order[units * 7 // 10 :]
    fit, judged = wide[train].reshape(-1, wide.shape[2]), wide[test].reshape(-1, wide.shape[2])
    wanted, truth = target[train].ravel(), target[test].ravel()
    rate = roc_auc_score(truth, judged[:, names.index(str(table.schema.rate_feature))])
    scaler = StandardScaler().fit(fit)
    linear = LogisticRegression(C=0.01, max_iter=500).fit(scaler.transform(fit), wanted)
    boosted = HistGradientBoostingClassifier(max_iter=60, early_stopping=False, random_state=0).fit(
        fit, wanted
    )
    assert 0.5 < max(rate, 1 - rate) < 0.85
    assert 0.7 < roc_auc_score(truth, linear.decision_function(scaler.transform(judged))) < 0.90
    assert 0.8 < roc_auc_score(truth, boosted.predict_proba(judged)[:, 1]) < 0.97
