"""The inbox on Postgres: the same answers as on SQLite, also when two processes store at the same moment."""

import random
import time
from collections import Counter
from datetime import date

import pytest
from sqlalchemy import select, text

from core.feed_tables import InboxEntry
from core.settings import Settings
from core.store import LedgerEntry, Payload, Quarantine, open_store, store_session
from ehr.live.check import Checker
from ehr.live.inbox import Inbox, Received, read_content
from tests.ehr.live.live_house import message, patient
from tests.postgres.processes import run_together

pytestmark = pytest.mark.postgres
AS_OF = date(2024, 3, 5)


def judged(settings: Settings, *contents: bytes) -> list[Received]:
    checker = Checker(settings)
    return [checker.hl7v2(content, "mllp") for content in contents]


def outcomes(settings: Settings, *contents: bytes) -> list[tuple[str, str | None]]:
    stored = Inbox(settings, AS_OF).store(judged(settings, *contents))
    return [(one.outcome, one.reject.reason_code if one.reject else None) for one in stored]


def adt(number: str, name: str = "Doe^Ann") -> bytes:
    return message(number, patient("17", name)).encode()


def store_the_same_numbers(settings: Settings, name: str, seed: int) -> Counter[str]:
    """Ten groups of ten messages, in an order of its own; ``name`` makes the content another's."""
    numbers = random.Random(seed).sample(range(100), 100)
    inbox, told = Inbox(settings, AS_OF), Counter[str]()
    for start in range(0, 100, 10):
        contents = [adt(str(number), name if number % 2 else "Doe^Ann") for number in numbers[start:start + 10]]
        told.update(one.outcome for one in inbox.store(judged(settings, *contents)))
        time.sleep(0.01)
    return told


def test_new_repeated_and_refused(house):
    mine, faulty = adt("1"), message("2", "PID|1||").encode()
    first = outcomes(house, mine, mine, faulty, adt("1", "Roe^Ann"))
    assert first == [("new", None), ("repeated", None), ("refused", "no_patient_identifier"), ("refused", "control_id_reused")]
    assert outcomes(house, mine, faulty) == [("repeated", None), ("repeated", "no_patient_identifier")]
    with store_session(house) as session:
        assert session.query(Quarantine).count() == 2
        assert session.query(LedgerEntry).count() == 5
        payload_id = session.scalars(select(Payload.payload_id).where(Payload.state == "received")).one()
    assert read_content(house, payload_id) == mine


@pytest.mark.parametrize("content", [
    b"MSH|^~\\&|\x00A|B\x00|||2024||ADT^A0\x00|7\x00|P|2.5\rPID|1||\x00\r", b"\x00", b"\xff\xfe\x00M",
])  # fmt: skip
def test_bytes_that_postgres_keeps_in_no_text_are_stored(house, content):
    stored, = outcomes(house, content)
    assert stored[0] == "refused"
    assert outcomes(house, content)[0][0] == "repeated"


def test_two_processes_that_store_at_once_take_each_number_once(house):
    open_store(house)
    told = run_together(store_the_same_numbers, (house, "Doe^Mary", 1), (house, "Doe^Eve", 2))
    # 50 messages are the same bytes, 50 have the number alone in common.
    assert told[0] + told[1] == Counter(new=100, repeated=50, refused=50)
    with store_session(house) as session:
        keys = session.scalars(select(InboxEntry.message_key).where(InboxEntry.message_key.is_not(None))).all()
    assert len(keys) == len(set(keys)) == 100


def test_a_group_is_stored_whole_or_not_at_all(house):
    inbox = Inbox(house, AS_OF)
    inbox.store(judged(house, adt("0")))
    with open_store(house).begin() as connection:
        connection.execute(text("alter table feed_hours rename to elsewhere"))
    with pytest.raises(Exception, match="feed_hours"):
        inbox.store(judged(house, adt("1"), adt("2")))
    with open_store(house).begin() as connection:
        assert connection.execute(text("select count(*) from inbox")).scalar_one() == 1
        connection.execute(text("alter table elsewhere rename to feed_hours"))
    assert [one.outcome for one in inbox.store(judged(house, adt("1")))] == ["new"]
