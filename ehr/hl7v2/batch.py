"""The HL7 v2 payloads of one batch as temp tables ``new_hl7v2_*`` and ``new_person_links`` of the lake connection."""

import gzip
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from duckdb import DuckDBPyConnection

from core.store import Payload
from ehr.hl7v2.read import TABLES, parse_payload
from ehr.records import HasBytes, PayloadRef, Reject, VaultEntry
from ehr.sources import Source

Counts = Counter[tuple[str, str, str]]  # (payload_id, unit, type)


class Hl7Batch:
    """Counts, rejects and vault entries of the batch, by payload."""

    def __init__(self) -> None:
        self.received: Counts = Counter()
        self.ignored: Counts = Counter()
        self.rejects: dict[str, list[Reject]] = {}
        self.vault: list[VaultEntry] = []


def parse_hl7v2(
    connection: DuckDBPyConnection,
    payloads: Sequence[tuple[Payload, HasBytes]],
    sources: dict[str, Source],
    pseudonym_key: bytes,
) -> Hl7Batch:
    """Parse every payload and put the rows beside the lake, where landing picks them up."""
    batch = Hl7Batch()
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
    by_facility = {name: source for source in sources.values() for name in source.sending_facilities}
    for payload, path in payloads:
        own = sources[payload.source_id]
        reference = PayloadRef(payload.payload_id, payload.source_id, payload.received_at, payload.as_of)
        parsed = parse_payload(_plain_bytes(path), partial(_source_of, by_facility, own), reference, pseudonym_key)
        for table, found in parsed.rows.items():
            for row in found:
                row["payload_id"], row["source_id"] = payload.payload_id, payload.source_id
            rows[table].extend(found)
        for counter, into in ((parsed.received, batch.received), (parsed.ignored, batch.ignored)):
            for (unit, name), number in counter.items():
                into[payload.payload_id, unit, name] += number
        if parsed.rejects:
            batch.rejects[payload.payload_id] = parsed.rejects
        batch.vault += parsed.vault
    for table, found in rows.items():
        _register(connection, table, found)
    return batch


def _source_of(by_facility: dict[str, Source], own: Source, facility: str | None) -> Source:
    return by_facility.get(facility or "", own)


def _plain_bytes(path: HasBytes) -> bytes:
    """The file, unpacked where it is gzip. What follows damage in a packed file is lost to us: the whole is refused."""
    data = path.read_bytes()
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return b""


def _register(connection: DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    """A temp table with the landing table's column types; the message table also keeps the order of arrival."""
    import pyarrow as pa

    described = connection.execute(
        "select column_name, data_type from duckdb_columns() where database_name = 'clinical' and schema_name = 'raw' "
        "and table_name = $1 and column_name not in ('batch_id', 'inbox_sequence', 'landed_at') order by column_index",
        [table],
    ).fetchall()
    if table == "hl7v2_messages":
        described.append(("ordinal", "BIGINT"))
    columns = ", ".join(f"{name} {kind}" for name, kind in described)
    connection.execute(f"create or replace temp table new_{table} ({columns})")
    if not rows:
        return
    names = [name for name, _kind in described]
    arrow = pa.table({name: pa.array([row[name] for row in rows]) for name in names})
    connection.register("parsed_rows", arrow)
    chosen = ", ".join(f"cast({name} as {kind})" for name, kind in described)
    connection.execute(f"insert into new_{table} select {chosen} from parsed_rows")
    connection.unregister("parsed_rows")
