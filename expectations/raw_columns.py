"""Which columns of the landing tables hold keys, and which hold text that a hospital wrote: read from the catalog."""

from datetime import date

from duckdb import DuckDBPyConnection

from core.errors import GateError

# Cuff's own words and digests, checked elsewhere or drawn from fixed lists.
_OURS = ("payload_id", "content_hash", "known_at_basis", "format")


def newest_batch(lake: DuckDBPyConnection) -> tuple[int, date]:
    """Number and day of the newest landed batch. Errors: `GateError` when nothing has landed."""
    row = (lake.execute("select max(batch_id), max(as_of) from clinical.raw.landings").fetchone()
           if _columns(lake) else None)
    if row is None or row[0] is None:
        raise GateError("no extract has landed yet, so there is nothing to check; run `cuff ingest PATH` first")
    return int(row[0]), row[1]


def key_columns(lake: DuckDBPyConnection) -> dict[str, list[str]]:
    """Raw table → its pseudonym columns."""
    found: dict[str, list[str]] = {}
    for table, column, _ in _columns(lake):
        if column.endswith("_key"):
            found.setdefault(table, []).append(column)
    return found


def text_columns(lake: DuckDBPyConnection) -> dict[str, list[str]]:
    """Raw table → SQL expressions of everything in it that is text: columns, list members, codings, components."""
    found: dict[str, list[str]] = {}
    for table, column, kind in _columns(lake):
        if column in _OURS or column.endswith("_key") or "VARCHAR" not in kind:
            continue
        found.setdefault(table, []).append(column if kind == "VARCHAR" else f"cast(unnest({column}) as varchar)")
    return found


def _columns(lake: DuckDBPyConnection) -> list[tuple[str, str, str]]:
    return lake.execute("""
        select table_name, column_name, data_type from duckdb_columns()
        where database_name = 'clinical' and schema_name = 'raw' order by all""").fetchall()
