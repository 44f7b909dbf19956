"""The audit chain: one for all who append, and whatever was done to it afterwards is found."""

import threading

import pytest
from sqlalchemy import text

from core.audit import GENESIS, AuditRow, append_audit, first_broken_row, record_audit, verify_chain
from core.store import open_store, store_session


def append(settings, *subjects):
    with open_store(settings).begin() as connection:
        append_audit(connection, [AuditRow("clinic", "POST /v1/risk", subject, "200") for subject in subjects])


def verify(settings, noted=""):
    with open_store(settings).connect() as connection:
        return verify_chain(connection, noted)


def change(settings, statement):
    with open_store(settings).begin() as connection:
        connection.execute(text(statement))


def test_both_ways_to_append_make_one_chain(settings):
    assert verify(settings) == (0, None, GENESIS, None, None)
    append(settings)
    with store_session(settings) as session:
        record_audit(session, "cli:anna", "promote", "model 3", "ok")
    append(settings, *map(str, range(50)), "Wörter “und” \\ \n 𝛽")
    with store_session(settings) as session:
        record_audit(session, "cli:anna", "promote", "model 4", "ok")
        assert first_broken_row(session) is None
    report = verify(settings)
    assert (report.rows, report.newest_row, report.first_broken_row) == (53, 53, None)


@pytest.mark.parametrize(("statement", "broken"), [
    ("update audit_events set actor = 'another' where audit_event_id = 7", 7),
    ("update audit_events set outcome = '403' where audit_event_id = 20", 20),
    ("update audit_events set happened_at = '2026-01-01 00:00:00.000000' where audit_event_id = 3", 3),
    ("update audit_events set happened_at = 'yesterday' where audit_event_id = 3", 3),
    ("update audit_events set happened_at = replace(happened_at, ' ', 'T') where audit_event_id = 3", 3),
    ("update audit_events set subject = x'00ff' where audit_event_id = 4", 4),
    ("update audit_events set subject = 5 where audit_event_id = 4", 4),
    ("update audit_events set row_hash = replace(row_hash, 'a', 'b') where audit_event_id = 5", 5),
    ("delete from audit_events where audit_event_id = 1", 2),
    ("delete from audit_events where audit_event_id = 9", 10),
    ("insert into audit_events select 99, actor, action, subject, outcome, happened_at, previous_hash, row_hash "
     "from audit_events where audit_event_id = 9", 99),
    ("update audit_events set audit_event_id = -audit_event_id where audit_event_id = 20", -20),
])  # fmt: skip
def test_the_first_row_that_is_not_as_it_was_written_is_named(settings, statement, broken):
    append(settings, *map(str, range(20)))
    change(settings, statement)
    assert verify(settings).first_broken_row == broken


def test_a_deleted_tail_is_seen_by_whoever_noted_a_hash_of_it(settings):
    append(settings, *map(str, range(10)))
    noted = verify(settings).newest_hash
    append(settings, *map(str, range(10)))
    assert verify(settings, noted).holds_noted_hash is True
    change(settings, "delete from audit_events where audit_event_id >= 10")
    report = verify(settings, noted)
    assert (report.rows, report.first_broken_row, report.holds_noted_hash) == (9, None, False)
    append(settings, "in its place")
    assert verify(settings, noted).holds_noted_hash is False


def test_many_pages_are_verified_as_one(settings, monkeypatch):
    append(settings, *map(str, range(1000)))
    monkeypatch.setattr("core.audit._PAGE", _page_of(7))
    assert verify(settings).rows == 1000
    change(settings, "update audit_events set subject = 'x' where audit_event_id = 701")
    assert verify(settings)[:4:3] == (700, 701)


def _page_of(rows):
    from core import audit

    return audit._PAGE.replace(str(audit._PAGE_ROWS), str(rows))


def test_sessions_and_bulk_writers_at_once_do_not_fork_the_chain(settings):
    open_store(settings)

    def in_sessions():
        for nth in range(40):
            with store_session(settings) as session:
                record_audit(session, "pipeline", "publish", str(nth), "ok")

    def in_bulk():
        for nth in range(40):
            append(settings, *(f"{nth} {each}" for each in range(5)))

    threads = [threading.Thread(target=work) for work in (in_sessions, in_bulk, in_sessions, in_bulk)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = verify(settings)
    assert (report.rows, report.first_broken_row) == (480, None)
