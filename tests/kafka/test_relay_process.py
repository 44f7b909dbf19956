"""`cuff relay` as it runs in production: its one line, its status, SIGTERM, and a kill in the middle."""

import signal
import subprocess
import uuid
from itertools import pairwise

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from core.settings import PROJECT_ROOT
from ehr.live.broker import HL7V2, read_headers
from tests.kafka.live_house import CANARY, arrive, message, on_topic, owed, publish_all, wait_for
from tests.kafka.relay_process import CUFF, ask, relay_environment, relay_process, with_free_port


@pytest.mark.slow
def test_it_carries_both_ways_tells_how_it_is_and_ends_when_told_to(settings, tmp_path):
    """The inbox out, and a hospital's own topic in, which then goes out as well."""
    topic = f"hospital-{uuid.uuid4().hex[:10]}"
    sources = tmp_path / "sources.toml"
    sources.write_text(f'[source.ward]\nkafka_topic = "{topic}"\n')
    settings = with_free_port(settings.model_copy(update={"sources_file": sources}))
    arrive(settings, range(20))
    with relay_process(settings, tmp_path / "log") as process:
        wait_for(lambda: not list(owed(settings)), 30, "the acknowledgements")
        wait_for(lambda: "ward" in ask(settings, "/readyz")[1], 10, "word of the topic that is not there")
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
        producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
        producer.produce(topic, message(20))
        assert producer.flush(10) == 0
        wait_for(lambda: ask(settings, "/readyz")[0] == 200, 20, "readiness")
        wait_for(lambda: f'cuff_relayed_total{{topic="{settings.kafka_prefix}.hl7v2.v1"}} 21.0' in ask(
            settings, "/metrics")[1], 20, "the hospital's message on our topic")
        assert ask(settings, "/healthz")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    last = max(on_topic(settings, HL7V2), key=lambda each: int(read_headers(each)["inbox_sequence"]))
    assert read_headers(last)["source_id"] == "ward"
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert CANARY not in log


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again_it_loses_nothing(settings, tmp_path):
    settings = with_free_port(settings)
    arrive(settings, range(3000), persons=40)
    with relay_process(settings, tmp_path / "log") as process:
        wait_for(lambda: len(list(owed(settings))) < 3000, 30, "the first acknowledgement")
        process.kill()
        process.wait()
    arrive(settings, range(3000, 3100), persons=40)
    with relay_process(settings, tmp_path / "log"):
        wait_for(lambda: not list(owed(settings)), 30, "the last acknowledgement")
    first: dict[bytes | None, list[int]] = {}
    seen: set[int] = set()
    for each in on_topic(settings, HL7V2):
        sequence = int(read_headers(each)["inbox_sequence"])
        if sequence not in seen:
            seen.add(sequence)
            first.setdefault(each.key(), []).append(sequence)
    assert seen == set(range(1, 3101))
    assert all(earlier < later for sequences in first.values() for earlier, later in pairwise(sequences))


def test_again_owes_what_was_published(settings):
    arrive(settings, range(5))
    publish_all(settings)
    told = subprocess.run([*CUFF, "relay", "--again", "4"], cwd=PROJECT_ROOT,
                          env=relay_environment(settings), capture_output=True, text=True, check=True)
    assert told.stdout == "2 entries and dead letters will be published again\n"
    assert list(owed(settings)) == [4, 5]


@pytest.mark.parametrize(("change", "mend"), [
    ({"transport": "inbox"}, "CUFF_TRANSPORT=kafka"), ({"kafka_bootstrap": ""}, "CUFF_KAFKA_BOOTSTRAP")])
def test_without_anything_to_relay_it_says_what_to_set(settings, change, mend):
    from core.errors import ConfigurationError
    from ehr.live.serve_relay import run_relay

    with pytest.raises(ConfigurationError, match=mend):
        run_relay(settings.model_copy(update=change), lambda _line: None)
