"""The SQLite online store. A materialisation puts a whole new file in its place, so a file never changes while it is read."""

import os
import sqlite3
import threading
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from core.errors import FeatureStoreError
from ml.features.definitions import ENTITY_KEY, FEATURE_VIEW, LINK_VIEW, PERSON_KEY, PROJECT
from ml.features.online_cells import Materialization, Row
from ml.features.wire import decode, entity_key, key_prefix

ROWS, LINKS, RUN = f"{PROJECT}_{FEATURE_VIEW}", f"{PROJECT}_{LINK_VIEW}", f"{PROJECT}_materialization"
PATIENT, PERSON = key_prefix(ENTITY_KEY), key_prefix(PERSON_KEY)
_KEYS_PER_QUERY = 500


class _File(threading.local):
    """One thread's connection to the file that it last saw in place."""

    connection: sqlite3.Connection | None = None
    identity: tuple[int, int, int] | None = None
    run: Materialization


class SqliteCells:
    """See `OnlineCells`. Each thread keeps a connection of its own and looks before every read whether the file is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _File()

    def fetch(self, patient_keys: Sequence[str]) -> tuple[Materialization, list[Row | None]]:
        connection, run = self._open()
        found: dict[bytes, Row] = {}
        asked = [entity_key(PATIENT, key) for key in patient_keys]
        for start in range(0, len(asked), _KEYS_PER_QUERY):
            some = asked[start:start + _KEYS_PER_QUERY]
            for key, column, value in connection.execute(
                    f"select entity_key, feature_name, value from {ROWS} "
                    f"where entity_key in ({', '.join('?' * len(some))})", some):
                row = found.get(key)
                if row is None:
                    row = found[key] = {}
                row[column] = value
        return run, [found.get(key) for key in asked]

    def patient_of(self, person_key: str) -> str | None:
        connection, _ = self._open()
        row = connection.execute(f"select value from {LINKS} where entity_key = ? and feature_name = ?",
                                 [entity_key(PERSON, person_key), ENTITY_KEY]).fetchone()
        value = decode(row[0]) if row else None
        return None if value is None else str(value)

    def newest(self) -> Materialization:
        return self._open()[1]

    def sample(self, number: int) -> list[str]:
        connection, _ = self._open()
        rows = connection.execute(f"select entity_key from {ROWS} where feature_name = 'row_digest' limit ?", [number])
        return [row[0][len(PATIENT) + 4:].decode() for row in rows]

    def _open(self) -> tuple[sqlite3.Connection, Materialization]:
        file = self._file
        try:
            status = os.stat(self._path)
            identity = status.st_ino, status.st_mtime_ns, status.st_size
            if file.connection is None or identity != file.identity:
                if file.connection is not None:
                    file.connection.close()
                    file.connection = None
                # Nobody writes to it: no locks, and nothing beside it is looked for.
                connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
                file.run = read_run(connection)
                file.connection, file.identity = connection, identity
        except (OSError, sqlite3.Error) as error:
            raise FeatureStoreError(
                f"the online feature store cannot be read ({type(error).__name__}); run `cuff features`") from error
        return file.connection, file.run


def read_run(connection: sqlite3.Connection) -> Materialization:
    """The run that the file holds. Errors: ``sqlite3.Error`` where it holds none."""
    row = connection.execute(f"select number, build_id, clinical_snapshot, as_of from {RUN}").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("no materialisation")
    return Materialization(row[0], row[1], row[2], date.fromisoformat(row[3]))
