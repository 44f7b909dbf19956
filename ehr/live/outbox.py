"""Answers of one connection: what is said within one turn of the event loop goes out together, as one write."""

import asyncio
from collections.abc import Iterable
from functools import cache

from ehr.live.acknowledgement import code_of
from ehr.live.metrics import ACKNOWLEDGED
from ehr.live.mllp import frame

_acknowledged = cache(ACKNOWLEDGED.labels)


class Outbox:
    """``put`` frames and counts acknowledgements; they are written at the end of the turn, or by ``flush`` before a
    connection is closed."""

    __slots__ = ("_held", "_transport")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._held: list[bytes] = []

    def put(self, answers: Iterable[bytes]) -> None:
        if not self._held:
            asyncio.get_running_loop().call_soon(self.flush)
        for answer in answers:
            self._held.append(frame(answer))
            _acknowledged(code_of(answer)).inc()

    def flush(self) -> None:
        if self._held and not self._transport.is_closing():
            self._transport.write(b"".join(self._held))
        self._held.clear()
