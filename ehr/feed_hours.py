"""Files in the hours of their feed, so that a delivery that does not come is missed like a message."""

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from core.feed_tables import FeedHour
from core.store import Payload, utc_now


def count_files(session: Session, new: Iterable[Payload], again: Iterable[Payload]) -> None:
    """Add files to this hour of their source; the caller owns the transaction."""
    now = utc_now()
    hour_at = now.replace(minute=0, second=0, microsecond=0)
    accepted = Counter(payload.source_id for payload in new)
    repeated = Counter(payload.source_id for payload in again)
    for source_id in sorted(accepted | repeated):
        counts = {"received": accepted[source_id] + repeated[source_id], "accepted": accepted[source_id],
                  "repeated": repeated[source_id]}  # fmt: skip
        key = {"source_id": source_id, "feed": "file", "hour_at": hour_at}
        added = {name: getattr(FeedHour, name) + number for name, number in counts.items()}
        changed = session.execute(update(FeedHour).filter_by(**key).values(**added, last_at=now))
        if not changed.rowcount:  # type: ignore[attr-defined]
            session.execute(insert(FeedHour).values(**key, **counts, refused=0, last_at=now))
