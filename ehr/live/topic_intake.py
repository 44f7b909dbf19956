"""A hospital's own Kafka topic as a source: each record is judged as at the door and stored in the inbox.

How far the topic was read is stored in the same transaction, so a record that is delivered again adds nothing. A record
that is offending is quarantined, as nobody waits for an answer; an empty one (a tombstone) holds no message.
"""

import logging
from threading import Event
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from core.settings import Settings
from ehr.live.broker import client_options
from ehr.live.check import Checker
from ehr.live.inbox import Inbox, Received
from ehr.live.json_depth import depth_exceeds
from ehr.live.metrics import MESSAGES_RECEIVED, QUARANTINED
from ehr.live.mllp import END, START
from ehr.live.resource_check import judge_resource
from ehr.live.topic_reader import TopicReader
from ehr.records import Reject
from ehr.sources import Source

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger("cuff.live")

FEED = "kafka"
_GATHER_SECONDS, _GROUP = 0.5, 500
_BACK_OFF_SECONDS = (0.5, 15.0)


class TopicIntake:
    """Reads one source's topic, from its beginning or from where it was left."""

    def __init__(self, settings: Settings, source: Source, checker: Checker) -> None:
        self.source = source
        self.trouble: dict[str, str] = {source.source_id: "not reached yet"}  # what is not ready, and why
        self._settings, self._checker = settings, checker
        self._inbox = Inbox(settings)
        options = client_options(settings, source.source_id, source.kafka_bootstrap)
        self._reader = TopicReader(settings, options, [source.kafka_topic], self._tell_of_a_loss)

    def run(self, stop: Event) -> None:
        """Take in until ``stop``. A broker or an ops database that is away is waited for, however long."""
        from confluent_kafka import KafkaException

        wait = _BACK_OFF_SECONDS[0]
        while not stop.is_set():
            try:
                self.take_in(_GATHER_SECONDS)
                there = self._reader.is_reading
                self.trouble = {} if there else {self.source.source_id: f"there is no topic {self.source.kafka_topic}"}
                wait = _BACK_OFF_SECONDS[0]
            except (KafkaException, SQLAlchemyError) as error:
                what = error.args[0].name() if isinstance(error, KafkaException) else type(error).__name__
                self.trouble = {self.source.source_id: what}
                logger.warning("the topic of '%s' waits %.1f s: %s", self.source.source_id, wait, what)
                stop.wait(wait)
                wait = min(wait * 2, _BACK_OFF_SECONDS[1])
        self.close()

    def take_in(self, seconds: float) -> int:
        """Store what is there, waiting ``seconds`` for the first; returns how many records were read.

        Errors: ``KafkaException``, ``SQLAlchemyError``; nothing of the group is stored then, and it is read again.
        """
        records = self._reader.read(seconds, _GROUP)
        group = [received for record in records if (received := self._judge(record)) is not None]
        if records:
            try:
                stored = self._inbox.store(group, self._reader.positions())
            except BaseException:
                self._reader.rewind()
                raise
            self._reader.keep()
            for outcome in stored:
                MESSAGES_RECEIVED.labels(FEED, self.source.source_id).inc()
                if outcome.outcome == "refused" and outcome.reject is not None:
                    QUARANTINED.labels(outcome.reject.reason_code).inc()
        return len(records)

    def close(self) -> None:
        self._reader.close()

    def _judge(self, record: "Message") -> Received | None:
        content = bytes(record.value() or b"")
        if not content.strip():
            return None
        if self.source.kafka_format == "fhir":
            if depth_exceeds(content, self._settings.fhir_max_depth):
                reject = Reject("resource", "unknown", "resource", "too_deep", "JSON is nested deeper than is taken")
                return Received(content, "fhir", self.source.source_id, FEED, "resource", "unknown", reject=reject)
            return judge_resource(content, self.source, FEED, self._checker.pseudonym_key)
        framed = content.rstrip(b"\r\n")
        if framed.startswith(START) and framed.endswith(END):  # an engine that hands its MLLP frames on
            content = framed[1:-1]
        return self._checker.hl7v2(content, FEED, own=self.source)

    def _tell_of_a_loss(self) -> None:
        logger.error("the topic of '%s' no longer holds what was to be read next: messages of it may be missing; ask the "
                     "hospital to send them again", self.source.source_id)  # fmt: skip
