"""The lake: two DuckLake catalogs, ``clinical`` and ``analytics``, behind one DuckDB connection.

Embedded default: SQLite catalogs and encrypted Parquet under ``var/lake``. Production: the same with a Postgres catalog
and S3-compatible storage. On SQLite only one process may write at a time; `write_lake` holds that lock.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
from duckdb import DuckDBPyConnection

from core.errors import LakeBusyError
from core.settings import Settings

CATALOGS = ("clinical", "analytics")
_EXTENSIONS = ("ducklake", "sqlite_scanner", "postgres_scanner", "httpfs")


@dataclass(frozen=True)
class SnapshotNumbers:
    """One number per catalog. None means the newest."""

    clinical: int | None = None
    analytics: int | None = None

    def of(self, catalog: str) -> int | None:
        return self.clinical if catalog == "clinical" else self.analytics


def catalog_path(settings: Settings, catalog: str) -> str:
    """The DuckLake URL of a catalog, as ``attach`` and dbt's profile take it."""
    if settings.lake_catalog:
        return f"ducklake:{settings.lake_catalog}"
    return f"ducklake:sqlite:{settings.lake_dir / (catalog + '.sqlite')}"


def attach_options(settings: Settings, catalog: str) -> dict[str, object]:
    """Options of ``attach`` that every reader and writer of a catalog must share."""
    data = settings.lake_data.rstrip("/") or str(settings.lake_dir)
    options: dict[str, object] = {
        "data_path": f"{data}/{catalog}/",
        "encrypted": True,
        # Small inserts would otherwise be kept in the catalog, unencrypted.
        "data_inlining_row_limit": 0,
    }
    if settings.lake_catalog:
        options["metadata_schema"] = f"ducklake_{catalog}"
    else:
        options |= {"meta_journal_mode": "WAL", "meta_busy_timeout": 30000}
        # The catalog remembers where its data lay; beside the catalog it may be moved or restored with it.
        options["override_data_path"] = not settings.lake_data
    return options


def install_extensions() -> None:
    """Put DuckDB's extensions from their wheels where DuckDB looks for them. Needs no network; cheap when done."""
    with duckdb.connect() as connection:
        done = {
            row[0]
            for row in connection.execute("select extension_name from duckdb_extensions() where installed").fetchall()
        }
    if missing := set(_EXTENSIONS) - done:
        import duckdb_extensions

        for name in sorted(missing):
            duckdb_extensions.import_extension(name)


def connect(settings: Settings) -> DuckDBPyConnection:
    """A DuckDB connection with Cuff's limits and no network habits; nothing attached yet."""
    install_extensions()
    spill = settings.var / "tmp" / "duckdb"
    spill.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        config={
            "threads": settings.duckdb_threads,
            "memory_limit": settings.duckdb_memory_limit,
            "temp_directory": str(spill),
            "autoinstall_known_extensions": False,
            "preserve_insertion_order": False,
        }
    )
    connection.execute("set timezone = 'UTC'")
    for name in ("ducklake", "postgres_scanner" if settings.lake_catalog else "sqlite_scanner"):
        connection.load_extension(name)
    if settings.lake_data.startswith("s3://") or not settings.lake_catalog:
        connection.load_extension("httpfs")  # also brings OpenSSL's AES, much faster than the built-in for Parquet
    if settings.lake_data.startswith("s3://"):
        connection.execute(
            "create secret lake_storage (type s3, key_id $1, secret $2, endpoint $3, use_ssl $4, url_style 'path')",
            [
                settings.s3_access_key.get_secret_value(),
                settings.s3_secret_key.get_secret_value(),
                settings.s3_endpoint,
                settings.s3_use_tls,
            ],
        )
    return connection


def attach(
    connection: DuckDBPyConnection, settings: Settings, catalog: str, *, read_only: bool, snapshot: int | None = None
) -> None:
    """Attach one catalog under its own name, at the newest or at a numbered snapshot."""
    if not settings.lake_catalog:
        settings.lake_dir.mkdir(parents=True, exist_ok=True)
    options = attach_options(settings, catalog)
    if read_only:
        options["read_only"] = True
    if snapshot is not None:
        options["snapshot_version"] = snapshot
    rendered = ", ".join(f"{name} {_literal(value)}" for name, value in options.items())
    connection.execute(f"attach {_literal(catalog_path(settings, catalog))} as {catalog} ({rendered})")
    if settings.lake_catalog and not read_only:
        connection.execute("set ducklake_max_retry_count = 100")


@contextmanager
def read_lake(
    settings: Settings, catalogs: tuple[str, ...] = CATALOGS, snapshots: SnapshotNumbers = SnapshotNumbers()
) -> Iterator[DuckDBPyConnection]:
    """A read-only connection to the named catalogs, each at its number in ``snapshots`` or the newest."""
    connection = connect(settings)
    try:
        for catalog in catalogs:
            attach(connection, settings, catalog, read_only=True, snapshot=snapshots.of(catalog))
        yield connection
    finally:
        connection.close()


@contextmanager
def write_lake(settings: Settings, catalogs: tuple[str, ...] = ("clinical",)) -> Iterator[DuckDBPyConnection]:
    """A writing connection. Errors: `LakeBusyError` when another writer does not finish within the time-out."""
    with writer_lock(settings), locked_lake(settings, catalogs) as connection:
        yield connection


@contextmanager
def locked_lake(settings: Settings, catalogs: tuple[str, ...] = ("clinical",)) -> Iterator[DuckDBPyConnection]:
    """A writing connection for whoever holds `writer_lock` already, to do something else while this one opens."""
    connection = connect(settings)
    try:
        for catalog in catalogs:
            attach(connection, settings, catalog, read_only=False)
        yield connection
    finally:
        connection.close()


@contextmanager
def writer_lock(settings: Settings) -> Iterator[None]:
    """Hold the one-writer lock of an embedded lake; a Postgres catalog needs none. Freed when the process dies."""
    if settings.lake_catalog:
        yield
        return
    settings.lake_dir.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + settings.lake_lock_timeout_seconds
    with open(settings.lake_dir / "writer.lock", "a+") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LakeBusyError(
                        f"another process has been writing the lake for {settings.lake_lock_timeout_seconds:.0f} s; "
                        "wait for it, or raise CUFF_LAKE_LOCK_TIMEOUT_SECONDS"
                    ) from None
                time.sleep(0.1)
        yield


def current_snapshots(settings: Settings) -> SnapshotNumbers:
    """The newest snapshot number of each catalog (creating an empty catalog where there is none)."""
    connection = connect(settings)
    try:
        numbers = []
        for catalog in CATALOGS:
            attach(connection, settings, catalog, read_only=False)
            row = connection.execute(f"select max(snapshot_id) from ducklake_snapshots('{catalog}')").fetchone()
            numbers.append(int(row[0]) if row else 0)
        return SnapshotNumbers(*numbers)
    finally:
        connection.close()


def _literal(value: object) -> str:
    if isinstance(value, bool | int):
        return str(value).lower()
    return "'" + str(value).replace("'", "''") + "'"
