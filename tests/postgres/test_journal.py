"""The journal of the API on Postgres: one chain for several processes, and back by itself after an outage."""

import asyncio
import time

import pytest
from sqlalchemy import select, text

from core.audit import CHAIN_LOCK, AuditRow, first_broken_row
from core.serving_tables import ServedPrediction
from core.store import AuditEvent, open_store, store_session
from ml.serving.journal import Journal, JournalUnavailable
from tests.ml.serving.journal_writers import check_nothing_is_lost, kill_one_of_two_writers
from tests.ml.serving.small_api import prediction

pytestmark = pytest.mark.postgres


def test_a_killed_writer_leaves_an_unbroken_chain_and_every_answer_has_its_rows(make_house, tmp_path):
    left = kill_one_of_two_writers(make_house(), tmp_path)
    check_nothing_is_lost(left)
    assert left.report.rows > 200


def test_who_waits_for_the_chain_in_vain_is_refused_and_afterwards_not(make_house):
    settings = make_house()

    async def run():
        journal = Journal(settings)
        await journal.write(AuditRow("clinic", "ask", "before", "200"), [prediction("clinic", "p1")])
        with open_store(settings).connect() as other:
            other.execute(text(f"select pg_advisory_xact_lock({CHAIN_LOCK})"))
            began = time.monotonic()
            with pytest.raises(JournalUnavailable):
                await journal.write(AuditRow("clinic", "ask", "meanwhile", "200"), [prediction("clinic", "p2")])
            assert time.monotonic() - began < 7
            assert not journal.is_writable()
        while not journal.is_writable():
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.05)
        await journal.write(AuditRow("clinic", "ask", "after", "200"), [prediction("clinic", "p3")])
        await asyncio.to_thread(journal.close)

    asyncio.run(run())
    with store_session(settings) as session:
        subjects = session.scalars(select(AuditEvent.subject).order_by(AuditEvent.audit_event_id)).all()
        assert subjects == ["before", "-", "after"]
        assert session.scalars(select(ServedPrediction.prediction_id)).all() == ["p1", "p3"]
        assert first_broken_row(session) is None


def test_a_broken_connection_is_replaced(make_house):
    settings = make_house()

    async def run():
        journal = Journal(settings)
        await journal.write(AuditRow("clinic", "ask", "1", "200"))
        with open_store(settings).connect() as other:
            other.execute(text("select pg_terminate_backend(pid) from pg_stat_activity "
                               "where datname = current_database() and pid <> pg_backend_pid()"))  # fmt: skip
        with pytest.raises(JournalUnavailable):
            await journal.write(AuditRow("clinic", "ask", "2", "200"))
        await journal.write(AuditRow("clinic", "ask", "3", "200"))
        await asyncio.to_thread(journal.close)

    asyncio.run(run())
    with store_session(settings) as session:
        assert first_broken_row(session) is None
        assert {"1", "3"} <= set(session.scalars(select(AuditEvent.subject)))
