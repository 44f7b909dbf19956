"""A sender's connection: MLLP frames in, bytes out."""

import asyncio
from typing import Protocol, cast

START, END = b"\x0b", b"\x1c\r"


class Talker(Protocol):
    """Who speaks over a connection."""

    def hear(self, frame: bytes) -> None:
        """A whole frame came."""

    def fail(self, why: str) -> None:
        """The connection is lost."""

    def woken(self) -> None:
        """There is room to write again."""


class Wire(asyncio.Protocol):
    """Bytes to frames, and whether there is room to write."""

    def __init__(self, talker: Talker) -> None:
        self._talker, self._buffer, self._is_closed = talker, bytearray(), False
        self._transport: asyncio.Transport | None = None
        self.is_writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def write(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def data_received(self, data: bytes) -> None:
        if self._is_closed:
            return
        self._buffer += data
        start = 0
        while (end := self._buffer.find(END, start)) >= 0:
            begin = self._buffer.rfind(START, start, end) + 1
            self._talker.hear(bytes(self._buffer[begin or start:end]))
            start = end + len(END)
        del self._buffer[:start]

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        self._talker.woken()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._is_closed:
            self._talker.fail(str(error) if error else "the connection was closed")

    def close(self, politely: bool) -> None:
        self._is_closed = True
        if self._transport is not None:
            self._transport.close() if politely else self._transport.abort()
