"""What the API refuses to start with, each with the setting's name and the mend."""

import base64
import secrets

import pytest

from core.errors import ConfigurationError
from ml.serving.security.startup import refuse_defaults
from tests.conftest import make_settings
from tests.ml.serving.issuer import ISSUER, Issuer


def random_secret():
    return base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture
def production(tmp_path):
    """Settings of a production house, with changes."""
    issuer = Issuer(tmp_path / "jwks.json")

    def with_changes(**changes):
        sound = {
            "environment": "production", "pseudonym_secret": random_secret(), "archive_key": random_secret(),
            "token_jwks": str(issuer.file), "token_issuer": ISSUER, "serve_trusted_hosts": "cuff.hospital.example",
        }  # fmt: skip
        return make_settings(tmp_path / "var", **(sound | changes))

    return with_changes


def test_a_house_that_is_set_up_starts(settings, production):
    refuse_defaults(settings)
    refuse_defaults(production())
    refuse_defaults(production(token_jwks="https://issuer.example/jwks"))
    refuse_defaults(production(vault_key=""))  # the API has no use for it


@pytest.mark.parametrize(("changes", "says"), [
    ({"token_jwks": ""}, "CUFF_TOKEN_JWKS is not set"),
    ({"token_jwks": "http://issuer.example/jwks"}, "CUFF_TOKEN_JWKS is not encrypted"),
    ({"token_jwks": "/nowhere/jwks.json"}, "CUFF_TOKEN_JWKS is neither"),
    ({"token_jwks": __file__}, "is not JSON"),
    ({"token_algorithm": "RS256"}, "no public key with a `kid` for RS256"),
    ({"token_issuer": "cuff-development"}, "CUFF_TOKEN_ISSUER is that of development"),
    ({"token_issuer": ""}, "CUFF_TOKEN_ISSUER"),
    ({"token_audience": ""}, "CUFF_TOKEN_AUDIENCE"),
    ({"pseudonym_secret": ""}, "CUFF_PSEUDONYM_SECRET"),
    ({"archive_key": base64.b64encode(b"short").decode()}, "CUFF_ARCHIVE_KEY is not 32 bytes"),
    ({"archive_key": base64.b64encode(b"x" * 32).decode()}, "CUFF_ARCHIVE_KEY is no random secret"),
    ({"archive_key": base64.b64encode(b"changeme" * 4).decode()}, "CUFF_ARCHIVE_KEY is no random secret"),
    ({"serve_trusted_hosts": "127.0.0.1,localhost"}, "CUFF_SERVE_TRUSTED_HOSTS names this machine only"),
    ({"serve_trusted_hosts": "cuff.example,*"}, "CUFF_SERVE_TRUSTED_HOSTS trusts every host"),
    ({"serve_trusted_hosts": " , "}, "CUFF_SERVE_TRUSTED_HOSTS is empty"),
    ({"serve_rate_limit": "many"}, "CUFF_SERVE_RATE_LIMIT"),
    ({"serve_tls_certificate": __file__}, "belong together"),
    ({"serve_tls_certificate": "/nowhere.pem", "serve_tls_key": "/nowhere.key"}, "there is no file /nowhere.pem"),
])  # fmt: skip
def test_what_everybody_knows_or_what_contradicts_itself_is_refused(production, changes, says):
    with pytest.raises(ConfigurationError, match=says) as refused:
        refuse_defaults(production(**changes))
    assert len(str(refused.value).splitlines()) == 1
    assert "changeme" not in str(refused.value)


@pytest.mark.parametrize("environment", ["production", "Development", "staging", "", "prod"])
def test_whatever_is_not_development_is_production(production, environment):
    with pytest.raises(ConfigurationError, match="CUFF_TOKEN_JWKS"):
        refuse_defaults(production(environment=environment, token_jwks=""))


def test_the_development_key_is_no_key_of_production(settings, production, tmp_path):
    import json

    from ml.serving.security.development import development_jwks

    copied = tmp_path / "copied.json"
    copied.write_text(json.dumps(development_jwks(settings)))
    refuse_defaults(production(environment="development", token_jwks=str(copied)))
    with pytest.raises(ConfigurationError, match="no public key"):
        refuse_defaults(production(token_jwks=str(copied)))


def test_the_server_itself_does_not_start_with_them(production):
    from ml.serving.app import create_app
    from ml.serving.serve import run_server

    for start in (create_app, lambda settings: run_server(settings, print)):
        with pytest.raises(ConfigurationError, match="CUFF_TOKEN_ISSUER"):
            start(production(token_issuer="cuff-development"))
