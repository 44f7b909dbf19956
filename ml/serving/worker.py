"""One worker of the API: a process forked from a warm supervisor, that answers on a socket of its own."""

import asyncio
import logging
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress

from core.errors import CuffError
from core.settings import Settings

_PARENT_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 75
_CLOSING_SECONDS = 20


def warm_up() -> None:
    """Load, before the fork, what every worker needs: seconds of imports, and memory that all of them share.

    Nothing is opened: a connection or a thread would not survive the fork.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import gc

    import catboost  # noqa: F401
    import mlflow  # noqa: F401
    import uvicorn  # noqa: F401
    import uvloop  # noqa: F401

    from core import http_connection  # noqa: F401
    from ml.serving import app, fhir_answer  # noqa: F401

    fhir_answer.prepare()
    gc.collect()
    gc.freeze()  # else the collector would touch, and so copy, every shared page


def work(settings: Settings, listening: socket.socket, number: int, ready: int) -> int:
    """Answer on ``listening`` until SIGTERM, or until the supervisor is gone; a dot into ``ready`` says that it answers.
    Returns the exit code; never raises."""
    import uvloop

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return uvloop.run(_answer(settings, listening, number, ready, os.getppid()))
    except CuffError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


async def _answer(settings: Settings, listening: socket.socket, number: int, ready: int, parent: int) -> int:
    import uvicorn

    from core.http_connection import BoundedConnection
    from ml.serving.app import create_app

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
    return 0 if server.started else 1


async def _watch(server: "object", ready: int, parent: int) -> None:
    """Say when it answers; end when the supervisor is gone, however it went."""
    while not server.started:  # type: ignore[attr-defined]
        await asyncio.sleep(0.02)
    with suppress(OSError):  # the supervisor may be gone already
        os.write(ready, b".")
    os.close(ready)
    while os.getppid() == parent:
        await asyncio.sleep(_PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
