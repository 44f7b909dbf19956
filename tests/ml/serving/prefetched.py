"""An invented patient as an EHR would prefetch them: four readings over two years, laboratory values, habits."""

from copy import deepcopy
from datetime import UTC, date, datetime
from typing import Any

PATIENT_ID = "invented-1"
NOW = datetime(2026, 2, 1, 9, 30, tzinfo=UTC)
TODAY = date(2026, 2, 1)
LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
Resource = dict[str, Any]


def concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def quantity(value: float, unit: str | None) -> Resource:
    return {"value": value} | ({} if unit is None else {"unit": unit, "system": UCUM, "code": unit})


def observation(loinc: str, at: str, value: float, unit: str | None, **said: Any) -> Resource:
    return {"resourceType": "Observation", "id": f"{loinc}-{at}", "status": "final", "code": concept(LOINC, loinc),
            "subject": {"reference": f"Patient/{PATIENT_ID}"}, "effectiveDateTime": at,
            "valueQuantity": quantity(value, unit)} | said  # fmt: skip


def panel(at: str, systolic: float, diastolic: float, unit: str | None = "mm[Hg]", code: str = "85354-9",
          **said: Any) -> Resource:  # fmt: skip
    made = observation(code, at, 0, unit, **said)
    del made["valueQuantity"]
    return made | {"component": [
        {"code": concept(LOINC, "8480-6"), "valueQuantity": quantity(systolic, unit)},
        {"code": concept(LOINC, "8462-4"), "valueQuantity": quantity(diastolic, unit)},
    ]}  # fmt: skip


def condition(system: str, code: str, onset: str = "2024-05-01", **said: Any) -> Resource:
    return {"resourceType": "Condition", "id": f"{code}-{onset}", "code": concept(system, code), "onsetDateTime": onset,
            "subject": {"reference": f"Patient/{PATIENT_ID}"}} | said  # fmt: skip


def order(code: str, at: str, **said: Any) -> Resource:
    return {"resourceType": "MedicationRequest", "id": f"{code}-{at}", "status": "active", "intent": "order",
            "authoredOn": at, "subject": {"reference": f"Patient/{PATIENT_ID}"},
            "medicationCodeableConcept": concept("http://www.nlm.nih.gov/research/umls/rxnorm", code)} | said  # fmt: skip


def visit(number: int, at: str, status: str = "finished") -> Resource:
    return {"resourceType": "Encounter", "id": f"visit-{number}", "status": status, "period": {"start": at},
            "subject": {"reference": f"Patient/{PATIENT_ID}"}, "class": {"code": "AMB"}}  # fmt: skip


def searchset(*resources: Any) -> Resource:
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": each} for each in resources]}


def observations() -> list[Resource]:
    return [
        panel("2024-03-01T09:00:00Z", 124, 80),
        panel("2025-04-01T09:00:00Z", 128, 82, code="55284-4"),
        panel("2025-09-01T09:00:00Z", 17.2, 11.2, unit="kPa"),
        panel("2026-01-10T09:00:00Z", 134, 84),
        observation("29463-7", "2025-04-01T09:00:00Z", 176.37, "[lb_av]"),
        observation("29463-7", "2026-01-10T09:00:00Z", 82.5, "kg"),
        observation("8302-2", "2020-01-01", 1.74, "m"),
        observation("2345-7", "2025-04-02T08:00:00Z", 5.4, "mmol/L"),
        observation("72166-2", "2025-04-01", 0, None, valueCodeableConcept=concept(SNOMED, "8517006")),
    ]


def prefetch() -> Resource:
    """Everything that the discovery document asks for."""
    second_visit = visit(2, "2026-01-10T09:00:00Z")
    return deepcopy({
        "patient": {"resourceType": "Patient", "id": PATIENT_ID, "gender": "female", "birthDate": "1971-06-15"},
        "observations": searchset(*observations()),
        "conditions": searchset(condition(SNOMED, "44054006"), condition(SNOMED, "195967001")),
        "medications": searchset(order("860975", "2025-08-01"), order("314231", "2025-08-01"), order("314231", "2025-12-01")),
        "encounters": searchset(visit(1, "2025-04-01T09:00:00Z"), second_visit, second_visit,
                                visit(3, "2025-12-01T09:00:00Z", "cancelled"), visit(4, "2024-12-01T09:00:00Z")),
    })  # fmt: skip
