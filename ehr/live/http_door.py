"""uvicorn as the HTTP door: in an event loop that others share, with limits that it does not set itself."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from core.http_connection import BoundedConnection
from core.settings import Settings
from ehr.live.tls import peer_names

_KEEP_ALIVE_SECONDS = 30


class HttpDoor:
    """Serves ``app`` from `start` to `stop`. ``port`` is the one that was bound."""

    def __init__(self, settings: Settings, app: Any, tls: ssl.SSLContext | None) -> None:
        self._config = uvicorn.Config(
            app, settings.listen_host, settings.fhir_port, log_config=None, access_log=False, lifespan="off",
            server_header=False, http=_Connection, ws="none", timeout_graceful_shutdown=10,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS, limit_concurrency=settings.mllp_max_connections,
        )  # fmt: skip
        self._tls = tls
        self._server: uvicorn.Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Errors: ``OSError`` for a port that is taken."""
        self._config.load()
        self._config.ssl = self._tls  # one context for both doors: 1.3, and the clients' certificates
        server = uvicorn.Server(self._config)
        server.lifespan = self._config.lifespan_class(self._config)
        with _exit_as_os_error():
            await server.startup()
        self._server = server
        self._ticking = asyncio.create_task(server.main_loop())
        self.port = server.servers[0].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Take no more, and answer what has begun."""
        if self._server is not None and self._ticking is not None:
            self._server.should_exit = True
            await self._ticking
            await self._server.shutdown()


class _Connection(BoundedConnection):
    """Tells the application the names of the client's certificate, as ``request.state.peer_names``."""

    largest_head_bytes = 64 << 10
    patience_seconds = float(_KEEP_ALIVE_SECONDS)
    idle_looks = 1

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None and ssl_object.context.verify_mode == ssl.CERT_REQUIRED:
            self.app_state = {**self.app_state, "peer_names": peer_names(transport.get_extra_info("peercert"))}


@contextmanager
def _exit_as_os_error() -> Iterator[None]:
    """uvicorn exits the process where it cannot bind."""
    try:
        yield
    except SystemExit:
        raise OSError from None
