"""Outside development the API does not start with what everybody knows, or without what it cannot do without."""

from pathlib import Path
from urllib.parse import urlsplit

from core.errors import ConfigurationError
from core.keys import key_bytes
from core.settings import Settings
from ml.serving.security.development import DEVELOPMENT_ISSUER, is_development
from ml.serving.security.headers import trusted_hosts
from ml.serving.security.limits import rate_limit

_LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


def refuse_defaults(settings: Settings) -> None:
    """Errors: `ConfigurationError` naming the first setting that will not do, and the mend."""
    for secret, name in ((settings.pseudonym_secret, "CUFF_PSEUDONYM_SECRET"), (settings.archive_key, "CUFF_ARCHIVE_KEY")):
        if len(set(key_bytes(secret, name))) < 8:  # all zeros, one letter: somebody's placeholder
            raise ConfigurationError(f"{name} is no secret; generate it with `make setup`")
    rate_limit(settings)
    if not trusted_hosts(settings):
        raise ConfigurationError("CUFF_SERVE_TRUSTED_HOSTS names no host, so nothing would be answered; name yours")
    if bool(settings.serve_tls_certificate) != bool(settings.serve_tls_key):
        raise ConfigurationError("CUFF_SERVE_TLS_CERTIFICATE and CUFF_SERVE_TLS_KEY belong together; set both or neither")
    if is_development(settings):
        return
    where = f"the environment is '{settings.environment}'"
    if not settings.token_jwks:
        raise ConfigurationError(f"{where} and CUFF_TOKEN_JWKS is not set: name your issuer's JWKS, an https URL or a file")
    if urlsplit(settings.token_jwks).scheme not in ("https", "file", ""):
        raise ConfigurationError("CUFF_TOKEN_JWKS is neither an https URL nor a file: keys must not come over plain http")
    if urlsplit(settings.token_jwks).scheme != "https" and not Path(settings.token_jwks.removeprefix("file://")).is_file():
        raise ConfigurationError("CUFF_TOKEN_JWKS names a file that is not there; give the path of your issuer's JWKS")
    if settings.token_issuer == DEVELOPMENT_ISSUER:
        raise ConfigurationError(f"{where} and CUFF_TOKEN_ISSUER is that of development; set it to your issuer's `iss`")
    if "*" in trusted_hosts(settings):
        raise ConfigurationError(f"{where} and CUFF_SERVE_TRUSTED_HOSTS trusts every host; name those that you serve")
    is_for_others = settings.serve_host not in _LOCAL_HOSTS
    if is_for_others and set(trusted_hosts(settings)) <= _LOCAL_HOSTS:
        raise ConfigurationError(f"{where} and CUFF_SERVE_TRUSTED_HOSTS names this machine only; name the host that clients "
                                 "ask for")  # fmt: skip
