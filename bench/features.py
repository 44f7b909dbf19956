"""Training's join by time against Feast's own, and every feature against a plain Python oracle.

    python -m bench.features [FEATURE_ROWS] [ENTITY_ROWS] [ORACLE_ROWS]

Both joins read the same Parquet file through DuckDB with the same threads, and their results are compared row for row, to
the last bit. The oracle (`bench/feature_oracle.py`) answers for as many (patient, time) rows of made-up facts at their worst
as are asked for (`bench/oracle_lake.py`).
"""

import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pandas as pd

from bench.oracle_lake import build_made_up, compare
from bench.result import Ratio
from core.lake import connect
from core.settings import Settings, load_settings
from ml.features.catalog import FEATURE_NAMES, FEATURES
from ml.features.definitions import (
    FEATURE_SERVICE,
    TIME_TO_LIVE,
    definitions,
    export_path,
    links_path,
    open_feature_store,
)
from ml.features.point_in_time import historical_features

NIGHTS = 125  # each patient has a new row every night: 8,000 patients
FEW = 50  # and, for the note, with as few rows as this: what Feast does grows with the rows of a patient, ours does not
REPEATS = 2  # of each, the fastest counts
GOAL = ">= 10"


def run(feature_rows: int = 1_000_000, entity_rows: int = 200_000, oracle_rows: int = 100_000) -> list[Ratio]:
    """Both joins, then the oracle. Errors: ``AssertionError`` when the results of the joins differ in anything."""
    return [_joins(feature_rows, entity_rows), _oracle(oracle_rows)]


def _oracle(rows: int) -> Ratio:
    with tempfile.TemporaryDirectory(prefix="cuff-bench-") as folder:
        settings = load_settings(var=Path(folder) / "var")
        build_made_up(settings, rows)
        found = compare(settings, rows)
    noticed = ", ".join(f"{kind} {count}" for kind, count in found.would_differ.items())
    return Ratio("features unlike the oracle's", found.different, found.rows, "rows", "rows compared", "<= 0",
                 f"{found.leaks} future leaks, {found.different} differences; of every 20th row a leak would change: {noticed}")


def _joins(feature_rows: int, entity_rows: int) -> Ratio:
    """Entity rows a second."""
    fast, slow = _both(feature_rows, entity_rows, NIGHTS)
    few_fast, few_slow = _both(feature_rows, entity_rows, FEW)
    return Ratio("point-in-time join", entity_rows / fast, entity_rows / slow, "entity rows/s",
                 "Feast get_historical_features", GOAL,
                 f"{feature_rows:,} x {entity_rows:,} rows, {NIGHTS} rows a patient, results equal to the last bit; "
                 f"with {FEW} a patient {few_slow / few_fast:.1f} times")


def _both(feature_rows: int, entity_rows: int, nights: int) -> tuple[float, float]:
    """Seconds of our join and of Feast's."""
    with tempfile.TemporaryDirectory(prefix="cuff-bench-") as folder:
        settings = load_settings(var=Path(folder) / "var")
        entities = _made_up(settings, feature_rows, entity_rows, nights)
        store = open_feature_store(settings)
        store.apply(definitions(settings))
        service = store.get_feature_service(FEATURE_SERVICE)
        connection = connect(settings)
        # Feast opens DuckDB through ibis on its default connection.
        duckdb.default_connection().execute(f"set threads = {settings.duckdb_threads}")

        def feast() -> pd.DataFrame:
            return store.get_historical_features(entities, service).to_df()

        def ours() -> pd.DataFrame:
            return historical_features(connection, entities, str(export_path(settings)))

        theirs, slow = _fastest(feast, REPEATS)
        found, fast = _fastest(ours, REPEATS)
        difference = _difference(found, theirs)
        assert not difference, difference
        connection.close()
    return fast, slow


def _made_up(settings: Settings, feature_rows: int, entity_rows: int, nights: int) -> pd.DataFrame:
    """Write an export of ``feature_rows`` and return ``entity_rows`` (patient, moment), some before, some beyond the rows."""
    export_path(settings).parent.mkdir(parents=True)
    patients = max(feature_rows // nights, 1)
    made = {
        "number": "case when random() < 0.8 then round(random() * 200, 6) end",
        "boolean": "random() < 0.1",
        "category": "case when random() < 0.8 then 'one' when random() < 0.5 then 'other' end",
    }
    columns = ", ".join(f"{made[feature.dtype]} as {feature.name}" for feature in FEATURES)
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'; select setseed(0.5)")
        # Nights of a year; then a pause that is longer than the time to live, and the rest.
        connection.execute(f"""
            copy (select md5('patient' || i % {patients}) as patient_key,
                    timestamptz '2010-01-01' + interval 1 day * (i // {patients}
                        + case when i // {patients} > {nights * 0.9} then {TIME_TO_LIVE.days + 20} else 0 end)
                        as feature_timestamp, {columns}
                  from range({feature_rows}) as rows(i) order by feature_timestamp, patient_key)
            to '{export_path(settings)}' (format parquet, compression zstd)""")
        connection.execute(f"copy (select '' as person_key, '' as patient_key, now() as feature_timestamp) "
                           f"to '{links_path(settings)}' (format parquet)")
        return connection.execute(f"""
            select distinct md5('patient' || (random() * {patients} * 1.02)::bigint) as patient_key,
                timestamptz '2009-12-20' + interval 1 hour * (random() * 24 * {nights + TIME_TO_LIVE.days + 60})::bigint
                    as event_timestamp
            from range({entity_rows + entity_rows // 50}) limit {entity_rows}""").df()


def _fastest(call, repeats: int) -> tuple[pd.DataFrame, float]:
    best, found = float("inf"), pd.DataFrame()
    for _ in range(repeats):
        started = time.perf_counter()
        found = call()
        best = min(best, time.perf_counter() - started)
    return found, best


def _difference(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Empty when both hold the same rows, floats by their bytes."""
    keys = ["patient_key", "event_timestamp"]
    if len(ours) != len(theirs):
        return f"{len(ours)} rows of ours, {len(theirs)} of Feast's"
    pair = [frame.sort_values(keys, ignore_index=True) for frame in (ours, theirs)]
    for name in keys:
        if not pair[0][name].equals(pair[1][name]):
            return f"{name} differs"
    for name in FEATURE_NAMES:
        mine, other = (frame[name] for frame in pair)
        if not (mine.isna() == other.isna()).all():
            return f"{name} is missing in different rows"
        there = mine.notna()
        mine, other = mine[there], other[there]
        same = (mine.to_numpy().tobytes() == other.to_numpy().tobytes() if mine.dtype == "float64"
                else mine.tolist() == other.tolist())
        if not same:
            return f"{name} differs"
    return ""


if __name__ == "__main__":
    for ratio in run(*(int(each) for each in sys.argv[1:4])):
        print(ratio, f"ratio {ratio.ratio:.1f}")
