"""What has to be there before Airflow starts: the ops database, dbt's manifest, the UI's password, the writer's pool.

Run once by the `init` service, after ``airflow db migrate``; safe to repeat.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from core.airflow_environment import USERNAME
from core.dbt import write_manifest
from core.errors import ConfigurationError
from core.settings import Settings, load_settings
from core.stack import LAKE_WRITER_POOL
from core.store import open_store


def main() -> None:
    settings = load_settings()
    open_store(settings)
    make_folders(settings)
    write_manifest(settings)
    write_password(
        Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]),
        os.environ.get("AIRFLOW_ADMIN_PASSWORD", ""),
    )
    name, slots, description = LAKE_WRITER_POOL
    subprocess.run([sys.executable, "-m", "airflow", "pools", "set", name, str(slots), description], check=True)


def make_folders(settings: Settings) -> None:
    """Folders that the pipeline expects to exist. The landing folder is the hospital's, and may be read-only."""
    settings.reports_dir.mkdir(parents=True, exist_ok=True)
    if not settings.extracts_dir.is_dir():
        raise ConfigurationError(f"the landing folder {settings.extracts_dir} is absent; mount one there")


def write_password(path: Path, password: str) -> None:
    """Airflow's simple auth manager reads ``{user: password}`` from this file, mode 600.

    Errors: `ConfigurationError` for an empty password, with which anybody could log in.
    """
    if not password:
        raise ConfigurationError("AIRFLOW_ADMIN_PASSWORD is empty; run `python3 deploy/generate_secrets.py`")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump({USERNAME: password}, out)


if __name__ == "__main__":
    main()
