"""What every segment reader needs to know of the message it stands in, and the columns every row opens with."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.keys import pseudonym
from ehr.hl7v2.message import Message, Segment
from ehr.hl7v2.times import Hl7Time, parse_time
from ehr.sources import Source

_SYSTEMS = {
    "LN": "http://loinc.org",
    "LOINC": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "SNOMED-CT": "http://snomed.info/sct",
    "I10": "http://hl7.org/fhir/sid/icd-10-cm",
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
    "ICD10": "http://hl7.org/fhir/sid/icd-10-cm",
    "ICD-10": "http://hl7.org/fhir/sid/icd-10-cm",
    "I9": "http://hl7.org/fhir/sid/icd-9-cm",
    "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
    "ICD9": "http://hl7.org/fhir/sid/icd-9-cm",
    "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm",
}
_CODE_LENGTH = 64


@dataclass(frozen=True)
class Context:
    """One message being read."""

    message: Message
    ordinal: int
    source: Source
    pseudonym_key: bytes
    person_key: str
    known_at: datetime
    known_at_basis: str

    def key(self, kind: str, value: str) -> str:
        return pseudonym(self.pseudonym_key, kind, f"{self.source.source_id}:hl7v2", value)

    def row(self, place: str, record_key: str, content: object, flags: list[str]) -> dict[str, Any]:
        """The opening columns of a row; ``content`` is what the content hash is taken of."""
        shifted = ["dates_shifted"] if self.source.dates_are_shifted else []
        return {
            "locator": f"message {self.ordinal} {place}".rstrip(),
            "known_at": self.known_at,
            "known_at_basis": self.known_at_basis,
            "record_key": record_key,
            "content_hash": self.key("content", f"{self.known_at.isoformat()}|{content!r}"),
            "person_key": self.person_key,
            "flags": shifted + flags,
        }

    def time(self, text: str) -> Hl7Time | None:
        return parse_time(text, self.source.time_zone) if text else None

    def codings(self, segment: Segment, repetition: str) -> list[dict[str, str]]:
        """The coded element's code and its alternate, as (system URI, code)."""
        found = []
        for code_at, system_at in ((1, 3), (4, 6)):
            code, name = segment.component(repetition, code_at), segment.component(repetition, system_at)
            if code and len(code) <= _CODE_LENGTH and " " not in code:
                found.append({"system": self.system(name), "code": code})
        return found

    def system(self, name: str) -> str:
        declared = self.source.code_systems.get(name) or _SYSTEMS.get(name.upper())
        return declared or f"local:{self.source.source_id}"


def time_columns(prefix: str, time: Hl7Time | None) -> dict[str, Any]:
    """``{prefix}_at``, ``{prefix}_offset_minutes`` and ``{prefix}_precision``."""
    return {
        f"{prefix}_at": time.at if time else None,
        f"{prefix}_offset_minutes": time.offset_minutes if time else None,
        f"{prefix}_precision": time.precision if time else None,
    }
