"""A quick look at messages of the plainest form, which nearly all of a feed have; the door judges thousands of them a second.

`judge_plain` says of such a message what `ehr.hl7v2.read.judge_message` would say, or nothing: then that one is asked. It
never refuses. What is plain: the usual delimiters, one MSH and at most one PID, segments that are segments, a character set
that holds ASCII as it is, and header fields without repetitions, escapes or subcomponents.
"""

import re
from datetime import date
from functools import lru_cache

from core.keys import pseudonym
from ehr.hl7v2.charsets import CODECS
from ehr.hl7v2.context import namespace_of
from ehr.hl7v2.message import MESSAGE_CODES
from ehr.hl7v2.persons import authority_of
from ehr.hl7v2.read import Judged, SourceFor, is_read

_LARGEST_BYTES = 64 << 10
_TEXT = rb"[^\r\n\x00\x0b\x1c]*"
_OTHERS = rb"(?:\r(?!MSH|PID|FHS|BHS|BTS|FTS)[A-Z][A-Z0-9]{2}\|" + _TEXT + rb")*"
_PLAIN = re.compile(rb"(MSH\|\^~\\&\|" + _TEXT + rb")" + _OTHERS + rb"(?:\rPID\|(" + _TEXT + rb")" + _OTHERS + rb")?\r?")
_TYPE = re.compile(r"([A-Z]{3})\^([A-Z][0-9]{2})(?:\^[A-Z0-9_]*)?")
_CONTROL_ID = re.compile(rb"[A-Za-z0-9._-]+")
_NUMBER = re.compile(rb"([A-Za-z0-9]+)(?:\^[A-Za-z0-9]*\^[A-Za-z0-9]*\^([A-Za-z0-9]*)(?:\^[A-Za-z0-9]*)?)?")
_HOLD_ASCII = frozenset({"ascii", "utf-8", "cp1252", *(f"iso-8859-{part}" for part in (*range(1, 10), 15))})
_TIME_BYTES, _TIME_WITH_OFFSET_BYTES = 14, 19


def judge_plain(content: bytes, source_for: SourceFor, pseudonym_key: bytes) -> Judged | None:
    """What the exact reader would say of a plain message; None where it is not plain, or may have a fault."""
    if len(content) > _LARGEST_BYTES or (found := _PLAIN.fullmatch(content)) is None:
        return None
    fields = found[1].split(b"|")  # fields[n] is MSH-(n+1)
    if len(fields) < 12:
        return None
    kind, control_id = _type_of(fields[8]), fields[9]
    source = source_for(fields[3].split(b"^", 1)[0].decode("ascii", "ignore") or None)
    codec = _codec(fields[17] if len(fields) > 17 else b"", source.default_charset)
    if kind is None or codec is None or _CONTROL_ID.fullmatch(control_id) is None:
        return None
    try:
        if not content.isascii():
            content.decode(codec)
        identity = b"|".join((fields[2], fields[3], control_id)).decode(codec)
    except UnicodeDecodeError:
        return None
    person_key = None
    if is_read(kind):
        number = _NUMBER.fullmatch(found[2].split(b"|", 3)[2]) if found[2] and found[2].count(b"|") > 1 else None
        if number is None or not _is_time(fields[6]):
            return None
        authority = authority_of(source, (number[2] or b"").decode())
        person_key = pseudonym(pseudonym_key, "person", authority, number[1].decode())
    return Judged(kind, source, pseudonym(pseudonym_key, "record", namespace_of(source), identity), person_key)


@lru_cache(maxsize=512)
def _type_of(written: bytes) -> str | None:
    """MSH-9 with a code of HL7's and an event, as the ledger counts it."""
    found = _TYPE.fullmatch(written.decode("latin-1"))
    return f"{found[1]}^{found[2]}" if found and found[1] in MESSAGE_CODES else None


@lru_cache(maxsize=512)
def _codec(written: bytes, default_charset: str) -> str | None:
    """Of MSH-18, where the bytes of ASCII mean what they mean there."""
    declared = written.split(b"~")[0].strip().decode("latin-1").upper()
    codec = CODECS.get(declared) if declared else default_charset
    return codec if codec in _HOLD_ASCII else None


def _is_time(written: bytes) -> bool:
    """Whether it is a time to the second, with or without an offset."""
    size = len(written)
    if size == _TIME_WITH_OFFSET_BYTES:
        if written[14:15] not in (b"+", b"-") or not written[15:].isdigit() or written[15:17] > b"13" or written[17:] > b"59":
            return False
    elif size != _TIME_BYTES:
        return False
    return (written[:14].isdigit() and written[8:10] < b"24" and written[10:12] < b"60" and written[12:14] < b"60"
            and _is_day(written[:8]))  # fmt: skip


@lru_cache(maxsize=4096)
def _is_day(written: bytes) -> bool:
    try:
        return 1000 < date(int(written[:4]), int(written[4:6]), int(written[6:])).year < 9999
    except ValueError:
        return False
