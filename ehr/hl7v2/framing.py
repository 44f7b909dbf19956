"""A file's bytes as single messages: batch envelopes, MLLP frames, byte order marks and any line end."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ENVELOPE = (b"FHS", b"BHS", b"BTS", b"FTS")
_ENVELOPE_OPENS = (b"FHS", b"BHS")
_BREAK = re.compile(rb"\r\n|\r|\n")
_FRAME_START, _FRAME_END = b"\x0b", b"\x1c"
_BOM_AND_BLANKS = b"\xef\xbb\xbf \t"
_SEGMENT_NAME = re.compile(rb"[A-Z][A-Z0-9]{2}")


@dataclass(frozen=True)
class FramedMessage:
    """``content`` is the segments joined by CR. ``is_truncated``: its frame or its batch ended in the middle of it."""

    content: bytes
    is_truncated: bool = False


def split_messages(data: bytes) -> Iterator[FramedMessage]:
    """Each message of a file. What stands before the first MSH comes as a message of its own, so that nothing is
    dropped; envelope segments and blank lines are framing, and a line that is no segment continues the one before
    it (a line end sent inside a field). An unclosed MLLP frame, or an unclosed batch whose last line has no end,
    marks its last message as truncated."""
    frames = data.split(_FRAME_START)
    is_batch_open = False
    for number, frame in enumerate(frames):
        body, closed, after = frame.partition(_FRAME_END)
        found, is_batch_open = _split_frame(body + b"\r" + after, is_batch_open)
        cut = (number > 0 and not closed) or (is_batch_open and not frame.endswith((b"\r", b"\n")))
        for position, message in enumerate(found):
            yield FramedMessage(message, is_truncated=cut and position == len(found) - 1)


def _split_frame(body: bytes, is_batch_open: bool) -> tuple[list[bytes], bool]:
    """The messages of one frame, and whether a batch is open behind them."""
    messages: list[bytes] = []
    pieces: list[bytes] = []
    separator = b"|"
    for line in body.split(b"\r") if b"\n" not in body else _BREAK.split(body):
        if not line.strip():
            continue
        head = line.lstrip(_BOM_AND_BLANKS)
        name = head[:3]
        if name in _ENVELOPE and not head[3:4].isalnum():
            is_batch_open = name in _ENVELOPE_OPENS
        elif name == b"MSH" and not head[3:4].isalnum():
            if pieces:
                messages.append(b"".join(pieces))
            pieces, separator = [head], head[3:4]
        elif pieces:
            is_segment = line[3:4] in (separator, b"") and _SEGMENT_NAME.match(line)
            pieces += (b"\r" if is_segment else b"\n", line)
        else:
            pieces.append(line)
    if pieces:
        messages.append(b"".join(pieces))
    return messages, is_batch_open
