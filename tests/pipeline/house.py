"""A house on which the whole chain runs: the command line in processes of its own, copies, and what its marts hold."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from core.lake import attach_options, catalog_path, connect, read_lake
from core.publication import published
from core.settings import PROJECT_ROOT, Settings

MART_SCHEMAS = {"clinical": ("core", "ml"), "analytics": ("analytics",)}
CUFF = "import cuff; cuff.main()"
Rows = list[tuple[Any, ...]]


def environment(settings: Settings) -> dict[str, str]:
    """What a process must be told to live in the same house."""
    return os.environ | {
        "CUFF_VAR": str(settings.var), "PYTHONPATH": str(PROJECT_ROOT), "PYTHONWARNINGS": "ignore",
        "CUFF_PSEUDONYM_SECRET": settings.pseudonym_secret.get_secret_value(),
        "CUFF_VAULT_KEY": settings.vault_key.get_secret_value(),
        "CUFF_ARCHIVE_KEY": settings.archive_key.get_secret_value(),
        "CUFF_TRAINING_SEARCH_SECONDS": str(settings.training_search_seconds),
        "CUFF_BOOTSTRAP_SAMPLES": str(settings.bootstrap_samples),
    }  # fmt: skip


def start(settings: Settings, program: str, *arguments: str, printed: Path) -> subprocess.Popen[bytes]:
    """Run Python text in a process group of its own; what it prints is added to a file."""
    with printed.open("ab") as out:
        return subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=settings.var.parent, stdout=out,
                                stderr=out, env=environment(settings), start_new_session=True)  # fmt: skip


def finish(process: subprocess.Popen[bytes], printed: Path, timeout_seconds: float = 300) -> None:
    """Wait for a process that must succeed."""
    code = process.wait(timeout=timeout_seconds)
    assert code == 0, printed.read_text(errors="replace")[-3000:]


def cuff(settings: Settings, *arguments: str) -> str:
    """Run a command that must succeed and return what it printed."""
    done = subprocess.run([sys.executable, "-c", CUFF, *arguments], cwd=settings.var.parent, capture_output=True,
                          text=True, env=environment(settings), timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def copy_house(settings: Settings, var: Path) -> Settings:
    """A copy of everything under ``var/``, to be changed without harm to the first.

    By another process: to close a file that SQLite has open here would drop the locks that SQLite holds on it.
    """
    subprocess.run(["cp", "-R", str(settings.var), str(var)], check=True)
    return settings.model_copy(update={"var": var})


def query(settings: Settings, sql: str, *parameters: object) -> Rows:
    """Rows of the published marts."""
    with read_lake(settings, snapshots=published(settings).snapshots) as lake:
        return lake.execute(sql, list(parameters)).fetchall()


def mart_counts(settings: Settings) -> dict[str, int]:
    """``catalog.schema.table`` to its number of published rows, of every mart for models and analysts."""
    with read_lake(settings, snapshots=published(settings).snapshots) as lake:
        return {name: lake.sql(f"select count(*) from {name}").fetchall()[0][0] for name in _marts(lake)}


def different_rows(settings: Settings, other: Settings) -> dict[str, int]:
    """Published rows that only one of two houses has, by mart; empty when every mart is the same."""
    with _both(settings, other) as lake:
        marts = {name.replace("one_", "", 1) for name in _marts(lake, "one_")}
        assert marts == {name.replace("other_", "", 1) for name in _marts(lake, "other_")}
        only = {name: lake.sql(f"""
            select count(*) from ((from one_{name} except all from other_{name})
            union all (from other_{name} except all from one_{name}))""").fetchall()[0][0] for name in marts}
    return {name: number for name, number in only.items() if number}


def _marts(lake: DuckDBPyConnection, prefix: str = "") -> list[str]:
    pairs = [(prefix + catalog, schema) for catalog, schemas in MART_SCHEMAS.items() for schema in schemas]
    found = lake.execute("select database_name, schema_name, table_name from duckdb_tables()").fetchall()
    names = [".".join(row) for row in found if tuple(row[:2]) in pairs]
    assert len(names) >= 11, names
    return names


@contextmanager
def _both(*houses: Settings) -> Iterator[DuckDBPyConnection]:
    """The published catalogs of two houses side by side, as ``one_clinical`` … and ``other_clinical`` …"""
    lake = connect(houses[0])
    try:
        for prefix, settings in zip(("one", "other"), houses, strict=True):
            snapshots = published(settings).snapshots
            for catalog in MART_SCHEMAS:
                options = attach_options(settings, catalog) | {"read_only": True, "snapshot_version": snapshots.of(catalog)}
                said = ", ".join(f"{name} {_literal(value)}" for name, value in options.items())
                lake.execute(f"attach '{catalog_path(settings, catalog)}' as {prefix}_{catalog} ({said})")
        yield lake
    finally:
        lake.close()


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool | int) else f"'{value}'"
