"""However the messages are packed, the same messages come out, and what is cut off is not taken for whole."""

import pytest

from ehr.hl7v2.framing import split_messages

FIRST = b"MSH|^~\\&|A|B\rPID|1||7\rOBX|1|ST|X||one"
SECOND = b"MSH|^~\\&|A|B\rPID|1||8"
BOM = b"\xef\xbb\xbf"


def contents(data: bytes) -> list[bytes]:
    return [message.content for message in split_messages(data)]


@pytest.mark.parametrize(
    "data",
    [
        FIRST + b"\r" + SECOND,
        FIRST + b"\r" + SECOND + b"\r",
        (FIRST + b"\r" + SECOND).replace(b"\r", b"\n"),
        (FIRST + b"\r" + SECOND).replace(b"\r", b"\r\n"),
        FIRST + b"\r\n\r\n" + SECOND + b"\r\n",
        BOM + FIRST + b"\r" + BOM + SECOND,
        b"FHS|^~\\&\rBHS|^~\\&\r" + FIRST + b"\r" + SECOND + b"\rBTS|2\rFTS|1\r",
        b"FHS\rBHS\r" + FIRST + b"\rBTS\rBHS\r" + SECOND + b"\rBTS\rFTS",
        b"\x0b" + FIRST + b"\r\x1c\r\x0b" + SECOND + b"\r\x1c\r",
        b"  " + FIRST + b"\r\t" + SECOND,
    ],
    ids=["cr", "cr at end", "lf", "crlf", "blank lines", "marks", "batch", "two batches", "mllp", "indented"],
)
def test_packing_does_not_matter(data):
    assert contents(data) == [FIRST, SECOND]
    assert not any(message.is_truncated for message in split_messages(data))


def test_a_line_end_inside_a_field_continues_it():
    data = b"MSH|^~\\&|A|B\rOBX|1|TX|X||line one\nand two||||||F\rPID|1||7"
    assert contents(data) == [data]


def test_what_stands_before_the_first_message_is_not_lost():
    assert contents(b"hello\r" + FIRST) == [b"hello", FIRST]


@pytest.mark.parametrize(
    "data",
    [
        b"\x0b" + FIRST + b"\r\x1c\r\x0b" + SECOND,
        b"BHS|^~\\&\r" + FIRST + b"\r" + SECOND,
    ],
    ids=["frame left open", "batch left open"],
)
def test_a_cut_marks_the_last_message_only(data):
    assert [message.is_truncated for message in split_messages(data)] == [False, True]


def test_a_batch_without_trailer_that_ends_with_a_line_is_whole():
    assert not any(message.is_truncated for message in split_messages(b"BHS|^~\\&\r" + FIRST + b"\r"))


def test_nothing_gives_nothing():
    assert contents(b"") == contents(b"\r\n\x0b\x1c\r") == []
