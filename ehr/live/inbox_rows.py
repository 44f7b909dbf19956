"""The inbox's SQL, by hand: it runs for every group, and compiling statements would cost more than executing them."""

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, insert, select, text, update

from core.feed_tables import InboxEntry
from core.settings import Settings
from core.store import Payload, Quarantine, open_store
from ehr.live.transport import Position
from ehr.records import Reject

Row = tuple[Any, ...]
_COLUMNS = {
    "payloads": "payload_id, source_id, format, name_sealed, size_bytes, archive_name, as_of, received_at, state",
    "inbox": "inbox_sequence, payload_id, feed, message_key, partition_key, content, arrived_at",
    "ledger": "payload_id, source_id, unit, type, received, accepted, duplicate, ignored, quarantined, entered_at",
}
_COUNTS = ("received", "accepted", "repeated", "refused")
_ADD_HOUR = (
    f"insert into feed_hours (source_id, feed, hour_at, {', '.join(_COUNTS)}, last_at) values (?, ?, ?, ?, ?, ?, ?, ?) "
    "on conflict (source_id, feed, hour_at) do update set "
    + ", ".join(f"{name} = feed_hours.{name} + excluded.{name}" for name in _COUNTS) + ", last_at = excluded.last_at"
)  # fmt: skip
_MOVE_POSITION = (
    "insert into kafka_positions (topic, partition, next_offset, moved_at) values (?, ?, ?, ?) "
    "on conflict (topic, partition) do update set next_offset = excluded.next_offset, moved_at = excluded.moved_at"
)
_BUSY_MILLISECONDS = 8000  # senders lose patience after ten seconds or so: an AR before that tells them more
_ALONE = f"select set_config('lock_timeout', '{_BUSY_MILLISECONDS}', true), pg_advisory_xact_lock(7165302)"
_CHECKPOINT_PAGES = 16_000  # 64 MB: each checkpoint is two more fsyncs, and writes once what many groups changed
_CACHE_KIB = 64 << 10  # digests land anywhere in an index: most of it should be at hand


class InboxTables:
    """One connection to the ops database, for one transaction after another. After an error: `close`, and it is opened
    anew with the next transaction."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._is_sqlite = True
        self._file: tuple[int, int] | None = None
        self._binders: dict[Any, Callable[[Any], Any]] = {}

    def begin(self) -> None:
        """Begin to write. Errors: whatever the database raises."""
        if self._connection is not None and self._file != _file_of(self._connection.engine):
            self.close()  # the database was replaced under us: what goes into the old file would be gone
        if self._connection is None:
            engine = open_store(self._settings)
            self._connection, self._file, self._binders = engine.connect(), _file_of(engine), {}
            self._is_sqlite = engine.dialect.name == "sqlite"
            if self._is_sqlite:
                self._execute(f"pragma busy_timeout = {_BUSY_MILLISECONDS}")
                self._execute(f"pragma wal_autocheckpoint = {_CHECKPOINT_PAGES}")
                self._execute(f"pragma cache_size = -{_CACHE_KIB}")
        # Not first reading, then finding another writer ahead: a number used twice at one moment would pass for new.
        self._execute("begin immediate" if self._is_sqlite else _ALONE)

    def commit(self) -> None:
        self._open.commit()

    def close(self) -> None:
        if self._connection is not None:
            # Not back into the pool: whoever gets it would inherit its settings, or its fault.
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def sequences_of(self, payload_ids: Sequence[str]) -> dict[str, int]:
        """Payloads that are known, by id."""
        return dict(self._those("select payload_id, inbox_sequence from inbox where payload_id", payload_ids))

    def rejects_of(self, payload_ids: Sequence[str]) -> dict[str, Reject]:
        """Why those that were refused at the door were."""
        rows = self._open.execute(
            select(Quarantine.payload_id, Quarantine.unit, Quarantine.type, Quarantine.locator, Quarantine.reason_code,
                   Quarantine.detail)
            .join(Payload, Payload.payload_id == Quarantine.payload_id)
            # A batch brought what was accepted here, even if landing then found a fault in it.
            .where(Quarantine.payload_id.in_(payload_ids), Quarantine.state == "open", Payload.state == "quarantined",
                   Payload.batch_id.is_(None))
        )  # fmt: skip
        return {row[0]: Reject(*row[1:]) for row in rows}

    def holders_of(self, message_keys: Sequence[str]) -> dict[str, str]:
        """Message key -> the payload that was accepted under it first."""
        found = self._those("select message_key, payload_id, inbox_sequence from inbox where message_key", message_keys)
        return {key: payload_id for key, payload_id, _ in sorted(found, key=lambda row: row[2], reverse=True)}

    def next_sequences(self, number: int) -> Iterator[int]:
        """Numbers for new entries. SQLite's writer is alone; Postgres hands them out."""
        if self._is_sqlite:
            last = self._execute("select seq from sqlite_sequence where name = 'inbox'").scalar() or 0
            return iter(range(last + 1, last + 1 + number))
        drawn = text("select nextval(pg_get_serial_sequence('inbox', 'inbox_sequence')) from generate_series(1, :number)")
        return iter(sorted(self._open.execute(drawn, {"number": number}).scalars()))

    def add(self, table: str, rows: Sequence[Row]) -> None:
        """Rows of ``payloads``, ``inbox`` or ``ledger``, in the order of `_COLUMNS`."""
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self._execute(f"insert into {table} ({_COLUMNS[table]}) values ({marks})", list(rows))

    def add_quarantine(self, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            self._open.execute(insert(Quarantine.__table__), list(rows))  # type: ignore[arg-type]

    def add_hour(self, source_id: str, feed: str, hour_at: datetime, counts: dict[str, int], last_at: datetime) -> None:
        numbers = (counts.get(name, 0) for name in _COUNTS)
        self._execute(_ADD_HOUR, (source_id, feed, self.time(hour_at), *numbers, self.time(last_at)))

    def move(self, position: Position, now: datetime) -> None:
        """Set the next offset of a Kafka partition."""
        self._execute(_MOVE_POSITION, (position.topic, position.partition, position.next_offset, self.time(now)))

    def take_after_all(self, payload_id: str, message_key: str | None, reason_code: str, now: datetime) -> None:
        """What was refused for its sender's sake may be landed."""
        mine = {"payload_id": payload_id}
        self._open.execute(update(Payload).filter_by(**mine).values(state="received"))
        self._open.execute(update(InboxEntry).filter_by(**mine).values(message_key=message_key, published_at=None))
        self._open.execute(update(Quarantine).filter_by(**mine, reason_code=reason_code, state="open")
                           .values(state="replayed", resolved_at=now))  # fmt: skip

    def time(self, at: datetime) -> Any:
        """As the database's driver takes it."""
        return self._bound(Payload.received_at, at)

    def day(self, day: date) -> Any:
        return self._bound(Payload.as_of, day)

    def _bound(self, column: Any, value: Any) -> Any:
        if column not in self._binders:
            dialect = self._open.dialect
            self._binders[column] = column.type.dialect_impl(dialect).bind_processor(dialect) or (lambda as_it_is: as_it_is)
        return self._binders[column](value)

    def _those(self, query: str, values: Sequence[str]) -> Sequence[Any]:
        if not values:
            return []
        if self._is_sqlite:
            return self._execute(f"{query} in (select value from json_each(?))", (orjson.dumps(values).decode(),)).fetchall()
        return self._execute(f"{query} = any(?)", (list(values),)).fetchall()

    def _execute(self, statement: str, values: Any = None) -> Any:
        written = statement if self._is_sqlite else statement.replace("?", "%s")
        return self._open.exec_driver_sql(written, values)

    @property
    def _open(self) -> Connection:
        assert self._connection is not None
        return self._connection


def _file_of(engine: Engine) -> tuple[int, int] | None:
    """Which file a SQLite database is; None for a server's."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return None
    try:
        found = os.stat(engine.url.database)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
