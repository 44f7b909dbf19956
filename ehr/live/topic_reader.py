"""Reads topics from where the ops database says, never from what Kafka remembers of a group.

A position belongs to one incarnation of a topic: its key is ``name@id``, as Kafka gives each topic that is made an id of its
own. A topic that was deleted and made again is therefore read from its beginning, however far the old one had been read.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from core.feed_tables import KafkaPosition
from core.settings import Settings
from core.store import store_session
from ehr.live.transport import Position

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message
    from confluent_kafka.admin import AdminClient

logger = logging.getLogger("cuff.live")

_LOOK_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
_CHUNK, _CHUNK_SECONDS = 200, 0.05
_BYTES_AT_A_TIME = 32 << 20


class TopicReader:
    """Reads all partitions of ``topics``, found anew every few seconds. ``on_lost`` is called when messages that were not
    read yet may be gone: the topic was made anew, or its offsets are out of range."""

    def __init__(self, settings: Settings, options: dict[str, Any], topics: Sequence[str], on_lost: Callable[[], None]
                 ) -> None:
        self._settings, self._topics, self._on_lost = settings, topics, on_lost
        self._options = options
        self._consumer_options = options | {
            "group.id": f"{settings.kafka_prefix}.reader",  # librdkafka wants a name; nothing is committed under it
            "enable.auto.commit": False, "enable.auto.offset.store": False, "auto.offset.reset": "error",
            "isolation.level": "read_committed", "allow.auto.create.topics": False,
            "fetch.wait.max.ms": 100, "queued.max.messages.kbytes": 16384,
        }  # fmt: skip
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None
        self._ids: dict[str, str] = {}  # of the topics that are read
        self._assigned: dict[tuple[str, int], int] = {}  # where each partition was begun
        self._read: dict[tuple[str, int], int] = {}  # next offset, of what was read and not kept yet
        self._look_at = 0.0

    def read(self, seconds: float, limit: int) -> list["Message"]:
        """Wait up to ``seconds`` for the first message, and return what is there, ``limit`` at most.

        Errors: ``KafkaException`` when the broker does not answer.
        """
        deadline = time.monotonic() + seconds
        found: list[Message] = []
        while not found and (remaining := deadline - time.monotonic()) > 0:
            self._look_for_partitions()
            if self._assigned:
                found = self._take(1, min(remaining, _LOOK_SECONDS))
            else:
                time.sleep(min(remaining, 0.2))
        held = sum(len(message.value() or b"") for message in found)
        while found and len(found) < limit and held < _BYTES_AT_A_TIME:
            wanted = min(_CHUNK, limit - len(found))
            more = self._take(wanted, _CHUNK_SECONDS)
            held += sum(len(message.value() or b"") for message in more)
            found += more
            if len(more) < wanted:
                break
        return found

    @property
    def is_reading(self) -> bool:
        """Whether there is a topic to read."""
        return bool(self._assigned)

    def positions(self) -> list[Position]:
        """How far what was read since the last `keep` reaches."""
        return [Position(self._key(topic), partition, offset) for (topic, partition), offset in self._read.items()]

    def keep(self) -> None:
        """`positions` are in the ops database."""
        self._assigned |= self._read
        self._read = {}

    def rewind(self) -> None:
        """Read again what was read since the last `keep`."""
        from confluent_kafka import TopicPartition

        places = {place: self._assigned[place] for place in self._read}
        if places and self._consumer is not None:
            self._consumer.incremental_unassign([TopicPartition(*place) for place in places])
            self._consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in places.items()])
        self._read = {}

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        self._admin = None
        self._ids, self._assigned, self._read, self._look_at = {}, {}, {}, 0.0

    def _take(self, number: int, seconds: float) -> list["Message"]:
        from confluent_kafka import KafkaError

        assert self._consumer is not None
        good: list[Message] = []
        for message in self._consumer.consume(number, seconds):
            place, error = (message.topic() or "", message.partition() or 0), message.error()
            if error is None and place in self._assigned:
                good.append(message)
                self._read[place] = (message.offset() or 0) + 1
            elif error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
                self._start_over(place)
            elif error is not None:
                logger.debug("reading %s: %s", place[0], error.name())
                self._look_at = 0.0
        return good

    def _start_over(self, place: tuple[str, int]) -> None:
        """What Kafka has of this partition is not what it had: read all of it, and have the rest told again."""
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        if place in self._assigned:
            logger.warning("offsets of %s, partition %d, are out of range; it is read from its beginning", *place)
            assert self._consumer is not None
            self._read.pop(place, None)
            self._assigned[place] = OFFSET_BEGINNING
            self._consumer.incremental_unassign([TopicPartition(*place)])
            self._consumer.incremental_assign([TopicPartition(*place, OFFSET_BEGINNING)])
            self._on_lost()

    def _look_for_partitions(self) -> None:
        """Begin to read what is new, stop reading what is no more, and leave the rest in peace."""
        if time.monotonic() < self._look_at:
            return
        ids, partitions = self._describe()
        self._look_at = time.monotonic() + (_LOOK_SECONDS if ids else 0.5)
        other = {topic for topic, id_ in self._ids.items() if ids.get(topic) != id_}
        gone = {place for place in self._assigned if place[0] in other or place not in partitions}
        new = partitions - (set(self._assigned) - gone)
        if not gone and not new:
            return
        known = self._known_keys()
        self._drop(gone)
        self._ids = ids
        self._begin(new)
        replaced = {topic for topic, id_ in ids.items() if f"{topic}@{id_}" not in known
                    and any(key.rpartition("@")[0] == topic for key in known)}  # fmt: skip
        if replaced:
            logger.warning("%s was made anew; it is read from its beginning", ", ".join(sorted(replaced)))
            self._on_lost()

    def _known_keys(self) -> set[str]:
        """Every incarnation of a topic that was read, ever or just now."""
        with store_session(self._settings) as session:
            stored = set(session.scalars(select(KafkaPosition.topic).distinct()))
        return stored | {self._key(topic) for topic in self._ids}

    def _drop(self, places: set[tuple[str, int]]) -> None:
        from confluent_kafka import TopicPartition

        for place in places:
            del self._assigned[place]
            self._read.pop(place, None)
        if places and self._consumer is not None:
            self._consumer.incremental_unassign([TopicPartition(*place) for place in places])

    def _begin(self, places: set[tuple[str, int]]) -> None:
        """Read partitions from where the ops database says, or from their beginning."""
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        if not places:
            return
        with store_session(self._settings) as session:
            keys = [self._key(topic) for topic in self._ids]
            rows = session.scalars(select(KafkaPosition).where(KafkaPosition.topic.in_(keys)))
            stored = {(row.topic, row.partition): row.next_offset for row in rows}
        begun = {place: stored.get((self._key(place[0]), place[1]), OFFSET_BEGINNING) for place in places}
        if self._consumer is None:
            self._consumer = Consumer(self._consumer_options)
        self._consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in begun.items()])
        self._assigned |= begun

    def _describe(self) -> tuple[dict[str, str], set[tuple[str, int]]]:
        """(id by topic, partitions) of those topics that are there."""
        from confluent_kafka import KafkaError, KafkaException, TopicCollection
        from confluent_kafka.admin import AdminClient

        if self._admin is None:
            self._admin = AdminClient(self._options)
        ids: dict[str, str] = {}
        partitions: set[tuple[str, int]] = set()
        for topic, future in self._admin.describe_topics(TopicCollection(list(self._topics)),
                                                         request_timeout=_ANSWER_SECONDS).items():  # fmt: skip
            try:
                described = future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
            else:
                ids[topic] = str(described.topic_id)
                partitions |= {(topic, each.id) for each in described.partitions}
        return ids, partitions

    def _key(self, topic: str) -> str:
        return f"{topic}@{self._ids[topic]}"

