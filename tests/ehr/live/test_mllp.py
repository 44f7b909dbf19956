"""Bytes of the wire to frames: the same events however the bytes were cut, and no byte unaccounted for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.live.mllp import END, START, Event, FrameDecoder, frame

_LIMIT = 40
_PIECE = st.sampled_from([START, END, b"\r", b"\n", b" ", b"\x00", START, END + b"\r", b"MSH|^~\\&|A", b"x" * 30, b"\xff"])
_WIRE = st.lists(_PIECE, max_size=30).map(b"".join)


def events(*pieces: bytes, limit: int = _LIMIT) -> list[tuple[str, bytes]]:
    decoder = FrameDecoder(limit)
    found = [event for piece in pieces for event in decoder.feed(piece)]
    last = decoder.end()
    return [tuple(event) for event in (*found, *([last] if last else []))]


@given(_WIRE, st.lists(st.integers(0, 400)))
def test_how_the_wire_cut_the_bytes_makes_no_difference(wire, cuts):
    at = sorted(min(cut, len(wire)) for cut in cuts)
    pieces = [wire[start:end] for start, end in zip([0, *at], [*at, len(wire)], strict=True)]
    assert events(*pieces) == events(wire) == events(*(wire[i:i + 1] for i in range(len(wire))))


@given(_WIRE)
def test_nothing_is_lost_but_framing_and_white_space(wire):
    told = events(wire, limit=10_000)
    framing = bytes.maketrans(b"", b"")
    kept = b"".join(content for _kind, content in told)
    assert kept.translate(framing, b"\x0b\x1c\r\n \x00") == wire.translate(framing, b"\x0b\x1c\r\n \x00")


@given(st.lists(st.binary(max_size=30).map(lambda b: b.translate(None, b"\x0b\x1c")), max_size=8))
def test_every_frame_comes_out_as_it_went_in(messages):
    assert events(b"".join(map(frame, messages))) == [("frame", message) for message in messages]


@pytest.mark.parametrize(("wire", "expected"), [
    (START + b"A" + START + b"B" + END + b"\r", [("cut", b"A"), ("frame", b"B")]),
    (START + b"A" + END + b"\r\n" + START + b"B" + END + b"\r", [("frame", b"A"), ("frame", b"B")]),
    (START + b"A" + END + START + b"B" + END + b"\r", [("cut", b"A"), ("frame", b"B")]),
    (START + b"half" + END + b"other half" + END + b"\r", [("cut", b"half"), ("outside", b"other half" + END)]),
    (START + b"A" + END, [("cut", b"A")]),
    (START + b"A", [("cut", b"A")]),
    (b"GET / HTTP/1.1\r\n\r\n" + frame(b"A"), [("outside", b"GET / HTTP/1.1"), ("frame", b"A")]),
    (b"\r\n \x00" + frame(b""), [("frame", b"")]),
    (START + b"x" * 41 + END + b"\r" + frame(b"A"), [("too_large", b"x" * 40)]),
    (START + b"x" * 40 + END + b"\r" + frame(b"A"), [("frame", b"x" * 40), ("frame", b"A")]),
])  # fmt: skip
def test_what_the_wire_may_hold(wire, expected):
    assert events(wire) == expected


def test_a_frame_over_the_cap_is_told_before_it_ends_and_nothing_more_is_held():
    decoder = FrameDecoder(1000)
    assert list(decoder.feed(START + b"x" * 1000)) == []
    assert list(decoder.feed(b"x")) == [Event("too_large", b"x" * 1000)]
    assert list(decoder.feed(b"x" * 5000 + frame(b"A"))) == []
    assert decoder.held_bytes == 0
