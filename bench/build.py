"""A night's build on H of history and on ten times H: the same delta, timed in one run.

    python -m bench.build [--patients 400] [--delta 40] [--repeats 2] [--select SELECTION]

Each patient has 100 readings and 20 visits behind them; a night brings ``--delta`` patients one visit each. The demand:
the larger history costs at most 1.3 times as much. Prints JSON; exit code 1 above the limit.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path

from bench.result import Ratio
from core.dbt import manifest_hash, run_dbt
from core.lake import write_lake
from core.publication import finish_build, publish, start_build
from core.settings import PROJECT_ROOT, Settings, load_settings
from core.store import Batch, store_session, utc_now

GOAL = "<= 1.3"
HISTORY_FACTOR = 10
READINGS_PER_PATIENT, VISITS_PER_PATIENT = 100, 20

# $1 patients, $2 readings each, $3 batch, $4 first day
_LAND = (
    """
    insert into raw.fhir_patients by name
    select 'person-' || i as person_key, 'patient-' || i as record_key, 'female' as gender,
        date '1950-01-01' + (i % 15000)::integer as birth_date, 'day' as birth_date_precision, {common}
    from range($1) as people(i)
    where $3 = 1
    """,
    """
    insert into raw.person_links by name
    select 'person-' || i as person_key, 'link-' || i as record_key, 'identifier' as link_type,
        'mrn-' || i as other_person_key, {common}
    from range($1) as people(i)
    where $3 = 1
    """,
    """
    insert into raw.fhir_encounters by name
    select 'person-' || i as person_key, 'visit-' || $3 || '-' || i || '-' || v as record_key,
        record_key as encounter_key, 'finished' as status, 'AMB' as class_code,
        $4::timestamptz + interval (v * 15) day as started_at, started_at + interval 1 hour as ended_at, {common}
    from range($1) as people(i), range(greatest(1, $2 // 5)) as visits(v)
    """,
    """
    insert into raw.fhir_observations by name
    select 'person-' || i as person_key, 'reading-' || $3 || '-' || i || '-' || v as record_key, 'final' as status,
        $4::timestamptz + interval (v * 3) day as event_at,
        [{{'system': 'http://loinc.org', 'code': '85354-9'}}] as codings,
        [{{'codings': [{{'system': 'http://loinc.org', 'code': '8480-6'}}], 'value_number': 110 + (i + v) % 50,
           'value_unit': 'mm[Hg]', 'value_text': null::varchar}},
         {{'codings': [{{'system': 'http://loinc.org', 'code': '8462-4'}}], 'value_number': 70 + (i + v) % 25,
           'value_unit': 'mm[Hg]', 'value_text': null::varchar}}] as components, {common}
    from range($1) as people(i), range($2) as readings(v)
    """,
)
_COMMON = """'bench' as source_id, 'bench' as payload_id, 'line 1' as locator, $3 as batch_id, now() as landed_at,
        $4::timestamptz + interval 400 day as known_at, 'message' as known_at_basis, md5(record_key) as content_hash"""


def land(settings: Settings, patients: int, readings: int, first_day: date) -> None:
    """Land one batch of made-up patients."""
    with store_session(settings) as session:
        batch = Batch(as_of=first_day, finished_at=utc_now())
        session.add(batch)
        session.flush()
        batch_id = batch.batch_id
    with write_lake(settings) as lake:
        lake.execute("use clinical")
        lake.execute((PROJECT_ROOT / "ehr" / "raw_tables.sql").read_text())
        values = {"1": patients, "2": readings, "3": batch_id, "4": first_day}
        for statement in _LAND:
            lake.execute(statement.format(common=_COMMON), {k: v for k, v in values.items() if f"${k}" in statement + _COMMON})


def build_seconds(settings: Settings, select: str) -> float:
    """Build and publish; how long dbt took."""
    started = start_build(settings)
    begun = time.perf_counter()
    run_dbt(settings, "build", started, "--quiet", *(("--select", *select.split()) if select else ()))
    seconds = time.perf_counter() - begun
    finish_build(settings, started.build_id, manifest_hash(settings))
    publish(settings, started.build_id, "bench")
    return seconds


def run(patients: int = 400, delta: int = 40, repeats: int = 2, select: str = "") -> list[Ratio]:
    """The median night on ten times the history over the median night on the history."""
    nights: dict[int, list[float]] = {1: [], HISTORY_FACTOR: []}
    with tempfile.TemporaryDirectory() as folder:
        houses = {factor: load_settings(var=Path(folder) / f"history-{factor}") for factor in nights}
        for factor, settings in houses.items():
            land(settings, patients * factor, READINGS_PER_PATIENT, date(2023, 1, 1))
            build_seconds(settings, select)
        for night in range(repeats):
            for factor, settings in houses.items():
                land(settings, delta, 1, date(2024, 6, 1 + night))
                nights[factor].append(build_seconds(settings, select))
    small, large = (statistics.median(nights[factor]) for factor in nights)
    readings = patients * READINGS_PER_PATIENT
    return [Ratio("night's build, ten times the history", large, small, "s", f"{readings:,} readings of history", GOAL,
                  f"{delta} patients with news, {readings * HISTORY_FACTOR:,} readings of history")]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=400, help="patients of the smaller history")
    parser.add_argument("--delta", type=int, default=40, help="patients with news each night")
    parser.add_argument("--repeats", type=int, default=2, help="nights measured")
    parser.add_argument("--select", default="", help="dbt selection; default the whole project")
    (measured,) = run(**vars(parser.parse_args()))
    print(json.dumps(asdict(measured) | {"ratio": round(measured.ratio, 3), "is_met": measured.is_met}, indent=2))
    return 0 if measured.is_met else 1


if __name__ == "__main__":
    sys.exit(main())
