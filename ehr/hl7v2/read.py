"""A payload of HL7 v2 messages to landing rows. Never raises for what the bytes hold."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, NamedTuple

from core.keys import pseudonym
from ehr.hl7v2.allow_list import allowed_part
from ehr.hl7v2.charsets import CharsetError, decode
from ehr.hl7v2.context import Context, namespace_of
from ehr.hl7v2.framing import FramedMessage, split_messages
from ehr.hl7v2.message import Message, MessageError, Segment, parse_message
from ehr.hl7v2.observations import observation_rows
from ehr.hl7v2.persons import (
    Numbers,
    number_links,
    patient_row,
    person_groups,
    person_link,
    person_numbers,
    vault_entries,
)
from ehr.hl7v2.times import parse_time
from ehr.hl7v2.visits import condition_rows, encounter_key, encounters
from ehr.records import ParsedPayload, PayloadRef, Reject, VaultEntry
from ehr.sources import Source

TABLES = ("hl7v2_messages", "hl7v2_patients", "hl7v2_encounters", "hl7v2_observations", "hl7v2_conditions",
          "person_links")  # fmt: skip
SourceFor = Callable[[str | None], Source]
Rows = dict[str, list[dict[str, Any]]]
_RESULT_TYPES = frozenset({"ORU", "ORU^R01", "ORU^R03", "ORU^R30", "ORU^R31", "ORU^R32", "ORU^R40"})
_UNKNOWN = "unknown"
_JUDGED_BY = frozenset({"MSH", "EVN", "PID"})  # the segments that decide whether a message can be used
_MOST_LINES = 100_000  # of a message; as segments, more of them would take gigabytes
_TOO_MANY_SEGMENTS = ("too_many_segments", f"the message has more than {_MOST_LINES} segments")


def parse_payload(data: bytes, source_for: SourceFor, payload: PayloadRef, pseudonym_key: bytes,
                  messages_at_a_time: int = 2000) -> Iterator[ParsedPayload]:
    """Rows by table, rejects with their place, vault entries and counts of every message in ``data``, in parts: the rows of
    a message take sixty times its bytes.

    ``source_for`` is given MSH-4's namespace (None when there is none). Each message counts once as received and is
    exactly one of: a row of ``hl7v2_messages``, ignored, a reject. A file without a message is a reject of its own.
    """
    framed = enumerate(split_messages(data), 1)
    before = []
    for numbered in framed:
        before.append(numbered)
        if numbered[1].content.startswith(b"MSH"):
            break
    else:
        yield refused_file("not_hl7", "there is no MSH segment")
        return
    messages = chain(before, framed)
    while some := list(islice(messages, messages_at_a_time)):
        yield _parse_messages(some, source_for, payload, pseudonym_key)


def refused_file(reason_code: str, detail: str) -> ParsedPayload:
    """What comes of a file that is refused as a whole."""
    reject = Reject("file", "hl7v2", "file", reason_code, detail)
    return ParsedPayload({table: [] for table in TABLES}, rejects=[reject], received=Counter({("file", "hl7v2"): 1}))


def _parse_messages(numbered: list[tuple[int, FramedMessage]], source_for: SourceFor, payload: PayloadRef,
                    pseudonym_key: bytes) -> ParsedPayload:
    parsed = ParsedPayload(rows={table: [] for table in TABLES})
    vault: dict[tuple[str, frozenset[tuple[str, str]]], VaultEntry] = {}
    for ordinal, message in numbered:
        source = source_for(_facility(message.content))
        reader = _Reader(ordinal, source, payload, pseudonym_key)
        try:
            found = reader.read(message)
        except CharsetError as error:
            reader.refuse(parsed, "MSH-18", "charset_mismatch", str(error))
        except MessageError as error:
            reader.refuse(parsed, error.place, error.reason_code, error.detail)
        else:
            if found is None:
                parsed.ignored["message", reader.message_type] += 1
            else:
                for table, rows in found.items():
                    parsed.rows[table] += rows
                for entry in reader.vault:
                    vault[entry.key, frozenset(entry.content.items())] = entry
        parsed.received["message", reader.message_type] += 1
    parsed.vault = list(vault.values())
    return parsed


def is_read(message_type: str) -> bool:
    """Whether rows are made of messages of this type; others are counted as ignored."""
    return message_type.startswith("ADT") or message_type in _RESULT_TYPES


class _Described(NamedTuple):
    """One person of a message: the segments about them, and the numbers they go by."""

    segments: tuple[Segment, ...]
    pid: Segment
    numbers: Numbers


class _Usable(NamedTuple):
    """A message without a fault: its allowed part, when and on which grounds it was told, and of whom."""

    message: Message
    known: tuple[datetime, str, list[str]]
    people: list[_Described]


@dataclass(frozen=True)
class Judged:
    """What a message is, before it is landed. ``reject``: what reading it will refuse it for."""

    type: str
    source: Source
    message_key: str | None = None  # pseudonym of (MSH-3, MSH-4, MSH-10); None where there is no control id
    person_key: str | None = None  # of the first person
    reject: Reject | None = None


def judge_message(content: bytes, source_for: SourceFor, pseudonym_key: bytes) -> Judged:
    """Read one message as far as its faults show, without making rows of it. Never raises for what the bytes hold."""
    if content.count(b"\r") > _MOST_LINES or content.count(b"\n") > 10 * _MOST_LINES:  # a line feed may stand in a text
        reject = Reject("message", _UNKNOWN, "message 1", *_TOO_MANY_SEGMENTS)
        return Judged(_UNKNOWN, source_for(_facility(content)), reject=reject)
    framed = list(split_messages(content))
    source = source_for(_facility(framed[0].content) if framed else None)
    if len(framed) != 1:
        kind, detail = ("several_messages", "one frame holds one message") if framed else ("no_msh", "there is no MSH segment")
        return Judged(_UNKNOWN, source, reject=Reject("message", _UNKNOWN, "message 1", kind, detail))
    now = PayloadRef("", source.source_id, datetime.now(UTC), datetime.now(UTC).date())
    reader, parsed = _Reader(1, source, now, pseudonym_key), ParsedPayload()
    try:
        usable = reader.judge(framed[0], _JUDGED_BY)
    except CharsetError as error:
        reader.refuse(parsed, "MSH-18", "charset_mismatch", str(error))
    except MessageError as error:
        reader.refuse(parsed, error.place, error.reason_code, error.detail)
    else:
        person_key = usable.people[0].numbers[0][1] if usable is not None else None
        message = reader.message
        key = message_key(message, source, pseudonym_key) if message is not None and message.msh.text(10) else None
        return Judged(reader.message_type, source, key, person_key)
    return Judged(reader.message_type, source, reject=parsed.rejects[0])


def message_key(message: Message, source: Source, pseudonym_key: bytes) -> str:
    """The message's identity: pseudonym of (MSH-3, MSH-4, MSH-10) within its source."""
    msh = message.msh
    return pseudonym(pseudonym_key, "record", namespace_of(source), f"{msh.raw(3)}|{msh.raw(4)}|{msh.raw(10)}")


class _Reader:
    """One message, with what is known of it so far."""

    def __init__(self, ordinal: int, source: Source, payload: PayloadRef, pseudonym_key: bytes) -> None:
        self.ordinal, self.source, self.payload, self.pseudonym_key = ordinal, source, payload, pseudonym_key
        self.message_type = _UNKNOWN
        self.message: Message | None = None
        self.vault: list[VaultEntry] = []

    def refuse(self, parsed: ParsedPayload, place: str, reason: str, detail: str) -> None:
        locator = f"message {self.ordinal} {place}".rstrip()
        parsed.rejects.append(Reject("message", self.message_type, locator, reason, detail))

    def read(self, framed: FramedMessage) -> Rows | None:
        """The message's rows; None when its type is not handled. Errors: `CharsetError`, `MessageError`."""
        usable = self.judge(framed)
        return self._rows(usable, framed.content) if usable is not None else None

    def judge(self, framed: FramedMessage, only: frozenset[str] | None = None) -> "_Usable | None":
        """What rows can be made of; None when the type is not handled. Every fault of a message shows here, so the door
        and the lake refuse the same. ``only``: segments to look at. Errors: `CharsetError`, `MessageError`."""
        if framed.content.count(b"\r") > _MOST_LINES:
            raise MessageError(_TOO_MANY_SEGMENTS[0], "", _TOO_MANY_SEGMENTS[1])
        try:
            text = decode(framed.content, self.source.default_charset)
        except CharsetError:
            text = framed.content.decode("latin-1")  # the header is ASCII: the ledger still counts by its type
            self.message_type = parse_message(text.partition("\r")[0]).type
            raise
        self.message = message = allowed_part(parse_message(text, only))
        self.message_type = message.type
        if framed.is_truncated:
            raise MessageError("truncated", "", "the frame or batch ends in the middle of the message")
        if message.type == _UNKNOWN:
            raise MessageError("no_message_type", "MSH-9", "MSH-9 names no message type")
        if not is_read(message.type):
            return None
        if not message.msh.text(10):
            raise MessageError("no_control_id", "MSH-10", "MSH-10 is empty")
        known = self._known_at(message)
        people = []
        for segments in person_groups(message):
            pid = next(segment for segment in segments if segment.name == "PID")
            people.append(_Described(segments, pid, self._numbers(pid)))
        if not people:
            raise MessageError("no_patient_identifier", "PID", "there is no PID segment")
        return _Usable(message, known, people)

    def _rows(self, usable: "_Usable", raw: bytes) -> Rows:
        known_at, basis, flags = usable.known
        rows: Rows = {table: [] for table in TABLES}
        first: Context | None = None
        for segments, pid, numbers in usable.people:
            context = Context(
                usable.message, self.ordinal, self.source, self.pseudonym_key, numbers[0][1], known_at, basis, segments
            )
            first = first or context
            rows["person_links"] += number_links(context, pid, numbers)
            self._read_person(rows, context, pid)
            rows["person_links"] += person_link(context, first.person_key)
        if first is not None:
            rows["hl7v2_messages"].append(self._message_row(first, raw, flags))
        return rows

    def _read_person(self, rows: Rows, context: Context, pid: Segment) -> None:
        rows["hl7v2_patients"].append(patient_row(context, pid))
        self.vault += vault_entries(context, pid)
        if context.message.type.startswith("ADT"):  # the PV1 of a result tells of the order, not of the visit's course
            for row, entries in encounters(context):
                rows["hl7v2_encounters"].append(row)
                self.vault += entries
        pv1 = context.first("PV1")
        visit = encounter_key(context, pv1) if pv1 else None
        rows["hl7v2_conditions"] += condition_rows(context, visit)
        rows["hl7v2_observations"] += observation_rows(context, visit)

    def _numbers(self, pid: Segment) -> Numbers:
        for field in (3, 2):  # PID-2 carried the number up to version 2.2
            if numbers := person_numbers(pid, field, self.source, self.pseudonym_key):
                return numbers
        place = "PID-3" if pid.number == 1 else f"PID[{pid.number}]-3"
        raise MessageError("no_patient_identifier", place, "PID-3 holds no identifier")

    def _known_at(self, message: Message) -> tuple[datetime, str, list[str]]:
        """MSH-7, else EVN-2 (recorded), else the receipt of the payload."""
        if written := message.msh.text(7):
            sent = parse_time(written, self.source.time_zone)
            if sent is None:
                raise MessageError("bad_message_time", "MSH-7", "MSH-7 is not a time")
            return sent.at, "message", sent.flags
        evn = message.first("EVN")
        recorded = parse_time(evn.text(2), self.source.time_zone) if evn and evn.text(2) else None
        if recorded:
            return recorded.at, "recorded", recorded.flags
        return self.payload.received_at.astimezone(UTC), "receipt", ["no_message_time"]

    def _message_row(self, context: Context, raw: bytes, flags: list[str]) -> dict[str, Any]:
        row = context.row("", message_key(context.message, self.source, self.pseudonym_key), (), flags)
        content = pseudonym(self.pseudonym_key, "message", self.source.source_id, raw.decode("latin-1"))
        return row | {"content_hash": content, "message_type": context.message.type, "ordinal": context.ordinal}


def _facility(raw: bytes) -> str | None:
    """MSH-4's namespace, before anything is decoded."""
    fields = raw.split(b"\r", 1)[0].split(raw[3:4]) if len(raw) > 8 else []
    if len(fields) < 4:
        return None
    return fields[3].split(raw[4:5])[0].decode("ascii", "ignore") or None
