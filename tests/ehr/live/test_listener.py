"""The MLLP listener over real sockets: what may stand on the wire, in which order it is answered, and how it drains."""

import signal
import socket
import threading
import time

import pytest
from sqlalchemy import select

from core.errors import ConfigurationError
from core.store import Payload, store_session
from ehr.live.mllp import END, START, frame
from tests.conftest import make_settings
from tests.ehr.live.listening import (
    Peer,
    adt,
    eventually,
    faulty,
    free_ports,
    listening,
    locked_inbox,
    quarantined,
    reasons,
    stored_contents,
)
from tests.ehr.live.live_house import patient
from tests.ehr.live.processes import cuff_process


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    with listening(make_settings(tmp_path_factory.mktemp("door") / "var")) as door:
        yield door


def test_pipelined_messages_are_answered_in_their_order(door):
    contents = [faulty(f"p{nth}") if nth % 7 == 3 else adt(f"p{nth}") for nth in range(200)]
    with door.peer() as peer:
        peer.send(*contents)
        told = [peer.answer() for _ in contents]
    assert [one.control_id for one in told] == [b"p%d" % nth for nth in range(200)]
    assert [one.code for one in told] == ["AE" if nth % 7 == 3 else "AA" for nth in range(200)]
    assert set(contents) <= {*stored_contents(door.settings), *stored_contents(door.settings, "quarantined")}


def test_a_large_message_does_not_let_the_small_ones_behind_it_pass(door):
    large = adt("large", patient("17"), "NTE|1||" + "x" * 300_000)
    with door.peer() as peer:
        peer.send(adt("l0"), large, adt("l1"), large, faulty("l2"), adt("l3"))
        told = [peer.answer() for _ in range(6)]
    assert [one.control_id for one in told] == [b"l0", b"large", b"l1", b"large", b"l2", b"l3"]
    assert [one.code for one in told] == ["AA", "AA", "AA", "AA", "AE", "AA"]


def test_many_connections_each_get_their_own_answers(door):
    peers = [door.peer() for _ in range(40)]
    for turn in range(3):
        for nth, peer in enumerate(peers):
            peer.send(adt(f"m{nth}-{turn}"))
        for nth, peer in enumerate(peers):
            assert peer.answer().control_id == b"m%d-%d" % (nth, turn)
    for peer in peers:
        peer.socket.close()


def test_a_byte_at_a_time(door):
    with door.peer() as peer:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(adt("slow")) + frame(adt("slow too")):
            peer.write(bytes([byte]))
        assert [peer.answer().control_id for _ in range(2)] == [b"slow", b"slow too"]


def test_a_nested_block_cuts_the_one_before_and_only_whole_frames_are_answered(door):
    before = quarantined(door, "truncated")
    with door.peer() as peer:
        peer.write(START + adt("half")[:60] + frame(adt("whole")))
        assert peer.answer().control_id == b"whole"
        assert quarantined(door, "truncated") == before + 1
        peer.write(START + adt("no cr") + END + frame(adt("after")))
        assert peer.answer().control_id == b"after"
    assert quarantined(door, "truncated") == before + 2
    assert adt("no cr") not in stored_contents(door.settings)


def test_bytes_between_frames_are_quarantined_and_white_space_is_not(door):
    before = quarantined(door, "outside_frame")
    with door.peer() as peer:
        peer.write(b"\r\n" + frame(adt("w1")) + b" \r\n\x00" + frame(adt("w2")) + b"GET / HTTP/1.1\r\n" + frame(adt("w3")))
        assert peer.codes(3) == ["AA"] * 3
        assert quarantined(door, "outside_frame") == before + 1
        peer.write(b"the rest")
    assert eventually(lambda: quarantined(door, "outside_frame") == before + 2)
    assert {b"GET / HTTP/1.1", b"the rest"} <= {content.strip() for content in stored_contents(door.settings, "quarantined")}


def test_a_peer_that_hangs_up_in_a_frame_leaves_a_truncated_message(door):
    before = quarantined(door, "truncated")
    with door.peer() as peer:
        peer.write(START + adt("gone")[:70])
    assert eventually(lambda: quarantined(door, "truncated") == before + 1)


def test_a_peer_that_sends_no_more_still_gets_its_answers(door):
    with door.peer() as peer:
        peer.send(*(adt(f"h{nth}") for nth in range(50)))
        peer.write(START + adt("never ended")[:50])
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.codes(50) == ["AA"] * 50
        assert peer.is_closed()


def test_a_drain_answers_what_waits_to_be_stored(tmp_path):
    settings = make_settings(tmp_path / "var")
    with listening(settings) as door:
        peer, large = door.peer(), adt("large", patient("17"), "NTE|1||" + "x" * 200_000)
        with locked_inbox(settings) as writer:
            peer.send(adt("first"))
            more = b"".join(frame(adt(f"w{nth}")) for nth in range(6000)) + START + adt("half")[:50]
            peer.write(frame(large))
            threading.Thread(target=peer.write, args=(more,)).start()
            assert eventually(lambda: any(connection._unanswered > 1000 for connection in door.doors.mllp.connections))
            threading.Timer(0.5, writer.rollback).start()
            time.sleep(0.3)
            left = time.monotonic()
            door.stop()
            answered = peer.rest()  # not reset on what was left unread
            peer.socket.close()
    assert time.monotonic() - left < 10
    assert {one.code for one in answered} == {"AA"}
    assert 1000 < len(answered) < 6002
    assert len(stored_contents(settings)) == len(answered)
    assert reasons(door) == []


@pytest.mark.slow
def test_sigterm_drains_and_ends_well(tmp_path):
    ports = free_ports(2)
    settings = make_settings(tmp_path / "var", mllp_port=ports[0], fhir_port=ports[1])
    log = tmp_path / "log"
    with cuff_process(settings, "listen", port=ports[0], log=log) as process:
        with Peer(ports[0]) as peer:
            peer.send(*(adt(f"k{nth}") for nth in range(500)))
            answered = [peer.answer()]
            process.send_signal(signal.SIGTERM)
            answered += peer.rest()
        assert process.wait(20) == 0, log.read_text()
    assert "listening: MLLP" in log.read_text()
    assert "Traceback" not in log.read_text()
    with store_session(settings) as session:
        assert len(session.scalars(select(Payload.payload_id)).all()) == len(answered)


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for name in ("mllp_port", "fhir_port"):
            told = f"port {port} cannot be listened on.*CUFF_{name.upper()}"
            with pytest.raises(ConfigurationError, match=told), listening(make_settings(tmp_path / "var"), **{name: port}):
                pass
