"""What the tests run in processes of their own: appenders of the audit chain, writers and a reader of the lake."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from core.audit import record_audit
from core.lake import current_snapshots, read_lake, write_lake
from core.settings import Settings
from core.store import store_session

ROWS = 500  # a writer's rows in each of the two tables, per transaction


def run_together(function: Callable[..., Any], *argument_lists: tuple[Any, ...]) -> list[Any]:
    """Call ``function`` once per argument list, each in a fresh process, all at once. Errors: the first of theirs."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(argument_lists), mp_context=context) as pool:
        return [future.result() for future in [pool.submit(function, *each) for each in argument_lists]]


def append_audit_events(settings: Settings, actor: str, number: int) -> None:
    for nth in range(number):
        with store_session(settings) as session:
            record_audit(session, actor, "test", f"build {nth}", "ok")


def write_readings(settings: Settings, writer: int, transactions: int) -> None:
    """Each transaction appends ``ROWS`` rows to both tables, so a whole snapshot holds as many of one as of the other."""
    with write_lake(settings) as lake:
        for nth in range(transactions):
            lake.execute("begin")
            for table in ("systolic", "diastolic"):
                lake.execute(f"insert into clinical.raw.{table} select $1, $2, range from range({ROWS})", [writer, nth])
            lake.execute("commit")


def read_until(settings: Settings, rows: int, seconds: float) -> list[tuple[int, int, int]]:
    """Read both tables, over and over, until ``rows`` are in each: (systolic, diastolic, torn transactions) each time.

    Every look opens the lake anew, at a snapshot number taken first, as readers of a published build do.
    """
    seen: list[tuple[int, int, int]] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with read_lake(settings, ("clinical",), current_snapshots(settings)) as lake:
            counts = lake.execute(
                f"""
                with each_table as (
                    select 'systolic' as name, writer, nth, count(*) as n from clinical.raw.systolic group by all
                    union all
                    select 'diastolic', writer, nth, count(*) from clinical.raw.diastolic group by all
                )

                select
                    coalesce(sum(n) filter (name = 'systolic'), 0)::bigint,
                    coalesce(sum(n) filter (name = 'diastolic'), 0)::bigint,
                    count(*) filter (n <> {ROWS})
                from each_table
                """
            ).fetchone()
        assert counts is not None
        seen.append(counts)
        if counts[0] >= rows:
            break
    return seen
