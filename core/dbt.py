"""How dbt is called, by the command line and by Airflow alike: the environment, the variables, one process."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from core.errors import BuildError
from core.lake import attach_options, catalog_path, connect, install_extensions, writer_lock
from core.settings import PROJECT_ROOT, Settings
from core.store import Build

DBT_PROJECT_DIR = PROJECT_ROOT / "dbt_project"


def dbt_environment(settings: Settings) -> dict[str, str]:
    """Environment variables that ``dbt_project/profiles.yml`` reads, and telemetry off."""
    environment = {
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_TARGET_PATH": str(settings.var / "dbt" / "target"),
        "DBT_LOG_PATH": str(settings.var / "dbt" / "logs"),
        "CUFF_DBT_THREADS": "4" if settings.lake_catalog else "1",
        "CUFF_DBT_MEMORY_LIMIT": settings.duckdb_memory_limit,
        "CUFF_DBT_DUCKDB_THREADS": str(settings.duckdb_threads),
        "CUFF_DBT_SPILL": str(settings.var / "tmp" / "duckdb"),
    }
    for catalog in ("clinical", "analytics"):
        environment[f"CUFF_DBT_{catalog.upper()}"] = catalog_path(settings, catalog)
        environment[f"CUFF_DBT_{catalog.upper()}_DATA"] = str(attach_options(settings, catalog)["data_path"])
    return environment


def dbt_vars(build: Build) -> dict[str, Any]:
    """The variables of one build: what it holds, and as of which day."""
    return {
        "as_of": build.as_of.isoformat(),
        "build_id": build.build_id,
        "since_batch_id": build.since_batch_id,
        "through_batch_id": build.through_batch_id,
    }


def run_dbt(settings: Settings, command: str, build: Build, *arguments: str) -> None:
    """Run one dbt command in this process, holding the lake's writer lock.

    Errors: `BuildError` naming the nodes that failed and where the log lies.
    """
    from dbt.cli.main import dbtRunner

    install_extensions()
    connect(settings).close()  # makes the spill folder
    os.environ.update(dbt_environment(settings))
    with writer_lock(settings):
        result = dbtRunner().invoke(
            [
                command,
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


def manifest_hash(settings: Settings) -> str | None:
    """SHA-256 over the checksums of every model and seed: changes when, and only when, the SQL or a seed does."""
    manifest = settings.var / "dbt" / "target" / "manifest.json"
    if not manifest.exists():
        return None
    nodes = json.loads(Path(manifest).read_text())["nodes"]
    parts = sorted(f"{name}:{node['checksum']['checksum']}" for name, node in nodes.items() if node.get("checksum"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
