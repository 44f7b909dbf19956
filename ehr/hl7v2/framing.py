"""A file's bytes as single messages: batch envelopes, MLLP frames, byte order marks and any line end."""

import re
from collections.abc import Iterator

_ENVELOPE = (b"FHS", b"BHS", b"BTS", b"FTS")
_BREAK = re.compile(rb"\r\n|\r|\n")
_FRAME = re.compile(rb"[\x0b\x1c]")


def split_messages(data: bytes) -> Iterator[bytes]:
    """Each message as its segments joined by CR. What stands before the first MSH comes as a message of its own, so that
    nothing is dropped; envelope segments and blank lines are framing."""
    text = _FRAME.sub(b"\r", data.removeprefix(b"\xef\xbb\xbf"))
    current: list[bytes] = []
    for line in _BREAK.split(text):
        if not line.strip() or line[:3] in _ENVELOPE:
            continue
        if line.startswith(b"MSH") and current:
            yield b"\r".join(current)
            current = []
        current.append(line)
    if current:
        yield b"\r".join(current)
