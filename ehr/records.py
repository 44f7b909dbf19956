"""What a parser hands to landing: rows cut down to the allow-list, rejects, vault entries and counts."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Protocol

Counts = Counter[tuple[str, str, str]]  # (payload_id, unit, type)


class HasBytes(Protocol):
    """A payload's bytes, from a file or from the archive."""

    def read_bytes(self) -> bytes: ...


@dataclass(frozen=True)
class PayloadRef:
    """The payload being read. ``received_at`` is aware; it is the ``known_at`` of last resort."""

    payload_id: str
    source_id: str
    received_at: datetime
    as_of: date


@dataclass(frozen=True)
class Reject:
    """One thing that cannot be used. ``detail`` tells an engineer what to mend and never holds a patient's value."""

    unit: str  # file | resource | message
    type: str  # resource type or message type; 'unknown' where it could not be read
    locator: str  # 'entry[3].resource.subject', 'message 2 OBX[4]-5', 'line 17'
    reason_code: str
    detail: str = ""


@dataclass(frozen=True)
class VaultEntry:
    """A pseudonym and what it stands for; ``content`` is sealed before it is stored."""

    key: str
    kind: str  # person | encounter
    content: dict[str, Any]


@dataclass
class ParsedPayload:
    """Everything one payload gave. ``rows`` maps a table of ``raw_tables.sql`` to its rows, without the columns that
    landing fills in (``payload_id``, ``source_id``, ``batch_id``, ``inbox_sequence``, ``landed_at``)."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    vault: list[VaultEntry] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    received: Counter[tuple[str, str]] = field(default_factory=Counter)  # (unit, type)
    ignored: Counter[tuple[str, str]] = field(default_factory=Counter)
