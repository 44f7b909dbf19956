"""`cuff consume`: what arrived live lands in the lake, micro-batch after micro-batch, until it is told to stop.

Whatever goes wrong outside a message (a lake that is busy or away, an ops database that does not answer, sources that
cannot be read) is waited out: nothing is lost by waiting, and the lag says how long. What goes wrong inside one message
concerns that message alone.
"""

import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

import duckdb
from sqlalchemy.exc import SQLAlchemyError

from core.errors import ConfigurationError, CuffError, LakeBusyError
from core.settings import Settings
from core.store import open_store
from ehr.live.lander import Landed, Lander
from ehr.live.metrics import INBOX_LAG, INBOX_OLDEST_SECONDS, LAND_FAILURES, LAND_SECONDS, LANDED, QUARANTINED
from ehr.live.status_server import start_status_server
from ehr.live.transport import Announced, InboxTransport, Transport, waiting_entries

if TYPE_CHECKING:
    from ehr.live.wake import LandingTeller

logger = logging.getLogger("cuff.live")

_WAIT_SECONDS = 0.5  # for the first message, before the stop is looked at
_LAST_WAIT_SECONDS = 5.0  # `--once` on Kafka: the broker answers, or there is nothing
_LOCK_SECONDS = 5.0  # a build may hold the lake for minutes; the stop is looked at meanwhile
_BREATH_SECONDS = 0.25  # between two batches, so that others who wait for the lake's lock get it
_BACK_OFF_SECONDS = (0.5, 30.0)
_TIDY_SECONDS = 300.0
_LAG_SECONDS = 5.0
Say = Callable[[str], None]


@dataclass
class Consumed:
    """What a run of the consumer landed."""

    batches: int = 0
    payloads: int = 0
    quarantined: int = 0
    failures: int = 0


@dataclass
class Consumer:
    """Gathers from a transport and lands. ``once``: only what waits. ``trouble``: what is not ready, and why; empty while
    all is well."""

    settings: Settings
    transport: Transport
    once: bool = False
    stop: Event = field(default_factory=Event)
    trouble: dict[str, str] = field(default_factory=dict)
    consumed: Consumed = field(default_factory=Consumed)

    def __post_init__(self) -> None:
        patience = self.settings.lake_lock_timeout_seconds
        if not self.once:
            patience = min(patience, _LOCK_SECONDS)
        self._lander = Lander(self.settings.model_copy(update={"lake_lock_timeout_seconds": patience}))
        self._tidied = self._measured = time.monotonic()
        self._teller: LandingTeller | None = None
        self._landed_since_tidying = 0

    def run(self) -> Consumed:
        """Land until `stop` is set; with ``once`` until nothing waits. Errors: only with ``once``, whatever there is."""
        wait = _BACK_OFF_SECONDS[0]
        try:
            while not self.stop.is_set():
                try:
                    found = self._step()
                except Exception as error:  # waited out, whatever it is: the next one may be as good as ever
                    self.transport.forget()
                    self._note(error, wait)
                    if self.once:
                        raise
                    if not isinstance(error, LakeBusyError):  # that one has waited already
                        self.stop.wait(wait)
                        wait = min(wait * 2, _BACK_OFF_SECONDS[1])
                else:
                    self.trouble.clear()
                    wait = _BACK_OFF_SECONDS[0]
                    if self.once and not found:
                        break
        finally:
            self._lander.close()
            self.transport.close()
        return self.consumed

    def not_ready(self) -> dict[str, str]:
        """What keeps the consumer from landing."""
        return self.trouble | getattr(self.transport, "trouble", {})

    def _step(self) -> int:
        announced = self._gather()
        if announced:
            began = time.monotonic()
            self._note_landed(self._land(announced), began)
            self.transport.landed()
            self.stop.wait(0 if self.once else _BREATH_SECONDS)
        if time.monotonic() - self._tidied > _TIDY_SECONDS and self._landed_since_tidying:
            self._tidy()
        self._measure()
        self._tell()
        return len(announced)

    def _gather(self) -> list[Announced]:
        """The first message and what follows within ``consume_seconds``, ``consume_messages`` at most."""
        limit = self.settings.consume_messages
        if self.once:
            return self.transport.gather(0 if self.settings.transport == "inbox" else _LAST_WAIT_SECONDS, limit)
        announced = self.transport.gather(_WAIT_SECONDS, limit)
        deadline = time.monotonic() + self.settings.consume_seconds
        while announced and len(announced) < limit and not self.stop.is_set():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            more = self.transport.gather(min(remaining, _WAIT_SECONDS), limit - len(announced))
            announced += more
            if more:  # the next ones come one by one; asked for less often, they come together
                self.stop.wait(min(max(deadline - time.monotonic(), 0), _BREATH_SECONDS))
        return announced

    def _land(self, announced: Sequence[Announced]) -> Landed:
        """In one go, or, where the reader ends on a message, without that one."""
        try:
            return self._lander.land(announced, self.transport.positions())
        except Exception as error:
            if not is_of_a_message(error):
                raise
            logger.error("landing ended with %s; looking for the message that did it", type(error).__name__)
            landed = self._land_halves(announced, error)
            self._lander.land([], self.transport.positions())
            return landed

    def _land_halves(self, announced: Sequence[Announced], error: Exception) -> Landed:
        if len(announced) == 1:
            self._lander.set_aside(announced[0], error)
            QUARANTINED.labels("reader_failed").inc()
            return Landed(None, 0, 1)
        middle = len(announced) // 2
        halves: list[Landed] = []
        for half in (announced[:middle], announced[middle:]):
            try:
                halves.append(self._lander.land(half))
            except Exception as again:
                if not is_of_a_message(again):
                    raise
                halves.append(self._land_halves(half, again))
        return Landed(halves[1].batch_id or halves[0].batch_id, sum(half.payloads for half in halves),
                      sum(half.quarantined for half in halves))  # fmt: skip

    def _note_landed(self, landed: Landed, began: float) -> None:
        seconds = time.monotonic() - began
        LAND_SECONDS.observe(seconds)
        LANDED.inc(landed.payloads)
        self.consumed.batches += landed.batch_id is not None
        self.consumed.payloads += landed.payloads
        self.consumed.quarantined += landed.quarantined
        self._landed_since_tidying += landed.payloads
        logger.info("batch %s: %d landed, %d quarantined, %.2f s",
                    landed.batch_id, landed.payloads, landed.quarantined, seconds)  # fmt: skip

    def _note(self, error: Exception, wait: float) -> None:
        LAND_FAILURES.inc()
        self.consumed.failures += 1
        what = type(error).__name__
        if isinstance(error, LakeBusyError):
            if "lake" not in self.trouble:
                logger.warning("another process writes the lake; waiting for it")
            self.trouble["lake"] = "another process writes it"
            return
        # A CuffError's text is ours; a database's may quote a row.
        detail = f": {error}" if isinstance(error, CuffError) else ""
        self.trouble["landing"] = what
        logger.error("landing failed with %s%s; trying again in %.1f s", what, detail, wait)

    def _tidy(self) -> None:
        """Not worth a failure: the next landing is none the worse for a few more files."""
        self._tidied, self._landed_since_tidying = time.monotonic(), 0
        try:
            self._lander.tidy()
        except (CuffError, duckdb.Error, OSError, SQLAlchemyError) as error:
            logger.warning("small files are left unmerged this time: %s", type(error).__name__)

    def _tell(self) -> None:
        if self.settings.transport == "kafka" and not self.once:
            from ehr.live.wake import LandingTeller

            self._teller = self._teller or LandingTeller(self.settings)
            self._teller.tell()

    def _measure(self) -> None:
        if time.monotonic() - self._measured < _LAG_SECONDS:
            return
        self._measured = time.monotonic()
        number, oldest_seconds = waiting_entries(self.settings)
        INBOX_LAG.set(number)
        INBOX_OLDEST_SECONDS.set(oldest_seconds)


def make_transport(settings: Settings) -> Transport:
    """The one that ``CUFF_TRANSPORT`` names. Errors: `ConfigurationError` when Kafka is meant and no broker is named."""
    if settings.transport == "inbox":
        return InboxTransport(settings)
    if not settings.kafka_bootstrap:
        raise ConfigurationError("no Kafka broker is named; set CUFF_KAFKA_BOOTSTRAP to host:port")
    from ehr.live.kafka_transport import KafkaTransport

    return KafkaTransport(settings)


def run_consumer(settings: Settings, say: Say, once: bool = False) -> int:
    """Consume until SIGTERM or SIGINT, or ``once`` what waits; returns the exit code. ``say`` is told when it begins, and
    with ``once`` what was landed.

    Errors: `ConfigurationError` for a taken port or a missing broker; with ``once`` whatever keeps it from landing.
    """
    consumer = Consumer(settings, make_transport(settings), once)
    if once:
        open_store(settings)
        consumed = consumer.run()
        say(f"landed {consumed.payloads} payloads in {consumed.batches} batches, {consumed.quarantined} quarantined")
        return 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: consumer.stop.set())
    try:
        status = start_status_server(settings.listen_host, settings.consumer_port, consumer.not_ready)
    except OSError:
        raise ConfigurationError(f"port {settings.consumer_port} cannot be listened on; stop what listens there or set "
                                 "CUFF_CONSUMER_PORT in .env") from None  # fmt: skip
    try:
        say(f"consuming from {settings.transport}; status on {settings.listen_host}:{status.port}")
        consumer.run()
    finally:
        status.stop()
    return 0


def is_of_a_message(error: Exception) -> bool:
    """Whether it may lie in what was sent. Everything that names a database, a disk or a setting does not."""
    if isinstance(error, duckdb.Error):
        return isinstance(error, duckdb.DataError | duckdb.InvalidInputException)
    return not isinstance(error, CuffError | SQLAlchemyError | OSError | MemoryError)
