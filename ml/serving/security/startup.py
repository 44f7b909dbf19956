"""What the API refuses to start with: anywhere what contradicts itself, outside development what everybody knows."""

from pathlib import Path

from pydantic import SecretStr

from core.errors import ConfigurationError
from core.keys import key_bytes
from core.settings import Settings
from ml.serving.security.development import DEVELOPMENT_ISSUER, is_development
from ml.serving.security.headers import trusted_hosts
from ml.serving.security.issuer_keys import read_jwks, usable_keys
from ml.serving.security.limits import rate_limit

_LEAST_DIFFERENT_BYTES = 12  # of 32; random ones have 24 or more
_LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


def refuse_defaults(settings: Settings) -> None:
    """Errors: `ConfigurationError` naming the first setting that will not do, and the mend."""
    _require_coherent(settings)
    # Not the vault's key: the API turns a number into its pseudonym, and never one back.
    _require_random("CUFF_PSEUDONYM_SECRET", settings.pseudonym_secret)
    _require_random("CUFF_ARCHIVE_KEY", settings.archive_key)
    if not is_development(settings):
        _require_issuer(settings)
        _require_hosts(settings)


def _require_coherent(settings: Settings) -> None:
    rate_limit(settings)
    if not trusted_hosts(settings):
        raise ConfigurationError("CUFF_SERVE_TRUSTED_HOSTS is empty, so nobody would be answered; list the hosts")
    certificate, key = settings.serve_tls_certificate, settings.serve_tls_key
    if (certificate is None) != (key is None):
        raise ConfigurationError("CUFF_SERVE_TLS_CERTIFICATE and CUFF_SERVE_TLS_KEY belong together; set both or neither")
    for name, path in (("CUFF_SERVE_TLS_CERTIFICATE", certificate), ("CUFF_SERVE_TLS_KEY", key)):
        if path is not None and not path.is_file():
            raise ConfigurationError(f"{name}: there is no file {path}; give the path of a PEM file")
    if settings.token_jwks.startswith("http://"):
        raise ConfigurationError("CUFF_TOKEN_JWKS is not encrypted, so anybody on the way could name keys; use https")
    if settings.token_jwks and not settings.token_jwks.startswith("https://"):
        _require_usable_file(settings)


def _require_usable_file(settings: Settings) -> None:
    path = Path(settings.token_jwks.removeprefix("file://"))
    if not path.is_file():
        raise ConfigurationError(f"CUFF_TOKEN_JWKS is neither an https URL nor a file that is there: {settings.token_jwks}")
    try:
        found = read_jwks(settings)
    except ValueError:
        raise ConfigurationError(f"CUFF_TOKEN_JWKS: {path} is not JSON; give your issuer's JWKS") from None
    if not usable_keys(found, settings):
        raise ConfigurationError(
            f"CUFF_TOKEN_JWKS: {path} holds no public key with a `kid` for {settings.token_algorithm}; see CUFF_TOKEN_ALGORITHM"
        )


def _require_issuer(settings: Settings) -> None:
    where = _where(settings)
    if not settings.token_jwks:
        raise ConfigurationError(f"{where} and CUFF_TOKEN_JWKS is not set; name your issuer's JWKS, an https URL or a file")
    if settings.token_issuer in ("", DEVELOPMENT_ISSUER):
        raise ConfigurationError(f"{where} and CUFF_TOKEN_ISSUER is that of development; set it to your issuer's `iss`")
    if not settings.token_audience:
        raise ConfigurationError(f"{where} and CUFF_TOKEN_AUDIENCE is empty; set it to the `aud` of your tokens")


def _require_hosts(settings: Settings) -> None:
    hosts = set(trusted_hosts(settings))
    if "*" in hosts:
        raise ConfigurationError(f"{_where(settings)} and CUFF_SERVE_TRUSTED_HOSTS trusts every host; name yours")
    if hosts <= _LOCAL_HOSTS:
        raise ConfigurationError(
            f"{_where(settings)} and CUFF_SERVE_TRUSTED_HOSTS names this machine only; name the host that clients ask for"
        )


def _require_random(name: str, secret: SecretStr) -> None:
    raw = key_bytes(secret, name)
    if len(set(raw)) < _LEAST_DIFFERENT_BYTES:  # all zeros, a word again and again: somebody's placeholder
        raise ConfigurationError(f"{name} is no random secret; run `make setup` to generate it into .env")


def _where(settings: Settings) -> str:
    return f"the environment is '{settings.environment}'"
