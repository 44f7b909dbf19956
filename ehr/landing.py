"""Rows into the lake: without duplicates, all of a batch in one transaction, with the counts beside them.

The lake's transaction is the moment of truth. Whatever the ops database does not know yet about a landed payload is in
``raw.landings`` and is completed from there by the next run.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from core.store import Payload
from ehr.records import Reject

Counts = Counter[tuple[str, str, str]]  # (payload_id, unit, type)
LANDING_SQL = (Path(__file__).parent / "raw_tables.sql").read_text()
FHIR_TABLES = {
    "fhir_patients": "'Patient'",
    "fhir_encounters": "'Encounter'",
    "fhir_observations": "'Observation'",
    "fhir_conditions": "'Condition'",
    "fhir_medications": "resource_type",
    "fhir_medication_codes": "'Medication'",
}
HL7_TABLES = ("hl7v2_patients", "hl7v2_encounters", "hl7v2_observations", "hl7v2_conditions")


def create_raw_tables(connection: DuckDBPyConnection) -> None:
    """Make the landing tables of the attached ``clinical`` catalog where they are missing."""
    if connection.execute(
        "select count(*) from duckdb_tables() where database_name = 'clinical' and schema_name = 'raw'"
    ).fetchone() != (LANDING_SQL.count("create table"),):
        connection.execute("use clinical")
        connection.execute(LANDING_SQL)
        connection.execute("use memory")


def already_landed(
    connection: DuckDBPyConnection, payload_ids: list[str]
) -> dict[str, tuple[int, list[dict[str, Any]]]]:
    """For payloads that the lake holds already: their batch and counts."""
    rows = connection.execute(
        "select payload_id, min(batch_id), any_value(counts) from clinical.raw.landings "
        "where payload_id in (select unnest($1)) group by payload_id",
        [payload_ids],
    ).fetchall()
    return {payload_id: (batch_id, counts) for payload_id, batch_id, counts in rows}


def keep_new_fhir(connection: DuckDBPyConnection) -> tuple[Counts, Counts]:
    """Leave in ``new_fhir_*`` only what the lake does not hold; returns (accepted, duplicate)."""
    accepted: Counts = Counter()
    duplicate: Counts = Counter()
    for table, type_sql in FHIR_TABLES.items():
        before = _by_type(connection, table, type_sql)
        _keep_new(connection, table)
        after = _by_type(connection, table, type_sql)
        for (payload_id, name), number in before.items():
            landed = after.get((payload_id, name), 0)
            accepted[payload_id, "resource", name] += landed
            duplicate[payload_id, "resource", name] += number - landed
    return accepted, duplicate


def keep_new_links(connection: DuckDBPyConnection) -> None:
    """Drop links that are known already; they are no ledger unit of their own."""
    _keep_new(connection, "person_links")


def keep_new_messages(connection: DuckDBPyConnection) -> tuple[Counts, Counts, list[tuple[str, Reject]]]:
    """Drop the rows of messages that the lake holds, or that reuse a control id with another content.

    Returns (accepted, duplicate, rejects by payload).
    """
    connection.execute(
        """
        create or replace temp table judged_messages as
        with held as (
            select record_key, content_hash from clinical.raw.hl7v2_messages
            semi join new_hl7v2_messages using (record_key)
        ),

        ranked as (
            select *,
                row_number() over (partition by record_key order by known_at, payload_id, ordinal) as nth,
                first(content_hash) over (partition by record_key order by known_at, payload_id, ordinal) as first_hash
            from new_hl7v2_messages
        )

        select ranked.*,
            case
                when held_hashes is not null and list_contains(held_hashes, ranked.content_hash) then 'duplicate'
                when held_hashes is not null then 'control_id_reused'
                when nth = 1 then 'new'
                when ranked.content_hash = first_hash then 'duplicate'
                else 'control_id_reused'
            end as judgement
        from ranked
        left join (select record_key, list(content_hash) as held_hashes from held group by record_key) as held_by_key
            using (record_key)
        """
    )
    accepted: Counts = Counter()
    duplicate: Counts = Counter()
    rejects: list[tuple[str, Reject]] = []
    for payload_id, locator, message_type, judgement in connection.execute(
        "select payload_id, locator, message_type, judgement from judged_messages order by payload_id, ordinal"
    ).fetchall():
        unit = (payload_id, "message", message_type)
        if judgement == "control_id_reused":
            detail = "MSH-10 was used before by a message with other content"
            rejects.append((payload_id, Reject("message", message_type, f"{locator} MSH-10", judgement, detail)))
        else:
            (accepted if judgement == "new" else duplicate)[unit] += 1
    for table in ("hl7v2_messages", *HL7_TABLES, "person_links"):
        connection.execute(
            f"""
            delete from new_{table} where exists (
                select 1 from judged_messages as judged
                where judged.payload_id = new_{table}.payload_id and judged.judgement <> 'new'
                    and judged.locator = regexp_extract(new_{table}.locator, '^message [0-9]+')
            )
            """
        )
    return accepted, duplicate, rejects


def insert_rows(connection: DuckDBPyConnection, batch_id: int, tables: tuple[str, ...]) -> None:
    """Insert the ``new_*`` tables; the caller owns the transaction."""
    for table in tables:
        columns = [
            row[0]
            for row in connection.execute(
                "select column_name from duckdb_columns() where database_name = 'clinical' and schema_name = 'raw' "
                "and table_name = $1 order by column_index",
                [table],
            ).fetchall()
        ]
        filled = {"batch_id": str(int(batch_id)), "landed_at": "current_timestamp"}
        chosen = ", ".join(f"{filled.get(name, name)} as {name}" for name in columns)
        connection.execute(f"insert into clinical.raw.{table} ({', '.join(columns)}) select {chosen} from new_{table}")


def insert_landing(
    connection: DuckDBPyConnection, batch_id: int, payload: Payload, counts: list[dict[str, Any]]
) -> None:
    connection.execute(
        """
        insert into clinical.raw.landings
        select $1, $2, $3, $4, $5, $6, $7, current_timestamp, cast($8 as struct(unit varchar, type varchar,
            received bigint, accepted bigint, duplicate bigint, ignored bigint, quarantined bigint)[])
        """,
        [payload.payload_id, payload.source_id, payload.format, batch_id, payload.as_of, payload.size_bytes,
         payload.received_at, counts],
    )  # fmt: skip


def _by_type(connection: DuckDBPyConnection, table: str, type_sql: str) -> dict[tuple[str, str], int]:
    rows = connection.execute(f"select payload_id, {type_sql}, count(*) from new_{table} group by all").fetchall()
    return {(payload_id, name): number for payload_id, name, number in rows}


def _keep_new(connection: DuckDBPyConnection, table: str) -> None:
    connection.execute(
        f"""
        create or replace temp table new_{table} as
        select * from new_{table}
        anti join clinical.raw.{table} as held using (record_key, content_hash)
        qualify row_number() over (partition by record_key, content_hash order by payload_id, locator) = 1
        """
    )
