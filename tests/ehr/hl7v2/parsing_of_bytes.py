"""A parser with two declared sources and a fixed key: the same bytes always give the same rows."""

from collections.abc import Callable
from datetime import UTC, date, datetime

from ehr.hl7v2.read import parse_payload
from ehr.records import ParsedPayload, PayloadRef
from ehr.sources import Source

NORTH = Source(
    source_id="north",
    time_zone="America/New_York",
    authorities={"NORTH": "NORTH-MRN", "2.999.7": "REGION-ID"},
    code_systems={"L": "local:north-codes"},
)
ELSEWHERE = Source(source_id="elsewhere", dates_are_shifted=True)
RECEIVED_AT = datetime(2024, 6, 1, 12, tzinfo=UTC)
Parse = Callable[[bytes], ParsedPayload]


def parse_bytes(data: bytes) -> ParsedPayload:
    payload = PayloadRef("payload", "north", RECEIVED_AT, date(2024, 6, 1))
    (parsed,) = parse_payload(data, lambda facility: NORTH if facility == "NORTH" else ELSEWHERE, payload, b"k" * 32)
    return parsed
