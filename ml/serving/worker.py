"""One worker of the API: a process that answers on a socket that its supervisor holds."""

import asyncio
import logging
import os
import signal
import socket
import sys

from core.settings import load_settings

_PARENT_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 75
_CLOSING_SECONDS = 20


def main() -> None:
    """``worker SOCKET NUMBER READY PARENT``: descriptors of the listening socket and of the pipe to say ready on."""
    descriptor, number, ready, parent = map(int, sys.argv[1:5])
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    import uvloop

    uvloop.run(_answer(socket.socket(fileno=descriptor), number, ready, parent))


async def _answer(listening: socket.socket, number: int, ready: int, parent: int) -> None:
    import uvicorn

    from ml.serving.app import create_app
    from ml.serving.security.connections import BoundedConnection

    settings = load_settings()
    config = uvicorn.Config(
        create_app(settings, number), loop="none", http=BoundedConnection, ws="none", lifespan="on", access_log=False,
        log_config=None, server_header=False, proxy_headers=False, timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_CLOSING_SECONDS, h11_max_incomplete_event_size=16 << 10,
        ssl_certfile=settings.serve_tls_certificate, ssl_keyfile=settings.serve_tls_key,
    )  # fmt: skip
    server = uvicorn.Server(config)
    watching = asyncio.create_task(_watch(server, ready, parent))
    await server.serve(sockets=[listening])
    watching.cancel()


async def _watch(server: "object", ready: int, parent: int) -> None:
    """Say when it answers; end when the supervisor is gone, however it went."""
    while not server.started:  # type: ignore[attr-defined]
        await asyncio.sleep(0.02)
    os.write(ready, b".")
    os.close(ready)
    while os.getppid() == parent:
        await asyncio.sleep(_PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
