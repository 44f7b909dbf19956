"""uvicorn as the HTTP door: in an event loop that others share, with limits that it does not set itself."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.settings import Settings
from ehr.live.tls import peer_names

_LARGEST_HEAD_BYTES = 64 << 10
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


class _Connection(HttpToolsProtocol):
    """Tells the application the names of the client's certificate, as ``request.state.peer_names``; closes on one that sends
    no request, or a head without end."""

    _head_bytes = 0
    _is_in_head = False
    _head: object = None
    _seen_waiting: Any = None
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None and ssl_object.context.verify_mode == ssl.CERT_REQUIRED:
            self.app_state = {**self.app_state, "peer_names": peer_names(transport.get_extra_info("peercert"))}
        self._look = self.loop.call_later(_KEEP_ALIVE_SECONDS, self._look_again)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        head = self._head
        super().data_received(data)
        if self._is_in_head and self._head is head:  # all of it belonged to one head
            self._head_bytes += len(data)
        if self._head_bytes > _LARGEST_HEAD_BYTES:
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head, self._head_bytes = True, object(), 0

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def _look_again(self) -> None:
        """Close where no request has begun since the last look."""
        waiting_since = self.cycle or self if self.cycle is None or self.cycle.response_complete else None
        if waiting_since is not None and waiting_since is self._seen_waiting:
            self.transport.close()
            return
        self._seen_waiting = waiting_since
        self._look = self.loop.call_later(_KEEP_ALIVE_SECONDS, self._look_again)


@contextmanager
def _exit_as_os_error() -> Iterator[None]:
    """uvicorn exits the process where it cannot bind."""
    try:
        yield
    except SystemExit:
        raise OSError from None
