"""HL7 times: offset kept, zone taken and flagged without one, partial stays partial."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.hl7v2.times import parse_time

ZONE = "America/New_York"


@pytest.mark.parametrize(
    ("text", "at", "offset", "precision"),
    [
        ("2024", datetime(2024, 1, 1, 5, tzinfo=UTC), None, "year"),
        ("202407", datetime(2024, 7, 1, 4, tzinfo=UTC), None, "month"),
        ("20240701", datetime(2024, 7, 1, 4, tzinfo=UTC), None, "day"),
        ("2024070110", datetime(2024, 7, 1, 14, tzinfo=UTC), None, "minute"),
        ("202407011030", datetime(2024, 7, 1, 14, 30, tzinfo=UTC), None, "minute"),
        ("20240701103015", datetime(2024, 7, 1, 14, 30, 15, tzinfo=UTC), None, "second"),
        ("20240101103015", datetime(2024, 1, 1, 15, 30, 15, tzinfo=UTC), None, "second"),
        ("20240701103015.25+0530", datetime(2024, 7, 1, 5, 0, 15, 250000, tzinfo=UTC), 330, "second"),
        ("202407011030-0800", datetime(2024, 7, 1, 18, 30, tzinfo=UTC), -480, "minute"),
        ("20240701+0000", datetime(2024, 7, 1, tzinfo=UTC), 0, "day"),
        ("21240701103015+0000", datetime(2124, 7, 1, 10, 30, 15, tzinfo=UTC), 0, "second"),
    ],
)
def test_times(text, at, offset, precision):
    time = parse_time(text, ZONE)
    assert time is not None
    assert (time.at, time.offset_minutes, time.precision) == (at, offset, precision)
    assert ("no_offset" in time.flags) == (offset is None)
    assert ("partial_date" in time.flags) == (precision in ("year", "month"))


@pytest.mark.parametrize(
    "text", ["", "soon", "24", "20241301", "20240230", "2024-07-01", "20240701246060", "20240701+9900", "00010101+1200"]
)
def test_what_is_no_time_is_none(text):
    assert parse_time(text, ZONE) is None


def test_the_day_is_the_one_written():
    time = parse_time("19880818232600-0500", ZONE)
    assert time is not None
    assert time.day == date(1988, 8, 18)
    assert time.at.date() == date(1988, 8, 19)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.integers(-840, 840))  # noqa: DTZ001
def test_a_written_instant_is_read_back(naive, offset):
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    time = parse_time(f"{naive:%Y%m%d%H%M%S.%f}{sign}{hours:02}{minutes:02}", ZONE)
    assert time is not None
    assert time.at.timestamp() == pytest.approx(naive.replace(tzinfo=UTC).timestamp() - offset * 60, abs=1e-3)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_none(text):
    time = parse_time(text, ZONE)
    assert time is None or time.at.tzinfo is UTC
