"""The door's quick look at plain messages says what the exact reader says, or leaves the message to it."""

from hypothesis import given
from hypothesis import strategies as st

from bench.feed import sound_messages
from ehr.hl7v2.plain import judge_plain
from ehr.hl7v2.read import judge_message
from tests.ehr.hl7v2.parsing_of_bytes import ELSEWHERE, NORTH

KEY = b"k" * 32
SOUND = sound_messages(40)
PLAIN = (b"MSH|^~\\&|LAB|NORTH|CUFF|HOSP|20240501093000-0400||ORU^R01^ORU_R01|M1|P|2.5.1||||||UNICODE UTF-8\r"
         b"PID|1||12345^^^NORTH^MR||\r"
         b"OBR|1|||85354-9^BP^LN|||20240501092900\r"
         b"OBX|1|NM|8480-6^Systolic^LN||128|mm[Hg]|||||F\r")  # fmt: skip
_PIECES = [b"|", b"^", b"~", b"\\", b"&", b"\r", b"\n", b"\x0b", b"\x1c", b"\0", b"\xff", b"\xc3\xa9", b" ", b'""',
           b"MSH", b"PID|", b"\rPID|", b"\rMSH|", b"\rOBX|1", b"8859/1", b"99999999", b"-0500", b"24", b"ZZZ", b"A08",
           b"ADT^A40", b"NORTH"]  # fmt: skip


def both(content):
    def source_for(facility):
        return NORTH if facility == "NORTH" else ELSEWHERE

    return judge_plain(content, source_for, KEY), judge_message(content, source_for, KEY)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from([PLAIN, PLAIN, *SOUND])))
    for _ in range(draw(st.integers(1, 4))):
        # Most of the judgement hangs on the header and the person.
        at = draw(st.integers(0, min(len(data) - 1, 260)))
        match draw(st.sampled_from(["flip", "insert", "replace", "cut"])):
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[at:at] = draw(st.sampled_from(_PIECES))
            case "replace":
                piece = draw(st.sampled_from(_PIECES))
                data[at : at + len(piece)] = piece
            case "cut":
                del data[at : at + draw(st.integers(1, 12))]
    return bytes(data)


def test_a_plain_message_is_judged_at_once():
    quick, exact = both(PLAIN)
    assert quick == exact
    assert exact.reject is None
    assert exact.person_key


def test_nearly_every_message_of_a_feed_is_plain():
    judged = [both(message) for message in SOUND]
    assert all(quick == exact for quick, exact in judged)


@given(changed())
def test_whatever_was_changed_the_quick_look_never_says_otherwise(content):
    quick, exact = both(content)
    assert quick is None or quick == exact
