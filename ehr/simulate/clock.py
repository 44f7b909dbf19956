"""Time in the simulator: whole seconds since 1970 UTC, and how the hospital (New York) writes them."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

HOSPITAL_ZONE = ZoneInfo("America/New_York")
DAY = 86_400
YEAR = 365.25 * DAY


def instant(day: date) -> int:
    """Midnight UTC at the start of ``day``."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def as_date(at: float) -> date:
    """The UTC day of an instant."""
    return datetime.fromtimestamp(at, UTC).date()


def years_before(day: date, years: int) -> date:
    """The same day ``years`` earlier (28 February for a 29th)."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return day.replace(year=day.year - years, day=28)


def landmarks_between(first: date, last: date) -> list[date]:
    """Every 1 January and 1 July from ``first`` to ``last``, both included."""
    days = [date(year, month, 1) for year in range(first.year, last.year + 1) for month in (1, 7)]
    return [day for day in days if first <= day <= last]


def fhir_time(at: int) -> str:
    """ISO 8601 in hospital time with its offset."""
    return datetime.fromtimestamp(at, HOSPITAL_ZONE).isoformat()


def hl7_time(at: int, with_offset: bool = True) -> str:
    """HL7 v2 TS in hospital time, with or without its offset."""
    return datetime.fromtimestamp(at, HOSPITAL_ZONE).strftime("%Y%m%d%H%M%S%z" if with_offset else "%Y%m%d%H%M%S")
