"""How dbt is called, by the command line and by Airflow alike: the environment, the variables, one process."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import BuildError
from core.lake import CATALOGS, attach_options, catalog_path, connect, install_extensions, writer_lock
from core.publication import note_manifest, rows_made_by
from core.settings import PROJECT_ROOT, Settings
from core.store import Build

DBT_PROJECT_DIR = PROJECT_ROOT / "dbt_project"
_PARSE_AND_DOCUMENT = """
import sys
from dbt.cli.main import dbtRunner
for command in (["parse"], ["docs", "generate", "--static", "--empty-catalog", "--no-compile"]):
    if not dbtRunner().invoke(["--quiet", *command, *sys.argv[1:]]).success:
        sys.exit(1)
"""
_ROW_FOLDERS = ("models", "macros", "seeds")  # what rows are made by; not tests, descriptions or profiles


def dbt_environment(settings: Settings) -> dict[str, str]:
    """Environment variables that ``dbt_project/profiles.yml`` reads, and telemetry off."""
    environment = {
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_TARGET_PATH": str(settings.var / "dbt" / "target"),
        "DBT_LOG_PATH": str(settings.var / "dbt" / "logs"),
        # One, on Postgres too: schemas made by several threads at once left views that name a schema never committed.
        "CUFF_DBT_THREADS": "1",
        "CUFF_DBT_MEMORY_LIMIT": settings.duckdb_memory_limit,
        "CUFF_DBT_DUCKDB_THREADS": str(settings.duckdb_threads),
        "CUFF_DBT_SCANNER": "postgres_scanner" if settings.lake_catalog else "sqlite_scanner",
        "CUFF_DBT_SPILL": str(settings.var / "tmp" / "duckdb"),
        "CUFF_DBT_CATALOG_EXTENSION": "postgres_scanner" if settings.lake_catalog else "sqlite_scanner",
        # dbt keeps values under this prefix out of its logs.
        "DBT_ENV_SECRET_CUFF_S3_KEY": settings.s3_access_key.get_secret_value(),
        "DBT_ENV_SECRET_CUFF_S3_SECRET": settings.s3_secret_key.get_secret_value(),
        "CUFF_DBT_S3_ENDPOINT": settings.s3_endpoint,
        "CUFF_DBT_S3_USE_TLS": str(settings.s3_use_tls).lower(),
    }
    for catalog in CATALOGS:
        options = attach_options(settings, catalog)
        environment[f"CUFF_DBT_{catalog.upper()}"] = catalog_path(settings, catalog)
        environment[f"CUFF_DBT_{catalog.upper()}_DATA"] = str(options["data_path"])
        # dbt leaves out the option whose variable says 'None'.
        environment[f"CUFF_DBT_{catalog.upper()}_SCHEMA"] = str(options.get("metadata_schema"))
        environment["CUFF_DBT_META_JOURNAL_MODE"] = str(options.get("meta_journal_mode"))
        environment["CUFF_DBT_META_BUSY_TIMEOUT"] = str(options.get("meta_busy_timeout"))
        environment["CUFF_DBT_OVERRIDE_DATA_PATH"] = str(options.get("override_data_path"))
    return environment


def dbt_vars(build: Build) -> dict[str, Any]:
    """The variables of one build: what it holds, and as of which day."""
    return {
        "as_of": build.as_of.isoformat(),
        "build_id": build.build_id,
        "since_batch_id": build.since_batch_id,
        "through_batch_id": build.through_batch_id,
    }


def run_dbt(settings: Settings, command: str, build: Build, *arguments: str,
            on_node: Callable[[str, str], None] | None = None) -> None:
    """Run one dbt command (``build``, ``docs generate``) in this process, holding the lake's writer lock.

    A ``build`` leaves the unit tests to ``dbt test``, and makes every table anew when `needs_full_refresh` says so.
    ``on_node`` is told (unique_id, state) whenever a node ends, from dbt's own threads. Errors: `BuildError` naming the
    nodes that failed and where the log lies.
    """
    from dbt.cli.main import dbtRunner

    def tell(event: Any) -> None:
        if on_node and event.info.name == "NodeFinished":
            on_node(event.data.node_info.unique_id, event.data.node_info.node_status)

    if command == "build":
        arguments += ("--exclude-resource-type", "unit_test")
        if "--full-refresh" not in arguments and needs_full_refresh(settings):
            arguments += ("--full-refresh",)
        note_manifest(settings, build.build_id, manifest_hash(settings))
    install_extensions()
    connect(settings).close()  # makes the spill folder
    os.environ.update(dbt_environment(settings))
    with writer_lock(settings):
        result = dbtRunner(callbacks=[tell]).invoke(
            [
                *command.split(),
                "--project-dir",
                str(DBT_PROJECT_DIR),
                "--profiles-dir",
                str(DBT_PROJECT_DIR),
                "--vars",
                json.dumps(dbt_vars(build)),
                *arguments,
            ]
        )
    if not result.success:
        failed = [r.node.name for r in getattr(result.result, "results", []) if r.status in ("error", "fail")]
        what = ", ".join(failed) or type(result.exception).__name__
        raise BuildError(f"dbt {command} failed at {what}; see {settings.var / 'dbt' / 'logs' / 'dbt.log'}")


def manifest_hash(_settings: Settings) -> str:
    """SHA-256 over the project's SQL, macros and seeds: changes when, and only when, one of them does."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in _ROW_FOLDERS for path in (DBT_PROJECT_DIR / folder).rglob("*")):
        if path.suffix in (".sql", ".csv"):
            digest.update(f"{path.relative_to(DBT_PROJECT_DIR).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def needs_full_refresh(settings: Settings) -> bool:
    """Whether rows in the tables may come from other SQL or seeds than today's, so that every row is to be made anew.

    Not only the published build's: one that a gate stopped has left its rows in the tables, and SQL that was taken back
    after it is the published one again.
    """
    return bool(rows_made_by(settings) - {manifest_hash(settings)})


def airflow_manifest(settings: Settings) -> Path:
    """The manifest that DAGs are drawn from: a copy, so that no DAG is parsed while dbt rewrites its own."""
    return settings.var / "dbt" / "manifest.json"


def write_manifest(settings: Settings) -> Path:
    """Write `airflow_manifest`, and dbt's pages under ``reports/dbt``, when the project is newer.

    In a process of its own: dbt is big, and whoever starts the stack lives long. Errors: `BuildError` with its last line.
    """
    manifest = airflow_manifest(settings)
    sources = [path for path in DBT_PROJECT_DIR.rglob("*") if path.is_file() and "target" not in path.parts]
    if manifest.exists() and manifest.stat().st_mtime > max(path.stat().st_mtime for path in sources):
        return manifest
    target, pages = settings.var / "dbt" / "parsed", settings.reports_dir / "dbt"
    for folder in (target, pages):
        folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", _PARSE_AND_DOCUMENT, "--project-dir", str(DBT_PROJECT_DIR),
         "--profiles-dir", str(DBT_PROJECT_DIR)],
        env=os.environ | dbt_environment(settings) | {"DBT_TARGET_PATH": str(target)},
        capture_output=True, text=True, check=False,
    )
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise BuildError(f"dbt cannot parse {DBT_PROJECT_DIR.name}: {' '.join(last)}")
    (target / "static_index.html").replace(pages / "index.html")
    (target / "manifest.json").replace(manifest)
    return manifest
