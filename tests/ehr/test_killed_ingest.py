"""kill -9 at any moment of an ingest, then a run to the end: nothing is lost, nothing is doubled, the ledger balances."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from core.settings import PROJECT_ROOT, Settings
from core.store import Batch, LedgerEntry, Payload, Quarantine, store_session
from ehr.archive import read_archived
from ehr.ledger import ledger_totals
from tests.conftest import make_settings
from tests.ehr.landed import query

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "killed_ingest.py"
STEPS = [
    "after ehr.intake:archive_file",
    "after ehr.ingest:register",
    "after ehr.fhir.parse:FhirReader.read",
    "after ehr.batch:keep_identities",
    "after ehr.batch:BatchRun._note_quarantine",
    "after ehr.landing:insert_landings",
    "before ehr.ingest:write_down",
    "after ehr.ingest:write_down",
]
RANDOM_KILLS = 8


def write_delivery(folder: Path) -> None:
    """Five formats' worth of a small hospital, with refusals and a repeated file."""
    folder.mkdir()
    patients = [{"resourceType": "Patient", "id": f"p{n}", "gender": "female", "birthDate": "1960-01-01",
                 "link": [{"other": {"reference": "Patient/p0"}, "type": "replaced-by"}]} for n in range(20)]  # fmt: skip
    readings = [{"resourceType": "Observation", "id": f"o{n}", "status": "final", "effectiveDateTime": "2024-01-01",
                 "subject": {"reference": f"Patient/p{n % 20}"}, "code": {"coding": [{"code": "8480-6"}]},
                 "valueQuantity": {"value": 100 + n % 60}} for n in range(400)]  # fmt: skip
    lines = [json.dumps(resource) for resource in readings]
    (folder / "readings.ndjson").write_text("\n".join(lines))
    (folder / "damaged.ndjson").write_text("\n".join([*lines[:5], "{broken", '{"id": "x"}', lines[390]]))
    for name in ("people.json", "people again.json"):
        entries = [{"resource": resource} for resource in (*patients, *readings[:3])]
        (folder / name).write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}))
    (folder / "table.csv").write_text("no,value\n")
    message = "MSH|^~\\&|A|B|C|D|20240101||ADT^A04|m{n}|P|2.5\rPID|1||{n}^^^B^MR||X^Y||19600101|F\r"
    (folder / "messages.hl7").write_text("".join(message.format(n=n) for n in range(30)))


def start(var: Path, folder: Path, *step: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.Popen([sys.executable, str(SCRIPT), str(var), str(folder), *step], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def finish(var: Path, folder: Path) -> None:
    process = start(var, folder)
    _out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]


def landed(settings: Settings) -> dict[str, list[tuple[str, ...]]]:
    """Sorted rows of every table, without what differs from run to run: batch, clock, and which twin came first."""
    in_raw = "select table_name from duckdb_tables() where database_name = 'clinical' and schema_name = 'raw'"
    tables = [row[0] for row in query(settings, in_raw)]
    found: dict[str, list[tuple[str, ...]]] = {}
    for table in tables:
        volatile = {"landings": "batch_id, landed_at, received_at"}.get(table, "batch_id, landed_at, known_at")
        found[table] = sorted(query(
            settings, f"select md5(cast(t as varchar)) from (select * exclude ({volatile}) from clinical.raw.{table}) as t"
        ))  # fmt: skip
    return found


def booked(settings: Settings) -> dict[str, list[tuple[object, ...]]]:
    """Ledger, quarantine and payload states; a file may have been delivered once more than on a day without kills."""
    with store_session(settings) as session:
        ledger = [
            (e.payload_id, e.unit, e.type, e.received, e.accepted, e.duplicate, e.ignored, e.quarantined)
            for e in session.scalars(select(LedgerEntry))
            if not (e.unit == "file" and e.duplicate)
        ]
        quarantine = [(q.quarantine_id, q.reason_code) for q in session.scalars(select(Quarantine))]
        payloads = [(p.payload_id, p.state) for p in session.scalars(select(Payload))]
    return {"ledger": sorted(ledger), "quarantine": sorted(quarantine), "payloads": sorted(payloads)}


def assert_as_undisturbed(settings: Settings, undisturbed: Settings) -> None:
    assert landed(settings) == landed(undisturbed)
    assert booked(settings) == booked(undisturbed)
    assert all(line.balances for line in ledger_totals(settings))
    with store_session(settings) as session:
        for payload in session.scalars(select(Payload)):
            assert sum(map(len, read_archived(settings, payload.archive_name, payload.payload_id))) == payload.size_bytes
        landed_batches = {row[0] for row in query(settings, "select distinct batch_id from clinical.raw.landings")}
        finished = set(session.scalars(select(Batch.batch_id).where(Batch.finished_at.is_not(None))))
    assert landed_batches <= finished, "a build must see every landed batch"
    assert not list(settings.archive_dir.glob("*.partial"))


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "delivery"
    write_delivery(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, delivery: Path) -> Settings:
    settings = make_settings(tmp_path_factory.mktemp("undisturbed") / "var")
    finish(settings.var, delivery)
    assert query(settings, "select count(*) from clinical.raw.fhir_observations") == [(400,)]
    return settings


@pytest.mark.parametrize("step", STEPS)
def test_killed_around_a_step(tmp_path: Path, delivery: Path, undisturbed: Settings, step: str) -> None:
    settings = make_settings(tmp_path / "var")
    process = start(settings.var, delivery, *step.split(" "))
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, "the step must be reached"
    finish(settings.var, delivery)
    assert_as_undisturbed(settings, undisturbed)


def test_killed_again_and_again_at_random(tmp_path: Path, delivery: Path, undisturbed: Settings) -> None:
    settings = make_settings(tmp_path / "var")
    started = time.monotonic()
    finish(tmp_path / "timing", delivery)
    usual_seconds = time.monotonic() - started
    chance = random.Random(7306)
    for _ in range(RANDOM_KILLS):
        process = start(settings.var, delivery)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, usual_seconds))
        process.kill()
        process.communicate(timeout=60)
    finish(settings.var, delivery)
    assert_as_undisturbed(settings, undisturbed)
