"""OBX under its OBR: one row per value."""

import re
from typing import Any

from ehr.hl7v2.context import Context, time_columns
from ehr.hl7v2.message import Segment

_NUMBER = re.compile(r"[+-]?\d{1,9}(?:\.\d{1,6})?")
_PAIR = re.compile(r"\d{2,3}(?:\.\d+)?\s*/\s*\d{2,3}(?:\.\d+)?(?:\s*mm\[?Hg\]?)?")
_UNIT = re.compile(r"[A-Za-z0-9%/\[\]_.{}*^-]{1,20}")
_CODED = frozenset({"CE", "CWE", "CNE", "CF", "IS", "ID"})
_NUMERIC = frozenset({"NM", "ST", "SI"})


def observation_rows(context: Context, visit_key: str | None) -> list[dict[str, Any]]:
    """Every OBX of the message; the OBR before it gives the order and the time."""
    rows: list[dict[str, Any]] = []
    order: Segment | None = None
    for segment in context.message.segments:
        if segment.name == "OBR":
            order = segment
        elif segment.name == "OBX":
            rows += _values(context, segment, order, visit_key)
    return rows


def _values(context: Context, obx: Segment, obr: Segment | None, visit_key: str | None) -> list[dict[str, Any]]:
    identifiers = obx.repetitions(3)
    codings = context.codings(obx, identifiers[0]) if identifiers else []
    written = obx.text(14) or (obr.text(7) if obr else "")
    time = context.time(written) or (context.time(context.message.msh.text(7)) if not written else None)
    order = (obr.text(3) or obr.text(2)) if obr else ""
    group = order or written or context.message.msh.text(10)
    flags = (time.flags if time else []) + ([] if time or not written else ["bad_time"])
    rows = []
    for number, repetition in enumerate(obx.repetitions(5) or [""], 1):
        value, value_flags = _value(context, obx, repetition)
        fields: dict[str, Any] = {
            "message_type": context.message.type,
            "encounter_key": visit_key,
            "status": obx.text(11)[:1].upper() or None,
            **time_columns("event", time),
            "group_key": context.key("order", f"{context.person_key}|{group}|{obx.text(4)}|{number}"),
            "codings": codings,
            "value_type": obx.text(2)[:3] or None,
            **value,
        }
        code = codings[0]["code"] if codings else ""
        identity = f"observation|{context.person_key}|{order or written}|{code}|{obx.text(4)}|{number}"
        place = f"OBX[{obx.number}]" + (f"-5[{number}]" if number > 1 else "")
        rows.append(context.row(place, context.key("record", identity), fields, flags + value_flags) | fields)
    return rows


def _value(context: Context, obx: Segment, repetition: str) -> tuple[dict[str, Any], list[str]]:
    """OBX-5 as number, comparator, unit, safe text and codings; what may hold a name is dropped and flagged."""
    kind = obx.text(2)
    text = obx.component(repetition, 1)
    unit = obx.text(6)
    value: dict[str, Any] = {
        "value_number": None, "value_comparator": None, "value_text": None, "value_codings": [],
        "value_unit": unit if _UNIT.fullmatch(unit) else None,
    }  # fmt: skip
    flags = []
    if kind in _CODED:
        value["value_codings"] = context.codings(obx, repetition)
    elif kind == "SN":
        comparator, number = text, obx.component(repetition, 2)
        value["value_comparator"] = comparator if comparator in ("<", ">", "<=", ">=", "=", "<>") else None
        value["value_number"] = float(number) if _NUMBER.fullmatch(number) else None
    elif _NUMBER.fullmatch(text) and kind in _NUMERIC:
        value["value_number"] = float(text)
    elif _PAIR.fullmatch(text):
        value["value_text"] = text
    elif kind in _NUMERIC and (found := re.fullmatch(r"([<>]=?)\s*(\d+(?:\.\d+)?)", text)):
        value["value_comparator"], value["value_number"] = found[1], float(found[2])
    elif kind == "NM" and text:
        flags.append("bad_number")
    elif text:
        flags.append("value_text_dropped")
    if value["value_number"] is not None and not unit:
        flags.append("no_unit")
    return value, flags
