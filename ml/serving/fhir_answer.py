"""An answer of the API as FHIR R4: a `RiskAssessment`, or a `Bundle` of them. Each is validated before it is sent.

The subject is named by pseudonym or by the client's own reference, never by a number of the hospital. FHIR counts
``probabilityDecimal`` in percent ("decimal values are expressed as percentages as well", invariant ras-2), so a risk of
0.041 is 4.1.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from core.errors import CuffError
from ml.features.catalog import LABEL_WINDOW_DAYS

if TYPE_CHECKING:
    from ml.serving.risk import Assessment

Resource = dict[str, Any]
MEDIA_TYPE = "application/fhir+json"
PATIENT_SYSTEM, REFERENCE_SYSTEM = "urn:cuff:patient-key", "urn:cuff:client-reference"
MODEL_SYSTEM, PREDICTION_SYSTEM, DEFINITION_SYSTEM = "urn:cuff:model", "urn:cuff:prediction", "urn:cuff:definition"
SNOMED = "http://snomed.info/sct"
# HL7's code system of qualitative risks knows each band of ml/gates.toml.
BAND_SYSTEM = "http://terminology.hl7.org/CodeSystem/risk-probability"
BANDS = {"low": "Low likelihood", "moderate": "Moderate likelihood", "high": "High likelihood"}
MODEL_NAME = "hypertension-risk"


class FhirAnswerError(CuffError):
    """Our own answer is no valid FHIR: a fault of ours, so nothing of it is sent."""


def prepare() -> None:
    """Load what validates, half a second that no request should wait for."""
    for kind in ("RiskAssessment", "Bundle", "OperationOutcome"):
        _model(kind)


def risk_assessment(assessment: "Assessment", patient_key: str | None = None, reference: str | None = None) -> Resource:
    """One person's risk as a `RiskAssessment`. ``reference`` is the client's own name for the person.

    Errors: `FhirAnswerError` when what comes out is not valid.
    """
    resource = _risk_assessment(assessment, patient_key, reference)
    _validate(resource)
    return resource


def bundle(people: Sequence[tuple["Assessment", str | None, str | None]]) -> Resource:
    """Several (assessment, patient_key, reference) as a collection, in their order. Errors: `FhirAnswerError`."""
    entries = []
    for assessment, patient_key, reference in people:
        resource = risk_assessment(assessment, patient_key, reference)
        entries.append({"fullUrl": f"urn:uuid:{_dashed(assessment.prediction_id)}", "resource": resource})
    # Each entry has been validated, so the envelope is validated without them: it costs nothing then.
    envelope: Resource = {"resourceType": "Bundle", "type": "collection"}
    _validate(envelope)
    return envelope | ({"entry": entries} if entries else {})


def operation_outcome(text: str, code: str = "business-rule", severity: str = "information") -> Resource:
    """What is said instead of a risk, to a client that reads FHIR. Errors: `FhirAnswerError`."""
    resource: Resource = {"resourceType": "OperationOutcome",
                          "issue": [{"severity": severity, "code": code, "details": {"text": text}}]}
    _validate(resource)
    return resource


def _risk_assessment(assessment: "Assessment", patient_key: str | None, reference: str | None) -> Resource:
    served_at = _as_datetime(assessment.served_at)
    version = str(assessment.model_version)
    prediction: Resource = {
        "outcome": {"coding": [{"system": SNOMED, "code": "38341003", "display": "Hypertensive disorder"}],
                    "text": "Hypertension"},
        "probabilityDecimal": round(100 * assessment.risk, 6),
        "qualitativeRisk": {"coding": [{"system": BAND_SYSTEM, "code": assessment.band,
                                        "display": BANDS.get(assessment.band)}], "text": assessment.band},
        "whenPeriod": {"start": served_at.isoformat(), "end": (served_at + timedelta(LABEL_WINDOW_DAYS)).isoformat()},
    }
    if rationale := "; ".join(reason.text for reason in assessment.reasons):
        prediction["rationale"] = rationale
    origin = "" if assessment.build_id is None else (
        f", from build {assessment.build_id} (snapshot {assessment.clinical_snapshot})")
    return {
        "resourceType": "RiskAssessment",
        "identifier": [{"system": PREDICTION_SYSTEM, "value": assessment.prediction_id}],
        "status": "final",
        "method": {
            "coding": [{"system": MODEL_SYSTEM, "code": MODEL_NAME, "version": version},
                       {"system": DEFINITION_SYSTEM, "code": assessment.feature_hash, "display": "features"},
                       {"system": DEFINITION_SYSTEM, "code": assessment.label_hash, "display": "outcome"}],
            "text": f"{MODEL_NAME}, version {version}{origin}",
        },
        "code": {"text": "Risk of hypertension within 12 months"},
        "subject": _subject(patient_key, reference),
        "occurrenceDateTime": served_at.isoformat(),
        "prediction": [prediction],
        # One annotation, not an extension for each input: a reader shows it, and validating it is cheap.
        "note": [{"text": "Inputs:\n" + "\n".join(f"- {_input_text(each)}" for each in assessment.inputs)}],
    }


def _subject(patient_key: str | None, reference: str | None) -> Resource:
    if patient_key is not None:
        return {"type": "Patient", "identifier": {"system": PATIENT_SYSTEM, "value": patient_key}}
    if reference is not None:
        return {"type": "Patient", "identifier": {"system": REFERENCE_SYSTEM, "value": reference}}
    return {"type": "Patient", "display": "Person whose values were given"}


def _input_text(each: Any) -> str:
    if each.value is None:
        return f"{each.name}: absent"
    value = str(each.value).lower() if isinstance(each.value, bool) else (
        f"{each.value:.6g}" if isinstance(each.value, float) else str(each.value))
    unit = f" {each.unit}" if each.unit else ""
    age = "" if each.age_days is None else f", {each.age_days} days old"
    return f"{each.name}: {value}{unit} ({each.status}{age})"


def _validate(resource: Resource) -> None:
    """fhir.resources knows names, types, shapes and what must be there, and neither FHIR's code lists nor its invariants."""
    kind = resource["resourceType"]
    try:
        _model(kind).model_validate(resource)
    except ValueError as error:
        # Pydantic's own text quotes values; where it went wrong is enough.
        places = sorted({".".join(map(str, each["loc"])) for each in getattr(error, "errors", list)()})
        raise FhirAnswerError(f"the {kind} made by the API is no valid FHIR R4 at {', '.join(places) or kind}") from None
    if kind != "RiskAssessment":
        return
    for prediction in resource["prediction"]:
        if not 0 <= prediction["probabilityDecimal"] <= 100:
            raise FhirAnswerError("the RiskAssessment made by the API has a probability outside 0 to 100 percent")
        if prediction["qualitativeRisk"]["coding"][0]["code"] not in BANDS:
            raise FhirAnswerError("the RiskAssessment made by the API has a band that HL7's risk-probability does not know")


def _model(kind: str) -> Any:
    from fhir.resources.R4B import get_fhir_model_class

    return get_fhir_model_class(kind)


def _as_datetime(moment: datetime | str) -> datetime:
    return datetime.fromisoformat(moment) if isinstance(moment, str) else moment


def _dashed(identifier: str) -> str:
    """A UUID's 32 hex digits with its dashes."""
    return "-".join((identifier[:8], identifier[8:12], identifier[12:16], identifier[16:20], identifier[20:]))
