"""The sender gives every message to the other side at least once, in order, and keeps it until it is acknowledged."""

import asyncio
import time
from collections import Counter

import pytest

from ehr.live.acknowledged import acknowledged
from ehr.live.send import MllpSender, SendError
from tests.ehr.live.mllp_peer import Peer, answer


def message(number: int, person: str = "P1") -> bytes:
    return f"MSH|^~\\&|SIM|HOSP|||20260101||ADT^A08|C{number}|P|2.5.1\rPID|1||{person}\r".encode()


def first_deliveries(received: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(received))


def play(peer: Peer, messages, **options):
    async def run():
        async with peer.running():
            sender = MllpSender("127.0.0.1", peer.port, **{"ack_timeout_seconds": 0.4} | options)
            return await asyncio.wait_for(sender.send(messages), 20)

    return asyncio.run(run())


MESSAGES = [message(number) for number in range(40)]


def test_every_message_arrives_once_where_nothing_goes_wrong():
    peer = Peer()
    done = play(peer, MESSAGES)
    assert peer.received == MESSAGES
    assert (done.sent, done.accepted, done.resent, done.reconnects, peer.connections) == (40, 40, 0, 0, 1)


@pytest.mark.parametrize("window", [1, 7])
def test_a_connection_that_is_dropped_is_made_anew_and_what_was_not_answered_goes_again(window):
    peer = Peer(lambda number, _: ("drop", "") if number % 6 == 0 else ("AA", ""))
    done = play(peer, MESSAGES, window=window)
    assert first_deliveries(peer.received) == MESSAGES
    assert done.accepted == done.sent == 40
    assert done.resent == len(peer.received) - 40 or window > 1  # what was in flight when it dropped was never read
    assert done.reconnects == peer.connections - 1 >= 5


def test_an_acknowledgement_that_comes_late_is_waited_for_no_longer_than_asked():
    peer = Peer(lambda number, _: ("late", "") if number in (3, 9) else ("AA", ""))
    done = play(peer, MESSAGES[:12])
    assert Counter(peer.received)[MESSAGES[2]] == 2
    assert (done.accepted, done.resent) == (12, 2)


def test_faults_are_answers_counted_with_their_reason():
    def behave(number, _):
        return {4: ("AE", "101^Required field missing^HL70357|E||||no_patient_identifier"),
                5: ("AR", "200^Unsupported message type^HL70357|E")}.get(number, ("AA", ""))

    done = play(Peer(behave), MESSAGES[:10])
    assert (done.sent, done.accepted, done.errors, done.rejected, done.resent) == (10, 8, 1, 1, 0)
    assert done.reasons == {"AE no_patient_identifier": 1, "AR Unsupported message type": 1}


def test_what_cannot_be_stored_is_sent_again_before_anything_behind_it():
    peer = Peer(lambda number, _: ("AR", "207^Application internal error^HL70357|E") if 3 <= number <= 5 else ("AA", ""))
    done = play(peer, MESSAGES[:6])
    assert peer.received == [*MESSAGES[:2], *[MESSAGES[2]] * 4, *MESSAGES[3:6]]
    assert (done.accepted, done.rejected, done.resent) == (6, 0, 3)


def test_patience_ends_with_how_far_it_came():
    peer = Peer(lambda number, _: ("AA", "") if number < 4 else ("AR", "207^Disk full^HL70357|E"))
    with pytest.raises(SendError, match=r"took no message for \d+ s \(AR Disk full\)") as told:
        play(peer, MESSAGES, patience_seconds=0.5)
    assert told.value.summary.accepted == 3


def test_nobody_there_is_one_clear_error():
    async def run():
        async with Peer().running() as peer:
            port = peer.port
        await MllpSender("127.0.0.1", port, patience_seconds=0.2).send(MESSAGES)

    with pytest.raises(SendError, match="check that `cuff listen` runs there"):
        asyncio.run(run())


def test_a_feed_that_was_idle_for_long_still_has_all_its_patience():
    peer = Peer(lambda number, _: ("drop", "") if number == 2 else ("AA", ""))
    done = play(peer, MESSAGES[:2], rate=1.5, patience_seconds=0.3)
    assert (done.accepted, done.resent) == (2, 1)


def test_an_idle_connection_that_is_closed_costs_no_patience():
    async def run():
        peer = Peer()
        async with peer.running():
            sender = MllpSender("127.0.0.1", peer.port, rate=1.5, patience_seconds=0.3, ack_timeout_seconds=0.4)
            sending = asyncio.create_task(sender.send(MESSAGES[:2]))
            await asyncio.sleep(0.2)
            peer.hang_up()
            peer.behave = lambda number, _: ("drop", "") if number == 2 else ("AA", "")
            return await asyncio.wait_for(sending, 20)

    done = asyncio.run(run())
    assert (done.sent, done.accepted, done.resent) == (2, 2, 1)


def test_a_listener_that_is_started_again_on_its_port_gets_the_rest():
    async def run():
        peer, again = Peer(), Peer()
        async with peer.running():
            port = peer.port
            sending = asyncio.create_task(MllpSender("127.0.0.1", port, rate=100, ack_timeout_seconds=0.4).send(MESSAGES))
            await asyncio.sleep(0.1)
            peer.behave = lambda _number, _message: ("drop", "")
        await asyncio.sleep(0.3)
        async with again.running(port):
            return peer, again, await asyncio.wait_for(sending, 20)

    peer, again, done = asyncio.run(run())
    assert first_deliveries(peer.received + again.received) == MESSAGES
    assert done.accepted == 40
    assert done.resent > 0


def test_no_message_is_sent_before_its_turn():
    """A busy machine may delay what is paced; nothing makes it come early."""
    peer = Peer()
    began = time.monotonic()
    done = play(peer, MESSAGES, rate=80, connections=3, window=4)
    assert done.seconds > 39 / 80 * 0.95
    assert all(at - began > number / 80 * 0.95 for number, at in enumerate(sorted(peer.arrived_at)))


def test_one_persons_messages_keep_their_order_over_many_connections():
    messages = [message(number, f"P{number % 9}") for number in range(180)]
    peer = Peer(lambda number, _: ("drop", "") if number % 17 == 0 else ("AA", ""))
    done = play(peer, messages, connections=4, lane=lambda content: content.split(b"PID")[1])
    assert done.accepted == 180
    told = first_deliveries(peer.received)
    for person in range(9):
        mine = [content for content in messages if content.endswith(f"P{person}\r".encode())]
        assert [content for content in told if content in mine] == mine


def test_repeats_of_one_control_id_in_one_window_have_an_answer_each():
    peer = Peer()
    done = play(peer, [MESSAGES[0], MESSAGES[0], MESSAGES[1], MESSAGES[0]], window=4)
    assert (done.sent, done.accepted, done.resent) == (4, 4, 0)


def test_a_frame_without_a_header_is_answered_by_order():
    peer = Peer(lambda _number, content: ("AA", "") if content.startswith(b"MSH") else ("AR", "100^no header"))
    done = play(peer, [MESSAGES[0], b"GET / HTTP/1.1\r\n\r\n", MESSAGES[1]], window=3)
    assert (done.accepted, done.rejected) == (2, 1)


def test_a_source_that_fails_ends_the_sending():
    def source():
        yield MESSAGES[0]
        raise ValueError("no more world")

    with pytest.raises(ValueError, match="no more world"):
        play(Peer(), source())


def test_acknowledgements_are_read():
    told = acknowledged(answer(b"C7", "CE", "101^Required field missing^HL70357|E")[1:-2])
    assert told is not None
    assert (told.code, told.control_id, told.condition, told.reason) == ("CE", b"C7", "101", "Required field missing")
    assert told.is_error
    assert not told.is_temporary
    assert acknowledged(b"MSH|^~\\&|A\rMSA|XX|C7\r") is None
    assert acknowledged(b"") is None
    assert acknowledged(b"PID|1") is None
