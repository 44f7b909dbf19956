"""Out of quarantine: after the mapping was mended, what can be used lands once and the ledger still balances."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import InputError
from core.lake import writer_lock
from core.settings import Settings
from ehr.ingest import ingest
from ehr.ledger import ledger_totals
from ehr.live.inbox import Inbox, Received
from ehr.quarantine import list_quarantine
from ehr.records import Reject
from ehr.replay import replay
from tests.ehr.landed import query

LATIN = (
    "MSH|^~\\&|LAB|CLINIC|CUFF|CUFF|20240305100000||ADT^A04|m1|P|2.5{charset}\r"
    "PID|1||77^^^CLINIC^MR||Müller^Ann||19610714|F\r"
)


def test_message_lands_once_its_charset_is_declared(settings: Settings, tmp_path: Path) -> None:
    settings.sources_file = tmp_path / "sources.toml"
    settings.sources_file.write_text('[source.clinic]\nsending_facilities = ["CLINIC"]\n')
    file = tmp_path / "a.hl7"
    file.write_bytes(LATIN.format(charset="").encode("latin-1"))
    summary = ingest(settings, [file], source_id="clinic")
    assert [row.reason_code for row in list_quarantine(settings)] == ["charset_mismatch"]
    assert summary.balanced

    settings.sources_file.write_text(
        '[source.clinic]\nsending_facilities = ["CLINIC"]\ndefault_charset = "iso-8859-1"\n'
    )
    replayed = replay(settings, reason_code="charset_mismatch")
    assert (replayed.payloads, replayed.tried, replayed.resolved, replayed.accepted) == (1, 1, 1, 1)
    assert query(settings, "select count(*) from clinical.raw.hl7v2_messages") == [(1,)]
    assert list_quarantine(settings) == []
    lines = ledger_totals(settings)
    assert all(line.balances for line in lines)
    assert sum(line.quarantined for line in lines) == 0
    assert sum(line.accepted for line in lines if line.unit == "message") == 1
    with pytest.raises(InputError, match="no open quarantine entry"):
        replay(settings)


def test_what_is_still_broken_stays_in_quarantine(settings: Settings, tmp_path: Path) -> None:
    good = {"resourceType": "Patient", "id": "p1", "gender": "female"}
    file = tmp_path / "a.ndjson"
    file.write_text(json.dumps(good) + "\n{broken\n")
    ingest(settings, [file])
    before = ledger_totals(settings)
    replayed = replay(settings, quarantine_id=list_quarantine(settings)[0].quarantine_id)
    assert (replayed.resolved, replayed.accepted) == (0, 0)
    assert ledger_totals(settings) == before
    assert query(settings, "select count(*) from clinical.raw.fhir_patients") == [(1,)]


def test_two_replays_at_once_move_each_entry_out_of_quarantine_once(settings: Settings, tmp_path: Path) -> None:
    settings.sources_file = tmp_path / "sources.toml"
    file = tmp_path / "a.hl7"
    file.write_bytes(LATIN.format(charset="").encode("latin-1"))
    ingest(settings, [file])
    settings.sources_file.write_text('[source.default]\ndefault_charset = "iso-8859-1"\n')
    with ThreadPoolExecutor(2) as both:
        with writer_lock(settings):  # both have begun before either may write
            runs = [both.submit(replay, settings) for _ in range(2)]
            time.sleep(1)
        found = [run.exception() or run.result() for run in runs]
    lines = ledger_totals(settings)
    assert all(line.balances for line in lines)
    assert {line.unit: (line.received, line.accepted, line.duplicate, line.quarantined) for line in lines} == {
        "file": (1, 1, 0, 0), "message": (1, 1, 0, 0)}
    assert sorted(type(each).__name__ for each in found) == ["InputError", "ReplaySummary"]


def test_what_was_refused_for_its_sender_is_not_brought_in_by_the_way(settings: Settings) -> None:
    stolen, faulty = (
        Received(LATIN.format(charset="||||||8859/1").replace("m1", number).encode("latin-1"), "hl7v2", "default", "mllp",
                 "message", "ADT^A04", reject=Reject("message", "ADT^A04", "message 1", reason, "refused at the door"))
        for number, reason in (("m1", "certificate_mismatch"), ("m2", "reader_failed"))
    )  # fmt: skip
    Inbox(settings).store([stolen, faulty])
    assert replay(settings).tried == 1
    assert [row.reason_code for row in list_quarantine(settings)] == ["certificate_mismatch"]
    with pytest.raises(InputError):
        replay(settings)
    assert replay(settings, reason_code="certificate_mismatch").accepted == 1
    assert query(settings, "select count(*) from clinical.raw.hl7v2_messages") == [(2,)]
