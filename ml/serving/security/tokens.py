"""Bearer tokens: a JWT (RFC 7519) of one issuer, for this audience, with one algorithm, checked once and then remembered."""

import logging
import re
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwt

from core.settings import Settings
from ml.serving.security.issuer_keys import IssuerKeys

logger = logging.getLogger("cuff.serving")
SCOPES = frozenset({"risk:read", "risk:score", "model:read", "ops:read"})
_REQUIRED = ["iss", "sub", "aud", "exp", "nbf", "iat"]
_LARGEST_TOKEN = 8192  # characters
_LONGEST_LIFE_SECONDS = 24 * 3600  # of a token: one that lives longer cannot be taken back
_LEEWAY_SECONDS = 10  # between the issuer's clock and ours
_REMEMBERED = 10_000
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_NAME = re.compile(r"[\x21-\x7e]{1,128}")  # a `sub` goes into the audit trail
_SOURCE = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True)
class Client:
    """Who asks. ``source_ids`` are those whose patients it may see; None: all of them."""

    name: str
    scopes: frozenset[str]
    source_ids: frozenset[str] | None


class TokenRefused(Exception):
    """A token that is not accepted. The message is a fixed phrase of ours: it may go into an answer."""


class Tokens:
    """For one event loop. A remembered token is forgotten when it expires and when the issuer's keys change."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = IssuerKeys(settings)
        self._remembered: dict[bytes, tuple[Client, float]] = {}
        self._generation = 0

    async def client_of(self, token: str) -> Client:
        """Errors: `TokenRefused`; `KeysUnavailable` when the issuer's keys cannot be had."""
        if len(token) > _LARGEST_TOKEN:
            raise TokenRefused("the token is too large")
        if self._keys.are_old:
            await self._keys.refresh()
        self._keys.require_usable()
        if self._generation != self._keys.generation:
            self._remembered.clear()  # a key may have been withdrawn
            self._generation = self._keys.generation
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._remembered.get(digest)
        if known is not None:
            if known[1] > time.time():
                return known[0]
            del self._remembered[digest]
        client, expires_at = await self._verify(token)
        if len(self._remembered) >= _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = client, expires_at
        return client

    async def _verify(self, token: str) -> tuple[Client, float]:
        key = await self._keys.key_of(self._key_name(token))
        if key is None:
            raise TokenRefused("the token is signed with an unknown key")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[self._settings.token_algorithm],
                audience=self._settings.token_audience,
                issuer=self._settings.token_issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": _REQUIRED},
            )
        except jwt.PyJWTError as error:
            raise TokenRefused(_phrase(error)) from None
        except Exception as error:  # what a library makes of garbage is no 500 of ours
            logger.warning("a token could not be read: %s", type(error).__name__)
            raise TokenRefused("the token cannot be read") from None
        expires_at, issued_at = float(claims["exp"]), float(claims["iat"])
        if not expires_at - issued_at <= _LONGEST_LIFE_SECONDS:  # so written, NaN is refused
            raise TokenRefused("the token lives too long")
        return client_from(claims), expires_at

    def _key_name(self, token: str) -> str:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise TokenRefused("the token cannot be read") from None
        if header.get("alg") != self._settings.token_algorithm:
            raise TokenRefused("the token is signed with another algorithm")
        if "crit" in header or str(header.get("typ", "JWT")).lower() not in _TYPES:
            raise TokenRefused("the token is of another type")
        name = header.get("kid")
        if not isinstance(name, str) or not name:
            raise TokenRefused("the token does not name its key")
        return name


def client_from(claims: dict[str, Any]) -> Client:
    """Errors: `TokenRefused` for claims that cannot be used."""
    name, scope, sources = claims["sub"], claims.get("scope", ""), claims.get("sources", [])
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise TokenRefused("the token's sub cannot be used")
    if not isinstance(scope, str):
        raise TokenRefused("the token's scope is not a string")
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise TokenRefused("the token's sources are not a list of names")
    is_for_all = sources == ["*"]
    if not is_for_all and not all(_SOURCE.fullmatch(source) for source in sources):
        raise TokenRefused("the token's sources are not a list of names")
    return Client(name, SCOPES.intersection(scope.split(" ")), None if is_for_all else frozenset(sources))


def _phrase(error: jwt.PyJWTError) -> str:
    for kind, phrase in (
        (jwt.ExpiredSignatureError, "the token has expired"),
        (jwt.ImmatureSignatureError, "the token is not valid yet"),
        (jwt.InvalidAudienceError, "the token is for another audience"),
        (jwt.InvalidIssuerError, "the token is of another issuer"),
        (jwt.MissingRequiredClaimError, "the token lacks a claim"),
        (jwt.InvalidSignatureError, "the token's signature does not hold"),
    ):
        if isinstance(error, kind):
            return phrase
    return "the token cannot be accepted"
