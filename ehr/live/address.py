"""Where a listener is, written as a URL: ``mllp://host:port``, with TLS ``mlps://`` or ``mllps://``."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import ConfigurationError, InputError

DEFAULT_PORT = 2575  # the port that IANA keeps for HL7


@dataclass(frozen=True)
class MllpAddress:
    """A listener."""

    host: str
    port: int
    is_tls: bool

    @classmethod
    def parse(cls, url: str) -> "MllpAddress":
        """Errors: `InputError` saying how an address is written."""
        wanted = "write mllp://host:port, or mllps://host:port for TLS"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise InputError(f"'{url}' is no address; {wanted}") from None
        if parts.scheme not in ("mllp", "mlps", "mllps") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise InputError(f"'{url}' is no address of a listener; {wanted}")
        return cls(parts.hostname, DEFAULT_PORT if port is None else port, parts.scheme != "mllp")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mllps' if self.is_tls else 'mllp'}://{host}:{self.port}"

    def client_context(self, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
                       ) -> ssl.SSLContext | None:
        """What a client needs to speak to it: TLS 1.3, the listener's certificate checked against ``ca`` (default: the
        system's), its own shown when given. None without TLS. Errors: `ConfigurationError` for unusable files."""
        if not self.is_tls:
            if ca or certificate or key:
                raise ConfigurationError(f"certificates are for TLS; write mllps:// instead of {self}")
            return None
        try:
            context = ssl.create_default_context(cafile=ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            if certificate:
                context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise ConfigurationError(f"a certificate or key for {self} cannot be used: {error}") from None
        return context
