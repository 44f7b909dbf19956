"""MLLP framing, without a socket: bytes in, frames out (HL7 Minimal Lower Layer Protocol, release 1).

A block is VT, the message, FS CR, and nothing else ends one: half a message before a stray FS must not pass for a whole.
What else stands on the wire is told as well, so that nothing is unaccounted for.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

START, END, CARRIAGE_RETURN = b"\x0b", b"\x1c", b"\r"
_LARGEST_STRAY_BYTES = 64 << 10


class Event(NamedTuple):
    """``frame``: a whole message. ``cut``: one whose end never came. ``outside``: bytes between frames, white space left
    out. ``too_large``: a frame over the cap; ``content`` is its beginning, and nothing is read after it."""

    kind: Literal["frame", "cut", "outside", "too_large"]
    content: bytes


class FrameDecoder:
    """Gives the same events for the same bytes, however they were cut into pieces, strays over 64 KiB excepted."""

    __slots__ = ("_held", "_is_inside", "_is_over", "_max_bytes", "_searched")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._searched = 0
        self._is_inside = self._is_over = False

    @property
    def is_inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._is_inside

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take bytes of the wire; the events they complete."""
        if self._is_over:
            return
        self._held += data
        while (event := self._inside() if self._is_inside else self._outside()) is not None:
            if event.content or event.kind != "outside":
                yield event

    def end(self) -> Event | None:
        """The wire ended, or waits no longer: what was begun is cut."""
        content, was_inside = bytes(self._held), self._is_inside
        self._held.clear()
        self._searched, self._is_inside = 0, False
        if was_inside:
            return Event("cut", content.removesuffix(END))
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
        held = self._held
        end = held.find(END, self._searched)
        again = held.find(START, self._searched, end if end >= 0 else len(held))
        if again >= 0:  # a new block begins: the one before never ended
            return self._take("cut", again, again + 1, is_inside=True)
        if end >= 0 and end + 1 < len(held):
            is_whole = held[end + 1] == CARRIAGE_RETURN[0]
            return self._take("frame" if is_whole else "cut", end, end + 1 + is_whole, is_inside=False)
        self._searched = end if end >= 0 else len(held)
        return self._take("cut", self._searched, len(held), is_inside=False) if self._searched > self._max_bytes else None

    def _take(self, kind: Literal["frame", "cut"], length: int, through: int, is_inside: bool) -> Event:
        if length > self._max_bytes:
            content = bytes(self._held[:self._max_bytes])
            self._held.clear()
            self._searched, self._is_inside, self._is_over = 0, False, True
            return Event("too_large", content)
        content = bytes(self._held[:length])
        del self._held[:through]
        self._searched, self._is_inside = 0, is_inside
        return Event(kind, content)


def frame(message: bytes) -> bytes:
    """A message as it goes over the wire."""
    return START + message + END + CARRIAGE_RETURN


def _stray(content: bytes) -> bytes:
    return content.strip(b"\r\n\t \x0c\x00")
