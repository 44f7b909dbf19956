"""Rows into the lake: without duplicates, all of a batch in one transaction, with the counts beside them.

The lake's transaction is the moment of truth. Whatever the ops database does not know yet about a landed payload is in
``raw.landings`` and is completed from there by the next run.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from core.store import Payload
from ehr.fhir.parse import FACT_TABLES
from ehr.records import Counts, Reject

LANDING_SQL = (Path(__file__).parent / "raw_tables.sql").read_text()
HL7_TABLES = ("hl7v2_patients", "hl7v2_encounters", "hl7v2_observations", "hl7v2_conditions")


def create_raw_tables(connection: DuckDBPyConnection) -> None:
    """Make the landing tables of the attached ``clinical`` catalog where they are missing."""
    found = connection.execute(
        "select count(*) from duckdb_tables() where database_name = 'clinical' and schema_name = 'raw'"
    ).fetchone()
    if found != (LANDING_SQL.count("create table"),):
        connection.execute("begin")
        connection.execute("use clinical")
        connection.execute(LANDING_SQL)
        connection.execute("use memory")
        connection.execute("commit")
    older = connection.execute(
        "select table_name from duckdb_tables() where database_name = 'clinical' and schema_name = 'raw' "
        "and table_name not in (select table_name from duckdb_columns() where database_name = 'clinical' "
        "and schema_name = 'raw' and column_name = 'inbox_sequence')"
    ).fetchall()
    for (table,) in older:
        connection.execute(f"alter table clinical.raw.{table} add column inbox_sequence bigint")


def note_sequences(connection: DuckDBPyConnection, sequences: dict[str, int], awaited: Iterable[str] = ()) -> None:
    """Temp tables ``arrived``: the place of each of the batch's payloads in the order of arrival, and ``awaited``: record
    keys of messages that were accepted and have not landed yet."""
    import pyarrow as pa

    arrived = pa.table({"payload_id": pa.array(sequences.keys(), pa.string()),
                        "inbox_sequence": pa.array(sequences.values(), pa.int64())})  # fmt: skip
    connection.register("arrived_rows", arrived)
    connection.execute("create or replace temp table arrived as from arrived_rows")
    connection.unregister("arrived_rows")
    connection.register("awaited_rows", pa.table({"record_key": pa.array(list(awaited), pa.string())}))
    connection.execute("create or replace temp table awaited as from awaited_rows")
    connection.unregister("awaited_rows")


def landed_in(connection: DuckDBPyConnection, batch_id: int) -> dict[str, list[dict[str, Any]]]:
    """The payloads that reached the lake in a batch, with their counts; files of other batches are not opened."""
    rows = connection.execute("select payload_id, counts from clinical.raw.landings where batch_id = $1", [batch_id])
    return dict(rows.fetchall())


def find_fhir_repeats(
    connection: DuckDBPyConnection, may_be_held: Callable[[str], bool] = lambda _table: True
) -> tuple[Counts, Counts]:
    """Note in ``repeated_fhir_*`` the rows that the lake, or the batch further up, holds; (accepted, duplicate).

    ``may_be_held``: False for a table where it is known that the lake holds none of its rows.
    """
    accepted: Counts = Counter()
    duplicate: Counts = Counter()
    for table, (kind, _retracted) in FACT_TABLES.items():
        if connection.execute(f"select 1 from new_{table} limit 1").fetchone() is None:
            connection.execute(f"create or replace temp table repeated_{table} (n bigint)")
            continue
        connection.execute(
            f"""
            create or replace temp table repeated_{table} as
            with keyed as (
                select n, record_key, content_hash, hash(record_key, content_hash) as short_key
                from new_{table}
                where reason_code is null
            ),

            seen_twice as (
                select short_key from keyed group by short_key having count(*) > 1
            ),

            later as (
                select n from keyed semi join seen_twice using (short_key)
                qualify row_number() over (partition by record_key, content_hash order by n) > 1
            ),

            held as (
                select keyed.n from {_history(table, may_be_held(table))} as landed
                join keyed on landed.record_key = keyed.record_key and landed.content_hash = keyed.content_hash
            )

            select n from later union select n from held
            """
        )
        rows = connection.execute(
            f"""
            select payload_id, {kind}, count(*) filter (repeated.n is null), count(repeated.n)
            from new_{table} as found
            left join repeated_{table} as repeated using (n)
            where reason_code is null
            group by all
            """
        ).fetchall()
        for payload_id, name, new, again in rows:
            accepted[payload_id, "resource", name] += new
            duplicate[payload_id, "resource", name] += again
    return accepted, duplicate


def judge_messages(
    connection: DuckDBPyConnection, may_be_held: bool = True
) -> tuple[Counts, Counts, list[tuple[str, Reject]]]:
    """Drop the rows of messages that the lake holds, or that reuse a control id with another content.

    ``may_be_held``: False where it is known that the lake holds none of them. Returns (accepted, duplicate, rejects by
    payload).
    """
    connection.execute(
        f"""
        create or replace temp table judged_messages as
        with held as (
            select landed.record_key, list(landed.content_hash) as hashes
            from {_history("hl7v2_messages", may_be_held)} as landed
            semi join new_hl7v2_messages using (record_key)
            group by landed.record_key
        ),

        ranked as (
            select *,
                row_number() over (partition by record_key order by inbox_sequence, ordinal) as nth,
                first(content_hash) over (partition by record_key order by inbox_sequence, ordinal) as first_hash
            from new_hl7v2_messages
            left join arrived using (payload_id)
        )

        select ranked.*,
            case
                when held.hashes is not null and list_contains(held.hashes, ranked.content_hash) then 'duplicate'
                when held.hashes is not null then 'control_id_reused'
                when ranked.record_key in (select record_key from awaited) then 'control_id_reused'
                when nth = 1 then 'new'
                when ranked.content_hash = first_hash then 'duplicate'
                else 'control_id_reused'
            end as judgement
        from ranked
        left join held on ranked.record_key = held.record_key
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


def _history(table: str, may_be_held: bool) -> str:
    return f"clinical.raw.{table}" if may_be_held else f"(from clinical.raw.{table} limit 0)"


def join_links(connection: DuckDBPyConnection, with_fhir: bool = True) -> None:
    """Links of both formats in ``new_person_links``, each once, as it was told first."""
    of_fhir = "select * exclude (n, reason_code, reason_path) from new_fhir_person_links union all by name"
    connection.execute(
        f"""
        create or replace temp table new_person_links as
        with found as (
            {of_fhir if with_fhir else ""}
            select * from new_person_links
        )

        select found.* from found
        left join arrived using (payload_id)
        qualify row_number() over (
            partition by found.record_key, found.content_hash
            order by found.known_at, arrived.inbox_sequence, found.locator
        ) = 1
        """
    )


def drop_known_links(connection: DuckDBPyConnection) -> None:
    """Only where the lake lacks it, or knows it from later on (messages may land in another order than they were sent in),
    a link lands; links are no ledger unit of their own."""
    connection.execute(
        """
        create or replace temp table new_person_links as
        select found.* from new_person_links as found
        anti join clinical.raw.person_links as landed
            on found.record_key = landed.record_key and found.content_hash = landed.content_hash
            and found.known_at >= landed.known_at
        """
    )


def insert_rows(connection: DuckDBPyConnection, batch_id: int, with_fhir: bool = True) -> None:
    """Insert what is new of every table; the caller owns the transaction."""
    columns: dict[str, list[str]] = {}
    for table, column in connection.execute(
        "select table_name, column_name from duckdb_columns() "
        "where database_name = 'clinical' and schema_name = 'raw' order by table_name, column_index"
    ).fetchall():
        columns.setdefault(table, []).append(column)
    filled = {"batch_id": str(int(batch_id)), "landed_at": "current_timestamp"}
    for table in (*(FACT_TABLES if with_fhir else ()), "hl7v2_messages", *HL7_TABLES, "person_links"):
        usable = f"anti join repeated_{table} using (n) where reason_code is null" if table in FACT_TABLES else ""
        if connection.execute(f"select 1 from new_{table} {usable} limit 1").fetchone() is None:
            continue  # an empty insert would still cost a round through the catalog
        chosen = ", ".join(f"{filled.get(name, name)} as {name}" for name in columns[table])
        connection.execute(
            f"insert into clinical.raw.{table} ({', '.join(columns[table])}) select {chosen} from new_{table} "
            f"left join arrived using (payload_id) {usable}"
        )


def insert_landings(
    connection: DuckDBPyConnection, batch_id: int, counts: Sequence[tuple[Payload, list[dict[str, Any]]]]
) -> None:
    """One row per payload with what came of it; the caller owns the transaction."""
    import pyarrow as pa

    rows = [
        {"payload_id": p.payload_id, "source_id": p.source_id, "format": p.format, "batch_id": batch_id,
         "as_of": p.as_of, "size_bytes": p.size_bytes, "received_at": p.received_at, "counts": found}
        for p, found in counts
    ]  # fmt: skip
    connection.register("landing_rows", pa.Table.from_pylist(rows))
    connection.execute(
        """
        insert into clinical.raw.landings by name
        select payload_id, source_id, format, batch_id, inbox_sequence, as_of, size_bytes, received_at,
            current_timestamp as landed_at,
            list_transform(counts, lambda c: {
                'unit': c.unit, 'type': c.type, 'received': c.received, 'accepted': c.accepted,
                'duplicate': c.duplicate, 'ignored': c.ignored, 'quarantined': c.quarantined
            }) as counts
        from landing_rows
        left join arrived using (payload_id)
        """
    )
    connection.unregister("landing_rows")
