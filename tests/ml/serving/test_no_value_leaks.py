"""Canaries: names, numbers, addresses and values sent in every place where a request can hold one. None comes back where it
was refused, and none is in a log, the trail, a metric, or any file of the house."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from core.audit import first_broken_row
from core.serving_tables import ServedPrediction
from core.store import AuditEvent, store_session
from tests.ml.serving.prefetched import prefetch
from tests.ml.serving.running_api import free_port, running_api
from tests.ml.serving.small_api import bearer

pytestmark = pytest.mark.slow
NAME, NUMBER, STREET, VALUE = "Zyxwanda-Quintaro", "MRN-9182736455", "Canarienvogelweg-77", "733.171717"
ACCEPTED_VALUE = "133.171717"  # plausible: the model is given it, and the answer repeats it, but nothing else may
CANARIES = (NAME, NUMBER, STREET, VALUE)
WORDS = f"{NAME} {NUMBER} {STREET} {VALUE}"


def bad_bodies():
    """Bodies that are refused, each with canaries where the schema has no place for them."""
    person = {"age_years": 50, "systolic_last_mmhg": float(VALUE)}
    yield {NAME: NUMBER}
    yield {"patient_key": WORDS}
    yield {"patient_key": NUMBER, "identifier": {"system": NAME, "value": NUMBER}}
    yield {"identifier": {"system": NAME, "value": NUMBER, STREET: VALUE}}
    yield {"identifier": {"system": STREET * 20, "value": NUMBER}}
    yield {"people": [{"values": person}]}
    yield {"people": [{"values": person | {"systolic_last_mmhg": VALUE}}]}
    yield {"people": [{"values": {"age_years": 50, "sex": NAME, "smoking_status": STREET}}]}
    yield {"people": [{"values": {"age_years": 50, NAME: float(VALUE)}, "reference": f"{NUMBER} {NAME}"}]}
    yield {"people": {NAME: STREET}}
    yield WORDS
    yield [WORDS]
    context = {"userId": NAME, "patientId": WORDS}
    yield {"hook": NAME, "hookInstance": NUMBER, "context": context, "prefetch": {NAME: STREET}}
    yield {"hook": "patient-view", "hookInstance": NUMBER, "context": context, "prefetch": {"patient": WORDS}}


def cds_body(patient):
    return {
        "hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": f"Practitioner/{NAME}", "patientId": NUMBER}, "fhirServer": f"https://{NAME.lower()}.example",
        "fhirAuthorization": {"access_token": WORDS}, "prefetch": prefetch() | {"patient": patient},
    }  # fmt: skip


def talk(client, asked):
    """Every answer; and apart, those of requests that were accepted, which may repeat what they were given."""
    refused, accepted = [], []
    paths = ("/v1/risk", "/v1/risk/score", "/cds-services/hypertension-risk")
    for path in paths:
        for body in bad_bodies():
            refused.append(client.post(path, json=body, headers=asked))
        refused.append(client.post(path, content=WORDS, headers=asked | {"Content-Type": "application/json"}))
        refused.append(client.post(path, content='{"' + WORDS, headers=asked | {"Content-Type": "application/json"}))
        refused.append(client.post(path, content=WORDS, headers=asked | {"Content-Type": f"text/{NAME}"}))
    reading = ("/v1/model", "/metrics", "/healthz", "/readyz", "/", "/cds-services", "/openapi.json", "/static/page.js")
    for path in (*paths, *reading):
        for method in ("GET", "POST", "PUT"):
            refused.append(client.request(method, path, params={NAME: NUMBER, "patient": WORDS}, headers=asked))
        refused.append(client.get(f"{path}/{NAME}/{NUMBER}", headers=asked))
        refused.append(client.get(path, headers={"Authorization": f"Bearer {WORDS}"}))
        refused.append(client.get(path, headers={"Authorization": f"Basic {NAME}"}))
        refused.append(client.get(path, headers={"Host": f"{NAME}.example"}))
        refused.append(client.get(path, headers=asked | {
            "User-Agent": WORDS, "X-Forwarded-For": NAME, "Cookie": f"patient={NAME}", "Referer": f"https://{NAME}/{NUMBER}",
            "Origin": f"https://{NAME}", "Accept": f"application/{NAME}", "Accept-Language": NAME, "traceparent": NAME,
            "X-Request-Id": WORDS}))  # fmt: skip
    refused.append(client.request(NAME.upper().replace("-", ""), "/v1/risk", headers=asked))
    by_number = {"identifier": {"system": NAME, "value": NUMBER}}
    refused.append(client.post("/v1/risk", json=by_number, headers=asked))  # 404: it is a question that may be asked
    named = {"resourceType": "Patient", "id": NUMBER, "name": [{"text": NAME}], "address": [{"text": STREET}],
             "birthDate": "1971-06-15", "gender": "female"}  # fmt: skip
    refused.append(client.post(paths[2], json=cds_body(named), headers=asked))
    refused.append(client.post(paths[2], json=cds_body(named | {"birthDate": WORDS, "gender": NAME}), headers=asked))
    values = {"age_years": 50, "sex": "female", "systolic_last_mmhg": float(ACCEPTED_VALUE), "diastolic_last_mmhg": 84}
    accepted.append(client.post("/v1/risk/score", json={"people": [{"values": values}]}, headers=asked))
    accepted.append(client.post("/v1/risk/score", json={"people": [{"values": values}]},
                                headers=asked | {"Accept": "application/fhir+json"}))  # fmt: skip
    return refused, accepted


def test_no_canary_comes_back_and_none_is_kept(house):
    settings = house.model_copy(update={"serve_port": free_port(), "serve_workers": 1})
    asked = bearer(settings, name="clinic")
    with running_api(settings) as address, httpx.Client(base_url=address, trust_env=False) as client:
        refused, accepted = talk(client, asked)
        metrics = client.get("/metrics", headers=asked).text
    assert [answer.status_code for answer in accepted] == [200, 200], [answer.text[:500] for answer in accepted]
    assert {answer.status_code for answer in refused} >= {200, 400, 401, 404, 405, 421, 422}
    assert max(answer.status_code for answer in refused) < 500
    for answer in refused:
        told = answer.text + "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
        for canary in CANARIES:
            assert canary.lower() not in told.lower(), (answer.request.method, answer.request.url.path, answer.status_code)
    for canary in (*CANARIES, ACCEPTED_VALUE):
        assert canary.lower() not in metrics.lower()
    assert len(refused) > 120
    holders = [path for path in files_of(settings) for canary in (*CANARIES, ACCEPTED_VALUE) if holds(path, canary)]
    assert holders == []
    with store_session(settings) as session:
        assert first_broken_row(session) is None
        assert session.scalar(select(func.count()).select_from(AuditEvent).where(AuditEvent.actor == "clinic")) > 90
        assert session.scalar(select(func.count()).select_from(ServedPrediction)) >= 2


def files_of(settings) -> list[Path]:
    """All that the API could have written: its house, and what it printed."""
    log = settings.var.parent / "serve.log"
    assert log.exists()
    return [log, *(path for path in settings.var.rglob("*") if path.is_file())]


def holds(path: Path, canary: str) -> bool:
    return canary.lower().encode() in path.read_bytes().lower()
