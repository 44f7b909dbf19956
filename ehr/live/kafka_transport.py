"""The consumer's transport over Kafka: told by the broker which entries wait, positioned by the ops database."""

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from core.feed_tables import InboxEntry
from core.keys import key_bytes
from core.settings import Settings
from core.store import Payload, store_session, utc_now
from ehr.batch import write_down
from ehr.intake import LIVE
from ehr.live import dead_letters
from ehr.live.broker import (
    DEAD_LETTERS,
    FHIR,
    HL7V2,
    Opened,
    PoisonError,
    client_options,
    make_producer,
    open_envelope,
    topic_name,
)
from ehr.live.metrics import QUARANTINED
from ehr.live.relay import publish_again
from ehr.live.topic_reader import TopicReader
from ehr.live.transport import Announced, Position

if TYPE_CHECKING:
    from confluent_kafka import Message, Producer

logger = logging.getLogger("cuff.live")

_IDS_AT_A_TIME = 500
_FLUSH_SECONDS = 10.0
_IDLE_SECONDS, _FORGOTTEN_SECONDS = 60.0, 300.0
_NO_TOPICS = "the topics are not there yet; is the relay running?"


class KafkaTransport:
    """Reads every partition of the two topics. What is not one of our envelopes becomes a dead letter."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
        topics = [topic_name(settings, kind) for kind in (HL7V2, FHIR)]
        self._reader = TopicReader(settings, client_options(settings), topics, self._have_told_again)
        self._producer: Producer | None = None
        self._is_landing = False  # something was announced since the last `landed`
        self._idle_since: float | None = None
        self.trouble: dict[str, str] = {"kafka": "not reached yet"}  # what is not ready, and why

    def gather(self, seconds: float, limit: int) -> list[Announced]:
        """As `Transport.gather`; while the broker is away nothing is announced, and `trouble` says so.

        Errors: ``KafkaException`` when the broker takes no dead letter, ``SQLAlchemyError``.
        """
        from confluent_kafka import KafkaException

        while True:
            try:
                messages = self._reader.read(seconds, limit)
            except KafkaException as error:
                self._idle_since = None
                self.trouble = {"kafka": error.args[0].name()}
                logger.warning("the broker does not answer: %s", error.args[0].name())
                return []
            self.trouble = {} if self._reader.is_reading else {"kafka": _NO_TOPICS}
            waiting = self._sort_out(messages)
            if waiting or not messages:
                break
            if not self._is_landing:  # nothing will be landed with them, so no ledger carries the position
                write_down(self._settings, None, [], {}, positions=self.positions())
                self._reader.keep()
        self._is_landing = self._is_landing or bool(waiting)
        self._look_for_forgotten(bool(messages))
        return waiting

    def _sort_out(self, messages: Sequence["Message"]) -> list[Announced]:
        """Those that wait. What is none of ours is a dead letter by then; what has landed is passed over."""
        opened: list[tuple[Message, Opened]] = []
        poison: list[tuple[Message, str]] = []
        for message in messages:
            try:
                opened.append((message, open_envelope(self._key, message)))
            except PoisonError as error:
                poison.append((message, str(error)))
        states = self._states([each.inbox_sequence for _message, each in opened])
        waiting: dict[int, Announced] = {}
        for message, each in opened:
            payload_id, state = states.get(each.inbox_sequence, ("", ""))
            if payload_id != each.payload_id:
                poison.append((message, "unknown_to_the_inbox"))
            elif state == "received":
                waiting[each.inbox_sequence] = Announced(each.inbox_sequence, payload_id, each.content)
        self._bury(poison)
        return list(waiting.values())

    def positions(self) -> list[Position]:
        return self._reader.positions()

    def landed(self) -> None:
        self._reader.keep()
        self._is_landing = False

    def forget(self) -> None:
        self._reader.rewind()
        self._is_landing = False

    def close(self) -> None:
        self._reader.close()
        self._producer = None

    def _states(self, sequences: Sequence[int]) -> dict[int, tuple[str, str]]:
        """(payload, its state) by sequence, of those that the inbox knows."""
        found: dict[int, tuple[str, str]] = {}
        with store_session(self._settings) as session:
            for start in range(0, len(sequences), _IDS_AT_A_TIME):
                rows = session.execute(
                    select(InboxEntry.inbox_sequence, InboxEntry.payload_id, Payload.state)
                    .join(Payload, Payload.payload_id == InboxEntry.payload_id)
                    .where(InboxEntry.inbox_sequence.in_(sequences[start:start + _IDS_AT_A_TIME]))
                )
                found |= {row[0]: (row[1], row[2]) for row in rows}
        return found

    def _look_for_forgotten(self, has_read: bool) -> None:
        """Kafka has had no more to tell for a while, and yet something was published long ago and has not landed: it is no
        longer there. A log that was cut off and has grown again looks whole, so its offsets tell nothing; the inbox does.
        """
        now = time.monotonic()
        if has_read or self._is_landing or self.trouble or self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since < _IDLE_SECONDS:
            return
        self._idle_since = now
        with store_session(self._settings) as session:
            forgotten = session.scalar(
                select(func.min(InboxEntry.inbox_sequence)).join(Payload, Payload.payload_id == InboxEntry.payload_id)
                .where(Payload.state == "received", Payload.archive_name == LIVE,
                       InboxEntry.published_at < utc_now() - timedelta(seconds=_FORGOTTEN_SECONDS)))  # fmt: skip
        if forgotten is not None:
            owed = publish_again(self._settings, forgotten)
            logger.warning("published and not told of: %d entries and dead letters are published again", owed)

    def _bury(self, poison: Sequence[tuple["Message", str]]) -> None:
        """Hand dead letters to the broker, before anything moves past what they were."""
        from confluent_kafka import KafkaError, KafkaException

        if not poison:
            return
        self._producer = self._producer or make_producer(self._settings)
        failures: list[KafkaError] = []
        for message, reason_code in poison:
            self._producer.produce(
                topic_name(self._settings, DEAD_LETTERS), **dead_letters.of_poison(self._key, message, reason_code),
                on_delivery=lambda error, _message: failures.append(error) if error is not None else None,
            )
            logger.warning("%s of %s is none of ours: %s", message.offset(), message.topic(), reason_code)
            QUARANTINED.labels(reason_code).inc()
        if self._producer.flush(_FLUSH_SECONDS) or failures:
            self._producer.purge()
            self._producer = None
            raise KafkaException(failures[0] if failures else KafkaError(KafkaError._TIMED_OUT))

    def _have_told_again(self) -> None:
        if owed := publish_again(self._settings):
            logger.warning("the broker lost messages: %d entries and dead letters are published again", owed)
