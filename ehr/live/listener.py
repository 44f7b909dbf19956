"""The MLLP listener: many connections, pipelined messages, each answered when it is durable."""

import asyncio
import logging
import ssl
import time
from collections import deque
from functools import cache, partial
from typing import Any, cast

from core.settings import Settings
from ehr.live.acknowledgement import NOT_STORED, TOO_LARGE, Header, acknowledgements
from ehr.live.check import Checker, PeerNames
from ehr.live.group_commit import GroupCommit
from ehr.live.inbox import Received, Stored
from ehr.live.metrics import (
    ACKNOWLEDGE_SECONDS,
    BYTES_OUTSIDE_FRAMES,
    CONNECTIONS,
    CONNECTIONS_REFUSED,
    MESSAGES_RECEIVED,
)
from ehr.live.mllp import Event, FrameDecoder
from ehr.live.outbox import Outbox
from ehr.live.tls import peer_names

logger = logging.getLogger("cuff.live")
_UNANSWERED_BYTES, _UNANSWERED_MESSAGES = 4 << 20, 1000  # of one connection, before it is read no further
_LOAD_BYTES = 128 << 20  # of all connections together, before those that hold much are read no further
_MUCH_BYTES = 64 << 10  # also what is judged in a thread, while neighbours are served
_MESSAGE_BYTES = 1024  # what a message takes besides its content, until it is answered
_received = cache(MESSAGES_RECEIVED.labels)  # for each message
_HANDSHAKE_SECONDS, _CLOSING_SECONDS = 10.0, 10.0
_SWEEP_SECONDS, _PARTING_SECONDS = 0.5, 1.0  # the latter for peers to close first, when all connections end


class MllpListener:
    """``async with`` a listening socket. ``port`` is the one that was bound."""

    def __init__(self, settings: Settings, checker: Checker, commit: GroupCommit, tls: ssl.SSLContext | None = None) -> None:
        self.settings, self.checker, self.commit, self._tls = settings, checker, commit, tls
        self.connections: set[_Connection] = set()
        self.port = 0
        self.load = 0  # bytes that are held for all connections
        self.most_load = max(_LOAD_BYTES, 2 * settings.mllp_max_frame_bytes)
        self.is_draining = False
        self.judging: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def is_secured(self) -> bool:
        return self._tls is not None

    async def start(self) -> None:
        """Errors: ``OSError`` for a port that is taken."""
        loop = asyncio.get_running_loop()
        timeouts: dict[str, Any] = {"ssl_handshake_timeout": _HANDSHAKE_SECONDS, "ssl_shutdown_timeout": _CLOSING_SECONDS}
        self._server = await loop.create_server(
            partial(_Connection, self), self.settings.listen_host, self.settings.mllp_port, ssl=self._tls, backlog=1024,
            **(timeouts if self.is_secured else {}))  # fmt: skip
        self.port = self._server.sockets[0].getsockname()[1]
        self._sweeper = loop.create_task(self._sweep())

    async def drain(self, seconds: float = 10) -> None:
        """Take no more: answer what has arrived whole, then close every connection."""
        self.is_draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.hear_no_more()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*self.judging)
                await self.commit.drain()
        except TimeoutError:
            logger.error("not everything was stored within %.0f s; it is not acknowledged", seconds)
        if self._sweeper is not None:
            self._sweeper.cancel()
        for end, patience in (_Connection.part, _PARTING_SECONDS), (_Connection.close, seconds), (_Connection.abort, 0):
            for connection in list(self.connections):
                end(connection)
            deadline = time.monotonic() + patience
            while self.connections and time.monotonic() < deadline:
                await asyncio.sleep(0.01)

    async def _sweep(self) -> None:
        """Close what idles, cut what drips: one look at all of them, not a timer each."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            for connection in list(self.connections):
                connection.look_at_the_clock(now)


class _Connection(asyncio.Protocol):
    """One peer."""

    __slots__ = ("_closing_since", "_decoder", "_frame_began", "_has_ended", "_is_paused", "_is_writing_paused",
                 "_last_heard", "_listener", "_load", "_names", "_outbox", "_queue", "_transport", "_unanswered",
                 "_unanswered_bytes")  # fmt: skip

    def __init__(self, listener: MllpListener) -> None:
        self._listener = listener
        self._decoder = FrameDecoder(listener.settings.mllp_max_frame_bytes)
        self._transport = self._outbox = cast(Any, None)  # until it is made
        self._names: PeerNames = None
        self._frame_began: float | None = None
        self._closing_since: float | None = None
        self._last_heard = time.monotonic()
        self._unanswered = self._unanswered_bytes = self._load = 0
        self._queue: deque[tuple[Event, float]] | None = None  # what waits behind a large message, so that order is kept
        self._is_paused = self._is_writing_paused = self._has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._outbox = transport, Outbox(cast(asyncio.WriteTransport, transport))
        listener = self._listener
        if listener.is_draining or len(listener.connections) >= listener.settings.mllp_max_connections:
            CONNECTIONS_REFUSED.inc()
            self._transport.close()
            return
        if listener.settings.listen_tls_client_ca is not None:
            self._names = peer_names(transport.get_extra_info("peercert"))
        listener.connections.add(self)
        CONNECTIONS.set(len(listener.connections))

    def connection_lost(self, _error: Exception | None) -> None:
        self._listener.connections.discard(self)
        CONNECTIONS.set(len(self._listener.connections))
        self._end()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing() or self._closing_since is not None:
            return
        self._last_heard = time.monotonic()
        self._decode(data)
        self._mind_the_load()

    def eof_received(self) -> bool:
        """The peer sends no more and may still wait for answers."""
        self._end()
        self._outbox.flush()
        self._has_ended = True
        if self._unanswered and not self._listener.is_secured:  # TLS knows no half-closed connection
            return True
        self._closing_since = self._closing_since or time.monotonic()
        return False

    def look_at_the_clock(self, now: float) -> None:
        settings = self._listener.settings
        if self._closing_since is not None:
            if now - self._closing_since > _CLOSING_SECONDS:
                self.abort()  # the peer does not read what is left for it
        elif self._unanswered:  # it may be us who keep the peer waiting
            self._mind_the_load()
        elif self._frame_began is not None and now - self._frame_began > settings.mllp_read_seconds:
            self._end()
            self.close()
        elif now - self._last_heard > settings.mllp_idle_seconds:
            self.close()
        elif self._is_paused:
            self._mind_the_load()

    def hear_no_more(self) -> None:
        """Take what has arrived whole and no more."""
        self._pause()
        for event in self._decoder.feed(b""):
            self._take(event)

    def close(self) -> None:
        self._outbox.flush()
        self._closing_since = self._closing_since or time.monotonic()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _pause(self) -> None:
        self._is_paused = True
        self._transport.pause_reading()

    def pause_writing(self) -> None:
        """The peer does not read its answers: it is not read either."""
        self._is_writing_paused = True
        self._mind_the_load()

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._mind_the_load()

    def _decode(self, data: bytes) -> None:
        """Take what is complete, but no more than may stay unanswered; the rest waits undecoded."""
        for event in self._decoder.feed(data):
            self._take(event)
            if self._unanswered > _UNANSWERED_MESSAGES:
                return
        if not self._decoder.is_inside:
            self._frame_began = None
        elif self._frame_began is None:
            self._frame_began = self._last_heard

    def _end(self) -> None:
        for event in self._decoder.feed(b""):
            self._take(event)
        self._frame_began = None
        rest = self._decoder.end()
        if rest is not None and not self._listener.is_draining:
            self._take(rest)
        self._tell_load()

    def _take(self, event: Event) -> None:
        if event.kind in ("frame", "too_large"):
            self._frame_began = None
        elif event.kind == "outside":
            BYTES_OUTSIDE_FRAMES.inc(len(event.content))
        self._unanswered += 1
        self._unanswered_bytes += len(event.content) + _MESSAGE_BYTES
        began = time.perf_counter()
        if self._queue is not None:
            self._queue.append((event, began))
        elif len(event.content) > _MUCH_BYTES:
            self._queue = deque([(event, began)])
            judging = asyncio.get_running_loop().create_task(self._judge_apart())
            self._listener.judging.add(judging)
            judging.add_done_callback(self._listener.judging.discard)
        else:
            self._submit(event, began, *self._listener.checker.event(event, "mllp", self._names))

    async def _judge_apart(self) -> None:
        """Judge what waits, in order, the large in a thread."""
        try:
            while self._queue:
                event, began = self._queue.popleft()
                judge = partial(self._listener.checker.event, event, "mllp", self._names)
                judged = await asyncio.to_thread(judge) if len(event.content) > _MUCH_BYTES else judge()
                self._submit(event, began, *judged)
        except Exception as error:  # what follows it must not be answered in its place
            logger.error("a message of a closed connection was not judged: %s", type(error).__name__)
            self.abort()
            return
        self._queue = None

    def _submit(self, event: Event, began: float, received: Received, header: Header) -> None:
        _received(received.feed, received.source_id).inc()
        self._listener.commit.submit(received, partial(self._answer, event.kind, len(event.content), header, began))

    def _answer(self, kind: str, size: int, header: Header, began: float, stored: Stored | None) -> None:
        self._unanswered -= 1
        self._unanswered_bytes -= size + _MESSAGE_BYTES
        self._tell_load()
        # Only a whole frame is answered; the peer sends again what never ended, and asked nothing between frames.
        if kind in ("frame", "too_large") and self._closing_since is None and not self._transport.is_closing():
            reject = TOO_LARGE if kind == "too_large" else NOT_STORED if stored is None else stored.reject
            self._outbox.put(acknowledgements(header, reject))
            ACKNOWLEDGE_SECONDS.observe(time.perf_counter() - began)
        if kind == "too_large":
            self.part()
        elif self._has_ended and not self._unanswered:
            self.close()
        elif self._is_paused:
            self._mind_the_load()

    def part(self) -> None:
        """Say no more, and hear the peer out unheeded: closing on bytes that nobody read resets a connection, and the
        answer is lost with it."""
        self._outbox.flush()
        if self._has_ended or not self._transport.can_write_eof():
            self.close()
        elif self._closing_since is None and not self._transport.is_closing():
            self._closing_since = time.monotonic()
            self._transport.write_eof()
            self._transport.resume_reading()

    def _tell_load(self) -> None:
        load = self._decoder.held_bytes + self._unanswered_bytes
        self._listener.load += load - self._load
        self._load = load

    def _mind_the_load(self) -> None:
        self._tell_load()
        listener = self._listener
        if self._transport.is_closing() or listener.is_draining or self._has_ended or self._closing_since is not None:
            return
        if self._is_paused and not self._is_loaded:
            self._decode(b"")  # what was left when too much was unanswered
            self._tell_load()
        is_loaded = self._is_loaded
        if is_loaded and not self._is_paused:
            self._pause()
        elif not is_loaded and self._is_paused:
            self._is_paused = False
            if self._frame_began is not None:  # it was us who kept it from ending
                self._frame_began = time.monotonic()
            self._transport.resume_reading()

    @property
    def _is_loaded(self) -> bool:
        listener = self._listener
        return (self._unanswered_bytes > _UNANSWERED_BYTES or self._unanswered > _UNANSWERED_MESSAGES
                or self._is_writing_paused or (self._load > _MUCH_BYTES and listener.load > listener.most_load))  # fmt: skip
