"""What a peer can make the MLLP listener hold or wait for: deadlines, caps, and memory, while its neighbours are served."""

import threading
import time
from contextlib import suppress

import pytest

from ehr.live.mllp import END, START, frame
from tests.conftest import make_settings
from tests.ehr.live.listening import Peer, adt, eventually, listening, quarantined, reasons, stored_contents
from tests.ehr.live.live_house import patient

MIB = 1 << 20


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    with listening(make_settings(tmp_path_factory.mktemp("door") / "var"), mllp_max_frame_bytes=MIB) as door:
        yield door


def test_a_frame_over_the_cap_is_told_so_although_the_sender_is_still_sending(door):
    with door.peer() as peer:
        peer.send(adt("c1"), adt("c2", patient("17"), "NTE|1||" + "x" * 5 * MIB), adt("c3"))
        told = [peer.answer() for _ in range(2)]
        assert [(one.code, one.control_id, one.is_temporary) for one in told] == [("AA", b"c1", False), ("AR", b"c2", False)]
        assert peer.is_closed()
    assert quarantined(door, "too_large") == 1
    assert adt("c3") not in stored_contents(door.settings)
    assert eventually(lambda: door.doors.mllp.load == 0)


def test_a_frame_that_drips_and_a_connection_that_idles_are_closed(tmp_path):
    with listening(make_settings(tmp_path / "var"), mllp_read_seconds=0.6, mllp_idle_seconds=1.2) as door:
        with door.peer() as idle, door.peer() as dripping, door.peer() as busy:
            dripping.write(frame(adt("d1")) + START)
            assert dripping.answer().code == "AA"
            closed: dict[Peer, float] = {}
            started, drops = time.monotonic(), iter(adt("d2", patient("17"), "NTE|1||" + "x" * 10_000))
            while len(closed) < 2 and time.monotonic() < started + 15:
                assert busy.ask(adt("busy")) == ["AA"]
                for peer in {idle, dripping} - set(closed):
                    peer.socket.settimeout(0.02)
                    try:
                        peer.write(bytes([next(drops)]) if peer is dripping else b"")
                        is_closed = not peer.socket.recv(1)
                    except TimeoutError:
                        is_closed = False
                    except ConnectionError:
                        is_closed = True
                    if is_closed:
                        closed[peer] = time.monotonic() - started
            assert closed[dripping] >= 0.5
            assert closed[idle] >= 1.0
        assert eventually(lambda: reasons(door)) == ["truncated"]


def test_connections_over_the_cap_are_closed_and_the_others_served(tmp_path):
    with listening(make_settings(tmp_path / "var"), mllp_max_connections=3) as door:
        peers = [door.peer() for _ in range(3)]
        assert [peer.ask(adt(f"n{nth}")) for nth, peer in enumerate(peers)] == [["AA"]] * 3
        with door.peer() as over:
            assert over.is_closed()
        assert peers[0].ask(adt("still")) == ["AA"]
        peers.pop().socket.close()
        assert eventually(lambda: len(door.doors.mllp.connections) == 2)
        with door.peer() as another:
            assert another.ask(adt("room again")) == ["AA"]


def test_a_peer_that_reads_no_answers_is_not_read_without_bound(door):
    """Answers are as long as the messages here, as they echo their number; what is read is answered or held."""
    contents = [adt(f"{nth:04}" + "n" * 4000) for nth in range(4000)]  # 16 MiB
    with door.peer(buffer_bytes=4096) as peer, door.peer() as neighbour:
        peer.socket.settimeout(1.5)
        wire, sent = b"".join(map(frame, contents)), 0
        with suppress(TimeoutError):
            while sent < len(wire):
                sent += peer.socket.send(wire[sent:sent + 65536])
        assert sent < len(wire) * 0.8
        assert neighbour.ask(adt("neighbour")) == ["AA"]
        assert door.doors.mllp.load < 6 * MIB
        peer.socket.settimeout(20)
        whole = wire[:sent].count(END)
        assert [peer.answer().control_id[:4] for _ in range(whole)] == [b"%04d" % nth for nth in range(whole)]


def test_one_chunk_of_tiny_frames_is_taken_bit_by_bit(door):
    wire = frame(b"") * 20_000
    with door.peer() as peer:
        threading.Thread(target=peer.write, args=(wire,)).start()
        most = 0
        for _ in range(20_000):
            assert peer.answer().code == "AR"
            most = max(most, max(connection._unanswered for connection in list(door.doors.mllp.connections)))
    assert most <= 1001


def test_half_sent_frames_of_many_are_held_to_a_bound_and_keep_nobody_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr("ehr.live.listener._LOAD_BYTES", 2 * MIB)
    settings = make_settings(tmp_path / "var")
    with listening(settings, mllp_max_frame_bytes=MIB, mllp_read_seconds=2) as door, door.peer() as neighbour:
        greedy = [door.peer() for _ in range(12)]
        for peer in greedy:
            peer.socket.setblocking(False)
        half, most, started = START + adt("half", patient("17"), "NTE|1||" + "x" * 900_000), 0, time.monotonic()
        left = dict.fromkeys(greedy, half)
        while time.monotonic() < started + 1.2:
            for peer, rest in left.items():
                with suppress(BlockingIOError, ConnectionError):
                    left[peer] = rest[peer.socket.send(rest):] if rest else rest
            most = max(most, door.doors.mllp.load)
            assert neighbour.ask(adt("neighbour")) == ["AA"]
        assert 2 * MIB < most < 6 * MIB
        assert eventually(lambda: len(door.doors.mllp.connections) == 1)
        assert eventually(lambda: door.doors.mllp.load == 0)
