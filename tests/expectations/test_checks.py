"""Each check holds on good data and finds the fault it is there for; each check has a fault planted here."""

from collections.abc import Iterator

import duckdb
import pytest
from duckdb import DuckDBPyConnection

from expectations.raw_columns import key_columns, text_columns
from expectations.suites import Scope, checks_of
from tests.expectations.good_data import AS_OF, fill_marts, fill_raw

FAULTS: dict[str, list[tuple[str, str]]] = {
    "landed": [
        ("ledger_balances", "update clinical.raw.landings set counts = [struct_update(counts[1], accepted := 17)]"),
        ("something_was_accepted", "update clinical.raw.landings set counts = [struct_update(counts[1], accepted := 0)]"),
        ("few_quarantined", """update clinical.raw.landings
            set counts = [struct_update(counts[1], accepted := 15, quarantined := 3)]"""),
        ("volume_as_usual", "update clinical.raw.landings set counts = [struct_update(counts[1], received := 2)] "
                            "where batch_id = 4"),
        ("known_at_is_known", "update clinical.raw.fhir_observations set known_at = null where locator = 'entry[3]'"),
        ("known_at_is_past", "update clinical.raw.fhir_observations set known_at = landed_at + interval 2 days"),
        ("{table}_keys_are_pseudonyms", "insert into clinical.raw.{table} (batch_id, known_at, person_key) "
                                        "values (4, '2024-01-01', 'MRN 1234567')"),
        ("{table}_names_nobody", "insert into clinical.raw.{table} (batch_id, known_at, locator) "
                                 "values (4, '2024-01-01', 'someone@example.org')"),
        ("landings_names_nobody", "update clinical.raw.landings set counts = [struct_update(counts[1], "
                                  "type := '212-555-0147')]"),
    ],
    "marts": [
        ("{table}_grain_is_unique", "insert into clinical.core.{table} select * from clinical.core.{table} limit 1"),
        ("hypertension_examples_grain_is_unique",
         "insert into clinical.ml.hypertension_examples select * from clinical.ml.hypertension_examples limit 1"),
        ("patient_features_grain_is_unique",
         "insert into clinical.ml.patient_features select * from clinical.ml.patient_features limit 1"),
        ("{fact}_patient_exists", "update clinical.core.{fact} set patient_key = 'nobody'"),
        ("{versioned}_versions_follow", "update clinical.core.{versioned} set superseded_at = known_at - interval 1 day"),
        ("{table}_has_not_shrunk", "delete from clinical.core.{table} where hash(patient_key) % 10 = 0"),
        ("there_are_patients", "delete from clinical.core.dim_patients"),
        ("fct_blood_pressure_event_at_is_known", "update clinical.core.fct_blood_pressure set event_at = null"),
        ("readings_are_mostly_plausible", "update clinical.core.fct_blood_pressure set is_plausible = false "
                                          "where hash(blood_pressure_key) % 4 = 0"),
        ("readings_are_plausible", "update clinical.core.fct_blood_pressure set is_plausible = false "
                                   "where hash(blood_pressure_key) % 10 = 0"),
        ("readings_are_in_mmhg", "update clinical.core.fct_blood_pressure set systolic_mmhg = systolic_mmhg / 7.5"),
        ("label_rate_is_believable", "update clinical.ml.hypertension_examples set label = 1"),
        ("label_agrees_with_outcome", "update clinical.ml.hypertension_examples set label = 0 where outcome = 'event'"),
        ("events_lie_in_the_window", "update clinical.ml.hypertension_examples set event_date = landmark_date"),
        ("examples_have_features", "delete from clinical.ml.patient_features where feature_date = '2021-01-01'"),
        ("everybody_has_features_today", f"delete from clinical.ml.patient_features where feature_date = '{AS_OF}'"),
        ("eligible_have_a_reading", "update clinical.ml.patient_features set blood_pressure_count_12m = 0"),
        ("ages_are_believable", "update clinical.ml.patient_features set age_years = 12"),
        ("prevalence_shows_no_small_cell",
         "update analytics.analytics.hypertension_prevalence_control_monthly set diagnosed = 4"),
        ("care_gaps_show_no_small_cell", "update analytics.analytics.care_gaps set patients_with_gap = 10"),
    ],
    "training_set": [
        ("enough_examples", "delete from training_set where hash(patient_key) % 50 <> 0"),
        ("training_set_grain_is_unique", "insert into training_set select * from training_set limit 1"),
        ("training_set_patient_key_is_known", "update training_set set patient_key = null"),
        ("training_set_landmark_date_is_known", "update training_set set landmark_date = null"),
        ("labels_are_zero_or_one", "update training_set set label = null where hash(patient_key) % 9 = 0"),
        ("label_rate_is_believable", "update training_set set label = 0"),
        ("landmarks_are_over", "update training_set set landmark_date = date '2023-07-01'"),
        ("every_landmark_has_both_outcomes", "update training_set set label = 1 where landmark_date = '2021-07-01'"),
        ("age_years_is_in_range", "update training_set set age_years = 130"),
        ("systolic_last_mmhg_is_in_range", "update training_set set systolic_last_mmhg = 16"),
        ("diastolic_last_mmhg_is_in_range", "update training_set set diastolic_last_mmhg = 800"),
        ("ages_are_known", "update training_set set age_years = null where hash(patient_key) % 9 = 0"),
        ("readings_are_known", "update training_set set systolic_last_mmhg = null where hash(patient_key) % 9 = 0"),
        ("bmi_is_mostly_known", "update training_set set bmi_last_kg_m2 = null"),
        ("pressures_vary", "update training_set set systolic_last_mmhg = 120"),
    ],
    "prediction_log": [
        ("somebody_was_scored", "delete from predictions"),
        ("predictions_grain_is_unique", "insert into predictions select * from predictions limit 1"),
        ("predictions_patient_key_is_known", "update predictions set patient_key = null"),
        ("risk_is_a_probability", "update predictions set risk = 1.2"),
        ("risk_is_a_probability", "update predictions set risk = null"),
        ("risk_is_a_probability", "update predictions set risk = 'nan'"),
        ("band_is_known", "update predictions set band = 'severe'"),
        ("everybody_eligible_is_scored", "delete from predictions where hash(patient_key) % 9 = 0"),
        ("only_eligible_are_scored", "update predictions set patient_key = 'x' || patient_key"),
        ("one_model_scored", "update predictions set model_version = 2 where hash(patient_key) % 2 = 0"),
        ("risks_vary", "update predictions set risk = 0.2"),
        ("mean_risk_is_believable", "update predictions set risk = 0.99 - risk / 100"),
    ],
}
_TABLES = ("dim_patients", "fct_encounters", "fct_blood_pressure", "fct_measurements", "fct_conditions", "fct_medications")
_RAW = ("fhir_conditions", "fhir_encounters", "fhir_medication_codes", "fhir_medications", "fhir_observations",
        "fhir_patients", "hl7v2_conditions", "hl7v2_encounters", "hl7v2_messages", "hl7v2_observations",
        "hl7v2_patients", "person_links")


def _expanded() -> list[tuple[str, str, str]]:
    cases = []
    for suite, faults in FAULTS.items():
        for name, fault in faults:
            tables = {"table": _RAW if suite == "landed" else _TABLES, "fact": _TABLES[1:], "versioned": _TABLES[2:]}
            place = next((place for place in tables if f"{{{place}}}" in name), None)
            cases += ([(suite, name.replace(f"{{{place}}}", table), fault.replace(f"{{{place}}}", table))
                       for table in tables[place]] if place else [(suite, name, fault)])
    return cases


@pytest.fixture(scope="module")
def good_lake() -> Iterator[DuckDBPyConnection]:
    """The two catalogs as plain in-memory databases: a check is SQL and does not mind."""
    with duckdb.connect() as lake:
        lake.execute("attach ':memory:' as clinical; attach ':memory:' as analytics; set timezone = 'UTC'")
        fill_raw(lake)
        fill_marts(lake)
        lake.execute("""
            create table training_set as select landmark_date, label, features.*
            from clinical.ml.hypertension_examples as examples
            inner join clinical.ml.patient_features as features
                on examples.patient_key = features.patient_key and examples.landmark_date = features.feature_date;
            create table predictions as select * from clinical.scores.predictions;
        """)
        yield lake


def _scope(lake: DuckDBPyConnection, suite: str) -> Scope:
    if suite == "landed":
        return Scope(as_of=AS_OF, since_batch_id=3, through_batch_id=4, key_columns=key_columns(lake),
                     text_columns=text_columns(lake))
    counts = {table: lake.execute(f"select count(*) from clinical.core.{table}").fetchone() for table in _TABLES}
    return Scope(
        as_of=AS_OF, published_rows={table: row[0] for table, row in counts.items() if row},
        rows="training_set" if suite == "training_set" else "predictions",
        eligible=f"(select patient_key from clinical.ml.patient_features where feature_date = '{AS_OF}' and is_eligible)",
    )


def _violated(lake: DuckDBPyConnection, suite: str, scope: Scope) -> set[str]:
    return {check.name for check in checks_of(suite, scope) if lake.execute(check.violations).fetchall()}


@pytest.mark.parametrize("suite", FAULTS)
def test_everything_holds_on_good_data(good_lake: DuckDBPyConnection, suite: str) -> None:
    assert _violated(good_lake, suite, _scope(good_lake, suite)) == set()


@pytest.mark.parametrize(("suite", "name", "fault"), _expanded(), ids=lambda value: str(value)[:50])
def test_a_planted_fault_is_found(good_lake: DuckDBPyConnection, suite: str, name: str, fault: str) -> None:
    scope = _scope(good_lake, suite)
    good_lake.execute("begin")
    try:
        good_lake.execute(fault)
        assert name in _violated(good_lake, suite, scope)
    finally:
        good_lake.execute("rollback")


@pytest.mark.parametrize("suite", FAULTS)
def test_every_check_has_a_planted_fault(good_lake: DuckDBPyConnection, suite: str) -> None:
    names = [check.name for check in checks_of(suite, _scope(good_lake, suite))]
    assert len(names) == len(set(names))
    assert set(names) - {name for of, name, _ in _expanded() if of == suite} <= {"landings_keys_are_pseudonyms"}


def test_shifted_dates_may_lie_ahead(good_lake: DuckDBPyConnection) -> None:
    good_lake.execute("begin")
    try:
        good_lake.execute("update clinical.raw.fhir_observations set known_at = '2124-01-01', flags = ['dates_shifted']")
        assert "known_at_is_past" not in _violated(good_lake, "landed", _scope(good_lake, "landed"))
    finally:
        good_lake.execute("rollback")
