"""HL7 v2 messages on their way into files: in the order they were sent, on disk meanwhile, so that memory stays bounded."""

from collections.abc import Iterator
from contextlib import ExitStack
from struct import Struct
from tempfile import TemporaryFile
from typing import IO

from ehr.simulate.clock import DAY

_HEAD = Struct("<qI")  # seconds when it was sent, length in bytes
_SPAN_SECONDS = 30 * DAY


class MessageSpool:
    """One temporary file for every thirty days; only one of them is ever held in memory."""

    def __init__(self) -> None:
        self._spans: dict[int, IO[bytes]] = {}
        self._stack = ExitStack()

    def add(self, sent_at: int, message: bytes) -> None:
        span = sent_at // _SPAN_SECONDS
        if span not in self._spans:
            self._spans[span] = self._stack.enter_context(TemporaryFile())  # noqa: SIM115
        self._spans[span].write(_HEAD.pack(sent_at, len(message)) + message)

    def in_order(self) -> Iterator[bytes]:
        """Every message by time, then by bytes; the files are gone afterwards."""
        with self._stack:
            for span in sorted(self._spans):
                yield from (message for _sent_at, message in sorted(_read(self._spans[span])))


def _read(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    file.seek(0)
    while head := file.read(_HEAD.size):
        sent_at, length = _HEAD.unpack(head)
        yield sent_at, file.read(length)
