"""From `incoming` to the landing rows of a batch: the SQL files beside this one, in order."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from duckdb import DuckDBPyConnection

from core.keys import install_pseudonym_macro
from core.store import Payload
from ehr.fhir.read import FhirFile, prepare_incoming, read_files
from ehr.records import Reject, VaultEntry
from ehr.sources import Source

HANDLED_TYPES = (
    "Patient", "Encounter", "Observation", "Condition", "MedicationRequest", "MedicationStatement", "Medication",
)  # fmt: skip
_SQL = Path(__file__).parent / "sql"
_STEPS = ("resources", "patients", "encounters", "observations", "conditions", "medications")
Counts = Counter[tuple[str, str, str]]  # (payload_id, unit, type)


class FhirBatch:
    """What the FHIR payloads of one batch gave; the rows wait in temp tables ``new_fhir_*`` of the connection."""

    def __init__(self) -> None:
        self.received: Counts = Counter()
        self.ignored: Counts = Counter()
        self.rejects: dict[str, list[Reject]] = {}
        self.vault: list[VaultEntry] = []


def parse_fhir(
    connection: DuckDBPyConnection,
    payloads: Sequence[tuple[Payload, Path]],
    sources: dict[str, Source],
    pseudonym_key: bytes,
) -> FhirBatch:
    """Read, check and cut down. Never raises for what a file holds: that is a reject."""
    install_pseudonym_macro(connection, pseudonym_key)
    for name in ("macros", "event_macros"):
        connection.execute((_SQL / f"{name}.sql").read_text())
    files = [FhirFile(path, payload.payload_id, payload.source_id) for payload, path in payloads]
    prepare_incoming(connection)
    _declare(connection, payloads, sources)
    read_files(connection, files)
    connection.execute(
        "create or replace temp view incoming as select * from incoming_records join payload_meta using (payload_id)"
    )
    for step in _STEPS:
        connection.execute((_SQL / f"{step}.sql").read_text())
    return _outcome(connection, files)


def _declare(
    connection: DuckDBPyConnection, payloads: Sequence[tuple[Payload, Path]], sources: dict[str, Source]
) -> None:
    connection.execute(
        "create or replace temp table payload_meta (payload_id varchar, source_id varchar, time_zone varchar, "
        "fallback varchar, is_shifted boolean, received_at timestamptz)"
    )
    connection.execute("create or replace temp table handled_types as select unnest($1) as type", [HANDLED_TYPES])
    connection.execute(
        "create or replace temp table authority_of (source_id varchar, system varchar, authority varchar)"
    )
    rows = []
    for payload, _path in payloads:
        source = sources[payload.source_id]
        rows.append([payload.payload_id, source.source_id, source.time_zone, source.known_at_fallback,
                     source.dates_are_shifted, payload.received_at])  # fmt: skip
    if rows:
        connection.executemany("insert into payload_meta values ($1, $2, $3, $4, $5, $6)", rows)
    declared = [[s.source_id, system, name] for s in sources.values() for system, name in s.authorities.items()]
    if declared:
        connection.executemany("insert into authority_of values ($1, $2, $3)", declared)


def _outcome(connection: DuckDBPyConnection, files: list[FhirFile]) -> FhirBatch:
    batch = FhirBatch()
    received = connection.execute(
        "select payload_id, coalesce(resource_type, 'unknown'), count(*) from resources group by all"
    ).fetchall()
    for payload_id, resource_type, number in received:
        batch.received[payload_id, "resource", resource_type] += number
    # A resource about something else than a patient is received and ignored under its longer name.
    for payload_id, name, number in connection.execute(
        "select payload_id, type, count(*) from ignored group by all"
    ).fetchall():
        batch.ignored[payload_id, "resource", name] += number
        if name.endswith(" (not about a patient)"):
            batch.received[payload_id, "resource", name] += number
            batch.received[payload_id, "resource", name.removesuffix(" (not about a patient)")] -= number
    for payload_id, locator, resource_type, reason, detail in connection.execute(
        "select payload_id, locator, type, reason_code, detail from refused"
    ).fetchall():
        batch.rejects.setdefault(payload_id, []).append(Reject("resource", resource_type, locator, reason, detail))
    for file in files:
        for reject in file.rejects:
            batch.rejects.setdefault(file.payload_id, []).append(reject)
            batch.received[file.payload_id, "resource", reject.type] += 1
    for key, identifier, name, telecom, address, logical_id in connection.execute(
        "select person_key, r.identifier, r.name, r.telecom, r.address, r.id "
        "from usable where resource_type = 'Patient'"
    ).fetchall():
        content = {"id": logical_id, "identifier": identifier, "name": name, "telecom": telecom, "address": address}
        batch.vault.append(VaultEntry(key, "person", content))
    return batch
