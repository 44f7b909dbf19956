"""MLLP framing, without a socket: bytes in, frames out (HL7 Minimal Lower Layer Protocol, release 1).

A block is VT, the message, FS CR. What else stands on the wire is told as well, so that nothing is unaccounted for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

START, END, CARRIAGE_RETURN = b"\x0b", b"\x1c", b"\r"
_LARGEST_STRAY_BYTES = 64 << 10


@dataclass(frozen=True)
class Event:
    """``frame``: a whole message. ``cut``: one whose end never came. ``outside``: bytes between frames, white space left
    out. ``too_large``: a frame over the cap; ``content`` is its beginning, and nothing can be read after it."""

    kind: Literal["frame", "cut", "outside", "too_large"]
    content: bytes


class FrameDecoder:
    """Gives the same events for the same bytes, however they were cut into pieces, strays over 64 KiB excepted."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._searched = 0
        self._is_inside = False

    @property
    def is_inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._is_inside

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take bytes of the wire; the events they complete."""
        self._held += data
        while True:
            event = self._inside() if self._is_inside else self._outside()
            if event is None:
                return
            if event.content or event.kind != "outside":
                yield event

    def end(self) -> Event | None:
        """The wire ended, or waits no longer: what was begun is cut."""
        content, was_inside = bytes(self._held), self._is_inside
        self._held.clear()
        self._searched, self._is_inside = 0, False
        if was_inside:
            return Event("cut", content)
        return Event("outside", stray) if (stray := _stray(content)) else None

    def _outside(self) -> Event | None:
        start = self._held.find(START)
        if start < 0:
            if len(self._held) < _LARGEST_STRAY_BYTES and not self._held.isspace():
                return None
            return self._take_stray(len(self._held)) if self._held else None
        event = self._take_stray(start)
        del self._held[:1]
        self._searched, self._is_inside = 0, True
        return event

    def _take_stray(self, length: int) -> Event:
        content = bytes(self._held[:length])
        del self._held[:length]
        return Event("outside", _stray(content))

    def _inside(self) -> Event | None:
        end = self._held.find(END, self._searched)
        again = self._held.find(START, self._searched, end if end >= 0 else len(self._held))
        if again >= 0:  # a new block begins: the one before never ended
            content = bytes(self._held[:again])
            del self._held[:again + 1]
            self._searched = 0
            return self._sized("cut", content)
        if end >= 0:
            content = bytes(self._held[:end])
            del self._held[:end + 1]  # the CR that belongs to it is white space between frames
            self._searched, self._is_inside = 0, False
            return self._sized("frame", content)
        self._searched = len(self._held)
        if len(self._held) > self._max_bytes:
            return self._sized("cut", bytes(self._held))
        return None

    def _sized(self, kind: Literal["frame", "cut"], content: bytes) -> Event:
        if len(content) <= self._max_bytes:
            return Event(kind, content)
        self._held.clear()
        self._searched, self._is_inside = 0, False
        return Event("too_large", content[:self._max_bytes])


def frame(message: bytes) -> bytes:
    """A message as it goes over the wire."""
    return START + message + END + CARRIAGE_RETURN


def _stray(content: bytes) -> bytes:
    return content.strip(b"\r\n\t \x0c\x00")
