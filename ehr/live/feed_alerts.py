"""A feed that goes silent, and messages that do not land, are told once; and once more when it is over."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import select

from core.alerts import Severity, raise_alert
from core.settings import Settings
from core.store import Alert, store_session, utc_now
from ehr.live.feeds import Feed, FeedKey, duration, list_feeds

SILENT, BACK, STUCK, LANDING = "feed_silent", "feed_back", "feed_stuck", "feed_landing"


def watch_feeds(settings: Settings, now: datetime | None = None) -> list[Alert]:
    """Look at every feed, and raise what has not been told yet. Returns the alerts raised."""
    now = now or utc_now()
    told = _told(settings)
    return [raise_alert(settings, severity, kind, summary, detail)
            for feed in list_feeds(settings, now) for severity, kind, summary, detail in _news(feed, told)]


def _news(feed: Feed, told: dict[tuple[FeedKey, bool], Alert]) -> Iterable[tuple[Severity, str, str, dict[str, Any]]]:
    key, name = (feed.source_id, feed.feed), f"{feed.source_id} over {feed.feed}"
    detail = {"source_id": feed.source_id, "feed": feed.feed, "last_at": feed.last_at and feed.last_at.isoformat()}
    silence = told.get((key, False))
    is_told = silence is not None and silence.kind == SILENT
    has_spoken = silence is not None and silence.detail["last_at"] != detail["last_at"]
    if is_told and has_spoken:
        yield "info", BACK, f"{name} sends again; the last message came {duration(feed.silent_seconds)} ago", detail
        is_told = False
    if feed.state == "silent" and not is_told:
        yield "critical", SILENT, f"{name} is silent: {feed.why.split(';')[0]}", detail | {"missed": round(feed.missed)}
    stuck = told.get((key, True))
    is_stuck_told = stuck is not None and stuck.kind == STUCK
    waits = {**detail, "waiting": feed.waiting, "waiting_seconds": round(feed.waiting_seconds or 0)}
    if feed.is_stuck and not is_stuck_told:
        yield "critical", STUCK, (f"{name}: {feed.waiting:,} acknowledged messages do not land, the oldest waits for "
                                  f"{duration(feed.waiting_seconds)}; is the consumer alive?"), waits  # fmt: skip
    elif is_stuck_told and not feed.is_stuck:
        yield "info", LANDING, f"{name}: messages land again", waits


def _told(settings: Settings) -> dict[tuple[FeedKey, bool], Alert]:
    """The newest alert of each feed: of its silence (False), and of its landing (True)."""
    newest: dict[tuple[FeedKey, bool], Alert] = {}
    with store_session(settings) as session:
        for alert in session.scalars(select(Alert).where(Alert.kind.in_((SILENT, BACK, STUCK, LANDING)))
                                     .order_by(Alert.alert_id)):
            newest[(alert.detail["source_id"], alert.detail["feed"]), alert.kind in (STUCK, LANDING)] = alert
    return newest
