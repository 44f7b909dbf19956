"""An MLLP sender as interface engines are: it keeps a message until it is acknowledged, and sends it again, byte for byte,
when the connection, the time or the other side's disk ran out.

Every message must ask for an acknowledgement (original mode, or ``AL`` in MSH-15): one that does not is waited for in vain.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable, Iterable
from dataclasses import asdict, dataclass, field
from ssl import SSLContext
from typing import Any

from core.errors import CuffError
from ehr.live.acknowledged import Acknowledged, acknowledged
from ehr.live.acknowledgement import read_header
from ehr.live.wire import END, START, Wire

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 5.0
_REASONS_KEPT = 50  # another system's words could be endless


class SendError(CuffError):
    """The other side did not take messages for longer than the sender's patience. ``summary``: how far it came."""

    exit_code = 10

    def __init__(self, message: str, summary: "SendSummary") -> None:
        super().__init__(message)
        self.summary = summary


@dataclass
class SendSummary:
    """What became of the messages. At the end ``sent = accepted + errors + rejected``: each message has one answer."""

    sent: int = 0  # messages, each once however often it went over the wire
    accepted: int = 0  # AA or CA
    errors: int = 0  # AE or CE: its content has a fault, and it is in quarantine there
    rejected: int = 0  # AR or CR, for good
    resent: int = 0  # deliveries beyond the first
    reconnects: int = 0
    seconds: float = 0.0  # until the last answer
    reasons: Counter[str] = field(default_factory=Counter)  # 'AE no_patient_identifier': how many

    @property
    def messages_per_second(self) -> float:
        return self.sent / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For machines: every count, and the reasons of what was not accepted, most frequent first."""
        return asdict(self) | {"seconds": round(self.seconds, 3), "reasons": dict(self.reasons.most_common()),
                               "messages_per_second": round(self.messages_per_second, 1)}


@dataclass
class Outgoing:
    """A message on its way."""

    content: bytes
    control_id: bytes
    first_sent_at: float = 0.0  # monotonic seconds; 0 before it was sent
    sent_at: float = 0.0


class MllpSender:
    """``await MllpSender(host, port).send(messages)`` returns when every message was answered.

    ``window``: messages a connection may have unanswered; 1, what most engines do, keeps the order also across
    reconnects. ``rate``: messages a second over all connections, evenly paced; after a stall it catches up. ``lane``:
    messages of equal ``lane(message)`` use one connection, so that they stay in order; without it the least busy one is
    used. ``on_answer(outgoing, answer)`` hears every final answer. ``patience_seconds``: how long it bears that nothing
    gets through. The event loop is the caller's; one sender sends one sequence at a time.
    """

    def __init__(self, host: str, port: int, *, connections: int = 1, window: int = 1, ssl: SSLContext | None = None,
                 server_hostname: str | None = None, ack_timeout_seconds: float = 10, rate: float | None = None,
                 lane: Callable[[bytes], Hashable] | None = None, patience_seconds: float = 60,
                 on_answer: Callable[[Outgoing, Acknowledged], None] | None = None) -> None:
        if connections < 1 or window < 1 or (rate is not None and rate <= 0):
            raise ValueError("connections, window and rate are at least 1")
        self.host, self.port, self.window, self.ack_timeout_seconds = host, port, window, ack_timeout_seconds
        self._connections, self._rate, self._lane_of = connections, rate, lane
        self._began = 0.0
        self._ssl, self._server_hostname = ssl, server_hostname if ssl else None
        self._patience_seconds, self._on_answer = patience_seconds, on_answer
        self._summary = SendSummary()
        self._room = asyncio.Event()

    @property
    def summary(self) -> SendSummary:
        """How far it is."""
        return self._summary

    async def send(self, messages: AsyncIterable[bytes] | Iterable[bytes]) -> SendSummary:
        """Send all of them. Errors: `SendError` when nothing gets through for ``patience_seconds``."""
        self._summary, self._began = SendSummary(), time.monotonic()
        lanes = [_Lane(self) for _ in range(self._connections)]
        tasks = [asyncio.create_task(lane.run()) for lane in lanes]
        tasks.append(asyncio.create_task(self._hand_out(messages, lanes)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()
        return self._summary

    async def _hand_out(self, messages: AsyncIterable[bytes] | Iterable[bytes], lanes: list["_Lane"]) -> None:
        async for number, content in _numbered(messages):
            if self._rate is not None and (early := self._began + number / self._rate - time.monotonic()) > 0:
                await asyncio.sleep(early)
            key = self._lane_of(content) if self._lane_of else None
            fixed = lanes[hash(key) % len(lanes)] if self._lane_of else None
            while (lane := fixed or min(lanes, key=lambda each: (each.is_full, each.load))).is_full:
                self._room.clear()
                await self._room.wait()
            lane.take(Outgoing(content, read_header(content).control_id))
        for lane in lanes:
            lane.end()

    def sending(self, outgoing: Outgoing) -> bytes:
        """The frame of a message that goes out now, counted."""
        outgoing.sent_at = time.monotonic()
        if outgoing.first_sent_at:
            self._summary.resent += 1
        else:
            outgoing.first_sent_at = outgoing.sent_at
            self._summary.sent += 1
        return START + outgoing.content + END

    def answered(self, outgoing: Outgoing, answer: Acknowledged) -> None:
        """A final answer."""
        self._summary.seconds = time.monotonic() - self._began
        if answer.is_accepted:
            self._summary.accepted += 1
        else:
            if answer.is_error:
                self._summary.errors += 1
            else:
                self._summary.rejected += 1
            reason = f"{answer.code} {answer.reason}".strip()
            if reason in self._summary.reasons or len(self._summary.reasons) < _REASONS_KEPT:
                self._summary.reasons[reason] += 1
        self._room.set()
        if self._on_answer:
            self._on_answer(outgoing, answer)

    def has_room(self) -> None:
        self._room.set()

    def lost(self, why: str, waited: float) -> None:
        """A connection is of no more use, the last of a row that got nothing through for ``waited`` seconds. Errors:
        `SendError` when that is longer than the patience."""
        if waited > self._patience_seconds:
            raise SendError(f"{self.host}:{self.port} took no message for {waited:.0f} s ({why}); "
                            "check that `cuff listen` runs there, and its log", self._summary)
        self._summary.reconnects += 1

    async def connect(self, lane: "_Lane") -> "Wire":
        """A connection to the other side. Errors: `OSError`, which TLS's are too, and `TimeoutError`."""
        async with asyncio.timeout(self.ack_timeout_seconds):
            _, wire = await asyncio.get_running_loop().create_connection(
                lambda: Wire(lane), self.host, self.port, ssl=self._ssl, server_hostname=self._server_hostname)
        return wire


class _Lane:
    """One connection after another, and what is not answered yet, in order."""

    def __init__(self, sender: MllpSender) -> None:
        self._sender, self._changed = sender, asyncio.Event()
        self._todo: deque[Outgoing] = deque()
        self._unanswered: deque[Outgoing] = deque()
        self._is_ended = False
        self._failed = ""  # why this connection is given up
        self._failing_since, self._pause_seconds = 0.0, _FIRST_PAUSE_SECONDS

    @property
    def load(self) -> int:
        return len(self._todo) + len(self._unanswered)

    @property
    def is_full(self) -> bool:
        return len(self._todo) >= self._sender.window

    def take(self, outgoing: Outgoing) -> None:
        self._todo.append(outgoing)
        self._changed.set()

    def end(self) -> None:
        """Nothing more will be taken."""
        self._is_ended = True
        self._changed.set()

    async def run(self) -> None:
        while await self._something_to_do():
            self._failed = ""
            try:
                wire = await self._sender.connect(self)
            except (OSError, TimeoutError) as error:
                self._failed = str(error) or type(error).__name__
            else:
                watch = asyncio.create_task(self._watch())
                try:
                    await self._talk(wire)
                finally:
                    watch.cancel()
                    wire.close(politely=not self._failed)
            if self._failed and self.load:  # an idle connection that is closed is no failure
                self._failing_since = self._failing_since or time.monotonic()
                self._sender.lost(self._failed, time.monotonic() - self._failing_since)
                await asyncio.sleep(self._pause_seconds * (0.5 + random.random() / 2))
                self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def _something_to_do(self) -> bool:
        while not self.load and not self._is_ended:
            await self._wait()
        return self.load > 0

    async def _talk(self, wire: "Wire") -> None:
        """Send and listen until all is answered or the connection fails."""
        for outgoing in self._unanswered:
            wire.write(self._sender.sending(outgoing))
        while not self._failed:
            while self._todo and len(self._unanswered) < self._sender.window and wire.is_writable:
                outgoing = self._todo.popleft()
                self._unanswered.append(outgoing)
                wire.write(self._sender.sending(outgoing))
                self._sender.has_room()
            if self._is_ended and not self.load:
                return
            await self._wait()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _watch(self) -> None:
        """Give the connection up when the oldest message waits too long."""
        limit = self._sender.ack_timeout_seconds
        while True:
            await asyncio.sleep(limit / 4)
            if self._unanswered and time.monotonic() - self._unanswered[0].sent_at > limit:
                self.fail(f"no acknowledgement within {limit:g} s")

    def fail(self, why: str) -> None:
        self._failed = self._failed or why
        self._changed.set()

    def woken(self) -> None:
        self._changed.set()

    def hear(self, frame: bytes) -> None:
        """An acknowledgement came: of the oldest message with this control id, or, where it names none that waits (as
        for a message whose header could not be read), of the oldest one."""
        if self._failed or not self._unanswered or (answer := acknowledged(frame)) is None:
            return
        outgoing = next((each for each in self._unanswered if each.control_id == answer.control_id), None)
        if outgoing is None:
            if answer.control_id:
                return  # an answer to nothing of ours
            outgoing = self._unanswered[0]
        if answer.is_temporary:
            self.fail(f"{answer.code} {answer.reason}")
            return
        self._unanswered.remove(outgoing)
        self._failing_since, self._pause_seconds = 0.0, _FIRST_PAUSE_SECONDS
        self._sender.answered(outgoing, answer)
        self._changed.set()


async def _numbered(messages: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    number = 0
    if isinstance(messages, AsyncIterable):
        async for content in messages:
            yield number, content
            number += 1
        return
    for content in messages:
        yield number, content
        number += 1
        if number % 64 == 0:
            await asyncio.sleep(0)  # a source that never waits must not keep the connections from their turn
