"""Each feed as the night shift wants to see it: is it alive, how fast, what waits, what was refused and why."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.feed_tables import FeedHour, InboxEntry
from core.settings import Settings
from core.store import Payload, Quarantine, store_session, utc_now
from ehr.live.expected import DAY, HOUR, WEEK, History, feed_rules, hour_of

State = Literal["alive", "quiet", "silent", "new"]
TOP_REASONS = 3
_COUNTS = ("received", "accepted", "repeated", "refused")
FeedKey = tuple[str, str]  # source_id, feed


@dataclass(frozen=True)
class Feed:
    """One source on one way in. Counts are of the last 24 hours, but for quarantine, which is what is open."""

    source_id: str
    feed: str  # mllp | http | kafka | file
    state: State  # quiet: nothing comes, as usual at this hour; new: too little history to say
    is_stuck: bool  # what was acknowledged does not land
    why: str  # the state in words
    per_minute: float  # new messages, over the last 5 minutes
    per_minute_last_hour: float  # deliveries, repeats among them
    expected_per_minute: float | None  # in an hour like this one
    last_at: datetime | None
    silent_seconds: float | None  # since the last message
    missed: float  # messages that should have come since
    waiting: int  # acknowledged, not landed
    waiting_seconds: float | None  # how long the oldest of them waits
    received: int
    accepted: int
    repeated: int
    refused: int
    quarantined: int
    top_reasons: dict[str, int]


@dataclass(frozen=True)
class HourOfFeed:
    """One bar of the chart, and what it should have been like."""

    hour_at: datetime
    received: int
    expected: float | None


def list_feeds(settings: Settings, now: datetime | None = None) -> list[Feed]:
    """Every feed that ever brought something, by source and way in."""
    now = now or utc_now()
    with store_session(settings) as session:
        hours = _hours(session, now)
        recent, waiting, quarantined = _recent(session, now), _waiting(session), _quarantined(session)
        last = dict(_last(session))
    keys = sorted({*hours, *last, *waiting})
    return [_feed(key, hours.get(key, {}), last.get(key), recent.get(key, 0), waiting.get(key, (0, None)),
                  quarantined.get(key, {}), now) for key in keys]


def hours_of_feeds(settings: Settings, hours: int = 48, now: datetime | None = None) -> dict[FeedKey, list[HourOfFeed]]:
    """For each feed its last hours, the one that runs among them, each with what was to be expected."""
    now = now or utc_now()
    with store_session(settings) as session:
        found = _hours(session, now)
    last = hour_of(now)
    shown = [last - number * HOUR for number in reversed(range(hours))]
    charts = {}
    for key, rows in sorted(found.items()):
        received = {hour_at: row.received for hour_at, row in rows.items()}
        history = History(received, feed_rules(key[1]))
        charts[key] = [HourOfFeed(hour_at, received.get(hour_at, 0), history.expected(hour_at)) for hour_at in shown]
    return charts


def _feed(key: FeedKey, hours: dict[datetime, FeedHour], last_at: datetime | None, recent: int,
          waiting: tuple[int, datetime | None], reasons: dict[str, int], now: datetime) -> Feed:
    rules, hour = feed_rules(key[1]), hour_of(now)
    history = History({hour_at: row.received for hour_at, row in hours.items()}, rules)
    expected, missed = history.expected(hour), history.missed(last_at, now) if last_at else 0.0
    silent_seconds = max(0.0, (now - last_at).total_seconds()) if last_at else None
    state = _state(silent_seconds, missed, expected, rules.alive_minutes, rules.silent_minutes, rules.missed)
    waiting_seconds = max(0.0, (now - waiting[1]).total_seconds()) if waiting[1] else None
    is_stuck = (waiting_seconds or 0) > 60 * rules.stuck_minutes
    day = {name: sum(getattr(row, name) for hour_at, row in hours.items() if hour_at > now - DAY - HOUR and
                     hour_at <= now) for name in _COUNTS}
    elapsed = (now - hour) / HOUR
    this_hour, before = ((hours[at].received if at in hours else 0) for at in (hour, hour - HOUR))
    return Feed(
        source_id=key[0], feed=key[1], state=state, is_stuck=is_stuck,
        why=_why(state, silent_seconds, missed, waiting[0] if is_stuck else 0, waiting_seconds),
        per_minute=recent / rules.rate_minutes, per_minute_last_hour=(this_hour + (1 - elapsed) * before) / 60,
        expected_per_minute=None if expected is None else expected / 60, last_at=last_at, silent_seconds=silent_seconds,
        missed=missed, waiting=waiting[0], waiting_seconds=waiting_seconds, **day, quarantined=sum(reasons.values()),
        top_reasons=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:TOP_REASONS]),
    )  # fmt: skip


def _state(silent_seconds: float | None, missed: float, expected: float | None, alive_minutes: float,
           silent_minutes: float, too_many: float) -> State:
    if silent_seconds is not None and silent_seconds <= 60 * alive_minutes:
        return "alive"
    if silent_seconds is not None and silent_seconds > 60 * silent_minutes and missed >= too_many:
        return "silent"
    return "new" if expected is None else "quiet"


def _why(state: State, silent_seconds: float | None, missed: float, stuck: int, waiting_seconds: float | None) -> str:
    age = duration(silent_seconds)
    said = {
        "alive": f"last message {age} ago", "quiet": f"nothing for {age}, as usual at this hour",
        "silent": f"nothing for {age}, when about {missed:,.0f} messages were to be expected",
        "new": f"nothing for {age}; too little history to say whether that is usual",
    }[state]
    return f"{said}; {stuck:,} acknowledged messages wait to be landed, the oldest for {duration(waiting_seconds)}" \
        if stuck else said


def duration(seconds: float | None) -> str:
    """In words, with two digits at most: 40 s, 12 min, 5 h, 3 d."""
    if seconds is None:
        return "ever"
    for size, unit, least in ((86_400, "d", 2 * 86_400), (3600, "h", 2 * 3600), (60, "min", 90)):
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _hours(session: Session, now: datetime) -> dict[FeedKey, dict[datetime, FeedHour]]:
    """As far back as the history reaches, and the hours of the chart before that."""
    since = now - (feed_rules("mllp").weeks * WEEK + 3 * DAY)
    found: dict[FeedKey, dict[datetime, FeedHour]] = defaultdict(dict)
    for row in session.scalars(select(FeedHour).where(FeedHour.hour_at >= since, FeedHour.hour_at <= now)):
        found[row.source_id, row.feed][row.hour_at] = row
    return found


def _last(session: Session) -> Iterator[tuple[FeedKey, datetime]]:
    newest = func.max(FeedHour.last_at, type_=FeedHour.last_at.type)  # so that it is a time in UTC again, also on SQLite
    keys = (FeedHour.source_id, FeedHour.feed)
    for row in session.execute(select(*keys, newest).group_by(*keys)):
        yield (row[0], row[1]), row[2]


def _recent(session: Session, now: datetime) -> dict[FeedKey, int]:
    """New messages of the last minutes. The inbox has no index by time: its numbers grow with time, so they are halved
    until the place is found."""
    since = now - timedelta(minutes=feed_rules("mllp").rate_minutes)
    low, high = 0, session.scalar(select(func.max(InboxEntry.inbox_sequence))) or 0
    while low < high:
        middle = (low + high) // 2
        arrived_at = session.scalar(select(InboxEntry.arrived_at).where(InboxEntry.inbox_sequence > middle)
                                    .order_by(InboxEntry.inbox_sequence).limit(1))
        if arrived_at is not None and arrived_at < since:
            low = middle + 1
        else:
            high = middle
    query = (select(Payload.source_id, InboxEntry.feed, func.count())
             .join(Payload, Payload.payload_id == InboxEntry.payload_id)
             .where(InboxEntry.inbox_sequence >= low, InboxEntry.arrived_at >= since, InboxEntry.arrived_at <= now)
             .group_by(Payload.source_id, InboxEntry.feed))
    return {(row[0], row[1]): row[2] for row in session.execute(query)}


def _waiting(session: Session) -> dict[FeedKey, tuple[int, datetime | None]]:
    """What is stored and not landed: how many, and since when the oldest waits."""
    query = (select(Payload.source_id, InboxEntry.feed, func.count(),
                    func.min(InboxEntry.arrived_at, type_=InboxEntry.arrived_at.type))
             .join(InboxEntry, Payload.payload_id == InboxEntry.payload_id).where(Payload.state == "received")
             .group_by(Payload.source_id, InboxEntry.feed))
    return {(row[0], row[1]): (row[2], row[3]) for row in session.execute(query)}


def _quarantined(session: Session) -> dict[FeedKey, dict[str, int]]:
    """Open entries by reason."""
    query = (select(Quarantine.source_id, InboxEntry.feed, Quarantine.reason_code, func.count())
             .join(InboxEntry, Quarantine.payload_id == InboxEntry.payload_id).where(Quarantine.state == "open")
             .group_by(Quarantine.source_id, InboxEntry.feed, Quarantine.reason_code))
    found: dict[FeedKey, dict[str, int]] = defaultdict(dict)
    for source_id, feed, reason, number in session.execute(query):
        found[source_id, feed][reason] = number
    return found
