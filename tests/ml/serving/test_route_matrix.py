"""Every route of the API × every kind of client, generated: a new route is in it without anybody's doing."""

import asyncio
from collections import Counter

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select

from core.audit import first_broken_row
from core.store import AuditEvent, store_session
from ml.serving.app import create_app
from ml.serving.security.scopes import PUBLIC, scope_of, undeclared_routes
from ml.serving.security.tokens import SCOPES
from tests.ml.serving.issuer import Issuer
from tests.ml.serving.small_api import serving

BODIES = ({}, {"json": {}}, {"content": b"{", "headers": {"Content-Type": "application/json"}})


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path / "jwks.json")


@pytest.fixture
def settings(issuer, tmp_path):
    return issuer.settings(tmp_path / "var", serve_rate_limit="100000/minute")


def answers(settings, app, asked):
    """{(route, method, who): answers} to every kind of body. ``asked``: who → token, None for none."""

    async def run():
        found = {}
        async with serving(app) as client:
            for path, method, _ in declared(app):
                for who, token in asked.items():
                    shown = {} if token is None else {"Authorization": f"Bearer {token}"}
                    requests = [body | {"headers": shown | body.get("headers", {})} for body in BODIES]
                    found[path, method, who] = [await client.request(method, path, **request) for request in requests]
        return found

    return asyncio.run(run())


def declared(app):
    """(path, method, scope) of every route that demands one."""
    return [(route.path, method, scope_of(route)) for route in app.routes if isinstance(route, APIRoute)
            for method in sorted(route.methods) if scope_of(route) is not None]  # fmt: skip


def test_every_route_declares_its_scope_or_is_public(settings):
    app = create_app(settings)
    assert undeclared_routes(app) == []
    demands = {(path, method): scope for path, method, scope in declared(app)}
    assert demands == {
        ("/v1/risk", "POST"): "risk:read", ("/v1/risk/score", "POST"): "risk:score", ("/v1/model", "GET"): "model:read",
        ("/cds-services/hypertension-risk", "POST"): "risk:score", ("/metrics", "GET"): "ops:read",
    }  # fmt: skip
    free = {route.path for route in app.routes if (route.path, "POST") not in demands and (route.path, "GET") not in demands}
    assert free == PUBLIC | {"/static"}
    app.post("/v1/patients")(lambda: [])
    assert undeclared_routes(app) == ["['POST'] /v1/patients"]


def test_without_a_token_that_holds_nothing_is_answered(settings, issuer):
    app = create_app(settings)
    tokens = {"none": None, **issuer.bad_tokens()}
    found = answers(settings, app, tokens)
    assert len(found) == len(declared(app)) * len(tokens)
    for cell, told in found.items():
        for answer in told:
            assert answer.status_code == 401, cell
            assert answer.headers["www-authenticate"].startswith("Bearer"), cell
            assert answer.headers["content-type"] == "application/problem+json", cell
    with store_session(settings) as session:
        assert first_broken_row(session) is None
        trail = session.execute(select(AuditEvent.actor, AuditEvent.action, AuditEvent.outcome)).all()
    assert Counter(row.action for row in trail) == {
        f"{method} {path}": len(tokens) * len(BODIES) for path, method, _ in declared(app)}  # fmt: skip
    assert {row.actor for row in trail} == {"anonymous 127.0.0.1"}
    assert all(row.outcome.startswith("401 ") for row in trail)


def test_a_scope_opens_its_routes_and_no_other(settings, issuer):
    app = create_app(settings)
    tokens = {scope: issuer.token(scope, sub=scope) for scope in SCOPES} | {
        "no scope": issuer.token(sub="none"), "an unknown scope": issuer.token("admin", "*", "risk:", sub="none"),
        "all but one": issuer.token(*(SCOPES - {"risk:read"}), sub="most"),
    }  # fmt: skip
    granted_to = {scope: {scope} for scope in SCOPES} | {"all but one": SCOPES - {"risk:read"}}
    demands = {(path, method): scope for path, method, scope in declared(app)}
    for (path, method, who), told in answers(settings, app, tokens).items():
        is_granted = demands[path, method] in granted_to.get(who, set())
        for answer in told:
            if is_granted:
                assert answer.status_code not in (401, 403, 404, 405, 500), (path, who)
            else:
                assert answer.status_code == 403, (path, who)
                assert answer.headers["www-authenticate"] == (
                    f'Bearer error="insufficient_scope", scope="{demands[path, method]}"')  # fmt: skip
    with store_session(settings) as session:
        refused = session.scalars(select(AuditEvent.outcome).where(AuditEvent.outcome.like("403%"))).all()
    assert len(refused) == len(BODIES) * sum(
        demanded not in granted_to.get(who, set()) for demanded in demands.values() for who in tokens)  # fmt: skip


def test_a_key_that_is_new_today_is_accepted_without_a_restart(settings, issuer, monkeypatch):
    monkeypatch.setattr("ml.serving.security.issuer_keys._PAUSE_SECONDS", 0.0)
    app = create_app(settings)

    async def run():
        async with serving(app) as client:
            async def ask(key):
                shown = {"Authorization": f"Bearer {issuer.token('ops:read', key=key)}"}
                return (await client.get("/metrics", headers=shown)).status_code

            before = await ask("first")
            issuer.add("second")
            return before, await ask("second"), await ask("first")

    assert asyncio.run(run()) == (200, 200, 200)
