"""Acknowledgements: HL7 v2.5.1 chapter 2.9, original and enhanced mode, with an ERR segment that says where and why."""

import itertools
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

from ehr.hl7v2.framing import split_messages
from ehr.records import Reject

_NUMBERS = itertools.count(1)
_LARGEST_HEADER_BYTES = 8192
_PROCESS = secrets.token_hex(4).upper()
# HL7 table 0357 for our reasons; every other reason is 207, a fault told by its text.
_CONDITIONS = {
    "no_msh": "100", "bad_delimiters": "100", "truncated": "100", "outside_frame": "100",
    "several_messages": "100", "too_many_segments": "100", "no_message_type": "101", "no_control_id": "101",
    "no_patient_identifier": "101",
    "bad_message_time": "102", "charset_mismatch": "102", "control_id_reused": "205", "certificate_mismatch": "103",
    "too_large": "102",
}  # fmt: skip
_CONDITION_NAMES = {
    "100": "Segment sequence error", "101": "Required field missing", "102": "Data type error",
    "103": "Table value not found", "205": "Duplicate key identifier", "207": "Application internal error",
}  # fmt: skip
_MENDS = {
    "no_msh": "send one message that begins with MSH", "bad_delimiters": "name distinct delimiters in MSH-1 and MSH-2",
    "truncated": "send the whole message", "several_messages": "send each message in a frame of its own",
    "no_message_type": "name a message type in MSH-9", "no_control_id": "number the message in MSH-10",
    "no_patient_identifier": "give the patient's number in PID-3", "bad_message_time": "write MSH-7 as YYYYMMDDHHMMSS",
    "charset_mismatch": "name the character set of the bytes in MSH-18",
    "control_id_reused": "give a changed message a number of its own",
    "certificate_mismatch": "send from the facility that the certificate belongs to",
}  # fmt: skip
UNUSABLE_HEADER = frozenset({"no_msh", "bad_delimiters", "no_message_type", "no_control_id", "several_messages",
                             "certificate_mismatch"})  # fmt: skip
NOT_STORED = Reject("message", "unknown", "", "not_stored", "the message cannot be stored now; send it again")
TOO_LARGE = Reject("message", "unknown", "", "too_large", "the frame is larger than this listener takes")


@dataclass(frozen=True)
class Header:
    """What an answer repeats of MSH, as it stands on the wire. Every field is empty where the header has none."""

    separator: bytes = b"|"
    encoding: bytes = b"^~\\&"
    sender: tuple[bytes, bytes] = (b"", b"")  # MSH-3, MSH-4
    receiver: tuple[bytes, bytes] = (b"", b"")  # MSH-5, MSH-6
    event: bytes = b""  # MSH-9.2
    control_id: bytes = b""
    processing: bytes = b"P"
    version: bytes = b"2.5.1"
    accept: bytes = b""  # MSH-15: when a commit acknowledgement is wanted
    application: bytes = b""  # MSH-16: when an application acknowledgement is wanted
    charset: bytes = b""

    @property
    def is_enhanced(self) -> bool:
        return bool(self.accept or self.application)

    def in_ascii(self) -> "Header":
        """Without the names that are not ASCII, for a message whose bytes are not what MSH-18 says."""
        def kept(names: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
            return (names[0] if names[0].isascii() else b"", names[1] if names[1].isascii() else b"")

        return replace(self, sender=kept(self.sender), receiver=kept(self.receiver))


def read_header(content: bytes) -> Header:
    """MSH of a message, never decoded. A header that cannot be read gives an empty one."""
    start = content[:_LARGEST_HEADER_BYTES].lstrip(b"\xef\xbb\xbf\r\n \t")
    if not start.startswith(b"MSH"):  # a batch envelope may stand before it
        start = next((message.content for message in split_messages(start)), b"")
    head = start.replace(b"\n", b"\r").split(b"\r", 1)[0]
    separator = head[3:4]
    if not head.startswith(b"MSH") or not separator or separator.isalnum() or separator.isspace():
        return Header()
    fields = head.split(separator)
    fields += [b""] * (19 - len(fields))  # fields[n] is MSH-(n+1)
    component = fields[1][:1] or b"^"
    kind = fields[8].split(component)
    return Header(separator, fields[1] or b"^~\\&", (fields[2], fields[3]), (fields[4], fields[5]),
                  kind[1] if len(kind) > 1 else b"", fields[9], fields[10] or b"P", fields[11] or b"2.5.1",
                  fields[14].strip().upper(), fields[15].strip().upper(), fields[17])  # fmt: skip


def acknowledgements(header: Header, reject: Reject | None, now: datetime | None = None) -> list[bytes]:
    """The answers to one message: one in original mode; in enhanced mode what MSH-15 and MSH-16 ask for, or none.

    ``reject`` says why a message is not accepted. A header we cannot use, and what cannot be stored, is refused (AR, CR);
    any other fault is the content's (AE, CE).
    """
    outcome = "A" if reject is None else "R" if reject.reason_code in UNUSABLE_HEADER | _NOT_TAKEN else "E"
    if not header.is_enhanced:
        return [_answer(header, "A" + outcome, reject, now)]
    answers = []
    is_application_told = _is_wanted(header.application or b"NE", outcome)
    # A quarantined message is safe as well, so its commit is acknowledged; where no application acknowledgement will tell
    # of the fault, this one does.
    committed = "A" if outcome == "E" and is_application_told else outcome
    if _is_wanted(header.accept or b"NE", committed):
        answers.append(_answer(header, "C" + committed, reject if committed != "A" else None, now))
    if is_application_told and not (answers and outcome == "R"):  # nothing was taken that an application could answer
        answers.append(_answer(header, "A" + outcome, reject, now))
    return answers


def code_of(answer: bytes) -> str:
    """MSA-1 of an answer of ours."""
    return answer.split(b"\r", 2)[1][4:6].decode("ascii", "replace")


_NOT_TAKEN = frozenset({NOT_STORED.reason_code, TOO_LARGE.reason_code})


def _is_wanted(condition: bytes, outcome: str) -> bool:
    """HL7 table 0155: AL always, NE never, ER on error or rejection, SU on success."""
    if condition == b"NE":
        return False
    return condition not in (b"ER", b"SU") or (condition == b"SU") == (outcome == "A")


def _answer(header: Header, code: str, reject: Reject | None, now: datetime | None) -> bytes:
    if reject is not None and reject.reason_code == "charset_mismatch":
        header = header.in_ascii()
    delimiters = header.separator + header.encoding
    at = _written(int((now or datetime.now(UTC)).timestamp())) + (b"" if b"+" in delimiters else b"+0000")
    join, part = header.separator.join, header.encoding[:1]
    kind = part.join([b"ACK", header.event, b"ACK"]) if header.event else b"ACK"
    number = f"CUFF{_PROCESS}{next(_NUMBERS)}".encode()
    msh = join([b"MSH", header.encoding, *header.receiver, *header.sender, at, b"", kind, number, header.processing,
                header.version, b"", b"", b"", b"", b"", header.charset]).rstrip(header.separator)  # fmt: skip
    said = [_escaped(_said(reject), header)] if reject is not None and header.version < b"2.5" else []  # MSA-3, later in ERR
    segments = [msh, join([b"MSA", code.encode(), header.control_id, *said])]
    if reject is not None:
        segments.append(_error(header, reject))
    return b"\r".join(segments) + b"\r"


@lru_cache(maxsize=2)
def _written(second: int) -> bytes:
    return datetime.fromtimestamp(second, UTC).strftime("%Y%m%d%H%M%S").encode()


def _error(header: Header, reject: Reject) -> bytes:
    join, part = header.separator.join, header.encoding[:1]
    condition = _CONDITIONS.get(reject.reason_code, "207")
    name = _CONDITION_NAMES[condition].encode()
    place = _place(reject.locator)
    if header.version < b"2.5":  # ERR-1: segment, sequence, field, code of the error
        error = (header.encoding[3:4] or b"&").join([condition.encode(), name, b"HL70357"])
        return join([b"ERR", part.join([*place, *[b""] * (3 - len(place)), error])])
    return join([b"ERR", b"", part.join(place), part.join([condition.encode(), name, b"HL70357"]), b"E", b"", b"",
                 _escaped(_said(reject), header), b""]).rstrip(header.separator)  # fmt: skip


def _said(reject: Reject) -> bytes:
    mend = _MENDS.get(reject.reason_code)
    return f"{reject.reason_code}: {reject.detail}{f'; {mend}' if mend else ''}".encode("ascii", "replace")


def _place(locator: str) -> list[bytes]:
    """``message 1 PID[2]-3`` as ERL: segment, its number, the field."""
    segment, _, number = locator.rpartition(" ")[2].partition("-")
    name, _, nth = segment.partition("[")
    if len(name) != 3 or not name.isalnum() or not name.isupper():
        return []
    place = [name.encode(), (nth.rstrip("]") or "1").encode()]
    return [*place, number.encode()] if number.isdigit() else place


def _escaped(text: bytes, header: Header) -> bytes:
    """Our own words, with no character in them that the sender uses as a delimiter."""
    delimiters = header.separator + header.encoding
    return bytes(byte if byte not in delimiters else 0x20 for byte in text)
