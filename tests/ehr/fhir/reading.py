"""A FHIR reader over landing tables in memory: what one file gives, without archive, lake and ops database."""

import io
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from core.store import Payload
from ehr.fhir.parse import FACT_TABLES, FhirFile, FhirOutcome, FhirReader
from ehr.landing import LANDING_SQL, find_fhir_repeats
from ehr.records import Counts, VaultEntry
from ehr.sources import Source

KEY = b"0123456789abcdef0123456789abcdef"
RECEIVED_AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@dataclass
class Reading:
    """What came of a file; ``rows`` by table, without those that cannot be used."""

    outcome: FhirOutcome
    accepted: Counts
    duplicate: Counts
    rows: dict[str, list[dict[str, Any]]]
    vault: list[VaultEntry]

    def totals(self) -> Counter[str]:
        quarantined = sum(len(found) for found in self.outcome.rejects.values())
        return Counter(
            received=self.outcome.received.total(), accepted=self.accepted.total(), duplicate=self.duplicate.total(),
            ignored=self.outcome.ignored.total(), quarantined=quarantined,
        )  # fmt: skip


def open_landing_tables() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1, "preserve_insertion_order": False})
    connection.execute("set timezone = 'UTC'; attach ':memory:' as clinical; use clinical")
    connection.execute(LANDING_SQL)
    connection.execute("use memory")
    return connection


def read_fhir(
    connection: duckdb.DuckDBPyConnection, data: bytes, path: Path | None = None, source: Source | None = None
) -> Reading:
    """Read ``data`` the exact way, or the file at ``path`` the quick way where that is possible."""
    source = source or Source(source_id="default")
    vault: list[VaultEntry] = []
    reader = FhirReader(connection, {source.source_id: source}, KEY, vault.extend)
    payload = Payload(payload_id="p", source_id=source.source_id, format="fhir", size_bytes=len(data),
                      as_of=date(2026, 1, 2), received_at=RECEIVED_AT)  # fmt: skip
    reader.read([FhirFile(payload, path, lambda: io.BufferedReader(io.BytesIO(data)))])  # type: ignore[type-var]
    outcome = reader.finish()
    accepted, duplicate = find_fhir_repeats(connection)
    rows = {}
    for table in (*FACT_TABLES, "fhir_person_links"):
        found = connection.execute(f"select * exclude (n) from new_{table} where reason_code is null")
        columns = [column[0] for column in found.description]
        rows[table] = [dict(zip(columns, row, strict=True)) for row in found.fetchall()]
    return Reading(outcome, accepted, duplicate, rows, vault)
