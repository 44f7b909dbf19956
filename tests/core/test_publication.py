"""A build becomes visible at one moment, for both catalogs, and can be taken back."""

from datetime import date

import pytest

from core.audit import first_broken_row
from core.errors import BuildError, NotPublishedError
from core.lake import read_lake, write_lake
from core.publication import (
    fail_build,
    finish_build,
    has_unpublished_batches,
    publish,
    published,
    roll_back,
    start_build,
)
from core.store import AuditEvent, Batch, store_session, utc_now


def land(settings, day):
    with store_session(settings) as session:
        session.add(Batch(as_of=day, finished_at=utc_now()))


def write_number(settings, number):
    with write_lake(settings) as lake:
        lake.execute("create or replace table clinical.main.t as select $1 as n", [number])


def visible(settings):
    with read_lake(settings, ("clinical",), published(settings).snapshots) as lake:
        return lake.execute("select n from clinical.main.t").fetchone()[0]


def test_readers_see_a_build_only_once_it_is_published_and_no_longer_after_a_rollback(settings):
    with pytest.raises(NotPublishedError):
        published(settings)
    with pytest.raises(BuildError, match="nothing to build"):
        start_build(settings)
    land(settings, date(2026, 1, 1))
    first = start_build(settings)
    assert (first.since_batch_id, first.through_batch_id) == (0, 1)
    write_number(settings, 1)
    finish_build(settings, first.build_id)
    publish(settings, first.build_id, "test")
    land(settings, date(2026, 1, 2))
    second = start_build(settings)
    assert (second.since_batch_id, second.through_batch_id, second.as_of) == (1, 2, date(2026, 1, 2))
    write_number(settings, 2)
    finish_build(settings, second.build_id)
    assert visible(settings) == 1
    publish(settings, second.build_id, "test")
    assert visible(settings) == 2
    roll_back(settings, first.build_id, "test", "second was wrong")
    assert visible(settings) == 1
    assert start_build(settings).since_batch_id == 1


def test_a_failed_build_cannot_be_published(settings):
    land(settings, date(2026, 1, 1))
    build = start_build(settings)
    fail_build(settings, build.build_id, "dbt failed")
    with pytest.raises(BuildError, match="is failed, not built"):
        publish(settings, build.build_id, "test")


def test_a_changed_audit_row_is_found(settings):
    test_readers_see_a_build_only_once_it_is_published_and_no_longer_after_a_rollback(settings)
    with store_session(settings) as session:
        assert first_broken_row(session) is None
        session.get(AuditEvent, 2).subject = "build 9"
    with store_session(settings) as session:
        assert first_broken_row(session) == 2


def test_what_has_landed_waits_for_a_build_until_one_is_published(settings):
    assert not has_unpublished_batches(settings)
    land(settings, date(2026, 1, 1))
    build = start_build(settings)
    write_number(settings, 1)
    finish_build(settings, build.build_id)
    assert has_unpublished_batches(settings)
    publish(settings, build.build_id, "test")
    assert not has_unpublished_batches(settings)
    land(settings, date(2026, 1, 2))
    fail_build(settings, start_build(settings).build_id, "a gate was red")
    assert has_unpublished_batches(settings)
