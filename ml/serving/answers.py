"""Assessments as JSON. Written by hand-over to orjson: a thousand people take milliseconds, not a schema's walk."""

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import Request, Response

from ml.serving.fhir_answer import MEDIA_TYPE, bundle, operation_outcome, risk_assessment
from ml.serving.risk import Assessment, Person, prediction_row
from ml.serving.security.tokens import Client
from ml.tracking import MODEL_NAME

_WHY_NOT = "the model is meant for people of 18 to 85 without hypertension so far, with a reading in the year before"


def assessed(request: Request, client: Client, answered: Sequence[tuple[Person, Assessment, str | None]]) -> Response:
    """The answer, and what is to be logged with it, before it goes out. ``answered``: with the client's own references."""
    state = request.app.state
    request.state.predictions = [prediction_row(state.archive_key, client.name, person, assessment)
                                 for person, assessment, _ in answered]
    if not wants_fhir(request):
        return _json({"assessments": [_plain(assessment, reference) for _, assessment, reference in answered]})
    people = [(assessment, person.patient_key, reference) for person, assessment, reference in answered]
    return _fhir(risk_assessment(*people[0]) if len(people) == 1 else bundle(people))


def not_assessed(request: Request) -> Response:
    """For whom the model is not meant. Which of the reasons it is stays in the record."""
    if wants_fhir(request):
        return _fhir(operation_outcome(_WHY_NOT))
    return _json({"assessments": [], "not_assessed": {"reason": "not_eligible", "text": _WHY_NOT}})


def wants_fhir(request: Request) -> bool:
    return MEDIA_TYPE in request.headers.get("accept", "")


def _plain(assessment: Assessment, reference: str | None) -> dict[str, Any]:
    told = {
        "prediction_id": assessment.prediction_id,
        "risk_12_months": assessment.risk,
        "band": assessment.band,
        "reasons": [{"feature": each.feature, "text": each.text, "direction": each.direction, "log_odds": each.log_odds}
                    for each in assessment.reasons],
        "inputs": [{"name": each.name, "value": each.value, "unit": each.unit, "status": each.status,
                    "age_days": each.age_days} for each in assessment.inputs],
        "model": {"name": MODEL_NAME, "version": assessment.model_version, "build_id": assessment.build_id,
                  "clinical_snapshot": assessment.clinical_snapshot, "feature_hash": assessment.feature_hash,
                  "label_hash": assessment.label_hash},
        "served_at": assessment.served_at,
    }  # fmt: skip
    return told if reference is None else told | {"reference": reference}


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")


def _fhir(resource: dict[str, Any]) -> Response:
    return Response(orjson.dumps(resource), media_type=MEDIA_TYPE)
