"""Extracts that nobody here wrote, all folders in one house: the ledger balances, and every reading reaches the marts."""

import hashlib
import hmac
import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import pytest

from core.settings import PROJECT_ROOT, Settings
from ehr.ledger import ledger_totals
from tests.conftest import make_settings
from tests.pipeline.house import cuff, query

SHARED_DATA = PROJECT_ROOT.parent / "shared" / "data"
PANELS, SYSTOLIC, DIASTOLIC = {"85354-9", "55284-4"}, "8480-6", "8462-4"
Reading = tuple[datetime, float, float]  # minute, systolic, diastolic
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED_DATA.exists(), reason="../shared/data is not here"),
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = make_settings(tmp_path_factory.mktemp("shared") / "var")
    folders = sorted(str(folder) for folder in SHARED_DATA.iterdir() if folder.is_dir())
    assert json.loads(cuff(settings, "ingest", *folders, "--json"))["balanced"]
    cuff(settings, "build")
    return settings


@pytest.fixture(scope="module")
def resources() -> list[dict[str, Any]]:
    """Every resource of the FHIR folders, ``urn:uuid`` references resolved within their bundle."""
    found = [json.loads(line) for path in sorted((SHARED_DATA / "fhir_ndjson").iterdir()) for line in path.open()]
    for path in sorted((SHARED_DATA / "fhir_bundles").iterdir()):
        entries = json.loads(path.read_text())["entry"]
        ids = {entry["fullUrl"]: entry["resource"]["id"] for entry in entries}
        for entry in entries:
            subject = entry["resource"].get("subject", {})
            if subject.get("reference") in ids:
                subject["reference"] = "Patient/" + ids[subject["reference"]]
            found.append(entry["resource"])
    return found


def readings_of(resources: list[dict[str, Any]]) -> dict[str, set[Reading]]:
    """Blood pressures by the patient's logical id, read as plainly as JSON allows."""
    found = defaultdict(set)
    for resource in resources:
        if resource["resourceType"] == "Observation" and _codes(resource) & PANELS:
            values = {code: part["valueQuantity"]["value"] for part in resource["component"] for code in _codes(part)}
            taken = datetime.fromisoformat(resource["effectiveDateTime"]).astimezone(UTC).replace(second=0, microsecond=0)
            reading = (taken, float(values[SYSTOLIC]), float(values[DIASTOLIC]))
            found[resource["subject"]["reference"].removeprefix("Patient/")].add(reading)
    return dict(found)


def _codes(told: dict[str, Any]) -> set[str]:
    return {coding["code"] for coding in told["code"]["coding"]}


def person_key(logical_id: str) -> str:
    """The contract's pseudonym, worked out anew: 128 bits of HMAC-SHA-256 over kind, namespace and value."""
    said = f"person|default:fhir|{logical_id}".encode()
    return hmac.new(b"0123456789abcdef0123456789abcdef", said, hashlib.sha256).hexdigest()[:32]


def test_every_folder_is_taken_in_and_the_ledger_balances(house: Settings) -> None:
    lines = ledger_totals(house)
    files = sum(1 for path in SHARED_DATA.rglob("*") if path.is_file() and path.parent != SHARED_DATA)
    assert sum(line.received for line in lines if line.unit == "file") == files
    assert all(line.balances for line in lines)
    assert {line.unit for line in lines} == {"file", "resource", "message"}


def test_every_blood_pressure_of_every_patient_reaches_the_mart(house: Settings, resources: list[dict[str, Any]]) -> None:
    sent = {person_key(logical_id): readings for logical_id, readings in readings_of(resources).items()}
    assert sum(map(len, sent.values())) > 200, "the folders must hold readings for this to mean anything"
    arrived: dict[str, list[Reading]] = defaultdict(list)
    for key, taken, *values in query(
        house,
        "select person_key, date_trunc('minute', event_at), systolic_mmhg, diastolic_mmhg "
        "from clinical.core.fct_blood_pressure inner join clinical.intermediate.int_persons__resolved using (patient_key) "
        "where person_key in (select unnest($1))",
        list(sent),
    ):
        arrived[key].append((taken, *values))
    assert {key: len(rows) for key, rows in arrived.items()} == {key: len(rows) for key, rows in sent.items()}
    for key, readings in sent.items():
        for (taken, *values), (sent_taken, *sent_values) in zip(sorted(arrived[key]), sorted(readings), strict=True):
            assert taken == sent_taken
            assert values == pytest.approx(sent_values, abs=0.0501)  # mmHg keep one decimal


def test_every_patient_is_in_the_dimension_with_the_sex_that_was_sent(house: Settings, resources: list[dict[str, Any]]) -> None:
    sent = {person_key(each["id"]): each["gender"] for each in resources if each["resourceType"] == "Patient"}
    kept = dict(query(house, "select person_key, sex from clinical.core.dim_patients inner join "
                             "clinical.intermediate.int_persons__resolved using (patient_key)"))  # fmt: skip
    assert len(sent) > 20
    assert {key: kept.get(key) for key in sent} == sent
