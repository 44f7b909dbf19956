"""Live messages that wait for a build are told on a topic, and Airflow's Kafka trigger hears it."""

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from core.airflow_environment import airflow_environment
from core.publication import start_build
from core.settings import PROJECT_ROOT, Settings
from core.store import Batch, store_session, utc_now
from ehr.live import wake
from ehr.live.broker import LANDED, make_topics, topic_name
from ehr.live.consume import Consumer
from ehr.live.transport import InboxTransport
from tests.ehr.live.live_house import deliver_live, message, patient

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parent / "hearing_trigger.py"


def land(settings: Settings, control_id: str) -> None:
    deliver_live(settings, [message(control_id, patient("1")).encode()])
    Consumer(settings, InboxTransport(settings), once=True).run()
    with store_session(settings) as session:
        session.execute(update(Batch).values(finished_at=utc_now() - timedelta(minutes=5)))


def test_the_consumer_tells_and_the_triggerer_hears(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "_LOOK_SECONDS", 0)
    settings = settings.model_copy(update={"wake_seconds": 60.0})
    make_topics(settings, [LANDED])
    arguments = ["airflow.providers.apache.kafka.triggers.await_message.AwaitMessageTrigger", {
        "topics": [topic_name(settings, LANDED)], "kafka_config_id": "cuff_kafka", "poll_interval": 1,
        "apply_function": "landing_trigger.told_landing"}]  # fmt: skip
    environment = airflow_environment(settings) | {"PYTHONPATH": os.pathsep.join(
        [str(PROJECT_ROOT), str(PROJECT_ROOT / "plugins")])}  # fmt: skip
    connection = json.loads(environment["AIRFLOW_CONN_CUFF_KAFKA"])
    connection["extra"]["auto.offset.reset"] = "earliest"  # the test does not wait until it listens
    environment["AIRFLOW_CONN_CUFF_KAFKA"] = json.dumps(connection)
    hearing = subprocess.Popen([sys.executable, str(SCRIPT), json.dumps(arguments)], env=environment, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    try:
        teller = wake.LandingTeller(settings)
        assert not teller.tell(), "nothing has landed"
        land(settings, "m1")
        assert teller.tell()
        assert not teller.tell(), "at most every wake_seconds"
        out, errors = hearing.communicate(timeout=120)
        assert json.loads(out.splitlines()[-1]) == {"through_batch_id": 1}, errors[-2000:]
        start_build(settings)
        assert not wake.LandingTeller(settings).tell(), "a build holds it"
    finally:
        hearing.kill()


def test_a_broker_that_is_away_costs_the_consumer_a_moment_and_no_telling(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "_LOOK_SECONDS", 0)
    land(settings, "m1")
    away = wake.LandingTeller(settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1", "wake_seconds": 60.0}))
    began = time.monotonic()
    assert not away.tell()
    assert time.monotonic() - began < 30
    assert wake.LandingTeller(settings.model_copy(update={"wake_seconds": 60.0})).tell()
