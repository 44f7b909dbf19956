"""uvicorn's connections with bounds that it does not set: a head of bounded size and duration, no body without end."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class BoundedConnection(HttpToolsProtocol):
    """``uvicorn.Config(http=BoundedConnection)``. Closes on a head that is too large, and on a client that in all the patience
    there is neither began a request nor was being answered: one that says nothing, that sends its head byte by byte, or that
    goes on with a body whose refusal it was told."""

    largest_head_bytes = 32 << 10
    patience_seconds = 30.0
    idle_looks = 3  # longer than balancers keep a connection that is between two requests
    _head_bytes = 0
    _is_in_head = False
    _requests_begun = 0
    _seen_waiting: tuple[int, bool] | None = None
    _looks = 0
    _heard = False
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._look = self.loop.call_later(self.patience_seconds, self._look_again)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        begun, self._heard = self._requests_begun, True
        super().data_received(data)
        if self._is_in_head and self._requests_begun == begun:  # all of it belonged to one head
            self._head_bytes += len(data)
            if self._head_bytes > self.largest_head_bytes:
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0
        self._requests_begun += 1

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def _look_again(self) -> None:
        is_being_answered = not self._is_in_head and self.cycle is not None and not self.cycle.response_complete
        waiting = None if is_being_answered else (self._requests_begun, self._is_in_head)
        self._looks = self._looks + 1 if waiting is not None and waiting == self._seen_waiting else 0
        is_idle = self._requests_begun > 0 and not self._is_in_head and not self._heard
        if self._looks >= (self.idle_looks if is_idle else 1):
            self.transport.close()
            return
        self._seen_waiting, self._heard = waiting, False
        self._look = self.loop.call_later(self.patience_seconds, self._look_again)
