"""The journal: durable before the answer, one chain for all writers, back by itself after an outage."""

import asyncio
import sqlite3
import time

import pytest
from sqlalchemy import func, select

from core.audit import AuditRow, verify_chain
from core.serving_tables import ServedPrediction
from core.store import AuditEvent, open_store, store_session
from ml.serving.journal import Journal, JournalUnavailable
from tests.ml.serving.small_api import prediction


def row(subject="-", actor="clinic"):
    return AuditRow(actor, "POST /v1/risk", str(subject), "200")


def chain(settings):
    with open_store(settings).connect() as connection:
        return verify_chain(connection)


def with_journal(settings, work):
    async def run():
        journal = Journal(settings)
        try:
            return await work(journal)
        finally:
            await asyncio.to_thread(journal.close)

    return asyncio.run(run())


async def until_writable(journal, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not journal.is_writable():
        assert time.monotonic() < deadline, "the journal did not recover"
        await asyncio.sleep(0.05)


def test_what_was_written_is_committed_together_and_in_one_chain(settings):
    async def work(journal):
        await asyncio.gather(*(journal.write(row(nth), [prediction("clinic", f"p{nth}")]) for nth in range(500)))
        assert journal.is_writable()

    with_journal(settings, work)
    report = chain(settings)
    assert (report.rows, report.first_broken_row) == (500, None)
    with store_session(settings) as session:
        assert session.scalar(select(func.count()).select_from(ServedPrediction)) == 500
        subjects = session.scalars(select(AuditEvent.subject).order_by(AuditEvent.audit_event_id)).all()
        assert subjects == [str(nth) for nth in range(500)]
        kept = session.scalars(select(ServedPrediction).limit(1)).one()
        assert kept.features_sealed == b"sealed"
        assert kept.served_at.tzinfo is not None


def test_one_request_that_the_database_does_not_take_does_not_take_others_with_it(settings):
    async def work(journal):
        writes = [journal.write(row(nth), [prediction("clinic", f"p{min(nth, 3)}")]) for nth in range(6)]
        return await asyncio.gather(*writes, return_exceptions=True)

    outcomes = with_journal(settings, work)
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 4 + [JournalUnavailable] * 2
    assert chain(settings).rows == 4


@pytest.mark.parametrize("fault", ["read-only", "locked", "full"])
def test_while_nothing_can_be_written_requests_are_refused_and_afterwards_not(settings, fault, monkeypatch):
    monkeypatch.setattr("ml.serving.journal_rows._BUSY_MILLISECONDS", 100)
    database = settings.var / "ops.db"

    async def work(journal):
        await journal.write(row("before"))
        mend = _break(journal, database, fault)
        started = time.monotonic()
        with pytest.raises(JournalUnavailable):
            await journal.write(row("meanwhile"), [prediction("clinic", "p") | {"features_sealed": bytes(1 << 20)}])
        assert time.monotonic() - started < 3
        assert not journal.is_writable()
        mend()
        await until_writable(journal)
        await journal.write(row("after"))

    with_journal(settings, work)
    with store_session(settings) as session:
        rows = session.execute(select(AuditEvent.subject, AuditEvent.outcome).order_by(AuditEvent.audit_event_id)).all()
    assert [subject for subject, _ in rows] == ["before", "-", "after"]
    assert rows[1].outcome == "1 requests were refused and are not logged"
    assert chain(settings).first_broken_row is None


def _break(journal, database, fault):
    """Make the database unusable; returns what mends it."""
    if fault == "locked":
        other = sqlite3.connect(database, isolation_level=None)
        other.execute("begin immediate")
        return lambda: (other.rollback(), other.close())
    connection = journal._rows._connection.connection.dbapi_connection
    if fault == "full":
        # The engine's own limit of pages: what a full disk answers, without filling one.
        original = journal._rows._open

        def open_full():
            connection = original()
            pages = connection.exec_driver_sql("pragma page_count").scalar()
            connection.exec_driver_sql(f"pragma max_page_count = {pages}")
            connection.commit()
            return connection

        journal._rows._open = open_full
        return lambda: (setattr(journal._rows, "_open", original), journal._rows._drop_connection())
    original = journal._rows._open

    def open_read_only():
        connection = original()
        connection.exec_driver_sql("pragma query_only = on")
        connection.commit()
        return connection

    assert connection is not None
    journal._rows._open = open_read_only
    return lambda: (setattr(journal._rows, "_open", original), journal._rows._drop_connection())
