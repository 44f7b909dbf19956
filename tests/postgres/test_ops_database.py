"""The ops database on Postgres: migrated once whoever comes first, an unbroken audit chain, a build's whole life."""

from datetime import date

import pytest
from sqlalchemy import func, inspect, select, text

from core.audit import first_broken_row
from core.errors import BuildError
from core.lake import read_lake, write_lake
from core.publication import fail_build, finish_build, publish, published, roll_back, start_build
from core.settings import Settings
from core.store import AuditEvent, Base, Batch, open_store, store_session, utc_now
from tests.postgres.processes import append_audit_events, run_together

pytestmark = pytest.mark.postgres


def test_processes_that_start_together_migrate_once_and_append_one_unbroken_chain(house):
    run_together(append_audit_events, *((house, f"appender {nth}", 25) for nth in range(4)))
    engine = open_store(house)
    assert set(Base.metadata.tables) <= set(inspect(engine).get_table_names())
    with engine.connect() as connection:
        assert connection.execute(text("select count(*) from alembic_version")).scalar_one() == 1
    with store_session(house) as session:
        per_actor = session.execute(select(AuditEvent.actor, func.count()).group_by(AuditEvent.actor)).all()
        assert sorted(tuple(row) for row in per_actor) == [(f"appender {nth}", 25) for nth in range(4)]
        assert session.scalar(select(func.count(AuditEvent.previous_hash.distinct()))) == 100
        assert first_broken_row(session) is None
        tampered = session.scalars(select(AuditEvent).offset(41).limit(1)).one()
        tampered.outcome = "refused"
        assert first_broken_row(session) == tampered.audit_event_id
        session.rollback()


def test_the_models_and_the_migrations_agree_on_postgres(house):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with open_store(house).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_times_come_back_as_the_utc_instants_they_were(house):
    now = utc_now()
    with store_session(house) as session:
        session.add(Batch(as_of=date(2026, 1, 1), finished_at=now))
    with store_session(house) as session:
        assert session.scalars(select(Batch.finished_at)).one() == now


def test_a_build_is_seen_once_published_and_no_longer_after_a_rollback(house):
    builds = []
    for number in (1, 2):
        _land(house, date(2026, 1, number))
        build = start_build(house)
        builds.append(build.build_id)
        with write_lake(house) as lake:
            lake.execute("create or replace table clinical.main.t as select $1 as n", [number])
        finish_build(house, build.build_id)
        if number == 2:
            assert _visible(house) == 1
        publish(house, build.build_id, "test")
        assert _visible(house) == number
    roll_back(house, builds[0], "test", "the second was wrong")
    assert _visible(house) == 1
    failed = start_build(house)
    fail_build(house, failed.build_id, "dbt failed")
    with pytest.raises(BuildError, match="is failed, not built"):
        publish(house, failed.build_id, "test")
    with store_session(house) as session:
        assert first_broken_row(session) is None


def _land(settings: Settings, day: date) -> None:
    with store_session(settings) as session:
        session.add(Batch(as_of=day, finished_at=utc_now()))


def _visible(settings: Settings) -> int:
    with read_lake(settings, ("clinical",), published(settings).snapshots) as lake:
        row = lake.execute("select n from clinical.main.t").fetchone()
    assert row is not None
    return int(row[0])
