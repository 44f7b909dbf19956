"""A small lake in which everything holds: raw landings, marts, a training set, a scoring run."""

from datetime import date
from pathlib import Path

from duckdb import DuckDBPyConnection

from tests.dbt.core_tables import create_core_tables, fill_core_tables

AS_OF = date(2024, 1, 10)
LANDMARKS = ("2020-07-01", "2021-01-01", "2021-07-01")
RAW_TABLES = Path(__file__).parents[2] / "ehr" / "raw_tables.sql"


def fill_raw(lake: DuckDBPyConnection) -> None:
    """Four batches of a source; the published build holds the first three."""
    lake.execute("use clinical; " + RAW_TABLES.read_text())
    for batch in (1, 2, 3, 4):
        lake.execute("""
            insert into raw.landings by name
            select md5('payload' || $1) as payload_id, 'sim' as source_id, 'fhir' as format, $1 as batch_id,
                   date '2024-01-01' + $1::int as as_of, 1000 as size_bytes,
                   timestamptz '2024-01-01 03:00:00+00' as received_at, timestamptz '2024-01-01 03:00:00+00' as landed_at,
                   [{'unit': 'resource', 'type': 'Observation', 'received': 20, 'accepted': 18, 'duplicate': 1,
                     'ignored': 1, 'quarantined': 0}] as counts
        """, [batch])
        lake.execute("""
            insert into raw.fhir_observations by name
            select 'sim' as source_id, md5('payload' || $1) as payload_id, 'entry[' || i || ']' as locator,
                   $1 as batch_id, timestamptz '2024-01-05 03:00:00+00' as landed_at,
                   timestamptz '2024-01-04 10:00:00+00' as known_at, 'version' as known_at_basis,
                   md5('r' || i) as record_key, md5('h' || i) as content_hash, md5('p' || i) as person_key,
                   []::varchar[] as flags, 'final' as status, '120/80' as value_text,
                   [{'system': 'http://loinc.org', 'code': '85354-9'}] as codings
            from range(18) t(i)
        """, [batch])
    lake.execute("use memory")


def fill_marts(lake: DuckDBPyConnection, patients: int = 400) -> None:
    """Core marts by the shared generator, ml and analytics marts that agree with them."""
    create_core_tables(lake)
    fill_core_tables(lake, patients, visits=6)
    landmarks = ", ".join(f"(date '{day}', true)" for day in LANDMARKS)
    lake.execute(f"""
        create schema clinical.ml; create schema clinical.scores;
        create table clinical.ml.patient_features as
        select patient_key, feature_date, age_years between 18 and 85.9 as is_eligible, age_years, sex,
               (110 + hash(patient_key) % 25)::double as systolic_last_mmhg, 75.0::double as diastolic_last_mmhg,
               2.0::double as blood_pressure_count_12m, 26.5::double as bmi_last_kg_m2
        from (select *, ((feature_date - birth_date) / 365.25)::double as age_years from clinical.core.dim_patients
              cross join (values {landmarks}, (date '{AS_OF}', false)) dates(feature_date, is_landmark));
        create table clinical.ml.hypertension_examples as
        select patient_key, feature_date as landmark_date, label, case label when 1 then 'event' else 'no_event' end as outcome,
               case when label = 1 then feature_date + 100 end as event_date,
               case when label = 1 then 'drug' end as event_kind, feature_date + 400 as followed_until
        from (select *, (hash(patient_key, feature_date) % 10 = 0)::tinyint as label from clinical.ml.patient_features
              where is_eligible and feature_date < date '{AS_OF}');
        create table clinical.scores.predictions as
        select 1 as scoring_run_id, patient_key, feature_date as as_of, 1 as model_version, 1 as build_id,
               ((hash(patient_key) % 90) / 100.0)::double as risk, 'low' as band
        from clinical.ml.patient_features where is_eligible and feature_date = date '{AS_OF}';
        create schema analytics.analytics;
        create table analytics.analytics.hypertension_prevalence_control_monthly as
        select date '2023-12-01' as month, 40 as patients, 25 as diagnosed, null::bigint as measured,
               null::bigint as controlled;
        create table analytics.analytics.care_gaps as select 30 as patients, null::bigint as patients_with_gap;
    """)
