"""Planted people: a name, a number, an address or a phone number of an extract appears nowhere but in sealed bytes."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from core.settings import Settings
from core.store import Quarantine, store_session
from ehr.fhir.allow_list import HANDLED_TYPES, declared_fields
from ehr.ingest import ingest
from ehr.landing import HL7_TABLES
from ehr.quarantine import list_quarantine
from ehr.replay import replay
from tests.ehr.landed import query

CANARIES = ("Quillfeather", "Zephyrine", "4471180934", "Larkspur Crescent", "0155501987", "quill@feather.example")
NOTE = "Zephyrine Quillfeather, MRN 4471180934, 9 Larkspur Crescent, call 0155501987, quill@feather.example"


def planted(resource_type: str, number: int) -> dict[str, Any]:
    """A resource with the note in every field of the allow-list that is not needed to land it, and in others."""
    coding = {"system": "http://loinc.org", "code": "8480-6", "display": NOTE}
    concept = {"coding": [coding, {"system": NOTE, "code": NOTE}], "text": NOTE}
    resource: dict[str, Any] = {name: NOTE for name, kind in declared_fields().items() if kind in ("VARCHAR", "JSON")}
    resource |= {
        "resourceType": resource_type, "id": f"c{number}", "meta": {"lastUpdated": "2024-03-05T10:00:00Z"}, "code": concept,
        "subject": {"reference": "Patient/4471180934", "display": NOTE}, "effectiveDateTime": "2024-03-05",
        "component": [{"code": concept, "valueString": NOTE, "valueQuantity": {"value": 1, "unit": NOTE, "code": NOTE}}],
        "valueQuantity": {"value": 141, "unit": NOTE, "code": NOTE}, "note": [{"text": NOTE}], "text": {"div": NOTE},
        "medicationCodeableConcept": concept, "valueCodeableConcept": concept, "encounter": {"reference": "Encounter/1"},
        "extension": [{"url": "urn:x", "valueString": NOTE}], "performer": [{"display": NOTE}],
        "name": [{"family": "Quillfeather", "given": ["Zephyrine"]}], "address": [{"line": ["9 Larkspur Crescent"]}],
        "telecom": [{"value": "0155501987"}, {"value": "quill@feather.example"}],
        "identifier": [{"type": {"coding": [{"code": "MR"}]}, "system": "urn:oid:2.999.7", "value": "4471180934"}],
        "onsetDateTime": "2024", "recordedDate": "2024", "abatementDateTime": "2025", "authoredOn": "2024", "issued": "2024",
        "birthDate": "1961", "deceasedDateTime": "2025", "dateAsserted": "2024", "period": {"start": "2024", "display": NOTE},
        "medicationReference": {"reference": "Medication/1", "display": NOTE}, "contained": [{"id": NOTE, "code": concept}],
    }  # fmt: skip
    return resource


def write_delivery(folder: Path) -> None:
    folder.mkdir()
    whole = [planted(kind, number) for number, kind in enumerate([*HANDLED_TYPES, "Procedure", NOTE])]
    spoilt = [planted(kind, number + 50) | {"effectiveDateTime": NOTE, "onsetDateTime": NOTE, "birthDate": NOTE}
              for number, kind in enumerate(HANDLED_TYPES)]  # fmt: skip
    astray = [planted(kind, number + 80) | {"subject": {"reference": f"Patient?name={NOTE}"}, "component": NOTE}
              for number, kind in enumerate(HANDLED_TYPES)]  # fmt: skip
    lines = [json.dumps(resource) for resource in (*whole, *spoilt, *astray)]
    (folder / "Quillfeather_Zephyrine_4471180934.ndjson").write_text("\n".join(lines))
    broken = [json.dumps(planted("Observation", 99))[:-40], NOTE, json.dumps(NOTE), json.dumps({NOTE: NOTE})]
    (folder / "broken.ndjson").write_text("\n".join([lines[0], *broken]))
    entries = [{"fullUrl": NOTE, "resource": planted("Observation", 200), "request": {"method": NOTE, "url": NOTE}},
               {"request": {"method": "DELETE", "url": f"Patient/{NOTE}"}},
               {"request": {"method": "DELETE", "url": "Patient/4471180934"}}]  # fmt: skip
    (folder / "bundle.json").write_text(json.dumps({"resourceType": "Bundle", "type": NOTE, "entry": entries}))
    segments = [
        "MSH|^~\\&|LAB|CLINIC|CUFF|CUFF|20240305100000||ORU^R01|m1|P|2.5",
        "PID|1||4471180934^^^CLINIC^MR||Quillfeather^Zephyrine||19610714|F|||9 Larkspur Crescent^^Town||0155501987",
        f"OBR|1|||8480-6^{NOTE}^LN|||20240305100000|||||||||Quillfeather^Zephyrine",
        f"OBX|1|NM|8480-6^{NOTE}^LN||141|{NOTE}|||||F|||20240305100000",
        f"OBX|2|ST|8480-6^Systolic^LN||{NOTE}||||||F|||20240305100000",
        f"NTE|1||{NOTE}",
    ]
    (folder / "Quillfeather.hl7").write_text("\r".join(segments) + "\r")
    (folder / "0155501987.csv").write_text(NOTE)


def assert_clean(where: str, text: str) -> None:
    found = [canary for canary in CANARIES if canary.lower() in text.lower()]
    assert not found, f"{len(found)} planted values in {where}"


def test_planted_people_appear_nowhere(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    write_delivery(tmp_path / "delivery")
    summary = ingest(settings, [tmp_path / "delivery"])
    assert summary.balanced
    replay(settings)
    in_raw = "select table_name from duckdb_tables() where database_name = 'clinical' and schema_name = 'raw'"
    tables = [row[0] for row in query(settings, in_raw)]
    assert set(HALF_DOZEN) <= set(tables)
    landed = {table: query(settings, f"select cast(t as varchar) from clinical.raw.{table} as t") for table in tables}
    assert all(landed[table] for table in HALF_DOZEN), "the planted resources must land for this test to mean anything"
    for table, rows in landed.items():
        assert_clean(f"raw.{table}", "\n".join(row[0] for row in rows))
    assert_clean("the summary", str(summary))
    assert_clean("the quarantine", "\n".join(str(vars(row)) for row in list_quarantine(settings)))
    with store_session(settings) as session:
        assert session.scalars(select(Quarantine)).all()
    for path in settings.var.rglob("*"):
        assert_clean("a path under var/", str(path.relative_to(settings.var)))
        if path.is_file():
            assert_clean(path.suffix or path.name, path.read_bytes().decode("latin-1"))
    assert_clean("the log", caplog.text)
    assert_clean("standard output and error", "".join(capfd.readouterr()))


HALF_DOZEN = ("fhir_patients", "fhir_encounters", "fhir_observations", "fhir_conditions", "fhir_medications",
              "fhir_medication_codes", "person_links", "hl7v2_messages", *HL7_TABLES[:1], "hl7v2_observations")  # fmt: skip
