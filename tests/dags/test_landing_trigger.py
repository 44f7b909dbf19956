"""The watchers of ``raw_landed``: live messages that wait wake the build, files and what a build holds do not."""

import asyncio
import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from core.publication import fail_build, finish_build, live_landing_due, publish, start_build
from core.settings import Settings, load_settings
from core.store import Batch, Build, open_store, store_session, utc_now
from ehr.ingest import ingest
from tests.conftest import make_settings
from tests.ehr.live.live_house import consume_once, deliver_live, message, patient

pytestmark = pytest.mark.slow


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A house that `load_settings` finds, as the triggerer does."""
    from core.airflow_environment import settings_environment

    settings = make_settings(tmp_path / "var", wake_seconds=60)
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings().var == settings.var
    return settings


def land_live(settings: Settings, control_id: str, minutes_ago: float) -> None:
    deliver_live(settings, [message(control_id, patient("1")).encode()])
    consume_once(settings)
    with store_session(settings) as session:
        newest = session.query(Batch).order_by(Batch.batch_id.desc()).first()
        newest.finished_at = utc_now() - timedelta(minutes=minutes_ago)


def test_a_live_landing_is_due_once_it_has_waited_and_until_a_build_holds_it(house: Settings, tmp_path: Path) -> None:
    assert live_landing_due(house) is None
    (tmp_path / "a.hl7").write_text(message("file", patient("1")))
    ingest(house, [tmp_path / "a.hl7"])
    with store_session(house) as session:
        session.execute(update(Batch).values(finished_at=utc_now() - timedelta(hours=1)))
    assert live_landing_due(house) is None, "whoever lands files starts the build"
    land_live(house, "m1", minutes_ago=0.5)
    assert live_landing_due(house) is None, "not at once: more will follow"
    land_live(house, "m2", minutes_ago=0)
    with store_session(house) as session:
        session.execute(update(Batch).where(Batch.batch_id == 2).values(finished_at=utc_now() - timedelta(minutes=2)))
    assert live_landing_due(house) == 3

    build_id = start_build(house).build_id
    assert live_landing_due(house) is None
    land_live(house, "m3", minutes_ago=5)
    assert live_landing_due(house) is None, "one build after the other"
    finish_build(house, build_id)
    publish(house, build_id, "test")
    assert live_landing_due(house) == 4
    fail_build(house, start_build(house).build_id, "a gate is red")
    assert live_landing_due(house) is None, "the failure was told; only news tries again"
    land_live(house, "m4", minutes_ago=5)
    assert live_landing_due(house) == 5


def test_a_build_that_died_does_not_keep_live_messages_waiting_for_ever(house: Settings) -> None:
    land_live(house, "m1", minutes_ago=5)
    start_build(house, date(2024, 3, 1))
    land_live(house, "m2", minutes_ago=5)
    assert live_landing_due(house) is None
    with store_session(house) as session:
        session.execute(update(Build).values(started_at=utc_now() - timedelta(hours=4)))
    assert live_landing_due(house) == 2


def test_the_trigger_fires_as_often_as_it_may_and_survives_a_database_that_is_away(
    airflow_home: Path, house: Settings
) -> None:
    from landing_trigger import LiveLandingTrigger

    land_live(house, "m1", minutes_ago=5)
    path, arguments = LiveLandingTrigger(wake_seconds=2, poll_seconds=0.05).serialize()
    assert path == "landing_trigger.LiveLandingTrigger"
    trigger = LiveLandingTrigger(**arguments)
    ops, aside = house.var / "ops.db", house.var / "aside"

    async def a_while() -> list[tuple[float, dict]]:
        seen: list[tuple[float, dict]] = []

        async def collect() -> None:
            loop = asyncio.get_running_loop()
            began = loop.time()
            async for event in trigger.run():
                seen.append((loop.time() - began, event.payload))
                if len(seen) == 1:
                    ops.rename(aside)
                    ops.mkdir()
                    open_store(house).dispose()  # what is open would go on with the file that was moved
                    loop.call_later(3, lambda: (ops.rmdir(), aside.rename(ops)))
                else:
                    start_build(house)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(collect(), 20)
        return seen

    seen = asyncio.run(a_while())
    assert [payload for _seconds, payload in seen] == [{"through_batch_id": 1}] * 2, "and none once a build holds it"
    assert seen[1][0] - seen[0][0] >= 3


def test_each_transport_has_its_watcher(airflow_home: Path, tmp_path: Path) -> None:
    from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger

    from landing_trigger import KAFKA_CONNECTION, LiveLandingTrigger, landing_watchers

    (own,) = landing_watchers(make_settings(tmp_path, wake_seconds=7))
    assert isinstance(own.trigger, LiveLandingTrigger)
    assert own.trigger.wake_seconds == 7
    (told,) = landing_watchers(make_settings(tmp_path, transport="kafka", kafka_bootstrap="broker:9092", kafka_prefix="x"))
    trigger = told.trigger
    assert isinstance(trigger, MessageQueueTrigger)
    path, arguments = trigger.serialize()
    assert path.endswith("AwaitMessageTrigger")
    assert arguments["topics"] == ["x.landed.v1"]
    assert arguments["kafka_config_id"] == KAFKA_CONNECTION
    assert arguments["apply_function"] == "landing_trigger.told_landing"


def test_the_triggerer_finds_its_broker(settings: Settings) -> None:
    from core.airflow_environment import airflow_environment

    assert "AIRFLOW_CONN_CUFF_KAFKA" not in airflow_environment(settings)
    house = settings.model_copy(update={
        "transport": "kafka", "kafka_bootstrap": "broker:9092", "kafka_options": {"sasl.username": "cuff"}})
    connection = json.loads(airflow_environment(house)["AIRFLOW_CONN_CUFF_KAFKA"])
    assert connection["conn_type"] == "kafka"
    assert connection["extra"]["bootstrap.servers"] == "broker:9092"
    assert connection["extra"]["sasl.username"] == "cuff"


@pytest.mark.parametrize(("said", "expected"), [
    (b'{"through_batch_id": 7}', {"through_batch_id": 7}), (b"", None), (None, None), (b"[]", None), (b"rubbish", None)])
def test_what_the_consumer_cannot_have_said_wakes_nobody(airflow_home: Path, said: bytes | None, expected: dict | None) -> None:
    from landing_trigger import told_landing

    class Said:
        def value(self) -> bytes | None:
            return said

    assert told_landing(Said()) == expected
