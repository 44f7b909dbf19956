"""The door, before a small API: what every answer carries, what is refused, and what a refusal says."""

import asyncio
import logging

import pytest
from sqlalchemy import select

from core.audit import first_broken_row
from core.errors import ConfigurationError
from core.serving_tables import ServedPrediction
from core.store import AuditEvent, store_session
from ml.serving.security.door import secure
from ml.serving.security.scopes import undeclared_routes
from tests.conftest import make_settings
from tests.ml.serving.small_api import bearer, running, secured, small_app

GOOD = {"systolic_mmhg": 130.0}


def ask(settings, *requests, app=None):
    """The answers to ``requests`` (method, path, options), one after another."""

    async def run():
        async with running(app or secured(settings), settings) as client:
            return [await client.request(method, path, **options) for method, path, options in requests]

    return asyncio.run(run())


def trail(settings):
    with store_session(settings) as session:
        assert first_broken_row(session) is None
        return [tuple(row) for row in session.execute(
            select(AuditEvent.actor, AuditEvent.action, AuditEvent.subject, AuditEvent.outcome)
            .order_by(AuditEvent.audit_event_id))]  # fmt: skip


def test_every_answer_is_in_the_trail_with_who_what_and_why_and_nothing_of_the_request(settings):
    asked = bearer(settings, "risk:read", name="clinic")
    answers = ask(
        settings,
        ("POST", "/v1/risk", {"json": GOOD, "headers": asked}),
        ("POST", "/v1/risk", {"json": GOOD}),
        ("POST", "/v1/risk", {"json": GOOD, "headers": {"Authorization": "Bearer secret-word"}}),
        ("POST", "/v1/risk", {"json": {"systolic_mmhg": 731.0}, "headers": asked}),
        ("POST", "/v1/risk/score", {"json": GOOD, "headers": asked}),
        ("GET", "/v1/patients/Wangari%20Maathai?name=Wangari", {}),
        ("DELETE", "/v1/risk", {"headers": asked}),
        ("WANGARI", "/v1/risk", {"headers": asked}),
        ("GET", "/healthz", {}),
    )
    assert [answer.status_code for answer in answers] == [200, 401, 401, 422, 403, 404, 405, 405, 200]
    assert trail(settings) == [
        ("clinic", "POST /v1/risk", "0" * 32, "200"),
        ("anonymous 127.0.0.1", "POST /v1/risk", "-", "401 no token"),
        ("anonymous 127.0.0.1", "POST /v1/risk", "-", "401 the token cannot be read"),
        ("clinic", "POST /v1/risk", "-", "422"),
        ("clinic", "POST /v1/risk/score", "-", "403 risk:score not granted"),
        ("anonymous 127.0.0.1", "GET unknown address", "-", "404"),
        ("clinic", "DELETE /v1/risk", "-", "405"),
        ("clinic", "OTHER /v1/risk", "-", "405"),
    ]
    with store_session(settings) as session:
        assert session.scalars(select(ServedPrediction.client)).all() == ["clinic"]


def test_errors_are_problem_documents_with_headers_that_say_what_to_do(settings):
    asked = bearer(settings, "risk:read")
    without, forbidden, invalid, absent, method = ask(
        settings,
        ("POST", "/v1/risk", {"json": GOOD}),
        ("GET", "/v1/model", {"headers": asked}),
        ("POST", "/v1/risk", {"headers": asked, "json": {
            "systolic_mmhg": 731.5, "sex": "canary-sex", "reference": "canary reference!", "canary-name": "canary-value"}}),
        ("GET", "/nothing", {}),
        ("GET", "/v1/risk", {}),
    )  # fmt: skip
    for answer in (without, forbidden, invalid, absent, method):
        assert answer.headers["content-type"] == "application/problem+json"
        document = answer.json()
        assert set(document) == {"type", "title", "status", "detail", "errors"}
        assert document["status"] == answer.status_code
    assert without.headers["www-authenticate"] == "Bearer"
    assert forbidden.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="model:read"'
    assert method.headers["allow"] == "POST"
    assert invalid.json()["errors"] == [
        {"field": "body.systolic_mmhg", "reason": "Input should be less than 300"},
        {"field": "body.sex", "reason": "Input should be 'female' or 'male'"},
        {"field": "body.reference", "reason": "String should match pattern '^[A-Za-z0-9-]*$'"},
        {"field": "body.?", "reason": "There is no such field"},
    ]
    assert "731" not in invalid.text
    assert "canary" not in invalid.text


@pytest.mark.parametrize("content", [
    b"{", b"canary", b"\xff\xfe", b'{"systolic_mmhg": ' * 20_000, b"", b"[]", b"null", b'"canary"', b'{"systolic_mmhg": NaN}',
    b'{"systolic_mmhg": 1e999}', b'{"systolic_mmhg": 130, "reference": "\\ud800"}', b'{"systolic_mmhg": "canary"}',
])  # fmt: skip
def test_bodies_that_are_nothing_are_the_clients_fault(settings, content, caplog):
    (answer,) = ask(settings, ("POST", "/v1/risk", {
        "content": content, "headers": bearer(settings) | {"Content-Type": "application/json"}}))  # fmt: skip
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "canary" not in answer.text
    assert "canary" not in caplog.text


def test_an_unhandled_exception_is_a_500_without_a_word_of_it(settings, caplog):
    caplog.set_level(logging.DEBUG)
    (answer,) = ask(settings, ("POST", "/v1/risk/score", {
        "json": GOOD | {"reference": "canary-reference"}, "headers": bearer(settings)}))  # fmt: skip
    assert answer.status_code == 500
    assert answer.json()["detail"] == "an internal error; it has been logged"
    assert "canary" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text
    assert trail(settings)[-1][-1] == "500 RuntimeError"


def test_every_answer_forbids_keeping_framing_and_guessing(settings, tmp_path):
    certificate = tmp_path / "tls.pem"
    over_tls = make_settings(tmp_path / "tls", serve_tls_certificate=certificate, serve_tls_key=certificate)
    for house, has_hsts in ((settings, False), (over_tls, True)):
        asked = ({}, {"headers": bearer(house)}, {"headers": {"Host": "evil.example"}})
        for answer in ask(house, ("GET", "/healthz", {}), *(("GET", "/v1/model", options) for options in asked)):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert ("strict-transport-security" in answer.headers) is has_hsts
            assert not any(name.startswith("access-control") for name in answer.headers)


def test_no_other_origin_is_let_in(settings):
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    preflight, plain = ask(settings, ("OPTIONS", "/v1/risk", {"headers": asked}), ("GET", "/healthz", {"headers": asked}))
    assert preflight.status_code == 405
    for answer in (preflight, plain):
        assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1", 200), ("127.0.0.1:8000", 200), ("LOCALHOST:1", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421),
    ("", 421), ("[::1]:8000", 421),
])  # fmt: skip
def test_only_our_hosts_are_answered(settings, host, status):
    (answer,) = ask(settings, ("GET", "/healthz", {"headers": {"Host": host}}))
    assert answer.status_code == status


def test_two_hosts_are_none(settings):
    (answer,) = ask(settings, ("GET", "/healthz", {"headers": [("Host", "127.0.0.1"), ("Host", "evil.example")]}))
    assert answer.status_code == 400


def test_large_bodies_are_refused_whether_or_not_they_say_so(tmp_path):
    settings = make_settings(tmp_path, serve_max_body_bytes=2000)

    async def in_chunks():
        for _ in range(50):
            yield b" " * 100

    asked = bearer(settings) | {"Content-Type": "application/json"}
    said, chunked, fits = ask(
        settings,
        ("POST", "/v1/risk", {"content": b" " * 2001, "headers": asked}),
        ("POST", "/v1/risk", {"content": in_chunks(), "headers": asked}),
        ("POST", "/v1/risk", {"content": b" " * 1900 + b'{"systolic_mmhg": 130}', "headers": asked}),
    )
    assert [answer.status_code for answer in (said, chunked, fits)] == [413, 413, 200]
    assert "transfer-encoding" in chunked.request.headers
    assert said.json()["detail"] == chunked.json()["detail"] == "the body is larger than 2000 bytes"
    assert [row[-1] for row in trail(settings)] == ["413", "413", "200"]


def test_an_answer_that_takes_too_long_is_a_503(tmp_path):
    settings = make_settings(tmp_path, serve_request_seconds=0.2)
    (answer,) = ask(settings, ("GET", "/metrics", {"headers": bearer(settings)}))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert trail(settings)[-1][-1] == "503 took too long"


def test_each_client_has_a_limit_of_its_own_and_the_nameless_one_for_their_address(tmp_path):
    settings = make_settings(tmp_path, serve_rate_limit="3/minute")
    of = {name: {"headers": bearer(settings, "model:read", name=name)} for name in ("one", "two")}
    bad = {"headers": {"Authorization": "Bearer garbage"}}
    answers = ask(settings, *[("GET", "/v1/model", of["one"])] * 5, ("GET", "/v1/model", of["two"]),
                  *[("GET", "/v1/model", bad)] * 2, *[("GET", "/v1/model", {})] * 2, ("GET", "/healthz", {}))  # fmt: skip
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2 + [200] + [401] * 3 + [429] + [200]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert trail(settings)[3] == ("one", "GET /v1/model", "-", "429 too many requests")


def test_what_cannot_be_logged_is_not_answered(settings):
    class Full:
        async def write(self, *_rows):
            from ml.serving.journal import JournalUnavailable

            raise JournalUnavailable("full")

        def close(self):
            pass

    async def run():
        app = secured(settings)
        async with running(app, settings) as client:
            asked = bearer(settings)
            before = await client.post("/v1/risk", json=GOOD, headers=asked)
            real, app.state.journal = app.state.journal, Full()
            meanwhile = [await client.post("/v1/risk", json=GOOD, headers=asked), await client.get("/nothing")]
            alive = await client.get("/healthz")
            app.state.journal = real
            return before, meanwhile, alive, await client.post("/v1/risk", json=GOOD, headers=asked)

    before, meanwhile, alive, after = asyncio.run(run())
    assert (before.status_code, alive.status_code, after.status_code) == (200, 200, 200)
    for answer in meanwhile:
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the request cannot be logged, so it is not answered"
        assert answer.headers["cache-control"] == "no-store"
        assert "risk" not in answer.text
    assert len(trail(settings)) == 2


def test_a_route_without_a_scope_keeps_the_api_from_starting(settings):
    app = small_app(settings)
    assert undeclared_routes(app) == []
    app.get("/v1/patients")(lambda: [])
    app.post("/healthz")(lambda: {})
    app.mount("/files", small_app(settings))
    assert undeclared_routes(app) == ["['GET'] /v1/patients", "['POST'] /healthz", "['*'] /files"]
    with pytest.raises(ConfigurationError, match="/v1/patients"):
        secure(app, settings)
