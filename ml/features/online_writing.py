"""Changing an online store: what it holds, what goes, and the mark of a finished run. Rows themselves go in through Feast."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core.settings import Settings
from ml.features import online_redis, online_sqlite
from ml.features.definitions import ENTITY_KEY, FEATURE_VIEW, LINK_VIEW, online_path, open_feature_store
from ml.features.online_cells import Materialization
from ml.features.wire import decode, entity_key, field_name

if TYPE_CHECKING:
    from feast import FeatureStore

_AT_A_TIME = 1000


class OnlineWriting(Protocol):
    """One run's hold on the online store."""

    store: "FeatureStore"

    def next_number(self) -> int:
        """A number above that of every finished run."""

    def row_digests(self) -> dict[str, str]:
        """Patient key → digest of the row the store holds."""

    def links(self) -> dict[str, str]:
        """Person key → patient key, as the store holds them."""

    def remove_rows(self, patient_keys: Iterable[str]) -> None:
        """Take out these patients."""

    def remove_links(self, person_keys: Iterable[str]) -> None:
        """Take out these persons."""

    def finish(self, run: Materialization) -> None:
        """Say that all rows are those of this run's snapshot."""


@contextmanager
def open_for_writing(settings: Settings) -> Iterator[OnlineWriting]:
    """The online store of the settings. SQLite's takes the place of the one that serves when the block ends without error."""
    if settings.online_store:
        yield _Redis(settings)
        return
    path = online_path(settings)
    beside = path.with_name(path.name + ".new")
    for left_over in path.parent.glob(beside.name + "*"):
        left_over.unlink()
    writing = _Sqlite(settings, path, beside)
    try:
        yield writing
    finally:
        writing.close()
    beside.chmod(0o600)
    os.replace(beside, path)


class _Sqlite:
    """A copy of the file that serves, changed and then swapped in: readers see the old night or the new one."""

    def __init__(self, settings: Settings, path: Path, beside: Path) -> None:
        self._connection = sqlite3.connect(beside, isolation_level=None)
        beside.chmod(0o600)
        if path.exists():
            with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as serving:
                serving.backup(self._connection)
            serving.close()
        # It is thrown away unless the run ends: the disk need not keep up with each step.
        self._connection.execute("pragma journal_mode=off")
        self._connection.execute(
            f"create table if not exists {online_sqlite.RUN} "
            "(number integer, build_id integer, clinical_snapshot integer, as_of text)")
        self._removed = 0
        self.store = open_feature_store(settings, beside)

    def next_number(self) -> int:
        row = self._connection.execute(f"select max(number) from {online_sqlite.RUN}").fetchone()
        return (row[0] or 0) + 1

    def row_digests(self) -> dict[str, str]:
        return self._column(online_sqlite.ROWS, online_sqlite.PATIENT, "row_digest")

    def links(self) -> dict[str, str]:
        return self._column(online_sqlite.LINKS, online_sqlite.PERSON, ENTITY_KEY)

    def remove_rows(self, patient_keys: Iterable[str]) -> None:
        self._remove(online_sqlite.ROWS, online_sqlite.PATIENT, patient_keys)

    def remove_links(self, person_keys: Iterable[str]) -> None:
        self._remove(online_sqlite.LINKS, online_sqlite.PERSON, person_keys)

    def finish(self, run: Materialization) -> None:
        self._connection.execute(f"delete from {online_sqlite.RUN}")
        self._connection.execute(f"insert into {online_sqlite.RUN} values (?, ?, ?, ?)",
                                 [run.number, run.build_id, run.clinical_snapshot, run.as_of.isoformat()])
        if self._removed:
            self._connection.execute("vacuum")  # nothing of who is gone stays in a free page

    def close(self) -> None:
        """Close this connection and the one Feast keeps, and let everything reach the disk before the file is moved."""
        own = getattr(self.store._get_provider(), "online_store", None)
        connection = getattr(own, "_conn", None)
        if connection is not None:
            connection.close()
        path = self._connection.execute("pragma database_list").fetchone()[2]
        self._connection.close()
        with open(path, "rb") as file:
            os.fsync(file.fileno())

    def _column(self, table: str, prefix: bytes, name: str) -> dict[str, str]:
        rows = self._connection.execute(f"select entity_key, value from {table} where feature_name = ?", [name])
        return {key[len(prefix) + 4:].decode(): str(decode(value)) for key, value in rows}

    def _remove(self, table: str, prefix: bytes, keys: Iterable[str]) -> None:
        gone = [(entity_key(prefix, key),) for key in keys]
        self._removed += len(gone)
        with self._connection:
            self._connection.executemany(f"delete from {table} where entity_key = ?", gone)


class _Redis:
    """Rows change in place, each in one command; the mark of the run comes last."""

    def __init__(self, settings: Settings) -> None:
        self.store = open_feature_store(settings)
        self._redis = online_redis.connect(settings.online_store)

    def next_number(self) -> int:
        return int(self._redis.hget(online_redis.RUN, "number") or 0) + 1

    def row_digests(self) -> dict[str, str]:
        return self._column(online_redis.PATIENT, field_name(FEATURE_VIEW, "row_digest"))

    def links(self) -> dict[str, str]:
        return self._column(online_redis.PERSON, field_name(LINK_VIEW, ENTITY_KEY))

    def remove_rows(self, patient_keys: Iterable[str]) -> None:
        self._remove(online_redis.PATIENT, patient_keys)

    def remove_links(self, person_keys: Iterable[str]) -> None:
        self._remove(online_redis.PERSON, person_keys)

    def finish(self, run: Materialization) -> None:
        self._redis.hset(online_redis.RUN, mapping={
            "number": run.number, "build_id": run.build_id, "clinical_snapshot": run.clinical_snapshot,
            "as_of": run.as_of.isoformat()})

    def _column(self, prefix: bytes, field: bytes) -> dict[str, str]:
        keys = list(self._redis.scan_iter(prefix + b"*" + online_redis.SUFFIX, count=_AT_A_TIME))
        found: dict[str, str] = {}
        for start in range(0, len(keys), _AT_A_TIME):
            pipeline = self._redis.pipeline(transaction=False)
            for key in keys[start:start + _AT_A_TIME]:
                pipeline.hget(key, field)
            for key, value in zip(keys[start:start + _AT_A_TIME], pipeline.execute(), strict=True):
                found[online_redis.key_of(prefix, key)] = str(decode(value))
        return found

    def _remove(self, prefix: bytes, keys: Iterable[str]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.delete(online_redis.redis_key(prefix, key))
        pipeline.execute()
