"""PID and MRG: who the message is about, what the vault keeps of them, and which numbers are the same person."""

from typing import Any

from core.keys import pseudonym
from ehr.hl7v2.context import Context
from ehr.hl7v2.message import Message, Segment
from ehr.records import VaultEntry
from ehr.sources import Source

# MRG-1 was folded into PID-3 (merges, moves of a whole person, changes of a number) in these events.
MERGE_EVENTS = frozenset({"A18", "A30", "A34", "A35", "A36", "A39", "A40", "A41", "A42", "A46", "A47", "A48", "A49"})
UNMERGE_EVENTS = frozenset({"A37"})
_SEX = {"F": "female", "M": "male", "O": "other", "A": "other", "U": "unknown", "N": "other"}
_NAMELESS = "unnamed"


def person_numbers(segment: Segment, field: int, source: Source, key: bytes) -> list[tuple[str, str]]:
    """(type, person key) of every identifier in a CX field, the one to go by first: MR, else PI, else the first."""
    found = []
    for repetition in segment.repetitions(field):
        value = segment.component(repetition, 1)
        if not value:
            continue
        namespace = segment.component(repetition, 4) or segment.component(repetition, 4, 2)
        authority = source.authority(namespace) or f"{source.source_id}:{_NAMELESS}"
        found.append((segment.component(repetition, 5), pseudonym(key, "person", authority, value)))
    rank = {"MR": 0, "PI": 1}
    return sorted(found, key=lambda pair: rank.get(pair[0], 2))


def patient_row(context: Context, pid: Segment) -> dict[str, Any]:
    born, died = context.time(pid.text(7)), context.time(pid.text(29))
    fields: dict[str, Any] = {
        "message_type": context.message.type,
        "gender": _SEX.get(pid.text(8).upper()),
        "birth_date": born.at.date() if born else None,
        "birth_date_precision": (born.precision if born.precision in ("year", "month") else "day") if born else None,
        "is_active": not context.message.type.endswith(("^A29", "^A23")),
        "is_deceased": pid.text(30).upper() == "Y" or died is not None,
        "deceased_at": died.at if died else None,
        "deceased_precision": died.precision if died else None,
    }
    flags = ["bad_birth_date"] if pid.text(7) and born is None else []
    return context.row("PID", context.key("record", f"patient|{context.person_key}"), fields, flags) | fields


def vault_entry(context: Context, pid: Segment) -> VaultEntry:
    """Everything that names the person, sealed under the pseudonym."""
    named = {"identifiers": 3, "name": 5, "mother": 6, "alias": 9, "address": 11, "phone": 13, "work_phone": 14,
             "account": 18, "social_security": 19}  # fmt: skip
    return VaultEntry(context.person_key, "person", {name: pid.raw(at) for name, at in named.items() if pid.raw(at)})


def link_rows(context: Context) -> list[dict[str, Any]]:
    """Links between the numbers of one PID-3, and from each MRG-1 to the PID before it."""
    rows = []
    event = context.message.type.partition("^")[2]
    current: Segment | None = None
    for segment in context.message.segments:
        if segment.name == "PID":
            current = segment
            numbers = person_numbers(segment, 3, context.source, context.pseudonym_key)
            trusted = [number for number in numbers if number[0] in ("MR", "PI")]
            for _kind, other in trusted[1:]:
                rows.append(_link(context, "PID", trusted[0][1], "identifier", other))
        elif segment.name == "MRG" and current is not None and event in MERGE_EVENTS | UNMERGE_EVENTS:
            survivors = person_numbers(current, 3, context.source, context.pseudonym_key)
            kind = "merge" if event in MERGE_EVENTS else "unmerge"
            for _kind, retired in person_numbers(segment, 1, context.source, context.pseudonym_key):
                if survivors and retired != survivors[0][1]:
                    rows.append(_link(context, f"MRG[{segment.number}]", retired, kind, survivors[0][1]))
    return rows


def _link(context: Context, place: str, person: str, kind: str, other: str) -> dict[str, Any]:
    # Told again it is the same link; an unmerge after a merge is another.
    identity = context.key("record", f"link|{person}|{kind}|{other}" + ("" if kind == "identifier" else
                                                                     f"|{context.known_at.isoformat()}"))
    row = context.row(place, identity, (), [])
    return row | {"content_hash": identity, "person_key": person, "link_type": kind, "other_person_key": other}


def find_pid(message: Message) -> Segment | None:
    return message.first("PID")
