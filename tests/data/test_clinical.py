"""Clinical variables: units by hand, steps against a slow loop, what is not plausible is counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto.data._clinical import (
    STATIC,
    VARIABLES,
    clinical_counts,
    clinical_notes,
    in_kept_unit,
    plain_unit,
    to_steps,
)
from lazaretto.errors import DataError

THREE = ("heart_rate_per_minute", "urine_millilitres", "temperature_celsius")


@pytest.mark.parametrize(
    ("name", "value", "unit", "kept"),
    [
        ("temperature_celsius", 98.6, "[degF]", 37.0),
        ("temperature_celsius", 98.6, "\u00b0F", 37.0),
        ("temperature_celsius", 37.0, "Deg C", 37.0),
        ("glucose_mg_per_dl", 5.5, "mmol/L", 99.1),
        ("creatinine_mg_per_dl", 88.4, "\u00b5mol/L", 1.0),
        ("bilirubin_mg_per_dl", 17.1, "umol/l", 1.0),
        ("urea_nitrogen_mg_per_dl", 5.0, "mmol/L", 14.0),
        ("cholesterol_mg_per_dl", 5.0, "mmol/L", 193.35),
        ("lactate_mmol_per_l", 18.0, "mg/dL", 1.998),
        ("calcium_mg_per_dl", 2.5, "mmol/L", 10.02),
        ("magnesium_mg_per_dl", 1.6, "mEq/L", 1.945),
        ("haemoglobin_g_per_dl", 140, "g/L", 14.0),
        ("haematocrit_percent", 0.41, "L/L", 41.0),
        ("inspired_oxygen_fraction", 40, "%", 0.4),
        ("arterial_oxygen_mmhg", 13.3, "kPa", 99.76),
        ("weight_kilograms", 150, "lb", 68.04),
        ("height_centimetres", 70, "[in_i]", 177.8),
        ("platelets_10_9_per_l", 210, "10*3/uL", 210),
        ("white_cells_10_9_per_l", 7, "K/\u03bcL", 7),
        ("troponin_t_ug_per_l", 14, "ng/L", 0.014),
        ("potassium_mmol_per_l", 4, "mEq/L", 4),
        ("glasgow_coma_scale", 14, "", 14),
        ("arterial_ph", 7.4, None, 7.4),
    ],
)
def test_units_by_hand(name: str, value: float, unit: str | None, kept: float) -> None:
    found, unknown = in_kept_unit(name, [value], [unit])
    assert not unknown.any()
    assert found[0] == pytest.approx(kept, rel=2e-3)


@pytest.mark.parametrize("unit", ["", None, "mm", "hg", "furlong", "mg/L", "nan"])
def test_a_unit_that_nobody_knows_is_counted_and_its_value_not_used(unit: str | None) -> None:
    for name in ("mean_pressure_mmhg", "glucose_mg_per_dl", "heart_rate_per_minute"):
        found, unknown = in_kept_unit(name, [80.0, 81.0], [unit, VARIABLES[name].unit])
        assert unknown.tolist() == [True, False]
        assert np.isnan(found[0])
        assert found[1] == 81


def test_every_variable() -> None:
    for name, variable in VARIABLES.items():
        assert name == variable.name
        assert variable.least < variable.largest
        low, high = variable.usual
        assert variable.least <= low < high <= variable.largest, name
        assert variable.units[plain_unit(variable.unit)] == (1.0, 0.0)
        assert all(plain_unit(unit) == unit for unit in variable.units)
    assert set(STATIC) <= set(VARIABLES)


def test_steps_by_hand() -> None:
    """Of two heart rates in an hour the later one counts; urine adds up; 60 degrees and 7 h are not used."""
    unit = [0, 0, 0, 0, 1, 1, 1, 0]
    hours = [0.9, 0.2, 0.1, 0.7, 1.0, 1.5, 7.0, -0.1]
    variable = [0, 0, 1, 1, 2, 2, 0, 0]
    value = [80, 70, 100, 50, 37, 60, 90, 90]
    found = to_steps(unit, hours, variable, value, variables=THREE, lengths=[1, 2])
    wanted = np.full((2, 2, 3), np.nan)
    wanted[0, 0, :2] = 80, 150
    wanted[1, 1, 2] = 37
    np.testing.assert_array_equal(found.x, wanted.astype(np.float32))
    assert found.implausible.tolist() == [0, 0, 1]
    assert found.outside == 2
    assert clinical_counts(THREE, found.implausible, {"x": 3, "y": 0}) == {
        "values_implausible": 1,
        "values_implausible_temperature_celsius": 1,
        "values_of_unknown_unit": 3,
        "values_of_unknown_unit_x": 3,
    }
    (note,) = clinical_notes(THREE, found.implausible)
    assert "1 of temperature_celsius (outside 26 to 45)" in note
    assert clinical_notes(THREE, np.zeros(3, np.int64)) == ()


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.floats(-1, 9, allow_nan=False),
            st.integers(0, 2),
            st.sampled_from([-5.0, 0.0, 30.0, 37.0, 41.5, 500.0, np.nan, np.inf]),
        ),
        max_size=40,
    ),
    st.sampled_from([1.0, 2.0]),
)
def test_steps_as_a_slow_loop(events: list[tuple[int, float, int, float]], step_hours: float) -> None:
    lengths = [2, 4, 3]
    wanted = np.full((3, 4, 3), np.nan, np.float64)
    bad, outside = [0, 0, 0], 0
    for unit, hour, which, value in sorted(events, key=lambda event: event[1]):
        variable = VARIABLES[THREE[which]]
        if not variable.least <= value <= variable.largest:
            bad[which] += 1
            continue
        step = int(np.floor(hour / step_hours))
        if not 0 <= step < lengths[unit]:
            outside += 1
            continue
        old = wanted[unit, step, which]
        wanted[unit, step, which] = value + old if which == 1 and not np.isnan(old) else value
    columns = [list(column) for column in zip(*events, strict=True)] or [[], [], [], []]
    found = to_steps(*columns, variables=THREE, lengths=lengths, step_hours=step_hours)
    np.testing.assert_allclose(found.x, wanted, rtol=1e-6)
    assert found.implausible.tolist() == bad
    assert found.outside == outside
    assert found.x.dtype == np.float32


def test_events_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="as many"):
        to_steps([0], [0.0, 1.0], [0], [1.0], variables=THREE, lengths=[1])
    with pytest.raises(DataError, match=r"stay(.|\n)*0 to 0"):
        to_steps([1], [0.0], [0], [1.0], variables=THREE, lengths=[1])
    with pytest.raises(DataError, match=r"variable(.|\n)*0 to 2"):
        to_steps([0], [0.0], [-1], [1.0], variables=THREE, lengths=[1])
