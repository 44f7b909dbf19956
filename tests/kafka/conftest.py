"""One Kafka broker for the session; topics of its own for every test, as the broker may be somebody else's."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import Settings
from ehr.live import consume, relay, topic_reader
from tests.conftest import make_settings
from tests.kafka.broker import Broker, find_jars, own_broker


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("kafka")


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """The broker of ``KAFKA_BOOTSTRAP``, else our own. Where neither is to be had: skip, but fail in CI."""
    if bootstrap := os.environ.get("KAFKA_BOOTSTRAP"):
        yield Broker(bootstrap)
        return
    jars, missing = find_jars()
    if jars is None:
        reason = f"no Kafka: set KAFKA_BOOTSTRAP, or mend this: {missing}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with own_broker(jars) as started:
        yield started


@pytest.fixture
def our_broker(broker: Broker) -> Broker:
    """One that may be killed. Errors: skipped for a broker that somebody else runs."""
    if not broker.is_ours:
        pytest.skip("the broker of KAFKA_BOOTSTRAP is not ours to kill")
    return broker


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that production takes every few seconds, sooner."""
    monkeypatch.setattr(topic_reader, "_LOOK_SECONDS", 0.5)
    monkeypatch.setattr(relay, "_LOOK_SECONDS", 1.0)
    monkeypatch.setattr(consume, "_LAST_WAIT_SECONDS", 2.0)


@pytest.fixture
def settings(broker: Broker, tmp_path: Path) -> Settings:
    """An empty house whose consumer reads Kafka, with topics of its own."""
    return make_settings(
        tmp_path / "var", transport="kafka", kafka_bootstrap=broker.bootstrap, kafka_partitions=3,
        kafka_prefix=f"cuff-test-{uuid.uuid4().hex[:10]}",
    )
