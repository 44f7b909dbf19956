"""TLS of both doors: 1.3 and nothing older; with a client CA, clients must show a certificate of it."""

import ssl
from typing import Any

from core.errors import ConfigurationError
from core.settings import Settings


def server_tls(settings: Settings) -> ssl.SSLContext | None:
    """The context of a listening socket, None where no certificate is set. Errors: `ConfigurationError`."""
    if settings.listen_tls_certificate is None:
        if settings.listen_tls_client_ca is not None:
            raise ConfigurationError("CUFF_LISTEN_TLS_CLIENT_CA is set without CUFF_LISTEN_TLS_CERTIFICATE; set both")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(settings.listen_tls_certificate, settings.listen_tls_key)
        if settings.listen_tls_client_ca is not None:
            context.load_verify_locations(settings.listen_tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"the listener's TLS files cannot be used ({error.strerror or type(error).__name__}); "
                                 "check CUFF_LISTEN_TLS_CERTIFICATE, _KEY and _CLIENT_CA") from None  # fmt: skip
    return context


def peer_names(certificate: dict[str, Any] | None) -> frozenset[str]:
    """Subject common names and DNS names of a verified client certificate."""
    if not certificate:
        return frozenset()
    common = {value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"}
    return frozenset(common | {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"})
