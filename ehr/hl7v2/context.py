"""What every segment reader needs to know of the message it stands in, and the columns every row opens with."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from core.keys import pseudonym
from ehr.hl7v2.message import Message, Segment
from ehr.hl7v2.times import Hl7Time, parse_time
from ehr.sources import Source

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"
ICD9 = "http://hl7.org/fhir/sid/icd-9-cm"
# HL7 table 0396 names, the spellings seen beside them, and OIDs (https://www.hl7.org/oid/).
_SYSTEMS = {
    **dict.fromkeys(("LN", "LOINC", "2.16.840.1.113883.6.1"), LOINC),
    **dict.fromkeys(("SCT", "SCT2", "SNOMED", "SNOMED-CT", "SNOMED CT", "2.16.840.1.113883.6.96"), SNOMED),
    **dict.fromkeys(("I10", "I10C", "ICD10", "ICD-10", "ICD10CM", "ICD-10-CM", "2.16.840.1.113883.6.90"), ICD10),
    **dict.fromkeys(("I9", "I9C", "ICD9", "ICD-9", "ICD9CM", "ICD-9-CM", "2.16.840.1.113883.6.103"), ICD9),
    **dict.fromkeys(("RXNORM", "2.16.840.1.113883.6.88"), RXNORM),
    "UCUM": "http://unitsofmeasure.org",
}
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+*%#-]{0,63}")
_TABLE_CODE = re.compile(r"[A-Za-z0-9]{1,3}")  # tables 0004, 0085, 0123 and 0125
_LONGER_CLASSES = frozenset({"EMER", "ACUTE", "NONAC", "OBSENC", "PRENC"})  # FHIR's, sent in PV1-2 all the same


def namespace_of(source: Source) -> str:
    """What pseudonyms of a source's messages are made in."""
    return f"{source.source_id}:hl7v2"


@dataclass(frozen=True)
class Context:
    """One person of one message: ``segments`` are the PID and what follows it up to the next PID."""

    message: Message
    ordinal: int
    source: Source
    pseudonym_key: bytes
    person_key: str
    known_at: datetime
    known_at_basis: str
    segments: tuple[Segment, ...]

    @cached_property
    def _namespace(self) -> str:
        return namespace_of(self.source)

    def all(self, name: str) -> Iterator[Segment]:
        return (segment for segment in self.segments if segment.name == name)

    def first(self, name: str) -> Segment | None:
        return next(self.all(name), None)

    def key(self, kind: str, value: str) -> str:
        return pseudonym(self.pseudonym_key, kind, self._namespace, value)

    def row(
        self, place: str, record_key: str, content: object, flags: list[str], event: Hl7Time | None = None
    ) -> dict[str, Any]:
        """The opening columns of a row; ``content`` is what the content hash is taken of, ``event`` its own time."""
        known_at, basis = self.known_at, self.known_at_basis
        if basis == "receipt" and event is not None and self.source.known_at_fallback == "event":
            known_at, basis = event.at, "event"
        shifted = ["dates_shifted"] if self.source.dates_are_shifted else []
        return {
            "locator": f"message {self.ordinal} {place}".rstrip(),
            "known_at": known_at,
            "known_at_basis": basis,
            "record_key": record_key,
            "content_hash": self.key("content", f"{known_at.isoformat()}|{content!r}"),
            "person_key": self.person_key,
            "flags": shifted + flags,
        }

    def time(self, text: str) -> tuple[Hl7Time | None, list[str]]:
        """A time and the flags it earns; nothing for an empty field, ``bad_time`` for one that is no time."""
        if not text:
            return None, []
        time = parse_time(text, self.source.time_zone)
        return time, time.flags if time else ["bad_time"]

    def codings(self, segment: Segment, repetition: str, default_system: str = "") -> list[dict[str, str]]:
        """The coded element's code and its alternate, as (system URI, code). Displays stay behind."""
        found = []
        for code_at, system_at in ((1, 3), (4, 6)):
            code = segment.component(repetition, code_at)
            if _CODE.fullmatch(code):
                name = segment.component(repetition, system_at) or default_system
                found.append({"system": self.system(name), "code": code})
        return found

    def system(self, name: str) -> str:
        declared = self.source.code_systems.get(name) or _SYSTEMS.get(name.upper())
        return declared or f"local:{self.source.source_id}"


def table_code(text: str) -> str | None:
    """The value of a field that HL7 restricts to a table (status, class, type); None for what no table holds."""
    code = text.upper()
    return code if _TABLE_CODE.fullmatch(text) or code in _LONGER_CLASSES else None


def time_columns(prefix: str, time: Hl7Time | None) -> dict[str, Any]:
    """``{prefix}_at``, ``{prefix}_offset_minutes`` and ``{prefix}_precision``."""
    return {
        f"{prefix}_at": time.at if time else None,
        f"{prefix}_offset_minutes": time.offset_minutes if time else None,
        f"{prefix}_precision": time.precision if time else None,
    }
