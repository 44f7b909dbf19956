"""The synthetic hospital sends to the real listener, which is killed in the middle: nothing acknowledged is lost."""

import hashlib
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from core.feed_tables import InboxEntry
from core.settings import Settings
from core.store import LedgerEntry, Quarantine, store_session, utc_now
from ehr.live.address import MllpAddress
from ehr.live.feeds import list_feeds
from ehr.live.inbox import read_content
from ehr.live.play import play, with_rubbish
from ehr.live.send import SendError
from ehr.simulate import SimulationOptions, simulate_hospital
from tests.browser.conftest import free_port
from tests.conftest import make_settings
from tests.ehr.live.certificates import Authority
from tests.ehr.live.processes import cuff_process

pytestmark = pytest.mark.slow


@pytest.fixture
def door(tmp_path: Path) -> Settings:
    return make_settings(tmp_path / "var", mllp_port=free_port(), fhir_port=free_port(), consumer_port=free_port())


def messages_of(patients: int, **options) -> list[bytes]:
    found: list[bytes] = []
    simulate_hospital(None, SimulationOptions(patients=patients, years=2, seed=3, **options),
                      deliver=lambda sent, _total: found.extend(sent))
    return found


def test_a_killed_listener_costs_nothing_but_repeats(door, tmp_path):
    messages = list(with_rubbish(messages_of(120), every=150))
    address, log, result = MllpAddress("127.0.0.1", door.mllp_port, False), tmp_path / "listener.log", []
    sender = threading.Thread(target=lambda: result.append(play(messages, address, connections=3, window=4, rate=100)))
    with cuff_process(door, "listen", port=door.mllp_port, log=log) as listener:
        sender.start()
        wait_for_entries(door, 100)
        listener.kill()
        listener.wait()
    with cuff_process(door, "listen", port=door.mllp_port, log=log):
        sender.join(120)
    (done,) = result
    assert done.sent == len(messages) == done.accepted + done.errors + done.rejected
    assert done.resent > 0
    assert done.errors > 0
    assert done.rejected > 0
    with store_session(door) as session:
        stored = set(session.scalars(select(InboxEntry.payload_id)))
        quarantined = session.scalar(select(func.count(Quarantine.quarantine_id)))
        received = session.execute(select(func.sum(LedgerEntry.received), func.sum(LedgerEntry.quarantined))).one()
    assert stored == {hashlib.sha256(message).hexdigest() for message in messages}
    assert quarantined == received[1] == done.errors + done.rejected
    for message in messages[::97]:
        assert read_content(door, hashlib.sha256(message).hexdigest()) == message
    feeds = {(feed.source_id, feed.feed): feed for feed in list_feeds(door)}
    assert set(feeds) == {("simulated", "mllp"), ("default", "mllp")}
    live = feeds["simulated", "mllp"]
    assert (live.state, live.is_stuck) == ("alive", False)
    assert live.received == live.accepted + live.repeated + live.refused
    assert live.waiting == live.accepted > 0
    assert live.per_minute > 0
    assert feeds["default", "mllp"].quarantined == sum(feeds["default", "mllp"].top_reasons.values()) > 0


def test_a_sender_shows_its_certificate_and_may_send_as_its_own_facility_alone(door, tmp_path):
    authority = Authority(tmp_path)
    (server, server_key), (engine, engine_key) = authority.issue("cuff.example"), authority.issue("engine.example")
    sources = tmp_path / "sources.toml"
    sources.write_text('[source.simulated]\nsending_facilities = ["SIMHOSP"]\nclient_certificates = ["engine.example"]\n'
                       '[source.other]\nsending_facilities = ["OTHER"]\n')
    house = door.model_copy(update={
        "listen_tls_certificate": server, "listen_tls_key": server_key, "listen_tls_client_ca": authority.path,
        "sources_file": sources})
    messages = messages_of(20)
    foreign = [message.replace(b"|SIMHOSP|", b"|OTHER|", 1) for message in messages[:3]]
    address = MllpAddress.parse(f"mllps://127.0.0.1:{door.mllp_port}")
    with cuff_process(house, "listen", port=door.mllp_port, log=tmp_path / "listener.log"):
        done = play(messages + foreign, address, tls=address.client_context(authority.path, engine, engine_key))
        with pytest.raises(SendError, match="took no message"):
            play(messages, address, tls=address.client_context(authority.path), patience_seconds=0.3)
        (tmp_path / "stranger").mkdir()
        stranger = Authority(tmp_path / "stranger")
        with pytest.raises(SendError, match="certificate verify failed"):
            play(messages, address, tls=address.client_context(stranger.path, engine, engine_key), patience_seconds=0.3)
    assert (done.sent, done.rejected) == (len(messages) + 3, 3)
    assert all("certificate_mismatch" in reason for reason in done.reasons if reason.startswith("AR"))


def wait_for_entries(settings: Settings, number: int) -> None:
    deadline = utc_now() + timedelta(seconds=30)
    while utc_now() < deadline:
        with store_session(settings) as session:
            if session.scalar(select(func.count(InboxEntry.inbox_sequence))) >= number:
                return
    raise AssertionError("nothing arrived")
