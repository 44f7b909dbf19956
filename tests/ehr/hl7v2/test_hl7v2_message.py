"""Delimiters of any kind, escapes, nulls: what was written is what is read."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.hl7v2.message import Delimiters, MessageError, escape, parse_message, unescape

USUAL = Delimiters("|", "^", "~", "\\", "&")
_MARKS = [mark for mark in string.punctuation if mark != '"']
delimiters = st.permutations(_MARKS).map(lambda marks: Delimiters(*marks[:5]))
# Text as it may stand in a field: no segment end, no blanks at the ends (they are padding), not the explicit null.
texts = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=30).map(str.strip)


@given(texts, delimiters)
def test_escape_round_trip(text, marks):
    escaped = escape(text, marks)
    assert unescape(escaped, marks) == text
    assert not set(escaped) & {marks.field, marks.component, marks.repetition, marks.subcomponent}


@given(st.lists(st.lists(texts.filter(lambda text: text != '""'), min_size=1, max_size=3), min_size=1, max_size=3),
       delimiters)  # fmt: skip
def test_fields_round_trip_under_any_delimiters(repetitions, marks):
    field = marks.repetition.join(marks.component.join(escape(c, marks) for c in parts) for parts in repetitions)
    header = f"MSH{marks.field}{marks.component}{marks.repetition}{marks.escape}{marks.subcomponent}{marks.field}A"
    message = parse_message(f"{header}\rZZZ{marks.field}{field}")
    segment = message.first("ZZZ")
    assert segment is not None
    assert message.msh.text(3) == "A"
    found = [
        [segment.component(repetition, at) for at in range(1, len(parts) + 1)]
        for repetition, parts in zip(segment.repetitions(1) or [""], repetitions, strict=True)
    ]
    assert found == repetitions
    assert segment.text(1) == repetitions[0][0]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"\X41\\X0A\z", "A\nz"),
        (r"one\.br\two", "one\ntwo"),
        (r"\H\loud\N\ quiet", "loud quiet"),
        (r"\XE9\ \Zlocal\ \.sp2\ ", r"\XE9\ \Zlocal\ \.sp2\ "),
        ("a \\ lone mark", "a \\ lone mark"),
    ],
    ids=["delimiters", "hex", "break", "highlight", "left as sent", "unpaired"],
)
def test_escape_sequences(sent, read):
    assert unescape(sent, USUAL) == read


def test_explicit_null_and_absence_read_empty():
    segment = parse_message('MSH|^~\\&|A\rPID|""|x^""^y|').first("PID")
    assert segment is not None
    assert [segment.text(1), segment.text(2, 2), segment.text(2, 3), segment.text(2, 9), segment.text(9)] == [
        "", "", "y", "", ""]  # fmt: skip
    assert segment.raw(1) == '""'


def test_subcomponents():
    segment = parse_message("MSH|^~\\&|A\rPID|x&y^z").first("PID")
    assert segment is not None
    places = ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2))
    assert [segment.component("x&y^z", *place) for place in places] == ["x", "y", "", "z", ""]


def test_short_msh_2_leaves_the_rest_undeclared():
    segment = parse_message("MSH|^|A\rPID|a~b&c^d").first("PID")
    assert segment is not None
    assert segment.text(1) == "a~b&c"
    assert segment.text(1, 2) == "d"


@pytest.mark.parametrize(
    ("text", "reason", "place"),
    [
        ("PID|1", "no_msh", "MSH"),
        ("MSH", "bad_delimiters", "MSH-1"),
        ("MSHX^~", "bad_delimiters", "MSH-1"),
        ("MSH||A", "bad_delimiters", "MSH-2"),
        ("MSH|^^~\\|A", "bad_delimiters", "MSH-2"),
        ("MSH|ab|A", "bad_delimiters", "MSH-2"),
    ],
)
def test_unusable_headers_say_where(text, reason, place):
    with pytest.raises(MessageError) as error:
        parse_message(text)
    assert (error.value.reason_code, error.value.place) == (reason, place)


@pytest.mark.parametrize(
    ("header", "evn", "expected"),
    [
        ("ADT^A08^ADT_A01", "", "ADT^A08"),
        ("ADT", "\rEVN|A04", "ADT^A04"),
        ("ORU", "", "ORU"),
        ("ZQX^Z01", "", "other"),
        ("ANNA^LEE", "", "unknown"),
        ("LEE^A01", "", "other"),
        ("ADT^LEE", "", "ADT"),
        ("a sentence", "", "unknown"),
        ("", "", "unknown"),
    ],
)
def test_message_type(header, evn, expected):
    assert parse_message(f"MSH|^~\\&|A|B|C|D|||{header}{evn}").type == expected
