"""Messages that nobody here wrote: everything is read, and what is not used is of a type nobody asked for."""

from collections import Counter
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "hl7v2_microsoft"
HANDLED = ("ADT", "ORU")

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real-format extracts are not beside the project")


def test_every_file_is_read(parse):
    received: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    for path in sorted(SAMPLES.glob("*.hl7")):
        parsed = parse(path.read_bytes())
        assert parsed.rejects == [], path.name
        assert sum(parsed.received.values()) == 1, path.name
        received.update(name for _unit, name in parsed.received.elements())
        accepted.update(row["message_type"] for row in parsed.rows["hl7v2_messages"])
    print(f"\n{'type':10}{'received':>9}{'accepted':>9}{'ignored':>9}")
    for name, number in sorted(received.items()):
        print(f"{name:10}{number:9}{accepted[name]:9}{number - accepted[name]:9}")
    assert sum(received.values()) == len(list(SAMPLES.glob("*.hl7")))
    assert accepted == Counter({name: number for name, number in received.items() if name.startswith(HANDLED)})


def test_two_pairs_of_one_merge(parse):
    rows = parse((SAMPLES / "ADT-A40-02.hl7").read_bytes()).rows
    links = [(row["person_key"], row["other_person_key"]) for row in rows["person_links"]]
    persons = [row["person_key"] for row in rows["hl7v2_patients"]]
    assert [survivor for _retired, survivor in links] == persons
    assert len({key for link in links for key in link}) == 4


def test_repeated_values_are_rows_of_their_own(parse):
    rows = parse((SAMPLES / "ADT-A01-01.hl7").read_bytes()).rows["hl7v2_observations"]
    assert [(row["locator"], row["value_number"]) for row in rows] == [
        ("message 1 OBX[1]", 60.0),
        ("message 1 OBX[1]-5[2]", 120.0),
    ]


def test_two_visits_moved_at_once(parse):
    rows = parse((SAMPLES / "ADT-A45-02.hl7").read_bytes()).rows["hl7v2_encounters"]
    assert len({row["encounter_key"] for row in rows}) == 2
    assert {row["message_type"] for row in rows} == {"ADT^A45"}
