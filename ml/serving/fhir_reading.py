"""Small parts of FHIR resources as anybody may have written them: times, codings, quantities, the patient meant.

Shapes and fallbacks are those of landing (ehr/fhir/sql/macros.sql), so that a fact read here means what it means in the
warehouse. What does not fit is None; only `BadEntry` says that an entry cannot be used.
"""

import math
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

from ml.serving.code_tables import Coding

Resource = dict[str, Any]
_TIME = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?")
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-_/^:+*%]{0,63}")
_UNIT_CODE = re.compile(r"[A-Za-z0-9%µ°/\[\]{}.*^()'_\-]{1,24}")
_UNIT_WORD = r"[a-z0-9%µ°/\[\]{}.*^]{1,12}"
_UNIT_TEXT = re.compile(rf"[A-Za-z0-9%µ°/\[\]{{}}.*^()'_\-]{{1,20}}|{_UNIT_WORD}( ({_UNIT_WORD}|Hg|H2O|[A-Z]{{1,2}})){{1,3}}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,5}(\.[0-9]{1,6})?")
_PAIR = re.compile(r"[0-9]{2,3}([.,][0-9]{1,2})?\s*/\s*[0-9]{2,3}([.,][0-9]{1,2})?(\s*(mm\s?\[?Hg\]?|kPa))?")
UNREADABLE_UNIT = "{dropped}"  # one was sent that is none: no missing one, which is taken for the measure's usual unit


class BadEntry(ValueError):
    """An entry that cannot be used. Holds no value of it."""


def resources_of(given: Any) -> Iterator[Any]:
    """The resources of one prefetch value: a Bundle's entries, a list's, or the one that it is; nothing of null."""
    if isinstance(given, dict) and given.get("resourceType") == "Bundle":
        entries = given.get("entry") or []
        if not isinstance(entries, list):
            raise BadEntry
        for entry in entries:
            yield entry.get("resource") if isinstance(entry, dict) else None
    elif given is not None:
        yield given


def parts(value: Any, name: str) -> list[Resource]:
    """The dictionaries in a list-valued element; empty where there are none."""
    found = value.get(name) if isinstance(value, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def part(value: Any, name: str) -> Resource:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def moment(text: Any) -> datetime | None:
    """The instant a FHIR time means, UTC where it names no zone, its first moment where it is partial; None for no time."""
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        return None
    text += {4: "-01-01", 7: "-01"}.get(len(text), "")
    try:
        read = datetime.fromisoformat(text)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def first_moment(*texts: Any, fallback: datetime | None) -> datetime:
    """The first of several times that was sent, else the fallback.

    Errors: `BadEntry` when that one is no time, or there is none at all (landing refuses both).
    """
    text = next((each for each in texts if each is not None), None)
    read = fallback if text is None else moment(text)
    if read is None:
        raise BadEntry
    return read


def day(text: Any) -> date | None:
    read = moment(text)
    return read.date() if read else None


def known_at(resource: Resource, now: datetime) -> datetime:
    """When the hospital says that it wrote this version; only decides between facts of one moment."""
    return moment(part(resource, "meta").get("lastUpdated")) or moment(resource.get("issued")) or now


def codings(concept: Any) -> list[Coding]:
    found = []
    for coding in parts(concept, "coding"):
        system, code = coding.get("system"), coding.get("code")
        if isinstance(code, str) and _CODE.fullmatch(code):
            found.append(Coding(system if isinstance(system, str) else None, code))
    return found


def number(value: Any) -> float | None:
    """A finite JSON number; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def number_of(value: Resource) -> float | None:
    """The number of an Observation or of a component: quantity, integer, or text that is nothing but a number."""
    for given in (part(value, "valueQuantity").get("value"), value.get("valueInteger")):
        if (found := number(given)) is not None:
            return found
    text = value.get("valueString")
    return float(text) if isinstance(text, str) and _NUMBER.fullmatch(text := text.strip()) else None


def pressure_pair(value: Resource) -> tuple[float | None, float | None] | None:
    """'140/90' as two numbers; None where the text is no such pair."""
    text = value.get("valueString")
    if not isinstance(text, str) or not _PAIR.fullmatch(text := text.strip()):
        return None
    systolic, diastolic = re.match(r"\s*([\d.]+)\s*/", text), re.search(r"/\s*([\d.]+)", text)
    pair = (float(systolic[1]) if systolic else None, float(diastolic[1]) if diastolic else None)
    return None if pair == (None, None) else pair


def unit_of(value: Resource) -> str | None:
    """Code before text; `UNREADABLE_UNIT` where one was sent that has not the shape of a unit."""
    quantity = part(value, "valueQuantity")
    for name, pattern in (("code", _UNIT_CODE), ("unit", _UNIT_TEXT)):
        unit = quantity.get(name)
        if isinstance(unit, str) and pattern.fullmatch(unit):
            return unit
    is_sent = any(str(quantity.get(name) or "").strip() for name in ("code", "unit"))
    return UNREADABLE_UNIT if is_sent else None


def require_about(resource: Any, patient_id: str, kinds: tuple[str, ...]) -> Resource:
    """The resource, if it is of one of the kinds and about this patient. Errors: `BadEntry`.

    A record of somebody else in a prefetch would give one person's risk to another.
    """
    if not isinstance(resource, dict) or resource.get("resourceType") not in kinds:
        raise BadEntry
    if resource["resourceType"] == "Patient":
        if resource.get("id") not in (None, patient_id):
            raise BadEntry
        return resource
    subject = part(resource, "subject")
    reference = subject.get("reference")
    if reference is None and "identifier" not in subject:
        raise BadEntry
    if isinstance(reference, str) and "Patient/" in reference:
        named = reference.rsplit("Patient/", 1)[1].split("/")[0]
        if named != patient_id:
            raise BadEntry
    return resource
