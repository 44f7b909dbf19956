"""The whole road, inbox to lake: with Kafka between, with a broker that dies, and without; the rows are the same."""

from threading import Thread

import pytest

from core.lake import read_lake
from core.settings import Settings
from ehr.ledger import ledger_totals
from ehr.live.broker import DEAD_LETTERS
from ehr.live.consume import Consumer, make_transport
from ehr.live.inbox import Inbox
from ehr.records import Reject
from tests.conftest import make_settings
from tests.kafka.broker import Broker
from tests.kafka.live_house import Relaying, arrive, on_topic, publish_all, received, states, wait_for


def landed_rows(settings: Settings) -> list[tuple]:
    with read_lake(settings, ["clinical"]) as lake:
        return lake.execute("select inbox_sequence, source_id, record_key, content_hash, person_key "
                            "from clinical.raw.hl7v2_messages order by all").fetchall()


def consume_all(settings: Settings) -> None:
    Consumer(settings, make_transport(settings), once=True).run()


@pytest.mark.slow
def test_with_a_broker_that_is_killed_the_rows_are_those_of_the_inbox(settings, our_broker: Broker, tmp_path):
    refused = Reject("message", "ADT^A08", "message 1 PID-3", "no_patient_identifier", "PID-3 is empty")
    direct = make_settings(tmp_path / "direct" / "var")
    for house in (settings, direct):
        arrive(house, range(40))
        Inbox(house).store([received(house, 500, reject=refused)])
    arrive(direct, range(40, 80))
    consume_all(direct)

    consumer = Consumer(settings, make_transport(settings))
    thread = Thread(target=consumer.run)
    with Relaying(settings):
        thread.start()
        wait_for(lambda: "landed" in states(settings), 40, "the first landing")
        our_broker.kill()
        arrive(settings, range(40, 80))
        our_broker.start()
        wait_for(lambda: "received" not in states(settings), 60, "the last landing")
        wait_for(lambda: not consumer.not_ready(), 20, "the consumer's readiness")
    consumer.stop.set()
    thread.join(30)
    assert len(landed_rows(settings)) == 80
    assert landed_rows(settings) == landed_rows(direct)
    assert ledger_totals(settings) == ledger_totals(direct)
    assert len(on_topic(settings, DEAD_LETTERS)) == 1


def test_once_lands_what_waits_and_passes_over_what_has_landed(settings):
    arrive(settings, range(5))
    publish_all(settings)
    consume_all(settings)
    assert states(settings) == ["landed"] * 5
    arrive(settings, range(5, 8))
    publish_all(settings)
    consume_all(settings)
    assert states(settings) == ["landed"] * 8
    assert [line.accepted for line in ledger_totals(settings)] == [8]
