"""The inbox: what arrived live, made durable in one transaction before anybody is told that it is safe."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from threading import Lock
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from core.errors import ArchiveError
from core.feed_tables import InboxEntry
from core.keys import key_bytes, seal, unseal
from core.settings import Settings
from core.store import Payload, store_session, utc_now
from ehr.intake import LIVE
from ehr.ledger import COUNTS
from ehr.live.inbox_rows import InboxTables, Row
from ehr.live.transport import Position
from ehr.quarantine import quarantine_rows
from ehr.records import Reject

# Faults of who sent it, not of the message: from the right sender the same bytes are taken.
_OF_THE_SENDER = frozenset({"certificate_mismatch"})
_OF_QUARANTINE = ("quarantine_id", "payload_id", "source_id", "unit", "type", "locator", "reason_code", "detail")


@dataclass(frozen=True)
class Received:
    """One message as the door judged it. ``reject``: a content fault; stored and quarantined all the same."""

    content: bytes
    format: str  # hl7v2 | fhir | unknown
    source_id: str
    feed: str  # mllp | http | kafka
    unit: str  # message | resource
    type: str
    message_key: str | None = None  # pseudonym of (MSH-3, MSH-4, MSH-10): `record_key` in the lake
    partition_key: str | None = None  # pseudonym of the person
    reject: Reject | None = None


@dataclass(frozen=True)
class Stored:
    """What became of a message. ``repeated``: the same bytes were stored before, with ``reject`` if they were refused."""

    outcome: Literal["new", "repeated", "refused"]
    inbox_sequence: int
    reject: Reject | None = None


class Inbox:
    """Stores groups of messages, over a connection of its own; a thread at a time. ``as_of``: business day of what
    arrives; None: the day of its arrival, UTC."""

    def __init__(self, settings: Settings, as_of: date | None = None) -> None:
        self._as_of = as_of
        self._key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
        self._tables = InboxTables(settings)
        self._lock = Lock()

    def store(self, group: Sequence[Received], positions: Sequence[Position] = ()) -> list[Stored]:
        """Make a group durable in one transaction, committed and synced on return.

        Errors: whatever the database raises; then nothing of the group is stored.
        """
        with self._lock:
            try:
                return self._store(group, positions)
            except IntegrityError:  # another process stored the same bytes at this very moment; now they are known
                return self._store(group, positions)

    def _store(self, group: Sequence[Received], positions: Sequence[Position]) -> list[Stored]:
        try:
            self._tables.begin()
            writing = _Writing(self._tables, self._key, self._as_of)
            stored = writing.judge(group)
            writing.write(positions)
            self._tables.commit()
        except BaseException:
            self._tables.close()
            raise
        return stored

    def close(self) -> None:
        self._tables.close()


class _Writing:
    """The rows of one transaction."""

    def __init__(self, tables: InboxTables, key: bytes, as_of: date | None) -> None:
        self._tables, self._key, self._now = tables, key, utc_now()
        self._time, self._day = tables.time(self._now), tables.day(as_of or self._now.date())
        self._payloads: list[Row] = []
        self._inbox: list[Row] = []
        self._quarantine: list[dict[str, Any]] = []
        self._ledger: list[Row] = []
        self._taken_after_all: list[tuple[str, str | None, str]] = []
        self._hours: dict[tuple[str, str], Counter[str]] = {}

    def judge(self, group: Sequence[Received]) -> list[Stored]:
        """What becomes of each, in order; what it takes is left for `write`."""
        ids = [hashlib.sha256(received.content).hexdigest() for received in group]
        sequences = self._tables.sequences_of(ids)
        rejects = self._tables.rejects_of(list(sequences)) if sequences else {}
        known = {name: Stored("repeated", number, rejects.get(name)) for name, number in sequences.items()}
        holders = self._tables.holders_of([r.message_key for r in group if r.message_key and r.reject is None])
        sequence = self._tables.next_sequences(len(set(ids) - set(known)))
        stored: list[Stored] = []
        for received, payload_id in zip(group, ids, strict=True):
            reject = received.reject
            if reject is None and received.message_key and holders.setdefault(received.message_key, payload_id) != payload_id:
                reject = _reused(received)
            earlier = known.get(payload_id)
            if earlier is None:
                outcome = Stored("refused" if reject else "new", next(sequence), reject)
                self._enter(received, payload_id, outcome)
            elif reject is None and earlier.reject and earlier.reject.reason_code in _OF_THE_SENDER:
                outcome = Stored("new", earlier.inbox_sequence)
                self._take_after_all(received, payload_id, earlier.reject.reason_code)
            else:
                is_senders = reject is not None and reject.reason_code in _OF_THE_SENDER
                outcome = Stored("repeated", earlier.inbox_sequence, reject if is_senders else earlier.reject)
                self._count(received, payload_id, received=1, duplicate=1)
            if outcome.outcome != "repeated":
                known[payload_id] = outcome
            self._note_hour(received, outcome)
            stored.append(outcome)
        return stored

    def _enter(self, received: Received, payload_id: str, outcome: Stored) -> None:
        reject = outcome.reject
        self._payloads.append((
            payload_id, received.source_id, received.format, seal(self._key, b"", payload_id), len(received.content), LIVE,
            self._day, self._time, "quarantined" if reject else "received"))  # fmt: skip
        # A refused message holds no control id: its sender may mend it and send it again.
        self._inbox.append((
            outcome.inbox_sequence, payload_id, received.feed, None if reject else received.message_key,
            received.partition_key, seal(self._key, received.content, payload_id), self._time))  # fmt: skip
        if reject:
            payload = Payload(payload_id=payload_id, source_id=received.source_id)
            for row in quarantine_rows([payload], {payload_id: [reject]}):
                self._quarantine.append({name: getattr(row, name) for name in _OF_QUARANTINE})
            self._count(received, payload_id, received=1, quarantined=1)

    def _take_after_all(self, received: Received, payload_id: str, reason_code: str) -> None:
        self._taken_after_all.append((payload_id, received.message_key, reason_code))
        self._count(received, payload_id, duplicate=1, quarantined=-1)  # landing counts it as received and accepted

    def _count(self, of: Received, payload_id: str, **counts: int) -> None:
        numbers = (counts.get(name, 0) for name in COUNTS)
        self._ledger.append((payload_id, of.source_id, of.unit, of.type, *numbers, self._time))

    def _note_hour(self, received: Received, outcome: Stored) -> None:
        column = {"new": "accepted", "repeated": "repeated", "refused": "refused"}[outcome.outcome]
        self._hours.setdefault((received.source_id, received.feed), Counter()).update(["received", column])

    def write(self, positions: Sequence[Position]) -> None:
        self._tables.add("payloads", self._payloads)
        self._tables.add("inbox", self._inbox)
        self._tables.add_quarantine(self._quarantine)
        self._tables.add("ledger", self._ledger)
        for taken in self._taken_after_all:  # now that those refused in this same group are rows, too
            self._tables.take_after_all(*taken, self._now)
        hour_at = self._now.replace(minute=0, second=0, microsecond=0)
        for (source_id, feed), counts in sorted(self._hours.items()):
            self._tables.add_hour(source_id, feed, hour_at, counts, self._now)
        for position in positions:
            self._tables.move(position, self._now)


def read_content(settings: Settings, payload_id: str) -> bytes:
    """The bytes of a live payload as they arrived. Errors: `ArchiveError` when they are missing or not what was stored."""
    key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
    with store_session(settings) as session:
        sealed = session.scalar(select(InboxEntry.content).where(InboxEntry.payload_id == payload_id))
    return unsealed_content(key, payload_id, sealed)


def unsealed_content(key: bytes, payload_id: str, sealed: bytes | None) -> bytes:
    """Opened and checked against the digest that is the payload's name. Errors: `ArchiveError`."""
    try:
        content = unseal(key, sealed or b"", payload_id)
    except (InvalidTag, ValueError):
        content = b""
    if hashlib.sha256(content).hexdigest() != payload_id:
        raise ArchiveError(f"live payload {payload_id[:12]} cannot be read; restore the ops database from backup")
    return content


def _reused(received: Received) -> Reject:
    return Reject(received.unit, received.type, "message 1 MSH-10", "control_id_reused",
                  "MSH-10 was used before by a message with other content")  # fmt: skip
