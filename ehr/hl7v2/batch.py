"""The HL7 v2 payloads of one batch as temp tables ``new_hl7v2_*`` and ``new_person_links`` of the lake connection."""

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from duckdb import DuckDBPyConnection

from core.store import Payload
from ehr.hl7v2.read import TABLES, SourceFor, parse_payload, refused_file
from ehr.records import HasBytes, ParsedPayload, PayloadRef, Reject, VaultEntry
from ehr.sources import Source

Counts = Counter[tuple[str, str, str]]  # (payload_id, unit, type)
# A file of messages is read whole, so this is memory. A big hospital's day is about a tenth of it.
LARGEST_FILE_BYTES = 1 << 30
_DEFLATE_AT_MOST = 1032  # bytes that come out of one (RFC 1951: 258 from two bits)
_BLOCK_BYTES = 1 << 20
_ROWS_AT_A_TIME = 50_000


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
    tables = [_NewTable(connection, table) for table in TABLES]
    vault: dict[tuple[str, frozenset[tuple[str, str]]], VaultEntry] = {}
    by_facility = {name: source for source in sources.values() for name in source.sending_facilities}
    for payload, path in payloads:
        source_for = partial(_source_of, by_facility, sources[payload.source_id])
        reference = PayloadRef(payload.payload_id, payload.source_id, payload.received_at, payload.as_of)
        for parsed in _parsed(path, source_for, reference, pseudonym_key):
            for table in tables:
                for row in parsed.rows[table.name]:
                    row["payload_id"], row["source_id"] = payload.payload_id, payload.source_id
                    table.add(row)
            for counter, into in ((parsed.received, batch.received), (parsed.ignored, batch.ignored)):
                for (unit, name), number in counter.items():
                    into[payload.payload_id, unit, name] += number
            if parsed.rejects:
                batch.rejects.setdefault(payload.payload_id, []).extend(parsed.rejects)
            vault |= {(entry.key, frozenset(entry.content.items())): entry for entry in parsed.vault}
    batch.vault = list(vault.values())
    for table in tables:
        table.write()
    return batch


def _source_of(by_facility: dict[str, Source], own: Source, facility: str | None) -> Source:
    return by_facility.get(facility or "", own)


def _parsed(path: HasBytes, source_for: SourceFor, payload: PayloadRef, pseudonym_key: bytes) -> Iterator[ParsedPayload]:
    try:
        data = _plain_bytes(path)
    except _TooLarge:
        yield refused_file("file_too_large", f"over {LARGEST_FILE_BYTES >> 20} MiB unpacked; deliver it in several files")
        return
    except (gzip.BadGzipFile, EOFError, zlib.error):  # what follows the damage is lost to us: the whole is refused
        yield refused_file("corrupt_gzip", "the packed file is damaged")
        return
    yield from parse_payload(data, source_for, payload, pseudonym_key)


class _TooLarge(ValueError):
    """More bytes than may be held."""


def _plain_bytes(path: HasBytes) -> bytes:
    """The file, unpacked where it is gzip. Errors: `_TooLarge`, before anything of it is kept (a packed file may be a
    thousandth of what comes out of it), and those of gzip."""
    data = path.read_bytes()
    if len(data) > LARGEST_FILE_BYTES:
        raise _TooLarge
    if not data.startswith(b"\x1f\x8b"):
        return data
    if len(data) * _DEFLATE_AT_MOST > LARGEST_FILE_BYTES:
        _measure(data)
    return gzip.decompress(data)


def _measure(packed: bytes) -> None:
    """Unpack block by block and keep nothing. Errors: as `_plain_bytes`."""
    size = 0
    with gzip.open(io.BytesIO(packed)) as unpacked:
        while block := unpacked.read(_BLOCK_BYTES):
            size += len(block)
            if size > LARGEST_FILE_BYTES:
                raise _TooLarge


class _NewTable:
    """A temp table with the landing table's column types, filled some rows at a time; the message table also keeps the
    order of arrival."""

    def __init__(self, connection: DuckDBPyConnection, name: str) -> None:
        self.name, self._connection, self._rows = name, connection, list[dict[str, Any]]()
        self._columns = connection.execute(
            "select column_name, data_type from duckdb_columns() where database_name = 'clinical' and schema_name = 'raw' "
            "and table_name = $1 and column_name not in ('batch_id', 'inbox_sequence', 'landed_at') order by column_index",
            [name],
        ).fetchall()
        if name == "hl7v2_messages":
            self._columns.append(("ordinal", "BIGINT"))
        columns = ", ".join(f"{column} {kind}" for column, kind in self._columns)
        connection.execute(f"create or replace temp table new_{name} ({columns})")

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= _ROWS_AT_A_TIME:
            self.write()

    def write(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        arrow = pa.table({column: pa.array([row[column] for row in self._rows]) for column, _kind in self._columns})
        self._rows = []
        chosen = ", ".join(f"cast({column} as {kind})" for column, kind in self._columns)
        self._connection.register("parsed_rows", arrow)
        self._connection.execute(f"insert into new_{self.name} select {chosen} from parsed_rows")
        self._connection.unregister("parsed_rows")
