"""A lake of made-up facts at their worst, its features built by dbt, and the comparison with the oracle."""

from dataclasses import dataclass, field
from datetime import date, timedelta

from duckdb import DuckDBPyConnection

from bench.feature_oracle import Fact, answer, differences, is_known, read_patients
from core.dbt import run_dbt
from core.lake import SnapshotNumbers, read_lake, write_lake
from core.settings import Settings
from tests.dbt.core_tables import a_build, create_core_tables, fill_core_tables

AS_OF = date(2024, 1, 10)
ROWS_PER_PATIENT = 7.5  # landmarks on which something was known already, and the day of the build
_TABLES = {"fct_blood_pressure": "blood_pressure_key", "fct_measurements": "measurement_key",
           "fct_conditions": "condition_key", "fct_medications": "medication_key"}
_LEAKS = {
    "what was told later": lambda fact, cutoff: _happened(fact) < cutoff and _is_valid(fact, cutoff),
    "what happened later": lambda fact, cutoff: fact["known_at"] < cutoff + timedelta(400) and _is_valid(fact, cutoff),
    "a correction to come": lambda fact, cutoff: is_known({**fact, "superseded_at": None}, cutoff) and (
        fact.get("superseded_at") is None),
}


@dataclass
class Comparison:
    """Rows compared; how many differ, in which columns; and how many each kind of leak would have changed."""

    rows: int = 0
    different: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    leaks: int = 0
    would_differ: dict[str, int] = field(default_factory=dict)


def build_made_up(settings: Settings, rows: int) -> None:
    """Facts for about ``rows`` feature rows, and the marts of ``ml`` over them."""
    with write_lake(settings) as lake:
        create_core_tables(lake)
        fill_core_tables(lake, int(rows / ROWS_PER_PATIENT) + 1)
        _make_hard(lake)
    run_dbt(settings, "run", a_build(AS_OF), "--select", "marts.ml", "--quiet", "--full-refresh")


def _make_hard(lake: DuckDBPyConnection) -> None:
    """Every tie, border and gap that a join by time may trip over, in a share of the facts each."""
    lake.execute("""
        insert into clinical.core.fct_measurements by name
        select measurement_key || other as measurement_key, * exclude (measurement_key, measure, value, other, scale)
            replace ([null, 'second', 'third'][(1 + hash(measurement_key, other) % 3)::int] as source_id),
            other as measure, case when hash(measurement_key, other, 1) % 9 > 0 then value * scale end as value
        from clinical.core.fct_measurements
        cross join (values ('hba1c', 0.07), ('creatinine', 0.01), ('egfr', 1), ('total_cholesterol', 2.1), ('ldl', 1.3),
                           ('hdl', 0.6), ('triglycerides', 1.7)) more(other, scale)
        where measure = 'glucose' and hash(measurement_key, other, 2) % 3 > 0
    """)
    for table, key in _TABLES.items():
        columns = f"md5({key} || 'again') as {key}"
        if table == "fct_blood_pressure":
            columns += ", systolic_mmhg + 1 as systolic_mmhg"
        lake.execute(f"""
            -- the same moment twice, told at the same time
            insert into clinical.core.{table} select * replace ({columns}) from clinical.core.{table}
            where hash({key}, 3) % 13 = 0;
            -- on the borders of the days and windows of a landmark: its last midnight, the next, a microsecond off both
            update clinical.core.{table} set
                event_at = date_trunc('month', event_at) + interval 1 day * (hash({key}, 4) % 3)::int
                    - interval 1 microsecond * (hash({key}, 5) % 2)::int
            where hash({key}, 6) % 7 = 0;
            update clinical.core.{table} set
                known_at = make_timestamptz(year(event_at), 7, 2, 0, 0, 0) - interval 1 microsecond * (hash({key}, 7) % 2)::int
            where hash({key}, 8) % 11 = 0;
            -- replaced, at times just on a border, by nothing
            update clinical.core.{table} set is_current = false,
                superseded_at = case hash({key}, 9) % 2 when 0 then make_timestamptz(year(known_at) + 1, 1, 2, 0, 0, 0)
                    else known_at + interval 30 days end
            where superseded_at is null and hash({key}, 10) % 17 = 0;
            update clinical.core.{table} set event_date = event_at::date;
            update clinical.core.{table} set source_id = 'other hospital' where hash({key}, 11) % 5 = 0;
        """)
    lake.execute("""
        update clinical.core.fct_encounters set started_at = date_trunc('year', started_at) + interval 1 day
            - interval 1 microsecond * (hash(encounter_key, 1) % 2)::int where hash(encounter_key, 2) % 9 = 0;
        update clinical.core.fct_encounters set known_at = known_at + interval 90 days where hash(encounter_key, 3) % 6 = 0;
        update clinical.core.fct_encounters set status = ['planned', 'cancelled', null][(1 + hash(encounter_key, 4) % 3)::int]
            where hash(encounter_key, 5) % 8 = 0;
        update clinical.core.fct_medications set status = ['draft', 'stopped', null][(1 + hash(medication_key, 12) % 3)::int],
            code = case when hash(medication_key, 13) % 2 = 0 then null else code end where hash(medication_key, 14) % 4 = 0;
        update clinical.core.dim_patients set birth_date = null where hash(patient_key) % 50 = 0;
    """)


def compare(settings: Settings, rows: int, snapshot: int | None = None) -> Comparison:
    """The oracle over ``rows`` rows of ``patient_features``, any of them: every one, if there are no more."""
    found = Comparison(would_differ=dict.fromkeys(_LEAKS, 0))
    with read_lake(settings, ("clinical",), SnapshotNumbers(clinical=snapshot)) as lake:
        patients = read_patients(lake)
        cursor = lake.execute("select * from clinical.ml.patient_features "
                              "order by hash(patient_key, feature_date), patient_key limit $1", [rows])
        names = [column[0] for column in cursor.description or []]
        for values in cursor.fetchall():
            row = dict(zip(names, values, strict=True))
            patient, day = patients[row["patient_key"]], row["feature_date"]
            wrong = differences(row, answer(patient, day))
            found.rows += 1
            found.different += bool(wrong)
            for name in wrong:
                found.columns[name] = found.columns.get(name, 0) + 1
            if found.rows % 20 == 0 or wrong:  # what the comparison is able to notice, on a sample
                for name, rule in _LEAKS.items():
                    leaked = differences(row, answer(patient, day, rule))
                    found.would_differ[name] += bool(leaked)
                    found.leaks += bool(wrong) and not leaked
    return found


def _happened(fact: Fact) -> object:
    return fact["started_at"] if "started_at" in fact else fact["event_at"]


def _is_valid(fact: Fact, cutoff: object) -> bool:
    superseded = fact.get("superseded_at")
    return superseded is None or superseded >= cutoff
