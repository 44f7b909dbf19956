"""The issuer's public keys (a JWKS, RFC 7517): fetched again when a token names a new one, and now and then."""

import asyncio
import json
import logging
import time
import urllib.request
from pathlib import Path
from typing import Any

import jwt

from core.errors import ConfigurationError, CuffError
from core.settings import Settings
from ml.serving.security.development import DEVELOPMENT_KEY_PREFIX, development_jwks, is_development

logger = logging.getLogger("cuff.serving")
_OLD_SECONDS = 300.0  # a withdrawn key is known to be so after this at the latest
_PAUSE_SECONDS = 5.0  # between two fetches, whatever keys tokens name
_UNUSABLE_SECONDS = 3600.0  # keys that could not be confirmed for so long count no more
_FETCH_SECONDS = 5.0
_LARGEST_JWKS = 1 << 20
_SMALLEST_RSA_BITS = 2048
_KINDS = {"ES256": ("EC", "P-256"), "RS256": ("RSA", None), "EdDSA": ("OKP", "Ed25519")}


class KeysUnavailable(CuffError):
    """No token can be checked, as the issuer does not give its keys."""


class IssuerKeys:
    """For one event loop. ``generation`` grows whenever a key is gone or another."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys: dict[str, Any] = {}
        self._documents: dict[str, Any] = {}
        self._confirmed_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()
        self.generation = 0

    @property
    def are_old(self) -> bool:
        """Whether they should be looked at again."""
        if self._confirmed_at is None:
            return True
        now = time.monotonic()
        return now - self._confirmed_at > _OLD_SECONDS and now - (self._tried_at or 0) > _PAUSE_SECONDS

    async def key_of(self, name: str) -> Any | None:
        """The public key of this ``kid``, None where the issuer has none. Errors: `KeysUnavailable`."""
        if name not in self._keys:
            await self.refresh()
            self.require_usable()
        return self._keys.get(name)

    def require_usable(self) -> None:
        """Errors: `KeysUnavailable` where they were never had, or too long ago to be trusted still."""
        if self._confirmed_at is None or time.monotonic() - self._confirmed_at > _UNUSABLE_SECONDS:
            raise KeysUnavailable("the issuer's keys cannot be had; check CUFF_TOKEN_JWKS")

    async def refresh(self) -> None:
        """Fetch them, unless that was done a moment ago. A failure leaves those that are known."""
        async with self._fetching:
            if self._tried_at is not None and time.monotonic() - self._tried_at < _PAUSE_SECONDS:
                return
            self._tried_at = time.monotonic()
            try:
                found = await asyncio.to_thread(read_jwks, self._settings)
                documents = usable_keys(found, self._settings)
                if not documents:
                    raise ValueError("no usable key")
                keys = {
                    name: jwt.PyJWK(document, self._settings.token_algorithm).key
                    for name, document in documents.items()
                }
            except Exception as error:
                logger.error("the issuer's keys could not be fetched: %s", type(error).__name__)
                return
            if any(documents.get(name) != document for name, document in self._documents.items()):
                self.generation += 1
            self._keys, self._documents, self._confirmed_at = keys, documents, time.monotonic()


def read_jwks(settings: Settings) -> Any:
    """The document behind ``token_jwks``. Errors: whatever the file, the network or JSON raises."""
    where = settings.token_jwks
    if not where:
        return development_jwks(settings)
    if not where.startswith("https://"):
        return json.loads(Path(where.removeprefix("file://")).read_bytes()[:_LARGEST_JWKS])
    request = urllib.request.Request(where, headers={"Accept": "application/json"})
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=_FETCH_SECONDS) as answer:
        return json.loads(answer.read(_LARGEST_JWKS))


def usable_keys(found: Any, settings: Settings) -> dict[str, dict[str, Any]]:
    """Keys by ``kid`` that may sign a token with the algorithm of the settings; every other is left out.

    Errors: `ConfigurationError` for a document that is no JWKS."""
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ConfigurationError("CUFF_TOKEN_JWKS is not a JWKS; it must name a document with a list of `keys`")
    usable: dict[str, dict[str, Any]] = {}
    for document in listed:
        if isinstance(document, dict) and _is_usable(document, settings):
            usable.setdefault(document["kid"], document)
    return usable


def _is_usable(document: dict[str, Any], settings: Settings) -> bool:
    kind, curve = _KINDS[settings.token_algorithm]
    name = document.get("kid")
    if not isinstance(name, str) or not name or document.get("kty") != kind or document.get("crv") != curve:
        return False
    if document.get("use", "sig") != "sig" or document.get("alg", settings.token_algorithm) != settings.token_algorithm:
        return False
    if "d" in document:
        logger.error("the issuer's JWKS holds a private key, which is not used")
        return False
    if name.startswith(DEVELOPMENT_KEY_PREFIX) and not is_development(settings):
        logger.error("the issuer's JWKS holds a development key, which is not used")
        return False
    try:
        key = jwt.PyJWK(document, settings.token_algorithm).key
    except Exception as error:
        logger.error("a key of the issuer's JWKS cannot be read: %s", type(error).__name__)
        return False
    return getattr(key, "key_size", _SMALLEST_RSA_BITS) >= _SMALLEST_RSA_BITS if kind == "RSA" else True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from where they were said to be, over TLS, or not at all."""

    def redirect_request(self, *_arguments: Any, **_options: Any) -> None:
        return None
