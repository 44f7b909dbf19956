"""Units, statuses and classes are words of a known list; a unit that is none of them is not a missing one."""

import csv
import json

import pytest

from core.settings import PROJECT_ROOT
from ehr.units import DROPPED_UNIT, is_of_unit_words
from tests.ehr.fhir.reading import open_landing_tables, read_fhir


def test_every_unit_that_is_converted_may_pass() -> None:
    with (PROJECT_ROOT / "dbt_project" / "seeds" / "unit_conversions.csv").open() as file:
        units = {row[name] for row in csv.DictReader(file) for name in ("unit", "canonical_unit")} - {"none"}
    assert len(units) > 20
    assert [unit for unit in units if not is_of_unit_words(unit)] == []


@pytest.mark.parametrize(
    ("quantity", "unit", "flag"),
    [
        ({"unit": "mmHg", "code": "mm[Hg]"}, "mm[Hg]", None),
        ({"unit": "mm Hg"}, "mm Hg", None),
        ({"unit": "pounds", "code": "Schmidt"}, "pounds", None),
        ({"unit": "Schmidt"}, DROPPED_UNIT, "unit_dropped"),
        ({"unit": "pounds, by his wife Ann"}, DROPPED_UNIT, "unit_dropped"),
        ({"unit": " "}, None, "no_unit"),
        ({}, None, "no_unit"),
    ],
)
def test_a_unit_passes_or_is_marked_as_dropped(quantity: dict, unit: str | None, flag: str | None) -> None:
    lines = [
        {"resourceType": "Patient", "id": "p"},
        {"resourceType": "Observation", "id": "o", "status": "schmidt", "subject": {"reference": "Patient/p"},
         "effectiveDateTime": "2024-01-01T10:00:00Z", "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
         "valueQuantity": {"value": 180.0} | quantity},
        {"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "SCHMIDT"},
         "subject": {"reference": "Patient/p"}, "period": {"start": "2024-01-01T10:00:00Z"}},
    ]
    found = read_fhir(open_landing_tables(), "\n".join(map(json.dumps, lines)).encode())
    (row,) = found.rows["fhir_observations"]
    assert (row["value_unit"], row["status"]) == (unit, None)
    assert {each for each in row["flags"] if "unit" in each} == ({flag} if flag else set())
    assert [visit["class_code"] for visit in found.rows["fhir_encounters"]] == [None]


def test_an_answer_is_of_a_published_code_system() -> None:
    def asked(number: int, system: str) -> dict:
        return {"resourceType": "Observation", "id": f"o{number}", "status": "final", "subject": {"reference": "Patient/p"},
                "effectiveDateTime": f"2024-01-0{number}T10:00:00Z",
                "code": {"coding": [{"system": "http://loinc.org", "code": "72166-2"}]},
                "valueCodeableConcept": {"coding": [{"system": system, "code": "8517006"}]}}

    lines = [{"resourceType": "Patient", "id": "p"}, asked(1, "http://snomed.info/sct"), asked(2, "urn:telephone")]
    found = read_fhir(open_landing_tables(), "\n".join(map(json.dumps, lines)).encode())
    rows = sorted(found.rows["fhir_observations"], key=lambda row: row["event_at"])
    assert [len(row["value_codings"] or []) for row in rows] == [1, 0]
