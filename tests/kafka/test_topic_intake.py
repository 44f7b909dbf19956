"""A hospital's own topic: the same rows as over the wire, each record once, whatever is delivered again."""

import uuid

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from sqlalchemy.exc import OperationalError

from core.errors import ConfigurationError
from core.feed_tables import FeedHour, InboxEntry, KafkaPosition
from core.store import LedgerEntry, Payload, Quarantine, store_session
from ehr.ledger import ledger_totals
from ehr.live.check import Checker
from ehr.live.inbox import Inbox, read_content
from ehr.live.topic_intake import TopicIntake
from ehr.sources import Source, load_sources
from tests.kafka.live_house import message, wait_for


@pytest.fixture
def topic(settings):
    name = f"hospital-{uuid.uuid4().hex[:10]}"
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    admin.create_topics([NewTopic(name, 2, 1)])[name].result()
    return name


@pytest.fixture
def intake(settings, topic):
    opened = open_intake(settings, topic)
    yield opened
    opened.close()


def open_intake(settings, topic: str, **fields) -> TopicIntake:
    source = Source(source_id="ward", kafka_topic=topic, kafka_bootstrap=settings.kafka_bootstrap, **fields)
    return TopicIntake(settings, source, Checker(settings, load_sources(settings.sources_file) | {"ward": source}))


def send(settings, topic: str, *values: bytes | None) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(10) == 0


def take_in(intake: TopicIntake, number: int) -> None:
    read = 0

    def enough() -> bool:
        nonlocal read
        read += intake.take_in(0.5)
        return read >= number

    wait_for(enough, 15, f"{number} records")


def test_records_are_stored_like_what_comes_over_the_wire(settings, topic, intake):
    send(settings, topic, message(1), b"\x0b" + message(2) + b"\x1c\r", None, b" ")
    take_in(intake, 4)
    with store_session(settings) as session:
        entries = session.query(InboxEntry).order_by(InboxEntry.inbox_sequence).all()
        sources = {payload.source_id for payload in session.query(Payload)}
        hour = session.query(FeedHour).one()
        assert [position.next_offset for position in session.query(KafkaPosition)] == [4]
    assert [read_content(settings, entry.payload_id) for entry in entries] == [message(1), message(2)]
    assert {entry.feed for entry in entries} == {"kafka"}
    assert sources == {"simulated"}, "MSH-4 is declared of another source than the topic's"
    assert (hour.feed, hour.received, hour.accepted) == ("kafka", 2, 2)
    over_the_wire = Inbox(settings).store([Checker(settings).hl7v2(message(1), "mllp")])
    assert over_the_wire[0].outcome == "repeated"


def test_what_is_offending_is_quarantined(settings, topic, intake):
    send(settings, topic, b"rubbish", message(1).replace(b"PID|1||M00000^^^SIMHOSP^MR", b"PID|1||"))
    take_in(intake, 2)
    with store_session(settings) as session:
        assert [row.reason_code for row in session.query(Quarantine).order_by(Quarantine.reason_code)] == [
            "no_msh", "no_patient_identifier"]
        assert {payload.state for payload in session.query(Payload)} == {"quarantined"}
    assert all(line.balances for line in ledger_totals(settings))


def test_fhir_is_judged_like_a_post(settings, topic):
    intake = open_intake(settings, topic, kafka_format="fhir")
    deep = b'{"a": ' * 100 + b"1" + b"}" * 100
    send(settings, topic, b'{"resourceType": "Patient", "id": "a"}', b"{", b'{"id": "a"}', deep)
    take_in(intake, 4)
    intake.close()
    with store_session(settings) as session:
        assert [row.reason_code for row in session.query(Quarantine).order_by(Quarantine.reason_code)] == [
            "malformed_json", "no_resource_type", "too_deep"]
        assert [(payload.format, payload.source_id) for payload in session.query(Payload).filter_by(state="received")] == [
            ("fhir", "ward")]


def test_a_store_that_fails_moves_nothing_and_a_new_reader_begins_where_the_last_commit_was(settings, topic, monkeypatch):
    first = open_intake(settings, topic)
    send(settings, topic, message(1), message(2))
    take_in(first, 2)
    send(settings, topic, message(3), message(4))

    def full(*_arguments):
        raise OperationalError("insert", {}, Exception("disk full"))

    monkeypatch.setattr(first._inbox, "_store", full)
    with pytest.raises(OperationalError):
        take_in(first, 2)
    monkeypatch.undo()
    take_in(first, 2)
    first.close()
    second = open_intake(settings, topic)
    send(settings, topic, message(5))
    take_in(second, 1)
    second.close()
    with store_session(settings) as session:
        assert session.query(InboxEntry).count() == 5
        assert session.query(LedgerEntry).count() == 0, "nothing was delivered twice"
        assert [position.next_offset for position in session.query(KafkaPosition)] == [5]


def test_a_topic_that_is_not_there_is_waited_for(settings):
    intake = open_intake(settings, f"nowhere-{uuid.uuid4().hex[:8]}")
    assert intake.take_in(0.5) == 0
    intake.close()


def test_a_source_without_a_broker_says_what_to_set(settings):
    source = Source(source_id="ward", kafka_topic="adt")
    without = settings.model_copy(update={"kafka_bootstrap": ""})
    with pytest.raises(ConfigurationError, match="CUFF_KAFKA_BOOTSTRAP"):
        TopicIntake(without, source, Checker(settings))


def test_a_sources_own_options_reach_its_client_alone(settings):
    from ehr.live.broker import client_options

    told = settings.model_copy(update={"kafka_source_options": {"ward": {"client.rack": "b"}}})
    assert client_options(told, "ward", "elsewhere:9092") | {"logger": 0, "error_cb": 0} == {
        "bootstrap.servers": "elsewhere:9092", "client.id": "cuff", "reconnect.backoff.max.ms": 2000, "client.rack": "b",
        "logger": 0, "error_cb": 0}
    assert "client.rack" not in client_options(told)
