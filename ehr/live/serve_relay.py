"""`cuff relay`: the inbox out to Kafka, and hospitals' own topics in, until SIGTERM or SIGINT."""

import fcntl
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Protocol

from core.errors import ConfigurationError
from core.settings import Settings
from core.store import open_store
from ehr.live.check import Checker
from ehr.live.relay import Relay
from ehr.live.status_server import start_status_server
from ehr.live.topic_intake import TopicIntake
from ehr.sources import load_sources

_LOCK_SECONDS = 0.5
Say = Callable[[str], None]


class _Runs(Protocol):
    trouble: dict[str, str]

    def run(self, stop: Event) -> None: ...


def run_relay(settings: Settings, say: Say) -> int:
    """Relay until told to stop; returns the exit code. ``say`` is told once, when it has begun.

    Errors: `ConfigurationError` when there is nothing to relay, no broker is named, or the port is taken.
    """
    sources = load_sources(settings.sources_file)
    checker = Checker(settings, sources)
    intakes = [TopicIntake(settings, source, checker) for source in sources.values() if source.kafka_topic]
    if settings.transport == "kafka" and not settings.kafka_bootstrap:
        raise ConfigurationError("no Kafka broker is named; set CUFF_KAFKA_BOOTSTRAP to host:port")
    parts: list[_Runs] = [*([Relay(settings)] if settings.transport == "kafka" else []), *intakes]
    if not parts:
        raise ConfigurationError("there is nothing to relay: set CUFF_TRANSPORT=kafka, or name a kafka_topic of a source in "
                                 f"{settings.sources_file.name}")  # fmt: skip
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    open_store(settings)
    has_begun = Event()
    crashed: list[BaseException] = []

    def not_ready() -> dict[str, str]:
        if not has_begun.is_set():
            return {"lock": "another relay is running"}
        return {name: why for part in parts for name, why in part.trouble.items()}

    def run(part: _Runs) -> None:
        try:
            part.run(stop)
        except BaseException as error:  # none that is waited out; better to start anew than to run on with a part missing
            crashed.append(error)
            stop.set()

    try:
        status = start_status_server(settings.listen_host, settings.relay_port, not_ready)
    except OSError:
        raise ConfigurationError(f"port {settings.relay_port} cannot be listened on; stop what listens there or set "
                                 "CUFF_RELAY_PORT in .env") from None  # fmt: skip
    try:
        with _relaying_alone(settings, stop):
            has_begun.set()
            threads = [Thread(target=run, args=[part], name=type(part).__name__) for part in parts]
            for thread in threads:
                thread.start()
            topics = "".join(f", {intake.source.kafka_topic} in" for intake in intakes)
            out = "the inbox out" if settings.transport == "kafka" else "no inbox out (CUFF_TRANSPORT=inbox)"
            say(f"relaying: {out}{topics}; status on {settings.listen_host}:{status.port}")
            for thread in threads:
                thread.join()
    finally:
        status.stop()
    if crashed:
        raise crashed[0]
    return 0


@contextmanager
def _relaying_alone(settings: Settings, stop: Event) -> Iterator[None]:
    """One relay at a time; another one waits. Two would only say everything twice, and count a hospital's records twice."""
    engine = open_store(settings)
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            while not stop.is_set():
                if connection.exec_driver_sql("select pg_try_advisory_lock(7308)").scalar():
                    connection.commit()  # the lock is the session's; no transaction stays open meanwhile
                    break
                connection.commit()
                stop.wait(_LOCK_SECONDS)
            yield
            connection.exec_driver_sql("select pg_advisory_unlock_all()")
        return
    with open(settings.var / "relay.lock", "a+") as lock:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stop.wait(_LOCK_SECONDS)
        yield
