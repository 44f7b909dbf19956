"""The consumer over a real broker: the position is in the ledger's transaction, so no redelivery and no crash adds a row."""

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from core.errors import ConfigurationError
from core.feed_tables import InboxEntry, KafkaPosition
from core.keys import seal, unseal
from core.lake import read_lake
from core.store import Batch, Payload, store_session
from ehr.batch import write_down
from ehr.ledger import COUNTS, ledger_totals
from ehr.live import kafka_transport
from ehr.live import lander as lander_module
from ehr.live.broker import DEAD_LETTERS, HL7V2, headers_of, make_topics, read_headers, topic_name
from ehr.live.kafka_transport import KafkaTransport
from ehr.live.lander import Lander
from ehr.live.transport import Announced
from tests.kafka.live_house import arrive, message, on_topic, owed, publish_all, states, wait_for

ARCHIVE_KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def transport(settings):
    opened = KafkaTransport(settings)
    yield opened
    opened.close()


def gather(transport: KafkaTransport, wanted: range, seconds: float = 20) -> list[Announced]:
    """What is announced until each of the ``wanted`` sequences is there."""
    found: list[Announced] = []

    def enough() -> bool:
        found.extend(transport.gather(0.5, 1000))
        return {each.inbox_sequence for each in found} >= set(wanted)

    wait_for(enough, seconds, f"announcements {wanted}")
    return found


def nothing_waits(transport: KafkaTransport) -> bool:
    return [each for _ in range(3) for each in transport.gather(0.5, 1000)] == []


def offsets(settings) -> dict[int, int]:
    with store_session(settings) as session:
        return {row.partition: row.next_offset for row in session.query(KafkaPosition)}


def land(settings, announced, positions) -> None:
    lander = Lander(settings)
    try:
        lander.land(announced, positions)
    finally:
        lander.close()


def rows(settings) -> list[int]:
    with read_lake(settings, ["clinical"]) as lake:
        return [row[0] for row in lake.execute("select inbox_sequence from clinical.raw.hl7v2_messages order by 1").fetchall()]


def test_what_waits_is_announced_with_its_bytes(settings, transport):
    arrive(settings, range(30))
    publish_all(settings)
    announced = gather(transport, range(1, 31))
    assert sorted(each.inbox_sequence for each in announced) == list(range(1, 31))
    assert {each.content for each in announced} == {message(number, number % 5) for number in range(30)}
    assert sum(position.next_offset for position in transport.positions()) == 30
    assert nothing_waits(transport), "what was gathered is not told again"
    assert len(transport.positions()) == len({position.partition for position in transport.positions()})


def test_the_position_moves_with_the_ledger_and_a_redelivery_adds_nothing(settings, transport):
    arrive(settings, range(12))
    publish_all(settings)
    land(settings, gather(transport, range(1, 13)), transport.positions())
    transport.landed()
    assert transport.positions() == []
    assert sum(offsets(settings).values()) == 12
    totals, landed = ledger_totals(settings), rows(settings)
    assert landed == list(range(1, 13))

    arrive(settings, range(12, 15))
    publish_all(settings)
    again = KafkaTransport(settings)  # a new consumer begins where the ledger ends
    assert [each.inbox_sequence for each in sorted(gather(again, range(13, 16)), key=lambda each: each.inbox_sequence)
            ] == [13, 14, 15]
    again.close()

    with store_session(settings) as session:  # the relay's marks are lost, and all positions
        session.execute(update(InboxEntry).where(InboxEntry.inbox_sequence < 13).values(published_at=None))
        session.execute(update(Payload).where(Payload.state == "landed").values(state="received"))
    publish_all(settings)
    with store_session(settings) as session:
        session.execute(update(Payload).where(Payload.batch_id.is_not(None)).values(state="landed"))
        session.query(KafkaPosition).delete()
    assert len(on_topic(settings, HL7V2)) == 12 + 3 + 12
    again = KafkaTransport(settings)
    told = gather(again, range(13, 16))
    assert {each.inbox_sequence for each in told} == {13, 14, 15}
    land(settings, [Announced(sequence, payload_id) for sequence, payload_id in _entries(settings) if sequence < 13], ())
    again.close()
    assert (ledger_totals(settings), rows(settings)) == (totals, landed)


def _entries(settings) -> list[tuple[int, str]]:
    with store_session(settings) as session:
        return [(entry.inbox_sequence, entry.payload_id) for entry in session.query(InboxEntry)]


def test_a_crash_between_lake_and_ledger_neither_loses_nor_doubles(settings, transport, monkeypatch):
    arrive(settings, range(12))
    publish_all(settings)
    announced = gather(transport, range(1, 13))

    def crash(*_arguments, **_named):
        raise OSError("the ops database is gone")

    monkeypatch.setattr(lander_module, "write_down", crash)
    with pytest.raises(OSError, match="gone"):
        land(settings, announced, transport.positions())
    monkeypatch.undo()
    assert offsets(settings) == {}
    assert set(states(settings)) == {"received"}
    transport.forget()
    land(settings, gather(transport, range(1, 13)), transport.positions())  # the lake has them: finished, not landed again
    transport.landed()
    assert rows(settings) == list(range(1, 13))
    assert sum(offsets(settings).values()) == 12
    assert set(states(settings)) == {"landed"}
    assert all(line.balances for line in ledger_totals(settings))


def test_a_transaction_that_does_not_commit_moves_no_position(settings, transport):
    """The ledger's own constraint refuses the entries, and the position stays with them."""
    arrive(settings, range(2))
    publish_all(settings)
    gather(transport, range(1, 3))
    with store_session(settings) as session:
        payloads = session.query(Payload).all()
        session.add(Batch(batch_id=1, as_of=payloads[0].as_of))
    counts = dict.fromkeys(COUNTS, 0) | {"received": 1}
    unbalanced = {payload.payload_id: [{"unit": "message", "type": "ADT^A08", **counts}] for payload in payloads}
    with pytest.raises(IntegrityError, match="ledger_balances"):
        write_down(settings, 1, payloads, unbalanced, positions=transport.positions())
    assert offsets(settings) == {}
    transport.forget()
    assert set(states(settings)) == {"received"}
    assert len(gather(transport, range(1, 3))) == 2


def produce(settings, value: bytes | None, **headers: object) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    producer.produce(topic_name(settings, HL7V2), value, headers=headers_of(headers), partition=0)
    assert producer.flush(10) == 0


def test_poison_becomes_a_dead_letter_and_the_position_moves_on(settings, transport):
    stored, = arrive(settings, range(1))
    payload_id = _entries(settings)[0][1]
    make_topics(settings)
    plain = message(99)
    foreign = "e" * 64
    produce(settings, plain)
    produce(settings, plain, inbox_sequence=1, payload_id=payload_id)
    produce(settings, seal(ARCHIVE_KEY, plain, payload_id), inbox_sequence=1, payload_id=payload_id)
    produce(settings, None, inbox_sequence=77, payload_id=foreign)
    produce(settings, None, inbox_sequence="one", payload_id=payload_id)
    assert nothing_waits(transport)
    assert offsets(settings) == {0: 5}
    letters = on_topic(settings, DEAD_LETTERS)
    assert [read_headers(each)["reason_code"] for each in letters] == [
        "not_an_envelope", "cannot_be_unsealed", "wrong_digest", "not_an_envelope", "unknown_to_the_inbox"]
    topic = topic_name(settings, HL7V2)
    assert unseal(ARCHIVE_KEY, letters[0].value(), f"{topic}/0/0") == plain
    assert all(plain not in (each.value() or b"") for each in letters)
    publish_all(settings)
    assert [each.inbox_sequence for each in gather(transport, range(1, 2))] == [stored.inbox_sequence]


def test_poison_behind_what_is_being_landed_moves_nothing_before_that_has_landed(settings, transport):
    arrive(settings, range(1))
    publish_all(settings)
    gather(transport, range(1, 2))
    produce(settings, b"rubbish")
    wait_for(lambda: transport.gather(0.3, 10) == [] and sum(each.next_offset for each in transport.positions()) == 2, 10,
             "the poison")
    assert offsets(settings) == {}
    land(settings, [], transport.positions())
    assert sum(offsets(settings).values()) == 2


def test_an_entry_without_bytes_is_to_be_read_from_the_inbox(settings, transport):
    arrive(settings, range(1))
    make_topics(settings)
    produce(settings, None, inbox_sequence=1, payload_id=_entries(settings)[0][1])
    assert [each.content for each in gather(transport, range(1, 2))] == [None]


def test_partitions_that_are_added_are_found(settings, transport):
    arrive(settings, range(3))
    publish_all(settings)
    gather(transport, range(1, 4))
    transport.landed()
    topic = topic_name(settings, HL7V2)
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    for future in admin.create_partitions([NewPartitions(topic, 9)]).values():
        future.result()
    arrive(settings, range(3, 60), persons=40)
    publish_all(settings)
    assert len({each.partition() for each in on_topic(settings, HL7V2)}) > 3
    assert len(gather(transport, range(4, 61))) == 57


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(settings, transport):
    """Also when it has grown past the old position; and what was on the old one is told again."""
    arrive(settings, range(6), persons=1)
    publish_all(settings)
    land(settings, gather(transport, range(1, 7))[:3], transport.positions())  # three of them are still to be landed
    transport.landed()
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    topic = topic_name(settings, HL7V2)
    for future in admin.delete_topics([topic]).values():
        future.result()
    wait_for(lambda: topic not in admin.list_topics(timeout=5).topics, 10, "the topic's end")
    make_topics(settings, [HL7V2])
    arrive(settings, range(6, 20), persons=1)
    publish_all(settings)
    gather(transport, range(7, 21))
    assert publish_all(settings) >= 3, "the transport asked for what was lost"
    gather(transport, range(4, 7))


def test_offsets_out_of_range_are_read_from_the_beginning(settings, transport):
    arrive(settings, range(4), persons=1)
    publish_all(settings)
    gather(transport, range(1, 5))
    where, = transport.positions()
    with store_session(settings) as session:
        session.add(KafkaPosition(topic=where.topic, partition=where.partition, next_offset=5000))
    again = KafkaTransport(settings)
    gather(again, range(1, 5))
    again.close()


def test_what_was_published_and_is_never_told_of_is_published_again(settings, transport, monkeypatch):
    """As of a log that was cut off and has grown again: no offset is out of range, and yet messages are missing."""
    arrive(settings, range(4))
    publish_all(settings)
    land(settings, [each for each in gather(transport, range(1, 5)) if each.inbox_sequence != 3], transport.positions())
    transport.landed()
    monkeypatch.setattr(kafka_transport, "_FORGOTTEN_SECONDS", 0.5)
    monkeypatch.setattr(kafka_transport, "_IDLE_SECONDS", 0.5)
    wait_for(lambda: transport.gather(0.3, 10) == [] and list(owed(settings)) == [3], 10, "the debt")
    publish_all(settings)
    assert [each.inbox_sequence for each in gather(transport, range(3, 4))] == [3]


def test_while_the_broker_is_away_nothing_is_announced(settings):
    away = KafkaTransport(settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"}))
    assert away.gather(0.5, 10) == []
    assert "kafka" in away.trouble
    away.close()


def test_without_a_broker_it_says_what_to_set(settings):
    with pytest.raises(ConfigurationError, match="CUFF_KAFKA_BOOTSTRAP"):
        KafkaTransport(settings.model_copy(update={"kafka_bootstrap": ""}))
