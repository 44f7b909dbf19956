"""What arrives live wakes the build: watchers of the asset ``raw_landed``, for either transport.

Both say the same (`core.publication.live_landing_due`): live messages have waited `CUFF_WAKE_SECONDS` for a build, and none
is under way. Without Kafka the triggerer asks the ops database; with it the consumer asks, and tells the triggerer through
a topic.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import AssetWatcher
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from core.publication import live_landing_due
from core.settings import Settings, load_settings

KAFKA_CONNECTION = "cuff_kafka"  # made by core/airflow_environment.py
_POLL_SECONDS = 10.0


class LiveLandingTrigger(BaseEventTrigger):
    """Fires at most every ``wake_seconds``, as long as live messages wait for a build."""

    def __init__(self, wake_seconds: float, poll_seconds: float = _POLL_SECONDS) -> None:
        super().__init__()
        self.wake_seconds, self.poll_seconds = wake_seconds, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "landing_trigger.LiveLandingTrigger", {
            "wake_seconds": self.wake_seconds, "poll_seconds": self.poll_seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while True:
            newest = await asyncio.to_thread(self._due)
            if newest is not None:
                yield TriggerEvent({"through_batch_id": newest})
                await asyncio.sleep(self.wake_seconds)  # the build that it starts is seen in a moment, not at once
            await asyncio.sleep(self.poll_seconds)

    def _due(self) -> int | None:
        settings = load_settings(wake_seconds=self.wake_seconds)
        try:
            return live_landing_due(settings)
        except Exception as error:  # a trigger that ends watches nothing; the database comes back
            self.log.warning("the ops database does not answer (%s); asking again", type(error).__name__)
            return None


def landing_watchers(settings: Settings) -> list[AssetWatcher]:
    """The watcher of the transport that is set."""
    if settings.transport == "inbox":
        return [AssetWatcher(name="live_landings", trigger=LiveLandingTrigger(settings.wake_seconds))]
    from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger

    from ehr.live.broker import LANDED, topic_name

    trigger = MessageQueueTrigger(
        scheme="kafka", topics=[topic_name(settings, LANDED)], kafka_config_id=KAFKA_CONNECTION,
        apply_function="landing_trigger.told_landing", poll_interval=_POLL_SECONDS)
    return [AssetWatcher(name="live_landings", trigger=trigger)]


def told_landing(message: Any) -> dict[str, int] | None:
    """What the consumer said on the topic; None for what it cannot have said."""
    try:
        return {"through_batch_id": int(json.loads(message.value())["through_batch_id"])}
    except (ValueError, TypeError, KeyError):
        return None
