"""What the model learns from: nothing from after a landmark in features, nothing from before in labels, nights add up."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from duckdb import DuckDBPyConnection
from pandas import isnull

from core.dbt import run_dbt
from core.lake import read_lake, write_lake
from core.settings import Settings
from ml.features.catalog import FEATURE_NAMES, FEATURES, OBSERVED_COLUMNS
from tests.conftest import make_settings
from tests.dbt.core_tables import FACT_TABLES, a_build, create_core_tables, fill_core_tables

AS_OF = date(2024, 1, 10)
LANDMARK = "2022-01-01"
NEXT_DAY = "timestamptz '2022-01-02 00:00:00+00'"  # the landmark day belongs to the past
PATIENTS = 250
pytestmark = pytest.mark.slow
Rows = dict[tuple[Any, ...], tuple[Any, ...]]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(tmp_path_factory.mktemp("label") / "var")


@pytest.fixture
def built(house: Settings) -> Settings:
    """The made-up population, built from nothing."""
    with write_lake(house) as lake:
        create_core_tables(lake)
        fill_core_tables(lake, PATIENTS)
        _forget_the_future(lake)
    _build(house, AS_OF, "--full-refresh")
    return house


def _forget_the_future(lake: DuckDBPyConnection) -> None:
    """What an extract of `AS_OF` cannot hold yet."""
    tomorrow = f"timestamptz '{AS_OF}' + interval 1 day"
    for table in FACT_TABLES:
        lake.execute(f"delete from clinical.core.{table} where greatest(event_at, known_at) >= {tomorrow}")
        lake.execute(f"update clinical.core.{table} set superseded_at = null, is_current = true "
                     f"where superseded_at >= {tomorrow}")
    lake.execute(f"delete from clinical.core.fct_encounters where greatest(started_at, known_at) >= {tomorrow}")
    lake.execute(f"update clinical.core.dim_patients set died_date = null where died_date > date '{AS_OF}'")


def _build(settings: Settings, as_of: date, *arguments: str) -> None:
    run_dbt(settings, "run", a_build(as_of), "--select", "marts.ml", "--quiet", *arguments)


def _rows(settings: Settings, query: str, key: int = 1) -> Rows:
    with read_lake(settings, ("clinical",)) as lake:
        return {row[:key]: row[key:] for row in lake.execute(query).fetchall()}


def _features(settings: Settings) -> Rows:
    return _rows(settings, f"select * from clinical.ml.patient_features where feature_date <= '{LANDMARK}'", 2)


def _eligible(settings: Settings) -> Rows:
    return _rows(settings, f"select * from clinical.ml.patient_eligibility where feature_date <= '{LANDMARK}'", 2)


def _labels(settings: Settings) -> Rows:
    return _rows(settings, "select patient_key, label, outcome, event_date, event_kind from "
                           f"clinical.ml.hypertension_examples where landmark_date = '{LANDMARK}'")


def test_nothing_after_a_landmark_changes_features_or_eligibility(built: Settings) -> None:
    features, eligible, labels = _features(built), _eligible(built), _labels(built)
    with write_lake(built) as lake:
        for table in FACT_TABLES:
            later = f"(event_at >= {NEXT_DAY} or known_at >= {NEXT_DAY})"
            lake.execute(f"update clinical.core.{table} set superseded_at = null, is_current = true "
                         f"where superseded_at >= {NEXT_DAY}")
            lake.execute(f"delete from clinical.core.{table} where {later} and hash(patient_key) % 3 = 0")
        lake.execute(f"update clinical.core.fct_blood_pressure set systolic_mmhg = systolic_mmhg + 60 where {later}")
        lake.execute(f"update clinical.core.fct_measurements set value = value * 1.7 where {later}")
        lake.execute(f"""
            delete from clinical.core.fct_encounters where started_at >= {NEXT_DAY} and hash(patient_key) % 2 = 0;
            insert into clinical.core.fct_conditions by name
            select md5('later' || patient_key) as condition_key, patient_key, 'hypertension' as concept,
                   {NEXT_DAY} as event_at, date '2022-01-02' as event_date, {NEXT_DAY} as known_at,
                   true as is_current, true as is_active
            from clinical.core.dim_patients;
            insert into clinical.core.fct_conditions by name
            select md5('told later' || patient_key) as condition_key, patient_key, 'diabetes' as concept,
                   timestamptz '2020-05-05' as event_at, date '2020-05-05' as event_date, {NEXT_DAY} as known_at,
                   true as is_current, true as is_active
            from clinical.core.dim_patients;
        """)
    _build(built, AS_OF, "--full-refresh")
    assert len(features) > PATIENTS
    assert _features(built) == features
    assert _eligible(built) == eligible
    assert _labels(built) != labels  # the mutation did reach the labels


def test_nothing_before_a_landmark_changes_a_label(built: Settings) -> None:
    features, labels = _features(built), _labels(built)
    with write_lake(built) as lake:
        lake.execute(f"""
            update clinical.core.fct_blood_pressure set systolic_mmhg = systolic_mmhg + 25
            where event_at < {NEXT_DAY} and hash(blood_pressure_key) % 5 = 0;
            update clinical.core.fct_measurements set value = value * 1.4 where event_at < {NEXT_DAY};
            delete from clinical.core.fct_conditions where event_at < {NEXT_DAY} and hash(patient_key) % 2 = 0;
            delete from clinical.core.fct_medications where event_at < {NEXT_DAY} and hash(patient_key) % 2 = 0;
        """)
    _build(built, AS_OF, "--full-refresh")
    after = _labels(built)
    # Who turns out to have had it by the landmark is no example, so the past decides who is one, never which label they have.
    stayed = {key for key in labels.keys() & after.keys() if "prevalent" not in (labels[key][1], after[key][1])}
    assert len(stayed) > PATIENTS / 4
    assert {labels[key][0] for key in stayed} >= {0, 1}
    assert {key: after[key] for key in stayed} == {key: labels[key] for key in stayed}
    assert _features(built) != features  # the mutation did reach the features


def test_a_night_gives_what_a_full_refresh_gives(built: Settings) -> None:
    later = date(2024, 7, 3)
    changed = "hash(patient_key) % 5 = 0"
    with write_lake(built) as lake:
        lake.execute(f"""
            insert into clinical.intermediate.int_patients__changed by name
            select patient_key from clinical.core.dim_patients where {changed};
            delete from clinical.core.fct_blood_pressure where {changed} and hash(blood_pressure_key) % 4 = 0;
            insert into clinical.core.fct_encounters by name
            select md5('new' || patient_key) as encounter_key, patient_key, 'finished' as status,
                   timestamptz '2024-06-20' as started_at, timestamptz '2024-06-20' as known_at
            from clinical.core.dim_patients where {changed};
            delete from clinical.core.dim_patients where hash(patient_key) % 25 = 0;
        """)
        lake.execute("update clinical.ml.patient_features set heart_rate_last_bpm = -1 "
                     f"where feature_date = '{LANDMARK}' and not {changed}")
    tables = {"patient_eligibility": 2, "patient_features": 2, "hypertension_examples": 2}
    _build(built, later)
    nightly = {table: _rows(built, f"select * from clinical.ml.{table}", key) for table, key in tables.items()}
    _build(built, later, "--full-refresh")
    full = {table: _rows(built, f"select * from clinical.ml.{table}", key) for table, key in tables.items()}

    touched = {key for key, row in nightly["patient_features"].items() if -1 in row}
    assert touched  # landmark rows of patients without news were left alone
    for key in touched:
        assert key[1] == date(2022, 1, 1)
        full["patient_features"].pop(key), nightly["patient_features"].pop(key)
    for table in tables:
        assert nightly[table] == full[table], table
    dates = {key[1] for key in full["patient_features"]}
    assert {date(2024, 7, 1), later} <= dates
    assert AS_OF not in dates


def test_a_build_on_a_landmark_leaves_no_row_that_a_later_one_would_not_make(built: Settings) -> None:
    later = date(2024, 7, 2)
    with write_lake(built) as lake:
        lake.execute("""
            insert into clinical.core.dim_patients by name
            select * replace ('never-seen' as patient_key) from clinical.core.dim_patients limit 1
        """)
    _build(built, date(2024, 7, 1), "--full-refresh")
    _build(built, later)
    query = "select patient_key, feature_date from clinical.ml.patient_eligibility"
    nightly = _rows(built, query, 2)
    _build(built, later, "--full-refresh")
    assert nightly == _rows(built, query, 2)


def test_features_by_hand(built: Settings) -> None:
    """One person with a hand-written history, every number worked out beside it."""
    with write_lake(built) as lake:
        lake.execute("""
            insert into clinical.core.dim_patients by name
            select 'hand' as patient_key, 'female' as sex, date '1970-01-01' as birth_date;
            insert into clinical.core.fct_blood_pressure by name
            select 'hand' || i as blood_pressure_key, 'hand' as patient_key, 'hospital' as source_id,
                   day::timestamptz as event_at, day as event_date, told::timestamptz as known_at,
                   superseded::timestamptz as superseded_at, superseded is null as is_current,
                   systolic as systolic_mmhg, diastolic as diastolic_mmhg, false as is_preliminary,
                   systolic < 300 as is_plausible
            from (values
                (1, date '2020-01-01', date '2020-01-01', null, 110.0, 70.0),
                (2, date '2021-06-30', date '2021-06-30', null, 120.0, 80.0),
                (3, date '2021-12-31', date '2021-12-31', date '2022-03-01', 130.0, 84.0),  -- corrected after the landmark
                (4, date '2021-12-31', date '2022-03-01', null, 180.0, 84.0),
                (5, date '2021-12-30', date '2021-12-30', null, 999.0, 84.0),  -- implausible
                (6, date '2021-12-29', date '2022-01-05', null, 200.0, 99.0)   -- told after the landmark
            ) readings(i, day, told, superseded, systolic, diastolic);
            insert into clinical.core.fct_measurements by name
            select 'hand' || i as measurement_key, 'hand' as patient_key, measure, day::timestamptz as event_at,
                   case when day < date '2022-01-02' then 'doctor' else 'told too late' end as source_id,
                   day as event_date, day::timestamptz as known_at, true as is_current, value, code as value_code,
                   true as is_plausible
            from (values
                (1, 'body_height', date '2015-01-01', 170.0, null), (2, 'body_weight', date '2021-03-01', 86.7, null),
                (3, 'body_weight', date '2021-11-01', 80.92, null), (4, 'glucose', date '2020-01-01', 99.0, null),
                (5, 'glucose', date '2022-01-02', 300.0, null), (6, 'smoking_status', date '2020-01-01', null, 'former'),
                (7, 'smoking_status', date '2021-01-01', null, 'unknown')
            ) measured(i, measure, day, value, code);
        """)
    _build(built, AS_OF, "--full-refresh")
    with read_lake(built, ("clinical",)) as lake:
        found = lake.execute("select * from clinical.ml.patient_features where patient_key = 'hand' "
                             f"and feature_date = '{LANDMARK}'").df().iloc[0].to_dict()
    expected = {
        "is_eligible": True, "sex": "female", "age_years": 18993 / 365.25, "systolic_last_mmhg": 130.0,
        "diastolic_last_mmhg": 84.0, "systolic_mean_12m_mmhg": 125.0, "diastolic_mean_12m_mmhg": 82.0,
        "systolic_sd_12m_mmhg": 50 ** 0.5, "pulse_pressure_last_mmhg": 46.0, "blood_pressure_count_12m": 2.0,
        "blood_pressure_age_days": 1.0, "bmi_last_kg_m2": 28.0, "bmi_change_12m_kg_m2": -2.0,
        "glucose_last_mg_dl": 99.0, "smoking_status": "former", "has_diabetes": False, "drug_count_12m": 0.0,
        "source_ids": "doctor,hospital",
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    observed = {name: found[name].date() for name in OBSERVED_COLUMNS if not isnull(found[name])}
    assert observed == {
        "blood_pressure_observed_on": date(2021, 12, 31), "bmi_observed_on": date(2021, 11, 1),
        "glucose_observed_on": date(2020, 1, 1), "smoking_status_observed_on": date(2020, 1, 1),
    }
    days, pressures = (0, 546, 730), (110, 120, 130)
    mean_day, mean_pressure = sum(days) / 3, sum(pressures) / 3
    slope = (sum((d - mean_day) * (p - mean_pressure) for d, p in zip(days, pressures, strict=True))
             / sum((d - mean_day) ** 2 for d in days)) * 365.25
    assert found["systolic_slope_mmhg_per_year"] == pytest.approx(slope)


def test_a_value_has_a_day_and_no_value_has_none(built: Settings) -> None:
    """And the columns beside the features come in the order that the catalog names them in."""
    with read_lake(built, ("clinical",)) as lake:
        columns = [row[0] for row in lake.execute("describe clinical.ml.patient_features").fetchall()]
        assert columns == ["patient_key", "feature_date", "is_eligible", *FEATURE_NAMES, *OBSERVED_COLUMNS, "source_ids"]
        for feature in FEATURES:
            if feature.observed_in:
                odd = lake.execute(
                    f"select count(*), count({feature.name}) from clinical.ml.patient_features where ({feature.name} is null) "
                    f"<> ({feature.observed_in} is null) or {feature.observed_in} > feature_date").fetchone()
                assert odd == (0, 0), feature.name
        some = lake.execute("select count(blood_pressure_observed_on), count(glucose_observed_on), count(bmi_observed_on), "
                            "count(smoking_status_observed_on) from clinical.ml.patient_features").fetchone()
        assert min(some or [0]) > 0
        assert lake.execute("""
            select count(*) from clinical.ml.patient_features
            where blood_pressure_age_days <> feature_date - blood_pressure_observed_on""").fetchone() == (0,)


def test_unit_tests_of_label_eligibility_and_small_cells_pass(built: Settings) -> None:
    run_dbt(built, "test", a_build(AS_OF), "--quiet", "--select", "marts.ml,test_type:unit", "marts.analytics,test_type:unit")
    kept = json.loads((Path(built.var) / "dbt" / "target" / "run_results.json").read_text())["results"]
    results = [result for result in kept if result["unique_id"].startswith("unit_test.")]
    assert len(results) == 14
    assert {result["status"] for result in results} == {"pass"}
