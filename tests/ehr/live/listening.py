"""The listener in a thread of this process, on free ports, and a peer that speaks to it byte by byte."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import uvloop
from sqlalchemy import Connection, select

from core.settings import Settings
from core.store import Payload, Quarantine, open_store, store_session
from ehr.live.acknowledged import Acknowledged, acknowledged
from ehr.live.inbox import read_content
from ehr.live.mllp import END, START, frame
from ehr.live.serve import Doors, open_doors
from tests.ehr.live.live_house import message, patient

FIN = END + b"\r"


class Peer:
    """One connection. Nothing it does waits longer than ``seconds``."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, seconds: float = 20, buffer_bytes: int = 0) -> None:
        plain = socket.socket()
        if buffer_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        plain.settimeout(seconds)
        plain.connect(("127.0.0.1", port))
        self.socket = tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain
        self._held = b""

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def send(self, *contents: bytes) -> None:
        """Messages in their frames, in one piece."""
        self.socket.sendall(b"".join(map(frame, contents)))

    def write(self, wire: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(wire)

    def answer(self) -> Acknowledged:
        """The next. Errors: ``ConnectionError`` when the other side closed before it."""
        told = acknowledged(self.answer_bytes())
        assert told is not None
        return told

    def answer_bytes(self) -> bytes:
        while FIN not in self._held:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise ConnectionError("closed")
            self._held += piece
        answer, _, self._held = self._held.partition(FIN)
        assert answer[:1] == START
        return answer[1:]

    def codes(self, number: int) -> list[str]:
        return [self.answer().code for _ in range(number)]

    def rest(self) -> list[Acknowledged]:
        """Whatever is answered until the other side closes in good order."""
        told: list[Acknowledged] = []
        while True:
            try:
                told.append(self.answer())
            except ConnectionResetError:
                raise
            except ConnectionError:
                return told

    def ask(self, *contents: bytes) -> list[str]:
        """Send; the codes of as many answers."""
        self.send(*contents)
        return self.codes(len(contents))

    def is_closed(self) -> bool:
        """Wait for the other side to close; whether it did so without another word."""
        try:
            return not self._held and self.socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


@dataclass(frozen=True)
class Listening:
    doors: Doors
    settings: Settings
    stop: Callable[[], None]  # as SIGTERM does

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.doors.http.port}"

    def peer(self, tls: ssl.SSLContext | None = None, seconds: float = 20, buffer_bytes: int = 0) -> Peer:
        return Peer(self.doors.mllp.port, tls, seconds, buffer_bytes)


def on_free_ports(settings: Settings, **changes: Any) -> Settings:
    """Port 0 is no setting that anybody may give."""
    return settings.model_copy(update={"mllp_port": 0, "fhir_port": 0, **changes})


@contextmanager
def listening(settings: Settings, **changes: Any) -> Iterator[Listening]:
    """Both doors, drained when the block ends. ``changes``: settings that differ."""
    settings = on_free_ports(settings, **changes)
    open_store(settings)
    opened, finished = Event(), Event()
    found: list[Any] = []

    async def serve() -> None:
        loop, closing = asyncio.get_running_loop(), asyncio.Event()
        async with open_doors(settings) as doors:
            found.extend([doors, lambda: None if loop.is_closed() else loop.call_soon_threadsafe(closing.set)])
            opened.set()
            await closing.wait()

    def run() -> None:
        try:
            uvloop.run(serve())
        except BaseException as error:
            found.append(error)
        finally:
            finished.set()
            opened.set()

    thread = Thread(target=run, name="listener", daemon=True)
    thread.start()
    assert opened.wait(60)
    if isinstance(found[0], BaseException):
        raise found[0]
    try:
        yield Listening(found[0], settings, found[1])
    finally:
        found[1]()
        assert finished.wait(60), "the listener does not drain"
        thread.join()
    if isinstance(found[-1], BaseException):
        raise found[-1]


@contextmanager
def locked_inbox(settings: Settings) -> Iterator[Connection]:
    """While it lasts another writer has the ops database, and nothing can be stored; `rollback` on it gives it back."""
    with open_store(settings).connect() as writer:
        writer.exec_driver_sql("begin immediate")
        try:
            yield writer
        finally:
            writer.rollback()


def eventually(is_so: Callable[[], Any], seconds: float = 20) -> Any:
    """What ``is_so`` says, once it is true; its last word when the time is over."""
    deadline = time.monotonic() + seconds
    while not (told := is_so()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return told


def stored_contents(settings: Settings, state: str = "received") -> list[bytes]:
    """What the inbox holds in that state, in no order."""
    with store_session(settings) as session:
        names = session.scalars(select(Payload.payload_id).where(Payload.state == state)).all()
    return [read_content(settings, name) for name in names]


def reasons(door: Listening) -> list[str]:
    """Of all that was quarantined, sorted."""
    with store_session(door.settings) as session:
        return sorted(session.scalars(select(Quarantine.reason_code)))


def quarantined(door: Listening, reason_code: str) -> int:
    return reasons(door).count(reason_code)


def adt(number: object, *segments: str, **header: str) -> bytes:
    """A sound message, unless ``segments`` make it another."""
    return message(str(number), *(segments or (patient("17"),)), **header).encode()


def faulty(number: object) -> bytes:
    return adt(number, "PID|1||")


def free_ports(number: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
