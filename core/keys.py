"""Keyed pseudonyms and sealed bytes.

A pseudonym is the first 128 bits, in hex, of HMAC-SHA-256 over ``kind|namespace|value``. DuckDB has no HMAC function,
so `install_pseudonym_macro` builds the same from its ``sha256`` (RFC 2104: H(opad || H(ipad || message))).
Sealed bytes are AES-256-GCM with a fresh 96-bit nonce in front (NIST SP 800-38D).
"""

import base64
import hmac
import os
import secrets
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from duckdb import DuckDBPyConnection
from pydantic import SecretStr

from core.errors import ConfigurationError

PSEUDONYM_HEX_LENGTH = 32
_BLOCK_BYTES = 64
_NONCE_BYTES = 12
_SECRETS = ("CUFF_PSEUDONYM_SECRET", "CUFF_VAULT_KEY", "CUFF_ARCHIVE_KEY")


def key_bytes(secret: SecretStr, name: str) -> bytes:
    """The 32 bytes behind a base64 secret. Errors: `ConfigurationError` when it is absent or of another length."""
    try:
        raw = base64.b64decode(secret.get_secret_value(), validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ConfigurationError(f"{name} is not 32 bytes of base64; run `make setup` to generate it into .env")
    return raw


def pseudonym(key: bytes, kind: str, namespace: str, value: str) -> str:
    """The pseudonym of ``value`` within ``namespace``: 32 hex digits, the same for the same secret, for ever."""
    message = f"{kind}|{namespace}|{value}".encode()
    return hmac.digest(key, message, "sha256").hex()[:PSEUDONYM_HEX_LENGTH]


def install_pseudonym_macro(connection: DuckDBPyConnection, key: bytes) -> None:
    """Give the connection ``pseudonym(kind, namespace, value)``, equal to `pseudonym`; null when any part is null."""
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    connection.execute("set variable cuff_ipad = $1::blob", [bytes(b ^ 0x36 for b in padded)])
    connection.execute("set variable cuff_opad = $1::blob", [bytes(b ^ 0x5C for b in padded)])
    connection.execute(
        f"""
        create or replace temp macro pseudonym(kind, namespace, value) as
            left(sha256(getvariable('cuff_opad') || unhex(sha256(getvariable('cuff_ipad')
                || encode(kind || '|' || namespace || '|' || value)))), {PSEUDONYM_HEX_LENGTH})
        """
    )


@lru_cache(maxsize=8)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


def seal(key: bytes, plain: bytes, context: str) -> bytes:
    """Encrypt ``plain``; ``context`` (e.g. the row's key) is authenticated, so that sealed bytes cannot be moved."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(key).encrypt(nonce, plain, context.encode())


def unseal(key: bytes, sealed: bytes, context: str) -> bytes:
    """Decrypt what `seal` made. Errors: ``cryptography.exceptions.InvalidTag`` when key, bytes or context differ."""
    return _cipher(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())


def generate_secrets(env_file: Path) -> list[str]:
    """Add the secrets that ``.env`` lacks, mode 600, and return their names. What is there is never changed."""
    present = env_file.read_text() if env_file.exists() else ""
    missing = [name for name in _SECRETS if f"\n{name}=" not in f"\n{present}"]
    if missing:
        lines = [f"{name}={base64.b64encode(secrets.token_bytes(32)).decode()}\n" for name in missing]
        text = present + ("" if present.endswith("\n") or not present else "\n") + "".join(lines)
        descriptor = os.open(env_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(text)
    if env_file.exists():
        env_file.chmod(0o600)
    return missing
