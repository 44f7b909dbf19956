"""The relay against a real broker: order per person, nothing lost, nothing readable, whoever dies."""

from collections import defaultdict
from itertools import chain

import pytest
from sqlalchemy import update

from core.feed_tables import InboxEntry
from core.keys import unseal
from core.store import Payload, Quarantine, store_session
from ehr.live.broker import DEAD_LETTERS, FHIR, HL7V2, KINDS, make_topics, read_headers, topic_name
from ehr.live.inbox import Inbox, Received
from ehr.live.relay import Relay, publish_again
from ehr.records import Reject
from tests.kafka.broker import Broker
from tests.kafka.live_house import CANARY, Relaying, arrive, message, on_topic, owed, publish_all, received, wait_for


def sequences_by_person(messages) -> dict[bytes, list[int]]:
    found = defaultdict(list)
    for each in messages:
        found[each.key()].append(int(read_headers(each)["inbox_sequence"]))
    return found


def test_topics_are_made_once(settings):
    assert make_topics(settings) == set(KINDS)
    assert make_topics(settings) == set()


def test_one_persons_messages_stay_in_order(settings):
    arrive(settings, range(60))
    assert publish_all(settings) == 60
    messages = on_topic(settings, HL7V2)
    assert len({each.partition() for each in messages}) > 1
    by_person = sequences_by_person(messages)
    assert len(by_person) == 5
    for sequences in by_person.values():
        assert sequences == sorted(sequences)
        assert len(sequences) == 12
    assert sorted(chain.from_iterable(by_person.values())) == list(range(1, 61))
    assert publish_all(settings) == 0


def test_the_envelope_says_what_it_is_and_nothing_of_the_patient(settings):
    stored, = Inbox(settings).store([received(settings, 7)])
    publish_all(settings)
    only, = on_topic(settings, HL7V2)
    headers = read_headers(only)
    assert headers == {"inbox_sequence": str(stored.inbox_sequence), "payload_id": headers["payload_id"],
                       "source_id": "simulated", "format": "hl7v2"}
    assert only.key() == received(settings, 7).partition_key.encode()
    assert unseal(b"0123456789abcdef0123456789abcdef", only.value(), headers["payload_id"]) == message(7)


def test_fhir_has_a_topic_of_its_own(settings):
    Inbox(settings).store([Received(b'{"resourceType": "Patient"}', "fhir", "default", "http", "resource", "Patient")])
    publish_all(settings)
    assert [read_headers(each)["format"] for each in on_topic(settings, FHIR)] == ["fhir"]
    assert on_topic(settings, HL7V2) == []


def test_what_is_too_large_for_a_broker_is_announced_without_its_bytes(settings):
    large = message(1) + b"NTE|1||" + b"x" * 2_000_000 + b"\r"
    Inbox(settings).store([Received(large, "hl7v2", "simulated", "mllp", "message", "ADT^A08", partition_key="ab")])
    publish_all(settings)
    only, = on_topic(settings, HL7V2)
    assert only.value() is None
    assert only.key() == b"ab"


def test_a_reject_is_a_dead_letter_with_the_reason_in_headers(settings):
    reject = Reject("message", "ADT^A08", "message 1 PID-3", "no_identifier", "PID-3 is empty")
    Inbox(settings).store([received(settings, 1), received(settings, 2, reject=reject)])
    assert publish_all(settings) == 3  # an entry, an entry that needs no announcement, a reject
    letter, = on_topic(settings, DEAD_LETTERS)
    headers = read_headers(letter)
    with store_session(settings) as session:
        row = session.query(Quarantine).one()
        assert row.published_at is not None
    assert headers == {
        "reason_code": "no_identifier", "locator": "message 1 PID-3", "unit": "message", "type": "ADT^A08",
        "source_id": "simulated", "payload_id": row.payload_id, "inbox_sequence": "2", "quarantine_id": row.quarantine_id,
    }
    assert unseal(b"0123456789abcdef0123456789abcdef", letter.value(), row.payload_id) == message(2)
    assert len(on_topic(settings, HL7V2)) == 1


def test_a_reject_of_landing_is_a_dead_letter_and_one_of_a_file_is_none(settings):
    arrive(settings, range(1))
    publish_all(settings)
    with store_session(settings) as session:
        live = session.query(Payload).one()
        session.add(Payload(payload_id="f" * 64, source_id="default", format="hl7v2", name_sealed=b"", size_bytes=1,
                            archive_name="ff/f.zst.aes", as_of=live.as_of, state="landed"))
        for number, payload_id in enumerate([live.payload_id, "f" * 64]):
            session.add(Quarantine(quarantine_id=f"q{number}", payload_id=payload_id, source_id="default", unit="message",
                                   type="ADT^A08", locator="message 1", reason_code="identity_conflict"))
    assert publish_all(settings) == 2
    assert [read_headers(each)["quarantine_id"] for each in on_topic(settings, DEAD_LETTERS)] == ["q0"]
    assert publish_all(settings) == 0


def test_what_landed_before_kafka_was_on_is_not_announced(settings):
    arrive(settings, range(3))
    with store_session(settings) as session:
        session.execute(update(Payload).values(state="landed"))
    assert publish_all(settings) == 3
    assert on_topic(settings, HL7V2) == []


def test_from_a_sequence_on_it_can_be_published_again(settings):
    arrive(settings, range(10))
    Inbox(settings).store([received(settings, 50, reject=Reject("message", "ADT^A08", "message 1", "no_identifier"))])
    publish_all(settings)
    with store_session(settings) as session:
        landed = session.query(InboxEntry).filter_by(inbox_sequence=9).one()
        session.execute(update(Payload).where(Payload.payload_id == landed.payload_id).values(state="landed"))
    assert publish_again(settings, from_sequence=8) == 3  # 8 and 10, not 9 which landed; the dead letter of 11
    assert sorted(owed(settings)) == [8, 10]
    publish_all(settings)
    assert len(on_topic(settings, HL7V2)) == 12
    assert len(on_topic(settings, DEAD_LETTERS)) == 2


def test_nothing_on_the_brokers_disk_can_be_read(settings, our_broker: Broker):
    reject = Reject("message", "ADT^A08", "message 1 PID-3", "no_identifier", "PID-3 is empty")
    Inbox(settings).store([received(settings, 1), received(settings, 2, reject=reject)])
    publish_all(settings)
    segments = [path.read_bytes() for path in our_broker.data.glob(f"{settings.kafka_prefix}*/*.log")]
    assert any(b"inbox_sequence" in segment for segment in segments), "the headers are there to be found"
    for word in (CANARY, "M00000", "Ada", "19600102"):
        assert not any(word.encode() in segment for segment in segments), word


@pytest.mark.slow
def test_a_broker_killed_in_the_middle_loses_and_doubles_nothing(settings, our_broker: Broker):
    with Relaying(settings):
        arrive(settings, range(200))
        wait_for(lambda: len(list(owed(settings))) < 200, 20, "the first acknowledgement")
        our_broker.kill()
        arrive(settings, range(200, 400))
        our_broker.start()
        arrive(settings, range(400, 600))
        wait_for(lambda: not list(owed(settings)), 40, "the last acknowledgement")
    by_person = sequences_by_person(on_topic(settings, HL7V2))
    assert sorted(chain.from_iterable(by_person.values())) == list(range(1, 601))
    assert all(sequences == sorted(sequences) for sequences in by_person.values())


@pytest.mark.slow
def test_a_broker_that_lost_its_disk_is_given_everything_again(settings, our_broker: Broker):
    with Relaying(settings):
        arrive(settings, range(20))
        wait_for(lambda: not list(owed(settings)), 20, "the first acknowledgement")
        our_broker.wipe()
        our_broker.start()
        arrive(settings, range(20, 30))
        wait_for(lambda: not list(owed(settings)), 40, "the last acknowledgement")
        wait_for(lambda: len(on_topic(settings, HL7V2)) >= 30, 20, "what was lost")
    assert {int(read_headers(each)["inbox_sequence"]) for each in on_topic(settings, HL7V2)} == set(range(1, 31))


def test_while_the_broker_is_away_the_relay_is_not_ready_and_keeps_what_it_owes(settings):
    away = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    arrive(away, range(3))
    with Relaying(away) as relay:
        wait_for(lambda: relay.trouble.get("kafka") not in (None, "not reached yet"), 20, "the failure")
    assert len(list(owed(away))) == 3
    assert publish_all(settings) == 3


def test_without_a_broker_it_says_what_to_set(settings):
    from core.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="CUFF_KAFKA_BOOTSTRAP"):
        Relay(settings.model_copy(update={"kafka_bootstrap": ""})).publish()


def test_topics_bear_the_prefix(settings):
    assert topic_name(settings.model_copy(update={"kafka_prefix": "cuff"}), HL7V2) == "cuff.hl7v2.v1"
