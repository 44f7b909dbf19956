"""HL7 v2 times (TS, DTM): ``YYYY[MM[DD[HH[MM[SS[.s…]]]]]][+/-ZZZZ]``."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

_TIME = re.compile(
    r"(\d{4})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?", re.ASCII
)
_PRECISIONS = ("year", "month", "day", "minute", "minute", "second")


@dataclass(frozen=True)
class Hl7Time:
    """``at`` is UTC and the start of the period where partial; the offset is None where the zone was assumed.
    ``day`` is the calendar day as written."""

    at: datetime
    day: date
    offset_minutes: int | None
    precision: str

    @property
    def flags(self) -> list[str]:
        flags = ["no_offset"] if self.offset_minutes is None else []
        return flags + (["partial_date"] if self.precision in ("year", "month") else [])


@lru_cache(maxsize=65_536)
def parse_time(text: str, zone: str) -> Hl7Time | None:
    """The time, or None when it is not one. An hour without minutes counts as minute precision."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    parts = [int(part) for part in match.groups()[:6] if part is not None]
    numbers = parts + [1, 1, 1, 0, 0, 0][len(parts) :]
    offset: int | None = None
    if match[8]:
        minutes = int(match[8][1:3]) * 60 + int(match[8][3:])
        offset = -minutes if match[8][0] == "-" else minutes
    try:
        micros = round(float(match[7]) * 1_000_000) if match[7] else 0
        tz = ZoneInfo(zone) if offset is None else timezone(timedelta(minutes=offset))
        local = datetime(*numbers, micros, tzinfo=tz)  # type: ignore[misc,arg-type]
        at = local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return Hl7Time(at, local.date(), offset, _PRECISIONS[len(parts) - 1])
