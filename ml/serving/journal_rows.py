"""The journal's SQL: predictions and audit rows of many requests in one transaction, on one connection.

Several processes write one chain. On SQLite they take turns by a lock of the operating system, because SQLite's own
busy handler sleeps for milliseconds between two looks; on Postgres by the chain's advisory lock.
"""

import fcntl
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from core.audit import AuditRow, append_audit
from core.settings import Settings
from core.store import open_store

Prediction = Mapping[str, Any]  # the columns of `ServedPrediction`, without its number
_COLUMNS = (
    "prediction_id", "served_at", "client", "source", "patient_key", "feature_date", "build_id", "clinical_snapshot",
    "model_version", "risk", "band", "features_sealed",
)  # fmt: skip
_BUSY_MILLISECONDS = 3000  # a pipeline that writes is waited for; below the time an answer may take
_CHECKPOINT_PAGES = 4000  # each checkpoint is two more fsyncs
_PATIENCE = (
    f"select set_config('lock_timeout', '{_BUSY_MILLISECONDS}', true), set_config('statement_timeout', '4000', true)"
)


class JournalRows:
    """For one thread. After any error the connection is opened anew with the next transaction."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._is_sqlite = True
        self._file: tuple[int, int] | None = None
        self._turn: int | None = None  # descriptor of the lock file

    def write(self, audit: Sequence[AuditRow], predictions: Sequence[Prediction]) -> None:
        """Commit and sync all of it, or nothing. Errors: whatever the database or the file system raises."""
        try:
            connection = self._open()
            self._take_turn()
            try:
                connection.exec_driver_sql("begin immediate" if self._is_sqlite else _PATIENCE)
                if predictions:
                    self._insert(connection, predictions)
                append_audit(connection, audit)
                connection.commit()
            finally:
                self._end_turn()
        except BaseException:
            self._drop_connection()
            raise

    def close(self) -> None:
        self._drop_connection()
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None

    def _open(self) -> Connection:
        if self._connection is not None and self._is_sqlite and self._file != _file_of(self._connection.engine):
            self._drop_connection()  # the database was replaced under us: what goes into the old file would be gone
        if self._connection is None:
            engine = open_store(self._settings)
            self._connection, self._file = engine.connect(), _file_of(engine)
            self._is_sqlite = engine.dialect.name == "sqlite"
            if self._is_sqlite:
                self._connection.exec_driver_sql(f"pragma busy_timeout = {_BUSY_MILLISECONDS}")
                self._connection.exec_driver_sql(f"pragma wal_autocheckpoint = {_CHECKPOINT_PAGES}")
                self._connection.commit()
        return self._connection

    def _insert(self, connection: Connection, predictions: Sequence[Prediction]) -> None:
        written = _as_sqlite_writes if self._is_sqlite else _as_it_is
        values = [tuple(written(row[name]) for name in _COLUMNS) for row in predictions]
        marks = ", ".join(("?" if self._is_sqlite else "%s",) * len(_COLUMNS))
        connection.exec_driver_sql(f"insert into served_predictions ({', '.join(_COLUMNS)}) values ({marks})", values)

    def _drop_connection(self) -> None:
        if self._connection is None:
            return
        # Not back into the pool: whoever gets it would inherit its settings, or its fault.
        with suppress(Exception):
            self._connection.invalidate()
            self._connection.close()
        self._connection = None

    def _take_turn(self) -> None:
        if not self._is_sqlite:
            return
        if self._turn is None:
            self._turn = _open_lock(self._settings.var / "journal.lock")
        fcntl.flock(self._turn, fcntl.LOCK_EX)

    def _end_turn(self) -> None:
        if self._is_sqlite and self._turn is not None:
            fcntl.flock(self._turn, fcntl.LOCK_UN)


def _open_lock(path: Path) -> int:
    """Its content is nothing: where it is already there, reading it is enough to lock it."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _as_sqlite_writes(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return value.isoformat() if isinstance(value, date) else value


def _as_it_is(value: Any) -> Any:
    return value


def _file_of(engine: Engine) -> tuple[int, int] | None:
    """Which file a SQLite database is; None where it is gone."""
    try:
        found = os.stat(engine.url.database or "")
    except OSError:
        return None
    return found.st_dev, found.st_ino
