"""What an EHR sends to a CDS Hooks 2.0 service on `patient-view`. Unknown fields are refused; what a prefetch holds is read
leniently, entry by entry, because one bad entry of a chart must not hide the rest."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_FHIR_ID = r"[A-Za-z0-9.\-]{1,64}"
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_USER = rf"^(Practitioner|PractitionerRole|Patient|RelatedPerson)/{_FHIR_ID}$"
FhirId = Annotated[str, Field(pattern=rf"^{_FHIR_ID}$", max_length=64)]
AnyResource = Annotated[dict[str, Any] | None, Field(description="a FHIR R4 resource or a Bundle of them; null where unknown")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PatientViewContext(_Strict):
    """The chart that is open."""

    userId: Annotated[str, Field(pattern=_USER, max_length=90)]
    patientId: FhirId
    encounterId: FhirId | None = None


class Prefetch(_Strict):
    """The searches of the discovery document, answered. Each may be left out."""

    patient: AnyResource = None
    observations: AnyResource = None
    conditions: AnyResource = None
    medications: AnyResource = None
    encounters: AnyResource = None


class PatientViewRequest(_Strict):
    """CDS Hooks 2.0, "Calling a CDS Service". The EHR is never called back, so its address and token are ignored."""

    hook: Literal["patient-view"]
    hookInstance: Annotated[str, Field(pattern=_UUID)]
    context: PatientViewContext
    prefetch: Prefetch = Prefetch()
    fhirServer: Annotated[str, Field(max_length=500)] | None = None
    fhirAuthorization: dict[str, Any] | None = None
    extension: dict[str, Any] | None = None

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{
        "hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/example", "patientId": "example"},
        "prefetch": {
            "patient": {"resourceType": "Patient", "id": "example", "gender": "female", "birthDate": "1971-06-15"},
            "observations": {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": {
                "resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/example"},
                "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
                "effectiveDateTime": "2026-01-10T09:00:00Z",
                "component": [
                    {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
                     "valueQuantity": {"value": 134, "unit": "mmHg", "code": "mm[Hg]"}},
                    {"code": {"coding": [{"system": "http://loinc.org", "code": "8462-4"}]},
                     "valueQuantity": {"value": 84, "unit": "mmHg", "code": "mm[Hg]"}},
                ]}}]},
            "conditions": {"resourceType": "Bundle", "type": "searchset", "entry": []},
        },
    }]})  # fmt: skip


class CardSource(BaseModel):
    label: str
    url: str


class CardLink(BaseModel):
    label: str
    url: str
    type: Literal["absolute"]


class Card(BaseModel):
    """CDS Hooks 2.0, "Card Attributes"; never `critical`."""

    summary: Annotated[str, Field(max_length=139)]
    detail: str
    indicator: Literal["info", "warning"]
    source: CardSource
    links: list[CardLink]


class Cards(BaseModel):
    cards: list[Card]


class CdsService(BaseModel):
    hook: str
    title: str
    description: str
    id: str
    prefetch: dict[str, str]
    usageRequirements: str


class CdsServices(BaseModel):
    services: list[CdsService]
