"""The inbox: what arrived live, made durable in one transaction before anybody is told that it is safe."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, Table, insert, select, text
from sqlalchemy.exc import IntegrityError

from core.errors import ArchiveError
from core.feed_tables import FeedHour, InboxEntry, KafkaPosition
from core.keys import key_bytes, seal, unseal
from core.settings import Settings
from core.store import LedgerEntry, Payload, Quarantine, open_store, store_session, utc_now
from ehr.intake import LIVE
from ehr.ledger import COUNTS
from ehr.live.transport import Position
from ehr.quarantine import quarantine_rows
from ehr.records import Reject

_IDS_AT_A_TIME = 500  # SQLite takes 999 parameters where it is old
Row = dict[str, Any]


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
    """Stores groups of messages. ``as_of``: business day of what arrives; None: the day of its arrival, UTC."""

    def __init__(self, settings: Settings, as_of: date | None = None) -> None:
        self._settings, self._as_of = settings, as_of
        self._key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")

    def store(self, group: Sequence[Received], positions: Sequence[Position] = ()) -> list[Stored]:
        """Make a group durable in one transaction, committed and synced on return.

        Errors: whatever the database raises; then nothing of the group is stored.
        """
        try:
            return self._store(group, positions)
        except IntegrityError:  # another process stored the same bytes at this very moment; now they are known
            return self._store(group, positions)

    def _store(self, group: Sequence[Received], positions: Sequence[Position]) -> list[Stored]:
        engine = open_store(self._settings)
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("begin immediate")  # not first reading, then finding another writer ahead
            writing = _Writing(self._key, utc_now(), self._as_of)
            stored = writing.judge(connection, group)
            writing.write(connection, positions)
            connection.commit()
        return stored


class _Writing:
    """The rows of one transaction."""

    def __init__(self, key: bytes, now: datetime, as_of: date | None) -> None:
        self._key, self._now, self._as_of = key, now, as_of or now.date()
        self._payloads: list[Row] = []
        self._inbox: list[Row] = []
        self._quarantine: list[Row] = []
        self._ledger: list[Row] = []
        self._hours: dict[tuple[str, str], Counter[str]] = {}

    def judge(self, connection: Connection, group: Sequence[Received]) -> list[Stored]:
        """What becomes of each, in order; what it takes is left for `write`."""
        ids = [hashlib.sha256(received.content).hexdigest() for received in group]
        known = _known(connection, ids)
        holders = _holders(connection, {r.message_key for r in group if r.message_key and r.reject is None})
        sequence = _next_sequences(connection, len(set(ids) - set(known)))
        stored: list[Stored] = []
        for received, payload_id in zip(group, ids, strict=True):
            if payload_id in known:
                earlier = known[payload_id]
                outcome = Stored("repeated", earlier.inbox_sequence, earlier.reject)
                self._count(received, payload_id, "duplicate")
            else:
                reject = received.reject
                if reject is None and received.message_key:
                    holder = holders.setdefault(received.message_key, payload_id)
                    reject = None if holder == payload_id else _reused(received)
                outcome = Stored("refused" if reject else "new", next(sequence), reject)
                known[payload_id] = outcome
                self._enter(received, payload_id, outcome)
            self._note_hour(received, outcome)
            stored.append(outcome)
        return stored

    def _enter(self, received: Received, payload_id: str, outcome: Stored) -> None:
        self._payloads.append({
            "payload_id": payload_id, "source_id": received.source_id, "format": received.format,
            "name_sealed": seal(self._key, b"", payload_id), "size_bytes": len(received.content), "archive_name": LIVE,
            "as_of": self._as_of, "received_at": self._now, "state": "quarantined" if outcome.reject else "received",
        })  # fmt: skip
        self._inbox.append({
            "inbox_sequence": outcome.inbox_sequence, "payload_id": payload_id, "feed": received.feed,
            # A refused message holds no control id: its sender may mend it and send it again.
            "message_key": None if outcome.reject else received.message_key, "partition_key": received.partition_key,
            "content": seal(self._key, received.content, payload_id), "arrived_at": self._now,
        })  # fmt: skip
        if outcome.reject:
            payload = Payload(payload_id=payload_id, source_id=received.source_id)
            for row in quarantine_rows([payload], {payload_id: [outcome.reject]}):
                self._quarantine.append({
                    "quarantine_id": row.quarantine_id, "payload_id": payload_id, "source_id": row.source_id,
                    "unit": row.unit, "type": row.type, "locator": row.locator, "reason_code": row.reason_code,
                    "detail": row.detail,
                })  # fmt: skip
            self._count(received, payload_id, "quarantined")

    def _count(self, received: Received, payload_id: str, column: str) -> None:
        counts = dict.fromkeys(COUNTS, 0) | {"received": 1, column: 1}
        self._ledger.append({"payload_id": payload_id, "batch_id": None, "source_id": received.source_id,
                             "unit": received.unit, "type": received.type, **counts})  # fmt: skip

    def _note_hour(self, received: Received, outcome: Stored) -> None:
        column = {"new": "accepted", "repeated": "repeated", "refused": "refused"}[outcome.outcome]
        self._hours.setdefault((received.source_id, received.feed), Counter()).update(["received", column])

    def write(self, connection: Connection, positions: Sequence[Position]) -> None:
        for table, rows in ((Payload, self._payloads), (InboxEntry, self._inbox), (Quarantine, self._quarantine),
                            (LedgerEntry, self._ledger)):  # fmt: skip
            if rows:
                connection.execute(insert(_table(table)), rows)
        hour_at = self._now.replace(minute=0, second=0, microsecond=0)
        for (source_id, feed), counted in self._hours.items():
            counts = {name: counted[name] for name in ("received", "accepted", "repeated", "refused")}
            key = {"source_id": source_id, "feed": feed, "hour_at": hour_at}
            _upsert(connection, _table(FeedHour), key, counts, {"last_at": self._now})
        write_positions(connection, positions, self._now)


def write_positions(connection: Connection, positions: Iterable[Position], now: datetime) -> None:
    """Move positions of Kafka partitions; the caller owns the transaction."""
    for each in positions:
        key = {"topic": each.topic, "partition": each.partition}
        _upsert(connection, _table(KafkaPosition), key, {}, {"next_offset": each.next_offset, "moved_at": now})


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


def _known(connection: Connection, payload_ids: Sequence[str]) -> dict[str, Stored]:
    """What was stored before, with the reason where it was refused at the door."""
    found: dict[str, Stored] = {}
    unique = list(dict.fromkeys(payload_ids))
    for start in range(0, len(unique), _IDS_AT_A_TIME):
        some = unique[start:start + _IDS_AT_A_TIME]
        rows = connection.execute(
            select(InboxEntry.payload_id, InboxEntry.inbox_sequence, Quarantine.unit, Quarantine.type, Quarantine.locator,
                   Quarantine.reason_code, Quarantine.detail)
            .join(Payload, Payload.payload_id == InboxEntry.payload_id)
            # A batch brought what was accepted here, even if landing then found a fault in it.
            .outerjoin(Quarantine, (Quarantine.payload_id == InboxEntry.payload_id) & (Quarantine.state == "open")
                       & (Payload.state == "quarantined") & Payload.batch_id.is_(None))
            .where(InboxEntry.payload_id.in_(some))
        )  # fmt: skip
        for payload_id, sequence, *reject in rows:
            found[payload_id] = Stored("repeated", sequence, Reject(*reject) if reject[0] is not None else None)
    return found


def _holders(connection: Connection, message_keys: set[str]) -> dict[str, str]:
    """Message key -> the payload that was accepted under it."""
    found: dict[str, str] = {}
    keys = sorted(message_keys)
    for start in range(0, len(keys), _IDS_AT_A_TIME):
        rows = connection.execute(
            select(InboxEntry.message_key, InboxEntry.payload_id)
            .where(InboxEntry.message_key.in_(keys[start:start + _IDS_AT_A_TIME]))
            .order_by(InboxEntry.inbox_sequence.desc())
        )
        found |= {row[0]: row[1] for row in rows}
    return found


def _reused(received: Received) -> Reject:
    return Reject(received.unit, received.type, "message 1 MSH-10", "control_id_reused",
                  "MSH-10 was used before by a message with other content")  # fmt: skip


def _next_sequences(connection: Connection, number: int) -> Iterator[int]:
    """Numbers for new entries. SQLite's writer is alone; Postgres hands them out."""
    if connection.dialect.name == "sqlite":
        last = connection.execute(text("select seq from sqlite_sequence where name = 'inbox'")).scalar() or 0
        return iter(range(last + 1, last + 1 + number))
    drawn = text("select nextval(pg_get_serial_sequence('inbox', 'inbox_sequence')) from generate_series(1, :number)")
    return iter(sorted(connection.execute(drawn, {"number": number}).scalars()))


def _upsert(connection: Connection, table: Table, key: Row, added: Row, replaced: Row) -> None:
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table).values(key | added | replaced)
    changes = {name: table.c[name] + statement.excluded[name] for name in added} | replaced
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=changes))


def _table(model: Any) -> Table:
    table: Table = model.__table__
    return table
