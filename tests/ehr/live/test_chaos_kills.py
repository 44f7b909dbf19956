"""kill -9 of the live processes while a feed runs, at a small size of `make chaos`: over the inbox, and over Kafka."""

import os

import pytest

from bench.chaos import kills
from tests.kafka.broker import find_jars

pytestmark = pytest.mark.slow


def test_killed_again_and_again():
    for figure in kills.run("small", transport="inbox"):
        assert figure.is_met, figure


@pytest.mark.kafka
def test_killed_again_and_again_with_kafka_among_them():
    jars, why = find_jars()
    if jars is None:
        reason = f"no Kafka of our own to kill: {why}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    for figure in kills.run("small", transport="kafka"):
        assert figure.is_met, figure
