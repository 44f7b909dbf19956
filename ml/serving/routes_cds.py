"""CDS Hooks 2.0: the discovery document, and the service that an EHR calls when a chart is opened."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from core.keys import key_bytes, pseudonym
from ml.serving.cards import SENT, no_risk_cards, risk_card
from ml.serving.cds_request import Cards, CdsServices, PatientViewRequest
from ml.serving.json_route import JsonRoute
from ml.serving.prefetch import PREFETCH, PrefetchedPerson, person_from_prefetch
from ml.serving.risk import Person, prediction_row
from ml.serving.security.errors import responses
from ml.serving.security.scopes import require
from ml.serving.security.tokens import Client

router = APIRouter(tags=["CDS Hooks"], route_class=JsonRoute)
SERVICE_ID = "hypertension-risk"
_DISCOVERY = {"services": [{
    "hook": "patient-view", "id": SERVICE_ID, "title": "Risk of hypertension within 12 months",
    "description": "The calibrated risk that hypertension is found within a year, with its reasons and the age of its inputs.",
    "prefetch": PREFETCH,
    "usageRequirements": "The prefetch `patient` and `observations` are needed for a risk; nothing is fetched from the EHR. "
                         "The bearer token is of the issuer named to this API, with the scope risk:score.",
}]}  # fmt: skip


@router.get("/cds-services", response_model=CdsServices, summary="Which CDS services there are")
async def discover() -> Any:
    """Public, as the specification wants it: it says what the service needs, and nothing of anybody."""
    return _DISCOVERY


@router.post(f"/cds-services/{SERVICE_ID}", response_model=Cards, summary="The risk beside an open chart",
             responses=responses(400, 401, 403, 413, 415, 422, 429, 503))  # fmt: skip
async def hypertension_risk(
    request: Request, hook: PatientViewRequest, client: Annotated[Client, Depends(require("risk:score"))]
) -> Any:
    """Cards with the risk, its reasons and the age of each input; or one that says what is missing, or why it does not apply.

    The values come from the prefetch alone, by the definitions by which the model was trained. Entries of it that cannot be
    used are left out and counted.
    """
    settings = request.app.state.settings
    # The EHR's own number of the patient is not for the trail: its pseudonym is, apart from those of the vault.
    secret = key_bytes(settings.pseudonym_secret, "CUFF_PSEUDONYM_SECRET")
    request.state.audit_subject = pseudonym(secret, "cds-patient", client.name, hook.context.patientId)
    prefetch = hook.prefetch.model_dump()
    # Thousands of entries take tens of milliseconds, which the event loop does not have.
    found = await asyncio.to_thread(person_from_prefetch, prefetch, hook.context.patientId)
    not_sent = [name for name in SENT if prefetch[name] is None]
    page_url = str(request.base_url)
    if found.ineligible_reason is not None:
        request.state.audit_outcome = "no risk: not eligible"
        return {"cards": no_risk_cards(found.ineligible_reason, page_url, not_sent, found.ignored)}
    person = _person(found)
    (assessment,) = await request.app.state.scorer.score([person])
    request.state.predictions = [prediction_row(request.app.state.archive_key, client.name, person, assessment)]
    return {"cards": [risk_card(assessment, page_url, not_sent, found.ignored)]}


def _person(found: PrefetchedPerson) -> Person:
    return Person(found.values, "cds", found.observed_on, feature_date=found.feature_date)
