"""The inbox over a real SQLite file: what is told is durable, counted once, and nothing is there after a failure."""

import hashlib
import random
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from core.errors import ArchiveError
from core.feed_tables import FeedHour, InboxEntry, KafkaPosition
from core.settings import Settings
from core.store import LedgerEntry, Payload, Quarantine, open_store, store_session
from ehr.live.check import Checker
from ehr.live.inbox import Inbox, Received, Stored, read_content
from ehr.live.transport import Position
from ehr.records import Reject
from tests.ehr.live.live_house import message, patient

AS_OF = date(2024, 3, 5)
COUNTS = ("received", "accepted", "duplicate", "ignored", "quarantined")


@pytest.fixture
def inbox(settings: Settings):
    inbox = Inbox(settings, AS_OF)
    yield inbox
    inbox.close()


@pytest.fixture
def judge(settings: Settings):
    checker = Checker(settings)
    return lambda number, *segments, **header: checker.hl7v2(
        message(number, *(segments or (patient("17"),)), **header).encode(), "mllp")


def table(settings: Settings, model):
    with store_session(settings) as session:
        return session.scalars(select(model)).all()


def outcomes(stored: list[Stored]) -> list[tuple[str, str | None]]:
    return [(one.outcome, one.reject.reason_code if one.reject else None) for one in stored]


def ledger(settings: Settings) -> Counter[str]:
    total: Counter[str] = Counter()
    for entry in table(settings, LedgerEntry):
        total.update({name: getattr(entry, name) for name in COUNTS})
    return total


def everything(settings: Settings) -> list[list]:
    """All rows that the inbox writes."""
    with open_store(settings).connect() as connection:
        return [connection.execute(text(f"select * from {name} order by 1, 2")).fetchall()
                for name in ("payloads", "inbox", "quarantine", "ledger", "feed_hours", "kafka_positions")]


def test_a_message_is_a_payload_with_its_sealed_bytes_and_a_number(settings, inbox, judge):
    first, second = inbox.store([judge("1"), judge("2")])
    assert outcomes([first, second]) == [("new", None)] * 2
    assert first.inbox_sequence < second.inbox_sequence
    payload = next(row for row in table(settings, Payload))
    assert (payload.state, payload.as_of, payload.source_id, payload.format) == ("received", AS_OF, "default", "hl7v2")
    content = judge("1").content
    assert payload.payload_id == hashlib.sha256(content).hexdigest()
    assert payload.size_bytes == len(content)
    assert read_content(settings, payload.payload_id) == content
    entry = next(row for row in table(settings, InboxEntry))
    assert entry.feed == "mllp"
    assert entry.message_key is not None
    assert entry.partition_key is not None
    assert b"Doe" not in entry.content
    assert table(settings, LedgerEntry) == []  # landing counts it


def test_one_person_has_one_partition_whatever_the_message(settings, inbox, judge):
    inbox.store([judge("1"), judge("2", patient("17", name="Roe^Ann")), judge("3", patient("18"))])
    mine, also_mine, other = (row.partition_key for row in table(settings, InboxEntry))
    assert mine == also_mine != other


def test_the_same_bytes_again_add_a_line_to_the_ledger_and_nothing_else(settings, inbox, judge):
    first, in_group = inbox.store([judge("1"), judge("1")])
    later, = inbox.store([judge("1")])
    assert outcomes([first, in_group, later]) == [("new", None), ("repeated", None), ("repeated", None)]
    assert first.inbox_sequence == in_group.inbox_sequence == later.inbox_sequence
    assert len(table(settings, Payload)) == len(table(settings, InboxEntry)) == 1
    assert ledger(settings) == Counter(received=2, duplicate=2)
    assert all(entry.batch_id is None for entry in table(settings, LedgerEntry))


@pytest.mark.parametrize("group_sizes", [(2,), (1, 1)])
def test_a_number_used_for_other_content_is_quarantined_and_never_merged(settings, inbox, judge, group_sizes):
    changed = judge("1", patient("17", name="Roe^Ann"))
    messages = [judge("1"), changed]
    stored = [one for size in group_sizes for one in inbox.store([messages.pop(0) for _ in range(size)])]
    assert outcomes(stored) == [("new", None), ("refused", "control_id_reused")]
    assert outcomes(inbox.store([changed, judge("1")])) == [("repeated", "control_id_reused"), ("repeated", None)]
    quarantined, = table(settings, Quarantine)
    assert (quarantined.reason_code, quarantined.locator) == ("control_id_reused", "message 1 MSH-10")
    assert read_content(settings, quarantined.payload_id) == changed.content
    assert {row.state for row in table(settings, Payload)} == {"received", "quarantined"}


def test_another_sender_may_use_the_same_number(inbox, judge):
    stored = inbox.store([judge("1"), judge("1", facility="OTHER")])
    assert outcomes(stored) == [("new", None), ("new", None)]


def test_a_refused_message_is_quarantined_with_its_place_and_its_number_may_be_used_by_the_mended_one(settings, inbox, judge):
    faulty = judge("1", "PID|1||")
    assert outcomes(inbox.store([faulty])) == [("refused", "no_patient_identifier")]
    assert outcomes(inbox.store([judge("1"), faulty])) == [("new", None), ("repeated", "no_patient_identifier")]
    quarantined, = table(settings, Quarantine)
    assert (quarantined.reason_code, quarantined.locator) == ("no_patient_identifier", "message 1 PID-3")
    assert ledger(settings) == Counter(received=2, quarantined=1, duplicate=1)


def test_rubbish_has_a_place_in_the_ledger(settings, inbox):
    reject = Reject("message", "unknown", "between frames", "outside_frame", "bytes outside a frame")
    rubbish = Received(b"GET / HTTP/1.1\x00\xff", "unknown", "default", "mllp", "message", "unknown", reject=reject)
    assert outcomes(inbox.store([rubbish, rubbish])) == [("refused", "outside_frame"), ("repeated", "outside_frame")]
    assert read_content(settings, table(settings, Quarantine)[0].payload_id) == rubbish.content
    assert ledger(settings) == Counter(received=2, quarantined=1, duplicate=1)


def test_what_was_refused_for_its_sender_is_taken_from_the_right_one(settings, inbox, judge):
    mine = judge("1")
    reject = Reject("message", mine.type, "message 1 MSH-4", "certificate_mismatch", "another's certificate")
    stolen = Received(mine.content, "hl7v2", "default", "mllp", "message", mine.type, None, mine.partition_key, reject)
    assert outcomes(inbox.store([stolen, mine, stolen])) == [
        ("refused", "certificate_mismatch"), ("new", None), ("repeated", "certificate_mismatch")]
    assert outcomes(inbox.store([mine])) == [("repeated", None)]
    assert [row.state for row in table(settings, Payload)] == ["received"]
    assert [row.state for row in table(settings, Quarantine)] == ["replayed"]
    assert ledger(settings)["quarantined"] == 0


def test_the_hours_of_each_feed_are_counted_with_the_messages(settings, inbox, judge):
    inbox.store([judge("1"), judge("1"), judge("2", "PID|1||")])
    inbox.store([judge("3")])
    hours = table(settings, FeedHour)
    assert sum(hour.received for hour in hours) == 4
    assert {(hour.source_id, hour.feed) for hour in hours} == {("default", "mllp")}
    for column, number in (("accepted", 2), ("repeated", 1), ("refused", 1)):
        assert sum(getattr(hour, column) for hour in hours) == number
    assert all(hour.hour_at.minute == 0 and hour.last_at >= hour.hour_at for hour in hours)


def test_positions_move_in_the_same_transaction(settings, inbox, judge):
    inbox.store([judge("1")], [Position("adt", 0, 7)])
    inbox.store([judge("2")], [Position("adt", 0, 9), Position("adt", 1, 2)])
    assert {(row.topic, row.partition, row.next_offset) for row in table(settings, KafkaPosition)} == {
        ("adt", 0, 9), ("adt", 1, 2)}


def test_without_a_day_messages_belong_to_the_day_they_arrived(settings, judge):
    before = datetime.now(UTC).date()
    Inbox(settings).store([judge("1")])
    assert before <= table(settings, Payload)[0].as_of <= datetime.now(UTC).date()


def test_every_commit_is_synced(settings, inbox, judge):
    inbox.store([judge("1")])
    connection = inbox._tables._connection
    assert connection.exec_driver_sql("pragma synchronous").scalar() == 2
    assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"


def test_a_full_database_stores_nothing_of_a_group_and_goes_on_when_there_is_room(settings, inbox, judge):
    inbox.store([judge("0")], [Position("adt", 0, 1)])
    before = everything(settings)
    connection = inbox._tables._connection
    pages = connection.exec_driver_sql("pragma page_count").scalar()
    connection.exec_driver_sql(f"pragma max_page_count = {pages + 8}")
    connection.commit()
    large = [judge(str(nth), patient("17"), f"NTE|1||{random.Random(nth).randbytes(9000).hex()}") for nth in range(1, 9)]
    group = [judge("1", "PID|1||"), judge("0"), *large]
    with pytest.raises(OperationalError, match="full"):
        inbox.store(group, [Position("adt", 0, 2)])
    assert everything(settings) == before
    assert [one.outcome for one in inbox.store(group, [Position("adt", 0, 2)])] == ["refused", "repeated", *["new"] * 8]
    assert table(settings, KafkaPosition)[0].next_offset == 2


def test_a_locked_database_stores_nothing_and_goes_on_when_it_is_free(settings, inbox, judge, monkeypatch):
    monkeypatch.setattr("ehr.live.inbox_rows._BUSY_MILLISECONDS", 50)
    inbox.store([judge("0")])
    with open_store(settings).connect() as other:
        other.exec_driver_sql("begin immediate")
        with pytest.raises(OperationalError, match="locked"):
            inbox.store([judge("1")])
        other.rollback()
    assert len(table(settings, InboxEntry)) == 1
    assert outcomes(inbox.store([judge("1")])) == [("new", None)]


def test_a_failure_in_the_middle_of_a_transaction_leaves_nothing(settings, inbox, judge):
    inbox.store([judge("0")])
    before = everything(settings)
    with open_store(settings).begin() as connection:
        connection.execute(text("create trigger stop before insert on feed_hours begin select raise(abort, 'no'); end"))
    with pytest.raises(Exception, match="no"):
        inbox.store([judge("1"), judge("2", "PID|1||")])
    assert everything(settings) == before
    with open_store(settings).begin() as connection:
        connection.execute(text("drop trigger stop"))
    assert outcomes(inbox.store([judge("1")])) == [("new", None)]


def test_two_inboxes_take_turns_and_number_in_one_row(settings, judge):
    mine, other = Inbox(settings, AS_OF), Inbox(settings, AS_OF)
    numbers = [inbox.store([judge(f"{turn}{name}")])[0].inbox_sequence
               for turn in range(5) for name, inbox in (("a", mine), ("b", other))]  # fmt: skip
    assert numbers == sorted(set(numbers))
    assert outcomes(other.store([judge("0a")])) == [("repeated", None)]


def test_content_that_was_changed_on_disk_is_not_given_out(settings, inbox, judge):
    inbox.store([judge("1")])
    payload_id = table(settings, Payload)[0].payload_id
    with open_store(settings).begin() as connection:
        connection.execute(text("update inbox set content = zeroblob(80)"))
    with pytest.raises(ArchiveError, match="restore the ops database"):
        read_content(settings, payload_id)
    with pytest.raises(ArchiveError):
        read_content(settings, "0" * 64)


def test_a_database_file_that_was_replaced_is_opened_anew(settings, inbox, judge, tmp_path: Path):
    inbox.store([judge("1")])
    with open_store(settings).connect() as connection:
        connection.exec_driver_sql("pragma wal_checkpoint(truncate)")
    inbox.close()
    open_store(settings).dispose()
    file = settings.var / "ops.db"
    copy = tmp_path / "copy.db"
    copy.write_bytes(file.read_bytes())
    inbox.store([judge("2")])
    open_store(settings).dispose()
    for name in ("ops.db-wal", "ops.db-shm"):
        (settings.var / name).unlink(missing_ok=True)
    copy.rename(file)
    assert outcomes(inbox.store([judge("2")])) == [("new", None)]  # the copy never heard of it
