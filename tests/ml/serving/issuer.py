"""An issuer of the tests: its keys, its JWKS in a file, and tokens good and bad."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.settings import Settings
from tests.conftest import make_settings

ISSUER, AUDIENCE = "https://issuer.example", "cuff"
ALL_SCOPES = ("risk:read", "risk:score", "model:read", "ops:read")


class Issuer:
    """``file`` is the JWKS that a Cuff reads; `rotate` replaces its keys."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.add("first")

    def add(self, name: str) -> None:
        self.keys[name] = ec.generate_private_key(ec.SECP256R1())
        self.publish()

    def withdraw(self, name: str) -> None:
        del self.keys[name]
        self.publish()

    def publish(self) -> None:
        self.file.write_text(json.dumps({"keys": [self.document(name) for name in self.keys]}))

    def document(self, name: str) -> dict[str, Any]:
        written = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.keys[name].public_key()))
        return written | {"kid": name, "alg": "ES256", "use": "sig"}

    def settings(self, var: Path, **overrides: object) -> Settings:
        return make_settings(var, **{"token_jwks": str(self.file), "token_issuer": ISSUER, **overrides})

    def claims(self, *scopes: str, **changes: Any) -> dict[str, Any]:
        """None takes a claim away."""
        now = int(time.time())
        good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "clinic", "iat": now, "nbf": now, "exp": now + 600,
                "scope": " ".join(scopes), "sources": ["*"]}  # fmt: skip
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(self, *scopes: str, key: str = "first", header: dict[str, Any] | None = None, **changes: Any) -> str:
        return jwt.encode(self.claims(*scopes, **changes), self.keys[key], "ES256", headers={"kid": key} | (header or {}))

    def bad_tokens(self) -> dict[str, str]:
        """Each would be good for everything but for one thing."""
        now = int(time.time())
        every = ALL_SCOPES
        stranger = ec.generate_private_key(ec.SECP256R1())
        public = self.keys["first"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        good = self.token(*every)
        head, body, signature = good.split(".")
        return {
            "expired": self.token(*every, iat=now - 700, nbf=now - 700, exp=now - 60),
            "not yet valid": self.token(*every, nbf=now + 120, exp=now + 600),
            "issued in the future": self.token(*every, iat=now + 120),
            "another audience": self.token(*every, aud="another"),
            "another issuer": self.token(*every, iss="https://another.example"),
            "alg none": _unsigned(self.claims(*every), {"alg": "none", "typ": "JWT", "kid": "first"}),
            "alg none without a kid": _unsigned(self.claims(*every), {"alg": "none", "typ": "JWT"}),
            "signature cut off": f"{head}.{body}.",
            "signed with HS256 and the public key": _hs256(self.claims(*every), public, {"kid": "first"}),
            "signed by a stranger": jwt.encode(self.claims(*every), stranger, "ES256", headers={"kid": "first"}),
            "unknown kid": jwt.encode(self.claims(*every), stranger, "ES256", headers={"kid": "never-seen"}),
            "no kid": jwt.encode(self.claims(*every), self.keys["first"], "ES256"),
            "its own key along": jwt.encode(self.claims(*every), stranger, "ES256", headers={
                "kid": "first", "jwk": json.loads(jwt.algorithms.ECAlgorithm.to_jwk(stranger.public_key()))}),
            "critical header": self.token(*every, header={"crit": ["b64"], "b64": True}),
            "another type": self.token(*every, header={"typ": "logout+jwt"}),
            "claims changed": f"{head}.{_encoded(self.claims(*every, sub='root'))}.{signature}",
            "lives too long": self.token(*every, exp=now + 40 * 86400),
            "no expiry": self.token(*every, exp=None),
            "no not-before": self.token(*every, nbf=None),
            "no issue time": self.token(*every, iat=None),
            "no audience": self.token(*every, aud=None),
            "no issuer": self.token(*every, iss=None),
            "no subject": self.token(*every, sub=None),
            "a subject of two lines": self.token(*every, sub="clinic\nroot"),
            "scopes as a list": self.token(*every, scope=list(every)),
            "sources as a word": self.token(*every, sources="*"),
            "sources of which one is all": self.token(*every, sources=["SIMHOSP", "*"]),
            "garbage": "garbage",
            "three parts of garbage": "a.b.c",
            "no JSON": ".".join([base64.urlsafe_b64encode(b"\xff\xfe").decode()] * 3),
            "oversized": self.token(*every, padding="x" * 9000),
            "nothing": "",
        }  # fmt: skip


def _encoded(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def _unsigned(claims: dict[str, Any], header: dict[str, Any]) -> str:
    return f"{_encoded(header)}.{_encoded(claims)}."


def _hs256(claims: dict[str, Any], secret: bytes, header: dict[str, Any]) -> str:
    """By hand: PyJWT itself refuses to sign with a public key."""
    import hmac

    signed = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'} | header)}.{_encoded(claims)}"
    return f"{signed}.{base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), 'sha256')).rstrip(b'=').decode()}"
