"""What the door refused comes back after the mapping was mended: in the order of arrival, once, with a balanced ledger."""

from pathlib import Path

import pytest

from core.errors import InputError
from core.settings import Settings
from core.store import Payload, store_session
from ehr.ingest import ingest
from ehr.ledger import ledger_totals
from ehr.live.check import Checker
from ehr.live.inbox import Inbox
from ehr.live.mllp import FrameDecoder
from ehr.quarantine import list_quarantine
from ehr.replay import replay
from tests.ehr.landed import query
from tests.ehr.live.live_house import (
    AS_OF,
    consume_once,
    deliver_live,
    ledger_rows,
    message,
    open_reasons,
    patient,
    states,
)

MENDED = '[source.default]\ndefault_charset = "iso-8859-1"\n'


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> Settings:
    settings.sources_file = tmp_path / "sources.toml"
    return settings


def latin(control_id: str, sex: str = "F", number: str = "7") -> bytes:
    """A message whose name is no UTF-8, all of the same second."""
    return message(control_id, patient(number, name="Müller^Ann", sex=sex)).encode("latin-1")


def test_they_come_back_in_the_order_of_arrival_and_once(house: Settings, tmp_path: Path) -> None:
    deliver_live(house, [latin("m1", "F")])
    (tmp_path / "a.hl7").write_bytes(latin("m2", "M"))
    ingest(house, [tmp_path / "a.hl7"])
    deliver_live(house, [latin("m3", "F"), message("m4", patient("8")).encode(), latin("m5", "M")])
    deliver_live(house, [latin("m3", "F"), latin("m3", "F")])  # its sender tries again: the same answer, nothing more
    consume_once(house)
    assert open_reasons(house) == ["charset_mismatch"] * 4
    assert states(house) == {"quarantined": 3, "landed": 1}

    house.sources_file.write_text(MENDED)
    replayed = replay(house, reason_code="charset_mismatch")
    assert (replayed.payloads, replayed.tried, replayed.resolved, replayed.accepted) == (4, 4, 4, 4)
    assert query(house, "select inbox_sequence, gender from clinical.raw.hl7v2_patients order by inbox_sequence") == [
        (1, "female"), (2, "male"), (3, "female"), (4, "female"), (5, "male")]  # fmt: skip
    assert states(house) == {"landed": 4}
    assert ledger_rows(house) == [
        ("file", "hl7v2", 1, 1, 0, 0, 0), *[("message", "ADT^A04", 1, 1, 0, 0, 0)] * 4, ("message", "ADT^A04", 3, 1, 2, 0, 0)]
    assert all(line.balances for line in ledger_totals(house))
    assert list_quarantine(house) == []
    with store_session(house) as session:
        assert {payload.batch_id is not None for payload in session.query(Payload)} == {True}, "a build is due"
    with pytest.raises(InputError, match="no open quarantine entry"):
        replay(house)


def test_what_is_still_broken_stays_where_it_is(house: Settings) -> None:
    deliver_live(house, [latin("m1"), message("m2").encode()])
    house.sources_file.write_text(MENDED)
    before = len(ledger_rows(house))
    replayed = replay(house)
    assert (replayed.tried, replayed.resolved, replayed.accepted) == (2, 1, 1)
    assert open_reasons(house) == ["no_patient_identifier"]
    assert states(house) == {"landed": 1, "quarantined": 1}
    assert len(ledger_rows(house)) == before


def test_a_message_that_was_mended_and_sent_again_is_not_overtaken_by_its_refused_self(house: Settings) -> None:
    deliver_live(house, [latin("m1", "F")])
    deliver_live(house, [message("m1", patient("7", sex="M")).encode()])  # in ASCII, and corrected: accepted, waits
    house.sources_file.write_text(MENDED)
    assert replay(house).accepted == 0
    consume_once(house)
    assert query(house, "select gender from clinical.raw.hl7v2_patients") == [("male",)]
    assert open_reasons(house) == ["control_id_reused"]
    assert states(house) == {"landed": 1, "quarantined": 1}
    assert all(line.balances for line in ledger_totals(house))


def test_what_was_not_taken_whole_must_be_sent_again(house: Settings) -> None:
    stray = next(iter(FrameDecoder(1 << 20).feed(b"half a mess\x0b")))
    outside, _header = Checker(house).event(stray, "mllp")
    Inbox(house, AS_OF).store([outside])
    assert open_reasons(house) == ["outside_frame"]
    with pytest.raises(InputError, match="must be sent again"):
        replay(house)
    with pytest.raises(InputError, match="must be sent again"):
        replay(house, quarantine_id=list_quarantine(house)[0].quarantine_id)
    assert states(house) == {"quarantined": 1}
