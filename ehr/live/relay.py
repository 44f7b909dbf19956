"""From the inbox to Kafka, in the order of arrival, at least once: the outbox pattern.

An entry that is still ``received`` goes to the topic of its format, a reject to the dead letters, and only when the broker has
acknowledged it, it is marked (``published_at``). Whoever dies in between publishes again; the consumer looks at the payload's
state, so that adds nothing.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError

from core.feed_tables import IS_OWED, InboxEntry
from core.settings import Settings
from core.store import Payload, Quarantine, store_session, utc_now
from ehr.intake import is_live
from ehr.live import dead_letters
from ehr.live.broker import DEAD_LETTERS, Envelope, make_producer, make_topics, topic_name, topic_of_format
from ehr.live.metrics import RELAY_FAILURES, RELAYED

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

logger = logging.getLogger("cuff.live")

_ENTRIES_AT_A_TIME, _BYTES_AT_A_TIME = 1000, 32 << 20
_IDS_AT_A_TIME = 500
_PAUSE_SECONDS = 0.1  # between small batches: each takes the ops database's writer from the listener
_FLUSH_SECONDS = 0.5
_LOOK_SECONDS = 3.0  # without an acknowledgement for this long, see whether the topics are still there
_IDLE_LOOK_SECONDS = 30.0
_DRAIN_SECONDS = 10.0
_BACK_OFF_SECONDS = (0.5, 15.0)


@dataclass
class _Letter:
    """One message for the broker. ``order``: what must not overtake what has the same; ``is_delivered``: acknowledged."""

    topic: str
    message: dict[str, Any]
    order: str | None
    error: "KafkaError | None" = None
    is_delivered: bool = False

    def on_delivery(self, error: "KafkaError | None", _message: "Message") -> None:
        self.error, self.is_delivered = error, error is None


@dataclass
class Relay:
    """Publishes what the inbox owes until it is told to stop."""

    settings: Settings
    trouble: dict[str, str] = field(default_factory=lambda: {"kafka": "not reached yet"})  # what is not ready, and why

    def __post_init__(self) -> None:
        self._producer: Producer | None = None
        self._stop = Event()
        self._look_again = 0.0

    def run(self, stop: Event) -> None:
        """Publish until ``stop``; then what is under way is waited for, some seconds. A broker or an ops database that
        is away is waited for, however long."""
        from confluent_kafka import KafkaException

        self._stop = stop
        wait = _BACK_OFF_SECONDS[0]
        while not stop.is_set():
            try:
                published = self.publish()
                self.trouble, wait = {}, _BACK_OFF_SECONDS[0]
                if published < _ENTRIES_AT_A_TIME:
                    stop.wait(_PAUSE_SECONDS)
            except (KafkaException, SQLAlchemyError) as error:
                what = error.args[0].name() if isinstance(error, KafkaException) else type(error).__name__
                self.trouble = {"kafka" if isinstance(error, KafkaException) else "ops": what}
                logger.warning("the relay waits %.1f s: %s", wait, what)
                stop.wait(wait)
                wait = min(wait * 2, _BACK_OFF_SECONDS[1])
        self.close()

    def publish(self) -> int:
        """Publish one batch of entries and one of dead letters; returns how many were dealt with.

        Errors: ``KafkaException`` when the broker did not take all of it, ``SQLAlchemyError``. What it took is marked.
        """
        try:
            if (self._producer is None or time.monotonic() >= self._look_again) and self._make_topics():
                self.close()  # a producer of topics that are no more
            if self._producer is None:
                self._producer = make_producer(self.settings)
            return self._publish_entries() + self._publish_rejects()
        except BaseException:
            self.close()  # what a producer still holds was not marked, so it is published again
            raise

    def _publish_entries(self) -> int:
        letters: dict[int, _Letter | None] = {}
        with store_session(self.settings) as session:
            chosen = _first_of(session.execute(
                select(InboxEntry.inbox_sequence, func.length(InboxEntry.content)).where(IS_OWED)
                .order_by(InboxEntry.inbox_sequence).limit(_ENTRIES_AT_A_TIME)).all())  # fmt: skip
            for some in _in_parts(chosen):
                for entry, payload in session.execute(
                    select(InboxEntry, Payload).join(Payload, Payload.payload_id == InboxEntry.payload_id)
                    .where(InboxEntry.inbox_sequence.in_(some)).order_by(InboxEntry.inbox_sequence)
                ):
                    letters[entry.inbox_sequence] = self._entry_letter(entry, payload)
        done = self._send(letters)
        self._mark(InboxEntry, InboxEntry.inbox_sequence, done)
        self._check(letters)
        return len(done)

    def _entry_letter(self, entry: InboxEntry, payload: Payload) -> _Letter | None:
        if payload.state != "received":
            return None  # refused at the door, so its dead letter speaks for it; or landed before Kafka was on
        envelope = Envelope(entry.inbox_sequence, entry.payload_id, payload.source_id, payload.format,
                            entry.partition_key, entry.content)  # fmt: skip
        return _Letter(topic_of_format(self.settings, payload.format), envelope.as_message(), entry.partition_key)

    def _publish_rejects(self) -> int:
        letters: dict[str, _Letter | None] = {}
        topic = topic_name(self.settings, DEAD_LETTERS)
        held = 0
        with store_session(self.settings) as session:
            for reject, payload in session.execute(
                select(Quarantine, Payload).join(Payload, Payload.payload_id == Quarantine.payload_id)
                .where(Quarantine.published_at.is_(None)).order_by(Quarantine.quarantined_at).limit(_ENTRIES_AT_A_TIME)
            ).all():
                if not is_live(payload) or reject.state != "open":
                    letters[reject.quarantine_id] = None  # a file's reject is no dead letter, a replayed one no longer
                    continue
                if held > _BYTES_AT_A_TIME:
                    break
                entry = session.scalars(select(InboxEntry).where(InboxEntry.payload_id == payload.payload_id)).one()
                held += len(entry.content or b"")
                letters[reject.quarantine_id] = _Letter(
                    topic, dead_letters.of_reject(reject, entry.inbox_sequence, entry.partition_key, entry.content), None)
        done = self._send(letters)
        self._mark(Quarantine, Quarantine.quarantine_id, done)
        self._check(letters)
        return len(done)

    def _send(self, letters: dict[Any, _Letter | None]) -> list[Any]:
        """Hand over, wait for the broker, and return the keys of what is done with, in order. Behind a letter that the
        broker did not take, nothing of the same person is done with: it is published again, after that one."""
        assert self._producer is not None
        sent = [each for each in letters.values() if each is not None]
        for each in sent:
            self._producer.produce(each.topic, **each.message, on_delivery=each.on_delivery)
        if sent:
            self._await(sent)
        held_up: set[str | None] = set()
        done: list[Any] = []
        for key, letter in letters.items():
            if letter is None:
                done.append(key)
            elif not letter.is_delivered:
                held_up.add(letter.order)
            else:
                RELAYED.labels(letter.topic).inc()
                if letter.order is None or letter.order not in held_up:
                    done.append(key)
        return done

    def _await(self, sent: Sequence[_Letter]) -> None:
        """Until the broker has answered for everything, or there is no point in waiting with this producer."""
        producer = self._producer
        assert producer is not None
        waited = 0.0
        while producer.flush(_FLUSH_SECONDS):
            waited += _FLUSH_SECONDS
            if self._stop.is_set() and waited >= _DRAIN_SECONDS:
                return
            if waited >= _LOOK_SECONDS:
                self.trouble = {"kafka": "no acknowledgement"}
                if self._make_topics():  # they were gone, with what had been acknowledged
                    producer.purge()
                    producer.flush(_FLUSH_SECONDS)
                    for letter in sent:
                        letter.is_delivered = False
                    return

    def _check(self, letters: dict[Any, _Letter | None]) -> None:
        from confluent_kafka import KafkaError, KafkaException

        failed = [letter for letter in letters.values() if letter is not None and not letter.is_delivered]
        if failed:
            RELAY_FAILURES.inc(len(failed))
            raise KafkaException(failed[0].error or KafkaError(KafkaError._TIMED_OUT))

    def _mark(self, table: type[InboxEntry] | type[Quarantine], column: Any, keys: Sequence[Any]) -> None:
        if keys:
            with store_session(self.settings) as session:
                for some in _in_parts(keys):
                    session.execute(update(table).where(column.in_(some)).values(published_at=utc_now()))

    def _make_topics(self) -> bool:
        """Whether topics had to be made; a broker that lost them is owed again what it was given."""
        from confluent_kafka import KafkaException

        self._look_again = time.monotonic() + _IDLE_LOOK_SECONDS
        try:
            made = make_topics(self.settings)
        except KafkaException:
            if self._producer is None:
                raise
            return False  # the broker is away, and comes back with its topics or without
        if made and (owed := publish_again(self.settings)):
            logger.warning("topics had to be made: %d entries and dead letters are published again", owed)
        return bool(made)

    def close(self) -> None:
        """Let go of the broker, and of what it has not acknowledged."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(1.0)
            self._producer = None


def publish_again(settings: Settings, from_sequence: int = 0) -> int:
    """Owe Kafka again every entry from ``from_sequence`` on that has not landed, and every open reject of one; returns how
    many. For a broker that lost what it was given; where it had not, the consumer passes over them."""
    with store_session(settings) as session:
        live = (InboxEntry.feed != "file") & (InboxEntry.inbox_sequence >= from_sequence)
        waiting = select(Payload.payload_id).where(Payload.state == "received")
        owed: list[Any] = [
            update(InboxEntry).where(live, InboxEntry.published_at.is_not(None), InboxEntry.payload_id.in_(waiting)),
            update(Quarantine).where(Quarantine.state == "open", Quarantine.published_at.is_not(None),
                                     Quarantine.payload_id.in_(select(InboxEntry.payload_id).where(live))),
        ]  # fmt: skip
        connection = session.connection()
        return sum(connection.execute(statement.values(published_at=None)).rowcount for statement in owed)


def _first_of(rows: Sequence[Any]) -> list[int]:
    """As many sequences from the front as memory is meant for; the first in any case."""
    chosen: list[int] = []
    held = 0
    for sequence, size in rows:
        held += size or 0
        if chosen and held > _BYTES_AT_A_TIME:
            break
        chosen.append(sequence)
    return chosen


def _in_parts(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(keys), _IDS_AT_A_TIME):
        yield keys[start:start + _IDS_AT_A_TIME]
