"""Sound messages made unsound: bits, fields, frames and character sets. The same seed and number give the same bytes.

What comes out is what goes over the wire: one message in its frame, or what is left of the frame.
"""

import random
from collections.abc import Callable, Sequence

from bench.feed import with_control_id

VT, FS, CR = b"\x0b", b"\x1c", b"\r"
CHARSETS = (b"ASCII", b"8859/1", b"8859/15", b"UNICODE UTF-8", b"UNICODE UTF-16", b"GB 18030-2000", b"BIG-5",
            b"ISO IR87", b"KLINGON", b"", b"\xff", b"ASCII~8859/1", b"unicode utf-8", b"8859/1^X")
_STRANGE = (b"", b'""', b"|", b"^", b"~", b"\\", b"&", b"\\X0D\\", b"\\X0B\\", b"\\X1C\\", b"\\XFF", b"\\.br\\", b"0", b"-1",
            b"9" * 400,
            b"NaN", b"1e999", b"20260231", b"00000000000000", b"99991231235959.9999+1400", b"' or 1=1 --", b"{{7*7}}",
            b"A" * 70_000, "\u00e9\u4e2d\U0001f600".encode(), "\u00e9".encode("latin-1"), "\u4e2d".encode("utf-16-le"),
            b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x00", b"\x1a", b"\x85", b"\xef\xbb\xbf",
            b"\xe2\x80\xa8",
            b"AL", b"NE", b"ER", b"SU", b"ADT^A01", b"ADT^A40", b"ORU^R01", b"ACK", b"ZZZ^Z99", b"\n", b"\r\n", b"\t", b" ")
Chance = random.Random
Mutator = Callable[[Chance, bytes], bytes]


def mutated_frame(messages: Sequence[bytes], number: int, seed: int) -> bytes:
    """The ``number``-th mutated frame: one to three changes of a message that has a control id of its own, then, in
    a quarter of them, one of its frame."""
    chance = random.Random(seed << 32 | number)
    content = with_control_id(chance.choice(messages), number)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        content = chance.choice(CONTENT)(chance, content)
    framed = VT + content + FS + CR
    return chance.choice(FRAME)(chance, framed) if chance.random() < 0.25 else framed


def _flip_bits(chance: Chance, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 64)) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _flip_header_bit(chance: Chance, content: bytes) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[chance.randrange(min(len(changed), 60))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _remove_slice(chance: Chance, content: bytes) -> bytes:
    start = chance.randrange(len(content) + 1)
    return content[:start] + content[start + chance.choice((1, 1, 4, 40, 400)):]


def _repeat_slice(chance: Chance, content: bytes) -> bytes:
    start = chance.randrange(len(content) + 1)
    piece = content[start:start + chance.choice((1, 4, 40, 400))]
    return content[:start] + piece * chance.choice((2, 2, 3, 20)) + content[start:]


def _insert_bytes(chance: Chance, content: bytes) -> bytes:
    start = chance.randrange(len(content) + 1)
    return content[:start] + chance.randbytes(chance.choice((1, 2, 16))) + content[start:]


def _cut_off(chance: Chance, content: bytes) -> bytes:
    return content[:chance.randrange(len(content) + 1)]


def _change_field(chance: Chance, content: bytes) -> bytes:
    fields = content.split(b"|")
    fields[chance.randrange(len(fields))] = chance.choice(_STRANGE)
    return b"|".join(fields)


def _change_header_field(chance: Chance, content: bytes) -> bytes:
    head, separator, rest = content.partition(CR)
    fields = head.split(b"|")
    fields += [b""] * (21 - len(fields))
    fields[chance.randrange(21)] = chance.choice(_STRANGE)
    return b"|".join(fields) + separator + rest


def _swap_fields(chance: Chance, content: bytes) -> bytes:
    fields = content.split(b"|")
    one, other = chance.randrange(len(fields)), chance.randrange(len(fields))
    fields[one], fields[other] = fields[other], fields[one]
    return b"|".join(fields)


def _change_delimiters(chance: Chance, content: bytes) -> bytes:
    old, new = chance.sample(b"|^~\\&#!$@ A1\r\x00\xe9", 2)
    return content.replace(bytes([old]), bytes([new]), chance.choice((1, 2, -1)))


def _segments(content: bytes) -> list[bytes]:
    return content.removesuffix(CR).split(CR)


def _drop_segment(chance: Chance, content: bytes) -> bytes:
    segments = _segments(content)
    del segments[chance.randrange(len(segments))]
    return CR.join(segments) + CR


def _repeat_segment(chance: Chance, content: bytes) -> bytes:
    segments = _segments(content)
    at = chance.randrange(len(segments))
    return CR.join([*segments[:at], *[segments[at]] * chance.choice((2, 2, 50)), *segments[at + 1:]]) + CR


def _shuffle_segments(chance: Chance, content: bytes) -> bytes:
    segments = _segments(content)
    chance.shuffle(segments)
    return CR.join(segments) + CR


def _rename_segment(chance: Chance, content: bytes) -> bytes:
    segments = _segments(content)
    at = chance.randrange(len(segments))
    name = chance.choice((b"FHS", b"BHS", b"BTS", b"FTS", b"MSH", b"PID", b"MRG", b"ZZZ", b"msh", b"P", b""))
    segments[at] = name + segments[at][3:]
    return CR.join(segments) + CR


def _other_line_ends(chance: Chance, content: bytes) -> bytes:
    return content.replace(CR, chance.choice((b"\n", b"\r\n", b"\r\r", b"\n\r", b"", b"\x85")))


def _declare_charset(chance: Chance, content: bytes) -> bytes:
    head, separator, rest = content.partition(CR)
    fields = head.split(b"|")
    fields += [b""] * (18 - len(fields))
    fields[17] = chance.choice(CHARSETS)
    return b"|".join(fields) + separator + rest


def _encode_otherwise(chance: Chance, content: bytes) -> bytes:
    text = content.decode("utf-8", "surrogateescape").replace("e", "\u00e9", chance.choice((0, 1, 5)))
    codec = chance.choice(("latin-1", "cp1252", "utf-8", "utf-16", "utf-16-le", "utf-32", "utf-7", "cp037", "iso2022_jp"))
    return text.encode(codec, "ignore")


def _two_in_one(chance: Chance, content: bytes) -> bytes:
    return content + chance.choice((b"", CR, b"BTS|1\r", b"\r\n")) + content


def _envelope(chance: Chance, content: bytes) -> bytes:
    return b"FHS|^~\\&|A|B\rBHS|^~\\&|A|B\r" + content + chance.choice((b"", b"BTS|1\rFTS|1\r"))


def _leave_as_it_is(_chance: Chance, content: bytes) -> bytes:
    return content


CONTENT: tuple[Mutator, ...] = (
    _flip_bits, _flip_bits, _flip_header_bit, _remove_slice, _repeat_slice, _insert_bytes, _cut_off, _change_field,
    _change_field, _change_header_field, _swap_fields, _change_delimiters, _drop_segment, _repeat_segment,
    _shuffle_segments, _rename_segment, _other_line_ends, _declare_charset, _encode_otherwise, _two_in_one, _envelope,
    _leave_as_it_is,
)  # fmt: skip


def _without_start(_chance: Chance, framed: bytes) -> bytes:
    return framed[1:]


def _without_end(_chance: Chance, framed: bytes) -> bytes:
    return framed[:-2]


def _without_carriage_return(_chance: Chance, framed: bytes) -> bytes:
    return framed[:-1]


def _without_separator(_chance: Chance, framed: bytes) -> bytes:
    return framed[:-2] + CR


def _starts_twice(_chance: Chance, framed: bytes) -> bytes:
    return VT + framed


def _starts_within(chance: Chance, framed: bytes) -> bytes:
    at = chance.randrange(len(framed))
    return framed[:at] + VT + framed[at:]


def _ends_within(chance: Chance, framed: bytes) -> bytes:
    at = chance.randrange(len(framed))
    return framed[:at] + chance.choice((FS + CR, FS, CR + FS, FS + b"\n")) + framed[at:]


def _garbage_before(chance: Chance, framed: bytes) -> bytes:
    return chance.choice((chance.randbytes(9), b"\r\n", b"  ", b"GET / HTTP/1.1\r\n\r\n", FS + CR, FS, b"\x00" * 64)) + framed


def _garbage_behind(chance: Chance, framed: bytes) -> bytes:
    return framed + chance.choice((b"\n", b"\r\n", CR, b"\x04", chance.randbytes(5), FS + CR, b"MSH|^~\\&|A"))


def _empty(chance: Chance, _framed: bytes) -> bytes:
    return VT + chance.choice((b"", CR, b"\n", b" ")) + FS + CR


def _line_feed_end(_chance: Chance, framed: bytes) -> bytes:
    return framed[:-1] + b"\n"


FRAME: tuple[Mutator, ...] = (
    _without_start, _without_end, _without_carriage_return, _without_separator, _starts_twice, _starts_within, _ends_within,
    _garbage_before, _garbage_behind, _empty, _line_feed_end,
)  # fmt: skip
