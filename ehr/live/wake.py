"""The consumer tells Airflow through Kafka that live messages wait for a build: topic ``cuff.landed.v1``, numbers only."""

import json
import logging
import time
from typing import TYPE_CHECKING

from core.publication import live_landing_due
from core.settings import Settings
from ehr.live.broker import LANDED, make_producer, make_topics, topic_name

if TYPE_CHECKING:
    from confluent_kafka import Producer

logger = logging.getLogger("cuff.live")

_LOOK_SECONDS = 10.0
_FLUSH_SECONDS = 5.0


class LandingTeller:
    """Tells at most every ``wake_seconds``. Nothing hangs on one telling: while messages wait, it is told again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._looked = self._told = float("-inf")
        self._producer: Producer | None = None

    def tell(self) -> bool:
        """Look whether a build is due, and say so; returns whether it was said and heard."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS or now - self._told < self._settings.wake_seconds:
            return False
        self._looked = now
        newest = live_landing_due(self._settings)
        if newest is None or not self._publish(newest):
            return False
        self._told = now
        return True

    def _publish(self, newest: int) -> bool:
        from confluent_kafka import KafkaException

        heard: list[bool] = []
        try:
            if self._producer is None:
                make_topics(self._settings, [LANDED])
                self._producer = make_producer(self._settings)
            self._producer.produce(
                topic_name(self._settings, LANDED), value=json.dumps({"through_batch_id": newest}),
                on_delivery=lambda error, _message: heard.append(error is None))  # fmt: skip
            self._producer.flush(_FLUSH_SECONDS)
        except (KafkaException, BufferError) as error:
            logger.warning("a landing could not be told: %s", type(error).__name__)
        if not any(heard) and self._producer is not None:
            self._producer.purge()  # too old when the broker is back; the next look says it anew
            self._producer = None
        return any(heard)
