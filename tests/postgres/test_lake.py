"""DuckLake on a Postgres catalog: four processes write at once, and every reader sees whole snapshots."""

import pytest

from core.lake import current_snapshots, read_lake, write_lake
from tests.postgres.processes import ROWS, read_until, run_together, write_readings

pytestmark = pytest.mark.postgres
WRITERS, TRANSACTIONS = 4, 6


def test_four_writers_lose_nothing_and_readers_see_whole_snapshots(house):
    with write_lake(house) as lake:
        lake.execute("create schema clinical.raw")
        for table in ("systolic", "diastolic"):
            lake.execute(f"create table clinical.raw.{table} (writer integer, nth integer, value bigint)")
    before = current_snapshots(house).clinical
    rows = WRITERS * TRANSACTIONS * ROWS
    *_, seen = run_together(
        _write_or_read, *((house, writer, TRANSACTIONS) for writer in range(WRITERS)), (house, None, rows)
    )
    assert seen[-1] == (rows, rows, 0)
    assert all(systolic == diastolic and torn == 0 for systolic, diastolic, torn in seen)
    assert len({systolic for systolic, _, _ in seen}) > 2, "the reader saw no state in between, so it proved nothing"
    with read_lake(house, ("clinical",)) as lake:
        written = lake.execute(
            "select writer, count(*), count(distinct (nth, value)) from clinical.raw.systolic group by all order by all"
        ).fetchall()
    assert written == [(writer, TRANSACTIONS * ROWS, TRANSACTIONS * ROWS) for writer in range(WRITERS)]
    after = current_snapshots(house).clinical
    assert before is not None
    assert after == before + WRITERS * TRANSACTIONS, "one snapshot for each transaction"


def test_parquet_is_encrypted_and_nothing_is_inlined_in_the_catalog(house, tmp_path):
    with write_lake(house) as lake:
        lake.execute("create table clinical.main.t as select 'canary' as word")
        inlined = lake.execute(
            "select count(*) from duckdb_tables() where table_name like 'ducklake_inlined_data_%' and estimated_size > 0"
        ).fetchone()
    files = list((house.var / "lake" / "clinical").rglob("*.parquet"))
    assert files
    assert all(file.read_bytes()[:4] == b"PARE" for file in files), "encrypted Parquet starts with PARE"
    assert not any(b"canary" in file.read_bytes() for file in files)
    assert inlined == (0,)


def _write_or_read(settings, writer, number):
    return read_until(settings, number, 60) if writer is None else write_readings(settings, writer, number)
