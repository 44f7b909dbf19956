"""When landing fails: nothing moves by halves, what is away is waited for, and one bad message does not stop the others."""

import shutil
import threading
import time
from collections.abc import Callable

import duckdb
import pytest
from sqlalchemy import select

from core.feed_tables import KafkaPosition
from core.lake import write_lake, writer_lock
from core.settings import Settings
from core.store import Batch, store_session
from ehr.hl7v2 import batch as hl7_batch
from ehr.ledger import ledger_totals
from ehr.live.consume import Consumer, is_of_a_message, make_transport
from ehr.live.lander import Lander
from ehr.live.transport import InboxTransport, Position
from tests.ehr.landed import query
from tests.ehr.live.live_house import consume_once, deliver_live, message, open_reasons, patient, states


def test_a_position_moves_with_the_ledger_or_not_at_all(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def positions() -> list[tuple[str, int, int]]:
        with store_session(settings) as session:
            return [(p.topic, p.partition, p.next_offset) for p in session.scalars(select(KafkaPosition))]

    deliver_live(settings, [message("m1", patient("1")).encode()])
    lander, announced = Lander(settings), InboxTransport(settings).gather(0, 10)
    with monkeypatch.context() as broken:
        broken.setattr("ehr.batch._finish", lambda *_: 1 / 0)  # the transaction's last step
        with pytest.raises(ZeroDivisionError):
            lander.land(announced, [Position("t", 0, 7)])
    assert positions() == []
    assert states(settings) == {"received": 1}
    lander.land(announced, [Position("t", 0, 7)])
    assert positions() == [("t", 0, 7)]
    assert states(settings) == {"landed": 1}
    assert query(settings, "select count(*) from clinical.raw.hl7v2_messages") == [(1,)]
    lander.land(announced, [Position("t", 0, 9), Position("t", 1, 2)])  # a redelivery
    assert positions() == [("t", 0, 9), ("t", 1, 2)]
    assert query(settings, "select count(*) from clinical.raw.landings") == [(1,)]
    lander.close()


def test_a_batch_that_never_reached_the_lake_is_taken_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver_live(settings, [message("m1", patient("1")).encode()])
    lander, announced = Lander(settings), InboxTransport(settings).gather(0, 10)
    with monkeypatch.context() as broken:
        broken.setattr("ehr.landing.insert_rows", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lander.land(announced)
    lander.land(announced)
    lander.close()
    with store_session(settings) as session:
        assert [batch.finished_at is not None for batch in session.scalars(select(Batch))] == [True]
    assert query(settings, "select count(*) from clinical.raw.hl7v2_messages") == [(1,)]


def test_one_message_that_the_reader_ends_on_is_set_aside_and_the_others_land(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver_live(settings, [message(f"m{n}", patient(str(n))).encode() for n in range(9)])
    read = hl7_batch.parse_payload

    def stumbling(data: bytes, *rest: object) -> object:
        if b"|m5|" in data:
            raise RecursionError
        return read(data, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(hl7_batch, "parse_payload", stumbling)
        consumed = consume_once(settings)
    assert (consumed.payloads, consumed.quarantined) == (8, 1)
    assert open_reasons(settings) == ["reader_failed"]
    assert states(settings) == {"landed": 8, "quarantined": 1}
    assert all(line.balances for line in ledger_totals(settings))


def running(consumer: Consumer) -> threading.Thread:
    thread = threading.Thread(target=consumer.run)
    thread.start()
    return thread


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_busy_lake_is_waited_for(settings: Settings) -> None:
    settings.lake_lock_timeout_seconds = 0.2
    deliver_live(settings, [message("m1", patient("1")).encode()])
    consumer = Consumer(settings, make_transport(settings))
    with writer_lock(settings):
        thread = running(consumer)
        until(lambda: consumer.consumed.failures >= 2)
        assert consumer.not_ready() == {"lake": "another process writes it"}
        assert states(settings) == {"received": 1}
    until(lambda: consumer.consumed.payloads == 1)
    until(lambda: not consumer.not_ready())
    consumer.stop.set()
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_a_lake_that_is_away_is_waited_for(settings: Settings) -> None:
    with write_lake(settings):
        pass
    catalog = settings.lake_dir / "clinical.sqlite"
    shutil.move(catalog, settings.var / "kept")
    catalog.mkdir()  # no catalog can be opened there
    deliver_live(settings, [message("m1", patient("1")).encode()])
    consumer = Consumer(settings, make_transport(settings))
    thread = running(consumer)
    until(lambda: consumer.consumed.failures >= 2)
    assert "landing" in consumer.not_ready()
    catalog.rmdir()
    shutil.move(settings.var / "kept", catalog)
    until(lambda: consumer.consumed.payloads == 1)
    consumer.stop.set()
    thread.join(timeout=20)
    assert states(settings) == {"landed": 1}


@pytest.mark.parametrize(("error", "expected"), [
    (duckdb.ConversionException("x"), True), (KeyError("x"), True), (UnicodeDecodeError("utf-8", b"", 0, 1, "x"), True),
    (duckdb.IOException("x"), False), (duckdb.OutOfMemoryException("x"), False), (OSError(), False),
])  # fmt: skip
def test_a_fault_of_a_message_is_told_from_one_of_its_surroundings(error: Exception, expected: bool) -> None:
    assert is_of_a_message(error) is expected
