"""Acknowledgements over real sockets: of what was stored, what was refused, and what could not be stored."""

import time

import pytest

from tests.conftest import make_settings
from tests.ehr.live.listening import Peer, adt, eventually, faulty, listening, locked_inbox, reasons, stored_contents
from tests.ehr.live.live_house import message, patient


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    with listening(make_settings(tmp_path_factory.mktemp("door") / "var")) as door:
        yield door


@pytest.fixture
def impatient(monkeypatch):
    """Storing gives up soon where the inbox is locked."""
    monkeypatch.setattr("ehr.live.inbox_rows._BUSY_MILLISECONDS", 50)


@pytest.mark.parametrize("content", [
    b"", b"rubbish", b"MSH", b"MSH|^~\\&|A|B|||2024||ADT^A04|\r", b"MSH|||\r", b"\xff\xfeM\x00S\x00", b"PID|1||17\r",
])  # fmt: skip
def test_a_header_that_cannot_be_used_is_rejected(door, content):
    with door.peer() as peer:
        assert peer.ask(content) == ["AR"]
        assert peer.ask(content) == ["AR"]
        assert peer.ask(adt("fine")) == ["AA"]


def test_the_same_message_is_acknowledged_again_and_the_same_number_with_other_content_is_not(door):
    with door.peer() as peer:
        assert peer.ask(adt("r1"), adt("r1")) == ["AA", "AA"]
        assert peer.ask(adt("r1"), adt("r1", patient("17", name="Roe^Ann")), adt("r1")) == ["AA", "AE", "AA"]
    with door.peer() as another:
        another.send(adt("r1", patient("17", name="Roe^Ann")))
        told = another.answer()
    assert (told.code, told.condition) == ("AE", "205")
    assert told.reason.startswith("control_id_reused")
    assert stored_contents(door.settings).count(adt("r1")) == 1


_CHARSETS = [
    ("ASCII", "Mueller", "ascii", "AA"), ("ASCII", "Müller", "latin-1", "AE"), ("8859/1", "Müller", "latin-1", "AA"),
    ("UNICODE UTF-8", "Müller 王", "utf-8", "AA"), ("UNICODE UTF-8", "Müller", "latin-1", "AE"), ("", "Müller", "utf-8", "AA"),
    ("", "Müller", "latin-1", "AE"), ("KLINGON", "Müller", "utf-8", "AE"),
]  # fmt: skip


@pytest.mark.parametrize(("charset", "name", "encoding", "code"), _CHARSETS)
def test_bytes_are_kept_as_they_came_and_refused_where_they_are_not_what_msh_18_says(door, charset, name, encoding, code):
    number = f"ch-{charset}-{encoding}-{name.isascii()}".replace(" ", "")
    content = message(number, patient("17", name), charset=charset).encode(encoding)
    with door.peer() as peer:
        peer.send(content)
        told = peer.answer()
    assert (told.code, told.control_id) == (code, number.encode())
    assert content in stored_contents(door.settings, "received" if code == "AA" else "quarantined")


def test_a_number_that_is_not_ascii_is_echoed_byte_for_byte(door):
    for number, charset, encoding in (("Nö1", "8859/1", "latin-1"), ("Nö王", "UNICODE UTF-8", "utf-8")):
        with door.peer() as peer:
            peer.send(message(number, patient("17"), charset=charset).encode(encoding))
            assert b"\rMSA|AA|" + number.encode(encoding) + b"\r" in peer.answer_bytes()


# MSH-15 and MSH-16, and who is told what: of a sound message, of a faulty one, and of one that cannot be stored.
_MODES = [
    ("", "", "AA", "AE", "AR"), ("AL", "NE", "CA", "CE", "CR"), ("AL", "AL", "CA AA", "CA AE", "CR"),
    ("AL", "ER", "CA", "CA AE", "CR"), ("AL", "SU", "CA AA", "CE", "CR"), ("NE", "AL", "AA", "AE", "AR"),
    ("NE", "ER", "", "AE", "AR"), ("NE", "SU", "AA", "", ""), ("NE", "NE", "", "", ""), ("ER", "NE", "", "CE", "CR"),
    ("ER", "AL", "AA", "AE", "CR"), ("ER", "ER", "", "AE", "CR"), ("SU", "NE", "CA", "", ""),
    ("SU", "AL", "CA AA", "CA AE", "AR"), ("SU", "SU", "CA AA", "", ""),
]  # fmt: skip


def _in_mode(number: str, accept: str, application: str, *segments: str) -> bytes:
    header, _, rest = adt(number, *segments).partition(b"\r")
    return header + f"|||{accept}|{application}\r".encode() + rest


def _told_in_each_mode(peer: Peer, name: str, *segments: str) -> list[str]:
    last = adt(f"{name} last")  # answered always, whatever the modes before it
    numbers = [f"{name}{nth}" for nth in range(len(_MODES))]
    peer.send(*(_in_mode(number, *mode[:2], *segments) for number, mode in zip(numbers, _MODES, strict=True)), last)
    told: dict[bytes, list[str]] = {number.encode(): [] for number in numbers}
    while (one := peer.answer()).control_id != f"{name} last".encode():
        told[one.control_id].append(one.code)
    return [" ".join(codes) for codes in told.values()]


def test_enhanced_mode_answers_as_asked(door):
    with door.peer() as peer:
        assert _told_in_each_mode(peer, "good") == [mode[2] for mode in _MODES]
        assert _told_in_each_mode(peer, "bad", "PID|1||") == [mode[3] for mode in _MODES]


def test_what_cannot_be_stored_is_never_accepted_and_is_when_it_can(tmp_path, impatient):
    with listening(make_settings(tmp_path / "var")) as door, door.peer() as peer:
        assert peer.ask(adt("s0")) == ["AA"]
        with locked_inbox(door.settings):
            peer.send(adt("s1"), faulty("s2"), b"rubbish", adt("s0"))
            told = [peer.answer() for _ in range(4)]
            assert [one.code for one in told] == ["AR"] * 4
            assert all(one.is_temporary for one in told)
            assert _told_in_each_mode(peer, "none") == [mode[4] for mode in _MODES]
        assert stored_contents(door.settings) == [adt("s0")]
        assert reasons(door) == []
        assert peer.ask(adt("s1"), faulty("s2"), b"rubbish", adt("s0")) == ["AA", "AE", "AR", "AA"]
        assert reasons(door) == ["no_msh", "no_patient_identifier"]


def test_a_message_that_the_database_does_not_take_keeps_no_other_from_being_stored(tmp_path):
    with listening(make_settings(tmp_path / "var")) as door, door.peer() as peer:
        with locked_inbox(door.settings) as writer:
            writer.exec_driver_sql("create trigger no before insert on payloads when new.size_bytes > 2000 "
                                   "begin select raise(abort, 'no'); end")
            peer.send(adt("t1"), adt("t2", patient("17"), "NTE|1||" + "x" * 3000), adt("t3"))
            time.sleep(0.2)  # all three are waiting: one group
            writer.commit()
        assert peer.codes(3) == ["AA", "AR", "AA"]


def test_while_the_disk_hangs_senders_are_refused_and_what_was_stored_after_all_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr("ehr.live.group_commit._STUCK_SECONDS", 0.3)
    settings = make_settings(tmp_path / "var")
    with listening(settings) as door, door.peer() as peer:
        with locked_inbox(settings):  # for which the inbox waits eight seconds
            assert peer.ask(adt("s1")) == ["AR"]
            assert peer.ask(adt("s2"), adt("s3")) == ["AR", "AR"]
        assert eventually(lambda: stored_contents(settings)) == [adt("s1")]
        assert eventually(lambda: peer.ask(adt("s2")) == ["AA"])
        assert peer.ask(adt("s1"), adt("s3")) == ["AA", "AA"]
        assert len(stored_contents(settings)) == 3
