"""`cuff listen`: both doors in one event loop, until SIGTERM or SIGINT; then what has arrived is answered first."""

import asyncio
import errno
import logging
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import date

from sqlalchemy import func, insert, select

from core.errors import ConfigurationError
from core.feed_tables import FeedHour
from core.settings import Settings
from core.store import Payload, open_store, store_session, utc_now
from ehr.intake import LIVE
from ehr.live.check import Checker
from ehr.live.fhir_door import fhir_app
from ehr.live.group_commit import GroupCommit
from ehr.live.http_door import HttpDoor
from ehr.live.inbox import Inbox
from ehr.live.listener import MllpListener
from ehr.live.metrics import INBOX_LAG, INBOX_OLDEST_SECONDS
from ehr.live.tls import server_tls

logger = logging.getLogger("cuff.live")
_LAG_SECONDS = 5
_OTHER_FILES = 256
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
    _allow_connections(settings)
    return uvloop.run(_listen(settings, say, as_of))


def _allow_connections(settings: Settings) -> None:
    """As many files as both doors may have connections; a shell often allows 1024."""
    wanted = 2 * settings.mllp_max_connections + _OTHER_FILES
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))
    if most < wanted:
        logger.warning("the system allows %d open files, for CUFF_MLLP_MAX_CONNECTIONS it takes %d", most, wanted)


async def _listen(settings: Settings, say: Say, as_of: date | None) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with open_doors(settings, as_of) as doors:
        secured = "mutual TLS" if settings.listen_tls_client_ca else "TLS" if doors.mllp.is_secured else "no TLS"
        host = settings.listen_host
        say(f"listening: MLLP {host}:{doors.mllp.port}, FHIR {host}:{doors.http.port} ({secured})")
        await stopped.wait()
    return 0


@dataclass(frozen=True)
class Doors:
    """Both doors, open."""

    mllp: MllpListener
    http: HttpDoor


@asynccontextmanager
async def open_doors(settings: Settings, as_of: date | None = None) -> AsyncIterator[Doors]:
    """Both doors until the block ends; then what has arrived is answered first. Errors: `ConfigurationError`."""
    tls, inbox, checker = server_tls(settings), Inbox(settings, as_of), Checker(settings)
    commit = GroupCommit(inbox.store)
    mllp = MllpListener(settings, checker, commit, tls)
    http = HttpDoor(settings, fhir_app(settings, checker, commit, lambda: not_ready(settings, commit)), tls)
    watcher = asyncio.create_task(_watch(settings, checker))
    try:
        with _taken_port_told(settings.fhir_port, "CUFF_FHIR_PORT"):
            await http.start()
        with _taken_port_told(settings.mllp_port, "CUFF_MLLP_PORT"):
            await mllp.start()
        yield Doors(mllp, http)
    finally:
        watcher.cancel()
        await mllp.drain()
        await http.stop()
        await commit.drain()
        commit.close()
        inbox.close()


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


@contextmanager
def _taken_port_told(port: int, setting: str) -> Iterator[None]:
    try:
        yield
    except OSError:
        raise ConfigurationError(
            f"port {port} cannot be listened on; stop what listens there or set {setting} in .env") from None
