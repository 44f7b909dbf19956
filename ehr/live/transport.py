"""How the consumer learns what waits: from the inbox itself, or from Kafka (`ehr.live.kafka_transport`).

A transport only announces. Whether a payload is landed is decided by its state, under the lock, so anything may be
announced twice.
"""

import time
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import func, select

from core.feed_tables import InboxEntry
from core.settings import Settings
from core.store import Payload, store_session, utc_now
from ehr.intake import LIVE

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Announced:
    """An entry of the inbox that waits. ``content``: the plain bytes; None where they are to be read from the inbox."""

    inbox_sequence: int
    payload_id: str
    content: bytes | None = None


@dataclass(frozen=True)
class Position:
    """The next offset to read of a partition of a Kafka topic."""

    topic: str
    partition: int
    next_offset: int


class Transport(Protocol):
    """What the consumer asks of one."""

    def gather(self, seconds: float, limit: int) -> list[Announced]:
        """Wait up to ``seconds`` for the first, and return what is there, ``limit`` at most; what was gathered since the
        last `landed` is not told again."""

    def positions(self) -> list[Position]:
        """How far what was gathered reaches; stored in the transaction that writes the ledger."""

    def landed(self) -> None:
        """That transaction is committed."""

    def forget(self) -> None:
        """It failed: what was gathered since the last `landed` is to be told again."""

    def close(self) -> None:
        """Let go of every connection."""


def waiting_entries(settings: Settings) -> tuple[int, float]:
    """How many live entries have not landed, and the age of the oldest in seconds."""
    with store_session(settings) as session:
        number, since = session.execute(
            select(func.count(), func.min(Payload.received_at))
            .where(Payload.state == "received", Payload.archive_name == LIVE)
        ).one()
    return number, max(0.0, (utc_now() - since).total_seconds()) if since else 0.0


class InboxTransport:
    """Asks the ops database for live entries that are still ``received``, in the order of arrival."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._told = 0

    def gather(self, seconds: float, limit: int) -> list[Announced]:
        deadline = time.monotonic() + seconds
        while True:
            found = self._waiting(limit)
            remaining = deadline - time.monotonic()
            if found or remaining <= 0:
                return found
            time.sleep(min(_POLL_SECONDS, remaining))

    def _waiting(self, limit: int) -> list[Announced]:
        with store_session(self._settings) as session:
            rows = session.execute(
                select(InboxEntry.inbox_sequence, InboxEntry.payload_id)
                .join(Payload, Payload.payload_id == InboxEntry.payload_id)
                .where(Payload.state == "received", InboxEntry.content.is_not(None), InboxEntry.inbox_sequence > self._told)
                .order_by(InboxEntry.inbox_sequence)
                .limit(limit)
            ).all()
        if rows:
            self._told = rows[-1][0]
        return [Announced(sequence, payload_id) for sequence, payload_id in rows]

    def positions(self) -> list[Position]:
        return []

    def landed(self) -> None:
        # From the beginning again: on Postgres a lower number may have been committed after a higher one.
        self._told = 0

    def forget(self) -> None:
        self._told = 0

    def close(self) -> None:
        """Nothing is held between two calls."""
