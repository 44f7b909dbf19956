"""Who a message is about, which records are versions of one another, and which values are kept."""

import pytest

HEADER = "MSH|^~\\&|EHR|{facility}|C|C|{time}||{kind}|{control_id}|P|2.5.1\r"


def message(kind: str, *segments: str, control_id: str = "1", time: str = "20240301100000+0000", facility="NORTH") -> bytes:
    return (HEADER.format(kind=kind, control_id=control_id, time=time, facility=facility) + "\r".join(segments)).encode()


def person_of(parse, identifiers: str, **header) -> str:
    return parse(message("ADT^A28", f"PID|1||{identifiers}", **header)).rows["hl7v2_patients"][0]["person_key"]


def test_the_record_number_goes_before_every_other(parse):
    expected = person_of(parse, "7^^^NORTH^MR")
    assert person_of(parse, "1^^^SSA^SS~2^^^REGION^PI~7^^^NORTH^MR") == expected
    assert person_of(parse, "2^^^REGION^PI~1^^^SSA^SS") == person_of(parse, "1^^^SSA^SS~2^^^REGION^PI")
    assert person_of(parse, "7^^^NORTH") == expected
    assert person_of(parse, "7^^^SOUTH^MR") != expected


def test_an_authority_is_known_by_namespace_or_oid(parse):
    expected = person_of(parse, "7^^^REGION&2.999.7&ISO^PI")
    assert person_of(parse, "7^^^&2.999.7&ISO^PI") == expected
    assert person_of(parse, "7^^^OTHER&2.999.7&ISO^PI") == expected


def test_sources_do_not_share_undeclared_numbers(parse):
    assert person_of(parse, "7") != person_of(parse, "7", facility="SOUTH")
    assert person_of(parse, "7^^^X^MR") != person_of(parse, "7^^^X^MR", facility="SOUTH")


def test_old_messages_carry_the_number_in_pid_2(parse):
    rows = parse(message("ADT^A04", "PID|1|7^^^NORTH^MR")).rows
    assert rows["hl7v2_patients"][0]["person_key"] == person_of(parse, "7^^^NORTH^MR")


@pytest.mark.parametrize("event", ["A18", "A30", "A34", "A36", "A40", "A46", "A47"])
def test_merges(parse, event):
    (link,) = parse(message(f"ADT^{event}", "PID|1||7^^^NORTH^MR", "MRG|8^^^NORTH^MR")).rows["person_links"]
    assert link["link_type"] == "merge"
    assert link["person_key"] == person_of(parse, "8^^^NORTH^MR")
    assert link["other_person_key"] == person_of(parse, "7^^^NORTH^MR")


@pytest.mark.parametrize("event", ["A08", "A35", "A41", "A43", "A44", "A45", "A49", "A50"])
def test_moves_of_accounts_and_visits_merge_nobody(parse, event):
    assert parse(message(f"ADT^{event}", "PID|1||7^^^NORTH^MR", "MRG|8^^^NORTH^MR||A-1")).rows["person_links"] == []


def test_a_merge_of_a_number_into_itself_is_no_link(parse):
    assert parse(message("ADT^A40", "PID|1||7^^^NORTH^MR", "MRG|7^^^NORTH^MR")).rows["person_links"] == []


def test_unlinking_comes_after_linking(parse):
    persons = ("PID|1||7^^^NORTH^MR", "PID|2||8^^^NORTH^MR")
    (joined,) = parse(message("ADT^A24", *persons)).rows["person_links"]
    (left,) = parse(message("ADT^A37", *persons, time="20240302")).rows["person_links"]
    assert [joined["link_type"], left["link_type"]] == ["merge", "unmerge"]
    assert joined["person_key"] == left["person_key"] == person_of(parse, "8^^^NORTH^MR")
    assert joined["record_key"] != left["record_key"]


def observations(parse, *segments: str, **header) -> list[dict]:
    return parse(message("ORU^R01", "PID|1||7^^^NORTH^MR", *segments, **header)).rows["hl7v2_observations"]


def test_a_correction_is_a_version_of_its_record(parse):
    (first,) = observations(parse, "OBR|1||F-1", "OBX|1|NM|8480-6^^LN||142|mmHg|||||F|||20240301")
    (second,) = observations(parse, "OBR|1||F-1", "OBX|9|NM|8480-6^^LN||124|mmHg|||||C|||20240301",
                             control_id="2", time="20240302")  # fmt: skip
    assert first["record_key"] == second["record_key"]
    assert first["group_key"] == second["group_key"]
    assert first["content_hash"] != second["content_hash"]
    assert first["known_at"] < second["known_at"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("OBR|1||F-1", "OBX|1|NM|8480-6^^LN||1"), ("OBR|1||F-2", "OBX|1|NM|8480-6^^LN||1")),
        (("OBR|1|P-1", "OBX|1|NM|8480-6^^LN||1"), ("OBR|1|P-2", "OBX|1|NM|8480-6^^LN||1")),
        (("OBR|1||F-1", "OBX|1|NM|8480-6^^LN|1|1"), ("OBR|1||F-1", "OBX|1|NM|8480-6^^LN|2|1")),
        (("OBR|1||F-1", "OBX|1|NM|8480-6^^LN||1"), ("OBR|1||F-1", "OBX|1|NM|8462-4^^LN||1")),
        (("OBX|1|NM|8480-6^^LN||1|||||||||20240301",), ("OBX|1|NM|8480-6^^LN||1|||||||||20240302",)),
    ],
    ids=["filler order", "placer order", "sub-id", "code", "time without an order"],
)
def test_other_records(parse, one, other):
    assert observations(parse, *one)[0]["record_key"] != observations(parse, *other)[0]["record_key"]


def test_results_without_order_and_time_are_told_apart_by_their_message(parse):
    (one,) = observations(parse, "OBX|1|NM|8480-6^^LN||120")
    (other,) = observations(parse, "OBX|1|NM|8480-6^^LN||130", control_id="2", time="20240401")
    assert one["record_key"] != other["record_key"]
    assert "message_time_taken" in one["flags"]


def test_a_code_told_twice_under_one_order_is_two_readings(parse):
    rows = observations(parse, "OBR|1||F-1", *(
        f"OBX|{at}|NM|{code}^^LN||{value}|mmHg|||||F"
        for at, (code, value) in enumerate([("8480-6", 140), ("8462-4", 90), ("8480-6", 136), ("8462-4", 86)], 1)))  # fmt: skip
    assert len({row["record_key"] for row in rows}) == 4
    assert rows[0]["group_key"] == rows[1]["group_key"]
    assert rows[2]["group_key"] == rows[3]["group_key"] != rows[0]["group_key"]


@pytest.mark.parametrize(
    ("kind", "value", "unit", "expected"),
    [
        ("NM", "120", "mm Hg", {"value_number": 120.0, "value_unit": "mmHg"}),
        ("NM", "-.5", "kPa", {"value_number": -0.5}),
        ("NM", "140/90", "mmHg", {"value_text": "140/90"}),
        ("ST", "140 / 90 mmHg", "", {"value_text": "140 / 90 mmHg"}),
        ("ST", "<= 7.5", "%", {"value_number": 7.5, "value_comparator": "<="}),
        ("SN", ">^90", "mL/min", {"value_number": 90.0, "value_comparator": ">"}),
        ("SN", "^140^/^90", "mmHg", {"value_text": "140/90"}),
        ("NM", "120", "a unit in so many words", {"value_unit": "{dropped}", "value_number": 120.0, "flags": ["unit_dropped"]}),
        ("NM", "120", "Schmidt", {"value_unit": "{dropped}", "value_number": 120.0, "flags": ["unit_dropped"]}),
        ("NM", "120", "", {"value_number": 120.0, "flags": ["no_unit"]}),
        ("NM", "1,200", "mL", {"flags": ["bad_number"]}),
        ("NM", "١٢٠", "mmHg", {"flags": ["bad_number"]}),
        ("NM", "nan", "mmHg", {"flags": ["bad_number"]}),
        ("NM", "9" * 400, "mmHg", {"flags": ["bad_number"]}),
        ("SN", "^1^:^128", "", {"flags": ["value_range_dropped"]}),
        ("SN", "^100^-^200", "mg/dL", {"flags": ["value_range_dropped"]}),
        ("SN", "about^100", "mg/dL", {"flags": ["bad_number"]}),
        ("SN", "", "mg/dL", {}),
        ("ST", "Miller", "", {"flags": ["value_text_dropped"]}),
        ("CE", "8517006^Ex-smoker^SCT", "", {"value_codings": [{"system": "http://snomed.info/sct", "code": "8517006"}]}),
        ("CWE", "a sentence^b", "", {"flags": ["value_code_dropped"]}),
        ("CWE", "0151-1234567^^L", "", {"flags": ["value_code_dropped"]}),
        ("CE", '""', "", {}),
        ("NM", '""', "mmHg", {"value_unit": "mmHg"}),
    ],
)  # fmt: skip
def test_values(parse, kind, value, unit, expected):
    (row,) = observations(parse, "OBR|1||F-1||||20240301", f"OBX|1|{kind}|8480-6^^LN||{value}|{unit}|||||F")
    nothing = {"value_number": None, "value_text": None, "value_comparator": None, "value_codings": []}
    found = {name: row[name] for name in nothing | expected if name != "flags"}
    assert found == nothing | {name: value for name, value in expected.items() if name != "flags"}
    assert [flag for flag in row["flags"] if flag != "no_offset"] == expected.get("flags", [])


def test_a_shifted_source_says_so_on_every_row(parse):
    rows = parse(message("ADT^A08", "PID|1||7", "PV1|1|O" + "|" * 17 + "V", "DG1|1||I10^^I10", facility="SOUTH")).rows
    found = [row for table in rows.values() for row in table]
    assert len(found) == 4
    assert all("dates_shifted" in row["flags"] for row in found)


@pytest.mark.parametrize(
    ("time", "evn", "basis"),
    [("20240301", "", "message"), ("", "\rEVN|A08|20240302", "recorded"), ("", "", "receipt")],
)
def test_known_at(parse, time, evn, basis):
    (row,) = parse(message("ADT^A08" + "|1|P|2.5" + evn, "PID|1||7", time=time)).rows["hl7v2_messages"]
    assert row["known_at_basis"] == basis


def test_a_deleted_diagnosis_was_an_error(parse):
    dg1 = "DG1|1||I10^^I10||20240301" + "|" * 16 + "D"
    (row,) = parse(message("ADT^A08", "PID|1||7", dg1)).rows["hl7v2_conditions"]
    assert (row["clinical_status"], row["verification_status"]) == ("inactive", "entered-in-error")


def test_a_visit_without_a_number_is_known_by_person_and_admission(parse):
    admitted = "PV1|1|O" + "|" * 42 + "20240301100000-0500"
    (one,) = parse(message("ADT^A04", "PID|1||7", admitted)).rows["hl7v2_encounters"]
    (again,) = parse(message("ADT^A08", "PID|1||7", admitted, control_id="2")).rows["hl7v2_encounters"]
    (another,) = parse(message("ADT^A04", "PID|1||8", admitted)).rows["hl7v2_encounters"]
    assert one["encounter_key"] == again["encounter_key"] != another["encounter_key"]
    assert parse(message("ADT^A28", "PID|1||7", "PV1|1|N")).rows["hl7v2_encounters"] == []
