"""Answers of one connection: what is said within one turn of the event loop goes out together, as one write."""

import asyncio


class Outbox:
    """``put`` is cheap; what was put is written at the end of the turn, or by ``flush`` before a connection is closed."""

    __slots__ = ("_held", "_transport")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._held: list[bytes] = []

    def put(self, answer: bytes) -> None:
        if not self._held:
            asyncio.get_running_loop().call_soon(self.flush)
        self._held.append(answer)

    def flush(self) -> None:
        if self._held and not self._transport.is_closing():
            self._transport.write(b"".join(self._held))
        self._held.clear()
