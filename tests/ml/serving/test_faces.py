"""CDS Hooks and FHIR as an EHR meets them: real requests to a real API, every answer logged before it was given."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.riskassessment import RiskAssessment
from sqlalchemy import select

from core.serving_tables import ServedPrediction
from core.settings import Settings
from core.store import AuditEvent, store_session
from ml.features.catalog import FEATURES
from ml.serving.prefetch import PREFETCH
from ml.serving.security.development import issue
from tests.ml.serving import prefetched
from tests.ml.serving.running_api import house_that_can_answer, running_api

pytestmark = pytest.mark.slow
SERVICE = "/cds-services/hypertension-risk"
FHIR = {"Accept": "application/fhir+json"}
EXAMPLE = {feature.name: feature.example for feature in FEATURES}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return house_that_can_answer(tmp_path_factory.mktemp("faces") / "var", patients=500)


@pytest.fixture(scope="module")
def address(house: Settings) -> Iterator[str]:
    with running_api(house) as running:
        yield running


@pytest.fixture(scope="module")
def http(house, address) -> Iterator[httpx.Client]:
    token = issue(house, ("risk:read", "risk:score"), name="ehr")
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as client:
        yield client


def hook(**changed):
    context = {"userId": "Practitioner/1", "patientId": prefetched.PATIENT_ID}
    return {"hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "context": context,
            "prefetch": recent()} | changed  # fmt: skip


def recent():
    """The invented patient as if the fixture's day were today."""
    later = datetime.now(UTC).date() - prefetched.TODAY
    moved = prefetched.prefetch()
    for name in ("observations", "conditions", "medications", "encounters"):
        for entry in moved[name]["entry"]:
            for holder, key in (("effectiveDateTime",) * 2, ("onsetDateTime",) * 2, ("authoredOn",) * 2):
                if key in entry["resource"]:
                    entry["resource"][key] = _moved(entry["resource"][holder], later)
            if "period" in entry["resource"]:
                entry["resource"]["period"] = {"start": _moved(entry["resource"]["period"]["start"], later)}
    return moved


def _moved(text: str, by: timedelta) -> str:
    return (datetime.fromisoformat(text[:10]) + by).date().isoformat() + text[10:]


def newest(house, table, order):
    with store_session(house) as session:
        found = session.scalars(select(table).order_by(order.desc()).limit(1)).one()
        session.expunge_all()
        return found


def test_an_ehr_finds_the_service_without_a_token(address):
    (service,) = httpx.get(f"{address}/cds-services", trust_env=False).json()["services"]
    assert (service["hook"], service["id"]) == ("patient-view", "hypertension-risk")
    assert service["prefetch"] == PREFETCH
    assert all(isinstance(service[name], str) and service[name] for name in ("title", "description", "usageRequirements"))


def test_an_open_chart_is_answered_with_a_card_and_the_answer_is_logged(http, house):
    answer = http.post(SERVICE, json=hook())
    assert answer.status_code == 200, answer.text
    (card,) = answer.json()["cards"]
    assert card["indicator"] in ("info", "warning")
    assert "Systolic pressure, mean of 12 months" in card["detail"]
    assert "| Systolic pressure, newest | 134 mmHg | 22 d | present |" in card["detail"]
    assert "| Smoking | former | 10 months | present |" in card["detail"]
    logged = newest(house, ServedPrediction, ServedPrediction.prediction_number)
    assert (logged.client, logged.source, logged.patient_key) == ("ehr", "cds", None)
    assert f"{100 * logged.risk:.1f} % ({logged.band})" in card["summary"]
    assert card["links"][0]["url"].startswith("http://127.0.0.1")
    trail = newest(house, AuditEvent, AuditEvent.audit_event_id)
    assert trail.actor == "ehr"
    assert trail.action == f"POST {SERVICE}"
    assert len(trail.subject) == 32
    assert prefetched.PATIENT_ID not in f"{trail.subject} {trail.outcome} {trail.action}"


@pytest.mark.parametrize(("prefetch", "said"), [
    ({}, "the date of birth is missing"), ({"patient": None, "observations": None}, "the date of birth is missing"),
    ({"patient": prefetched.prefetch()["patient"]}, "a blood pressure of the last 12 months is missing"),
    (prefetched.prefetch() | {"conditions": prefetched.searchset(prefetched.condition(prefetched.SNOMED, "59621000"))},
     "does not apply: hypertension is among the conditions"),
])  # fmt: skip
def test_without_a_risk_the_card_says_why_and_no_prediction_is_logged(http, house, prefetch, said):
    with store_session(house) as session:
        before = len(session.scalars(select(ServedPrediction.prediction_id)).all())
    (card,) = http.post(SERVICE, json=hook(prefetch=prefetch)).json()["cards"]
    assert said in card["summary"]
    assert card["indicator"] == "info"
    with store_session(house) as session:
        assert len(session.scalars(select(ServedPrediction.prediction_id)).all()) == before


@pytest.mark.parametrize(("changed", "field"), [
    ({"hook": "order-sign"}, "body.hook"), ({"hookInstance": "1"}, "body.hookInstance"), ({"surprise": 1}, "body.?"),
    ({"context": {"userId": "Practitioner/1", "patientId": "a b"}}, "body.context.patientId"),
    ({"context": {"userId": "CanaryName", "patientId": "1"}}, "body.context.userId"),
    ({"prefetch": {"patient": "CanaryName"}}, "body.prefetch.patient"), ({"prefetch": {"other": {}}}, "body.prefetch.?"),
])  # fmt: skip
def test_a_request_that_is_none_is_refused_by_field_and_never_quoted(http, changed, field):
    answer = http.post(SERVICE, json=hook(**changed))
    assert answer.status_code == 422
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert "CanaryName" not in answer.text


def test_who_may_not_is_refused_and_there_is_one_service(http, house, address):
    assert httpx.post(f"{address}{SERVICE}", json=hook(), trust_env=False).status_code == 401
    reader = {"Authorization": f"Bearer {issue(house, ('risk:read',))}"}
    assert httpx.post(f"{address}{SERVICE}", json=hook(), headers=reader, trust_env=False).status_code == 403
    assert http.post("/cds-services/another", json=hook()).status_code == 404


def test_rubbish_in_a_prefetch_is_counted_and_changes_nothing(http):
    clean = http.post(SERVICE, json=hook()).json()["cards"][0]
    dirty = recent()
    dirty["observations"]["entry"] += [{"resource": None}, {"resource": {"resourceType": "Observation", "code": 3}}, 7, {}]
    card = http.post(SERVICE, json=hook(prefetch=dirty)).json()["cards"][0]
    assert card["summary"] == clean["summary"]
    assert "4 entries of the request could not be used." in card["detail"]


def test_fhir_for_one_patient_and_a_bundle_for_several(http, house):
    key = next(key for key in a_few_keys(house) if http.post("/v1/risk", json={"patient_key": key}).json()["assessments"])
    plain = http.post("/v1/risk", json={"patient_key": key}).json()["assessments"][0]
    answer = http.post("/v1/risk", json={"patient_key": key}, headers=FHIR)
    assert answer.headers["content-type"].startswith("application/fhir+json")
    one = RiskAssessment.model_validate_json(answer.content)
    assert one.subject.identifier.value == key
    assert float(one.prediction[0].probabilityDecimal) == pytest.approx(100 * plain["risk_12_months"], abs=1e-6)
    people = [{"values": EXAMPLE, "reference": f"row-{number}"} for number in range(3)]
    answer = http.post("/v1/risk/score", json={"people": people}, headers=FHIR)
    several = Bundle.model_validate_json(answer.content)
    assert [entry.resource.subject.identifier.value for entry in several.entry] == ["row-0", "row-1", "row-2"]
    assert newest(house, ServedPrediction, ServedPrediction.prediction_number).source == "given"


def test_a_number_in_a_house_that_never_heard_of_anybody_is_nobodys(http):
    """Its vault has no table yet."""
    answer = http.post("/v1/risk", json={"identifier": {"system": "SIMHOSP-MRN", "value": "CanaryNumber"}})
    assert answer.status_code == 404
    assert "CanaryNumber" not in answer.text


def a_few_keys(house):
    from ml.features.online import OnlineFeatures

    return OnlineFeatures(house).sample(30)
