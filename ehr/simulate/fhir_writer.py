"""Facts as FHIR R4 resources (dicts, ready for JSON)."""

from datetime import date
from typing import Any

from ehr.simulate.clock import as_date, fhir_time
from ehr.simulate.codes import (
    DIASTOLIC_CODE,
    FHIR_BASE,
    LOCAL_SYSTEM,
    LOINC,
    MEASURES,
    MRN_SYSTEM,
    PANEL_CODE,
    SECOND_PANEL_CODE,
    SMOKING_ANSWERS,
    SMOKING_CODE,
    SYSTOLIC_CODE,
    UCUM,
    quantity,
)
from ehr.simulate.drift import NEW_BLOOD_PRESSURE_CODE, NEW_SMOKING_CODE, NEW_SYSTEM, Drift
from ehr.simulate.facts import Fact
from ehr.simulate.forms import birth_date
from ehr.simulate.visits import SNOMED
from ehr.simulate.world import Person

Resource = dict[str, Any]
_RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def resource_of(person: Person, drift: Drift, fact: Fact) -> Resource:
    """The resource that tells ``fact`` about ``person``."""
    if fact.kind == "patient":
        return _patient(person, fact)
    if fact.kind in ("encounter", "cancel"):
        return _encounter(person, fact)
    if fact.kind == "condition":
        return _condition(person, fact)
    if fact.kind == "medication":
        return _medication(person, fact)
    if fact.kind == "note":
        return _note(person, fact)
    if fact.kind == "ignored":
        return _head(str(fact.values[0]), fact) | {"patient": _subject(person, fact), "status": "completed"}
    return _observation(person, drift, fact)


def broken_resource(person: Person, drift: Drift, fact: Fact) -> Resource:
    """A copy of a visit that nobody can use, or a heart rate in words. A ``cut`` one is whole still."""
    if fact.form == "not_a_number":
        wrong = fact.again(kind="heart_rate", id=f"{fact.id[:-2]}f0", values=(72.0,))
        resource = _observation(person, drift, wrong)
        resource["valueQuantity"]["value"] = "see chart"
        return resource
    resource = _encounter(person, fact)
    if fact.form == "no_subject":
        del resource["subject"]
    return resource


def _head(resource_type: str, fact: Fact) -> Resource:
    return {
        "resourceType": resource_type,
        "id": fact.id,
        "meta": {"versionId": str(fact.version), "lastUpdated": fhir_time(fact.known_at)},
    }


def _subject(person: Person, fact: Fact) -> Resource:
    logical_id = person.second_fhir_id if fact.is_second_registration else person.fhir_id
    if fact.reference == "conditional":
        mrn = person.identity.second_mrn if fact.is_second_registration else person.identity.mrn
        return {"reference": f"Patient?identifier={MRN_SYSTEM}|{mrn}"}
    if fact.reference == "urn" and not fact.is_second_registration:
        return {"reference": f"urn:uuid:{logical_id}"}
    return {"reference": f"{_base(fact)}Patient/{logical_id}"}


def _base(fact: Fact) -> str:
    return f"{FHIR_BASE}/" if fact.reference == "absolute" else ""


def _context(person: Person, fact: Fact) -> Resource:
    visit = f"{_base(fact)}Encounter/{fact.encounter_id}"
    return {"subject": _subject(person, fact), "encounter": {"reference": visit}}


def _when(fact: Fact) -> str:
    text = fhir_time(fact.event_at)
    return text[: {"no_offset": 19, "date_only": 10}.get(fact.quirk)]


def _patient(person: Person, fact: Fact) -> Resource:
    """``values``: ('',), (seconds of death,) or ('replaced',) for a second registration folded into the first."""
    identity, second = person.identity, fact.is_second_registration
    resource = _head("Patient", fact) | {
        "id": person.second_fhir_id if second else person.fhir_id,
        "active": fact.values[0] != "replaced",
        "identifier": [
            {
                "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
                "system": MRN_SYSTEM,
                "value": identity.second_mrn if second else identity.mrn,
            }
        ],
        "name": [{"family": identity.family, "given": [identity.given]}],
        "telecom": [{"system": "phone", "value": identity.phone}],
        "gender": "female" if person.is_woman else "male",
        "birthDate": birth_date(person),
        "address": [{"line": [identity.street], "city": identity.city, "postalCode": identity.postal_code}],
    }
    if isinstance(fact.values[0], float):
        resource["deceasedDateTime"] = fhir_time(int(fact.values[0]))
    if fact.values[0] == "replaced":
        resource["link"] = [{"other": {"reference": f"Patient/{person.fhir_id}"}, "type": "replaced-by"}]
    return resource


def _encounter(person: Person, fact: Fact) -> Resource:
    code, end = fact.values
    return _head("Encounter", fact) | {
        "id": fact.encounter_id,
        "status": "cancelled" if fact.kind == "cancel" else "finished",
        "class": {"system": _ACT, "code": code},
        "subject": _subject(person, fact),
        "period": {"start": _when(fact), "end": fhir_time(int(end))},
    }


def _observation(person: Person, drift: Drift, fact: Fact) -> Resource:
    resource = (
        _head("Observation", fact)
        | _context(person, fact)
        | {"status": fact.status, "effectiveDateTime": _when(fact), "issued": fhir_time(fact.known_at)}
    )
    changed = drift.codes_changed(fact.event_at)
    if fact.kind == "smoking_status":
        code = _coding(NEW_SYSTEM, NEW_SMOKING_CODE) if changed else _coding(LOINC, SMOKING_CODE)
        answer = str(fact.values[0])
        coded = _coding(NEW_SYSTEM, answer[:3].upper()) if changed else _coding(SNOMED, SMOKING_ANSWERS[answer])
        return resource | {"code": code, "valueCodeableConcept": coded}
    if fact.kind != "blood_pressure":
        return resource | {"code": _coding(LOINC, MEASURES[fact.kind].code), "valueQuantity": _quantity(fact, 0)}
    systolic, diastolic = fact.values
    first, second = (1, 0) if fact.quirk == "swapped" else (0, 1)
    if fact.quirk == "local_code":
        code = _coding(NEW_SYSTEM, NEW_BLOOD_PRESSURE_CODE) if changed else _coding(LOCAL_SYSTEM, "BP")
        return resource | {"code": code, "valueString": f"{float(systolic):.0f}/{float(diastolic):.0f}"}
    components = [
        {"code": _coding(LOINC, SYSTOLIC_CODE), "valueQuantity": _quantity(fact, first)},
        {"code": _coding(LOINC, DIASTOLIC_CODE), "valueQuantity": _quantity(fact, second)},
    ]
    if changed:
        for component, part in zip(components, ("S", "D"), strict=True):
            component["code"] = _coding(NEW_SYSTEM, f"{NEW_BLOOD_PRESSURE_CODE}-{part}")
        return resource | {"code": _coding(NEW_SYSTEM, NEW_BLOOD_PRESSURE_CODE), "component": components}
    panel = SECOND_PANEL_CODE if fact.quirk.startswith("second_code") else PANEL_CODE
    if fact.quirk == "second_code_reversed":
        components.reverse()
    return resource | {"code": _coding(LOINC, panel), "component": components}


def _quantity(fact: Fact, index: int) -> Resource:
    number, unit = quantity(fact.kind, float(fact.values[index]), fact.quirk)
    return {"value": number} | ({"unit": unit, "system": UCUM, "code": unit} if unit else {})


def _condition(person: Person, fact: Fact) -> Resource:
    system, code, onset = fact.values
    day: date = as_date(float(onset))
    return (
        _head("Condition", fact)
        | _context(person, fact)
        | {
            "clinicalStatus": _coding(_CLINICAL, "active"),
            "code": _coding(str(system), str(code)),
            "onsetDateTime": day.isoformat()[:7] if fact.quirk == "partial_date" else day.isoformat(),
            "recordedDate": fhir_time(fact.event_at),
        }
    )


def _medication(person: Person, fact: Fact) -> Resource:
    return (
        _head("MedicationRequest", fact)
        | _context(person, fact)
        | {
            "status": "active",
            "intent": "order",
            "authoredOn": _when(fact),
        }
        | _drug(fact)
    )


def _drug(fact: Fact) -> Resource:
    if fact.form == "contained":
        inside = {"resourceType": "Medication", "id": "drug", "code": _coding(_RXNORM, str(fact.values[0]))}
        return {"contained": [inside], "medicationReference": {"reference": "#drug"}}
    if fact.form == "referenced":
        return {"medicationReference": {"reference": f"{_base(fact)}Medication/{drug_of(fact)['id']}"}}
    return {"medicationCodeableConcept": _coding(_RXNORM, str(fact.values[0]))}


def drug_of(fact: Fact) -> Resource:
    """The Medication that a prescription of this form refers to."""
    return _head("Medication", fact) | {"id": f"{fact.id[:-2]}d0", "code": _coding(_RXNORM, str(fact.values[0]))}


def _note(person: Person, fact: Fact) -> Resource:
    return _head("DocumentReference", fact) | {
        "status": "current",
        "subject": _subject(person, fact),
        "date": fhir_time(fact.event_at),
        "description": str(fact.values[0]),
    }


def _coding(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}
