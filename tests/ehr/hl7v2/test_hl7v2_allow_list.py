"""The list of fields that may pass is data: what it does not name is gone before anything reads a message."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ehr.hl7v2 import allow_list
from ehr.hl7v2.message import parse_message
from tests.ehr.hl7v2.parsing_of_bytes import Parse

LIST = Path(allow_list.__file__).resolve().parent.parent / "allow_list.toml"
SEGMENTS = ("EVN", "PID", "PD1", "NK1", "PV1", "MRG", "DG1", "OBR", "OBX", "NTE", "IN1", "ZXX")
RESULT = (
    b"MSH|^~\\&|LAB|NORTH|C|C|20240305100000+0000||ORU^R01|1|P|2.5\r"
    b"PID|1||7^^^NORTH^MR||Quill^Zephyrine||19610714|F\r"
    b"OBR|1||o1||||20240305\rOBX|1|NM|8480-6^Systolic^LN||141|mm[Hg]|||||F\r"
)


@pytest.fixture
def shortened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    """Take fields off the list, for one test."""
    def forget() -> None:
        allow_list.allowed_fields.cache_clear()
        allow_list.vault_fields.cache_clear()

    def without(*places: str) -> None:
        text = LIST.read_text()
        for place in places:
            assert f"[hl7v2.{place}]\n" in text
            text = text.replace(f"[hl7v2.{place}]\n", f"[elsewhere.{place}]\n")
        (tmp_path / "allow_list.toml").write_text(text)
        monkeypatch.setattr(allow_list, "_FILE", tmp_path / "allow_list.toml")
        forget()

    yield without
    forget()


def test_every_field_says_where_it_goes_and_why():
    for place, entry in tomllib.loads(LIST.read_text())["hl7v2"].items():
        segment, _, number = place.partition("-")
        assert len(segment) == 3, place
        assert int(number) > 0, place
        assert entry["to"] in ("lake", "vault"), place
        assert ("as" in entry) == (entry["to"] == "vault"), place
        assert len(entry["reason"]) > 10, place


def test_only_listed_fields_are_left():
    lines = ["MSH|^~\\&|" + "|".join(f"MSH-{n}" for n in range(3, 26))]
    lines += [f"{name}|" + "|".join(f"{name}-{n}" for n in range(1, 60)) for name in SEGMENTS]
    message = allow_list.allowed_part(parse_message("\r".join(lines)))
    assert [segment.name for segment in message.segments] == ["MSH", *SEGMENTS]
    left = {field for segment in message.segments for field in segment.fields[1:] if field}
    assert left == set(tomllib.loads(LIST.read_text())["hl7v2"])


def test_what_is_taken_off_the_list_is_not_read_any_more(parse: Parse, shortened):
    whole = parse(RESULT)
    assert whole.rows["hl7v2_patients"][0]["gender"] == "female"
    assert whole.rows["hl7v2_observations"][0]["value_number"] == 141
    assert "name" in whole.vault[0].content
    shortened("PID-8", "OBX-5", "PID-5")
    cut = parse(RESULT)
    assert cut.rows["hl7v2_patients"][0]["gender"] is None
    assert cut.rows["hl7v2_observations"][0]["value_number"] is None
    assert "name" not in cut.vault[0].content
    assert cut.rows["hl7v2_patients"][0]["birth_date"] == whole.rows["hl7v2_patients"][0]["birth_date"]
