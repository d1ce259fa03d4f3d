"""FHIR: bundles and Bulk Data by hand, what is passed over, files that cannot be used, real exports."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.data import _fhir_files
from lazaretto.data._fhir_resources import reference_key
from lazaretto.data.fhir import fhir
from lazaretto.errors import DataError, PlanError
from lazaretto.types import Table

HEART, SYSTOLIC, DIASTOLIC, GLUCOSE, TEMPERATURE = "8867-4", "8480-6", "8462-4", "15074-8", "8310-5"


def coded(code: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://loinc.org", "code": code}]}


def quantity(value: Any, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}


def observation(name: str, patient: str, hour: float, code: str, value: Any, unit: str, **more: Any) -> Any:
    minute = round(hour * 60)
    made = {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": coded(code),
        "subject": {"reference": patient},
        "effectiveDateTime": f"2024-03-01T{minute // 60:02d}:{minute % 60:02d}:00Z",
        "valueQuantity": quantity(value, unit),
        **more,
    }
    return {key: held for key, held in made.items() if held is not None}


def patient(name: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": name, "gender": "female", "birthDate": "1960-01-02", **more}


def encounter(name: str, who: str, provider: dict[str, str]) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": name,
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": who},
        "serviceProvider": provider,
    }


def write_bundle(file: Path, resources: list[Any], kind: str = "transaction", urn: bool = False) -> Path:
    entries = [
        {
            "fullUrl": f"urn:uuid:{one['id']}"
            if urn
            else f"http://a.example/{one['resourceType']}/{one['id']}",
            "resource": one,
        }
        for one in resources
    ]
    file.write_text(json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries}))
    return file


def write_lines(file: Path, resources: list[Any]) -> Path:
    text = "".join(json.dumps(one) + "\n" for one in resources)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text)
    return file


def read(path: Path, **options: Any) -> Table:
    return fhir(task="records", **options).load(path, 0)


def series(table: Table, unit: str, variable: str) -> list[float]:
    """What was measured of one unit, step by step; -1 where nothing."""
    row = table.unit_names.index(unit)
    held = table.x["record"][row, table.valid[row], table.schema.features["record"].index(variable)]
    return [-1.0 if np.isnan(value) else round(float(value), 3) for value in held]


PRESSURE = {
    "valueQuantity": None,
    "component": [
        {"code": coded(SYSTOLIC), "valueQuantity": quantity(16, "kPa")},
        {"code": coded(DIASTOLIC), "valueQuantity": quantity(80, "mm[Hg]")},
    ],
}


def test_a_transaction_bundle(tmp_path: Path) -> None:
    """By hand: 16 kPa are 120.01 mmHg, 5 mmol/l of glucose 90.08 mg/dl, 98.6 °F 37 °C."""
    resources = [
        {"resourceType": "Organization", "id": "o1", "name": "Charity"},
        patient("p1"),
        encounter("e1", "urn:uuid:p1", {"reference": "urn:uuid:o1"}),
        observation("v1", "urn:uuid:p1", 0, HEART, 70, "/min", encounter={"reference": "urn:uuid:e1"}),
        observation("v2", "urn:uuid:p1", 0.5, HEART, 75, "{beats}/min"),
        observation("v3", "urn:uuid:p1", 2.25, "55284-4", 0, "", **PRESSURE),
        observation("v4", "urn:uuid:p1", 2.5, GLUCOSE, 5, "mmol/L"),
        observation("v5", "urn:uuid:p1", 3, TEMPERATURE, 98.6, "[degF]"),
        {"resourceType": "Claim", "id": "c1"},
    ]
    table = read(write_bundle(tmp_path / "one.json", resources, urn=True))
    assert table.unit_names == ("p1",)
    assert table.site_names == ("Charity",)
    assert series(table, "p1", "heart_rate_per_minute") == [75, -1, -1, -1]
    assert series(table, "p1", "systolic_pressure_mmhg") == [-1, -1, pytest.approx(120.01), -1]
    assert series(table, "p1", "diastolic_pressure_mmhg") == [-1, -1, 80, -1]
    assert series(table, "p1", "glucose_mg_per_dl") == [-1, -1, 90.08, -1]
    assert series(table, "p1", "temperature_celsius") == [-1, -1, -1, 37]
    assert series(table, "p1", "male") == [0, -1, -1, -1]
    assert series(table, "p1", "age_years") == [pytest.approx(64.16, abs=0.01), -1, -1, -1]
    assert table.counts["resources_Claim"] == 1
    assert table.time.tolist() == [1_709_251_200.0]  # 2024-03-01T00:00Z, as `date -d` has it
    assert any("1 Claim" in note for note in table.notes)


def test_bulk_data(tmp_path: Path) -> None:
    write_lines(tmp_path / "Patient.ndjson", [patient("p1"), patient("p2", gender="male")])
    write_lines(tmp_path / "log.ndjson", [{"exportId": "x"}])
    (tmp_path / "deeper").mkdir()
    write_lines(
        tmp_path / "deeper" / "Observation.000.ndjson.gz",
        [
            observation("v1", "Patient/p1", 0, HEART, 70, "/min", encounter={"reference": "Encounter/e1"}),
            observation("v2", "https://b.example/Patient/p2/_history/3", 1, HEART, 80, "/min"),
            observation("v3", "Patient/p2", 2, HEART, 81, "/min"),
        ],
    )
    write_lines(
        tmp_path / "Encounter.ndjson",
        [
            encounter("e1", "Patient/p1", {"reference": "Organization?identifier=s|o7"}),
            encounter("e2", "Patient/p2", {"reference": "Organization?identifier=s|o9", "display": "Grace"}),
        ],
    )
    hospital = {
        "resourceType": "Organization",
        "id": "7",
        "name": "Mercy",
        "identifier": [{"system": "s", "value": "o7"}],
    }
    write_lines(tmp_path / "Organization.ndjson", [hospital])
    table = read(tmp_path)
    assert table.unit_names == ("p1", "p2")
    assert [table.site_names[site] for site in table.site] == ["Mercy", "Grace"]
    assert series(table, "p2", "heart_rate_per_minute") == [80, 81]
    assert table.counts["lines_without_resource_type"] == 1


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ("Patient/7", "7"),
        ("urn:uuid:ab-7", "ab-7"),
        ("https://a.example:80/fhir/Patient/7/_history/2", "7"),
        ("Organization?identifier=http://s.example|7", "http://s.example|7"),
        ("Patient?name=x", ""),
        (None, ""),
    ],
)
def test_references(reference: str | None, key: str) -> None:
    assert reference_key(reference) == key


# what is done to one heart rate of p1 at hour 2, and which count tells of it
PASSED_OVER: dict[str, tuple[dict[str, Any], str]] = {
    "withdrawn": ({"status": "entered-in-error"}, "observations_withdrawn"),
    "no time": ({"effectiveDateTime": None}, "observations_without_a_time"),
    "a date alone": ({"effectiveDateTime": "2024-03-01"}, "observations_without_a_time"),
    "nobody known": ({"subject": {"reference": "Patient/p9"}}, "values_without_patient"),
    "no subject": ({"subject": None}, "values_without_patient"),
    "another code": ({"code": coded("72514-3")}, "values_of_other_codes"),
    "no LOINC code": ({"code": {"text": "pulse"}}, "values_of_other_codes"),
    "a component of nothing": (
        {"valueQuantity": None, "component": [{"code": None, "valueQuantity": quantity(9, "/min")}]},
        "values_of_other_codes",
    ),
    "words": ({"valueQuantity": None, "valueString": "fast"}, "values_not_numbers"),
    "a bound": ({"valueQuantity": {**quantity(90, "/min"), "comparator": "<"}}, "values_only_bounds"),
    "no value": ({"valueQuantity": {"unit": "/min"}}, "values_not_numbers"),
    "implausible": ({"valueQuantity": quantity(900, "/min")}, "values_implausible_heart_rate_per_minute"),
    "unknown unit": ({"valueQuantity": quantity(1.5, "Hz")}, "values_of_unknown_unit_heart_rate_per_minute"),
    "no unit": ({"valueQuantity": {"value": 70}}, "values_of_unknown_unit_heart_rate_per_minute"),
    "not valid": ({"status": "finished?", "valueQuantity": {"value": "many"}}, "invalid_Observation"),
    "a time without a zone": ({"effectiveDateTime": "2024-03-01T02:00:00"}, "invalid_Observation"),
    "R5": ({"bodyStructure": {"reference": "x"}}, "invalid_Observation"),
    "twice": ({"id": "v1"}, "observations_repeated"),
}


@pytest.mark.parametrize("case", PASSED_OVER)
def test_passed_over_and_counted(case: str, tmp_path: Path) -> None:
    change, count = PASSED_OVER[case]
    changed = {**observation("v2", "Patient/p1", 2, HEART, 90, "/min"), **change}
    resources = [
        patient("p1"),
        observation("v1", "Patient/p1", 0, HEART, 70, "/min"),
        {key: held for key, held in changed.items() if held is not None},
        observation("v3", "Patient/p1", 3, HEART, 72, "/min"),
    ]
    table = read(write_lines(tmp_path / "x.ndjson", resources))
    assert series(table, "p1", "heart_rate_per_minute") == [70, -1, -1, 72]
    assert table.counts[count] == 1
    if count == "invalid_Observation":
        assert any("x.ndjson, line 3, Observation: " in note for note in table.notes)


def test_one_value_in_two_resources_counts_once(tmp_path: Path) -> None:
    resources = [patient("p1"), *(observation(f"v{i}", "Patient/p1", 1, HEART, 70, "/min") for i in range(3))]
    assert read(write_lines(tmp_path / "x.ndjson", resources)).counts["events_repeated"] == 2


BAD: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "not JSON": ("a.json", b"hello", ("a.json", "not JSON")),
    "cut off": ("a.json", b'{"resourceType": "Bundle", "type": "transac', ("a.json", "not JSON", "cut off")),
    "a list": ("a.json", b"[1, 2]", ("a.json", "no resource", "list")),
    "NaN": ("a.ndjson", b'{"resourceType": "Patient"}\n{"x": NaN}\n', ("a.ndjson, line 2", "NaN")),
    "nested": ("a.ndjson", b"[" * 200_000, ("a.ndjson, line 1",)),
    "digits": ("a.ndjson", b'{"x": ' + b"9" * 10_000 + b"}", ("a.ndjson, line 1", "not JSON")),
    "not UTF-8": ("a.ndjson", b'{"x": "\xe9"}', ("a.ndjson, line 1", "not UTF-8", "0xe9")),
    "UTF-16": ("a.json", '{"x": 1}'.encode("utf-16"), ("a.json", "not UTF-8")),
    "not gzip": ("a.ndjson.gz", b'{"x": 1}', ("a.ndjson.gz", "not a sound gzip file")),
    "gzip cut": ("a.json.gz", gzip.compress(b'{"x": 1}' * 99)[:-9], ("a.json.gz", "cut off")),
    "messages": (
        "a.json",
        b'{"resourceType": "Bundle", "type": "message"}',
        ("a.json", "'message'", "transaction"),
    ),
    "entry": ("a.json", b'{"resourceType": "Bundle", "type": "batch", "entry": {}}', ("a.json", "'entry'")),
    "entries": (
        "a.json",
        b'{"resourceType": "Bundle", "type": "batch", "entry": [3]}',
        ("entry 1", "no entry"),
    ),
    "empty": ("a.ndjson", b"", ("no Observation", "no resource")),
    "no lines": ("a.ndjson", b"\n\n", ("no Observation",)),
    "bundle as lines": ("a.ndjson", b'{\n"resourceType": "Bundle"}\n', ("a.ndjson, line 1", "not JSON")),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_used(case: str, tmp_path: Path) -> None:
    name, content, words = BAD[case]
    (tmp_path / name).write_bytes(content)
    refuse(tmp_path, *words)


def refuse(path: Path | None, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        fhir(task="records").load(path, 0)
    for word in words:
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def test_no_path_nothing_there_other_files(tmp_path: Path) -> None:
    refuse(None, "no path")
    refuse(tmp_path / "none", "no such file or folder")
    (tmp_path / "notes.md").write_text("x")
    refuse(tmp_path, "notes.md", ".ndjson")


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = [patient("p1"), observation("v1", "Patient/p1", 0, HEART, 70, "/min")]
    lines = write_lines(tmp_path / "a.ndjson", resources)
    monkeypatch.setattr(_fhir_files, "MOST_LINE_BYTES", 100)
    refuse(lines, "a.ndjson, line 2", "too long", "100 bytes")
    monkeypatch.setattr(_fhir_files, "MOST_BUNDLE_BYTES", 100)
    refuse(write_bundle(tmp_path / "a.json", resources), "a.json", "too large", "100 bytes")
    monkeypatch.undo()
    monkeypatch.setattr(_fhir_files, "MOST_RESOURCES", 1)
    refuse(lines, "a.ndjson", "more than 1 resources")


def test_nothing_to_make_a_record_of(tmp_path: Path) -> None:
    someone, pulse = patient("p1"), observation("v1", "Patient/p1", 0, HEART, 70, "/min")
    refuse(
        write_lines(tmp_path / "a.ndjson", [someone]), "no Observation in these files", "1 Patient", "_type="
    )
    refuse(write_lines(tmp_path / "a.ndjson", [pulse]), "no Patient", "1 Observation")
    bad = {**pulse, "status": 7}
    refuse(
        write_lines(tmp_path / "a.ndjson", [someone, bad]),
        "no Observation is valid",
        "line 2",
        "status",
        "R4",
    )
    other = observation("v1", "Patient/p1", 0, "72514-3", 7, "{score}")
    refuse(write_lines(tmp_path / "a.ndjson", [someone, other]), "72514-3", "LOINC")
    hertz = observation("v1", "Patient/p1", 0, HEART, 1, "Hz")
    refuse(
        write_lines(tmp_path / "a.ndjson", [patient("p1", gender="unknown"), hertz]),
        "no stay has a measurement",
        "unknown unit",
    )


def test_two_hospitals_of_one_name(tmp_path: Path) -> None:
    resources = [
        *({"resourceType": "Organization", "id": f"o{i}", "name": "Mercy"} for i in (1, 2)),
        *(patient(f"p{i}") for i in (1, 2)),
        *(encounter(f"e{i}", f"Patient/p{i}", {"reference": f"Organization/o{i}"}) for i in (1, 2)),
        *(observation(f"v{i}", f"Patient/p{i}", 0, HEART, 70, "/min") for i in (1, 2)),
    ]
    assert read(write_lines(tmp_path / "a.ndjson", resources)).site_names == ("Mercy (o1)", "Mercy (o2)")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, held in below for place in places(held, (*path, key)))]


@given(st.data())
@settings(max_examples=150)
def test_anything_in_any_place_is_counted_or_refused(data: st.DataObject) -> None:
    resources: list[Any] = [
        {
            "resourceType": "Organization",
            "id": "o1",
            "name": "Mercy",
            "identifier": [{"system": "s", "value": "1"}],
        },
        patient("p1"),
        encounter("e1", "Patient/p1", {"reference": "Organization/o1", "display": "Mercy"}),
        observation("v1", "Patient/p1", 0, HEART, 70, "/min", encounter={"reference": "Encounter/e1"}),
        observation("v2", "Patient/p1", 2.25, "55284-4", 0, "", **deepcopy(PRESSURE)),
    ]
    place = data.draw(st.sampled_from(places(resources)[1:]))
    holder: Any = resources
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = data.draw(JSON)
    with tempfile.TemporaryDirectory() as folder:
        path = write_lines(Path(folder) / "a.ndjson", resources)
        try:
            table = read(path)
        except DataError:
            return
    assert len(table.unit_names) == 1


def test_two_people_under_one_name(tmp_path: Path) -> None:
    pulse = observation("v1", "Patient/p1", 0, HEART, 70, "/min")
    same = [patient("p1"), patient("p1"), pulse]
    assert read(write_lines(tmp_path / "a.ndjson", same)).counts["resources_repeated"] == 1
    other = [patient("p1"), patient("p1", birthDate="1999-01-01"), pulse]
    refuse(write_lines(tmp_path / "a.ndjson", other), "line 2", "Patient 'p1'", "1999-01-01", "one server")


@pytest.mark.parametrize(
    "options",
    [
        {"task": "mortality"},
        {"step_hours": 0},
        {"step_hours": float("nan")},
        {"most_hours": 1.5},
        {"most_hours": float("inf")},
        {"tampered": 1.0},
        {"kinds": ("fire",)},
        {"kinds": ()},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=r"fhir: .*\n.*way out"):
        fhir(**options)


def test_columns_as_published_tell_who_died(tmp_path: Path) -> None:
    resources = [
        patient("p1", deceasedDateTime="2024-03-02T00:00:00Z"),
        patient("p2"),
        observation("v1", "Patient/p1", 0, HEART, 70, "/min"),
    ]
    path = write_lines(tmp_path / "a.ndjson", resources)
    made = fhir(task="records")
    assert made.raw is not None
    raw = made.raw(path)
    assert raw.label.tolist() == [1, 0]
    assert raw.columns["observations"].tolist() == [1, 0]
    assert {"deceased", "patient", "birth_date"} <= set(made.leaks) & set(raw.columns)
    forged = fhir()
    assert forged.raw is not None
    with pytest.raises(DataError, match="task=records"):
        forged.raw(path)


def test_real_bundles(data_folder: Callable[[str], Path]) -> None:
    """Every plausible blood pressure that the plain JSON holds stands in the table, and no other."""
    folder = data_folder("fhir") / "synthea-r4-bundles"
    table = read(folder, most_hours=87_000)
    wanted: Counter[str] = Counter()
    for file in sorted(folder.glob("*.json")):
        for entry in json.loads(file.read_text())["entry"]:
            for part in entry["resource"].get("component", []):
                if part["code"]["coding"][0]["code"] == SYSTOLIC:
                    wanted[entry["resource"]["subject"]["reference"].removeprefix("urn:uuid:")] += 1
    assert sum(wanted.values()) == 73
    for unit, count in wanted.items():
        assert sum(value > 0 for value in series(table, unit, "systolic_pressure_mmhg")) == count
    assert len(table.unit_names) == 16
    assert table.counts["resources_Observation"] == 838
    assert not any(name.startswith("invalid_") for name in table.counts)
    assert len(table.site_names) == 15


def test_real_bundles_with_forgeries(data_folder: Callable[[str], Path]) -> None:
    folder = data_folder("fhir") / "synthea-r4-bundles"
    made = fhir(step_hours=24 * 90, most_hours=24 * 365 * 6)
    table, again = made.load(folder, 3), made.load(folder, 3)
    np.testing.assert_array_equal(table.x["record"], again.x["record"])
    assert table.counts["stays_tampered"] == int((table.y > 0).sum()) > 0


def test_real_bulk_data_without_observations(data_folder: Callable[[str], Path]) -> None:
    refuse(data_folder("fhir") / "bulk-10p", "there is no Observation", "1215 Encounter", "13 Patient")
