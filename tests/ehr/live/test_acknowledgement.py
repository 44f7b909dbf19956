"""Acknowledgements: what is echoed, what is said, and who is told what in which mode."""

from datetime import UTC, datetime

import pytest

from ehr.live.acknowledged import acknowledged
from ehr.live.acknowledgement import NOT_STORED, TOO_LARGE, acknowledgements, read_header
from ehr.records import Reject

_NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_FAULT = Reject("message", "ADT^A08", "message 1 PID[2]-3", "no_patient_identifier", "PID-3 holds no identifier")
_HEADER_FAULT = Reject("message", "unknown", "message 1 MSH-2", "bad_delimiters", "MSH-2 does not name distinct delimiters")


def message(accept: str = "", application: str = "", version: str = "2.5.1", charset: str = "8859/1") -> bytes:
    return (f"MSH|^~\\&|LAB|HOSP|CUFF|HOUSE|20260301||ADT^A08^ADT_A01|N-17|T|{version}|||{accept}|{application}||{charset}\r"
            "PID|1||17^^^HOSP^MR\r").encode()  # fmt: skip


def answer(content: bytes, reject: Reject | None = None) -> list[list[bytes]]:
    only, = acknowledgements(read_header(content), reject, _NOW)
    return [segment.split(b"|") for segment in only.rstrip(b"\r").split(b"\r")]


def codes(content: bytes, reject: Reject | None) -> list[str]:
    told = [acknowledged(each) for each in acknowledgements(read_header(content), reject)]
    assert all(each is not None and each.control_id == b"N-17" for each in told)
    return [each.code for each in told if each]


def test_an_acceptance_goes_back_to_who_sent_with_what_it_was_sent_under():
    msh, msa = answer(message())
    assert msh[1:6] == [b"^~\\&", b"CUFF", b"HOUSE", b"LAB", b"HOSP"]
    assert msh[6:9] == [b"20260301120000+0000", b"", b"ACK^A08^ACK"]
    assert msh[10:12] == [b"T", b"2.5.1"]
    assert msh[17] == b"8859/1"
    assert msa == [b"MSA", b"AA", b"N-17"]


def test_each_acknowledgement_has_a_number_of_its_own():
    numbers = [answer(message())[0][9] for _ in range(100)]
    assert len(set(numbers)) == 100
    assert all(0 < len(number) <= 20 for number in numbers)


def test_a_fault_is_told_with_its_place():
    _msh, msa, err = answer(message(), _FAULT)
    assert msa == [b"MSA", b"AE", b"N-17"]
    assert err[2:5] == [b"PID^2^3", b"101^Required field missing^HL70357", b"E"]
    assert err[7] == b"no_patient_identifier: PID-3 holds no identifier; give the patient's number in PID-3"


def test_before_version_2_5_the_place_is_in_err_1_and_the_words_in_msa_3():
    _msh, msa, err = answer(message(version="2.3"), _FAULT)
    assert err == [b"ERR", b"PID^2^3^101&Required field missing&HL70357"]
    assert msa[3].startswith(b"no_patient_identifier: ")


def test_a_header_that_cannot_be_used_is_rejected_and_so_is_what_could_not_be_stored():
    assert answer(message(), _HEADER_FAULT)[1][1] == b"AR"
    for reject in (NOT_STORED, TOO_LARGE):
        frame, = acknowledgements(read_header(message()), reject)
        assert acknowledged(frame).is_temporary == (reject is NOT_STORED)
        assert acknowledged(frame).code == "AR"


@pytest.mark.parametrize("content", [b"", b"MSH", b"MSH|", b"MSH|^~\\&", b"PID|1", b"MSHA^~", b"\x00" * 30, b"MSH \r"])
def test_a_header_that_cannot_be_read_still_gets_a_whole_answer(content):
    msh, msa, _err = answer(content, _HEADER_FAULT)
    assert msh[0] == b"MSH"
    assert msa[:2] == [b"MSA", b"AR"]


def test_a_header_is_found_behind_a_byte_order_mark_and_a_batch_envelope():
    for before in (b"\xef\xbb\xbf", b"\r\n", b"FHS|^~\\&|A\rBHS|^~\\&|A\r"):
        assert read_header(before + message()).control_id == b"N-17"


def test_other_delimiters_are_the_ones_that_are_answered_in():
    content = message().replace(b"|", b"#").replace(b"^", b"@").replace(b"~\\&", b"*!+")
    only, = acknowledgements(read_header(content), _FAULT, _NOW)
    msh, msa, err = only.rstrip(b"\r").split(b"\r")
    assert msh.startswith(b"MSH#@*!+#CUFF#HOUSE#LAB#HOSP#20260301120000##ACK@A08@ACK#")
    assert msa == b"MSA#AE#N-17"
    assert err.startswith(b"ERR##PID@2@3#101@Required field missing@HL70357#E###no_patient_identifier: ")


def test_our_words_never_hold_the_senders_delimiters():
    content = b"MSH:;'-.:A:B:C:D:20260301::ADT;A08:N-17:P:2.5.1\r"
    _msh, _msa, err = acknowledgements(read_header(content), _FAULT)[0].rstrip(b"\r").split(b"\r")
    assert len(err.split(b":")) == 8
    assert b"PID 3 holds no identifier" in err


def test_where_the_bytes_are_not_what_msh_18_says_names_beyond_ascii_are_not_echoed_but_the_number_is():
    content = message(charset="UNICODE UTF-8").replace(b"LAB", b"L\xe4B").replace(b"N-17", b"N-\xe4")
    wrong = Reject("message", "ADT^A08", "message 1 MSH-18", "charset_mismatch", "the bytes are not UNICODE UTF-8")
    msh, msa, _err = answer(content, wrong)
    assert msh[4:6] == [b"", b"HOSP"]
    assert msa[2] == b"N-\xe4"


# What MSH-15 and MSH-16 ask for (HL7 table 0155), and the answers to a sound message, a fault, and what was not stored.
_MODES = [
    ("", "", ["AA"], ["AE"], ["AR"]),
    ("AL", "", ["CA"], ["CE"], ["CR"]),
    ("AL", "NE", ["CA"], ["CE"], ["CR"]),
    ("NE", "AL", ["AA"], ["AE"], ["AR"]),
    ("", "AL", ["AA"], ["AE"], ["AR"]),
    ("AL", "AL", ["CA", "AA"], ["CA", "AE"], ["CR"]),
    ("AL", "ER", ["CA"], ["CA", "AE"], ["CR"]),
    ("AL", "SU", ["CA", "AA"], ["CE"], ["CR"]),
    ("ER", "NE", [], ["CE"], ["CR"]),
    ("ER", "ER", [], ["AE"], ["CR"]),
    ("ER", "AL", ["AA"], ["AE"], ["CR"]),
    ("SU", "NE", ["CA"], [], []),
    ("SU", "SU", ["CA", "AA"], [], []),
    ("SU", "AL", ["CA", "AA"], ["CA", "AE"], ["AR"]),
    ("NE", "NE", [], [], []),
    ("NE", "ER", [], ["AE"], ["AR"]),
    ("NE", "SU", ["AA"], [], []),
    ("al", "ne", ["CA"], ["CE"], ["CR"]),
    ("??", "", ["CA"], ["CE"], ["CR"]),  # what cannot be understood is answered always
]


@pytest.mark.parametrize(("accept", "application", "sound", "faulty", "not_stored"), _MODES)
def test_who_is_told_what_in_enhanced_mode(accept, application, sound, faulty, not_stored):
    content = message(accept, application)
    assert codes(content, None) == sound
    assert codes(content, _FAULT) == faulty
    assert codes(content, NOT_STORED) == not_stored
