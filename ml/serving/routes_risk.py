"""The risk of a person of the store, and of people whose values are given."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request, Response

from ml.serving.answers import assessed, not_assessed
from ml.serving.fhir_answer import MEDIA_TYPE as FHIR
from ml.serving.identifiers import person_key_of
from ml.serving.json_route import JsonRoute
from ml.serving.risk import Person
from ml.serving.routes_model import DESCRIBES
from ml.serving.schemas import RiskAnswer, RiskQuestion, ScoreQuestion
from ml.serving.security.errors import Problem, responses
from ml.serving.security.scopes import require
from ml.serving.security.tokens import Client

router = APIRouter(tags=["risk"], route_class=JsonRoute)
_MANY = 20  # so many people's answers are written in a thread: others are answered meanwhile
_ANSWERS: dict[int | str, dict[str, Any]] = {200: {
    "model": RiskAnswer, "content": {FHIR: {"schema": {"type": "object"}}},
    "links": {"model": {"operationId": DESCRIBES, "description": "The model that said so"}},
}}


@router.post("/v1/risk", responses=_ANSWERS | responses(400, 404, 415))
async def risk(
    request: Request, question: Annotated[RiskQuestion, Body()], client: Annotated[Client, Depends(require("risk:read"))]
) -> Response:
    """The risk of one person within 12 months, from the features of the store.

    404 for who is not known, not yours to see, or not seen for so long that nothing is known of them now: the same answer.
    """
    state = request.app.state
    patient_key = question.patient_key
    if question.identifier is not None:
        patient_key = await asyncio.to_thread(
            _patient_of, state, question.identifier.system, question.identifier.value)
    request.state.audit_subject = patient_key or "an unknown identifier"
    found = await state.scorer.from_store(patient_key, client.source_ids) if patient_key else None
    if found is None:
        raise Problem(404, "there is no such person, or none that you may see", outcome="no such person for this client")
    if found.assessment is None:
        return not_assessed(request)
    return assessed(request, client, [(found.person, found.assessment, None)])


@router.post("/v1/risk/score", responses=_ANSWERS | responses(400, 415))
async def score(
    request: Request, question: Annotated[ScoreQuestion, Body()], client: Annotated[Client, Depends(require("risk:score"))]
) -> Response:
    """The risks of up to 1,000 people whose values are given; nothing is looked up."""
    people = [(Person(person.values.model_dump(), "given"), person.reference) for person in question.people]
    request.state.audit_subject = f"{len(people)} given"
    found = await request.app.state.scorer.score([person for person, _ in people])
    answered = [(person, assessment, reference) for (person, reference), assessment in zip(people, found, strict=True)]
    if len(answered) > _MANY:
        return await asyncio.to_thread(assessed, request, client, answered)
    return assessed(request, client, answered)


def _patient_of(state: object, system: str, value: str) -> str | None:
    person_key = person_key_of(state.settings, system, value)  # type: ignore[attr-defined]
    return state.features.patient_of(person_key) if person_key else None  # type: ignore[attr-defined]
