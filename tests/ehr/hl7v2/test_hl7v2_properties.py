"""Whatever the bytes: no exception, a ledger that balances, the same rows again, and no bytes of a person in them."""

import json
import string
from collections import Counter
from datetime import timedelta
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from ehr.records import ParsedPayload
from tests.ehr.hl7v2.parsing_of_bytes import parse_bytes

GOLDEN = sorted(path.read_bytes() for path in (Path(__file__).parent / "golden").glob("*.hl7"))
_HOSTILE = [b"|", b"^", b"~", b"\\", b"&", b"\r", b"\n", b"\x0b", b"\x1c", b"\0", b"\xff", b"\xef\xbb\xbf", b'""', b"MSH",
            b"MSH|", b"PID|", b"OBX|", b"MRG|", b"BHS|", b"\\X4", b"-", b"9" * 400, b"UNICODE UTF-8", "é".encode()]  # fmt: skip


def check_ledger(parsed: ParsedPayload) -> None:
    """Every message and file received is exactly one of accepted, ignored, refused, type by type."""
    accepted = Counter(("message", row["message_type"]) for row in parsed.rows["hl7v2_messages"])
    refused = Counter((reject.unit, reject.type) for reject in parsed.rejects)
    assert parsed.received == accepted + parsed.ignored + refused


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file with a few bits, bytes, fields or lines changed."""
    data = bytearray(draw(st.sampled_from(GOLDEN)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        end = min(len(data), at + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["flip", "insert", "cut", "tail", "repeat", "swap"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[at:at] = draw(st.sampled_from(_HOSTILE) | st.binary(max_size=8))
            case "cut":
                del data[at:end]
            case "tail":
                del data[at:]
            case "repeat":
                data[at:at] = data[at:end]
            case "swap":
                data = bytearray(data.replace(draw(st.sampled_from(_HOSTILE[:7])), draw(st.sampled_from(_HOSTILE[:7]))))
    return bytes(data)


@given(st.binary(max_size=400))
@example(b"")
@example(b"MSH")
@example(b"\x0bMSH|")
@example(b"MSH|^~\\&" + b"|" * 30)
def test_any_bytes(data):
    check_ledger(parse_bytes(data))


@given(st.lists(st.sampled_from(_HOSTILE) | st.binary(max_size=5), max_size=40).map(b"".join))
def test_hostile_pieces_behind_a_header(pieces):
    check_ledger(parse_bytes(b"MSH|^~\\&|A|NORTH|||2024||ADT^A40|1|P|2.5\rPID|1||7^^^NORTH^MR" + pieces))


@given(mutated())
def test_damaged_messages(data):
    parsed = parse_bytes(data)
    check_ledger(parsed)
    for rows in parsed.rows.values():
        for row in rows:
            assert row["known_at"].utcoffset() == timedelta(0)
            assert len(row["record_key"]) == len(row["person_key"]) == 32


@given(mutated())
def test_the_parser_is_pure(data):
    assert parse_bytes(data) == parse_bytes(data)


@given(st.sampled_from(GOLDEN), st.sampled_from([b"\n", b"\r", b"\r\n"]), st.booleans())
def test_line_ends_and_marks_change_nothing(data, line_end, has_mark):
    packed = (b"\xef\xbb\xbf" if has_mark else b"") + data.replace(b"\n", line_end)
    assert parse_bytes(packed) == parse_bytes(data)


@given(st.permutations(GOLDEN))
def test_files_put_together_give_what_they_give_apart(files):
    together = parse_bytes(b"\r".join(files))
    apart = [parse_bytes(data) for data in files]
    assert together.received == sum((parsed.received for parsed in apart), Counter())
    for table, rows in together.rows.items():
        assert [row["record_key"] for row in rows] == [r["record_key"] for parsed in apart for r in parsed.rows[table]]


# A name no field of a row may hold, wherever in the message it stands.
_FIELDS = {"PID": 39, "PV1": 52, "OBX": 25, "OBR": 50, "NTE": 4, "NK1": 39, "DG1": 21, "MRG": 7, "ZPX": 9}


@given(
    st.sampled_from(["ADT^A08", "ADT^A40", "ADT^A45", "ORU^R01"]),
    st.text(string.ascii_lowercase, min_size=6, max_size=12).map(lambda name: f"Xq{name} Zw{name}"),
    st.sampled_from(["NM", "ST", "SN", "CE", "CWE", "TX", "FT", "ED", "XX"]),
)
def test_a_planted_name_reaches_no_row_and_no_reject(message_type, name, kind):
    segments = [f"MSH|^~\\&|A|NORTH|{name}|{name}|20240101||{message_type}|1|P|2.5"]
    for segment, count in _FIELDS.items():
        fields = [f"{name}^{name}~{name}"] * count
        if segment == "PID":
            fields[2] = f"7^^^NORTH^MR~{name}^^^{name}^PI"
        if segment == "OBX":
            fields[1] = kind
        segments.append("|".join([segment, *fields]))
    parsed = parse_bytes("\r".join(segments).encode())
    assert len(parsed.rows["hl7v2_messages"]) == 1
    written = json.dumps([parsed.rows, [vars(reject) for reject in parsed.rejects]], default=str)
    assert name.split()[0] not in written
    assert name in json.dumps([entry.content for entry in parsed.vault])
