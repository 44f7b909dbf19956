"""The API as a client meets it: the night's own risks, logged before they are told, and nothing about whom one may not see."""

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from core.keys import unseal
from core.lake import read_lake
from core.publication import published
from core.serving_tables import ServedPrediction
from core.settings import Settings
from core.store import AuditEvent, store_session
from ml.features.catalog import FEATURE_NAMES, FEATURES, feature_hash, label_hash
from ml.features.online import OnlineFeatures
from ml.scoring import eligible_features, score
from ml.serving.app import create_app
from ml.tracking import MODEL_NAME, mlflow_client
from tests.ml.serving.conftest import AUTHORITY, KNOWN_NUMBER, PATIENT_WITH_A_NUMBER, UNLINKED_NUMBER
from tests.ml.serving.small_api import HOST, bearer

pytestmark = pytest.mark.slow
NOBODY = "f" * 32
GIVEN = {"age_years": 61, "sex": "male", "systolic_last_mmhg": 136.0, "diastolic_last_mmhg": 84.0, "smoking_status": "current"}
Talk = Callable[[FastAPI, httpx.AsyncClient], Coroutine[Any, Any, Any]]


def talk(house: Settings, with_app: Talk, app: FastAPI | None = None) -> Any:
    """What ``with_app`` returns of a running application."""
    app = app or create_app(house)

    async def run() -> Any:
        async with app.router.lifespan_context(app), httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url=HOST, headers=bearer(house)) as client:
            return await with_app(app, client)

    return asyncio.run(run())


def ask(house: Settings, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    async def all_of_them(_app: FastAPI, client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.request(method, path, **options) for method, path, options in requests]

    answers: list[httpx.Response] = talk(house, all_of_them)
    return answers


def of(key: str) -> tuple[str, str, dict[str, Any]]:
    return "POST", "/v1/risk", {"json": {"patient_key": key}}


def by_number(number: str, system: str = AUTHORITY) -> tuple[str, str, dict[str, Any]]:
    return "POST", "/v1/risk", {"json": {"identifier": {"system": system, "value": number}}}


def given(*people: dict[str, Any], **options: Any) -> tuple[str, str, dict[str, Any]]:
    return "POST", "/v1/risk/score", {"json": {"people": list(people)}, **options}


def eligible(house: Settings) -> Any:
    with read_lake(house, ("clinical",), published(house).snapshots) as lake:
        return eligible_features(lake, published(house).as_of)


def test_it_says_what_the_night_said_to_the_last_bit(house: Settings) -> None:
    done = score(house)
    with read_lake(house, ("clinical",)) as lake:
        night = lake.execute("select patient_key, risk, band from clinical.scores.predictions "
                             "order by patient_key limit 120").fetchall()
    answers = ask(house, *(of(key) for key, _, _ in night))
    told = [answer.json()["assessments"][0] for answer in answers]
    assert [(key, one["risk_12_months"], one["band"]) for (key, _, _), one in zip(night, told, strict=True)] == night
    assert len({band for _, _, band in night}) > 1
    assert {one["model"]["version"] for one in told} == {done.model_version}
    assert told[0]["model"] == {
        "name": MODEL_NAME, "version": done.model_version, "build_id": done.build_id,
        "clinical_snapshot": published(house).clinical_snapshot, "feature_hash": feature_hash(), "label_hash": label_hash()}


def test_given_values_say_the_same_and_the_reasons_add_up(house: Settings) -> None:
    people = eligible(house).head(30)
    values = [{name: None if value is None or value != value else value for name, value in row.items() if name != "patient_key"}
              for row in people.to_dict("records")]
    stored, typed = ask(house, of(people["patient_key"][0]),
                        given(*({"values": one, "reference": f"row-{at}"} for at, one in enumerate(values))))
    told = typed.json()["assessments"]
    assert [one["reference"] for one in told] == [f"row-{at}" for at in range(30)]
    assert told[0]["risk_12_months"] == stored.json()["assessments"][0]["risk_12_months"]
    alone = stored.json()["assessments"][0]["reasons"]
    assert [one["text"] for one in told[0]["reasons"]] == [one["text"] for one in alone]
    assert [one["log_odds"] for one in told[0]["reasons"]] == pytest.approx([one["log_odds"] for one in alone], abs=1e-12)
    for one in told:
        assert 1 <= len(one["reasons"]) <= 5
        sizes = [abs(reason["log_odds"]) for reason in one["reasons"]]
        assert sizes == sorted(sizes, reverse=True)
        for reason in one["reasons"]:
            assert reason["direction"] == ("raises" if reason["log_odds"] > 0 else "lowers")
            assert f"{reason['direction']} the risk" in reason["text"]
    assert told[0]["model"]["build_id"] is None
    assert {each["status"] for each in told[0]["inputs"]} <= {"present", "absent"}


def test_what_is_old_or_absent_says_so(house: Settings) -> None:
    people = eligible(house)
    key = people[people["hba1c_last_pct"].isna()]["patient_key"].iloc[0]
    (answer,) = ask(house, of(key))
    inputs = {each["name"]: each for each in answer.json()["assessments"][0]["inputs"]}
    assert list(inputs) == list(FEATURE_NAMES)
    assert inputs["hba1c_last_pct"] == {"name": "hba1c_last_pct", "value": None, "unit": "%", "status": "absent",
                                        "age_days": None}
    assert inputs["systolic_last_mmhg"]["status"] == "present"
    assert inputs["systolic_last_mmhg"]["age_days"] == 7
    assert inputs["age_years"]["age_days"] == 0


def test_a_prediction_is_logged_with_what_it_was_made_of_before_it_is_told(house: Settings) -> None:
    key = eligible(house)["patient_key"][3]
    app = create_app(house)
    logged_at_start: list[int] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def look(message: Any) -> None:
            if message["type"] == "http.response.start":
                with store_session(house) as session:
                    logged_at_start.append(session.scalar(select(func.count()).select_from(ServedPrediction)) or 0)
            await send(message)

        await app(scope, receive, look if scope["type"] == "http" else send)

    async def one(_app: FastAPI, _client: httpx.AsyncClient) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(watched), base_url=HOST,
                                     headers=bearer(house, name="clinic")) as client:
            return await client.post("/v1/risk", json={"patient_key": key})

    answer = talk(house, one, app)
    told = answer.json()["assessments"][0]
    assert logged_at_start == [1]
    with store_session(house) as session:
        row = session.scalars(select(ServedPrediction)).one()
        audit = session.scalars(select(AuditEvent).order_by(AuditEvent.audit_event_id.desc())).first()
    assert (row.prediction_id, row.client, row.source, row.patient_key) == (told["prediction_id"], "clinic", "store", key)
    assert (row.risk, row.band, row.model_version) == (told["risk_12_months"], told["band"], told["model"]["version"])
    sealed = json.loads(unseal(base64.b64decode(house.archive_key.get_secret_value()), row.features_sealed, row.prediction_id))
    (stored,) = OnlineFeatures(house).read([key])
    assert stored is not None
    assert sealed["features"] == stored.values
    assert sealed["observed_on"] == {name: day.isoformat() for name, day in stored.observed_on.items() if day}
    assert row.feature_date == stored.feature_date
    assert audit is not None
    assert (audit.actor, audit.action, audit.subject, audit.outcome) == ("clinic", "POST /v1/risk", key, "200")


def test_whom_one_may_not_see_is_nobody(house: Settings) -> None:
    key = eligible(house)["patient_key"][0]
    foreign = {"headers": bearer(house, "risk:read", sources=["another_hospital"])}
    mine = {"headers": bearer(house, "risk:read", sources=["valley"])}
    nothing = {"headers": bearer(house, "risk:read", sources=[])}
    answers = ask(house, of(NOBODY), ("POST", "/v1/risk", of(key)[2] | foreign), ("POST", "/v1/risk", of(key)[2] | nothing),
                  by_number("0000"), by_number(UNLINKED_NUMBER), by_number(KNOWN_NUMBER, "another"),
                  ("POST", "/v1/risk", by_number(KNOWN_NUMBER)[2] | foreign), ("POST", "/v1/risk", of(key)[2] | mine))
    *refused, allowed = answers
    assert [answer.status_code for answer in answers] == [404] * 7 + [200]
    assert len({answer.content for answer in refused}) == 1
    assert refused[0].headers["content-type"] == "application/problem+json"
    assert allowed.json()["assessments"]


def test_a_number_of_the_hospitals_finds_its_patient(house: Settings) -> None:
    by_key, numbered = ask(house, of(PATIENT_WITH_A_NUMBER), by_number(KNOWN_NUMBER))
    assert by_key.status_code == numbered.status_code == 200
    risks = [[one["risk_12_months"] for one in answer.json()["assessments"]] for answer in (by_key, numbered)]
    assert risks[0] == risks[1]
    with store_session(house) as session:
        assert set(session.scalars(select(AuditEvent.subject).where(AuditEvent.action == "POST /v1/risk"))) == {
            PATIENT_WITH_A_NUMBER}


def test_who_is_not_seen_any_more_is_nobody(house: Settings) -> None:
    key = eligible(house)["patient_key"][0]
    app = create_app(house)

    async def later(_app: FastAPI, client: httpx.AsyncClient) -> httpx.Response:
        app.state.features._today = lambda: date(2026, 1, 1) + timedelta(days=400)
        return await client.post("/v1/risk", json={"patient_key": key})

    assert talk(house, later, app).status_code == 404


def test_for_whom_the_model_is_not_meant_there_is_no_risk(house: Settings) -> None:
    with read_lake(house, ("clinical",), published(house).snapshots) as lake:
        found = lake.execute("select patient_key from clinical.ml.patient_features where feature_date = $1 and not is_eligible "
                             "limit 1", [published(house).as_of]).fetchone()
    assert found is not None
    plain, fhir = ask(house, of(found[0]), ("POST", "/v1/risk", of(found[0])[2] | {"headers": bearer(house) | {
        "accept": "application/fhir+json"}}))
    assert plain.status_code == fhir.status_code == 200
    assert plain.json()["assessments"] == []
    assert plain.json()["not_assessed"]["reason"] == "not_eligible"
    assert fhir.json()["resourceType"] == "OperationOutcome"
    with store_session(house) as session:
        assert session.scalar(select(func.count()).select_from(ServedPrediction)) == 0


@pytest.mark.parametrize(("values", "field"), [
    (GIVEN | {"systolic_last_mmhg": 731.5}, "systolic_last_mmhg"), (GIVEN | {"sex": "Wangari"}, "sex"),
    (GIVEN | {"age_years": 9}, "age_years"), (GIVEN | {"has_diabetes": "yes"}, "has_diabetes"),
    (GIVEN | {"weight_kg": 70.5}, "?"), (GIVEN | {"bmi_last_kg_m2": "27.25"}, "bmi_last_kg_m2"),
])  # fmt: skip
def test_what_cannot_be_is_refused_by_field_and_never_repeated(house: Settings, values: dict[str, Any], field: str) -> None:
    (answer,) = ask(house, given({"values": values}))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"].endswith(field)
    assert not any(str(value) in answer.text for value in ("731.5", "Wangari", "70.5", "weight_kg", "27.25", "yes"))


@pytest.mark.parametrize(("content", "kind", "status"), [
    (b"", "application/json", (400, 422)), (b"{", "application/json", (400,)), (b"[" * 100_000, "application/json", (400, 422)),
    (b'{"patient_key": NaN}', "application/json", (400, 422)), (b"\xff\xfe", "application/json", (400,)),
    (b'{"patient_key": "' + b"0" * 32 + b'"}', "text/plain", (415,)),
    (b"patient_key=" + b"0" * 32, "application/x-www-form-urlencoded", (415,)),
])  # fmt: skip
def test_a_body_that_is_none_is_the_clients_fault(house: Settings, content: bytes, kind: str, status: tuple[int, ...]) -> None:
    (answer,) = ask(house, ("POST", "/v1/risk", {"content": content, "headers": bearer(house) | {"content-type": kind}}))
    assert answer.status_code in status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_thousand_people_are_answered_and_one_more_is_not(house: Settings) -> None:
    thousand, more = ask(house, given(*[{"values": GIVEN}] * 1000), given(*[{"values": GIVEN}] * 1001))
    assert len(thousand.json()["assessments"]) == 1000
    assert len({one["prediction_id"] for one in thousand.json()["assessments"]}) == 1000
    assert more.status_code == 422
    with store_session(house) as session:
        assert session.scalar(select(func.count()).select_from(ServedPrediction)) == 1000


def test_without_a_champion_it_says_that_it_is_not_ready(house: Settings) -> None:
    mlflow_client(house).delete_registered_model_alias(MODEL_NAME, "champion")
    ready, risk, model, alive = ask(
        house, ("GET", "/readyz", {}), of(NOBODY), ("GET", "/v1/model", {}), ("GET", "/healthz", {}))
    assert (ready.status_code, risk.status_code, model.status_code, alive.status_code) == (503, 503, 503, 200)
    assert ready.json()["model_loaded"] is False
    assert ready.json()["store_reachable"] is True


def test_without_a_store_values_can_still_be_given(house: Settings) -> None:
    (house.var / "features" / "online.db").unlink()
    ready, risk, typed = ask(house, ("GET", "/readyz", {}), of(NOBODY), given({"values": GIVEN}))
    assert (ready.status_code, risk.status_code, typed.status_code) == (503, 503, 200)
    assert ready.json() == {"is_ready": False, "model_loaded": True, "store_reachable": False, "audit_writable": True,
                            "model_version": 1}


def test_the_model_is_described(house: Settings) -> None:
    ready, model = ask(house, ("GET", "/readyz", {}), ("GET", "/v1/model", {}))
    told = model.json()
    assert ready.status_code == 200
    assert (told["name"], told["version"]) == (MODEL_NAME, 1)
    assert told["metrics"]["test_auroc"] > 0.6
    assert told["registered_tags"]["feature_hash"] == feature_hash()
    assert told["training_window"]
    assert told["model_card"].startswith("# hypertension-risk")


def test_metrics_count_requests_and_hold_no_patient(house: Settings) -> None:
    key = eligible(house)["patient_key"][0]
    _, _, metrics = ask(house, of(key), ("GET", "/v1/patients/Wangari", {}), ("GET", "/metrics", {}))
    assert 'cuff_api_requests_total{route="/v1/risk",status="200"}' in metrics.text
    assert "cuff_api_champion_version 1.0" in metrics.text
    assert "cuff_api_batch_people_bucket" in metrics.text
    assert "Wangari" not in metrics.text
    assert key not in metrics.text


def test_every_feature_can_be_given(house: Settings) -> None:
    (answer,) = ask(house, given({"values": {feature.name: feature.example for feature in FEATURES}}))
    assert {each["status"] for each in answer.json()["assessments"][0]["inputs"]} == {"present"}
