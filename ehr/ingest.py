"""Extracts in: receive, parse, scrub, land. One function, for the command line, the DAG and the tests.

Order of writing, so that a kill at any moment loses and doubles nothing: archive and inbox row; vault; quarantine; the
lake (rows and counts in one transaction); then ledger and payload state in one transaction of the ops database. A run
that died in between is completed by the next one, from the archive and from ``raw.landings``.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from duckdb import DuckDBPyConnection

from core.errors import InputError
from core.keys import key_bytes
from core.lake import write_lake
from core.settings import Settings
from core.store import Batch, LedgerEntry, Payload, store_session, utc_now
from ehr import landing
from ehr.archive import restore_file
from ehr.fhir.parse import parse_fhir
from ehr.identity import keep_identities
from ehr.intake import Arrival, find_files, left_over, receive
from ehr.ledger import COUNTS, LedgerLine, ledger_totals
from ehr.quarantine import quarantine_rows
from ehr.records import Reject
from ehr.sources import Source, load_sources

Progress = Callable[[str, int, int], None]
Counts = Counter[tuple[str, str, str]]


@dataclass(frozen=True)
class IngestSummary:
    """What one run took in. ``ledger`` is that of its batch, files seen before included."""

    batch_id: int | None
    files: int
    new_payloads: int
    duplicate_files: int
    size_bytes: int
    seconds: float
    ledger: list[LedgerLine]

    @property
    def balanced(self) -> bool:
        return all(line.balances for line in self.ledger)


@dataclass
class ParseOutcome:
    """Counts and rejects of a batch, by payload, before they are written down."""

    received: Counts = field(default_factory=Counter)
    accepted: Counts = field(default_factory=Counter)
    duplicate: Counts = field(default_factory=Counter)
    ignored: Counts = field(default_factory=Counter)
    rejects: dict[str, list[Reject]] = field(default_factory=dict)

    def reject(self, payload_id: str, reject: Reject) -> None:
        self.rejects.setdefault(payload_id, []).append(reject)

    def counts_of(self, payload: Payload) -> list[dict[str, object]]:
        """One row per unit and type. The file itself is a unit: quarantined when nothing of it could be read."""
        quarantined: Counts = Counter()
        for reject in self.rejects.get(payload.payload_id, []):
            quarantined[payload.payload_id, reject.unit, reject.type] += 1
        columns = (self.received, self.accepted, self.duplicate, self.ignored, quarantined)
        keys = sorted({key for column in columns for key in column if key[0] == payload.payload_id})
        rows: list[dict[str, object]] = []
        for key in keys:
            numbers = [column[key] for column in columns]
            if any(numbers):
                rows.append({"unit": key[1], "type": key[2], **dict(zip(COUNTS, numbers, strict=True))})
        if not any(row["unit"] == "file" for row in rows):
            rows.append({"unit": "file", "type": payload.format, **dict(zip(COUNTS, (1, 1, 0, 0, 0), strict=True))})
        return rows


def ingest(
    settings: Settings,
    paths: Sequence[Path],
    as_of: date | None = None,
    source_id: str | None = None,
    progress: Progress | None = None,
) -> IngestSummary:
    """Take in every file under ``paths`` and whatever an earlier run left behind.

    ``as_of`` is the business day of the delivery (default today). Errors: `InputError` for paths that hold nothing or a
    source that is not declared, `LakeBusyError`; what a file holds never raises.
    """
    started = time.monotonic()
    tell = progress or (lambda _step, _done, _total: None)
    sources = load_sources(settings.sources_file)
    if source_id is not None and source_id not in sources:
        raise InputError(f"source '{source_id}' is not declared in {settings.sources_file.name}")
    files = find_files(paths)
    day = as_of or utc_now().date()
    arrivals: list[Arrival] = []
    duplicates = 0
    for number, arrival in enumerate(receive(settings, files, sources, source_id, day), 1):
        tell("archiving", number, len(files))
        if arrival is None:
            duplicates += 1
        elif arrival.payload.payload_id not in {a.payload.payload_id for a in arrivals[-50:]}:
            arrivals.append(arrival)
    arrivals = list({a.payload.payload_id: a for a in arrivals}.values())
    arrivals += left_over(settings, {a.payload.payload_id for a in arrivals})
    batch_id = None
    if arrivals:
        batch_id = _land_batch(settings, arrivals, sources, day, tell)
    size = sum(a.payload.size_bytes for a in arrivals)
    ledger = ledger_totals(settings, batch_id) if batch_id is not None else []
    return IngestSummary(batch_id, len(files), len(arrivals), duplicates, size, time.monotonic() - started, ledger)


def _land_batch(
    settings: Settings, arrivals: list[Arrival], sources: dict[str, Source], day: date, tell: Progress
) -> int:
    with write_lake(settings) as lake, TemporaryDirectory(dir=private_folder(settings)) as plain:
        landing.create_raw_tables(lake)
        held = landing.already_landed(lake, [a.payload.payload_id for a in arrivals])
        waiting = [a for a in arrivals if a.payload.payload_id not in held]
        for arrival in arrivals:
            if arrival.payload.payload_id in held:
                _complete(settings, arrival.payload, *held[arrival.payload.payload_id])
        with store_session(settings) as session:
            batch = Batch(as_of=day)
            session.add(batch)
            session.flush()
            batch_id = batch.batch_id
        if waiting:
            located = [(a.payload, a.path or restore(settings, a.payload, Path(plain))) for a in waiting]
            tell("reading", 0, len(located))
            outcome = parse_and_land(settings, lake, batch_id, located, sources)
            tell("reading", len(located), len(located))
            for payload, _path in located:
                _complete(settings, payload, batch_id, outcome.counts_of(payload))
        with store_session(settings) as session:
            finished = session.get(Batch, batch_id)
            assert finished is not None
            finished.finished_at = utc_now()
            # Batches of runs that died after the lake held their rows are whole now.
            for stale in session.query(Batch).filter(Batch.finished_at.is_(None), Batch.batch_id < batch_id):
                stale.finished_at = utc_now()
    return batch_id


def parse_and_land(
    settings: Settings,
    lake: DuckDBPyConnection,
    batch_id: int,
    located: list[tuple[Payload, Path]],
    sources: dict[str, Source],
    counted: Callable[[ParseOutcome, Payload], list[dict[str, object]]] = ParseOutcome.counts_of,
) -> ParseOutcome:
    """Parse, write to the vault, note the quarantine, and land rows and ``counted`` in one lake transaction."""
    from ehr.hl7v2.batch import parse_hl7v2

    outcome = ParseOutcome()
    key = key_bytes(settings.pseudonym_secret, "CUFF_PSEUDONYM_SECRET")
    fhir = parse_fhir(lake, [(p, path) for p, path in located if p.format == "fhir"], sources, key)
    fhir_new, fhir_again = landing.keep_new_fhir(lake)
    landing.keep_new_links(lake)
    lake.execute("create or replace temp table new_fhir_person_links as from new_person_links")
    hl7 = parse_hl7v2(lake, [(p, path) for p, path in located if p.format == "hl7v2"], sources, key)
    hl7_new, hl7_again, reused = landing.keep_new_messages(lake)
    landing.keep_new_links(lake)
    lake.execute("insert into new_person_links by name from new_fhir_person_links")
    outcome.received = fhir.received + hl7.received
    outcome.ignored = fhir.ignored + hl7.ignored
    outcome.accepted, outcome.duplicate = fhir_new + hl7_new, fhir_again + hl7_again
    for rejects in (fhir.rejects, hl7.rejects):
        for payload_id, found in rejects.items():
            outcome.rejects.setdefault(payload_id, []).extend(found)
    for payload_id, reject in reused:
        outcome.reject(payload_id, reject)
    for payload, _path in located:
        if payload.format == "unknown":
            outcome.received[payload.payload_id, "file", "unknown"] = 1
            reject = Reject("file", "unknown", "file", "unsupported_format", "neither FHIR JSON nor HL7 v2")
            outcome.reject(payload.payload_id, reject)
    keep_identities(settings, [*fhir.vault, *hl7.vault])
    with store_session(settings) as session:
        for row in quarantine_rows([payload for payload, _path in located], outcome.rejects):
            session.merge(row)
    lake.execute("begin")
    landing.insert_rows(
        lake, batch_id, (*landing.FHIR_TABLES, "hl7v2_messages", *landing.HL7_TABLES, "person_links")
    )
    for payload, _path in located:
        landing.insert_landing(lake, batch_id, payload, counted(outcome, payload))
    lake.execute("commit")
    return outcome


def _complete(settings: Settings, payload: Payload, batch_id: int, counts: list[dict[str, object]]) -> None:
    """Write down in the ops database what the lake holds of a payload; a payload is completed once."""
    with store_session(settings) as session:
        stored = session.get(Payload, payload.payload_id)
        if stored is None or stored.state != "received":
            return
        for row in counts:
            session.add(
                LedgerEntry(payload_id=payload.payload_id, batch_id=batch_id, source_id=payload.source_id, **row)
            )
        unusable = any(row["unit"] == "file" and row["quarantined"] for row in counts)
        stored.state, stored.batch_id = ("quarantined" if unusable else "landed"), batch_id


def restore(settings: Settings, payload: Payload, folder: Path) -> Path:
    return restore_file(settings, payload.archive_name, payload.payload_id, folder / payload.payload_id)


def private_folder(settings: Settings) -> Path:
    folder = settings.var / "tmp" / "plain"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
