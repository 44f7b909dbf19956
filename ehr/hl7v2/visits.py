"""PV1 and DG1: the visit of a message and the diagnoses told with it."""

from typing import Any

from ehr.hl7v2.context import Context, time_columns
from ehr.hl7v2.message import Segment
from ehr.records import VaultEntry

CANCEL_EVENTS = frozenset({"A11", "A13", "A27", "A38"})
_STATUS = {"A01": "in-progress", "A04": "in-progress", "A03": "finished", "A05": "planned", "A14": "planned",
           "A11": "cancelled", "A27": "cancelled", "A38": "cancelled", "A13": "in-progress"}  # fmt: skip


def encounter_key(context: Context, pv1: Segment | None) -> str | None:
    """The visit's pseudonym by PV1-19, else by PV1-50, else by the person and the admission time."""
    if pv1 is None:
        return None
    number = pv1.text(19) or pv1.text(50)
    if number:
        return context.key("encounter", number)
    admitted = pv1.text(44)
    return context.key("encounter", f"{context.person_key}|{admitted}") if admitted else None


def encounter_row(context: Context, pv1: Segment, key: str) -> dict[str, Any]:
    started, ended = context.time(pv1.text(44)), context.time(pv1.text(45))
    event = context.message.type.partition("^")[2]
    fields: dict[str, Any] = {
        "message_type": context.message.type,
        "encounter_key": key,
        "status": _STATUS.get(event, "finished" if ended else "unknown"),
        "class_code": pv1.text(2)[:20] or None,
        **time_columns("started", started),
        **time_columns("ended", ended),
    }
    flags = started.flags if started else []
    return context.row("PV1", context.key("record", f"encounter|{key}"), fields, flags) | fields


def visit_vault_entry(key: str, pv1: Segment) -> VaultEntry | None:
    number = pv1.raw(19) or pv1.raw(50)
    return VaultEntry(key, "encounter", {"visit_number": number}) if number else None


def condition_rows(context: Context, visit_key: str | None) -> list[dict[str, Any]]:
    rows = []
    for dg1 in context.message.all("DG1"):
        repetitions = dg1.repetitions(3)
        codings = context.codings(dg1, repetitions[0]) if repetitions else []
        if not codings and dg1.text(3):
            codings = [{"system": context.system(dg1.text(2)), "code": dg1.text(3)}] if " " not in dg1.text(3) else []
        if not codings:
            continue
        onset = context.time(dg1.text(5))
        code = codings[0]["code"]
        fields: dict[str, Any] = {
            "message_type": context.message.type,
            "encounter_key": visit_key,
            "clinical_status": "inactive" if dg1.text(21).upper() == "D" else "active",
            "verification_status": "entered-in-error" if dg1.text(21).upper() == "D" else None,
            "codings": codings,
            **time_columns("onset", onset),
            "abated_at": None,
            "recorded_at": context.known_at,
        }
        record = context.key("record", f"condition|{context.person_key}|{code}|{dg1.text(5)}")
        flags = onset.flags if onset else []
        rows.append(context.row(f"DG1[{dg1.number}]", record, fields, flags) | fields)
    return rows
