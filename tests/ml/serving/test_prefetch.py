"""Features from a prefetch: worked by hand here; test_prefetch_definitions.py holds them to the marts."""

import json
import statistics
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import PROJECT_ROOT
from ml.features.catalog import FEATURE_NAMES
from ml.serving.code_tables import code_tables, round_like_duckdb
from ml.serving.prefetch import LAST_VALUES, person_from_prefetch
from tests.ml.serving.prefetched import (
    LOINC,
    NOW,
    PATIENT_ID,
    SNOMED,
    TODAY,
    concept,
    condition,
    observation,
    order,
    panel,
    prefetch,
    searchset,
)


def read(given_prefetch):
    return person_from_prefetch(given_prefetch, PATIENT_ID, NOW)


def with_observations(*resources):
    return read(prefetch() | {"observations": searchset(*resources)})


def test_each_feature_of_a_known_person():
    found = read(prefetch())
    assert list(found.values) == list(found.observed_on) == list(FEATURE_NAMES)
    values = found.values
    recent = [128.0, 129.0, 134.0]
    assert values["age_years"] == (TODAY - date(1971, 6, 15)).days / 365.25
    assert (values["sex"], values["systolic_last_mmhg"], values["diastolic_last_mmhg"]) == ("female", 134.0, 84.0)
    assert values["systolic_mean_12m_mmhg"] == round(statistics.mean(recent), 6)
    assert values["systolic_sd_12m_mmhg"] == round(statistics.stdev(recent), 6)
    assert 4 < values["systolic_slope_mmhg_per_year"] < 5.5
    assert (values["blood_pressure_count_12m"], values["blood_pressure_age_days"]) == (3.0, 22.0)
    assert values["bmi_last_kg_m2"] == 82.5 / (174.0 / 100) ** 2
    assert values["bmi_change_12m_kg_m2"] == pytest.approx((82.5 - 80.0) / 1.74**2, abs=1e-3)
    assert values["glucose_last_mg_dl"] == 97.286
    assert values["hba1c_last_pct"] is None
    assert (values["smoking_status"], values["has_diabetes"], values["has_chronic_kidney_disease"]) == ("former", True, False)
    assert (values["drug_count_12m"], values["visit_count_12m"]) == (2.0, 2.0)
    assert found.observed_on["systolic_last_mmhg"] == date(2026, 1, 10)
    assert found.observed_on["smoking_status"] == date(2025, 4, 1)
    assert found.observed_on["systolic_mean_12m_mmhg"] == TODAY
    assert found.observed_on["hba1c_last_pct"] is None
    assert (found.ineligible_reason, found.ignored) == (None, 0)


def test_what_was_not_asked_or_answered_is_absent_and_not_nothing():
    found = read({"patient": prefetch()["patient"], "observations": None})
    for name in ("has_diabetes", "drug_count_12m", "visit_count_12m", "blood_pressure_count_12m", "smoking_status"):
        assert found.values[name] is None
        assert found.observed_on[name] is None
    assert found.ineligible_reason == "no_recent_reading"
    empty = read({name: searchset() for name in prefetch()})
    assert empty.values["has_diabetes"] is False
    assert empty.values["visit_count_12m"] == 0.0
    assert empty.ineligible_reason == "age_unknown"


@pytest.mark.parametrize(("changed", "reason"), [
    ({"conditions": searchset(condition(SNOMED, "59621000"))}, "diagnosed"),
    ({"conditions": searchset(condition("http://hl7.org/fhir/sid/icd-10-cm", "I11.9"))}, "diagnosed"),
    ({"conditions": searchset(condition(SNOMED, "59621000", verificationStatus=concept("v", "refuted")))}, None),
    ({"conditions": searchset(condition(SNOMED, "59621000", onset="2026-03-01"))}, None),
    ({"medications": searchset(order("314076", "2021-01-01"))}, "treated"),
    ({"medications": searchset(order("314076", "2021-01-01", status="cancelled"))}, None),
    ({"observations": searchset(panel("2025-12-01", 141, 85), panel("2025-11-01", 120, 91))}, "two_high_readings"),
    ({"observations": searchset(panel("2025-12-01T08:00:00Z", 141, 85), panel("2025-12-01T09:00:00Z", 145, 91))}, None),
    ({"observations": searchset(panel("2024-12-01", 120, 80))}, "no_recent_reading"),
    ({"patient": {"resourceType": "Patient", "id": PATIENT_ID, "birthDate": "2008-02-02"}}, "under_18"),
    ({"patient": {"resourceType": "Patient", "id": PATIENT_ID, "birthDate": "1940-02-01"}}, "over_85"),
    ({"patient": {"resourceType": "Patient", "id": PATIENT_ID, "birthDate": "1950", "deceasedBoolean": True}}, "deceased"),
    ({"patient": {"resourceType": "Patient", "id": "somebody-else", "birthDate": "1950"}}, "age_unknown"),
])  # fmt: skip
def test_to_whom_the_risk_does_not_apply(changed, reason):
    assert read(prefetch() | changed).ineligible_reason == reason


@pytest.mark.parametrize("bad", [
    panel("2026-01-20", 300, 90), panel("2026-01-20", 90, 110), panel("2026-01-20", 150, 90, unit="cm"),
    panel("2026-01-20", 150, 90, status="entered-in-error"), panel("2026-01-20", 150, 90, status="preliminary"),
    panel("2026-02-02", 150, 90), panel("yesterday", 150, 90), panel("2026-01-20", 150, 90, effectiveDateTime=None),
    panel("2026-01-20", 150, 90, subject={"reference": "Patient/somebody-else"}), panel("2026-01-20", 150, 90, subject=None),
    panel("2026-01-20", 150, 90, code="0000-0"), observation("8480-6", "2026-01-20", 150, "mm[Hg]"),
    None, 17, "text", [], {}, {"resourceType": "OperationOutcome"}, {"resourceType": "Observation", "code": 3},
])  # fmt: skip
def test_what_cannot_be_used_changes_nothing(bad):
    expected = read(prefetch())
    found = with_observations(*prefetch_observations(), bad)
    assert found.values == expected.values
    assert found.ineligible_reason == expected.ineligible_reason
    assert found.ignored in (0, 1)


def prefetch_observations():
    return [entry["resource"] for entry in prefetch()["observations"]["entry"]]


def test_entries_that_cannot_be_used_are_counted():
    no_code = observation("29463-7", "2026-01-20", 80, "kg", code={})
    assert with_observations(None, 17, panel("yesterday", 120, 80), no_code).ignored == 4
    assert read(prefetch() | {"conditions": {"resourceType": "Bundle", "entry": 5}}).ignored == 1


def test_two_halves_of_one_moment_are_a_reading_and_repeats_count_once():
    at = "2026-01-20T10:00:00Z"
    halves = (observation("8480-6", at, 131, "mmHg"), observation("8462-4", at, 83, None))
    found = with_observations(*halves, *halves, panel("2026-01-20T10:00:30+00:00", 131, 83))
    assert (found.values["systolic_last_mmhg"], found.values["diastolic_last_mmhg"]) == (131.0, 83.0)
    assert found.values["blood_pressure_count_12m"] == 1.0


def test_a_pair_in_words_is_a_reading():
    text = observation("BP", "2026-01-20", 0, None, code=concept("local:own", "BP"), valueString="132/84", valueQuantity=None)
    found = with_observations(text)
    assert (found.values["systolic_last_mmhg"], found.ignored) == (132.0, 0)


def test_a_height_without_a_unit_is_in_metres_where_only_that_makes_sense():
    found = with_observations(observation("8302-2", "2025-10-01", 1.8, None), observation("29463-7", "2025-10-02", 81, "kg"))
    assert found.values["bmi_last_kg_m2"] == 81 / 1.8**2


def test_bmi_as_sent_wins_over_a_weight_of_the_same_moment():
    at = "2026-01-20T10:00:00Z"
    found = with_observations(observation("39156-5", at, 27.5, "kg/m2"), observation("29463-7", at, 99, "kg"),
                              observation("8302-2", at, 170, "cm"))  # fmt: skip
    assert found.values["bmi_last_kg_m2"] == 27.5


def test_a_drug_may_lie_inside_the_order_or_beside_it():
    drug = {"resourceType": "Medication", "id": "m1", "code": concept("http://www.nlm.nih.gov/research/umls/rxnorm", "17767")}
    said = {"medicationCodeableConcept": None, "medicationReference": {"reference": "#m1"}}
    inside = order("x", "2026-01-01", contained=[drug], **said)
    beside = order("x", "2026-01-01", **said | {"medicationReference": {"reference": "Medication/m1"}})
    assert read(prefetch() | {"medications": searchset(inside)}).ineligible_reason == "treated"
    assert read(prefetch() | {"medications": searchset(beside, drug)}).ineligible_reason == "treated"
    lost = read(prefetch() | {"medications": searchset(beside)})
    assert (lost.ineligible_reason, lost.ignored) == (None, 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=12) | st.sampled_from(
        ["Observation", "Bundle", "8480-6", LOINC, "2026-01-20", "mm[Hg]", "Patient/invented-1", "9999-12-31", "0001"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["resourceType", "entry", "resource", "id", "code", "coding", "system", "subject", "reference", "component", "meta",
         "valueQuantity", "value", "valueString", "effectiveDateTime", "period", "start", "birthDate", "contained", "issued",
         "deceasedDateTime", "lastUpdated", "identifier", "onsetPeriod", "status", "medicationReference"]), inner, max_size=6),
    max_leaves=25)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["patient", "observations", "conditions", "medications", "encounters"]), json_values))
def test_no_prefetch_makes_it_fail(anything):
    assert set(read(anything).values) == set(FEATURE_NAMES)


@given(st.sampled_from(range(9)), json_values, st.sampled_from(["valueQuantity", "component", "code", "effectiveDateTime", "id",
                                                                "meta", "status", "subject", "issued", "valueCodeableConcept"]))
def test_no_field_of_an_observation_makes_it_fail(number, anything, name):
    found = prefetch_observations()
    found[number][name] = anything
    with_observations(*found)


def test_rounding_is_sqls():
    import duckdb

    numbers = [0.0000005, 2.6755, 120.00000049999, 97.2864, -1.0000005, 1.0049999999999999e-3, 142.51178, 127.51054]
    for digits in (1, 3, 6):
        for number in numbers:
            expected = duckdb.execute("select round($1::double, $2::integer)", [number, digits]).fetchone()
            assert (round_like_duckdb(number, digits),) == expected


def test_measures_are_those_of_dbts_macro_and_every_unit_of_the_seed_is_understood():
    macro = (PROJECT_ROOT / "dbt_project" / "macros" / "clinical_rules.sql").read_text()
    for measure, feature in LAST_VALUES.items():
        assert f"'{measure}': '{feature}'" in macro
    assert all(measure in LAST_VALUES or measure in ("blood_pressure", "body_weight", "body_height", "bmi")
               for measure, _ in code_tables().conversions)  # fmt: skip
    json.dumps(prefetch())
