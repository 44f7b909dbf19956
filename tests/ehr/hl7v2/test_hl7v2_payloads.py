"""Payloads as a whole: what is no HL7, what is cut off, what is packed, and what goes to the lake's side."""

import gzip
from collections import Counter
from datetime import UTC, date, datetime

import duckdb
import pytest

from core.store import Payload
from ehr.hl7v2.batch import parse_hl7v2
from ehr.hl7v2.read import parse_payload
from ehr.landing import LANDING_SQL
from ehr.records import PayloadRef
from ehr.sources import Source

GOOD = b"MSH|^~\\&|A|NORTH|||20240301||ADT^A08|%d|P|2.5\rPID|1||7^^^NORTH^MR\r"


def reasons(parsed) -> list[tuple[str, str, str]]:
    return [(reject.unit, reject.locator, reject.reason_code) for reject in parsed.rejects]


@pytest.mark.parametrize("data", [b"", b"\r\n", b"a letter to the hospital", b"\x1f\x8b\x00", b"{}", bytes(range(256))])
def test_a_file_without_a_message_is_refused_as_a_file(parse, data):
    parsed = parse(data)
    assert reasons(parsed) == [("file", "file", "not_hl7")]
    assert parsed.received == {("file", "hl7v2"): 1}


def test_a_truncated_message_is_refused_and_those_before_it_are_not(parse):
    parsed = parse(b"\x0b" + GOOD % 1 + b"\x1c\r\x0b" + (GOOD % 2)[:-9])
    assert reasons(parsed) == [("message", "message 2", "truncated")]
    assert len(parsed.rows["hl7v2_messages"]) == 1


def test_what_stands_before_the_header_is_refused_on_its_own(parse):
    parsed = parse(b"exported by somebody\r" + GOOD % 1)
    assert reasons(parsed) == [("message", "message 1 MSH", "no_msh")]
    assert parsed.rows["hl7v2_messages"][0]["locator"] == "message 2"


def test_a_wrong_charset_is_counted_under_the_type_of_its_header(parse):
    parsed = parse(GOOD.replace(b"2.5", b"2.5||||||UNICODE UTF-8") % 1 + b"NTE|1||J\xf8rgen\r")
    assert reasons(parsed) == [("message", "message 1 MSH-18", "charset_mismatch")]
    assert parsed.received == {("message", "ADT^A08"): 1}


def test_a_second_person_without_a_number_refuses_the_message(parse):
    parsed = parse(GOOD % 1 + b"PID|2||^^^NORTH^MR\r")
    assert reasons(parsed) == [("message", "message 1 PID[2]-3", "no_patient_identifier")]
    assert not any(parsed.rows.values())
    assert parsed.vault == []


def test_the_same_message_has_the_same_identity_and_hash_however_packed(parse):
    one, other = (parse(data).rows["hl7v2_messages"][0] for data in (GOOD % 1, b"\x0b" + GOOD % 1 + b"\x1c\r"))
    assert (one["record_key"], one["content_hash"]) == (other["record_key"], other["content_hash"])
    changed = parse(GOOD.replace(b"NORTH^MR", b"NORTH^PI") % 1).rows["hl7v2_messages"][0]
    assert changed["record_key"] == one["record_key"]
    assert changed["content_hash"] != one["content_hash"]


def test_a_backfill_without_times_is_known_from_the_event(tmp_path):
    source = Source(source_id="backfill", known_at_fallback="event")
    body = b"MSH|^~\\&|A|B|||||ORU^R01|1|P|2.5\rPID|1||7\rOBX|1|NM|8480-6^^LN||120|||||||||20200101+0000\r"
    rows = land(tmp_path, {"result.hl7": body}, source, "hl7v2_observations", "known_at, known_at_basis")
    assert rows == [(datetime(2020, 1, 1, tzinfo=UTC), "event")]


def test_a_file_read_in_parts_gives_what_it_gives_whole():
    data = b"exported by somebody\r" + b"".join(GOOD % number for number in range(1, 8)) + (GOOD % 8).replace(b"MR", b"")

    def read(messages_at_a_time: int):
        payload = PayloadRef("payload", "north", datetime(2024, 6, 1, tzinfo=UTC), date(2024, 6, 1))
        return list(parse_payload(data, lambda _facility: Source(source_id="north"), payload, b"k" * 32, messages_at_a_time))

    (whole,), parts = read(100), read(3)
    assert len(parts) == 3
    for table, rows in whole.rows.items():
        assert [row for part in parts for row in part.rows[table]] == rows
    assert [reject for part in parts for reject in part.rejects] == whole.rejects
    assert sum((part.received for part in parts), Counter()) == whole.received


def test_rows_are_put_beside_the_lake_some_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("ehr.hl7v2.batch._ROWS_AT_A_TIME", 2)
    files = {f"{number}.hl7": GOOD % number for number in range(1, 8)}
    rows = land(tmp_path, files, Source(source_id="north"), "hl7v2_messages", "payload_id")
    assert sorted(rows) == [(name,) for name in files]


def test_batches_reach_the_lake_side_unpacked_and_typed(tmp_path):
    files = {
        "plain.hl7": GOOD % 1,
        "packed.hl7.gz": gzip.compress(GOOD % 2 + b"PV1|1|O" + b"|" * 17 + b"V-1\r"),
        "damaged.hl7.gz": gzip.compress(GOOD % 3)[:-12],
    }
    source = Source(source_id="north")
    rows = land(tmp_path, files, source, "hl7v2_messages", "payload_id, source_id, ordinal, message_type")
    assert sorted(rows) == [("packed.hl7.gz", "north", 1, "ADT^A08"), ("plain.hl7", "north", 1, "ADT^A08")]


def land(tmp_path, files: dict[str, bytes], source: Source, table: str, columns: str) -> list[tuple]:
    """Rows of one temp table after the files went through `parse_hl7v2` beside an empty lake."""
    payloads = []
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        payload = Payload(payload_id=name, source_id=source.source_id, received_at=datetime(2024, 6, 1, tzinfo=UTC),
                          as_of=date(2024, 6, 1))  # fmt: skip
        payloads.append((payload, path))
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute("attach ':memory:' as clinical; use clinical")
        connection.execute(LANDING_SQL)
        connection.execute("use memory")
        batch = parse_hl7v2(connection, payloads, {source.source_id: source}, b"k" * 32)
        refused = {payload_id for payload_id, found in batch.rejects.items() if found}
        assert refused == {name for name in files if name.startswith("damaged")}
        assert sum(batch.received.values()) == len(files)
        return connection.execute(f"select {columns} from new_{table}").fetchall()
