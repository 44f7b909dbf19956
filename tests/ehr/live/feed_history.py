"""Hours of history for a feed, made up: a clinic that is busy by day, or a delivery of files at night."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from core.feed_tables import FeedHour, InboxEntry
from core.settings import Settings
from core.store import Payload, store_session

HOUR = timedelta(hours=1)
MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def clinic(hour_at: datetime) -> int:
    """Messages of an hour: many from 7 to 18 on working days, hardly any on the weekend, none at night."""
    if not 7 <= hour_at.hour < 18:
        return 0
    return 400 + hour_at.hour if hour_at.weekday() < 5 else 12


def nightly_files(hour_at: datetime) -> int:
    return 3 if hour_at.hour == 2 else 0


def remember(settings: Settings, until: datetime, *, weeks: float = 6, source_id: str = "st_elsewhere", feed: str = "mllp",
             rhythm: Callable[[datetime], int] = clinic, repeated: int = 0, refused: int = 0) -> None:
    """Feed hours up to ``until``; the last one that brought something ended then, or was full."""
    hour_at = until.replace(minute=0, second=0, microsecond=0)
    earliest = until - timedelta(weeks=weeks)
    with store_session(settings) as session:
        while hour_at > earliest:
            share = min(1.0, (until - hour_at) / HOUR)
            if (received := round(rhythm(hour_at) * share)) > 0:
                session.merge(FeedHour(
                    source_id=source_id, feed=feed, hour_at=hour_at, received=received, repeated=repeated, refused=refused,
                    accepted=received - repeated - refused, last_at=min(until, hour_at + HOUR - timedelta(seconds=8))))
            hour_at -= HOUR


def put_into_inbox(settings: Settings, times: list[datetime], *, state: str = "received", source_id: str = "st_elsewhere",
                   feed: str = "mllp") -> list[str]:
    """Payloads and their inbox entries, in order of the times; returns their ids."""
    ids = []
    with store_session(settings) as session:
        for number, at in enumerate(sorted(times)):
            payload_id = f"{source_id}{feed}{at.isoformat()}{number}".encode().hex()
            session.add(Payload(payload_id=payload_id, source_id=source_id, format="hl7v2", name_sealed=b"", size_bytes=1,
                                archive_name="inbox", as_of=at.date(), received_at=at, state=state))
            session.flush()
            session.add(InboxEntry(payload_id=payload_id, feed=feed, arrived_at=at))
            session.flush()
            ids.append(payload_id)
    return ids
