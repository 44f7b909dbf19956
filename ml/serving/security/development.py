"""Tokens without an issuer, for development only: a key of this machine, which nothing else accepts."""

import base64
import json
import os
import time
from collections.abc import Collection
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.errors import ConfigurationError
from core.settings import Settings

DEVELOPMENT_ISSUER = "cuff-development"
DEVELOPMENT_KEY_PREFIX = "development-"
_ALGORITHM = "ES256"
_LONGEST_MINUTES = 24 * 60


def is_development(settings: Settings) -> bool:
    """Whatever is not called so is treated as production."""
    return settings.environment == "development"


def development_key_file(settings: Settings) -> Path:
    return settings.var / "serving" / "development_key.pem"


def development_jwks(settings: Settings) -> dict[str, Any]:
    """The JWKS of this machine's key. Errors: `ConfigurationError` outside development."""
    key = _key(settings)
    document = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return {"keys": [document | {"kid": _name(key), "alg": _ALGORITHM, "use": "sig"}]}


def issue(
    settings: Settings, scopes: Collection[str], *, sources: Collection[str] = ("*",), name: str = "developer",
    minutes: float = 60,
) -> str:  # fmt: skip
    """A signed token for this machine's API. Errors: `ConfigurationError` outside development, with an issuer of one's own,
    and for what no token may hold."""
    from ml.serving.security.tokens import SCOPES, TokenRefused, client_from

    if settings.token_jwks:
        raise ConfigurationError(
            "CUFF_TOKEN_JWKS names an issuer, so tokens of this machine are not accepted; ask the issuer"
        )
    if settings.token_algorithm != _ALGORITHM:
        raise ConfigurationError(f"development tokens are {_ALGORITHM}; leave CUFF_TOKEN_ALGORITHM at its default")
    if unknown := sorted(set(scopes) - SCOPES):
        raise ConfigurationError(f"there is no scope '{unknown[0]}'; there are {', '.join(sorted(SCOPES))}")
    if not 0 < minutes <= _LONGEST_MINUTES:
        raise ConfigurationError(f"a token lives between 1 and {_LONGEST_MINUTES} minutes")
    key = _key(settings)
    now = int(time.time())
    claims = {
        "iss": settings.token_issuer, "aud": settings.token_audience, "sub": name, "iat": now, "nbf": now,
        "exp": now + int(minutes * 60), "scope": " ".join(sorted(scopes)), "sources": list(sources),
    }  # fmt: skip
    try:
        client_from(claims)
    except TokenRefused as refused:
        raise ConfigurationError(f"{refused}; use letters, digits, dots and dashes") from None
    return jwt.encode(claims, key, _ALGORITHM, headers={"kid": _name(key), "typ": "at+jwt"})


def _key(settings: Settings) -> ec.EllipticCurvePrivateKey:
    if not is_development(settings):
        raise ConfigurationError(
            f"the environment is '{settings.environment}': tokens of this machine are for development only; "
            "set CUFF_TOKEN_JWKS and CUFF_TOKEN_ISSUER to your issuer's"
        )
    path = development_key_file(settings)
    if not path.exists():
        _generate(path)
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"{path} is not an EC key; delete it and it is made anew")
    return key


def _generate(path: Path) -> None:
    """Whole or not at all, and the first of several processes wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(pem)
    with suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()


def _name(key: ec.EllipticCurvePrivateKey) -> str:
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return DEVELOPMENT_KEY_PREFIX + base64.urlsafe_b64encode(sha256(point).digest())[:16].decode()
