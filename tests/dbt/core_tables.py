"""The core marts as `docs/contracts.md` promises them, filled with a made-up population: what the marts behind them need."""

from datetime import date

from duckdb import DuckDBPyConnection

from core.settings import Settings
from core.store import Build

CORE_TABLES = {
    "dim_patients": """
        patient_key varchar, sex varchar, birth_date date, birth_date_precision varchar, is_deceased boolean,
        died_date date, person_count integer, first_event_at timestamptz, last_event_at timestamptz""",
    "fct_encounters": """
        encounter_key varchar, patient_key varchar, source_id varchar, encounter_class varchar, status varchar,
        started_at timestamptz, ended_at timestamptz, known_at timestamptz""",
    "fct_blood_pressure": """
        blood_pressure_key varchar, patient_key varchar, encounter_key varchar, source_id varchar, event_at timestamptz,
        event_date date, known_at timestamptz, superseded_at timestamptz, is_current boolean, systolic_mmhg double,
        diastolic_mmhg double, original_unit varchar, is_preliminary boolean, is_plausible boolean,
        implausible_reason varchar""",
    "fct_measurements": """
        measurement_key varchar, patient_key varchar, encounter_key varchar, source_id varchar, measure varchar,
        event_at timestamptz, event_date date, known_at timestamptz, superseded_at timestamptz, is_current boolean,
        value double, unit varchar, value_code varchar, is_plausible boolean, implausible_reason varchar""",
    "fct_conditions": """
        condition_key varchar, patient_key varchar, encounter_key varchar, source_id varchar, concept varchar,
        code_system varchar, code varchar, onset_at timestamptz, event_at timestamptz, event_date date,
        known_at timestamptz, superseded_at timestamptz, is_current boolean, is_active boolean""",
    "fct_medications": """
        medication_key varchar, patient_key varchar, encounter_key varchar, source_id varchar, concept varchar,
        code_system varchar, code varchar, status varchar, event_at timestamptz, event_date date,
        ended_at timestamptz, known_at timestamptz, superseded_at timestamptz, is_current boolean""",
}
FACT_TABLES = ("fct_blood_pressure", "fct_measurements", "fct_conditions", "fct_medications")


def create_core_tables(lake: DuckDBPyConnection) -> None:
    """Empty core marts, and nobody changed."""
    lake.execute("create schema if not exists clinical.core; create schema if not exists clinical.intermediate")
    for name, columns in CORE_TABLES.items():
        lake.execute(f"create or replace table clinical.core.{name} ({columns})")
    lake.execute("create or replace table clinical.intermediate.int_patients__changed (patient_key varchar)")


def a_build(as_of: date) -> Build:
    return Build(build_id=1, as_of=as_of, since_batch_id=0, through_batch_id=1)


def fill_core_tables(lake: DuckDBPyConnection, patients: int, first_year: int = 2019, visits: int = 12) -> None:
    """``patients`` people with about ``visits`` visits from ``first_year`` over five years; the same every time.

    Drifting pressures, late arrivals, corrections, implausible and preliminary readings, some diagnoses, drugs, deaths.
    """
    def chance(*parts: str) -> str:
        return f"(hash({', '.join(parts)}) % 1000003) / 1000003.0"

    def normal(*parts: str) -> str:
        return f"(({chance(*parts, chr(39) + 'a' + chr(39))}) + ({chance(*parts, chr(39) + 'b' + chr(39))})" \
               f" + ({chance(*parts, chr(39) + 'c' + chr(39))}) - 1.5) * 2"

    lake.execute(f"""
        create or replace temp table person as
        select i, md5('p' || i) as patient_key, 'sim' as source_id,
               case when i % 2 = 0 then 'female' else 'male' end as sex,
               date '{first_year}-01-01' - (365.25 * (15 + 75 * ({chance('i', '1')})))::int as birth_date,
               118 + 12 * {normal('i', '2')} as pressure, 2.5 * ({chance('i', '3')}) as climb,
               ({chance('i', '4')}) < 0.04 as dies
        from range({patients}) t(i)
    """)
    lake.execute(f"""
        create or replace temp table visit as
        select *, timestamptz '{first_year}-01-01 09:00:00+00'
                  + to_seconds((5 * 365 * 86400 * ({chance('i', 'v', '5')}))::bigint) as visited_at,
               md5('e' || i || '-' || v) as encounter_key
        from person cross join range({visits}) u(v)
    """)
    lake.execute("""
        insert into clinical.core.dim_patients
        select patient_key, any_value(sex), any_value(birth_date), 'day', bool_or(dies),
               (max(visited_at) + interval 30 days)::date, 1, min(visited_at), max(visited_at) from visit where dies group by 1
        union all
        select patient_key, any_value(sex), any_value(birth_date), 'day', false, null, 1, min(visited_at), max(visited_at)
        from visit where not dies group by 1;
        insert into clinical.core.fct_encounters
        select encounter_key, patient_key, source_id, 'ambulatory', 'finished', visited_at, visited_at + interval 20 minutes,
               visited_at + interval 1 hour from visit
    """)
    lake.execute(f"""
        create or replace temp table reading as
        select *, md5('b' || i || '-' || v) as key,
               pressure + climb * year(visited_at) - climb * {first_year} + 7 * {normal('i', 'v', '6')} as systolic,
               70 + 0.3 * (pressure - 118) + 5 * {normal('i', 'v', '7')} as diastolic,
               visited_at + case when v % 9 = 8 then interval 60 days else interval 2 hours end as told_at
        from visit;
        insert into clinical.core.fct_blood_pressure
        select key, patient_key, encounter_key, source_id, visited_at, visited_at::date, told_at,
               case when v % 11 = 10 then told_at + interval 40 days end, v % 11 <> 10,
               case when v % 13 = 12 then 400 else systolic end, diastolic, 'mm[Hg]', v % 10 = 9, v % 13 <> 12,
               case when v % 13 = 12 then 'systolic_out_of_range' end
        from reading;
        insert into clinical.core.fct_blood_pressure
        select md5(key || 'v2'), patient_key, encounter_key, source_id, visited_at, visited_at::date,
               told_at + interval 40 days, null, true, systolic - 3, diastolic, 'mm[Hg]', false, true, null
        from reading where v % 11 = 10;
        insert into clinical.core.fct_measurements
        select md5(measure || i || '-' || v), patient_key, encounter_key, source_id, measure, visited_at,
               visited_at::date, told_at, null, true, 
               case measure when 'body_weight' then 60 + i % 40 + v when 'body_height' then 155 + i % 40
                                  when 'heart_rate' then 60 + (i + v) % 40 when 'glucose' then 80 + (i * v) % 60
                                  when 'bmi' then 20 + i % 15 end,
               'x', case when measure = 'smoking_status' then ['current', 'former', 'never', 'unknown'][1 + i % 4] end,
               true, null
        from reading cross join (values ('body_weight', 1), ('body_height', 6), ('heart_rate', 1), ('glucose', 3),
                                        ('bmi', 4), ('smoking_status', 3)) m(measure, every)
        where v % every = 0;
        insert into clinical.core.fct_conditions
        select md5('c' || concept || i), patient_key, encounter_key, source_id, concept, 'http://snomed.info/sct', concept,
               visited_at, visited_at, visited_at::date, told_at + interval 10 days, null, true, true
        from reading join (values ('hypertension', 0.15), ('diabetes', 0.1), ('chronic_kidney_disease', 0.04),
                                  ('other', 0.5)) c(concept, share)
        on v = i % 7 and ({chance('i', 'concept')}) < share;
        insert into clinical.core.fct_medications
        select md5('m' || concept || i), patient_key, encounter_key, source_id, concept, 'rxnorm', concept,
               case when i % 17 = 0 then 'cancelled' else 'active' end, visited_at, visited_at::date, null, told_at, null, true
        from reading join (values ('antihypertensive', 0.12), ('statin', 0.2)) c(concept, share)
        on v = i % 5 and ({chance('i', 'concept', '9')}) < share
    """)


def analyse(settings: Settings, query: str) -> list[tuple[object, ...]]:
    """Rows of a query over both catalogs as they stand."""
    from core.lake import read_lake

    with read_lake(settings) as lake:
        return lake.execute(query).fetchall()
