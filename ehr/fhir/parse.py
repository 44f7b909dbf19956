"""FHIR payloads of one batch: into ``incoming`` chunk by chunk, and from there, in SQL, to landing rows.

The rows wait in temp tables ``new_fhir_*`` of the connection, with their number ``n`` (file and place, so the same
bytes always give the same order) and the reason why a row cannot be used, null for those that land.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from string import Template
from typing import BinaryIO

import duckdb
from duckdb import DuckDBPyConnection

from core.keys import install_pseudonym_macro
from core.store import Payload
from ehr.fhir import exact, quick
from ehr.fhir.allow_list import HANDLED_TYPES, resource_types
from ehr.fhir.reasons import detail_of
from ehr.records import Counts, Reject, VaultEntry
from ehr.sources import Source
from ehr.units import unit_pattern

_SQL = Path(__file__).parent / "sql"
# In this order; a step is left out where no resource of its types came.
_STEPS: dict[str, set[str]] = {
    "targets": set(), "outcome": set(), "patients": {"Patient"}, "encounters": {"Encounter"},
    "observations": {"Observation"}, "conditions": {"Condition"},
    "medications": {"Medication", "MedicationRequest", "MedicationStatement"},
}  # fmt: skip
_STATEMENTS = {name: (_SQL / f"{name}.sql").read_text() for name in ("macros", *_STEPS, "deletions")}
# Landing table -> the resource type of a row, in SQL, and how a deleted record shows.
FACT_TABLES = {
    "fhir_patients": ("'Patient'", "false as is_active"),
    "fhir_encounters": ("'Encounter'", "'entered-in-error' as status"),
    "fhir_observations": ("'Observation'", "'entered-in-error' as status"),
    "fhir_conditions": ("'Condition'", "'entered-in-error' as verification_status"),
    "fhir_medications": ("resource_type", "'entered-in-error' as status"),
    "fhir_medication_codes": ("'Medication'", "codings as codings"),
}
_RECORDS_AT_A_TIME = 20_000
_PEEK_BYTES = 4096
_LONGEST_LINE_BYTES = 16 << 20
_LARGEST_QUICK_DOCUMENT_BYTES = 256 << 20
_ABOUT_NOBODY = " (not about a patient)"


@dataclass
class FhirFile:
    """A payload to read: ``path`` where its plain bytes lie (None: not at hand), ``open`` to stream them in any case."""

    payload: Payload
    path: Path | None
    open: Callable[[], BinaryIO]
    file_no: int = -1
    rejects: list[Reject] = field(default_factory=list)


@dataclass
class FhirOutcome:
    """What the FHIR payloads of a batch gave, by payload."""

    received: Counts = field(default_factory=Counter)
    ignored: Counts = field(default_factory=Counter)
    rejects: dict[str, list[Reject]] = field(default_factory=dict)


class FhirReader:
    """Reads group after group of files on one connection; `finish` tells what came of them."""

    def __init__(self, connection: DuckDBPyConnection, sources: dict[str, Source], pseudonym_key: bytes,
                 keep_identities: Callable[[Iterable[VaultEntry]], object]) -> None:  # fmt: skip
        self._connection = connection
        self._sources = sources
        self._keep_identities = keep_identities
        self._files: list[FhirFile] = []
        install_pseudonym_macro(connection, pseudonym_key)
        connection.execute("set variable cuff_unit_pattern = $1", [unit_pattern()])
        connection.execute(_STATEMENTS["macros"])
        for table in (*FACT_TABLES, "fhir_person_links"):
            landed = "person_links" if table == "fhir_person_links" else table
            connection.execute(
                f"create or replace temp table new_{table} as select 0::bigint as n, "
                "* exclude (batch_id, inbox_sequence, landed_at), null::varchar as reason_code, null::varchar as reason_path "
                f"from clinical.raw.{landed} limit 0"
            )
        connection.execute(
            """
            create or replace temp table payload_meta (
                file_no bigint, payload_id varchar, source_id varchar, namespace varchar, time_zone varchar,
                fallback varchar, is_shifted boolean, received_at timestamptz, latest_plausible_at timestamptz
            );
            create or replace temp table authority_of (source_id varchar, system varchar, authority varchar);
            create or replace temp table received (file_no bigint, type varchar, number bigint);
            create or replace temp table refusals (
                file_no bigint, n bigint, locator varchar, type varchar, reason_code varchar, reason_path varchar
            );
            create or replace temp table deletions (
                n bigint, payload_id varchar, source_id varchar, locator varchar, type varchar, record_key varchar,
                deleted_at timestamptz, received_at timestamptz
            );
            """
        )
        for name, values in (("handled_types", HANDLED_TYPES), ("resource_types", resource_types())):
            listed = ", ".join(f"('{value}')" for value in values)
            connection.execute(f"create or replace temp table {name} as from (values {listed}) as t(name)")
        declared = [[s.source_id, system, name] for s in sources.values() for system, name in s.authorities.items()]
        if declared:
            connection.executemany("insert into authority_of values ($1, $2, $3)", declared)

    def read(self, files: Sequence[FhirFile]) -> None:
        """Read one group of files. Never raises for what a file holds: that is a reject."""
        if not files:
            return
        for file in files:
            file.file_no = len(self._files)
            self._files.append(file)
        columns = [list(column) for column in zip(*map(self._meta, files), strict=True)]
        self._connection.execute(
            """
            insert into payload_meta
            select unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7),
                unnest($8::timestamptz[]) as received_at, greatest(received_at, unnest($9::date[])) + interval 30 day
            """,
            columns,
        )
        readable: list[quick.QuickFile] = []
        slow: list[FhirFile] = []
        for file in files:
            found = _look_at(file)
            if found is None:
                slow.append(file)
            else:
                readable.append(found)
        for (by_line, _packed), group in groupby(
            sorted(readable, key=lambda f: (f.line_count is None, f.is_gzip)), lambda f: (f.line_count is not None, f.is_gzip)
        ):
            slow += [self._files[file_no] for file_no in self._read_quickly(list(group), by_line)]
        self._read_exactly(sorted(slow, key=lambda file: file.file_no))

    def _meta(self, file: FhirFile) -> list[object]:
        payload, source = file.payload, self._sources[file.payload.source_id]
        return [file.file_no, payload.payload_id, source.source_id, f"{source.source_id}:fhir", source.time_zone,
                source.known_at_fallback, source.dates_are_shifted, payload.received_at, payload.as_of]  # fmt: skip

    def _read_quickly(self, files: list[quick.QuickFile], by_line: bool) -> set[int]:
        """Returns the file numbers that are left for the exact reader. One bad file does not slow down the others."""
        longest = _LONGEST_LINE_BYTES if by_line else max(_document_bytes(file) for file in files) + 1
        read = quick.read_lines if by_line else quick.read_documents
        try:
            aside = read(self._connection, files, longest)
        except (duckdb.Error, UnicodeDecodeError):  # the latter when DuckDB cuts its message within a character
            if len(files) == 1:
                return {files[0].file_no}
            middle = len(files) // 2
            return self._read_quickly(files[:middle], by_line) | self._read_quickly(files[middle:], by_line)
        self._cut_down()
        return aside

    def _read_exactly(self, files: list[FhirFile]) -> None:
        waiting: list[tuple[int, int, exact.Record]] = []
        for file_no, place, records in _walk_all(files):
            waiting += [(file_no, place + i, record) for i, record in enumerate(records)]
            if len(waiting) >= _RECORDS_AT_A_TIME:
                self._load(waiting)
                waiting = []
        if waiting:
            self._load(waiting)

    def _load(self, records: list[tuple[int, int, exact.Record]]) -> None:
        exact.load_records(self._connection, records)
        self._cut_down()

    def _cut_down(self) -> None:
        # Every statement names the large side of a join first. The optimizer, guessing, would build on it instead.
        self._connection.execute("set disabled_optimizers = 'join_order,build_side_probe_side'")
        came: set[str] = set()
        for step, types in _STEPS.items():
            if not types or types & came:
                self._connection.execute(_STATEMENTS[step])
            if step == "outcome":
                came = {row[0] for row in self._connection.execute("select distinct type from typed").fetchall()}
        self._connection.execute("reset disabled_optimizers")
        self._keep_identities(self._identities())
        self._connection.execute("drop view incoming")
        for table in ("lines", "document_rows", "exact_incoming"):
            self._connection.execute(f"drop table if exists {table}")

    def _identities(self) -> Iterator[VaultEntry]:
        found = self._connection.execute(
            "select target_key, identifier, name, telecom, address, id from incoming join own_keys using (file_no, place) "
            "where \"resourceType\" = 'Patient' and target_key is not null"
        )
        while rows := found.fetchmany(5000):
            for key, identifier, name, telecom, address, logical_id in rows:
                content = {"id": logical_id, "identifier": identifier, "name": name, "telecom": telecom,
                           "address": address}  # fmt: skip
                yield VaultEntry(key, "person", content)

    def finish(self) -> FhirOutcome:
        """Counts and rejects of everything read; deletions become retractions of what the lake knows."""
        self._retract()
        outcome = FhirOutcome()
        payload_of = [file.payload.payload_id for file in self._files]
        for file_no, kind, number in self._connection.execute(
            "select file_no, type, sum(number)::bigint from received group by all"
        ).fetchall():
            outcome.received[payload_of[file_no], "resource", kind] += number
            if kind not in (*HANDLED_TYPES, "unknown"):
                outcome.ignored[payload_of[file_no], "resource", kind] += number
        for file_no, locator, kind, reason, path in self._refused():
            payload_id = payload_of[file_no]
            if reason == "not_about_a_patient":
                # Received and ignored under its longer name, so that the ledger tells what was left out.
                outcome.received[payload_id, "resource", kind] -= 1
                for counter in (outcome.received, outcome.ignored):
                    counter[payload_id, "resource", kind + _ABOUT_NOBODY] += 1
                continue
            place = f"{locator}.resource.{path}" if "entry[" in locator else f"{locator}: {path}"
            reject = Reject("resource", kind, place, reason, detail_of(reason))
            outcome.rejects.setdefault(payload_id, []).append(reject)
        for file in self._files:
            for reject in file.rejects:
                outcome.rejects.setdefault(file.payload.payload_id, []).append(reject)
                outcome.received[file.payload.payload_id, reject.unit, reject.type] += 1
        return outcome

    def _retract(self) -> None:
        if self._connection.execute("select 1 from deletions limit 1").fetchone() is None:
            return
        for table, (_kind, retracted) in FACT_TABLES.items():
            self._connection.execute(Template(_STATEMENTS["deletions"]).substitute(table=table, retracted=retracted))
        known = " union all ".join(f"select n from new_{table}" for table in FACT_TABLES)
        self._connection.execute(
            "insert into refusals select n // 4294967296, n, locator, type, 'unknown_record', 'request.url' "
            f"from deletions where n not in ({known})"
        )

    def _refused(self) -> list[tuple[int, str, str, str, str]]:
        parts = [f"select n // 4294967296, n, locator, {kind}, reason_code, reason_path from new_{table} "
                 "where reason_code is not null" for table, (kind, _retracted) in FACT_TABLES.items()]  # fmt: skip
        parts.append("select file_no, n, locator, type, reason_code, reason_path from refusals")
        found = self._connection.execute(" union all ".join(parts) + " order by 2").fetchall()
        return [(row[0], row[2], row[3], row[4], row[5]) for row in found]


def _look_at(file: FhirFile) -> quick.QuickFile | None:
    """How the quick reader would take the file; None where it cannot."""
    if file.path is None or not quick.can_read_quickly(file.path):
        return None
    try:
        with open(file.path, "rb") as packed:
            is_gzip = packed.read(2) == b"\x1f\x8b"
        with open(file.path, "rb") as packed, exact.open_plain(packed) as plain:
            if not plain.read(_PEEK_BYTES).strip():
                return None  # DuckDB finds nothing to read, and so nothing wrong
            plain.seek(0)
            by_line = exact.is_ndjson(plain)
        line_count = quick.count_lines(file.path) if by_line else None
    except (OSError, EOFError, ValueError):
        return None
    found = quick.QuickFile(file.file_no, file.path, is_gzip, file.payload.size_bytes, line_count)
    return found if by_line or _document_bytes(found) <= _LARGEST_QUICK_DOCUMENT_BYTES else None


def _document_bytes(file: quick.QuickFile) -> int:
    """An upper bound of the plain size; JSON packs to a twentieth and less, seldom to a fortieth."""
    return file.size_bytes * (40 if file.is_gzip else 1)


def _walk_all(files: Iterable[FhirFile]) -> Iterator[tuple[int, int, list[exact.Record]]]:
    """(file number, place of the first, records that belong together)."""
    for file in files:
        with file.open() as packed, exact.open_plain(packed) as plain:
            by_line = _is_ndjson_stream(file)
            place = 0
            for records in exact.walk(plain, by_line, file.rejects):
                yield file.file_no, place, records
                place += len(records)


def _is_ndjson_stream(file: FhirFile) -> bool:
    try:
        with file.open() as packed, exact.open_plain(packed) as plain:
            return exact.is_ndjson(plain)
    except exact.BAD_STREAM:
        return False
