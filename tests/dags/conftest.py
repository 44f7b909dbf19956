"""An Airflow that is only parsed: a home of its own, the DAGs as they stand, a small manifest to draw dbt from."""

import json
import os
from pathlib import Path

import pytest

from core.dbt import airflow_manifest
from core.settings import PROJECT_ROOT, load_settings


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Environment of the Airflow under test. Airflow reads it at its first import, so nothing imports it before."""
    home = tmp_path_factory.mktemp("airflow")
    os.environ.update({
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "false",
        "AIRFLOW__COSMOS__ENABLE_TELEMETRY": "false",
        "CUFF_VAR": str(home / "var"),
    })
    manifest = airflow_manifest(load_settings())
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps(small_manifest()))
    return home


def small_manifest() -> dict[str, object]:
    """Two models, one behind the other, as dbt would describe them."""
    def model(name: str, *upstream: str) -> dict[str, object]:
        return {
            "name": name, "unique_id": f"model.cuff.{name}", "resource_type": "model", "package_name": "cuff",
            "original_file_path": f"models/marts/{name}.sql", "path": f"marts/{name}.sql",
            "fqn": ["cuff", "marts", name],
            "depends_on": {"nodes": [f"model.cuff.{each}" for each in upstream]}, "config": {}, "tags": [], "meta": {},
        }

    models = [model("stg_fhir__patients"), model("dim_patients", "stg_fhir__patients")]
    return {"metadata": {}, "nodes": {each["unique_id"]: each for each in models}, "sources": {}, "exposures": {},
            "child_map": {}, "parent_map": {}}
