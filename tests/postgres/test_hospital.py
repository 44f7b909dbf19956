"""A small hospital end to end on Postgres: what lands and what is built is what the embedded databases would hold."""

from datetime import date

import pytest
from sqlalchemy import create_engine, text

from core.dbt import manifest_hash, run_dbt
from core.lake import read_lake
from core.publication import finish_build, get_build, publish, start_build
from ehr.identity import reveal
from ehr.ingest import ingest
from ehr.ledger import ledger_totals
from ehr.simulate import SimulationOptions, simulate_hospital
from tests.conftest import make_settings

pytestmark = pytest.mark.postgres
END = date(2026, 1, 1)


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extract") / "simulated" / "night-1"
    simulate_hospital(folder, SimulationOptions(patients=30, years=2, end=END))
    return folder


@pytest.fixture(scope="module")
def hospital(make_house, extract):
    """A house into which the extract went, and what the run said of it."""
    settings = make_house()
    return settings, ingest(settings, [extract], as_of=END)


def test_the_ledger_balances_and_the_same_files_add_nothing(hospital, extract):
    settings, first = hospital
    assert first.balanced
    assert first.new_payloads == first.files > 0
    accepted = sum(line.accepted for line in first.ledger)
    again = ingest(settings, [extract], as_of=END)
    assert (again.new_payloads, again.duplicate_files, again.balanced) == (0, first.files, True)
    kept = ledger_totals(settings)
    assert all(line.balances for line in kept)
    assert sum(line.accepted for line in kept) == accepted
    assert sum(line.accepted for line in ledger_totals(settings, by_type=False)) == accepted


def test_the_same_rows_land_as_on_sqlite(hospital, extract, tmp_path):
    settings, _ = hospital
    embedded = make_settings(tmp_path / "var")
    ingest(embedded, [extract], as_of=END)
    landed = _landed(settings)
    assert landed == _landed(embedded)
    assert landed["fhir_observations"][0] > 100
    assert landed["hl7v2_observations"][0] > 10


def test_the_vault_reveals_to_its_key_alone(hospital):
    settings, _ = hospital
    with read_lake(settings, ("clinical",)) as lake:
        person_key, = lake.execute("select any_value(person_key) from clinical.raw.fhir_patients").fetchone()
    assert reveal(settings, person_key)
    engine = create_engine(settings.vault_url)
    with engine.connect() as connection:
        sealed = connection.execute(text("select sealed from sealed_identities")).scalars().all()
    engine.dispose()
    assert len(sealed) >= 30
    assert not any(word in bytes(row) for row in sealed for word in (b"family", b"given", b"SIMHOSP"))


@pytest.mark.slow
def test_dbt_builds_the_marts_and_publication_shows_them(hospital):
    settings, _ = hospital
    build = start_build(settings)
    # Unit tests of the models need no catalog; they run with the other dbt tests.
    run_dbt(settings, "build", build, "--quiet", "--exclude-resource-type", "unit_test")
    finish_build(settings, build.build_id, manifest_hash(settings))
    shown = publish(settings, build.build_id, "test")
    assert get_build(settings).state == "published"
    with read_lake(settings, snapshots=shown.snapshots) as lake:
        patients, readings = (
            lake.execute(f"select count(*) from clinical.core.{mart}").fetchone()[0]
            for mart in ("dim_patients", "fct_blood_pressure")
        )
        assert lake.execute(
            "select count(*) from clinical.core.fct_blood_pressure anti join clinical.core.dim_patients using (patient_key)"
        ).fetchone() == (0,)
        tables = lake.execute("select count(*) from duckdb_tables() where database_name = 'analytics'").fetchone()[0]
    assert 25 <= patients <= 31
    assert readings > 100
    assert tables >= 4


def _landed(settings):
    """Rows, records and contents of each landing table; keys are pseudonyms under the same secret in both houses."""
    with read_lake(settings, ("clinical",)) as lake:
        names = [row[0] for row in lake.execute(
            "select table_name from duckdb_columns() where database_name = 'clinical' and schema_name = 'raw' "
            "and column_name = 'content_hash' order by table_name").fetchall()]
        return {
            name: lake.execute(
                f"select count(*), count(distinct record_key), bit_xor(hash(record_key, content_hash)) "
                f"from clinical.raw.{name}").fetchone()
            for name in names
        }
