"""Tokens: what is accepted, what is not, and what happens when the issuer's keys change."""

import asyncio
import base64
import json
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from core.errors import ConfigurationError
from ml.serving.security import issuer_keys, tokens
from ml.serving.security.development import development_key_file, issue
from ml.serving.security.issuer_keys import KeysUnavailable
from ml.serving.security.tokens import Client, TokenRefused, Tokens
from tests.conftest import make_settings
from tests.ehr.live.certificates import Authority
from tests.ml.serving.issuer import AUDIENCE, ISSUER, Issuer


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path / "jwks.json")


def ask(settings, *shown):
    async def run():
        checked = Tokens(settings)
        return [await checked.client_of(token) for token in shown]

    return asyncio.run(run())


def test_a_good_token_names_its_client_its_scopes_and_whose_patients_it_may_see(issuer, tmp_path):
    settings = issuer.settings(tmp_path)
    given = issuer.token("risk:read", "model:read", "admin", sources=["SIMHOSP", "ADT1"])
    assert ask(settings, given, given) == [
        Client("clinic", frozenset({"risk:read", "model:read"}), frozenset({"SIMHOSP", "ADT1"}))
    ] * 2
    assert ask(settings, issuer.token("risk:read"))[0].source_ids is None
    assert ask(settings, issuer.token("risk:read", sources=None))[0].source_ids == frozenset()
    assert ask(settings, issuer.token(scope=None))[0].scopes == frozenset()
    assert ask(settings, issuer.token("ops:read", header={"typ": "at+jwt"}, aud=["other", AUDIENCE]))[0].name == "clinic"


def test_every_bad_token_is_refused_with_a_phrase_that_quotes_nothing_of_it(issuer, tmp_path):
    settings = issuer.settings(tmp_path)
    for what, token in issuer.bad_tokens().items():
        with pytest.raises(TokenRefused) as refused:
            ask(settings, token)
        assert str(refused.value).startswith("the token"), what
        assert not any(part in str(refused.value) for part in ("clinic", "another.example", "never-seen", "garbage")), what
        with pytest.raises(TokenRefused):
            ask(settings, issuer.token("risk:read"), token)  # nor is it taken for the one before


def test_a_remembered_token_is_no_longer_accepted_once_it_expired(issuer, tmp_path, monkeypatch):
    settings = issuer.settings(tmp_path)

    async def run():
        checked = Tokens(settings)
        token = issuer.token("risk:read")
        await checked.client_of(token)
        later = time.time() + 601 + tokens._LEEWAY_SECONDS
        monkeypatch.setattr(tokens.time, "time", lambda: later)
        jwt_now = jwt.api_jwt.datetime
        monkeypatch.setattr(jwt.api_jwt, "datetime", type("Later", (), {
            "now": staticmethod(lambda tz=None: jwt_now.fromtimestamp(later, tz))}))  # fmt: skip
        with pytest.raises(TokenRefused, match="expired"):
            await checked.client_of(token)

    asyncio.run(run())


def test_keys_change_without_a_restart_and_a_withdrawn_one_is_forgotten_with_its_tokens(issuer, tmp_path, monkeypatch):
    monkeypatch.setattr(issuer_keys, "_PAUSE_SECONDS", 0.0)
    settings = issuer.settings(tmp_path)

    async def run():
        checked = Tokens(settings)
        old = issuer.token("risk:read")
        await checked.client_of(old)
        issuer.add("second")
        await checked.client_of(issuer.token("risk:read", key="second"))
        await checked.client_of(old)
        issuer.withdraw("first")
        monkeypatch.setattr(issuer_keys, "_OLD_SECONDS", 0.0)
        with pytest.raises(TokenRefused, match="unknown key"):
            await checked.client_of(old)
        await checked.client_of(issuer.token("risk:read", key="second"))

    asyncio.run(run())


def test_unknown_keys_do_not_make_us_fetch_at_every_request(issuer, tmp_path, monkeypatch):
    fetched = []
    read = issuer_keys.read_jwks
    monkeypatch.setattr(issuer_keys, "read_jwks", lambda settings: fetched.append(1) or read(settings))
    settings = issuer.settings(tmp_path)

    async def run():
        checked = Tokens(settings)
        for _ in range(30):
            with pytest.raises(TokenRefused):
                await checked.client_of(issuer.bad_tokens()["unknown kid"])

    asyncio.run(run())
    assert len(fetched) == 1


def test_while_the_issuer_is_away_known_keys_go_on_for_a_while_and_then_nothing_is_accepted(issuer, tmp_path, monkeypatch):
    settings = issuer.settings(tmp_path)
    good = issuer.token("risk:read")
    monkeypatch.setattr(issuer_keys, "_PAUSE_SECONDS", 0.0)

    async def run():
        checked = Tokens(settings)
        await checked.client_of(good)
        issuer.file.unlink()
        monkeypatch.setattr(issuer_keys, "_OLD_SECONDS", 0.0)
        await checked.client_of(issuer.token("risk:read", sub="another"))
        monkeypatch.setattr(issuer_keys, "_UNUSABLE_SECONDS", 0.0)
        for token in (good, issuer.token("risk:read", sub="third")):
            with pytest.raises(KeysUnavailable):
                await checked.client_of(token)
        with pytest.raises(KeysUnavailable):
            await Tokens(settings).client_of(good)
        issuer.publish()
        monkeypatch.setattr(issuer_keys, "_UNUSABLE_SECONDS", 3600.0)
        await checked.client_of(good)

    asyncio.run(run())


def test_only_public_keys_of_the_right_kind_are_taken_from_a_jwks(issuer, tmp_path):
    settings = issuer.settings(tmp_path)
    good = issuer.document("first")
    rsa_key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key()))
    large = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key()))
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(issuer.keys["first"]))
    secret = {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode()}
    bad = [rsa_key, large, private, secret, good | {"use": "enc"}, good | {"alg": "ES384"}, good | {"x": "AA"}, {"kty": "EC"}]
    listed = [one | {"kid": f"bad-{nth}"} for nth, one in enumerate(bad)]
    listed += [good | {"kid": 7}, "no key", None, good]
    assert list(issuer_keys.usable_keys({"keys": listed}, settings)) == ["first"]
    weak = make_settings(tmp_path, token_algorithm="RS256")
    assert issuer_keys.usable_keys({"keys": [rsa_key | {"kid": "weak"}]}, weak) == {}
    with pytest.raises(ConfigurationError, match="JWKS"):
        issuer_keys.usable_keys([good], settings)


@contextmanager
def https(authority, answers):
    """A server of the issuer's; ``answers``: path → (status, headers, body)."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answers[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    certificate, key = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_keys_come_over_tls_from_where_they_were_said_to_be_and_from_nowhere_else(issuer, tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    jwks = issuer.file.read_bytes()
    answers = {"/jwks": (200, {}, jwks), "/moved": (302, {"Location": "/jwks"}, b""),
               "/huge": (200, {}, b" " * (2 << 20) + jwks), "/broken": (500, {}, jwks),
               "/html": (200, {}, b"<html>")}  # fmt: skip
    with https(authority, answers) as address:
        def settings(path):
            return issuer.settings(tmp_path, token_jwks=address + path)

        with pytest.raises(KeysUnavailable):  # of an authority that nobody trusts
            ask(settings("/jwks"), issuer.token("risk:read"))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        assert ask(settings("/jwks"), issuer.token("risk:read"))[0].name == "clinic"
        for path in ("/moved", "/huge", "/broken", "/html"):
            with pytest.raises(KeysUnavailable):
                ask(settings(path), issuer.token("risk:read"))


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_the_algorithm_of_the_settings_is_the_only_one(tmp_path, algorithm):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else Ed25519PrivateKey.generate()
    written = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key())
    file = tmp_path / "jwks.json"
    other = Issuer(tmp_path / "other.json")
    file.write_text(json.dumps({"keys": [json.loads(written) | {"kid": "k"}, other.document("first")]}))
    settings = make_settings(tmp_path, token_jwks=str(file), token_issuer=ISSUER, token_algorithm=algorithm)
    token = jwt.encode(other.claims("risk:read"), key, algorithm, headers={"kid": "k"})
    assert ask(settings, token)[0].name == "clinic"
    with pytest.raises(TokenRefused, match="another algorithm"):
        ask(settings, other.token("risk:read"))


def test_development_tokens_are_of_this_machine_and_nothing_else_accepts_them(settings, issuer, tmp_path):
    token = issue(settings, ["risk:read"], sources=["SIMHOSP"], minutes=5)
    assert ask(settings, token) == [Client("developer", frozenset({"risk:read"}), frozenset({"SIMHOSP"}))]
    assert development_key_file(settings).stat().st_mode & 0o777 == 0o600
    with pytest.raises(TokenRefused):
        ask(issuer.settings(tmp_path), token)
    with pytest.raises(TokenRefused):
        ask(make_settings(tmp_path / "another"), token)
    production = make_settings(settings.var, environment="production")
    with pytest.raises(ConfigurationError, match="for development only"):
        issue(production, ["risk:read"])
    with pytest.raises(KeysUnavailable):
        ask(production, token)
    # Even where somebody copied its JWKS there.
    stolen = tmp_path / "stolen.json"
    stolen.write_text(json.dumps(issuer_keys.development_jwks(settings)))
    for environment, accepted in (("development", True), ("production", False)):
        copied = make_settings(settings.var, environment=environment, token_jwks=str(stolen))
        assert bool(issuer_keys.usable_keys(json.loads(stolen.read_text()), copied)) is accepted


@pytest.mark.parametrize(("changes", "says"), [
    ({"scopes": ["risk:all"]}, "no scope 'risk:all'"), ({"minutes": 0}, "lives between"), ({"minutes": 1441}, "lives between"),
    ({"name": "two words"}, "sub"), ({"sources": ["a b"]}, "sources"),
])  # fmt: skip
def test_a_development_token_that_could_not_be_used_is_not_issued(settings, changes, says):
    with pytest.raises(ConfigurationError, match=says):
        issue(settings, **{"scopes": ["risk:read"], **changes})
