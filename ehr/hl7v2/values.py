"""OBX-5 as a number, a pair of numbers or codes. Whatever else it holds may name somebody: dropped and flagged."""

import re
from typing import Any

from ehr.hl7v2.context import Context
from ehr.hl7v2.message import Segment
from ehr.units import DROPPED_UNIT, is_of_unit_words

_NUMBER = re.compile(r"[+-]?(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})", re.ASCII)
_COMPARED = re.compile(r"(<=|>=|<|>|=)\s*([+-]?\d{1,12}(?:\.\d{1,12})?)", re.ASCII)
_PAIR = re.compile(r"\d{2,3}(?:\.\d{1,3})?\s*/\s*\d{2,3}(?:\.\d{1,3})?(?:\s*mm\[?Hg\]?)?", re.ASCII)
_UNIT = re.compile(r"[A-Za-z0-9%/\[\]_.{}()*^'\"°µμ²³·+-]{1,20}")
_UNIT_BLANKS = re.compile(r"(?<=^mm) (?=\[?Hg)| (?=/)|(?<=/) ")
_CODED = frozenset({"CE", "CWE", "CNE", "CF", "IS", "ID"})
_IN_WRITING = frozenset({"NM", "ST", "SI"})
_EXPLICIT_NULL = '""'
_COMPARATORS = frozenset({"<", ">", "<=", ">=", "=", "<>"})


def read_value(context: Context, obx: Segment, repetition: str) -> tuple[dict[str, Any], list[str]]:
    """The value columns of one repetition of OBX-5, and flags: ``bad_number`` (it should have been one),
    ``value_text_dropped``, ``value_code_dropped``, ``unit_dropped``, ``no_unit``."""
    kind = obx.text(2).upper()
    unit, flags = _unit(obx)
    value: dict[str, Any] = {
        "value_number": None, "value_comparator": None, "value_unit": unit, "value_text": None, "value_codings": [],
    }  # fmt: skip
    text = obx.component(repetition, 1)
    if kind in _CODED:
        # A code of no known or declared system may be anything, a telephone number too, and no seed could map it.
        value["value_codings"] = [
            coding for coding in context.codings(obx, repetition) if not coding["system"].startswith("local:")]
        if repetition.strip() not in ("", _EXPLICIT_NULL) and not value["value_codings"]:
            flags.append("value_code_dropped")
    elif kind == "SN":
        flags += _structured(value, *(obx.component(repetition, part) for part in (1, 2, 3, 4)))
    elif kind in _IN_WRITING and _NUMBER.fullmatch(text):
        value["value_number"] = float(text)
    elif _PAIR.fullmatch(text):
        value["value_text"] = text
    elif kind in _IN_WRITING and (compared := _COMPARED.fullmatch(text)):
        value["value_comparator"], value["value_number"] = compared[1], float(compared[2])
    elif repetition.strip() not in ("", _EXPLICIT_NULL):
        flags.append("bad_number" if kind in ("NM", "SI") else "value_text_dropped")
    if value["value_number"] is not None and not obx.text(6):
        flags.append("no_unit")
    return value, flags


def _structured(value: dict[str, Any], comparator: str, first: str, separator: str, second: str) -> list[str]:
    """SN: a number, a compared number, or two numbers with ``/`` between them. A range or a titre (``1:128``) is no
    number, and reading its first half as one would be wrong."""
    if not (comparator or first or separator or second):
        return []
    if separator or second:
        pair = f"{first}/{second}"
        if separator == "/" and not comparator and _PAIR.fullmatch(pair):
            value["value_text"] = pair
            return []
        return ["value_range_dropped"]
    if not _NUMBER.fullmatch(first) or (comparator and comparator not in _COMPARATORS):
        return ["bad_number"]
    value["value_number"], value["value_comparator"] = float(first), comparator or None
    return []


def _unit(obx: Segment) -> tuple[str | None, list[str]]:
    """OBX-6's code, without the blanks that units are written with (``mm Hg``, ``mg / dL``)."""
    unit = _UNIT_BLANKS.sub("", obx.text(6))
    if not unit:
        return None, []
    return (unit, []) if _UNIT.fullmatch(unit) and is_of_unit_words(unit) else (DROPPED_UNIT, ["unit_dropped"])
