"""OBX under its OBR: one row per value."""

from collections import Counter
from typing import Any

from ehr.hl7v2.context import Context, table_code, time_columns
from ehr.hl7v2.message import Segment
from ehr.hl7v2.times import Hl7Time
from ehr.hl7v2.values import read_value


def observation_rows(context: Context, visit_key: str | None) -> list[dict[str, Any]]:
    """Every OBX of the person; the OBR before it gives the order and the time.

    A record is person + order (else time) + code + OBX-4, so a correction is a later version of it; the same code told
    again under one order without another OBX-4 is a reading of its own, in the order of telling. ``group_key`` is the
    order + OBX-4, so readings of one order that OBX-4 tells apart are paired each with its own.
    """
    rows: list[dict[str, Any]] = []
    order: Segment | None = None
    told: Counter[str] = Counter()
    groups: dict[str, str] = {}
    for segment in context.segments:
        if segment.name == "OBR":
            order = segment
        elif segment.name == "OBX":
            rows += _rows(context, segment, order, visit_key, told, groups)
    return rows


def _rows(
    context: Context,
    obx: Segment,
    obr: Segment | None,
    visit_key: str | None,
    told: Counter[str],
    groups: dict[str, str],
) -> list[dict[str, Any]]:
    """The rows of one OBX. ``told`` counts the records and ``groups`` holds the group keys of the person so far."""
    identifiers = obx.repetitions(3)
    codings = context.codings(obx, identifiers[0]) if identifiers else []
    time, written, flags = _event_time(context, obx, obr)
    if not codings:
        flags.append("no_code")
    order = (obr.text(3) or obr.text(2)) if obr else ""
    base, sub_id = f"{context.person_key}|{order or written}", obx.text(4)
    identity = f"{base}|{codings[0]['code'] if codings else ''}|{sub_id}"
    sent_status = obx.text(11) or (obr.text(25) if obr else "")
    shared: dict[str, Any] = {
        "message_type": context.message.type,
        "encounter_key": visit_key,
        "status": table_code(sent_status),
        **time_columns("event", time),
        "codings": codings,
        "value_type": table_code(obx.text(2)),
    }
    rows = []
    for position, repetition in enumerate(obx.repetitions(5) or [""], 1):
        told[identity] += 1
        number = told[identity]
        value, value_flags = read_value(context, obx, repetition)
        group = f"{base}|{sub_id}|{number}"
        if group not in groups:
            groups[group] = context.key("order", group)
        fields = shared | {"group_key": groups[group]} | value
        place = f"OBX[{obx.number}]" + (f"-5[{position}]" if position > 1 else "")
        record_key = context.key("record", f"observation|{identity}|{number}")
        rows.append(context.row(place, record_key, fields, flags + value_flags, time) | fields)
    return rows


def _event_time(context: Context, obx: Segment, obr: Segment | None) -> tuple[Hl7Time | None, str, list[str]]:
    """OBX-14, else OBR-7, else the message's own time (flagged), each with the text it was read from."""
    for written in (obx.text(14), obr.text(7) if obr else ""):
        if written:
            time, flags = context.time(written)
            return time, written, flags
    written = context.message.msh.text(7)
    time, flags = context.time(written)
    return time, written or context.message.msh.text(10), [*flags, "message_time_taken"]
