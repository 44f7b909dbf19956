"""The processes of the live door, and the inference API, as a stack starts them: their commands, and the ports by which it
knows them."""

import socket
from dataclasses import dataclass
from datetime import date

from core.settings import Settings


@dataclass(frozen=True)
class LiveDoor:
    """One process: ``cuff`` with ``command``, up when all of ``ports`` (number, setting) can be reached on ``host``."""

    name: str
    what: str
    command: tuple[str, ...]
    host: str
    ports: tuple[tuple[int, str], ...]


def live_doors(settings: Settings, as_of: date | None = None) -> list[LiveDoor]:
    """Listener and consumer, and the relay where ``CUFF_TRANSPORT`` is kafka."""
    host = settings.listen_host
    day = ("--as-of", as_of.isoformat()) if as_of else ()
    doors = [
        LiveDoor("listener", "the listener", ("listen", *day), host,
                 ((settings.mllp_port, "CUFF_MLLP_PORT"), (settings.fhir_port, "CUFF_FHIR_PORT"))),
        LiveDoor("consumer", "the consumer", ("consume",), host, ((settings.consumer_port, "CUFF_CONSUMER_PORT"),)),
    ]  # fmt: skip
    if settings.transport == "kafka":
        doors.append(LiveDoor("relay", "the relay", ("relay",), host, ((settings.relay_port, "CUFF_RELAY_PORT"),)))
    return doors


def api_door(settings: Settings) -> LiveDoor:
    """The inference API."""
    return LiveDoor("api", "the inference API", ("serve",), settings.serve_host, ((settings.serve_port, "CUFF_SERVE_PORT"),))


def api_shown(settings: Settings) -> str:
    """Where people and clients find the inference API."""
    scheme = "https" if settings.serve_tls_certificate is not None else "http"
    return f"API      {scheme}://{settings.serve_host}:{settings.serve_port}  tokens by `cuff token`"


def is_open(host: str, port: int) -> bool:
    """Whether somebody listens."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        with socket.create_connection((reachable, port), timeout=2):
            return True
    except OSError:
        return False


def doors_shown(settings: Settings) -> str:
    """Where senders and Prometheus find what runs."""
    tls = settings.listen_tls_certificate is not None
    host = settings.listen_host
    lines = [f"HL7 v2   {'mllps' if tls else 'mllp'}://{host}:{settings.mllp_port}",
             f"FHIR     {'https' if tls else 'http'}://{host}:{settings.fhir_port}/fhir",
             f"Metrics  ports {settings.fhir_port}, {settings.consumer_port}"]
    return "\n".join(lines) + (f", {settings.relay_port}" if settings.transport == "kafka" else "")
