"""What the Kafka tests put into a house and look for on the broker. The people are invented."""

import time
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from core.keys import key_bytes, pseudonym
from core.settings import Settings
from core.store import Payload, store_session
from ehr.live.broker import topic_name
from ehr.live.inbox import Inbox, Received, Stored
from ehr.live.relay import Relay
from ehr.records import Reject

CANARY = "Zyxwanderer"  # a family name that no broker may ever hold in the clear


def message(number: int, person: int = 0, family: str = CANARY, kind: str = "A08") -> bytes:
    """An HL7 v2 message about one invented person."""
    return (
        f"MSH|^~\\&|ADT|SIMHOSP|CUFF|CUFF|20260301120000||ADT^{kind}^ADT_A01|C{number:06d}|P|2.5\r"
        f"EVN|{kind}|20260301120000\r"
        f"PID|1||M{person:05d}^^^SIMHOSP^MR||{family}^Ada||19600102|F\r"
        "PV1|1|O\r"
    ).encode()


def received(settings: Settings, number: int, person: int = 0, reject: Reject | None = None) -> Received:
    """The same as the door would hand it to the inbox."""
    key = key_bytes(settings.pseudonym_secret, "CUFF_PSEUDONYM_SECRET")
    return Received(
        message(number, person), "hl7v2", "simulated", "mllp", "message", "ADT^A08",
        message_key=pseudonym(key, "record", "ADT|SIMHOSP", f"C{number:06d}"),
        partition_key=pseudonym(key, "person", "SIMHOSP-MRN", f"M{person:05d}"), reject=reject,
    )  # fmt: skip


def arrive(settings: Settings, numbers: range, persons: int = 5) -> list[Stored]:
    """Messages in the inbox, their persons by turns."""
    return Inbox(settings).store([received(settings, number, number % persons) for number in numbers])


def states(settings: Settings) -> list[str]:
    with store_session(settings) as session:
        return [payload.state for payload in session.query(Payload).order_by(Payload.payload_id)]


class Relaying:
    """A relay in a thread, for a block."""

    def __init__(self, settings: Settings) -> None:
        self.relay, self._stop = Relay(settings), Event()
        self._thread = Thread(target=self.relay.run, args=[self._stop])

    def __enter__(self) -> Relay:
        self._thread.start()
        return self.relay

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def publish_all(settings: Settings) -> int:
    """Everything that is owed, then an end; returns how many were dealt with."""
    relay, published = Relay(settings), 0
    while number := relay.publish():
        published += number
    relay.close()
    return published


def on_topic(settings: Settings, kind: str) -> list[Message]:
    """All that a topic holds, partition by partition, in the order of the offsets."""
    topic = topic_name(settings, kind)
    options: dict[str, Any] = {"bootstrap.servers": settings.kafka_bootstrap, "group.id": "onlooker",
                               "enable.auto.commit": False, "fetch.wait.max.ms": 20}  # fmt: skip
    consumer = Consumer(options)
    found: list[Message] = []
    for partition in sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions):
        low, high = _reach(consumer, TopicPartition(topic, partition))
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        at = low
        while at < high:
            for each in consumer.consume(min(500, high - at), 10):
                assert each.error() is None, each.error()
                found.append(each)
                at = each.offset() + 1
    consumer.close()
    return found


def _reach(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """First offset and the one after the last. A topic that was made a moment ago may have no leader yet."""
    for _ in range(50):
        try:
            return consumer.get_watermark_offsets(partition, timeout=10)
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            time.sleep(0.1)
    raise AssertionError(f"{partition.topic} has no leader")


def wait_for(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Ask until ``done``. Errors: ``AssertionError`` naming ``what`` when the time is over."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s"
        time.sleep(0.1)


def owed(settings: Settings) -> Iterator[int]:
    """Sequences that the relay still owes."""
    from sqlalchemy import select

    from core.feed_tables import IS_OWED, InboxEntry

    with store_session(settings) as session:
        yield from session.scalars(select(InboxEntry.inbox_sequence).where(IS_OWED)).all()
