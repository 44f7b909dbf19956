"""One batch on its way into the lake: read group by group, landed in one transaction, then written down.

Order of writing, so that a kill at any moment loses and doubles nothing: archive and payload rows (`ehr.intake`); vault;
quarantine; the lake (rows and counts in one transaction); then ledger, payload states and the batch's end in one
transaction of the ops database. `complete_landed` finishes what died between the last two.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

from duckdb import DuckDBPyConnection
from sqlalchemy import insert, select

from core.errors import InputError
from core.keys import key_bytes
from core.settings import Settings
from core.store import Batch, LedgerEntry, Payload, store_session, utc_now
from ehr import landing
from ehr.fhir.parse import FhirFile, FhirReader
from ehr.identity import keep_identities
from ehr.intake import Arrival, payloads_by_id
from ehr.ledger import COUNTS
from ehr.quarantine import quarantine_rows
from ehr.records import Counts, Reject
from ehr.sources import Source

CountRow = dict[str, Any]  # unit, type and the five counts of `COUNTS`


@dataclass
class BatchOutcome:
    """Counts and rejects of a batch, by payload."""

    payloads: list[Payload] = field(default_factory=list)
    received: Counts = field(default_factory=Counter)
    accepted: Counts = field(default_factory=Counter)
    duplicate: Counts = field(default_factory=Counter)
    ignored: Counts = field(default_factory=Counter)
    rejects: dict[str, list[Reject]] = field(default_factory=dict)

    def count_rows(self) -> dict[str, list[CountRow]]:
        """For each payload one row per unit and type. The file is a unit too: quarantined when it could not be read."""
        quarantined: Counts = Counter()
        for payload_id, found in self.rejects.items():
            for reject in found:
                quarantined[payload_id, reject.unit, reject.type] += 1
        columns = (self.received, self.accepted, self.duplicate, self.ignored, quarantined)
        rows: dict[str, list[CountRow]] = {payload.payload_id: [] for payload in self.payloads}
        for key in sorted({key for column in columns for key in column}):
            numbers = [column[key] for column in columns]
            if any(numbers):
                rows[key[0]].append({"unit": key[1], "type": key[2], **dict(zip(COUNTS, numbers, strict=True))})
        for payload in self.payloads:
            if not any(row["unit"] == "file" for row in rows[payload.payload_id]):
                whole = dict(zip(COUNTS, (1, 1, 0, 0, 0), strict=True))
                rows[payload.payload_id].append({"unit": "file", "type": payload.format, **whole})
        return rows


class BatchRun:
    """Reads arrivals and lands them. ``lake`` is a writing connection of the clinical catalog."""

    def __init__(self, settings: Settings, lake: DuckDBPyConnection, sources: dict[str, Source], batch_id: int) -> None:
        self._settings = settings
        self._lake = lake
        self._sources = sources
        self.batch_id = batch_id
        self._key = key_bytes(settings.pseudonym_secret, "CUFF_PSEUDONYM_SECRET")
        self._arrivals: list[Arrival] = []
        lake.execute("set temp_file_encryption = true")  # what does not fit in memory spills to disk
        self._fhir = FhirReader(lake, sources, self._key, partial(keep_identities, settings))

    def read(self, arrivals: Sequence[Arrival]) -> None:
        """Read the FHIR payloads of a group; the others wait for `land`."""
        self._arrivals += arrivals
        self._fhir.read([FhirFile(a.payload, a.path, a.open) for a in arrivals if a.payload.format == "fhir"])

    def land(
        self, counted: Callable[[BatchOutcome], dict[str, list[CountRow]]] = BatchOutcome.count_rows
    ) -> tuple[BatchOutcome, dict[str, list[CountRow]]]:
        """Everything read, into the lake; returns what came of it and the rows that ``counted`` made of that."""
        from ehr.hl7v2.batch import parse_hl7v2

        outcome = BatchOutcome([arrival.payload for arrival in self._arrivals])
        fhir = self._fhir.finish()
        messages = [(a.payload, a) for a in self._arrivals if a.payload.format == "hl7v2"]
        hl7 = parse_hl7v2(self._lake, messages, self._sources, self._key)
        fhir_new, fhir_again = landing.find_fhir_repeats(self._lake)
        hl7_new, hl7_again, reused = landing.judge_messages(self._lake)
        landing.gather_links(self._lake)
        outcome.received, outcome.ignored = fhir.received + hl7.received, fhir.ignored + hl7.ignored
        outcome.accepted, outcome.duplicate = fhir_new + hl7_new, fhir_again + hl7_again
        found = [(payload_id, r) for rejects in (fhir.rejects, hl7.rejects) for payload_id, rs in rejects.items() for r in rs]
        for payload_id, reject in [*found, *reused, *self._unreadable(outcome)]:
            outcome.rejects.setdefault(payload_id, []).append(reject)
        if any(arrival.has_changed() for arrival in self._arrivals):
            raise InputError("a file changed while it was read, nothing landed; run again, the archive has what was sent")
        keep_identities(self._settings, hl7.vault)
        self._note_quarantine(outcome)
        rows = counted(outcome)
        self._lake.execute("begin")
        landing.insert_rows(self._lake, self.batch_id)
        landing.insert_landings(self._lake, self.batch_id, [(p, rows[p.payload_id]) for p in outcome.payloads])
        self._lake.execute("commit")
        return outcome, rows

    def _unreadable(self, outcome: BatchOutcome) -> Iterable[tuple[str, Reject]]:
        with_messages = {payload_id for payload_id, unit, _type in outcome.received if unit == "message"}
        for payload in outcome.payloads:
            if payload.format == "unknown":
                reject = Reject("file", "unknown", "file", "unsupported_format", "neither FHIR JSON nor HL7 v2")
            elif payload.format == "hl7v2" and payload.payload_id not in with_messages:
                reject = Reject("file", "hl7v2", "file", "no_message", "no MSH segment, or a damaged packed file")
            else:
                continue
            outcome.received[payload.payload_id, "file", payload.format] = 1
            yield payload.payload_id, reject

    def _note_quarantine(self, outcome: BatchOutcome) -> None:
        with store_session(self._settings) as session:
            for row in quarantine_rows(outcome.payloads, outcome.rejects):
                if session.get(type(row), row.quarantine_id) is None:
                    session.add(row)
                    session.flush()


def open_batch(settings: Settings, as_of: date) -> int:
    """The next batch number."""
    with store_session(settings) as session:
        batch = Batch(as_of=as_of)
        session.add(batch)
        session.flush()
        return batch.batch_id


def write_down(
    settings: Settings, batch_id: int | None, payloads: Sequence[Payload], rows: dict[str, list[CountRow]],
    duplicates: Iterable[Payload] = (),
) -> None:
    """Tell the ops database what the lake holds of a batch, in one transaction. A payload is written down once."""
    with store_session(settings) as session, session.no_autoflush:
        known = payloads_by_id(session, [payload.payload_id for payload in payloads])
        entries: list[dict[str, Any]] = []
        for payload in payloads:
            stored = known.get(payload.payload_id)
            if stored is None or stored.state != "received":
                continue
            counts = rows[payload.payload_id]
            entries += [_entry(payload, batch_id, row) for row in counts]
            unusable = any(row["unit"] == "file" and row["quarantined"] for row in counts)
            stored.state, stored.batch_id = ("quarantined" if unusable else "landed"), batch_id
        again = dict(zip(COUNTS, (1, 0, 1, 0, 0), strict=True))
        entries += [_entry(payload, batch_id, {"unit": "file", "type": payload.format, **again}) for payload in duplicates]
        if entries:
            session.execute(insert(LedgerEntry), entries)
        batch = session.get(Batch, batch_id) if batch_id is not None else None
        if batch is not None and batch.finished_at is None:
            batch.finished_at = utc_now()


def _entry(payload: Payload, batch_id: int | None, row: CountRow) -> dict[str, Any]:
    return {"payload_id": payload.payload_id, "batch_id": batch_id, "source_id": payload.source_id, **row}


def complete_landed(settings: Settings, lake: DuckDBPyConnection) -> set[str]:
    """Write down what a killed run landed and could not write down; returns those payload ids."""
    with store_session(settings) as session:
        waiting = {p.payload_id: p for p in session.scalars(select(Payload).where(Payload.state == "received"))}
    held = landing.already_landed(lake, list(waiting)) if waiting else {}
    for batch_id in sorted({batch_id for batch_id, _counts in held.values()}):
        of_batch = {payload_id: counts for payload_id, (number, counts) in held.items() if number == batch_id}
        write_down(settings, batch_id, [waiting[payload_id] for payload_id in of_batch], of_batch)
    return set(held)
