"""PV1 and DG1: the visits of a person and the diagnoses told with them."""

from collections.abc import Iterator
from typing import Any

from ehr.hl7v2.context import Context, table_code, time_columns
from ehr.hl7v2.message import Segment
from ehr.records import VaultEntry

MOVE_EVENTS = frozenset({"A45"})  # visit MRG-5 belongs to the person of PID from now on
_STATUS = {
    "A01": "in-progress", "A04": "in-progress", "A13": "in-progress", "A03": "finished", "A05": "planned",
    "A14": "planned", "A11": "cancelled", "A27": "cancelled", "A38": "cancelled",
}  # fmt: skip


def encounter_key(context: Context, pv1: Segment) -> str | None:
    """The visit's pseudonym by PV1-19, else by PV1-50, else by the person and the admission time."""
    number = pv1.text(19) or pv1.text(50)
    if number:
        return context.key("encounter", number)
    admitted, _flags = context.time(pv1.text(44))
    return context.key("encounter", f"{context.person_key}|{admitted.at.isoformat()}") if admitted else None


def encounters(context: Context) -> Iterator[tuple[dict[str, Any], list[VaultEntry]]]:
    """Each visit with what the vault keeps of it. A move tells of the visit under its old number (the MRG-5 before the
    PV1) as well, where that is another."""
    moved: Segment | None = None
    for segment in context.segments:
        if segment.name == "MRG" and context.message.event in MOVE_EVENTS:
            moved = segment
        elif segment.name == "PV1":
            key = encounter_key(context, segment)
            if key is not None:
                yield _encounter_row(context, segment, key), _visit_entries(key, segment.raw(19) or segment.raw(50))
            if moved is not None and moved.text(5):
                old = context.key("encounter", moved.text(5))
                if old != key:
                    yield _encounter_row(context, segment, old), _visit_entries(old, moved.raw(5))
            moved = None


def _encounter_row(context: Context, pv1: Segment, key: str) -> dict[str, Any]:
    started, started_flags = context.time(pv1.text(44))
    ended, ended_flags = context.time(pv1.text(45))
    fields: dict[str, Any] = {
        "message_type": context.message.type,
        "encounter_key": key,
        "status": _STATUS.get(context.message.event, "finished" if ended else "unknown"),
        "class_code": table_code(pv1.text(2)),
        **time_columns("started", started),
        **time_columns("ended", ended),
    }
    flags = list(dict.fromkeys(started_flags + ended_flags))
    place = "PV1" if pv1.number == 1 else f"PV1[{pv1.number}]"
    return context.row(place, context.key("record", f"encounter|{key}"), fields, flags, started) | fields


def _visit_entries(key: str, number: str) -> list[VaultEntry]:
    return [VaultEntry(key, "encounter", {"visit_number": number})] if number else []


def condition_rows(context: Context, visit_key: str | None) -> list[dict[str, Any]]:
    """One row per DG1 that carries a code; a diagnosis in words alone stays behind."""
    rows = []
    for dg1 in context.all("DG1"):
        repetitions = dg1.repetitions(3)
        codings = context.codings(dg1, repetitions[0], default_system=dg1.text(2)) if repetitions else []
        if not codings:
            continue
        onset, flags = context.time(dg1.text(5))
        is_deleted = dg1.text(21).upper() == "D"
        fields: dict[str, Any] = {
            "message_type": context.message.type,
            "encounter_key": visit_key,
            "clinical_status": "inactive" if is_deleted else "active",
            "verification_status": "entered-in-error" if is_deleted else None,
            "codings": codings,
            **time_columns("onset", onset),
            "abated_at": None,
            "recorded_at": context.known_at,
        }
        record = context.key("record", f"condition|{context.person_key}|{codings[0]['code']}|{dg1.text(5)}")
        rows.append(context.row(f"DG1[{dg1.number}]", record, fields, flags, onset) | fields)
    return rows
