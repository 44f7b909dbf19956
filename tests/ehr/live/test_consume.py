"""Live payloads land by the road that files take: same rows, same quarantine, same ledger, once."""

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from core.feed_tables import InboxEntry
from core.lake import read_lake, write_lake
from core.maintenance import tidy_landing
from core.publication import finish_build, publish, start_build
from core.settings import Settings
from core.store import Payload, store_session
from ehr.ingest import ingest
from ehr.ledger import ledger_totals
from ehr.live.lander import Lander
from ehr.live.transport import InboxTransport, waiting_entries
from tests.conftest import make_settings
from tests.ehr.landed import query
from tests.ehr.live.histories import (
    Names,
    known_at_the_end,
    landed_at_the_end,
    landed_facts,
    person_histories,
    round_robin,
    told_facts,
)
from tests.ehr.live.live_house import (
    consume_once,
    deliver_live,
    ledger_rows,
    message,
    open_reasons,
    patient,
    post_fhir,
    raw_rows,
    states,
)

PATIENT = {"resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1960-01-01",
           "meta": {"lastUpdated": "2024-03-01T10:00:00Z"}}  # fmt: skip
READING = {"resourceType": "Observation", "id": "o1", "status": "final", "effectiveDateTime": "2024-03-01",
           "meta": {"lastUpdated": "2024-03-01T10:00:00Z"}, "subject": {"reference": "Patient/p1"},
           "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
           "valueQuantity": {"value": 120, "unit": "mmHg"}}  # fmt: skip


def test_histories_land_as_a_careful_clerk_would_have_written_them_down(settings: Settings) -> None:
    settings.consume_messages = 37  # many micro-batches, cutting histories anywhere
    histories = person_histories(20, events=12)
    deliver_live(settings, [event.content for event in round_robin(histories)])
    consumed = consume_once(settings)
    assert (consumed.payloads, consumed.quarantined) == (240, 0)
    assert consumed.batches == 7
    names = Names(settings, histories)
    assert landed_facts(settings, names) == told_facts(histories)
    assert landed_at_the_end(settings, names) == known_at_the_end(histories)
    assert states(settings) == {"landed": 240}
    assert all(line.balances for line in ledger_totals(settings))


@pytest.mark.slow
def test_a_message_gives_the_same_rows_live_and_in_a_file_and_the_second_time_none(
    settings: Settings, tmp_path: Path
) -> None:
    contents = [event.content for event in round_robin(person_histories(6, events=8))]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": PATIENT}, {"resource": READING}]}
    deliver_live(settings, contents)
    post_fhir(settings, [PATIENT, READING])
    consume_once(settings)

    files = tmp_path / "files"
    files.mkdir()
    (files / "feed.hl7").write_bytes(b"".join(contents))
    (files / "bundle.json").write_text(json.dumps(bundle))
    other = make_settings(tmp_path / "other")
    ingest(other, [files])
    assert raw_rows(settings) == raw_rows(other)
    assert sum(raw_rows(other)["hl7v2_messages"].values()) == 48

    before = raw_rows(settings)
    again = ingest(settings, [files])
    assert again.balanced
    assert raw_rows(settings) == before
    units = [line for line in again.ledger if line.unit != "file"]
    assert {(line.accepted, line.quarantined) for line in units} == {(0, 0)}
    assert sum(line.duplicate for line in units) == 50


def test_ledger_and_states_speak_of_messages_and_resources_not_of_files(settings: Settings) -> None:
    deliver_live(settings, [
        message("m1", patient("1")).encode(), message("m2", patient("2"), kind="SIU^S12").encode(),
        message("m3").encode(),  # nobody: refused at the door
    ])  # fmt: skip
    post_fhir(settings, [PATIENT, {**READING, "subject": {}}, {"resourceType": "Bundle", "type": "collection"}])
    consume_once(settings)
    assert ledger_rows(settings) == [
        ("message", "ADT^A04", 1, 0, 0, 0, 1), ("message", "ADT^A04", 1, 1, 0, 0, 0), ("message", "SIU^S12", 1, 0, 0, 1, 0),
        ("resource", "Observation", 1, 0, 0, 0, 1), ("resource", "Patient", 1, 1, 0, 0, 0)]  # fmt: skip
    assert states(settings) == {"landed": 4, "quarantined": 2}
    assert len(open_reasons(settings)) == 2
    with store_session(settings) as session:
        landed_in = {state for state, batch_id in session.execute(select(Payload.state, Payload.batch_id)) if batch_id}
    assert landed_in == {"landed", "quarantined"}, "what landing itself quarantined is of that batch"


def test_what_waits_is_the_consumers_whatever_a_file_ingest_finds(settings: Settings, tmp_path: Path) -> None:
    live = message("m1", patient("1")).encode()
    deliver_live(settings, [live])
    file = tmp_path / "a.hl7"
    file.write_bytes(live)  # the very bytes that wait
    summary = ingest(settings, [file])
    assert (summary.new_payloads, summary.duplicate_files) == (0, 1)
    assert states(settings) == {"received": 1}
    assert consume_once(settings).payloads == 1
    assert query(settings, "select count(*) from clinical.raw.hl7v2_messages") == [(1,)]
    assert all(line.balances for line in ledger_totals(settings))


def test_every_payload_has_its_place_in_the_order_of_arrival(settings: Settings, tmp_path: Path) -> None:
    deliver_live(settings, [message("m1", patient("1")).encode()])
    for name in ("b.hl7", "a.hl7"):
        (tmp_path / name).write_text(message(name, patient(name)))
    ingest(settings, [tmp_path / "b.hl7", tmp_path / "a.hl7"])
    deliver_live(settings, [message("m2", patient("2")).encode()])
    consume_once(settings)
    rows = query(settings, "select inbox_sequence, batch_id from clinical.raw.hl7v2_messages order by inbox_sequence")
    assert rows == [(1, 2), (2, 1), (3, 1), (4, 2)]
    assert query(settings, "select inbox_sequence from clinical.raw.landings order by 1") == [(1,), (2,), (3,), (4,)]
    with store_session(settings) as session:
        assert list(session.scalars(select(InboxEntry.feed).order_by(InboxEntry.inbox_sequence))) == [
            "mllp", "file", "file", "mllp"]  # fmt: skip


def test_what_others_land_between_two_micro_batches_is_known_to_the_open_connection(
    settings: Settings, tmp_path: Path
) -> None:
    lander, transport = Lander(settings), InboxTransport(settings)
    deliver_live(settings, [message("m1", patient("1")).encode()])
    lander.land(transport.gather(0, 10))
    transport.landed()
    for name, kind in (("a", "ADT^A04"), ("b", "ADT^A08")):
        (tmp_path / f"{name}.hl7").write_text("FHS|^~\\&|a\r" + message(name, patient("7"), kind=kind))
    ingest(settings, [tmp_path / "a.hl7", tmp_path / "b.hl7"])
    deliver_live(settings, [
        message("a", patient("7")).encode(),  # as in the file
        message("b", patient("7"), kind="ADT^A31").encode(),  # the file's control id, other content
        message("m2", patient("2")).encode()])  # fmt: skip
    landed = lander.land(transport.gather(0, 10))
    lander.close()
    assert (landed.payloads, landed.quarantined) == (3, 1)
    assert open_reasons(settings) == ["control_id_reused"]
    assert query(settings, "select count(*) from clinical.raw.hl7v2_messages") == [(4,)]
    assert states(settings) == {"landed": 3, "quarantined": 1}


@pytest.mark.slow
def test_tidying_merges_small_files_and_leaves_what_is_published_readable(settings: Settings) -> None:
    lander, transport = Lander(settings), InboxTransport(settings)

    def land(first: int, last: int) -> None:
        for n in range(first, last):
            deliver_live(settings, [message(f"m{n}", patient(str(n))).encode()])
            lander.land(transport.gather(0, 10))
            transport.landed()

    def count(version: int) -> int:
        with read_lake(settings, ("clinical",)) as lake:
            sql = f"select count(*) from clinical.raw.hl7v2_messages at (version => {version})"
            return lake.execute(sql).fetchall()[0][0]

    land(0, 6)
    built = finish_build(settings, start_build(settings).build_id, "hash")
    publish(settings, built.build_id, "test")
    land(6, 12)
    lander.tidy()
    files = "select file_count from ducklake_table_info('clinical') where table_name = 'hl7v2_messages'"
    assert query(settings, files) == [(1,)]
    land(12, 14)
    lander.tidy()
    assert built.clinical_snapshot is not None
    assert count(built.clinical_snapshot) == 6
    assert query(settings, "select count(*) from clinical.raw.hl7v2_messages") == [(14,)]
    with write_lake(settings) as lake:  # a day later nobody asks for the snapshots in between
        lake.execute("update __ducklake_metadata_clinical.ducklake_snapshot set snapshot_time = now() - interval 2 day")
        before = lake.execute("select count(*) from ducklake_snapshots('clinical')").fetchall()[0][0]
        tidy_landing(settings, lake)
        tidy_landing(settings, lake)
        after = lake.execute("select count(*) from ducklake_snapshots('clinical')").fetchall()[0][0]
    assert after < before / 2
    assert count(built.clinical_snapshot) == 6
    assert query(settings, "select count(*) from clinical.raw.hl7v2_messages") == [(14,)]
    lander.close()


def test_the_inbox_tells_what_waits_in_order_and_in_pieces(settings: Settings) -> None:
    deliver_live(settings, [message(f"m{n}", patient(str(n))).encode() for n in range(5)])
    transport = InboxTransport(settings)
    assert [each.inbox_sequence for each in transport.gather(0, 3)] == [1, 2, 3]
    assert [each.inbox_sequence for each in transport.gather(0, 3)] == [4, 5]
    assert transport.gather(0, 3) == []
    transport.forget()
    assert [each.inbox_sequence for each in transport.gather(0, 9)] == [1, 2, 3, 4, 5]
    number, oldest_seconds = waiting_entries(settings)
    assert number == 5
    assert 0 <= oldest_seconds < 60
