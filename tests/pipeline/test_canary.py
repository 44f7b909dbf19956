"""Planted people go all the way, from extracts to a model and its verdicts, and can be read nowhere on the way."""

import gzip
import hashlib
import hmac
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from core.lake import CATALOGS, write_lake
from core.settings import Settings
from ehr.quarantine import count_by_reason
from tests.pipeline.conftest import Hospital
from tests.pipeline.house import finish, query, start
from tests.pipeline.planted import PEOPLE, SECRETS, VISITS
from tests.pipeline.search import files_below, found_in, lake_tables

pytestmark = pytest.mark.slow
AFTER_BUILD = Path(__file__).parent / "after_build.py"
WORD = "Ravenquist"


@pytest.fixture(scope="module")
def printed(hospital: Hospital) -> Path:
    """Everything that was printed or logged by a night that went on after its build."""
    program = f"import runpy; runpy.run_path({str(AFTER_BUILD)!r}, run_name='__main__')"
    finish(start(hospital.house, program, printed=hospital.printed), hospital.printed)
    return hospital.printed


def person_keys() -> list[str]:
    said = [f"person|simulated:fhir|{who.fhir_id}" if who.fhir_id else f"person|SIMHOSP-MRN|{who.mrn}" for who in PEOPLE]
    secret = b"0123456789abcdef0123456789abcdef"
    return [hmac.new(secret, each.encode(), hashlib.sha256).hexdigest()[:32] for each in said]


def test_the_planted_people_went_all_the_way(hospital: Hospital, printed: Path) -> None:
    """Otherwise it would prove nothing that they cannot be found."""
    patients = "select patient_key from clinical.intermediate.int_persons__resolved where person_key in (select unnest($1))"
    readings = query(hospital.house, f"select count(*) from clinical.core.fct_blood_pressure where patient_key in ({patients})",
                     person_keys())  # fmt: skip
    assert readings == [(len(PEOPLE) * VISITS,)]
    with_features = "select count(distinct patient_key) from clinical.ml.patient_features where is_eligible and "
    assert query(hospital.house, f"{with_features} patient_key in ({patients})", person_keys()) == [(len(PEOPLE),)]
    reasons = {reason for _source, _type, reason, _number in count_by_reason(hospital.house)}
    assert len(reasons) >= 5, reasons
    assert "DEBUG" in printed.read_text(errors="replace")
    assert list(hospital.house.reports_dir.rglob("evidently.html")), "the last verdict must have had something to compare"


def test_no_planted_value_can_be_read_below_var(hospital: Hospital, printed: Path) -> None:
    texts = list(files_below(hospital.house.var))
    searched = {where.split("/")[0] for where, _text in texts}
    assert {"archive", "dbt", "features", "lake", "mlflow", "ops.db", "reports", "vault.db"} <= searched
    assert found_in(texts, SECRETS) == {}


def test_no_planted_value_stands_in_the_lake_or_in_any_log(hospital: Hospital, printed: Path) -> None:
    tables = dict(lake_tables(hospital.house))
    scored = tables['"clinical"."scores"."predictions"'].decode()
    assert any(key in scored for key in person_keys()), "somebody planted must have been scored"
    assert found_in(tables.items(), SECRETS) == {}
    assert found_in([("printed and logged", printed.read_bytes())], SECRETS) == {}


def test_the_search_sees_into_every_kind_of_file(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "a.gz").write_bytes(gzip.compress(f"{WORD} {'x' * 500}".encode()))
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("inner.txt", WORD)
    with duckdb.connect() as connection:
        connection.sql(f"copy (select '{WORD}' as name) to '{folder / 'a.parquet'}' (compression zstd)")
    with closing(sqlite3.connect(folder / "a.db")) as database:
        database.execute("create table t (name text)")
        database.execute("insert into t values (?)", ["y" * 6000 + WORD.upper()])
        database.commit()
    (folder / f"{WORD}.html").write_text("")
    with write_lake(settings, CATALOGS) as lake:
        lake.execute(f"create table clinical.main.t as from (values ('A'), ('{WORD}'), ('Z')) as t (name)")
    seen = found_in(files_below(folder), [WORD])
    assert {where.partition(",")[0] for where in seen} >= {"a.gz", "a.zip", "a.parquet", "a.db", f"path {WORD}.html"}
    assert found_in(lake_tables(settings), [WORD]) == {'"clinical"."main"."t"': 1}
    assert found_in(files_below(settings.var), [WORD]) == {}
