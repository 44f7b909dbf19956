"""One batch on its way into the lake: read group by group, landed in one transaction, then written down.

Order of writing, so that a kill at any moment loses and doubles nothing: archive and payload rows (`ehr.intake`); vault;
quarantine; the lake (rows and counts in one transaction); then ledger, payload states and the batch's end in one
transaction of the ops database. `complete_landed` finishes what died between the last two: a batch that has no end.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Any

from duckdb import DuckDBPyConnection
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from core.errors import InputError
from core.feed_tables import KafkaPosition
from core.keys import key_bytes
from core.settings import Settings
from core.store import Batch, LedgerEntry, Payload, store_session, utc_now
from ehr import landing
from ehr.fhir.parse import FhirFile, FhirOutcome, FhirReader
from ehr.identity import keep_identities
from ehr.intake import Arrival, inbox_sequences, is_live, payloads_by_id
from ehr.known_keys import KnownKeys
from ehr.ledger import COUNTS, is_repeat
from ehr.live.transport import Position
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
        """For each payload one row per unit and type. The file is a unit too: quarantined when it could not be read; what
        arrived live is a message or a resource and nothing else."""
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
            if not is_live(payload) and not any(row["unit"] == "file" for row in rows[payload.payload_id]):
                whole = dict(zip(COUNTS, (1, 1, 0, 0, 0), strict=True))
                rows[payload.payload_id].append({"unit": "file", "type": payload.format, **whole})
        return rows


class BatchRun:
    """Reads arrivals and lands them. ``lake`` is a writing connection of the clinical catalog; ``known`` what it is
    known to hold, where the same connection lands many batches."""

    def __init__(self, settings: Settings, lake: DuckDBPyConnection, sources: dict[str, Source], batch_id: int,
                 known: KnownKeys | None = None) -> None:  # fmt: skip
        self._settings = settings
        self._lake = lake
        self._sources = sources
        self.batch_id = batch_id
        self._known = known
        if known is not None:
            known.begin(batch_id)
        self._key = key_bytes(settings.pseudonym_secret, "CUFF_PSEUDONYM_SECRET")
        self._arrivals: list[Arrival] = []
        lake.execute("set temp_file_encryption = true")  # what does not fit in memory spills to disk
        self._fhir: FhirReader | None = None

    def read(self, arrivals: Sequence[Arrival]) -> None:
        """Read the FHIR payloads of a group; the others wait for `land`."""
        self._arrivals += arrivals
        if fhir := [FhirFile(a.payload, a.path, a.open) for a in arrivals if a.payload.format == "fhir"]:
            if self._fhir is None:
                self._fhir = FhirReader(self._lake, self._sources, self._key, partial(keep_identities, self._settings))
            self._fhir.read(fhir)

    def land(
        self, counted: Callable[[BatchOutcome], dict[str, list[CountRow]]] = BatchOutcome.count_rows,
        awaited: Iterable[str] = (),
    ) -> tuple[BatchOutcome, dict[str, list[CountRow]]]:
        """Everything read, into the lake; returns what came of it and the rows that ``counted`` made of that. ``awaited``
        are record keys that belong to messages which have not landed yet."""
        from ehr.hl7v2.batch import parse_hl7v2

        outcome = BatchOutcome([arrival.payload for arrival in self._arrivals])
        sequences = inbox_sequences(self._settings, [payload.payload_id for payload in outcome.payloads])
        landing.note_sequences(self._lake, sequences, awaited)
        fhir = self._fhir.finish() if self._fhir else FhirOutcome()
        messages = [(a.payload, a) for a in self._arrivals if a.payload.format == "hl7v2"]
        hl7 = parse_hl7v2(self._lake, messages, self._sources, self._key)
        fhir_new, fhir_again = landing.find_fhir_repeats(self._lake, self._may_hold) if self._fhir else (Counter(), Counter())
        hl7_new, hl7_again, reused = landing.judge_messages(self._lake, self._may_hold("hl7v2_messages"))
        landing.join_links(self._lake, with_fhir=self._fhir is not None)
        if self._may_hold("person_links"):
            landing.drop_known_links(self._lake)
        outcome.received, outcome.ignored = fhir.received + hl7.received, fhir.ignored + hl7.ignored
        outcome.accepted, outcome.duplicate = fhir_new + hl7_new, fhir_again + hl7_again
        found = [(payload_id, r) for rejects in (fhir.rejects, hl7.rejects) for payload_id, rs in rejects.items() for r in rs]
        for payload_id, reject in [*found, *reused, *self._unreadable(outcome)]:
            outcome.rejects.setdefault(payload_id, []).append(reject)
        _name_live_units(outcome)
        if any(arrival.has_changed() for arrival in self._arrivals):
            raise InputError("a file changed while it was read, nothing landed; run again, the archive has what was sent")
        keep_identities(self._settings, hl7.vault)
        self._note_quarantine(outcome)
        rows = counted(outcome)
        self._lake.execute("begin")
        landing.insert_rows(self._lake, self.batch_id, with_fhir=self._fhir is not None)
        landing.insert_landings(self._lake, self.batch_id, [(p, rows[p.payload_id]) for p in outcome.payloads])
        self._lake.execute("commit")
        if self._known is not None:
            self._known.remember()
        return outcome, rows

    def _may_hold(self, table: str) -> bool:
        return self._known is None or self._known.may_hold(table)

    def _unreadable(self, outcome: BatchOutcome) -> Iterable[tuple[str, Reject]]:
        """What no reader was asked about; those of FHIR and HL7 v2 refuse their files themselves."""
        for payload in outcome.payloads:
            if payload.format == "unknown":
                outcome.received[payload.payload_id, "file", "unknown"] = 1
                reject = Reject("file", "unknown", "file", "unsupported_format", "neither FHIR JSON nor HL7 v2")
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
    duplicates: Iterable[Payload] = (), positions: Iterable[Position] = (),
) -> None:
    """Tell the ops database what the lake holds of a batch, in one transaction. A payload is written down once.

    ``positions``: how far Kafka has been read; they move in the same transaction, or not at all.
    """
    with store_session(settings) as session, session.no_autoflush:
        entries = _book_first(session, batch_id, payloads, rows)
        again = dict(zip(COUNTS, (1, 0, 1, 0, 0), strict=True))
        entries += [_entry(payload, batch_id, {"unit": "file", "type": payload.format, **again}) for payload in duplicates]
        if entries:
            session.execute(insert(LedgerEntry), entries)
        for position in positions:
            session.merge(KafkaPosition(topic=position.topic, partition=position.partition,
                                        next_offset=position.next_offset, moved_at=utc_now()))  # fmt: skip
        _finish(session, batch_id)


def write_differences(
    session: Session, batch_id: int, payloads: Sequence[Payload], differences: dict[str, list[CountRow]]
) -> None:
    """What a replay changed of payloads that were written down before; the caller owns the transaction."""
    stored = payloads_by_id(session, [payload.payload_id for payload in payloads])
    entries: list[dict[str, Any]] = []
    for payload_id, payload in stored.items():
        entries += [_entry(payload, batch_id, row) for row in differences[payload_id]]
        for row in differences[payload_id]:
            if row["unit"] == "file":
                payload.state = "landed" if row["quarantined"] < 0 else "quarantined"
    if entries:
        session.execute(insert(LedgerEntry), entries)
    for payload_id, payload in stored.items():
        if is_live(payload) and differences[payload_id]:
            payload.state = "quarantined" if _is_all_quarantined(session, payload_id) else "landed"
            payload.batch_id = payload.batch_id or batch_id
    _finish(session, batch_id)


def _book_first(
    session: Session, batch_id: int | None, payloads: Sequence[Payload], rows: dict[str, list[CountRow]]
) -> list[dict[str, Any]]:
    """Move payloads out of ``received``; returns their ledger entries."""
    known = payloads_by_id(session, [payload.payload_id for payload in payloads])
    entries: list[dict[str, Any]] = []
    for payload in payloads:
        stored = known.get(payload.payload_id)
        if stored is None or stored.state != "received":
            continue
        counts = rows[payload.payload_id]
        entries += [_entry(payload, batch_id, row) for row in counts]
        stored.state, stored.batch_id = ("quarantined" if _is_unusable(payload, counts) else "landed"), batch_id
    return entries


def _finish(session: Session, batch_id: int | None) -> None:
    """From now on builds see the batch."""
    batch = session.get(Batch, batch_id) if batch_id is not None else None
    if batch is not None and batch.finished_at is None:
        batch.finished_at = utc_now()


def _is_all_quarantined(session: Session, payload_id: str) -> bool:
    """By the ledger, whether nothing of a live payload can be used; deliveries of it that came again do not count."""
    received, quarantined = session.execute(
        select(func.sum(LedgerEntry.received), func.sum(LedgerEntry.quarantined))
        .where(LedgerEntry.payload_id == payload_id, ~is_repeat())
    ).one()
    return bool(received == quarantined)


def _is_unusable(payload: Payload, counts: Sequence[CountRow]) -> bool:
    """Whether nothing of it could be used: of a file, that it could not be read; live, that all was quarantined."""
    if is_live(payload):
        return bool(counts) and all(row["received"] == row["quarantined"] for row in counts)
    return any(row["unit"] == "file" and row["quarantined"] for row in counts)


def _entry(payload: Payload, batch_id: int | None, row: CountRow) -> dict[str, Any]:
    return {"payload_id": payload.payload_id, "batch_id": batch_id, "source_id": payload.source_id, **row}


def _name_live_units(outcome: BatchOutcome) -> None:
    """What arrived live is no file: where the whole could not be read, a message or a resource could not be."""
    units = {p.payload_id: "resource" if p.format == "fhir" else "message" for p in outcome.payloads if is_live(p)}
    if not units:
        return
    for counts in (outcome.received, outcome.accepted, outcome.duplicate, outcome.ignored):
        for payload_id, unit, kind in [key for key in counts if key[1] == "file" and key[0] in units]:
            counts[payload_id, units[payload_id], "unknown"] += counts.pop((payload_id, unit, kind))
    for payload_id, unit in units.items():
        if payload_id in outcome.rejects:
            outcome.rejects[payload_id] = [
                replace(reject, unit=unit, type="unknown") if reject.unit == "file" else reject
                for reject in outcome.rejects[payload_id]
            ]


def complete_landed(settings: Settings, lake: DuckDBPyConnection) -> set[str]:
    """Write down what a killed run landed and could not write down; returns those payload ids.

    Only for whoever holds the lock: a batch without an end is then a dead one. One that reached the lake is written
    down from ``raw.landings``, a replay's differences too; one that did not is taken back.
    """
    with store_session(settings) as session:
        unfinished = list(session.scalars(
            select(Batch.batch_id).where(Batch.finished_at.is_(None)).order_by(Batch.batch_id)))
    completed: set[str] = set()
    for batch_id in unfinished:
        landed = landing.landed_in(lake, batch_id)
        with store_session(settings) as session, session.no_autoflush:
            payloads = payloads_by_id(session, list(landed)).values()
            if not payloads:
                session.delete(session.get_one(Batch, batch_id))
                continue
            first = [payload for payload in payloads if payload.state == "received"]
            again = [payload for payload in payloads if payload.state != "received"]
            if entries := _book_first(session, batch_id, first, landed):
                session.execute(insert(LedgerEntry), entries)
            write_differences(session, batch_id, again, landed)
            completed |= {payload.payload_id for payload in first}
    return completed
