"""A file's bytes as single messages: batch envelopes, MLLP frames, byte order marks and any line end."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

_ENVELOPE = (b"FHS", b"BHS", b"BTS", b"FTS")
_ENVELOPE_OPENS = (b"FHS", b"BHS")
_BREAK = re.compile(rb"\r\n|\r|\n")
_FRAME_START, _FRAME_END = b"\x0b", b"\x1c"
_BOM_AND_BLANKS = b"\xef\xbb\xbf \t"
_SPLIT_AT_ONCE_BYTES = 1 << 20  # quicker than line by line, and the lines of a larger file would take twice its memory
_SEGMENT_NAME = re.compile(rb"[A-Z][A-Z0-9]{2}")


@dataclass(frozen=True)
class FramedMessage:
    """``content`` is the segments joined by CR. ``is_truncated``: its frame or its batch ended in the middle of it."""

    content: bytes
    is_truncated: bool = False


def split_messages(data: bytes) -> Iterator[FramedMessage]:
    """Each message of a file, one at a time. What stands before the first MSH comes as a message of its own, so that
    nothing is dropped; envelope segments and blank lines are framing, and a line that is no segment continues the one
    before it (a line end sent inside a field). An unclosed MLLP frame, or an unclosed batch whose last line has no end,
    marks its last message as truncated."""
    reader = _FrameReader()
    for number, frame in enumerate(_frames(data)):
        body, closed, after = frame.partition(_FRAME_END)
        last = None
        for message in reader.messages(chain(_lines(body), _lines(after))):
            if last is not None:
                yield FramedMessage(last)
            last = message
        if last is not None:
            cut = (number > 0 and not closed) or (reader.is_batch_open and not frame.endswith((b"\r", b"\n")))
            yield FramedMessage(last, is_truncated=cut)


class _FrameReader:
    """Messages of one frame after the other; ``is_batch_open`` tells whether a batch is open behind what was read."""

    def __init__(self) -> None:
        self.is_batch_open = False

    def messages(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        pieces: list[bytes] = []
        separator = b"|"
        for line in lines:
            if not line.strip():
                continue
            head = line.lstrip(_BOM_AND_BLANKS)
            name = head[:3]
            if name in _ENVELOPE and not head[3:4].isalnum():
                self.is_batch_open = name in _ENVELOPE_OPENS
            elif name == b"MSH" and not head[3:4].isalnum():
                if pieces:
                    yield b"".join(pieces)
                pieces, separator = [head], head[3:4]
            elif pieces:
                is_segment = line[3:4] in (separator, b"") and _SEGMENT_NAME.match(line)
                pieces += (b"\r" if is_segment else b"\n", line)
            else:
                pieces.append(line)
        if pieces:
            yield b"".join(pieces)


def _frames(data: bytes) -> Iterator[bytes]:
    """What `bytes.split` gives, but one at a time: a file may be larger than what may be held twice."""
    start = 0
    while (end := data.find(_FRAME_START, start)) >= 0:
        yield data[start:end]
        start = end + 1
    yield data[start:]


def _lines(body: bytes) -> Iterable[bytes]:
    if len(body) > _SPLIT_AT_ONCE_BYTES:
        return _each_line(body)
    return body.split(b"\r") if b"\n" not in body else _BREAK.split(body)


def _each_line(body: bytes) -> Iterator[bytes]:
    start = 0
    for found in _BREAK.finditer(body):
        yield body[start:found.start()]
        start = found.end()
    yield body[start:]
