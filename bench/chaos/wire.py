"""A connection that sends bytes as they are, whole or broken, and keeps what is answered."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import cast

END = b"\x1c\r"
_CODE = re.compile(rb"\rMSA.([AC][AER]).([^\r\x1c|]*)")


@dataclass
class Wire(asyncio.Protocol):
    """``answers``: each acknowledgement's bytes, in order."""

    answers: list[bytes] = field(default_factory=list)
    is_closed: bool = False
    _rest: bytes = b""

    def __post_init__(self) -> None:
        self._changed, self._writable = asyncio.Event(), asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> "Wire":
        _transport, wire = await asyncio.get_running_loop().create_connection(cls, host, port)
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *ended, self._rest = (self._rest + data).split(END)
        self.answers += ended
        self._changed.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_closed = True
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def send(self, data: bytes) -> None:
        """Errors: ``ConnectionError`` when the other side has closed."""
        await self._writable.wait()
        if self.is_closed:
            raise ConnectionError("closed by the other side")
        self._transport.write(data)

    async def answered(self, number: int, seconds: float) -> bool:
        """Wait until there are ``number`` answers; False when the time is over or the connection closed first."""
        try:
            async with asyncio.timeout(seconds):
                while len(self.answers) < number and not self.is_closed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return len(self.answers) >= number

    async def closed(self, seconds: float) -> bool:
        """Wait until the other side closes; whether it did."""
        try:
            async with asyncio.timeout(seconds):
                while not self.is_closed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.is_closed

    def end(self) -> None:
        """No more will be sent; answers are still heard."""
        if not self.is_closed:
            self._transport.write_eof()

    def close(self) -> None:
        if not self.is_closed:
            self._transport.abort()


def code_of(answer: bytes) -> str:
    """MSA-1; '' where there is none."""
    found = _CODE.search(answer)
    return found[1].decode() if found else ""


def control_id_of(answer: bytes) -> bytes:
    """MSA-2."""
    found = _CODE.search(answer)
    return found[2] if found else b""
