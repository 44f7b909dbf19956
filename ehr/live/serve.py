"""`cuff listen`: both doors in one event loop, until SIGTERM or SIGINT; then what has arrived is answered first."""

import asyncio
import errno
import logging
import shutil
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import uvicorn
from sqlalchemy import func, insert, select
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.errors import ConfigurationError
from core.feed_tables import FeedHour
from core.settings import Settings
from core.store import Payload, open_store, store_session, utc_now
from ehr.intake import LIVE
from ehr.live.check import Checker
from ehr.live.fhir_door import fhir_app
from ehr.live.group_commit import GroupCommit
from ehr.live.inbox import Inbox
from ehr.live.listener import MllpListener
from ehr.live.metrics import INBOX_LAG, INBOX_OLDEST_SECONDS
from ehr.live.tls import peer_names, server_tls

logger = logging.getLogger("cuff.live")
_LAG_SECONDS = 5
_BUSY_MILLISECONDS = 2000
_FREE_BYTES = 8 << 20
Say = Callable[[str], None]


def run_listener(settings: Settings, say: Say, as_of: date | None = None) -> int:
    """Listen until told to stop; returns the exit code. ``say`` is told once, when both doors are open.

    Errors: `ConfigurationError` for a taken port or TLS files that cannot be used; what the ops database raises when it
    cannot be opened.
    """
    import uvloop

    open_store(settings)  # migrated before the first message, not with it
    return uvloop.run(_listen(settings, say, as_of))


async def _listen(settings: Settings, say: Say, as_of: date | None) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    tls = server_tls(settings)
    commit = GroupCommit(Inbox(settings, as_of).store)
    checker = Checker(settings)
    mllp = MllpListener(settings, checker, commit, tls)
    http = _HttpDoor(settings, fhir_app(settings, checker, commit, lambda: not_ready(settings, commit)), tls)
    with _taken_port_told(settings.mllp_port, "CUFF_MLLP_PORT"):
        await mllp.start()
    with _taken_port_told(settings.fhir_port, "CUFF_FHIR_PORT"):
        await http.start()
    watcher = asyncio.create_task(_watch(settings, checker))
    secured = "mutual TLS" if settings.listen_tls_client_ca else "TLS" if tls else "no TLS"
    say(f"listening: MLLP {settings.listen_host}:{mllp.port}, FHIR {settings.listen_host}:{http.port} ({secured})")
    await stopped.wait()
    watcher.cancel()
    await mllp.drain()
    await http.stop()
    await commit.drain()
    commit.close()
    return 0


def not_ready(settings: Settings, commit: GroupCommit) -> dict[str, str]:
    """What keeps the doors from acknowledging: the last commit failed, or the inbox cannot be written."""
    missing = {}
    if commit.is_failing:
        missing["inbox"] = "the last commit failed"
    try:
        _try_to_write(settings)
    except Exception as error:
        missing["ops database"] = type(error).__name__
    return missing


def _try_to_write(settings: Settings) -> None:
    """Write a row and take it back. Errors: what the database raises; ``OSError`` where its disk is full."""
    engine = open_store(settings)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(f"pragma busy_timeout = {_BUSY_MILLISECONDS}")
            connection.exec_driver_sql("begin immediate")
            if shutil.disk_usage(settings.var).free < _FREE_BYTES:
                raise OSError(errno.ENOSPC, "the disk is full")
        connection.execute(insert(FeedHour).values(source_id="ready", feed="none", hour_at=utc_now(), last_at=utc_now()))
        connection.rollback()
        connection.invalidate()  # with its short patience it is of no use to anybody else


async def _watch(settings: Settings, checker: Checker) -> None:
    """Every few seconds: how much waits to be landed, and whether sources were declared anew."""
    while True:
        checker.look_at_sources()
        try:
            waiting, oldest = await asyncio.to_thread(_lag, settings)
        except Exception as error:  # seen by /readyz as well; the doors go on
            logger.warning("the inbox's lag cannot be read: %s", type(error).__name__)
        else:
            INBOX_LAG.set(waiting)
            INBOX_OLDEST_SECONDS.set(oldest)
        await asyncio.sleep(_LAG_SECONDS)


def _lag(settings: Settings) -> tuple[int, float]:
    with store_session(settings) as session:
        waiting, since = session.execute(
            select(func.count(), func.min(Payload.received_at))
            .where(Payload.state == "received", Payload.archive_name == LIVE)
        ).one()
    return waiting, max(0.0, (utc_now() - since).total_seconds()) if since else 0.0


class _HttpDoor:
    """uvicorn in this loop, without signal handlers of its own."""

    def __init__(self, settings: Settings, app: Any, tls: ssl.SSLContext | None) -> None:
        self._config = uvicorn.Config(
            app, settings.listen_host, settings.fhir_port, log_config=None, access_log=False, lifespan="off",
            server_header=False, http=_WithPeerNames, ws="none", timeout_graceful_shutdown=10, timeout_keep_alive=30,
            limit_concurrency=settings.mllp_max_connections,
        )  # fmt: skip
        self._tls = tls
        self._server: uvicorn.Server | None = None
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
        if self._server is not None:
            self._server.should_exit = True
            await self._ticking
            await self._server.shutdown()


class _WithPeerNames(HttpToolsProtocol):
    """Tells the application the names of the client's certificate, as ``request.state.peer_names``."""

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


@contextmanager
def _taken_port_told(port: int, setting: str) -> Iterator[None]:
    try:
        yield
    except OSError:
        raise ConfigurationError(
            f"port {port} cannot be listened on; stop what listens there or set {setting} in .env") from None
