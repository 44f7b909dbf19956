"""The dbt project as a whole: style, unit tests, documentation, and how dbt is told about the lake."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from core.dbt import dbt_environment, manifest_hash, needs_full_refresh, run_dbt
from core.publication import fail_build, finish_build, note_manifest, publish, roll_back, start_build
from core.settings import PROJECT_ROOT, Settings
from tests.conftest import make_settings
from tests.dbt.landed import build, land, panel, patient


@pytest.mark.slow
def test_sql_keeps_to_the_house_style() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("sqlfluff")), "lint", "--disable-progress-bar",
         "dbt_project/models/staging", "dbt_project/models/intermediate", "dbt_project/models/marts/core"],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
def test_unit_tests_pass_and_docs_are_written(settings: Settings) -> None:
    land(settings, date(2024, 1, 28), {"fhir_patients": [patient("ann")],
                                       "fhir_observations": [panel("ann", "2024-01-10", 120, 80, record="r1")]})
    built = build(settings)
    select = ("--select", "path:models/marts/core,test_type:unit", "path:models/intermediate,test_type:unit", "--quiet")
    run_dbt(settings, "test", built, *select)
    kept = json.loads((settings.var / "dbt" / "target" / "run_results.json").read_text())["results"]
    results = [result for result in kept if result["unique_id"].startswith("unit_test.")]
    assert len(results) >= 3
    assert {result["status"] for result in results} == {"pass"}
    run_dbt(settings, "docs generate", built, "--quiet")
    catalog = json.loads((settings.var / "dbt" / "target" / "catalog.json").read_text())
    assert "model.cuff.fct_blood_pressure" in catalog["nodes"]


def test_an_embedded_lake_gets_wal_and_a_postgres_lake_its_schemas(settings: Settings, tmp_path: Path) -> None:
    embedded = dbt_environment(settings)
    assert embedded["CUFF_DBT_META_JOURNAL_MODE"] == "WAL"
    assert embedded["CUFF_DBT_CLINICAL_SCHEMA"] == "None"
    served = dbt_environment(make_settings(tmp_path, lake_catalog="postgres:host=db dbname=lake"))
    assert served["CUFF_DBT_META_JOURNAL_MODE"] == "None"
    assert served["CUFF_DBT_CLINICAL_SCHEMA"] == "ducklake_clinical"
    assert served["CUFF_DBT_CATALOG_EXTENSION"] == "postgres_scanner"


def test_rows_are_made_anew_only_when_they_were_published_from_other_sql(settings: Settings) -> None:
    assert not needs_full_refresh(settings)
    land(settings, date(2024, 1, 28), {"fhir_patients": [patient("ann")]})
    for hash_of_build, expected in ((None, False), (manifest_hash(settings), False), ("of other SQL", True)):
        build_id = start_build(settings).build_id
        finish_build(settings, build_id, hash_of_build)
        publish(settings, build_id, "test")
        assert needs_full_refresh(settings) is expected


def test_rows_of_a_build_that_was_stopped_are_made_anew_once_its_sql_is_taken_back(settings: Settings) -> None:
    land(settings, date(2024, 1, 28), {"fhir_patients": [patient("ann")]})
    good = start_build(settings)
    run_dbt(settings, "build", good, "--select", "concept_codes", "--quiet")
    finish_build(settings, good.build_id)
    publish(settings, good.build_id, "test")
    assert not needs_full_refresh(settings)
    stopped = start_build(settings)
    note_manifest(settings, stopped.build_id, "of other SQL")
    fail_build(settings, stopped.build_id, "a gate was red")
    assert needs_full_refresh(settings)
    again = start_build(settings)
    run_dbt(settings, "build", again, "--select", "concept_codes", "--quiet")
    finish_build(settings, again.build_id)
    assert needs_full_refresh(settings), "made anew, but not published: half of it may have been"
    publish(settings, again.build_id, "test")
    assert not needs_full_refresh(settings)
    roll_back(settings, good.build_id, "test", "numbers look wrong")
    assert needs_full_refresh(settings), "what came after the build that readers see again may be in the tables"
