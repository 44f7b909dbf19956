"""PID and MRG: who the message is about, what the vault keeps of them, and which numbers are the same person."""

from collections.abc import Iterator
from typing import Any

from core.keys import pseudonym
from ehr.hl7v2.allow_list import vault_fields
from ehr.hl7v2.context import Context
from ehr.hl7v2.message import Message, Segment
from ehr.records import VaultEntry
from ehr.sources import Source

# MRG-1 was folded into PID-3: merges of persons and changes of a person's number (HL7 2.8, chapter 3). Merges, moves
# and changes of accounts and visits (A35, A41 to A45, A48 to A50) carry an MRG too and make nobody the same person.
MERGE_EVENTS = frozenset({"A18", "A30", "A34", "A36", "A39", "A40", "A46", "A47"})
LINK_EVENTS = {"A24": "merge", "A37": "unmerge"}  # two PIDs: the second joins, or leaves, the first
_SEX = {"F": "female", "M": "male", "O": "other", "A": "other", "U": "unknown", "N": "other"}
Numbers = list[tuple[str, str]]  # (identifier type, person key)
_NAMELESS = "unnamed"
_TRUSTED_TYPES = ("MR", "PI")


def person_groups(message: Message) -> Iterator[tuple[Segment, ...]]:
    """The segments of each person: from PID to the next PID, a result for another patient included. What stands before
    the first PID (MSH, EVN) goes with the first."""
    group: list[Segment] = []
    has_pid = False
    for segment in message.segments:
        if segment.name == "PID":
            if has_pid:
                yield tuple(group)
                group = []
            has_pid = True
        group.append(segment)
    if has_pid:
        yield tuple(group)


def person_numbers(segment: Segment, field: int, source: Source, key: bytes) -> Numbers:
    """(type, person key) of every identifier in a CX field, the one to go by first: MR, else PI, else the first."""
    found = []
    for repetition in segment.repetitions(field):
        value = segment.component(repetition, 1)
        if value:
            authority = _authority(segment, repetition, source)
            found.append((segment.component(repetition, 5), pseudonym(key, "person", authority, value)))
    rank = {name: position for position, name in enumerate(_TRUSTED_TYPES)}
    return sorted(found, key=lambda pair: rank.get(pair[0], len(rank)))


def _authority(segment: Segment, repetition: str, source: Source) -> str:
    return authority_of(source, segment.component(repetition, 4), segment.component(repetition, 4, 2))


def authority_of(source: Source, namespace: str, oid: str = "") -> str:
    """CX-4 as the source declares it, by namespace or by OID; undeclared, the namespace or OID itself."""
    for name in (namespace, oid, f"urn:oid:{oid}"):
        if name in source.authorities:
            return source.authorities[name]
    return source.authority(namespace or oid) or f"{source.source_id}:{_NAMELESS}"


def patient_row(context: Context, pid: Segment) -> dict[str, Any]:
    born, flags = context.time(pid.text(7))
    died, died_flags = context.time(pid.text(29))
    dead = pid.text(30).upper()
    if "bad_time" in flags:
        flags = ["bad_birth_date"]
    elif born is not None:
        flags = ["partial_date"] if born.precision in ("year", "month") else []  # a birth date has no offset to miss
    fields: dict[str, Any] = {
        "message_type": context.message.type,
        "gender": _SEX.get(pid.text(8).upper()),
        "birth_date": born.day if born else None,
        "birth_date_precision": (born.precision if born.precision in ("year", "month") else "day") if born else None,
        "is_active": context.message.type != "ADT^A29",
        "is_deceased": True if died is not None or dead == "Y" else False if pid.raw(30) else None,
        "deceased_at": died.at if died else None,
        "deceased_precision": died.precision if died else None,
    }
    record_key = context.key("record", f"patient|{context.person_key}")
    return context.row(_place(pid), record_key, fields, flags + died_flags) | fields


def vault_entries(context: Context, pid: Segment) -> list[VaultEntry]:
    """Everything that names the person, sealed under the pseudonym, and the same of the numbers an MRG retires."""
    entries = [VaultEntry(context.person_key, "person", _sent(pid))]
    for merge in context.all("MRG"):
        for _kind, retired in person_numbers(merge, 1, context.source, context.pseudonym_key)[:1]:
            entries.append(VaultEntry(retired, "person", _sent(merge)))
    return entries


def _sent(segment: Segment) -> dict[str, str]:
    return {name: segment.raw(at) for name, at in vault_fields(segment.name).items() if segment.raw(at)}


def number_links(context: Context, pid: Segment, numbers: Numbers) -> list[dict[str, Any]]:
    """Links between the trusted ``numbers`` of one PID, and from each number of MRG-1 to the PID before it."""
    trusted = dict.fromkeys(key for kind, key in numbers if kind in _TRUSTED_TYPES)
    rows = [
        _link(context, _place(pid), context.person_key, "identifier", other)
        for other in trusted
        if other != context.person_key
    ]
    if context.message.event in MERGE_EVENTS:
        for merge in context.all("MRG"):
            retired = dict.fromkeys(key for _, key in person_numbers(merge, 1, context.source, context.pseudonym_key))
            place = f"MRG[{merge.number}]-1"
            rows += [
                _link(context, place, key, "merge", context.person_key) for key in retired if key != context.person_key
            ]
    return rows


def person_link(context: Context, first_person_key: str) -> list[dict[str, Any]]:
    """A24 and A37: the person of a later PID joins, or leaves, the person of the first."""
    link_type = LINK_EVENTS.get(context.message.event)
    if link_type is None or context.person_key == first_person_key:
        return []
    pid = context.first("PID")
    return [_link(context, _place(pid) if pid else "PID", context.person_key, link_type, first_person_key)]


def _link(context: Context, place: str, person: str, kind: str, other: str) -> dict[str, Any]:
    # Told again it is the same link; an unmerge after a merge is another.
    told = "" if kind == "identifier" else f"|{context.known_at.isoformat()}"
    identity = context.key("record", f"link|{person}|{kind}|{other}{told}")
    row = context.row(place, identity, (), [])
    return row | {"content_hash": identity, "person_key": person, "link_type": kind, "other_person_key": other}


def _place(pid: Segment) -> str:
    return "PID" if pid.number == 1 else f"PID[{pid.number}]"
