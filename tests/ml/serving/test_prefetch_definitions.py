"""A person's features from a prefetch are those of `clinical.ml.patient_features` for the same facts, bit for bit."""

import json
import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from core.lake import read_lake
from core.settings import Settings
from ehr.ingest import ingest
from ehr.simulate import SimulationOptions, simulate_hospital
from ehr.simulate.options import MessRates
from ml.features.catalog import FEATURE_NAMES, FEATURES
from ml.serving.prefetch import PREFETCH, person_from_prefetch
from tests.conftest import make_settings
from tests.dbt.landed import build

pytestmark = pytest.mark.slow
TODAY = date(2026, 1, 1)
NOW = datetime(2026, 1, 1, 15, tzinfo=UTC)
LAST_PRESSURE = ("systolic_last_mmhg", "diastolic_last_mmhg", "pulse_pressure_last_mmhg")
OBSERVED_IN = {feature.name: feature.observed_in for feature in FEATURES}
# Sums of doubles depend on the order of rows in their last digit before they are rounded to six.
SUMMED = {"systolic_mean_12m_mmhg", "diastolic_mean_12m_mmhg", "systolic_slope_mmhg_per_year", "systolic_sd_12m_mmhg"}
# More of everything that is odd than a real hospital has.
RATES = MessRates(second_panel_code=0.3, local_code=0.1, kilopascal=0.1, pounds_or_inches=0.3, missing_unit=0.1,
                  correction=0.05, entered_in_error=0.05, repeated_reading=0.1, no_offset=0.05, partial_date=0.05,
                  implausible=0.05, swapped=0.05, cancelled_visit=0.05)  # fmt: skip
KEYS = {"Patient": "patient", "Observation": "observations", "Condition": "conditions", "Encounter": "encounters",
        "MedicationRequest": "medications", "Medication": "medications"}  # fmt: skip
Row = dict[str, Any]


@pytest.fixture(scope="module")
def persons(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Row, Row]]:
    """Of each patient whose whole record came as one bundle: the row of the marts, and the same record as a prefetch."""
    root = tmp_path_factory.mktemp("definitions")
    settings = make_settings(root / "var")
    simulate_hospital(root / "all", SimulationOptions(patients=500, years=5, end=TODAY, rates=RATES,
                                                      truth_path=root / "truth.parquet"))  # fmt: skip
    delivery = root / "delivery"
    delivery.mkdir()
    records = {}
    for number, path in enumerate(sorted((root / "all" / "bundles").iterdir())):
        bundle = json.loads(path.read_text())
        born = date(1945, 3, 1) + timedelta(days=211 * number)  # one of a kind, so that row and record find each other
        for entry in bundle["entry"]:
            if entry["resource"]["resourceType"] == "Patient":
                entry["resource"]["birthDate"] = born.isoformat()
        (delivery / path.name).write_text(json.dumps(bundle))
        records[born] = prefetch_of(bundle, path.stem)
    assert len(records) >= 25
    ingest(settings, [delivery], as_of=TODAY)
    build(settings, select="+path:models/marts/ml")
    return [(row, records[row["birth_date"]]) for row in rows(settings)]


def rows(settings: Settings) -> list[Row]:
    with read_lake(settings, ("clinical",)) as lake:
        found = lake.execute(
            "select features.*, patients.birth_date, eligibility.ineligible_reason "
            "from clinical.ml.patient_features as features join clinical.core.dim_patients as patients using (patient_key) "
            "join clinical.ml.patient_eligibility as eligibility using (patient_key, feature_date) where feature_date = $1",
            [TODAY])
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def prefetch_of(bundle: Row, patient_id: str) -> Row:
    """What an EHR's searches would find: the newest version of each resource, about one person under one number."""
    newest: dict[tuple[str, str], Row] = {}
    for entry in bundle["entry"]:
        resource = json.loads(json.dumps(entry["resource"]))
        kind = resource["resourceType"]
        if kind not in KEYS or (kind == "Patient" and resource.get("link")):
            continue
        if kind == "Patient":
            resource["id"] = patient_id
        elif "subject" in resource:
            resource["subject"] = {"reference": f"Patient/{patient_id}"}
        key = (kind, resource["id"])
        if key not in newest or resource["meta"]["lastUpdated"] >= newest[key]["meta"]["lastUpdated"]:
            newest[key] = resource
    found: Row = {name: {"resourceType": "Bundle", "type": "searchset", "entry": []} for name in PREFETCH if name != "patient"}
    for (kind, _), resource in newest.items():
        if kind == "Patient":
            found["patient"] = resource
        else:
            found[KEYS[kind]]["entry"].append({"resource": resource})
    return found | {"id": patient_id}


def _of_the_newest_moment(prefetch: Row) -> list[Row]:
    """Two readings of one moment, told at one moment: the warehouse takes one by its pseudonym, which an EHR cannot know."""
    by_time: dict[str, list[Row]] = {}
    for entry in prefetch["observations"]["entry"]:
        values = person_from_prefetch({"observations": entry["resource"]}, prefetch["id"], NOW).values
        if values["systolic_last_mmhg"] is not None:
            found = {name: values[name] for name in LAST_PRESSURE}
            by_time.setdefault(entry["resource"]["effectiveDateTime"], []).append(found)
    tied = by_time[max(by_time)]
    return tied if len(tied) > 1 else []


def test_features_and_eligibility_are_those_of_the_marts(persons):
    different, compared = [], 0
    for row, prefetch in persons:
        found = person_from_prefetch(prefetch, prefetch["id"], NOW)
        for name in FEATURE_NAMES:
            value, expected = found.values[name], row[name]
            compared += expected is not None
            is_same = value == expected and type(value) is type(expected)
            if name in SUMMED and value is not None and expected is not None:
                is_same = math.isclose(value, expected, abs_tol=1.0000001e-6, rel_tol=0)
            if name in LAST_PRESSURE and not is_same:
                is_same = {each: row[each] for each in LAST_PRESSURE} in _of_the_newest_moment(prefetch)
            if not is_same:
                different.append((row["birth_date"], name, value, expected))
            day = None if expected is None else row[observed_in] if (observed_in := OBSERVED_IN[name]) else TODAY
            if found.observed_on[name] != day:
                different.append((row["birth_date"], name, found.observed_on[name], day))
        if found.ineligible_reason != row["ineligible_reason"]:
            different.append((row["birth_date"], "eligible", found.ineligible_reason, row["ineligible_reason"]))
    assert different == []
    assert len(persons) >= 25
    assert compared > 300


def test_the_persons_are_worth_comparing(persons):
    """The comparison above would also hold for an empty hospital."""
    told = {name: sum(row[name] is not None for row, _ in persons) for name in FEATURE_NAMES}
    assert all(number >= 3 for number in told.values()), told
    assert sum(row["has_diabetes"] for row, _ in persons) >= 1
    assert {None, "diagnosed"} <= {row["ineligible_reason"] for row, _ in persons}
